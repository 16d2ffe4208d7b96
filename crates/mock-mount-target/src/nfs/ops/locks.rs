//! LOCK, LOCKT and LOCKU (RFC 8881 §18.10–18.12). All locks are advisory.

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::ops::lock::{Lock4args, Lock4denied, Lock4resok, LockRes, Locker4, Lockt4args, Locku4args, NfsLockType4};
use nfs4::ops::open::share;
use nfs4::types::{StateOwner4, Stateid4};

use crate::nfs::compound::Context;
use crate::nfs::memfs::FileId;
use crate::nfs::server::Server;
use crate::nfs::state::StateNumber;
use crate::nfs::state::ranges::{ByteRange, Lock, RangeLocks};

/// Lock states at most, of all clients, with locks or without.
const MOST_LOCK_STATES: usize = 1 << 20;

/// Why a lock is not given.
enum Refusal {
    Denied(Lock),
    Error(Nfs4Error),
}

impl From<Nfs4Error> for Refusal {
    fn from(error: Nfs4Error) -> Self {
        Self::Error(error)
    }
}

fn is_write(kind: NfsLockType4) -> Result<bool, Nfs4Error> {
    match kind {
        NfsLockType4::Read | NfsLockType4::ReadW => Ok(false),
        NfsLockType4::Write | NfsLockType4::WriteW => Ok(true),
        NfsLockType4::Unknown(_) => Err(Nfs4Error::Inval),
    }
}

impl Server {
    pub(super) fn lock(&mut self, cx: &mut Context<'_>, args: &Lock4args) -> LockRes<Lock4resok> {
        match self.try_lock(cx, args) {
            Ok(lock_stateid) => {
                cx.set_stateid(lock_stateid);
                LockRes::Ok(Lock4resok { lock_stateid })
            }
            Err(refusal) => self.refused(&refusal),
        }
    }

    fn refused<T>(&self, refusal: &Refusal) -> LockRes<T> {
        match refusal {
            Refusal::Error(error) => LockRes::Err(*error),
            Refusal::Denied(lock) => {
                let holder = self.states.lock_state(lock.holder);
                LockRes::Denied(Lock4denied {
                    offset: lock.range.first,
                    length: lock.range.length(),
                    locktype: if lock.write { NfsLockType4::Write } else { NfsLockType4::Read },
                    owner: StateOwner4 {
                        clientid: holder.map_or(0, |holder| holder.client),
                        owner: holder.map(|holder| holder.owner.clone()).unwrap_or_default().into(),
                    },
                })
            }
        }
    }

    fn try_lock(&mut self, cx: &mut Context<'_>, args: &Lock4args) -> Result<Stateid4, Refusal> {
        let file = cx.file()?;
        self.fs.data(file)?;
        let write = is_write(args.locktype)?;
        let range = ByteRange::new(args.offset, args.length)?;
        self.may_get_state(cx, args.reclaim)?;
        let (open, holder, owner) = self.locker(cx, file, &args.locker)?;
        let access = if write { share::ACCESS_WRITE } else { share::ACCESS_READ };
        if self.states.open(open).is_none_or(|open| open.access & access == 0) {
            return Err(Nfs4Error::Openmode.into());
        }
        if args.reclaim {
            let client = self.clients.get(cx.client).ok_or(Nfs4Error::ReclaimBad)?;
            let want = Lock { holder: 0, range, write };
            if !self.grace.had_lock(&client.owner, &owner, file, &want) {
                return Err(Nfs4Error::ReclaimBad.into());
            }
        }
        let locks = self.states.ranges(file);
        if let Some(lock) = locks.and_then(|locks| locks.conflict(holder, range, write)) {
            return Err(if args.reclaim { Nfs4Error::ReclaimConflict.into() } else { Refusal::Denied(*lock) });
        }
        let held = locks.map_or(0, RangeLocks::len);
        if held >= self.config.max_locks_of_file()
            || self.states.lock_state_count() >= MOST_LOCK_STATES
            || self.states.lock_count(cx.client) >= self.config.max_locks_of_client()
        {
            return Err(Nfs4Error::Dquot.into());
        }
        let number = self.states.add_lock_state(cx.client, &owner, file, open);
        self.states.ranges_mut(file).lock(number, range, write);
        self.states.bump_lock(number);
        Ok(self.states.stateid(number))
    }

    /// The open behind a LOCK, the lock state if there is one already, and the lock-owner.
    fn locker(
        &mut self,
        cx: &Context<'_>,
        file: FileId,
        locker: &Locker4,
    ) -> Result<(StateNumber, Option<StateNumber>, Bytes), Nfs4Error> {
        match locker {
            Locker4::Exist(exist) => {
                let number = self.lock_of(cx, file, &exist.lock_stateid)?;
                let lock = self.states.lock_state(number).ok_or(Nfs4Error::BadStateid)?;
                Ok((lock.open, Some(number), lock.owner.clone()))
            }
            Locker4::OpenOwner(new) => {
                let open = self.open_of(cx, file, &new.open_stateid)?;
                if new.lock_owner.owner.len() > nfs4::types::NFS4_OPAQUE_LIMIT {
                    return Err(Nfs4Error::Inval);
                }
                let owner = Bytes::copy_from_slice(&new.lock_owner.owner);
                let holder = self.states.find_lock(cx.client, &owner, file);
                Ok((open, holder, owner))
            }
        }
    }

    pub(super) fn lockt(&mut self, cx: &mut Context<'_>, args: &Lockt4args) -> LockRes<()> {
        match self.try_lockt(cx, args) {
            Ok(()) => LockRes::Ok(()),
            Err(refusal) => self.refused(&refusal),
        }
    }

    fn try_lockt(&mut self, cx: &mut Context<'_>, args: &Lockt4args) -> Result<(), Refusal> {
        let file = cx.file()?;
        self.fs.data(file)?;
        let write = is_write(args.locktype)?;
        let range = ByteRange::new(args.offset, args.length)?;
        if self.grace.is_on() {
            return Err(Nfs4Error::Grace.into());
        }
        let holder = self.states.find_lock(cx.client, &args.owner.owner, file);
        match self.states.ranges(file).and_then(|locks| locks.conflict(holder, range, write)) {
            Some(lock) => Err(Refusal::Denied(*lock)),
            None => Ok(()),
        }
    }

    pub(super) fn locku(&mut self, cx: &mut Context<'_>, args: &Locku4args) -> Result<Stateid4, Nfs4Error> {
        let file = cx.file()?;
        let range = ByteRange::new(args.offset, args.length)?;
        is_write(args.locktype)?;
        let number = self.lock_of(cx, file, &args.lock_stateid)?;
        self.states.unlock(number, range);
        let stateid = self.states.stateid(number);
        cx.set_stateid(stateid);
        Ok(stateid)
    }
}
