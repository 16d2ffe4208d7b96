//! The suites: what each is, needs, and may take. One file for each kind of program.

mod archives;
mod building;
mod editors;
mod fio;
mod fsx;
mod git;
mod load;
mod pjdfstest;
mod sqlite;
mod stress;

use std::time::Duration;

use super::bench::Bench;
use super::check::Check;
use super::program::{Program, Tools};

/// A suite. Its checks are the same in short and in whole runs, and on every server.
#[derive(Debug)]
pub struct Suite {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// The programs that it needs.
    pub needs: &'static [Program],
    /// Whether the server fails on purpose meanwhile.
    pub with_faults: bool,
    /// How long a whole run may take.
    pub limit: Duration,
    /// How long a short run may take.
    pub bounded_limit: Duration,
    /// The version of what is run.
    pub version: fn(&Tools) -> String,
    /// Does it.
    pub run: fn(&Bench<'_>) -> anyhow::Result<Vec<Check>>,
}

/// All suites, in the order in which they run.
pub const SUITES: &[Suite] = &[
    pjdfstest::SUITE,
    fsx::SUITE,
    fsx::WITH_FAULTS,
    fio::SUITE,
    load::DBENCH,
    load::FS_MARK,
    load::BONNIE,
    stress::SUITE,
    sqlite::SUITE,
    git::SUITE,
    building::SUITE,
    archives::RSYNC,
    archives::ARCHIVES,
    editors::SUITE,
];

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

/// Checks with a result each, made one after the other.
#[derive(Debug, Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn add(&mut self, name: &str, result: anyhow::Result<()>) {
        self.0.push(Check::of(name, result));
    }

    fn all(self) -> Vec<Check> {
        self.0
    }
}
