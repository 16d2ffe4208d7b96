//! Waiting for a network that is not there yet: right after a login, and where a laptop is opened.
//!
//! launchd has no condition for the network any more, and systemd's knows only that an interface is up, so the program
//! tries again by itself. Only what the network can mend is waited for; a wrong name or missing credentials end it.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// How long to wait before the next try.
#[derive(Debug)]
pub struct Patience {
    next: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

/// Does `work`; as long as there is patience, again and again while its failure may pass.
pub async fn patiently<T, W>(patience: &mut Option<Patience>, mut work: impl FnMut() -> W) -> Result<T, Failure>
where
    W: Future<Output = Result<T, Failure>>,
{
    loop {
        match (work().await, &mut *patience) {
            (Err(failure), Some(patience)) if may_pass(&failure) => patience.wait(&failure).await?,
            (outcome, _) => return outcome,
        }
    }
}

/// Whether the failure may be gone when the network is there: names cannot be resolved, hosts cannot be reached.
fn may_pass(failure: &Failure) -> bool {
    matches!(failure.code(), 6 | 7)
}

impl Patience {
    /// The next pause: twice as long as the one before, but never so long that nobody would wait for it.
    fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        pause
    }

    /// Waits. A signal ends the waiting with the failure.
    async fn wait(&mut self, failure: &Failure) -> Result<(), Failure> {
        let pause = self.pause();
        tracing::warn!(%failure, ?pause, "waiting for the network");
        let failed = |error: std::io::Error| Failure::Other(format!("signals cannot be heard: {error}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            _ = terminate.recv() => Err(failure.clone()),
            _ = interrupt.recv() => Err(failure.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bearable() {
        let mut patience = Patience::default();
        let pauses: Vec<_> = (0..8).map(|_| patience.pause().as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn only_what_the_network_can_mend_is_waited_for() {
        let code = |code| Failure::Told { sentence: String::new(), code };
        assert!(may_pass(&code(6)) && may_pass(&code(7)));
        for final_code in [1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13] {
            assert!(!may_pass(&code(final_code)), "{final_code}");
        }
    }
}
