//! When a client certificate has to be made anew.
//!
//! The public client renews every 60 min and lets a certificate hold for 3 h (PROTOCOL.md §2). Established connections
//! stay, so only a **new** connection asks. A laptop that slept, a clock that was set, and credentials that end before
//! the certificate does are the cases that matter; all are answered from three times and the time now.

use std::time::{Duration, SystemTime};

/// How far back a certificate's validity begins, against clocks that run behind.
pub const BACKDATED: Duration = Duration::from_mins(15);
/// How long a certificate holds from the time it was made.
pub const VALIDITY: Duration = Duration::from_hours(3);
/// The age from which a new one is made if possible.
pub const RENEW_AFTER: Duration = Duration::from_hours(1);
/// How long before an end (of credentials or validity) it no longer counts: a handshake takes time and clocks differ.
pub const MARGIN: Duration = Duration::from_mins(5);

/// What to do about a certificate before a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Use it.
    Fresh,
    /// Make a new one; if that fails, this one may still be used.
    Due,
    /// It must not be used any more.
    Spent,
}

/// The times of a certificate that decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// When it was made and signed.
    pub made: SystemTime,
    /// When the credentials behind it end, if they do.
    pub credentials_end: Option<SystemTime>,
}

impl Lifetime {
    /// The first moment of the certificate's validity.
    pub fn not_before(&self) -> SystemTime {
        self.made - BACKDATED
    }

    /// The last moment of the certificate's validity.
    pub fn not_after(&self) -> SystemTime {
        self.made + VALIDITY
    }

    /// What to do at `now`.
    pub fn verdict(&self, now: SystemTime) -> Verdict {
        let Ok(age) = now.duration_since(self.made) else {
            // The clock was set back. A little is within the back-dating; more, and the certificate is not valid yet.
            return if now + MARGIN >= self.made { Verdict::Due } else { Verdict::Spent };
        };
        if age + MARGIN >= VALIDITY || self.credentials_end.is_some_and(|end| end <= now) {
            Verdict::Spent
        } else if age >= RENEW_AFTER || self.credentials_end.is_some_and(|end| end <= now + MARGIN) {
            Verdict::Due
        } else {
            Verdict::Fresh
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn made() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn lasting(credentials_end: Option<SystemTime>) -> Lifetime {
        Lifetime { made: made(), credentials_end }
    }

    #[test]
    fn a_certificate_is_renewed_after_an_hour_and_unusable_before_its_three_hours_are_over() {
        let life = lasting(None);
        assert_eq!(life.verdict(made()), Verdict::Fresh);
        assert_eq!(life.verdict(made() + 59 * MINUTE), Verdict::Fresh);
        assert_eq!(life.verdict(made() + 60 * MINUTE), Verdict::Due);
        assert_eq!(life.verdict(made() + 174 * MINUTE), Verdict::Due);
        assert_eq!(life.verdict(made() + 175 * MINUTE), Verdict::Spent);
        assert_eq!(life.verdict(made() + 10_000 * MINUTE), Verdict::Spent);
    }

    #[test]
    fn credentials_about_to_end_make_it_due_and_ended_ones_spent() {
        let life = lasting(Some(made() + 30 * MINUTE));
        assert_eq!(life.verdict(made() + 24 * MINUTE), Verdict::Fresh);
        assert_eq!(life.verdict(made() + 25 * MINUTE), Verdict::Due);
        assert_eq!(life.verdict(made() + 30 * MINUTE), Verdict::Spent);
    }

    #[test]
    fn a_clock_that_was_set_back_asks_for_a_new_one() {
        assert_eq!(lasting(None).verdict(made() - MINUTE), Verdict::Due);
        assert_eq!(lasting(None).verdict(made() - 20 * MINUTE), Verdict::Spent);
    }

    proptest! {
        #[test]
        fn what_may_be_used_is_valid_then_and_for_five_minutes_more(
            offset in -20_000i64..20_000, end in proptest::option::of(0u64..20_000)
        ) {
            let life = lasting(end.map(|s| made() + Duration::from_secs(s)));
            let now = if offset < 0 { made() - Duration::from_secs(offset.unsigned_abs()) } else { made() + Duration::from_secs(offset.unsigned_abs()) };
            let verdict = life.verdict(now);
            if verdict != Verdict::Spent {
                prop_assert!(now >= life.not_before() && now + MARGIN <= life.not_after());
                prop_assert!(life.credentials_end.is_none_or(|end| now < end));
            }
            if verdict == Verdict::Fresh {
                prop_assert!(now < made() + RENEW_AFTER);
                prop_assert!(life.credentials_end.is_none_or(|end| now + MARGIN < end));
            }
        }
    }
}
