//! A Mac's manners, on Linux: what stays on this computer, what Finder's questions cost, and the form of names.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mock_mount_target::nfs::Profile;
use mock_mount_target::{MockHandle, MockServer, MockServerBuilder};
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use whole_product_tests::{Lab, Mounted};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(2);
/// What a Mac does without being asked.
const MAC: [&str; 6] = ["--mac-files", "local", "--xattrs", "local", "--names", "nfc"];

fn on(server: MockServerBuilder, test: impl FnOnce(&MockHandle, &Lab)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let mock = runtime.block_on(server.start()).unwrap();
    test(&mock, &lab);
    lab.assert_clean().unwrap();
    assert_eq!(mock.verdict(), Vec::<String>::new());
    runtime.block_on(mock.stop());
}

fn mounted(options: &[&str], test: impl FnOnce(&MockHandle, &Lab, Mounted<'_>)) {
    on(MockServer::builder(), |mock, lab| test(mock, lab, lab.mount(mock, options).unwrap()));
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Errno {
    Errno::from_raw(result.expect_err("this must be refused").raw_os_error().unwrap())
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn on_server(mock: &MockHandle, path: &str) -> bool {
    mock.with_server(|server| server.file_at(path).is_ok()).unwrap()
}

/// Every file that the product keeps on this computer.
fn kept(lab: &Lab) -> Vec<PathBuf> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            // What goes at this moment is gone.
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => below(&entry.path(), found),
                Ok(_) => found.push(entry.path()),
                Err(_) => {}
            }
        }
    }
    let mut found = Vec::new();
    below(&lab.path("home/.local/state/s3files-fuse/local"), &mut found);
    found
}

const FILES: usize = 4000;

/// What Finder does with a folder: reads it, and asks three things about each name.
fn as_finder(folder: &Path) {
    let names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), FILES);
    for name in names {
        let (path, name) = (folder.join(&name), name.into_string().unwrap());
        assert_eq!(errno(fs::symlink_metadata(folder.join(format!("._{name}")))), Errno::ENOENT);
        assert_eq!(xattr::get(&path, "user.com.apple.FinderInfo").unwrap(), None);
        assert_eq!(xattr::list(&path).unwrap().count(), 0);
        access(&path, AccessFlags::R_OK | AccessFlags::W_OK).unwrap();
    }
}

#[test]
fn finders_questions_about_four_thousand_files_cost_at_most_five_round_trips() {
    for policy in ["local", "deny"] {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("many")).unwrap();
        for n in 0..FILES {
            fs::write(tree.path().join(format!("many/file {n:04}.txt")), b"x").unwrap();
        }
        on(MockServer::builder().import(tree.path()), |mock, lab| {
            // Attributes do not run out while a busy machine asks.
            let manners = ["--mac-files", policy, "--xattrs", "local", "--names", "nfc", "--acregmin", "60s"];
            let mounted = lab.mount(mock, &manners).unwrap();
            // What a mount asks by itself, before anybody has come.
            std::thread::sleep(Duration::from_millis(500));
            let before = mock.wire_counters().calls;
            as_finder(&mounted.path("many"));
            let trips = mock.wire_counters().calls - before;
            println!("{policy}: {trips} round trips");
            assert!(trips <= 5, "{policy}: {trips} round trips");
            mounted.umount().unwrap();
        });
    }
}

#[test]
fn a_macs_own_files_stay_here_and_work_like_files() {
    mounted(&MAC, |mock, lab, mounted| {
        let folder = mounted.folder();
        fs::write(folder.join("real"), b"for S3").unwrap();
        let calls = mock.wire_counters().calls;
        let store = folder.join(".DS_Store");
        let mut file = File::options().read(true).write(true).create_new(true).open(&store).unwrap();
        file.write_all(b"Bud1 and more").unwrap();
        assert_eq!(errno(File::options().write(true).create_new(true).open(&store)), Errno::EEXIST);
        file.set_len(4).unwrap();
        file.write_all_at(b"!", 9).unwrap();
        file.sync_all().unwrap();
        assert_eq!(fs::read(&store).unwrap(), b"Bud1\0\0\0\0\0!");
        OpenOptions::new().append(true).open(&store).unwrap().write_all(b"+").unwrap();
        fs::set_permissions(&store, Permissions::from_mode(0o640)).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
        file.set_modified(time).unwrap();
        let metadata = fs::metadata(&store).unwrap();
        assert_eq!((metadata.len(), metadata.mode() & 0o7777, metadata.modified().unwrap()), (11, 0o640, time));
        assert!(metadata.ino() >= 3 << 62, "no number of a file of the server");
        xattr::set(&store, "user.note", b"local").unwrap();
        assert_eq!(xattr::get(&store, "user.note").unwrap().as_deref(), Some(&b"local"[..]));
        assert_eq!(xattr::list(&store).unwrap().collect::<Vec<_>>(), ["user.note"]);
        xattr::remove(&store, "user.note").unwrap();
        assert_eq!(xattr::get(&store, "user.note").unwrap(), None);
        // Replaced as programs save: while the old one is open.
        fs::write(folder.join("._new"), b"new").unwrap();
        fs::rename(folder.join("._new"), &store).unwrap();
        assert_eq!(fs::read(&store).unwrap(), b"new");
        let mut old = String::new();
        file.read_to_string(&mut old).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 11, "whoever has it open keeps it");
        drop(file);
        // Links are not for here, and the border is one.
        assert_eq!(errno(symlink("x", folder.join("._link"))), Errno::EPERM);
        assert_eq!(errno(fs::rename(&store, folder.join("plain"))), Errno::EXDEV);
        assert_eq!(errno(fs::rename(folder.join("real"), folder.join("._real"))), Errno::EXDEV);
        assert_eq!(errno(fs::hard_link(folder.join("real"), folder.join("._real"))), Errno::EXDEV);
        fs::copy(folder.join("real"), folder.join("._copy")).unwrap();
        assert_eq!(fs::read(folder.join("._copy")).unwrap(), b"for S3");
        fs::remove_file(folder.join("._copy")).unwrap();
        assert_eq!(names(&folder), [".DS_Store", "real"]);
        assert!(!on_server(mock, ".DS_Store") && on_server(mock, "real"));
        // Directories hold whatever is put in them.
        let trash = folder.join(".Trashes/501");
        fs::create_dir_all(&trash).unwrap();
        fs::write(trash.join("any name"), b"x").unwrap();
        assert_eq!(errno(fs::remove_dir(&trash)), Errno::ENOTEMPTY);
        fs::rename(folder.join(".Trashes"), folder.join(".fseventsd")).unwrap();
        assert_eq!(names(&folder.join(".fseventsd/501")), ["any name"]);
        fs::remove_dir_all(folder.join(".fseventsd")).unwrap();
        assert_eq!(names(&folder), [".DS_Store", "real"]);
        let trips = mock.wire_counters().calls - calls;
        assert!(trips <= 6, "{trips} round trips: rights, listings and the copied file, nothing of local ones");
        mounted.umount().unwrap();
        assert_eq!(kept(lab).len(), 1);
    });
}

#[test]
fn local_files_follow_their_directory_survive_a_remount_and_go_with_it() {
    mounted(&MAC, |mock, lab, mounted| {
        let (a, b) = (mounted.path("a"), mounted.path("b"));
        fs::create_dir_all(a.join("deep/deeper")).unwrap();
        fs::write(a.join("deep/deeper/.DS_Store"), b"view").unwrap();
        fs::write(a.join("._icon"), b"icon").unwrap();
        fs::create_dir(&b).unwrap();
        fs::rename(&a, b.join("c")).unwrap();
        assert_eq!(fs::read(b.join("c/deep/deeper/.DS_Store")).unwrap(), b"view");
        assert_eq!(names(&b.join("c")), ["._icon", "deep"]);
        let ino = fs::metadata(b.join("c/._icon")).unwrap().ino();
        mounted.umount().unwrap();
        let mounted = lab.mount(mock, &MAC).unwrap();
        assert_eq!(fs::read(b.join("c/deep/deeper/.DS_Store")).unwrap(), b"view");
        assert_eq!(fs::metadata(b.join("c/._icon")).unwrap().ino(), ino);
        // By another way to the same file system.
        mounted.umount().unwrap();
        let mounted = lab.mount(mock, &[&MAC[..], &["--path", "/b"]].concat()).unwrap();
        assert_eq!(fs::read(mounted.path("c/._icon")).unwrap(), b"icon");
        // Empty but for local files.
        fs::remove_dir(mounted.path("c/deep/deeper")).unwrap();
        assert_eq!(kept(lab).len(), 1);
        assert_eq!(errno(fs::remove_dir(mounted.path("c"))), Errno::ENOTEMPTY);
        fs::remove_dir(mounted.path("c/deep")).unwrap();
        fs::remove_dir(mounted.path("c")).unwrap();
        assert_eq!(kept(lab), Vec::<PathBuf>::new());
        fs::create_dir(mounted.path("c")).unwrap();
        assert_eq!(names(&mounted.path("c")), Vec::<String>::new(), "a new directory has nothing of the old one");
        mounted.umount().unwrap();
    });
}

#[test]
fn listings_hold_all_names_of_both_sides_and_the_server_s_own_are_hidden() {
    let tree = tempfile::tempdir().unwrap();
    for n in 0..1500 {
        fs::write(tree.path().join(format!("file{n:04}")), b"").unwrap();
        fs::write(tree.path().join(format!("._hidden{n:04}")), b"").unwrap();
    }
    on(MockServer::builder().import(tree.path()), |mock, lab| {
        let mounted = lab.mount(mock, &MAC).unwrap();
        for n in 0..1500 {
            fs::write(mounted.path(format!("._file{n:04}")), b"resource").unwrap();
        }
        let mut expected: Vec<_> = (0..1500).flat_map(|n| [format!("file{n:04}"), format!("._file{n:04}")]).collect();
        expected.sort();
        assert_eq!(names(&mounted.folder()), expected);
        assert_eq!(errno(fs::read(mounted.path("._hidden0000"))), Errno::ENOENT);
        mounted.umount().unwrap();
        // Whoever wants them asks for them.
        let mounted = lab.mount(mock, &["--mac-files", "store"]).unwrap();
        assert_eq!(names(&mounted.folder()).len(), 3000);
        fs::write(mounted.path(".DS_Store"), b"shared").unwrap();
        assert!(on_server(mock, ".DS_Store") && on_server(mock, "._hidden0000") && !on_server(mock, "._file0000"));
        mounted.umount().unwrap();
    });
}

#[test]
fn a_full_store_says_so_and_takes_more_when_there_is_room_again() {
    mounted(&[&MAC[..], &["--local-limit", "1M"]].concat(), |_, lab, mounted| {
        let big = mounted.path("._big");
        assert_eq!(errno(fs::write(&big, vec![1; 2 << 20])), Errno::ENOSPC);
        fs::write(mounted.path("file"), b"").unwrap();
        fs::write(&big, vec![1; 900 << 10]).unwrap();
        let attribute = vec![2; 62 << 10];
        let set = |n: usize| xattr::set(mounted.path("file"), format!("user.{n}"), &attribute);
        assert_eq!((set(0).is_ok(), errno(set(1))), (true, Errno::ENOSPC));
        fs::remove_file(&big).unwrap();
        set(1).unwrap();
        // What is there is counted by the next mount, too.
        fs::write(&big, vec![1; 800 << 10]).unwrap();
        assert_eq!(kept(lab).len(), 2);
        mounted.umount().unwrap();
    });
}

#[test]
fn denied_names_are_refused_and_missing_without_a_round_trip() {
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join(".DS_Store"), b"from elsewhere").unwrap();
    fs::write(tree.path().join("file"), b"x").unwrap();
    on(MockServer::builder().import(tree.path()), |mock, lab| {
        let mounted = lab.mount(mock, &["-o", "mac_files=deny"]).unwrap();
        assert_eq!(names(&mounted.folder()), ["file"]);
        std::thread::sleep(Duration::from_millis(500));
        let before = mock.wire_counters().calls;
        for name in [".DS_Store", "._x", ".Trashes", ".fseventsd", ".Spotlight-V100"] {
            let path = mounted.path(name);
            assert_eq!(errno(fs::metadata(&path)), Errno::ENOENT);
            assert_eq!(errno(File::create(&path)), Errno::EACCES);
            assert_eq!(errno(fs::create_dir(&path)), Errno::EACCES);
            assert_eq!(errno(symlink("x", &path)), Errno::EACCES);
            assert_eq!(errno(fs::rename(mounted.path("file"), &path)), Errno::EACCES);
        }
        assert_eq!(mock.wire_counters().calls - before, 0);
        assert!(kept(lab).is_empty());
        mounted.umount().unwrap();
        assert!(!lab.log().contains("a change was refused"), "policy needs no explanation");
    });
}

const NOTE: &str = "user.com.apple.FinderInfo";

fn note(path: &Path) -> Option<String> {
    xattr::get(path, NOTE).unwrap().map(|value| String::from_utf8(value).unwrap())
}

#[test]
fn attributes_that_the_server_does_not_keep_are_kept_here_follow_renames_and_go_with_the_file() {
    mounted(&["--xattrs", "local"], |mock, lab, mounted| {
        let (file, other, dir) = (mounted.path("file"), mounted.path("other"), mounted.path("dir"));
        // A file that the server has not heard of yet.
        let open = File::create(&file).unwrap();
        assert_eq!(note(&file), None);
        xattr::set(&file, NOTE, b"red").unwrap();
        drop(open);
        fs::create_dir(&dir).unwrap();
        xattr::set(&dir, NOTE, b"folder").unwrap();
        fs::rename(&file, dir.join("moved")).unwrap();
        assert_eq!(note(&dir.join("moved")).as_deref(), Some("red"));
        mounted.umount().unwrap();
        let mounted = lab.mount(mock, &["--xattrs", "local"]).unwrap();
        let moved = dir.join("moved");
        assert_eq!((note(&moved).as_deref(), note(&dir).as_deref()), (Some("red"), Some("folder")));
        xattr::set(&moved, "user.second", b"").unwrap();
        let list: Vec<_> = xattr::list(&moved).unwrap().collect();
        assert_eq!(list, [NOTE, "user.second"]);
        xattr::remove(&moved, "user.second").unwrap();
        assert_eq!(errno(xattr::remove(&moved, "user.second")), Errno::ENODATA);
        // Saved as editors do: a new file takes the old one's place.
        fs::write(&other, b"new").unwrap();
        xattr::set(&other, NOTE, b"blue").unwrap();
        assert_eq!(kept(lab).len(), 3);
        fs::rename(&other, &moved).unwrap();
        assert_eq!((note(&moved).as_deref(), kept(lab).len()), (Some("blue"), 2));
        // Removed while it is open.
        let open = File::open(&moved).unwrap();
        fs::remove_file(&moved).unwrap();
        drop(open);
        let waited = SystemTime::now();
        while kept(lab).len() > 1 && waited.elapsed().unwrap() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(kept(lab).len(), 1);
        fs::write(&moved, b"another").unwrap();
        assert_eq!(note(&moved), None);
        fs::remove_file(&moved).unwrap();
        fs::remove_dir(&dir).unwrap();
        assert!(kept(lab).is_empty());
        // What the service makes up is asked from it.
        fs::write(&file, b"x").unwrap();
        let before = mock.wire_counters().calls;
        let status = xattr::get(&file, "user.s3files.status;1").unwrap().unwrap();
        assert!(String::from_utf8(status).unwrap().contains("S3Key"));
        assert!(mock.wire_counters().calls > before);
        mounted.umount().unwrap();
    });
}

#[test]
fn a_server_that_keeps_attributes_gets_them() {
    on(MockServer::builder().profile(Profile::Full), |mock, lab| {
        let mounted = lab.mount(mock, &["--xattrs", "local"]).unwrap();
        fs::write(mounted.path("file"), b"x").unwrap();
        xattr::set(mounted.path("file"), NOTE, b"shared").unwrap();
        assert!(kept(lab).is_empty());
        mounted.umount().unwrap();
        let mounted = lab.mount(mock, &[]).unwrap();
        assert_eq!(note(&mounted.path("file")).as_deref(), Some("shared"));
        mounted.umount().unwrap();
    });
}

#[test]
fn without_options_linux_is_as_it_was() {
    mounted(&[], |mock, lab, mounted| {
        fs::write(mounted.path(".DS_Store"), b"x").unwrap();
        assert!(on_server(mock, ".DS_Store"));
        assert_eq!(errno(xattr::set(mounted.path(".DS_Store"), NOTE, b"x")), Errno::EOPNOTSUPP);
        fs::write(mounted.path("e\u{301}"), b"x").unwrap();
        assert!(on_server(mock, "e\u{301}") && !on_server(mock, "\u{e9}"));
        assert!(!lab.path("home/.local/state/s3files-fuse/local").exists());
        mounted.umount().unwrap();
    });
}

#[test]
fn names_go_to_the_server_composed_and_other_forms_are_still_found() {
    let tree = tempfile::tempdir().unwrap();
    let (apart, whole) = ("u\u{308}ber", "\u{fc}ber");
    fs::create_dir(tree.path().join("old")).unwrap();
    fs::write(tree.path().join("old").join(apart), b"apart").unwrap();
    fs::create_dir(tree.path().join("both")).unwrap();
    fs::write(tree.path().join("both").join(apart), b"apart").unwrap();
    fs::write(tree.path().join("both").join(whole), b"whole").unwrap();
    on(MockServer::builder().import(tree.path()), |mock, lab| {
        let mounted = lab.mount(mock, &["--names", "nfc"]).unwrap();
        let new = mounted.path("new");
        fs::create_dir(&new).unwrap();
        fs::write(new.join(apart), b"one").unwrap();
        assert!(on_server(mock, &format!("new/{whole}")) && !on_server(mock, &format!("new/{apart}")));
        assert_eq!(names(&new), [whole]);
        for name in [apart, whole] {
            assert_eq!(fs::read(new.join(name)).unwrap(), b"one");
        }
        fs::create_dir(new.join("cafe\u{301}")).unwrap();
        fs::rename(new.join(apart), new.join("cafe\u{301}").join("\u{e9}t\u{e9}")).unwrap();
        assert!(on_server(mock, "new/caf\u{e9}/\u{e9}t\u{e9}"));
        assert_eq!(fs::read(new.join("caf\u{e9}/e\u{301}te\u{301}")).unwrap(), b"one");
        assert_eq!(errno(fs::metadata(new.join(apart))), Errno::ENOENT, "it was renamed by the other form");
        fs::remove_file(new.join("caf\u{e9}/e\u{301}te\u{301}")).unwrap();
        assert_eq!(errno(fs::metadata(new.join("caf\u{e9}/\u{e9}t\u{e9}"))), Errno::ENOENT);
        // A name that is there in the other form is that file's.
        let old = mounted.path("old");
        assert_eq!(fs::read(old.join(apart)).unwrap(), b"apart");
        assert_eq!(fs::read(old.join(whole)).map_err(|error| error.kind()), Err(ErrorKind::NotFound));
        fs::write(old.join(apart), b"again").unwrap();
        assert_eq!(names(&old), [apart]);
        assert_eq!(errno(File::options().write(true).create_new(true).open(old.join(apart))), Errno::EEXIST);
        // Where both are, each is itself.
        let both = mounted.path("both");
        assert_eq!(names(&both).len(), 2);
        assert_eq!(
            (fs::read(both.join(apart)).unwrap(), fs::read(both.join(whole)).unwrap()),
            (b"apart".to_vec(), b"whole".to_vec())
        );
        fs::remove_file(both.join(apart)).unwrap();
        assert_eq!(names(&both), [whole]);
        mounted.umount().unwrap();
    });
}

#[test]
fn a_change_by_one_form_leaves_the_other_form_s_file_alone_in_a_directory_too_large_to_be_known() {
    let tree = tempfile::tempdir().unwrap();
    let (apart, whole) = ("u\u{308}ber", "\u{fc}ber");
    let twins = ["file", "saved", "moved", "dir"].map(|name| (format!("{apart} {name}"), format!("{whole} {name}")));
    for n in 0..FILES {
        fs::write(tree.path().join(format!("a rather long name, so that pages fill up soon {n:04}")), b"").unwrap();
    }
    for (apart, whole) in &twins[..3] {
        fs::write(tree.path().join(apart), b"apart").unwrap();
        fs::write(tree.path().join(whole), b"whole").unwrap();
    }
    fs::create_dir(tree.path().join(&twins[3].0)).unwrap();
    fs::create_dir(tree.path().join(&twins[3].1)).unwrap();
    on(MockServer::builder().import(tree.path()), |mock, lab| {
        let mounted = lab.mount(mock, &["--names", "nfc"]).unwrap();
        let [file, saved, moved, dir] = &twins;
        fs::remove_file(mounted.path(&file.0)).unwrap();
        fs::rename(mounted.path(&moved.0), mounted.path(&saved.0)).unwrap();
        fs::remove_dir(mounted.path(&dir.0)).unwrap();
        for (gone, stays) in [file, moved, dir] {
            assert!(!on_server(mock, gone) && on_server(mock, stays), "{stays}");
        }
        assert_eq!(fs::read(mounted.path(&saved.1)).unwrap(), b"whole");
        mounted.umount().unwrap();
    });
}

/// Whether that is so soon: the kernel is told behind everybody's back.
fn soon(is_so: impl Fn() -> bool) -> bool {
    let waited = SystemTime::now();
    while waited.elapsed().unwrap() < Duration::from_secs(2) {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

#[test]
fn what_is_changed_by_one_form_of_a_name_is_seen_by_the_other() {
    mounted(&["--names", "nfc"], |_, _, mounted| {
        let (apart, whole) = (mounted.path("u\u{308}ber"), mounted.path("\u{fc}ber"));
        let is_there = || fs::symlink_metadata(&whole).is_ok();
        fs::write(&whole, b"x").unwrap();
        assert!(is_there());
        fs::remove_file(&apart).unwrap();
        assert!(soon(|| !is_there()), "removed");
        fs::create_dir(&apart).unwrap();
        assert!(soon(is_there), "made");
        fs::rename(&apart, mounted.path("plain")).unwrap();
        assert!(soon(|| !is_there()), "renamed");
        symlink("plain", &apart).unwrap();
        assert!(soon(is_there), "linked");
        assert!(!mounted.path("\u{fc}").exists());
        fs::rename(mounted.path("plain"), mounted.path("u\u{308}")).unwrap();
        assert!(soon(|| mounted.path("\u{fc}").is_dir()), "renamed to");
        mounted.umount().unwrap();
    });
}
