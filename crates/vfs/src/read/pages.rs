//! The page cache: what was read from the server or written to it, bounded in bytes for the whole mount.
//!
//! Pages are extents of any length: a READ's payload stays the one slice it came as. The least recently used ones go
//! first. The queue of use is lazy: each use appends an entry, and an entry whose extent has been used or cut since
//! counts for nothing when its turn comes.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use bytes::Bytes;

use crate::extents::{Extents, Piece};

/// Bookkeeping of one extent, counted as bytes so that many tiny pages are bounded too.
const OVERHEAD: u64 = 128;

/// See the module's page. Files are named by their node's serial number, which is never used twice.
#[derive(Debug)]
pub(crate) struct Pages {
    files: HashMap<u64, Extents<u64>>,
    queue: VecDeque<(u64, u64, u64)>,
    tick: u64,
    bytes: u64,
    extents: usize,
    limit: u64,
    /// Of the limit, so much is left to bytes that are under way or dirty.
    left: u64,
}

impl Pages {
    pub(crate) fn new(limit: u64) -> Self {
        Self { files: HashMap::new(), queue: VecDeque::new(), tick: 0, bytes: 0, extents: 0, limit, left: 0 }
    }

    /// Bytes kept.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn change<R>(&mut self, file: u64, act: impl FnOnce(&mut Extents<u64>, u64) -> R) -> R {
        self.tick += 1;
        let extents = self.files.entry(file).or_default();
        let before = (extents.bytes(), extents.len());
        let result = act(extents, self.tick);
        self.bytes = self.bytes - before.0 + extents.bytes();
        self.extents = self.extents - before.1 + extents.len();
        if extents.is_empty() {
            self.files.remove(&file);
        }
        result
    }

    /// Leaves room for bytes of the mount that are in memory, but not here. A part of the limit is kept from them.
    pub(crate) fn leave(&mut self, bytes: u64) {
        self.left = bytes.min(self.limit / 4 * 3);
        self.evict();
    }

    /// Keeps bytes, where there are none yet.
    pub(crate) fn fill(&mut self, file: u64, offset: u64, data: &Bytes) {
        if self.limit == 0 {
            return;
        }
        let (put, tick) = self.change(file, |extents, tick| (extents.fill(offset, data, &tick), tick));
        self.queue.extend(put.into_iter().map(|range| (file, range.start, tick)));
        self.evict();
    }

    /// Keeps bytes in the place of what was there.
    pub(crate) fn put(&mut self, file: u64, offset: u64, data: &Bytes) {
        let end = offset + data.len() as u64;
        self.drop_range(file, offset..end);
        self.fill(file, offset, data);
    }

    /// Forgets a range.
    pub(crate) fn drop_range(&mut self, file: u64, range: Range<u64>) {
        if !self.files.contains_key(&file) {
            return;
        }
        let end = range.end;
        let tail = self.change(file, |extents, _| {
            extents.cut(range);
            extents.at(end).map(|(_, tick)| *tick)
        });
        // What is left behind the range begins at a new place.
        if let Some(tick) = tail {
            self.queue.push_front((file, end, tick));
        }
    }

    /// Forgets a file.
    pub(crate) fn drop_file(&mut self, file: u64) {
        if let Some(extents) = self.files.remove(&file) {
            self.bytes -= extents.bytes();
            self.extents -= extents.len();
        }
    }

    /// What is kept of a range, in order; counts as a use.
    pub(crate) fn get(&mut self, file: u64, range: Range<u64>) -> Vec<Piece> {
        let Some(extents) = self.files.get_mut(&file) else { return Vec::new() };
        self.tick += 1;
        let mut found = Vec::new();
        let mut used = Vec::new();
        for (at, data, start, _) in extents.within(range) {
            found.push((at, data));
            used.push(start);
        }
        for start in used {
            if let Some(tag) = extents.tag_at(start) {
                *tag = self.tick;
                self.queue.push_back((file, start, self.tick));
            }
        }
        if self.queue.len() > 4 * self.extents + 1024 {
            let files = &self.files;
            self.queue.retain(|(file, start, tick)| is_current(files, *file, *start, *tick));
        }
        found
    }

    /// The parts of a range that are not kept.
    pub(crate) fn gaps(&self, file: u64, range: Range<u64>) -> Vec<Range<u64>> {
        match self.files.get(&file) {
            Some(extents) => extents.gaps(range),
            None if range.is_empty() => Vec::new(),
            None => vec![range],
        }
    }

    fn evict(&mut self) {
        while self.bytes + self.extents as u64 * OVERHEAD > self.limit - self.left {
            let Some((file, start, tick)) = self.queue.pop_front() else { return };
            if is_current(&self.files, file, start, tick) {
                self.change(file, |extents, _| extents.remove(start));
            }
        }
    }
}

fn is_current(files: &HashMap<u64, Extents<u64>>, file: u64, start: u64, tick: u64) -> bool {
    files.get(&file).and_then(|extents| extents.at(start)).is_some_and(|(_, tag)| *tag == tick)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn bytes(byte: u8, len: usize) -> Bytes {
        Bytes::from(vec![byte; len])
    }

    #[test]
    fn the_least_recently_used_pages_go_first() {
        let mut pages = Pages::new(3 * (1000 + OVERHEAD));
        for file in 1..=3 {
            pages.fill(file, 0, &bytes(1, 1000));
        }
        assert_eq!(pages.get(1, 0..10).len(), 1);
        pages.fill(4, 0, &bytes(1, 1000));
        assert!(pages.get(2, 0..10).is_empty());
        assert_eq!(pages.get(1, 0..10).len(), 1);
        assert_eq!(pages.get(3, 0..10).len(), 1);
    }

    #[test]
    fn room_that_is_left_to_others_is_not_used_until_they_give_it_back() {
        let mut pages = Pages::new(8 * (1000 + OVERHEAD));
        for (left, kept) in [(0, 8), (4, 4), (100, 2), (0, 8)] {
            pages.leave(left * (1000 + OVERHEAD));
            for file in 0..20 {
                pages.fill(file, 0, &bytes(1, 1000));
            }
            assert_eq!(pages.bytes(), kept * 1000);
        }
    }

    #[test]
    fn what_was_filled_first_stays_and_what_is_put_replaces() {
        let mut pages = Pages::new(1 << 20);
        pages.fill(1, 0, &bytes(1, 10));
        pages.fill(1, 0, &bytes(2, 20));
        assert_eq!(pages.get(1, 0..20), vec![(0, bytes(1, 10)), (10, bytes(2, 10))]);
        pages.put(1, 5, &bytes(3, 10));
        assert_eq!(pages.get(1, 0..20), vec![(0, bytes(1, 5)), (5, bytes(3, 10)), (15, bytes(2, 5))]);
    }

    proptest! {
        #[test]
        fn memory_stays_within_the_limit_and_pages_hold_the_latest_bytes(
            ops in prop::collection::vec((0u8..5, 0u64..3, 0u64..2000, 0usize..600, 1u8..255), 1..120),
        ) {
            let limit = 3000;
            let mut pages = Pages::new(limit);
            let mut model = [[0u8; 3000]; 3];
            for (op, file, at, len, byte) in ops {
                let range = at as usize..at as usize + len;
                let cells = &mut model[file as usize];
                match op {
                    0 => {
                        pages.put(file, at, &bytes(byte, len));
                        cells[range].fill(byte);
                    }
                    1 => {
                        // A fetch brings what the server holds: the same as the model where that knows it.
                        let data: Vec<u8> = cells[range].to_vec();
                        pages.fill(file, at, &Bytes::from(data));
                    }
                    2 => {
                        pages.drop_range(file, at..at + len as u64);
                    }
                    3 => pages.drop_file(file),
                    _ => {
                        for (start, data) in pages.get(file, at..at + len as u64) {
                            prop_assert_eq!(&cells[start as usize..start as usize + data.len()], &data[..]);
                        }
                    }
                }
                prop_assert!(pages.bytes() <= limit);
                let held: u64 = pages.files.values().map(Extents::bytes).sum();
                prop_assert_eq!(pages.bytes(), held);
                prop_assert_eq!(pages.extents, pages.files.values().map(Extents::len).sum::<usize>());
            }
        }

        #[test]
        fn every_page_can_be_evicted(
            ops in prop::collection::vec((0u64..3, 0u64..2000, 1usize..600, any::<bool>()), 1..60),
        ) {
            let mut pages = Pages::new(1 << 20);
            for (file, at, len, cut) in ops {
                if cut {
                    pages.drop_range(file, at..at + len as u64);
                } else {
                    pages.put(file, at, &bytes(1, len));
                    pages.get(file, at..at + 1);
                }
            }
            pages.limit = 0;
            pages.evict();
            prop_assert_eq!(pages.bytes(), 0);
        }
    }
}
