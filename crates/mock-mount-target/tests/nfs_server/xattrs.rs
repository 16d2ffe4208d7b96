//! Extended attributes (RFC 8276).

use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::extended::{
    Getxattr4args, Listxattrs4args, Listxattrs4resok, Removexattr4args, Setxattr4args, SetxattrOption4,
};
use nfs4::{Nfs4Error, xdr};

use crate::driver::*;

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
