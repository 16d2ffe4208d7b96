//! The command line: one file for each verb, help beside the option.

mod cat;
mod demo;
mod ls;
mod mount;
mod source;
mod umount;

use std::future::Future;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::background::Reporter;
use crate::failure::Failure;
use crate::logging::LogArgs;

/// An Amazon S3 Files file system as a folder.
#[derive(Debug, Parser)]
#[command(name = "s3files-fuse", version, about, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Mount(mount::MountArgs),
    #[command(visible_alias = "unmount")]
    Umount(umount::UmountArgs),
    Ls(ls::LsArgs),
    Cat(cat::CatArgs),
    Demo(demo::DemoArgs),
}

/// Parses, runs, and turns the outcome into an exit code.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let reporter = match &cli.verb {
        Verb::Mount(args) => args.reporter(),
        _ => Reporter::Terminal,
    };
    let outcome = match cli.verb {
        Verb::Mount(args) => args.run(&cli.log),
        Verb::Umount(args) => with_log(&cli.log, || block_on(args.run())),
        Verb::Ls(args) => with_log(&cli.log, || block_on(args.run())),
        Verb::Cat(args) => with_log(&cli.log, || block_on(args.run())),
        Verb::Demo(args) => with_log(&cli.log, || block_on(args.run())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            reporter.failed(&failure);
            ExitCode::from(failure.code())
        }
    }
}

fn with_log(log: &LogArgs, work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    log.start(None)?;
    work()
}

/// Runs `work` on a runtime of its own.
fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(format!("the program cannot start its threads: {error}")))?;
    let outcome = runtime.block_on(work);
    // A thread that the kernel holds must not keep the program from ending.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_does_not_contradict_itself() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_is_explained() {
        let command = Cli::command();
        for verb in command.get_subcommands() {
            assert!(verb.get_about().is_some(), "{} has no help", verb.get_name());
            for option in verb.get_arguments() {
                assert!(
                    option.get_help().is_some() || option.is_hide_set(),
                    "{}: {}",
                    verb.get_name(),
                    option.get_id()
                );
            }
        }
    }
}
