//! `login install|list|remove`

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::mount::MountArgs;
use super::{Stop, parse_mount};
use crate::config::Config;
use crate::failure::Failure;
use crate::folder;
use crate::logging::{self, LogArgs};
use crate::login::{Job, Service, Started, make_absolute};

/// Mount folders at every login.
///
/// A LaunchAgent on a Mac, a user unit of systemd on Linux. Credentials are not stored: they are found at each login where
/// AWS's tools keep them (`~/.aws`), so name a profile.
#[derive(Debug, Clone, Args)]
pub struct LoginArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// Mount a folder now and at every login.
    Install {
        /// TARGET, FOLDER and options, as `mount` takes them.
        #[arg(value_name = "ARGUMENTS OF MOUNT", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Show what is mounted at every login.
    List,
    /// Unmount a folder and mount it no more.
    Remove {
        /// The folder, or the name that `login list` shows.
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

impl LoginArgs {
    /// Carries it out. `log` is what the command line says of the log before what is for `mount`.
    pub fn run(self, config: &Config, log: &LogArgs) -> Result<(), Failure> {
        let service = Service::of_user().ok_or_else(|| {
            Failure::Usage("there is no HOME, so there is no place for login jobs; set it".to_owned())
        })?;
        match self.verb {
            Verb::Install { arguments } => install(&service, config, log, arguments),
            Verb::List => {
                list(&service);
                Ok(())
            }
            Verb::Remove { folder } => remove(&service, &folder),
        }
    }
}

fn install(service: &Service, config: &Config, log: &LogArgs, mut arguments: Vec<String>) -> Result<(), Failure> {
    // `login install --log-file x …` means the job as well.
    let text = |path: &Path| path.to_string_lossy().into_owned();
    for (option, value) in [
        ("--log-file", log.log_file.as_deref().map(text)),
        ("--log-level", log.is_level_typed.then(|| log.log_level.clone())),
        ("--config", config.given().map(text)),
    ] {
        if let Some(value) = value {
            arguments.splice(0..0, [option.to_owned(), value]);
        }
    }
    let (mount, log) = match parse_mount(&arguments) {
        Ok(mount) => mount,
        Err(Stop::Said(mistake)) => mistake.exit(),
        Err(Stop::Refused(failure)) => return Err(failure),
        Err(Stop::Nothing) => return Ok(()),
    };
    let typed = mount.typed_folder().unwrap_or_else(|| Path::new(""));
    let folder = folder::absolute(typed)?;
    let refuse = |why: &str| Failure::Folder { folder: typed.to_owned(), why: why.to_owned() };
    let job = Job::new(&folder, Vec::new());
    if service.file(&job.name).exists() {
        return Err(refuse("is mounted at every login already; first: s3files-fuse login remove FOLDER"));
    }
    folder::for_mounting(typed)?;
    let program = std::env::current_exe()
        .map_err(|error| Failure::Other(format!("this program does not know where it lies: {error}")))?;
    if program.to_str().is_none() || folder.to_str().is_none() {
        return Err(refuse("has a name that is no UTF-8, which service managers do not take; choose another folder"));
    }
    make_absolute(&mut arguments, &super::command(), &folder)?;
    if let Some(file) = mount.source_args().ca_file() {
        std::fs::File::open(file)
            .map_err(|error| Failure::Usage(format!("--ca-file {} cannot be read: {error}", file.display())))?;
    }
    // launchd has no journal that bounds itself. This is the file that `logs FOLDER` looks for.
    let log = if cfg!(target_os = "macos") && log.log_file.is_none() {
        Some(
            logging::usual(&folder)
                .map_err(|error| Failure::Other(format!("there is no place for the log: {error}")))?,
        )
    } else {
        None
    };
    let command = command(&program, &mount, arguments, log.as_deref(), std::env::var("AWS_PROFILE").ok());
    let job = Job { command, ..job };
    let started = service
        .install(&job)
        .map_err(|error| Failure::Other(format!("{} cannot be mounted at logins: {error}", folder.display())))?;
    let keys = std::env::var_os("AWS_ACCESS_KEY_ID").is_some();
    if keys && mount.source_args().profile().is_none() && !mount.source_args().is_plain() {
        say(
            &mut io::stderr(),
            "The AWS keys in this terminal's environment are not there at a login: name a profile with --profile.",
        );
    }
    let folder = folder.display();
    say(
        &mut io::stdout(),
        &match started {
            Started::Now => format!("{} is mounted on {folder} now and at every login", mount.target()),
            Started::Later(why) => format!(
                "{} will be mounted on {folder} at every login, but not now ({why}); the job is {}",
                mount.target(),
                service.file(&job.name).display()
            ),
        },
    );
    Ok(())
}

/// The command of a job: `mount` as it was typed, in the foreground, patient, with a log file where it needs one, and with
/// the profile of this terminal.
fn command(
    program: &Path,
    mount: &MountArgs,
    arguments: Vec<String>,
    log: Option<&Path>,
    profile: Option<String>,
) -> Vec<String> {
    let mut command = vec![program.to_string_lossy().into_owned(), "mount".to_owned()];
    if !mount.is_foreground() {
        command.push("--foreground".to_owned());
    }
    if !mount.waits_for_network() {
        command.push("--wait-for-network".to_owned());
    }
    if let Some(log) = log {
        command.extend(["--log-file".to_owned(), log.to_string_lossy().into_owned()]);
    }
    let source = mount.source_args();
    if let Some(profile) = profile.filter(|name| !name.is_empty() && source.profile().is_none() && !source.is_plain()) {
        command.extend(["--profile".to_owned(), profile]);
    }
    command.extend(arguments);
    command
}

fn list(service: &Service) {
    let jobs = service.list();
    if jobs.is_empty() {
        say(&mut io::stdout(), "No folder is mounted at login; `s3files-fuse login install` adds one.");
    }
    for (name, job) in jobs {
        let state = if Service::runs(&name) { "runs" } else { "does not run" };
        let line = match job.and_then(|job| parse_mount(job.mount_arguments()).ok()) {
            Some((mount, _)) => {
                let folder = mount.typed_folder().unwrap_or_else(|| Path::new("?"));
                format!("{}\t{}\t{state}\t{name}", folder.display(), mount.target())
            }
            // Of another release, or changed by hand.
            None => format!("?\t?\t{state}\t{name}"),
        };
        say(&mut io::stdout(), &line);
    }
}

fn remove(service: &Service, typed: &Path) -> Result<(), Failure> {
    let names: Vec<_> = service.list().into_iter().map(|(name, _)| name).collect();
    let by_folder = || {
        let path = folder::without_looking(typed)?;
        Some(Job::new(&path, Vec::new()).name)
    };
    let resolved = || typed.canonicalize().ok().map(|path| Job::new(&path, Vec::new()).name);
    let wanted = [typed.to_str().map(str::to_owned), by_folder()];
    let known = |name: &String| names.contains(name);
    let name = wanted.into_iter().flatten().find(known).or_else(|| resolved().filter(known));
    let Some(name) = name else {
        let why = "is not mounted at login; `s3files-fuse login list` shows what is".to_owned();
        return Err(Failure::NotMounted { folder: typed.to_owned(), why });
    };
    service.remove(&name).map_err(|error| Failure::Other(format!("{name} cannot be removed: {error}")))?;
    say(&mut io::stdout(), &format!("{} is mounted at login no more", typed.display()));
    Ok(())
}

/// What is done is done, whether or not anybody reads this.
fn say(to: &mut impl Write, line: &str) {
    let _ = writeln!(to, "{line}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn of(arguments: &[&str], profile: Option<&str>) -> String {
        let arguments: Vec<_> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let (mount, _) = parse_mount(&arguments).ok().unwrap();
        command(Path::new("/bin/s3"), &mount, arguments, None, profile.map(str::to_owned)).join(" ")
    }

    #[test]
    fn a_job_runs_in_the_foreground_and_waits_for_the_network() {
        assert_eq!(of(&["fs-1", "/d"], None), "/bin/s3 mount --foreground --wait-for-network fs-1 /d");
        assert_eq!(of(&["-f", "fs-1", "/d"], None), "/bin/s3 mount --wait-for-network -f fs-1 /d");
    }

    #[test]
    fn a_job_with_a_log_of_its_own_is_told_where_it_is() {
        let arguments = ["fs-1", "/d"].map(str::to_owned).to_vec();
        let (mount, log) = parse_mount(&arguments).ok().unwrap();
        assert_eq!(log.log_file, None);
        let command =
            command(Path::new("/bin/s3"), &mount, arguments, Some(Path::new("/home/a/d.log")), None).join(" ");
        assert_eq!(command, "/bin/s3 mount --foreground --wait-for-network --log-file /home/a/d.log fs-1 /d");
        for named in [["--log-file", "x"], ["-o", "ro,log_file=x"]] {
            let arguments: Vec<_> = named.into_iter().chain(["fs-1", "/d"]).map(str::to_owned).collect();
            assert_eq!(parse_mount(&arguments).ok().unwrap().1.log_file, Some("x".into()));
        }
    }

    #[test]
    fn the_profile_of_the_terminal_goes_with_it_unless_another_is_named() {
        assert!(of(&["fs-1", "/d"], Some("work")).contains("--profile work"));
        assert!(!of(&["fs-1", "/d"], Some("")).contains("--profile"));
        assert!(!of(&["fs-1", "/d", "--profile", "home"], Some("work")).contains("--profile work"));
        assert!(!of(&["--plain", "127.0.0.1", "/d"], Some("work")).contains("--profile work"));
    }
}
