//! From the file system to this machine.
//!
//! The server names what is made here, so nothing is followed that it could have put there itself: below the destination,
//! a directory must be a directory and no link to one, and what grows is never opened through a link.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use vfs::{Attr, Fh, FileKind, Looked, OpenFlags};

use super::claims::Claims;
use super::part::{self, Stamp};
use super::pool::Pool;
use super::{Carrier, Copying, PIECE, WORTH_KEEPING, blocking, timestamp, work};
use crate::failure::Failure;
use crate::walk::find;

/// About as much of a listing as is taken up at once, in bytes.
const ENTRIES: usize = 32 << 10;

/// Why something could not be copied.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    There(#[from] vfs::Error),
    #[error("{0}")]
    Here(#[from] io::Error),
    #[error("{0}")]
    Other(&'static str),
    #[error("interrupted")]
    Stopped,
}

enum Work {
    One { attr: Attr, to: PathBuf },
    Entries { ino: u64, fh: Fh, offset: u64, to: PathBuf },
}

/// A directory whose permissions and times are set last.
struct Last {
    path: PathBuf,
    mode: Option<u32>,
    times: Option<FileTimes>,
    /// It was there, and was opened up for the copy: that is undone whatever has come of it.
    was_there: bool,
}

struct Download {
    copying: Arc<Copying>,
    directories: Mutex<Vec<Last>>,
    claims: Claims<PathBuf>,
}

/// Copies the paths `from` inside the file system to `to`.
pub async fn run(copying: Arc<Copying>, from: Vec<String>, to: &Path, jobs: u16) -> Result<(), Failure> {
    let into_directory = to.is_dir();
    let mut first = Vec::new();
    let claims = Claims::new(from.len());
    for source in &from {
        let path = format!(":{source}");
        let attr = find(&copying.vfs, &copying.cred, source).await.map_err(|failure| match failure {
            Failure::Path { why, .. } => Failure::Path { path: path.clone(), why },
            other => other,
        })?;
        let is_directory = attr.kind == FileKind::Directory;
        if is_directory && !copying.recursive {
            let why = "is a directory; add -r to copy it with everything in it".to_owned();
            return Err(Failure::Path { path, why });
        }
        if !into_directory && (from.len() > 1 || (to.as_os_str().as_bytes().ends_with(b"/") && !is_directory)) {
            let why = "there is no such directory; make it first, or leave the slash out".to_owned();
            return Err(Failure::Path { path: to.display().to_string(), why });
        }
        let own_name = source.trim_end_matches('/').rsplit('/').next().filter(|name| !matches!(*name, "" | "." | ".."));
        let to = match own_name {
            Some(name) if into_directory => to.join(name),
            // What the user named may be a link; below it none is followed.
            None if into_directory => to.canonicalize().unwrap_or_else(|_| to.to_owned()),
            _ => to.to_owned(),
        };
        if !is_directory && !claims.is_first(to.clone()) {
            copying.tally.failed(&path, &Claims::<()>::REFUSED);
            continue;
        }
        if attr.kind == FileKind::Regular {
            copying.tally.expect(attr.size);
        }
        first.push(Work::One { attr, to });
    }
    // A stack: the first source comes first.
    first.reverse();
    let download = Arc::new(Download { copying: Arc::clone(&copying), directories: Mutex::default(), claims });
    work(Arc::clone(&download), first, jobs, copying.stop.clone()).await;
    download.finish_directories().await;
    Ok(())
}

impl Carrier for Download {
    type Work = Work;

    async fn carry_out(&self, work: Work, pool: &Pool<Work>) {
        let (outcome, to) = match work {
            Work::One { attr, to } => {
                let outcome = self.one(&attr, &to, pool).await;
                if attr.kind != FileKind::Directory {
                    self.copying.vfs.forget(attr.ino, 1);
                }
                (outcome, to)
            }
            Work::Entries { ino, fh, offset, to } => (self.entries(ino, fh, offset, &to, pool).await, to),
        };
        let Err(trouble) = outcome else { return };
        let is_hopeless = match &trouble {
            Trouble::Stopped => return,
            Trouble::There(error) => Copying::is_hopeless(error),
            Trouble::Here(error) => {
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Trouble::Other(_) => false,
        };
        self.copying.tally.failed(&to.display(), &trouble);
        if is_hopeless {
            self.copying.stop.cancel();
        }
    }
}

fn stamp(attr: &Attr) -> Stamp {
    Stamp { size: attr.size, mtime: attr.mtime }
}

impl Download {
    async fn one(&self, attr: &Attr, to: &Path, pool: &Pool<Work>) -> Result<(), Trouble> {
        match attr.kind {
            FileKind::Directory => self.directory(attr, to, pool).await,
            FileKind::Regular => self.file(attr, to).await,
            FileKind::Symlink => self.link(attr, to).await,
            _ => Err(Trouble::Other("not copied: it is no file, directory or link")),
        }
    }

    async fn directory(&self, attr: &Attr, to: &Path, pool: &Pool<Work>) -> Result<(), Trouble> {
        let Copying { vfs, cred, .. } = &*self.copying;
        let (path, mode, resume) = (to.to_owned(), self.copying.mode(attr.mode), self.copying.resume);
        let (old_mode, closed) = blocking(move || match fs::DirBuilder::new().mode(mode | 0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let there = fs::symlink_metadata(&path)?;
                let old = there.mode() & 0o7777;
                if !there.is_dir() {
                    Err(error)
                } else if resume && old & 0o700 != 0o700 {
                    // An attempt before this one has finished it, so that its permissions keep out this one. Where they
                    // cannot be changed, what follows says so.
                    let opened = fs::set_permissions(&path, Permissions::from_mode(old | 0o700));
                    Ok((Some(old), opened.is_ok().then_some(old)))
                } else {
                    Ok((Some(old), None))
                }
            }
            made => made.map(|()| (None, None)),
        })
        .await?;
        let last = |mode, times, was_there| {
            let last = Last { path: to.to_owned(), mode: Some(mode), times, was_there };
            self.directories.lock().unwrap_or_else(PoisonError::into_inner).push(last);
        };
        let is_ours = old_mode.is_none_or(|old| self.copying.is_unfinished(old, mode));
        if self.copying.preserve || (is_ours && mode & 0o700 != 0o700) {
            last(mode, self.copying.preserve.then(|| times(attr, true)), false);
        }
        if let Some(old) = closed {
            last(old, None, true);
        }
        let fh = vfs.opendir(cred, attr.ino).await?;
        pool.push([Work::Entries { ino: attr.ino, fh, offset: 0, to: to.to_owned() }]);
        Ok(())
    }

    async fn entries(&self, ino: u64, fh: Fh, offset: u64, to: &Path, pool: &Pool<Work>) -> Result<(), Trouble> {
        let Copying { vfs, cred, tally, .. } = &*self.copying;
        let listed = vfs.readdir(cred, ino, fh, offset, true, ENTRIES).await;
        let next = listed.as_ref().ok().and_then(|items| items.last()).map(|item| item.offset);
        match next {
            // Below the entries on the stack, so that they come first.
            Some(offset) => pool.push([Work::Entries { ino, fh, offset, to: to.to_owned() }]),
            None => {
                let _ = vfs.releasedir(cred, ino, fh).await;
            }
        }
        let mut found = Vec::new();
        for item in listed? {
            if matches!(&*item.name, b"." | b"..") || part::is_part(&item.name) {
                continue;
            }
            let path = to.join(OsStr::from_bytes(&item.name));
            let attr = if let Some(entry) = item.entry.as_ref().filter(|entry| !entry.attr_ttl.is_zero()) {
                vfs.accepted(&item);
                entry.attr
            } else {
                match vfs.lookup(cred, ino, &item.name).await {
                    Ok(Looked::Found(entry)) => entry.attr,
                    // It has gone since.
                    Ok(Looked::Missing { .. }) => continue,
                    Err(error) => {
                        tally.failed(&path.display(), &error);
                        continue;
                    }
                }
            };
            if attr.kind != FileKind::Directory && !self.claims.is_first(path.clone()) {
                tally.failed(&path.display(), &Claims::<()>::REFUSED);
                vfs.forget(attr.ino, 1);
                continue;
            }
            if attr.kind == FileKind::Regular {
                tally.expect(attr.size);
            }
            found.push(Work::One { attr, to: path });
        }
        // In the order of the listing, which is that of the read-ahead.
        pool.push(found.into_iter().rev());
        Ok(())
    }

    /// What is in a directory changes its times and may need its permissions, so it comes first. Where something is
    /// missing, the next attempt has to get in.
    async fn finish_directories(&self) {
        let directories = std::mem::take(&mut *self.directories.lock().unwrap_or_else(PoisonError::into_inner));
        let is_incomplete = self.copying.is_incomplete();
        for Last { path, mode, times, was_there } in directories.into_iter().rev() {
            let (mode, shown) = (mode.filter(|_| was_there || !is_incomplete), path.clone());
            let finish = move || {
                if let Some(times) = times {
                    File::open(&path)?.set_times(times)?;
                }
                mode.map_or(Ok(()), |mode| fs::set_permissions(&path, Permissions::from_mode(mode)))
            };
            if let Err(error) = blocking(finish).await {
                self.copying.tally.failed(&shown.display(), &error);
            }
        }
    }

    async fn link(&self, attr: &Attr, to: &Path) -> Result<(), Trouble> {
        let Copying { vfs, cred, tally, .. } = &*self.copying;
        let target = vfs.readlink(cred, attr.ino).await?;
        let (to, part) = (to.to_owned(), beside(to, &stamp(attr))?);
        let is_new = blocking(move || {
            let target = OsStr::from_bytes(&target);
            if fs::read_link(&to).is_ok_and(|there| there == target) {
                return Ok(false);
            }
            match fs::remove_file(&part) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            std::os::unix::fs::symlink(target, &part)?;
            fs::rename(&part, &to).inspect_err(|_| {
                let _ = fs::remove_file(&part);
            })?;
            Ok(true)
        })
        .await?;
        if is_new {
            tally.copied();
        } else {
            tally.skipped(0);
        }
        Ok(())
    }

    async fn file(&self, attr: &Attr, to: &Path) -> Result<(), Trouble> {
        let Copying { vfs, cred, tally, .. } = &*self.copying;
        let source = stamp(attr);
        let path = to.to_owned();
        let there = match blocking(move || fs::symlink_metadata(path)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            there => Some(there?),
        };
        if let Some(there) = there.as_ref().filter(|there| there.is_file() && self.copying.resume) {
            let known = Stamp { size: there.len(), mtime: timestamp(there.mtime(), there.mtime_nsec()) };
            if source.is_kept_by(&known) {
                tally.skipped(source.size);
                return Ok(());
            }
        }
        if there.as_ref().is_some_and(fs::Metadata::is_dir) {
            return Err(Trouble::Other("cannot be copied: a directory has its name"));
        }
        let mode = match &there {
            Some(there) if there.is_file() && !self.copying.preserve => there.mode() & 0o777,
            _ => self.copying.mode(attr.mode),
        };
        let opened = vfs.open(cred, attr.ino, OpenFlags { read: true, ..OpenFlags::default() }).await?;
        let grown = self.grow(attr.ino, opened.fh, to, mode).await;
        let _ = vfs.release(cred, attr.ino, opened.fh).await;
        grown?;
        tally.copied();
        Ok(())
    }

    /// Reads an open file into a part and gives it its name when it is whole.
    async fn grow(&self, ino: u64, fh: Fh, to: &Path, mode: u32) -> Result<(), Trouble> {
        let Copying { vfs, cred, .. } = &*self.copying;
        // As it was when it was opened; a listing may have been older.
        let (attr, _) = vfs.getattr(cred, ino, Some(fh)).await?;
        let (source, part) = (stamp(&attr), beside(to, &stamp(&attr))?);
        let data = if attr.size <= PIECE as u64 {
            let data = vfs.read(cred, ino, fh, 0, PIECE as u32).await?;
            if data.iter().map(|piece| piece.len() as u64).sum::<u64>() != attr.size {
                return Err(CHANGED);
            }
            Some(data)
        } else {
            None
        };
        let (path, resume) = (part.clone(), self.copying.resume && data.is_none());
        let opened = blocking(move || open_part(&path, resume, &source)).await?;
        // Not ours, so nothing of it is taken away.
        let Some((file, start)) = opened else {
            return Err(Trouble::Other("is being copied here by another cp; wait until that has ended"));
        };
        let filled = match data {
            Some(data) => self.put(data, file).await,
            None => self.fill(ino, fh, file, start, &attr).await,
        };
        let outcome = match filled {
            Ok(file) => self.name_it(file, &part, to, mode, &attr).await,
            Err(trouble) => Err(trouble),
        };
        if let Err(trouble) = &outcome {
            let (tally, path) = (&self.copying.tally, part.clone());
            let keeps = !matches!(trouble, Trouble::Other(_));
            let kept = blocking(move || {
                if keeps && fs::symlink_metadata(&path)?.len() >= WORTH_KEEPING {
                    return Ok(true);
                }
                fs::remove_file(&path).map(|()| false)
            });
            if kept.await.is_ok_and(|kept| kept) {
                tally.say(&format!("{}: partly copied; the same command with --resume goes on", to.display()));
            }
        }
        outcome
    }

    /// A small file, all at once.
    async fn put(&self, data: Vec<Bytes>, mut file: File) -> Result<File, Trouble> {
        let len = data.iter().map(|piece| piece.len() as u64).sum();
        let file = blocking(move || {
            data.iter().try_for_each(|piece| file.write_all(piece))?;
            Ok(file)
        })
        .await?;
        self.copying.tally.moved(len);
        Ok(file)
    }

    async fn fill(&self, ino: u64, fh: Fh, mut file: File, start: u64, attr: &Attr) -> Result<File, Trouble> {
        let Copying { vfs, cred, tally, stop, .. } = &*self.copying;
        tally.moved(start);
        let mut at = start;
        while at < attr.size {
            if stop.is_cancelled() {
                return Err(Trouble::Stopped);
            }
            let pieces = vfs.read(cred, ino, fh, at, PIECE as u32).await?;
            let len: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
            if len == 0 {
                return Err(CHANGED);
            }
            file = blocking(move || {
                pieces.iter().try_for_each(|piece| file.write_all(piece))?;
                Ok(file)
            })
            .await?;
            at += len;
            tally.moved(len);
        }
        // What is remembered may be older than somebody's change.
        let now = vfs.current_attr(cred, ino).await?;
        if at == attr.size && stamp(&now) == stamp(attr) { Ok(file) } else { Err(CHANGED) }
    }

    async fn name_it(&self, file: File, part: &Path, to: &Path, mode: u32, attr: &Attr) -> Result<(), Trouble> {
        let (part, to, attr, preserve) = (part.to_owned(), to.to_owned(), *attr, self.copying.preserve);
        let named = blocking(move || {
            file.set_permissions(Permissions::from_mode(mode))?;
            file.set_times(times(&attr, preserve))?;
            fs::rename(part, to)
        });
        Ok(named.await?)
    }
}

const CHANGED: Trouble = Trouble::Other("changed while it was copied; copy it again");

fn times(attr: &Attr, preserve: bool) -> FileTimes {
    let times = FileTimes::new().set_modified(attr.mtime.to_system_time());
    if preserve { times.set_accessed(attr.atime.to_system_time()) } else { times }
}

/// Where the copy of `to` grows.
fn beside(to: &Path, source: &Stamp) -> Result<PathBuf, Trouble> {
    let name = to.file_name().ok_or(Trouble::Other("is not a name that a file can have"))?;
    Ok(to.with_file_name(OsStr::from_bytes(&part::name(name.as_bytes(), source))))
}

/// A part to write to, and where to go on in it; `None` while another process is at it. Bytes are written in order, so all
/// that are there are right.
fn open_part(path: &Path, resume: bool, source: &Stamp) -> io::Result<Option<(File, u64)>> {
    let mut options = File::options();
    options.create(true).write(true).mode(0o600).custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits());
    let mut file = loop {
        let file = options.open(path)?;
        // Held until the file is closed. Where there are no such locks, there is nothing to hold.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Ok(None);
        }
        // Whoever had it before may have given it its real name since it was opened.
        let is_still = |there: &fs::Metadata| file.metadata().is_ok_and(|ours| ours.ino() == there.ino());
        match fs::symlink_metadata(path) {
            Ok(there) if is_still(&there) => break file,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    };
    let start = if resume { part::resume_at(file.metadata()?.len(), 0, source) } else { 0 };
    file.set_len(start)?;
    io::Seek::seek(&mut file, io::SeekFrom::Start(start))?;
    Ok(Some((file, start)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn one_process_at_a_time_has_a_part_and_no_finished_file_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let (part, real) = (dir.path().join("part"), dir.path().join("real"));
        let source = Stamp { size: 4 << 20, mtime: timestamp(0, 0) };
        let (mut first, start) = open_part(&part, false, &source).unwrap().unwrap();
        first.write_all(&vec![1; 3 << 20]).unwrap();
        assert_eq!(start, 0);
        for resume in [true, false] {
            assert!(open_part(&part, resume, &source).unwrap().is_none());
        }
        assert_eq!(fs::metadata(&part).unwrap().len(), 3 << 20, "it was cut under whoever writes it");
        fs::rename(&part, &real).unwrap();
        drop(first);
        let (second, start) = open_part(&part, true, &source).unwrap().unwrap();
        assert_eq!((start, second.metadata().unwrap().len()), (0, 0));
        assert_eq!(fs::metadata(&real).unwrap().len(), 3 << 20);
        drop(second);
        fs::rename(&real, &part).unwrap();
        assert_eq!(open_part(&part, true, &source).unwrap().unwrap().1, 3 << 20);
    }
}
