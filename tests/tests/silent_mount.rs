//! Folders on which somebody else's FUSE file system is mounted whose daemon takes every question and answers none. Who
//! looks at one hangs, so that not even a kill helps: no command may.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use fuser::{
    AccessFlags, BackgroundSession, Config, FileHandle, Filesystem, INodeNo, OpenFlags, ReplyAttr, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use whole_product_tests::{Done, Lab, run};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(1);
/// A look that is given up, and the rest.
const ANSWER: Duration = Duration::from_secs(8);

/// Keeps every question.
struct Silent;

impl Filesystem for Silent {
    fn getattr(&self, _: &Request, _: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        std::mem::forget(reply);
    }

    fn lookup(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        std::mem::forget(reply);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        std::mem::forget(reply);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        std::mem::forget(reply);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        std::mem::forget(reply);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        std::mem::forget(reply);
    }
}

/// The mount ends with it, and whoever waits gets an error.
fn silent(folder: &Path) -> BackgroundSession {
    fuser::spawn_mount(Silent, folder, &Config::default()).unwrap()
}

fn ask(lab: &Lab, arguments: &[&str]) -> Done {
    run(&mut lab.product(arguments), ANSWER).unwrap_or_else(|error| panic!("{arguments:?} hangs: {error}"))
}

#[test]
fn no_command_hangs_in_a_folder_whose_daemon_does_not_answer() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let mount = silent(&lab.folder());
    let (folder, link) = (lab.folder().display().to_string(), lab.path("link").display().to_string());
    symlink(lab.folder(), &link).unwrap();
    for folder in [&folder, &link] {
        let done = ask(&lab, &["status", folder]);
        assert_eq!((done.code(), done.stderr.contains("does not answer")), (14, true), "{done:?}");
        let done = ask(&lab, &["umount", folder]);
        assert_eq!((done.code(), done.stderr.contains("does not answer")), (14, true), "{done:?}");
        assert!(done.stderr.contains(&format!("fusermount3 -u -z {}", lab.folder().display())), "{done:?}");
        let done = ask(&lab, &["mount", "127.0.0.1:1", "--plain", folder]);
        assert_eq!((done.code(), done.stderr.contains("is a mount already")), (4, true), "{done:?}");
        let done = ask(&lab, &["doctor", "127.0.0.1:1", "--plain", folder]);
        assert!(done.stdout.contains("is a mount already"), "{done:?}");
    }
    drop(mount);
}

/// The same by a program that is alive, to see that the answer above comes from the silence.
#[test]
fn a_foreign_mount_that_answers_is_told_from_a_silent_one() {
    struct Empty;
    impl Filesystem for Empty {}
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let mount = fuser::spawn_mount(Empty, lab.folder(), &Config::default()).unwrap();
    let done = ask(&lab, &["status", &lab.folder().display().to_string()]);
    assert_eq!((done.code(), done.stderr.contains("not one of this user's")), (14, true), "{done:?}");
    assert!(!done.stderr.contains("does not answer"), "{done:?}");
    drop(mount);
}
