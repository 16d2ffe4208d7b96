//! ACCESS: what somebody may do with a file (RFC 8881 §18.1).

use std::time::Instant;

use nfs4_client::{Access, Cred};

use crate::alike::Judged;
use crate::attr::FileKind;
use crate::error::{Error, Result};
use crate::inode::ROOT_INO;
use crate::node::Node;
use crate::vfs::Vfs;

impl Vfs {
    /// Whether `cred` may do everything in `mask` (`R_OK` 4, `W_OK` 2, `X_OK` 1).
    pub async fn access(&self, cred: &Cred, ino: u64, mask: u32) -> Result<()> {
        self.settle_ino(ino).await?;
        let node = self.node(ino)?;
        if mask & 2 != 0 {
            self.writable()?;
        }
        self.settle_rights(&node).await;
        let directory = node.kind == FileKind::Directory;
        let mut wanted = Access::default();
        if mask & 4 != 0 {
            wanted = wanted.and(Access::READ);
        }
        if mask & 2 != 0 {
            wanted = wanted.and(Access::MODIFY).and(Access::EXTEND);
        }
        if mask & 1 != 0 {
            wanted = wanted.and(if directory { Access::LOOKUP } else { Access::EXECUTE });
        }
        if wanted == Access::default() {
            return Ok(());
        }
        if node.lock().attrs.fresh_change(Instant::now()).is_none() {
            // Whoever asks about all files of a directory gets them anew in one go.
            self.refresh_siblings(cred, &node).await;
        }
        let sent = Instant::now();
        let known = self.known_rights(cred, &node, sent);
        let granted = if let Some(granted) = known {
            granted
        } else {
            let before = node.lock().rights_of();
            let asked = self.mount().client.access(cred, &node.handle, Access::ALL).await;
            let (granted, attr) = self.heard(&node, asked)?;
            self.take_attr(&node, &attr, sent);
            // By what the server judged, unless somebody changed that meanwhile: then the answer is for this once.
            let of = (attr.mode & 0o7777, attr.uid, attr.gid);
            if before == of {
                let mut state = node.lock();
                if state.rights_of() == of {
                    state.learn_rights(cred, granted, sent);
                    drop(state);
                    self.mount().alike.lock().learn(cred, Judged { kind: node.kind, of }, granted, sent);
                }
            }
            granted
        };
        if granted.contains(wanted) { Ok(()) } else { Err(Error::Denied) }
    }

    /// What somebody may do with a file, as far as the server has said so, of it or of one that is judged alike.
    fn known_rights(&self, cred: &Cred, node: &Node, now: Instant) -> Option<Access> {
        let limit = self.mount().options.timeouts.dir_max;
        let judged = {
            let state = node.lock();
            state.attrs.fresh_change(now)?;
            if let Some(granted) = state.rights(cred, now, limit) {
                return Some(granted);
            }
            Judged { kind: node.kind, of: state.rights_of() }
        };
        if self.mount().client.limits().acls {
            return None;
        }
        self.mount().alike.lock().find(cred, judged, now, limit)
    }

    /// Whoever mounts looks into it first: asks what they may do in the root, while its listing is on its way, so that
    /// what they do next need not wait for that.
    pub async fn expect(&self, cred: &Cred) {
        if let Err(error) = self.access(cred, ROOT_INO, 1).await {
            tracing::debug!(%error, uid = cred.uid, "rights in the root");
        }
    }
}
