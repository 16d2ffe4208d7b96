//! A test's time limit, and the last resort for its mounts.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Fails the test that holds it when its time is over, also one that hangs in the kernel.
#[derive(Debug)]
pub struct Watch {
    done: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<bool>>,
    below: PathBuf,
}

impl Watch {
    /// Watches a test whose mounts are all below `below`.
    pub fn start(below: &Path, limit: Duration) -> Self {
        let (done, wait) = mpsc::channel();
        let folder = below.to_owned();
        let thread = std::thread::spawn(move || {
            let late = matches!(wait.recv_timeout(limit), Err(RecvTimeoutError::Timeout));
            if late {
                eprintln!("the test took longer than {limit:?}; its mounts are aborted");
                take_away(&folder);
            }
            late
        });
        Self { done: Some(done), thread: Some(thread), below: below.to_owned() }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.done.take());
        let late = self.thread.take().is_some_and(|thread| thread.join().unwrap_or(true));
        take_away(&self.below);
        assert!(!late || std::thread::panicking(), "the test took longer than it may");
    }
}

/// Aborts and detaches every mount below `below`.
fn take_away(below: &Path) {
    for (device, folder) in mounts(below) {
        // Needs the fusectl file system; without it detaching has to do.
        let _ = std::fs::write(format!("/sys/fs/fuse/connections/{device}/abort"), b"1");
        eprintln!("{} was still mounted", folder.display());
        for program in [&["umount", "-l"][..], &["fusermount3", "-u", "-z"]] {
            let detached = Command::new(program[0]).args(&program[1..]).arg(&folder).output();
            if detached.is_ok_and(|output| output.status.success()) {
                break;
            }
        }
    }
}

/// The mounts below a folder, each with the minor number of its device, the innermost first.
pub(crate) fn mounts(below: &Path) -> Vec<(String, PathBuf)> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let below = below.canonicalize().unwrap_or_else(|_| below.to_owned());
    let mount = |line: &str| {
        let mut fields = line.split(' ').skip(2);
        let device = fields.next()?.split_once(':')?.1.to_owned();
        let folder = PathBuf::from(fields.nth(1)?.replace("\\040", " "));
        folder.starts_with(&below).then_some((device, folder))
    };
    let mut mounts: Vec<_> = table.lines().filter_map(mount).collect();
    mounts.reverse();
    mounts
}
