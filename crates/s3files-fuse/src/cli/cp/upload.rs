//! From this machine to the file system.

use std::fs::{self, File, Metadata, ReadDir};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use vfs::{Attr, Errno, FileKind, Looked, OpenFlags, RenameFlags, SetAttr, TimeSet};

use super::claims::Claims;
use super::part::{self, Stamp};
use super::pool::Pool;
use super::{Carrier, Copying, DIRTY, PIECE, WORTH_KEEPING, blocking, timestamp, work};
use crate::failure::Failure;
use crate::rights;
use crate::walk::{find, refused};

/// Entries of a directory that are taken up at once.
const ENTRIES: usize = 128;
/// After so many bytes all before them are brought to stable storage, while the next ones are on their way.
const STRETCH: u64 = DIRTY / 2;

/// Of a file that is not whole yet.
const PART_MODE: u32 = 0o600;

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

/// Where a copy goes.
#[derive(Debug, Clone)]
enum To {
    /// A name in a directory; in one that we have just made it does not exist.
    Name { parent: u64, name: Bytes, is_new: bool },
    /// A directory that is there: the copy's entries become its entries.
    Into(u64),
}

enum Work {
    One { from: PathBuf, to: To, metadata: Metadata },
    Entries { list: ReadDir, from: PathBuf, into: u64, is_new: bool },
}

/// A directory whose permissions and times are set last.
struct Last {
    ino: u64,
    from: PathBuf,
    set: SetAttr,
    /// It was there, and was opened up for the copy: that is undone whatever has come of it.
    was_there: bool,
}

struct Upload {
    copying: Arc<Copying>,
    directories: Mutex<Vec<Last>>,
    claims: Claims<(u64, Bytes)>,
}

/// Copies `from` to the path `to` inside the file system.
pub async fn run(copying: Arc<Copying>, from: Vec<PathBuf>, to: &str, jobs: u16) -> Result<(), Failure> {
    let (vfs, cred) = (&copying.vfs, &copying.cred);
    let trimmed = to.trim_end_matches('/');
    let is_root = trimmed.trim_matches(['/', '.']).is_empty() && !trimmed.contains("..");
    let (above, last) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
    let place = if is_root {
        To::Into(vfs::ROOT_INO)
    } else {
        let above = find(vfs, cred, above).await?;
        match vfs.lookup(cred, above.ino, last.as_bytes()).await.map_err(|error| refused(to, &error))? {
            Looked::Missing { .. } if last != ".." => {
                To::Name { parent: above.ino, name: Bytes::copy_from_slice(last.as_bytes()), is_new: false }
            }
            _ => {
                let there = find(vfs, cred, to).await?;
                match there.kind {
                    FileKind::Directory => To::Into(there.ino),
                    _ => To::Name { parent: above.ino, name: Bytes::copy_from_slice(last.as_bytes()), is_new: false },
                }
            }
        }
    };
    let mut first = Vec::new();
    let claims = Claims::new(from.len());
    for source in &from {
        let say = |why: String| Failure::Path { path: source.display().to_string(), why };
        let metadata = fs::metadata(source).map_err(|error| say(error.to_string()))?;
        if metadata.is_dir() && !copying.recursive {
            return Err(say("is a directory; add -r to copy it with everything in it".to_owned()));
        }
        let own_name = source.file_name().filter(|_| !source.as_os_str().as_bytes().ends_with(b"/."));
        let to = match (&place, own_name) {
            (To::Name { .. }, _) if from.len() > 1 || (to.ends_with('/') && !metadata.is_dir()) => {
                let why = "there is no such directory; make it first, or leave the slash out".to_owned();
                return Err(Failure::Path { path: format!(":{to}"), why });
            }
            (To::Into(ino), Some(name)) => {
                To::Name { parent: *ino, name: Bytes::copy_from_slice(name.as_bytes()), is_new: false }
            }
            (place, _) => place.clone(),
        };
        if let To::Name { parent, name, .. } = &to
            && !metadata.is_dir()
            && !claims.is_first((*parent, name.clone()))
        {
            copying.tally.failed(&source.display(), &Claims::<()>::REFUSED);
            continue;
        }
        first.push(Work::One { from: source.clone(), to, metadata });
    }
    // A stack: the first source comes first.
    first.reverse();
    let upload = Arc::new(Upload { copying: Arc::clone(&copying), directories: Mutex::default(), claims });
    work(Arc::clone(&upload), first, jobs, copying.stop.clone()).await;
    upload.finish_directories().await;
    Ok(())
}

impl Carrier for Upload {
    type Work = Work;

    async fn carry_out(&self, work: Work, pool: &Pool<Work>) {
        match work {
            Work::One { from, to, metadata } => {
                if let Err(trouble) = self.one(&from, to.clone(), &metadata, pool).await {
                    if let Trouble::Stopped = trouble {
                        return;
                    }
                    self.copying.tally.failed(&from.display(), &trouble);
                    if let Trouble::There(error) = &trouble {
                        if rights::is_refusal(error) {
                            self.explain_refusal(&to).await;
                        }
                        if Copying::is_hopeless(error) {
                            self.copying.stop.cancel();
                        }
                    }
                }
            }
            Work::Entries { list, from, into, is_new } => match blocking(move || Ok(some_of(list))).await {
                Ok((list, entries)) => {
                    if let Some(list) = list {
                        pool.push([Work::Entries { list, from, into, is_new }]);
                    }
                    let entries = entries.into_iter().filter_map(|entry| match entry {
                        Ok((path, metadata)) => {
                            let name = Bytes::copy_from_slice(path.file_name().unwrap_or_default().as_bytes());
                            if !metadata.is_dir() && !self.claims.is_first((into, name.clone())) {
                                self.copying.tally.failed(&path.display(), &Claims::<()>::REFUSED);
                                return None;
                            }
                            if metadata.is_file() {
                                self.copying.tally.expect(metadata.len());
                            }
                            Some(Work::One { from: path, to: To::Name { parent: into, name, is_new }, metadata })
                        }
                        Err((path, error)) => {
                            self.copying.tally.failed(&path.display(), &error);
                            None
                        }
                    });
                    pool.push(entries.collect::<Vec<_>>());
                }
                Err(error) => self.copying.tally.failed(&from.display(), &error),
            },
        }
    }
}

type Found = Result<(PathBuf, Metadata), (PathBuf, io::Error)>;

/// The next entries of a directory, and the rest of it.
fn some_of(mut list: ReadDir) -> (Option<ReadDir>, Vec<Found>) {
    let mut found = Vec::new();
    while found.len() < ENTRIES {
        match list.next() {
            None => return (None, found),
            Some(Ok(entry)) => {
                let metadata = entry.metadata();
                found.push(metadata.map(|known| (entry.path(), known)).map_err(|error| (entry.path(), error)));
            }
            Some(Err(error)) => {
                found.push(Err((PathBuf::from("a directory"), error)));
                return (None, found);
            }
        }
    }
    (Some(list), found)
}

fn stamp(metadata: &Metadata) -> Stamp {
    Stamp { size: metadata.len(), mtime: timestamp(metadata.mtime(), metadata.mtime_nsec()) }
}

impl Upload {
    /// Says once who may write there, and what helps.
    async fn explain_refusal(&self, to: &To) {
        let Copying { vfs, cred, tally, refusal, .. } = &*self.copying;
        let directory = match to {
            To::Name { parent, .. } => *parent,
            To::Into(ino) => *ino,
        };
        if let Some(sentence) = refusal.sentence(vfs, cred, directory).await {
            tally.say(&sentence);
        }
    }

    fn times(&self, metadata: &Metadata) -> SetAttr {
        let at = |seconds, nanos| Some(TimeSet::At(timestamp(seconds, nanos)));
        SetAttr {
            mtime: at(metadata.mtime(), metadata.mtime_nsec()),
            atime: if self.copying.preserve { at(metadata.atime(), metadata.atime_nsec()) } else { None },
            ..SetAttr::default()
        }
    }

    /// What has this name. In a directory of our own making nothing has, and nobody is asked: what follows from a listing
    /// is believed for a second only, and an upload takes longer.
    async fn there(&self, parent: u64, name: &[u8], is_new: bool) -> Result<Option<Attr>, vfs::Error> {
        if is_new { Ok(None) } else { self.lookup(parent, name).await }
    }

    async fn lookup(&self, parent: u64, name: &[u8]) -> Result<Option<Attr>, vfs::Error> {
        match self.copying.vfs.lookup(&self.copying.cred, parent, name).await? {
            Looked::Found(entry) => Ok(Some(entry.attr)),
            Looked::Missing { .. } => Ok(None),
        }
    }

    async fn one(&self, from: &Path, to: To, metadata: &Metadata, pool: &Pool<Work>) -> Result<(), Trouble> {
        let kind = metadata.file_type();
        match to {
            _ if kind.is_dir() => self.directory(from, to, metadata, pool).await,
            To::Name { parent, name, is_new } if kind.is_file() => {
                self.file(from, parent, &name, is_new, metadata).await
            }
            To::Name { parent, name, is_new } if kind.is_symlink() => self.link(from, parent, &name, is_new).await,
            To::Into(_) => Err(Trouble::Other("has no name of its own to be copied under")),
            To::Name { .. } => Err(Trouble::Other("not copied: it is no file, directory or link")),
        }
    }

    async fn directory(&self, from: &Path, to: To, metadata: &Metadata, pool: &Pool<Work>) -> Result<(), Trouble> {
        let Copying { vfs, cred, .. } = &*self.copying;
        let mode = self.copying.mode(metadata.mode());
        let mut old_mode = None;
        let (into, is_new) = match to {
            To::Into(ino) => (ino, false),
            To::Name { parent, name, is_new } => match self.there(parent, &name, is_new).await? {
                Some(attr) if attr.kind == FileKind::Directory => {
                    old_mode = Some(attr.mode & 0o7777);
                    (attr.ino, false)
                }
                Some(_) => return Err(Trouble::Other("cannot be copied: something that is no directory has its name")),
                // We have to write into it, whatever its permissions will be.
                None => match vfs.mkdir(cred, parent, &name, mode | 0o700).await {
                    Ok(entry) => (entry.attr.ino, true),
                    // Another source has the same directory, and was faster.
                    Err(error) if error.errno() == Errno::Exist => match self.lookup(parent, &name).await? {
                        Some(attr) if attr.kind == FileKind::Directory => (attr.ino, false),
                        _ => return Err(error.into()),
                    },
                    Err(error) => return Err(error.into()),
                },
            },
        };
        // An attempt before this one has finished it, so that its permissions keep out this one.
        let closed = old_mode.filter(|old| self.copying.resume && old & 0o700 != 0o700);
        let closed = match closed {
            Some(old) => {
                let open = SetAttr { mode: Some(old | 0o700), ..SetAttr::default() };
                // Where that is not allowed, what follows says so.
                vfs.setattr(cred, into, None, open).await.is_ok().then_some(old)
            }
            None => None,
        };
        let last = |set, was_there| {
            let last = Last { ino: into, from: from.to_owned(), set, was_there };
            self.directories.lock().unwrap_or_else(PoisonError::into_inner).push(last);
        };
        let is_ours = is_new || old_mode.is_some_and(|old| self.copying.is_unfinished(old, mode));
        if self.copying.preserve || (is_ours && mode & 0o700 != 0o700) {
            let set = if self.copying.preserve { self.times(metadata) } else { SetAttr::default() };
            last(SetAttr { mode: Some(mode), ..set }, false);
        }
        if let Some(old) = closed {
            last(SetAttr { mode: Some(old), ..SetAttr::default() }, true);
        }
        let path = from.to_owned();
        let list = blocking(move || fs::read_dir(path)).await?;
        pool.push([Work::Entries { list, from: from.to_owned(), into, is_new }]);
        Ok(())
    }

    /// What is in a directory changes its times and may need its permissions, so it comes first. Where something is
    /// missing, the next attempt has to get in.
    async fn finish_directories(&self) {
        let directories = std::mem::take(&mut *self.directories.lock().unwrap_or_else(PoisonError::into_inner));
        let is_incomplete = self.copying.is_incomplete();
        for Last { ino, from, mut set, was_there } in directories.into_iter().rev() {
            if is_incomplete && !was_there {
                set.mode = None;
            }
            if set.is_empty() {
                continue;
            }
            if let Err(error) = self.copying.vfs.setattr(&self.copying.cred, ino, None, set).await {
                self.copying.tally.failed(&from.display(), &error);
            }
        }
    }

    async fn link(&self, from: &Path, parent: u64, name: &Bytes, is_new: bool) -> Result<(), Trouble> {
        let Copying { vfs, cred, .. } = &*self.copying;
        let path = from.to_owned();
        let target = blocking(move || fs::read_link(path)).await?.into_os_string().into_vec();
        match self.there(parent, name, is_new).await? {
            None => {
                vfs.symlink(cred, parent, name, &target).await?;
            }
            Some(attr) if attr.kind == FileKind::Symlink && vfs.readlink(cred, attr.ino).await? == target => {
                self.copying.tally.skipped(0);
                return Ok(());
            }
            Some(attr) if attr.kind == FileKind::Directory => {
                return Err(Trouble::Other("cannot be copied: a directory has its name"));
            }
            Some(_) => {
                let stamp = Stamp { size: target.len() as u64, mtime: timestamp(0, 0) };
                let part = part::name(name, &stamp);
                let _ = vfs.unlink(cred, parent, &part).await;
                vfs.symlink(cred, parent, &part, &target).await?;
                vfs.rename(cred, parent, &part, parent, name, RenameFlags::default()).await?;
            }
        }
        self.copying.tally.copied();
        Ok(())
    }

    async fn file(
        &self,
        from: &Path,
        parent: u64,
        name: &Bytes,
        is_new: bool,
        metadata: &Metadata,
    ) -> Result<(), Trouble> {
        let source = stamp(metadata);
        let there = self.there(parent, name, is_new).await?;
        match &there {
            Some(attr) if attr.kind == FileKind::Directory => {
                return Err(Trouble::Other("cannot be copied: a directory has its name"));
            }
            Some(attr) if self.copying.resume && attr.kind == FileKind::Regular => {
                let known = Stamp { size: attr.size, mtime: attr.mtime };
                if source.is_kept_by(&known) {
                    self.copying.tally.skipped(source.size);
                    return Ok(());
                }
            }
            _ => {}
        }
        let mode = match &there {
            // As with cp, what is replaced keeps its permissions.
            Some(attr) if attr.kind == FileKind::Regular && !self.copying.preserve => attr.mode & 0o777,
            _ => self.copying.mode(metadata.mode()),
        };
        let in_one = (PIECE as u64).min(u64::from(self.copying.vfs.client().limits().max_write));
        if there.is_none() && source.size <= in_one {
            self.small(from, parent, name, mode, metadata).await?;
        } else {
            self.large(from, parent, name, mode, metadata).await?;
        }
        self.copying.tally.copied();
        Ok(())
    }

    /// A new file that goes to the server together with all its bytes.
    async fn small(
        &self,
        from: &Path,
        parent: u64,
        name: &Bytes,
        mode: u32,
        metadata: &Metadata,
    ) -> Result<(), Trouble> {
        let Copying { vfs, cred, tally, .. } = &*self.copying;
        let (path, size) = (from.to_owned(), metadata.len());
        let data = blocking(move || {
            let mut data = Vec::with_capacity(size as usize + 1);
            File::open(path)?.take(size + 1).read_to_end(&mut data)?;
            Ok(data)
        })
        .await?;
        if data.len() as u64 != size {
            return Err(Trouble::Other("changed while it was copied; copy it again"));
        }
        let flags = OpenFlags { write: true, truncate: true, ..OpenFlags::default() };
        let (entry, opened) = vfs.create(cred, parent, name, mode, flags).await?;
        let ino = entry.attr.ino;
        let written = async {
            if !data.is_empty() {
                vfs.write(cred, ino, opened.fh, 0, Bytes::from(data)).await?;
            }
            vfs.setattr(cred, ino, Some(opened.fh), self.times(metadata)).await?;
            vfs.flush(cred, ino, opened.fh, None).await
        };
        let written = written.await;
        let released = vfs.release(cred, ino, opened.fh).await;
        if written.is_err() {
            // It was made and is empty, or not whole.
            let _ = vfs.unlink(cred, parent, name).await;
        }
        vfs.forget(ino, 1);
        written?;
        released?;
        tally.moved(size);
        Ok(())
    }

    /// A file that grows under another name until it is whole.
    async fn large(
        &self,
        from: &Path,
        parent: u64,
        name: &Bytes,
        mode: u32,
        metadata: &Metadata,
    ) -> Result<(), Trouble> {
        let Copying { vfs, cred, .. } = &*self.copying;
        let source = stamp(metadata);
        let mut part = part::name(name, &source);
        let mut is_usual = true;
        let left = if self.copying.resume { self.lookup(parent, &part).await? } else { None };
        let (ino, fh, start) = match left {
            Some(attr) if attr.kind == FileKind::Regular => {
                let flags = OpenFlags { write: true, ..OpenFlags::default() };
                let opened = vfs.open(cred, attr.ino, flags).await?;
                (attr.ino, opened.fh, part::resume_at(attr.size, DIRTY, &source))
            }
            _ => {
                // Nobody else may read what is not whole, and nobody else may be writing it. Two that take up the same
                // part write the same bytes, but one that begins anew must not share a name with them.
                let flags = OpenFlags { write: true, exclusive: true, ..OpenFlags::default() };
                let made = match vfs.create(cred, parent, &part, PART_MODE, flags).await {
                    Err(error) if error.errno() == Errno::Exist => {
                        (part, is_usual) = (part::own_name(name, &source), false);
                        vfs.create(cred, parent, &part, PART_MODE, flags).await
                    }
                    made => made,
                };
                let (entry, opened) = made?;
                (entry.attr.ino, opened.fh, 0)
            }
        };
        let grown = self.grow(from, ino, fh, start, metadata, mode).await;
        let released = vfs.release(cred, ino, fh).await;
        let reached = match grown.and_then(|()| Ok(released?)) {
            Ok(()) => {
                let renamed = vfs.rename(cred, parent, &part, parent, name, RenameFlags::default()).await;
                renamed.map_err(Trouble::from)
            }
            Err(trouble) => Err(trouble),
        };
        match &reached {
            Ok(()) if !is_usual => self.point_out(parent, &part::name(name, &source), from).await,
            Ok(()) => {}
            Err(trouble) => self.give_up(parent, &part, is_usual, from, trouble).await,
        }
        vfs.forget(ino, 1);
        reached
    }

    /// Tells of the part of another attempt, which may be under way on another machine.
    async fn point_out(&self, parent: u64, part: &[u8], from: &Path) {
        if let Ok(Some(_)) = self.lookup(parent, part).await {
            self.copying.tally.say(&format!(
                "{}: there is also {} of an attempt that broke off, or is still under way; if none is, remove it",
                from.display(),
                String::from_utf8_lossy(part)
            ));
        }
    }

    /// Takes a part away that is not worth keeping, or was spoilt.
    async fn give_up(&self, parent: u64, part: &[u8], is_usual: bool, from: &Path, trouble: &Trouble) {
        let Copying { vfs, cred, tally, .. } = &*self.copying;
        let size = self.lookup(parent, part).await.ok().flatten().map_or(0, |attr| attr.size);
        if is_usual && size >= DIRTY + WORTH_KEEPING && !matches!(trouble, Trouble::Other(_)) {
            tally.say(&format!("{}: partly copied; the same command with --resume goes on", from.display()));
        } else {
            let _ = vfs.unlink(cred, parent, part).await;
        }
    }

    async fn grow(
        &self,
        from: &Path,
        ino: u64,
        fh: vfs::Fh,
        start: u64,
        metadata: &Metadata,
        mode: u32,
    ) -> Result<(), Trouble> {
        let Copying { vfs, cred, tally, .. } = &*self.copying;
        let path = from.to_owned();
        let file = Arc::new(blocking(move || File::open(path)).await?);
        tally.moved(start);
        let mut at = start;
        while at < metadata.len() {
            let end = (at + STRETCH).min(metadata.len());
            let stored = async { if at > start { vfs.fsync(cred, ino, fh, true).await } else { Ok(()) } };
            // Both to their ends; together they never leave more than DIRTY bytes of which it is not known that they
            // are stored, wherever the server has been slow, and [`part::resume_at`] relies on that.
            let (written, stored) = tokio::join!(self.stretch(&file, ino, fh, at..end), stored);
            written?;
            stored?;
            at = end;
        }
        let now = blocking(move || file.metadata()).await?;
        if stamp(&now) != stamp(metadata) {
            return Err(Trouble::Other("changed while it was copied; copy it again"));
        }
        // A part that was taken up may have had any.
        let set = SetAttr { mode: Some(mode), ..self.times(metadata) };
        vfs.setattr(cred, ino, Some(fh), set).await?;
        vfs.flush(cred, ino, fh, None).await?;
        Ok(())
    }

    /// Hands on a stretch of the source, a piece at a time.
    async fn stretch(&self, file: &Arc<File>, ino: u64, fh: vfs::Fh, range: Range<u64>) -> Result<(), Trouble> {
        let Copying { vfs, cred, tally, stop, .. } = &*self.copying;
        let mut at = range.start;
        while at < range.end {
            if stop.is_cancelled() {
                return Err(Trouble::Stopped);
            }
            let (file, want) = (Arc::clone(file), (range.end - at).min(PIECE as u64) as usize);
            let piece = blocking(move || {
                let mut piece = vec![0; want];
                file.read_exact_at(&mut piece, at)?;
                Ok(piece)
            });
            let piece = match piece.await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(Trouble::Other("became shorter while it was copied; copy it again"));
                }
                piece => piece?,
            };
            vfs.write(cred, ino, fh, at, Bytes::from(piece)).await?;
            at += want as u64;
            tally.moved(want as u64);
        }
        Ok(())
    }
}
