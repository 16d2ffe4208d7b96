//! What concerns this machine alone: FUSE and the folder.

use std::path::Path;

use super::{Findings, Found};
use crate::failure::Failure;
use crate::folder::{self, State};
use crate::fuse;

/// Looks at FUSE, and at the folder if there is one.
pub async fn look(findings: &mut Findings, folder: Option<&Path>) {
    findings.take("fuse", async { fuse::check_available().and_then(|()| helper()).map(|found| (found, ())) }).await;
    if let Some(folder) = folder {
        findings.take("folder", async { fit(folder).map(|found| (found, ())) }).await;
    }
}

#[cfg(target_os = "linux")]
fn helper() -> Result<Found, Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(Found::Ok("/dev/fuse is there, and root needs no helper".to_owned()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    match std::env::split_paths(&path).map(|dir| dir.join("fusermount3")).find(|program| program.is_file()) {
        Some(program) => Ok(Found::Ok(format!("/dev/fuse and {} are there", program.display()))),
        None => Err(Failure::NoFuse("there is no fusermount3, and only root mounts without; install fuse3".to_owned())),
    }
}

/// What can be told of macFUSE without mounting.
#[cfg(target_os = "macos")]
fn helper() -> Result<Found, Failure> {
    crate::mac::found().map(Found::Ok)
}

/// The same as before a mount, but nothing is touched: a mount would take a dead one away.
fn fit(given: &Path) -> Result<Found, Failure> {
    let path = folder::absolute(given)?;
    if folder::state(&path) == State::Dead {
        let why = "holds a mount whose process is gone; `mount` takes it away, or `s3files-fuse umount` does";
        return Ok(Found::Note(format!("{} {why}", path.display())));
    }
    let path = folder::for_mounting(given)?;
    Ok(Found::Ok(format!("{} is there and empty", path.display())))
}
