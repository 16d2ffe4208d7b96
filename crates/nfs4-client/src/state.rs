//! Files that are open at the server, so that they can be opened again after the server lost or restarted them.
//!
//! Every [`OpenFile`] has an open-owner of its own. That costs the server a few bytes and makes everything simpler:
//! no two opens share a stateid, so closing one never closes another, and reclaiming is one OPEN for each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use nfs4::ops::open::rflags;
use nfs4::types::Stateid4;

use crate::answers::OpenAccess;
use crate::attr::{Cred, Handle};
use crate::error::{Error, Result};
use crate::locks::FileLocks;

/// A file that is open at the server. Clones share the open; it ends with [`crate::Client::close`].
#[derive(Clone, Debug)]
pub struct OpenFile(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: OpenState,
    handle: Handle,
    rflags: u32,
    stateid: Mutex<Held>,
    locks: FileLocks,
}

#[derive(Debug, Clone, Copy)]
enum Held {
    /// Open at the server.
    Open(Stateid4),
    /// Being closed by us; no longer reclaimed. `sent` says whether a CLOSE of this very stateid went out.
    Closing { stateid: Stateid4, sent: bool },
    /// Closed by us.
    Closed(Stateid4),
    /// Gone at the server and not to be had back.
    Lost,
}

/// Who opens, before the open has succeeded.
#[derive(Debug)]
pub(crate) struct OpenState {
    id: u64,
    cred: Cred,
    access: OpenAccess,
}

static NEXT_OWNER: AtomicU64 = AtomicU64::new(1);

impl OpenState {
    pub(crate) fn new(cred: &Cred, access: OpenAccess) -> Self {
        Self { id: NEXT_OWNER.fetch_add(1, Ordering::Relaxed), cred: cred.clone(), access }
    }

    /// The open-owner as it stands on the wire.
    pub(crate) fn owner(&self) -> Bytes {
        format!("open:{:x}", self.id).into()
    }
}

impl OpenFile {
    /// The file's handle.
    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }

    /// Whether both are one open.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// For what it is open.
    pub fn access(&self) -> OpenAccess {
        self.0.state.access
    }

    /// Under whose identity it was opened; READ and WRITE go under the same.
    pub fn cred(&self) -> &Cred {
        &self.0.state.cred
    }

    /// Whether the server keeps the file alive while it is open even when its last name is removed
    /// (OPEN4_RESULT_PRESERVE_UNLINKED, RFC 8881 §18.16.3).
    pub fn survives_unlink(&self) -> bool {
        self.0.rflags & rflags::PRESERVE_UNLINKED != 0
    }

    /// Whether the server still knows this open.
    pub fn is_lost(&self) -> bool {
        matches!(*self.held(), Held::Lost)
    }

    pub(crate) fn owner(&self) -> Bytes {
        self.0.state.owner()
    }

    pub(crate) fn owner_id(&self) -> u64 {
        self.0.state.id
    }

    pub(crate) fn locks(&self) -> &FileLocks {
        &self.0.locks
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.stateid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stateid for the next request. Its sequence is 0, which means "the latest" in a session (RFC 8881
    /// §8.2.2), so that requests in flight never race with each other's changes.
    pub(crate) fn stateid(&self) -> Result<Stateid4> {
        match *self.held() {
            Held::Open(stateid) | Held::Closing { stateid, .. } | Held::Closed(stateid) => {
                Ok(Stateid4 { seqid: 0, ..stateid })
            }
            Held::Lost => Err(Error::StateLost),
        }
    }

    /// The server has opened it again under this stateid; `false` when nobody will close that open.
    pub(crate) fn reopened(&self, new: Stateid4) -> bool {
        let mut held = self.held();
        *held = match *held {
            Held::Open(_) => Held::Open(new),
            Held::Closing { .. } => Held::Closing { stateid: new, sent: false },
            Held::Closed(_) | Held::Lost => return false,
        };
        true
    }

    /// It cannot be opened again, and what was locked in it is unlocked.
    pub(crate) fn lose(&self) {
        *self.held() = Held::Lost;
        for owner in self.0.locks.all() {
            owner.lose();
        }
    }

    /// Whether it need not be opened again.
    pub(crate) fn is_past(&self) -> bool {
        !matches!(*self.held(), Held::Open(_))
    }

    /// The stateid for a CLOSE that goes out now.
    pub(crate) fn closing_stateid(&self) -> Result<Stateid4> {
        if let Held::Closing { sent, .. } = &mut *self.held() {
            *sent = true;
        }
        self.stateid()
    }

    /// A CLOSE was answered; `false` when the server has opened the file again since that was sent.
    pub(crate) fn closed(&self) -> bool {
        let mut held = self.held();
        if let Held::Closing { stateid, sent } = *held {
            if !sent {
                return false;
            }
            *held = Held::Closed(stateid);
        }
        true
    }
}

/// All files that are open at the server.
#[derive(Debug, Default)]
pub(crate) struct Opens {
    files: Mutex<HashMap<u64, OpenFile>>,
}

impl Opens {
    fn files(&self) -> std::sync::MutexGuard<'_, HashMap<u64, OpenFile>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, state: OpenState, handle: Handle, stateid: Stateid4, rflags: u32) -> OpenFile {
        let id = state.id;
        let file = OpenFile(Arc::new(Shared {
            state,
            handle,
            rflags,
            stateid: Mutex::new(Held::Open(stateid)),
            locks: FileLocks::default(),
        }));
        self.files().insert(id, file.clone());
        file
    }

    /// Marks a file as being closed, so that it is no longer reclaimed; `false` when there is nothing to close:
    /// it is closed, being closed, or lost already.
    pub(crate) fn start_closing(&self, file: &OpenFile) -> bool {
        if self.files().remove(&file.0.state.id).is_none() {
            return false;
        }
        let mut held = file.held();
        match *held {
            Held::Open(stateid) => {
                *held = Held::Closing { stateid, sent: false };
                true
            }
            Held::Closing { .. } | Held::Closed(_) | Held::Lost => false,
        }
    }

    /// Every open file, for a reclaim. What is lost is not among them.
    pub(crate) fn all(&self) -> Vec<OpenFile> {
        self.files().values().filter(|file| !file.is_lost()).cloned().collect()
    }
}
