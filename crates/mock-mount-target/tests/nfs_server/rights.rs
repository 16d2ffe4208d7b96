//! Who may do what: ACCESS, mode bits, access points, what credentials allow (RFC 8881 §18.1; S3 Files user guide).

use mock_mount_target::nfs::Identity;
use nfs4::Nfs4Error;
use nfs4::attr::{Attrs, number as n};
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::dir::Createtype4;
use nfs4::ops::file::{Access4args, access};
use nfs4::types::Verifier4;

use crate::driver::*;

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
