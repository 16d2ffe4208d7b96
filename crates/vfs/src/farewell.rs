//! What somebody keeps about a file on their own account goes when the file goes.
//!
//! A layer above may keep something for a file of the server, in a place of its own that outlives the mount. It keeps it
//! under the file's handle, which names that file and never another (RFC 8881 §4.2: S3 Files' and most servers' handles are
//! persistent), whatever the file is called; and it is told when a request of ours has taken the file's last name. That the
//! server no longer knows a handle (NFS4ERR_STALE) is no such sign: it also says so when access was revoked (RFC 8881
//! §15.1.2.7), and what is kept must outlive that. So what somebody else removes leaves behind what is kept for it.

use std::sync::Arc;

use nfs4_client::{Cred, Nfs4Error};

use crate::attr::FileKind;
use crate::error::{Error, Result};
use crate::node::Node;
use crate::vfs::Vfs;

/// Is told of files that are no more. May block.
pub trait Farewell: std::fmt::Debug + Send + Sync {
    /// The file with this handle is gone.
    fn gone(&self, handle: &[u8]);
}

impl Vfs {
    /// From now on, `farewell` is told of files that are no more.
    pub fn set_farewell(&self, farewell: Arc<dyn Farewell>) {
        *self.mount().farewell.lock() = Some(farewell);
    }

    /// What the server calls the file by, for as long as the file exists. `None` for one that the server has not heard of.
    ///
    /// # Errors
    /// When the number stands for nothing.
    pub fn lasting_handle(&self, ino: u64) -> Result<Option<Vec<u8>>> {
        match self.node(ino) {
            Ok(node) => Ok(Some(node.handle.as_bytes().to_vec())),
            Err(_) if self.newborn_attr(ino).is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same after the server has heard of the file. No round trip, unless it has not yet.
    ///
    /// # Errors
    /// When the number stands for nothing, or what the server says to the file.
    pub async fn settled_handle(&self, ino: u64) -> Result<Vec<u8>> {
        self.settle_newborn(ino).await?;
        self.lasting_handle(ino)?.ok_or(Error::NoInode(ino))
    }

    /// Tells whoever wants to know that a file is gone after a name of it was removed, which seemed to be its last, and waits
    /// until they have heard. One round trip where the file may have another name that nobody here has heard of.
    pub(crate) async fn say_farewell(&self, cred: &Cred, node: &Arc<Node>) {
        if self.mount().farewell.lock().is_none() {
            return;
        }
        if node.kind != FileKind::Directory && self.mount().client.limits().hard_links {
            let asked = self.mount().client.getattr(cred, &node.handle).await;
            if !asked.is_err_and(|error| error.status() == Some(Nfs4Error::Stale)) {
                return;
            }
        }
        self.tell_farewell(node).await;
    }

    /// The same for a file that the server no longer knows after that.
    pub(crate) async fn tell_farewell(&self, node: &Arc<Node>) {
        let Some(farewell) = self.mount().farewell.lock().clone() else { return };
        let node = Arc::clone(node);
        if tokio::task::spawn_blocking(move || farewell.gone(node.handle.as_bytes())).await.is_err() {
            tracing::warn!("what was kept for a file that is gone stays behind");
        }
    }
}
