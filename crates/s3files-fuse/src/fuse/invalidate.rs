//! Tells the kernel what it must no longer believe.
//!
//! The kernel takes such a notice only when nothing it concerns is locked, and a page is locked until the READ for it
//! is answered. Whoever sends the notice may therefore have to wait for a task that answers requests, and must not be
//! one of them: the notices wait in a set, and a thread of its own sends them. A set, because many notices about one
//! file are worth one; it never holds more than there are files.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use fuser::{INodeNo, Notifier};
use vfs::KernelCache;

/// Is told that the kernel has taken a notice.
type Told = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Waiting {
    /// With those who wait for it.
    inodes: BTreeMap<u64, Vec<Told>>,
    entries: BTreeSet<(u64, Box<[u8]>)>,
    ended: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.inodes.is_empty() && self.entries.is_empty()
    }
}

/// Where the notices wait.
#[derive(Default)]
struct Notices {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

impl Notices {
    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.notify_one();
    }

    /// All that wait, as soon as there are any; `None` at the end.
    fn take(&self) -> Option<Waiting> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting = self
            .news
            .wait_while(waiting, |waiting| waiting.is_empty() && !waiting.ended)
            .unwrap_or_else(PoisonError::into_inner);
        if waiting.ended { None } else { Some(std::mem::take(&mut *waiting)) }
    }
}

impl KernelCache for Notices {
    fn invalidate_inode(&self, ino: u64) {
        self.change(|waiting| {
            waiting.inodes.entry(ino).or_default();
        });
    }

    fn drop_inode(&self, ino: u64, dropped: Told) {
        self.change(|waiting| {
            let told = waiting.inodes.entry(ino).or_default();
            // macFUSE may hold the file locked while it waits for the answer, which must not wait for a notice then.
            if cfg!(target_os = "linux") {
                told.push(dropped);
            }
        });
    }

    fn invalidate_entry(&self, parent: u64, name: &[u8]) {
        self.change(|waiting| {
            waiting.entries.insert((parent, name.into()));
        });
    }
}

/// The thread that sends notices. It ends when this is dropped.
pub struct Invalidator {
    notices: Arc<Notices>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Invalidator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invalidator").finish_non_exhaustive()
    }
}

impl Invalidator {
    pub fn start(notifier: Notifier) -> io::Result<Self> {
        let notices = Arc::new(Notices::default());
        let taken = Arc::clone(&notices);
        let thread = std::thread::Builder::new().name("invalidate".to_owned()).spawn(move || {
            while let Some(waiting) = taken.take() {
                send(&notifier, waiting);
            }
        })?;
        Ok(Self { notices, thread: Some(thread) })
    }

    pub fn kernel_cache(&self) -> Arc<dyn KernelCache> {
        Arc::clone(&self.notices) as Arc<dyn KernelCache>
    }
}

impl Drop for Invalidator {
    fn drop(&mut self) {
        self.notices.change(|waiting| waiting.ended = true);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say: a panic in it was printed when it happened.
            let _ = thread.join();
        }
    }
}

fn send(notifier: &Notifier, waiting: Waiting) {
    // Those for whom somebody waits come first.
    for (ino, told) in waiting.inodes {
        // From the first byte to the last: attributes and data.
        if note(notifier.inval_inode(INodeNo(ino), 0, 0)) {
            for told in told {
                told();
            }
        }
    }
    for (parent, name) in waiting.entries {
        note(notifier.inval_entry(INodeNo(parent), OsStr::from_bytes(&name)));
    }
}

/// Whether the kernel holds nothing old any more.
fn note(sent: io::Result<()>) -> bool {
    let Err(error) = sent else { return true };
    tracing::debug!(%error, "the kernel did not take an invalidation");
    // It does not know it, and so holds nothing of it.
    error.kind() == io::ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn many_notices_about_one_file_are_sent_once() {
        let notices = Notices::default();
        for _ in 0..1000 {
            notices.invalidate_inode(7);
            notices.invalidate_entry(1, b"name");
        }
        let waiting = notices.take().unwrap();
        assert_eq!((waiting.inodes.len(), waiting.entries.len()), (1, 1));
    }

    #[test]
    fn the_end_wakes_the_thread_up() {
        let notices = Arc::new(Notices::default());
        let taken = Arc::clone(&notices);
        let thread = std::thread::spawn(move || taken.take().is_none());
        notices.change(|waiting| waiting.ended = true);
        assert!(thread.join().unwrap());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn whoever_waits_is_told_by_the_thread_and_not_before() {
        let notices = Notices::default();
        let (sender, told) = std::sync::mpsc::channel();
        notices.invalidate_inode(7);
        notices.drop_inode(7, Box::new(move || sender.send(()).unwrap()));
        assert!(told.try_recv().is_err());
        let mut waiting = notices.take().unwrap();
        for told in waiting.inodes.remove(&7).unwrap() {
            told();
        }
        told.recv().unwrap();
    }
}
