//! Who asks: the identity under which the server is to carry a request out.
//!
//! The kernel tells uid, gid and thread id of the caller, but not its supplementary groups. On Linux they stand in
//! `/proc/PID/status`; the caller is waiting for our answer meanwhile, so the file is its own. The groups are kept for a
//! moment, because reading them costs more than most requests do.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use vfs::Cred;

use crate::identity::Presented;

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

impl Caller {
    /// Whether a signal waits for the caller, who can only take it when its request is answered. The kernel tells file
    /// systems of that (FUSE_INTERRUPT), but fuser does not pass it on.
    pub fn is_interrupted(self) -> bool {
        self.awaits(u64::MAX)
    }

    /// Whether one of the signals waits for the caller with which people and systems end programs. Others (a timer, a
    /// child's end) interrupt no question to a file system.
    pub fn is_told_to_end(self) -> bool {
        self.awaits(Self::ENDING)
    }

    /// SIGHUP, SIGINT, SIGQUIT, SIGKILL and SIGTERM, as bits of the masks in `/proc`.
    const ENDING: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 8 | 1 << 14;

    fn awaits(self, signals: u64) -> bool {
        cfg!(target_os = "linux")
            && self.pid != 0
            && is_waited_for_by(self.pid, std::fs::read_to_string(format!("/proc/{}/status", self.pid)), signals)
    }

    #[cfg(test)]
    pub(super) fn of_process(pid: u32) -> Self {
        Self { uid: 0, gid: 0, pid }
    }
}

/// Whether one of the signals waits for the thread, or it is gone. What `/proc` does not show may be hidden
/// (`hidepid`).
fn is_waited_for_by(pid: u32, status: io::Result<String>, signals: u64) -> bool {
    match status {
        Ok(status) => waiting_signals(&status) & signals != 0,
        Err(_) => is_gone(pid),
    }
}

/// Whether there is no such thread any more: the kernel says so also of those that may not be signalled.
fn is_gone(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH))
}

/// The signals pending for a thread or its process that are not blocked. One that is ignored never is pending unless it is
/// blocked, too.
fn waiting_signals(status: &str) -> u64 {
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let pending = mask("SigPnd:").unwrap_or(0) | mask("ShdPnd:").unwrap_or(0);
    pending & !mask("SigBlk:").unwrap_or(0) & !mask("SigIgn:").unwrap_or(0)
}

/// The groups of those who asked lately.
#[derive(Debug, Default)]
pub struct Groups {
    presented: Presented,
    kept: Mutex<HashMap<Caller, Kept>>,
}

#[derive(Debug)]
struct Kept {
    groups: Arc<[u32]>,
    since: Instant,
}

impl Groups {
    /// Nobody has asked yet. The server is told of `presented`.
    pub fn new(presented: Presented) -> Self {
        Self { presented, kept: Mutex::default() }
    }

    /// The identity under which the server is asked.
    pub fn identify(&self, caller: Caller) -> Cred {
        let groups = self.groups(caller, Instant::now());
        self.presented.of(&Cred { groups, ..Cred::new(caller.uid, caller.gid) })
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
    static TOLD: std::sync::Once = std::sync::Once::new();
    match std::fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(status) => groups_in(&status),
        Err(error) => {
            if !is_gone(pid) {
                TOLD.call_once(|| {
                    tracing::warn!(
                        pid,
                        %error,
                        "/proc does not show who asks (hidepid), so the supplementary groups of other users are not \
                         known, and the server is not told of them"
                    );
                });
            }
            Arc::from([])
        }
    }
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
    fn a_signal_counts_unless_it_is_blocked() {
        let status = |pending: &str, shared: &str, blocked: &str| {
            format!("SigQ:\t0/15\nSigPnd:\t{pending}\nShdPnd:\t{shared}\nSigBlk:\t{blocked}\nSigIgn:\t{:016x}\n", 4)
        };
        let (none, int, term) = ("0000000000000000", "0000000000000002", "0000000000004000");
        let waits = |status: &str| waiting_signals(status) != 0;
        assert!(!waits(&status(none, none, none)));
        assert!(waits(&status(int, none, none)));
        assert!(waits(&status(none, term, int)));
        assert!(!waits(&status(none, int, int)));
        assert!(!waits(&status(none, "0000000000000004", none)), "ignored");
        assert!(!waits("garbage"));
    }

    #[test]
    fn a_process_that_proc_hides_is_not_gone() {
        let hidden = || Err(io::ErrorKind::NotFound.into());
        // The first belongs to root, so that others may not signal it.
        for alive in [1, std::process::id()] {
            assert!(!is_waited_for_by(alive, hidden(), u64::MAX), "{alive}");
        }
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(is_waited_for_by(child.id(), hidden(), u64::MAX));
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
