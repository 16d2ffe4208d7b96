//! Who asks: the identity under which the server is to carry a request out.
//!
//! The kernel tells uid, gid and thread id of the caller, but not its supplementary groups. On Linux they stand in
//! `/proc/PID/status`; the caller is waiting for our answer meanwhile, so the file is its own. The groups are kept for a
//! moment, because reading them costs more than most requests do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use vfs::Cred;

/// How long the groups of a process are believed.
const KEPT_FOR: Duration = Duration::from_secs(2);
/// Most processes remembered.
const MOST_KEPT: usize = 1024;

/// A request's origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller {
    uid: u32,
    gid: u32,
    /// Thread id; 0 for the kernel itself and for processes that cannot be seen from here.
    pid: u32,
}

impl From<&fuser::Request> for Caller {
    fn from(request: &fuser::Request) -> Self {
        Self { uid: request.uid(), gid: request.gid(), pid: request.pid() }
    }
}

/// The groups of those who asked lately.
#[derive(Debug, Default)]
pub struct Groups {
    kept: Mutex<HashMap<Caller, Kept>>,
}

#[derive(Debug)]
struct Kept {
    groups: Arc<[u32]>,
    since: Instant,
}

impl Groups {
    /// The caller's whole identity.
    pub fn identify(&self, caller: Caller) -> Cred {
        Cred { groups: self.groups(caller, Instant::now()), ..Cred::new(caller.uid, caller.gid) }
    }

    fn groups(&self, caller: Caller, now: Instant) -> Arc<[u32]> {
        if caller.pid == 0 {
            return Arc::from([]);
        }
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept().get(&caller)
            && now.duration_since(known.since) < KEPT_FOR
        {
            return Arc::clone(&known.groups);
        }
        let groups = supplementary_groups(caller.pid);
        let mut kept = kept();
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(caller, Kept { groups: Arc::clone(&groups), since: now });
        groups
    }
}

#[cfg(target_os = "linux")]
fn supplementary_groups(pid: u32) -> Arc<[u32]> {
    std::fs::read_to_string(format!("/proc/{pid}/status")).map_or_else(|_| Arc::from([]), |status| groups_in(&status))
}

/// macOS has no way to ask for another process's groups; the server goes by uid and gid there.
#[cfg(not(target_os = "linux"))]
fn supplementary_groups(_pid: u32) -> Arc<[u32]> {
    Arc::from([])
}

#[cfg(any(target_os = "linux", test))]
fn groups_in(status: &str) -> Arc<[u32]> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    line.split_ascii_whitespace().filter_map(|group| group.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn groups_are_read_from_the_line_of_that_name() {
        let status = "Name:\tcat\nGid:\t7\t7\t7\t7\nFDSize:\t64\nGroups:\t4 24 1000 \nNStgid:\t9\n";
        assert_eq!(&*groups_in(status), [4, 24, 1000]);
        assert!(groups_in("Name:\tGroups\n").is_empty());
        assert!(groups_in("Groups:\t \n").is_empty());
    }

    #[test]
    fn the_kernel_itself_has_no_groups_and_is_not_looked_up() {
        let groups = Groups::default();
        assert!(groups.identify(Caller { uid: 0, gid: 0, pid: 0 }).groups.is_empty());
        assert!(groups.kept.lock().unwrap().is_empty());
    }

    #[test]
    fn what_is_remembered_stays_bounded() {
        let groups = Groups::default();
        for uid in 0..3000 {
            groups.identify(Caller { uid, gid: 0, pid: std::process::id() });
        }
        assert!(groups.kept.lock().unwrap().len() <= MOST_KEPT);
    }

    #[test]
    fn groups_are_asked_for_again_after_a_while() {
        let groups = Groups::default();
        let caller = Caller { uid: 0, gid: 0, pid: std::process::id() };
        let now = Instant::now();
        groups.groups(caller, now);
        groups.kept.lock().unwrap().get_mut(&caller).unwrap().groups = Arc::from([77]);
        assert_eq!(&*groups.groups(caller, now + KEPT_FOR / 2), [77]);
        assert_ne!(&*groups.groups(caller, now + KEPT_FOR), [77]);
    }
}
