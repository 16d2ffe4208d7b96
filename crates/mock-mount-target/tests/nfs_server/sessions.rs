//! Sessions: slots, replies kept for retries, limits, connections, status flags (RFC 8881 §2.10, §18.33, §18.34, §18.46).

use mock_mount_target::nfs::Reply;
use mock_mount_target::nfs::faults::{Action, Rule};
use nfs4::Nfs4Error;
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::session::{
    BackchannelCtl4args, BindConnToSession4args, ChannelAttrs4, ChannelDirFromClient4, CreateSession4args, seq4_status,
};
use nfs4::types::Sessionid4;

use crate::driver::*;

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

/// §18.46.3: a fault on SEQUENCE leaves the slot as it was, so the same request goes through the next time.
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

/// §2.10.13.1.4: a session that a fault says is gone is gone.
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
