//! When a session gets one more connection: when every one that it has was busy with bulk data for a while.
//!
//! A connection's speed has limits of its own: one processor core does its TLS, and over a long distance TCP fills the
//! link with several connections where one loses a packet now and then. Where the link itself is full, another
//! connection does no harm, and names get a way past the data.

use std::time::{Duration, Instant};

/// A connection with so many bytes under way is busy.
const BUSY: u64 = 2 << 20;
/// How long all have to be busy.
const FOR: Duration = Duration::from_secs(1);
/// The pause after an attempt that brought none; what AWS's own client does (PROTOCOL.md §3).
const BACK_OFF: Duration = Duration::from_mins(5);

/// See the module's page.
#[derive(Debug)]
pub struct Growth {
    most: usize,
    busy_since: Option<Instant>,
    not_before: Option<Instant>,
}

impl Growth {
    /// Up to `most` connections.
    pub fn new(most: usize) -> Self {
        Self { most, busy_since: None, not_before: None }
    }

    /// Looks at `now` at a session with `connections`, of which each has at least `load` bytes under way. True: open one more.
    pub fn look(&mut self, now: Instant, connections: usize, load: u64) -> bool {
        if connections >= self.most || load < BUSY {
            self.busy_since = None;
            return false;
        }
        let since = *self.busy_since.get_or_insert(now);
        if now.saturating_duration_since(since) < FOR || self.not_before.is_some_and(|then| now < then) {
            return false;
        }
        self.busy_since = None;
        true
    }

    /// The one more was not to be had.
    pub fn failed(&mut self, now: Instant) {
        self.not_before = Some(now + BACK_OFF);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many connections there are after so many seconds of a load.
    fn after(seconds: u64, growth: &mut Growth, start: Instant, load: impl Fn(u64) -> u64) -> usize {
        let mut connections = 1;
        for tick in 0..seconds * 4 {
            connections += usize::from(growth.look(start + Duration::from_millis(250 * tick), connections, load(tick)));
        }
        connections
    }

    #[test]
    fn a_session_that_stays_busy_grows_to_its_limit_and_no_further() {
        let now = Instant::now();
        assert_eq!(after(1, &mut Growth::new(4), now, |_| 100 << 20), 1);
        assert_eq!(after(2, &mut Growth::new(4), now, |_| 100 << 20), 2);
        assert_eq!(after(60, &mut Growth::new(4), now, |_| 100 << 20), 4);
        assert_eq!(after(60, &mut Growth::new(1), now, |_| 100 << 20), 1);
    }

    #[test]
    fn one_idle_connection_or_a_short_burst_is_no_reason() {
        let now = Instant::now();
        assert_eq!(after(60, &mut Growth::new(4), now, |_| 1 << 20), 1);
        assert_eq!(after(60, &mut Growth::new(4), now, |tick| if tick % 4 == 3 { 0 } else { 100 << 20 }), 1);
    }

    #[test]
    fn a_failure_is_followed_by_a_long_pause() {
        let now = Instant::now();
        let mut growth = Growth::new(4);
        growth.failed(now);
        assert_eq!(after(299, &mut growth, now, |_| 100 << 20), 1);
        assert_eq!(after(301, &mut growth, now, |_| 100 << 20), 2);
    }
}
