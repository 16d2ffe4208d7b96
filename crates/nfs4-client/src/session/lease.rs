//! When to renew the lease (RFC 8881 §8.3): any SEQUENCE renews it, so only an idle client has to send one of its own.

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
}

impl Lease {
    /// A lease of `length` that was renewed at `now`.
    pub fn new(length: Duration, now: Instant) -> Self {
        Self { length: length.max(Duration::from_secs(1)), renewed: now }
    }

    /// The server answered a request that was sent at `sent`.
    pub fn renewed(&mut self, sent: Instant) {
        self.renewed = self.renewed.max(sent);
    }

    /// What to do at `now`: renew after a third of the lease, which leaves room for two attempts.
    pub fn step(&self, now: Instant) -> LeaseStep {
        let due = self.renewed + self.length / 3;
        if now >= due { LeaseStep::Renew } else { LeaseStep::WaitUntil(due) }
    }

    /// How much of the lease is left at `now`, without another answer of the server.
    pub fn left(&self, now: Instant) -> Duration {
        self.length.saturating_sub(now.saturating_duration_since(self.renewed))
    }

    /// Whether the server may have dropped our state by `now`.
    pub fn may_have_expired(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.renewed) >= self.length
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
}
