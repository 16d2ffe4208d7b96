//! The calls, and what each gives in a directory of whatever file system.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag};
use nix::sys::stat::{Mode, UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{self, AccessFlags};
use proptest::prelude::*;

/// Names that calls are made on, some of them in directories that may or may not be there.
const PATHS: [&str; 9] = ["a", "b", "c", "d", "e", "d/a", "d/b", "e/a", "d/d/a"];
/// Files that one thread holds open at most.
const SLOTS: usize = 3;
/// What one thread writes of the file that all threads share.
pub const STRIPE: u64 = 64 << 10;

/// One call.
#[derive(Debug, Clone)]
pub enum Call {
    Open { slot: usize, path: &'static str, how: How },
    Close { slot: usize },
    Read { slot: usize, at: u64, len: usize },
    Write { slot: usize, at: u64, len: usize, byte: u8 },
    Fsync { slot: usize },
    ResizeOpen { slot: usize, size: u64 },
    StatOpen { slot: usize },
    Resize { path: &'static str, size: u64 },
    Stat { path: &'static str },
    List { path: &'static str },
    Mkdir { path: &'static str, mode: u32 },
    Rmdir { path: &'static str },
    Unlink { path: &'static str },
    Rename { from: &'static str, to: &'static str },
    Symlink { path: &'static str, target: &'static str },
    Readlink { path: &'static str },
    Link { from: &'static str, to: &'static str },
    Mode { path: &'static str, mode: u32 },
    Times { path: &'static str, seconds: i64, nanos: i64 },
    Access { path: &'static str },
    Content { path: &'static str },
    WriteShared { at: u64, len: usize, byte: u8 },
    ReadShared { at: u64, len: usize },
}

/// Flags of an open.
#[derive(Debug, Clone, Copy)]
pub struct How {
    access: u8,
    create: bool,
    exclusive: bool,
    truncate: bool,
    append: bool,
    sync: bool,
}

impl How {
    fn flags(self) -> OFlag {
        let mut flags = match self.access {
            0 => OFlag::O_RDONLY,
            1 => OFlag::O_WRONLY,
            _ => OFlag::O_RDWR,
        };
        flags.set(OFlag::O_CREAT, self.create);
        flags.set(OFlag::O_EXCL, self.exclusive && self.create);
        // What O_TRUNC does to a file opened for reading only is nobody's promise.
        flags.set(OFlag::O_TRUNC, self.truncate && self.access != 0);
        flags.set(OFlag::O_APPEND, self.append);
        flags.set(OFlag::O_SYNC, self.sync);
        flags
    }
}

/// Any call; `links` says whether the server has hard links.
pub fn call(links: bool) -> impl Strategy<Value = Call> {
    let path = || prop::sample::select(&PATHS[..]);
    let slot = || 0..SLOTS;
    let at = || prop_oneof![3 => 0u64..100, 2 => 4000u64..9000, 1 => 0u64..200_000];
    let len = || prop_oneof![4 => 1usize..60, 2 => 1usize..10_000, 1 => 1usize..140_000];
    let size = || prop_oneof![Just(0u64), 0u64..9000, 0u64..200_000];
    let mode = || prop::sample::select(vec![0o644, 0o600, 0o755, 0o444, 0o1777, 0o4755]);
    let how = (0u8..3, prop::bool::weighted(0.6), prop::bool::weighted(0.2), prop::bool::weighted(0.2)).prop_flat_map(
        |(access, create, exclusive, truncate)| {
            (prop::bool::weighted(0.15), prop::bool::weighted(0.1)).prop_map(move |(append, sync)| How {
                access,
                create,
                exclusive,
                truncate,
                append,
                sync,
            })
        },
    );
    prop_oneof![
        10 => (slot(), path(), how).prop_map(|(slot, path, how)| Call::Open { slot, path, how }),
        5 => slot().prop_map(|slot| Call::Close { slot }),
        10 => (slot(), at(), len()).prop_map(|(slot, at, len)| Call::Read { slot, at, len }),
        12 => (slot(), at(), len(), 1u8..).prop_map(|(slot, at, len, byte)| Call::Write { slot, at, len, byte }),
        2 => slot().prop_map(|slot| Call::Fsync { slot }),
        3 => (slot(), size()).prop_map(|(slot, size)| Call::ResizeOpen { slot, size }),
        4 => slot().prop_map(|slot| Call::StatOpen { slot }),
        2 => (path(), size()).prop_map(|(path, size)| Call::Resize { path, size }),
        6 => path().prop_map(|path| Call::Stat { path }),
        3 => prop_oneof![Just("."), path()].prop_map(|path| Call::List { path }),
        5 => (path(), mode()).prop_map(|(path, mode)| Call::Mkdir { path, mode }),
        2 => path().prop_map(|path| Call::Rmdir { path }),
        5 => path().prop_map(|path| Call::Unlink { path }),
        6 => (path(), path()).prop_map(|(from, to)| Call::Rename { from, to }),
        2 => (path(), path()).prop_map(|(path, target)| Call::Symlink { path, target }),
        1 => path().prop_map(|path| Call::Readlink { path }),
        2 => (path(), path()).prop_map(move |(from, to)| if links { Call::Link { from, to } } else { Call::Stat { path: from } }),
        3 => (path(), mode()).prop_map(|(path, mode)| Call::Mode { path, mode }),
        2 => (path(), 1_000_000i64..1_000_000_000, 0i64..1_000_000_000)
            .prop_map(|(path, seconds, nanos)| Call::Times { path, seconds, nanos }),
        1 => path().prop_map(|path| Call::Access { path }),
        3 => path().prop_map(|path| Call::Content { path }),
        3 => (0..STRIPE - 5000, 1usize..5000, 1u8..).prop_map(|(at, len, byte)| Call::WriteShared { at, len, byte }),
        3 => (0..STRIPE - 5000, 1usize..5000).prop_map(|(at, len)| Call::ReadShared { at, len }),
    ]
}

/// What a call gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Gave {
    Done,
    /// The slot is empty.
    Nothing,
    Count(usize),
    Bytes(Vec<u8>),
    About {
        kind: char,
        size: u64,
        mode: u32,
        links: u64,
        set_time: Option<(i64, i64)>,
    },
    Names(BTreeSet<Vec<u8>>),
    Failed(Errno),
}

/// A thread's view of one file system: its directory, the files that it holds open, its part of the shared file.
#[derive(Debug)]
pub struct Place<'a> {
    directory: &'a Path,
    open: [Option<File>; SLOTS],
    shared: &'a File,
    stripe: u64,
    hides: bool,
}

impl<'a> Place<'a> {
    /// In `directory`, with nothing open; the part of `shared` begins at `stripe`. `hides`: while it is open, a file that was
    /// removed keeps its directory, under a hidden name.
    pub fn new(directory: &'a Path, shared: &'a File, stripe: u64, hides: bool) -> Self {
        Self { directory, open: [const { None }; SLOTS], shared, stripe, hides }
    }

    /// Closes what was removed while it was open: nothing is hidden then.
    fn close_removed(&mut self) -> io::Result<()> {
        for slot in &mut self.open {
            if let Some(file) = slot.take_if(|file| file.metadata().is_ok_and(|about| about.nlink() == 0)) {
                unistd::close(file)?;
            }
        }
        Ok(())
    }

    /// Makes the call here.
    pub fn make(&mut self, call: &Call) -> Gave {
        match self.attempt(call) {
            Ok(gave) => gave,
            Err(error) => Gave::Failed(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
        }
    }

    fn attempt(&mut self, call: &Call) -> io::Result<Gave> {
        let directory = self.directory;
        let path = |path: &str| directory.join(path);
        let needs_empty = match call {
            Call::Rmdir { .. } => true,
            Call::Rename { to, .. } => path(to).is_dir(),
            _ => false,
        };
        if self.hides && needs_empty {
            self.close_removed()?;
        }
        match *call {
            Call::Open { slot, path: name, how } => {
                let file = fcntl::open(&path(name), how.flags() | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o644))?;
                self.open[slot] = Some(file.into());
            }
            Call::Close { slot } => {
                let Some(file) = self.open[slot].take() else { return Ok(Gave::Nothing) };
                unistd::close(file)?;
            }
            Call::Read { slot, at, len } => {
                let Some(file) = &self.open[slot] else { return Ok(Gave::Nothing) };
                return read(file, at, len).map(Gave::Bytes);
            }
            Call::Write { slot, at, len, byte } => {
                let Some(file) = &self.open[slot] else { return Ok(Gave::Nothing) };
                return file.write_at(&pattern(byte, len), at).map(Gave::Count);
            }
            Call::Fsync { slot } => {
                let Some(file) = &self.open[slot] else { return Ok(Gave::Nothing) };
                file.sync_all()?;
            }
            Call::ResizeOpen { slot, size } => {
                let Some(file) = &self.open[slot] else { return Ok(Gave::Nothing) };
                file.set_len(size)?;
            }
            Call::StatOpen { slot } => {
                let Some(file) = &self.open[slot] else { return Ok(Gave::Nothing) };
                return Ok(about(&file.metadata()?));
            }
            Call::Resize { path: name, size } => {
                let path = path(name);
                let same = fs::metadata(&path).is_ok_and(|file| file.len() == size);
                unistd::truncate(&path, size.cast_signed())?;
                // POSIX leaves open whether that sets the times: tmpfs does not always, disks and servers do.
                if same {
                    let now = TimeSpec::UTIME_NOW;
                    utimensat(fcntl::AT_FDCWD, &path, &now, &now, UtimensatFlags::FollowSymlink)?;
                }
            }
            Call::Stat { path: name } => return Ok(about(&fs::symlink_metadata(path(name))?)),
            Call::List { path: name } => {
                let names = fs::read_dir(path(name))?.map(|entry| Ok(entry?.file_name().as_bytes().to_vec()));
                return names.collect::<io::Result<_>>().map(Gave::Names);
            }
            Call::Mkdir { path: name, mode } => unistd::mkdir(&path(name), Mode::from_bits_truncate(mode))?,
            Call::Rmdir { path: name } => fs::remove_dir(path(name))?,
            Call::Unlink { path: name } => unistd::unlink(&path(name))?,
            Call::Rename { from, to } => fs::rename(path(from), path(to))?,
            Call::Symlink { path: name, target } => unistd::symlinkat(target, fcntl::AT_FDCWD, &path(name))?,
            Call::Readlink { path: name } => {
                return Ok(Gave::Bytes(fs::read_link(path(name))?.into_os_string().as_bytes().to_vec()));
            }
            Call::Link { from, to } => {
                unistd::linkat(fcntl::AT_FDCWD, &path(from), fcntl::AT_FDCWD, &path(to), AtFlags::empty())?;
            }
            Call::Mode { path: name, mode } => fs::set_permissions(path(name), PermissionsExt::from_mode(mode))?,
            Call::Times { path: name, seconds, nanos } => {
                let time = TimeSpec::new(seconds, nanos);
                utimensat(fcntl::AT_FDCWD, &path(name), &time, &time, UtimensatFlags::FollowSymlink)?;
            }
            Call::Access { path: name } => unistd::access(&path(name), AccessFlags::R_OK | AccessFlags::X_OK)?,
            Call::Content { path: name } => return fs::read(path(name)).map(Gave::Bytes),
            Call::WriteShared { at, len, byte } => {
                return self.shared.write_at(&pattern(byte, len), self.stripe + at).map(Gave::Count);
            }
            Call::ReadShared { at, len } => return read(self.shared, self.stripe + at, len).map(Gave::Bytes),
        }
        Ok(Gave::Done)
    }
}

/// All of a range that there is.
fn read(file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut done = 0;
    while done < len {
        match file.read_at(&mut bytes[done..], at + done as u64)? {
            0 => break,
            count => done += count,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// Bytes that differ from place to place, so that a shifted write shows.
fn pattern(byte: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| byte.wrapping_add((at / 7) as u8)).collect()
}

/// What every file system must agree on. Directories' sizes and links are each one's own affair, and so are times, but for
/// those that somebody has set.
fn about(metadata: &fs::Metadata) -> Gave {
    let kind = metadata.file_type();
    let (kind, is_file) = match (kind.is_file(), kind.is_dir()) {
        (true, _) => ('f', true),
        (_, true) => ('d', false),
        _ => ('l', false),
    };
    let size = if kind == 'd' { 0 } else { metadata.size() };
    let links = if is_file { metadata.nlink() } else { 0 };
    let set_time = (metadata.mtime() < 1_000_000_000).then(|| (metadata.mtime(), metadata.mtime_nsec()));
    Gave::About { kind, size, mode: metadata.mode() & 0o7777, links, set_time }
}
