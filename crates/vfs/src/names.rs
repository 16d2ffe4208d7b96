//! The names of one directory, believed for one state of it (RFC 8881 §5.8.1.4, §3.3.3).
//!
//! The one idea: all names belong to one value of the directory's change attribute. While the directory is at that
//! value they are true, those that are missing included; once it is at another, none is. Our own operations move the value
//! on, because their replies say from which value to which they went (`change_info4`): when that begins where we are, the
//! names stay, with the one edit. Replies overtake each other, so an edit that begins elsewhere is parked as long as
//! other operations of ours are under way.
//!
//! Servers that do not make the change and the two values in one step (`atomic` false) leave a gap in which somebody
//! else's change goes unseen. So does our own SETATTR of the directory, which has no such reply: GETATTR before and after
//! it tells the values. Names kept across such a gap are believed for a limited time only.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::{Duration, Instant};

use nfs4_client::ChangeInfo;

use crate::attr::FileKind;
use crate::inode::NodeId;
use crate::name::Name;

/// Most names that are remembered as missing one by one.
const MISSING_LIMIT: usize = 4096;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dentry {
    /// This file.
    Present { id: NodeId, kind: FileKind },
    /// Something of which no more is known.
    Unknown,
    /// Nothing.
    Missing,
}

/// A [`Dentry`] as it is stored: the inode number, and the serial with what else there is to say in its lowest bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stored {
    ino: u64,
    rest: u64,
}

impl Stored {
    const UNKNOWN: Self = Self { ino: 0, rest: 0 };
    const MISSING: Self = Self { ino: 0, rest: 1 };
    /// From here on it is a file of one of these kinds.
    const PRESENT: u64 = 2;
    const KINDS: [FileKind; 7] = [
        FileKind::Regular,
        FileKind::Directory,
        FileKind::Symlink,
        FileKind::Fifo,
        FileKind::Socket,
        FileKind::CharDevice,
        FileKind::BlockDevice,
    ];
    const BITS: u32 = 4;

    const fn dentry(self) -> Dentry {
        match self.rest & ((1 << Self::BITS) - 1) {
            0 => Dentry::Unknown,
            1 => Dentry::Missing,
            tag => Dentry::Present {
                id: NodeId { ino: self.ino, serial: self.rest >> Self::BITS },
                kind: Self::KINDS[(tag - Self::PRESENT) as usize],
            },
        }
    }
}

impl From<Dentry> for Stored {
    fn from(dentry: Dentry) -> Self {
        match dentry {
            Dentry::Unknown => Self::UNKNOWN,
            Dentry::Missing => Self::MISSING,
            Dentry::Present { id, kind } => {
                let tag = Self::KINDS.iter().position(|other| *other == kind).unwrap_or(0) as u64 + Self::PRESENT;
                Self { ino: id.ino, rest: id.serial << Self::BITS | tag }
            }
        }
    }
}

/// How an operation of ours changed the names.
#[derive(Debug, Clone)]
pub(crate) struct Edit(pub(crate) Name, pub(crate) Dentry);

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Names {
    map: BTreeMap<Name, Stored>,
    missing: usize,
    /// The directory's change attribute to which the names belong; `None`: nothing is known.
    change: Option<u64>,
    /// All names are in the map.
    complete: bool,
    /// Until when names may be believed after a change that was not one step.
    trusted_until: Option<Instant>,
    own_under_way: u32,
    /// Own changes that begin where we are not yet.
    parked: Vec<(ChangeInfo, Vec<Edit>)>,
    /// The directory was seen at another value while own operations were under way.
    seen: Option<u64>,
    /// Counts own changes.
    edits: u64,
}

impl Names {
    /// What is known of a name, given that the directory is at `change` now.
    pub(crate) fn get(&mut self, name: &[u8], change: Option<u64>, now: Instant) -> Option<Dentry> {
        if !self.holds(change, now) {
            return None;
        }
        match self.stored(name) {
            Some(Dentry::Unknown) => None,
            Some(dentry) => Some(dentry),
            None => self.complete.then_some(Dentry::Missing),
        }
    }

    fn stored(&self, name: &[u8]) -> Option<Dentry> {
        self.map.get(name).map(|stored| stored.dentry())
    }

    /// Whether a missing name was never asked for: that it is missing follows from a listing.
    pub(crate) fn is_inferred(&self, name: &[u8]) -> bool {
        !self.map.contains_key(name)
    }

    /// All names that exist, if all are known.
    pub(crate) fn all(&mut self, change: Option<u64>, now: Instant) -> Option<Vec<(Name, Dentry)>> {
        (self.holds(change, now) && self.complete).then(|| {
            let exists = |(_, stored): &(&Name, &Stored)| **stored != Stored::MISSING;
            self.map.iter().filter(exists).map(|(name, stored)| (name.clone(), stored.dentry())).collect()
        })
    }

    /// How many names there are, if all are known and they are no more than `limit`.
    pub(crate) fn len_if_complete(&mut self, change: Option<u64>, now: Instant, limit: usize) -> Option<usize> {
        (self.holds(change, now) && self.complete && self.map.len() <= limit).then_some(self.map.len())
    }

    /// All names are known, for the value of the change attribute that was seen last.
    pub(crate) const fn is_complete(&self) -> bool {
        self.complete && self.change.is_some()
    }

    /// The inode numbers of the subdirectories among all names; none when not all are known.
    pub(crate) fn subdirectories(&self) -> Vec<u64> {
        let directory = |stored: &Stored| match stored.dentry() {
            Dentry::Present { id, kind: FileKind::Directory } => Some(id.ino),
            _ => None,
        };
        if self.is_complete() { self.map.values().filter_map(directory).collect() } else { Vec::new() }
    }

    /// The regular files behind a name, in the order of their names, as far as they are known.
    pub(crate) fn files_after(&self, name: &Name, count: usize) -> Vec<(Name, NodeId)> {
        let behind = (Bound::Excluded(name), Bound::Unbounded);
        let file = |(name, stored): (&Name, &Stored)| match stored.dentry() {
            Dentry::Present { id, kind: FileKind::Regular } => Some((name.clone(), id)),
            _ => None,
        };
        self.map.range::<Name, _>(behind).filter_map(file).take(count).collect()
    }

    /// The file that a name stood for when it was last heard of, whether or not that still holds.
    pub(crate) fn last_known(&self, name: &[u8]) -> Option<NodeId> {
        match self.stored(name) {
            Some(Dentry::Present { id, .. }) => Some(id),
            _ => None,
        }
    }

    /// Whether an own change that went as `info` says found this file under the name, whoever else changes the directory.
    pub(crate) fn found(&self, name: &[u8], id: NodeId, info: ChangeInfo) -> bool {
        let is_one_step = info.atomic && self.trusted_until.is_none() && self.change == Some(info.before);
        is_one_step && self.last_known(name) == Some(id)
    }

    fn holds(&mut self, change: Option<u64>, now: Instant) -> bool {
        if self.trusted_until.is_some_and(|until| now >= until) {
            self.forget();
        }
        change.is_some() && self.change == change
    }

    /// Counts own changes: a listing that was begun before one may lack it.
    pub(crate) const fn edits(&self) -> u64 {
        self.edits
    }

    /// The server said that the directory is at `change`.
    pub(crate) fn observe(&mut self, change: u64) {
        if self.change == Some(change) {
            return;
        }
        if self.own_under_way > 0 && self.change.is_some() {
            // May be our own doing, whose reply will tell.
            self.seen = Some(change);
            return;
        }
        self.forget();
        self.change = Some(change);
    }

    /// Our own change of the directory's attributes took it from one value to the other: its names are the same. The
    /// values were asked for before and after it, so this is no more one step than a change that was not atomic.
    pub(crate) fn carry(&mut self, before: u64, after: u64, now: Instant, trust: Duration) {
        if self.change == Some(before) && self.own_under_way == 0 {
            self.follow(ChangeInfo { atomic: before == after, before, after }, Vec::new(), now, trust);
        }
    }

    /// A lookup found out what a name stands for when the directory was at `change`.
    pub(crate) fn learn(&mut self, change: u64, name: &[u8], dentry: Dentry) {
        if self.change == Some(change) {
            self.set(name.into(), dentry);
        }
    }

    /// The name turned out to be something else than we thought, whatever the directory's state.
    pub(crate) fn unlearn(&mut self, name: &[u8]) {
        if self.map.contains_key(name) {
            self.set(name.into(), Dentry::Unknown);
        }
    }

    /// A whole listing was read while the directory was at `change` all the time.
    pub(crate) fn install(&mut self, change: u64, names: impl IntoIterator<Item = (Name, Dentry)>) {
        if self.change != Some(change) || self.own_under_way > 0 {
            return;
        }
        self.map = names.into_iter().map(|(name, dentry)| (name, dentry.into())).collect();
        self.missing = 0;
        self.complete = true;
        self.trusted_until = None;
    }

    /// Whether operations of ours are under way.
    pub(crate) const fn is_changing(&self) -> bool {
        self.own_under_way > 0
    }

    /// An operation of ours that changes the directory is about to be sent.
    pub(crate) const fn begin(&mut self) {
        self.own_under_way += 1;
    }

    /// The operation failed: it changed nothing.
    pub(crate) fn end_failed(&mut self) {
        self.own_under_way = self.own_under_way.saturating_sub(1);
        self.settle();
    }

    /// The operation is done. `trust`: how long names are believed across a change that was not atomic.
    pub(crate) fn end(&mut self, info: ChangeInfo, edits: Vec<Edit>, now: Instant, trust: Duration) {
        self.own_under_way = self.own_under_way.saturating_sub(1);
        self.edits += 1;
        if self.change.is_none() {
            // Nothing was known: what the edits say holds at `after`.
            self.forget();
            self.follow(info, edits, now, trust);
        } else if self.change == Some(info.before) {
            self.follow(info, edits, now, trust);
            while let Some(next) = self.parked.iter().position(|(info, _)| self.change == Some(info.before)) {
                let (info, edits) = self.parked.swap_remove(next);
                self.follow(info, edits, now, trust);
            }
        } else {
            self.parked.push((info, edits));
        }
        self.settle();
    }

    fn follow(&mut self, info: ChangeInfo, edits: Vec<Edit>, now: Instant, trust: Duration) {
        self.change = Some(info.after);
        if !info.atomic && self.trusted_until.is_none() {
            self.trusted_until = Some(now + trust);
        }
        self.apply(edits);
    }

    fn apply(&mut self, edits: Vec<Edit>) {
        for Edit(name, dentry) in edits {
            self.set(name, dentry);
        }
    }

    /// When no operation of ours is under way any more, what doesn't fit was somebody else's change.
    fn settle(&mut self) {
        if self.own_under_way > 0 {
            return;
        }
        let overtaken = |change: u64| self.seen.is_none_or(|seen| seen.wrapping_sub(change).cast_signed() <= 0);
        if !self.parked.is_empty() || !self.change.is_some_and(overtaken) {
            self.forget();
        }
        self.seen = None;
    }

    fn set(&mut self, name: Name, dentry: Dentry) {
        let missing = dentry == Dentry::Missing;
        if missing && self.missing >= MISSING_LIMIT {
            if self.map.remove(&name) == Some(Stored::MISSING) {
                self.missing -= 1;
            }
            return;
        }
        self.missing += usize::from(missing);
        if self.map.insert(name, dentry.into()) == Some(Stored::MISSING) {
            self.missing -= 1;
        }
    }

    /// Forgets all names.
    pub(crate) fn forget(&mut self) {
        self.map = BTreeMap::new();
        self.missing = 0;
        self.change = None;
        self.complete = false;
        self.trusted_until = None;
        self.parked.clear();
    }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
