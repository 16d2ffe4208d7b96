//! Byte ranges of one file that never overlap, each with its bytes and a tag.
//!
//! Dirty data, data under way and cached pages all are such maps. Bytes are slices of whatever buffer they came in; a
//! slice that keeps less than half of its extent is copied, so that a remainder doesn't keep a large buffer alive.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// See the module's page. Offsets and lengths must not add up to more than `u64::MAX`.
#[derive(Debug, Clone)]
pub(crate) struct Extents<T> {
    map: BTreeMap<u64, (Bytes, T)>,
    bytes: u64,
}

/// Bytes at an offset.
pub(crate) type Piece = (u64, Bytes);

impl<T> Default for Extents<T> {
    fn default() -> Self {
        Self { map: BTreeMap::new(), bytes: 0 }
    }
}

fn keep(part: Bytes, whole: usize) -> Bytes {
    if part.len() * 2 < whole { Bytes::copy_from_slice(&part) } else { part }
}

impl<T: Clone> Extents<T> {
    /// Bytes held.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// How many extents there are.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Where the last extent ends.
    pub(crate) fn end(&self) -> Option<u64> {
        self.map.last_key_value().map(|(start, (data, _))| start + data.len() as u64)
    }

    /// All extents in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Bytes, &T)> {
        self.map.iter().map(|(start, (data, tag))| (*start, data, tag))
    }

    /// The extent that starts exactly at `start`.
    pub(crate) fn at(&self, start: u64) -> Option<(&Bytes, &T)> {
        self.map.get(&start).map(|(data, tag)| (data, tag))
    }

    /// The tag of the extent that starts exactly at `start`.
    pub(crate) fn tag_at(&mut self, start: u64) -> Option<&mut T> {
        self.map.get_mut(&start).map(|(_, tag)| tag)
    }

    /// Removes the extent that starts exactly at `start`.
    pub(crate) fn remove(&mut self, start: u64) -> Option<(Bytes, T)> {
        let removed = self.map.remove(&start)?;
        self.bytes -= removed.0.len() as u64;
        Some(removed)
    }

    fn put(&mut self, start: u64, data: Bytes, tag: T) {
        if !data.is_empty() {
            self.bytes += data.len() as u64;
            self.map.insert(start, (data, tag));
        }
    }

    /// The start of the first extent that reaches beyond `offset`.
    fn first_beyond(&self, offset: u64) -> Option<u64> {
        if let Some((start, (data, _))) = self.map.range(..=offset).next_back()
            && start + data.len() as u64 > offset
        {
            return Some(*start);
        }
        self.map.range(offset..).next().map(|(start, _)| *start)
    }

    /// The parts of extents within `range`, in order, each with its extent's start and tag.
    pub(crate) fn within(&self, range: Range<u64>) -> impl Iterator<Item = (u64, Bytes, u64, &T)> {
        let from = self.first_beyond(range.start).unwrap_or(u64::MAX);
        let end = range.end.max(from);
        self.map.range(from..end).map(move |(start, (data, tag))| {
            let first = range.start.saturating_sub(*start);
            let last = (range.end - start).min(data.len() as u64);
            (start + first, data.slice(first as usize..last as usize), *start, tag)
        })
    }

    /// Whether anything lies within `range`.
    pub(crate) fn touches(&self, range: Range<u64>) -> bool {
        !range.is_empty() && self.first_beyond(range.start).is_some_and(|start| start < range.end)
    }

    /// The parts of `range` where nothing is.
    pub(crate) fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        for (start, data, _, _) in self.within(range.clone()) {
            if start > at {
                gaps.push(at..start);
            }
            at = start + data.len() as u64;
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// Takes out what lies within `range`.
    pub(crate) fn cut(&mut self, range: Range<u64>) -> Vec<(u64, Bytes, T)> {
        let mut out = Vec::new();
        if range.is_empty() {
            return out;
        }
        while let Some(start) = self.first_beyond(range.start).filter(|start| *start < range.end) {
            let Some((data, tag)) = self.remove(start) else { break };
            let whole = data.len();
            let first = range.start.saturating_sub(start) as usize;
            let last = (range.end - start).min(whole as u64) as usize;
            if first > 0 {
                self.put(start, keep(data.slice(..first), whole), tag.clone());
            }
            if last < whole {
                self.put(start + last as u64, keep(data.slice(last..), whole), tag.clone());
            }
            out.push((start + first as u64, data.slice(first..last), tag));
        }
        out
    }

    /// Puts bytes in the place of whatever was there.
    pub(crate) fn insert(&mut self, offset: u64, data: Bytes, tag: T) {
        self.cut(offset..offset + data.len() as u64);
        self.put(offset, data, tag);
    }

    /// Puts bytes only where nothing is; returns the parts that were put.
    pub(crate) fn fill(&mut self, offset: u64, data: &Bytes, tag: &T) -> Vec<Range<u64>> {
        let gaps = self.gaps(offset..offset + data.len() as u64);
        for gap in &gaps {
            let part = data.slice((gap.start - offset) as usize..(gap.end - offset) as usize);
            self.put(gap.start, keep(part, data.len()), tag.clone());
        }
        gaps
    }

    /// Adds bytes to the extent that ends where they start, when both are small, and keeps its tag. Gives the bytes back
    /// when there is none. Nothing may lie where the bytes go.
    pub(crate) fn append(&mut self, offset: u64, data: Bytes, limit: usize) -> Option<Bytes> {
        let Some((&start, (before, _))) = self.map.range(..offset).next_back() else { return Some(data) };
        if start + before.len() as u64 != offset || before.len() + data.len() > limit {
            return Some(data);
        }
        let Some((before, tag)) = self.remove(start) else { return Some(data) };
        // Takes the buffer itself when nobody else holds it, with the room that is left in it.
        let mut joined = before.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        joined.extend_from_slice(&data);
        self.put(start, joined.freeze(), tag);
        None
    }

    /// Bytes in one piece around `offset`, not looking further than `limit` to each side; 0 when nothing is there.
    pub(crate) fn run_around(&self, offset: u64, limit: u64) -> Range<u64> {
        let Some((&start, (data, _))) = self.map.range(..=offset).next_back() else { return offset..offset };
        if start + data.len() as u64 <= offset {
            return offset..offset;
        }
        let mut run = start..start + data.len() as u64;
        for (&start, (data, _)) in self.map.range(..run.start).rev() {
            if start + data.len() as u64 != run.start || offset - run.start >= limit {
                break;
            }
            run.start = start;
        }
        for (&start, (data, _)) in self.map.range(run.end..) {
            if start != run.end || run.end - offset >= limit {
                break;
            }
            run.end = start + data.len() as u64;
        }
        run
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Op {
        Insert(u64, usize, u8),
        Fill(u64, usize, u8),
        Append(u64, usize, u8),
        Cut(u64, u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0u64..64, 0usize..20, 1u8..255).prop_map(|(at, len, byte)| Op::Insert(at, len, byte)),
            (0u64..64, 0usize..20, 1u8..255).prop_map(|(at, len, byte)| Op::Fill(at, len, byte)),
            (0u64..64, 0usize..20, 1u8..255).prop_map(|(at, len, byte)| Op::Append(at, len, byte)),
            (0u64..64, 0u64..20).prop_map(|(at, len)| Op::Cut(at, at + len)),
        ]
    }

    proptest! {
        #[test]
        fn extents_hold_what_a_plain_array_of_bytes_holds(ops in prop::collection::vec(op(), 1..60), a in 0u64..90, b in 0u64..90) {
            let mut extents = Extents::default();
            let mut model = [0u8; 100];
            for op in ops {
                match op {
                    Op::Insert(at, len, byte) => {
                        extents.insert(at, Bytes::from(vec![byte; len]), ());
                        model[at as usize..at as usize + len].fill(byte);
                    }
                    Op::Fill(at, len, byte) => {
                        extents.fill(at, &Bytes::from(vec![byte; len]), &());
                        for cell in &mut model[at as usize..at as usize + len] {
                            if *cell == 0 {
                                *cell = byte;
                            }
                        }
                    }
                    Op::Append(at, len, byte) => {
                        extents.cut(at..at + len as u64);
                        if let Some(data) = extents.append(at, Bytes::from(vec![byte; len]), 25) {
                            extents.insert(at, data, ());
                        }
                        model[at as usize..at as usize + len].fill(byte);
                    }
                    Op::Cut(from, to) => {
                        let out = extents.cut(from..to);
                        for (at, data, ()) in out {
                            prop_assert_eq!(&model[at as usize..at as usize + data.len()], &data[..]);
                        }
                        model[from as usize..to as usize].fill(0);
                    }
                }
                let mut seen = [0u8; 100];
                let mut last = 0;
                for (at, data, ()) in extents.iter() {
                    prop_assert!(!data.is_empty());
                    prop_assert!(at >= last, "extents overlap");
                    last = at + data.len() as u64;
                    seen[at as usize..last as usize].copy_from_slice(data);
                }
                prop_assert_eq!(&seen[..], &model[..]);
                prop_assert_eq!(extents.bytes(), model.iter().filter(|byte| **byte != 0).count() as u64);
            }
            let range = a.min(b)..a.max(b);
            let mut covered: Vec<u64> = extents.gaps(range.clone()).into_iter().flatten().collect();
            for at in &covered {
                prop_assert_eq!(model[*at as usize], 0);
            }
            for (at, data, _, ()) in extents.within(range.clone()) {
                prop_assert_eq!(&model[at as usize..at as usize + data.len()], &data[..]);
                covered.extend(at..at + data.len() as u64);
            }
            covered.sort_unstable();
            prop_assert_eq!(covered, range.clone().collect::<Vec<_>>());
            prop_assert_eq!(extents.touches(range.clone()), range.into_iter().any(|at| model[at as usize] != 0));
        }
    }

    #[test]
    fn a_run_is_measured_over_adjacent_extents() {
        let mut extents = Extents::default();
        for at in [0u64, 10, 20, 40] {
            extents.insert(at, Bytes::from(vec![1; 10]), ());
        }
        assert_eq!(extents.run_around(15, 100), 0..30);
        assert_eq!(extents.run_around(35, 100), 35..35);
        assert_eq!(extents.run_around(45, 100), 40..50);
    }
}
