//! Client records and EXCHANGE_ID, case by case (RFC 8881 §18.35.4).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::ops::session::{CreateSession4resok, ExchangeId4args, StateProtect4A, exchgid4};
use nfs4::types::Verifier4;

use crate::nfs::config::Now;
use crate::nfs::rights::Principal;

/// What the server knows of a client.
#[derive(Debug, Clone)]
pub struct Client {
    /// Client id.
    pub id: u64,
    /// `co_ownerid`.
    pub owner: Bytes,
    /// `co_verifier`: another one is another life of the client.
    pub verifier: Verifier4,
    /// Who made the record.
    pub principal: Principal,
    /// Whether a CREATE_SESSION confirmed it.
    pub confirmed: bool,
    /// Sequence id of the last CREATE_SESSION.
    pub create_sequence: u32,
    /// Its result, for a replay.
    pub create_result: Option<Result<CreateSession4resok, Nfs4Error>>,
    /// Whether a fault answered a CREATE_SESSION, so that the client may count another way.
    pub create_disturbed: bool,
    /// When the lease was last renewed.
    pub renewed: Now,
    /// Whether it destroyed its last session itself.
    pub left: bool,
    /// Whether RECLAIM_COMPLETE was done.
    pub reclaim_complete: bool,
}

/// All client records.
#[derive(Debug, Default)]
pub struct Clients {
    by_id: BTreeMap<u64, Client>,
    last: u32,
    boot: u32,
}

/// What EXCHANGE_ID came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchanged {
    /// Client id.
    pub id: u64,
    /// `eir_sequenceid`.
    pub sequenceid: u32,
    /// Whether the record is confirmed.
    pub confirmed: bool,
    /// A client whose lease had run out and whose record was replaced: its state goes.
    pub replaced: Option<u64>,
}

const KNOWN_FLAGS: u32 = exchgid4::SUPP_MOVED_REFER
    | exchgid4::SUPP_MOVED_MIGR
    | 0x4 // SUPP_FENCE_OPS (RFC 7862 §12)
    | exchgid4::BIND_PRINC_STATEID
    | exchgid4::USE_NON_PNFS
    | exchgid4::USE_PNFS_MDS
    | exchgid4::USE_PNFS_DS
    | exchgid4::UPD_CONFIRMED_REC_A;

impl Clients {
    /// No clients, in the server's `boot`-th life.
    pub fn new(boot: u32) -> Self {
        Self { by_id: BTreeMap::new(), last: 0, boot }
    }

    /// A record, confirmed or not.
    pub fn get(&self, id: u64) -> Option<&Client> {
        self.by_id.get(&id)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut Client> {
        self.by_id.get_mut(&id)
    }

    /// Forgets a record.
    pub fn remove(&mut self, id: u64) -> Option<Client> {
        self.by_id.remove(&id)
    }

    /// All records.
    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        self.by_id.values()
    }

    /// Another confirmed record of the same owner: the client's life before this one.
    pub fn earlier_life(&self, id: u64) -> Option<u64> {
        let client = self.by_id.get(&id)?;
        self.by_id.values().find(|c| c.confirmed && c.id != id && c.owner == client.owner).map(|c| c.id)
    }

    /// Confirmed clients whose lease has run out.
    pub fn expired(&self, now: Now, lease: Duration) -> Vec<u64> {
        let late = |c: &&Client| now.0.saturating_sub(c.renewed.0) > lease;
        self.by_id.values().filter(late).map(|c| c.id).collect()
    }

    /// EXCHANGE_ID (RFC 8881 §18.35.4). `holds_state` tells whether a client has opens, locks or sessions and a
    /// lease that has not run out.
    pub fn exchange_id(
        &mut self,
        args: &ExchangeId4args,
        principal: Principal,
        now: Now,
        holds_state: impl Fn(u64) -> bool,
    ) -> Result<Exchanged, Nfs4Error> {
        if args.eia_flags & !KNOWN_FLAGS != 0 || args.eia_clientowner.co_ownerid.len() > 1024 {
            return Err(Nfs4Error::Inval);
        }
        // SP4_MACH_CRED and SP4_SSV need RPCSEC_GSS (§18.35.3), which is not served.
        if args.eia_state_protect != StateProtect4A::None || args.eia_client_impl_id.len() > 1 {
            return Err(Nfs4Error::Inval);
        }
        let owner = &args.eia_clientowner.co_ownerid.0;
        let verifier = args.eia_clientowner.co_verifier;
        let update = args.eia_flags & exchgid4::UPD_CONFIRMED_REC_A != 0;
        let confirmed = self.by_id.values().find(|c| c.confirmed && c.owner == owner).cloned();
        let Some(old) = confirmed else {
            // Cases 1, 4 and 7: no confirmed record.
            if update {
                return Err(Nfs4Error::Noent);
            }
            return Ok(self.add(owner, verifier, principal, now, None));
        };
        match (update, old.verifier == verifier, old.principal == principal) {
            // Case 6, update, and case 2, nothing new.
            (_, true, true) => Ok(Exchanged {
                id: old.id,
                sequenceid: old.create_sequence.wrapping_add(1),
                confirmed: true,
                replaced: None,
            }),
            // Case 8.
            (true, false, _) => Err(Nfs4Error::NotSame),
            // Case 9.
            (true, true, false) => Err(Nfs4Error::Perm),
            // Case 3: a collision.
            (false, _, false) if holds_state(old.id) => Err(Nfs4Error::ClidInuse),
            (false, _, false) => {
                self.by_id.remove(&old.id);
                Ok(self.add(owner, verifier, principal, now, Some(old.id)))
            }
            // Case 5: the client restarted; the old record goes when the new one is confirmed.
            (false, false, true) => Ok(self.add(owner, verifier, principal, now, None)),
        }
    }

    fn add(
        &mut self,
        owner: &Bytes,
        verifier: Verifier4,
        principal: Principal,
        now: Now,
        replaced: Option<u64>,
    ) -> Exchanged {
        self.by_id.retain(|_, c| c.confirmed || c.owner != owner);
        self.last += 1;
        let id = u64::from(self.boot) << 32 | u64::from(self.last);
        let client = Client {
            id,
            owner: owner.clone(),
            verifier,
            principal,
            confirmed: false,
            create_sequence: 0,
            create_result: None,
            create_disturbed: false,
            renewed: now,
            left: false,
            reclaim_complete: false,
        };
        self.by_id.insert(id, client);
        Exchanged { id, sequenceid: 1, confirmed: false, replaced }
    }
}
