//! Opens, share reservations, byte-range locks, stateids (RFC 8881 §8.2, §9, §18.2, §18.10–18.12, §18.16, §18.18,
//! §18.38, §18.48).

use mock_mount_target::nfs::Server;
use nfs4::Nfs4Error;
use nfs4::attr::{Attrs, number};
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::lock::{FreeStateid4args, LockRes, NfsLockType4, TestStateid4args};
use nfs4::ops::open::{
    Createhow4, Creatverfattr, Delegreturn4args, Open4args, Open4resok, OpenClaim4, OpenDelegation4,
    OpenDowngrade4args, OpenNoneDelegation4, Openflag4, WhyNoDelegation4, rflags, share,
};
use nfs4::types::{Bitmap4, NfsFh4, StableHow4, Stateid4, Verifier4};

use crate::driver::*;

const READ: NfsLockType4 = NfsLockType4::Read;
const WRITE: NfsLockType4 = NfsLockType4::Write;

fn try_open(world: &mut World, client: &mut Client, args: Open4args) -> Result<Open4resok, Nfs4Error> {
    let result = world.call(client, vec![Argop4::Putrootfh, Argop4::Open(args)]);
    match result.resarray.last() {
        Some(Resop4::Open(done)) => done.clone(),
        other => panic!("{other:?}"),
    }
}

fn attrs(mode: u32) -> Attrs {
    Attrs { mode: Some(mode), ..Attrs::default() }
}

fn exclusive(verifier: u8, attrs: &Attrs) -> Openflag4 {
    Openflag4::Create(Createhow4::Exclusive41(Creatverfattr {
        cva_verf: Verifier4([verifier; 8]),
        cva_attrs: fattr(attrs),
    }))
}

fn test_stateids(world: &mut World, client: &mut Client, stateids: &[Stateid4]) -> Vec<u32> {
    let args = TestStateid4args { ts_stateids: stateids.to_vec().into() };
    let results = ok(world.call(client, vec![Argop4::TestStateid(args)]));
    let Resop4::TestStateid(Ok(done)) = &results[0] else { panic!("{results:?}") };
    done.tsr_status_codes.to_vec()
}

fn free(world: &mut World, client: &mut Client, stateid: Stateid4) -> Result<(), Nfs4Error> {
    world.status(client, vec![Argop4::FreeStateid(FreeStateid4args { fsa_stateid: stateid })])
}

/// §18.16.3: the four ways to create.
#[test]
fn unchecked_takes_an_existing_file_guarded_does_not_and_exclusive_knows_its_own() {
    let mut world = World::full();
    let mut c = world.client("c");
    let mut open = |name: &str, how| try_open(&mut world, &mut c, open_args("o", name, 3, how));
    assert_eq!(open("f", Openflag4::NoCreate).unwrap_err(), Nfs4Error::Noent);
    let made = open("f", unchecked(&attrs(0o600))).unwrap();
    assert_eq!(made.attrset, Bitmap4::of(&[number::MODE]));
    assert!(made.cinfo.atomic && made.cinfo.after > made.cinfo.before);
    let again = open("f", unchecked(&attrs(0o777))).unwrap();
    assert_eq!(again.attrset, Bitmap4::EMPTY, "an existing file's mode is left alone");
    assert_eq!((again.cinfo.before, again.cinfo.after), (made.cinfo.after, made.cinfo.after));
    let guarded = Openflag4::Create(Createhow4::Guarded(fattr(&attrs(0o600))));
    assert_eq!(open("f", guarded.clone()).unwrap_err(), Nfs4Error::Exist);
    assert!(open("g", guarded).is_ok());
    let made = open("x", exclusive(1, &attrs(0o400))).unwrap();
    assert_eq!(made.attrset, Bitmap4::of(&[number::MODE]));
    assert_eq!(open("x", exclusive(1, &attrs(0o400))).unwrap().stateid.other, made.stateid.other);
    assert_eq!(open("x", exclusive(2, &attrs(0o400))).unwrap_err(), Nfs4Error::Exist);
    assert_eq!(open("f", exclusive(1, &attrs(0o400))).unwrap_err(), Nfs4Error::Exist);
    let old = Openflag4::Create(Createhow4::Exclusive(Verifier4([5; 8])));
    assert!(open("y", old.clone()).is_ok() && open("y", old).is_ok());
    let unsettable = Attrs { change: Some(1), ..Attrs::default() };
    assert_eq!(open("z", exclusive(1, &unsettable)).unwrap_err(), Nfs4Error::Inval);
    world.server.at_end();
    assert!(world.mistakes().iter().all(|mistake| mistake.contains("never closed")));
}

/// §18.16.3: the verifier of an exclusive creation is kept over a restart of the server, and a mode without write
/// permission does not keep out the creator's second try.
#[test]
fn an_exclusive_creation_is_recognized_after_a_restart() {
    let mut world = World::full();
    let mut c = Client { uid: 5, ..world.client("c") };
    let root = world.server.fs().root();
    world.server.fs_mut().inode_mut(root).unwrap().mode = 0o777;
    try_open(&mut world, &mut c, open_args("o", "x", 3, exclusive(1, &attrs(0o400)))).unwrap();
    world.server.restart(world.now, false);
    world.establish(&mut c);
    ok(world.call(&mut c, vec![reclaim_complete()]));
    let again = open_args("o", "x", 3, exclusive(1, &attrs(0o400)));
    try_open(&mut world, &mut c, again).unwrap();
    let plain = open_args("o", "x", 2, Openflag4::NoCreate);
    assert_eq!(try_open(&mut world, &mut c, plain).unwrap_err(), Nfs4Error::Access);
}

/// §18.16.3: UNCHECKED4 with a size of zero truncates an existing file, and says that it set the size.
#[test]
fn unchecked_with_size_zero_truncates() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    world.write(&mut c, &file, open, 0, b"0123456789");
    let wish = Attrs { size: Some(0), mode: Some(0), ..Attrs::default() };
    let done = try_open(&mut world, &mut c, open_args("o", "f", 1, unchecked(&wish))).unwrap();
    assert_eq!(done.attrset, Bitmap4::of(&[number::SIZE]));
    let now = world.attrs(&mut c, &file, &[number::SIZE, number::MODE]);
    assert_eq!((now.size, now.mode), (Some(0), Some(0o644)));
}

/// §18.16.3: what is not a regular file cannot be opened.
#[test]
fn only_regular_files_are_opened() {
    let mut world = World::full();
    let mut c = world.client("c");
    world.mkdir(&mut c, "dir");
    let link = nfs4::ops::dir::Createtype4::Lnk("dir".into());
    ok(world.call(&mut c, vec![Argop4::Putrootfh, create(link, "link")]));
    let fifo = nfs4::ops::dir::Createtype4::Other(nfs4::types::NfsFtype4::Fifo);
    ok(world.call(&mut c, vec![Argop4::Putrootfh, create(fifo, "fifo")]));
    for (name, error) in [("dir", Nfs4Error::Isdir), ("link", Nfs4Error::Symlink), ("fifo", Nfs4Error::WrongType)] {
        let args = open_args("o", name, 1, Openflag4::NoCreate);
        assert_eq!(try_open(&mut world, &mut c, args).unwrap_err(), error);
    }
    world.nobody_is_accused();
}

/// §18.16.3: CLAIM_FH opens the current file handle itself; the delegation claims have nothing to claim.
#[test]
fn a_file_is_opened_by_its_handle_and_delegation_claims_fail() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, first) = world.create_file(&mut c, "f");
    let claim = |claim, how| Argop4::Open(Open4args { claim, ..open_args("owner", "", 1, how) });
    let by_handle = vec![putfh(&file), claim(OpenClaim4::Fh, Openflag4::NoCreate)];
    let opened = ok(world.call(&mut c, by_handle));
    assert_eq!(stateid(&opened[1]), Stateid4 { seqid: first.seqid + 1, ..first }, "the same owner's open");
    let creating = vec![putfh(&file), claim(OpenClaim4::Fh, unchecked(&Attrs::default()))];
    assert_eq!(world.status(&mut c, creating), Err(Nfs4Error::Inval));
    world.accused_of("wants to create");
    for (wrong, error) in [
        (OpenClaim4::DelegCurFh(first), Nfs4Error::BadStateid),
        (OpenClaim4::DelegPrevFh, Nfs4Error::Notsupp),
        (OpenClaim4::DelegatePrev("f".into()), Nfs4Error::Notsupp),
    ] {
        assert_eq!(world.status(&mut c, vec![putfh(&file), claim(wrong, Openflag4::NoCreate)]), Err(error));
    }
    world.accused_of("with a delegation where none was given");
    let back = Argop4::Delegreturn(Delegreturn4args { deleg_stateid: first });
    assert_eq!(world.status(&mut c, vec![putfh(&file), back]), Err(Nfs4Error::BadStateid));
    world.accused_of("DELEGRETURN");
}

/// §18.16.3: whoever speaks of delegations is told why there is none.
#[test]
fn no_delegation_is_given_and_the_reason_is() {
    let mut world = World::full();
    let mut c = world.client("c");
    world.create_file(&mut c, "f");
    let mut open =
        |want: u32| try_open(&mut world, &mut c, open_args("o", "f", 1 | want, Openflag4::NoCreate)).unwrap();
    assert_eq!(open(0).delegation, OpenDelegation4::None);
    let why = |why| OpenDelegation4::NoneExt(OpenNoneDelegation4::Other(why));
    assert_eq!(open(share::WANT_NO_DELEG).delegation, why(WhyNoDelegation4::NotWanted));
    assert_eq!(open(share::WANT_CANCEL).delegation, why(WhyNoDelegation4::Cancelled));
    let any = open(share::WANT_ANY_DELEG);
    assert_eq!(any.delegation, OpenDelegation4::NoneExt(OpenNoneDelegation4::Resource(false)));
    assert_eq!(any.rflags, rflags::LOCKTYPE_POSIX | rflags::PRESERVE_UNLINKED);
}

/// §9.7: share reservations.
#[test]
fn a_denied_share_keeps_others_out_until_it_is_closed() {
    let mut world = World::full();
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    let (file, _) = world.create_file(&mut a, "f");
    let mut denying = open_args("denier", "f", 1, Openflag4::NoCreate);
    denying.share_deny = share::DENY_WRITE;
    assert_eq!(try_open(&mut world, &mut b, denying.clone()).unwrap_err(), Nfs4Error::ShareDenied);
    let writing = Open4args { owner: owner("owner"), ..open_args("owner", "f", 3, Openflag4::NoCreate) };
    let open = try_open(&mut world, &mut a, writing.clone()).unwrap().stateid;
    world.close(&mut a, &file, open);
    let deny = try_open(&mut world, &mut b, denying).unwrap().stateid;
    assert_eq!(try_open(&mut world, &mut a, writing.clone()).unwrap_err(), Nfs4Error::ShareDenied);
    let special = vec![putfh(&file), write(Stateid4::ANONYMOUS, 0, b"x", StableHow4::FileSync4)];
    assert_eq!(world.status(&mut a, special), Err(Nfs4Error::Locked));
    ok(world.call(&mut a, vec![putfh(&file), read(Stateid4::ANONYMOUS, 0, 1)]));
    world.close(&mut b, &file, deny);
    let open = try_open(&mut world, &mut a, writing).unwrap().stateid;
    world.close(&mut a, &file, open);
    world.nobody_is_accused();
}

/// §9.8, §9.9, §18.18.3: one open-owner's opens of a file are one open; OPEN_DOWNGRADE goes back.
#[test]
fn opens_of_one_owner_add_up_and_are_downgraded() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, _) = world.create_file(&mut c, "f");
    let args = |access| open_args("o", "f", access, Openflag4::NoCreate);
    let first = try_open(&mut world, &mut c, args(1)).unwrap().stateid;
    let bytes = || vec![putfh(&file), write(Stateid4 { seqid: 0, ..first }, 0, b"x", StableHow4::FileSync4)];
    assert_eq!(world.status(&mut c, bytes()), Err(Nfs4Error::Openmode));
    let second = try_open(&mut world, &mut c, args(2)).unwrap().stateid;
    assert_eq!(second, Stateid4 { seqid: 2, ..first });
    ok(world.call(&mut c, bytes()));
    let down = |open, access| {
        let args = OpenDowngrade4args { open_stateid: open, seqid: 0, share_access: access, share_deny: 0 };
        vec![putfh(&file), Argop4::OpenDowngrade(args)]
    };
    assert_eq!(world.status(&mut c, down(first, 1)), Err(Nfs4Error::OldStateid));
    assert_eq!(world.status(&mut c, down(second, 0)), Err(Nfs4Error::Inval));
    let results = ok(world.call(&mut c, down(second, 1)));
    let third = stateid(&results[1]);
    assert_eq!(third, Stateid4 { seqid: 3, ..first });
    assert_eq!(world.status(&mut c, bytes()), Err(Nfs4Error::Openmode));
    assert_eq!(world.status(&mut c, down(third, 3)), Err(Nfs4Error::Inval), "it never was opened for both");
    let closed = ok(world.call(&mut c, vec![putfh(&file), close(third)]));
    assert_eq!(stateid(&closed[1]), Stateid4::INVALID);
}

/// §8.2.3, §8.2.4, §16.2.3.1.2: seqid 0, the current stateid, old and future seqids, other files, other clients.
#[test]
fn a_stateid_is_good_only_for_its_file_its_client_and_its_seqid() {
    let mut world = World::full();
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    let (file, open) = world.create_file(&mut a, "f");
    let (other, second) = world.create_file(&mut a, "g");
    let read = |handle: &NfsFh4, stateid| vec![putfh(handle), read(stateid, 0, 1)];
    ok(world.call(&mut a, read(&file, Stateid4 { seqid: 0, ..open })));
    let opening = Argop4::Open(open_args("owner", "f", 1, Openflag4::NoCreate));
    let current =
        vec![Argop4::Putrootfh, opening, crate::driver::read(Stateid4::CURRENT, 0, 1), close(Stateid4::CURRENT)];
    ok(world.call(&mut a, current));
    assert!(world.mistakes().is_empty());
    assert_eq!(world.status(&mut a, read(&file, second)), Err(Nfs4Error::BadStateid));
    world.accused_of("another file than its own");
    assert_eq!(world.status(&mut b, read(&other, second)), Err(Nfs4Error::BadStateid));
    world.accused_of("never gave to this client");
    assert_eq!(world.status(&mut a, read(&other, Stateid4 { seqid: 9, ..second })), Err(Nfs4Error::BadStateid));
    world.accused_of("never gave to this client");
    assert_eq!(world.status(&mut a, read(&other, Stateid4::INVALID)), Err(Nfs4Error::BadStateid));
    world.accused_of("special stateid");
    assert_eq!(world.status(&mut a, read(&other, Stateid4::CURRENT)), Err(Nfs4Error::BadStateid));
    world.accused_of("no operation made one");
    assert_eq!(world.status(&mut a, read(&file, open)), Err(Nfs4Error::BadStateid));
    world.accused_of("after it was closed");
}

/// §16.2.3.1.2: SAVEFH and RESTOREFH take the current stateid along.
#[test]
fn the_current_stateid_is_saved_and_restored_with_its_handle() {
    let mut world = World::full();
    let mut c = world.client("c");
    let opening = Argop4::Open(open_args("o", "f", 3, unchecked(&Attrs::default())));
    ok(world.call(
        &mut c,
        vec![
            Argop4::Putrootfh,
            opening,
            Argop4::Savefh,
            Argop4::Putrootfh,
            getattr(&[number::TYPE]),
            Argop4::Restorefh,
            write(Stateid4::CURRENT, 0, b"x", StableHow4::FileSync4),
            close(Stateid4::CURRENT),
        ],
    ));
    world.nobody_is_accused();
}

/// §18.10.3: locks conflict, split, join and are changed in kind; DENIED tells which one is in the way.
#[test]
fn byte_range_locks_conflict_between_owners_and_denied_names_the_lock_in_the_way() {
    let mut world = World::full();
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    let (file, open_a) = world.create_file(&mut a, "f");
    let (_, open_b) = world.open(&mut b, "f", 3, Openflag4::NoCreate);
    let locked = ok(world.call(&mut a, vec![putfh(&file), first_lock(open_a, "la", WRITE, 10, 10)]));
    let lock = stateid(&locked[1]);
    let denied = world.call(&mut b, vec![putfh(&file), first_lock(open_b, "lb", READ, 0, 11)]);
    let Resop4::Lock(LockRes::Denied(in_the_way)) = &denied.resarray[1] else { panic!("{denied:?}") };
    assert_eq!((in_the_way.offset, in_the_way.length, in_the_way.locktype), (10, 10, WRITE));
    assert_eq!((in_the_way.owner.clientid, &in_the_way.owner.owner[..]), (a.id, &b"la"[..]));
    let ask = |by, kind, offset, length| vec![putfh(&file), lockt(by, kind, offset, length)];
    assert_eq!(world.status(&mut b, ask("lb", READ, 19, 1)), Err(Nfs4Error::Denied));
    assert_eq!(world.status(&mut b, ask("lb", WRITE, 20, u64::MAX)), Ok(()));
    assert_eq!(world.status(&mut b, ask("la", READ, 10, 1)), Err(Nfs4Error::Denied), "another client's namesake");
    assert_eq!(world.status(&mut a, ask("la", WRITE, 0, u64::MAX)), Ok(()), "one's own lock");
    let more = ok(world.call(&mut a, vec![putfh(&file), more_lock(lock, READ, 15, 5)]));
    assert_eq!(stateid(&more[1]), Stateid4 { seqid: lock.seqid + 1, ..lock });
    assert_eq!(world.status(&mut b, ask("lb", READ, 15, 5)), Ok(()));
    assert_eq!(world.status(&mut b, ask("lb", READ, 14, 1)), Err(Nfs4Error::Denied));
    let lock = stateid(&ok(world.call(&mut a, vec![putfh(&file), locku(stateid(&more[1]), 12, 1)]))[1]);
    assert_eq!(world.status(&mut b, ask("lb", WRITE, 12, 1)), Ok(()));
    assert_eq!(world.status(&mut b, ask("lb", WRITE, 13, 1)), Err(Nfs4Error::Denied));
    ok(world.call(&mut a, vec![putfh(&file), locku(lock, 0, u64::MAX)]));
    ok(world.call(&mut b, vec![putfh(&file), first_lock(open_b, "lb", WRITE, 0, u64::MAX)]));
    world.close(&mut b, &file, open_b);
    assert_eq!(world.status(&mut a, ask("la", WRITE, 0, u64::MAX)), Ok(()), "CLOSE lets the locks go");
    world.close(&mut a, &file, open_a);
    world.nobody_is_accused();
}

/// §18.10.3: kinds of lock need their share access; ranges and files must be possible.
#[test]
fn a_lock_needs_the_access_of_its_kind_a_range_and_a_regular_file() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    world.close(&mut c, &file, open);
    let (_, open) = world.open(&mut c, "f", 1, Openflag4::NoCreate);
    let mut lock =
        |kind, offset, length| world.status(&mut c, vec![putfh(&file), first_lock(open, "l", kind, offset, length)]);
    assert_eq!(lock(WRITE, 0, 1), Err(Nfs4Error::Openmode));
    assert_eq!(lock(READ, 0, 0), Err(Nfs4Error::Inval));
    assert_eq!(lock(READ, 5, u64::MAX - 4), Err(Nfs4Error::Inval));
    assert_eq!(lock(NfsLockType4::Unknown(9), 0, 1), Err(Nfs4Error::Inval));
    assert_eq!(lock(READ, 5, u64::MAX), Ok(()));
    let on_directory = vec![Argop4::Putrootfh, lockt("l", READ, 0, 1)];
    assert_eq!(world.status(&mut c, on_directory), Err(Nfs4Error::Isdir));
}

/// §18.38.3, §18.48.3: asking about and letting go of stateids.
#[test]
fn test_stateid_tells_the_state_of_each_and_free_stateid_lets_go_of_unused_locks() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    let lock = stateid(&ok(world.call(&mut c, vec![putfh(&file), first_lock(open, "l", WRITE, 0, 1)]))[1]);
    let stranger = Stateid4 { seqid: 1, ..Stateid4::READ_BYPASS };
    let old = Stateid4 { seqid: 1, ..lock };
    assert_eq!(free(&mut world, &mut c, lock), Err(Nfs4Error::LocksHeld));
    assert_eq!(free(&mut world, &mut c, open), Err(Nfs4Error::LocksHeld));
    let lock = stateid(&ok(world.call(&mut c, vec![putfh(&file), locku(lock, 0, 1)]))[1]);
    let bad = u32::from(Nfs4Error::BadStateid);
    assert_eq!(
        test_stateids(&mut world, &mut c, &[open, lock, old, stranger, Stateid4::ANONYMOUS]),
        [0, 0, Nfs4Error::OldStateid.into(), bad, bad]
    );
    assert_eq!(free(&mut world, &mut c, lock), Ok(()));
    assert_eq!(free(&mut world, &mut c, lock), Err(Nfs4Error::BadStateid));
    assert_eq!(test_stateids(&mut world, &mut c, &[lock]), [bad]);
    world.close(&mut c, &file, open);
    assert_eq!(test_stateids(&mut world, &mut c, &[open]), [bad]);
    world.nobody_is_accused();
}

/// §8.4.3, §18.38: state that an administrator took away stays known until it is freed.
#[test]
fn revoked_state_says_so_until_it_is_freed() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    let lock = stateid(&ok(world.call(&mut c, vec![putfh(&file), first_lock(open, "l", WRITE, 0, 1)]))[1]);
    Server::revoke_all_state(&mut world.server, Nfs4Error::AdminRevoked);
    let revoked = u32::from(Nfs4Error::AdminRevoked);
    let flag = |world: &mut World, c: &mut Client| {
        let ops = vec![Argop4::Sequence(c.next(0))];
        c.sequence[0] += 1;
        let results = ok(world.send(c, ops));
        let Resop4::Sequence(Ok(done)) = &results[0] else { panic!("{results:?}") };
        done.sr_status_flags
    };
    assert_eq!(flag(&mut world, &mut c), nfs4::ops::session::seq4_status::ADMIN_STATE_REVOKED);
    assert_eq!(world.status(&mut c, vec![putfh(&file), read(open, 0, 1)]), Err(Nfs4Error::AdminRevoked));
    assert_eq!(test_stateids(&mut world, &mut c, &[open, lock]), [revoked, revoked]);
    let (_, again) = world.open(&mut c, "f", 3, Openflag4::NoCreate);
    assert_ne!(again.other, open.other);
    ok(world.call(&mut c, vec![putfh(&file), first_lock(again, "l", WRITE, 0, 1)]));
    assert_eq!(free(&mut world, &mut c, lock), Ok(()));
    assert_eq!(free(&mut world, &mut c, open), Ok(()));
    assert_eq!(flag(&mut world, &mut c), 0);
    world.close(&mut c, &file, again);
    world.nobody_is_accused();
}

/// §18.25.3: OPEN4_RESULT_PRESERVE_UNLINKED: a file that is removed while open lives until it is closed.
#[test]
fn a_removed_file_lives_while_it_is_open_if_the_server_said_so() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    world.write(&mut c, &file, open, 0, b"still here");
    ok(world.call(&mut c, vec![Argop4::Putrootfh, remove("f")]));
    assert_eq!(world.read(&mut c, &file, open, 0, 100), b"still here");
    assert_eq!(world.attrs(&mut c, &file, &[number::NUMLINKS]).numlinks, Some(0));
    world.close(&mut c, &file, open);
    assert_eq!(world.status(&mut c, vec![putfh(&file)]), Err(Nfs4Error::Stale));
    world.nobody_is_accused();
}

/// §18.16.3, §4.2.4: without that promise (OPEN4_RESULT_PRESERVE_UNLINKED) the handle is stale at once.
#[test]
fn a_removed_file_is_stale_at_once_if_nothing_was_promised() {
    let mut world = World::s3files();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    let again = try_open(&mut world, &mut c, open_args("owner", "f", 1, Openflag4::NoCreate)).unwrap();
    assert_eq!(again.rflags & rflags::PRESERVE_UNLINKED, 0);
    ok(world.call(&mut c, vec![Argop4::Putrootfh, remove("f")]));
    assert_eq!(world.status(&mut c, vec![putfh(&file), read(open, 0, 1)]), Err(Nfs4Error::Stale));
    world.nobody_is_accused();
}

/// §18.16.3: share access and deny that make no sense.
#[test]
fn an_open_for_nothing_is_invalid() {
    let mut world = World::full();
    let mut c = world.client("c");
    for (access, deny) in [(0, 0), (1, 4), (1 | 1 << 30, 0)] {
        let mut args = open_args("o", "f", access, unchecked(&Attrs::default()));
        args.share_deny = deny;
        assert_eq!(try_open(&mut world, &mut c, args).unwrap_err(), Nfs4Error::Inval);
        world.accused_of("OPEN with share");
    }
}

/// POSIX and §18.16.3: who opened a file keeps it when its mode changes; a new open goes by the mode.
#[test]
fn an_open_outlives_a_change_of_mode() {
    let mut world = World::full();
    let (mut owner, mut other) = (world.client("a"), Client { uid: 7, gid: 7, ..world.client("b") });
    let (file, _) = world.create_file(&mut owner, "f");
    let (_, open) = world.open(&mut other, "f", 1, Openflag4::NoCreate);
    ok(world.call(&mut owner, vec![putfh(&file), setattr(Stateid4::ANONYMOUS, &attrs(0o600))]));
    assert_eq!(world.read(&mut other, &file, open, 0, 1), b"");
    let anonymous = vec![putfh(&file), read(Stateid4::ANONYMOUS, 0, 1)];
    assert_eq!(world.status(&mut other, anonymous), Err(Nfs4Error::Access));
    let args = open_args("o2", "f", 1, Openflag4::NoCreate);
    assert_eq!(try_open(&mut world, &mut other, args).unwrap_err(), Nfs4Error::Access);
}
