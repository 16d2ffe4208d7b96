//! What is in local files, and their attributes.

use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, futimens, utimensat};
use nix::sys::time::TimeSpec;
use vfs::{Attr, Cred, Errno, Error, Fh, Result, SeekWhat, SetAttr, TimeSet, XattrSet};
use xattr::FileExt as _;

use super::{OpenFile, Overlay, TTL, existing};
use crate::local::numbers::Numbers;
use crate::local::refusal;
use crate::local::rights::{READ, WRITE};
use crate::local::room;

/// Largest extended attribute of a local file, in bytes, and most of them.
const LARGEST_ATTRIBUTE: usize = 128 << 10;
const MOST_ATTRIBUTES: usize = 64;

/// A way to a file: by its path, or by a descriptor when it has lost its name.
enum Way {
    Path(PathBuf),
    Open(Arc<OpenFile>),
}

impl Way {
    fn metadata(&self) -> Result<fs::Metadata> {
        match self {
            Self::Path(path) => existing(path),
            Self::Open(open) => open.file.metadata().map_err(|error| refusal(&error, "an open file".as_ref())),
        }
    }
}

fn nowhere(error: &std::io::Error) -> Error {
    refusal(error, "an open file".as_ref())
}

fn by_errno(errno: nix::errno::Errno) -> Error {
    nowhere(&errno.into())
}

fn time(set: Option<TimeSet>) -> TimeSpec {
    match set {
        None => TimeSpec::UTIME_OMIT,
        Some(TimeSet::Now) => TimeSpec::UTIME_NOW,
        Some(TimeSet::At(at)) => TimeSpec::new(at.seconds, i64::from(at.nanos)),
    }
}

impl Overlay {
    fn way(&self, numbers: &Numbers, ino: u64) -> Result<Way> {
        if let Some(path) = numbers.path(ino) {
            return Ok(Way::Path(self.homes.join(path)));
        }
        let open = self.open_files().values().find(|file| file.number == ino).cloned();
        open.map(Way::Open).ok_or(Error::NoInode(ino))
    }

    fn open_file(&self, fh: Fh) -> Result<Arc<OpenFile>> {
        self.open_files().get(&fh.0).cloned().ok_or(Error::BadHandle)
    }

    /// Attributes, and how long they may be believed.
    pub fn getattr(&self, ino: u64) -> Result<(Attr, Duration)> {
        let numbers = self.numbers();
        Ok((self.attr(ino, &self.way(&numbers, ino)?.metadata()?), TTL))
    }

    /// Sets attributes.
    pub fn setattr(&self, cred: &Cred, ino: u64, fh: Option<Fh>, set: SetAttr) -> Result<(Attr, Duration)> {
        let numbers = self.numbers();
        let way = self.way(&numbers, ino)?;
        let before = way.metadata()?;
        if set.uid.is_some() || set.gid.is_some() {
            self.set_owner(cred, &way, &before, set.uid, set.gid)?;
        }
        if let Some(mode) = set.mode {
            self.owner.is(cred, &before)?;
            let mode = Permissions::from_mode(mode & 0o7777);
            match &way {
                Way::Path(path) => fs::set_permissions(path, mode),
                Way::Open(open) => open.file.set_permissions(mode),
            }
            .map_err(|error| nowhere(&error))?;
        }
        if let Some(size) = set.size {
            let open = fh.and_then(|fh| self.open_file(fh).ok()).filter(|open| open.flags.write);
            if open.is_none() {
                self.owner.permits(cred, &before, WRITE)?;
            }
            self.set_size(&way, open.as_deref(), before.len(), size)?;
        }
        if set.atime.is_some() || set.mtime.is_some() {
            let to_now = |time: Option<TimeSet>| matches!(time, None | Some(TimeSet::Now));
            let owns = self.owner.is(cred, &before);
            if to_now(set.atime) && to_now(set.mtime) {
                owns.or_else(|_| self.owner.permits(cred, &before, WRITE))?;
            } else {
                owns?;
            }
            let (atime, mtime) = (time(set.atime), time(set.mtime));
            match &way {
                Way::Path(path) => utimensat(AT_FDCWD, path, &atime, &mtime, UtimensatFlags::NoFollowSymlink),
                Way::Open(open) => futimens(open.file.as_fd(), &atime, &mtime),
            }
            .map_err(by_errno)?;
        }
        Ok((self.attr(ino, &way.metadata()?), TTL))
    }

    fn set_owner(
        &self,
        cred: &Cred,
        way: &Way,
        before: &fs::Metadata,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<()> {
        let (own_uid, own_gid) = self.owner.of(before);
        if uid.is_none_or(|uid| uid == own_uid) && gid.is_none_or(|gid| gid == own_gid) {
            return self.owner.is(cred, before);
        }
        let its_group = |gid: u32| cred.gid == gid || cred.groups.contains(&gid);
        let may =
            cred.uid == 0 || (cred.uid == own_uid && uid.is_none_or(|uid| uid == own_uid) && gid.is_none_or(its_group));
        if !may || self.owner != super::Owner::AsOnDisk {
            return Err(Error::NotPermitted);
        }
        match way {
            Way::Path(path) => std::os::unix::fs::lchown(path, uid, gid),
            Way::Open(open) => std::os::unix::fs::fchown(&open.file, uid, gid),
        }
        .map_err(|error| nowhere(&error))
    }

    fn set_size(&self, way: &Way, open: Option<&OpenFile>, before: u64, size: u64) -> Result<()> {
        if !self.room.exchange(before, size) {
            return Err(Error::Elsewhere(Errno::NoSpc));
        }
        let cut = match (open, way) {
            (Some(open), _) => open.file.set_len(size),
            (None, Way::Open(open)) => open.file.set_len(size),
            (None, Way::Path(path)) => File::options().write(true).open(path).and_then(|file| file.set_len(size)),
        };
        cut.map_err(|error| {
            let _ = self.room.exchange(size, before);
            nowhere(&error)
        })
    }

    /// Reads.
    pub fn read(&self, fh: Fh, offset: u64, size: u32) -> Result<Vec<Bytes>> {
        let open = self.open_file(fh)?;
        if !open.flags.read {
            return Err(Error::BadHandle);
        }
        let mut bytes = vec![0; size as usize];
        let mut len = 0;
        while len < bytes.len() {
            match open.file.read_at(&mut bytes[len..], offset + len as u64) {
                Ok(0) => break,
                Ok(more) => len += more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(nowhere(&error)),
            }
        }
        bytes.truncate(len);
        Ok(vec![Bytes::from(bytes)])
    }

    /// Writes; beyond the room that there is, nothing.
    pub fn write(&self, fh: Fh, offset: u64, data: &[u8]) -> Result<u32> {
        let open = self.open_file(fh)?;
        if !open.flags.write {
            return Err(Error::BadHandle);
        }
        // Who makes a file longer does so one after the other: else two would pay for the same bytes.
        let _turn = self.numbers();
        let before = open.file.metadata().map_err(|error| nowhere(&error))?.len();
        let offset = if open.flags.append { before } else { offset };
        let after = before.max(offset.saturating_add(data.len() as u64));
        if !self.room.exchange(before, after) {
            return Err(Error::Elsewhere(Errno::NoSpc));
        }
        let written = open.file.write_all_at(data, offset);
        if let Err(error) = written {
            let now = open.file.metadata().map_or(before, |metadata| metadata.len());
            let _ = self.room.exchange(after, now);
            return Err(nowhere(&error));
        }
        Ok(data.len() as u32)
    }

    /// Makes what was written durable.
    pub fn fsync(&self, fh: Fh, datasync: bool) -> Result<()> {
        let file = &self.open_file(fh)?.file;
        if datasync { file.sync_data() } else { file.sync_all() }.map_err(|error| nowhere(&error))
    }

    /// Closes a file. One without a name gives its room back with the last close.
    pub fn release(&self, fh: Fh) -> Result<()> {
        let numbers = self.numbers();
        let mut files = self.open_files();
        let closed = files.remove(&fh.0).ok_or(Error::BadHandle)?;
        let is_last = !files.values().any(|other| other.number == closed.number);
        drop(files);
        if is_last && numbers.is_gone(closed.number) {
            let len = closed.file.metadata().map_or(0, |metadata| metadata.len());
            self.room.give(room::of_file(len));
        }
        Ok(())
    }

    /// Where data or a hole begins: here a file is data up to its end.
    pub fn seek(&self, fh: Fh, offset: u64, what: SeekWhat) -> Result<u64> {
        let len = self.open_file(fh)?.file.metadata().map_err(|error| nowhere(&error))?.len();
        match what {
            _ if offset >= len => Err(Error::NoSuchOffset),
            SeekWhat::Data => Ok(offset),
            SeekWhat::Hole => Ok(len),
        }
    }

    fn with_file<T>(&self, cred: &Cred, ino: u64, wanted: u32, work: impl FnOnce(&File) -> Result<T>) -> Result<T> {
        let numbers = self.numbers();
        match self.way(&numbers, ino)? {
            Way::Open(open) => work(&open.file),
            Way::Path(path) => {
                self.owner.permits(cred, &existing(&path)?, wanted)?;
                work(&File::open(&path).map_err(|error| refusal(&error, &path))?)
            }
        }
    }

    /// An extended attribute of a local file, which the disk keeps.
    pub fn getxattr(&self, cred: &Cred, ino: u64, name: &str) -> Result<Bytes> {
        self.with_file(cred, ino, READ, |file| {
            let value = file.get_xattr(name).map_err(|error| nowhere(&error))?;
            value.map(Bytes::from).ok_or(Error::NoAttribute)
        })
    }

    /// The names of all.
    pub fn listxattrs(&self, ino: u64) -> Result<Vec<Vec<u8>>> {
        let root = Cred::new(0, 0);
        self.with_file(&root, ino, 0, |file| {
            let names = file.list_xattr().map_err(|error| nowhere(&error))?;
            Ok(names.map(OsStringExt::into_vec).collect())
        })
    }

    /// Sets one.
    pub fn setxattr(&self, cred: &Cred, ino: u64, name: &str, value: &[u8], set: XattrSet) -> Result<()> {
        if value.len() > LARGEST_ATTRIBUTE {
            return Err(Error::Elsewhere(Errno::TooBig));
        }
        self.with_file(cred, ino, WRITE, |file| {
            let is_there = file.get_xattr(name).map_err(|error| nowhere(&error))?.is_some();
            match set {
                XattrSet::Create if is_there => return Err(Error::Exists),
                XattrSet::Replace if !is_there => return Err(Error::NoAttribute),
                _ => {}
            }
            let count = file.list_xattr().map_err(|error| nowhere(&error))?.count();
            if !is_there && count >= MOST_ATTRIBUTES {
                return Err(Error::Elsewhere(Errno::NoSpc));
            }
            file.set_xattr(name, value).map_err(|error| nowhere(&error))
        })
    }

    /// Removes one.
    pub fn removexattr(&self, cred: &Cred, ino: u64, name: &str) -> Result<()> {
        self.with_file(cred, ino, WRITE, |file| {
            if file.get_xattr(name).map_err(|error| nowhere(&error))?.is_none() {
                return Err(Error::NoAttribute);
            }
            file.remove_xattr(name).map_err(|error| nowhere(&error))
        })
    }
}
