//! Byte-range locks of one file: conflicts, splitting and merging (RFC 8881 §9.1, §18.10).

use nfs4::Nfs4Error;

/// A lock owner within the server: a client's owner name in this file (the number of its lock state).
pub type Holder = u64;

/// Bytes `first..=last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub first: u64,
    /// Last byte; all ones is the end of every file.
    pub last: u64,
}

impl ByteRange {
    /// The range of a LOCK's offset and length: a length of all ones reaches to the end of the file; INVAL for an
    /// empty range and for one that goes past the last offset (RFC 8881 §18.10.3).
    pub fn new(offset: u64, length: u64) -> Result<Self, Nfs4Error> {
        if length == u64::MAX {
            return Ok(Self { first: offset, last: u64::MAX });
        }
        let end = offset.checked_add(length).filter(|_| length > 0).ok_or(Nfs4Error::Inval)?;
        Ok(Self { first: offset, last: end - 1 })
    }

    /// As LOCK's length says it.
    pub fn length(&self) -> u64 {
        if self.last == u64::MAX { u64::MAX } else { self.last - self.first + 1 }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// One lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// Who holds it.
    pub holder: Holder,
    /// Which bytes.
    pub range: ByteRange,
    /// Whether it excludes readers too.
    pub write: bool,
}

impl Lock {
    /// Whether two locks cannot be held at once.
    pub fn clashes(&self, other: &Self) -> bool {
        let apart = self.holder != other.holder && !self.write && !other.write;
        !apart && self.range.overlaps(&other.range)
    }
}

/// All locks of one file.
#[derive(Debug, Clone, Default)]
pub struct RangeLocks {
    locks: Vec<Lock>,
}

impl RangeLocks {
    /// How many locks there are.
    pub fn len(&self) -> usize {
        self.locks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.locks.is_empty()
    }

    /// All locks.
    pub fn iter(&self) -> impl Iterator<Item = &Lock> {
        self.locks.iter()
    }

    /// Locks of one holder.
    pub fn of(&self, holder: Holder) -> impl Iterator<Item = &Lock> {
        self.locks.iter().filter(move |lock| lock.holder == holder)
    }

    /// A lock of another holder that is in the way.
    pub fn conflict(&self, holder: Option<Holder>, range: ByteRange, write: bool) -> Option<&Lock> {
        self.locks
            .iter()
            .find(|lock| Some(lock.holder) != holder && (write || lock.write) && lock.range.overlaps(&range))
    }

    /// Sets a lock that has no conflict: it replaces what the holder had there (up- or downgrade) and joins what
    /// touches it.
    pub fn lock(&mut self, holder: Holder, range: ByteRange, write: bool) {
        self.unlock(holder, range);
        let mut joined = range;
        self.locks.retain(|lock| {
            let touches = lock.range.last.checked_add(1) == Some(joined.first)
                || joined.last.checked_add(1) == Some(lock.range.first);
            if lock.holder == holder && lock.write == write && touches {
                joined =
                    ByteRange { first: joined.first.min(lock.range.first), last: joined.last.max(lock.range.last) };
                false
            } else {
                true
            }
        });
        self.locks.push(Lock { holder, range: joined, write });
    }

    /// Takes a holder's locks off a range, splitting those that reach beyond it.
    pub fn unlock(&mut self, holder: Holder, range: ByteRange) {
        let mut rest = Vec::new();
        self.locks.retain(|lock| {
            if lock.holder != holder || !lock.range.overlaps(&range) {
                return true;
            }
            if lock.range.first < range.first {
                rest.push(Lock { range: ByteRange { first: lock.range.first, last: range.first - 1 }, ..*lock });
            }
            if lock.range.last > range.last {
                rest.push(Lock { range: ByteRange { first: range.last + 1, last: lock.range.last }, ..*lock });
            }
            false
        });
        self.locks.extend(rest);
    }

    /// Takes off everything of a holder.
    pub fn release(&mut self, holder: Holder) {
        self.locks.retain(|lock| lock.holder != holder);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Lock(Holder, u64, u64, bool),
        Unlock(Holder, u64, u64),
    }

    const SPAN: u64 = 24;

    fn step() -> impl Strategy<Value = Step> {
        let length = prop_oneof![4 => 1..SPAN, 1 => Just(u64::MAX)];
        prop_oneof![
            (0u64..3, 0..SPAN, length.clone(), any::<bool>()).prop_map(|(h, o, l, w)| Step::Lock(h, o, l, w)),
            (0u64..3, 0..SPAN, length).prop_map(|(h, o, l)| Step::Unlock(h, o, l)),
        ]
    }

    proptest! {
        /// The truth is a table that says for each byte and holder which lock lies there.
        #[test]
        fn locks_are_those_of_a_table_of_single_bytes(steps in proptest::collection::vec(step(), 1..60)) {
            let mut locks = RangeLocks::default();
            let mut table = vec![[None::<bool>; 3]; 2 * SPAN as usize];
            for step in steps {
                let (Step::Lock(holder, offset, length, _) | Step::Unlock(holder, offset, length)) = step;
                let range = ByteRange::new(offset, length).unwrap();
                let bytes = offset as usize..=(range.last.min(2 * SPAN - 1) as usize);
                match step {
                    Step::Lock(_, _, _, write) => {
                        let conflict = bytes.clone().any(|b| {
                            table[b].iter().enumerate().any(|(h, l)| h as u64 != holder && l.is_some_and(|w| w || write))
                        });
                        prop_assert_eq!(locks.conflict(Some(holder), range, write).is_some(), conflict);
                        if conflict { continue; }
                        locks.lock(holder, range, write);
                        for b in bytes { table[b][holder as usize] = Some(write); }
                    }
                    Step::Unlock(..) => {
                        locks.unlock(holder, range);
                        for b in bytes { table[b][holder as usize] = None; }
                    }
                }
                for (b, row) in table.iter().enumerate() {
                    for (h, want) in row.iter().enumerate() {
                        let here: Vec<_> = locks.of(h as u64).filter(|l| (l.range.first..=l.range.last).contains(&(b as u64))).collect();
                        prop_assert!(here.len() <= 1);
                        prop_assert_eq!(here.first().map(|l| l.write), *want);
                    }
                }
                for h in 0..3 {
                    let mut mine: Vec<_> = locks.of(h).collect();
                    mine.sort_by_key(|l| l.range.first);
                    for pair in mine.windows(2) {
                        prop_assert!(pair[0].range.last + 1 < pair[1].range.first || pair[0].write != pair[1].write, "not joined");
                    }
                }
            }
        }
    }

    /// RFC 8881 §18.10.3: a length of zero, or a range past the last offset, is INVAL.
    #[test]
    fn empty_and_overflowing_ranges_are_invalid() {
        assert_eq!(ByteRange::new(5, 0), Err(Nfs4Error::Inval));
        assert_eq!(ByteRange::new(u64::MAX, 2), Err(Nfs4Error::Inval));
        assert_eq!(ByteRange::new(7, u64::MAX), Ok(ByteRange { first: 7, last: u64::MAX }));
        assert_eq!(ByteRange::new(u64::MAX, 1), Err(Nfs4Error::Inval));
        assert_eq!(ByteRange::new(u64::MAX, u64::MAX).unwrap().last, u64::MAX);
        assert_eq!(ByteRange::new(7, u64::MAX).unwrap().length(), u64::MAX);
        assert_eq!(ByteRange::new(7, 3).unwrap().length(), 3);
    }
}
