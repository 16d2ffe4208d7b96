//! Byte-range locks (RFC 8881 §9.1, §18.10–18.12) and what is remembered of them so that they can be had again after
//! the server forgot.
//!
//! The locks of an owner in an open file are kept as ranges that do not overlap ([`Ranges`]), as POSIX describes them:
//! a new lock replaces what it covers, an unlock cuts holes. Requests of one owner in one file go one after the other,
//! as the calls of a process do; those of different owners do not wait for each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::lock::{
    ExistLockOwner4, FreeStateid4args, Lock4args, Lock4denied, LockRes, Locker4, Lockt4args, Locku4args, NfsLockType4,
    OpenToLockOwner4,
};
use nfs4::types::{StateOwner4, Stateid4};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::attr::{FILE_ATTRS, FileAttr};
use crate::client::{Client, file_attr, getattr, putfh};
use crate::compound::{Replies, next};
use crate::engine::Request;
use crate::error::{Error, Result};
use crate::state::OpenFile;

/// Kind of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// Shared.
    Read,
    /// Exclusive.
    Write,
}

impl LockKind {
    fn to_wire(self) -> NfsLockType4 {
        match self {
            Self::Read => NfsLockType4::Read,
            Self::Write => NfsLockType4::Write,
        }
    }
}

/// Bytes `first..=last`; `last` of `u64::MAX` is the end of the file, wherever that will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LockRange {
    /// First byte.
    pub first: u64,
    /// Last byte.
    pub last: u64,
}

impl LockRange {
    /// The whole file.
    pub const ALL: Self = Self { first: 0, last: u64::MAX };

    fn length(self) -> u64 {
        if self.last == u64::MAX { u64::MAX } else { self.last - self.first + 1 }
    }

    fn from_wire(offset: u64, length: u64) -> Self {
        let last = if length == u64::MAX { u64::MAX } else { offset.saturating_add(length.saturating_sub(1)) };
        Self { first: offset, last }
    }
}

/// A lock of somebody else that is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// Its bytes.
    pub range: LockRange,
    /// Its kind.
    pub kind: LockKind,
}

impl From<Lock4denied> for Conflict {
    fn from(denied: Lock4denied) -> Self {
        let kind = match denied.locktype {
            NfsLockType4::Read | NfsLockType4::ReadW => LockKind::Read,
            _ => LockKind::Write,
        };
        Self { range: LockRange::from_wire(denied.offset, denied.length), kind }
    }
}

/// The locks of one owner in one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ranges(Vec<(LockRange, LockKind)>);

impl Ranges {
    /// Puts `range` in place of whatever it covers; without a kind, only cuts.
    fn put(&mut self, range: LockRange, kind: Option<LockKind>) {
        let mut kept = Vec::with_capacity(self.0.len() + 2);
        for (old, old_kind) in self.0.drain(..) {
            if old.last < range.first || old.first > range.last {
                kept.push((old, old_kind));
                continue;
            }
            if old.first < range.first {
                kept.push((LockRange { first: old.first, last: range.first - 1 }, old_kind));
            }
            if old.last > range.last {
                kept.push((LockRange { first: range.last + 1, last: old.last }, old_kind));
            }
        }
        kept.extend(kind.map(|kind| (range, kind)));
        kept.sort_by_key(|(range, _)| range.first);
        self.0 = kept;
    }

    /// Whether any byte of `range` is locked.
    fn meet(&self, range: LockRange) -> bool {
        self.0.iter().any(|(held, _)| held.first <= range.last && range.first <= held.last)
    }
}

/// The locks in one open file.
#[derive(Debug, Default)]
pub(crate) struct FileLocks {
    owners: Mutex<HashMap<u64, Arc<Owner>>>,
}

#[derive(Debug)]
pub(crate) struct Owner {
    id: u64,
    turn: Arc<Semaphore>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// None as long as the server knows of no lock of this owner in this file.
    stateid: Option<Stateid4>,
    ranges: Ranges,
    /// Somebody else has had the range since: what was done under the lock cannot be trusted.
    lost: bool,
}

/// An owner as it stands on the wire; the same number in two opens is two owners.
fn lock_owner(file: &OpenFile, owner: u64) -> StateOwner4 {
    let owner: Bytes = format!("lock:{}:{owner:x}", file.owner_id()).into();
    StateOwner4 { clientid: 0, owner: owner.into() }
}

impl Owner {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its state at the server, for TEST_STATEID.
    pub(crate) fn stateid(&self) -> Option<Stateid4> {
        self.held().stateid.map(|stateid| Stateid4 { seqid: 0, ..stateid })
    }

    /// What it holds, for a reclaim.
    pub(crate) fn ranges(&self) -> Vec<(LockRange, LockKind)> {
        self.held().ranges.0.clone()
    }

    /// The server has forgotten its state.
    pub(crate) fn forget_state(&self) {
        self.held().stateid = None;
    }

    /// Its locks are gone and were not to be had again.
    pub(crate) fn lose(&self) {
        let mut held = self.held();
        held.lost = true;
        held.stateid = None;
        held.ranges = Ranges::default();
    }

    /// LOCK as it has to be sent now.
    pub(crate) fn lock_op(&self, file: &OpenFile, range: LockRange, kind: LockKind, reclaim: bool) -> Result<Argop4> {
        let locker = match self.stateid() {
            Some(lock_stateid) => Locker4::Exist(ExistLockOwner4 { lock_stateid, lock_seqid: 0 }),
            None => Locker4::OpenOwner(OpenToLockOwner4 {
                open_seqid: 0,
                open_stateid: file.stateid()?,
                lock_seqid: 0,
                lock_owner: lock_owner(file, self.id),
            }),
        };
        Ok(Argop4::Lock(Lock4args {
            locktype: kind.to_wire(),
            reclaim,
            offset: range.first,
            length: range.length(),
            locker,
        }))
    }

    /// Takes LOCK's result; a conflict is an answer.
    pub(crate) fn locked(&self, replies: &mut Replies) -> Result<Option<Conflict>> {
        match replies.take("LOCK")? {
            Resop4::Lock(LockRes::Ok(ok)) => {
                self.held().stateid = Some(ok.lock_stateid);
                Ok(None)
            }
            Resop4::Lock(LockRes::Denied(denied)) => Ok(Some(denied.into())),
            Resop4::Lock(LockRes::Err(status)) => Err(Error::Nfs { op: "LOCK", status }),
            other => Err(Replies::mismatch("LOCK", &other)),
        }
    }
}

/// What LOCK brought.
#[derive(Debug, Clone, Copy)]
pub enum Locked {
    /// The lock, and the file's attributes as they were once it was given.
    Granted(Option<FileAttr>),
    /// Somebody else's lock is in the way.
    Denied(Conflict),
}

impl Locked {
    /// The lock that is in the way.
    pub fn conflict(&self) -> Option<Conflict> {
        match self {
            Self::Granted(_) => None,
            Self::Denied(conflict) => Some(*conflict),
        }
    }
}

/// An owner whose turn it is: its requests in one file go one after the other.
struct Turn {
    owner: Arc<Owner>,
    _permit: OwnedSemaphorePermit,
}

impl std::ops::Deref for Turn {
    type Target = Arc<Owner>;

    fn deref(&self) -> &Arc<Owner> {
        &self.owner
    }
}

impl FileLocks {
    /// Waits for the owner's turn.
    async fn turn_of(&self, id: u64) -> Result<Turn> {
        loop {
            let owner = self.owner(id);
            let permit = Arc::clone(&owner.turn).acquire_owned().await.map_err(|_| Error::Closed)?;
            // It may have been forgotten while we waited; then another stands in its place.
            if self.owners().get(&id).is_some_and(|current| Arc::ptr_eq(current, &owner)) {
                return Ok(Turn { owner, _permit: permit });
            }
        }
    }

    fn knows(&self, id: u64) -> bool {
        self.owners().contains_key(&id)
    }

    /// Only in the owner's turn.
    fn forget(&self, owner: &Owner) {
        self.owners().remove(&owner.id);
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<u64, Arc<Owner>>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owner(&self, id: u64) -> Arc<Owner> {
        let new = || Arc::new(Owner { id, turn: Arc::new(Semaphore::new(1)), held: Mutex::default() });
        Arc::clone(self.owners().entry(id).or_insert_with(new))
    }

    /// Every owner that may hold a lock.
    pub(crate) fn all(&self) -> Vec<Arc<Owner>> {
        self.owners().values().cloned().collect()
    }
}

impl Client {
    /// LOCK without waiting. `owner` is any number that stands for the process or the open file that locks; its own
    /// locks are never in its way. A lock that is given after its caller has stopped waiting is given back, and with it
    /// what the owner held of the range before, which then is lost.
    pub async fn lock(&self, file: &OpenFile, owner: u64, range: LockRange, kind: LockKind) -> Result<Locked> {
        let (client, file) = (self.clone(), file.clone());
        let work = async move {
            let owner = file.locks().turn_of(owner).await?;
            let (locked, lost) = client.lock_now(&file, &owner, range, kind).await?;
            // In the same turn: the owner may be waiting to try again.
            let undo = async move {
                if let Locked::Denied(_) = locked {
                    return;
                }
                if let Err(error) = client.unlock_now(&file, &owner, range).await {
                    tracing::warn!(%error, "a lock that nobody waits for any more stays until the file is closed");
                    return;
                }
                let is_unused = {
                    let mut held = owner.held();
                    held.lost |= lost;
                    !held.lost && held.ranges.0.is_empty()
                };
                if is_unused {
                    file.locks().forget(&owner);
                }
            };
            Ok((locked, undo))
        };
        self.engine().taken_or_undone(Box::pin(work)).await
    }

    /// Also says whether the owner has lost locks once this one is given back: those lost before, or those that it
    /// replaced.
    async fn lock_now(
        &self,
        file: &OpenFile,
        owner: &Turn,
        range: LockRange,
        kind: LockKind,
    ) -> Result<(Locked, bool)> {
        let (state, asking) = (file.clone(), Arc::clone(owner));
        let request = Request::changing(file.cred(), move || {
            let lock = asking.lock_op(&state, range, kind, false)?;
            Ok(vec![putfh(state.handle()), lock, getattr(FILE_ATTRS)])
        });
        let mut replies = self.engine().call_without_limit(request).await?.replies;
        next!(replies, Putfh, "PUTFH")?;
        if let Some(conflict) = owner.locked(&mut replies)? {
            return Ok((Locked::Denied(conflict), false));
        }
        let mut held = owner.held();
        let lost = held.lost || held.ranges.meet(range);
        held.ranges.put(range, Some(kind));
        held.lost = false;
        Ok((Locked::Granted(file_attr(&mut replies).ok()), lost))
    }

    /// LOCKU. Bytes that are not locked may be in the range. An owner that holds nothing any more is forgotten, here and
    /// at the server; nothing is sent for one that holds nothing.
    pub async fn unlock(&self, file: &OpenFile, owner: u64, range: LockRange) -> Result<()> {
        if !file.locks().knows(owner) {
            return Ok(());
        }
        let (client, file) = (self.clone(), file.clone());
        let task = self.engine().tasks().spawn(async move {
            let owner = file.locks().turn_of(owner).await?;
            client.unlock_now(&file, &owner, range).await?;
            if owner.ranges().is_empty() {
                file.locks().forget(&owner);
            }
            Ok(())
        });
        self.engine().within_limit(async { task.await.unwrap_or(Err(Error::Closed)) }).await
    }

    async fn unlock_now(&self, file: &OpenFile, owner: &Turn, range: LockRange) -> Result<()> {
        // A second time only when the locks were lost and had again while the request waited.
        while owner.stateid().is_some() && !self.try_unlock(file, owner, range).await? {}
        owner.held().ranges.put(range, None);
        Ok(())
    }

    /// Whether LOCKU was sent: there is nothing to send while the server knows no state of the owner. With the last lock
    /// the state goes as well (FREE_STATEID, RFC 8881 §18.38).
    async fn try_unlock(&self, file: &OpenFile, owner: &Arc<Owner>, range: LockRange) -> Result<bool> {
        let last = {
            let mut left = owner.held().ranges.clone();
            left.put(range, None);
            left.0.is_empty()
        };
        let (state, asking) = (file.clone(), Arc::clone(owner));
        let request = Request::changing(file.cred(), move || {
            let mut ops = vec![putfh(state.handle())];
            if let Some(lock_stateid) = asking.stateid() {
                ops.push(Argop4::Locku(Locku4args {
                    locktype: NfsLockType4::Write,
                    seqid: 0,
                    lock_stateid,
                    offset: range.first,
                    length: range.length(),
                }));
                if last {
                    ops.push(Argop4::FreeStateid(FreeStateid4args { fsa_stateid: lock_stateid }));
                }
            }
            Ok(ops)
        });
        let mut replies = self.engine().call_without_limit(request).await?.replies;
        next!(replies, Putfh, "PUTFH")?;
        if replies.is_empty() {
            return Ok(false);
        }
        let unlocked = next!(replies, Locku, "LOCKU")?;
        // Where the server refuses FREE_STATEID, the CLOSE takes the state away: no lock is in it.
        let mut held = owner.held();
        if held.stateid.is_some() {
            held.stateid = (!last).then_some(unlocked);
        }
        Ok(true)
    }

    /// LOCKT: the lock of somebody else that would be in the way.
    pub async fn test_lock(
        &self,
        file: &OpenFile,
        owner: u64,
        range: LockRange,
        kind: LockKind,
    ) -> Result<Option<Conflict>> {
        let owner = lock_owner(file, owner);
        let state = file.clone();
        let mut replies = self
            .call(file.cred(), move || {
                let test = Lockt4args {
                    locktype: kind.to_wire(),
                    offset: range.first,
                    length: range.length(),
                    owner: owner.clone(),
                };
                Ok(vec![putfh(state.handle()), Argop4::Lockt(test)])
            })
            .await?
            .replies;
        next!(replies, Putfh, "PUTFH")?;
        match replies.take("LOCKT")? {
            Resop4::Lockt(LockRes::Ok(())) => Ok(None),
            Resop4::Lockt(LockRes::Denied(denied)) => Ok(Some(denied.into())),
            Resop4::Lockt(LockRes::Err(status)) => Err(Error::Nfs { op: "LOCKT", status }),
            other => Err(Replies::mismatch("LOCKT", &other)),
        }
    }
}

impl OpenFile {
    /// Whether locks in this file were lost to somebody else and not taken again since: data read or written under
    /// them cannot be trusted.
    pub fn lost_locks(&self) -> bool {
        self.locks().all().iter().any(|owner| owner.held().lost)
    }

    /// What `owner` holds in this file.
    pub fn locks_of(&self, owner: u64) -> Vec<(LockRange, LockKind)> {
        let owner = self.locks().owners().get(&owner).cloned();
        owner.map(|owner| owner.ranges()).unwrap_or_default()
    }

    /// Whether `owner` holds any lock in this file.
    pub fn holds_locks(&self, owner: u64) -> bool {
        let owners = self.locks().owners();
        owners.get(&owner).is_some_and(|owner| !owner.held().ranges.0.is_empty())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_range_to_the_end_survives_the_wire() {
        for range in [LockRange::ALL, LockRange { first: 7, last: u64::MAX }, LockRange { first: 7, last: 7 }] {
            assert_eq!(LockRange::from_wire(range.first, range.length()), range);
        }
    }

    #[test]
    fn a_range_from_a_liar_ends_at_the_end() {
        assert_eq!(LockRange::from_wire(u64::MAX, 10).last, u64::MAX);
        assert_eq!(LockRange::from_wire(5, 0), LockRange { first: 5, last: 5 });
    }

    proptest! {
        #[test]
        fn ranges_say_for_every_byte_what_was_put_last(
            puts in prop::collection::vec((0_u64..64, 0_u64..64, 0_u8..3), 0..40),
        ) {
            let mut bytes = [None; 64];
            let mut ranges = Ranges::default();
            for (one, other, kind) in puts {
                let range = LockRange { first: one.min(other), last: one.max(other) };
                let kind = [None, Some(LockKind::Read), Some(LockKind::Write)][usize::from(kind)];
                ranges.put(range, kind);
                for byte in range.first..=range.last {
                    bytes[byte as usize] = kind;
                }
            }
            for (byte, kind) in bytes.into_iter().enumerate() {
                let byte = byte as u64;
                let found: Vec<_> =
                    ranges.0.iter().filter(|(range, _)| range.first <= byte && byte <= range.last).collect();
                prop_assert!(found.len() <= 1, "overlap at {byte}");
                prop_assert_eq!(found.first().map(|(_, kind)| *kind), kind);
            }
        }
    }
}
