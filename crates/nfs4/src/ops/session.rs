//! Clients and sessions: EXCHANGE_ID, CREATE_SESSION, SEQUENCE and their kin (RFC 8881 §18.33–18.37, §18.46–18.51).

use crate::rpc::AuthSys;
use crate::types::{Bitmap4, NfsImplId4, Sessionid4, Verifier4};
use crate::xdr::{List, Opaque, Pack, Reader, Result, Unpack, Writer};

/// Bits of EXCHANGE_ID's flags (RFC 8881 §18.35).
pub mod exchgid4 {
    /// The client follows referrals.
    pub const SUPP_MOVED_REFER: u32 = 0x1;
    /// The client follows migration.
    pub const SUPP_MOVED_MIGR: u32 = 0x2;
    /// The client's principal is bound to stateids.
    pub const BIND_PRINC_STATEID: u32 = 0x100;
    /// Not a pNFS server.
    pub const USE_NON_PNFS: u32 = 0x1_0000;
    /// A pNFS metadata server.
    pub const USE_PNFS_MDS: u32 = 0x2_0000;
    /// A pNFS data server.
    pub const USE_PNFS_DS: u32 = 0x4_0000;
    /// Change a confirmed record.
    pub const UPD_CONFIRMED_REC_A: u32 = 0x4000_0000;
    /// The record is confirmed.
    pub const CONFIRMED_R: u32 = 0x8000_0000;
}

/// Bits of CREATE_SESSION's flags (RFC 8881 §18.36).
pub mod create_session4 {
    /// Keep the reply cache over a restart.
    pub const PERSIST: u32 = 1;
    /// Use this connection for the back channel too.
    pub const CONN_BACK_CHAN: u32 = 2;
    /// The connection does RDMA.
    pub const CONN_RDMA: u32 = 4;
}

/// Bits of SEQUENCE's status flags (RFC 8881 §18.46.3).
pub mod seq4_status {
    /// No back channel.
    pub const CB_PATH_DOWN: u32 = 0x1;
    /// Back channel credentials run out.
    pub const CB_GSS_CONTEXTS_EXPIRING: u32 = 0x2;
    /// Back channel credentials have run out.
    pub const CB_GSS_CONTEXTS_EXPIRED: u32 = 0x4;
    /// All state was lost.
    pub const EXPIRED_ALL_STATE_REVOKED: u32 = 0x8;
    /// Some state was lost.
    pub const EXPIRED_SOME_STATE_REVOKED: u32 = 0x10;
    /// An administrator took state away.
    pub const ADMIN_STATE_REVOKED: u32 = 0x20;
    /// A recallable state was taken away.
    pub const RECALLABLE_STATE_REVOKED: u32 = 0x40;
    /// A lease moved.
    pub const LEASE_MOVED: u32 = 0x80;
    /// The server restarted: reclaim.
    pub const RESTART_RECLAIM_NEEDED: u32 = 0x100;
    /// No back channel for this session.
    pub const CB_PATH_DOWN_SESSION: u32 = 0x200;
    /// Something is wrong with the back channel.
    pub const BACKCHANNEL_FAULT: u32 = 0x400;
    /// Device ids changed.
    pub const DEVID_CHANGED: u32 = 0x800;
    /// Device ids were deleted.
    pub const DEVID_DELETED: u32 = 0x1000;
}

xdr_struct! {
    /// `client_owner4`: who the client is, over restarts.
    pub struct ClientOwner4 {
        /// Changes with each start of the client.
        pub co_verifier: Verifier4,
        /// The same over restarts.
        pub co_ownerid: Opaque,
    }
    /// `server_owner4`.
    pub struct ServerOwner4 {
        /// Tells servers of one owner apart.
        pub so_minor_id: u64,
        /// The owner.
        pub so_major_id: Opaque,
    }
    /// `state_protect_ops4`.
    pub struct StateProtectOps4 {
        /// Operations that must be protected.
        pub spo_must_enforce: Bitmap4,
        /// Operations that may be protected.
        pub spo_must_allow: Bitmap4,
    }
    /// `ssv_sp_parms4`.
    pub struct SsvSpParms4 {
        /// Which operations.
        pub ssp_ops: StateProtectOps4,
        /// Hash algorithms.
        pub ssp_hash_algs: List<Opaque>,
        /// Encryption algorithms.
        pub ssp_encr_algs: List<Opaque>,
        /// Window.
        pub ssp_window: u32,
        /// Number of handles.
        pub ssp_num_gss_handles: u32,
    }
    /// `ssv_prot_info4`.
    pub struct SsvProtInfo4 {
        /// Which operations.
        pub spi_ops: StateProtectOps4,
        /// Chosen hash algorithm.
        pub spi_hash_alg: u32,
        /// Chosen encryption algorithm.
        pub spi_encr_alg: u32,
        /// Length of the secret.
        pub spi_ssv_len: u32,
        /// Window.
        pub spi_window: u32,
        /// Handles.
        pub spi_handles: List<Opaque>,
    }
    /// EXCHANGE_ID arguments.
    pub struct ExchangeId4args {
        /// Who the client is.
        pub eia_clientowner: ClientOwner4,
        /// Bits of [`exchgid4`].
        pub eia_flags: u32,
        /// How state is protected.
        pub eia_state_protect: StateProtect4A,
        /// Who made the client: none or one.
        pub eia_client_impl_id: List<NfsImplId4>,
    }
    /// EXCHANGE_ID result.
    pub struct ExchangeId4resok {
        /// The client's id at the server.
        pub eir_clientid: u64,
        /// For the first CREATE_SESSION.
        pub eir_sequenceid: u32,
        /// Bits of [`exchgid4`].
        pub eir_flags: u32,
        /// How state is protected.
        pub eir_state_protect: StateProtect4R,
        /// Who the server is.
        pub eir_server_owner: ServerOwner4,
        /// Scope of handles and state.
        pub eir_server_scope: Opaque,
        /// Who made the server: none or one.
        pub eir_server_impl_id: List<NfsImplId4>,
    }
    /// `channel_attrs4`: limits of a channel.
    pub struct ChannelAttrs4 {
        /// Padding for RDMA.
        pub ca_headerpadsize: u32,
        /// Largest request in bytes, RPC header included.
        pub ca_maxrequestsize: u32,
        /// Largest reply in bytes, RPC header included.
        pub ca_maxresponsesize: u32,
        /// Largest reply that is cached, in bytes.
        pub ca_maxresponsesize_cached: u32,
        /// Most operations in a compound.
        pub ca_maxoperations: u32,
        /// Number of slots.
        pub ca_maxrequests: u32,
        /// RDMA: none or one.
        pub ca_rdma_ird: List<u32>,
    }
    /// `gss_cb_handles4`.
    pub struct GssCbHandles4 {
        /// Service.
        pub gcbp_service: u32,
        /// Handle from the server.
        pub gcbp_handle_from_server: Opaque,
        /// Handle from the client.
        pub gcbp_handle_from_client: Opaque,
    }
    /// CREATE_SESSION arguments.
    pub struct CreateSession4args {
        /// From EXCHANGE_ID.
        pub csa_clientid: u64,
        /// From EXCHANGE_ID, then one more for each session.
        pub csa_sequence: u32,
        /// Bits of [`create_session4`].
        pub csa_flags: u32,
        /// Wishes for the fore channel.
        pub csa_fore_chan_attrs: ChannelAttrs4,
        /// Wishes for the back channel.
        pub csa_back_chan_attrs: ChannelAttrs4,
        /// Program number of callbacks.
        pub csa_cb_program: u32,
        /// Credentials that callbacks may use.
        pub csa_sec_parms: List<CallbackSecParms4>,
    }
    /// CREATE_SESSION result.
    pub struct CreateSession4resok {
        /// The session.
        pub csr_sessionid: Sessionid4,
        /// As sent.
        pub csr_sequence: u32,
        /// Bits of [`create_session4`] that hold.
        pub csr_flags: u32,
        /// The fore channel's limits.
        pub csr_fore_chan_attrs: ChannelAttrs4,
        /// The back channel's limits.
        pub csr_back_chan_attrs: ChannelAttrs4,
    }
    /// DESTROY_SESSION arguments.
    pub struct DestroySession4args {
        /// The session.
        pub dsa_sessionid: Sessionid4,
    }
    /// DESTROY_CLIENTID arguments.
    pub struct DestroyClientid4args {
        /// The client.
        pub dca_clientid: u64,
    }
    /// BIND_CONN_TO_SESSION arguments.
    pub struct BindConnToSession4args {
        /// The session.
        pub bctsa_sessid: Sessionid4,
        /// Which channels.
        pub bctsa_dir: ChannelDirFromClient4,
        /// Whether over RDMA.
        pub bctsa_use_conn_in_rdma_mode: bool,
    }
    /// BIND_CONN_TO_SESSION result.
    pub struct BindConnToSession4resok {
        /// The session.
        pub bctsr_sessid: Sessionid4,
        /// Which channels: 1 fore, 2 back, 3 both.
        pub bctsr_dir: u32,
        /// Whether over RDMA.
        pub bctsr_use_conn_in_rdma_mode: bool,
    }
    /// BACKCHANNEL_CTL arguments.
    pub struct BackchannelCtl4args {
        /// Program number of callbacks.
        pub bca_cb_program: u32,
        /// Credentials that callbacks may use.
        pub bca_sec_parms: List<CallbackSecParms4>,
    }
    /// SEQUENCE arguments.
    pub struct Sequence4args {
        /// The session.
        pub sa_sessionid: Sessionid4,
        /// Rises by one with each new request on the slot.
        pub sa_sequenceid: u32,
        /// The slot.
        pub sa_slotid: u32,
        /// The highest slot in use.
        pub sa_highest_slotid: u32,
        /// Whether the reply shall be cached.
        pub sa_cachethis: bool,
    }
    /// SEQUENCE result.
    pub struct Sequence4resok {
        /// The session.
        pub sr_sessionid: Sessionid4,
        /// As sent.
        pub sr_sequenceid: u32,
        /// As sent.
        pub sr_slotid: u32,
        /// The highest slot that the server keeps.
        pub sr_highest_slotid: u32,
        /// The highest slot that the client should use.
        pub sr_target_highest_slotid: u32,
        /// Bits of [`seq4_status`].
        pub sr_status_flags: u32,
    }
    /// SET_SSV arguments.
    pub struct SetSsv4args {
        /// New secret.
        pub ssa_ssv: Opaque,
        /// Its digest.
        pub ssa_digest: Opaque,
    }
    /// SET_SSV result.
    pub struct SetSsv4resok {
        /// Digest.
        pub ssr_digest: Opaque,
    }
    /// RECLAIM_COMPLETE arguments.
    pub struct ReclaimComplete4args {
        /// Only for the current file handle's file system.
        pub rca_one_fs: bool,
    }
}

xdr_enum! {
    /// `channel_dir_from_client4`.
    pub enum ChannelDirFromClient4 { Fore = 1, Back = 2, ForeOrBoth = 3, BackOrBoth = 7 }
}

xdr_union! {
    /// `state_protect4_a`.
    pub enum StateProtect4A {
        /// None.
        0 => None,
        /// By machine credential.
        1 => MachCred(StateProtectOps4),
        /// By a shared secret.
        2 => Ssv(SsvSpParms4),
    }
    /// `state_protect4_r`.
    pub enum StateProtect4R {
        /// None.
        0 => None,
        /// By machine credential.
        1 => MachCred(StateProtectOps4),
        /// By a shared secret.
        2 => Ssv(SsvProtInfo4),
    }
}

/// `callback_sec_parms4`: a credential that callbacks may use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub enum CallbackSecParms4 {
    /// AUTH_NONE.
    None,
    /// AUTH_SYS.
    Sys(AuthSys),
    /// RPCSEC_GSS.
    Gss(GssCbHandles4),
}

impl Pack<Writer> for CallbackSecParms4 {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        match self {
            Self::None => 0u32.pack(out),
            Self::Sys(sys) => Ok(1u32.pack(out)? + sys.pack(out)?),
            Self::Gss(gss) => Ok(6u32.pack(out)? + gss.pack(out)?),
        }
    }
}

impl Unpack<Reader> for CallbackSecParms4 {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        let before = input.remaining();
        let value = match input.get::<u32>()? {
            0 => Self::None,
            1 => Self::Sys(input.get()?),
            6 => Self::Gss(input.get()?),
            other => return Err(crate::xdr::Error::invalidcase(other as i32)),
        };
        Ok((value, before - input.remaining()))
    }
}
