//! `cargo xtask bench`: what users do, through FUSE, at the round trip times that they have.
//!
//! A server shows files that were put there directly; each workload mounts it with the release binary, runs a real program
//! in the mount and takes its time. What is judged is the wall time as a multiple of the round trip time: how often a
//! user waits for the other end of the world. The lines, their goals and the kernel's figures are in [`lines`].

mod chart;
mod compare;
mod dataset;
mod docs;
mod further;
mod lines;
mod program;
mod report;
mod stage;
mod verdict;
mod workloads;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use self::dataset::Dataset;
use self::further::FURTHER;
pub use self::further::be_busy;
use self::lines::{LINES, Line, Unit, find as find_line};
use self::report::{Figure, Report, TABLE_RTT, shown};
use self::stage::{Kind, LinkTo, Sample, Stage};
use self::verdict::median;
use self::workloads::{Round, Samples, WORKLOADS, Workload};
use crate::{cargo, find, succeed};

/// Workloads below this are played three times.
const SHORT: Duration = Duration::from_secs(2);
pub const TIMES: usize = 3;
/// What a workload may take whatever the round trip time is.
const LEAST_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Servers {
    Mock,
    Ganesha,
    All,
}

/// Measure what users do, through FUSE, on slow links.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// On which servers; ganesha is left out where it is not installed, unless it is asked for by name.
    #[arg(long, value_enum, default_value_t = Servers::All)]
    server: Servers,
    /// Round trip times in milliseconds. The table is made from 30, the chart from all.
    #[arg(long, value_delimiter = ',', default_value = "0,10,30,80", value_name = "MS,MS")]
    rtt: Vec<u64>,
    /// Only lines whose name holds one of these (`--list` shows the names).
    #[arg(long, value_delimiter = ',', value_name = "PART,PART")]
    only: Vec<String>,
    /// A short run: the mock, 30 ms, without the slow lines. Fails when a must is missed.
    #[arg(long)]
    quick: bool,
    /// Use TLS, which the kernel's figures do not.
    #[arg(long)]
    tls: bool,
    /// Also measure the memory of 1,000,000 known inodes, which takes minutes.
    #[arg(long)]
    million: bool,
    /// Write what was found to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail when a line is worse than in this file, which an earlier run wrote, or when one of those that were asked for is
    /// only there.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Write docs/BENCHMARKS.md and docs/benchmarks.svg.
    #[arg(long)]
    write_docs: bool,
    /// Measure nothing and take the figures from this file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "only", "million"])]
    from: Option<PathBuf>,
    /// Print the names of the lines.
    #[arg(long)]
    list: bool,
}

impl BenchArgs {
    /// Carries it out.
    pub fn run(mut self) -> anyhow::Result<()> {
        if self.list {
            for line in LINES {
                println!("{:<14} {}", line.id, line.title);
            }
            return Ok(());
        }
        if self.quick {
            (self.server, self.rtt) = (Servers::Mock, vec![TABLE_RTT]);
        }
        let earlier = self.compare.as_deref().map(read).transpose()?;
        // Nobody knows what the run of a file was asked for.
        let kinds = if self.from.is_some() { Vec::new() } else { self.kinds()? };
        let report = match &self.from {
            Some(file) => read(file)?,
            None => self.measure(&kinds)?,
        };
        println!("\n{}\n{}", docs::circumstances(&report), report.table());
        self.write_json(&report)?;
        if self.write_docs {
            docs::write(&root()?, &report)?;
        }
        let mut bad = Vec::new();
        if let Some(earlier) = &earlier {
            let worse = compare::worse(earlier, &report, |figure| self.asks_for(&kinds, figure));
            bad.extend(worse.into_iter().map(|what| format!("worse: {what}")));
        }
        let missed = report.missed().into_iter().map(|what| format!("missed: {what}"));
        let missed: Vec<_> = missed.collect();
        for what in missed.iter().chain(&bad) {
            println!("{what}");
        }
        if self.quick {
            bad.extend(missed);
        }
        if !bad.is_empty() {
            bail!("{} lines are not as good as they must be", bad.len());
        }
        Ok(())
    }

    fn write_json(&self, report: &Report) -> anyhow::Result<()> {
        let Some(file) = &self.json else { return Ok(()) };
        fs::write(file, serde_json::to_string_pretty(report)?)
            .with_context(|| format!("cannot write {}", file.display()))
    }

    fn names(&self, id: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| id.contains(part.as_str()))
    }

    fn wants(&self, line: &Line) -> bool {
        self.names(line.id) && !(self.quick && line.slow) && (self.million || line.id != "inodes")
    }

    /// Whether a run on these servers is to find again what an earlier one found.
    fn asks_for(&self, kinds: &[Kind], figure: &Figure) -> bool {
        let id = figure.line.as_str();
        // A short run cannot say of a line that there is not any more whether it was slow.
        let is_wanted = find_line(id).map_or_else(|| !self.quick && self.names(id), |line| self.wants(line));
        let is_on_link =
            further::rtt_of(id).map_or_else(|| self.rtt.contains(&figure.rtt_ms), |own| own == figure.rtt_ms);
        is_wanted && is_on_link && kinds.iter().any(|kind| kind.name() == figure.server)
    }

    fn wants_any(&self, lines: &[&str]) -> bool {
        lines.iter().filter_map(|id| find_line(id)).any(|line| self.wants(line))
    }

    fn kinds(&self) -> anyhow::Result<Vec<Kind>> {
        let mut kinds = Vec::new();
        if self.server != Servers::Ganesha {
            kinds.push(Kind::Mock);
        }
        if self.server != Servers::Mock {
            if find("ganesha.nfsd").is_some() {
                kinds.push(Kind::Ganesha);
            } else if self.server == Servers::Ganesha {
                bail!("ganesha.nfsd is needed: apt-get install nfs-ganesha nfs-ganesha-vfs");
            } else {
                eprintln!("ganesha.nfsd is not installed; only the mock is measured");
            }
        }
        Ok(kinds)
    }

    fn measure(&self, kinds: &[Kind]) -> anyhow::Result<Report> {
        for program in ["dd", "du", "find", "git", "ls", "mv", "rm", "stat", "tar", "umount"] {
            if find(program).is_none() {
                bail!("{program} is needed");
            }
        }
        let programs = build()?;
        let mut report = Report {
            tls: self.tls,
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            load: load(),
            figures: Vec::new(),
        };
        let workloads: Vec<&Workload> = WORKLOADS.iter().filter(|work| self.wants_any(work.lines)).collect();
        if !workloads.is_empty() || self.wants_any(&["busy-stat", "link-read", "link-write"]) {
            let dir = tempfile::Builder::new().prefix("s3files-bench-data-").tempdir()?;
            eprintln!("making files");
            let uses = self.rtt.len() * TIMES;
            let trees = if self.wants_any(&["rm-r"]) { uses } else { 0 };
            // Each use has a number of its own: some workloads use up two.
            let data = Dataset::make(dir.path(), uses * 12, trees)?;
            for &kind in kinds {
                self.on_server(&programs, kind, &data, &workloads, &mut report)?;
            }
        }
        for further in FURTHER {
            if self.wants_any(further.lines) {
                for &kind in kinds.iter().filter(|&&kind| kind == Kind::Mock || further.on_ganesha) {
                    let played = (0..further.times).map(|_| (further.play)(&programs, kind, self.tls)).collect();
                    self.keep(&mut report, kind, further.rtt, further.lines, played)?;
                }
            }
        }
        Ok(report)
    }

    fn on_server(
        &self,
        programs: &Path,
        kind: Kind,
        data: &Dataset,
        workloads: &[&Workload],
        report: &mut Report,
    ) -> anyhow::Result<()> {
        eprintln!("starting {}", kind.name());
        let stage = Stage::start(programs, kind, &data.served(), self.tls)?;
        if self.wants_any(&["git-first", "git-second"]) {
            workloads::prime_git(&stage)?;
        }
        for &rtt in &self.rtt {
            stage.set_link(LinkTo { rtt, mbit: None })?;
            for work in workloads {
                // Those that are not in round trips say nothing about other round trip times.
                let in_round_trips =
                    work.lines.iter().filter_map(|id| find_line(id)).any(|l| l.unit == Unit::RoundTrips);
                if !in_round_trips && rtt != TABLE_RTT {
                    continue;
                }
                let round = Round { stage: &stage, data, limit: limit(work.lines, rtt) };
                let mut played = vec![(work.play)(&round)];
                let is_short = |samples: &Samples| samples.iter().all(|(_, sample)| sample.wall < SHORT);
                if played[0].as_ref().is_ok_and(is_short) {
                    played.extend((1..TIMES).map(|_| (work.play)(&round)));
                }
                self.keep(report, kind, rtt, work.lines, played)?;
            }
        }
        for work in further::ON_STAGE {
            if self.wants_any(work.lines) {
                let round = Round { stage: &stage, data, limit: Duration::from_mins(3) };
                let played = (work.play)(&round);
                self.keep(report, kind, TABLE_RTT, work.lines, vec![played])?;
            }
        }
        Ok(())
    }

    /// Keeps the middle one of the samples of each line, and says on the terminal what it is.
    fn keep(
        &self,
        report: &mut Report,
        kind: Kind,
        rtt: u64,
        lines: &[&str],
        played: Vec<anyhow::Result<Samples>>,
    ) -> anyhow::Result<()> {
        let mut samples: BTreeMap<&str, Vec<Sample>> = BTreeMap::new();
        let mut failure = None;
        for outcome in played {
            match outcome {
                Ok(found) => found.into_iter().for_each(|(line, sample)| samples.entry(line).or_default().push(sample)),
                Err(error) => failure = Some(format!("{error:#}")),
            }
        }
        for line in lines.iter().filter_map(|id| find_line(id)).filter(|line| self.wants(line)) {
            let found = samples.get(line.id).map_or(&[][..], Vec::as_slice);
            let figure = figure(line, kind, rtt, found, failure.as_deref());
            let value = figure.value.map_or_else(String::new, |value| shown(line.unit, value));
            let ms = figure.wall_ms.map_or_else(String::new, |ms| format!("{ms:.0} ms"));
            let failed = figure.failure.as_deref().unwrap_or_default();
            let word = report::verdict(&figure).word();
            eprintln!("{:<8} {rtt:>3} ms  {:<14} {value:>8} {ms:>10}  {word} {failed}", kind.name(), line.id);
            report.figures.push(figure);
        }
        // A run takes long; what was found stays when it is cut short.
        self.write_json(report)
    }
}

fn figure(line: &Line, kind: Kind, rtt: u64, samples: &[Sample], failure: Option<&str>) -> Figure {
    let value = |sample: &Sample| match line.unit {
        Unit::RoundTrips if sample.value.is_none() => sample.wall.as_secs_f64() * 1000.0,
        _ => sample.value.unwrap_or_default(),
    };
    let values: Vec<f64> = samples.iter().map(value).collect();
    let middle = median(&values).map(|at| (samples[at], values[at]));
    // A workload that failed once has failed.
    let middle = middle.filter(|_| failure.is_none());
    let in_round_trips = |value: f64| match line.unit {
        Unit::RoundTrips => (rtt > 0).then(|| value / rtt as f64),
        _ => Some(value),
    };
    Figure {
        line: line.id.to_owned(),
        server: kind.name().to_owned(),
        rtt_ms: rtt,
        wall_ms: middle.map(|(sample, _)| sample.wall.as_secs_f64() * 1000.0),
        value: middle.and_then(|(_, value)| in_round_trips(value)),
        requests: middle.and_then(|(sample, _)| sample.requests),
        operations: middle.and_then(|(sample, _)| sample.operations),
        failure: failure.map(str::to_owned),
    }
}

/// More than the kernel's client would need.
fn limit(lines: &[&str], rtt: u64) -> Duration {
    let round_trips = lines.iter().filter_map(|id| find_line(id)?.kernel).map(|kernel| kernel.value).sum::<f64>();
    LEAST_LIMIT + Duration::from_millis(rtt).mul_f64(1.5 * round_trips)
}

/// The repository.
fn root() -> anyhow::Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?)
}

/// Builds the programs with optimisation, and says where they are.
fn build() -> anyhow::Result<PathBuf> {
    eprintln!("building the release binaries");
    let start = Instant::now();
    let root = root()?;
    succeed(cargo().current_dir(&root).args(["build", "--quiet", "--release", "--workspace", "--bins"]))?;
    eprintln!("built in {} s", start.elapsed().as_secs());
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release"))
}

fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

fn read(file: &Path) -> anyhow::Result<Report> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} was not written by this", file.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::report::tests::figure;
    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        bench: BenchArgs,
    }

    /// Whether a run with these arguments, on the mock alone, is to find a line again.
    fn asks(arguments: &[&str], line: &str, server: &str, rtt_ms: u64) -> bool {
        let bench = Alone::try_parse_from([&["bench"], arguments].concat()).unwrap().bench;
        bench.asks_for(&[Kind::Mock], &Figure { rtt_ms, ..figure(line, server, 1.0) })
    }

    #[test]
    fn a_run_asks_for_the_lines_that_its_filters_leave() {
        assert!(asks(&[], "mkdir", "mock", 80));
        assert!(!asks(&[], "mkdir", "ganesha", 80), "a server that is not there");
        assert!(asks(&["--only", "dir"], "mkdir", "mock", 30));
        assert!(!asks(&["--only", "find"], "mkdir", "mock", 30));
        assert!(!asks(&["--quick"], "untar", "mock", 30), "a slow line in a short run");
        assert!(!asks(&[], "inodes", "mock", 0));
        assert!(asks(&["--million"], "inodes", "mock", 0));
    }

    #[test]
    fn a_run_at_one_round_trip_time_asks_for_that_one_and_for_lines_with_one_of_their_own() {
        assert!(asks(&["--rtt", "10"], "mkdir", "mock", 10));
        assert!(!asks(&["--rtt", "10"], "mkdir", "mock", 30));
        assert!(!asks(&["--rtt", "10"], "random-1", "mock", 30));
        assert!(asks(&["--rtt", "10"], "rss", "mock", 0));
        assert!(asks(&["--rtt", "10"], "busy-stat", "mock", 30));
    }

    #[test]
    fn a_line_that_the_program_does_not_know_any_more_was_asked_for_unless_the_run_is_short() {
        assert!(asks(&[], "forgotten", "mock", 30));
        assert!(!asks(&["--only", "mkdir"], "forgotten", "mock", 30));
        assert!(!asks(&["--quick"], "forgotten", "mock", 30));
    }
}
