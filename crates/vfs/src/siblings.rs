//! Which small files to fetch before they are opened, while a program reads one file of a directory after the other
//! (`cat *`, `grep -r`, a compiler with its headers).
//!
//! A pure struct for the whole mount. The one idea: two files of a directory opened in a row, in the order of its names,
//! mean that the next ones will be opened too. The window doubles while that comes true, and starts small again where it
//! does not. Only mounts that allow opens to rely on what was sent lately (`open_freshness`) ask: elsewhere each open asks
//! the server anyway, and its answer brings the data along.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::name::Name;

/// The first window, and the largest, in files.
const WINDOW: std::ops::RangeInclusive<usize> = 16..=64;

/// Opens further apart do not belong together.
const PACE: Duration = Duration::from_secs(2);

/// Directories that are followed at once.
const DIRS: usize = 256;

/// One directory.
#[derive(Debug)]
struct Run {
    name: Name,
    at: Instant,
    window: usize,
    /// Everything up to this name was asked for.
    reached: Name,
}

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Siblings {
    runs: HashMap<u64, Run>,
    /// When a run went on last, in any directory.
    going: Option<Instant>,
}

/// What to fetch: so many names behind the one that was opened, without those up to `behind`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ahead {
    pub(crate) count: usize,
    pub(crate) behind: Name,
}

impl Siblings {
    /// A file of a directory is opened for reading.
    pub(crate) fn opened(&mut self, dir: u64, name: &Name, now: Instant) -> Option<Ahead> {
        let lately = |at: Instant| now.saturating_duration_since(at) < PACE;
        if self.runs.len() >= DIRS {
            self.runs.retain(|_, run| lately(run.at));
        }
        if self.runs.len() >= DIRS {
            return None;
        }
        let going = self.going.is_some_and(lately);
        let Some(run) = self.runs.get_mut(&dir).filter(|run| lately(run.at)) else {
            let window = *WINDOW.start();
            let run = Run { name: name.clone(), at: now, window, reached: name.clone() };
            self.runs.insert(dir, run);
            // Whoever has just read through another directory reads through this one as well.
            return going.then(|| Ahead { count: window, behind: name.clone() });
        };
        if *name <= run.name {
            // The same file once more, or back.
            (run.at, run.window) = (now, *WINDOW.start());
            return None;
        }
        (run.name, run.at) = (name.clone(), now);
        self.going = Some(now);
        run.reached = run.reached.clone().max(name.clone());
        Some(Ahead { count: run.window, behind: run.reached.clone() })
    }

    /// Everything up to `reached` was asked for.
    pub(crate) fn fetched(&mut self, dir: u64, reached: Name) {
        if let Some(run) = self.runs.get_mut(&dir) {
            run.reached = reached;
            run.window = (run.window * 2).min(*WINDOW.end());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn name(number: u32) -> Name {
        format!("{number:04}").as_bytes().into()
    }

    #[test]
    fn the_second_file_in_a_row_starts_it_and_one_alone_does_not() {
        let (mut siblings, now) = (Siblings::default(), Instant::now());
        assert_eq!(siblings.opened(1, &name(0), now), None);
        assert_eq!(siblings.opened(2, &name(0), now), None);
        assert_eq!(siblings.opened(1, &name(1), now), Some(Ahead { count: 16, behind: name(1) }));
        siblings.fetched(1, name(17));
        assert_eq!(siblings.opened(1, &name(2), now), Some(Ahead { count: 32, behind: name(17) }));
        assert_eq!(siblings.opened(3, &name(0), now), Some(Ahead { count: 16, behind: name(0) }));
    }

    #[test]
    fn slow_and_backward_readers_start_nothing() {
        let (mut siblings, now) = (Siblings::default(), Instant::now());
        assert_eq!(siblings.opened(1, &name(5), now), None);
        assert_eq!(siblings.opened(1, &name(4), now), None);
        assert_eq!(siblings.opened(1, &name(6), now + PACE), None);
    }

    proptest! {
        #[test]
        fn never_more_than_the_largest_window_and_nothing_twice(opens in prop::collection::vec((0u64..3, 0u32..50), 1..200)) {
            let (mut siblings, now) = (Siblings::default(), Instant::now());
            for (dir, number) in opens {
                if let Some(ahead) = siblings.opened(dir, &name(number), now) {
                    prop_assert!(ahead.count <= *WINDOW.end());
                    prop_assert!(ahead.behind >= name(number));
                    siblings.fetched(dir, name(number + ahead.count as u32).max(ahead.behind));
                }
            }
        }
    }
}
