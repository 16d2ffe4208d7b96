//! Attributes as they are kept, for a million files at once: [`Attr`] without what is the same for ever or next to never
//! there, and laid out without gaps.

use std::num::NonZeroU64;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::attr::{Attr, FileKind, Timestamp};

/// See the module's page. A device's number is not among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    ino: u64,
    pub(crate) size: u64,
    space_used: u64,
    pub(crate) change: u64,
    /// Of atime, mtime, ctime.
    seconds: [i64; 3],
    nanos: [u32; 3],
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) nlink: u32,
    mode: u16,
    pub(crate) kind: FileKind,
    /// How far and for how long they may be believed; [`AttrCache`](crate::attrs::AttrCache) has the say. Here is room.
    pub(crate) holds: Holds,
    pub(crate) timeout_millis: u32,
}

/// How much of a set of attributes may be believed while its time has not run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Holds {
    Wholly,
    /// `change` is up to date (from a change_info4): good for validating names, the rest is not for showing to users.
    Change,
    Nothing,
}

/// Which of the times.
#[derive(Clone, Copy)]
enum Of {
    Access,
    Modification,
    Change,
}

impl Known {
    #[allow(clippy::cast_possible_truncation)] // the mode's bits are cut to those that are one
    pub(crate) const fn new(attr: &Attr) -> Self {
        Self {
            ino: attr.ino,
            size: attr.size,
            space_used: attr.space_used,
            change: attr.change,
            seconds: [attr.atime.seconds, attr.mtime.seconds, attr.ctime.seconds],
            nanos: [attr.atime.nanos, attr.mtime.nanos, attr.ctime.nanos],
            uid: attr.uid,
            gid: attr.gid,
            nlink: attr.nlink,
            mode: (attr.mode & 0o7777) as u16,
            kind: attr.kind,
            holds: Holds::Wholly,
            timeout_millis: 0,
        }
    }

    const fn time(&self, of: Of) -> Timestamp {
        Timestamp { seconds: self.seconds[of as usize], nanos: self.nanos[of as usize] }
    }

    const fn set_time(&mut self, of: Of, to: Timestamp) {
        self.seconds[of as usize] = to.seconds;
        self.nanos[of as usize] = to.nanos;
    }

    pub(crate) const fn mode(&self) -> u32 {
        self.mode as u32
    }

    pub(crate) const fn mtime(&self) -> Timestamp {
        self.time(Of::Modification)
    }

    pub(crate) const fn ctime(&self) -> Timestamp {
        self.time(Of::Change)
    }

    pub(crate) const fn set_mtime(&mut self, to: Timestamp) {
        self.set_time(Of::Modification, to);
    }

    pub(crate) const fn set_ctime(&mut self, to: Timestamp) {
        self.set_time(Of::Change, to);
    }

    /// For a file that nobody looks at.
    pub(crate) fn rest(&self) -> Resting {
        let change = self.ctime();
        // Differences are small numbers.
        let since = |of| {
            let time = self.time(of);
            (time != change).then_some((time.seconds.wrapping_sub(change.seconds), time.nanos))
        };
        Resting {
            size: self.size,
            space_used: self.space_used,
            change: self.change,
            ctime: (change.seconds, change.nanos),
            mtime: since(Of::Modification),
            atime: since(Of::Access),
            uid: self.uid,
            gid: self.gid,
            nlink: self.nlink,
            mode: self.mode,
            kind: self.kind,
            holds: self.holds,
            timeout_millis: self.timeout_millis,
        }
    }

    /// In full, of a file with this device number.
    pub(crate) const fn attr(&self, rdev: (u32, u32)) -> Attr {
        Attr {
            ino: self.ino,
            kind: self.kind,
            mode: self.mode as u32,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            size: self.size,
            space_used: self.space_used,
            rdev,
            atime: self.time(Of::Access),
            mtime: self.time(Of::Modification),
            ctime: self.time(Of::Change),
            change: self.change,
        }
    }
}

/// [`Known`] without the number, in the form in which it is stored.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Resting {
    size: u64,
    space_used: u64,
    change: u64,
    ctime: (i64, u32),
    /// Seconds counted from `ctime`; `None`: the same.
    mtime: Option<(i64, u32)>,
    atime: Option<(i64, u32)>,
    uid: u32,
    gid: u32,
    nlink: u32,
    mode: u16,
    kind: FileKind,
    holds: Holds,
    timeout_millis: u32,
}

impl Resting {
    pub(crate) fn wake(self, ino: u64) -> Known {
        let (seconds, _) = self.ctime;
        let times = [self.atime, self.mtime, None]
            .map(|time| time.map_or(self.ctime, |(since, nanos)| (seconds.wrapping_add(since), nanos)));
        Known {
            ino,
            size: self.size,
            space_used: self.space_used,
            change: self.change,
            seconds: times.map(|(seconds, _)| seconds),
            nanos: times.map(|(_, nanos)| nanos),
            uid: self.uid,
            gid: self.gid,
            nlink: self.nlink,
            mode: self.mode,
            kind: self.kind,
            holds: self.holds,
            timeout_millis: self.timeout_millis,
        }
    }
}

/// An [`Instant`] in half the space, counted from one before the first that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Moment(NonZeroU64);

/// An instant that was taken just before this is asked for the first time can be kept, too.
static FIRST: LazyLock<Instant> = LazyLock::new(|| {
    let now = Instant::now();
    now.checked_sub(Duration::from_mins(1)).unwrap_or(now)
});

impl Moment {
    pub(crate) fn new(at: Instant) -> Self {
        let nanos = u64::try_from(at.saturating_duration_since(*FIRST).as_nanos()).unwrap_or(u64::MAX);
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    pub(crate) fn instant(self) -> Instant {
        *FIRST + Duration::from_nanos(self.0.get() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_out_as_they_went_in() {
        let time = |seconds| Timestamp { seconds, nanos: 7 };
        let attr = Attr {
            ino: 5,
            kind: FileKind::BlockDevice,
            mode: 0o7644,
            nlink: 3,
            uid: 1,
            gid: 2,
            size: 1 << 40,
            space_used: 9,
            rdev: (8, 1),
            atime: time(i64::MIN),
            mtime: time(i64::MAX),
            ctime: time(3),
            change: u64::MAX,
        };
        let known = Known::new(&attr);
        assert_eq!(known.attr(attr.rdev), attr);
        assert_eq!(known.rest().wake(5), known);
    }

    #[test]
    fn a_moment_is_the_instant_it_was_made_from() {
        let before = Instant::now();
        for at in [before, before + Duration::from_secs(3)] {
            assert_eq!(Moment::new(at).instant(), at);
        }
    }
}
