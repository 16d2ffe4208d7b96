//! `cargo xtask conformance`: the product under suites that other people wrote.
//!
//! Each suite runs on each server on a mount of its own: the server starts, the real command line mounts it, the suite
//! works in the folder, the folder is unmounted, and the server says what it thinks of its client. What a suite finds
//! is a list of [`check::Check`]s, held against the list of failures that are expected of that server, each with its
//! reason (`fixtures/conformance`). A failure that is not on the list and an entry of the list that passes are both
//! failures of the run, so the lists can only shrink.

mod bench;
mod check;
mod faults;
mod program;
mod report;
mod server;
mod suites;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};

use self::bench::Bench;
use self::check::{Check, Expected, Verdict};
use self::faults::Density;
use self::program::Tools;
use self::report::Row;
use self::server::{Kind, Serving};
use self::suites::{SUITES, Suite};
use crate::mounted::{Mounted, folder_of};
use crate::{cargo, succeed};

/// Run other people's file system suites on mounts of the mock and of a real server (nfs-ganesha).
#[derive(Debug, Args)]
pub struct ConformanceArgs {
    /// On which server; may be given several times.
    #[arg(long, value_enum, default_value = "all")]
    server: Vec<Chosen>,
    /// Only this suite; may be given several times.
    #[arg(long, value_name = "NAME")]
    suite: Vec<String>,
    /// Short runs of everything, as CI does them: some minutes in all.
    #[arg(long)]
    bounded: bool,
    /// Go on with the next suite after one that failed.
    #[arg(long)]
    keep_going: bool,
    /// Write what was found into docs/CONFORMANCE.md.
    #[arg(long)]
    write_table: bool,
    /// Build the product with optimisation.
    #[arg(long)]
    release: bool,
    /// List the suites and what they need, and do nothing.
    #[arg(long)]
    list: bool,
}

/// With fewer failures on purpose a suite under failures has shown nothing.
const FEW: u64 = 40;

/// What can be asked for with `--server`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Chosen {
    /// The mock as Amazon S3 Files is.
    Mock,
    /// The mock as a good NFSv4.2 server.
    MockFull,
    /// nfs-ganesha behind the mock's TLS.
    Ganesha,
    /// All three.
    All,
}

/// Everything that stays the same for all suites.
#[derive(Debug)]
struct Workshop {
    root: PathBuf,
    programs: PathBuf,
    logs: PathBuf,
    tools: Tools,
    bounded: bool,
}

impl ConformanceArgs {
    /// Carries it out.
    pub fn run(self) -> anyhow::Result<()> {
        let suites = self.suites()?;
        if self.list {
            for suite in &suites {
                println!("{:16} {}", suite.name, suite.about);
            }
            return Ok(());
        }
        ensure!(nix::unistd::geteuid().is_root(), "the suites change owners and mount: run this as root");
        let root = repository()?;
        let servers = self.servers();
        let tools = Tools::find(&root, &suites, servers.contains(&Kind::Ganesha))?;
        let programs = self.build()?;
        let logs = root.join("target/conformance");
        fs::create_dir_all(&logs)?;
        let workshop = Workshop { root, programs, logs, tools, bounded: self.bounded };
        let order: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
        let mut rows = Vec::new();
        let mut wrong = Vec::new();
        'all: for kind in servers {
            let expected = Expected::read(&workshop.root, kind.name())?;
            for suite in suites.iter().filter(|suite| !suite.with_faults || kind.is_mock()) {
                let (row, failures) = workshop.run(suite, kind, &expected);
                if self.write_table {
                    // At once, so that a run that is broken off has not been for nothing.
                    report::write(&workshop.root.join("docs/CONFORMANCE.md"), &row, &order)?;
                }
                rows.push(row);
                let failed = !failures.is_empty();
                wrong.extend(failures);
                if failed && !self.keep_going {
                    break 'all;
                }
            }
        }
        println!("\n{}", report::table(&rows));
        if !wrong.is_empty() {
            bail!("{} did not go as expected:\n  {}", wrong.len(), wrong.join("\n  "));
        }
        Ok(())
    }

    fn suites(&self) -> anyhow::Result<Vec<&'static Suite>> {
        for name in &self.suite {
            let names: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
            ensure!(names.contains(&name.as_str()), "there is no suite {name}; there are {}", names.join(", "));
        }
        let wanted = |suite: &&Suite| self.suite.is_empty() || self.suite.iter().any(|name| name == suite.name);
        Ok(SUITES.iter().filter(wanted).collect())
    }

    fn servers(&self) -> Vec<Kind> {
        let chosen = |kind: &Kind| {
            let name = match kind {
                Kind::Mock => Chosen::Mock,
                Kind::MockFull => Chosen::MockFull,
                Kind::Ganesha => Chosen::Ganesha,
            };
            self.server.iter().any(|server| *server == Chosen::All || *server == name)
        };
        [Kind::Mock, Kind::MockFull, Kind::Ganesha].into_iter().filter(chosen).collect()
    }

    /// Builds the product and the mock, and says where they are. With `--workspace` everything is built as for
    /// `cargo test --workspace`, so nothing is built twice.
    fn build(&self) -> anyhow::Result<PathBuf> {
        let me = std::env::current_exe()?;
        let target = me.parent().and_then(Path::parent).context("this program has no place in a target directory")?;
        let mut build = cargo();
        build.args(["build", "--workspace", "--bins", "--quiet", "--target-dir"]).arg(target);
        if self.release {
            build.arg("--release");
        }
        succeed(&mut build)?;
        Ok(target.join(if self.release { "release" } else { "debug" }))
    }
}

/// Adds a remark to a log.
fn note(log: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = fs::File::options().append(true).open(log)?;
    Ok(std::io::Write::write_all(&mut file, format!("\n{text}\n").as_bytes())?)
}

fn repository() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.ancestors().nth(2).context("this crate is two levels deep")?.to_owned())
}

impl Workshop {
    /// Runs one suite on one server. What went wrong comes back as sentences, together with the row of the table.
    fn run(&self, suite: &Suite, kind: Kind, expected: &Expected) -> (Row, Vec<String>) {
        print!("{:10} {:16} ", kind.name(), suite.name);
        // Nothing depends on whether this shows at once.
        let _ = std::io::Write::flush(&mut std::io::stdout());
        let start = Instant::now();
        let log = self.logs.join(format!("{}-{}.log", kind.name(), suite.name));
        let (checks, further) = match self.checks(suite, kind, &log) {
            Ok(found) => found,
            Err(error) => (Vec::new(), vec![format!("{error:#}")]),
        };
        let mut verdict = Verdict::of(suite.name, &checks, expected);
        if !further.is_empty() && checks.is_empty() {
            // The suite did not get so far: what its list says cannot be told.
            verdict.wrong.clear();
        }
        verdict.wrong.extend(further);
        println!("{verdict} in {:.1} s", start.elapsed().as_secs_f64());
        for what in &verdict.wrong {
            println!("  {what}");
        }
        if !verdict.wrong.is_empty() {
            println!("  log: {}", log.display());
        }
        let place = |what: &String| format!("{} {}: {what}", kind.name(), suite.name);
        let wrong: Vec<String> = verdict.wrong.iter().map(place).collect();
        let row = Row {
            suite: suite.name,
            version: (suite.version)(&self.tools),
            server: kind.name(),
            passed: verdict.passed,
            failed: verdict.wrong.len(),
            expected: verdict.expected,
            skipped: verdict.skipped,
            bounded: self.bounded,
        };
        (row, wrong)
    }

    /// What the suite found, and what server and unmounting said beyond that.
    fn checks(&self, suite: &Suite, kind: Kind, log: &Path) -> anyhow::Result<(Vec<Check>, Vec<String>)> {
        let lab = tempfile::Builder::new().prefix("s3files-conformance-").tempdir()?;
        let density = if self.bounded { Density::SHORT } else { Density::LONG };
        let faults = suite.with_faults.then(|| faults::plan(1, density));
        let server = Serving::start(&self.programs, lab.path(), kind, faults.as_deref())?;
        let limit = if self.bounded { suite.bounded_limit } else { suite.limit };
        let arguments = server.mount_arguments(&folder_of(lab.path()))?;
        let mounted = Mounted::mount(&self.programs, lab.path(), &arguments, server.environment())?;
        let bench = Bench::new(&mounted, lab.path(), log, &self.tools, &self.root, self.bounded, limit)?;
        let found = (suite.run)(&bench);
        drop(bench);
        let mut further = Vec::new();
        let product_log = format!("the product's log:\n{}", mounted.log());
        further.extend(mounted.umount(Duration::from_secs(120)).err().map(|error| format!("unmounting: {error:#}")));
        let checks = match found {
            Ok(checks) => checks,
            Err(error) => {
                further.push(format!("{error:#}"));
                Vec::new()
            }
        };
        let ending = server.stop()?;
        further.extend(ending.mistakes);
        if suite.with_faults {
            note(log, &format!("the mock failed {} times", ending.failures))?;
            if ending.failures < FEW {
                further.push(format!("the mock failed only {} times", ending.failures));
            }
        }
        note(log, &product_log)?;
        Ok((checks, further))
    }
}
