//! Extended attributes on this computer's disk: one file for each file that has some.
//!
//! Why files and not a database: several mounts of one file system may use it at once, which embedded databases do not
//! let processes do; that a file has none is one `open` that fails; each change stands or falls by itself (a new file
//! takes the old one's place); and there is nothing to repair after a crash. Changes go one after the other: within a
//! process by a mutex, between processes by a lock on the directory.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use nix::fcntl::{Flock, FlockArg};
use vfs::{Errno, Error, Result, XattrSet};

use super::attributes::{Attributes, MOST};
use super::room::{self, Room};
use super::{Key, refusal};

/// Most bytes of a file of ours: values, names, and the lengths of at most a few million of them.
const LARGEST: u64 = 8 * MOST as u64;

/// How the names of files begin that have not taken their place yet.
const LEFTOVER: &str = ".new-";

/// Removes what a process that was killed while it wrote left behind.
pub fn remove_leftovers(directory: &Path) -> io::Result<()> {
    // Nobody writes while we have this.
    let _lock = lock(directory)?;
    for entry in std::fs::read_dir(directory)?.flatten() {
        if entry.file_name().as_bytes().starts_with(LEFTOVER.as_bytes()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn lock(directory: &Path) -> io::Result<Flock<File>> {
    Flock::lock(File::open(directory)?, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

/// See the module's page.
#[derive(Debug)]
pub struct XattrStore {
    directory: PathBuf,
    room: Arc<Room>,
    one_by_one: Mutex<()>,
}

impl XattrStore {
    /// A store in a directory that exists.
    pub fn new(directory: PathBuf, room: Arc<Room>) -> Self {
        Self { directory, room, one_by_one: Mutex::new(()) }
    }

    fn path(&self, key: Key) -> PathBuf {
        self.directory.join(key.name())
    }

    /// The attributes of a file, and what they count. A damaged file is one without attributes.
    fn load(&self, key: Key) -> io::Result<(Attributes, u64)> {
        let path = self.path(key);
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(file) => file.take(LARGEST).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Attributes::default(), 0)),
            Err(error) => return Err(error),
        };
        let weight = room::of_file(bytes.len() as u64);
        let attributes = Attributes::decode(bytes).unwrap_or_else(|| {
            tracing::warn!(path = %path.display(), "attributes cannot be read; the file is as one without");
            Attributes::default()
        });
        Ok((attributes, weight))
    }

    fn loaded(&self, key: Key) -> Result<Attributes> {
        self.load(key).map(|(attributes, _)| attributes).map_err(|error| refusal(&error, &self.directory))
    }

    /// A value.
    pub fn get(&self, key: Key, name: &[u8]) -> Result<Bytes> {
        self.loaded(key)?.get(name)
    }

    /// All names.
    pub fn names(&self, key: Key) -> Result<Vec<Bytes>> {
        Ok(self.loaded(key)?.names())
    }

    /// Sets a value, or a part of one.
    pub fn set(&self, key: Key, name: &[u8], value: &[u8], set: XattrSet, position: u32) -> Result<()> {
        self.change(key, |attributes| attributes.set(name, value, set, position))
    }

    /// Removes an attribute.
    pub fn remove(&self, key: Key, name: &[u8]) -> Result<()> {
        self.change(key, |attributes| attributes.remove(name))
    }

    fn change(&self, key: Key, change: impl FnOnce(&mut Attributes) -> Result<()>) -> Result<()> {
        let _turn = self.one_by_one.lock().unwrap_or_else(PoisonError::into_inner);
        let on_disk = |error: io::Error| refusal(&error, &self.directory);
        let _lock = lock(&self.directory).map_err(on_disk)?;
        let (mut attributes, before) = self.load(key).map_err(on_disk)?;
        change(&mut attributes)?;
        if attributes.is_empty() {
            self.room.give(before);
            return remove(&self.path(key)).map_err(on_disk);
        }
        let file = attributes.encode();
        let after = room::of_file(file.len() as u64);
        if !self.room.exchange(before, after) {
            return Err(Error::Elsewhere(Errno::NoSpc));
        }
        self.replace(key, &file).map_err(|error| {
            // What was there still is.
            let _ = self.room.exchange(after, before);
            on_disk(error)
        })
    }

    fn replace(&self, key: Key, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(LEFTOVER).tempfile_in(&self.directory)?;
        file.write_all(bytes)?;
        // Else a power failure might leave the name and no bytes.
        file.as_file().sync_data()?;
        file.persist(self.path(key)).map(|_| ()).map_err(|error| error.error)
    }

    /// The file is gone, and its attributes with it.
    pub fn drop_all(&self, key: Key) -> io::Result<()> {
        let path = self.path(key);
        let _turn = self.one_by_one.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { return Ok(()) };
        let _lock = lock(&self.directory)?;
        remove(&path)?;
        self.room.give(room::of_file(metadata.len()));
        Ok(())
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
