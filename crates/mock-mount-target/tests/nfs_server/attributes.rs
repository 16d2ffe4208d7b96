//! Attributes: asked for, set, compared, and the change attribute (RFC 8881 §5, §18.7, §18.30, §18.15, §18.31; RFC 8275).

use nfs4::Nfs4Error;
use nfs4::attr::{Attrs, ModeMasked4, ModeUmask4, number as n};
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::extended::{Setxattr4args, SetxattrOption4};
use nfs4::ops::file::Verify4args;
use nfs4::ops::v42::Allocate4args;
use nfs4::types::{Bitmap4, NfsFh4, NfsFtype4, Nfstime4, Settime4, StableHow4};

use crate::driver::*;

/// §5.1, §5.2: what a Linux or a Mac client asks for is there, and what is not asked for does not come.
#[test]
fn getattr_brings_what_was_asked_for_and_is_supported() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, _) = world.create_file(&mut c, "f");
    let linux: Vec<u32> = vec![1, 3, 4, 8, 20, 33, 35, 36, 37, 41, 45, 47, 52, 53, 55];
    let got = world.attrs(&mut c, &file, &linux);
    assert_eq!(got.mask(), Bitmap4::of(&linux));
    assert_eq!((got.type_, got.size, got.numlinks), (Some(NfsFtype4::Reg), Some(0), Some(1)));
    assert_eq!(got.owner.unwrap(), "0".into());
    let capabilities =
        [0, 2, 5, 6, 7, 9, 10, 15, 16, 17, 18, 26, 27, 28, 29, 30, 31, 34, 42, 43, 44, 50, 51, 75, 79, 82];
    let got = world.attrs(&mut c, &file, &capabilities);
    assert_eq!(got.mask(), Bitmap4::of(&capabilities));
    let supported = got.supported_attrs.unwrap();
    assert!(linux.iter().chain(&capabilities).all(|bit| supported.contains(*bit)));
    assert_eq!(world.attrs(&mut c, &file, &[n::ACL, n::SIZE, 100]).mask(), Bitmap4::of(&[n::SIZE]));
    let everything: Vec<u32> = supported.iter().filter(|bit| ![48, 54, 74, 81].contains(bit)).collect();
    assert_eq!(world.attrs(&mut c, &file, &everything).mask(), Bitmap4::of(&everything));
    let set_only = vec![putfh(&file), getattr(&[n::TIME_MODIFY_SET])];
    assert_eq!(world.status(&mut c, set_only), Err(Nfs4Error::Inval));
    world.accused_of("can only be set");
}

/// RFC 7862 §12, RFC 8275, RFC 8276: attributes of NFSv4.2 are not there in NFSv4.1.
#[test]
fn attributes_of_a_later_minor_version_are_not_shown_to_an_earlier_one() {
    let mut world = World::full();
    let mut c = Client { minor: 1, ..world.client("c") };
    let (file, _) = world.create_file(&mut c, "f");
    let got = world.attrs(&mut c, &file, &[n::SUPPORTED_ATTRS, n::XATTR_SUPPORT, n::CHANGE_ATTR_TYPE]);
    assert_eq!(got.mask(), Bitmap4::of(&[n::SUPPORTED_ATTRS]));
    assert!(got.supported_attrs.unwrap().iter().all(|bit| bit < 77));
}

/// §18.30.3: all or nothing; what cannot be set, is out of range or is unknown.
#[test]
fn setattr_sets_all_or_nothing() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    let time = Nfstime4 { seconds: -5, nseconds: 999_999_999 };
    let wish = Attrs {
        size: Some(10),
        mode: Some(0o4711),
        owner: Some("12".into()),
        owner_group: Some("34".into()),
        time_access_set: Some(Settime4::ClientTime(time)),
        time_modify_set: Some(Settime4::ClientTime(time)),
        time_create: Some(time),
        ..Attrs::default()
    };
    let results = ok(world.call(&mut c, vec![putfh(&file), setattr(open, &wish)]));
    let Resop4::Setattr(done) = &results[1] else { panic!("{results:?}") };
    assert_eq!(done.attrsset, wish.mask());
    let asked = [n::SIZE, n::MODE, n::OWNER, n::OWNER_GROUP, n::TIME_ACCESS, n::TIME_MODIFY, n::TIME_CREATE];
    let got = world.attrs(&mut c, &file, &asked);
    assert_eq!((got.size, got.mode), (Some(10), Some(0o4711)));
    assert_eq!((got.owner, got.owner_group), (wish.owner, wish.owner_group));
    assert_eq!((got.time_access, got.time_modify, got.time_create), (Some(time), Some(time), Some(time)));
    let bad = Nfstime4 { seconds: 0, nseconds: 1_000_000_000 };
    for (wish, error) in [
        (Attrs { mode: Some(0o600), change: Some(1), ..Attrs::default() }, Nfs4Error::Inval),
        (Attrs { mode: Some(0o600), hidden: Some(true), ..Attrs::default() }, Nfs4Error::Attrnotsupp),
        (Attrs { mode: Some(0o10_000), ..Attrs::default() }, Nfs4Error::Inval),
        (Attrs { mode: Some(0o600), owner: Some("root".into()), ..Attrs::default() }, Nfs4Error::Badowner),
        (
            Attrs { mode: Some(0o600), time_modify_set: Some(Settime4::ClientTime(bad)), ..Attrs::default() },
            Nfs4Error::Inval,
        ),
        (Attrs { mode: Some(0o600), size: Some(u64::MAX), ..Attrs::default() }, Nfs4Error::Fbig),
        (Attrs { mode_umask: Some(ModeUmask4 { mu_mode: 0o600, mu_umask: 0 }), ..Attrs::default() }, Nfs4Error::Inval),
    ] {
        assert_eq!(world.status(&mut c, vec![putfh(&file), set(&wish)]), Err(error));
    }
    assert_eq!(world.attrs(&mut c, &file, &[n::MODE]).mode, Some(0o4711));
    let masked = ModeMasked4 { mm_value_to_set: 0o022, mm_mask_bits: 0o777 };
    ok(world.call(&mut c, vec![putfh(&file), set(&Attrs { mode_set_masked: Some(masked), ..Attrs::default() })]));
    assert_eq!(world.attrs(&mut c, &file, &[n::MODE]).mode, Some(0o4022));
    let truncated = vec![Argop4::Putrootfh, set(&Attrs { size: Some(0), ..Attrs::default() })];
    assert_eq!(world.status(&mut c, truncated), Err(Nfs4Error::Isdir));
}

/// RFC 8275 §4.2: the umask of the creator is applied by the server.
#[test]
fn mode_umask_makes_a_new_file_with_the_umask_taken_off() {
    let mut world = World::full();
    let mut c = world.client("c");
    let wish = Attrs { mode_umask: Some(ModeUmask4 { mu_mode: 0o666, mu_umask: 0o027 }), ..Attrs::default() };
    let (file, _) = world.open(&mut c, "f", 3, unchecked(&wish));
    assert_eq!(world.attrs(&mut c, &file, &[n::MODE]).mode, Some(0o640));
}

/// POSIX chmod, chown, utimensat, as §5.9 and §18.30 leave it to the server.
#[test]
fn only_the_owner_changes_a_mode_and_only_root_gives_files_away() {
    let mut world = World::full();
    let mut root = world.client("root");
    let mut user = Client { uid: 1000, gid: 1000, ..world.client("user") };
    ok(world.call(&mut root, vec![Argop4::Putrootfh, set(&mode(0o777))]));
    let (mine, _) = world.create_file(&mut user, "mine");
    let (theirs, _) = world.create_file(&mut root, "theirs");
    let mut try_set = |file: &NfsFh4, wish: Attrs| world.status(&mut user, vec![putfh(file), set(&wish)]);
    let own = |uid: &str| Attrs { owner: Some(uid.into()), ..Attrs::default() };
    let group = |gid: &str| Attrs { owner_group: Some(gid.into()), ..Attrs::default() };
    assert_eq!(try_set(&mine, mode(0o640)), Ok(()));
    assert_eq!(try_set(&theirs, mode(0o777)), Err(Nfs4Error::Perm));
    assert_eq!(try_set(&mine, own("0")), Err(Nfs4Error::Perm));
    assert_eq!(try_set(&mine, own("1000")), Ok(()));
    assert_eq!(try_set(&mine, group("7")), Err(Nfs4Error::Perm));
    assert_eq!(try_set(&mine, group("1000")), Ok(()));
    let now = Attrs { time_modify_set: Some(Settime4::ServerTime), ..Attrs::default() };
    assert_eq!(try_set(&theirs, now), Err(Nfs4Error::Access));
    let then = Settime4::ClientTime(Nfstime4 { seconds: 1, nseconds: 0 });
    let then = Attrs { time_modify_set: Some(then), ..Attrs::default() };
    assert_eq!(try_set(&theirs, then), Err(Nfs4Error::Perm));
    ok(world.call(&mut root, vec![putfh(&mine), set(&mode(0o6755))]));
    ok(world.call(&mut root, vec![putfh(&mine), set(&own("1001"))]));
    assert_eq!(world.attrs(&mut root, &mine, &[n::MODE]).mode, Some(0o755), "set-user-id does not change hands");
}

/// §5.8.1.4: `change` differs after every change of a file and stays while nothing changes.
#[test]
fn the_change_attribute_changes_with_every_change_and_only_then() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    let changes = [
        write(open, 0, b"x", StableHow4::Unstable4),
        set(&mode(0o600)),
        setattr(open, &Attrs { size: Some(1), ..Attrs::default() }),
        Argop4::Setxattr(Setxattr4args {
            sxa_option: SetxattrOption4::Either,
            sxa_key: "k".into(),
            sxa_value: "v".into(),
        }),
        Argop4::Deallocate(Allocate4args { aa_stateid: open, aa_offset: 0, aa_length: 1 }),
    ];
    let mut last = world.attrs(&mut c, &file, &[n::CHANGE]).change.unwrap();
    for op in changes {
        ok(world.call(&mut c, vec![putfh(&file), op.clone()]));
        let change = world.attrs(&mut c, &file, &[n::CHANGE]).change.unwrap();
        assert!(change > last, "{op:?}");
        last = change;
    }
    for op in [read(open, 0, 1), commit(0, 0), write(open, 0, b"", StableHow4::FileSync4)] {
        ok(world.call(&mut c, vec![putfh(&file), op]));
    }
    assert_eq!(world.attrs(&mut c, &file, &[n::CHANGE]).change, Some(last));
}

/// §18.15, §18.31: VERIFY goes on when the attributes are the same, NVERIFY when they are not.
#[test]
fn verify_and_nverify_are_opposites() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, _) = world.create_file(&mut c, "f");
    let args = |attrs: &Attrs| Verify4args { obj_attributes: fattr(attrs) };
    let same = Attrs { size: Some(0), type_: Some(NfsFtype4::Reg), ..Attrs::default() };
    let other = Attrs { size: Some(1), ..Attrs::default() };
    let mut both = |attrs: &Attrs| {
        let verify = world.status(&mut c, vec![putfh(&file), Argop4::Verify(args(attrs))]);
        let nverify = world.status(&mut c, vec![putfh(&file), Argop4::Nverify(args(attrs))]);
        (verify, nverify)
    };
    assert_eq!(both(&same), (Ok(()), Err(Nfs4Error::Same)));
    assert_eq!(both(&other), (Err(Nfs4Error::NotSame), Ok(())));
    let unknown = Attrs { hidden: Some(true), ..Attrs::default() };
    assert_eq!(both(&unknown), (Err(Nfs4Error::Attrnotsupp), Err(Nfs4Error::Attrnotsupp)));
    let error = Attrs { rdattr_error: Some(0), ..Attrs::default() };
    assert_eq!(both(&error), (Err(Nfs4Error::Inval), Err(Nfs4Error::Inval)));
    world.accused_of("cannot be compared");
}
