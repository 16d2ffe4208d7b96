//! The steps that make and end a client's standing at the server, outside of any session: EXCHANGE_ID,
//! CREATE_SESSION, BIND_CONN_TO_SESSION, DESTROY_SESSION, DESTROY_CLIENTID (RFC 8881 §18.34–18.37, §18.50).
//!
//! Each is one COMPOUND of one operation. NFS4ERR_DELAY is waited out here; everything else is the caller's.

use std::time::Duration;

use mount_target::Channel;
use nfs4::Nfs4Error;
use nfs4::compound::Argop4;
use nfs4::ops::session::{
    BindConnToSession4args, CallbackSecParms4, ChannelAttrs4, ChannelDirFromClient4, ClientOwner4, CreateSession4args,
    DestroyClientid4args, DestroySession4args, ExchangeId4args, StateProtect4A, create_session4, exchgid4,
};
use nfs4::rpc::AuthSys;
use nfs4::types::{NfsImplId4, Nfstime4, Sessionid4, Verifier4};
use tokio::time::{sleep, timeout};

use crate::callback::CB_SLOTS;
use crate::compound::{Replies, next};
use crate::compound::{decode_compound, encode_compound};
use crate::error::Error;
use crate::options::ClientOptions;
use crate::session::Backoff;

/// What is asked for beside the payload; AWS's own proxy refuses records of more than 1 MiB and 4 KiB.
pub(crate) const ASKED_OVERHEAD: u32 = 4096;
/// Largest reply that the server shall cache: replies of changing requests are small.
const CACHED_REPLY: u32 = 4096;
/// Most operations of a compound; no request of ours has half as many.
const OPERATIONS: u32 = 32;
/// Program number under which the server calls back; it knows it from CREATE_SESSION only.
const CALLBACK_PROGRAM: u32 = 0x4000_0000;
/// The smallest channel on which a file system can be used.
const LEAST_CHANNEL: u32 = 8192;

/// What goes wrong while something is being set up.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The connection.
    Channel,
    /// The session is gone or out of step.
    Session,
    /// What the server says.
    Server(Error),
}

/// What a step returns.
pub(crate) type Step<T> = Result<T, Broken>;

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl Broken {
    /// The NFS status, if the server gave one.
    pub(crate) fn status(&self) -> Option<Nfs4Error> {
        match self {
            Self::Server(error) => error.status(),
            Self::Channel | Self::Session => None,
        }
    }
}

/// A client id and what CREATE_SESSION needs next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientId {
    pub(crate) id: u64,
    /// Sequence id of the next CREATE_SESSION.
    pub(crate) sequence: u32,
    /// The server has kept this client, and its state with it.
    pub(crate) known: bool,
}

/// What CREATE_SESSION granted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Granted {
    pub(crate) id: Sessionid4,
    pub(crate) slots: u32,
    pub(crate) max_request: u32,
    pub(crate) max_response: u32,
}

/// Who we are, as the server is told.
#[derive(Debug)]
pub(crate) struct Handshake {
    owner: ClientOwner4,
    options: ClientOptions,
}

impl Handshake {
    pub(crate) fn new(options: &ClientOptions) -> Self {
        let owner = ClientOwner4 {
            // A new start of the program is a new client, whatever else is the same (RFC 8881 §2.4).
            co_verifier: Verifier4(crate::client::rand_verifier()),
            co_ownerid: options.owner.as_str().into(),
        };
        Self { owner, options: options.clone() }
    }

    pub(crate) fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// Sends one operation in a compound of its own.
    async fn ask(&self, channel: &Channel, minor: u32, op: Argop4) -> Step<Replies> {
        let ops = [op];
        let segments = encode_compound(&self.options.machine_name, &self.options.cred, minor, None, &ops)?;
        let mut delay = Backoff::for_delay();
        loop {
            let Ok(Ok(record)) = timeout(self.options.call_timeout, channel.call(segments.clone())).await else {
                return Err(Broken::Channel);
            };
            let compound = decode_compound(record)?;
            match compound.status {
                Err(Nfs4Error::Delay) => sleep(delay.pause()).await,
                Err(status) if compound.resarray.is_empty() => {
                    return Err(Error::Nfs { op: ops[0].name(), status }.into());
                }
                _ => return Ok(Replies::new(compound.resarray)),
            }
        }
    }

    /// EXCHANGE_ID with the highest minor version that the server speaks.
    pub(crate) async fn first_exchange_id(&self, channel: &Channel) -> Step<(u32, ClientId)> {
        match self.exchange_id(channel, 2).await {
            Err(broken) if broken.status() == Some(Nfs4Error::MinorVersMismatch) => {}
            other => return Ok((2, other?)),
        }
        match self.exchange_id(channel, 1).await {
            Err(broken) if broken.status() == Some(Nfs4Error::MinorVersMismatch) => {
                let why = "the server speaks neither NFSv4.2 nor NFSv4.1; Amazon S3 Files does, so check that the \
                           address is a mount target's";
                Err(Error::NoSession(why.to_owned()).into())
            }
            other => Ok((1, other?)),
        }
    }

    /// EXCHANGE_ID (RFC 8881 §18.35).
    pub(crate) async fn exchange_id(&self, channel: &Channel, minor: u32) -> Step<ClientId> {
        let op = Argop4::ExchangeId(ExchangeId4args {
            eia_clientowner: self.owner.clone(),
            eia_flags: exchgid4::USE_NON_PNFS,
            eia_state_protect: StateProtect4A::None,
            eia_client_impl_id: vec![NfsImplId4 {
                nii_domain: "github.com/s3files-fuse".into(),
                nii_name: concat!("s3files-fuse ", env!("CARGO_PKG_VERSION")).into(),
                nii_date: Nfstime4::default(),
            }]
            .into(),
        });
        let mut replies = self.ask(channel, minor, op).await?;
        let ok = next!(replies, ExchangeId, "EXCHANGE_ID")?;
        Ok(ClientId {
            id: ok.eir_clientid,
            sequence: ok.eir_sequenceid,
            known: ok.eir_flags & exchgid4::CONFIRMED_R != 0,
        })
    }

    /// CREATE_SESSION (RFC 8881 §18.36). The caller counts the sequence id up after a success.
    pub(crate) async fn create_session(&self, channel: &Channel, minor: u32, client: ClientId) -> Step<Granted> {
        let ClientOptions { max_io, slots, cred, machine_name, .. } = &self.options;
        let size = max_io.saturating_add(ASKED_OVERHEAD);
        let op = Argop4::CreateSession(CreateSession4args {
            csa_clientid: client.id,
            csa_sequence: client.sequence,
            csa_flags: create_session4::CONN_BACK_CHAN,
            csa_fore_chan_attrs: ChannelAttrs4 {
                ca_headerpadsize: 0,
                ca_maxrequestsize: size,
                ca_maxresponsesize: size,
                ca_maxresponsesize_cached: CACHED_REPLY,
                ca_maxoperations: OPERATIONS,
                ca_maxrequests: *slots,
                ca_rdma_ird: Vec::new().into(),
            },
            csa_back_chan_attrs: ChannelAttrs4 {
                ca_headerpadsize: 0,
                ca_maxrequestsize: 4096,
                ca_maxresponsesize: 4096,
                ca_maxresponsesize_cached: 4096,
                ca_maxoperations: 8,
                ca_maxrequests: CB_SLOTS,
                ca_rdma_ird: Vec::new().into(),
            },
            csa_cb_program: CALLBACK_PROGRAM,
            csa_sec_parms: vec![CallbackSecParms4::Sys(AuthSys::new(machine_name, cred.uid, cred.gid, &cred.groups))]
                .into(),
        });
        let mut replies = self.ask(channel, minor, op).await?;
        let ok = next!(replies, CreateSession, "CREATE_SESSION")?;
        let fore = ok.csr_fore_chan_attrs;
        let least = fore.ca_maxrequestsize.min(fore.ca_maxresponsesize);
        if least < LEAST_CHANNEL || fore.ca_maxoperations < 8 || fore.ca_maxrequests == 0 {
            let why = format!(
                "the server's session is too small to be used: requests of {} bytes, replies of {} bytes, {} operations, {} slots",
                fore.ca_maxrequestsize, fore.ca_maxresponsesize, fore.ca_maxoperations, fore.ca_maxrequests
            );
            return Err(Error::NoSession(why).into());
        }
        // No more than was asked for, whatever the server says: these become sizes of our own buffers.
        Ok(Granted {
            id: ok.csr_sessionid,
            slots: fore.ca_maxrequests.min(*slots),
            max_request: fore.ca_maxrequestsize.min(size),
            max_response: fore.ca_maxresponsesize.min(size),
        })
    }

    /// BIND_CONN_TO_SESSION (RFC 8881 §18.34): a new connection for an old session.
    pub(crate) async fn bind_connection(
        &self,
        channel: &Channel,
        minor: u32,
        session: Sessionid4,
        direction: ChannelDirFromClient4,
    ) -> Step<()> {
        let op = Argop4::BindConnToSession(BindConnToSession4args {
            bctsa_sessid: session,
            bctsa_dir: direction,
            bctsa_use_conn_in_rdma_mode: false,
        });
        let mut replies = self.ask(channel, minor, op).await?;
        next!(replies, BindConnToSession, "BIND_CONN_TO_SESSION")?;
        Ok(())
    }

    /// DESTROY_SESSION (RFC 8881 §18.37).
    pub(crate) async fn destroy_session(&self, channel: &Channel, minor: u32, session: Sessionid4) -> Step<()> {
        let op = Argop4::DestroySession(DestroySession4args { dsa_sessionid: session });
        let mut replies = self.ask(channel, minor, op).await?;
        Ok(next!(replies, DestroySession, "DESTROY_SESSION")?)
    }

    /// DESTROY_CLIENTID (RFC 8881 §18.50).
    pub(crate) async fn destroy_clientid(&self, channel: &Channel, minor: u32, client: u64) -> Step<()> {
        let op = Argop4::DestroyClientid(DestroyClientid4args { dca_clientid: client });
        let mut replies = self.ask(channel, minor, op).await?;
        Ok(next!(replies, DestroyClientid, "DESTROY_CLIENTID")?)
    }
}

/// Runs one step of the end of a client, which must not take for ever.
pub(crate) async fn within<T>(limit: Duration, step: &'static str, work: impl Future<Output = Step<T>>) -> Option<T> {
    match timeout(limit, work).await {
        Ok(Ok(value)) => Some(value),
        Ok(Err(broken)) => {
            tracing::debug!(step, ?broken, "a step of the end failed");
            None
        }
        Err(_) => {
            tracing::debug!(step, "a step of the end took too long");
            None
        }
    }
}

/// What the first connect tells the user when it fails half-way.
pub(crate) fn first_error(broken: Broken) -> Error {
    match broken {
        Broken::Server(error) => error,
        Broken::Channel => {
            Error::NoSession("the mount target closed the connection while the session was being made".to_owned())
        }
        Broken::Session => Error::NoSession("the mount target dropped the session as soon as it was made".to_owned()),
    }
}
