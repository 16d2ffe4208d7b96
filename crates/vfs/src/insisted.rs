//! Names that a kernel was told, and asks for all the same.
//!
//! A pure struct for the whole mount. A kernel that may rely on a name for a while asks for it within that time only when
//! somebody wants to make something of that name and is to fail if it is there (`O_EXCL`, `mkdir`), or to rename something
//! to it. For the first of these, what is remembered is not good enough: who waits for a lock file that way would not see
//! that another machine has removed it. The two cannot be told apart, and the second comes once for each file that
//! replaces another; so it is whoever asks again and again that the server is asked for.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use crate::inode::NodeId;

/// Most names that are remembered: as many as others may look up while somebody waits between two tries.
const NAMES: usize = 8192;

/// A kernel may be told so many times in a row what is remembered: when it comes to a name, and when it renames something
/// to it.
const TIMES: u32 = 2;

/// A directory's inode number, and what a name in it stands for.
type Key = (u64, NodeId);

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Insisted {
    /// Until when the kernel may rely on what it was told first, and how often it was told.
    told: HashMap<Key, (Instant, u32)>,
    order: VecDeque<Key>,
}

impl Insisted {
    /// The kernel asks for a name that stands for `id` in `dir`, and may rely on the answer until `until`. Returns whether
    /// the server is to be asked for it.
    pub(crate) fn asks_again(&mut self, dir: u64, id: NodeId, until: Instant, now: Instant) -> bool {
        if until <= now {
            return false;
        }
        let key = (dir, id);
        let told = self.told.entry(key).or_insert_with(|| {
            self.order.push_back(key);
            (until, 0)
        });
        if told.0 <= now {
            *told = (until, 0);
        }
        // What the server answers counts as told.
        let asks = told.1 >= TIMES;
        *told = if asks { (until, 1) } else { (told.0, told.1 + 1) };
        while self.order.len() > NAMES {
            if let Some(oldest) = self.order.pop_front() {
                self.told.remove(&oldest);
            }
        }
        asks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const DIR: u64 = 1;

    fn id(ino: u64) -> NodeId {
        NodeId { ino, serial: ino }
    }

    #[test]
    fn who_asks_again_and_again_has_the_server_asked_every_second_time() {
        let (mut insisted, now) = (Insisted::default(), Instant::now());
        let until = now + Duration::from_secs(30);
        let asked: Vec<_> = (0..7).map(|_| insisted.asks_again(DIR, id(2), until, now)).collect();
        assert_eq!(asked, [false, false, true, false, true, false, true]);
        assert!(!insisted.asks_again(DIR, id(3), until, now));
    }

    #[test]
    fn a_kernel_that_asks_when_its_time_is_over_does_not_insist() {
        let (mut insisted, start) = (Insisted::default(), Instant::now());
        for second in 0..10 {
            let now = start + Duration::from_secs(second);
            assert!(!insisted.asks_again(DIR, id(2), now + Duration::from_secs(1), now));
            // It was told that it must not rely on it at all.
            assert!(!insisted.asks_again(DIR, id(3), now, now));
        }
    }

    #[test]
    fn no_more_names_are_remembered_than_there_is_room_for() {
        let (mut insisted, now) = (Insisted::default(), Instant::now());
        for ino in 0..3 * NAMES as u64 {
            insisted.asks_again(DIR, id(ino), now + Duration::from_secs(30), now);
        }
        assert!(insisted.told.len() == NAMES && insisted.order.len() == NAMES);
    }
}
