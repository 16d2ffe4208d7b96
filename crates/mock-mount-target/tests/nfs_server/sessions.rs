//! Clients, sessions, slots, leases, restarts (RFC 8881 §2.10, §8.3, §8.4, §18.35–18.37, §18.46, §18.50, §18.51).

use mock_mount_target::nfs::config::Config;
use mock_mount_target::nfs::faults::{Action, Rule};
use mock_mount_target::nfs::{Profile, Reply};
use nfs4::Nfs4Error;
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::open::{OpenClaim4, OpenDelegationType4, Openflag4};
use nfs4::ops::session::{
    BackchannelCtl4args, BindConnToSession4args, ChannelAttrs4, ChannelDirFromClient4, CreateSession4args,
    DestroyClientid4args, StateProtect4A, StateProtectOps4, exchgid4, seq4_status,
};
use nfs4::types::{Bitmap4, Sessionid4, StableHow4, Stateid4};
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

fn flags(world: &mut World, client: &mut Client) -> u32 {
    let ops = vec![Argop4::Sequence(client.next(0))];
    client.sequence[0] += 1;
    let results = ok(world.send(client, ops));
    let Resop4::Sequence(Ok(done)) = &results[0] else { panic!("{results:?}") };
    done.sr_status_flags
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

/// §2.10.6.1: exactly once. §2.10.6.1.3: a repeated sequence id brings the cached bytes.
#[test]
fn a_repeated_request_gets_the_bytes_of_the_first_reply_and_is_not_carried_out_again() {
    let mut world = World::full();
    let mut client = world.client("c");
    let body = encode(
        2,
        vec![
            Argop4::Sequence(client.next(0)),
            Argop4::Putrootfh,
            create(nfs4::ops::dir::Createtype4::DIR, "d"),
            Argop4::Getfh,
        ],
    );
    let first = world.send_bytes(&client, body.clone());
    client.conn = world.new_conn();
    let again = world.send_bytes(&client, body);
    assert_eq!(first, again);
    client.sequence[0] += 1;
    assert_eq!(world.server.referee().counters().of("Create"), 1);
    assert_eq!(world.server.referee().counters().replays, 1);
    world.nobody_is_accused();
}

/// §2.10.6.1.3.1: a false retry.
#[test]
fn another_request_under_a_used_sequence_id_is_a_false_retry() {
    let mut world = World::full();
    let mut client = world.client("c");
    ok(world.call(&mut client, vec![Argop4::Putrootfh, Argop4::Getfh]));
    let mut sequence = client.next(0);
    sequence.sa_sequenceid -= 1;
    let retry = vec![Argop4::Sequence(sequence.clone()), Argop4::Putrootfh];
    assert_eq!(world.send(&client, retry).status, Err(Nfs4Error::SeqFalseRetry));
    world.accused_of("another request under sequence id");
    let other = Client { uid: 9, ..client.clone() };
    let retry = vec![Argop4::Sequence(sequence), Argop4::Putrootfh, Argop4::Getfh];
    assert_eq!(world.send(&other, retry).status, Err(Nfs4Error::SeqFalseRetry), "another user's retry");
    world.accused_of("another request under sequence id");
}

/// §18.46.3: a sequence id that is neither the next nor the last; slots and highest slots beyond the table.
#[test]
fn a_skipped_sequence_id_and_a_slot_that_is_not_there_are_refused() {
    let mut world = World::full();
    let client = world.client("c");
    let mut refuse = |change: &dyn Fn(&mut nfs4::ops::session::Sequence4args), error, part: &str| {
        let mut sequence = client.next(0);
        change(&mut sequence);
        assert_eq!(world.send(&client, vec![Argop4::Sequence(sequence)]).status, Err(error));
        world.accused_of(part);
    };
    refuse(&|s| s.sa_sequenceid += 1, Nfs4Error::SeqMisordered, "skips the next one");
    refuse(&|s| (s.sa_slotid, s.sa_highest_slotid) = (8, 8), Nfs4Error::Badslot, "slot 8 of 8");
    refuse(&|s| s.sa_highest_slotid = 8, Nfs4Error::BadHighSlot, "highest slot 8 of 8");
    let unknown = Client { session: Sessionid4([9; 16]), ..client.clone() };
    let sequence = Argop4::Sequence(unknown.next(0));
    assert_eq!(world.send(&unknown, vec![sequence]).status, Err(Nfs4Error::Badsession));
}

/// §2.10.6.1.3: a reply that the client did not want kept.
#[test]
fn a_retry_of_an_uncached_request_is_told_so_at_its_second_operation() {
    let mut world = World::full();
    let mut client = world.client("c");
    client.cache = false;
    let body = encode(2, vec![Argop4::Sequence(client.next(0)), Argop4::Putrootfh, Argop4::Getfh]);
    ok(decode(&world.send_bytes(&client, body.clone())));
    let again = decode(&world.send_bytes(&client, body));
    assert_eq!(again.status, Err(Nfs4Error::RetryUncachedRep));
    assert!(matches!(
        again.resarray[..],
        [Resop4::Sequence(Ok(_)), Resop4::Putrootfh(Err(Nfs4Error::RetryUncachedRep))]
    ));
}

/// §2.10.6.4, §18.46.3: limits of the session.
#[test]
fn a_compound_beyond_the_negotiated_limits_is_refused() {
    let mut world = World::full();
    let mut client = world.stranger("c");
    world.identify(&mut client);
    let small = ChannelAttrs4 {
        ca_maxrequestsize: 600,
        ca_maxresponsesize: 500,
        ca_maxresponsesize_cached: 300,
        ca_maxoperations: 6,
        ..channel()
    };
    let args = CreateSession4args { csa_fore_chan_attrs: small, ..create_session_args(&client) };
    let results = ok(world.send(&client, vec![Argop4::CreateSession(args)]));
    let Resop4::CreateSession(Ok(done)) = &results[0] else { panic!("{results:?}") };
    client.session = done.csr_sessionid;
    ok(world.call(&mut client, vec![reclaim_complete()]));
    let sequence = Argop4::Sequence(client.next(0));
    let many: Vec<_> = std::iter::once(sequence.clone()).chain((0..6).map(|_| Argop4::Putrootfh)).collect();
    assert_eq!(world.send(&client, many).status, Err(Nfs4Error::TooManyOps));
    world.accused_of("a compound of 7 operations where 6 were negotiated");
    let long = lookup(&"x".repeat(600));
    assert_eq!(world.send(&client, vec![sequence, Argop4::Putrootfh, long]).status, Err(Nfs4Error::ReqTooBig));
    world.accused_of("where 600 were negotiated");
    let (file, open) = world.create_file(&mut client, "f");
    world.write(&mut client, &file, open, 0, &[7; 300]);
    let big = vec![putfh(&file), read(open, 0, 300)];
    let refused = world.call(&mut client, big.clone());
    assert_eq!(refused.status, Err(Nfs4Error::RepTooBigToCache));
    assert_eq!(refused.resarray.len(), 2);
    world.accused_of("a reply beyond the session's limit");
    client.cache = false;
    ok(world.call(&mut client, big));
    world.write(&mut client, &file, open, 300, &[7; 200]);
    assert_eq!(world.status(&mut client, vec![putfh(&file), read(open, 0, 500)]), Err(Nfs4Error::RepTooBig));
    world.accused_of("a reply beyond the session's limit");
}

/// §18.46.3 and §16.2.3: SEQUENCE comes first and only there; what needs a session does not go without.
#[test]
fn sequence_is_the_first_operation_or_the_call_is_one_that_needs_no_session() {
    let mut world = World::full();
    let mut client = world.client("c");
    assert_eq!(world.send(&client, vec![Argop4::Putrootfh]).status, Err(Nfs4Error::OpNotInSession));
    world.accused_of("outside of a session");
    let sequence = Argop4::Sequence(client.next(3));
    assert_eq!(world.status(&mut client, vec![sequence]), Err(Nfs4Error::SequencePos));
    world.accused_of("not the first operation");
    let two = vec![exchange_id(&client, 0), Argop4::Putrootfh];
    assert_eq!(world.send(&client, two).status, Err(Nfs4Error::NotOnlyOp));
    world.accused_of("is not the only operation");
}

/// §16.2.3, §2.7: minor versions, unknown operations, arguments that do not decode.
#[test]
fn unknown_operations_and_versions_are_told_from_broken_arguments() {
    let mut world = World::full();
    let mut client = world.client("c");
    for minor in [0, 3] {
        let stranger = Client { minor, ..client.clone() };
        let refused = world.send(&stranger, vec![Argop4::Putrootfh]);
        assert_eq!((refused.status, refused.resarray.len()), (Err(Nfs4Error::MinorVersMismatch), 0));
    }
    let unknown = world.call(&mut client, vec![Argop4::Putrootfh, Argop4::Unknown(99)]);
    assert_eq!(unknown.status, Err(Nfs4Error::OpIllegal));
    assert_eq!(unknown.resarray[1].opnum(), nfs4::compound::OP_ILLEGAL);
    world.accused_of("operation 99 is unknown or does not decode");
    let mut old = Client { minor: 1, ..client.clone() };
    let seek = Argop4::Getxattr(nfs4::ops::extended::Getxattr4args { gxa_name: "x".into() });
    assert_eq!(world.status(&mut old, vec![Argop4::Putrootfh, seek]), Err(Nfs4Error::OpIllegal));
    world.accused_of("unknown or does not decode");
    let mut broken = encode(2, vec![Argop4::Sequence(old.next(0)), lookup("abcd")]).to_vec();
    broken.truncate(broken.len() - 4);
    let result = decode(&world.send_bytes(&old, broken.into()));
    assert_eq!(result.status, Err(Nfs4Error::Badxdr));
    world.accused_of("unknown or does not decode");
    assert_eq!(world.send_bytes(&old, vec![0, 0, 0, 9].into()), Reply::Garbage);
    world.accused_of("head does not decode");
}

/// §18.34.3: binding a connection; alone in its compound.
#[test]
fn a_second_connection_is_bound_and_serves_the_session() {
    let mut world = World::full();
    let mut client = world.client("c");
    let bind = |client: &Client, dir| {
        Argop4::BindConnToSession(BindConnToSession4args {
            bctsa_sessid: client.session,
            bctsa_dir: dir,
            bctsa_use_conn_in_rdma_mode: false,
        })
    };
    let first = client.conn;
    client.conn = world.new_conn();
    for (dir, granted) in [
        (ChannelDirFromClient4::Fore, 1),
        (ChannelDirFromClient4::Back, 2),
        (ChannelDirFromClient4::ForeOrBoth, 3),
        (ChannelDirFromClient4::BackOrBoth, 3),
    ] {
        let results = ok(world.send(&client, vec![bind(&client, dir)]));
        let Resop4::BindConnToSession(Ok(done)) = &results[0] else { panic!("{results:?}") };
        assert_eq!((done.bctsr_dir, done.bctsr_sessid), (granted, client.session));
    }
    ok(world.call(&mut client, vec![Argop4::Putrootfh]));
    world.server.disconnected(first);
    assert_eq!(flags(&mut world, &mut client), 0, "the second connection carries the back channel");
    world.nobody_is_accused();
    let late = bind(&client, ChannelDirFromClient4::Fore);
    assert_eq!(world.status(&mut client, vec![late]), Err(Nfs4Error::NotOnlyOp));
    world.accused_of("BIND_CONN_TO_SESSION behind SEQUENCE");
    let lost = Client { session: Sessionid4([1; 16]), ..client };
    assert_eq!(world.send(&lost, vec![bind(&lost, ChannelDirFromClient4::Fore)]).status, Err(Nfs4Error::Badsession));
}

/// §18.46.3: SEQ4_STATUS_CB_PATH_DOWN and its like for one session.
#[test]
fn a_lost_back_channel_shows_in_the_status_flags_until_it_is_bound_again() {
    let mut world = World::full();
    let mut client = world.client("c");
    assert_eq!(flags(&mut world, &mut client), 0);
    world.server.disconnected(client.conn);
    client.conn = world.new_conn();
    let down = seq4_status::CB_PATH_DOWN | seq4_status::CB_PATH_DOWN_SESSION;
    assert_eq!(flags(&mut world, &mut client), down);
    ok(world.send(
        &client,
        vec![Argop4::BindConnToSession(BindConnToSession4args {
            bctsa_sessid: client.session,
            bctsa_dir: ChannelDirFromClient4::BackOrBoth,
            bctsa_use_conn_in_rdma_mode: false,
        })],
    ));
    assert_eq!(flags(&mut world, &mut client), 0);
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

fn reclaim_open(
    world: &mut World,
    client: &mut Client,
    file: &nfs4::types::NfsFh4,
    by: &str,
    access: u32,
) -> Result<Stateid4, Nfs4Error> {
    let mut args = open_args(by, "", access, Openflag4::NoCreate);
    args.claim = OpenClaim4::Previous(OpenDelegationType4::None);
    let result = world.call(client, vec![putfh(file), Argop4::Open(args)]);
    result.status.map(|()| stateid(&result.resarray[1]))
}

/// §8.4.2: after a restart, what was held may be reclaimed and nothing else be taken, until all have said
/// RECLAIM_COMPLETE.
#[test]
fn after_a_restart_opens_and_locks_are_reclaimed_in_the_grace_period() {
    let mut world = World::full();
    let mut client = world.client("c");
    let (file, open) = world.create_file(&mut client, "f");
    let kind = nfs4::ops::lock::NfsLockType4::Write;
    ok(world.call(&mut client, vec![putfh(&file), first_lock(open, "l", kind, 0, 10)]));
    world.server.restart(world.now, true);
    let sequence = Argop4::Sequence(client.next(0));
    assert_eq!(world.send(&client, vec![sequence]).status, Err(Nfs4Error::Badsession));
    assert_eq!(world.send(&client, vec![create_session(&client)]).status, Err(Nfs4Error::StaleClientid));
    world.establish(&mut client);
    assert_eq!(flags(&mut world, &mut client), seq4_status::RESTART_RECLAIM_NEEDED);
    assert_eq!(reclaim_open(&mut world, &mut client, &file, "somebody", 3), Err(Nfs4Error::ReclaimBad));
    let open = reclaim_open(&mut world, &mut client, &file, "owner", 3).unwrap();
    let reclaim = |offset, length| {
        let Argop4::Lock(mut args) = first_lock(open, "l", kind, offset, length) else { unreachable!() };
        args.reclaim = true;
        Argop4::Lock(args)
    };
    assert_eq!(world.status(&mut client, vec![putfh(&file), reclaim(0, 11)]), Err(Nfs4Error::ReclaimBad));
    let locked = ok(world.call(&mut client, vec![putfh(&file), reclaim(0, 10)]));
    let lock = stateid(&locked[1]);
    let mut other = world.stranger("other");
    world.establish(&mut other);
    ok(world.call(&mut other, vec![reclaim_complete()]));
    let new = Argop4::Open(open_args("o", "f", 1, Openflag4::NoCreate));
    assert_eq!(world.status(&mut other, vec![Argop4::Putrootfh, new.clone()]), Err(Nfs4Error::Grace));
    let anonymous = vec![putfh(&file), read(Stateid4::ANONYMOUS, 0, 1)];
    assert_eq!(world.status(&mut other, anonymous), Err(Nfs4Error::Grace));
    ok(world.call(&mut client, vec![reclaim_complete()]));
    assert_eq!(flags(&mut world, &mut client), 0);
    let opened = ok(world.call(&mut other, vec![Argop4::Putrootfh, new]));
    let theirs = stateid(&opened[1]);
    world.close(&mut other, &file, theirs);
    assert_eq!(reclaim_open(&mut world, &mut client, &file, "owner", 3), Err(Nfs4Error::NoGrace));
    ok(world.call(&mut client, vec![putfh(&file), locku(lock, 0, 10)]));
    world.close(&mut client, &file, open);
    world.nobody_is_accused();
}

/// §8.4.2.1: without stable storage there is no grace period and nothing can be reclaimed.
#[test]
fn after_a_restart_without_stable_storage_nothing_can_be_reclaimed() {
    let mut world = World::full();
    let mut client = world.client("c");
    let (file, _) = world.create_file(&mut client, "f");
    world.server.restart(world.now, false);
    world.establish(&mut client);
    assert_eq!(flags(&mut world, &mut client), 0);
    assert_eq!(reclaim_open(&mut world, &mut client, &file, "owner", 3), Err(Nfs4Error::NoGrace));
    ok(world.call(&mut client, vec![reclaim_complete()]));
    let (file, open) = world.open(&mut client, "f", 3, Openflag4::NoCreate);
    world.close(&mut client, &file, open);
    world.nobody_is_accused();
}

/// §8.4.2.1: the grace period ends by itself.
#[test]
fn the_grace_period_ends_with_the_lease_even_if_somebody_never_comes_back() {
    let mut world = World::full();
    let (mut here, mut gone) = (world.client("here"), world.client("gone"));
    world.create_file(&mut gone, "g");
    world.server.restart(world.now, true);
    world.establish(&mut here);
    ok(world.call(&mut here, vec![reclaim_complete()]));
    let open = Argop4::Open(open_args("o", "g", 1, Openflag4::NoCreate));
    assert_eq!(world.status(&mut here, vec![Argop4::Putrootfh, open.clone()]), Err(Nfs4Error::Grace));
    world.pass(Duration::from_secs(60));
    ok(world.call(&mut here, vec![]));
    world.pass(Duration::from_secs(31));
    ok(world.call(&mut here, vec![Argop4::Putrootfh, open]));
}

/// §18.51.3: RECLAIM_COMPLETE comes once, and before any new state.
#[test]
fn new_state_before_reclaim_complete_is_refused_and_a_second_one_is_told() {
    let mut world = World::full();
    let mut client = world.stranger("c");
    world.establish(&mut client);
    let open = Argop4::Open(open_args("o", "f", 1, Openflag4::NoCreate));
    assert_eq!(world.status(&mut client, vec![Argop4::Putrootfh, open]), Err(Nfs4Error::Grace));
    world.accused_of("before RECLAIM_COMPLETE");
    ok(world.call(&mut client, vec![reclaim_complete()]));
    assert_eq!(world.status(&mut client, vec![reclaim_complete()]), Err(Nfs4Error::CompleteAlready));
}

/// §18.32.3, §18.3.3: a restart loses what was not committed and says so by another verifier.
#[test]
fn a_restart_loses_uncommitted_bytes_and_changes_the_write_verifier() {
    let mut world = World::full();
    let mut client = world.client("c");
    let (file, open) = world.create_file(&mut client, "f");
    let unstable = |offset, bytes: &[u8]| vec![putfh(&file), write(open, offset, bytes, StableHow4::Unstable4)];
    let verifier = |results: Vec<Resop4>| results[1].write_verifier().unwrap();
    let before = verifier(ok(world.call(&mut client, unstable(0, b"kept"))));
    assert_eq!(before, verifier(ok(world.call(&mut client, vec![putfh(&file), commit(0, 4)]))));
    ok(world.call(&mut client, unstable(4, b"lost")));
    world.server.restart(world.now, true);
    world.establish(&mut client);
    let open = reclaim_open(&mut world, &mut client, &file, "owner", 3).unwrap();
    ok(world.call(&mut client, vec![reclaim_complete()]));
    assert_eq!(world.read(&mut client, &file, open, 0, 100), b"kept");
    assert_ne!(before, verifier(ok(world.call(&mut client, vec![putfh(&file), commit(0, 0)]))));
}

/// §18.3.3: COMMIT makes a range stable, and FILE_SYNC4 its own bytes; nothing around them.
#[test]
fn a_commit_saves_its_range_and_no_more() {
    let mut world = World::full();
    let mut client = world.client("c");
    let (file, open) = world.create_file(&mut client, "f");
    world.write(&mut client, &file, open, 0, b"................");
    ok(world.call(&mut client, vec![putfh(&file), write(open, 0, b"AAAAAAAAAAAAAAAA", StableHow4::Unstable4)]));
    ok(world.call(&mut client, vec![putfh(&file), commit(4, 4)]));
    world.write(&mut client, &file, open, 12, b"BB");
    world.server.lose_unstable(world.now);
    assert_eq!(world.read(&mut client, &file, open, 0, 100), b"....AAAA....BB..");
}

/// §18.33: the callback program can be changed.
#[test]
fn backchannel_ctl_changes_the_program_of_callbacks() {
    let mut world = World::full();
    let mut client = world.client("c");
    let ctl = BackchannelCtl4args { bca_cb_program: 77, bca_sec_parms: Vec::new().into() };
    ok(world.call(&mut client, vec![Argop4::BackchannelCtl(ctl)]));
    world.server.heartbeat();
    assert_eq!(world.server.take_callbacks()[0].program, 77);
}

/// A fault on SEQUENCE leaves the slot as it was, so the same request goes through the next time.
#[test]
fn a_request_refused_at_sequence_goes_through_when_sent_again() {
    let mut world = World::full();
    let mut client = world.client("c");
    for error in [Nfs4Error::Delay, Nfs4Error::Badslot, Nfs4Error::Serverfault] {
        world.server.plan_mut().add(Rule::once(53, Action::Status(error)));
        let ops = vec![Argop4::Sequence(client.next(0)), Argop4::Putrootfh];
        assert_eq!(world.send(&client, ops.clone()).status, Err(error));
        ok(world.send(&client, ops));
        client.sequence[0] += 1;
    }
    world.nobody_is_accused();
}

/// S3 Files: a connection serves a session only if it is bound to the same partition.
#[test]
fn a_session_is_unknown_in_another_partition() {
    let mut world = World::s3files();
    let mut client = Client { partition: Some([1; 64]), ..world.stranger("c") };
    world.establish(&mut client);
    let mut elsewhere = Client { conn: world.new_conn(), partition: Some([2; 64]), ..client.clone() };
    let sequence = Argop4::Sequence(elsewhere.next(0));
    assert_eq!(world.send(&elsewhere, vec![sequence.clone()]).status, Err(Nfs4Error::Badsession));
    assert!(world.mistakes().is_empty(), "whoever lost the first connection has to try");
    ok(world.call(&mut client, vec![]));
    world.accused_of("not bound to its session's partition");
    elsewhere.partition = Some([1; 64]);
    elsewhere.sequence[0] += 1;
    ok(world.call(&mut elsewhere, vec![]));
    world.nobody_is_accused();
}

/// §2.10.6.1: a request of long ago, late on a connection that the client gave up, is refused and nobody's mistake.
#[test]
fn a_late_request_of_long_ago_is_misordered_and_no_mistake() {
    let mut world = World::full();
    let mut client = world.client("c");
    let late = vec![Argop4::Sequence(client.next(0)), Argop4::Putrootfh];
    for _ in 0..3 {
        ok(world.call(&mut client, vec![Argop4::Putrootfh]));
    }
    assert_eq!(world.send(&client, late).status, Err(Nfs4Error::SeqMisordered));
    world.nobody_is_accused();
}

/// A session that a fault says is gone is gone.
#[test]
fn after_an_injected_badsession_the_session_is_really_gone() {
    for error in [Nfs4Error::Badsession, Nfs4Error::Deadsession] {
        let mut world = World::full();
        let mut client = world.client("c");
        world.server.plan_mut().add(Rule::once(53, Action::Status(error)));
        let sequence = vec![Argop4::Sequence(client.next(0))];
        assert_eq!(world.send(&client, sequence.clone()).status, Err(error));
        assert_eq!(world.send(&client, sequence).status, Err(Nfs4Error::Badsession));
        world.create_session(&mut client);
        world.leave(&mut client);
        world.nobody_is_accused();
    }
}

/// §18.46.3: the server may wish for fewer slots.
#[test]
fn sequence_says_how_many_slots_the_server_wishes_for() {
    let mut world = World::full();
    let client = world.client("c");
    world.server.wish_for_slots(3);
    let results = ok(world.send(&client, vec![Argop4::Sequence(client.next(0))]));
    let Resop4::Sequence(Ok(done)) = &results[0] else { panic!("{results:?}") };
    assert_eq!((done.sr_highest_slotid, done.sr_target_highest_slotid), (7, 2));
}
