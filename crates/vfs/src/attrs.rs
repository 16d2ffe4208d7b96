//! How long attributes may be believed, and what a newer set of them says about cached data.
//!
//! The one idea is NFS's adaptive time-out: attributes that turn out unchanged are believed longer next time, up to a
//! limit; changed ones start again at the minimum. Each such answer adds the time since the last one, and at most doubles
//! the time-out: however many there are, it is never longer than the minimum and the time for which nothing has been
//! seen to change. Two things make it more than a clock:
//!
//! - **Order.** Replies overtake each other. A set is older than what we hold when its change attribute is lower, or
//!   equal, and it was asked for before ours arrived; such a set is ignored.
//! - **Whose change.** A change attribute that moved because of our own WRITE or SETATTR must not throw away the pages
//!   that we have just written. As the Linux client does, a change seen in the reply to our own operation, or while own
//!   writes are on their way, counts as ours. (Two clients writing one file at the same time are outside close-to-open.)

use std::time::{Duration, Instant};

use nfs4_client::ChangeInfo;

use crate::attr::{Attr, FileKind, Timestamp};
use crate::known::{Holds, Known, Moment, Resting};

/// Shortest and longest time that attributes are believed.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub file_min: Duration,
    pub file_max: Duration,
    pub dir_min: Duration,
    pub dir_max: Duration,
}

impl Default for Timeouts {
    /// What NFS clients use: 3–60 s for files, 30–60 s for directories.
    fn default() -> Self {
        Self {
            file_min: Duration::from_secs(3),
            file_max: Duration::from_secs(60),
            dir_min: Duration::from_secs(30),
            dir_max: Duration::from_secs(60),
        }
    }
}

impl Timeouts {
    const fn bounds(&self, kind: FileKind) -> (Duration, Duration) {
        match kind {
            FileKind::Directory => (self.dir_min, self.dir_max),
            _ => (self.file_min, self.file_max),
        }
    }
}

/// What made the server send a set of attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// We asked (GETATTR, LOOKUP, READDIR, OPEN, READ): a change is somebody else's.
    Asked,
    /// The reply to our own WRITE, COMMIT or SETATTR: a change is ours.
    OwnChange,
}

/// What the caller of [`AttrCache::update`] has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The set was taken; false: it was older than what we hold.
    pub accepted: bool,
    /// Cached data (pages, names, listing, access answers) is of an older version: drop it.
    pub data_changed: bool,
}

/// The attributes of one inode and how long they hold.
#[derive(Clone, Debug)]
pub struct AttrCache {
    known: Known,
    received: Moment,
}

impl AttrCache {
    /// The first set.
    pub fn new(attr: &Attr, now: Instant, timeouts: &Timeouts) -> Self {
        let mut cache = Self { known: Known::new(attr), received: Moment::new(now) };
        cache.set_timeout(timeouts.bounds(attr.kind).0);
        cache
    }

    /// For a file that nobody looks at.
    pub(crate) fn rest(&self) -> (Resting, Moment) {
        (self.known.rest(), self.received)
    }

    /// The same again, under the file's number.
    pub(crate) fn wake((known, received): (Resting, Moment), ino: u64) -> Self {
        Self { known: known.wake(ino), received }
    }

    const fn timeout(&self) -> Duration {
        Duration::from_millis(self.known.timeout_millis as u64)
    }

    fn set_timeout(&mut self, timeout: Duration) {
        self.known.timeout_millis = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    }

    /// What we know, however old.
    pub(crate) const fn last(&self) -> &Known {
        &self.known
    }

    /// What we know, if it may still be shown.
    pub(crate) fn fresh(&self, now: Instant) -> Option<&Known> {
        (self.known.holds == Holds::Wholly && !self.remaining(now).is_zero()).then_some(&self.known)
    }

    /// The change attribute, if it may still be relied on to validate names.
    pub fn fresh_change(&self, now: Instant) -> Option<u64> {
        (!self.remaining(now).is_zero()).then_some(self.known.change)
    }

    /// For how much longer the set may be believed.
    pub fn remaining(&self, now: Instant) -> Duration {
        if self.known.holds == Holds::Nothing {
            return Duration::ZERO;
        }
        (self.received.instant() + self.timeout()).saturating_duration_since(now)
    }

    /// How long ago the set was received; for ever when it must not be used any more.
    pub fn age(&self, now: Instant) -> Duration {
        if self.known.holds == Holds::Nothing {
            return Duration::MAX;
        }
        now.saturating_duration_since(self.received.instant())
    }

    /// Ask again before times are shown; the change attribute still holds.
    pub fn expire_times(&mut self) {
        if self.known.holds == Holds::Wholly {
            self.known.holds = Holds::Change;
        }
    }

    /// Ask again before the next use.
    pub const fn expire(&mut self) {
        self.known.holds = Holds::Nothing;
    }

    /// A set arrived at `now`; it was asked for at `sent`. `busy`: own writes to this file are dirty or on their way, so
    /// the size we know can only be too small, and a change may be ours.
    pub fn update(
        &mut self,
        new: Attr,
        sent: Instant,
        now: Instant,
        origin: Origin,
        busy: bool,
        timeouts: &Timeouts,
    ) -> Outcome {
        let (min, max) = timeouts.bounds(new.kind);
        let asked_after = sent >= self.received.instant();
        let step = new.change.wrapping_sub(self.known.change).cast_signed();
        if step <= 0 && !asked_after && origin == Origin::Asked {
            return Outcome { accepted: false, data_changed: false };
        }
        if step < 0 && !asked_after {
            return Outcome { accepted: false, data_changed: false };
        }
        let unchanged = step == 0;
        let timeout = if !unchanged {
            min
        } else if asked_after && self.known.holds != Holds::Nothing {
            let since = now.saturating_duration_since(self.received.instant());
            (self.timeout() + since.min(self.timeout())).clamp(min, max)
        } else {
            self.timeout().clamp(min, max)
        };
        let size = if busy { self.known.size.max(new.size) } else { new.size };
        self.known = Known::new(&Attr { size, ..new });
        self.received = Moment::new(now);
        self.set_timeout(timeout);
        Outcome { accepted: true, data_changed: !unchanged && origin == Origin::Asked && !busy }
    }

    /// Our own change to a directory brought its change attribute to `after`; times and size are the server's to tell.
    pub fn own_directory_change(&mut self, after: u64, now: Timestamp) {
        // Replies overtake each other: an older one must not take the value back.
        if after.wrapping_sub(self.known.change).cast_signed() > 0 {
            self.known.change = after;
        }
        self.known.set_mtime(now);
        self.known.set_ctime(now);
        self.expire_times();
    }

    /// Our own change of an extended attribute, as the server told it. False: nobody knows whether it was the only change,
    /// so what is known of the file holds no longer.
    pub fn own_attribute_change(&mut self, info: ChangeInfo, now: Timestamp) -> bool {
        if !info.atomic || info.before != self.known.change || self.known.holds == Holds::Nothing {
            self.expire();
            return false;
        }
        self.known.change = info.after;
        self.renamed(now);
        self.expire_times();
        true
    }

    /// Our own truncation or write moved the end of the file.
    pub const fn set_size(&mut self, size: u64) {
        self.known.size = size;
    }

    /// Our own write, which the server does not have yet, changed the data now.
    pub fn touch(&mut self, now: Timestamp) {
        self.known.set_mtime(self.known.mtime().max(now));
        self.renamed(now);
    }

    /// A name of the file was made, changed or removed by us, at `now`.
    pub fn renamed(&mut self, now: Timestamp) {
        self.known.set_ctime(self.known.ctime().max(now));
    }

    /// The file has lost its last name (we hold it under a hidden one).
    pub const fn set_nlink(&mut self, nlink: u32) {
        self.known.nlink = nlink;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn attr(change: u64, size: u64) -> Attr {
        Attr {
            ino: 5,
            kind: FileKind::Regular,
            mode: 0o644,
            nlink: 1,
            uid: 0,
            gid: 0,
            size,
            space_used: size,
            rdev: (0, 0),
            atime: Timestamp::default(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            change,
        }
    }

    fn cache(now: Instant) -> (AttrCache, Timeouts) {
        let timeouts = Timeouts::default();
        (AttrCache::new(&attr(10, 100), now, &timeouts), timeouts)
    }

    #[test]
    fn attributes_are_believed_for_the_minimum_at_first() {
        let now = Instant::now();
        let (cache, _) = cache(now);
        assert!(cache.fresh(now + SECOND * 2).is_some());
        assert!(cache.fresh(now + SECOND * 3).is_none());
    }

    #[test]
    fn unchanged_attributes_are_believed_twice_as_long_each_time_up_to_the_limit() {
        let mut now = Instant::now();
        let (mut cache, timeouts) = cache(now);
        for expected in [6, 12, 24, 48, 60, 60] {
            now += SECOND * 61;
            let outcome = cache.update(attr(10, 100), now, now, Origin::Asked, false, &timeouts);
            assert_eq!(outcome, Outcome { accepted: true, data_changed: false });
            assert_eq!(cache.remaining(now), SECOND * expected);
        }
    }

    #[test]
    fn answers_that_follow_each_other_quickly_do_not_make_the_time_out_long() {
        let start = Instant::now();
        let (mut cache, timeouts) = cache(start);
        let mut now = start;
        for _ in 0..100 {
            now += Duration::from_millis(10);
            cache.update(attr(10, 100), now, now, Origin::Asked, false, &timeouts);
            let unchanged = now - start;
            assert!(cache.remaining(now) <= timeouts.file_min + unchanged, "after {unchanged:?}");
        }
        assert_eq!(cache.remaining(now), timeouts.file_min + SECOND, "but the second counts");
        cache.update(attr(11, 100), now, now, Origin::Asked, false, &timeouts);
        assert_eq!(cache.remaining(now), timeouts.file_min);
    }

    #[test]
    fn a_file_that_is_looked_at_often_is_believed_for_the_maximum_once_it_is_old() {
        let mut now = Instant::now();
        let (mut cache, timeouts) = cache(now);
        for _ in 0..timeouts.file_max.as_secs() {
            now += SECOND;
            cache.update(attr(10, 100), now, now, Origin::Asked, false, &timeouts);
        }
        assert_eq!(cache.remaining(now), timeouts.file_max);
    }

    #[test]
    fn a_foreign_change_drops_data_and_starts_at_the_minimum() {
        let start = Instant::now();
        let (mut cache, timeouts) = cache(start);
        cache.update(attr(10, 100), start + SECOND, start + SECOND, Origin::Asked, false, &timeouts);
        let now = start + SECOND * 2;
        let outcome = cache.update(attr(11, 50), now, now, Origin::Asked, false, &timeouts);
        assert_eq!(outcome, Outcome { accepted: true, data_changed: true });
        assert_eq!(cache.remaining(now), timeouts.file_min);
        assert_eq!(cache.last().size, 50);
    }

    #[test]
    fn our_own_write_changes_attributes_without_dropping_data() {
        let now = Instant::now();
        let (mut cache, timeouts) = cache(now);
        let outcome = cache.update(attr(11, 200), now, now + SECOND, Origin::OwnChange, false, &timeouts);
        assert_eq!(outcome, Outcome { accepted: true, data_changed: false });
        assert_eq!(cache.last().size, 200);
    }

    #[test]
    fn a_reply_that_was_overtaken_is_ignored() {
        let start = Instant::now();
        let (mut cache, timeouts) = cache(start);
        let sent = start + SECOND;
        cache.update(attr(12, 300), sent, sent + SECOND, Origin::OwnChange, false, &timeouts);
        for change in [11, 12] {
            let late = cache.update(attr(change, 100), sent, sent + SECOND * 2, Origin::Asked, false, &timeouts);
            assert!(!late.accepted);
            assert_eq!(cache.last().size, 300);
        }
    }

    #[test]
    fn a_server_that_went_back_in_time_is_believed_when_asked_afterwards() {
        let start = Instant::now();
        let (mut cache, timeouts) = cache(start);
        let now = start + SECOND;
        let outcome = cache.update(attr(3, 7), now, now, Origin::Asked, false, &timeouts);
        assert_eq!(outcome, Outcome { accepted: true, data_changed: true });
    }

    #[test]
    fn while_own_writes_are_on_their_way_the_size_never_shrinks_and_pages_stay() {
        let start = Instant::now();
        let (mut cache, timeouts) = cache(start);
        let now = start + SECOND;
        let outcome = cache.update(attr(11, 20), now, now, Origin::Asked, true, &timeouts);
        assert_eq!(outcome, Outcome { accepted: true, data_changed: false });
        assert_eq!(cache.last().size, 100);
    }

    #[test]
    fn a_change_info_keeps_names_valid_but_asks_for_the_times_again() {
        let now = Instant::now();
        let timeouts = Timeouts::default();
        let mut cache = AttrCache::new(&Attr { kind: FileKind::Directory, ..attr(1, 0) }, now, &timeouts);
        cache.own_directory_change(2, Timestamp { seconds: 9, nanos: 0 });
        assert_eq!(cache.fresh_change(now), Some(2));
        assert!(cache.fresh(now).is_none());
    }

    #[test]
    fn expired_attributes_are_never_fresh() {
        let now = Instant::now();
        let (mut cache, _) = cache(now);
        cache.expire();
        assert!(cache.fresh(now).is_none());
        assert!(cache.fresh_change(now).is_none());
    }
}
