//! What a stateid in an operation stands for, and who may use it (RFC 8881 §8.2.2–8.2.5, §9.1.2, §16.2.3.1.2);
//! TEST_STATEID, FREE_STATEID and DELEGRETURN (§18.38, §18.48, §18.6).

use nfs4::Nfs4Error;
use nfs4::error::Status;
use nfs4::ops::lock::{FreeStateid4args, TestStateid4args, TestStateid4resok};
use nfs4::ops::open::{Delegreturn4args, share};
use nfs4::types::Stateid4;

use crate::nfs::compound::Context;
use crate::nfs::memfs::FileId;
use crate::nfs::rights::{READ, WRITE};
use crate::nfs::server::Server;
use crate::nfs::state::{Gone, Named, StateNumber};

impl Server {
    /// The stateid that an operation means: "current" stands for the one that the compound made before.
    fn resolved(&mut self, cx: &Context<'_>, stateid: &Stateid4) -> Result<Stateid4, Nfs4Error> {
        if *stateid != Stateid4::CURRENT {
            return Ok(*stateid);
        }
        cx.current.and_then(|handle| handle.stateid).ok_or_else(|| {
            self.referee.mistake("the current stateid where no operation made one".into());
            Nfs4Error::BadStateid
        })
    }

    /// The open or lock state that a stateid names; it must be the current file's.
    pub(super) fn state_of(&mut self, cx: &Context<'_>, file: FileId, stateid: &Stateid4) -> Result<Named, Nfs4Error> {
        let stateid = self.resolved(cx, stateid)?;
        if stateid.is_special() {
            self.referee.mistake("a special stateid where an open or a lock was needed".into());
            return Err(Nfs4Error::BadStateid);
        }
        let named = self.states.named(cx.client, &stateid).map_err(|gone| {
            match gone {
                Gone::Closed => self.referee.mistake("a stateid used after it was closed, freed or returned".into()),
                Gone::NeverWas => self.referee.mistake("a stateid that the server never gave to this client".into()),
                Gone::Status(_) => {}
            }
            gone.status()
        })?;
        let of = match named {
            Named::Open(number) => self.states.open(number).map(|open| open.file),
            Named::Lock(number) => self.states.lock_state(number).map(|lock| lock.file),
            Named::Delegation(number) => self.states.delegation(number).map(|held| held.file),
        };
        if of != Some(file) {
            self.referee.mistake("a stateid used with another file than its own".into());
            return Err(Nfs4Error::BadStateid);
        }
        Ok(named)
    }

    /// The open that a stateid names; a lock's stateid is refused.
    pub(super) fn open_of(
        &mut self,
        cx: &Context<'_>,
        file: FileId,
        stateid: &Stateid4,
    ) -> Result<StateNumber, Nfs4Error> {
        match self.state_of(cx, file, stateid)? {
            Named::Open(number) => Ok(number),
            Named::Lock(_) => {
                self.referee.mistake("a lock's stateid where an open's was needed".into());
                Err(Nfs4Error::BadStateid)
            }
            Named::Delegation(_) => {
                self.referee.mistake("a delegation's stateid where an open's was needed".into());
                Err(Nfs4Error::BadStateid)
            }
        }
    }

    /// The lock state that a stateid names; an open's stateid is refused.
    pub(super) fn lock_of(
        &mut self,
        cx: &Context<'_>,
        file: FileId,
        stateid: &Stateid4,
    ) -> Result<StateNumber, Nfs4Error> {
        match self.state_of(cx, file, stateid)? {
            Named::Lock(number) => Ok(number),
            Named::Open(_) | Named::Delegation(_) => {
                self.referee.mistake("an open's stateid where a lock's was needed".into());
                Err(Nfs4Error::BadStateid)
            }
        }
    }

    /// The delegation that a stateid names, of the file at hand.
    pub(super) fn delegation_of(
        &mut self,
        cx: &Context<'_>,
        file: FileId,
        stateid: &Stateid4,
    ) -> Result<StateNumber, Nfs4Error> {
        match self.state_of(cx, file, stateid)? {
            Named::Delegation(number) => Ok(number),
            Named::Open(_) | Named::Lock(_) => {
                self.referee.mistake("an open's or a lock's stateid where a delegation's was needed".into());
                Err(Nfs4Error::BadStateid)
            }
        }
    }

    /// Whether a stateid lets the caller read or write (`want`: [`READ`] or [`WRITE`]) the bytes of a file.
    ///
    /// With an open or a lock, the share access decides: who opened a file keeps it even if its mode changes. With a
    /// special stateid, the mode decides, and other clients' share denials.
    pub(super) fn may_use(&mut self, cx: &Context<'_>, file: FileId, stateid: &Stateid4, want: u32) -> Status {
        self.is_allowed(cx, file, stateid, want)?;
        if want == WRITE { self.recall_for_change(cx, file, false) } else { self.recall_for_look(cx, file) }
    }

    /// The same, without a thought of others' delegations.
    pub(super) fn is_allowed(&mut self, cx: &Context<'_>, file: FileId, stateid: &Stateid4, want: u32) -> Status {
        let access = if want == WRITE { share::ACCESS_WRITE } else { share::ACCESS_READ };
        let stateid = self.resolved(cx, stateid)?;
        if stateid == Stateid4::ANONYMOUS || stateid == Stateid4::READ_BYPASS {
            if self.grace.is_on() {
                return Err(Nfs4Error::Grace);
            }
            self.must(cx, file, want)?;
            let denied = self.states.opens_of(file).any(|(_, open)| open.revoked.is_none() && open.deny & access != 0);
            return if denied { Err(Nfs4Error::Locked) } else { Ok(()) };
        }
        let open = match self.state_of(cx, file, &stateid)? {
            Named::Open(number) => Some(number),
            Named::Lock(number) => self.states.lock_state(number).map(|lock| lock.open),
            Named::Delegation(number) => {
                let writes = self.states.delegation(number).is_some_and(|held| held.write);
                return if want == READ || writes { Ok(()) } else { Err(Nfs4Error::Openmode) };
            }
        };
        let granted = open.and_then(|number| self.states.open(number)).map_or(0, |open| open.access);
        if granted & access == 0 {
            debug_assert!(want == READ || want == WRITE);
            return Err(Nfs4Error::Openmode);
        }
        Ok(())
    }

    /// Asking about any stateid is never a mistake.
    pub(super) fn test_stateid(&self, cx: &Context<'_>, args: &TestStateid4args) -> TestStateid4resok {
        let status = |stateid: &Stateid4| {
            if stateid.is_special() {
                return Nfs4Error::BadStateid.into();
            }
            self.states.named(cx.client, stateid).map_or_else(|gone| gone.status().into(), |_| 0)
        };
        TestStateid4resok { tsr_status_codes: args.ts_stateids.iter().map(status).collect() }
    }

    /// Lets go of a revoked state, or of a lock state without locks; anything else that lives is LOCKS_HELD.
    pub(super) fn free_stateid(&mut self, cx: &mut Context<'_>, args: &FreeStateid4args) -> Status {
        let stateid = self.resolved(cx, &args.fsa_stateid)?;
        if stateid.is_special() {
            return Err(Nfs4Error::BadStateid);
        }
        if let Some(revoked) = self.states.revoked(cx.client, &stateid) {
            let number = match revoked {
                Named::Open(number) => {
                    self.states.close(number);
                    number
                }
                Named::Lock(number) => {
                    self.states.free_lock(number);
                    number
                }
                Named::Delegation(number) => {
                    self.states.return_delegation(number);
                    number
                }
            };
            // The server took it away; what the client sent before it knew may come in behind this.
            self.states.excuse_use_of(number);
            return Ok(());
        }
        match self.states.named(cx.client, &stateid).map_err(Gone::status)? {
            Named::Open(_) | Named::Delegation(_) => Err(Nfs4Error::LocksHeld),
            Named::Lock(number) => {
                let held = self.states.lock_state(number).and_then(|lock| self.states.ranges(lock.file));
                if held.is_some_and(|ranges| ranges.of(number).next().is_some()) {
                    return Err(Nfs4Error::LocksHeld);
                }
                self.states.free_lock(number);
                Ok(())
            }
        }
    }

    pub(super) fn delegreturn(&mut self, cx: &mut Context<'_>, args: &Delegreturn4args) -> Status {
        let file = cx.file()?;
        if !self.config.is_full() {
            return Err(Nfs4Error::Notsupp);
        }
        if !self.config.delegates() {
            self.referee.mistake("DELEGRETURN where no delegation was given".into());
            return Err(Nfs4Error::BadStateid);
        }
        let number = self.delegation_of(cx, file, &args.deleg_stateid)?;
        self.states.return_delegation(number);
        self.forget_if_unused(file);
        Ok(())
    }
}
