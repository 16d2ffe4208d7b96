#![allow(clippy::unwrap_used)]
use super::*;
use vfs::SetAttr;

const HOME: Parent = Parent::Home(Key([1; 16]));
const OTHER: Parent = Parent::Home(Key([2; 16]));

struct Stage {
    directory: TempDir,
    overlay: Overlay,
    me: Cred,
}

fn stage(limit: u64) -> Stage {
    let directory = tempfile::tempdir().unwrap();
    let room = Arc::new(Room::new(limit, 0));
    let overlay = Overlay::new(directory.path().to_owned(), room, Owner::Always(1000, 1000));
    Stage { directory, overlay, me: Cred::new(1000, 1000) }
}

const WRITING: OpenFlags =
    OpenFlags { read: true, write: true, append: false, truncate: false, exclusive: false, sync: false, direct: false };

impl Stage {
    fn write(&self, parent: Parent, name: &[u8], data: &[u8]) -> Result<u64> {
        let (entry, opened) = self.overlay.create(&self.me, parent, name, 0o644, WRITING)?;
        let written = self.overlay.write(opened.fh, 0, data);
        self.overlay.release(opened.fh)?;
        written.map(|_| entry.attr.ino)
    }

    fn names(&self, parent: Parent) -> Vec<String> {
        let listed = self.overlay.list(parent).unwrap();
        listed.into_iter().map(|item| String::from_utf8(item.name).unwrap()).collect()
    }

    /// What is counted is what is there.
    fn check(&self) {
        // A home counts nothing itself.
        let homes = fs::read_dir(self.directory.path()).unwrap().flatten();
        let there: u64 = homes.map(|home| room::weight(&home.path())).sum();
        assert_eq!(self.overlay.room.used(), there);
    }
}

#[test]
fn files_are_made_found_renamed_and_removed_and_leave_nothing() {
    let stage = stage(1 << 20);
    let overlay = &stage.overlay;
    assert!(matches!(overlay.lookup(&stage.me, HOME, b"._a").unwrap(), Looked::Missing { .. }));
    let ino = stage.write(HOME, b"._a", b"one").unwrap();
    assert_eq!(overlay.getattr(ino).unwrap().0.size, 3);
    assert_eq!(stage.names(HOME), ["._a"]);
    overlay.rename(&stage.me, (HOME, b"._a"), (OTHER, b"._b"), true).unwrap();
    assert_eq!((stage.names(HOME).len(), stage.names(OTHER)), (0, vec!["._b".to_owned()]));
    stage.write(OTHER, b"._c", b"longer").unwrap();
    assert_eq!(overlay.rename(&stage.me, (OTHER, b"._b"), (OTHER, b"._c"), true).unwrap_err().errno(), Errno::Exist);
    overlay.rename(&stage.me, (OTHER, b"._b"), (OTHER, b"._c"), false).unwrap();
    stage.check();
    let opened = overlay.open(&stage.me, ino, OpenFlags { read: true, ..OpenFlags::default() }).unwrap();
    assert_eq!(overlay.read(opened.fh, 1, 100).unwrap().concat(), b"ne");
    overlay.unlink(&stage.me, OTHER, b"._c").unwrap();
    assert_eq!(overlay.read(opened.fh, 0, 100).unwrap().concat(), b"one", "it is open");
    assert_eq!(overlay.getattr(ino).unwrap().0.nlink, 0);
    overlay.release(opened.fh).unwrap();
    assert_eq!(overlay.room.used(), 0);
    assert_eq!(fs::read_dir(stage.directory.path()).unwrap().count(), 0);
}

#[test]
fn directories_have_what_is_in_them_and_go_with_that_of_the_server() {
    let stage = stage(1 << 20);
    let overlay = &stage.overlay;
    let trash = Parent::Local(overlay.mkdir(&stage.me, HOME, b".Trashes", 0o755).unwrap().attr.ino);
    stage.write(trash, b"any name", b"x").unwrap();
    assert_eq!(overlay.rmdir(&stage.me, HOME, b".Trashes").unwrap_err().errno(), Errno::NotEmpty);
    overlay.rename(&stage.me, (HOME, b".Trashes"), (HOME, b".fseventsd"), false).unwrap();
    assert_eq!(stage.names(trash), ["any name"]);
    assert_eq!(overlay.unlink(&stage.me, HOME, b".fseventsd").unwrap_err().errno(), Errno::IsDir);
    stage.check();
    overlay.drop_home(Key([1; 16]));
    assert_eq!(fs::read_dir(stage.directory.path()).unwrap().count(), 0);
    assert_eq!(overlay.lookup(&stage.me, trash, b"any name").unwrap_err().errno(), Errno::Stale);
    assert_eq!(overlay.room.used(), 0);
}

#[test]
fn a_full_overlay_refuses_and_what_was_refused_counts_nothing() {
    let stage = stage(10_000);
    let overlay = &stage.overlay;
    assert_eq!(stage.write(HOME, b"._a", &[0; 9000]).unwrap_err().errno(), Errno::NoSpc);
    let ino = stage.write(HOME, b"._a", &[1; 5000]).unwrap();
    let longer = SetAttr { size: Some(20_000), ..SetAttr::default() };
    assert_eq!(overlay.setattr(&stage.me, ino, None, longer).unwrap_err().errno(), Errno::NoSpc);
    for n in 0..3 {
        overlay.mkdir(&stage.me, HOME, format!("._{n}").as_bytes(), 0o755).unwrap();
    }
    assert_eq!(overlay.mkdir(&stage.me, HOME, b"._9", 0o755).unwrap_err().errno(), Errno::NoSpc);
    stage.check();
    let cut = SetAttr { size: Some(10), ..SetAttr::default() };
    assert_eq!(overlay.setattr(&stage.me, ino, None, cut).unwrap().0.size, 10);
    overlay.mkdir(&stage.me, HOME, b"._9", 0o755).unwrap();
    stage.check();
}

#[test]
fn nobody_else_may_change_what_the_mode_does_not_let_them() {
    let stage = stage(1 << 20);
    let overlay = &stage.overlay;
    let ino = stage.write(HOME, b"._a", b"x").unwrap();
    let stranger = Cred::new(7, 7);
    let mode = |mode| SetAttr { mode: Some(mode), ..SetAttr::default() };
    assert_eq!(overlay.open(&stranger, ino, WRITING).unwrap_err().errno(), Errno::Access);
    assert_eq!(overlay.setattr(&stranger, ino, None, mode(0o777)).unwrap_err().errno(), Errno::Perm);
    overlay.setattr(&stage.me, ino, None, mode(0o600)).unwrap();
    assert_eq!(overlay.access(&stranger, ino, READ).unwrap_err().errno(), Errno::Access);
    assert_eq!(overlay.getxattr(&stranger, ino, "user.a").unwrap_err().errno(), Errno::Access);
    overlay.access(&stage.me, ino, READ | WRITE).unwrap();
    let trash = overlay.mkdir(&stage.me, HOME, b".Trashes", 0o1777).unwrap().attr.ino;
    stage.write(Parent::Local(trash), b"mine", b"").unwrap();
    assert_eq!(overlay.unlink(&stranger, Parent::Local(trash), b"mine").unwrap_err().errno(), Errno::Perm);
}

#[test]
fn nothing_leads_out_of_the_overlay() {
    let stage = stage(1 << 20);
    let outside = tempfile::NamedTempFile::new().unwrap();
    stage.write(HOME, b"._a", b"x").unwrap();
    let home = stage.directory.path().join(Key([1; 16]).name());
    std::os::unix::fs::symlink(outside.path(), home.join("._link")).unwrap();
    assert!(matches!(stage.overlay.lookup(&stage.me, HOME, b"._link").unwrap(), Looked::Missing { .. }));
    assert_eq!(stage.names(HOME), ["._a"]);
    assert!(stage.write(HOME, b"._link", b"y").is_err());
    for name in [&b".."[..], b".", b"a/b", b"", b"a\0"] {
        assert!(stage.overlay.lookup(&stage.me, HOME, name).is_err(), "{}", name.escape_ascii());
        assert!(stage.write(HOME, name, b"").is_err());
    }
}

#[test]
fn names_that_a_mac_s_disk_takes_for_one_are_files_of_their_own() {
    let stage = stage(1 << 20);
    let names = ["._README", "._readme", "._\u{e9}", "._e\u{301}", "._%52eadme"];
    for name in names {
        stage.write(HOME, name.as_bytes(), name.as_bytes()).unwrap();
    }
    let mut sorted = names;
    sorted.sort_unstable();
    assert_eq!(stage.names(HOME), sorted);
    let on_disk = fs::read_dir(stage.directory.path().join(Key([1; 16]).name())).unwrap().flatten();
    let on_disk: std::collections::BTreeSet<_> = on_disk.map(|entry| entry.file_name().to_ascii_lowercase()).collect();
    assert!(on_disk.len() == names.len() && on_disk.iter().all(|name| name.is_ascii()));
    let too_long = [b'A'; 86];
    assert_eq!(stage.write(HOME, &too_long, b"").unwrap_err().errno(), Errno::NameTooLong);
    stage.overlay.rename(&stage.me, (HOME, b"._README"), (HOME, b"._readme"), false).unwrap();
    assert_eq!(stage.names(HOME).len(), names.len() - 1);
    stage.check();
}

#[test]
fn nobody_looks_into_a_directory_that_they_may_not_search() {
    let stage = stage(1 << 20);
    let overlay = &stage.overlay;
    let private = Parent::Local(overlay.mkdir(&stage.me, HOME, b".Trashes", 0o700).unwrap().attr.ino);
    stage.write(private, b"file", b"x").unwrap();
    let stranger = Cred::new(7, 7);
    assert_eq!(overlay.lookup(&stranger, private, b"file").unwrap_err().errno(), Errno::Access);
    assert_eq!(
        overlay.create(&stranger, private, b"file", 0o644, OpenFlags::default()).unwrap_err().errno(),
        Errno::Access
    );
    assert!(matches!(overlay.lookup(&stage.me, private, b"file").unwrap(), Looked::Found(_)));
    assert_eq!(overlay.check_own(&stranger, private, b"file").unwrap_err().errno(), Errno::Perm);
    overlay.check_own(&stage.me, private, b"file").unwrap();
    overlay.check_own(&stranger, private, b"none").unwrap();
}

#[test]
fn giving_lookups_back_waits_for_nobody_and_what_is_not_told_counts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let room = Arc::new(Room::new(1 << 20, 0));
    let overlay = Arc::new(Overlay::new(directory.path().to_owned(), room, Owner::Always(1000, 1000)));
    let me = Cred::new(1000, 1000);
    let ino = overlay.mknod(&me, HOME, b"._a", 0o644).unwrap().attr.ino;
    let looked = Counted::new(overlay.lookup(&me, HOME, b"._a").unwrap(), Arc::clone(&overlay));
    assert!(matches!(looked.tell(), Looked::Found(_)));
    drop(Counted::new(overlay.lookup(&me, HOME, b"._a").unwrap(), Arc::clone(&overlay)));
    let at_work = overlay.numbers();
    assert_eq!(at_work.known(HOME, b"._a"), Some(ino));
    // It would not return if it waited.
    overlay.forget(ino, 2);
    drop(at_work);
    assert_eq!(overlay.numbers().known(HOME, b"._a"), None, "made and told of once each");
}

#[test]
fn what_a_killed_mount_did_not_remove_goes_with_the_next() {
    let stage = stage(1 << 20);
    stage.write(HOME, b"._a", b"x").unwrap();
    let gone = stage.directory.path().join(".gone-x/home");
    fs::create_dir_all(&gone).unwrap();
    fs::write(gone.join("._b"), b"x").unwrap();
    remove_leftovers(stage.directory.path());
    assert_eq!(fs::read_dir(stage.directory.path()).unwrap().count(), 1);
    assert_eq!(stage.names(HOME), ["._a"]);
}
