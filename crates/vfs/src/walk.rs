//! Which directories to list before they are opened, while a program walks a tree (`find`, `du`, `rm -r`, a file
//! manager that counts).
//!
//! A pure struct for the whole mount. The one idea: whoever reads a directory soon after its parent is walking, and will
//! open the rest of what the parent holds as well. So the listings of siblings and, as these arrive, of their
//! subdirectories are asked for at once, as many as [`AHEAD`] that nobody has opened yet. A walk costs about as many
//! round trips as the tree is deep then, not as many as it has directories.
//!
//! A walker that works on what it finds (`rm -r`) may come much later. What was listed ahead for it stands for its names
//! as long as those are believed, [`KEPT`] at most.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// Most directories that are listed, or being listed, and not opened yet.
const AHEAD: usize = 64;

/// Most directories that wait for their turn.
const WAITING: usize = 4096;

/// A directory counts as part of a walk when its parent was opened at most so long ago, and a listing that was not used
/// for so long was fetched in vain.
const PACE: Duration = Duration::from_secs(10);

/// What was listed ahead is taken for that no longer.
const KEPT: Duration = Duration::from_mins(1);

/// Some walkers open a directory twice, once to see whether it is empty (`rm -r`): a second time within this counts as the
/// first.
const AGAIN: Duration = Duration::from_secs(1);

/// Most opened directories that are remembered.
const OPENED: usize = 1024;

/// See the module's page. Directories are named by their inode numbers.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    opened: HashMap<u64, Opened>,
    order: VecDeque<u64>,
    waiting: VecDeque<u64>,
    is_waiting: HashSet<u64>,
    ahead: HashMap<u64, Instant>,
    /// Directories whose subdirectories were expected already.
    expanded: HashMap<u64, Instant>,
    refreshed: Option<Instant>,
    walking: Option<Instant>,
}

/// A directory that was opened.
#[derive(Debug)]
struct Opened {
    at: Instant,
    /// When it was for the first time after it was listed ahead.
    expected: Option<Instant>,
}

/// How a program comes to read a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// On a walk.
    pub(crate) walks: bool,
    /// A walk has expected it: its listing was asked for ahead.
    pub(crate) expected: bool,
}

impl Walk {
    /// A program begins to read a directory.
    pub(crate) fn opened(&mut self, dir: u64, parent: Option<u64>, now: Instant) -> Arrival {
        let within = |at: Instant, limit: Duration| now.saturating_duration_since(at) < limit;
        let before = self.opened.get(&dir).and_then(|opened| opened.expected);
        let expected = match self.ahead.remove(&dir) {
            Some(listed) => within(listed, KEPT).then_some(now),
            None => before.filter(|at| within(*at, AGAIN)),
        };
        if self.is_waiting.remove(&dir) {
            self.waiting.retain(|other| *other != dir);
        }
        let walks = parent.is_some_and(|parent| parent != dir && self.is_walked(parent, now));
        if walks {
            self.walking = Some(now);
        }
        if self.opened.insert(dir, Opened { at: now, expected }).is_none() {
            self.order.push_back(dir);
        }
        while self.order.len() > OPENED {
            if let Some(oldest) = self.order.pop_front() {
                self.opened.remove(&oldest);
            }
        }
        Arrival { walks, expected: expected.is_some() }
    }

    /// Whether a directory was opened, or listed ahead, lately.
    pub(crate) fn is_walked(&self, dir: u64, now: Instant) -> bool {
        let lately = |at: &Instant| now.saturating_duration_since(*at) < PACE;
        self.opened.get(&dir).is_some_and(|opened| lately(&opened.at)) || self.ahead.get(&dir).is_some_and(lately)
    }

    /// Whether what lies below a directory will be opened as well: it is listed ahead, or was opened by a walker.
    pub(crate) fn goes_below(&self, dir: u64, now: Instant) -> bool {
        self.walking.is_some_and(|at| now.saturating_duration_since(at) < PACE) && self.is_walked(dir, now)
    }

    /// Whether the subdirectories of a directory shall be expected; says so once in a while.
    pub(crate) fn expands(&mut self, dir: u64, now: Instant) -> bool {
        if self.expanded.len() > OPENED {
            self.expanded.retain(|_, at| now.saturating_duration_since(*at) < PACE);
        }
        let before = self.expanded.insert(dir, now);
        before.is_none_or(|at| now.saturating_duration_since(at) >= PACE)
    }

    /// They could not be: [`Self::expands`] says so again.
    pub(crate) fn not_expanded(&mut self, dir: u64) {
        self.expanded.remove(&dir);
    }

    /// Directories that will be opened soon, the next one first.
    pub(crate) fn expect(&mut self, dirs: impl DoubleEndedIterator<Item = u64>, now: Instant) {
        // What is deeper comes first, as walkers go.
        for dir in dirs.rev() {
            if !self.is_walked(dir, now) && self.is_waiting.insert(dir) {
                self.waiting.push_front(dir);
            }
        }
        while self.waiting.len() > WAITING {
            if let Some(last) = self.waiting.pop_back() {
                self.is_waiting.remove(&last);
            }
        }
    }

    /// The next directory to list, if any may be; ask until there is none.
    pub(crate) fn next(&mut self, now: Instant) -> Option<u64> {
        if self.ahead.len() >= AHEAD {
            self.ahead.retain(|_, since| now.saturating_duration_since(*since) < PACE);
        }
        if self.ahead.len() >= AHEAD {
            return None;
        }
        let dir = self.waiting.pop_front()?;
        self.is_waiting.remove(&dir);
        self.ahead.insert(dir, now);
        Some(dir)
    }

    /// A directory's listing was of no use, or not to be had.
    pub(crate) fn not_listed(&mut self, dir: u64) {
        self.ahead.remove(&dir);
    }

    /// The attributes of all of a directory's children were asked for, because several had run out.
    pub(crate) fn refreshed(&mut self, now: Instant) {
        self.refreshed = Some(now);
    }

    /// Whether that happened lately: then the next directory's children will be wanted as well.
    pub(crate) fn is_refreshing(&self, now: Instant) -> bool {
        self.refreshed.is_some_and(|at| now.saturating_duration_since(at) < Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_directory_that_is_opened_is_no_walk_and_its_child_is() {
        let (mut walk, now) = (Walk::default(), Instant::now());
        assert!(!walk.opened(1, None, now).walks);
        assert!(walk.opened(2, Some(1), now + Duration::from_secs(1)).walks);
        assert!(!walk.opened(3, Some(9), now).walks);
    }

    #[test]
    fn what_was_listed_ahead_is_expected_for_a_minute_and_twice_at_once() {
        let (mut walk, now) = (Walk::default(), Instant::now());
        walk.expect([2].into_iter(), now);
        assert_eq!(walk.next(now), Some(2));
        let first = now + 2 * PACE;
        let again = |at: Duration, walk: &mut Walk| walk.opened(2, Some(1), first + at).expected;
        assert!(again(Duration::ZERO, &mut walk));
        assert!(again(AGAIN / 2, &mut walk));
        assert!(!again(AGAIN, &mut walk));
        walk.expect([3].into_iter(), now);
        assert_eq!(walk.next(now), Some(3));
        assert!(!walk.opened(3, Some(1), now + KEPT).expected);
    }

    #[test]
    fn a_child_that_is_opened_much_later_is_no_walk() {
        let (mut walk, now) = (Walk::default(), Instant::now());
        walk.opened(1, None, now);
        assert!(!walk.opened(2, Some(1), now + PACE).walks);
    }

    #[test]
    fn what_is_expected_last_is_deeper_and_comes_first() {
        let (mut walk, now) = (Walk::default(), Instant::now());
        walk.expect([1, 2].into_iter(), now);
        walk.expect([11, 12].into_iter(), now);
        let order: Vec<_> = std::iter::from_fn(|| walk.next(now)).collect();
        assert_eq!(order, [11, 12, 1, 2]);
    }

    #[test]
    fn listings_that_nobody_uses_stop_the_walk_until_they_are_old() {
        let (mut walk, now) = (Walk::default(), Instant::now());
        walk.expect((0..2 * AHEAD as u64).map(|dir| dir + 10), now);
        assert_eq!(std::iter::from_fn(|| walk.next(now)).count(), AHEAD);
        walk.opened(10, None, now);
        assert_eq!(std::iter::from_fn(|| walk.next(now)).count(), 1);
        assert!(walk.next(now + PACE).is_some());
    }

    proptest! {
        #[test]
        fn no_directory_is_listed_twice_while_it_is_ahead_and_never_too_many(
            steps in prop::collection::vec((0u8..4, 0u64..200, 0u64..200), 1..300),
        ) {
            let (mut walk, start) = (Walk::default(), Instant::now());
            let mut ahead = HashSet::new();
            for (kind, a, b) in steps {
                match kind {
                    0 => {
                        walk.opened(a, Some(b), start);
                        ahead.remove(&a);
                    }
                    1 => walk.expect(a..b, start),
                    2 => {
                        walk.not_listed(a);
                        ahead.remove(&a);
                    }
                    _ => if let Some(dir) = walk.next(start) {
                        prop_assert!(ahead.insert(dir));
                    }
                }
                prop_assert!(ahead.len() <= AHEAD);
                prop_assert!(walk.waiting.len() <= WAITING && walk.waiting.len() == walk.is_waiting.len());
            }
        }
    }
}
