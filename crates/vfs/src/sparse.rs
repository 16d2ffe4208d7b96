//! Holes and reserved space: `fallocate`, SEEK_DATA and SEEK_HOLE (RFC 7862 §15).
//!
//! The server works on what it has, so what was written before goes to it first. Before a hole is made it even goes to
//! stable storage: data that is not there yet would be written again after a restart of the server, into the hole.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use nfs4_client::{Client, Cred, Errno, FileAttr, OpenAccess, OpenFile, SeekWhat};

use crate::attr::Timestamp;
use crate::attrs::Origin;
use crate::error::{Error, Result};
use crate::files::OpenHandle;
use crate::lacks::Feature;
use crate::node::{Node, ServerOpen};
use crate::types::{Allocation, Fh};
use crate::vfs::Vfs;
use crate::write::flush::Goal;

impl Vfs {
    /// Reserves space or makes holes. One round trip (two for zeros), and those of the writes that come before.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what the server cannot do; what the server says.
    pub async fn fallocate(&self, cred: &Cred, fh: Fh, how: Allocation, offset: u64, length: u64) -> Result<()> {
        self.writable()?;
        let handle = self.handle(fh).await?;
        if !handle.open.writes() {
            return Err(Error::BadHandle);
        }
        if length == 0 {
            return Err(Error::Invalid("a range of no bytes"));
        }
        let limit = self.mount().client.limits().max_file_size;
        let end = offset.checked_add(length).filter(|end| i64::try_from(*end).is_ok()).ok_or(Error::FileTooBig)?;
        if limit > 0 && end > limit && how.may_grow() {
            return Err(Error::FileTooBig);
        }
        let (vfs, cred) = (self.clone(), cred.clone());
        self.to_its_end(async move { vfs.allocate(&cred, &handle, how, offset..end).await }).await
    }

    async fn allocate(&self, cred: &Cred, handle: &OpenHandle, how: Allocation, range: Range<u64>) -> Result<()> {
        match how {
            Allocation::Reserve => {
                self.must_have(Feature::Allocate)?;
                self.flush_node(&handle.node, Goal::Sent).await;
                self.reserve(handle, range).await
            }
            Allocation::ReserveWithin => {
                self.must_have(Feature::Allocate)?;
                self.flush_node(&handle.node, Goal::Sent).await;
                if range.end > self.size_now(cred, &handle.node).await? {
                    return Err(Error::Unsupported("space reserved behind the end of a file"));
                }
                self.reserve(handle, range).await
            }
            Allocation::Hole => {
                self.must_have(Feature::Deallocate)?;
                self.flush_node(&handle.node, Goal::Stable).await;
                let size = self.size_now(cred, &handle.node).await?;
                self.make_hole(handle, range.start..range.end.min(size)).await
            }
            Allocation::Zeros { keep_size } => {
                self.must_have(Feature::Allocate)?;
                self.must_have(Feature::Deallocate)?;
                self.flush_node(&handle.node, Goal::Stable).await;
                let size = self.size_now(cred, &handle.node).await?;
                let within = range.start..range.end.min(size);
                self.make_hole(handle, within.clone()).await?;
                self.reserve(handle, if keep_size { within } else { range }).await
            }
        }
    }

    /// The file's size as the server knows it, which has everything that was written here.
    async fn size_now(&self, cred: &Cred, node: &Arc<Node>) -> Result<u64> {
        if node.lock().attrs.fresh(Instant::now()).is_none() {
            self.revalidate(cred, node).await?;
        }
        Ok(node.lock().attrs.last().size)
    }

    async fn reserve(&self, handle: &OpenHandle, range: Range<u64>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let (start, length) = (range.start, range.end - range.start);
        let sent = Instant::now();
        let asked =
            self.through(&handle.open, |client, file| async move { client.allocate(&file, start, length).await });
        let attr = self.learn_within(Feature::Allocate, asked.await)?;
        self.server_changed(&handle.node, &attr, sent, &range, Some(range.end));
        Ok(())
    }

    async fn make_hole(&self, handle: &OpenHandle, range: Range<u64>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let (start, length) = (range.start, range.end - range.start);
        let sent = Instant::now();
        let asked =
            self.through(&handle.open, |client, file| async move { client.deallocate(&file, start, length).await });
        let attr = self.learn_within(Feature::Deallocate, asked.await)?;
        self.server_changed(&handle.node, &attr, sent, &range, None);
        Ok(())
    }

    /// As [`Self::learn`], for results that may be errors of ours as well.
    fn learn_within<T>(&self, feature: Feature, result: Result<T>) -> Result<T> {
        match result {
            Err(Error::Client(error)) => self.learn(feature, Err(error)),
            result => result,
        }
    }

    /// The server has changed bytes of a range at our wish: what was cached of them is old. `end`: the file now reaches
    /// that far at least.
    pub(crate) fn server_changed(
        &self,
        node: &Arc<Node>,
        attr: &FileAttr,
        sent: Instant,
        range: &Range<u64>,
        end: Option<u64>,
    ) {
        let mount = self.mount();
        let mut state = node.lock();
        let file = state.file();
        file.touched += 1;
        file.taint(range);
        mount.pages.lock().drop_range(node.id.serial, range.clone());
        let outcome = node.update_locked(&mut state, attr, sent, Origin::OwnChange, true, &mount.options.timeouts);
        self.heed(node, outcome);
        let size = state.attrs.last().size.max(end.unwrap_or(0));
        state.attrs.set_size(size);
        if state.is_busy() {
            state.attrs.touch(Timestamp::from_system_time(std::time::SystemTime::now()));
        }
    }

    /// Asks something through an open file; one that the server no longer holds open is opened again.
    pub(crate) async fn through<T, F>(&self, open: &Arc<ServerOpen>, ask: impl Fn(Client, OpenFile) -> F) -> Result<T>
    where
        F: Future<Output = nfs4_client::Result<T>>,
    {
        let client = &self.mount().client;
        match ask(client.clone(), self.file_of(open).await?).await {
            Err(nfs4_client::Error::StateLost) => {
                self.reopen(open).await?;
                Ok(ask(client.clone(), self.file_of(open).await?).await?)
            }
            result => Ok(result?),
        }
    }

    /// Where data or a hole begins, at or behind `offset`. One round trip, and those of the writes that come before.
    ///
    /// # Errors
    /// [`Error::NoSuchOffset`] (`ENXIO`) when there is none; [`Error::Unsupported`] where the server does not tell: then
    /// all of a file counts as data.
    pub async fn seek(&self, cred: &Cred, fh: Fh, offset: u64, what: SeekWhat) -> Result<u64> {
        let handle = self.handle(fh).await?;
        self.must_have(Feature::Seek)?;
        self.flush_node(&handle.node, Goal::Sent).await;
        // SEEK needs a right to read, which an open for writing does not have (RFC 7862 §15.11.3).
        let open = if handle.open.access == OpenAccess::Write {
            let mut state = handle.node.lock();
            let readable =
                state.file().opens.iter().find(|open| open.access != OpenAccess::Write && open.cred == *cred);
            readable.map_or_else(|| Arc::clone(&handle.open), Arc::clone)
        } else {
            Arc::clone(&handle.open)
        };
        let asked = self.through(&open, |client, file| async move { client.seek(&file, offset, what).await }).await;
        match self.learn_within(Feature::Seek, asked) {
            Ok(found) => found.ok_or(Error::NoSuchOffset),
            Err(Error::Client(error)) if matches!(error.errno(), Errno::BadF | Errno::Access) => {
                let size = self.size_now(cred, &handle.node).await?;
                match what {
                    _ if offset >= size => Err(Error::NoSuchOffset),
                    SeekWhat::Data => Ok(offset),
                    SeekWhat::Hole => Ok(size),
                }
            }
            Err(error) => Err(error),
        }
    }
}
