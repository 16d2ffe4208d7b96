//! Where the program's own notes go: the terminal in the foreground, a file in the background.
//!
//! Levels are by module, as `warn,nfs4_client=debug`. A file is bounded ([`rotating`]) and for this user alone. What may not
//! be in any log are secrets; that is the writers' duty, and a whole-product test reads the log of a session for them.

mod rotating;

use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use clap::Args;
use tracing_subscriber::EnvFilter;

use rotating::RotatingFile;
pub use rotating::numbered;

use crate::failure::Failure;
use crate::{control, home};

/// A log file is turned over at this size, and so many full ones are kept.
const FULL: u64 = 10 << 20;
const KEPT: u32 = 4;

/// Options about the log.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// How much to write down: error, warn, info, debug, trace, or levels by module such as `warn,nfs4_client=debug`.
    #[arg(
        long,
        alias = "log",
        value_name = "LEVEL",
        default_value = "warn",
        global = true,
        env = "S3FILES_FUSE_LOG",
        help_heading = "Everywhere"
    )]
    pub log_level: String,
    /// Write the log to this file instead of the terminal; full at 10 MiB it becomes FILE.1, and the oldest of five goes.
    /// In the background the default is a file that `status` names and `logs` shows.
    #[arg(long, value_name = "FILE", global = true, help_heading = "Everywhere")]
    pub log_file: Option<PathBuf>,
    /// Whether the level was typed, and is not that of the environment or the usual one.
    #[arg(skip)]
    pub is_level_typed: bool,
}

/// The log file of mounts in the background on `folder`, an absolute path.
pub fn usual(folder: &Path) -> io::Result<PathBuf> {
    Ok(home::logs()?.join(name(folder)))
}

/// Named after the folder, for people, and after a number that no other folder has.
fn name(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().filter(|c| c.is_alphanumeric() || "-_.".contains(*c)).take(40).collect();
    let number = control::fnv(folder.as_os_str().as_bytes());
    format!("{}-{number:016x}.log", name.trim_start_matches(['.', '-']))
}

impl LogArgs {
    /// Starts the log; returns its file, if it has one. `background` is the folder of a process without a terminal.
    pub fn start(&self, background: Option<&Path>) -> Result<Option<PathBuf>, Failure> {
        // fuser tries to unmount what is unmounted already, and complains; its own levels can still be given.
        let levels = format!("fuser::session=error,fuser::mnt=error,{}", self.log_level);
        let filter = EnvFilter::try_new(levels)
            .map_err(|error| Failure::Usage(format!("--log-level {} is not understood: {error}", self.log_level)))?;
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(true);
        let path = match (&self.log_file, background) {
            (Some(path), _) => Some(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
            // Somebody without a home still has a place for sockets.
            (None, Some(folder)) => Some(usual(folder).or_else(|_| control::file(folder, "log")).map_err(|error| {
                Failure::Other(format!("there is no place for the log ({error}); name one with --log-file"))
            })?),
            (None, None) => None,
        };
        match &path {
            None => builder.with_ansi(io::stderr().is_terminal()).with_writer(io::stderr).init(),
            Some(path) => {
                let file = RotatingFile::open(path, FULL, KEPT).map_err(|error| {
                    Failure::Usage(format!("the log file {} cannot be written: {error}", path.display()))
                })?;
                builder.with_ansi(false).with_writer(Mutex::new(file)).init();
            }
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_has_a_log_of_its_own_that_is_told_by_its_name() {
        let (one, other) = (name(Path::new("/a/my work")), name(Path::new("/b/my work")));
        assert_ne!(one, other);
        assert!(one.starts_with("mywork-"), "{one}");
        assert!(!name(Path::new("/a/..hidden/\u{1b}[2J")).contains('\u{1b}'));
        assert!(name(Path::new("/a/.hidden")).starts_with("hidden-"));
    }
}
