//! The referee: writes down every protocol mistake of a client, and counts what it does.
//!
//! A mistake is something that a correct client never does, whatever the network or the server do to it. A test
//! ends with an empty list or fails. Mistakes are:
//!
//! - in a session: a sequence id left out, another request under a used one, a slot or a highest slot that is not there,
//!   a request, a reply or a number of operations beyond what was negotiated, an operation without a session, SEQUENCE
//!   in another place than the first, a connection of another partition;
//! - with state: a stateid used after CLOSE or DELEGRETURN, never given out, of another file or of the wrong kind; new
//!   state before RECLAIM_COMPLETE; an open, a lock or a delegation left at the end;
//! - with files: a handle or a READDIR cookie made up, a name that no component has, attributes that cannot be asked for,
//!   READ_BYPASS where it does not belong;
//! - without need: a handle put or saved and not used, bytes behind the last operation;
//! - on the back channel: an answer that does not fit its call, a delegation given back that the client never had.
//!
//! The front has more: records that cannot be followed, procedures that are not there, and a slot used again before the
//! reply to its last request was sent (the `unanswered` module).
//!
//! What a fault may have hidden from a client is not held against it: see `States::excuse` and its callers.

use std::collections::BTreeMap;
use std::time::Duration;

use nfs4::types::Sessionid4;

use super::config::Now;

/// Mistakes kept at most; a broken client must not fill the memory.
const MOST: usize = 10_000;

/// Mistakes and counts so far.
#[derive(Debug, Default, Clone)]
pub struct Referee {
    mistakes: Vec<String>,
    counters: Counters,
    rtt: Duration,
    depth: BTreeMap<Sessionid4, Vec<(Now, u64)>>,
}

/// What was done so far.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counters {
    /// COMPOUND calls, replays included.
    pub compounds: u64,
    /// Calls that a client waited for one after the other: the longest chain of compounds in which each was sent
    /// after the reply of the one before had arrived, summed over sessions.
    pub round_trips: u64,
    /// Calls that were answered from the replay cache.
    pub replays: u64,
    /// Operations by name (`Getattr`, `OpenDowngrade`).
    pub operations: BTreeMap<&'static str, u64>,
    /// Bytes of file data that READs returned.
    pub bytes_read: u64,
    /// Bytes of file data that WRITEs brought.
    pub bytes_written: u64,
    /// Bytes of all requests, RPC headers included.
    pub request_bytes: u64,
    /// Bytes of all replies, RPC headers included.
    pub reply_bytes: u64,
}

impl Counters {
    /// How often an operation was carried out, however its name is spelled (`OPEN_DOWNGRADE`, `OpenDowngrade`).
    pub fn of(&self, operation: &str) -> u64 {
        let plain = |name: &str| name.replace('_', "").to_ascii_lowercase();
        let wanted = plain(operation);
        self.operations.iter().filter(|(name, _)| plain(name) == wanted).map(|(_, count)| count).sum()
    }
}

impl Referee {
    /// Writes a mistake down.
    pub fn mistake(&mut self, what: String) {
        tracing::warn!(target: "referee", "{what}");
        if self.mistakes.len() < MOST {
            self.mistakes.push(what);
        }
    }

    /// Mistakes so far.
    pub fn mistakes(&self) -> &[String] {
        &self.mistakes
    }

    /// Mistakes so far; the list is empty afterwards.
    pub fn take_mistakes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.mistakes)
    }

    /// Counts so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn count(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Sets all counts to zero.
    pub fn reset_counters(&mut self) {
        self.counters = Counters::default();
        self.depth.clear();
    }

    /// Tells how long a reply takes to come back as a request, so that calls that were under way at the same time
    /// are not taken for a chain.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt;
    }

    /// A compound of a session was answered: counts its place in the chain.
    pub(super) fn answered(&mut self, session: Sessionid4, now: Now) {
        // Depths of answers that may still be on their way; the last one older than a round trip counts as known.
        let answers = self.depth.entry(session).or_default();
        let known = answers.iter().rev().find(|(at, _)| now.0.saturating_sub(at.0) >= self.rtt).map_or(0, |(_, d)| *d);
        let longest = answers.iter().map(|(_, depth)| *depth).max().unwrap_or(0);
        let depth = known + 1;
        if depth > longest {
            self.counters.round_trips += 1;
        }
        let deepest = depth.max(longest);
        let rtt = self.rtt;
        let keep_from = answers.iter().rposition(|(at, _)| now.0.saturating_sub(at.0) >= rtt).unwrap_or(0);
        answers.drain(..keep_from);
        answers.push((now, deepest));
    }

    pub(super) fn forget_session(&mut self, session: Sessionid4) {
        self.depth.remove(&session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now(Duration::from_millis(ms))
    }

    #[test]
    fn calls_under_way_together_are_one_round_trip_and_a_chain_counts_its_length() {
        let mut referee = Referee::default();
        referee.set_rtt(Duration::from_millis(30));
        let session = Sessionid4::default();
        for _ in 0..10 {
            referee.answered(session, at(100));
        }
        assert_eq!(referee.counters().round_trips, 1);
        referee.answered(session, at(120));
        assert_eq!(referee.counters().round_trips, 1);
        for ms in [130, 160, 190] {
            referee.answered(session, at(ms));
        }
        assert_eq!(referee.counters().round_trips, 4);
    }

    #[test]
    fn without_a_link_every_call_is_a_round_trip() {
        let mut referee = Referee::default();
        for _ in 0..5 {
            referee.answered(Sessionid4::default(), at(1));
        }
        assert_eq!(referee.counters().round_trips, 5);
    }
}
