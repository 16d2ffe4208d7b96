//! Callbacks: what the server calls on the back channel (RFC 8881 §20, RFC 7862 §16, AWSFILE's heartbeat).

use crate::attr::Fattr4;
use crate::error::{Nfs4Error, Status};
use crate::ops::layout::Deviceid4;
use crate::ops::v42::WriteResponse4;
use crate::types::{Bitmap4, Fsid4, NfsFh4, Sessionid4, StateOwner4, Stateid4};
use crate::xdr::{List, Opaque, Pack, Reader, Result, Unpack, Writer};

/// Procedure of CB_COMPOUND.
pub const PROC_CB_COMPOUND: u32 = 1;
/// Version of the callback program.
pub const NFS_CB_V1: u32 = 1;
/// Operation number of CB_ILLEGAL.
pub const OP_CB_ILLEGAL: u32 = 10044;

xdr_struct! {
    /// CB_GETATTR arguments.
    pub struct CbGetattr4args {
        /// The file.
        pub fh: NfsFh4,
        /// Attributes asked for.
        pub attr_request: Bitmap4,
    }
    /// CB_GETATTR result.
    pub struct CbGetattr4resok {
        /// The attributes.
        pub obj_attributes: Fattr4,
    }
    /// CB_RECALL arguments.
    pub struct CbRecall4args {
        /// The delegation.
        pub stateid: Stateid4,
        /// Whether the file is about to be truncated.
        pub truncate: bool,
        /// The file.
        pub fh: NfsFh4,
    }
    /// `layoutrecall_file4`.
    pub struct LayoutrecallFile4 {
        /// The file.
        pub lor_fh: NfsFh4,
        /// First byte.
        pub lor_offset: u64,
        /// Number of bytes.
        pub lor_length: u64,
        /// The layout.
        pub lor_stateid: Stateid4,
    }
    /// CB_LAYOUTRECALL arguments.
    pub struct CbLayoutrecall4args {
        /// Layout type.
        pub clora_type: u32,
        /// 1 for reading, 2 for both, 3 for any.
        pub clora_iomode: u32,
        /// Whether the layout changed.
        pub clora_changed: bool,
        /// What is recalled.
        pub clora_recall: Layoutrecall4,
    }
    /// `notify4`.
    pub struct Notify4 {
        /// Events.
        pub notify_mask: Bitmap4,
        /// Their values.
        pub notify_vals: Opaque,
    }
    /// CB_NOTIFY arguments.
    pub struct CbNotify4args {
        /// The delegation.
        pub cna_stateid: Stateid4,
        /// The directory.
        pub cna_fh: NfsFh4,
        /// The changes.
        pub cna_changes: List<Notify4>,
    }
    /// CB_RECALL_ANY arguments.
    pub struct CbRecallAny4args {
        /// How many delegations the client may keep.
        pub craa_objects_to_keep: u32,
        /// Of which kinds.
        pub craa_type_mask: Bitmap4,
    }
    /// CB_RECALL_SLOT arguments.
    pub struct CbRecallSlot4args {
        /// The highest slot that the client should use.
        pub rsa_target_highest_slotid: u32,
    }
    /// `referring_call4`.
    pub struct ReferringCall4 {
        /// Sequence id of a call.
        pub rc_sequenceid: u32,
        /// Its slot.
        pub rc_slotid: u32,
    }
    /// `referring_call_list4`.
    pub struct ReferringCallList4 {
        /// The session.
        pub rcl_sessionid: Sessionid4,
        /// Calls whose replies the client should wait for.
        pub rcl_referring_calls: List<ReferringCall4>,
    }
    /// CB_SEQUENCE arguments.
    pub struct CbSequence4args {
        /// The session.
        pub csa_sessionid: Sessionid4,
        /// Rises by one with each new request on the slot.
        pub csa_sequenceid: u32,
        /// The slot.
        pub csa_slotid: u32,
        /// The highest slot in use.
        pub csa_highest_slotid: u32,
        /// Whether the reply shall be cached.
        pub csa_cachethis: bool,
        /// Calls that this callback refers to.
        pub csa_referring_call_lists: List<ReferringCallList4>,
    }
    /// CB_SEQUENCE result.
    pub struct CbSequence4resok {
        /// The session.
        pub csr_sessionid: Sessionid4,
        /// As sent.
        pub csr_sequenceid: u32,
        /// As sent.
        pub csr_slotid: u32,
        /// The highest slot that the client keeps.
        pub csr_highest_slotid: u32,
        /// The highest slot that the server should use.
        pub csr_target_highest_slotid: u32,
    }
    /// CB_NOTIFY_LOCK arguments.
    pub struct CbNotifyLock4args {
        /// The file.
        pub cnla_fh: NfsFh4,
        /// Who waits.
        pub cnla_lock_owner: StateOwner4,
    }
    /// CB_NOTIFY_DEVICEID arguments.
    pub struct CbNotifyDeviceid4args {
        /// The changes.
        pub cnda_changes: List<Notify4>,
    }
    /// Argument of CB_WANTS_CANCELLED.
    pub struct CbWantsCancelled4args {
        /// Contended wishes.
        pub cwca_contended_wants_cancelled: bool,
        /// Wishes for resources.
        pub cwca_resourced_wants_cancelled: bool,
    }
    /// CB_PUSH_DELEG arguments.
    pub struct CbPushDeleg4args {
        /// The file.
        pub cpda_fh: NfsFh4,
        /// The delegation.
        pub cpda_delegation: crate::ops::open::OpenDelegation4,
    }
    /// CB_OFFLOAD arguments.
    pub struct CbOffload4args {
        /// The destination.
        pub coa_fh: NfsFh4,
        /// The copy.
        pub coa_stateid: Stateid4,
        /// What became of it.
        pub coa_offload_info: OffloadInfo4,
    }
    /// CB_AWSFILE_HEARTBEAT arguments: is the client alive?
    pub struct CbAwsfileHeartbeatArgs {
        /// The client.
        pub clientid: u64,
    }
    /// A device in a notification.
    pub struct NotifyDeviceidDelete4 {
        /// Layout type.
        pub ndd_layouttype: u32,
        /// The device.
        pub ndd_deviceid: Deviceid4,
    }
}

xdr_union! {
    /// `layoutrecall4`.
    pub enum Layoutrecall4 {
        /// A range of a file.
        1 => File(LayoutrecallFile4),
        /// Of a file system.
        2 => Fsid(Fsid4),
        /// Everything.
        3 => All,
    }
}

/// `offload_info4`: a failed copy tells how far it came.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OffloadInfo4 {
    /// Done.
    Ok(WriteResponse4),
    /// Failed after so many bytes.
    Err(Nfs4Error, u64),
}

impl Pack<Writer> for OffloadInfo4 {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        match self {
            Self::Ok(body) => Ok(0u32.pack(out)? + body.pack(out)?),
            Self::Err(error, bytes) => Ok(u32::from(*error).pack(out)? + bytes.pack(out)?),
        }
    }
}

impl Unpack<Reader> for OffloadInfo4 {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        let before = input.remaining();
        let value = match Nfs4Error::from_status(input.get()?) {
            None => Self::Ok(input.get()?),
            Some(error) => Self::Err(error, input.get()?),
        };
        Ok((value, before - input.remaining()))
    }
}

#[cfg(test)]
impl<'a> arbitrary::Arbitrary<'a> for OffloadInfo4 {
    fn arbitrary(u: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match u.arbitrary::<Option<Nfs4Error>>()? {
            None => Self::Ok(u.arbitrary()?),
            Some(error) => Self::Err(error, u.arbitrary()?),
        })
    }
}

type Res<T> = std::result::Result<T, Nfs4Error>;

macro_rules! callbacks {
    ($($number:literal $variant:ident $(($args:ty))? => $res:ty),* $(,)?) => {
        /// `nfs_cb_argop4`.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[cfg_attr(test, derive(arbitrary::Arbitrary))]
        pub enum CbArgop4 {
            $(#[doc = concat!("Callback operation ", stringify!($number), ".")] $variant $(($args))?,)*
            /// An operation that this crate does not know; it ends the compound.
            #[cfg_attr(test, arbitrary(skip))]
            Unknown(u32),
        }

        /// `nfs_cb_resop4`.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[cfg_attr(test, derive(arbitrary::Arbitrary))]
        pub enum CbResop4 {
            $(#[doc = concat!("Callback operation ", stringify!($number), ".")] $variant($res),)*
            /// The answer to an operation that this crate does not know; it ends the compound.
            #[cfg_attr(test, arbitrary(skip))]
            Unknown {
                /// Operation number.
                opnum: u32,
                /// Its status.
                status: Status,
            },
        }

        impl CbArgop4 {
            /// Operation number.
            pub fn opnum(&self) -> u32 {
                match self {
                    $(callbacks!(@pattern $variant $(($args))?) => $number,)*
                    Self::Unknown(number) => *number,
                }
            }
        }

        impl CbResop4 {
            /// Operation number.
            pub fn opnum(&self) -> u32 {
                match self {
                    $(Self::$variant(_) => $number,)*
                    Self::Unknown { opnum, .. } => *opnum,
                }
            }

            /// Why the operation failed, if it did.
            pub fn error(&self) -> Option<Nfs4Error> {
                match self {
                    $(Self::$variant(result) => result.as_ref().err().copied(),)*
                    Self::Unknown { status, .. } => status.err(),
                }
            }

            /// The answer to operation `opnum` when it failed with `error`.
            pub fn failed(opnum: u32, error: Nfs4Error) -> Self {
                match opnum {
                    $($number => Self::$variant(Err(error)),)*
                    opnum => Self::Unknown { opnum, status: Err(error) },
                }
            }
        }

        impl Pack<Writer> for CbArgop4 {
            fn pack(&self, out: &mut Writer) -> Result<usize> {
                let size = self.opnum().pack(out)?;
                match self {
                    $(callbacks!(@bind $variant args $(($args))?) => {
                        Ok(size $(+ <$args as Pack<Writer>>::pack(args, out)?)?)
                    })*
                    Self::Unknown(_) => Ok(size),
                }
            }
        }

        impl Unpack<Reader> for CbArgop4 {
            fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
                match input.get::<u32>()? {
                    $($number => callbacks!(@unpack input $variant $(($args))?),)*
                    other => Ok((Self::Unknown(other), 4)),
                }
            }
        }

        impl Pack<Writer> for CbResop4 {
            fn pack(&self, out: &mut Writer) -> Result<usize> {
                let size = self.opnum().pack(out)?;
                match self {
                    $(Self::$variant(result) => Ok(size + Pack::<Writer>::pack(result, out)?),)*
                    Self::Unknown { status, .. } => Ok(size + Pack::<Writer>::pack(status, out)?),
                }
            }
        }

        impl Unpack<Reader> for CbResop4 {
            fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
                match input.get::<u32>()? {
                    $($number => {
                        let (result, size) = <$res as Unpack<Reader>>::unpack(input)?;
                        Ok((Self::$variant(result), 4 + size))
                    })*
                    opnum => {
                        let (status, size) = <Status as Unpack<Reader>>::unpack(input)?;
                        Ok((Self::Unknown { opnum, status }, 4 + size))
                    }
                }
            }
        }
    };
    (@pattern $variant:ident ($args:ty)) => { CbArgop4::$variant(_) };
    (@pattern $variant:ident) => { CbArgop4::$variant };
    (@bind $variant:ident $bound:ident ($args:ty)) => { CbArgop4::$variant($bound) };
    (@bind $variant:ident $bound:ident) => { CbArgop4::$variant };
    (@unpack $input:ident $variant:ident ($args:ty)) => {{
        let (args, size) = <$args as Unpack<Reader>>::unpack($input)?;
        Ok((Self::$variant(args), 4 + size))
    }};
    (@unpack $input:ident $variant:ident) => { Ok((Self::$variant, 4)) };
}

callbacks! {
    3 Getattr(CbGetattr4args) => Res<CbGetattr4resok>,
    4 Recall(CbRecall4args) => Status,
    5 Layoutrecall(CbLayoutrecall4args) => Status,
    6 Notify(CbNotify4args) => Status,
    7 PushDeleg(CbPushDeleg4args) => Status,
    8 RecallAny(CbRecallAny4args) => Status,
    9 RecallableObjAvail(CbRecallAny4args) => Status,
    10 RecallSlot(CbRecallSlot4args) => Status,
    11 Sequence(CbSequence4args) => Res<CbSequence4resok>,
    12 WantsCancelled(CbWantsCancelled4args) => Status,
    13 NotifyLock(CbNotifyLock4args) => Status,
    14 NotifyDeviceid(CbNotifyDeviceid4args) => Status,
    15 Offload(CbOffload4args) => Status,
    10044 Illegal => Status,
    100_001 AwsfileHeartbeat(CbAwsfileHeartbeatArgs) => Status,
}

/// `CB_COMPOUND4args`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct CbCompound4args {
    /// Comes back in the reply.
    pub tag: Opaque,
    /// 1 for NFSv4.1, 2 for NFSv4.2.
    pub minorversion: u32,
    /// Not used in NFSv4.1: 0.
    pub callback_ident: u32,
    /// The operations.
    pub argarray: Vec<CbArgop4>,
}

/// `CB_COMPOUND4res`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct CbCompound4res {
    /// The status of the last operation.
    pub status: Status,
    /// As sent.
    pub tag: Opaque,
    /// One result for each operation that was tried.
    pub resarray: Vec<CbResop4>,
}

impl Pack<Writer> for CbCompound4args {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        let before = out.len();
        self.tag.pack(out)?;
        self.minorversion.pack(out)?;
        self.callback_ident.pack(out)?;
        (self.argarray.len() as u32).pack(out)?;
        for op in &self.argarray {
            op.pack(out)?;
        }
        Ok(out.len() - before)
    }
}

impl Unpack<Reader> for CbCompound4args {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        let before = input.remaining();
        let (tag, minorversion, callback_ident) = (input.get()?, input.get()?, input.get()?);
        let count = input.count(4)?;
        let mut argarray = Vec::with_capacity(count.min(16));
        for _ in 0..count {
            let op: CbArgop4 = input.get()?;
            let stop = matches!(op, CbArgop4::Unknown(_));
            argarray.push(op);
            if stop {
                input.take(input.remaining() & !3)?;
                break;
            }
        }
        Ok((Self { tag, minorversion, callback_ident, argarray }, before - input.remaining()))
    }
}

impl Pack<Writer> for CbCompound4res {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        let before = out.len();
        Pack::<Writer>::pack(&self.status, out)?;
        self.tag.pack(out)?;
        (self.resarray.len() as u32).pack(out)?;
        for op in &self.resarray {
            op.pack(out)?;
        }
        Ok(out.len() - before)
    }
}

impl Unpack<Reader> for CbCompound4res {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        let before = input.remaining();
        let (status, tag) = (input.get()?, input.get()?);
        let count = input.count(8)?;
        let mut resarray = Vec::with_capacity(count.min(16));
        for _ in 0..count {
            let op: CbResop4 = input.get()?;
            let stop = matches!(op, CbResop4::Unknown { .. });
            resarray.push(op);
            if stop {
                input.take(input.remaining() & !3)?;
                break;
            }
        }
        Ok((Self { status, tag, resarray }, before - input.remaining()))
    }
}
