//! Delegations and their recall (RFC 8881 §10.2–10.4, §18.6, §18.16, §20.2). Sections are of RFC 8881.

use bytes::Bytes;
use mock_mount_target::nfs::faults::{Action, Rule};
use mock_mount_target::nfs::{Callback, Config, Profile};
use nfs4::Nfs4Error;
use nfs4::attr::{Attrs, number as n};
use nfs4::callback::{CbArgop4, CbCompound4args, CbCompound4res, CbRecall4args, CbResop4, CbSequence4args};
use nfs4::callback::{CbSequence4resok, ReferringCall4};
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::dir::Link4args;
use nfs4::ops::extended::{Setxattr4args, SetxattrOption4};
use nfs4::ops::lock::{FreeStateid4args, TestStateid4args};
use nfs4::ops::open::{
    DelegClaim4, Delegpurge4args, Delegreturn4args, NfsSpaceLimit4, OpenClaim4, OpenClaimDelegateCur4, OpenDelegation4,
    OpenDelegationType4, OpenNoneDelegation4, Openflag4, WantDelegation4args, WhyNoDelegation4, share,
};
use nfs4::ops::session::{BindConnToSession4args, ChannelDirFromClient4, DestroyClientid4args, seq4_status};
use nfs4::types::{NfsFh4, StableHow4, Stateid4};
use nfs4::xdr;
use std::time::Duration;

use crate::driver::*;

const LEASE: Duration = Duration::from_secs(90);
const WANTS_READ: u32 = share::ACCESS_READ | share::WANT_READ_DELEG;
const WANTS_WRITE: u32 = share::ACCESS_BOTH | share::WANT_WRITE_DELEG;

fn world() -> World {
    World::with(Config { delegations: true, ..Config::new(Profile::Full) })
}

/// A file that nobody has open.
fn closed_file(world: &mut World, by: &mut Client, name: &str) -> NfsFh4 {
    let (file, open) = world.create_file(by, name);
    world.write(by, &file, open, 0, b"bytes");
    world.close(by, &file, open);
    file
}

/// Opens a file with a wish; what comes along.
fn open_wishing(world: &mut World, c: &mut Client, name: &str, access: u32) -> (Stateid4, OpenDelegation4) {
    let args = open_args("owner", name, access, Openflag4::NoCreate);
    let results = ok(world.call(c, vec![Argop4::Putrootfh, Argop4::Open(args)]));
    match &results[1] {
        Resop4::Open(Ok(open)) => (open.stateid, open.delegation.clone()),
        other => panic!("{other:?}"),
    }
}

/// Opens a file and gets a delegation of it: the open and the delegation.
fn delegated(world: &mut World, c: &mut Client, name: &str, access: u32) -> (Stateid4, Stateid4) {
    let (open, delegation) = open_wishing(world, c, name, access);
    (open, granted(&delegation))
}

#[track_caller]
fn granted(delegation: &OpenDelegation4) -> Stateid4 {
    match delegation {
        OpenDelegation4::Read(read) => read.stateid,
        OpenDelegation4::Write(write) => write.stateid,
        other => panic!("{other:?}"),
    }
}

fn opening(name: &str, access: u32) -> Vec<Argop4> {
    vec![Argop4::Putrootfh, Argop4::Open(open_args("other", name, access, Openflag4::NoCreate))]
}

fn give_back(file: &NfsFh4, delegation: Stateid4) -> Vec<Argop4> {
    vec![putfh(file), Argop4::Delegreturn(Delegreturn4args { deleg_stateid: delegation })]
}

/// The one callback that is due, which is a CB_RECALL.
#[track_caller]
fn recall(world: &mut World) -> (Callback, CbSequence4args, CbRecall4args) {
    let mut calls = world.server.take_callbacks();
    assert_eq!(calls.len(), 1, "{calls:?}");
    let call = calls.remove(0);
    let args: CbCompound4args = xdr::from_bytes(call.body.clone()).unwrap();
    match &args.argarray[..] {
        [CbArgop4::Sequence(sequence), CbArgop4::Recall(recall)] => (call, sequence.clone(), recall.clone()),
        other => panic!("{other:?}"),
    }
}

fn answer(sequence: &CbSequence4args, status: Result<(), Nfs4Error>) -> Bytes {
    let done = CbSequence4resok {
        csr_sessionid: sequence.csa_sessionid,
        csr_sequenceid: sequence.csa_sequenceid,
        csr_slotid: 0,
        csr_highest_slotid: 0,
        csr_target_highest_slotid: 0,
    };
    let resarray = vec![CbResop4::Sequence(Ok(done)), CbResop4::Recall(status)];
    xdr::to_bytes(&CbCompound4res { status, tag: "".into(), resarray }).unwrap()
}

/// Expects a CB_RECALL and answers it; what was asked for.
#[track_caller]
fn recalled(world: &mut World) -> CbRecall4args {
    let (call, sequence, asked) = recall(world);
    world.server.called_back(&call, Some(answer(&sequence, Ok(()))));
    asked
}

/// §10.2, §18.16.3: only a client that asks for a delegation gets one, and of the kind that its access allows.
#[test]
fn a_delegation_is_given_to_whoever_asks_and_to_nobody_else() {
    let mut world = world();
    let mut c = world.client("c");
    for (name, access, wanted) in [
        ("f", WANTS_READ, OpenDelegationType4::Read),
        ("g", share::ACCESS_READ | share::WANT_ANY_DELEG, OpenDelegationType4::Read),
        ("h", share::ACCESS_BOTH | share::WANT_ANY_DELEG, OpenDelegationType4::Write),
        ("i", WANTS_WRITE, OpenDelegationType4::Write),
    ] {
        let file = closed_file(&mut world, &mut c, name);
        assert_eq!(open_wishing(&mut world, &mut c, name, share::ACCESS_READ).1, OpenDelegation4::None);
        let none = OpenDelegation4::NoneExt(OpenNoneDelegation4::Other(WhyNoDelegation4::NotWanted));
        assert_eq!(open_wishing(&mut world, &mut c, name, share::ACCESS_READ | share::WANT_NO_DELEG).1, none);
        let (open, delegation) = open_wishing(&mut world, &mut c, name, access);
        match (&delegation, wanted) {
            (OpenDelegation4::Read(read), OpenDelegationType4::Read) => assert!(!read.recall),
            (OpenDelegation4::Write(write), OpenDelegationType4::Write) => {
                assert!(!write.recall && matches!(write.space_limit, NfsSpaceLimit4::Filesize(_)));
            }
            other => panic!("{other:?}"),
        }
        ok(world.call(&mut c, give_back(&file, granted(&delegation))));
        world.close(&mut c, &file, open);
    }
    world.nobody_is_accused();
}

/// §10.2.1, §18.16.3: no delegation without a back channel to recall it over, nor where the server gives none.
#[test]
fn no_delegation_is_given_that_could_not_be_recalled() {
    let none = OpenDelegation4::NoneExt(OpenNoneDelegation4::Resource(false));
    let mut world = world();
    let mut c = world.client("c");
    closed_file(&mut world, &mut c, "f");
    world.server.disconnected(c.conn);
    assert_eq!(open_wishing(&mut world, &mut c, "f", WANTS_READ).1, none);
    let mut without = World::full();
    let mut c = without.client("c");
    closed_file(&mut without, &mut c, "f");
    assert_eq!(open_wishing(&mut without, &mut c, "f", WANTS_READ).1, none);
}

/// §18.16.3 (why_no_delegation4): contention, and what the client has already.
#[test]
fn a_refused_delegation_says_why() {
    let mut world = world();
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    let file = closed_file(&mut world, &mut a, "f");
    let contention = OpenDelegation4::NoneExt(OpenNoneDelegation4::Contention(false));
    let (open, _) = open_wishing(&mut world, &mut b, "f", share::ACCESS_BOTH);
    assert_eq!(open_wishing(&mut world, &mut a, "f", WANTS_READ).1, contention);
    world.close(&mut b, &file, open);
    let (open, _) = open_wishing(&mut world, &mut b, "f", share::ACCESS_READ);
    assert_eq!(open_wishing(&mut world, &mut a, "f", WANTS_WRITE).1, contention);
    let (_, delegation) = delegated(&mut world, &mut a, "f", WANTS_READ);
    let why = |why| OpenDelegation4::NoneExt(OpenNoneDelegation4::Other(why));
    assert_eq!(open_wishing(&mut world, &mut a, "f", WANTS_WRITE).1, why(WhyNoDelegation4::NotSuppUpgrade));
    ok(world.call(&mut a, give_back(&file, delegation)));
    world.close(&mut b, &file, open);
    delegated(&mut world, &mut a, "f", WANTS_WRITE);
    assert_eq!(open_wishing(&mut world, &mut a, "f", WANTS_READ).1, why(WhyNoDelegation4::NotSuppDowngrade));
}

/// §10.4.4, §20.2: a clashing OPEN is delayed, the delegation is recalled by its stateid and handle, and once it is
/// returned the OPEN goes through. The holder's own opens clash with nothing.
#[test]
fn a_clashing_open_waits_until_the_delegation_is_returned() {
    let mut world = world();
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    let file = closed_file(&mut world, &mut a, "f");
    let (_, delegation) = delegated(&mut world, &mut a, "f", WANTS_READ);
    ok(world.call(&mut a, opening("f", share::ACCESS_BOTH)));
    let (reading, _) = open_wishing(&mut world, &mut b, "f", share::ACCESS_READ);
    assert!(world.server.take_callbacks().is_empty(), "readers clash with no read delegation");
    // An open for writing by another client would clash with this one's, too.
    world.close(&mut b, &file, reading);
    assert_eq!(world.status(&mut b, opening("f", share::ACCESS_BOTH)), Err(Nfs4Error::Delay));
    let (call, sequence, asked) = recall(&mut world);
    assert_eq!((call.conn, call.session, sequence.csa_sequenceid), (a.conn, a.session, 1));
    assert_eq!((asked.stateid, asked.fh, asked.truncate), (delegation, file.clone(), false));
    world.server.called_back(&call, Some(answer(&sequence, Ok(()))));
    assert_eq!(world.status(&mut b, opening("f", share::ACCESS_BOTH)), Err(Nfs4Error::Delay));
    assert!(world.server.take_callbacks().is_empty(), "asked once is enough");
    ok(world.call(&mut a, give_back(&file, delegation)));
    ok(world.call(&mut b, opening("f", share::ACCESS_BOTH)));
}

/// §10.4: many may hold read delegations of a file, one alone a write delegation; denial of reading clashes with both.
#[test]
fn read_delegations_are_shared_and_a_write_delegation_is_not() {
    let mut world = world();
    let (mut a, mut b, mut c) = (world.client("a"), world.client("b"), world.client("c"));
    let file = closed_file(&mut world, &mut a, "f");
    let (_, first) = delegated(&mut world, &mut a, "f", WANTS_READ);
    let (_, second) = delegated(&mut world, &mut b, "f", WANTS_READ);
    let mut denying = open_args("o", "f", share::ACCESS_READ, Openflag4::NoCreate);
    denying.share_deny = share::DENY_READ;
    let denied = world.status(&mut c, vec![Argop4::Putrootfh, Argop4::Open(denying)]);
    assert_eq!(denied, Err(Nfs4Error::Delay));
    let calls = world.server.take_callbacks();
    assert_eq!(calls.iter().map(|call| call.session).collect::<Vec<_>>().len(), 2);
    ok(world.call(&mut a, give_back(&file, first)));
    ok(world.call(&mut b, give_back(&file, second)));
    let file = closed_file(&mut world, &mut a, "g");
    let (_, write) = delegated(&mut world, &mut c, "g", WANTS_WRITE);
    assert_eq!(world.status(&mut a, opening("g", share::ACCESS_READ)), Err(Nfs4Error::Delay));
    assert_eq!(recalled(&mut world).stateid, write);
    ok(world.call(&mut c, give_back(&file, write)));
    assert!(world.mistakes().is_empty());
}

/// §10.4.4: what others do to a delegated file recalls it: its attributes, its bytes, its names.
#[test]
fn every_change_by_others_recalls_and_none_by_the_holder() {
    let mut world = world();
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    closed_file(&mut world, &mut a, "other");
    let mode = Attrs { mode: Some(0o600), ..Attrs::default() };
    let empty = Attrs { size: Some(0), ..Attrs::default() };
    let linking = Argop4::Link(Link4args { newname: "link".into() });
    let xattr = Argop4::Setxattr(Setxattr4args {
        sxa_option: SetxattrOption4::Either,
        sxa_key: "k".into(),
        sxa_value: "v".into(),
    });
    let root = || Argop4::Putrootfh;
    for (index, kind) in [WANTS_READ, WANTS_WRITE].into_iter().enumerate() {
        let name = format!("f{index}");
        let file = closed_file(&mut world, &mut a, &name);
        let changes = [
            vec![putfh(&file), setattr(Stateid4::ANONYMOUS, &mode)],
            vec![putfh(&file), setattr(Stateid4::ANONYMOUS, &empty)],
            vec![putfh(&file), write(Stateid4::ANONYMOUS, 0, b"x", StableHow4::FileSync4)],
            vec![putfh(&file), xattr.clone()],
            vec![putfh(&file), Argop4::Savefh, root(), linking.clone()],
            vec![root(), Argop4::Savefh, root(), rename(&name, "elsewhere")],
            vec![root(), Argop4::Savefh, root(), rename("other", &name)],
            vec![root(), remove(&name)],
        ];
        for change in changes {
            let (open, delegation) = delegated(&mut world, &mut a, &name, kind);
            assert_eq!(world.status(&mut b, change.clone()), Err(Nfs4Error::Delay), "{change:?}");
            let asked = recalled(&mut world);
            assert_eq!((asked.stateid, asked.fh), (delegation, file.clone()), "{change:?}");
            assert_eq!(asked.truncate, change.contains(&setattr(Stateid4::ANONYMOUS, &empty)), "{change:?}");
            ok(world.call(&mut a, give_back(&file, delegation)));
            world.close(&mut a, &file, open);
        }
        let (open, delegation) = delegated(&mut world, &mut a, &name, kind);
        ok(world.call(&mut a, vec![putfh(&file), setattr(Stateid4::ANONYMOUS, &mode), xattr.clone()]));
        ok(world.call(&mut a, vec![root(), Argop4::Savefh, root(), rename(&name, "moved")]));
        ok(world.call(&mut a, give_back(&file, delegation)));
        world.close(&mut a, &file, open);
    }
    assert!(world.server.take_callbacks().is_empty());
    world.nobody_is_accused();
}

/// §10.4.3: whoever asks for what a writer may have changed behind the server's back makes it write back first.
#[test]
fn a_write_delegation_is_recalled_for_size_and_change_and_reads_of_others() {
    let mut world = world();
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    let file = closed_file(&mut world, &mut a, "f");
    let (_, delegation) = delegated(&mut world, &mut a, "f", WANTS_WRITE);
    world.attrs(&mut a, &file, &[n::SIZE, n::CHANGE]);
    world.attrs(&mut b, &file, &[n::MODE, n::FILEID]);
    assert!(world.server.take_callbacks().is_empty());
    assert_eq!(world.status(&mut b, vec![putfh(&file), getattr(&[n::SIZE])]), Err(Nfs4Error::Delay));
    assert_eq!(recalled(&mut world).stateid, delegation);
    let reading = vec![putfh(&file), read(Stateid4::ANONYMOUS, 0, 1)];
    assert_eq!(world.status(&mut b, reading.clone()), Err(Nfs4Error::Delay));
    ok(world.call(&mut a, give_back(&file, delegation)));
    ok(world.call(&mut b, reading));
    ok(world.call(&mut b, vec![putfh(&file), getattr(&[n::SIZE])]));
}

/// §10.4.5, §10.4.6, §18.38, §18.46.3: what is not returned within a lease is revoked; the client is told by its flags
/// and by DELEG_REVOKED until it lets go, and whoever waited goes on.
#[test]
fn a_delegation_that_is_not_returned_within_a_lease_is_revoked() {
    let mut world = world();
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    let file = closed_file(&mut world, &mut a, "f");
    let (open, delegation) = delegated(&mut world, &mut a, "f", WANTS_READ);
    assert_eq!(world.status(&mut b, opening("f", share::ACCESS_BOTH)), Err(Nfs4Error::Delay));
    recalled(&mut world);
    for _ in 0..3 {
        assert_eq!(flags(&mut world, &mut a) & seq4_status::RECALLABLE_STATE_REVOKED, 0);
        assert_eq!(world.status(&mut b, opening("f", share::ACCESS_BOTH)), Err(Nfs4Error::Delay));
        world.pass(LEASE / 3);
    }
    world.pass(Duration::from_secs(1));
    assert_ne!(flags(&mut world, &mut a) & seq4_status::RECALLABLE_STATE_REVOKED, 0);
    ok(world.call(&mut b, opening("f", share::ACCESS_BOTH)));
    assert_eq!(world.status(&mut a, give_back(&file, delegation)), Err(Nfs4Error::DelegRevoked));
    assert_eq!(world.status(&mut a, vec![putfh(&file), read(delegation, 0, 1)]), Err(Nfs4Error::DelegRevoked));
    let testing = Argop4::TestStateid(TestStateid4args { ts_stateids: vec![open, delegation].into() });
    let results = ok(world.call(&mut a, vec![testing]));
    let Resop4::TestStateid(Ok(tested)) = &results[0] else { panic!("{results:?}") };
    assert_eq!(tested.tsr_status_codes[..], [0, Nfs4Error::DelegRevoked.into()]);
    ok(world.call(&mut a, vec![Argop4::FreeStateid(FreeStateid4args { fsa_stateid: delegation })]));
    assert_eq!(flags(&mut world, &mut a) & seq4_status::RECALLABLE_STATE_REVOKED, 0);
    assert!(world.mistakes().is_empty());
}

/// §10.4.4, §18.16.3 (CLAIM_DELEGATE_CUR, CLAIM_DELEG_CUR_FH): what the holder opened on its own it may tell the server
/// of even while the delegation is being recalled; nobody else may, nothing is created, and nothing new is delegated.
#[test]
fn the_holder_of_a_delegation_turns_its_own_opens_into_the_servers() {
    let mut world = world();
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    let file = closed_file(&mut world, &mut a, "f");
    let other = closed_file(&mut world, &mut a, "other");
    let (_, delegation) = delegated(&mut world, &mut a, "f", WANTS_WRITE);
    assert_eq!(world.status(&mut b, opening("f", share::ACCESS_READ)), Err(Nfs4Error::Delay));
    recalled(&mut world);
    let by_name = |stateid, owner: &str| {
        let mut args = open_args(owner, "f", WANTS_WRITE, Openflag4::NoCreate);
        args.claim = OpenClaim4::DelegateCur(OpenClaimDelegateCur4 { delegate_stateid: stateid, file: "f".into() });
        args
    };
    let by_handle = |stateid, owner: &str| {
        let mut args = open_args(owner, "f", share::ACCESS_BOTH, Openflag4::NoCreate);
        args.claim = OpenClaim4::DelegCurFh(stateid);
        args
    };
    let results = ok(world.call(&mut a, vec![Argop4::Putrootfh, Argop4::Open(by_name(delegation, "p"))]));
    let Resop4::Open(Ok(opened)) = &results[1] else { panic!("{results:?}") };
    assert!(matches!(opened.delegation, OpenDelegation4::NoneExt(_)), "{opened:?}");
    let results = ok(world.call(&mut a, vec![putfh(&file), Argop4::Open(by_handle(delegation, "q"))]));
    world.write(&mut a, &file, stateid(&results[1]), 0, b"mine");
    assert!(world.mistakes().is_empty());
    let refused = world.status(&mut b, vec![putfh(&file), Argop4::Open(by_handle(delegation, "p"))]);
    assert_eq!(refused, Err(Nfs4Error::BadStateid));
    world.accused_of("never gave to this client");
    let refused = world.status(&mut a, vec![putfh(&other), Argop4::Open(by_handle(delegation, "p"))]);
    assert_eq!(refused, Err(Nfs4Error::BadStateid));
    world.accused_of("another file than its own");
    let refused = world.status(&mut a, vec![putfh(&file), Argop4::Open(by_handle(opened.stateid, "p"))]);
    assert_eq!(refused, Err(Nfs4Error::BadStateid));
    world.accused_of("where a delegation's was needed");
    let creating = nfs4::ops::open::Open4args { openhow: unchecked(&Attrs::default()), ..by_name(delegation, "p") };
    let refused = world.status(&mut a, vec![Argop4::Putrootfh, Argop4::Open(creating)]);
    assert_eq!(refused, Err(Nfs4Error::Inval));
    world.accused_of("wants to create");
}

/// §18.5, §18.16.3, §18.49: what goes with delegations that outlive their client is not supported, all of it.
#[test]
fn delegations_do_not_outlive_their_client() {
    let mut world = world();
    let mut c = world.client("c");
    let file = closed_file(&mut world, &mut c, "f");
    let mut by_name = open_args("o", "f", share::ACCESS_READ, Openflag4::NoCreate);
    by_name.claim = OpenClaim4::DelegatePrev("f".into());
    let mut by_handle = by_name.clone();
    by_handle.claim = OpenClaim4::DelegPrevFh;
    for ops in [
        vec![Argop4::Putrootfh, Argop4::Open(by_name)],
        vec![putfh(&file), Argop4::Open(by_handle)],
        vec![Argop4::Delegpurge(Delegpurge4args { clientid: 0 })],
        vec![
            putfh(&file),
            Argop4::WantDelegation(WantDelegation4args {
                wda_want: share::WANT_READ_DELEG,
                wda_claim: DelegClaim4::Fh,
            }),
        ],
    ] {
        assert_eq!(world.status(&mut c, ops.clone()), Err(Nfs4Error::Notsupp), "{ops:?}");
    }
}

/// §18.48, §18.38, §18.50: a delegation that is held is valid, cannot be freed, and keeps its client busy.
#[test]
fn a_held_delegation_is_valid_and_can_only_be_returned() {
    let mut world = world();
    let mut c = world.client("c");
    let file = closed_file(&mut world, &mut c, "f");
    let (open, delegation) = delegated(&mut world, &mut c, "f", WANTS_READ);
    let testing = Argop4::TestStateid(TestStateid4args { ts_stateids: vec![delegation].into() });
    let results = ok(world.call(&mut c, vec![testing]));
    let Resop4::TestStateid(Ok(tested)) = &results[0] else { panic!("{results:?}") };
    assert_eq!(tested.tsr_status_codes[..], [0]);
    let freeing = Argop4::FreeStateid(FreeStateid4args { fsa_stateid: delegation });
    assert_eq!(world.status(&mut c, vec![freeing]), Err(Nfs4Error::LocksHeld));
    world.close(&mut c, &file, open);
    ok(world.call(&mut c, give_back(&file, delegation)));
    world.leave(&mut c);
    world.nobody_is_accused();
}

/// §10.2.1, §18.46.3: without a back channel nothing can be recalled, and the client is told so.
#[test]
fn a_client_without_a_back_channel_is_told_and_its_delegation_revoked_in_the_end() {
    let mut world = world();
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    closed_file(&mut world, &mut a, "f");
    delegated(&mut world, &mut a, "f", WANTS_READ);
    world.server.disconnected(a.conn);
    assert_ne!(flags(&mut world, &mut a) & seq4_status::CB_PATH_DOWN, 0);
    assert_eq!(world.status(&mut b, opening("f", share::ACCESS_BOTH)), Err(Nfs4Error::Delay));
    for _ in 0..2 {
        world.pass(LEASE / 2 + Duration::from_secs(1));
        assert!(world.server.take_callbacks().is_empty());
        flags(&mut world, &mut a);
        flags(&mut world, &mut b);
    }
    ok(world.call(&mut b, opening("f", share::ACCESS_BOTH)));
    assert_ne!(flags(&mut world, &mut a) & seq4_status::RECALLABLE_STATE_REVOKED, 0);
}

/// §9.1.2, §10.4: a delegation's stateid reads, and writes if it is a write delegation's.
#[test]
fn a_delegations_stateid_serves_for_reading_and_for_writing_if_it_is_for_that() {
    let mut world = world();
    let mut c = world.client("c");
    let file = closed_file(&mut world, &mut c, "f");
    let (_, reads) = delegated(&mut world, &mut c, "f", WANTS_READ);
    assert_eq!(world.read(&mut c, &file, reads, 0, 10), b"bytes");
    let writing = vec![putfh(&file), write(reads, 0, b"x", StableHow4::FileSync4)];
    assert_eq!(world.status(&mut c, writing), Err(Nfs4Error::Openmode));
    ok(world.call(&mut c, give_back(&file, reads)));
    let (_, writes) = delegated(&mut world, &mut c, "f", WANTS_WRITE);
    world.write(&mut c, &file, writes, 0, b"BYTES");
    assert_eq!(world.read(&mut c, &file, writes, 0, 10), b"BYTES");
    assert!(world.mistakes().is_empty());
}

/// §8.4.2.1, §10.2.1 (CLAIM_PREVIOUS): after a restart a client reclaims the delegation that it had and no other, and the
/// opens that it made under it.
#[test]
fn a_delegation_is_reclaimed_after_a_restart_by_whoever_had_it() {
    let mut world = world();
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    let file = closed_file(&mut world, &mut a, "f");
    delegated(&mut world, &mut a, "f", WANTS_WRITE);
    let (other, _) = world.create_file(&mut b, "other");
    world.server.restart(world.now, true);
    world.establish(&mut a);
    world.establish(&mut b);
    let reclaim = |owner: &str, kind| {
        let mut args = open_args(owner, "", share::ACCESS_BOTH, Openflag4::NoCreate);
        args.claim = OpenClaim4::Previous(kind);
        Argop4::Open(args)
    };
    for (file, owner, kind) in [
        (&other, "owner", OpenDelegationType4::Write),
        (&other, "owner", OpenDelegationType4::Read),
        (&file, "owner", OpenDelegationType4::None),
    ] {
        let refused = world.status(&mut b, vec![putfh(file), reclaim(owner, kind)]);
        assert_eq!(refused, Err(Nfs4Error::ReclaimBad), "{kind:?}");
    }
    let results = ok(world.call(&mut a, vec![putfh(&file), reclaim("owner", OpenDelegationType4::Write)]));
    let Resop4::Open(Ok(open)) = &results[1] else { panic!("{results:?}") };
    let OpenDelegation4::Write(again) = &open.delegation else { panic!("{open:?}") };
    assert!(!again.recall);
    // An owner that the server never heard of: the client opened for it under the delegation.
    ok(world.call(&mut a, vec![putfh(&file), reclaim("a second owner", OpenDelegationType4::Write)]));
    ok(world.call(&mut b, vec![putfh(&other), reclaim("owner", OpenDelegationType4::None)]));
    ok(world.call(&mut a, vec![reclaim_complete()]));
    ok(world.call(&mut b, vec![reclaim_complete()]));
    assert_eq!(world.status(&mut b, opening("f", share::ACCESS_READ)), Err(Nfs4Error::Delay));
    assert_eq!(recalled(&mut world).stateid, again.stateid);
    ok(world.call(&mut a, give_back(&file, again.stateid)));
    assert!(world.mistakes().is_empty());
}

/// §10.2.1: a delegation that is reclaimed without a back channel is wanted back at once.
#[test]
fn a_delegation_reclaimed_without_a_back_channel_comes_back_as_recalled() {
    let mut world = world();
    let mut c = world.client("c");
    let file = closed_file(&mut world, &mut c, "f");
    delegated(&mut world, &mut c, "f", WANTS_READ);
    world.server.restart(world.now, true);
    world.establish(&mut c);
    world.server.disconnected(c.conn);
    let mut args = open_args("owner", "", share::ACCESS_READ, Openflag4::NoCreate);
    args.claim = OpenClaim4::Previous(OpenDelegationType4::Read);
    let results = ok(world.call(&mut c, vec![putfh(&file), Argop4::Open(args)]));
    let Resop4::Open(Ok(open)) = &results[1] else { panic!("{results:?}") };
    let OpenDelegation4::Read(again) = &open.delegation else { panic!("{open:?}") };
    assert!(again.recall);
    ok(world.call(&mut c, give_back(&file, again.stateid)));
}

/// §2.10.6.3: a recall names the OPEN that gave the delegation as long as its reply may still be on its way.
#[test]
fn a_recall_that_may_overtake_its_open_says_which_call_that_was() {
    let mut world = world();
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    closed_file(&mut world, &mut a, "f");
    delegated(&mut world, &mut a, "f", WANTS_READ);
    assert_eq!(world.status(&mut b, opening("f", share::ACCESS_BOTH)), Err(Nfs4Error::Delay));
    let (_, sequence, _) = recall(&mut world);
    let [list] = &sequence.csa_referring_call_lists[..] else { panic!("{sequence:?}") };
    assert_eq!(list.rcl_sessionid, a.session);
    let by = ReferringCall4 { rc_sequenceid: a.sequence[0], rc_slotid: 0 };
    assert_eq!(list.rcl_referring_calls[..], [by]);
    let mut world = self::world();
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    closed_file(&mut world, &mut a, "f");
    delegated(&mut world, &mut a, "f", WANTS_READ);
    flags(&mut world, &mut a);
    assert_eq!(world.status(&mut b, opening("f", share::ACCESS_BOTH)), Err(Nfs4Error::Delay));
    assert!(recall(&mut world).1.csa_referring_call_lists.is_empty(), "the next call of the slot shows that it came");
}

/// §2.10.6.2, §20.9.3: a recall that got lost is made again as it was, and in another session if that one is gone.
#[test]
fn a_recall_that_got_lost_is_made_again() {
    let mut world = world();
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    let file = closed_file(&mut world, &mut a, "f");
    let (_, delegation) = delegated(&mut world, &mut a, "f", WANTS_READ);
    assert_eq!(world.status(&mut b, opening("f", share::ACCESS_BOTH)), Err(Nfs4Error::Delay));
    let (call, _, _) = recall(&mut world);
    world.server.called_back(&call, None);
    world.server.disconnected(a.conn);
    world.pass(Duration::from_secs(1));
    assert!(world.server.take_callbacks().is_empty(), "there is no back channel");
    a.conn = world.new_conn();
    let binding = Argop4::BindConnToSession(BindConnToSession4args {
        bctsa_sessid: a.session,
        bctsa_dir: ChannelDirFromClient4::ForeOrBoth,
        bctsa_use_conn_in_rdma_mode: false,
    });
    ok(world.send(&a, vec![binding]));
    world.pass(Duration::from_secs(1));
    let (again, _, _) = recall(&mut world);
    assert_eq!((&again.body, again.conn), (&call.body, a.conn));
    world.server.called_back(&again, None);
    let gone = a.session;
    world.create_session(&mut a);
    ok(world.send(&a, vec![destroy_session(gone)]));
    world.pass(Duration::from_secs(1));
    let (elsewhere, sequence, asked) = recall(&mut world);
    assert_eq!((elsewhere.session, sequence.csa_sequenceid, asked.stateid), (a.session, 1, delegation));
    ok(world.call(&mut a, give_back(&file, delegation)));
    assert!(world.mistakes().is_empty());
}

/// §20.2.4: BAD_STATEID is no mistake, since recall and DELEGRETURN may cross; it is asked for again when it is missed.
#[test]
fn a_recall_that_was_refused_is_made_again_when_somebody_waits() {
    let mut world = world();
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    closed_file(&mut world, &mut a, "f");
    let (_, delegation) = delegated(&mut world, &mut a, "f", WANTS_READ);
    for status in [Nfs4Error::BadStateid, Nfs4Error::Badhandle, Nfs4Error::Delay] {
        assert_eq!(world.status(&mut b, opening("f", share::ACCESS_BOTH)), Err(Nfs4Error::Delay));
        let (call, sequence, asked) = recall(&mut world);
        assert_eq!(asked.stateid, delegation);
        world.server.called_back(&call, Some(answer(&sequence, Err(status))));
        assert!(world.mistakes().is_empty());
    }
    assert_eq!(world.status(&mut b, opening("f", share::ACCESS_BOTH)), Err(Nfs4Error::Delay));
    let (call, sequence, _) = recall(&mut world);
    world.server.called_back(&call, Some(answer(&sequence, Err(Nfs4Error::Perm))));
    world.accused_of("a callback answered wrongly");
}

/// §20.2.3: a CB_RECALL of what a client does not hold must be refused with BAD_STATEID or BADHANDLE.
#[test]
fn a_client_that_gives_back_what_it_never_had_is_found_out() {
    for (status, right) in [
        (Err(Nfs4Error::BadStateid), true),
        (Err(Nfs4Error::Badhandle), true),
        (Ok(()), false),
        (Err(Nfs4Error::Notsupp), false),
    ] {
        let mut world = World::s3files();
        world.client("c");
        world.server.recall_unknown();
        let (call, sequence, _) = recall(&mut world);
        world.server.called_back(&call, Some(answer(&sequence, status)));
        if right {
            world.nobody_is_accused();
        } else {
            world.accused_of("never had");
        }
    }
}

/// §10.4.4, §20.2: the plan makes the server want everything back, or something that nobody has.
#[test]
fn a_plan_recalls_at_will() {
    let mut world = world();
    let mut c = world.client("c");
    let file = closed_file(&mut world, &mut c, "f");
    let (_, delegation) = delegated(&mut world, &mut c, "f", WANTS_READ);
    world.server.plan_mut().add(Rule::once(9, Action::Recall));
    world.attrs(&mut c, &file, &[n::SIZE]);
    assert_eq!(recalled(&mut world).stateid, delegation);
    world.server.plan_mut().add(Rule::once(9, Action::RecallUnknown));
    world.attrs(&mut c, &file, &[n::SIZE]);
    let (call, sequence, asked) = recall(&mut world);
    assert_ne!(asked.stateid, delegation);
    world.server.called_back(&call, Some(answer(&sequence, Err(Nfs4Error::BadStateid))));
    ok(world.call(&mut c, give_back(&file, delegation)));
    assert!(world.mistakes().is_empty());
}

/// §18.6, §18.50: a delegation that is still there at the end, or used after DELEGRETURN, is its client's mistake.
#[test]
fn a_delegation_kept_at_the_end_or_used_after_its_return_is_a_mistake() {
    let mut world = world();
    let mut c = world.client("c");
    let file = closed_file(&mut world, &mut c, "f");
    let (open, delegation) = delegated(&mut world, &mut c, "f", WANTS_READ);
    world.close(&mut c, &file, open);
    let session = c.session;
    ok(world.send(&c, vec![destroy_session(session)]));
    let leaving = Argop4::DestroyClientid(DestroyClientid4args { dca_clientid: c.id });
    assert_eq!(world.send(&c, vec![leaving]).status, Err(Nfs4Error::ClientidBusy));
    world.accused_of("never returned");
    world.create_session(&mut c);
    ok(world.call(&mut c, give_back(&file, delegation)));
    for ops in [vec![putfh(&file), read(delegation, 0, 1)], give_back(&file, delegation)] {
        assert_eq!(world.status(&mut c, ops), Err(Nfs4Error::BadStateid));
        world.accused_of("closed, freed or returned");
    }
}

/// §10.4, §18.25: a removed file that is delegated stays until the delegation is returned.
#[test]
fn a_delegated_file_that_its_holder_removed_stays_until_it_is_returned() {
    let mut world = world();
    let mut c = world.client("c");
    let file = closed_file(&mut world, &mut c, "f");
    let (open, delegation) = delegated(&mut world, &mut c, "f", WANTS_READ);
    ok(world.call(&mut c, vec![Argop4::Putrootfh, remove("f")]));
    world.close(&mut c, &file, open);
    assert_eq!(world.read(&mut c, &file, delegation, 0, 10), b"bytes");
    ok(world.call(&mut c, give_back(&file, delegation)));
    assert_eq!(world.status(&mut c, vec![putfh(&file)]), Err(Nfs4Error::Stale));
}

/// §8.3: with the lease go the delegations, and whoever waited goes on.
#[test]
fn the_delegations_of_a_silent_client_go_with_its_lease() {
    let mut world = world();
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    closed_file(&mut world, &mut a, "f");
    delegated(&mut world, &mut a, "f", WANTS_WRITE);
    world.pass(LEASE / 2);
    assert_eq!(world.status(&mut b, opening("f", share::ACCESS_READ)), Err(Nfs4Error::Delay));
    world.pass(LEASE / 2 + Duration::from_secs(1));
    ok(world.call(&mut b, opening("f", share::ACCESS_READ)));
    assert!(world.mistakes().is_empty());
}
