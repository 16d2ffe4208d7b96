//! The folder that a file system is mounted on: whether it can be, and what is mounted there now.
//!
//! A folder whose daemon has died cannot be looked at, and one whose daemon does not answer makes whoever looks wait. So
//! the parent is resolved, the system's [list of mounts](crate::mounts) tells what is there, and only what is no mount is
//! looked at.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::control;
use crate::failure::Failure;
use crate::mounts::{self, Answer, Kind};

/// What is at a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// An ordinary folder.
    Plain,
    /// A file system is mounted on it.
    Mounted,
    /// A FUSE file system is mounted on it whose daemon does not answer.
    Silent,
    /// A FUSE file system is mounted on it whose daemon is gone.
    Dead,
}

/// An absolute path without links in it, so that it can be compared and kept while the working directory changes.
pub fn absolute(folder: &Path) -> Result<PathBuf, Failure> {
    if let Some(path) = without_looking(folder).filter(|path| mounts::at(path).is_some()) {
        return Ok(path);
    }
    match folder.canonicalize() {
        Ok(path) => Ok(path),
        Err(error) if is_volume(folder) && error.kind() == io::ErrorKind::NotFound => Ok(folder.to_owned()),
        Err(error) => Err(refuse(folder, why_not_found(&error, folder))),
    }
}

/// A name in /Volumes, where a Mac's users cannot make folders: macFUSE makes it when it mounts, and takes it away.
fn is_volume(folder: &Path) -> bool {
    cfg!(target_os = "macos") && is_in_volumes(folder)
}

fn is_in_volumes(folder: &Path) -> bool {
    folder.parent() == Some(Path::new("/Volumes")) && folder.file_name().is_some()
}

fn why_not_found(error: &io::Error, folder: &Path) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("does not exist; make it first: mkdir -p {}", folder.display()),
        io::ErrorKind::NotADirectory => "leads through something that is no directory; check the path".to_owned(),
        io::ErrorKind::PermissionDenied => "cannot be reached by this user; check the permissions above it".to_owned(),
        _ => format!("cannot be used ({error}); choose another folder"),
    }
}

fn refuse(folder: &Path, why: impl Into<String>) -> Failure {
    Failure::Folder { folder: folder.to_owned(), why: why.into() }
}

/// The absolute path of `folder` if its last component is no link, found without looking at that component: a mount
/// whose server is out of reach does not answer.
pub fn without_looking(folder: &Path) -> Option<PathBuf> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(parent.canonicalize().ok()?.join(folder.file_name()?))
}

/// What is at `folder`, an absolute path.
pub fn state(folder: &Path) -> State {
    match mounts::at(folder) {
        None => State::Plain,
        Some(Kind::Other) => State::Mounted,
        Some(Kind::Fuse) => match mounts::answer(folder) {
            Answer::Alive => State::Mounted,
            Answer::Silent => State::Silent,
            Answer::Dead => State::Dead,
        },
    }
}

/// A folder that may be mounted: there, a directory, empty, and not a mount already.
///
/// A mount whose daemon died is taken away first. One of ours is not looked at: its server may be out of reach.
pub fn for_mounting(folder: &Path) -> Result<PathBuf, Failure> {
    let already = |path: &Path| {
        refuse(
            folder,
            format!("is a mount already; choose another folder, or first: s3files-fuse umount {}", path.display()),
        )
    };
    if let Some(path) = without_looking(folder)
        && mounts::at(&path).is_some()
        && control::listens(&path)
    {
        return Err(already(&path));
    }
    let path = absolute(folder)?;
    match state(&path) {
        State::Plain => {}
        State::Mounted | State::Silent => return Err(already(&path)),
        State::Dead => {
            tracing::info!(folder = %path.display(), "taking away a mount whose daemon is gone");
            crate::fuse::unmount(&path, true).map_err(|error| {
                refuse(folder, format!("holds a dead mount that cannot be taken away ({error}); unmount it as root"))
            })?;
        }
    }
    let metadata = match std::fs::metadata(&path) {
        Err(error) if is_volume(&path) && error.kind() == io::ErrorKind::NotFound => return Ok(path),
        metadata => metadata.map_err(|error| refuse(folder, why_not_found(&error, folder)))?,
    };
    if !metadata.is_dir() {
        return Err(refuse(folder, "is not a directory; give an empty directory"));
    }
    let entries = std::fs::read_dir(&path).map_err(|error| refuse(folder, why_not_found(&error, folder)))?;
    // Finder leaves .DS_Store behind wherever it looks.
    let occupied = entries.flatten().any(|entry| entry.file_name() != ".DS_Store");
    if occupied {
        return Err(refuse(folder, "is not empty, and its files would be hidden; give an empty directory"));
    }
    Ok(path)
}

/// The device that `folder` is on now; it changes when something is mounted there.
pub fn device(folder: &Path) -> Option<u64> {
    std::fs::metadata(folder).ok().map(|metadata| metadata.dev())
}

/// The programs that use something below `folder`, as `name (pid)`: what can be seen of them, and only on Linux.
pub fn holders(folder: &Path) -> Vec<String> {
    const SHOWN: usize = 5;
    let own = std::process::id().to_string();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter(|process| {
            let name = process.file_name();
            name != own.as_str() && name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
        })
        .filter(|process| uses(&process.path(), folder))
        .take(SHOWN)
        .map(|process| {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            format!("{} ({})", name.trim(), process.file_name().to_string_lossy())
        })
        .collect()
}

/// Reads links only, which asks the mount nothing.
fn uses(process: &Path, folder: &Path) -> bool {
    let leads_there = |link: PathBuf| std::fs::read_link(link).is_ok_and(|target| target.starts_with(folder));
    leads_there(process.join("cwd"))
        || leads_there(process.join("root"))
        || leads_there(process.join("exe"))
        || std::fs::read_dir(process.join("fd"))
            .is_ok_and(|mut open| open.any(|file| file.is_ok_and(|file| leads_there(file.path()))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn sentence(folder: &Path) -> String {
        let failure = for_mounting(folder).unwrap_err();
        assert_eq!(failure.code(), 4);
        failure.to_string()
    }

    #[test]
    fn an_empty_folder_can_be_mounted_and_finders_trace_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(for_mounting(dir.path()).unwrap(), dir.path().canonicalize().unwrap());
        std::fs::write(dir.path().join(".DS_Store"), b"").unwrap();
        assert!(for_mounting(dir.path()).is_ok());
    }

    #[test]
    fn each_unfit_folder_gets_its_own_sentence() {
        let dir = tempfile::tempdir().unwrap();
        assert!(sentence(&dir.path().join("missing")).contains("mkdir -p"));
        let file = dir.path().join("file");
        std::fs::write(&file, b"x").unwrap();
        assert!(sentence(&file).contains("not a directory"));
        assert!(sentence(dir.path()).contains("not empty"));
        assert!(sentence(&file.join("below")).contains("no directory"));
        assert!(sentence(Path::new("/proc")).contains("mount already"));
    }

    #[test]
    fn only_a_name_right_in_volumes_may_be_missing_on_a_mac() {
        assert!(is_in_volumes(Path::new("/Volumes/Our data")));
        for other in ["/Volumes", "/Volumes/..", "/Volumes/a/b", "Volumes/a", "/tmp/a"] {
            assert!(!is_in_volumes(Path::new(other)), "{other}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_that_stands_in_a_folder_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().canonicalize().unwrap();
        assert!(holders(&folder).is_empty());
        let mut child = std::process::Command::new("sleep").arg("20").current_dir(&folder).spawn().unwrap();
        let seen = holders(&folder);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(seen, [format!("sleep ({})", child.id())]);
    }
}
