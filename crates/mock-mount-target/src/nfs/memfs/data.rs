//! The bytes of a file: blocks of 64 KiB, holes between them, and what a restart takes away.
//!
//! A block is a [`Bytes`], so a READ hands out slices and copies nothing, and a WRITE of whole blocks keeps
//! slices of the record that it came in. A block that is shared (a reply on its way) is copied when it is
//! changed, so a reply shows the file as it was. Until COMMIT, the last stable version of every block written
//! UNSTABLE is kept; a restart puts these back (RFC 8881 §18.32.3).

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

/// Size of a block in bytes, and the granularity of holes.
pub const BLOCK: u64 = 64 * 1024;

static ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];

/// Contents of a regular file.
#[derive(Debug, Default, Clone)]
pub struct FileData {
    size: u64,
    /// Blocks by number. A block may be shorter than [`BLOCK`]: zeros follow. A missing block is a hole.
    blocks: BTreeMap<u64, Bytes>,
    /// Sum of the blocks' lengths.
    held: u64,
    /// The stable version of what changed since the last commit.
    stable: Option<StableVersion>,
}

/// What a restart goes back to.
#[derive(Debug, Default, Clone)]
struct StableVersion {
    size: u64,
    blocks: BTreeMap<u64, Option<Bytes>>,
}

/// A piece of a file as READ_PLUS shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Bytes at an offset.
    Data(u64, Vec<Bytes>),
    /// Offset and length of a hole.
    Hole(u64, u64),
}

impl FileData {
    /// Length of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that the blocks take.
    pub fn space_used(&self) -> u64 {
        self.held
    }

    fn insert(&mut self, number: u64, block: Bytes) {
        self.held += block.len() as u64;
        if let Some(old) = self.blocks.insert(number, block) {
            self.held -= old.len() as u64;
        }
    }

    fn take(&mut self, number: u64) -> Option<Bytes> {
        let block = self.blocks.remove(&number)?;
        self.held -= block.len() as u64;
        Some(block)
    }

    /// Whether a restart would lose something.
    pub fn has_unstable(&self) -> bool {
        self.stable.is_some()
    }

    /// Up to `count` bytes at `offset`, never past the end of the file. Holes read as zeros.
    pub fn read(&self, offset: u64, count: u64) -> Vec<Bytes> {
        let end = offset.saturating_add(count).min(self.size);
        let mut pieces = Vec::new();
        let mut at = offset;
        while at < end {
            let number = at / BLOCK;
            let within = (at % BLOCK) as usize;
            let take = (BLOCK - at % BLOCK).min(end - at) as usize;
            let block = self.blocks.get(&number).filter(|block| block.len() > within);
            let have = block.map_or(0, |block| (block.len() - within).min(take));
            if let Some(block) = block {
                pieces.push(block.slice(within..within + have));
            }
            if have < take {
                pieces.push(Bytes::from_static(&ZEROS[..take - have]));
            }
            at += take as u64;
        }
        pieces
    }

    /// Puts `data` at `offset`. Bytes between the old end and `offset` become a hole.
    pub fn write(&mut self, offset: u64, data: &Bytes, stable: bool) {
        if data.is_empty() {
            return;
        }
        // A stable write makes nothing stable but itself: what is unstable around it stays so.
        let alone = stable && self.stable.is_none();
        if !stable {
            self.remember_size();
        }
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let within = (at % BLOCK) as usize;
            let take = (BLOCK as usize - within).min(data.len() - done);
            let piece = data.slice(done..done + take);
            self.put(at / BLOCK, within, piece, alone);
            done += take;
        }
        self.size = self.size.max(offset + data.len() as u64);
        if stable && !alone {
            self.commit_range(offset, data.len() as u64);
        }
    }

    fn put(&mut self, number: u64, within: usize, piece: Bytes, stable: bool) {
        if !stable {
            self.remember_block(number);
        }
        let old = self.take(number).unwrap_or_default();
        // A piece that covers the whole block is kept as the slice it is, unless it is so small that it would
        // hold a much larger record in memory.
        if within == 0 && piece.len() >= old.len() && piece.len() >= 16 * 1024 {
            self.insert(number, piece);
            return;
        }
        let end = within + piece.len();
        let mut block = old.try_into_mut().unwrap_or_else(|shared| {
            let mut copy = BytesMut::with_capacity(shared.len().max(end));
            copy.extend_from_slice(&shared);
            copy
        });
        if block.len() < end {
            block.resize(end, 0);
        }
        block[within..end].copy_from_slice(&piece);
        self.insert(number, block.freeze());
    }

    /// Cuts the file or extends it with a hole. What was written before counts as stable afterwards.
    pub fn set_size(&mut self, size: u64) {
        self.commit();
        if size < self.size {
            self.cut(size);
        }
        self.size = size;
    }

    fn cut(&mut self, size: u64) {
        let gone = self.blocks.split_off(&size.div_ceil(BLOCK));
        self.held -= gone.values().map(|block| block.len() as u64).sum::<u64>();
        let within = (size % BLOCK) as usize;
        if within > 0
            && let Some(block) = self.blocks.get(&(size / BLOCK))
            && block.len() > within
        {
            // A copy, so that the rest of the block's memory goes.
            let rest = Bytes::copy_from_slice(&block[..within]);
            self.insert(size / BLOCK, rest);
        }
    }

    /// Makes a range a hole (RFC 7862 §15.4); the size stays.
    pub fn punch(&mut self, offset: u64, length: u64) {
        self.commit();
        let end = offset.saturating_add(length).min(self.size);
        if offset >= end {
            return;
        }
        let touched: Vec<u64> =
            self.blocks.range(offset / BLOCK..end.div_ceil(BLOCK)).map(|(number, _)| *number).collect();
        for number in touched {
            let from = offset.saturating_sub(number * BLOCK) as usize;
            let to = (end - number * BLOCK).min(BLOCK) as usize;
            let len = self.blocks.get(&number).map_or(0, Bytes::len);
            if from == 0 && to >= len {
                self.take(number);
            } else if from < len {
                self.put(number, from, Bytes::from_static(&ZEROS[..to.min(len) - from]), true);
            }
        }
    }

    /// Gives a range blocks of zeros where it had holes (RFC 7862 §15.1); extends the file.
    pub fn allocate(&mut self, offset: u64, length: u64) {
        self.commit();
        let end = offset.saturating_add(length);
        for number in offset / BLOCK..end.div_ceil(BLOCK) {
            let full = (end - number * BLOCK).min(BLOCK) as usize;
            let have = self.blocks.get(&number).cloned().unwrap_or_default();
            if have.len() < full {
                let mut longer = BytesMut::with_capacity(full);
                longer.extend_from_slice(&have);
                longer.resize(full, 0);
                self.insert(number, longer.freeze());
            }
        }
        self.size = self.size.max(end);
    }

    /// The first byte at or after `offset` that lies in data (`true`) or in a hole (`false`). The end of the file
    /// counts as a hole. `None` when no data follows.
    pub fn seek(&self, offset: u64, data: bool) -> Option<u64> {
        let mut at = offset;
        while at < self.size {
            if self.blocks.contains_key(&(at / BLOCK)) == data {
                return Some(at);
            }
            at = if data { self.blocks.range(at / BLOCK..).next()?.0 * BLOCK } else { (at / BLOCK + 1) * BLOCK };
        }
        (!data).then_some(self.size)
    }

    /// Data and holes of a range in order, for READ_PLUS.
    pub fn segments(&self, offset: u64, count: u64) -> Vec<Segment> {
        let end = offset.saturating_add(count).min(self.size);
        let mut segments = Vec::new();
        let mut at = offset;
        while at < end {
            let is_data = self.blocks.contains_key(&(at / BLOCK));
            let next = self.seek(at, !is_data).unwrap_or(self.size).clamp(at + 1, end);
            segments.push(if is_data {
                Segment::Data(at, self.read(at, next - at))
            } else {
                Segment::Hole(at, next - at)
            });
            at = next;
        }
        segments
    }

    /// What was written is stable from here on.
    pub fn commit(&mut self) {
        self.stable = None;
    }

    /// What was written into a range is stable from here on; the rest is not (RFC 8881 §18.3.3).
    pub fn commit_range(&mut self, offset: u64, count: u64) {
        let end = offset.saturating_add(count).min(self.size);
        let Some(mut stable) = self.stable.take() else { return };
        let touched: Vec<u64> = if offset < end {
            stable.blocks.range(offset / BLOCK..end.div_ceil(BLOCK)).map(|(number, _)| *number).collect()
        } else {
            Vec::new()
        };
        for number in touched {
            let from = offset.saturating_sub(number * BLOCK) as usize;
            let to = (end - number * BLOCK).min(BLOCK) as usize;
            let now = self.blocks.get(&number).cloned().unwrap_or_default();
            if from == 0 && to >= now.len() {
                stable.blocks.remove(&number);
                continue;
            }
            let old = stable.blocks.remove(&number).flatten().unwrap_or_default();
            let mut merged = BytesMut::from(&old[..]);
            if merged.len() < to {
                merged.resize(to, 0);
            }
            let have = to.min(now.len()).max(from);
            merged[from..to].fill(0);
            if from < now.len() {
                merged[from..have].copy_from_slice(&now[from..have]);
            }
            stable.blocks.insert(number, Some(merged.freeze()));
        }
        if offset < end {
            stable.size = stable.size.max(end);
        }
        if !stable.blocks.is_empty() || stable.size != self.size {
            self.stable = Some(stable);
        }
    }

    /// Goes back to the last stable version; says whether that changed anything.
    pub fn lose_unstable(&mut self) -> bool {
        let Some(stable) = self.stable.take() else { return false };
        for (number, block) in stable.blocks {
            match block {
                Some(block) => self.insert(number, block),
                None => {
                    self.take(number);
                }
            }
        }
        self.size = stable.size;
        true
    }

    fn remember_size(&mut self) {
        let size = self.size;
        self.stable.get_or_insert_with(|| StableVersion { size, blocks: BTreeMap::new() });
    }

    fn remember_block(&mut self, number: u64) {
        if let Some(stable) = &mut self.stable {
            stable.blocks.entry(number).or_insert_with(|| self.blocks.get(&number).cloned());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Write { offset: u64, len: usize, byte: u8, stable: bool },
        SetSize(u64),
        Punch(u64, u64),
        Allocate(u64, u64),
        Commit,
        CommitRange(u64, u64),
        Restart,
    }

    const SPAN: u64 = 5 * BLOCK;

    fn step() -> impl Strategy<Value = Step> {
        let offset = prop_oneof![0..SPAN, (0..5u64).prop_map(|n| n * BLOCK), 0..200u64];
        let len = prop_oneof![0..300usize, 0..200_000usize, Just(BLOCK as usize), Just(2 * BLOCK as usize)];
        prop_oneof![
            5 => (offset.clone(), len, any::<u8>(), any::<bool>())
                .prop_map(|(offset, len, byte, stable)| Step::Write { offset, len, byte, stable }),
            1 => offset.clone().prop_map(Step::SetSize),
            1 => (offset.clone(), 0..SPAN).prop_map(|(o, l)| Step::Punch(o, l)),
            1 => (offset.clone(), 0..SPAN).prop_map(|(o, l)| Step::Allocate(o, l)),
            1 => (offset, 0..SPAN).prop_map(|(o, l)| Step::CommitRange(o, l)),
            1 => Just(Step::Commit),
            1 => Just(Step::Restart),
        ]
    }

    fn fill(model: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
        let end = offset as usize + bytes.len();
        if bytes.is_empty() {
            return;
        }
        if model.len() < end {
            model.resize(end, 0);
        }
        model[offset as usize..end].copy_from_slice(bytes);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]
        #[test]
        fn a_file_holds_the_bytes_that_a_plain_vector_holds(steps in proptest::collection::vec(step(), 1..40)) {
            let (mut file, mut model, mut stable) = (FileData::default(), Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Write { offset, len, byte, stable: sync } => {
                        let bytes: Vec<u8> = (0..len).map(|i| byte.wrapping_add(i as u8)).collect();
                        file.write(offset, &bytes.clone().into(), sync);
                        fill(&mut model, offset, &bytes);
                        if sync { fill(&mut stable, offset, &bytes); }
                    }
                    Step::SetSize(size) => {
                        file.set_size(size);
                        model.resize(size as usize, 0);
                        stable.clone_from(&model);
                    }
                    Step::Punch(offset, length) => {
                        file.punch(offset, length);
                        let end = (offset + length).min(model.len() as u64);
                        if offset < end { model[offset as usize..end as usize].fill(0); }
                        stable.clone_from(&model);
                    }
                    Step::Allocate(offset, length) => {
                        file.allocate(offset, length);
                        let end = (offset + length) as usize;
                        if model.len() < end { model.resize(end, 0); }
                        stable.clone_from(&model);
                    }
                    Step::CommitRange(offset, length) => {
                        file.commit_range(offset, length);
                        let end = ((offset + length) as usize).min(model.len());
                        if (offset as usize) < end {
                            fill(&mut stable, offset, &model[offset as usize..end]);
                        }
                    }
                    Step::Commit => { file.commit(); stable.clone_from(&model); }
                    Step::Restart => { file.lose_unstable(); model.clone_from(&stable); }
                }
                prop_assert_eq!(file.size(), model.len() as u64);
                prop_assert!(file.read(0, u64::MAX).concat() == model, "contents differ");
                let mut shown = Vec::new();
                for segment in file.segments(0, u64::MAX) {
                    match segment {
                        Segment::Data(at, pieces) => { prop_assert_eq!(at, shown.len() as u64); shown.extend(pieces.concat()); }
                        Segment::Hole(at, len) => { prop_assert_eq!(at, shown.len() as u64); shown.resize(shown.len() + len as usize, 0); }
                    }
                }
                prop_assert!(shown == model, "READ_PLUS shows another file");
            }
        }

        #[test]
        fn a_read_of_any_range_is_that_part_of_the_file(offset in 0..SPAN, count in 0..SPAN) {
            let bytes: Vec<u8> = (0..3 * BLOCK + 77).map(|i| (i % 251) as u8).collect();
            let mut file = FileData::default();
            file.write(0, &bytes.clone().into(), true);
            let end = (offset + count).min(bytes.len() as u64).max(offset.min(bytes.len() as u64)) as usize;
            let start = (offset as usize).min(bytes.len());
            prop_assert!(file.read(offset, count).concat() == bytes[start..end]);
        }
    }

    #[test]
    fn a_reply_on_its_way_keeps_the_bytes_it_was_made_of() {
        let mut file = FileData::default();
        file.write(0, &vec![1; 100_000].into(), true);
        let reply = file.read(0, 100_000);
        file.write(10, &vec![2; 70_000].into(), true);
        assert!(reply.concat().iter().all(|byte| *byte == 1));
    }

    #[test]
    fn a_write_of_whole_blocks_keeps_the_record_and_copies_nothing() {
        let record = Bytes::from(vec![3; 1 << 20]);
        let mut file = FileData::default();
        file.write(0, &record, true);
        assert_eq!(file.read(0, 1 << 20)[0].as_ptr(), record.as_ptr());
    }

    #[test]
    fn seek_finds_data_and_holes_and_counts_the_end_as_a_hole() {
        let mut file = FileData::default();
        file.write(3 * BLOCK, &Bytes::from_static(b"x"), true);
        assert_eq!(file.seek(0, false), Some(0));
        assert_eq!(file.seek(0, true), Some(3 * BLOCK));
        assert_eq!(file.seek(3 * BLOCK, false), Some(3 * BLOCK + 1));
        file.set_size(10 * BLOCK);
        assert_eq!(file.seek(3 * BLOCK, false), Some(4 * BLOCK));
        assert_eq!(file.seek(4 * BLOCK, true), None);
    }
}
