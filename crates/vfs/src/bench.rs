//! A door for the benches, which see a crate from outside, to what nobody else may use. Only with the feature `bench`.

use std::fmt;
use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;

use crate::read::pages::Pages;
use crate::read::planner::Planner;

/// The page cache.
pub struct Cache(Pages);

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

impl Cache {
    /// One that holds `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self(Pages::new(limit))
    }

    /// Data that the server sent.
    pub fn fill(&mut self, file: u64, offset: u64, data: &Bytes) {
        self.0.fill(file, offset, data);
    }

    /// How many bytes of a range are there, with the cost of getting at them.
    pub fn read(&mut self, file: u64, range: Range<u64>) -> usize {
        self.0.get(file, range).iter().map(|(_, data)| data.len()).sum()
    }
}

/// The read-ahead planner of one open file.
#[derive(Debug, Default)]
pub struct ReadAhead(Planner);

impl ReadAhead {
    /// Plans for a read, and gives how many bytes shall be fetched for it and ahead of it.
    pub fn read(&mut self, range: Range<u64>, size: u64, waits: bool, limit: u64, now: Instant) -> u64 {
        let plan = self.0.plan(range, size, waits, limit, now);
        let len = |range: &Range<u64>| range.end - range.start;
        len(&plan.demand) + plan.ahead.iter().map(len).sum::<u64>()
    }
}
