//! When to renew the lease (RFC 8881 §8.3): any SEQUENCE renews it, so only an idle client has to send one of its own.
//!
//! The clock of [`Instant`] stands still while the machine sleeps, and the server's does not, so sleep is told and counted
//! apart.

use std::time::{Duration, Instant};

/// What to do about the lease now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseStep {
    /// Nothing before this moment.
    WaitUntil(Instant),
    /// Send a SEQUENCE.
    Renew,
}

/// The lease of one client.
#[derive(Debug, Clone)]
pub struct Lease {
    length: Duration,
    /// When the last request that the server answered was **sent**: the lease counts from no earlier than that.
    renewed: Instant,
    /// When the machine woke last, and how long it had slept since the renewal that counted then.
    woke: Option<(Instant, Duration)>,
}

impl Lease {
    /// A lease of `length` that was renewed at `now`.
    pub fn new(length: Duration, now: Instant) -> Self {
        Self { length: length.max(Duration::from_secs(1)), renewed: now, woke: None }
    }

    /// The server answered a request that was sent at `sent`.
    pub fn renewed(&mut self, sent: Instant) {
        self.renewed = self.renewed.max(sent);
    }

    /// The machine slept for so long until `now`.
    pub fn slept(&mut self, slept: Duration, now: Instant) {
        self.woke = Some((now, self.asleep().saturating_add(slept)));
    }

    /// How long the machine slept since the last renewal.
    fn asleep(&self) -> Duration {
        self.woke.filter(|(woke, _)| self.renewed <= *woke).map_or(Duration::ZERO, |(_, slept)| slept)
    }

    /// What to do at `now`: renew after a third of the lease, which leaves room for two attempts.
    pub fn step(&self, now: Instant) -> LeaseStep {
        let due = self.renewed + (self.length / 3).saturating_sub(self.asleep());
        if now >= due { LeaseStep::Renew } else { LeaseStep::WaitUntil(due) }
    }

    /// How much of the lease is left at `now`, without another answer of the server.
    pub fn left(&self, now: Instant) -> Duration {
        self.length.saturating_sub(self.age(now))
    }

    /// Whether the server may have dropped our state by `now`.
    pub fn may_have_expired(&self, now: Instant) -> bool {
        self.age(now) >= self.length
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.renewed).saturating_add(self.asleep())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_client_renews_after_a_third_of_the_lease() {
        let start = Instant::now();
        let lease = Lease::new(Duration::from_secs(90), start);
        assert_eq!(lease.step(start), LeaseStep::WaitUntil(start + Duration::from_secs(30)));
        assert_eq!(lease.step(start + Duration::from_secs(30)), LeaseStep::Renew);
    }

    #[test]
    fn a_busy_client_never_has_to() {
        let start = Instant::now();
        let mut lease = Lease::new(Duration::from_secs(90), start);
        for second in 0..1000 {
            let now = start + Duration::from_secs(second);
            lease.renewed(now);
            assert_ne!(lease.step(now), LeaseStep::Renew);
        }
    }

    #[test]
    fn a_late_answer_to_an_early_request_does_not_move_the_lease_back() {
        let start = Instant::now();
        let mut lease = Lease::new(Duration::from_secs(90), start);
        lease.renewed(start + Duration::from_secs(50));
        lease.renewed(start + Duration::from_secs(10));
        assert!(!lease.may_have_expired(start + Duration::from_secs(139)));
        assert!(lease.may_have_expired(start + Duration::from_secs(140)));
        assert_eq!(lease.left(start + Duration::from_secs(139)), Duration::from_secs(1));
        assert_eq!(lease.left(start + Duration::from_secs(200)), Duration::ZERO);
    }

    #[test]
    fn sleep_counts_until_a_request_of_after_it_is_answered() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut lease = Lease::new(Duration::from_secs(90), start);
        lease.slept(Duration::from_secs(20), at(5));
        assert_eq!(lease.step(at(5)), LeaseStep::WaitUntil(at(10)));
        lease.slept(Duration::from_secs(60), at(6));
        assert_eq!((lease.left(at(6)), lease.step(at(6))), (Duration::from_secs(4), LeaseStep::Renew));
        // This one may have reached the server before the machine slept.
        lease.renewed(at(4));
        assert!(lease.may_have_expired(at(20)));
        lease.renewed(at(7));
        assert_eq!(lease.left(at(7)), Duration::from_secs(90));
        lease.slept(Duration::from_secs(10), at(8));
        assert_eq!(lease.left(at(8)), Duration::from_secs(79), "the sleep before does not count again");
    }
}
