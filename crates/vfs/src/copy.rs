//! Copies that do not pass through the program: by the server itself where it can (RFC 7862 §15.2), else read and
//! written here.

use std::sync::Arc;
use std::time::Instant;

use nfs4_client::{Copied, Cred, Errno, OpenAccess, Stability};

use crate::error::{Error, Result};
use crate::files::{OpenHandle, Telling};
use crate::lacks::Feature;
use crate::types::Fh;
use crate::vfs::Vfs;
use crate::write::flush::{Goal, Manner};

/// Most bytes that the server is asked to copy at once: its answer has to come before the connection is taken for dead.
const MOST_AT_SERVER: u64 = 128 << 20;
/// Most bytes copied here before the caller is answered.
const MOST_HERE: u64 = 16 << 20;
/// Bytes read at a time.
const PIECE: u64 = 1 << 20;
/// A server that restarts between COPY and COMMIT may have lost the copy; so often it is made again.
const TRIES: u32 = 3;

impl Vfs {
    /// Copies bytes from one open file to another or within one. Returns how many: 0 only at the end of the source, and
    /// often fewer than asked, so that callers ask again.
    ///
    /// # Errors
    /// What the server says, when nothing was copied.
    pub async fn copy(
        &self,
        cred: &Cred,
        (from, offset_from): (Fh, u64),
        (to, offset_to): (Fh, u64),
        length: u64,
    ) -> Result<u64> {
        self.writable()?;
        let (from, to) = (self.handle(from).await?, self.handle(to).await?);
        if from.open.access == OpenAccess::Write || !to.open.writes() {
            return Err(Error::BadHandle);
        }
        let same = Arc::ptr_eq(&from.node, &to.node);
        if same && offset_from < offset_to.saturating_add(length) && offset_to < offset_from.saturating_add(length) {
            return Err(Error::Invalid("the ranges overlap"));
        }
        let (vfs, cred) = (self.clone(), cred.clone());
        let work = async move {
            vfs.flush_node(&from.node, Goal::Sent).await;
            if from.node.lock().attrs.fresh(Instant::now()).is_none() {
                vfs.revalidate(&cred, &from.node).await?;
            }
            let size = from.node.lock().attrs.last().size;
            let length = length.min(size.saturating_sub(offset_from));
            if length == 0 {
                return Ok(0);
            }
            let end = offset_to.checked_add(length).ok_or(Error::FileTooBig)?;
            let limit = vfs.mount().client.limits().max_file_size;
            if end > i64::MAX as u64 || (limit > 0 && end > limit) {
                return Err(Error::FileTooBig);
            }
            if !vfs.mount().lacks.contains(Feature::Copy) {
                match vfs.copy_at_server(&from, offset_from, &to, offset_to, length.min(MOST_AT_SERVER)).await {
                    Ok(count) => return Ok(count),
                    Err(error) if is_final(error.errno()) => return Err(error),
                    Err(error) => tracing::debug!(%error, "the server does not copy this itself"),
                }
            }
            vfs.copy_here(&from, offset_from, &to, offset_to, length.min(MOST_HERE)).await
        };
        self.to_its_end(work).await
    }

    async fn copy_at_server(
        &self,
        from: &OpenHandle,
        offset_from: u64,
        to: &OpenHandle,
        offset_to: u64,
        length: u64,
    ) -> Result<u64> {
        // What the target has unstable would be written over the copy after a restart of the server.
        self.flush_node(&to.node, Goal::Stable).await;
        let client = &self.mount().client;
        for _ in 0..TRIES {
            let sent = Instant::now();
            let copied = match client
                .copy(&self.file_of(&from.open).await?, offset_from, &self.file_of(&to.open).await?, offset_to, length)
                .await
            {
                Err(nfs4_client::Error::StateLost) => {
                    self.reopen(&from.open).await?;
                    self.reopen(&to.open).await?;
                    client
                        .copy(
                            &self.file_of(&from.open).await?,
                            offset_from,
                            &self.file_of(&to.open).await?,
                            offset_to,
                            length,
                        )
                        .await
                }
                copied => copied,
            };
            let copied = self.learn(Feature::Copy, copied)?;
            let end = offset_to + copied.count;
            self.server_changed(&to.node, &copied.attr, sent, &(offset_to..end), Some(end));
            if self.is_kept(to, &copied).await? {
                return Ok(copied.count);
            }
        }
        Err(Error::Unsupported("copies that last"))
    }

    /// Whether a copy is on stable storage.
    async fn is_kept(&self, to: &OpenHandle, copied: &Copied) -> Result<bool> {
        if copied.committed > Stability::Unstable {
            return Ok(true);
        }
        let committed = self.mount().client.commit(&to.open.cred, &to.node.handle, 0, 0, None).await?;
        Ok(committed.verifier == copied.verifier)
    }

    async fn copy_here(
        &self,
        from: &OpenHandle,
        offset_from: u64,
        to: &OpenHandle,
        offset_to: u64,
        length: u64,
    ) -> Result<u64> {
        let mut done = 0;
        while done < length {
            match self.copy_piece(from, offset_from + done, to, offset_to + done, PIECE.min(length - done)).await {
                Ok(0) => break,
                Ok(count) => done += count,
                // What is lost may be of this copy, and the handle has told it now.
                Err(error) if done == 0 || matches!(error, Error::Writeback(_)) => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, done, "a copy ends early");
                    break;
                }
            }
        }
        if done > 0 && to.flags.is_synchronous() {
            self.flush_node(&to.node, Goal::Stable).await;
            Self::tell_failure(to, Telling::Write)?;
        }
        Ok(done)
    }

    async fn copy_piece(&self, from: &OpenHandle, source: u64, to: &OpenHandle, target: u64, size: u64) -> Result<u64> {
        let mut count = 0;
        for piece in self.read_cached(from, source, size).await? {
            let len = piece.len() as u64;
            self.write_back(to, target + count, piece, Manner::At).await?;
            count += len;
        }
        Ok(count)
    }
}

/// Errors that another way of copying would meet as well.
fn is_final(errno: Errno) -> bool {
    matches!(errno, Errno::NoSpc | Errno::Dquot | Errno::FBig | Errno::RoFs | Errno::Access | Errno::TimedOut)
}
