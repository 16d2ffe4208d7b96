//! What must hold for names, links and changes in any tree.
#![allow(clippy::unwrap_used)]

use super::*;

fn at(seconds: i64) -> Nfstime4 {
    Nfstime4 { seconds, nseconds: 5 }
}

const NEW: NewFile = NewFile { mode: 0o644, uid: 1, gid: 2 };

fn fs() -> MemFs {
    MemFs::new(9, 128, at(1))
}

fn file(fs: &mut MemFs, dir: FileId, name: &'static str) -> FileId {
    fs.create(dir, &Bytes::from_static(name.as_bytes()), Kind::Regular(FileData::default()), NEW, at(2)).unwrap().0
}

fn dir(fs: &mut MemFs, parent: FileId, name: &'static str) -> FileId {
    fs.create(parent, &Bytes::from_static(name.as_bytes()), Kind::Directory(Directory::default()), NEW, at(2))
        .unwrap()
        .0
}

#[test]
fn every_change_of_a_directory_changes_its_change_attribute_and_says_so() {
    let mut fs = fs();
    let root = fs.root();
    let mut last = fs.inode(root).unwrap().change;
    for step in 0..4 {
        let cinfo = match step {
            0 => fs.create(root, &"a".into(), Kind::Fifo, NEW, at(2)).unwrap().1,
            1 => fs.rename(root, b"a", root, &"b".into(), at(3)).unwrap().source,
            2 => {
                let b = fs.lookup(root, b"b").unwrap();
                fs.link(b, root, &"c".into(), at(4)).unwrap()
            }
            _ => fs.remove(root, b"c", at(5)).unwrap().cinfo,
        };
        assert_eq!(cinfo.before, last, "step {step}");
        assert!(cinfo.after > cinfo.before && cinfo.atomic);
        last = fs.inode(root).unwrap().change;
        assert_eq!(cinfo.after, last);
    }
}

#[test]
fn link_counts_of_directories_count_their_subdirectories() {
    let mut fs = fs();
    let root = fs.root();
    let a = dir(&mut fs, root, "a");
    let b = dir(&mut fs, root, "b");
    assert_eq!(fs.inode(root).unwrap().nlink, 4);
    fs.rename(root, b"b", a, &"b".into(), at(3)).unwrap();
    assert_eq!((fs.inode(root).unwrap().nlink, fs.inode(a).unwrap().nlink), (3, 3));
    assert_eq!(fs.parent(b), Ok(a));
    fs.remove(a, b"b", at(4)).unwrap();
    assert_eq!(fs.inode(a).unwrap().nlink, 2);
}

#[test]
fn a_directory_cannot_be_moved_into_itself() {
    let mut fs = fs();
    let root = fs.root();
    let a = dir(&mut fs, root, "a");
    let b = dir(&mut fs, a, "b");
    assert_eq!(fs.rename(root, b"a", b, &"x".into(), at(3)).unwrap_err(), Nfs4Error::Inval);
    assert_eq!(fs.rename(root, b"a", a, &"x".into(), at(3)).unwrap_err(), Nfs4Error::Inval);
    assert_eq!(fs.lookup(root, b"a"), Ok(a));
}

#[test]
fn rename_replaces_a_file_by_a_file_and_an_empty_directory_by_a_directory_only() {
    let mut fs = fs();
    let root = fs.root();
    let (f, g) = (file(&mut fs, root, "f"), file(&mut fs, root, "g"));
    let (d, e) = (dir(&mut fs, root, "d"), dir(&mut fs, root, "e"));
    file(&mut fs, e, "inside");
    assert_eq!(fs.rename(root, b"f", root, &"d".into(), at(3)).unwrap_err(), Nfs4Error::Exist);
    assert_eq!(fs.rename(root, b"d", root, &"f".into(), at(3)).unwrap_err(), Nfs4Error::Exist);
    assert_eq!(fs.rename(root, b"d", root, &"e".into(), at(3)).unwrap_err(), Nfs4Error::Exist);
    assert_eq!(fs.rename(root, b"f", root, &"g".into(), at(3)).unwrap().replaced, Some((g, true)));
    assert_eq!(fs.lookup(root, b"g"), Ok(f));
    assert_eq!(fs.rename(root, b"e", root, &"d".into(), at(3)).unwrap().replaced, Some((d, true)));
    assert_eq!(fs.lookup(root, b"d"), Ok(e));
    assert_eq!(fs.directory(root).unwrap().len(), 2);
}

#[test]
fn rename_onto_another_name_of_the_same_file_does_nothing() {
    let mut fs = fs();
    let root = fs.root();
    let f = file(&mut fs, root, "f");
    fs.link(f, root, &"g".into(), at(2)).unwrap();
    let renamed = fs.rename(root, b"f", root, &"g".into(), at(3)).unwrap();
    assert_eq!(renamed.source.before, renamed.source.after);
    assert_eq!(fs.directory(root).unwrap().len(), 2);
}

#[test]
fn a_handle_of_a_removed_file_is_stale_and_its_number_never_comes_back() {
    let mut fs = fs();
    let root = fs.root();
    let f = file(&mut fs, root, "f");
    let handle = fs.handle(f);
    assert_eq!(fs.resolve(&handle), Ok(f));
    let removed = fs.remove(root, b"f", at(3)).unwrap();
    assert!(removed.last_name);
    fs.forget(f);
    assert_eq!(fs.resolve(&handle), Err(Nfs4Error::Stale));
    let again = file(&mut fs, root, "f");
    assert_ne!(again, f);
    assert_eq!(fs.resolve(&handle), Err(Nfs4Error::Stale));
}

#[test]
fn a_file_with_another_name_outlives_the_removal_of_one() {
    let mut fs = fs();
    let root = fs.root();
    let f = file(&mut fs, root, "f");
    fs.link(f, root, &"g".into(), at(2)).unwrap();
    assert!(!fs.remove(root, b"f", at(3)).unwrap().last_name);
    fs.forget(f);
    assert_eq!(fs.inode(f).unwrap().nlink, 1);
}

#[test]
fn a_restart_loses_what_was_not_committed_and_changes_the_files_change() {
    let mut fs = fs();
    let root = fs.root();
    let f = file(&mut fs, root, "f");
    fs.write(f, 0, &["safe".into()], false, at(3)).unwrap();
    fs.commit(f, 0, 4).unwrap();
    fs.write(f, 2, &["lost".into()], false, at(4)).unwrap();
    let change = fs.inode(f).unwrap().change;
    assert_eq!(fs.lose_unstable(at(5)), 1);
    assert_eq!(fs.data(f).unwrap().read(0, 99).concat(), b"safe");
    assert!(fs.inode(f).unwrap().change > change);
}
