//! Locks of programs, kept at the server and so shared by all mounts (RFC 8881 §9.1).
//!
//! The server decides every conflict, also between two programs of this mount: each lock owner of the kernel is an owner
//! of its own at the server. Three things are added here:
//!
//! - **One owner, one open.** A program may open a file several times and its locks are one set all the same. At the
//!   server locks belong to an open, so all locks of an owner go through one, its *carrier*; when that does not allow
//!   writing and a write lock is wanted, they move to another one.
//! - **Locks guard data.** What was written goes to the server before a lock is given back, and pages that may be old
//!   are dropped when one is taken. Whoever locks before reading and writing sees what the last holder wrote.
//! - **Waiting is asking again**, in growing steps, and at once when a lock of this mount in the file goes. Who waits holds
//!   up nobody.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nfs4_client::{Errno, FileAttr, LockKind, LockRange, Locked as Answer, OpenAccess, OpenFile};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::files::OpenHandle;
use crate::node::{Node, ServerOpen};
use crate::sync::Locked;
use crate::types::Fh;
use crate::vfs::Vfs;
use crate::write::flush::Goal;

/// First and longest pause before the server is asked again for a lock that somebody has.
const FIRST_PAUSE: Duration = Duration::from_millis(33);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often a waiter looks whether it has been interrupted.
const CHECK: Duration = Duration::from_millis(50);

/// Who locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The kernel's number for the process or open file that owns the lock.
    pub owner: u64,
    /// The process, to be shown to others; 0 when it is not known.
    pub pid: u32,
}

/// A lock of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// Its bytes.
    pub range: LockRange,
    /// Its kind.
    pub kind: LockKind,
    /// The process that holds it; 0 when it is not of this mount.
    pub pid: u32,
}

/// Who holds locks in a file, or has asked for some.
#[derive(Debug, Default)]
pub(crate) struct Lockers {
    owners: HashMap<u64, Arc<Locker>>,
    /// A lock in the file went.
    freed: Arc<Notify>,
}

impl Lockers {
    /// Nobody holds a lock or has asked for one.
    pub(crate) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }
}

#[derive(Debug)]
struct Locker {
    owner: u64,
    pid: AtomicU32,
    /// Its requests go one after the other.
    turn: Arc<Semaphore>,
    carrier: Locked<Option<Carrier>>,
    /// The handles through which it has locked.
    handles: Locked<HashSet<u64>>,
    /// Somebody else may have had a lock of its meanwhile.
    lost: AtomicBool,
}

/// The open through which an owner's locks go.
#[derive(Debug, Clone)]
struct Carrier {
    open: Arc<ServerOpen>,
    /// As it was when the locks were taken: an open that had to be made again has none.
    file: OpenFile,
}

impl Carrier {
    fn is_lost(&self, owner: u64) -> bool {
        self.file.lost_locks()
            || (self.file.holds_locks(owner) && !self.open.file().is_some_and(|file| self.file.is(&file)))
    }
}

impl Locker {
    fn new(owner: u64) -> Self {
        Self {
            owner,
            pid: AtomicU32::new(0),
            turn: Arc::new(Semaphore::new(1)),
            carrier: Locked::default(),
            handles: Locked::default(),
            lost: AtomicBool::new(false),
        }
    }

    fn carrier(&self) -> Option<Carrier> {
        self.carrier.lock().clone()
    }

    fn has_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire) || self.carrier().is_some_and(|carrier| carrier.is_lost(self.owner))
    }
}

impl Lockers {
    fn get(&self, owner: u64) -> Option<Arc<Locker>> {
        self.owners.get(&owner).cloned()
    }

    fn has_lost(&self) -> bool {
        self.owners.values().any(|locker| locker.has_lost())
    }
}

/// Two ranges have bytes in common.
fn overlap(one: LockRange, other: LockRange) -> bool {
    one.first <= other.last && other.first <= one.last
}

impl Vfs {
    /// Waits for an owner's turn in a file. Without `new`, only for one that is known.
    async fn locker(&self, node: &Node, owner: u64, new: bool) -> Option<(Arc<Locker>, OwnedSemaphorePermit)> {
        loop {
            let locker = {
                let mut state = node.lock();
                let lockers = &mut state.file().lockers;
                match lockers.get(owner) {
                    Some(locker) => locker,
                    None if new => Arc::clone(lockers.owners.entry(owner).or_insert(Arc::new(Locker::new(owner)))),
                    None => return None,
                }
            };
            let permit = Arc::clone(&locker.turn).acquire_owned().await.ok()?;
            let current = node.lock().file().lockers.get(owner);
            // It may have gone while we waited; then another stands in its place, or none.
            if current.is_some_and(|current| Arc::ptr_eq(&current, &locker)) {
                return Some((locker, permit));
            }
        }
    }

    /// Refuses to read and write where a lock was lost: somebody else may be doing so.
    pub(crate) fn check_locks(node: &Node) -> Result<()> {
        let lost = node.lock().known_file().is_some_and(|file| file.lockers.has_lost());
        if lost { Err(Error::LockLost) } else { Ok(()) }
    }

    /// The lock of somebody else that would be in the way of this one. One round trip.
    pub async fn getlk(&self, fh: Fh, caller: Caller, range: LockRange, kind: LockKind) -> Result<Option<Lock>> {
        let handle = self.handle(fh).await?;
        let carrier = handle.node.lock().file().lockers.get(caller.owner).and_then(|locker| locker.carrier());
        let open = carrier.map_or_else(|| Arc::clone(&handle.open), |carrier| carrier.open);
        let owner = caller.owner;
        let asked =
            self.through(&open, |client, file| async move { client.test_lock(&file, owner, range, kind).await });
        let Some(conflict) = asked.await.map_err(no_locks)? else { return Ok(None) };
        let mut state = handle.node.lock();
        let holds = |locker: &&Arc<Locker>| {
            let held = locker.carrier().map(|carrier| carrier.file.locks_of(locker.owner)).unwrap_or_default();
            held.iter().any(|(range, kind)| *kind == conflict.kind && overlap(*range, conflict.range))
        };
        let holder = state.file().lockers.owners.values().find(holds);
        let pid = holder.map_or(0, |holder| holder.pid.load(Ordering::Relaxed));
        Ok(Some(Lock { range: conflict.range, kind: conflict.kind, pid }))
    }

    /// Takes a lock; with `interrupted` waits for it, until that says true. One round trip when it is free, and those of
    /// the writes that come before.
    ///
    /// # Errors
    /// [`Error::Locked`] when somebody has it and nobody waits; [`Error::Interrupted`]; [`Error::NoLocks`].
    pub async fn lock(
        &self,
        fh: Fh,
        caller: Caller,
        range: LockRange,
        kind: LockKind,
        interrupted: Option<&(dyn Fn() -> bool + Send + Sync)>,
    ) -> Result<()> {
        let handle = self.handle(fh).await?;
        let freed = Arc::clone(&handle.node.lock().file().lockers.freed);
        let mut pause = FIRST_PAUSE;
        loop {
            let chance = freed.notified();
            tokio::pin!(chance);
            chance.as_mut().enable();
            let (vfs, at) = (self.clone(), Arc::clone(&handle));
            let attempt = async move { vfs.try_lock(&at, fh, caller, range, kind).await };
            if self.to_its_end(attempt).await? {
                return Ok(());
            }
            let Some(interrupted) = interrupted else { return Err(Error::Locked) };
            let until = Instant::now() + pause;
            loop {
                if interrupted() {
                    return Err(Error::Interrupted);
                }
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                tokio::select! {
                    () = &mut chance => break,
                    () = self.mount().waits.cancelled() => return Err(Error::Interrupted),
                    () = tokio::time::sleep(left.min(CHECK)) => {}
                }
            }
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }

    /// Whoever waits for a lock is told that it was interrupted, from now on.
    pub fn stop_waiting(&self) {
        self.mount().waits.cancel();
    }

    /// Whether an owner's locks in a file are good: none was lost to somebody else since it was taken.
    pub async fn keeps_locks(&self, fh: Fh, caller: Caller) -> Result<bool> {
        let handle = self.handle(fh).await?;
        let locker = handle.node.lock().file().lockers.get(caller.owner);
        Ok(locker.is_none_or(|locker| !locker.has_lost()))
    }

    /// False: somebody else's lock is in the way.
    async fn try_lock(
        &self,
        handle: &Arc<OpenHandle>,
        fh: Fh,
        caller: Caller,
        range: LockRange,
        kind: LockKind,
    ) -> Result<bool> {
        let node = &handle.node;
        let Some((locker, _turn)) = self.locker(node, caller.owner, true).await else { return Err(Error::Closed) };
        locker.pid.store(caller.pid, Ordering::Relaxed);
        locker.handles.lock().insert(fh.0);
        self.flush_node(node, Goal::Sent).await;
        let Some(open) = self.carry(handle, &locker, range, kind).await? else { return Ok(false) };
        let owner = caller.owner;
        let sent = Instant::now();
        let asked = self.through(&open, |client, file| async move { client.lock(&file, owner, range, kind).await });
        let answer = asked.await.map_err(no_locks);
        let file = self.file_of(&open).await?;
        match answer {
            Ok(Answer::Granted(attr)) => {
                *locker.carrier.lock() = Some(Carrier { open, file });
                locker.lost.store(false, Ordering::Release);
                self.see_others_data(handle, attr, sent).await?;
                Ok(true)
            }
            refused => {
                self.drop_idle_carrier(node, &locker).await;
                refused.map(|_| false)
            }
        }
    }

    /// The open through which a lock is to go. `None`: it would not be given.
    async fn carry(
        &self,
        handle: &OpenHandle,
        locker: &Locker,
        range: LockRange,
        kind: LockKind,
    ) -> Result<Option<Arc<ServerOpen>>> {
        let (node, owner, writes) = (&handle.node, locker.owner, kind == LockKind::Write);
        let old = locker.carrier();
        if let Some(old) = &old
            && old.open.suits(writes)
        {
            return Ok(Some(Arc::clone(&old.open)));
        }
        let client = &self.mount().client;
        let held = old.as_ref().map(|old| old.file.locks_of(owner)).unwrap_or_default();
        if let Some(old) = &old
            && !held.is_empty()
            && client.test_lock(&old.file, owner, range, kind).await.map_err(Error::from).map_err(no_locks)?.is_some()
        {
            return Ok(None);
        }
        let joined = node.lock().file().join_for(&handle.open.cred, writes);
        let open = match joined {
            Some(open) => open,
            None => self.open_for_locks(handle).await?,
        };
        let file = self.file_of(&open).await?;
        *locker.carrier.lock() = Some(Carrier { open: Arc::clone(&open), file: file.clone() });
        let Some(old) = old else { return Ok(Some(open)) };
        // To the server the two opens are two owners, who would be in each other's way.
        let moved = async {
            client.unlock(&old.file, owner, LockRange::ALL).await?;
            for (range, kind) in held {
                if client.lock(&file, owner, range, kind).await?.conflict().is_some() {
                    return Ok(false);
                }
            }
            Ok::<_, nfs4_client::Error>(true)
        };
        let moved = moved.await;
        self.leave(node, &old.open).await;
        if matches!(moved, Ok(true)) {
            return Ok(Some(open));
        }
        tracing::warn!(ino = node.ino(), "a lock is lost: somebody else took it while it was made a stronger one");
        locker.lost.store(true, Ordering::Release);
        Err(Error::LockLost)
    }

    /// `flock` takes an exclusive lock on a file that is open for reading only; the server wants it open for writing.
    async fn open_for_locks(&self, handle: &OpenHandle) -> Result<Arc<ServerOpen>> {
        let node = &handle.node;
        let sent = Instant::now();
        let opened = self.mount().client.open_handle(&handle.open.cred, &node.handle, OpenAccess::Both).await;
        // What `flock` says of a file system that needs the right to write; flock(1) then opens the file in another way.
        let opened = opened.map_err(|error| match error.errno() {
            Errno::Access | Errno::RoFs | Errno::Perm => Error::BadHandle,
            _ => error.into(),
        })?;
        let open = ServerOpen::new(opened.file);
        self.take_attr(node, &opened.attr, sent);
        node.lock().file().opens.push(Arc::clone(&open));
        Ok(open)
    }

    /// A lock was given: what somebody else wrote under it before must be seen.
    async fn see_others_data(&self, handle: &OpenHandle, attr: Option<FileAttr>, sent: Instant) -> Result<()> {
        let node = &handle.node;
        match attr {
            Some(attr) => self.take_attr(node, &attr, sent),
            None => self.revalidate(&handle.open.cred, node).await?,
        };
        let (version, may_be_old) = {
            let mut state = node.lock();
            let file = state.file();
            if std::mem::take(&mut file.mixed) {
                file.version += 1;
                file.taint(&(0..u64::MAX));
                self.mount().pages.lock().drop_file(node.id.serial);
            }
            // Also when somebody else has seen the change, and the kernel is only about to be told.
            (file.version, file.kernel_version != Some(file.version))
        };
        if may_be_old && self.mount().kernel.drop_now(node.ino()).await {
            node.lock().file().kernel_version = Some(version);
        }
        Ok(())
    }

    /// An open that carries no lock is not kept for it.
    async fn drop_idle_carrier(&self, node: &Arc<Node>, locker: &Locker) {
        let idle = {
            let mut carrier = locker.carrier.lock();
            let is_idle = carrier.as_ref().is_some_and(|carrier| !carrier.file.holds_locks(locker.owner));
            if is_idle { carrier.take() } else { None }
        };
        if let Some(idle) = idle {
            self.leave(node, &idle.open).await;
        }
    }

    /// Gives locks back; bytes that are not locked may be in the range. What was written under them is on the server's
    /// stable storage first.
    pub async fn unlock(&self, fh: Fh, caller: Caller, range: LockRange) -> Result<()> {
        let handle = self.handle(fh).await?;
        let vfs = self.clone();
        let work = async move {
            let node = &handle.node;
            let Some((locker, _turn)) = vfs.locker(node, caller.owner, false).await else { return Ok(()) };
            vfs.flush_node(node, Goal::Stable).await;
            vfs.give_back(node, &locker, range).await
        };
        self.to_its_end(work).await
    }

    async fn give_back(&self, node: &Arc<Node>, locker: &Locker, range: LockRange) -> Result<()> {
        if range == LockRange::ALL {
            locker.lost.store(false, Ordering::Release);
        }
        let Some(carrier) = locker.carrier() else { return Ok(()) };
        let done = self.mount().client.unlock(&carrier.file, locker.owner, range).await;
        self.drop_idle_carrier(node, locker).await;
        let freed = Arc::clone(&node.lock().file().lockers.freed);
        freed.notify_waiters();
        match done {
            // It is closed or lost at the server, and its locks with it.
            Err(nfs4_client::Error::StateLost) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// An owner closes the file: all its locks in it go, whichever open they were taken through. What was written under
    /// them is on the server's stable storage first; what went wrong is told to who wrote it.
    pub(crate) async fn release_owner(&self, node: &Arc<Node>, owner: u64) {
        let known = node.lock().known_file().is_some_and(|file| file.lockers.get(owner).is_some());
        if !known {
            return;
        }
        let (vfs, node) = (self.clone(), Arc::clone(node));
        let work = async move {
            let Some((locker, _turn)) = vfs.locker(&node, owner, false).await else { return Ok(()) };
            if locker.carrier().is_some_and(|carrier| carrier.file.holds_locks(owner)) {
                vfs.flush_node(&node, Goal::Stable).await;
            }
            if let Err(error) = vfs.give_back(&node, &locker, LockRange::ALL).await {
                tracing::debug!(ino = node.ino(), %error, "LOCKU");
            }
            let left = locker.carrier.lock().take();
            if let Some(left) = left {
                vfs.leave(&node, &left.open).await;
            }
            node.lock().file().lockers.owners.remove(&owner);
            Ok(())
        };
        // An error would mean that the runtime is gone.
        let _ = self.to_its_end(work).await;
    }

    /// A handle is closed for good. Processes have given back what they held (each `close` says so); what is left was
    /// owned by the open file itself: `flock` and open file description locks.
    pub(crate) async fn release_locks_of(&self, node: &Arc<Node>, fh: Fh) {
        let owners: Vec<u64> = {
            let mut state = node.lock();
            let Some(file) = state.known_file() else { return };
            let through = |locker: &&Arc<Locker>| locker.handles.lock().contains(&fh.0);
            file.lockers.owners.values().filter(through).map(|locker| locker.owner).collect()
        };
        for owner in owners {
            self.release_owner(node, owner).await;
        }
    }
}

/// A server without locks, or with no more of them, is ENOLCK to programs.
fn no_locks(error: Error) -> Error {
    match error.errno() {
        Errno::NotSup | Errno::Dquot | Errno::NoSpc | Errno::NoLck => Error::NoLocks,
        _ => error,
    }
}
