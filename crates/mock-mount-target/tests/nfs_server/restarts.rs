//! Restarts, the grace period and what is reclaimed in it, uncommitted bytes (RFC 8881 §8.4, §18.3, §18.51).

use nfs4::Nfs4Error;
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::open::{OpenClaim4, OpenDelegationType4, Openflag4};
use nfs4::ops::session::seq4_status;
use nfs4::types::{StableHow4, Stateid4};
use std::time::Duration;

use crate::driver::*;

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

/// §18.16.3: what OPEN4_RESULT_PRESERVE_UNLINKED promised holds over a restart with stable storage: the file can be
/// reclaimed by its handle, and is gone when nobody has reclaimed it by the end of the grace period.
#[test]
fn a_removed_file_that_was_open_is_kept_for_its_reclaim_and_no_longer() {
    let mut world = World::full();
    let (mut c, mut other) = (world.client("c"), world.client("other"));
    let (kept, open) = world.create_file(&mut c, "kept");
    world.write(&mut c, &kept, open, 0, b"still here");
    let (lost, _) = world.create_file(&mut c, "lost");
    let (theirs, _) = world.create_file(&mut other, "theirs");
    for name in ["kept", "lost", "theirs"] {
        ok(world.call(&mut c, vec![Argop4::Putrootfh, remove(name)]));
    }
    world.server.restart(world.now, true);
    world.establish(&mut c);
    let open = reclaim_open(&mut world, &mut c, &kept, "owner", 3).unwrap();
    assert_eq!(world.read(&mut c, &kept, open, 0, 100), b"still here");
    ok(world.call(&mut c, vec![reclaim_complete()]));
    // The other client may still come for its file.
    ok(world.call(&mut c, vec![putfh(&theirs), getattr(&[nfs4::attr::number::NUMLINKS])]));
    for _ in 0..2 {
        world.pass(Duration::from_secs(46));
        ok(world.call(&mut c, vec![Argop4::Putrootfh, getattr(&[nfs4::attr::number::TYPE])]));
    }
    for file in [&lost, &theirs] {
        assert_eq!(world.status(&mut c, vec![putfh(file)]), Err(Nfs4Error::Stale));
    }
    assert_eq!(world.read(&mut c, &kept, open, 0, 100), b"still here");
    world.close(&mut c, &kept, open);
    assert_eq!(world.status(&mut c, vec![putfh(&kept)]), Err(Nfs4Error::Stale));
    world.nobody_is_accused();
}

/// §18.16.3: without stable storage the promise is lost with everything else.
#[test]
fn a_removed_file_is_gone_after_a_restart_without_stable_storage() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, _) = world.create_file(&mut c, "f");
    ok(world.call(&mut c, vec![Argop4::Putrootfh, remove("f")]));
    world.server.restart(world.now, false);
    world.establish(&mut c);
    assert_eq!(world.status(&mut c, vec![putfh(&file)]), Err(Nfs4Error::Stale));
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
