//! Chores of this repository: `cargo xtask VERB`. One file for each verb; what a verb needs and may lack on a machine,
//! it says before it starts.

mod bench;
mod conformance;
mod dist;
mod faults;
mod mounted;
mod real_server;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};

/// Chores of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Bench(bench::BenchArgs),
    /// Be one of the busy processes of `bench`.
    #[command(hide = true)]
    BenchWorker {
        /// Where to be busy.
        dir: PathBuf,
    },
    Conformance(conformance::ConformanceArgs),
    Dist(dist::DistArgs),
    Faults(faults::FaultsArgs),
    RealServer(real_server::RealServerArgs),
    /// Restart the nfs-ganesha that was started in a directory (tests of recovery call this).
    #[command(hide = true)]
    RestartGanesha {
        /// The directory.
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Bench(args) => args.run(),
        Verb::BenchWorker { dir } => bench::be_busy(&dir),
        Verb::Conformance(args) => args.run(),
        Verb::Dist(args) => args.run(),
        Verb::Faults(args) => args.run(),
        Verb::RealServer(args) => args.run(),
        Verb::RestartGanesha { dir } => xtask::ganesha::restart(&dir),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Cargo itself, the one that runs this.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a command and takes anything but success for an error.
fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// A program on the path, or where Debian keeps daemons.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| Path::is_file(file))
}
