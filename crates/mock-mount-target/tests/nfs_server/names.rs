//! Names and handles: LOOKUP, PUTFH, CREATE, REMOVE, RENAME, LINK, SECINFO (RFC 8881 §4, §18).

use nfs4::Nfs4Error;
use nfs4::attr::{Attrs, number as n};
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::dir::{Createtype4, Link4args, Secinfo4, Secinfo4args, SecinfoStyle4};
use nfs4::types::{ChangeInfo4, NfsFh4, NfsFtype4, Specdata4};

use crate::driver::*;

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
