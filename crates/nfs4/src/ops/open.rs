//! Opening and closing files: OPEN, CLOSE, OPEN_DOWNGRADE, delegations (RFC 8881 §18.2, §18.16, §18.18).

use crate::attr::{Fattr4, Nfsace4};
use crate::types::{Bitmap4, ChangeInfo4, StateOwner4, Stateid4, Verifier4};
use crate::xdr::{Opaque, Pack, Reader, Result, Unpack, Writer};

/// Bits of `share_access` (RFC 8881 §18.16.1).
pub mod share {
    /// Open for reading.
    pub const ACCESS_READ: u32 = 1;
    /// Open for writing.
    pub const ACCESS_WRITE: u32 = 2;
    /// Open for both.
    pub const ACCESS_BOTH: u32 = 3;
    /// Deny nothing to others.
    pub const DENY_NONE: u32 = 0;
    /// Deny reading.
    pub const DENY_READ: u32 = 1;
    /// Deny writing.
    pub const DENY_WRITE: u32 = 2;
    /// Deny both.
    pub const DENY_BOTH: u32 = 3;
    /// Mask of the wish for a delegation.
    pub const WANT_DELEG_MASK: u32 = 0xff00;
    /// No wish.
    pub const WANT_NO_PREFERENCE: u32 = 0;
    /// A read delegation is welcome.
    pub const WANT_READ_DELEG: u32 = 0x0100;
    /// A write delegation is welcome.
    pub const WANT_WRITE_DELEG: u32 = 0x0200;
    /// Any delegation is welcome.
    pub const WANT_ANY_DELEG: u32 = 0x0300;
    /// No delegation, please.
    pub const WANT_NO_DELEG: u32 = 0x0400;
    /// Cancel an earlier wish.
    pub const WANT_CANCEL: u32 = 0x0500;
}

/// Bits of OPEN's `rflags` (RFC 8881 §18.16.2).
pub mod rflags {
    /// NFSv4.0: the open must be confirmed.
    pub const CONFIRM: u32 = 2;
    /// Locks have POSIX behaviour.
    pub const LOCKTYPE_POSIX: u32 = 4;
    /// A removed file stays while it is open.
    pub const PRESERVE_UNLINKED: u32 = 8;
    /// CB_NOTIFY_LOCK may come.
    pub const MAY_NOTIFY_LOCK: u32 = 0x20;
}

xdr_struct! {
    /// OPEN arguments.
    pub struct Open4args {
        /// Not used in NFSv4.1: 0.
        pub seqid: u32,
        /// Bits of [`share`].
        pub share_access: u32,
        /// Bits of [`share`].
        pub share_deny: u32,
        /// Who opens.
        pub owner: StateOwner4,
        /// Whether and how to create.
        pub openhow: Openflag4,
        /// Which file.
        pub claim: OpenClaim4,
    }
    /// OPEN result.
    pub struct Open4resok {
        /// The open.
        pub stateid: Stateid4,
        /// The directory's change.
        pub cinfo: ChangeInfo4,
        /// Bits of [`rflags`].
        pub rflags: u32,
        /// Attributes set at creation.
        pub attrset: Bitmap4,
        /// A delegation, or none.
        pub delegation: OpenDelegation4,
    }
    /// `creatverfattr`: for exclusive creation with attributes.
    pub struct Creatverfattr {
        /// Makes a repeated creation recognizable.
        pub cva_verf: Verifier4,
        /// First attributes.
        pub cva_attrs: Fattr4,
    }
    /// `open_claim_delegate_cur4`.
    pub struct OpenClaimDelegateCur4 {
        /// The delegation.
        pub delegate_stateid: Stateid4,
        /// The name.
        pub file: Opaque,
    }
    /// `nfs_modified_limit4`.
    #[derive(Copy)]
    pub struct NfsModifiedLimit4 {
        /// Blocks.
        pub num_blocks: u32,
        /// Bytes of a block.
        pub bytes_per_block: u32,
    }
    /// `open_read_delegation4`.
    pub struct OpenReadDelegation4 {
        /// The delegation.
        pub stateid: Stateid4,
        /// Whether it is being recalled already.
        pub recall: bool,
        /// Who may open without asking.
        pub permissions: Nfsace4,
    }
    /// `open_write_delegation4`.
    pub struct OpenWriteDelegation4 {
        /// The delegation.
        pub stateid: Stateid4,
        /// Whether it is being recalled already.
        pub recall: bool,
        /// How much may be written behind.
        pub space_limit: NfsSpaceLimit4,
        /// Who may open without asking.
        pub permissions: Nfsace4,
    }
    /// CLOSE arguments.
    pub struct Close4args {
        /// Not used in NFSv4.1: 0.
        pub seqid: u32,
        /// The open.
        pub open_stateid: Stateid4,
    }
    /// OPEN_DOWNGRADE arguments.
    pub struct OpenDowngrade4args {
        /// The open.
        pub open_stateid: Stateid4,
        /// Not used in NFSv4.1: 0.
        pub seqid: u32,
        /// Bits of [`share`] that remain.
        pub share_access: u32,
        /// Bits of [`share`] that remain.
        pub share_deny: u32,
    }
    /// DELEGPURGE arguments.
    pub struct Delegpurge4args {
        /// Ignored in NFSv4.1.
        pub clientid: u64,
    }
    /// DELEGRETURN arguments.
    pub struct Delegreturn4args {
        /// The delegation.
        pub deleg_stateid: Stateid4,
    }
    /// WANT_DELEGATION arguments (RFC 8881 §18.49).
    pub struct WantDelegation4args {
        /// Bits of [`share`].
        pub wda_want: u32,
        /// For which file.
        pub wda_claim: DelegClaim4,
    }
    /// GET_DIR_DELEGATION arguments (RFC 8881 §18.39).
    pub struct GetDirDelegation4args {
        /// Whether to be told when one is available.
        pub gdda_signal_deleg_avail: bool,
        /// Events.
        pub gdda_notification_types: Bitmap4,
        /// Longest delay of an entry's notification.
        pub gdda_child_attr_delay: crate::types::Nfstime4,
        /// Longest delay of a directory's notification.
        pub gdda_dir_attr_delay: crate::types::Nfstime4,
        /// Attributes of entries.
        pub gdda_child_attributes: Bitmap4,
        /// Attributes of the directory.
        pub gdda_dir_attributes: Bitmap4,
    }
    /// A directory delegation.
    pub struct GetDirDelegation4resok {
        /// Of the listing.
        pub gddr_cookieverf: Verifier4,
        /// The delegation.
        pub gddr_stateid: Stateid4,
        /// Events.
        pub gddr_notification: Bitmap4,
        /// Attributes of entries.
        pub gddr_child_attributes: Bitmap4,
        /// Attributes of the directory.
        pub gddr_dir_attributes: Bitmap4,
    }
}

xdr_enum! {
    /// `open_delegation_type4`.
    pub enum OpenDelegationType4 { None = 0, Read = 1, Write = 2, NoneExt = 3 }
    /// `why_no_delegation4`.
    pub enum WhyNoDelegation4 {
        NotWanted = 0, Contention = 1, Resource = 2, NotSuppFtype = 3, WriteDelegNotSuppFtype = 4,
        NotSuppUpgrade = 5, NotSuppDowngrade = 6, Cancelled = 7, IsDir = 8,
    }
}

xdr_union! {
    /// `openflag4`.
    pub enum Openflag4 {
        /// The file must exist.
        0 => NoCreate,
        /// The file may be created.
        1 => Create(Createhow4),
    }
    /// `createhow4`.
    pub enum Createhow4 {
        /// An existing file will do.
        0 => Unchecked(Fattr4),
        /// An existing file is an error.
        1 => Guarded(Fattr4),
        /// As guarded, safe to repeat; no attributes.
        2 => Exclusive(Verifier4),
        /// As guarded, safe to repeat.
        3 => Exclusive41(Creatverfattr),
    }
    /// `open_claim4`.
    pub enum OpenClaim4 {
        /// By name in the current directory.
        0 => Null(Opaque),
        /// Reclaim after a server restart.
        1 => Previous(OpenDelegationType4),
        /// With a delegation in hand, by name.
        2 => DelegateCur(OpenClaimDelegateCur4),
        /// Reclaim of a delegation, by name.
        3 => DelegatePrev(Opaque),
        /// The current file handle itself.
        4 => Fh,
        /// With a delegation in hand, the current file handle.
        5 => DelegCurFh(Stateid4),
        /// Reclaim of a delegation, the current file handle.
        6 => DelegPrevFh,
    }
    /// `nfs_space_limit4`.
    pub enum NfsSpaceLimit4 {
        /// A file size in bytes.
        1 => Filesize(u64),
        /// A number of blocks.
        2 => Blocks(NfsModifiedLimit4),
    }
    /// `open_delegation4`.
    pub enum OpenDelegation4 {
        /// None.
        0 => None,
        /// For reading.
        1 => Read(OpenReadDelegation4),
        /// For writing.
        2 => Write(OpenWriteDelegation4),
        /// None, and why.
        3 => NoneExt(OpenNoneDelegation4),
    }
    /// `deleg_claim4`.
    pub enum DelegClaim4 {
        /// Reclaim.
        1 => Previous(OpenDelegationType4),
        /// The current file handle.
        4 => Fh,
        /// Reclaim of the current file handle.
        6 => DelegPrevFh,
    }
    /// GET_DIR_DELEGATION result.
    pub enum GetDirDelegation4resNonFatal {
        /// A delegation.
        0 => Ok(GetDirDelegation4resok),
        /// None; whether the server will signal.
        1 => Unavail(bool),
    }
}

/// `open_none_delegation4`: why there is no delegation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OpenNoneDelegation4 {
    /// Contention; whether the server will tell when it is over.
    Contention(bool),
    /// Resources; whether the server will tell when there are some.
    Resource(bool),
    /// Another reason.
    Other(WhyNoDelegation4),
}

impl Pack<Writer> for OpenNoneDelegation4 {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        match self {
            Self::Contention(signal) => Ok(WhyNoDelegation4::Contention.pack(out)? + signal.pack(out)?),
            Self::Resource(signal) => Ok(WhyNoDelegation4::Resource.pack(out)? + signal.pack(out)?),
            Self::Other(why) => why.pack(out),
        }
    }
}

impl Unpack<Reader> for OpenNoneDelegation4 {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        Ok(match input.get()? {
            WhyNoDelegation4::Contention => (Self::Contention(input.get()?), 8),
            WhyNoDelegation4::Resource => (Self::Resource(input.get()?), 8),
            other => (Self::Other(other), 4),
        })
    }
}

#[cfg(test)]
impl<'a> arbitrary::Arbitrary<'a> for OpenNoneDelegation4 {
    fn arbitrary(u: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match u.arbitrary()? {
            WhyNoDelegation4::Contention => Self::Contention(u.arbitrary()?),
            WhyNoDelegation4::Resource => Self::Resource(u.arbitrary()?),
            other => Self::Other(other),
        })
    }
}
