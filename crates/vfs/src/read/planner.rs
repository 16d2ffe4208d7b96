//! What to fetch for a read, and ahead of it.
//!
//! A pure struct for each open file. The one idea: the window grows only when a reader that goes straight through has used
//! it up and has to wait, and then only if the wait was for the distance. Where the bytes of the last window took much
//! longer to come than the first of them did, the link is the limit: more bytes under way would only make others wait.
//! So the window ends up as large as bandwidth times delay asks for. Near a server that is less than what a reader takes
//! while the processor does something else, so the window never lasts for less than [`PAUSE`]. A jump makes it small again,
//! and only what was asked for (rounded to [`SMALL`]) is fetched. Readers that go backwards or in equal strides are
//! followed the same way.
//!
//! What a reader has gone through straight on, it has handed to a kernel that keeps it: [`Plan::behind`] says what need not
//! be kept here as well.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::opens::START;

/// Random reads are rounded to this, so that neighbours come along.
const SMALL: u64 = 32 << 10;

/// How far a "sequential" read may lie beside the expected place, if not by [`OVERTAKING`]: kernels send their read-ahead in
/// several requests that overtake each other.
const SLACK: u64 = 512 << 10;

/// By how many of its own length it may.
const OVERTAKING: u64 = 8;

/// The first window of a sequential reader.
const FIRST_WINDOW: u64 = 4 << 20;

/// A window is asked for in so many parts, as it is used up.
const PARTS: u64 = 8;

/// By how much the window grows at once.
const GROWTH: u64 = 8;

/// A window whose bytes took so many times as long as the first of them is more than the link needs.
const PATIENCE: u32 = 3;

/// So long a window lasts at least: whoever fetches may have to wait for a processor, and the reader should not notice.
const PAUSE: Duration = Duration::from_millis(20);

/// So much behind a reader stays: requests of a kernel overtake each other.
const BEHIND: u64 = 4 << 20;

/// What is fetched ahead, and what is given up behind, ends at a multiple of this.
const UNIT: u64 = 1 << 20;

/// What [`Planner::plan`] wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    /// Needed for this read; holds it wholly.
    pub(crate) demand: Range<u64>,
    /// Worth fetching along with it, the most useful first. Does not overlap `demand`.
    pub(crate) ahead: Vec<Range<u64>>,
    /// A forward reader has gone through this and left it behind; told once.
    pub(crate) behind: Range<u64>,
    /// [`Planner::waited`] wants to know how long this read has to wait.
    pub(crate) telling: bool,
}

/// How a reader moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Pattern {
    #[default]
    Random,
    Forward,
    Backward,
    /// By so many bytes each time.
    Stride(i64),
}

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Planner {
    last: Option<Range<u64>>,
    /// The last step from start to start, and how often it was taken in a row.
    step: i64,
    repeats: u32,
    pattern: Pattern,
    window: u64,
    /// Since when the window is as large as it is, and how much was read since.
    since: Option<Instant>,
    passed: u64,
    /// How long the reader waits for bytes that were not asked for before.
    delay: Option<Duration>,
    /// Up to where a forward reader's data, or down to where a backward one's, is fetched or asked for.
    reached: u64,
    /// From where on a forward reader has not left its data behind.
    left: u64,
}

impl Planner {
    /// A read of `range` (not empty, within the file of `size` bytes). `waits`: not all of it is there. `limit`: largest
    /// window.
    pub(crate) fn plan(&mut self, range: Range<u64>, size: u64, waits: bool, limit: u64, now: Instant) -> Plan {
        let before = self.pattern;
        self.observe(&range);
        if self.pattern != before {
            (self.window, self.since, self.passed) = (0, None, 0);
            self.reached = if self.pattern == Pattern::Backward { range.start } else { range.end };
            self.left = range.start;
        }
        let telling = self.pattern != Pattern::Random && self.fit(&range, waits, limit, now);
        let demand = self.demand(&range, size, limit);
        let ahead = match self.pattern {
            Pattern::Random => Vec::new(),
            Pattern::Forward => self.forward(&range, &demand, size),
            Pattern::Backward => self.backward(&range, &demand),
            Pattern::Stride(step) => self.strides(&range, step, size),
        };
        let behind = if self.pattern == Pattern::Forward { self.behind(&range) } else { 0..0 };
        self.last = Some(range);
        Plan { demand, ahead, behind, telling }
    }

    fn behind(&mut self, range: &Range<u64>) -> Range<u64> {
        let to = range.start.saturating_sub(BEHIND) / UNIT * UNIT;
        // The beginning stays: an open may have it without asking.
        let from = self.left.max(START.into()).min(to);
        self.left = self.left.max(to);
        from..to
    }

    /// Makes the window fit the link. Returns whether the wait of this read tells how far away the server is.
    fn fit(&mut self, range: &Range<u64>, waits: bool, limit: u64, now: Instant) -> bool {
        self.passed += range.end - range.start;
        let Some(since) = self.since else {
            if waits {
                self.window = FIRST_WINDOW.min(limit);
                // This read is the window's first: it is used up when the reader comes to its end, not a read later.
                (self.since, self.passed) = (Some(now), range.end - range.start);
            }
            return waits;
        };
        if self.passed <= self.window {
            return false;
        }
        let took = now.saturating_duration_since(since);
        let delay = self.delay.unwrap_or(took);
        if took > delay.saturating_mul(PATIENCE) {
            // The link, or the reader, is the limit: what comes while one waits twice is enough.
            let enough = delay.saturating_mul(2).max(PAUSE);
            let useful = u128::from(self.passed) * enough.as_micros() / took.as_micros().max(1);
            self.window = u64::try_from(useful).unwrap_or(u64::MAX).max(FIRST_WINDOW).min(limit);
        } else if waits {
            self.window = self.window.saturating_mul(GROWTH).min(limit);
        } else {
            return false;
        }
        (self.since, self.passed) = (Some(now), 0);
        false
    }

    /// A read waited so long for bytes that were not asked for before.
    pub(crate) fn waited(&mut self, delay: Duration) {
        self.delay = Some(delay);
    }

    fn observe(&mut self, range: &Range<u64>) {
        let Some(last) = &self.last else {
            self.pattern = if range.start == 0 { Pattern::Forward } else { Pattern::Random };
            return;
        };
        let step = (range.start.wrapping_sub(last.start)).cast_signed();
        self.repeats = if step == self.step && step != 0 { self.repeats + 1 } else { 0 };
        self.step = step;
        let forward = self.pattern == Pattern::Forward;
        let slack = (range.end - range.start).saturating_mul(OVERTAKING).max(SLACK);
        let expected = if forward {
            last.end.saturating_sub(slack)..last.end.saturating_add(slack).max(self.reached)
        } else {
            last.end..last.end.saturating_add(1)
        };
        // Requests overtake each other, but not so many times one after the other.
        let turned = range.end == last.start && u64::from(self.repeats) >= OVERTAKING;
        self.pattern = if expected.contains(&range.start) && !turned {
            Pattern::Forward
        } else if range.end == last.start {
            Pattern::Backward
        } else if self.repeats >= 2 {
            Pattern::Stride(step)
        } else {
            Pattern::Random
        };
    }

    fn demand(&self, range: &Range<u64>, size: u64, limit: u64) -> Range<u64> {
        let first_of_file = self.last.is_none() && range.start == 0;
        let round = if first_of_file { (8 * SMALL).min(limit.max(SMALL)) } else { SMALL };
        let start = range.start - range.start % SMALL;
        let end = range.end.div_ceil(round).saturating_mul(round).min(size).max(range.end);
        start..end
    }

    #[allow(clippy::single_range_in_vec_init)] // one range is meant
    fn forward(&mut self, range: &Range<u64>, demand: &Range<u64>, size: u64) -> Vec<Range<u64>> {
        let from = self.reached.max(demand.end);
        let to = range.end.saturating_add(self.window);
        let unit = UNIT.min(self.window / 2).max(1);
        let to = if to < size { to / unit * unit } else { size };
        // In parts that are worth a request, and so small that the server always has something to do.
        if from >= to || (to < size && to - from < self.window / PARTS) {
            self.reached = from;
            return Vec::new();
        }
        self.reached = to;
        vec![from..to]
    }

    #[allow(clippy::single_range_in_vec_init)]
    fn backward(&mut self, range: &Range<u64>, demand: &Range<u64>) -> Vec<Range<u64>> {
        let to = self.reached.min(demand.start);
        let from = range.start.saturating_sub(self.window);
        if from >= to || (from > 0 && to - from < self.window / 2) {
            self.reached = to;
            return Vec::new();
        }
        self.reached = from;
        vec![from..to]
    }

    fn strides(&self, range: &Range<u64>, step: i64, size: u64) -> Vec<Range<u64>> {
        let len = range.end - range.start;
        // Each read plans anew; what is under way already is left out by whoever carries it out.
        let count = (self.window / len.max(SMALL)).clamp(1, 64);
        let mut ahead = Vec::new();
        let mut start = range.start;
        for _ in 0..count {
            let Some(next) = start.checked_add_signed(step).filter(|next| *next < size) else { break };
            start = next;
            ahead.push(start..start.saturating_add(len).min(size));
        }
        ahead.retain(|next| next.end <= range.start || next.start >= range.end);
        ahead
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const LIMIT: u64 = 64 * MIB;

    const DELAY: Duration = Duration::from_millis(30);

    /// Reads straight through over a link of so much delay and so many bytes per millisecond. Returns how long that takes,
    /// and the largest window.
    fn read_through(size: u64, unit: u64, delay: Duration, speed: u64) -> (Duration, u64) {
        let start = Instant::now();
        let (mut planner, mut now, mut free) = (Planner::default(), start, start);
        // Up to where the file has come at what time.
        let mut comes: Vec<(u64, Instant)> = Vec::new();
        let mut window = 0;
        let mut at = 0;
        while at < size {
            let end = (at + unit).min(size);
            let arrival = |comes: &[(u64, Instant)]| comes.iter().find(|(to, _)| *to >= end).map(|(_, time)| *time);
            let waits = arrival(&comes).is_none_or(|time| time > now);
            let plan = planner.plan(at..end, size, waits, LIMIT, now);
            assert!(plan.demand.start <= at && plan.demand.end >= end);
            window = window.max(planner.window);
            let demand = waits.then_some(plan.demand);
            for range in demand.into_iter().chain(plan.ahead) {
                let mut there = comes.last().map_or(0, |(to, _)| *to);
                assert!(range.start <= there, "a hole is left in what is read ahead");
                while there < range.end {
                    let next = (there + MIB).min(range.end);
                    free = free.max(now + delay) + Duration::from_micros((next - there) * 1000 / speed);
                    comes.push((next, free));
                    there = next;
                }
            }
            let arrived = arrival(&comes).unwrap();
            if plan.telling {
                planner.waited(arrived - now);
            }
            now = now.max(arrived);
            at = end;
        }
        (now - start, window)
    }

    #[test]
    fn a_sequential_reader_far_away_waits_few_times() {
        let waited =
            |size: u64| read_through(size, 128 * KIB, DELAY, MIB).0.saturating_sub(Duration::from_millis(size / MIB));
        assert!(waited(200 * KIB) < DELAY + DELAY / 2);
        assert!(waited(10 * MIB) < 5 * DELAY / 2);
        assert!(waited(100 * MIB) < 4 * DELAY);
    }

    #[test]
    fn a_window_grows_with_the_distance_and_not_with_a_narrow_link() {
        assert!(read_through(200 * MIB, 128 * KIB, DELAY, MIB).1 > 16 * MIB);
        let (took, window) = read_through(200 * MIB, 128 * KIB, DELAY, 12 * KIB);
        assert_eq!(window, FIRST_WINDOW);
        assert!(took < Duration::from_millis(200 * MIB / (12 * KIB)) * 101 / 100, "the link is kept busy");
    }

    #[test]
    fn near_a_server_the_window_lasts_for_a_pause_and_no_longer() {
        const NEAR: Duration = Duration::from_micros(300);
        let (_, fast) = read_through(200 * MIB, 128 * KIB, NEAR, MIB);
        assert!((15 * MIB..25 * MIB).contains(&fast), "{fast}");
        let (_, slow) = read_through(200 * MIB, 128 * KIB, NEAR, 12 * KIB);
        assert_eq!(slow, FIRST_WINDOW);
    }

    #[test]
    fn a_forward_reader_that_turns_round_is_followed() {
        for len in [16 * KIB, 128 * KIB, MIB] {
            let (mut planner, size) = (Planner::default(), 1 << 40);
            let mut read = |block: u64| {
                planner.plan(block * len..(block + 1) * len, size, true, LIMIT, Instant::now());
                planner.pattern
            };
            assert!((0..100).all(|block| read(block) == Pattern::Forward));
            let back: Vec<_> = (0..99).rev().map(read).collect();
            assert!(
                back[2 * OVERTAKING as usize..].iter().all(|pattern| *pattern == Pattern::Backward),
                "{len}: {back:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn large_requests_of_a_kernel_that_overtake_each_other_are_one_reader(
            len in prop::sample::select(vec![128 * KIB, 256 * KIB, MIB]),
            order in prop::collection::vec(Just([0u64, 1, 2, 3]).prop_shuffle(), 1..40),
        ) {
            let (mut planner, size) = (Planner::default(), 1 << 40);
            planner.plan(0..len, size, true, LIMIT, Instant::now());
            for (group, order) in order.iter().enumerate() {
                for place in order {
                    let start = (1 + 4 * group as u64 + place) * len;
                    planner.plan(start..start + len, size, true, LIMIT, Instant::now());
                    prop_assert_eq!(planner.pattern, Pattern::Forward);
                }
            }
        }
    }

    #[test]
    fn a_forward_reader_leaves_behind_what_it_has_gone_through_once_and_nothing_before_it() {
        let mut planner = Planner::default();
        let (from, size) = (100 * MIB, 1 << 40);
        planner.plan(7 * MIB..8 * MIB, size, true, LIMIT, Instant::now());
        let mut left = None;
        for block in 0..512u64 {
            let start = from + block * 128 * KIB;
            let behind = planner.plan(start..start + 128 * KIB, size, true, LIMIT, Instant::now()).behind;
            assert!(behind.is_empty() || behind.end + BEHIND <= start);
            if !behind.is_empty() {
                assert_eq!(behind.start, left.unwrap_or(from + 128 * KIB));
                left = Some(behind.end);
            }
        }
        assert!(left.is_some_and(|left| left + BEHIND + UNIT >= from + 511 * 128 * KIB));
        // A jump back begins anew.
        let behind = planner.plan(MIB..2 * MIB, size, true, LIMIT, Instant::now()).behind;
        assert!(behind.is_empty());
    }

    #[test]
    fn a_random_reader_fetches_what_it_reads_and_little_more() {
        let mut planner = Planner::default();
        for start in [700 * MIB, 3 * MIB, 500 * MIB, 40 * MIB] {
            let plan = planner.plan(start..start + 4 * KIB, 1 << 40, true, LIMIT, Instant::now());
            assert!(plan.ahead.is_empty());
            assert!(plan.demand.end - plan.demand.start <= SMALL);
        }
    }

    #[test]
    fn a_backward_reader_is_read_ahead_of_backwards() {
        let mut planner = Planner::default();
        let mut ahead = Vec::new();
        for block in (90..100u64).rev() {
            ahead.extend(planner.plan(block * MIB..(block + 1) * MIB, 100 * MIB, true, LIMIT, Instant::now()).ahead);
        }
        assert!(!ahead.is_empty());
        assert!(ahead.iter().any(|range| range.start < 90 * MIB));
    }

    #[test]
    fn equal_strides_are_foreseen() {
        let mut planner = Planner::default();
        let mut last = Plan::default();
        for n in 1..6u64 {
            let start = n * 10 * MIB;
            last = planner.plan(start..start + 4 * KIB, 1 << 40, true, LIMIT, Instant::now());
        }
        assert!(last.ahead.contains(&(60 * MIB..60 * MIB + 4 * KIB)));
    }

    #[test]
    fn requests_of_a_kernel_that_overtake_each_other_are_still_sequential() {
        let mut planner = Planner::default();
        let unit = 128 * KIB;
        for n in [0u64, 1, 3, 2, 5, 4, 6] {
            planner.plan(n * unit..(n + 1) * unit, 1 << 30, true, LIMIT, Instant::now());
            assert_eq!(planner.pattern, Pattern::Forward);
        }
    }

    proptest! {
        #[test]
        fn a_plan_stays_within_the_file_and_the_limit(
            reads in prop::collection::vec((0u64..1 << 34, 1u64..2 << 20, any::<bool>()), 1..50),
            size in 1u64..1 << 34,
            limit in 0u64..LIMIT,
        ) {
            let mut planner = Planner::default();
            for (start, len, waits) in reads {
                let start = start % size;
                let range = start..(start + len).min(size);
                let plan = planner.plan(range.clone(), size, waits, limit, Instant::now());
                prop_assert!(plan.demand.start <= range.start && plan.demand.end >= range.end && plan.demand.end <= size);
                let mut total = 0;
                for ahead in plan.ahead {
                    prop_assert!(ahead.start < ahead.end && ahead.end <= size);
                    total += ahead.end - ahead.start;
                }
                prop_assert!(total <= limit + 64 * len.max(SMALL));
                prop_assert!(plan.behind.is_empty() || plan.behind.end + BEHIND <= range.start);
            }
        }
    }
}
