//! Waiting for a network that is not there yet: right after a login, and where a laptop is opened.
//!
//! launchd has no condition for the network any more, and systemd's knows only that an interface is up, so the program
//! tries again by itself. Only what the network can mend is waited for; a wrong name or missing credentials end it.
//!
//! Once signals are listened for they no longer end the process by themselves, so they are listened for all the time.

use std::future::Future;
use std::time::Duration;

use nix::unistd::{Pid, getppid};

use crate::failure::Failure;
use crate::serve::Signals;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// How often a process looks whether its parent is still there.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long to wait before the next try, and whether to go on at all.
#[derive(Debug)]
pub struct Patience {
    next: Duration,
    signals: Signals,
    /// Who waits for the outcome.
    parent: Option<Pid>,
}

/// What a signal does to an attempt that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnderWay {
    /// It is dropped.
    Dropped,
    /// It is left alone: it listens for signals by itself, and must not be dropped half-way.
    LeftAlone,
}

/// Does `work`; as long as there is patience, again and again while its failure may pass. A signal, or the end of
/// whoever waits for the outcome, ends that with the last failure.
pub async fn patiently<T, W>(
    patience: &mut Option<Patience>,
    under_way: UnderWay,
    mut work: impl FnMut() -> W,
) -> Result<T, Failure>
where
    W: Future<Output = Result<T, Failure>>,
{
    let Some(patience) = patience else { return work().await };
    let mut last = Failure::Other("interrupted before the folder was mounted".to_owned());
    loop {
        tokio::select! {
            biased;
            // It may have come while nobody waited for it.
            () = patience.over() => return Err(last),
            () = std::future::ready(()) => {}
        }
        let outcome = tokio::select! {
            outcome = work() => outcome,
            () = patience.over(), if under_way == UnderWay::Dropped => return Err(last),
        };
        last = match outcome {
            Err(failure) if may_pass(&failure) => failure,
            outcome => return outcome,
        };
        let pause = pause(&mut patience.next);
        tracing::warn!(failure = %last, ?pause, "waiting for the network");
        tokio::select! {
            () = patience.over() => return Err(last),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Whether the failure may be gone when the network is there: names cannot be resolved, hosts cannot be reached.
fn may_pass(failure: &Failure) -> bool {
    matches!(failure.code(), 6 | 7)
}

/// The next pause: twice as long as the one before, but never so long that nobody would wait for it.
fn pause(next: &mut Duration) -> Duration {
    let pause = *next;
    *next = (pause * 2).min(LONGEST);
    pause
}

impl Patience {
    /// From here on signals end the waiting, and not the process. So does the end of `parent`, which is this process's:
    /// one that has left the terminal's session gets no Ctrl-C from there any more.
    pub fn new(parent: Option<Pid>) -> Result<Self, Failure> {
        let signals = Signals::new().map_err(|error| Failure::Other(format!("signals cannot be heard: {error}")))?;
        Ok(Self { next: FIRST, signals, parent })
    }

    /// Returns when a signal has come or the parent is gone.
    async fn over(&mut self) {
        let parent = self.parent;
        let orphaned = async {
            while parent.is_none_or(|parent| getppid() == parent) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = self.signals.any() => {}
            () = orphaned => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use nix::sys::signal::{Signal, raise};

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn pauses_grow_and_stay_bearable() {
        let mut next = FIRST;
        let pauses: Vec<_> = (0..8).map(|_| pause(&mut next).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    fn failure(code: u8) -> Failure {
        Failure::Told { sentence: String::new(), code }
    }

    #[test]
    fn only_what_the_network_can_mend_is_waited_for() {
        assert!(may_pass(&failure(6)) && may_pass(&failure(7)));
        for final_code in [1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13] {
            assert!(!may_pass(&failure(final_code)), "{final_code}");
        }
    }

    /// The exit code, and how many attempts there were, when the process is signalled in the middle of attempt number
    /// `signalled`, which then takes `takes`. All attempts fail with code 7.
    async fn signalled(under_way: UnderWay, signalled: u32, takes: Duration) -> (u8, u32) {
        let mut patience = Some(Patience::new(None).unwrap());
        let mut attempts = 0;
        let work = || {
            attempts += 1;
            let is_it = attempts == signalled;
            async move {
                if is_it {
                    raise(Signal::SIGTERM).unwrap();
                    tokio::time::sleep(takes).await;
                }
                Err::<(), _>(failure(7))
            }
        };
        let outcome = tokio::time::timeout(LIMIT, patiently(&mut patience, under_way, work)).await;
        (outcome.expect("the signal was lost").unwrap_err().code(), attempts)
    }

    #[tokio::test]
    async fn a_signal_in_the_middle_of_an_attempt_ends_it() {
        let for_ever = LIMIT * 2;
        assert_eq!(signalled(UnderWay::Dropped, 1, for_ever).await, (1, 1));
        // Before the second there was a pause.
        assert_eq!(signalled(UnderWay::Dropped, 2, for_ever).await, (7, 2));
    }

    #[tokio::test]
    async fn nothing_is_waited_for_once_the_parent_is_gone() {
        // This is not its parent.
        let mut patience = Some(Patience::new(Some(Pid::this())).unwrap());
        let work = || async { Err::<(), _>(failure(7)) };
        let outcome = tokio::time::timeout(LIMIT, patiently(&mut patience, UnderWay::LeftAlone, work)).await;
        assert_eq!(outcome.expect("it waits for ever").unwrap_err().code(), 1);
    }

    #[tokio::test]
    async fn an_attempt_that_must_not_be_dropped_is_the_last_when_a_signal_comes_during_it() {
        assert_eq!(signalled(UnderWay::LeftAlone, 2, Duration::from_millis(50)).await, (7, 2));
    }
}
