//! Tells the kernel what it must no longer believe.
//!
//! The kernel takes such a notice only when nothing it concerns is locked, and a page is locked until the READ for it
//! is answered. Whoever sends the notice may therefore have to wait for a task that answers requests, and must not be
//! one of them: the notices wait in a set, and a thread of its own sends them. A set, because many notices about one
//! file are worth one; it never holds more than there are files.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use fuser::{INodeNo, Notifier};
use vfs::KernelCache;

#[derive(Debug, Default)]
struct Waiting {
    inodes: BTreeSet<u64>,
    entries: BTreeSet<(u64, Box<[u8]>)>,
    ended: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.inodes.is_empty() && self.entries.is_empty()
    }
}

/// Where the notices wait.
#[derive(Debug, Default)]
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
            waiting.inodes.insert(ino);
        });
    }

    fn invalidate_entry(&self, parent: u64, name: &[u8]) {
        self.change(|waiting| {
            waiting.entries.insert((parent, name.into()));
        });
    }
}

/// The thread that sends notices. It ends when this is dropped.
#[derive(Debug)]
pub struct Invalidator {
    notices: Arc<Notices>,
    thread: Option<JoinHandle<()>>,
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
    for (parent, name) in waiting.entries {
        note(notifier.inval_entry(INodeNo(parent), OsStr::from_bytes(&name)));
    }
    for ino in waiting.inodes {
        // From the first byte to the last: attributes and data.
        note(notifier.inval_inode(INodeNo(ino), 0, 0));
    }
}

fn note(sent: io::Result<()>) {
    if let Err(error) = sent {
        tracing::debug!(%error, "the kernel did not take an invalidation");
    }
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
}
