//! Bytes in a second, from counters that only grow: the slope over the last few seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Over how long the slope is taken: short enough to follow a copy, long enough not to flicker.
const WINDOW: Duration = Duration::from_secs(5);
/// Most samples kept, whatever the clock does.
const MOST: usize = 16;

/// See the module's page.
#[derive(Debug, Default)]
pub struct Rates {
    samples: VecDeque<(Instant, [u64; 2])>,
}

impl Rates {
    /// The counters stand at `counts` now.
    pub fn sample(&mut self, now: Instant, counts: [u64; 2]) {
        self.samples.push_back((now, counts));
        // The newest sample that is old enough stays as the beginning of the slope.
        while self.samples.len() > MOST
            || self.samples.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// How fast both grow, each second, when they stand at `counts` now.
    pub fn per_second(&self, now: Instant, counts: [u64; 2]) -> [f64; 2] {
        let Some((since, before)) = self.samples.front() else { return [0.0; 2] };
        let seconds = now.saturating_duration_since(*since).as_secs_f64();
        if seconds < 0.1 {
            return [0.0; 2];
        }
        [0, 1].map(|i| counts[i].saturating_sub(before[i]) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)] // whole numbers
    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds_only() {
        let start = Instant::now();
        let mut rates = Rates::default();
        assert_eq!(rates.per_second(start, [5, 5]), [0.0; 2]);
        for second in 0..60 {
            rates.sample(at(start, second), [second * 1000, 0]);
        }
        assert_eq!(rates.per_second(at(start, 59), [59_000, 0]), [1000.0, 0.0]);
        for second in 60..80 {
            rates.sample(at(start, second), [59_000, 0]);
        }
        assert_eq!(rates.per_second(at(start, 79), [59_000, 0]), [0.0; 2]);
    }

    #[test]
    fn samples_that_come_too_fast_do_not_pile_up() {
        let start = Instant::now();
        let mut rates = Rates::default();
        for n in 0..1000 {
            rates.sample(start, [n, n]);
        }
        assert!(rates.samples.len() <= MOST);
    }
}
