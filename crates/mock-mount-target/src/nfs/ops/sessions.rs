//! Clients and sessions: EXCHANGE_ID, CREATE_SESSION, BIND_CONN_TO_SESSION, DESTROY_SESSION, DESTROY_CLIENTID,
//! RECLAIM_COMPLETE, BACKCHANNEL_CTL, and SEQUENCE's checks and result
//! (RFC 8881 §2.10, §18.33–18.37, §18.46, §18.50, §18.51).

use std::collections::{BTreeSet, VecDeque};

use nfs4::Nfs4Error;
use nfs4::error::Status;
use nfs4::ops::session::{
    BackchannelCtl4args, BindConnToSession4args, BindConnToSession4resok, ChannelDirFromClient4, CreateSession4args,
    CreateSession4resok, DestroyClientid4args, DestroySession4args, ExchangeId4args, ExchangeId4resok,
    ReclaimComplete4args, Sequence4args, Sequence4resok, ServerOwner4, StateProtect4R, create_session4, exchgid4,
    seq4_status,
};
use nfs4::types::{NfsImplId4, Nfstime4, Sessionid4};

use crate::nfs::compound::Context;
use crate::nfs::server::Server;
use crate::nfs::session::slots::{SlotTable, Verdict};
use crate::nfs::session::{self, Session};

/// Sessions at most, of all clients: each holds a reply cache.
const MOST_SESSIONS: usize = 4096;
/// Client records at most, confirmed or not; a lease later most of those are gone that nobody confirmed.
const MOST_CLIENTS: usize = 16_384;
/// Channels of BIND_CONN_TO_SESSION's result.
const FORE: u32 = 1;
const BACK: u32 = 2;
const BOTH: u32 = 3;

impl Server {
    /// What SEQUENCE checks before it looks at the slot. A compound that passes renews the lease and ties its
    /// connection to the session (RFC 8881 §2.10.3.1, §2.10.8.1: no state protection, so that is enough).
    pub(in crate::nfs) fn admit(
        &mut self,
        cx: &mut Context<'_>,
        args: &Sequence4args,
        count: u32,
        len: usize,
    ) -> Result<(), Nfs4Error> {
        self.same_partition(cx, args.sa_sessionid)?;
        let session = self.sessions.get_mut(&args.sa_sessionid).ok_or(Nfs4Error::Badsession)?;
        if len > session.fore.ca_maxrequestsize as usize {
            let most = session.fore.ca_maxrequestsize;
            self.referee.mistake(format!("a request of {len} bytes where {most} were negotiated"));
            return Err(Nfs4Error::ReqTooBig);
        }
        if count > session.fore.ca_maxoperations {
            let most = session.fore.ca_maxoperations;
            self.referee.mistake(format!("a compound of {count} operations where {most} were negotiated"));
            return Err(Nfs4Error::TooManyOps);
        }
        if args.sa_slotid >= session.slots.len() {
            self.referee.mistake(format!("slot {} of {}", args.sa_slotid, session.slots.len()));
            return Err(Nfs4Error::Badslot);
        }
        if args.sa_highest_slotid >= session.slots.len() {
            self.referee.mistake(format!("highest slot {} of {}", args.sa_highest_slotid, session.slots.len()));
            return Err(Nfs4Error::BadHighSlot);
        }
        if args.sa_slotid > args.sa_highest_slotid {
            let (slot, highest) = (args.sa_slotid, args.sa_highest_slotid);
            self.referee.mistake(format!("slot {slot} used while the highest in use is said to be {highest}"));
        }
        if session.strayed.take_if(|stray| *stray != cx.conn).is_some() {
            self.referee.mistake("a connection that is not bound to its session's partition".into());
        }
        session.connections.insert(cx.conn);
        session.minor = cx.minor;
        cx.client = session.client;
        cx.session = Some(session.id);
        if let Some(client) = self.clients.get_mut(session.client) {
            client.renewed = cx.now;
        }
        Ok(())
    }

    /// A session lives in one partition of the service: a connection to another one does not know it.
    fn same_partition(&mut self, cx: &Context<'_>, id: Sessionid4) -> Status {
        let session = self.sessions.get(&id).ok_or(Nfs4Error::Badsession)?;
        if session.partition.is_none() || session.partition == cx.partition {
            return Ok(());
        }
        // Whoever lost all connections has to try. Whoever uses another one afterwards knew the partition.
        let conn = cx.conn;
        if let Some(session) = self.sessions.get_mut(&id) {
            session.strayed = Some(conn);
        }
        Err(Nfs4Error::Badsession)
    }

    pub(in crate::nfs) fn judge_slot(&mut self, args: &Sequence4args, fingerprint: u64) -> Verdict {
        let Some(session) = self.sessions.get_mut(&args.sa_sessionid) else {
            return Verdict::Refuse(Nfs4Error::Badsession);
        };
        let ahead = session.slots.is_ahead(args.sa_slotid, args.sa_sequenceid);
        let verdict = session.slots.begin(args.sa_slotid, args.sa_sequenceid, fingerprint);
        let (slot, sequence) = (args.sa_slotid, args.sa_sequenceid);
        match verdict {
            // One of long ago may have been under way on a connection that the client gave up.
            Verdict::Refuse(Nfs4Error::SeqMisordered) if ahead => {
                self.referee.mistake(format!("slot {slot}: sequence id {sequence} skips the next one"));
            }
            Verdict::Refuse(Nfs4Error::SeqFalseRetry) => {
                self.referee.mistake(format!("slot {slot}: another request under sequence id {sequence}"));
            }
            _ => {}
        }
        verdict
    }

    pub(in crate::nfs) fn sequence_result(&self, cx: &Context<'_>, args: &Sequence4args) -> Sequence4resok {
        let session = self.sessions.get(&args.sa_sessionid);
        Sequence4resok {
            sr_sessionid: args.sa_sessionid,
            sr_sequenceid: args.sa_sequenceid,
            sr_slotid: args.sa_slotid,
            sr_highest_slotid: session.map_or(0, |session| session.slots.len().saturating_sub(1)),
            sr_target_highest_slotid: session.map_or(0, |session| session.target_highest),
            sr_status_flags: session.map_or(0, |session| self.status_flags(cx, session)),
        }
    }

    /// SEQ4_STATUS flags (RFC 8881 §18.46.3).
    fn status_flags(&self, cx: &Context<'_>, session: &Session) -> u32 {
        let mut flags = 0;
        let mut set = |flag: u32, when: bool| flags |= if when { flag } else { 0 };
        let mut wanting = self.sessions.values().filter(|s| s.client == cx.client && s.wants_back).peekable();
        let down = |s: &Session| s.back_connections.is_empty();
        set(seq4_status::CB_PATH_DOWN, wanting.peek().is_some() && wanting.all(down));
        set(seq4_status::CB_PATH_DOWN_SESSION, session.wants_back && down(session));
        set(seq4_status::ADMIN_STATE_REVOKED, self.states.has_revoked(cx.client, Nfs4Error::AdminRevoked));
        set(seq4_status::RECALLABLE_STATE_REVOKED, self.states.has_revoked(cx.client, Nfs4Error::DelegRevoked));
        set(seq4_status::EXPIRED_ALL_STATE_REVOKED, self.states.has_revoked(cx.client, Nfs4Error::Expired));
        let reclaims = self
            .clients
            .get(cx.client)
            .is_some_and(|client| !client.reclaim_complete && self.grace.is_on() && self.grace.knows(&client.owner));
        set(seq4_status::RESTART_RECLAIM_NEEDED, reclaims);
        flags
    }

    pub(super) fn exchange_id(
        &mut self,
        cx: &mut Context<'_>,
        args: &ExchangeId4args,
    ) -> Result<ExchangeId4resok, Nfs4Error> {
        if self.clients.iter().count() >= MOST_CLIENTS {
            return Err(Nfs4Error::Delay);
        }
        let (states, sessions) = (&self.states, &self.sessions);
        let holds_state = |client| states.has_state(client) || sessions.values().any(|s| s.client == client);
        let done = self.clients.exchange_id(args, cx.caller.principal, cx.now, holds_state)?;
        if let Some(client) = done.replaced {
            self.drop_client(client);
        }
        let confirmed = if done.confirmed { exchgid4::CONFIRMED_R } else { 0 };
        Ok(ExchangeId4resok {
            eir_clientid: done.id,
            eir_sequenceid: done.sequenceid,
            eir_flags: exchgid4::USE_NON_PNFS | confirmed,
            eir_state_protect: StateProtect4R::None,
            eir_server_owner: ServerOwner4 { so_minor_id: 1, so_major_id: self.config.file_system_id.as_str().into() },
            eir_server_scope: self.config.file_system_id.as_str().into(),
            eir_server_impl_id: vec![NfsImplId4 {
                nii_domain: "example.org".into(),
                nii_name: "mock-mount-target".into(),
                nii_date: Nfstime4::default(),
            }]
            .into(),
        })
    }

    /// CREATE_SESSION: a slot of its own for each client id, with a reply cache of one (RFC 8881 §18.36.4).
    pub(super) fn create_session(
        &mut self,
        cx: &mut Context<'_>,
        args: &CreateSession4args,
    ) -> Result<CreateSession4resok, Nfs4Error> {
        let client = self.clients.get(args.csa_clientid).ok_or(Nfs4Error::StaleClientid)?;
        if args.csa_sequence == client.create_sequence
            && let Some(result) = &client.create_result
        {
            self.referee.count().replays += 1;
            return result.clone();
        }
        let distance = args.csa_sequence.wrapping_sub(client.create_sequence) as i32;
        if distance != 1 {
            if distance > 1 && !client.create_disturbed {
                let (sent, last) = (args.csa_sequence, client.create_sequence);
                self.referee.mistake(format!("CREATE_SESSION with sequence id {sent} after {last}"));
            }
            return Err(Nfs4Error::SeqMisordered);
        }
        if !client.confirmed && client.principal != cx.caller.principal {
            return Err(Nfs4Error::ClidInuse);
        }
        self.states.excuse_the_past();
        let result = self.new_session(cx, args);
        if result.is_ok()
            && let Some(earlier) = self.clients.earlier_life(args.csa_clientid)
        {
            self.drop_client(earlier);
        }
        if let Some(client) = self.clients.get_mut(args.csa_clientid) {
            client.create_sequence = args.csa_sequence;
            client.create_result = Some(result.clone());
            client.confirmed |= result.is_ok();
            client.left &= result.is_err();
            client.renewed = cx.now;
        }
        result
    }

    fn new_session(&mut self, cx: &Context<'_>, args: &CreateSession4args) -> Result<CreateSession4resok, Nfs4Error> {
        let flags = session::grant_flags(args)?;
        let fore = session::grant_fore(&self.config, &args.csa_fore_chan_attrs)?;
        let back = session::grant_back(&args.csa_back_chan_attrs);
        if self.sessions.len() >= MOST_SESSIONS {
            return Err(Nfs4Error::Nospc);
        }
        self.last_session += 1;
        let mut id = [0; 16];
        id[..4].copy_from_slice(b"sess");
        id[4..8].copy_from_slice(&self.boot.to_be_bytes());
        id[8..].copy_from_slice(&self.last_session.to_be_bytes());
        let id = Sessionid4(id);
        let wants_back = flags & create_session4::CONN_BACK_CHAN != 0;
        let connections = BTreeSet::from([cx.conn]);
        let session = Session {
            id,
            client: args.csa_clientid,
            slots: SlotTable::new(fore.ca_maxrequests),
            target_highest: fore.ca_maxrequests.saturating_sub(1),
            fore: fore.clone(),
            back: back.clone(),
            back_connections: if wants_back { connections.clone() } else { BTreeSet::new() },
            connections,
            wants_back,
            minor: cx.minor,
            cb_program: args.csa_cb_program,
            cb_sequenceid: 0,
            cb_busy: false,
            cb_queue: VecDeque::new(),
            partition: cx.partition,
            strayed: None,
        };
        self.sessions.insert(id, session);
        Ok(CreateSession4resok {
            csr_sessionid: id,
            csr_sequence: args.csa_sequence,
            csr_flags: flags,
            csr_fore_chan_attrs: fore,
            csr_back_chan_attrs: back,
        })
    }

    /// BIND_CONN_TO_SESSION, which stands alone in its compound (RFC 8881 §18.34.3).
    pub(super) fn bind_conn_to_session(
        &mut self,
        cx: &mut Context<'_>,
        args: &BindConnToSession4args,
    ) -> Result<BindConnToSession4resok, Nfs4Error> {
        if cx.session.is_some() {
            self.referee.mistake("BIND_CONN_TO_SESSION behind SEQUENCE".into());
            return Err(Nfs4Error::NotOnlyOp);
        }
        self.same_partition(cx, args.bctsa_sessid)?;
        let session = self.sessions.get_mut(&args.bctsa_sessid).ok_or(Nfs4Error::Badsession)?;
        let channels = match args.bctsa_dir {
            ChannelDirFromClient4::Fore => FORE,
            ChannelDirFromClient4::Back => BACK,
            ChannelDirFromClient4::ForeOrBoth | ChannelDirFromClient4::BackOrBoth => BOTH,
            ChannelDirFromClient4::Unknown(_) => return Err(Nfs4Error::Inval),
        };
        if channels & FORE != 0 {
            session.connections.insert(cx.conn);
        }
        if channels & BACK != 0 {
            session.back_connections.insert(cx.conn);
            session.wants_back = true;
        }
        Ok(BindConnToSession4resok {
            bctsr_sessid: args.bctsa_sessid,
            bctsr_dir: channels,
            bctsr_use_conn_in_rdma_mode: false,
        })
    }

    /// DESTROY_SESSION (RFC 8881 §18.37.3): last in its compound if it destroys the compound's own session, and on a
    /// connection of the session.
    pub(super) fn destroy_session(&mut self, cx: &mut Context<'_>, args: &DestroySession4args) -> Status {
        if cx.session == Some(args.dsa_sessionid) && cx.following > 0 {
            self.referee.mistake("operations behind a DESTROY_SESSION of the compound's own session".into());
            return Err(Nfs4Error::NotOnlyOp);
        }
        let session = self.sessions.get(&args.dsa_sessionid).ok_or(Nfs4Error::Badsession)?;
        if !session.connections.contains(&cx.conn) && !session.back_connections.contains(&cx.conn) {
            return Err(Nfs4Error::ConnNotBoundToSession);
        }
        let client = session.client;
        self.states.excuse_the_past();
        self.sessions.remove(&args.dsa_sessionid);
        self.referee.forget_session(args.dsa_sessionid);
        if let Some(client) = self.clients.get_mut(client) {
            // Without a session nothing can be closed any more; whether the client meant to go shows later.
            client.left = !self.sessions.values().any(|session| session.client == client.id);
        }
        Ok(())
    }

    /// DESTROY_CLIENTID (RFC 8881 §18.50.3): only when nothing of the client is left.
    pub(super) fn destroy_clientid(&mut self, _cx: &mut Context<'_>, args: &DestroyClientid4args) -> Status {
        let id = args.dca_clientid;
        if self.clients.get(id).is_none() {
            return Err(Nfs4Error::StaleClientid);
        }
        if self.sessions.values().any(|session| session.client == id) {
            return Err(Nfs4Error::ClientidBusy);
        }
        if self.states.has_state(id) {
            self.accuse_of_leftovers(id);
            return Err(Nfs4Error::ClientidBusy);
        }
        self.drop_client(id);
        Ok(())
    }

    pub(super) fn reclaim_complete(&mut self, cx: &mut Context<'_>, args: &ReclaimComplete4args) -> Status {
        if args.rca_one_fs {
            // Only after a migration; there is none, so there is nothing to remember.
            return cx.file().map(|_| ());
        }
        let client = self.clients.get_mut(cx.client).ok_or(Nfs4Error::StaleClientid)?;
        if client.reclaim_complete {
            return Err(Nfs4Error::CompleteAlready);
        }
        client.reclaim_complete = true;
        let owner = client.owner.clone();
        self.grace.completed(&owner);
        self.forget_orphans_after_grace();
        Ok(())
    }

    pub(super) fn backchannel_ctl(&mut self, cx: &mut Context<'_>, args: &BackchannelCtl4args) -> Status {
        let session = cx.session.and_then(|id| self.sessions.get_mut(&id)).ok_or(Nfs4Error::OpNotInSession)?;
        session.cb_program = args.bca_cb_program;
        Ok(())
    }
}
