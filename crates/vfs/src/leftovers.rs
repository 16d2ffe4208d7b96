//! What is left of files that were removed while open, when the daemon ends before their last close.
//!
//! Such a file lives on under a hidden name of ours ([`crate::ops`]). A [`Journal`] that outlives the process is told
//! before the file gets that name and after it has lost it again; the next mount is given what a dead one has left, and
//! removes a name only when it still stands for that very file.

use std::sync::Arc;

use nfs4_client::{Along, Cred, Errno, Handle};

use crate::error::Result;
use crate::node::{Hidden, Node};
use crate::vfs::Vfs;

/// A file under a hidden name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The directory's handle.
    pub dir: Vec<u8>,
    /// The hidden name.
    pub name: Vec<u8>,
    /// The file's handle.
    pub file: Vec<u8>,
    /// Who has removed it.
    pub uid: u32,
    /// And their group.
    pub gid: u32,
}

/// Keeps a list of them for after a crash. Both calls may block, and return when the list is kept.
pub trait Journal: std::fmt::Debug + Send + Sync {
    /// A file is about to get a hidden name.
    fn add(&self, leftover: &Leftover);
    /// It is gone, or did not get the name.
    fn remove(&self, leftover: &Leftover);
}

impl Leftover {
    pub(crate) fn new(hidden: &Hidden, node: &Node) -> Self {
        Self {
            dir: hidden.dir.handle.as_bytes().to_vec(),
            name: hidden.name.to_vec(),
            file: node.handle.as_bytes().to_vec(),
            uid: hidden.cred.uid,
            gid: hidden.cred.gid,
        }
    }
}

impl Vfs {
    /// From now on, `journal` is told of hidden files.
    pub fn set_journal(&self, journal: Arc<dyn Journal>) {
        *self.mount().journal.lock() = Some(journal);
    }

    /// Tells the journal, on a thread that may block.
    pub(crate) async fn note(&self, leftover: Leftover, is_there: bool) {
        let Some(journal) = self.mount().journal.lock().clone() else { return };
        let noted =
            tokio::task::spawn_blocking(
                move || {
                    if is_there { journal.add(&leftover) } else { journal.remove(&leftover) }
                },
            );
        if noted.await.is_err() {
            tracing::warn!("hidden files cannot be noted; a crash would leave them behind");
        }
    }

    /// Removes what a dead mount has left. Returns how many could not be removed now.
    pub async fn sweep(&self, leftovers: &[Leftover]) -> usize {
        let mut left = 0;
        for leftover in leftovers {
            match self.sweep_one(leftover).await {
                Ok(true) => tracing::info!(name = %leftover.name.escape_ascii(), "removed what a dead mount had left"),
                // Somebody was faster, or the name stands for another file now.
                Ok(false) => {}
                Err(error) if matches!(error.errno(), Errno::NoEnt | Errno::Stale | Errno::NotDir) => {}
                Err(error) => {
                    tracing::debug!(%error, "what a dead mount has left stays for now");
                    left += 1;
                }
            }
        }
        left
    }

    async fn sweep_one(&self, leftover: &Leftover) -> Result<bool> {
        let (Some(dir), Some(file)) = (Handle::from_bytes(&leftover.dir), Handle::from_bytes(&leftover.file)) else {
            return Ok(false);
        };
        let (client, cred) = (&self.mount().client, Cred::new(leftover.uid, leftover.gid));
        let found = client.lookup(&cred, &dir, &leftover.name, Along::Nothing).await?;
        if found.entry.is_none_or(|found| found.handle != file) {
            return Ok(false);
        }
        client.remove(&cred, &dir, &leftover.name).await?;
        Ok(true)
    }
}
