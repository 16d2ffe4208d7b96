//! Local files: real files in a directory of ours for each directory of the server that has some.
//!
//! Regular files and directories only: there is no link here that could lead out of the overlay. What changes names, goes
//! by them, or makes a file longer does so one after the other under one lock, so a path that was made of numbers is still
//! right when it is used, and no byte is counted twice. Reading goes by descriptors and does not wait for it.
//!
//! Everything here blocks on the disk.

mod content;
mod counted;

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::fcntl::OFlag;
use tempfile::TempDir;
use vfs::{Attr, Cred, Entry, Errno, Error, Fh, FileKind, Looked, OpenFlags, Opened, Result, Timestamp};

pub use counted::Counted;

use super::numbers::{Numbers, Parent};
use super::rights::{Owner, READ, SEARCH, WRITE};
use super::room::{self, Room};
use super::{Key, escape, refusal};

/// How long the kernel may believe what it was told of a local file: another mount of the same user may change it.
const TTL: Duration = Duration::from_secs(1);

/// How the names of directories begin that are being removed, and what they are called in there.
const LEFTOVER: &str = ".gone-";
const ASIDE: &str = "home";

/// Removes what a mount that was killed left behind.
pub fn remove_leftovers(homes: &Path) {
    for entry in fs::read_dir(homes).into_iter().flatten().flatten() {
        if entry.file_name().as_bytes().starts_with(LEFTOVER.as_bytes())
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            // Another mount may be at it.
            tracing::debug!(%error, "what was left of local files");
        }
    }
}

/// See the module's page.
#[derive(Debug)]
pub struct Overlay {
    homes: PathBuf,
    room: Arc<Room>,
    owner: Owner,
    numbers: Mutex<Numbers>,
    /// What the kernel has given back and [`Overlay::numbers`] has still to heed.
    given_back: Mutex<Vec<(u64, u64)>>,
    open: Mutex<HashMap<u64, Arc<OpenFile>>>,
    next_fh: AtomicU64,
}

/// A local file that a program has open.
#[derive(Debug)]
struct OpenFile {
    number: u64,
    file: File,
    flags: OpenFlags,
}

/// An entry of a listing.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its number.
    pub ino: u64,
    /// What it is.
    pub kind: FileKind,
    /// Its name.
    pub name: Vec<u8>,
}

/// What local files are of; nothing else is ever made here, and what somebody else has put there is not seen.
fn kind(metadata: &Metadata) -> Option<FileKind> {
    if metadata.is_dir() {
        Some(FileKind::Directory)
    } else if metadata.is_file() {
        Some(FileKind::Regular)
    } else {
        None
    }
}

fn metadata(path: &Path) -> Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(kind(&metadata).map(|_| metadata)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(refusal(&error, path)),
    }
}

fn existing(path: &Path) -> Result<Metadata> {
    metadata(path)?.ok_or(Error::NotFound)
}

/// Names that the kernel would never send, and nobody may.
fn check_name(name: &[u8]) -> Result<()> {
    match name {
        b"" | b"." | b".." => Err(Error::Invalid("not a name")),
        name if name.contains(&b'/') || name.contains(&0) => Err(Error::Invalid("not a name")),
        name if !escape::fits(name) => Err(Error::NameTooLong),
        _ => Ok(()),
    }
}

impl Overlay {
    /// An overlay in a directory that exists.
    pub fn new(homes: PathBuf, room: Arc<Room>, owner: Owner) -> Self {
        Self {
            homes,
            room,
            owner,
            numbers: Mutex::default(),
            given_back: Mutex::default(),
            open: Mutex::default(),
            next_fh: AtomicU64::new(Fh::FOREIGN),
        }
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let given_back = std::mem::take(&mut *self.given_back());
        for (ino, count) in given_back {
            numbers.forget(ino, count);
        }
        numbers
    }

    fn given_back(&self) -> MutexGuard<'_, Vec<(u64, u64)>> {
        self.given_back.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_files(&self) -> MutexGuard<'_, HashMap<u64, Arc<OpenFile>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for something that is open; never one of `vfs`.
    pub fn next_fh(&self) -> Fh {
        Fh(self.next_fh.fetch_add(1, Ordering::Relaxed))
    }

    /// The path of a directory; `NoInode` when it is gone.
    fn directory(&self, numbers: &Numbers, parent: Parent) -> Result<PathBuf> {
        let below = numbers.directory(parent).ok_or(match parent {
            Parent::Home(_) => Error::NotFound,
            Parent::Local(number) => Error::NoInode(number),
        })?;
        Ok(self.homes.join(below))
    }

    fn path_in(&self, numbers: &Numbers, parent: Parent, name: &[u8]) -> Result<PathBuf> {
        check_name(name)?;
        Ok(self.directory(numbers, parent)?.join(escape::on_disk(name)))
    }

    /// Whether somebody may change names in a directory. That of the server was asked about already.
    fn check_change(&self, cred: &Cred, parent: Parent, directory: &Path, file: Option<&Metadata>) -> Result<()> {
        match parent {
            Parent::Home(_) => Ok(()),
            Parent::Local(_) => self.owner.permits_change(cred, &existing(directory)?, file),
        }
    }

    fn attr(&self, ino: u64, metadata: &Metadata) -> Attr {
        let (uid, gid) = self.owner.of(metadata);
        let time = |seconds, nanos: i64| Timestamp { seconds, nanos: nanos as u32 };
        Attr {
            ino,
            kind: kind(metadata).unwrap_or(FileKind::Regular),
            mode: metadata.mode() & 0o7777,
            nlink: metadata.nlink() as u32,
            uid,
            gid,
            size: metadata.len(),
            space_used: metadata.blocks().saturating_mul(512),
            rdev: (0, 0),
            atime: time(metadata.atime(), metadata.atime_nsec()),
            mtime: time(metadata.mtime(), metadata.mtime_nsec()),
            ctime: time(metadata.ctime(), metadata.ctime_nsec()),
            change: 0,
        }
    }

    /// What the kernel is told of a file; counts the lookup.
    fn entry(&self, numbers: &mut Numbers, parent: Parent, name: &[u8], metadata: &Metadata) -> Entry {
        let number = numbers.arrive(parent, name, metadata.ino());
        Entry { attr: self.attr(number, metadata), generation: 0, entry_ttl: TTL, attr_ttl: TTL }
    }

    /// Whether somebody may go through a directory. That of the server was asked about already.
    fn check_search(&self, cred: &Cred, numbers: &Numbers, parent: Parent) -> Result<()> {
        match parent {
            Parent::Home(_) => Ok(()),
            Parent::Local(_) => self.owner.permits(cred, &existing(&self.directory(numbers, parent)?)?, SEARCH),
        }
    }

    /// Whether somebody may remove a name or put another file there, where each may do so with their own only.
    pub fn check_own(&self, cred: &Cred, parent: Parent, name: &[u8]) -> Result<()> {
        let numbers = self.numbers();
        let there = metadata(&self.path_in(&numbers, parent, name)?)?;
        there.map_or(Ok(()), |there| self.owner.is(cred, &there))
    }

    /// What a name stands for.
    pub fn lookup(&self, cred: &Cred, parent: Parent, name: &[u8]) -> Result<Looked> {
        let mut numbers = self.numbers();
        self.check_search(cred, &numbers, parent)?;
        Ok(match metadata(&self.path_in(&numbers, parent, name)?)? {
            Some(metadata) => Looked::Found(self.entry(&mut numbers, parent, name, &metadata)),
            None => Looked::Missing { ttl: TTL },
        })
    }

    /// The kernel gives lookups back. Alone of all this it waits for no disk, since the kernel's requests wait behind it:
    /// whoever next works on local files takes note. What waits is no more than the numbers that the kernel knew.
    pub fn forget(&self, ino: u64, count: u64) {
        self.given_back().push((ino, count));
    }

    /// All local names in a directory, in their order.
    pub fn list(&self, parent: Parent) -> Result<Vec<Listed>> {
        let numbers = self.numbers();
        let path = self.directory(&numbers, parent)?;
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            // No local file was ever made there.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(refusal(&error, &path)),
        };
        let listed = |entry: fs::DirEntry| {
            let (name, metadata) = (escape::from_disk(entry.file_name().as_bytes())?, entry.metadata().ok()?);
            Some(Listed { ino: numbers.peek(parent, &name, metadata.ino()), kind: kind(&metadata)?, name })
        };
        let mut all: Vec<_> = entries.flatten().filter_map(listed).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// The home of a directory of the server may be missing when something is to be made in it.
    fn make_home(parent: Parent, directory: &Path) -> Result<()> {
        if matches!(parent, Parent::Local(_)) {
            return Ok(());
        }
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(refusal(&error, directory)),
            _ => Ok(()),
        }
    }

    /// Makes a new file or directory: room for it, its home, itself, and the mode and owner that were asked for.
    fn make<T>(
        &self,
        cred: &Cred,
        parent: Parent,
        path: &Path,
        mode: u32,
        make: impl FnOnce() -> std::io::Result<T>,
    ) -> Result<T> {
        let directory = path.parent().unwrap_or(&self.homes);
        self.check_change(cred, parent, directory, None)?;
        if !self.room.take(room::of_file(0)) {
            return Err(Error::Elsewhere(Errno::NoSpc));
        }
        let made = Self::make_home(parent, directory).and_then(|()| make().map_err(|error| refusal(&error, path)));
        if made.is_err() {
            self.room.give(room::of_file(0));
            return made;
        }
        if self.owner == Owner::AsOnDisk {
            std::os::unix::fs::lchown(path, Some(cred.uid), Some(cred.gid)).map_err(|error| refusal(&error, path))?;
        }
        // This process's own mask has nothing to say here.
        fs::set_permissions(path, Permissions::from_mode(mode & 0o7777)).map_err(|error| refusal(&error, path))?;
        made
    }

    /// Makes a directory.
    pub fn mkdir(&self, cred: &Cred, parent: Parent, name: &[u8], mode: u32) -> Result<Entry> {
        let mut numbers = self.numbers();
        let path = self.path_in(&numbers, parent, name)?;
        self.make(cred, parent, &path, mode, || DirBuilder::new().mode(0o700).create(&path))?;
        Ok(self.entry(&mut numbers, parent, name, &existing(&path)?))
    }

    /// Makes an empty file.
    pub fn mknod(&self, cred: &Cred, parent: Parent, name: &[u8], mode: u32) -> Result<Entry> {
        let mut numbers = self.numbers();
        let path = self.path_in(&numbers, parent, name)?;
        self.make(cred, parent, &path, mode, || OpenOptions::new().write(true).create_new(true).open(&path))?;
        Ok(self.entry(&mut numbers, parent, name, &existing(&path)?))
    }

    /// Opens a name, and makes the file where there is none.
    pub fn create(
        &self,
        cred: &Cred,
        parent: Parent,
        name: &[u8],
        mode: u32,
        flags: OpenFlags,
    ) -> Result<(Entry, Opened)> {
        let mut numbers = self.numbers();
        let path = self.path_in(&numbers, parent, name)?;
        self.check_search(cred, &numbers, parent)?;
        if let Some(there) = metadata(&path)? {
            if flags.exclusive {
                return Err(Error::Exists);
            }
            let file = self.open_path(cred, &path, &there, flags)?;
            let entry = self.entry(&mut numbers, parent, name, &existing(&path)?);
            return Ok((entry, self.opened(entry.attr.ino, file, flags)));
        }
        // Whatever its mode will be, this open may do what it asked for.
        let open = || OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = self.make(cred, parent, &path, mode, open)?;
        let entry = self.entry(&mut numbers, parent, name, &existing(&path)?);
        Ok((entry, self.opened(entry.attr.ino, file, flags)))
    }

    /// Opens a file.
    pub fn open(&self, cred: &Cred, ino: u64, flags: OpenFlags) -> Result<Opened> {
        let numbers = self.numbers();
        let path = self.homes.join(numbers.path(ino).ok_or(Error::NoInode(ino))?);
        let file = self.open_path(cred, &path, &existing(&path)?, flags)?;
        Ok(self.opened(ino, file, flags))
    }

    fn open_path(&self, cred: &Cred, path: &Path, there: &Metadata, flags: OpenFlags) -> Result<File> {
        if there.is_dir() {
            return Err(Error::IsDirectory);
        }
        let writes = flags.write || flags.truncate;
        let wanted = if flags.read { READ } else { 0 } | if writes { WRITE } else { 0 };
        self.owner.permits(cred, there, wanted)?;
        let mut options = OpenOptions::new();
        options.read(flags.read || !writes).write(writes).truncate(flags.truncate);
        let file = options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(path).map_err(|error| refusal(&error, path))?;
        if flags.truncate {
            self.room.give(there.len());
        }
        Ok(file)
    }

    fn opened(&self, number: u64, file: File, flags: OpenFlags) -> Opened {
        let fh = self.next_fh();
        self.open_files().insert(fh.0, Arc::new(OpenFile { number, file, flags }));
        Opened { fh, keep_cache: false, direct_io: false }
    }

    /// Opens a directory for listing.
    pub fn opendir(&self, cred: &Cred, ino: u64) -> Result<Fh> {
        let numbers = self.numbers();
        let there = existing(&self.directory(&numbers, Parent::Local(ino))?)?;
        if !there.is_dir() {
            return Err(Error::NotDirectory);
        }
        self.owner.permits(cred, &there, READ)?;
        Ok(self.next_fh())
    }

    /// Whether somebody may do everything in `mask` with a file.
    pub fn access(&self, cred: &Cred, ino: u64, mask: u32) -> Result<()> {
        let numbers = self.numbers();
        let path = self.homes.join(numbers.path(ino).ok_or(Error::NoInode(ino))?);
        self.owner.permits(cred, &existing(&path)?, mask & (READ | WRITE | SEARCH))
    }

    /// Removes a file's name.
    pub fn unlink(&self, cred: &Cred, parent: Parent, name: &[u8]) -> Result<()> {
        let mut numbers = self.numbers();
        let path = self.path_in(&numbers, parent, name)?;
        let there = existing(&path)?;
        if there.is_dir() {
            return Err(Error::IsDirectory);
        }
        let directory = self.directory(&numbers, parent)?;
        self.check_change(cred, parent, &directory, Some(&there))?;
        let weight = self.weight(&numbers, parent, name, &there);
        fs::remove_file(&path).map_err(|error| refusal(&error, &path))?;
        self.gone(&mut numbers, parent, name, &directory, weight);
        Ok(())
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, cred: &Cred, parent: Parent, name: &[u8]) -> Result<()> {
        let mut numbers = self.numbers();
        let path = self.path_in(&numbers, parent, name)?;
        let there = existing(&path)?;
        let directory = self.directory(&numbers, parent)?;
        self.check_change(cred, parent, &directory, Some(&there))?;
        fs::remove_dir(&path).map_err(|error| refusal(&error, &path))?;
        self.gone(&mut numbers, parent, name, &directory, room::of_file(0));
        Ok(())
    }

    /// What a file that loses its name gives back now. One that is open keeps its room until it is closed.
    fn weight(&self, numbers: &Numbers, parent: Parent, name: &[u8], there: &Metadata) -> u64 {
        let number = numbers.known(parent, name);
        if there.is_dir() {
            room::of_file(0)
        } else if number.is_some_and(|number| self.open_files().values().any(|file| file.number == number)) {
            0
        } else {
            room::of_file(there.len())
        }
    }

    fn gone(&self, numbers: &mut Numbers, parent: Parent, name: &[u8], directory: &Path, weight: u64) {
        self.room.give(weight);
        numbers.gone(parent, name);
        Self::tidy(parent, directory);
    }

    /// A directory of the server without local files needs no home.
    fn tidy(parent: Parent, directory: &Path) {
        if matches!(parent, Parent::Home(_)) {
            let _ = fs::remove_dir(directory);
        }
    }

    /// Renames a local file to another local name, whose file it replaces.
    pub fn rename(
        &self,
        cred: &Cred,
        (from, name): (Parent, &[u8]),
        (to, newname): (Parent, &[u8]),
        no_replace: bool,
    ) -> Result<()> {
        let mut numbers = self.numbers();
        let (old, new) = (self.path_in(&numbers, from, name)?, self.path_in(&numbers, to, newname)?);
        let there = existing(&old)?;
        let target = metadata(&new)?;
        if no_replace && target.is_some() {
            return Err(Error::Exists);
        }
        let (source, destination) = (self.directory(&numbers, from)?, self.directory(&numbers, to)?);
        self.check_change(cred, from, &source, Some(&there))?;
        self.check_change(cred, to, &destination, target.as_ref())?;
        let replaced = target.filter(|target| target.ino() != there.ino());
        let weight = replaced.map_or(0, |replaced| self.weight(&numbers, to, newname, &replaced));
        Self::make_home(to, &destination)?;
        let renamed = fs::rename(&old, &new).map_err(|error| refusal(&error, &old));
        if renamed.is_ok() {
            self.room.give(weight);
            numbers.moved((from, name), (to, newname));
        }
        Self::tidy(from, &source);
        Self::tidy(to, &destination);
        renamed
    }

    /// A directory of the server is gone; so are its local files.
    pub fn drop_home(&self, key: Key) {
        match self.put_aside(key) {
            // Removed without the lock, however much it is.
            Ok(Some(aside)) => {
                let weight = room::weight(&aside.path().join(ASIDE));
                match aside.close() {
                    Ok(()) => self.room.give(weight),
                    Err(error) => {
                        tracing::warn!(%error, "local files of a directory that is gone stay until the next mount");
                    }
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "local files of a directory that is gone stay behind"),
        }
    }

    fn put_aside(&self, key: Key) -> std::io::Result<Option<TempDir>> {
        let mut numbers = self.numbers();
        let home = self.homes.join(key.name());
        if !home.is_dir() {
            return Ok(None);
        }
        let aside = tempfile::Builder::new().prefix(LEFTOVER).tempdir_in(&self.homes)?;
        fs::rename(&home, aside.path().join(ASIDE))?;
        numbers.home_gone(key);
        Ok(Some(aside))
    }
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
