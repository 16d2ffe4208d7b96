//! What has been copied so far: the progress bar on a terminal, complaints as they come, the outcome at the end.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::Failure;
use crate::printable::printable;

/// Complaints that are printed; more would only hide the first.
const SHOWN: u64 = 50;

/// Counts.
#[derive(Debug)]
pub struct Tally {
    bar: ProgressBar,
    done: AtomicU64,
    skipped: AtomicU64,
    failed: AtomicU64,
}

impl Tally {
    /// Nothing yet. The bar shows itself on a terminal only.
    pub fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(8));
        let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, done: AtomicU64::new(0), skipped: AtomicU64::new(0), failed: AtomicU64::new(0) }
    }

    /// A file of this size will be copied.
    pub fn expect(&self, bytes: u64) {
        self.bar.inc_length(bytes);
    }

    /// So many bytes are copied, or were there already.
    pub fn moved(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// One thing more is copied.
    pub fn copied(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.show();
    }

    /// One was there already.
    pub fn skipped(&self, bytes: u64) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
        self.bar.inc(bytes);
        self.show();
    }

    fn show(&self) {
        let (done, skipped) = (self.done.load(Ordering::Relaxed), self.skipped.load(Ordering::Relaxed));
        self.bar.set_message(match skipped {
            0 => format!("{done} copied"),
            _ => format!("{done} copied, {skipped} there already"),
        });
    }

    /// Something could not be copied.
    pub fn failed(&self, what: &dyn Display, why: &dyn Display) {
        if self.failed.fetch_add(1, Ordering::Relaxed) < SHOWN {
            self.say(&format!("{what}: {why}"));
        }
    }

    /// A line for the user.
    pub fn say(&self, line: &str) {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        self.bar.suspend(|| eprintln!("s3files-fuse: {}", printable(&line)));
    }

    /// Whether something could not be copied.
    pub fn has_failures(&self) -> bool {
        self.failed.load(Ordering::Relaxed) > 0
    }

    /// The end.
    pub fn outcome(&self, stopped: bool) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        let (done, skipped) = (self.done.load(Ordering::Relaxed), self.skipped.load(Ordering::Relaxed));
        let failed = self.failed.load(Ordering::Relaxed);
        if failed == 0 && !stopped {
            return Ok(());
        }
        Err(Failure::NotCopied { copied: done + skipped, failed, stopped })
    }
}
