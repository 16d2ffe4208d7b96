//! How many bytes may be kept on this computer for one file system.
//!
//! What is there is counted once, when a mount begins; after that every change is. Each file counts something for itself,
//! so that files without bytes have an end as well. Two mounts of one file system each count on their own: they may keep
//! up to twice as much until the next mount counts again.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a file counts beside its bytes.
const EACH: u64 = 1 << 10;

/// See the module's page.
#[derive(Debug)]
pub struct Room {
    limit: u64,
    used: AtomicU64,
}

impl Room {
    /// Room for `limit` bytes, of which so many are taken.
    pub fn new(limit: u64, used: u64) -> Self {
        Self { limit, used: AtomicU64::new(used) }
    }

    /// Takes so many bytes more, if they are there.
    #[must_use]
    pub fn take(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        bytes == 0 || self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// Gives bytes back.
    pub fn give(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        let _ = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    /// A file changes its weight; false: there is no room for that.
    #[must_use]
    pub fn exchange(&self, before: u64, after: u64) -> bool {
        if after > before {
            return self.take(after - before);
        }
        self.give(before - after);
        true
    }

    #[cfg(test)]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }
}

/// What a file of this length counts.
pub const fn of_file(len: u64) -> u64 {
    len.saturating_add(EACH)
}

/// What everything below a directory counts; links count as what they are, and are not followed.
pub fn weight(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.fold(0, |sum, entry| {
        let below = match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => of_file(0).saturating_add(weight(&entry.path())),
            Ok(metadata) => of_file(metadata.len()),
            Err(_) => 0,
        };
        sum.saturating_add(below)
    })
}

/// What everything in the directories of a directory counts, and these directories not.
pub fn weight_below(directory: &Path) -> u64 {
    let directories = std::fs::read_dir(directory).into_iter().flatten().flatten();
    directories.fold(0, |sum: u64, directory| sum.saturating_add(weight(&directory.path())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is_and_a_refusal_takes_nothing() {
        let room = Room::new(100, 40);
        assert!(room.take(60) && !room.take(1));
        assert!(room.exchange(60, 10) && room.exchange(10, 20));
        assert!(!room.exchange(20, 200));
        assert_eq!(room.used(), 60);
        assert!(!room.take(u64::MAX));
        room.give(u64::MAX);
        assert_eq!(room.used(), 0);
    }
}
