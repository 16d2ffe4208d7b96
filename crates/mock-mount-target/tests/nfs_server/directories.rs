//! READDIR: pages, cookies, verifiers, entries with errors (RFC 8881 §18.23).

use nfs4::attr::{Attrs, number as n};
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::dir::{Createtype4, Dirlist4, Readdir4args, Readdir4resok};
use nfs4::types::{Bitmap4, NfsFh4, Verifier4};
use nfs4::{Nfs4Error, xdr};

use crate::driver::*;

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
