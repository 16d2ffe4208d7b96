//! Which files live under hidden names, on this machine's disk, for the mount after a crash.
//!
//! Each mount that hides a file has a journal of its own in the user's state folder, named after what it mounts. It
//! holds a lock on it for as long as it lives: a journal that can be locked belongs to a dead mount, however it died.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use vfs::{Journal, Leftover};

/// Largest journal that is read, in bytes.
const MOST: u64 = 16 << 20;

/// A line of a journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Hidden { dir: Vec<u8>, name: Vec<u8>, file: Vec<u8>, uid: u32, gid: u32 },
    Gone { name: Vec<u8> },
}

/// The journal of this mount. The file is made when it is first needed.
#[derive(Debug)]
pub struct OwnJournal {
    folder: PathBuf,
    stem: String,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    file: Option<(PathBuf, Flock<File>)>,
    /// Files that have a hidden name now.
    hidden: usize,
}

/// The journal of a dead mount.
#[derive(Debug)]
pub struct DeadJournal {
    path: PathBuf,
    /// While it is held, nobody else sweeps.
    _file: Flock<File>,
    /// What is left.
    pub leftovers: Vec<Leftover>,
}

impl DeadJournal {
    /// Everything in it has been removed.
    pub fn done(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl OwnJournal {
    /// A journal for mounts of `what`, and those that dead mounts of the same have left.
    pub fn start(what: &str) -> io::Result<(Self, Vec<DeadJournal>)> {
        let folder = crate::home::state()?;
        let stem = format!("hidden-{:016x}-", crate::control::fnv(what.as_bytes()));
        let dead = dead_journals(&folder, &stem);
        Ok((Self { folder, stem, open: Mutex::default() }, dead))
    }

    fn write(&self, line: &Line, change: isize) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.file.is_none() {
            open.file = Some(self.make()?);
        }
        open.hidden = open.hidden.saturating_add_signed(change);
        let is_empty = open.hidden == 0;
        let Some((_, file)) = &mut open.file else { return Ok(()) };
        if is_empty {
            // Nothing is hidden any more: there is nothing to tell.
            return file.set_len(0);
        }
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.sync_data()
    }

    /// A file of its own that it has locked.
    fn make(&self) -> io::Result<(PathBuf, Flock<File>)> {
        loop {
            let path = self.folder.join(format!("{}{}", self.stem, unique()));
            let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
            let file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io::Error::from(errno))?;
            // Another mount may have taken it for that of a dead one before it was locked.
            if std::fs::metadata(&path).is_ok_and(|there| file.metadata().is_ok_and(|own| own.ino() == there.ino())) {
                return Ok((path, file));
            }
        }
    }
}

impl Journal for OwnJournal {
    fn add(&self, leftover: &Leftover) {
        let Leftover { dir, name, file, uid, gid } = leftover.clone();
        if let Err(error) = self.write(&Line::Hidden { dir, name, file, uid, gid }, 1) {
            tracing::warn!(%error, "a hidden file cannot be noted; a crash would leave it behind");
        }
    }

    fn remove(&self, leftover: &Leftover) {
        if let Err(error) = self.write(&Line::Gone { name: leftover.name.clone() }, -1) {
            tracing::debug!(%error, "a hidden file that is gone stays noted");
        }
    }
}

impl Drop for OwnJournal {
    fn drop(&mut self) {
        let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner);
        if open.hidden == 0
            && let Some((path, _)) = &open.file
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A name that no other mount has.
fn unique() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{:x}", std::process::id(), since.as_nanos())
}

fn dead_journals(folder: &Path, stem: &str) -> Vec<DeadJournal> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(stem)));
    ours.filter_map(|entry| dead_journal(entry.path())).collect()
}

/// The journal, if its mount is dead.
fn dead_journal(path: PathBuf) -> Option<DeadJournal> {
    let file = OpenOptions::new().read(true).write(true).open(&path).ok()?;
    let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
    let leftovers = read(&file);
    Some(DeadJournal { path, _file: file, leftovers })
}

/// What the lines of a journal leave. A last line that was not written to its end is none.
fn read(file: &File) -> Vec<Leftover> {
    let mut left: Vec<Leftover> = Vec::new();
    for line in BufReader::new(file.take(MOST)).lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Line::Hidden { dir, name, file, uid, gid }) => left.push(Leftover { dir, name, file, uid, gid }),
            Ok(Line::Gone { name }) => left.retain(|leftover| leftover.name != name),
            Err(error) => tracing::debug!(%error, "a line of a journal cannot be read"),
        }
    }
    left
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn journal(folder: &Path) -> OwnJournal {
        OwnJournal { folder: folder.to_owned(), stem: "hidden-x-".to_owned(), open: Mutex::default() }
    }

    fn leftover(name: &str) -> Leftover {
        Leftover { dir: vec![1, 2], name: name.into(), file: vec![0, 255], uid: 7, gid: 8 }
    }

    #[test]
    fn only_what_a_dead_mount_left_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let living = journal(dir.path());
        living.add(&leftover("a"));
        living.add(&leftover("b"));
        living.remove(&leftover("a"));
        assert!(dead_journals(dir.path(), "hidden-x-").is_empty(), "its mount lives");
        assert!(dead_journals(dir.path(), "hidden-y-").is_empty());
        // As a crash does: the lock goes, the file stays.
        let path = living.open.lock().unwrap().file.take().unwrap().0;
        std::mem::forget(living);
        OpenOptions::new().append(true).open(path).unwrap().write_all(b"{\"hidden\":{\"dir\":[1").unwrap();
        let mut dead = dead_journals(dir.path(), "hidden-x-");
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0].leftovers, [leftover("b")]);
        assert!(dead_journals(dir.path(), "hidden-x-").is_empty(), "one sweeper is enough");
        dead.remove(0).done();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_mount_that_ends_well_leaves_no_journal() {
        let dir = tempfile::tempdir().unwrap();
        let own = journal(dir.path());
        own.add(&leftover("a"));
        own.remove(&leftover("a"));
        drop(own);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
