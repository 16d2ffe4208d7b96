//! Whose changes a file's change attribute tells of, while we are writing to the file ourselves.
//!
//! Our own WRITE moves the change attribute, and so does everybody else's; a value that has moved tells nothing by itself.
//! So each operation of ours also brings the value from just before it. When we have stopped writing, each of those must
//! be one that we began with or one that an operation of ours left behind. One that is neither was left by somebody else,
//! and what is cached of the file may be old.
//!
//! A change of somebody else between an operation of ours and the question in the same COMPOUND shows as ours: no server
//! promises that a COMPOUND is carried out in one piece (RFC 8881 §2.6.3.1). Locks are there for that.

use std::collections::VecDeque;

/// Values remembered: more than there are operations under way at once.
const KNOWN: usize = 256;
/// Values in doubt; from here on somebody else has certainly been there.
const IN_DOUBT: usize = 128;

/// See the module's page. Most files are not being written, so it is small until they are.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Option<Box<Values>>);

#[derive(Debug, Clone)]
struct Values {
    /// What we began with, and what operations of ours left behind.
    ours: VecDeque<u64>,
    /// What must turn out to be ours.
    in_doubt: Vec<u64>,
}

impl Ledger {
    /// The reply to an operation of ours: the change attribute was `before`, and is `after`. `current` is what was held
    /// for the value until now.
    pub fn own(&mut self, before: u64, after: u64, current: u64) {
        let values = self.begin(current);
        values.doubt(before);
        values.ours.push_back(after);
        if values.ours.len() > KNOWN {
            values.ours.pop_front();
        }
        values.in_doubt.retain(|value| *value != after);
    }

    /// The value was seen, otherwise than with an operation of ours.
    pub fn seen(&mut self, value: u64, current: u64) {
        self.begin(current).doubt(value);
    }

    /// We have stopped writing: whether somebody else has written, too.
    pub fn settle(&mut self) -> bool {
        self.0.take().is_some_and(|values| !values.in_doubt.is_empty())
    }

    /// Whether nothing is in question.
    pub const fn is_settled(&self) -> bool {
        self.0.is_none()
    }

    fn begin(&mut self, current: u64) -> &mut Values {
        self.0.get_or_insert_with(|| Box::new(Values { ours: VecDeque::from([current]), in_doubt: Vec::new() }))
    }
}

impl Values {
    fn doubt(&mut self, value: u64) {
        if !self.ours.contains(&value) && self.in_doubt.len() < IN_DOUBT {
            self.in_doubt.push(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What happens at the server, in its order: a change of ours, or of somebody else.
    fn play(changes: &[bool], order: &[usize]) -> bool {
        let steps = (100..).zip(changes);
        let mut replies: Vec<(u64, u64)> =
            steps.filter(|(_, ours)| **ours).map(|(before, _)| (before, before + 1)).collect();
        let mut ledger = Ledger::default();
        // Replies come in any order.
        for at in order {
            if !replies.is_empty() {
                let (before, after) = replies.remove(at % replies.len());
                ledger.own(before, after, 100);
            }
        }
        for (before, after) in replies {
            ledger.own(before, after, 100);
        }
        ledger.settle()
    }

    proptest! {
        #[test]
        fn somebody_elses_change_between_ours_is_noticed_and_ours_never_are(
            changes in prop::collection::vec(prop::bool::weighted(0.9), 1..60),
            order in prop::collection::vec(0usize..60, 60),
        ) {
            // One that comes after all of ours is not there yet when we look; the next question brings it.
            let last = changes.iter().rposition(|ours| *ours).unwrap_or(0);
            let foreign = changes[..last].iter().any(|ours| !ours);
            prop_assert_eq!(play(&changes, &order), foreign);
        }
    }

    #[test]
    fn a_value_seen_in_an_open_counts_too() {
        let mut ledger = Ledger::default();
        ledger.own(5, 6, 5);
        ledger.seen(7, 6);
        // It was our own WRITE, whose reply came later than that of the open.
        ledger.own(6, 7, 6);
        assert!(!ledger.settle());
        ledger.own(7, 8, 7);
        ledger.seen(9, 8);
        assert!(ledger.settle());
        assert!(!ledger.settle(), "it was told once");
    }
}
