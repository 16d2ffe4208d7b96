//! OPEN with every claim and way to create, OPEN_DOWNGRADE, CLOSE (RFC 8881 §18.16, §18.18, §18.2).

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::ops::open::{
    Close4args, Createhow4, Open4args, Open4resok, OpenClaim4, OpenDelegationType4, OpenDowngrade4args, Openflag4,
    rflags, share,
};
use nfs4::types::{Bitmap4, ChangeInfo4, Stateid4, Verifier4};

use super::setattr::Wanted;
use crate::nfs::compound::Context;
use crate::nfs::memfs::{FileData, FileId, Kind};
use crate::nfs::rights::{READ, WRITE};
use crate::nfs::server::Server;

/// Wish for a signal when a delegation becomes available (RFC 8881 §18.16.3).
const WANT_SIGNALS: u32 = 0x3_0000;

/// What an OPEN found or made.
struct Found {
    file: FileId,
    cinfo: ChangeInfo4,
    attrset: Bitmap4,
    /// Whether this very open (or its first try) made the file: then its mode is no hindrance (POSIX `open`).
    made: bool,
}

impl Server {
    pub(super) fn open(&mut self, cx: &mut Context<'_>, args: &Open4args) -> Result<Open4resok, Nfs4Error> {
        cx.file()?;
        let (access, deny) = self.shares(args)?;
        let reclaim = matches!(args.claim, OpenClaim4::Previous(_));
        self.may_get_state(cx, reclaim)?;
        if access & share::ACCESS_WRITE != 0 {
            Self::may_change(cx)?;
        }
        // There may be no room for one more; nothing must have been made by then.
        if self.states.open_count(cx.client) >= self.config.max_opens_of_client() {
            return Err(Nfs4Error::Dquot);
        }
        let found = match &args.claim {
            OpenClaim4::Null(name) => self.open_by_name(cx, name, args)?,
            OpenClaim4::Fh | OpenClaim4::Previous(_) => {
                if matches!(args.openhow, Openflag4::Create(_)) {
                    self.referee.mistake("OPEN by file handle that wants to create".into());
                    return Err(Nfs4Error::Inval);
                }
                let file = cx.file()?;
                let change = self.fs.inode(file)?.change;
                let cinfo = ChangeInfo4 { atomic: true, before: change, after: change };
                Found { file, cinfo, attrset: Bitmap4::EMPTY, made: false }
            }
            OpenClaim4::DelegateCur(claim) if self.config.is_full() => {
                let dir = cx.file()?;
                self.name_is_good(&claim.file)?;
                let file = self.find(cx, dir, &claim.file)?;
                self.open_delegated(cx, args, file, &claim.delegate_stateid)?
            }
            OpenClaim4::DelegCurFh(stateid) if self.config.is_full() => {
                let file = cx.file()?;
                self.open_delegated(cx, args, file, stateid)?
            }
            // Delegations do not outlive their client here: DELEGPURGE and CLAIM_DELEGATE_PREV go together (§18.16.3).
            _ => return Err(Nfs4Error::Notsupp),
        };
        self.fs.data(found.file)?;
        if let OpenClaim4::Previous(delegation) = args.claim {
            self.may_reclaim_open(cx, args, found.file, (access, deny), delegation)?;
        } else if !found.made {
            self.may_open(cx, found.file, access)?;
        }
        if !reclaim {
            self.recall_for_open(cx, found.file, access, deny)?;
        }
        let own = self.states.find_open(cx.client, &args.owner.owner, found.file);
        if self.states.share_conflict(found.file, access, deny, own) {
            return Err(if reclaim { Nfs4Error::ReclaimConflict } else { Nfs4Error::ShareDenied });
        }
        let found = self.truncate_if_asked(cx, args, found)?;
        let owner = Bytes::copy_from_slice(&args.owner.owner);
        let number = self.states.add_open(cx.client, &owner, found.file, access, deny);
        let stateid = self.states.stateid(number);
        cx.set_file(found.file);
        cx.set_stateid(stateid);
        let delegation = match args.claim {
            OpenClaim4::Null(_) | OpenClaim4::Fh => self.delegate(cx, found.file, args.share_access),
            OpenClaim4::Previous(kind) => self.delegate_again(cx, found.file, kind),
            _ => self.no_delegation(args.share_access),
        };
        let preserve = if self.config.preserve_unlinked { rflags::PRESERVE_UNLINKED } else { 0 };
        Ok(Open4resok {
            stateid,
            cinfo: found.cinfo,
            rflags: rflags::LOCKTYPE_POSIX | preserve,
            attrset: found.attrset,
            delegation,
        })
    }

    /// The share access and deny of an OPEN, without the wishes around them.
    fn shares(&mut self, args: &Open4args) -> Result<(u32, u32), Nfs4Error> {
        let known = share::ACCESS_BOTH | share::WANT_DELEG_MASK | WANT_SIGNALS;
        let access = args.share_access & share::ACCESS_BOTH;
        if access == 0 || args.share_access & !known != 0 || args.share_deny > share::DENY_BOTH {
            self.referee.mistake(format!("OPEN with share {:#x}, deny {:#x}", args.share_access, args.share_deny));
            return Err(Nfs4Error::Inval);
        }
        if args.owner.owner.len() > nfs4::types::NFS4_OPAQUE_LIMIT {
            return Err(Nfs4Error::Inval);
        }
        if args.share_deny != share::DENY_NONE && !self.config.is_full() {
            return Err(Nfs4Error::Notsupp);
        }
        Ok((access, args.share_deny))
    }

    /// The rules around RECLAIM_COMPLETE and the grace period (RFC 8881 §8.4.2.1, §18.51.3).
    pub(super) fn may_get_state(&mut self, cx: &Context<'_>, reclaim: bool) -> Result<(), Nfs4Error> {
        let complete = self.clients.get(cx.client).is_some_and(|client| client.reclaim_complete);
        match (reclaim, complete) {
            (true, true) => Err(Nfs4Error::NoGrace),
            (true, false) if !self.grace.is_on() => Err(Nfs4Error::NoGrace),
            (false, false) => {
                self.referee.mistake("new state asked for before RECLAIM_COMPLETE".into());
                Err(Nfs4Error::Grace)
            }
            (false, true) if self.grace.is_on() => Err(Nfs4Error::Grace),
            _ => Ok(()),
        }
    }

    fn open_by_name(&mut self, cx: &mut Context<'_>, name: &[u8], args: &Open4args) -> Result<Found, Nfs4Error> {
        let dir = cx.file()?;
        self.name_is_good(name)?;
        let existing = match self.find(cx, dir, name) {
            Ok(file) => Some(file),
            Err(Nfs4Error::Noent) => None,
            Err(error) => return Err(error),
        };
        let change = self.fs.inode(dir)?.change;
        let unchanged = ChangeInfo4 { atomic: true, before: change, after: change };
        let found = |file, made| Found { file, cinfo: unchanged, attrset: Bitmap4::EMPTY, made };
        let Openflag4::Create(how) = &args.openhow else {
            return existing.map(|file| found(file, false)).ok_or(Nfs4Error::Noent);
        };
        let verifier = verifier_of(how);
        let wanted = self.wanted_by(cx, how)?;
        if let Some(file) = existing {
            return match (how, verifier) {
                (Createhow4::Unchecked(_), _) => Ok(found(file, false)),
                // The first try made it: this is the same creation again (RFC 8881 §18.16.3).
                (_, Some(verifier)) if self.fs.inode(file)?.create_verifier == Some(verifier.0) => {
                    Ok(Found { attrset: wanted.mask, ..found(file, true) })
                }
                _ => Err(Nfs4Error::Exist),
            };
        }
        let kind = Kind::Regular(FileData::default());
        let (file, cinfo) = self.make(cx, dir, name, kind, &wanted, 0o644)?;
        self.fs.inode_mut(file)?.create_verifier = verifier.map(|verifier| verifier.0);
        Ok(Found { file, cinfo, attrset: wanted.mask, made: true })
    }

    /// What a client opened on its own under its delegation, and now tells the server of.
    fn open_delegated(
        &mut self,
        cx: &Context<'_>,
        args: &Open4args,
        file: FileId,
        stateid: &Stateid4,
    ) -> Result<Found, Nfs4Error> {
        if matches!(args.openhow, Openflag4::Create(_)) {
            self.referee.mistake("OPEN under a delegation that wants to create".into());
            return Err(Nfs4Error::Inval);
        }
        if !self.config.delegates() {
            self.referee.mistake("OPEN with a delegation where none was given".into());
            return Err(Nfs4Error::BadStateid);
        }
        self.delegation_of(cx, file, stateid)?;
        let change = self.fs.inode(file)?.change;
        let cinfo = ChangeInfo4 { atomic: true, before: change, after: change };
        Ok(Found { file, cinfo, attrset: Bitmap4::EMPTY, made: false })
    }

    fn wanted_by(&self, cx: &Context<'_>, how: &Createhow4) -> Result<Wanted, Nfs4Error> {
        match how {
            Createhow4::Unchecked(attrs) | Createhow4::Guarded(attrs) => self.wanted(cx, attrs, true),
            Createhow4::Exclusive(_) => Ok(Wanted::default()),
            Createhow4::Exclusive41(both) => self.wanted(cx, &both.cva_attrs, false),
        }
    }

    /// UNCHECKED4 on a file that is there heeds a size of zero and nothing else (RFC 8881 §18.16.3).
    fn truncate_if_asked(&mut self, cx: &Context<'_>, args: &Open4args, found: Found) -> Result<Found, Nfs4Error> {
        let Openflag4::Create(Createhow4::Unchecked(attrs)) = &args.openhow else { return Ok(found) };
        if found.made || self.wanted(cx, attrs, true)?.size != Some(0) {
            return Ok(found);
        }
        Self::may_change(cx)?;
        self.must(cx, found.file, WRITE)?;
        self.recall_for_change(cx, found.file, true)?;
        self.fs.set_size(found.file, 0, cx.now.stamp())?;
        self.objects.remove(&found.file);
        Ok(Found { attrset: Bitmap4::of(&[nfs4::attr::number::SIZE]), ..found })
    }

    fn may_open(&self, cx: &Context<'_>, file: FileId, access: u32) -> Result<(), Nfs4Error> {
        if access & share::ACCESS_READ != 0 {
            self.must(cx, file, READ)?;
        }
        if access & share::ACCESS_WRITE != 0 {
            self.must(cx, file, WRITE)?;
        }
        Ok(())
    }

    fn may_reclaim_open(
        &self,
        cx: &Context<'_>,
        args: &Open4args,
        file: FileId,
        (access, deny): (u32, u32),
        delegation: OpenDelegationType4,
    ) -> Result<(), Nfs4Error> {
        let client = self.clients.get(cx.client).ok_or(Nfs4Error::ReclaimBad)?;
        // Under a delegation the client opened files on its own (§10.2.1).
        let had = self.grace.had_open(&client.owner, &args.owner.owner, file, access, deny)
            || match self.grace.had_delegation(&client.owner, file) {
                Some(true) => true,
                Some(false) => access == share::ACCESS_READ && deny == share::DENY_NONE,
                None => false,
            };
        if had && self.may_reclaim_delegation(cx, file, delegation) { Ok(()) } else { Err(Nfs4Error::ReclaimBad) }
    }

    pub(super) fn open_downgrade(
        &mut self,
        cx: &mut Context<'_>,
        args: &OpenDowngrade4args,
    ) -> Result<Stateid4, Nfs4Error> {
        let file = cx.file()?;
        let number = self.open_of(cx, file, &args.open_stateid)?;
        let access = args.share_access & !(share::WANT_DELEG_MASK | WANT_SIGNALS);
        if access & !share::ACCESS_BOTH != 0 || args.share_deny > share::DENY_BOTH {
            return Err(Nfs4Error::Inval);
        }
        self.states.downgrade(number, access, args.share_deny)?;
        let stateid = self.states.stateid(number);
        cx.set_stateid(stateid);
        Ok(stateid)
    }

    /// CLOSE. The locks of the open go along. The stateid that comes back names nothing any more.
    pub(super) fn close(&mut self, cx: &mut Context<'_>, args: &Close4args) -> Result<Stateid4, Nfs4Error> {
        let file = cx.file()?;
        let number = self.open_of(cx, file, &args.open_stateid)?;
        self.states.close(number);
        self.forget_if_unused(file);
        cx.set_stateid(Stateid4::INVALID);
        Ok(Stateid4::INVALID)
    }
}

fn verifier_of(how: &Createhow4) -> Option<Verifier4> {
    match how {
        Createhow4::Exclusive(verifier) => Some(*verifier),
        Createhow4::Exclusive41(both) => Some(both.cva_verf),
        _ => None,
    }
}
