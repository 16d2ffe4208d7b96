//! Sessions: what CREATE_SESSION grants and what SEQUENCE needs (RFC 8881 §2.10, §18.36).

pub mod clients;
pub mod slots;

use std::collections::{BTreeSet, VecDeque};

use nfs4::Nfs4Error;
use nfs4::ops::session::{ChannelAttrs4, CreateSession4args, create_session4};
use nfs4::types::Sessionid4;

use super::callbacks::Waiting;
use super::config::Config;
use slots::SlotTable;

/// Names a connection; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// A session.
#[derive(Debug)]
pub struct Session {
    /// Its id.
    pub id: Sessionid4,
    /// Whose it is.
    pub client: u64,
    /// Limits of the fore channel.
    pub fore: ChannelAttrs4,
    /// Limits of the back channel.
    pub back: ChannelAttrs4,
    /// Slots of the fore channel.
    pub slots: SlotTable,
    /// Connections of the fore channel.
    pub connections: BTreeSet<ConnId>,
    /// Connections of the back channel.
    pub back_connections: BTreeSet<ConnId>,
    /// Whether the client asked for a back channel.
    pub wants_back: bool,
    /// Minor version of the session's last compound.
    pub minor: u32,
    /// Program number of callbacks.
    pub cb_program: u32,
    /// Sequence id of the last callback (slot 0 of the back channel).
    pub cb_sequenceid: u32,
    /// Whether the first callback of the queue is under way on that slot.
    pub cb_busy: bool,
    /// Callbacks to make, one after the other.
    pub cb_queue: VecDeque<Waiting>,
    /// Highest slot that the server wishes the client to use.
    pub target_highest: u32,
    /// Partition (of the AWSFILE bind) that its connections must share.
    pub partition: Option<[u8; 64]>,
    /// A connection of another partition that tried to use it.
    pub strayed: Option<ConnId>,
}

/// The least that a channel must carry for any reply to fit: RPC header, SEQUENCE and a bit.
const LEAST_CHANNEL: u32 = 256;

/// What a server grants of the wishes for the fore channel (RFC 8881 §18.36.3): TOOSMALL or INVAL for wishes with
/// which nothing could ever be sent.
pub fn grant_fore(config: &Config, asked: &ChannelAttrs4) -> Result<ChannelAttrs4, Nfs4Error> {
    if asked.ca_maxrequests == 0 || asked.ca_maxoperations == 0 || asked.ca_rdma_ird.len() > 1 {
        return Err(Nfs4Error::Inval);
    }
    if asked.ca_maxrequestsize < LEAST_CHANNEL || asked.ca_maxresponsesize < LEAST_CHANNEL {
        return Err(Nfs4Error::Toosmall);
    }
    let maxresponsesize = asked.ca_maxresponsesize.min(config.max_response);
    Ok(ChannelAttrs4 {
        ca_headerpadsize: 0,
        ca_maxrequestsize: asked.ca_maxrequestsize.min(config.max_request),
        ca_maxresponsesize: maxresponsesize,
        ca_maxresponsesize_cached: asked.ca_maxresponsesize_cached.min(config.max_response_cached).min(maxresponsesize),
        ca_maxoperations: asked.ca_maxoperations.min(config.max_operations),
        ca_maxrequests: asked.ca_maxrequests.min(config.max_slots),
        ca_rdma_ird: Vec::new().into(),
    })
}

/// What a server grants for the back channel: whatever the client wishes, one slot at a time.
pub fn grant_back(asked: &ChannelAttrs4) -> ChannelAttrs4 {
    ChannelAttrs4 {
        ca_headerpadsize: 0,
        ca_maxrequests: asked.ca_maxrequests.min(1),
        ca_rdma_ird: Vec::new().into(),
        ..asked.clone()
    }
}

/// The flags that hold for a new session, or INVAL for unknown ones. Reply caches do not survive restarts here, and
/// there is no RDMA.
pub fn grant_flags(args: &CreateSession4args) -> Result<u32, Nfs4Error> {
    const KNOWN: u32 = create_session4::PERSIST | create_session4::CONN_BACK_CHAN | create_session4::CONN_RDMA;
    if args.csa_flags & !KNOWN != 0 {
        return Err(Nfs4Error::Inval);
    }
    Ok(args.csa_flags & create_session4::CONN_BACK_CHAN)
}
