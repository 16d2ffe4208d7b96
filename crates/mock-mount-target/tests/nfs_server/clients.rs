//! Client ids and their sessions: EXCHANGE_ID, CREATE_SESSION, DESTROY_SESSION, DESTROY_CLIENTID, leases
//! (RFC 8881 §8.3, §18.35–18.37, §18.50).

use mock_mount_target::nfs::Profile;
use mock_mount_target::nfs::config::Config;
use nfs4::Nfs4Error;
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::session::{
    ChannelAttrs4, CreateSession4args, DestroyClientid4args, StateProtect4A, StateProtectOps4, exchgid4,
};
use nfs4::types::Bitmap4;
use std::time::Duration;

use crate::driver::*;

fn exchanged(result: &nfs4::compound::Compound4res) -> (u64, u32, bool) {
    match &result.resarray[0] {
        Resop4::ExchangeId(Ok(done)) => {
            (done.eir_clientid, done.eir_sequenceid, done.eir_flags & exchgid4::CONFIRMED_R != 0)
        }
        other => panic!("{other:?}"),
    }
}

fn destroy_clientid(id: u64) -> Argop4 {
    Argop4::DestroyClientid(DestroyClientid4args { dca_clientid: id })
}

/// §18.35.4, case 1: a new owner id; case 4: an unconfirmed record is replaced.
#[test]
fn an_unconfirmed_record_is_replaced_by_the_next_exchange_id() {
    let mut world = World::full();
    let client = world.stranger("c");
    let first = exchanged(&world.send(&client, vec![exchange_id(&client, 0)]));
    let second = exchanged(&world.send(&client, vec![exchange_id(&client, 0)]));
    assert!(!first.2 && !second.2);
    assert_ne!(first.0, second.0);
    let gone = CreateSession4args { csa_clientid: first.0, csa_sequence: first.1, ..create_session_args(&client) };
    assert_eq!(world.send(&client, vec![Argop4::CreateSession(gone)]).status, Err(Nfs4Error::StaleClientid));
}

/// §18.35.4, case 2: the same owner, verifier and principal again.
#[test]
fn a_confirmed_client_that_asks_again_keeps_its_id_and_its_sessions() {
    let mut world = World::full();
    let mut client = world.client("c");
    let (id, sequence, confirmed) = exchanged(&world.send(&client, vec![exchange_id(&client, 0)]));
    assert_eq!((id, sequence, confirmed), (client.id, client.create_sequence, true));
    ok(world.call(&mut client, vec![Argop4::Putrootfh]));
}

/// §18.35.4, case 3: another principal comes with the owner id of a client that holds state.
#[test]
fn another_principal_cannot_take_a_client_id_with_state_but_can_take_one_without() {
    let mut world = World::full();
    let mut client = world.client("c");
    let other = Client { uid: 7, verifier: [9; 8], ..client.clone() };
    assert_eq!(world.send(&other, vec![exchange_id(&other, 0)]).status, Err(Nfs4Error::ClidInuse));
    let session = client.session;
    ok(world.send(&client, vec![destroy_session(session)]));
    let (id, _, confirmed) = exchanged(&world.send(&other, vec![exchange_id(&other, 0)]));
    assert!(id != client.id && !confirmed);
    client.create_sequence += 0;
    assert_eq!(world.send(&client, vec![create_session(&client)]).status, Err(Nfs4Error::StaleClientid));
}

/// §18.35.4, case 5: the client restarted; its old life ends when the new one is confirmed, not before.
#[test]
fn a_restarted_client_loses_its_old_state_when_it_confirms_the_new_id() {
    let mut world = World::full();
    let mut old = world.client("c");
    world.create_file(&mut old, "f");
    let mut new = Client { verifier: [2; 8], ..world.stranger("c") };
    world.identify(&mut new);
    assert_ne!(new.id, old.id);
    ok(world.call(&mut old, vec![Argop4::Putrootfh]));
    world.create_session(&mut new);
    let sequence = Argop4::Sequence(old.next(0));
    assert_eq!(world.send(&old, vec![sequence]).status, Err(Nfs4Error::Badsession));
    world.nobody_is_accused();
}

/// §18.35.4, cases 6 to 9: EXCHGID4_FLAG_UPD_CONFIRMED_REC_A.
#[test]
fn an_update_needs_a_confirmed_record_of_the_same_verifier_and_principal() {
    let mut world = World::full();
    let update = exchgid4::UPD_CONFIRMED_REC_A;
    let stranger = world.stranger("nobody");
    assert_eq!(world.send(&stranger, vec![exchange_id(&stranger, update)]).status, Err(Nfs4Error::Noent));
    let client = world.client("c");
    assert_eq!(exchanged(&world.send(&client, vec![exchange_id(&client, update)])).0, client.id);
    let reborn = Client { verifier: [3; 8], ..client.clone() };
    assert_eq!(world.send(&reborn, vec![exchange_id(&reborn, update)]).status, Err(Nfs4Error::NotSame));
    let other = Client { uid: 7, ..client };
    assert_eq!(world.send(&other, vec![exchange_id(&other, update)]).status, Err(Nfs4Error::Perm));
}

/// §18.35.3: flags that are not defined, and state protection that needs RPCSEC_GSS.
#[test]
fn exchange_id_refuses_unknown_flags_and_protection_without_gss() {
    let mut world = World::full();
    let client = world.stranger("c");
    for flags in [0x8, exchgid4::CONFIRMED_R] {
        assert_eq!(world.send(&client, vec![exchange_id(&client, flags)]).status, Err(Nfs4Error::Inval));
    }
    let Argop4::ExchangeId(mut args) = exchange_id(&client, 0) else { unreachable!() };
    args.eia_state_protect =
        StateProtect4A::MachCred(StateProtectOps4 { spo_must_enforce: Bitmap4::EMPTY, spo_must_allow: Bitmap4::EMPTY });
    assert_eq!(world.send(&client, vec![Argop4::ExchangeId(args)]).status, Err(Nfs4Error::Inval));
}

/// §18.36.4: the reply cache of CREATE_SESSION.
#[test]
fn a_repeated_create_session_makes_no_second_session() {
    let mut world = World::full();
    let mut client = world.stranger("c");
    world.identify(&mut client);
    let first = world.send(&client, vec![create_session(&client)]);
    let again = world.send(&client, vec![create_session(&client)]);
    assert_eq!(first, again);
    client.create_sequence += 1;
    let next = world.send(&client, vec![create_session(&client)]);
    assert!(next.status.is_ok() && next.resarray != first.resarray);
    world.nobody_is_accused();
    client.create_sequence += 5;
    assert_eq!(world.send(&client, vec![create_session(&client)]).status, Err(Nfs4Error::SeqMisordered));
    world.accused_of("CREATE_SESSION with sequence id");
}

/// §18.36.4: a sequence id of the past is misordered, a client id that never was is stale; neither makes a session.
#[test]
fn a_create_session_of_the_past_or_for_nobody_is_refused() {
    let mut world = World::full();
    let mut client = world.client("c");
    world.create_session(&mut client);
    let mut old = create_session_args(&client);
    old.csa_sequence = client.create_sequence - 2;
    assert_eq!(world.send(&client, vec![Argop4::CreateSession(old)]).status, Err(Nfs4Error::SeqMisordered));
    let mut nobodys = create_session_args(&client);
    nobodys.csa_clientid += 1000;
    assert_eq!(world.send(&client, vec![Argop4::CreateSession(nobodys)]).status, Err(Nfs4Error::StaleClientid));
    ok(world.call(&mut client, vec![Argop4::Putrootfh]));
    world.nobody_is_accused();
}

/// §2.10.5, §18.35.4: the same owner and scope over each connection, so that a client may join them; its id is one.
#[test]
fn every_connection_leads_to_the_same_server() {
    let mut world = World::full();
    let client = world.client("c");
    let trunk = Client { conn: world.new_conn(), ..client.clone() };
    let ask = |world: &mut World, c: &Client| match ok(world.send(c, vec![exchange_id(c, 0)])).remove(0) {
        Resop4::ExchangeId(Ok(done)) => done,
        other => panic!("{other:?}"),
    };
    let (first, second) = (ask(&mut world, &client), ask(&mut world, &trunk));
    assert_eq!(first, second);
    assert_ne!(first.eir_flags & exchgid4::USE_NON_PNFS, 0);
    assert_ne!(first.eir_flags & exchgid4::CONFIRMED_R, 0);
}

/// §18.36.3: what a server does with limits that are too small, and with flags it does not know.
#[test]
fn create_session_grants_no_more_than_was_asked_for_and_refuses_what_cannot_work() {
    let mut world = World::full();
    let mut client = world.stranger("c");
    world.identify(&mut client);
    let with = |change: fn(&mut ChannelAttrs4)| {
        let mut attrs = channel();
        change(&mut attrs);
        attrs
    };
    let refused = [
        (with(|c| c.ca_maxrequestsize = 10), 0, Nfs4Error::Toosmall),
        (with(|c| c.ca_maxresponsesize = 10), 0, Nfs4Error::Toosmall),
        (with(|c| c.ca_maxoperations = 0), 0, Nfs4Error::Inval),
        (with(|c| c.ca_maxrequests = 0), 0, Nfs4Error::Inval),
        (channel(), 8, Nfs4Error::Inval),
    ];
    for (fore, flags, error) in refused {
        let args = CreateSession4args { csa_fore_chan_attrs: fore, csa_flags: flags, ..create_session_args(&client) };
        assert_eq!(world.send(&client, vec![Argop4::CreateSession(args.clone())]).status, Err(error));
        assert_eq!(world.send(&client, vec![Argop4::CreateSession(args)]).status, Err(error), "the cached refusal");
        client.create_sequence += 1;
    }
    let results = ok(world.send(&client, vec![create_session(&client)]));
    let Resop4::CreateSession(Ok(done)) = &results[0] else { panic!("{results:?}") };
    let (asked, got) = (channel(), &done.csr_fore_chan_attrs);
    assert!(got.ca_maxrequests == asked.ca_maxrequests && got.ca_maxoperations == asked.ca_maxoperations);
    assert!(got.ca_maxresponsesize < asked.ca_maxresponsesize, "the server has a limit of its own");
    assert!(got.ca_maxresponsesize_cached <= asked.ca_maxresponsesize_cached);
}

/// §18.36.4: an unconfirmed client id belongs to the principal that asked for it.
#[test]
fn another_principal_cannot_confirm_a_client_id() {
    let mut world = World::full();
    let mut client = world.stranger("c");
    world.identify(&mut client);
    let thief = Client { uid: 7, ..client.clone() };
    assert_eq!(world.send(&thief, vec![create_session(&thief)]).status, Err(Nfs4Error::ClidInuse));
    world.create_session(&mut client);
}

/// §18.37.3: the compound's own session goes last; and from a connection of its own.
#[test]
fn destroy_session_stands_last_and_comes_from_a_connection_of_the_session() {
    let mut world = World::full();
    let mut client = world.client("c");
    let destroy = destroy_session(client.session);
    assert_eq!(world.status(&mut client, vec![destroy.clone(), Argop4::Putrootfh]), Err(Nfs4Error::NotOnlyOp));
    world.accused_of("behind a DESTROY_SESSION");
    let elsewhere = Client { conn: world.new_conn(), ..client.clone() };
    assert_eq!(world.send(&elsewhere, vec![destroy.clone()]).status, Err(Nfs4Error::ConnNotBoundToSession));
    ok(world.call(&mut client, vec![destroy.clone()]));
    assert_eq!(world.send(&client, vec![destroy]).status, Err(Nfs4Error::Badsession));
    world.nobody_is_accused();
}

/// §18.50.3: a client id with sessions or state is busy.
#[test]
fn destroy_clientid_waits_for_sessions_and_state() {
    let mut world = World::full();
    let mut client = world.client("c");
    let (file, open) = world.create_file(&mut client, "f");
    assert_eq!(world.send(&client, vec![destroy_clientid(client.id)]).status, Err(Nfs4Error::ClientidBusy));
    let session = client.session;
    ok(world.send(&client, vec![destroy_session(session)]));
    assert_eq!(world.send(&client, vec![destroy_clientid(client.id)]).status, Err(Nfs4Error::ClientidBusy));
    world.accused_of("never closed");
    world.create_session(&mut client);
    world.close(&mut client, &file, open);
    world.leave(&mut client);
    assert_eq!(world.send(&client, vec![destroy_clientid(client.id)]).status, Err(Nfs4Error::StaleClientid));
    world.nobody_is_accused();
}

/// §8.3: a lease is renewed by SEQUENCE and by nothing else; a silent client loses all, without any courtesy.
#[test]
fn a_silent_client_loses_its_state_when_its_lease_ends_and_a_speaking_one_keeps_it() {
    let mut world = World::with(Config { lease: Duration::from_secs(90), ..Config::new(Profile::Full) });
    let (mut silent, mut speaking) = (world.client("silent"), world.client("speaking"));
    let (file, open) = world.create_file(&mut speaking, "f");
    world.create_file(&mut silent, "g");
    for _ in 0..4 {
        world.pass(Duration::from_secs(30));
        assert_eq!(world.read(&mut speaking, &file, open, 0, 1), b"");
    }
    let sequence = Argop4::Sequence(silent.next(0));
    assert_eq!(world.send(&silent, vec![sequence]).status, Err(Nfs4Error::Badsession));
    assert_eq!(world.send(&silent, vec![create_session(&silent)]).status, Err(Nfs4Error::StaleClientid));
    world.close(&mut speaking, &file, open);
    world.nobody_is_accused();
}
