//! The mock's clock: real time, which a test can put forward.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Time since 1970-01-01T00:00:00Z; never goes back, whatever the machine's clock does.
#[derive(Debug)]
pub struct Clock {
    start: Duration,
    since: Instant,
    ahead_ms: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            start: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            since: Instant::now(),
            ahead_ms: AtomicU64::new(0),
        }
    }
}

impl Clock {
    /// The time.
    pub fn now(&self) -> Duration {
        self.start + self.since.elapsed() + Duration::from_millis(self.ahead_ms.load(Ordering::Relaxed))
    }

    /// Real time since the clock was made.
    pub fn running(&self) -> Duration {
        self.since.elapsed()
    }

    /// Puts the clock forward, as if so much time had passed.
    pub fn advance(&self, by: Duration) {
        self.ahead_ms.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_only_goes_forward_and_can_be_pushed() {
        let clock = Clock::default();
        let before = clock.now();
        clock.advance(Duration::from_secs(3600));
        assert!(clock.now() >= before + Duration::from_secs(3600));
        assert!(clock.running() < Duration::from_secs(60));
    }
}
