//! `mount TARGET FOLDER`

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use vfs::{Timeouts, VfsOptions};

use super::block_on;
use super::manners::MannersArgs;
use super::source::SourceArgs;
use crate::background::{self, Reporter};
use crate::config::Named;
use crate::failure::Failure;
use crate::folder;
use crate::fuse::{self, MountOptions};
use crate::identity::{Presented, Shown};
use crate::logging::LogArgs;
use crate::patience::{self, Patience, UnderWay};
use crate::printable::printable;
use crate::serve::Mounted;

/// Nothing is believed for longer.
const LONGEST: Duration = Duration::from_hours(24);

/// Show a file system as a folder.
///
/// Returns as soon as the folder is there; the program goes on in the background. `s3files-fuse umount FOLDER` ends it.
#[derive(Debug, Clone, Args)]
pub struct MountArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// The folder; it must exist and be empty. Without it, TARGET is the name of a mount in the configuration.
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Options in the form of /etc/fstab: any of these, and `ro`, `rw`, `_netdev`, `nofail` and the like.
    #[arg(long, short = 'o', value_name = "OPTION,…", value_delimiter = ',')]
    options: Vec<String>,
    /// Stay in the foreground; Ctrl-C unmounts.
    #[arg(long, short = 'f')]
    foreground: bool,
    /// Let nothing be changed.
    #[arg(long, short = 'r')]
    read_only: bool,
    /// Let other users of this machine use the folder.
    #[arg(long, help_heading = "Who may do what")]
    allow_other: bool,
    /// Let this machine's kernel judge by mode, owner and group as well, not the server alone.
    #[arg(long, help_heading = "Who may do what")]
    default_permissions: bool,
    /// Let set-user-id and set-group-id bits have no effect.
    #[arg(long, help_heading = "Who may do what")]
    nosuid: bool,
    /// Let device files be mere files.
    #[arg(long, help_heading = "Who may do what")]
    nodev: bool,
    /// Let no program of the folder be run.
    #[arg(long, help_heading = "Who may do what")]
    noexec: bool,
    /// After a signal (Ctrl-C, kill, the system's end): how long what was written may take to reach the server. Then it is
    /// given up, and the exit code is 16. 0: as long as it takes.
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "60s")]
    flush_limit: Duration,
    #[command(flatten)]
    presented: Presented,
    #[command(flatten)]
    shown: Shown,
    #[command(flatten)]
    manners: MannersArgs,
    /// Memory for file data that was read.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256M", help_heading = "Memory")]
    cache_size: u64,
    /// Memory for data that was written and is not on the server yet; writers wait when it is full.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "128M", help_heading = "Memory")]
    dirty_limit: u64,
    /// An open may rely on what the server said at most so long ago, and then asks nothing. Faster where many files are
    /// opened, but a file that another client has closed within that time may be seen as it was before. 0: every open
    /// asks the server.
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "0s", help_heading = "Freshness")]
    open_freshness: Duration,
    /// Believe the attributes of a file for at least so long.
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "3s", help_heading = "Freshness")]
    acregmin: Duration,
    /// Believe the attributes of a file that does not change for at most so long.
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "60s", help_heading = "Freshness")]
    acregmax: Duration,
    /// Believe the attributes and names of a directory for at least so long.
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "30s", help_heading = "Freshness")]
    acdirmin: Duration,
    /// Believe the attributes and names of a directory that does not change for at most so long.
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "60s", help_heading = "Freshness")]
    acdirmax: Duration,
    /// The volume's name in Finder; the folder's name if it is not given.
    #[cfg(target_os = "macos")]
    #[arg(long, value_name = "NAME", value_parser = crate::mac::options::volume_name)]
    volname: Option<String>,
    /// The side of macFUSE in the kernel; the other one is not supported yet.
    #[cfg(target_os = "macos")]
    #[arg(long, value_enum, default_value = "kernel")]
    backend: crate::mac::options::Backend,
    /// While the network is not there, wait for it instead of ending (at a login it often is not yet).
    #[arg(long, help_heading = "Target")]
    wait_for_network: bool,
    /// This process is the copy that goes to the background.
    #[arg(long = background::OPTION, hide = true, conflicts_with = "foreground")]
    background_copy: bool,
    /// The whole command line, for that copy.
    #[arg(skip)]
    typed: Vec<OsString>,
}

impl MountArgs {
    /// The folder, as it was typed or as the configuration has it.
    pub fn typed_folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Where the file system is, as it was typed.
    pub fn target(&self) -> &str {
        &self.source.target
    }

    /// Whether a terminal or a service holds the program.
    pub fn is_foreground(&self) -> bool {
        self.foreground
    }

    /// Whether the network may be missing at first.
    pub fn waits_for_network(&self) -> bool {
        self.wait_for_network
    }

    /// The options that say how to connect.
    pub fn source_args(&self) -> &SourceArgs {
        &self.source
    }

    /// Whom this process talks to.
    pub fn reporter(&self) -> Reporter {
        if self.background_copy { Reporter::Parent } else { Reporter::Terminal }
    }

    /// The name of a mount in the configuration, if this is one.
    pub fn name(&self) -> Option<&str> {
        if self.folder.is_none() { Some(&self.source.target) } else { None }
    }

    /// What `-o` says.
    pub fn options(&self) -> &[String] {
        &self.options
    }

    /// Puts in what the command line leaves to the configuration.
    pub fn complete(&mut self, named: Option<Named>, typed: Vec<OsString>) {
        if let Some(named) = named {
            self.source.target = named.target;
            self.folder = Some(named.folder);
        }
        self.typed = typed;
    }

    fn folder(&self) -> Result<PathBuf, Failure> {
        match &self.folder {
            Some(folder) => folder::for_mounting(folder),
            None => Err(Failure::Usage("a folder is missing: mount TARGET FOLDER".to_owned())),
        }
    }

    /// Carries it out.
    pub fn run(self, log: &LogArgs) -> Result<(), Failure> {
        #[cfg(target_os = "macos")]
        self.backend.check()?;
        if !self.foreground && !self.background_copy {
            return self.start_in_background();
        }
        // The copy's log is named after the folder; with a file that was named, a folder that is refused is in it too.
        let folder = if self.background_copy { Some(self.folder()?) } else { None };
        let log_file = log.start(folder.as_deref())?;
        let outcome =
            folder.map_or_else(|| self.folder(), Ok).and_then(|folder| self.serve(folder, log_file.as_deref()));
        // Nobody may have been there to read it: a service is started by nobody.
        if let (Err(failure), Some(_)) = (&outcome, log_file) {
            tracing::error!("{}", printable(&failure.to_string()));
        }
        outcome
    }

    /// Mounts the folder and stays until it is unmounted.
    fn serve(&self, folder: PathBuf, log_file: Option<&Path>) -> Result<(), Failure> {
        fuse::check_available()?;
        // While this process stands where the user stood, so that `--ca-file` may be relative.
        block_on(async move {
            let reporter = self.reporter();
            let (source_name, vfs_options, options) =
                (self.source.target.clone(), self.vfs_options(), self.mount_options(&folder, log_file));
            let mut patience = if self.wait_for_network { Some(Patience::new(reporter.parent())?) } else { None };
            let find = || self.source.clone().source();
            let mut source = patience::patiently(&mut patience, UnderWay::Dropped, find).await?;
            source.client.cred = options.presented.of(&source.client.cred);
            if self.background_copy {
                background::leave_terminal()?;
            }
            let start = || Mounted::start(source.clone(), folder.clone(), vfs_options.clone(), options.clone());
            let mounted = patience::patiently(&mut patience, UnderWay::LeftAlone, start).await?;
            let sentence = format!("{source_name} is mounted on {}{}", folder.display(), about_locks());
            if reporter.ready(&sentence).is_err() {
                tracing::warn!("whoever asked for this mount is gone; unmounting");
                return mounted.unmount().await;
            }
            mounted.until_end().await
        })
    }

    fn start_in_background(&self) -> Result<(), Failure> {
        // What can be refused at once is refused by this process.
        let folder = self.folder()?;
        fuse::check_available()?;
        let sentence = background::start_copy(self.typed.iter().skip(1), &folder, self.wait_for_network)?;
        // The mount stands, whether or not anybody reads this.
        let _ = Reporter::Terminal.ready(&sentence);
        Ok(())
    }

    fn vfs_options(&self) -> VfsOptions {
        VfsOptions {
            cache_size: self.cache_size,
            dirty_limit: self.dirty_limit,
            open_freshness: self.open_freshness,
            timeouts: Timeouts {
                file_min: self.acregmin.min(self.acregmax),
                file_max: self.acregmax,
                dir_min: self.acdirmin.min(self.acdirmax),
                dir_max: self.acdirmax,
            },
            read_only: self.read_only,
            ..VfsOptions::default()
        }
    }

    #[cfg_attr(not(target_os = "macos"), allow(unused_variables))]
    fn mount_options(&self, folder: &Path, log: Option<&Path>) -> MountOptions {
        MountOptions {
            source: self.source.target.clone(),
            read_only: self.read_only,
            allow_other: self.allow_other,
            default_permissions: self.default_permissions,
            flush_limit: Some(self.flush_limit).filter(|limit| !limit.is_zero()),
            no_suid: self.nosuid,
            no_dev: self.nodev,
            no_exec: self.noexec,
            presented: self.presented.clone(),
            shown: self.shown,
            manners: self.manners.manners(),
            log: log.map(Path::to_owned),
            #[cfg(target_os = "macos")]
            volume_name: self
                .volname
                .clone()
                .or_else(|| folder.file_name().map(|name| name.to_string_lossy().into_owned())),
        }
    }
}

/// What somebody with scripts has to know about a Mac, once.
const fn about_locks() -> &'static str {
    if cfg!(target_os = "macos") {
        "\nLocks that programs take there hold on this Mac only, as macFUSE has it; `s3files-fuse lock FILE -- COMMAND` takes \
         those of the server."
    } else {
        ""
    }
}

/// A time: whole seconds, or a number with ms, s or m.
pub fn time(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 =
        text[..digits].parse().map_err(|_| "write a number of seconds, or one with ms, s or m".to_owned())?;
    match &text[digits..] {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        unit => Err(format!("{unit} is no unit of time here; ms, s and m are")),
    }
    .and_then(|time| if time <= LONGEST { Ok(time) } else { Err("more than a day is of no use".to_owned()) })
}

/// Bytes, with K, M or G for powers of 1,024.
pub fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| "write a number of bytes, or one with K, M or G".to_owned())?;
    match number.checked_mul(1 << shift) {
        Some(size) if size >= 1 << 20 => Ok(size),
        Some(_) => Err("less than 1M is of no use".to_owned()),
        None => Err("that is more than there is".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn times_have_units_and_an_end() {
        assert_eq!(time("3").unwrap(), Duration::from_secs(3));
        assert_eq!(time("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(time("2m").unwrap(), Duration::from_mins(2));
        for bad in ["", "s", "-1", "1.5s", "3h", "99999999999999999999", "5000m"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024_and_never_too_small() {
        assert_eq!(size("256M").unwrap(), 256 << 20);
        assert_eq!(size("2g").unwrap(), 2 << 30);
        assert_eq!(size("2097152").unwrap(), 2 << 20);
        for bad in ["", "M", "1.5G", "-1", "10K", "99999999999999G", "1T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
