//! `synced PATH…`: has this file reached the bucket, and if not why.
//!
//! S3 Files tells it in a virtual extended attribute, `s3files.status;` and a time so that nobody answers from a cache
//! (S3FILES.md A8). It does not say that an export is still to come, so a file that changed within the last minute,
//! which is when S3 Files begins to export, counts as not there yet.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;

use crate::failure::Failure;
use crate::printable::printable;

/// The kernel of a Mac has no name spaces of attributes.
const NAME: &str = if cfg!(target_os = "linux") { "user.s3files.status;" } else { "s3files.status;" };
/// How often `--wait` asks.
const PAUSE: Duration = Duration::from_secs(3);

/// Say whether files in a mounted folder have reached the S3 bucket, and if not why.
///
/// The exit code is 0 when all of them have, and 18 when one has not. Files that are removed meanwhile no longer count.
#[derive(Debug, Clone, Args)]
pub struct SyncedArgs {
    /// Files in a mounted folder; of a directory, all files below it.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Wait until all have reached the bucket, or one cannot.
    #[arg(long)]
    wait: bool,
    /// With --wait: give up after so many seconds.
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    timeout: Option<u64>,
    /// How many seconds after its last change a file is exported.
    #[arg(long, hide = true, value_name = "SECONDS", default_value_t = 60)]
    export_after: u64,
}

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Status {
    /// It is in the bucket, under this key.
    There(String),
    /// Not yet.
    Waits(String),
    /// The service cannot export it.
    Stuck(String),
    /// It has been removed since it was listed.
    Gone,
}

impl SyncedArgs {
    /// Carries it out.
    pub fn run(&self) -> Result<(), Failure> {
        let start = Instant::now();
        let mut files = Vec::new();
        for path in &self.paths {
            named(path, &mut files)?;
        }
        if files.is_empty() {
            let named: Vec<_> = self.paths.iter().map(|path| path.display().to_string()).collect();
            return Err(Failure::Path { path: named.join(", "), why: "there are no files to ask about".to_owned() });
        }
        let total = files.len();
        let (mut waiting, mut stuck) = (files, 0);
        loop {
            let mut left = Vec::new();
            let is_last_time =
                !self.wait || self.timeout.is_some_and(|limit| start.elapsed() >= Duration::from_secs(limit));
            for path in waiting {
                match status(&path, self.export_after)? {
                    Status::Gone => say(&format!("gone    {}", path.display()))?,
                    Status::There(key) => say(&format!("synced  {}  ({key})", path.display()))?,
                    Status::Stuck(why) => {
                        stuck += 1;
                        say(&format!("stuck   {}: {why}", path.display()))?;
                    }
                    Status::Waits(why) => {
                        if is_last_time {
                            say(&format!("waits   {}: {why}", path.display()))?;
                        }
                        left.push(path);
                    }
                }
            }
            waiting = left;
            if waiting.is_empty() || is_last_time || stuck > 0 {
                break;
            }
            if io::stderr().is_terminal() {
                eprintln!("{} of {total} files still wait", waiting.len());
            }
            std::thread::sleep(PAUSE);
        }
        match (waiting.len(), stuck) {
            (0, 0) => Ok(()),
            (waits, stuck) => Err(Failure::NotSynced { total: total as u64, waits: waits as u64, stuck }),
        }
    }
}

fn say(line: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{}", printable(line)) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Other(format!("the answer cannot be printed: {error}")))
        }
        _ => Ok(()),
    }
}

fn refuse(path: &Path, why: &dyn Display) -> Failure {
    Failure::Path { path: path.display().to_string(), why: why.to_string() }
}

/// What the user named; a link stands for what it leads to.
fn named(path: &Path, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let metadata = fs::metadata(path).map_err(|error| refuse(path, &error))?;
    if metadata.is_file() {
        found.push(path.to_owned());
        return Ok(());
    }
    if !metadata.is_dir() {
        return Err(refuse(path, &"is neither a file nor a directory, and only files reach the bucket"));
    }
    entries(path, found)
}

fn entries(path: &Path, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| refuse(path, &error))? {
        entries.push(entry.map_err(|error| refuse(path, &error))?.path());
    }
    entries.sort();
    entries.iter().try_for_each(|entry| files_below(entry, found))
}

fn files_below(path: &Path, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if is_gone(&error) => return Ok(()),
        known => known.map_err(|error| refuse(path, &error))?,
    };
    if metadata.is_dir() {
        return entries(path, found);
    }
    if metadata.is_file() {
        found.push(path.to_owned());
    }
    Ok(())
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle)
}

fn status(path: &Path, export_after: u64) -> Result<Status, Failure> {
    // What this machine has not written back yet cannot have got any further.
    let file = match File::open(path) {
        Err(error) if is_gone(&error) => return Ok(Status::Gone),
        opened => opened.map_err(|error| refuse(path, &error))?,
    };
    file.sync_all().map_err(|error| refuse(path, &format!("is not written back: {error}")))?;
    let metadata = file.metadata().map_err(|error| refuse(path, &error))?;
    drop(file);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let value = match xattr::get_deref(path, format!("{NAME}{now}")) {
        Ok(Some(value)) => value,
        Ok(None) => return Err(refuse(path, &NO_STATUS)),
        Err(error) if is_gone(&error) => return Ok(Status::Gone),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Err(refuse(path, &NO_STATUS)),
        Err(error) => return Err(refuse(path, &error)),
    };
    // Not its mtime, which anybody can set to any time: whatever changes a file moves its ctime.
    let changed = u64::try_from(metadata.ctime()).unwrap_or(0);
    Ok(judge(&String::from_utf8_lossy(&value), now.saturating_sub(changed), export_after))
}

const NO_STATUS: &str = "the server does not tell whether it reached S3; is this file in a mounted S3 Files folder?";

/// What the attribute's lines mean for a file that changed so many seconds ago.
fn judge(text: &str, age: u64, export_after: u64) -> Status {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name));
        let value: String = value.map_or("", |(_, value)| value.trim()).chars().filter(|c| !c.is_control()).collect();
        Some(value).filter(|value| !value.is_empty() && value != "None" && value != "null")
    };
    if let Some(error) = field("ExportError") {
        let remedy = remedy(&error);
        return Status::Stuck(format!("S3 Files cannot export it ({error}); {remedy}"));
    }
    if age < export_after {
        return Status::Waits(format!(
            "it changed {age} s ago, and S3 Files exports about {export_after} s after the last change"
        ));
    }
    match field("S3Key") {
        Some(key) => Status::There(key),
        None => Status::Waits("it has no key in the bucket yet".to_owned()),
    }
}

/// What to do about an export error (S3FILES.md A8).
fn remedy(error: &str) -> &'static str {
    match error {
        "S3AccessDenied" => "the file system's role may not write to the bucket: check its policy and the bucket's",
        "RoleAssumptionFailed" => {
            "the file system's role cannot be taken on: it must trust elasticfilesystem.amazonaws.com"
        }
        "EncryptionKeyInaccessible" => "the role needs kms:GenerateDataKey and kms:Decrypt on the bucket's key",
        "PathTooLong" | "KeyTooLongToBreakCycle" => "keys have 1,024 bytes at most: shorten the path",
        "S3UserMetadataTooLarge" => "owner, group and mode do not fit into the object's metadata of 2 KB",
        "S3ObjectArchived" => "the object is in an archive class: restore it first",
        "S3BucketNotFound" => "the bucket is gone",
        "FileSizeExceedsS3Limit" => "the file is larger than an S3 object can be",
        "DependencyExportFailed" => "something that must be exported first cannot be: ask about its directory's files",
        _ => "it tries again by itself; if this stays, look at the file system's status with `s3files-fuse list`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: &str = "S3Key: photos/a.jpg\nExportError: None\nFilePath: /a.jpg\n";

    #[test]
    fn a_file_has_arrived_when_it_has_a_key_no_error_and_has_rested() {
        assert_eq!(judge(DONE, 61, 60), Status::There("photos/a.jpg".to_owned()));
        assert!(matches!(judge(DONE, 59, 60), Status::Waits(_)));
        assert!(matches!(judge("S3Key: None\nExportError: None\n", 100, 60), Status::Waits(_)));
        assert!(matches!(judge("", 100, 60), Status::Waits(_)));
    }

    #[test]
    fn an_error_is_told_with_its_remedy_whatever_the_age() {
        let text = "S3Key: a\nExportError: RoleAssumptionFailed\nFilePath: /a\n";
        let Status::Stuck(why) = judge(text, 0, 60) else { unreachable!("an error is an error") };
        assert!(why.contains("RoleAssumptionFailed") && why.contains("elasticfilesystem.amazonaws.com"));
    }
}
