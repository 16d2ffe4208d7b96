//! Delegations: when one is given, what makes the server want it back, and what happens when it does not come
//! (RFC 8881 §10.2–10.4, §18.16, §20.2).
//!
//! A delegation is given to a client that asks for one in OPEN, has a back channel, and whose file nobody else uses in
//! a way that clashes. Whoever clashes later is told NFS4ERR_DELAY and tries again until the delegation was returned,
//! or revoked because a lease went by. Attributes of a file whose write delegation somebody holds are not asked for
//! with CB_GETATTR: the delegation is recalled; a READDIR shows what the server has.
//!
//! Not here: directory delegations, WANT_DELEGATION, DELEGPURGE and with it CLAIM_DELEGATE_PREV (NFS4ERR_NOTSUPP).

use nfs4::Nfs4Error;
use nfs4::attr::Nfsace4;
use nfs4::callback::{CbArgop4, CbRecall4args, ReferringCall4};
use nfs4::error::Status;
use nfs4::ops::open::{
    NfsSpaceLimit4, OpenDelegation4, OpenDelegationType4, OpenNoneDelegation4, OpenReadDelegation4,
    OpenWriteDelegation4, WhyNoDelegation4, share,
};
use nfs4::types::Sessionid4;

use super::callbacks::Purpose;
use super::compound::Context;
use super::config::Now;
use super::memfs::FileId;
use super::server::Server;
use super::state::StateNumber;
use super::state::delegations::{Delegation, Recall, Told};

impl Server {
    /// The delegation that comes with an OPEN, or why there is none.
    pub(super) fn delegate(&mut self, cx: &Context<'_>, file: FileId, share_access: u32) -> OpenDelegation4 {
        let writes = share_access & share::ACCESS_WRITE != 0;
        let write = match share_access & share::WANT_DELEG_MASK {
            share::WANT_READ_DELEG => false,
            // Whoever cannot write has no use for it.
            share::WANT_WRITE_DELEG | share::WANT_ANY_DELEG => writes,
            _ => return self.no_delegation(share_access),
        };
        if !self.config.delegates() {
            return self.no_delegation(share_access);
        }
        if let Some(held) = self.states.find_delegation(cx.client, file).and_then(|n| self.states.delegation(n)) {
            return OpenDelegation4::NoneExt(match (held.write, write) {
                (false, true) => OpenNoneDelegation4::Other(WhyNoDelegation4::NotSuppUpgrade),
                (true, false) => OpenNoneDelegation4::Other(WhyNoDelegation4::NotSuppDowngrade),
                _ => OpenNoneDelegation4::Resource(false),
            });
        }
        if self.is_contended(cx.client, file, write) {
            return OpenDelegation4::NoneExt(OpenNoneDelegation4::Contention(false));
        }
        if self.back_channel_of(cx.client).is_none() {
            return OpenDelegation4::NoneExt(OpenNoneDelegation4::Resource(false));
        }
        let number = self.states.add_delegation(cx.client, file, write, cx.slot);
        self.as_granted(number)
    }

    /// No delegation, and why, if the client spoke of one (RFC 8881 §18.16.3). S3 Files never says why.
    pub(super) fn no_delegation(&self, share_access: u32) -> OpenDelegation4 {
        let why = match share_access & share::WANT_DELEG_MASK {
            share::WANT_NO_PREFERENCE => return OpenDelegation4::None,
            _ if !self.config.is_full() => return OpenDelegation4::None,
            share::WANT_NO_DELEG => WhyNoDelegation4::NotWanted,
            share::WANT_CANCEL => WhyNoDelegation4::Cancelled,
            _ => return OpenDelegation4::NoneExt(OpenNoneDelegation4::Resource(false)),
        };
        OpenDelegation4::NoneExt(OpenNoneDelegation4::Other(why))
    }

    /// CLAIM_PREVIOUS with a delegation that [`Server::may_reclaim_delegation`] allowed. Without a back channel it is
    /// given back and wanted back at once (§10.2.1).
    pub(super) fn delegate_again(
        &mut self,
        cx: &Context<'_>,
        file: FileId,
        kind: OpenDelegationType4,
    ) -> OpenDelegation4 {
        let write = match kind {
            OpenDelegationType4::Read => false,
            OpenDelegationType4::Write => true,
            _ => return OpenDelegation4::None,
        };
        let number = match self.states.find_delegation(cx.client, file) {
            Some(number) => number,
            None => self.states.add_delegation(cx.client, file, write, cx.slot),
        };
        if self.back_channel_of(cx.client).is_none()
            && let Some(held) = self.states.delegation_mut(number)
        {
            held.recall = Some(Recall { since: cx.now, truncate: false, told: Told::Yes });
        }
        self.as_granted(number)
    }

    /// Whether a client had this delegation before the restart.
    pub(super) fn may_reclaim_delegation(&self, cx: &Context<'_>, file: FileId, kind: OpenDelegationType4) -> bool {
        let Some(client) = self.clients.get(cx.client) else { return false };
        match kind {
            OpenDelegationType4::None => true,
            OpenDelegationType4::Read => self.grace.had_delegation(&client.owner, file) == Some(false),
            OpenDelegationType4::Write => self.grace.had_delegation(&client.owner, file) == Some(true),
            _ => false,
        }
    }

    fn as_granted(&self, number: StateNumber) -> OpenDelegation4 {
        let Some(held) = self.states.delegation(number) else { return OpenDelegation4::None };
        let (stateid, recall) = (self.states.stateid(number), held.recall.is_some());
        // Nobody is let in without a question: the client asks ACCESS for each user.
        let permissions = Nfsace4 { acetype: 0, flag: 0, access_mask: 0, who: "EVERYONE@".into() };
        if held.write {
            let space_limit = NfsSpaceLimit4::Filesize(self.config.max_file_size());
            OpenDelegation4::Write(OpenWriteDelegation4 { stateid, recall, space_limit, permissions })
        } else {
            OpenDelegation4::Read(OpenReadDelegation4 { stateid, recall, permissions })
        }
    }

    /// Whether others use a file in a way that a delegation would have to forbid.
    fn is_contended(&self, client: u64, file: FileId, write: bool) -> bool {
        let mut opens = self.states.opens_of(file).filter(|(_, o)| o.revoked.is_none() && o.client != client);
        let open = opens.any(|(_, o)| write || o.access & share::ACCESS_WRITE != 0);
        let mut others = self.states.delegations_of(file).filter(|(_, held)| held.client != client);
        open || others.any(|(_, held)| write || held.write || held.recall.is_some())
    }

    /// The session over which a client can be called.
    fn back_channel_of(&self, client: u64) -> Option<Sessionid4> {
        self.sessions.values().find(|s| s.client == client && !s.back_connections.is_empty()).map(|s| s.id)
    }

    /// Somebody opens a file: whoever else holds a delegation that forbids it has to give it back first.
    pub(super) fn recall_for_open(&mut self, cx: &Context<'_>, file: FileId, access: u32, deny: u32) -> Status {
        let changes = access & share::ACCESS_WRITE != 0 || deny & share::DENY_READ != 0;
        self.recall_if(cx, file, false, |held| held.write || changes)
    }

    /// Somebody looks at a file's bytes, or at attributes that a writer may have changed.
    pub(super) fn recall_for_look(&mut self, cx: &Context<'_>, file: FileId) -> Status {
        self.recall_if(cx, file, false, |held| held.write)
    }

    /// Somebody changes a file, its attributes or its names.
    pub(super) fn recall_for_change(&mut self, cx: &Context<'_>, file: FileId, truncate: bool) -> Status {
        self.recall_if(cx, file, truncate, |_| true)
    }

    /// DELAY while others hold delegations of a file that clash; they are recalled.
    fn recall_if(
        &mut self,
        cx: &Context<'_>,
        file: FileId,
        truncate: bool,
        clashes: impl Fn(&Delegation) -> bool,
    ) -> Status {
        if !self.config.delegates() {
            return Ok(());
        }
        let others = self.states.delegations_of(file).filter(|(_, held)| held.client != cx.client && clashes(held));
        let others: Vec<StateNumber> = others.map(|(number, _)| number).collect();
        for number in &others {
            self.want_back(*number, cx.now, truncate);
        }
        if others.is_empty() {
            return Ok(());
        }
        self.send_recalls();
        self.pump_callbacks();
        Err(Nfs4Error::Delay)
    }

    fn want_back(&mut self, number: StateNumber, now: Now, truncate: bool) {
        let Some(held) = self.states.delegation_mut(number) else { return };
        let recall = held.recall.get_or_insert(Recall { since: now, truncate, told: Told::No });
        if recall.told == Told::Refused {
            recall.told = Told::No;
        }
    }

    /// Wants every delegation back (CB_RECALL).
    pub fn recall_delegations(&mut self, now: Now) {
        let all = self.states.delegations().filter(|(_, held)| held.revoked.is_none()).map(|(number, _)| number);
        for number in all.collect::<Vec<_>>() {
            self.want_back(number, now, false);
        }
        self.send_recalls();
        self.pump_callbacks();
    }

    /// Wants a delegation back from every client with a back channel that no client ever had: the answer must be
    /// NFS4ERR_BAD_STATEID or NFS4ERR_BADHANDLE (RFC 8881 §20.2.3).
    pub fn recall_unknown(&mut self) {
        let (stateid, fh) = (self.states.nobodys(), self.fs.handle(self.fs.root()));
        let sessions: Vec<Sessionid4> =
            self.sessions.values().filter(|s| !s.back_connections.is_empty()).map(|s| s.id).collect();
        for id in sessions {
            let op = CbArgop4::Recall(CbRecall4args { stateid, truncate: false, fh: fh.clone() });
            self.call_back(id, op, Purpose::Unknown, None);
        }
        self.pump_callbacks();
    }

    /// Queues CB_RECALL for every delegation that is wanted back and whose client does not know, or may not because its
    /// session is gone.
    pub(super) fn send_recalls(&mut self) {
        let sessions = &self.sessions;
        let untold = |held: &Delegation| match held.recall.map(|recall| recall.told) {
            Some(Told::No) => true,
            Some(Told::Under(session)) => !sessions.contains_key(&session),
            _ => false,
        };
        let due = self.states.delegations().filter(|(_, held)| held.revoked.is_none() && untold(held));
        for number in due.map(|(number, _)| number).collect::<Vec<_>>() {
            self.send_recall(number);
        }
    }

    fn send_recall(&mut self, number: StateNumber) {
        let Some(held) = self.states.delegation(number) else { return };
        let (Some(recall), Some(session)) = (held.recall, self.back_channel_of(held.client)) else { return };
        let op = CbArgop4::Recall(CbRecall4args {
            stateid: self.states.stateid(number),
            truncate: recall.truncate,
            fh: self.fs.handle(held.file),
        });
        let under_way = held.granted_by.filter(|(by, slot, sequence)| {
            let last = self.sessions.get(by).and_then(|session| session.slots.last(*slot));
            *by == session && last == Some(*sequence)
        });
        let referring =
            under_way.map(|(_, slot, sequence)| ReferringCall4 { rc_sequenceid: sequence, rc_slotid: slot });
        if self.call_back(session, op, Purpose::Recall(number), referring)
            && let Some(recall) = self.states.delegation_mut(number).and_then(|held| held.recall.as_mut())
        {
            recall.told = Told::Under(session);
        }
    }

    /// Revokes what did not come back within a lease (RFC 8881 §10.4.5, §10.4.6).
    pub(super) fn revoke_overdue(&mut self, now: Now) {
        let lease = self.config.lease;
        let late = |held: &Delegation| held.recall.is_some_and(|recall| now.0.saturating_sub(recall.since.0) > lease);
        let due = self.states.delegations().filter(|(_, held)| held.revoked.is_none() && late(held));
        for number in due.map(|(number, _)| number).collect::<Vec<_>>() {
            if let Some(file) = self.states.revoke_delegation(number, Nfs4Error::DelegRevoked) {
                self.forget_if_unused(file);
            }
        }
    }
}
