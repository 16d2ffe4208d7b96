//! The command line: one file for each verb, help beside the option.

mod cat;
mod config;
mod cp;
mod demo;
mod doctor;
mod list;
mod lock;
mod login;
mod logs;
mod ls;
mod manners;
mod mount;
mod reference;
mod served;
mod source;
mod status;
mod synced;
mod umount;

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::background::Reporter;
use crate::config::Config;
use crate::failure::Failure;
use crate::fstab::{self, Called};
use crate::logging::LogArgs;
use crate::memory;
use crate::mounts;
use crate::settings;

/// An Amazon S3 Files file system as a folder.
#[derive(Debug, Parser)]
#[command(name = "s3files-fuse", version, about, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    log: LogArgs,
    /// The configuration file; ~/.config/s3files-fuse/config.toml if it is not given.
    #[arg(long, value_name = "FILE", global = true, env = "S3FILES_FUSE_CONFIG", help_heading = "Everywhere")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

impl Cli {
    fn read(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut cli = Self::from_arg_matches(matches)?;
        cli.log.is_level_typed = matches.value_source("log_level") == Some(ValueSource::CommandLine);
        Ok(cli)
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    Mount(Box<mount::MountArgs>),
    #[command(visible_alias = "unmount")]
    Umount(umount::UmountArgs),
    Status(status::StatusArgs),
    Lock(lock::LockArgs),
    Logs(logs::LogsArgs),
    Config(config::ConfigArgs),
    Ls(ls::LsArgs),
    Cat(cat::CatArgs),
    Cp(cp::CpArgs),
    Synced(synced::SyncedArgs),
    List(list::ListArgs),
    Doctor(Box<doctor::DoctorArgs>),
    Login(login::LoginArgs),
    Demo(demo::DemoArgs),
    Completions(reference::CompletionsArgs),
    #[command(hide = true)]
    Generate(reference::GenerateArgs),
    /// Say by the exit code whether the daemon of a mounted folder is gone.
    #[command(name = mounts::LOOK, hide = true)]
    Look {
        /// The folder.
        folder: PathBuf,
    },
}

/// The definition of the whole command line.
pub fn command() -> Command {
    Cli::command()
}

/// Why nothing is run.
enum Stop {
    /// clap has something to say: help, the version, or what is wrong.
    Said(clap::Error),
    Refused(Failure),
    /// Nothing is to be done.
    Nothing,
}

impl From<clap::Error> for Stop {
    fn from(error: clap::Error) -> Self {
        Self::Said(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

/// The command line, with what it leaves to the configuration and to `-o`.
fn parse(arguments: Vec<OsString>) -> Result<Cli, Stop> {
    let command = command();
    let Called::Typed(arguments) = fstab::translate(arguments, &command)? else { return Err(Stop::Nothing) };
    let matches = command.clone().try_get_matches_from(&arguments)?;
    let cli = Cli::read(&matches)?;
    let Verb::Mount(typed) = &cli.verb else { return Ok(cli) };
    let named = match typed.name() {
        Some(name) => Some(Config::new(cli.config.clone()).named(name, &command)?),
        None => None,
    };
    let mut settings = named.iter().flat_map(|named| named.settings.clone()).collect::<Vec<_>>();
    settings.extend(fstab::settings(typed.options(), &command)?);
    let matches = settings::apply(command, &settings).try_get_matches_from(&arguments)?;
    let mut cli = Cli::read(&matches)?;
    if let Verb::Mount(mount) = &mut cli.verb {
        mount.complete(named, arguments);
    }
    Ok(cli)
}

/// Parses, runs, and turns the outcome into an exit code.
pub fn run() -> ExitCode {
    let cli = match parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(Stop::Said(error)) => error.exit(),
        Err(Stop::Refused(failure)) => {
            Reporter::Terminal.failed(&failure);
            return ExitCode::from(failure.code());
        }
        Err(Stop::Nothing) => return ExitCode::SUCCESS,
    };
    let reporter = match &cli.verb {
        Verb::Mount(args) => args.reporter(),
        _ => Reporter::Terminal,
    };
    let config = Config::new(cli.config);
    let log = cli.log;
    let outcome = match cli.verb {
        Verb::Mount(args) => args.run(&log),
        Verb::Umount(args) => with_log(&log, || block_on(args.run(&config))),
        Verb::Status(args) => with_log(&log, || block_on(args.run(&config))),
        Verb::Lock(args) => match with_log(&log, || block_on(args.run())) {
            Ok(code) => return ExitCode::from(code),
            Err(failure) => Err(failure),
        },
        Verb::Logs(args) => with_log(&log, || block_on(args.run(&config))),
        Verb::Config(args) => with_log(&log, || args.run(&config)),
        Verb::Ls(args) => with_log(&log, || block_on(args.run())),
        Verb::Cat(args) => with_log(&log, || block_on(args.run())),
        Verb::Cp(args) => with_log(&log, || block_on(args.run())),
        Verb::Synced(args) => with_log(&log, || args.run()),
        Verb::List(args) => with_log(&log, || block_on(args.run())),
        Verb::Doctor(args) => with_log(&log, || block_on(args.run())),
        Verb::Login(args) => with_log(&log, || args.run(&config, &log)),
        Verb::Demo(args) => with_log(&log, || block_on(args.run())),
        Verb::Completions(args) => args.run(),
        Verb::Generate(args) => args.run(),
        Verb::Look { folder } => return ExitCode::from(mounts::look(&folder)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            reporter.failed(&failure);
            ExitCode::from(failure.code())
        }
    }
}

/// What `mount` would make of these arguments, and where it would log.
fn parse_mount(arguments: &[String]) -> Result<(Box<mount::MountArgs>, LogArgs), Stop> {
    let words = ["s3files-fuse", "mount"].into_iter().map(OsString::from);
    let cli = parse(words.chain(arguments.iter().map(OsString::from)).collect())?;
    match cli.verb {
        Verb::Mount(args) => Ok((args, cli.log)),
        _ => Err(Stop::Nothing),
    }
}

fn with_log<T>(log: &LogArgs, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    log.start(None)?;
    work()
}

/// Runs `work` on a runtime of its own.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_park(memory::before_sleep)
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

    #[test]
    fn the_command_line_does_not_contradict_itself() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_is_explained() {
        let command = Cli::command();
        let further = command.get_subcommands().flat_map(Command::get_subcommands);
        for verb in command.get_subcommands().chain(further) {
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
