//! How long to wait before trying again: doubling, with a cap.

use std::time::Duration;

/// Pauses that double from a first one up to a longest one.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// For NFS4ERR_DELAY and NFS4ERR_GRACE: quick at first, since most delays are short.
    pub fn for_delay() -> Self {
        Self::new(Duration::from_millis(10), Duration::from_secs(5))
    }

    /// For connecting again.
    pub fn for_connect() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(10))
    }

    /// Pauses from `first` to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, first, longest }
    }

    /// The pause to make now; the one after it is twice as long.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.longest);
        pause
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(50));
        let pauses: Vec<u128> = (0..5).map(|_| backoff.pause().as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 50, 50]);
        backoff.reset();
        assert_eq!(backoff.pause().as_millis(), 10);
    }
}
