//! Attributes, names, directories, bytes, holes, extended attributes (RFC 8881 §5, §18; RFC 7862 §15; RFC 8276).

use mock_mount_target::nfs::config::Config;
use mock_mount_target::nfs::faults::{Action, Rule};
use mock_mount_target::nfs::{Identity, Profile};
use nfs4::Nfs4Error;
use nfs4::attr::{Attrs, ModeMasked4, ModeUmask4, number as n};
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::dir::{
    Createtype4, Dirlist4, Link4args, Readdir4args, Readdir4resok, Secinfo4, Secinfo4args, SecinfoStyle4,
};
use nfs4::ops::extended::{
    Getxattr4args, Listxattrs4args, Listxattrs4resok, Removexattr4args, Setxattr4args, SetxattrOption4,
};
use nfs4::ops::file::{Access4args, Read4args, Verify4args, access};
use nfs4::ops::v42::{
    Allocate4args, Clone4args, Copy4args, Copy4res, DataContent4, IoAdvise4args, Netloc4, ReadPlusContent, Seek4args,
};
use nfs4::types::{
    Bitmap4, ChangeInfo4, NfsFh4, NfsFtype4, Nfstime4, Settime4, Specdata4, StableHow4, Stateid4, Verifier4,
};
use nfs4::xdr;

use crate::driver::*;

const BLOCK: u64 = 65_536;

fn set(attrs: &Attrs) -> Argop4 {
    setattr(Stateid4::ANONYMOUS, attrs)
}

fn mode(mode: u32) -> Attrs {
    Attrs { mode: Some(mode), ..Attrs::default() }
}

fn page(world: &mut World, c: &mut Client, dir: &NfsFh4, args: Readdir4args) -> Result<Readdir4resok, Nfs4Error> {
    let result = world.call(c, vec![putfh(dir), Argop4::Readdir(args)]);
    match result.resarray.into_iter().nth(1) {
        Some(Resop4::Readdir(page)) => page,
        other => panic!("{other:?}"),
    }
}

fn from(cookie: u64, cookieverf: Verifier4, maxcount: u32) -> Readdir4args {
    Readdir4args { cookie, cookieverf, dircount: 0, maxcount, attr_request: Bitmap4::of(&[n::FILEID]) }
}

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

/// RFC 8275: the umask of the creator is applied by the server.
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

/// §18.4, §18.25, §18.26, §18.9: `change_info4` is atomic and fits the directory's `change` before and after.
#[test]
fn change_info_joins_the_directorys_change_before_and_after() {
    let mut world = World::full();
    let mut c = world.client("c");
    let dir = world.mkdir(&mut c, "d");
    world.create_file(&mut c, "f");
    let root = |op| vec![Argop4::Putrootfh, Argop4::Savefh, putfh(&dir), op];
    let steps = [
        vec![putfh(&dir), create(Createtype4::DIR, "a")],
        vec![putfh(&dir), Argop4::Savefh, rename("a", "b")],
        root(rename("f", "f")),
        vec![putfh(&dir), lookup("f"), Argop4::Savefh, putfh(&dir), Argop4::Link(Link4args { newname: "g".into() })],
        vec![putfh(&dir), remove("g")],
    ];
    let mut last = world.attrs(&mut c, &dir, &[n::CHANGE]).change.unwrap();
    for step in steps {
        let results = ok(world.call(&mut c, step));
        let info: ChangeInfo4 = match results.last().unwrap() {
            Resop4::Create(Ok(done)) => done.cinfo,
            Resop4::Rename(Ok(done)) => done.target_cinfo,
            Resop4::Link(Ok(done)) => done.cinfo,
            Resop4::Remove(Ok(done)) => done.cinfo,
            other => panic!("{other:?}"),
        };
        assert!(info.atomic && info.before == last && info.after > last, "{info:?} after {last}");
        last = world.attrs(&mut c, &dir, &[n::CHANGE]).change.unwrap();
        assert_eq!(info.after, last);
    }
}

/// §14.4, §14.5, §18.13: names.
#[test]
fn names_are_checked_wherever_they_stand() {
    let mut world = World::full();
    let mut c = world.client("c");
    let long = "x".repeat(256);
    for (name, error) in [
        ("", Nfs4Error::Inval),
        (".", Nfs4Error::Badname),
        ("..", Nfs4Error::Badname),
        ("a/b", Nfs4Error::Badchar),
        ("a\0", Nfs4Error::Badchar),
        (long.as_str(), Nfs4Error::Nametoolong),
    ] {
        let open = Argop4::Open(open_args("o", name, 1, unchecked(&Attrs::default())));
        let ops = [lookup(name), create(Createtype4::DIR, name), remove(name), open];
        for op in ops {
            assert_eq!(world.status(&mut c, vec![Argop4::Putrootfh, op]), Err(error), "{name}");
        }
        for op in [rename(name, "b"), rename("b", name)] {
            assert_eq!(world.status(&mut c, vec![Argop4::Putrootfh, Argop4::Savefh, op]), Err(error), "{name}");
        }
    }
    world.accused_of("a name that no component has");
    let longest = "y".repeat(255);
    let dir = world.mkdir(&mut c, &longest);
    let found = ok(world.call(&mut c, vec![Argop4::Putrootfh, lookup(&longest), Argop4::Getfh]));
    assert_eq!(handle(&found[2]), dir);
}

/// §18.13, §18.14: LOOKUP and LOOKUPP, and what is no directory.
#[test]
fn lookup_goes_down_and_lookupp_up_to_the_root_and_no_further() {
    let mut world = World::full();
    let mut c = world.client("c");
    let dir = world.mkdir(&mut c, "d");
    world.create_file(&mut c, "f");
    ok(world.call(&mut c, vec![Argop4::Putrootfh, create(Createtype4::Lnk("d".into()), "l")]));
    let up = ok(world.call(&mut c, vec![putfh(&dir), Argop4::Lookupp, lookup("d"), Argop4::Getfh]));
    assert_eq!(handle(&up[3]), dir);
    let down = |ops: Vec<Argop4>| [vec![Argop4::Putrootfh], ops].concat();
    assert_eq!(world.status(&mut c, down(vec![Argop4::Lookupp])), Err(Nfs4Error::Noent));
    assert_eq!(world.status(&mut c, down(vec![lookup("x")])), Err(Nfs4Error::Noent));
    assert_eq!(world.status(&mut c, down(vec![lookup("f"), lookup("x")])), Err(Nfs4Error::Notdir));
    assert_eq!(world.status(&mut c, down(vec![lookup("l"), lookup("x")])), Err(Nfs4Error::Symlink));
    assert_eq!(world.status(&mut c, down(vec![lookup("f"), Argop4::Lookupp])), Err(Nfs4Error::Notdir));
}

/// §18.8, §18.19, §18.27, §18.28, §4.2: file handles.
#[test]
fn handles_are_put_saved_and_restored_and_false_ones_are_known() {
    let mut world = World::full();
    let mut c = world.client("c");
    let dir = world.mkdir(&mut c, "d");
    for op in [Argop4::Getfh, Argop4::Savefh, Argop4::Restorefh, getattr(&[1]), lookup("d"), commit(0, 0)] {
        assert_eq!(world.status(&mut c, vec![op]), Err(Nfs4Error::Nofilehandle));
    }
    let back = vec![putfh(&dir), Argop4::Savefh, Argop4::Lookupp, getattr(&[1]), Argop4::Restorefh, Argop4::Getfh];
    assert_eq!(handle(&ok(world.call(&mut c, back))[5]), dir);
    world.nobody_is_accused();
    ok(world.call(&mut c, vec![Argop4::Putrootfh, remove("d")]));
    assert_eq!(world.status(&mut c, vec![putfh(&dir)]), Err(Nfs4Error::Stale));
    world.nobody_is_accused();
    let mut false_one = dir.0.to_vec();
    false_one[9] ^= 1;
    assert_eq!(world.status(&mut c, vec![putfh(&NfsFh4(false_one.into()))]), Err(Nfs4Error::Badhandle));
    world.accused_of("a handle that the server never made");
}

/// §18.23.3: pages of any size show each entry once, and `eof` comes with the last.
#[test]
fn readdir_pages_show_every_entry_once_within_maxcount() {
    let mut world = World::full();
    let mut c = world.client("c");
    let dir = world.mkdir(&mut c, "d");
    for i in 0..50 {
        ok(world.call(&mut c, vec![putfh(&dir), create(Createtype4::DIR, &format!("entry{i:03}"))]));
    }
    for maxcount in [100, 200, 1000, 100_000] {
        let (mut names, mut cookie, mut verifier) = (Vec::new(), 0, Verifier4::default());
        loop {
            let page = page(&mut world, &mut c, &dir, from(cookie, verifier, maxcount)).unwrap();
            let bytes = xdr::to_bytes(&page).unwrap().len();
            assert!(bytes <= maxcount as usize, "{bytes} bytes where {maxcount} were asked for");
            let last = page.reply.entries.last().expect("a page without entries");
            (cookie, verifier) = (last.cookie, page.cookieverf);
            assert!(cookie > 2, "cookies 0 to 2 are not given out");
            names.extend(page.reply.entries.iter().map(|entry| entry.name.clone()));
            if page.reply.eof {
                break;
            }
        }
        assert_eq!(names.len(), 50);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 50);
        let behind = page(&mut world, &mut c, &dir, from(cookie, verifier, maxcount)).unwrap();
        assert_eq!(behind.reply, Dirlist4 { entries: Vec::new(), eof: true });
    }
    assert_eq!(page(&mut world, &mut c, &dir, from(0, Verifier4::default(), 40)), Err(Nfs4Error::Toosmall));
    let hint = Readdir4args { dircount: 60, ..from(0, Verifier4::default(), 8192) };
    let few = page(&mut world, &mut c, &dir, hint).unwrap().reply.entries.len();
    assert!((1..50).contains(&few));
    world.nobody_is_accused();
}

/// §18.23.3: a cookie stays good when its entry and others are removed.
#[test]
fn cookies_survive_removals() {
    let mut world = World::full();
    let mut c = world.client("c");
    let dir = world.mkdir(&mut c, "d");
    for name in ["a", "b", "c", "d"] {
        ok(world.call(&mut c, vec![putfh(&dir), create(Createtype4::DIR, name)]));
    }
    let all = page(&mut world, &mut c, &dir, from(0, Verifier4::default(), 8192)).unwrap();
    for name in ["a", "b", "d"] {
        ok(world.call(&mut c, vec![putfh(&dir), remove(name)]));
    }
    let rest = page(&mut world, &mut c, &dir, from(all.reply.entries[1].cookie, all.cookieverf, 8192)).unwrap();
    let names: Vec<_> = rest.reply.entries.iter().map(|entry| entry.name.clone()).collect();
    assert_eq!(names, ["c".into()]);
    world.nobody_is_accused();
}

/// §18.23.4: cookies and verifiers that the server did not give out; what is no directory.
#[test]
fn readdir_refuses_made_up_cookies_and_other_verifiers() {
    let mut world = World::full();
    let mut c = world.client("c");
    let dir = world.mkdir(&mut c, "d");
    let (file, _) = world.create_file(&mut c, "f");
    ok(world.call(&mut c, vec![putfh(&dir), create(Createtype4::DIR, "a")]));
    let all = page(&mut world, &mut c, &dir, from(0, Verifier4::default(), 8192)).unwrap();
    let cookie = all.reply.entries[0].cookie;
    assert_eq!(page(&mut world, &mut c, &dir, from(cookie + 1, all.cookieverf, 8192)), Err(Nfs4Error::BadCookie));
    world.accused_of("never given out");
    assert_eq!(page(&mut world, &mut c, &dir, from(cookie, Verifier4([1; 8]), 8192)), Err(Nfs4Error::NotSame));
    world.accused_of("did not come with the cookie");
    assert_eq!(page(&mut world, &mut c, &file, from(0, all.cookieverf, 8192)), Err(Nfs4Error::Notdir));
}

/// §5.8.1.12: an error of one entry stands in `rdattr_error`, if that was asked for.
#[test]
fn an_entry_with_an_error_says_so_or_fails_the_listing() {
    let mut world = World::full();
    let mut c = world.client("c");
    world.create_file(&mut c, "bad");
    world.create_file(&mut c, "good");
    let file = world.server.file_at("bad").unwrap();
    world.server.set_broken(file, Some(Nfs4Error::Io));
    let list = |bits: &[u32]| vec![Argop4::Putrootfh, readdir(0, Verifier4::default(), 8192, bits)];
    let results = ok(world.call(&mut c, list(&[n::SIZE, n::RDATTR_ERROR])));
    let Resop4::Readdir(Ok(done)) = &results[1] else { panic!("{results:?}") };
    let attrs: Vec<_> = done.reply.entries.iter().map(|entry| Attrs::from_fattr4(&entry.attrs).unwrap()).collect();
    assert_eq!((attrs[0].entry_error(), attrs[0].size), (Some(Nfs4Error::Io), None));
    assert_eq!((attrs[1].entry_error(), attrs[1].size), (None, Some(0)));
    assert_eq!(world.status(&mut c, list(&[n::SIZE])), Err(Nfs4Error::Io));
}

/// §18.26.3: RENAME onto files and empty directories; across directories; onto oneself.
#[test]
fn rename_replaces_files_and_empty_directories_of_its_own_kind() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (full, empty) = (world.mkdir(&mut c, "full"), world.mkdir(&mut c, "empty"));
    world.mkdir(&mut c, "dir");
    ok(world.call(&mut c, vec![putfh(&full), create(Createtype4::DIR, "sub")]));
    let (f, open_f) = world.create_file(&mut c, "f");
    let (g, open_g) = world.create_file(&mut c, "g");
    world.close(&mut c, &f, open_f);
    world.close(&mut c, &g, open_g);
    let mut moved = |from: Option<&NfsFh4>, to: Option<&NfsFh4>, old: &str, new: &str| {
        let put = |dir: Option<&NfsFh4>| dir.map_or(Argop4::Putrootfh, putfh);
        world.status(&mut c, vec![put(from), Argop4::Savefh, put(to), rename(old, new)])
    };
    assert_eq!(moved(None, None, "x", "y"), Err(Nfs4Error::Noent));
    assert_eq!(moved(None, None, "f", "dir"), Err(Nfs4Error::Exist));
    assert_eq!(moved(None, None, "dir", "f"), Err(Nfs4Error::Exist));
    assert_eq!(moved(None, None, "dir", "full"), Err(Nfs4Error::Exist));
    assert_eq!(moved(None, Some(&full), "full", "inside"), Err(Nfs4Error::Inval));
    assert_eq!(moved(None, Some(&f), "g", "x"), Err(Nfs4Error::Notdir));
    assert_eq!(moved(None, None, "g", "g"), Ok(()));
    assert_eq!(moved(None, None, "dir", "empty"), Ok(()));
    assert_eq!(moved(None, Some(&full), "f", "f"), Ok(()));
    assert_eq!(moved(Some(&full), None, "f", "g"), Ok(()));
    let found = ok(world.call(&mut c, vec![Argop4::Putrootfh, lookup("g"), Argop4::Getfh]));
    assert_eq!(handle(&found[2]), f);
    for gone in [&g, &empty] {
        assert_eq!(world.status(&mut c, vec![putfh(gone)]), Err(Nfs4Error::Stale));
    }
    world.nobody_is_accused();
}

/// §18.25: REMOVE of a directory that is not empty, and link counts.
#[test]
fn remove_takes_empty_directories_and_one_link_of_a_file() {
    let mut world = World::full();
    let mut c = world.client("c");
    let dir = world.mkdir(&mut c, "d");
    let (file, open) = world.create_file(&mut c, "f");
    world.close(&mut c, &file, open);
    let link = Argop4::Link(Link4args { newname: "l".into() });
    ok(world.call(&mut c, vec![putfh(&file), Argop4::Savefh, putfh(&dir), link.clone()]));
    assert_eq!(world.attrs(&mut c, &file, &[n::NUMLINKS]).numlinks, Some(2));
    assert_eq!(world.status(&mut c, vec![Argop4::Putrootfh, remove("d")]), Err(Nfs4Error::Notempty));
    ok(world.call(&mut c, vec![Argop4::Putrootfh, remove("f")]));
    assert_eq!(world.attrs(&mut c, &file, &[n::NUMLINKS]).numlinks, Some(1));
    ok(world.call(&mut c, vec![putfh(&dir), remove("l")]));
    assert_eq!(world.status(&mut c, vec![putfh(&file)]), Err(Nfs4Error::Stale));
    ok(world.call(&mut c, vec![Argop4::Putrootfh, remove("d")]));
    assert_eq!(world.status(&mut c, vec![Argop4::Putrootfh, remove("d")]), Err(Nfs4Error::Noent));
    let other = world.mkdir(&mut c, "e");
    let linked = vec![putfh(&other), Argop4::Savefh, Argop4::Putrootfh, link];
    assert_eq!(world.status(&mut c, linked), Err(Nfs4Error::Isdir));
}

/// §18.4.3: what CREATE makes; READLINK (§18.24) of what it made.
#[test]
fn create_makes_everything_but_regular_files() {
    let mut world = World::full();
    let mut c = world.client("c");
    let device = Specdata4 { specdata1: 8, specdata2: 1 };
    let kinds = [
        (Createtype4::DIR, NfsFtype4::Dir),
        (Createtype4::Lnk("some/where".into()), NfsFtype4::Lnk),
        (Createtype4::Other(NfsFtype4::Fifo), NfsFtype4::Fifo),
        (Createtype4::Other(NfsFtype4::Sock), NfsFtype4::Sock),
        (Createtype4::Blk(device), NfsFtype4::Blk),
        (Createtype4::Chr(device), NfsFtype4::Chr),
    ];
    for (i, (kind, ftype)) in kinds.into_iter().enumerate() {
        let name = format!("n{i}");
        let ops = vec![Argop4::Putrootfh, create(kind, &name), getattr(&[n::TYPE, n::RAWDEV])];
        let attrs = attrs_of(&ok(world.call(&mut c, ops))[2]);
        assert_eq!(attrs.type_, Some(ftype));
        let is_device = matches!(ftype, NfsFtype4::Blk | NfsFtype4::Chr);
        assert_eq!(attrs.rawdev == Some(device), is_device);
    }
    let link = ok(world.call(&mut c, vec![Argop4::Putrootfh, lookup("n1"), Argop4::Readlink]));
    assert!(matches!(&link[2], Resop4::Readlink(Ok(done)) if &done.link[..] == b"some/where"));
    let make = |kind, name| vec![Argop4::Putrootfh, create(kind, name)];
    assert_eq!(world.status(&mut c, make(Createtype4::Other(NfsFtype4::Reg), "r")), Err(Nfs4Error::Badtype));
    assert_eq!(world.status(&mut c, make(Createtype4::DIR, "n0")), Err(Nfs4Error::Exist));
    assert_eq!(world.status(&mut c, make(Createtype4::Lnk("".into()), "e")), Err(Nfs4Error::Inval));
    let wrong = vec![Argop4::Putrootfh, lookup("n2"), Argop4::Readlink];
    assert_eq!(world.status(&mut c, wrong), Err(Nfs4Error::WrongType));
}

/// §18.22.3: READ at, over and behind the end; and of what has no bytes.
#[test]
fn read_stops_at_the_end_and_says_so() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    world.write(&mut c, &file, open, 0, b"0123456789");
    for (offset, count, bytes, eof) in [
        (0, 10, &b"0123456789"[..], true),
        (0, 9, b"012345678", false),
        (5, 100, b"56789", true),
        (10, 1, b"", true),
        (u64::MAX, 10, b"", true),
        (3, 0, b"", false),
    ] {
        let results = ok(world.call(&mut c, vec![putfh(&file), read(open, offset, count)]));
        let Resop4::Read(Ok(done)) = &results[1] else { panic!("{results:?}") };
        assert_eq!((&done.data[..], done.eof), (bytes, eof), "{offset} {count}");
    }
    let directory = vec![Argop4::Putrootfh, read(Stateid4::ANONYMOUS, 0, 1)];
    assert_eq!(world.status(&mut c, directory), Err(Nfs4Error::Isdir));
}

/// §18.32.3: holes before a write, stability, limits, space.
#[test]
fn write_extends_the_file_and_keeps_within_the_limits() {
    let mut world = World::with(Config { capacity: 100_000, ..Config::new(Profile::Full) });
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    for (stable, committed) in [
        (StableHow4::Unstable4, StableHow4::Unstable4),
        (StableHow4::DataSync4, StableHow4::FileSync4),
        (StableHow4::FileSync4, StableHow4::FileSync4),
    ] {
        let results = ok(world.call(&mut c, vec![putfh(&file), write(open, 5, b"abc", stable)]));
        let Resop4::Write(Ok(done)) = &results[1] else { panic!("{results:?}") };
        assert_eq!((done.count, done.committed), (3, committed));
    }
    assert_eq!(world.read(&mut c, &file, open, 0, 100), b"\0\0\0\0\0abc");
    let mut at = |offset, len: usize| {
        world.status(&mut c, vec![putfh(&file), write(open, offset, &vec![1; len], StableHow4::Unstable4)])
    };
    assert_eq!(at(u64::MAX, 2), Err(Nfs4Error::Fbig));
    assert_eq!(at(i64::MAX as u64, 1), Err(Nfs4Error::Fbig));
    assert_eq!(at(0, 100_001), Err(Nfs4Error::Nospc));
    assert_eq!(at(1 << 40, 10), Ok(()));
    assert_eq!(
        world.status(&mut c, vec![putfh(&file), write(open, 0, b"x", StableHow4::Unknown(9))]),
        Err(Nfs4Error::Inval)
    );
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

/// §18.1.3, RFC 8276 §8.5: ACCESS tells what the mode bits grant, of what makes sense for the kind of file.
#[test]
fn access_tells_what_the_caller_may_do() {
    let mut world = World::full();
    let mut root = world.client("root");
    let mut user = Client { uid: 7, gid: 7, ..world.client("user") };
    let (file, _) = world.create_file(&mut root, "f");
    ok(world.call(&mut root, vec![putfh(&file), set(&mode(0o645))]));
    let mut ask = |c: &mut Client, op: Argop4| {
        let results = ok(world.call(c, vec![op, Argop4::Access(Access4args { access: 0xffff })]));
        let Resop4::Access(Ok(done)) = &results[1] else { panic!("{results:?}") };
        (done.supported, done.access)
    };
    let (supported, granted) = ask(&mut user, putfh(&file));
    assert_eq!(granted, access::READ | access::EXECUTE | access::XAREAD | access::XALIST);
    assert_eq!(supported & (access::LOOKUP | access::DELETE), 0);
    let (supported, granted) = ask(&mut user, Argop4::Putrootfh);
    assert_eq!(granted, access::READ | access::LOOKUP | access::XAREAD | access::XALIST);
    assert_eq!(supported & access::EXECUTE, 0);
    let (supported, granted) = ask(&mut root, Argop4::Putrootfh);
    assert_eq!(supported, granted);
    user.minor = 1;
    assert_eq!(ask(&mut user, putfh(&file)).0 & (access::XAREAD | access::XAWRITE | access::XALIST), 0);
}

/// POSIX and §18.25, §18.26: write permission on directories, and the sticky bit.
#[test]
fn names_are_made_and_removed_only_where_the_directory_allows() {
    let mut world = World::full();
    let mut root = world.client("root");
    let mut user = Client { uid: 7, gid: 7, ..world.client("user") };
    let dir = world.mkdir(&mut root, "d");
    let make = |name: &str| vec![putfh(&dir), create(Createtype4::DIR, name)];
    let take = |name: &str| vec![putfh(&dir), remove(name)];
    ok(world.call(&mut root, make("roots")));
    assert_eq!(world.status(&mut user, make("users")), Err(Nfs4Error::Access));
    assert_eq!(world.status(&mut user, take("roots")), Err(Nfs4Error::Access));
    ok(world.call(&mut root, vec![putfh(&dir), set(&mode(0o1777))]));
    ok(world.call(&mut user, make("users")));
    assert_eq!(world.status(&mut user, take("roots")), Err(Nfs4Error::Perm));
    ok(world.call(&mut user, take("users")));
    ok(world.call(&mut root, vec![putfh(&dir), set(&mode(0o744))]));
    assert_eq!(world.status(&mut user, vec![putfh(&dir), lookup("roots")]), Err(Nfs4Error::Access));
    ok(world.call(&mut user, vec![putfh(&dir), readdir(0, Verifier4::default(), 8192, &[])]));
    ok(world.call(&mut root, vec![putfh(&dir), set(&mode(0o2777))]));
    ok(world.call(&mut root, vec![putfh(&dir), set(&Attrs { owner_group: Some("55".into()), ..Attrs::default() })]));
    let made = [make("sub"), vec![getattr(&[n::MODE, n::OWNER_GROUP])]].concat();
    let attrs = attrs_of(&ok(world.call(&mut user, made))[2]);
    assert_eq!(attrs.owner_group, Some("55".into()));
    assert_ne!(attrs.mode.unwrap() & 0o2000, 0, "set-group-id goes on to subdirectories");
}

/// §18.29, §18.45, §2.6.3.1.1.8: SECINFO and SECINFO_NO_NAME name AUTH_SYS and consume the current handle.
#[test]
fn secinfo_consumes_the_current_file_handle() {
    let mut world = World::full();
    let mut c = world.client("c");
    let dir = world.mkdir(&mut c, "d");
    let by_name = |name: &str| Argop4::Secinfo(Secinfo4args { name: name.into() });
    for op in [by_name("d"), Argop4::SecinfoNoName(SecinfoStyle4::CurrentFh)] {
        let result = world.call(&mut c, vec![Argop4::Putrootfh, op, Argop4::Getfh]);
        assert_eq!(result.status, Err(Nfs4Error::Nofilehandle));
        match &result.resarray[1] {
            Resop4::Secinfo(Ok(flavors)) | Resop4::SecinfoNoName(Ok(flavors)) => {
                assert_eq!(flavors.0, [Secinfo4::Flavor(1)]);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.status(&mut c, vec![Argop4::Putrootfh, by_name("x")]), Err(Nfs4Error::Noent));
    let parent = Argop4::SecinfoNoName(SecinfoStyle4::Parent);
    assert_eq!(world.status(&mut c, vec![Argop4::Putrootfh, parent.clone()]), Err(Nfs4Error::Noent));
    ok(world.call(&mut c, vec![putfh(&dir), parent]));
}

/// RFC 7862 §15.11, §15.1, §15.4, §15.10: holes are found, made and filled.
#[test]
fn holes_are_found_made_and_filled() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    world.write(&mut c, &file, open, 0, &vec![1; 2 * BLOCK as usize]);
    world.write(&mut c, &file, open, 5 * BLOCK, &[2; 10]);
    let mut seek = |world: &mut World, offset, what| {
        let args = Seek4args { sa_stateid: open, sa_offset: offset, sa_what: what };
        match world.call(&mut c, vec![putfh(&file), Argop4::Seek(args)]).resarray.pop() {
            Some(Resop4::Seek(done)) => done.map(|done| (done.sr_offset, done.sr_eof)),
            other => panic!("{other:?}"),
        }
    };
    let (data, hole) = (DataContent4::Data, DataContent4::Hole);
    assert_eq!(seek(&mut world, 0, hole), Ok((2 * BLOCK, false)));
    assert_eq!(seek(&mut world, 2 * BLOCK + 1, data), Ok((5 * BLOCK, false)));
    assert_eq!(seek(&mut world, 5 * BLOCK, hole), Ok((5 * BLOCK + 10, true)));
    assert_eq!(seek(&mut world, 5 * BLOCK + 10, data), Err(Nfs4Error::Nxio));
    assert_eq!(seek(&mut world, 0, DataContent4::Unknown(5)), Err(Nfs4Error::UnionNotsupp));
    let range = |aa_offset, aa_length| Allocate4args { aa_stateid: open, aa_offset, aa_length };
    let used = |world: &mut World, c: &mut Client| world.attrs(c, &file, &[n::SPACE_USED]).space_used.unwrap();
    ok(world.call(&mut c, vec![putfh(&file), Argop4::Deallocate(range(10, BLOCK + 10))]));
    assert_eq!(world.read(&mut c, &file, open, 5, 10), [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]);
    let before = used(&mut world, &mut c);
    ok(world.call(&mut c, vec![putfh(&file), Argop4::Deallocate(range(0, BLOCK))]));
    assert_eq!(used(&mut world, &mut c), before - BLOCK);
    ok(world.call(&mut c, vec![putfh(&file), Argop4::Allocate(range(0, 7 * BLOCK))]));
    assert_eq!(used(&mut world, &mut c), 7 * BLOCK);
    assert_eq!(world.attrs(&mut c, &file, &[n::SIZE]).size, Some(7 * BLOCK));
    for op in [Argop4::Allocate(range(0, 0)), Argop4::Deallocate(range(0, 0))] {
        assert_eq!(world.status(&mut c, vec![putfh(&file), op]), Err(Nfs4Error::Inval));
    }
    let much = Argop4::Allocate(range(0, 1 << 45));
    assert_eq!(world.status(&mut c, vec![putfh(&file), much]), Err(Nfs4Error::Nospc));
}

/// RFC 7862 §15.10: READ_PLUS tells data from holes.
#[test]
fn read_plus_tells_data_from_holes() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    world.write(&mut c, &file, open, BLOCK, b"data");
    let args = Read4args { stateid: open, offset: 10, count: 1 << 20 };
    let results = ok(world.call(&mut c, vec![putfh(&file), Argop4::ReadPlus(args)]));
    let Resop4::ReadPlus(Ok(done)) = &results[1] else { panic!("{results:?}") };
    assert!(done.rpr_eof);
    match &done.rpr_contents[..] {
        [ReadPlusContent::Hole(hole), ReadPlusContent::Data(data)] => {
            assert_eq!((hole.di_offset, hole.di_length), (10, BLOCK - 10));
            assert_eq!((data.d_offset, &data.d_data[..]), (BLOCK, &b"data"[..]));
        }
        other => panic!("{other:?}"),
    }
}

/// RFC 7862 §15.2, §15.13: copies within the server.
#[test]
fn copy_and_clone_bring_bytes_and_holes_over() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (src, from) = world.create_file(&mut c, "src");
    let (dst, to) = world.create_file(&mut c, "dst");
    world.write(&mut c, &src, from, 0, b"head");
    world.write(&mut c, &src, from, 3 * BLOCK, b"tail");
    let args = Copy4args {
        ca_src_stateid: from,
        ca_dst_stateid: to,
        ca_src_offset: 0,
        ca_dst_offset: 2,
        ca_count: 0,
        ca_consecutive: true,
        ca_synchronous: true,
        ca_source_server: Vec::new().into(),
    };
    let both = |op| vec![putfh(&src), Argop4::Savefh, putfh(&dst), op];
    let results = ok(world.call(&mut c, both(Argop4::Copy(args.clone()))));
    let Resop4::Copy(Copy4res::Ok(done)) = &results[3] else { panic!("{results:?}") };
    assert_eq!(done.cr_response.wr_count, 3 * BLOCK + 4);
    assert!(done.cr_requirements.cr_synchronous);
    assert_eq!(world.read(&mut c, &dst, to, 0, 10), b"\0\0head\0\0\0\0");
    assert_eq!(world.read(&mut c, &dst, to, 3 * BLOCK + 2, 10), b"tail");
    let far = Copy4args { ca_source_server: vec![Netloc4::Name("x".into())].into(), ..args.clone() };
    assert_eq!(world.status(&mut c, both(Argop4::Copy(far))), Err(Nfs4Error::Notsupp));
    let behind = Copy4args { ca_src_offset: 1 << 30, ..args };
    assert_eq!(world.status(&mut c, both(Argop4::Copy(behind))), Err(Nfs4Error::Inval));
    let clone = |cl_dst_offset, cl_count| {
        Argop4::Clone(Clone4args {
            cl_src_stateid: from,
            cl_dst_stateid: to,
            cl_src_offset: 0,
            cl_dst_offset,
            cl_count,
        })
    };
    assert_eq!(world.status(&mut c, both(clone(1, 0))), Err(Nfs4Error::Inval));
    assert_eq!(world.status(&mut c, both(clone(0, 100))), Err(Nfs4Error::Inval));
    ok(world.call(&mut c, both(clone(0, 0))));
    assert_eq!(world.read(&mut c, &dst, to, 0, 6), b"head\0\0");
    assert_eq!(world.read(&mut c, &dst, to, 3 * BLOCK, 10), b"tailil");
    let advise = IoAdvise4args { iaa_stateid: from, iaa_offset: 0, iaa_count: 10, iaa_hints: Bitmap4::of(&[2]) };
    ok(world.call(&mut c, vec![putfh(&src), Argop4::IoAdvise(advise)]));
}

fn set_xattr(option: SetxattrOption4, name: &str, value: &[u8]) -> Argop4 {
    Argop4::Setxattr(Setxattr4args { sxa_option: option, sxa_key: name.into(), sxa_value: value.into() })
}

/// RFC 8276 §8.4: GETXATTR, SETXATTR with its options, REMOVEXATTR, and their errors.
#[test]
fn extended_attributes_are_set_read_and_removed() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, _) = world.create_file(&mut c, "f");
    let mut on = |op| world.call(&mut c, vec![putfh(&file), op]);
    let (either, create, replace) = (SetxattrOption4::Either, SetxattrOption4::Create, SetxattrOption4::Replace);
    assert_eq!(on(set_xattr(replace, "k", b"0")).status, Err(Nfs4Error::Noxattr));
    assert_eq!(on(set_xattr(create, "k", b"1")).status, Ok(()));
    assert_eq!(on(set_xattr(create, "k", b"2")).status, Err(Nfs4Error::Exist));
    assert_eq!(on(set_xattr(replace, "k", b"3")).status, Ok(()));
    let get = |name: &str| Argop4::Getxattr(Getxattr4args { gxa_name: name.into() });
    let got = on(get("k"));
    assert!(matches!(&got.resarray[1], Resop4::Getxattr(Ok(done)) if &done.gxr_value[..] == b"3"));
    let changed = on(set_xattr(either, "k", b"")).resarray;
    assert!(
        matches!(&changed[1], Resop4::Setxattr(Ok(done)) if done.info.atomic && done.info.after > done.info.before)
    );
    assert_eq!(on(get("other")).status, Err(Nfs4Error::Noxattr));
    assert_eq!(on(set_xattr(either, "", b"x")).status, Err(Nfs4Error::Inval));
    assert_eq!(on(set_xattr(either, &"n".repeat(256), b"x")).status, Err(Nfs4Error::Nametoolong));
    assert_eq!(on(set_xattr(either, "big", &vec![0; 65_537])).status, Err(Nfs4Error::Xattr2big));
    let remove = || Argop4::Removexattr(Removexattr4args { rxa_name: "k".into() });
    assert_eq!(on(remove()).status, Ok(()));
    assert_eq!(on(remove()).status, Err(Nfs4Error::Noxattr));
}

/// RFC 8276 §8.4.3: pages of names.
#[test]
fn listxattrs_pages_show_every_name_once() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, _) = world.create_file(&mut c, "f");
    for i in 0..20 {
        ok(world.call(&mut c, vec![putfh(&file), set_xattr(SetxattrOption4::Create, &format!("name{i}"), b"v")]));
    }
    let mut list = |cookie, maxcount| -> Result<Listxattrs4resok, Nfs4Error> {
        let args = Listxattrs4args { lxa_cookie: cookie, lxa_maxcount: maxcount };
        match world.call(&mut c, vec![putfh(&file), Argop4::Listxattrs(args)]).resarray.pop() {
            Some(Resop4::Listxattrs(done)) => done,
            other => panic!("{other:?}"),
        }
    };
    let (mut names, mut cookie) = (Vec::new(), 0);
    loop {
        let page = list(cookie, 64).unwrap();
        assert!(xdr::to_bytes(&page).unwrap().len() <= 64);
        names.extend(page.lxr_names.0);
        cookie = page.lxr_cookie;
        if page.lxr_eof {
            break;
        }
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 20);
    assert_eq!(list(0, 20), Err(Nfs4Error::Toosmall));
}

/// S3 Files access points: a root directory, ids forced on everybody.
#[test]
fn an_access_point_shows_its_directory_and_forces_its_ids() {
    use mock_mount_target::nfs::Ids;
    let mut world = World::s3files();
    let mut root = world.client("root");
    let dir = world.mkdir(&mut root, "home");
    ok(world.call(&mut root, vec![putfh(&dir), create(Createtype4::DIR, "alice")]));
    ok(world.call(&mut root, vec![putfh(&dir), lookup("alice"), set(&mode(0o777))]));
    let identity = Identity {
        forced: Some(Ids { uid: 1001, gid: 1002, groups: Vec::new() }),
        root_directory: "/home/alice".into(),
        ..Identity::default()
    };
    let mut c = Client { identity, ..world.client("c") };
    let (file, _) = world.create_file(&mut c, "mine");
    let attrs = world.attrs(&mut c, &file, &[n::OWNER, n::OWNER_GROUP]);
    assert_eq!((attrs.owner, attrs.owner_group), (Some("1001".into()), Some("1002".into())));
    assert!(world.server.file_at("home/alice/mine").is_ok());
    assert_eq!(world.status(&mut c, vec![Argop4::Putrootfh, Argop4::Lookupp]), Err(Nfs4Error::Noent));
    c.identity.root_directory = "/nowhere".into();
    assert_eq!(world.status(&mut c, vec![Argop4::Putrootfh]), Err(Nfs4Error::Access));
}

/// S3 Files IAM actions: without ClientWrite nothing is changed, without ClientRootAccess root is nobody.
#[test]
fn credentials_without_write_or_root_access_behave_so() {
    let mut world = World::s3files();
    let mut root = world.client("root");
    let (file, _) = world.create_file(&mut root, "f");
    ok(world.call(&mut root, vec![Argop4::Putrootfh, set(&mode(0o755))]));
    let mut reader = Client { identity: Identity { write: false, ..Identity::default() }, ..world.client("reader") };
    let (_, open) = world.open(&mut reader, "f", 1, nfs4::ops::open::Openflag4::NoCreate);
    assert_eq!(world.read(&mut reader, &file, open, 0, 1), b"");
    let writing = Argop4::Open(open_args("o", "f", 2, nfs4::ops::open::Openflag4::NoCreate));
    for ops in [
        vec![Argop4::Putrootfh, writing],
        vec![Argop4::Putrootfh, create(Createtype4::DIR, "d")],
        vec![Argop4::Putrootfh, remove("f")],
        vec![Argop4::Putrootfh, Argop4::Savefh, rename("f", "g")],
        vec![putfh(&file), set(&mode(0o777))],
    ] {
        assert_eq!(world.status(&mut reader, ops), Err(Nfs4Error::Rofs));
    }
    let mut squashed = Client { identity: Identity { root: false, ..Identity::default() }, ..world.client("squashed") };
    let making = vec![Argop4::Putrootfh, create(Createtype4::DIR, "d")];
    assert_eq!(world.status(&mut squashed, making), Err(Nfs4Error::Access));
    assert_eq!(world.status(&mut squashed, vec![putfh(&file), set(&mode(0o777))]), Err(Nfs4Error::Perm));
}

/// Short reads and writes are told by their counts (§18.22.3, §18.32.3).
#[test]
fn short_reads_and_writes_say_how_short_they_are() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    world.server.plan_mut().add(Rule::once(38, Action::Short(4)));
    world.server.plan_mut().add(Rule::once(25, Action::Short(3)));
    let results = ok(world.call(&mut c, vec![putfh(&file), write(open, 0, b"0123456789", StableHow4::FileSync4)]));
    assert!(matches!(&results[1], Resop4::Write(Ok(done)) if done.count == 4));
    let results = ok(world.call(&mut c, vec![putfh(&file), read(open, 0, 100)]));
    assert!(matches!(&results[1], Resop4::Read(Ok(done)) if &done.data[..] == b"012" && !done.eof));
    assert_eq!(world.read(&mut c, &file, open, 0, 100), b"0123");
}
