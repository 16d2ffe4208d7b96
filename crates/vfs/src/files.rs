//! Open files: what programs do with them, and the last close.
//!
//! The other half of close-to-open (the first is in [`opens`](crate::opens)): every close writes and commits before it
//! returns. `OpenHandle` is one `open` of a program, `ServerOpen` the state at the server that several of them share.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use nfs4_client::{Cred, Errno, OpenAccess, OpenFile};

use crate::error::{Error, Result};
use crate::node::{FileState, Node, ServerOpen};
use crate::read::fetch::reaches_stale_end;
use crate::read::planner::Planner;
use crate::sync::Locked;
use crate::types::{Fh, OpenFlags, Unwritten};
use crate::vfs::Vfs;
use crate::write::flush::{Goal, Manner};

/// A file that a program has open.
#[derive(Debug)]
pub(crate) struct OpenHandle {
    pub(crate) node: Arc<Node>,
    pub(crate) open: Arc<ServerOpen>,
    pub(crate) flags: OpenFlags,
    pub(crate) planner: Locked<Planner>,
    pub(crate) told: Locked<Told>,
}

/// Up to which failure to write a handle has told, and by what.
///
/// What a write has told, close and fsync tell again: the error may have reached the program as a short count. What a
/// close has told is told again by all: it may have been that of a descriptor which a child process has inherited. What
/// fsync has told is told.
#[derive(Debug)]
pub(crate) struct Told {
    by_write: u64,
    by_sync: u64,
    at_all: u64,
}

/// Who is told of a failure to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Write, once.
    Write,
    /// The close of a descriptor, each time.
    Close,
    /// Fsync, once.
    Sync,
    /// Nobody but the log, where it was not told before.
    Log,
}

impl Told {
    /// Whether there is a failure to tell of, which is told now.
    fn tell(&mut self, telling: Telling, failures: u64) -> bool {
        let told = match telling {
            Telling::Write => self.by_write,
            Telling::Close | Telling::Sync => self.by_sync,
            Telling::Log => self.at_all,
        };
        if told == failures {
            return false;
        }
        self.at_all = failures;
        if matches!(telling, Telling::Write | Telling::Sync) {
            self.by_write = failures;
        }
        if telling == Telling::Sync {
            self.by_sync = failures;
        }
        true
    }
}

impl OpenHandle {
    /// One that has told of so many failures to write.
    pub(crate) fn new(node: Arc<Node>, open: Arc<ServerOpen>, flags: OpenFlags, failures: u64) -> Self {
        let told = Told { by_write: failures, by_sync: failures, at_all: failures };
        Self { node, open, flags, planner: Locked::default(), told: Locked::new(told) }
    }

    /// A failure to write that is to be told now.
    pub(crate) fn untold(&self, file: &FileState, telling: Telling) -> Option<Errno> {
        self.told.lock().tell(telling, file.failures).then_some(file.last_failure).flatten()
    }
}

impl Vfs {
    /// What a program has open; a file that the server has not heard of goes there first.
    pub(crate) async fn handle(&self, fh: Fh) -> Result<Arc<OpenHandle>> {
        self.settle_fh(fh).await?;
        self.mount().files.get(&fh.0).map(|handle| Arc::clone(&handle)).ok_or(Error::BadHandle)
    }

    /// Reads from `offset` on: fewer than `size` bytes only at the end of the file.
    pub async fn read(&self, cred: &Cred, _ino: u64, fh: Fh, offset: u64, size: u32) -> Result<Vec<Bytes>> {
        let handle = self.handle(fh).await?;
        if handle.open.access == OpenAccess::Write {
            return Err(Error::BadHandle);
        }
        Self::check_locks(&handle.node)?;
        let stale = reaches_stale_end(&handle.node.lock(), offset, u64::from(size), Instant::now());
        if stale {
            self.revalidate(cred, &handle.node).await?;
        }
        if handle.flags.direct {
            self.read_direct(&handle, offset, u64::from(size)).await
        } else {
            self.read_cached(&handle, offset, u64::from(size)).await
        }
    }

    /// Writes at `offset`, or at the end of a file opened for appending. Returns how many bytes: all.
    ///
    /// # Errors
    /// Also those of earlier writes, where they have become known since, once.
    pub async fn write(&self, cred: &Cred, _ino: u64, fh: Fh, offset: u64, data: Bytes) -> Result<u32> {
        self.write_by(cred, fh, offset, data, false).await
    }

    /// Writes what a program has changed through a map, and the kernel sends when it likes through any open for writing: at
    /// `offset`, also where the open is for appending. Returns how many bytes: all.
    ///
    /// # Errors
    /// Those of earlier writes are left to `close` and `fsync`: the kernel would not send the bytes again.
    pub async fn write_mapped(&self, cred: &Cred, _ino: u64, fh: Fh, offset: u64, data: Bytes) -> Result<u32> {
        self.write_by(cred, fh, offset, data, true).await
    }

    async fn write_by(&self, cred: &Cred, fh: Fh, offset: u64, data: Bytes, mapped: bool) -> Result<u32> {
        self.writable()?;
        if self.write_newborn(fh, offset, &data) {
            return Ok(data.len() as u32);
        }
        let handle = self.handle(fh).await?;
        if !handle.open.writes() {
            return Err(Error::BadHandle);
        }
        Self::check_locks(&handle.node)?;
        let manner = match (mapped, handle.flags.append) {
            (true, _) => Manner::Untold,
            (false, true) => Manner::Append,
            (false, false) => Manner::At,
        };
        if manner == Manner::Append {
            let stale = {
                let state = handle.node.lock();
                !state.is_busy() && state.attrs.fresh(Instant::now()).is_none()
            };
            if stale {
                self.revalidate(cred, &handle.node).await?;
            }
        }
        let count = self.write_back(&handle, offset, data, manner).await?;
        if handle.flags.is_synchronous() {
            self.flush_node(&handle.node, Goal::Stable).await;
            Self::tell_failure(&handle, Telling::Write)?;
        }
        Ok(count)
    }

    pub(crate) fn tell_failure(handle: &OpenHandle, telling: Telling) -> Result<()> {
        let mut state = handle.node.lock();
        match handle.untold(state.file(), telling) {
            Some(errno) => Err(Error::Writeback(errno)),
            None => Ok(()),
        }
    }

    /// A program closes one of its descriptors: its locks in the file go, as POSIX has it, and everything written so far is on stable storage when this returns 0.
    ///
    /// # Errors
    /// What went wrong with the writes, each time until `fsync` has told it.
    pub async fn flush(&self, _cred: &Cred, _ino: u64, fh: Fh, owner: Option<u64>) -> Result<()> {
        let handle = self.handle(fh).await?;
        let told = if handle.open.writes() {
            self.flush_node(&handle.node, Goal::Stable).await;
            Self::tell_failure(&handle, Telling::Close)
        } else {
            Ok(())
        };
        if let Some(owner) = owner {
            self.release_owner(&handle.node, owner).await;
        }
        told
    }

    /// Everything written to the file so far, by whomever, is on stable storage when this returns 0.
    pub async fn fsync(&self, _cred: &Cred, _ino: u64, fh: Fh, _datasync: bool) -> Result<()> {
        let handle = self.handle(fh).await?;
        self.settle_held(&handle.node).await?;
        self.flush_node(&handle.node, Goal::Stable).await;
        Self::tell_failure(&handle, Telling::Sync)
    }

    /// The last descriptor of an open is closed.
    pub async fn release(&self, _cred: &Cred, _ino: u64, fh: Fh) -> Result<()> {
        if self.settle_fh(fh).await.is_err() && self.release_refused(fh) {
            return Ok(());
        }
        let (_, handle) = self.mount().files.remove(&fh.0).ok_or(Error::BadHandle)?;
        handle.node.lock().file().closing += 1;
        let vfs = self.clone();
        let work = async move {
            vfs.release_locks_of(&handle.node, fh).await;
            vfs.close_handle(&handle).await;
            Ok(())
        };
        self.to_its_end(work).await
    }

    /// Returns what could not be written and has been told to nobody.
    async fn close_handle(&self, handle: &OpenHandle) -> Option<Unwritten> {
        let node = &handle.node;
        if handle.open.writes() {
            self.flush_node(node, Goal::Stable).await;
        }
        let unwritten = {
            let mut state = node.lock();
            let name = state.place.as_ref().map(|place| place.name.to_bytes());
            let file = state.file();
            let errno = handle.open.writes().then(|| handle.untold(file, Telling::Log)).flatten();
            errno.map(|errno| Unwritten { ino: node.ino(), name, bytes: file.lost, errno })
        };
        if let Some(unwritten) = &unwritten {
            tracing::error!(
                ino = unwritten.ino,
                bytes = unwritten.bytes,
                "a file was closed before all of it could be written"
            );
        }
        self.leave(node, &handle.open).await;
        self.one_handle_less(node, 1).await;
        unwritten
    }

    /// One user of an open less; the last one closes it at the server.
    pub(crate) async fn leave(&self, node: &Arc<Node>, open: &Arc<ServerOpen>) {
        let last = node.lock().file().leave(open);
        if last {
            // Read-ahead that nobody has waited for still uses the stateid, and so do WRITEs of what came through another open.
            open.in_use.wait_for_room(1, 0, || {}).await;
        }
        if last
            && let Some(file) = open.file()
            && let Err(error) = self.mount().client.close(&file).await
        {
            tracing::debug!(ino = node.ino(), %error, "CLOSE");
        }
    }

    /// What the server holds open, opened now if it has not been yet.
    pub(crate) async fn file_of(&self, open: &Arc<ServerOpen>) -> Result<OpenFile> {
        if let Some(file) = open.file() {
            return Ok(file);
        }
        let opening = async {
            let sent = Instant::now();
            let opened = self.mount().client.open_handle(&open.cred, &open.handle, open.access).await?;
            open.replace(opened.file);
            let node = self.mount().table.lock().find(open.handle.as_bytes());
            if let Some(node) = node {
                self.take_attr(&node, &opened.attr, sent);
            }
            Ok::<_, Error>(())
        };
        open.opening.get_or_try_init(|| opening).await?;
        open.file().ok_or(Error::Closed)
    }

    /// Opens again what the server no longer holds open (its lease ran out).
    pub(crate) async fn reopen(&self, open: &Arc<ServerOpen>) -> Result<()> {
        let mount = self.mount();
        let Some(old) = open.file().filter(OpenFile::is_lost) else { return Ok(()) };
        let sent = Instant::now();
        let opened = mount.client.open_handle(&open.cred, old.handle(), open.access).await?;
        if open.file().is_some_and(|file| file.is_lost()) {
            open.replace(opened.file);
        } else {
            // Somebody else was faster.
            let _ = mount.client.close(&opened.file).await;
        }
        let node = mount.table.lock().find(old.handle().as_bytes());
        if let Some(node) = node {
            self.take_attr(&node, &opened.attr, sent);
        }
        Ok(())
    }

    /// Writes everything dirty, closes everything and ends the session. Returns the files that could not be written.
    ///
    /// Waits for the server as long as it takes; whoever cannot wait drops the future and the mount with it.
    pub async fn shutdown(&self) -> Vec<Unwritten> {
        let mount = self.mount();
        mount.closed.cancel();
        mount.waits.cancel();
        self.settle_in(None).await;
        let dirty: Vec<Arc<Node>> = mount.dirty.lock().values().cloned().collect();
        // All at once: each waits for round trips of its own.
        let flushes: Vec<_> = dirty
            .into_iter()
            .map(|node| {
                let vfs = self.clone();
                mount.tasks.spawn(async move { vfs.flush_node(&node, Goal::Stable).await })
            })
            .collect();
        for flush in flushes {
            let _ = flush.await;
        }
        let open: Vec<u64> = mount.files.iter().map(|handle| *handle.key()).collect();
        let closes: Vec<_> = open
            .into_iter()
            .filter_map(|fh| mount.files.remove(&fh))
            .map(|(fh, handle)| {
                handle.node.lock().file().closing += 1;
                let vfs = self.clone();
                mount.tasks.spawn(async move {
                    vfs.release_locks_of(&handle.node, Fh(fh)).await;
                    vfs.close_handle(&handle).await
                })
            })
            .collect();
        let mut unwritten = Vec::new();
        for close in closes {
            unwritten.extend(close.await.ok().flatten());
        }
        mount.dirs.clear();
        mount.kernel.disconnect();
        mount.client.shutdown().await;
        mount.tasks.close();
        mount.tasks.wait().await;
        unwritten
    }
}
