//! Work whose time is taken: waited for without looking every so often, and ended when it takes too long.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// Ends processes when the time is over. Whatever hangs in a mount goes on once the mount's daemon has ended.
#[derive(Debug)]
struct Limit {
    done: mpsc::Sender<()>,
    thread: JoinHandle<bool>,
}

impl Limit {
    fn start(limit: Duration, end: impl FnOnce() + Send + 'static) -> Self {
        let (done, wait) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let late = matches!(wait.recv_timeout(limit), Err(RecvTimeoutError::Timeout));
            if late {
                end();
            }
            late
        });
        Self { done, thread }
    }

    /// Whether the time was over.
    fn stop(self) -> bool {
        drop(self.done);
        self.thread.join().unwrap_or(true)
    }
}

/// Whoever has ended meanwhile needs no signal.
fn end(daemon: u32) {
    let _ = kill(Pid::from_raw(daemon as i32), Signal::SIGKILL);
}

/// A program that runs, and must succeed.
#[derive(Debug)]
pub struct Running {
    child: Child,
    errors: File,
    what: String,
    guard: Limit,
    limit: Duration,
}

impl Running {
    /// Starts it. When `limit` is over it is ended, and with it `daemon`.
    pub fn start(command: &mut Command, limit: Duration, daemon: Option<u32>) -> anyhow::Result<Self> {
        let errors = tempfile::tempfile()?;
        let what = command.get_program().display().to_string();
        let child = command.stderr(errors.try_clone()?).process_group(0).spawn();
        let child = child.with_context(|| format!("starting {command:?}"))?;
        let group = Pid::from_raw(child.id() as i32);
        let guard = Limit::start(limit, move || {
            let _ = killpg(group, Signal::SIGKILL);
            daemon.into_iter().for_each(end);
        });
        Ok(Self { child, errors, what, guard, limit })
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits for its end, and says when that was.
    pub fn wait(mut self) -> anyhow::Result<Instant> {
        let status = self.child.wait();
        let ended = Instant::now();
        if self.guard.stop() {
            bail!("took longer than {} s", self.limit.as_secs());
        }
        let status = status?;
        if !status.success() {
            let mut text = String::new();
            self.errors.rewind()?;
            self.errors.read_to_string(&mut text)?;
            let text: Vec<&str> = text.lines().take(3).collect();
            bail!("{} ended with {status}: {}", self.what, text.join(" | "));
        }
        Ok(ended)
    }
}

/// Runs a program that must succeed, and says how long it took, its start included.
pub fn timed(command: &mut Command, limit: Duration, daemon: Option<u32>) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let ended = Running::start(command.stdin(Stdio::null()), limit, daemon)?.wait()?;
    Ok(ended - start)
}

/// Takes the time of work of this process.
pub fn timed_here(work: impl FnOnce() -> anyhow::Result<()>, limit: Duration, daemon: u32) -> anyhow::Result<Duration> {
    let guard = Limit::start(limit, move || end(daemon));
    let start = Instant::now();
    let outcome = work();
    let took = start.elapsed();
    if guard.stop() {
        bail!("took longer than {} s", limit.as_secs());
    }
    outcome.map(|()| took)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_program_that_hangs_is_ended_and_one_that_fails_says_why() {
        let mut hangs = Command::new("sleep");
        let error = timed(hangs.arg("600"), Duration::from_millis(50), None).unwrap_err();
        assert!(error.to_string().contains("took longer"), "{error}");
        let mut fails = Command::new("sh");
        let error = timed(fails.args(["-c", "echo no such luck >&2; exit 3"]), Duration::from_secs(60), None);
        assert!(error.unwrap_err().to_string().contains("no such luck"));
    }
}
