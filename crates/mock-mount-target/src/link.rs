//! A slow link: a delay line that keeps throughput. Each direction is a lane on which records follow one another at the
//! link's bandwidth; the round trip is added to what leaves, so any number of calls is under way at once.
//!
//! The whole round trip is put on the way back: no client can tell where in the loop the time is spent, and requests
//! need no queue of their own. What arrives is slowed down to the bandwidth by not being read any faster.
//!
//! Waiting is done by [`until`], whose timer is exact. Tokio's rounds up to the next millisecond, which would make each
//! round trip of a thousand one after another a few hundredths too long.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

/// What the link is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkSettings {
    /// Round trip time.
    pub rtt: Duration,
    /// Bytes per second in each direction; `None` is as fast as the machine is.
    pub bandwidth: Option<u64>,
    /// Each record is late by up to this much more.
    pub jitter: Duration,
    /// How long the link stands still when a packet is lost; zero loses none.
    pub loss_stall: Duration,
}

/// Of how many records one suffers a loss.
const LOSS_EVERY: u32 = 200;

/// A link that all connections of a mock share.
#[derive(Debug)]
pub struct Link {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    settings: LinkSettings,
    inbound: Lane,
    outbound: Lane,
    random: StdRng,
}

/// One direction.
#[derive(Debug, Clone, Copy, Default)]
struct Lane {
    free_at: Option<Instant>,
}

impl Lane {
    /// When the last of `len` bytes is through, if the first can start at `now`.
    fn pass(&mut self, now: Instant, len: usize, bandwidth: u64) -> Instant {
        let start = self.free_at.map_or(now, |free| free.max(now));
        let nanos = (len as u128 * 1_000_000_000) / u128::from(bandwidth.max(1));
        let end = start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.free_at = Some(end);
        end
    }
}

impl State {
    fn outbound(&mut self, now: Instant, len: usize) -> Option<Instant> {
        let settings = self.settings;
        if settings == LinkSettings::default() {
            return None;
        }
        let through = match settings.bandwidth {
            Some(bandwidth) => self.outbound.pass(now, len, bandwidth),
            None => now,
        };
        let late = settings.jitter.mul_f64(self.random.random::<f64>());
        let stalled = !settings.loss_stall.is_zero() && self.random.random_range(0..LOSS_EVERY) == 0;
        let stall = if stalled { settings.loss_stall } else { Duration::ZERO };
        Some(through + settings.rtt + late + stall)
    }

    fn inbound(&mut self, now: Instant, len: usize) -> Option<Instant> {
        let bandwidth = self.settings.bandwidth?;
        Some(self.inbound.pass(now, len, bandwidth))
    }
}

impl Link {
    /// A link; `seed` decides about jitter and losses.
    pub fn new(settings: LinkSettings, seed: u64) -> Self {
        Self {
            state: Mutex::new(State {
                settings,
                inbound: Lane::default(),
                outbound: Lane::default(),
                random: StdRng::seed_from_u64(seed),
            }),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the link, for whatever is sent from now on.
    pub fn set(&self, settings: LinkSettings) {
        self.with(|state| state.settings = settings);
    }

    /// What the link is like now.
    pub fn settings(&self) -> LinkSettings {
        self.with(|state| state.settings)
    }

    /// Until when a record that just came is still arriving; `None` is "it is all there".
    pub(crate) fn inbound(&self, len: usize) -> Option<Instant> {
        self.with(|state| state.inbound(Instant::now(), len))
    }

    /// When a record that is ready now reaches the client; `None` is "at once".
    pub(crate) fn outbound(&self, len: usize) -> Option<Instant> {
        self.with(|state| state.outbound(Instant::now(), len))
    }

    /// Lets as much time pass as `round_trips` take: what happens before the first record.
    pub(crate) async fn round_trips(&self, round_trips: u32) {
        let wait = self.settings().rtt * round_trips;
        if !wait.is_zero() {
            until(Instant::now() + wait).await;
        }
    }
}

/// Waits until `due`, to a fraction of a millisecond.
pub(crate) async fn until(due: Instant) {
    if due > Instant::now() {
        async_io::Timer::at(due.into_std()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn state(settings: LinkSettings) -> State {
        State { settings, inbound: Lane::default(), outbound: Lane::default(), random: StdRng::seed_from_u64(7) }
    }

    #[tokio::test]
    async fn a_hundred_records_at_once_take_one_round_trip_and_their_bytes() {
        let mut state = state(LinkSettings { rtt: 30 * MS, bandwidth: Some(100_000_000), ..LinkSettings::default() });
        let now = Instant::now();
        let last = (0..100).filter_map(|_| state.outbound(now, 100_000)).last();
        assert_eq!(last, Some(now + 130 * MS));
        let later = now + 1000 * MS;
        assert_eq!(state.outbound(later, 100_000), Some(later + 31 * MS));
    }

    #[tokio::test]
    async fn a_link_without_settings_adds_nothing() {
        let mut state = state(LinkSettings::default());
        assert_eq!(state.outbound(Instant::now(), 1 << 20), None);
        assert_eq!(state.inbound(Instant::now(), 1 << 20), None);
    }

    #[tokio::test]
    async fn jitter_and_losses_come_from_the_seed() {
        let settings = LinkSettings { jitter: 5 * MS, loss_stall: 200 * MS, ..LinkSettings::default() };
        let now = Instant::now();
        let run = || {
            let mut state = state(settings);
            (0..2000).filter_map(|_| state.outbound(now, 1)).map(|due| due - now).collect::<Vec<_>>()
        };
        let lates = run();
        assert_eq!(lates, run());
        assert!(lates.iter().all(|late| *late <= 205 * MS));
        let lost = lates.iter().filter(|late| **late >= 200 * MS).count();
        assert!((1..100).contains(&lost), "{lost}");
    }
}
