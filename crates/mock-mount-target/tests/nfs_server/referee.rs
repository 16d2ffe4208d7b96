//! The referee (sections are of RFC 8881): each accusation has a test that earns it (some stand beside the rules they belong to), and a client
//! that does everything right is never accused, whatever happens to it.

use mock_mount_target::nfs::faults::{Action, Rule};
use nfs4::Nfs4Error;
use nfs4::attr::number as n;
use nfs4::compound::Argop4;
use nfs4::ops::lock::{FreeStateid4args, NfsLockType4, TestStateid4args};
use nfs4::ops::open::Openflag4;
use nfs4::types::{StableHow4, Stateid4};
use std::time::Duration;

use crate::driver::*;

const CLOSE: u32 = 4;
const OPEN: u32 = 18;
const LOCKU: u32 = 14;

/// §18.2, §18.12, §18.50: an open never closed, a lock left at unmount.
#[test]
fn what_is_left_open_or_locked_at_the_end_is_a_mistake() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    ok(world.call(&mut c, vec![putfh(&file), first_lock(open, "l", NfsLockType4::Write, 0, 1)]));
    let mistakes = world.server.at_end();
    assert_eq!(mistakes.len(), 1);
    assert!(mistakes[0].contains("never closed") && mistakes[0].contains("1 locks"), "{mistakes:?}");
    assert_eq!(world.server.at_end().len(), 1, "told once");
}

/// §8.3, §18.37: a client that went away with DESTROY_SESSION alone is found out when its lease ends; one that only
/// replaced its session is not.
#[test]
fn an_open_left_behind_by_a_client_that_went_is_told_when_its_lease_ends() {
    let mut world = World::full();
    let (mut gone, mut back) = (world.client("gone"), world.client("back"));
    world.create_file(&mut gone, "f");
    let (file, open) = world.create_file(&mut back, "g");
    for c in [&gone, &back] {
        let session = c.session;
        ok(world.send(c, vec![destroy_session(session)]));
    }
    world.create_session(&mut back);
    world.close(&mut back, &file, open);
    assert!(world.mistakes().is_empty());
    world.pass(Duration::from_secs(91));
    world.accused_of("never closed");
}

/// §8.3, §8.4.1: a client that fell silent may have crashed: nothing is known against it.
#[test]
fn a_client_that_fell_silent_is_not_accused_of_what_it_held() {
    let mut world = World::full();
    let mut c = world.client("c");
    world.create_file(&mut c, "f");
    world.pass(Duration::from_secs(91));
    world.nobody_is_accused();
}

/// §8.2.4, §18.38, §18.48: a stateid used after CLOSE or FREE_STATEID; asking about it is no mistake.
#[test]
fn a_stateid_used_after_close_is_a_mistake_and_asking_about_it_is_not() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    let lock =
        stateid(&ok(world.call(&mut c, vec![putfh(&file), first_lock(open, "l", NfsLockType4::Write, 0, 1)]))[1]);
    world.close(&mut c, &file, open);
    ok(world.call(&mut c, vec![Argop4::TestStateid(TestStateid4args { ts_stateids: vec![open, lock].into() })]));
    for gone in [open, lock] {
        let freeing = Argop4::FreeStateid(FreeStateid4args { fsa_stateid: gone });
        assert_eq!(world.status(&mut c, vec![freeing]), Err(Nfs4Error::BadStateid));
    }
    assert!(world.mistakes().is_empty());
    for op in [close(open), read(open, 0, 1), write(open, 0, b"x", StableHow4::FileSync4)] {
        assert_eq!(world.status(&mut c, vec![putfh(&file), op]), Err(Nfs4Error::BadStateid));
        world.accused_of("after it was closed");
    }
    assert_eq!(world.status(&mut c, vec![putfh(&file), locku(lock, 0, 1)]), Err(Nfs4Error::BadStateid));
    world.accused_of("after it was closed");
}

/// §8.2.2, §8.2.3: stateids of the wrong kind.
#[test]
fn an_opens_stateid_is_no_locks_and_the_other_way_round() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    let lock =
        stateid(&ok(world.call(&mut c, vec![putfh(&file), first_lock(open, "l", NfsLockType4::Write, 0, 1)]))[1]);
    assert_eq!(world.status(&mut c, vec![putfh(&file), close(lock)]), Err(Nfs4Error::BadStateid));
    world.accused_of("a lock's stateid where an open's was needed");
    assert_eq!(world.status(&mut c, vec![putfh(&file), locku(open, 0, 1)]), Err(Nfs4Error::BadStateid));
    world.accused_of("an open's stateid where a lock's was needed");
    assert_eq!(world.status(&mut c, vec![putfh(&file), close(Stateid4::ANONYMOUS)]), Err(Nfs4Error::BadStateid));
    world.accused_of("a special stateid");
}

/// §16.2.3.1: operations without need: handles put or saved for nothing.
#[test]
fn a_handle_that_nothing_made_use_of_is_a_mistake() {
    let mut world = World::full();
    let mut c = world.client("c");
    let dir = world.mkdir(&mut c, "d");
    ok(world.call(&mut c, vec![Argop4::Putrootfh, putfh(&dir), getattr(&[n::TYPE])]));
    world.accused_of("replaced before anything made use of it");
    ok(world.call(&mut c, vec![putfh(&dir), Argop4::Savefh, getattr(&[n::TYPE])]));
    world.accused_of("a SAVEFH that nothing made use of");
    ok(world.call(&mut c, vec![putfh(&dir)]));
    assert_eq!(world.status(&mut c, vec![putfh(&dir), Argop4::Savefh, lookup("x")]), Err(Nfs4Error::Noent));
    ok(world
        .call(&mut c, vec![putfh(&dir), Argop4::Savefh, Argop4::Putrootfh, getattr(&[n::TYPE]), Argop4::Restorefh]));
    world.nobody_is_accused();
}

/// §16.2.3: bytes behind the last operation of a compound.
#[test]
fn bytes_behind_the_last_operation_are_a_mistake() {
    let mut world = World::full();
    let mut c = world.client("c");
    let mut body = encode(2, vec![Argop4::Sequence(c.next(0)), Argop4::Putrootfh]).to_vec();
    body.extend([0; 4]);
    c.sequence[0] += 1;
    ok(decode(&world.send_bytes(&c, body.into())));
    world.accused_of("4 bytes behind the last operation");
}

/// §2.10.6.1, §18.46.3: a slot beyond the highest one that is said to be in use.
#[test]
fn a_slot_above_the_highest_in_use_is_a_mistake() {
    let mut world = World::full();
    let c = world.client("c");
    let mut sequence = c.next(3);
    sequence.sa_highest_slotid = 2;
    ok(world.send(&c, vec![Argop4::Sequence(sequence)]));
    world.accused_of("slot 3 used while the highest in use is said to be 2");
}

/// §2.10.6.2: an exact retry on a new connection, with another highest slot, of a compound whose reply was lost.
#[test]
fn retries_after_a_reconnect_are_no_mistake() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    let mut sequence = c.next(0);
    let ops = |sequence: &nfs4::ops::session::Sequence4args| {
        vec![Argop4::Sequence(sequence.clone()), putfh(&file), close(open)]
    };
    let first = world.send(&c, ops(&sequence));
    world.server.disconnected(c.conn);
    c.conn = world.new_conn();
    sequence.sa_highest_slotid = 5;
    assert_eq!(world.send(&c, ops(&sequence)), first);
    c.sequence[0] += 1;
    world.leave(&mut c);
    world.nobody_is_accused();
}

/// §2.10.6.2, §8.2.4: the reply to a CLOSE is lost together with the session: the client closes once more.
#[test]
fn a_close_repeated_in_a_new_session_after_the_old_one_was_lost_is_no_mistake() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    world.close(&mut c, &file, open);
    world.server.drop_sessions();
    let sequence = Argop4::Sequence(c.next(0));
    assert_eq!(world.send(&c, vec![sequence]).status, Err(Nfs4Error::Badsession));
    world.create_session(&mut c);
    assert_eq!(world.status(&mut c, vec![putfh(&file), close(open)]), Err(Nfs4Error::BadStateid));
    world.leave(&mut c);
    world.nobody_is_accused();
}

/// §2.10.13.1.4: the session is lost while an OPEN is under way: the client cannot know of the open.
#[test]
fn an_open_that_a_fault_hid_from_the_client_is_no_mistake() {
    for fault in
        [Action::StatusAfter(Nfs4Error::Io), Action::DropSessions, Action::UnknownArm, Action::Bytes(vec![1; 8])]
    {
        let mut world = World::full();
        let mut c = world.client("c");
        let dropped = fault == Action::DropSessions;
        world.server.plan_mut().add(Rule::once(OPEN, fault));
        let opening = open_args("o", "f", 3, unchecked(&nfs4::attr::Attrs::default()));
        let ops = vec![Argop4::Sequence(c.next(0)), Argop4::Putrootfh, Argop4::Open(opening)];
        world.send_bytes(&c, encode(2, ops));
        c.sequence[0] += 1;
        if dropped {
            world.server.drop_sessions();
            world.create_session(&mut c);
        }
        world.nobody_is_accused();
    }
}

/// §18.2, §18.12: a CLOSE or LOCKU that a fault made fail leaves the state behind, through no fault of the client.
#[test]
fn a_close_that_a_fault_made_fail_is_no_mistake_but_delay_is_to_be_tried_again() {
    for (op, error, accused) in [
        (CLOSE, Nfs4Error::Io, false),
        (CLOSE, Nfs4Error::Serverfault, false),
        (LOCKU, Nfs4Error::AdminRevoked, false),
        (CLOSE, Nfs4Error::Delay, true),
    ] {
        let mut world = World::full();
        let mut c = world.client("c");
        let (file, open) = world.create_file(&mut c, "f");
        let lock = first_lock(open, "l", NfsLockType4::Write, 0, 1);
        let lock = stateid(&ok(world.call(&mut c, vec![putfh(&file), lock]))[1]);
        world.server.plan_mut().add(Rule::once(op, Action::Status(error)));
        let giving_back = if op == CLOSE { close(open) } else { locku(lock, 0, 1) };
        assert_eq!(world.status(&mut c, vec![putfh(&file), giving_back]), Err(error));
        assert_eq!(!world.server.at_end().is_empty(), accused, "{error}");
    }
}

/// §2.10.6.1.3: a result that cannot be read ends its compound; whoever tries again is not held up by the same bytes for ever.
#[test]
fn a_broken_result_ends_its_compound_and_a_retry_gets_a_readable_error() {
    for fault in [Action::UnknownArm, Action::Bytes(vec![0xff; 3])] {
        let mut world = World::full();
        let mut c = world.client("c");
        let (file, open) = world.create_file(&mut c, "f");
        world.server.plan_mut().add(Rule::once(15, fault));
        let body = encode(
            2,
            vec![
                Argop4::Sequence(c.next(0)),
                Argop4::Putrootfh,
                Argop4::Savefh,
                lookup("f"),
                read(open, 0, 1),
                Argop4::Restorefh,
            ],
        );
        world.send_bytes(&c, body.clone());
        assert_eq!(world.server.referee().counters().of("Read"), 0);
        let again = decode(&world.send_bytes(&c, body));
        assert_eq!((again.status, again.resarray.len()), (Err(Nfs4Error::Serverfault), 4));
        c.sequence[0] += 1;
        world.close(&mut c, &file, open);
        world.nobody_is_accused();
    }
}

/// §15.1.5, §8.2.4: a client that is told that its state is gone may leave it; one that is told of another trouble may not.
#[test]
fn state_that_a_fault_says_is_gone_may_be_left_behind() {
    for (error, accused) in [
        (Nfs4Error::Expired, false),
        (Nfs4Error::AdminRevoked, false),
        (Nfs4Error::BadStateid, false),
        (Nfs4Error::Stale, false),
        (Nfs4Error::Io, true),
        (Nfs4Error::Nospc, true),
        (Nfs4Error::Delay, true),
    ] {
        let mut world = World::full();
        let mut c = world.client("c");
        let (file, open) = world.create_file(&mut c, "f");
        world.server.plan_mut().add(Rule::once(38, Action::Status(error)));
        let writing = vec![putfh(&file), write(open, 0, b"x", StableHow4::FileSync4)];
        assert_eq!(world.status(&mut c, writing), Err(error));
        assert_eq!(!world.server.at_end().is_empty(), accused, "{error}");
    }
}

/// §18.36.4: a fault on CREATE_SESSION: whether its sequence id counts is not for the client to know.
#[test]
fn a_client_that_counts_a_failed_create_session_is_no_mistake() {
    let mut world = World::full();
    let mut c = world.stranger("c");
    world.identify(&mut c);
    world.server.plan_mut().add(Rule::once(43, Action::Status(Nfs4Error::Io)));
    assert_eq!(world.send(&c, vec![create_session(&c)]).status, Err(Nfs4Error::Io));
    c.create_sequence += 1;
    assert_eq!(world.send(&c, vec![create_session(&c)]).status, Err(Nfs4Error::SeqMisordered));
    world.nobody_is_accused();
}

/// §18.10.2: an injected denial of a lock reads like a real one.
#[test]
fn an_injected_denial_names_a_lock() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    for (opnum, op) in
        [(12, first_lock(open, "l", NfsLockType4::Write, 0, 1)), (13, lockt("l", NfsLockType4::Write, 0, 1))]
    {
        world.server.plan_mut().add(Rule::once(opnum, Action::Status(Nfs4Error::Denied)));
        assert_eq!(world.status(&mut c, vec![putfh(&file), op.clone()]), Err(Nfs4Error::Denied));
        ok(world.call(&mut c, vec![putfh(&file), op]));
    }
}

/// §18.13, §18.16: faults find a file by its name, whether the operation names it or holds its handle.
#[test]
fn a_fault_on_a_name_hits_operations_on_that_name_and_on_that_file() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (f, open_f) = world.create_file(&mut c, "f");
    let (g, open_g) = world.create_file(&mut c, "g");
    for opnum in [15, 25] {
        let rule = Rule { name: Some(b"f".to_vec()), ..Rule::once(opnum, Action::Status(Nfs4Error::Io)) };
        world.server.plan_mut().add(rule);
    }
    assert_eq!(world.status(&mut c, vec![Argop4::Putrootfh, lookup("g")]), Ok(()));
    assert_eq!(world.status(&mut c, vec![Argop4::Putrootfh, lookup("f")]), Err(Nfs4Error::Io));
    assert_eq!(world.status(&mut c, vec![putfh(&g), read(open_g, 0, 1)]), Ok(()));
    assert_eq!(world.status(&mut c, vec![putfh(&f), read(open_f, 0, 1)]), Err(Nfs4Error::Io));
}

/// §8.2.2, §9.9: two opens and a close under way at once: an old seqid, or an open that the close took along, is nobody's mistake.
#[test]
fn opens_and_closes_that_cross_on_the_way_are_no_mistake() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, first) = world.create_file(&mut c, "f");
    let (_, second) = world.open(&mut c, "f", 1, Openflag4::NoCreate);
    assert_eq!(world.status(&mut c, vec![putfh(&file), close(first)]), Err(Nfs4Error::OldStateid));
    assert_eq!(world.status(&mut c, vec![putfh(&file), read(first, 0, 1)]), Err(Nfs4Error::OldStateid));
    for slot in 0..8 {
        ok(world.call_on(&mut c, slot, vec![putfh(&file), read(Stateid4 { seqid: 0, ..second }, 0, 1)]));
    }
    world.close(&mut c, &file, second);
    world.nobody_is_accused();
}

/// §15.1: a client that asks for what is not there, not allowed or not supported is told so and not accused.
#[test]
fn refusals_that_a_client_cannot_foresee_are_no_mistakes() {
    let mut world = World::s3files();
    let mut root = world.client("root");
    world.create_file(&mut root, "f");
    world.server.at_end();
    world.server.referee_mut().take_mistakes();
    let mut c = Client { uid: 7, gid: 7, ..world.client("c") };
    for op in [
        lookup("nothing"),
        remove("f"),
        create(nfs4::ops::dir::Createtype4::DIR, "d"),
        Argop4::Open(open_args("o", "f", 2, Openflag4::NoCreate)),
        Argop4::Open(open_args("o", "nothing", 1, Openflag4::NoCreate)),
        Argop4::Lookupp,
        Argop4::Readlink,
        read(Stateid4::ANONYMOUS, 0, 1),
        lockt("l", NfsLockType4::Read, 0, 1),
    ] {
        assert!(world.status(&mut c, vec![Argop4::Putrootfh, op]).is_err());
    }
    world.nobody_is_accused();
}

/// §8.4.2: after a restart, everything of before is gone through no fault of the client.
#[test]
fn stateids_and_sessions_of_before_a_restart_are_no_mistake() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    world.server.restart(world.now, false);
    let sequence = Argop4::Sequence(c.next(0));
    assert_eq!(world.send(&c, vec![sequence]).status, Err(Nfs4Error::Badsession));
    let session = c.session;
    assert_eq!(world.send(&c, vec![destroy_session(session)]).status, Err(Nfs4Error::Badsession));
    assert_eq!(world.send(&c, vec![create_session(&c)]).status, Err(Nfs4Error::StaleClientid));
    world.establish(&mut c);
    ok(world.call(&mut c, vec![reclaim_complete()]));
    assert_eq!(world.status(&mut c, vec![putfh(&file), read(open, 0, 1)]), Err(Nfs4Error::BadStateid));
    world.nobody_is_accused();
}

/// Of no RFC: operations, bytes and round trips are counted.
#[test]
fn operations_bytes_and_round_trips_are_counted() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    world.server.referee_mut().reset_counters();
    world.server.referee_mut().set_rtt(Duration::from_millis(30));
    world.write(&mut c, &file, open, 0, &[1; 1000]);
    for slot in 1..5 {
        ok(world.call_on(&mut c, slot, vec![putfh(&file), read(open, 0, 100)]));
    }
    let counters = world.server.referee().counters();
    assert_eq!((counters.of("READ"), counters.of("Write"), counters.of("OPEN")), (4, 1, 0));
    assert_eq!(counters.of("SEQUENCE"), 5);
    assert_eq!((counters.bytes_read, counters.bytes_written), (400, 1000));
    assert_eq!((counters.compounds, counters.round_trips), (5, 1));
    assert!(counters.request_bytes > 1000 && counters.reply_bytes > 400);
    world.pass(Duration::from_millis(30));
    ok(world.call(&mut c, vec![putfh(&file), close(open)]));
    assert_eq!(world.server.referee().counters().round_trips, 2);
}
