//! Where this user's programs keep what is theirs.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// The name of our directory in each place.
const OURS: &str = "s3files-fuse";

/// The value of a variable that holds an absolute path.
fn set(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// A directory of ours for this user alone, made if it is missing.
fn made(base: Option<PathBuf>) -> io::Result<PathBuf> {
    let folder = base.ok_or(io::ErrorKind::NotFound)?.join(OURS);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    Ok(folder)
}

/// What outlives a process: `$XDG_STATE_HOME` or `~/.local/state`.
pub fn state() -> io::Result<PathBuf> {
    made(set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state"))))
}

/// Logs: beside the state, and on a Mac where its Console looks for them.
pub fn logs() -> io::Result<PathBuf> {
    if cfg!(target_os = "macos") { made(set("HOME").map(|home| home.join("Library/Logs"))) } else { state() }
}

/// The directory of the configuration, which need not be there: `$XDG_CONFIG_HOME` or `~/.config`, on a Mac too, where
/// command line programs keep theirs.
pub fn configuration() -> PathBuf {
    let base = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    base.unwrap_or_else(|| PathBuf::from("/etc")).join(OURS)
}
