//! COMPOUND (RFC 8881 §16.2): one variant for each operation, in the call and in the reply.

use crate::awsfile::ReadBypassRes;
use crate::error::{Nfs4Error, Status};
use crate::ops::{dir, extended, file, layout, lock, open, session, v42};
use crate::types::Verifier4;
use crate::xdr::{Opaque, Pack, Reader, Result, Unpack, Writer};

type Res<T> = std::result::Result<T, Nfs4Error>;

/// Turns the result of an operation into its status; success is `None`.
trait HasStatus {
    fn error(&self) -> Option<Nfs4Error>;
}

impl<T> HasStatus for Res<T> {
    fn error(&self) -> Option<Nfs4Error> {
        self.as_ref().err().copied()
    }
}

impl HasStatus for file::Setattr4res {
    fn error(&self) -> Option<Nfs4Error> {
        self.status.err()
    }
}

impl<T> HasStatus for lock::LockRes<T> {
    fn error(&self) -> Option<Nfs4Error> {
        match self {
            Self::Ok(_) => None,
            Self::Denied(_) => Some(Nfs4Error::Denied),
            Self::Err(error) => Some(*error),
        }
    }
}

impl<T, const STATUS: u32> HasStatus for layout::WordOnError<T, STATUS> {
    fn error(&self) -> Option<Nfs4Error> {
        match self {
            Self::Ok(_) => None,
            Self::Word(_) => Nfs4Error::from_status(STATUS),
            Self::Err(error) => Some(*error),
        }
    }
}

impl HasStatus for v42::Copy4res {
    fn error(&self) -> Option<Nfs4Error> {
        match self {
            Self::Ok(_) => None,
            Self::OffloadNoReqs(_) => Some(Nfs4Error::OffloadNoReqs),
            Self::Err(error) => Some(*error),
        }
    }
}

impl HasStatus for ReadBypassRes {
    fn error(&self) -> Option<Nfs4Error> {
        match self {
            Self::Data(_) | Self::Locator(_) => None,
            Self::Err(error) => Some(*error),
        }
    }
}

macro_rules! operations {
    ($($number:literal $variant:ident $(($args:ty))? => $res:ty),* $(,)?) => {
        /// `nfs_argop4`: an operation and its arguments.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[cfg_attr(test, derive(arbitrary::Arbitrary))]
        pub enum Argop4 {
            $(#[doc = concat!("Operation ", stringify!($number), ".")] $variant $(($args))?,)*
            /// An operation that this crate does not know; it ends the compound, since its arguments cannot be read.
            #[cfg_attr(test, arbitrary(skip))]
            Unknown(u32),
        }

        /// `nfs_resop4`: an operation and its result.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[cfg_attr(test, derive(arbitrary::Arbitrary))]
        pub enum Resop4 {
            $(#[doc = concat!("Operation ", stringify!($number), ".")] $variant($res),)*
            /// The answer to an operation that this crate does not know; it ends the compound.
            #[cfg_attr(test, arbitrary(skip))]
            Unknown {
                /// Operation number.
                opnum: u32,
                /// Its status.
                status: Status,
            },
        }

        impl Argop4 {
            /// Operation number.
            pub fn opnum(&self) -> u32 {
                match self {
                    $(operations!(@pattern Argop4 $variant $(($args))?) => $number,)*
                    Self::Unknown(number) => *number,
                }
            }

            /// Name of the operation in RFC spelling, upper case without underscores (`GETATTR`, `CREATESESSION`).
            pub fn name(&self) -> &'static str {
                op_name(self.opnum())
            }
        }

        impl Resop4 {
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
                    $(Self::$variant(result) => HasStatus::error(result),)*
                    Self::Unknown { status, .. } => status.err(),
                }
            }

            /// The answer to operation `opnum` when it failed with `error` and no body comes with that error.
            /// Errors that bring a body (`LOCK`'s denial and the like) cannot be made this way.
            pub fn failed(opnum: u32, error: Nfs4Error) -> Self {
                // The status alone is the whole result of nearly every operation; SETATTR adds an empty bitmap.
                let mut out = Writer::new();
                let _ = opnum.pack(&mut out).and_then(|_| u32::from(error).pack(&mut out)).and_then(|_| 0u32.pack(&mut out));
                let mut input = Reader::new(out.into_bytes());
                Self::unpack(&mut input)
                    .map_or(Self::Unknown { opnum, status: Err(error) }, |(result, _)| result)
            }
        }

        impl Pack<Writer> for Argop4 {
            fn pack(&self, out: &mut Writer) -> Result<usize> {
                let size = self.opnum().pack(out)?;
                match self {
                    $(operations!(@bind Argop4 $variant args $(($args))?) => {
                        Ok(size $(+ <$args as Pack<Writer>>::pack(args, out)?)?)
                    })*
                    Self::Unknown(_) => Ok(size),
                }
            }
        }

        impl Unpack<Reader> for Argop4 {
            fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
                let opnum = input.get::<u32>()?;
                match opnum {
                    $($number => operations!(@unpack input $variant $(($args))?),)*
                    other => Ok((Self::Unknown(other), 4)),
                }
            }
        }

        impl Pack<Writer> for Resop4 {
            fn pack(&self, out: &mut Writer) -> Result<usize> {
                let size = self.opnum().pack(out)?;
                match self {
                    $(Self::$variant(result) => Ok(size + Pack::<Writer>::pack(result, out)?),)*
                    Self::Unknown { status, .. } => Ok(size + Pack::<Writer>::pack(status, out)?),
                }
            }
        }

        impl Unpack<Reader> for Resop4 {
            fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
                let opnum = input.get::<u32>()?;
                match opnum {
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

        /// Name of an operation in upper case without underscores.
        pub fn op_name(opnum: u32) -> &'static str {
            match opnum {
                $($number => stringify!($variant),)*
                _ => "unknown operation",
            }
        }

        /// Numbers of all operations known here.
        pub const OPERATIONS: &[u32] = &[$($number),*];
    };
    (@pattern $name:ident $variant:ident ($args:ty)) => { $name::$variant(_) };
    (@pattern $name:ident $variant:ident) => { $name::$variant };
    (@bind $name:ident $variant:ident $bound:ident ($args:ty)) => { $name::$variant($bound) };
    (@bind $name:ident $variant:ident $bound:ident) => { $name::$variant };
    (@unpack $input:ident $variant:ident ($args:ty)) => {{
        let (args, size) = <$args as Unpack<Reader>>::unpack($input)?;
        Ok((Self::$variant(args), 4 + size))
    }};
    (@unpack $input:ident $variant:ident) => { Ok((Self::$variant, 4)) };
}

operations! {
    3 Access(file::Access4args) => Res<file::Access4resok>,
    4 Close(open::Close4args) => Res<crate::types::Stateid4>,
    5 Commit(file::Commit4args) => Res<file::Commit4resok>,
    6 Create(dir::Create4args) => Res<dir::Create4resok>,
    7 Delegpurge(open::Delegpurge4args) => Status,
    8 Delegreturn(open::Delegreturn4args) => Status,
    9 Getattr(file::Getattr4args) => Res<file::Getattr4resok>,
    10 Getfh => Res<file::Getfh4resok>,
    11 Link(dir::Link4args) => Res<dir::Link4resok>,
    12 Lock(lock::Lock4args) => lock::LockRes<lock::Lock4resok>,
    13 Lockt(lock::Lockt4args) => lock::LockRes<()>,
    14 Locku(lock::Locku4args) => Res<crate::types::Stateid4>,
    15 Lookup(dir::Lookup4args) => Status,
    16 Lookupp => Status,
    17 Nverify(file::Verify4args) => Status,
    18 Open(open::Open4args) => Res<open::Open4resok>,
    19 Openattr(dir::Openattr4args) => Status,
    21 OpenDowngrade(open::OpenDowngrade4args) => Res<crate::types::Stateid4>,
    22 Putfh(file::Putfh4args) => Status,
    23 Putpubfh => Status,
    24 Putrootfh => Status,
    25 Read(file::Read4args) => Res<file::Read4resok>,
    26 Readdir(dir::Readdir4args) => Res<dir::Readdir4resok>,
    27 Readlink => Res<file::Readlink4resok>,
    28 Remove(dir::Remove4args) => Res<dir::Remove4resok>,
    29 Rename(dir::Rename4args) => Res<dir::Rename4resok>,
    31 Restorefh => Status,
    32 Savefh => Status,
    33 Secinfo(dir::Secinfo4args) => Res<dir::Secinfo4resok>,
    34 Setattr(file::Setattr4args) => file::Setattr4res,
    37 Verify(file::Verify4args) => Status,
    38 Write(file::Write4args) => Res<file::Write4resok>,
    40 BackchannelCtl(session::BackchannelCtl4args) => Status,
    41 BindConnToSession(session::BindConnToSession4args) => Res<session::BindConnToSession4resok>,
    42 ExchangeId(session::ExchangeId4args) => Res<session::ExchangeId4resok>,
    43 CreateSession(session::CreateSession4args) => Res<session::CreateSession4resok>,
    44 DestroySession(session::DestroySession4args) => Status,
    45 FreeStateid(lock::FreeStateid4args) => Status,
    46 GetDirDelegation(open::GetDirDelegation4args) => Res<open::GetDirDelegation4resNonFatal>,
    47 Getdeviceinfo(layout::Getdeviceinfo4args) => layout::WordOnError<layout::Getdeviceinfo4resok, 10005>,
    48 Getdevicelist(layout::Getdevicelist4args) => Res<layout::Getdevicelist4resok>,
    49 Layoutcommit(layout::Layoutcommit4args) => Res<layout::Layoutcommit4resok>,
    50 Layoutget(layout::Layoutget4args) => layout::WordOnError<layout::Layoutget4resok, 10058>,
    51 Layoutreturn(layout::Layoutreturn4args) => Res<layout::LayoutreturnStateid>,
    52 SecinfoNoName(dir::SecinfoStyle4) => Res<dir::Secinfo4resok>,
    53 Sequence(session::Sequence4args) => Res<session::Sequence4resok>,
    54 SetSsv(session::SetSsv4args) => Res<session::SetSsv4resok>,
    55 TestStateid(lock::TestStateid4args) => Res<lock::TestStateid4resok>,
    56 WantDelegation(open::WantDelegation4args) => Res<open::OpenDelegation4>,
    57 DestroyClientid(session::DestroyClientid4args) => Status,
    58 ReclaimComplete(session::ReclaimComplete4args) => Status,
    59 Allocate(v42::Allocate4args) => Status,
    60 Copy(v42::Copy4args) => v42::Copy4res,
    61 CopyNotify(v42::CopyNotify4args) => Res<v42::CopyNotify4resok>,
    62 Deallocate(v42::Allocate4args) => Status,
    63 IoAdvise(v42::IoAdvise4args) => Res<v42::IoAdvise4resok>,
    64 Layouterror(layout::Layouterror4args) => Status,
    65 Layoutstats(layout::Layoutstats4args) => Status,
    66 OffloadCancel(v42::Offload4args) => Status,
    67 OffloadStatus(v42::Offload4args) => Res<v42::OffloadStatus4resok>,
    68 ReadPlus(file::Read4args) => Res<v42::ReadPlus4resok>,
    69 Seek(v42::Seek4args) => Res<v42::Seek4resok>,
    70 WriteSame(v42::WriteSame4args) => Res<v42::WriteResponse4>,
    71 Clone(v42::Clone4args) => Status,
    72 Getxattr(extended::Getxattr4args) => Res<extended::Getxattr4resok>,
    73 Setxattr(extended::Setxattr4args) => Res<extended::XattrChange4resok>,
    74 Listxattrs(extended::Listxattrs4args) => Res<extended::Listxattrs4resok>,
    75 Removexattr(extended::Removexattr4args) => Res<extended::XattrChange4resok>,
    10044 Illegal => Status,
    200_001 ReadBypass(file::Read4args) => ReadBypassRes,
}

/// Operation number of OP_ILLEGAL.
pub const OP_ILLEGAL: u32 = 10044;

/// `COMPOUND4args`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Compound4args {
    /// Comes back in the reply.
    pub tag: Opaque,
    /// 1 for NFSv4.1, 2 for NFSv4.2.
    pub minorversion: u32,
    /// The operations.
    pub argarray: Vec<Argop4>,
}

/// `COMPOUND4res`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Compound4res {
    /// The status of the last operation in `resarray`, or why there is none.
    pub status: Status,
    /// As sent.
    pub tag: Opaque,
    /// One result for each operation that was tried.
    pub resarray: Vec<Resop4>,
}

impl Pack<Writer> for Compound4args {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        let before = out.len();
        self.tag.pack(out)?;
        self.minorversion.pack(out)?;
        (self.argarray.len() as u32).pack(out)?;
        for op in &self.argarray {
            op.pack(out)?;
        }
        Ok(out.len() - before)
    }
}

impl Unpack<Reader> for Compound4args {
    /// Reads up to the first operation that is not known and drops the rest, which cannot be read.
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        let before = input.remaining();
        let tag = input.get()?;
        let minorversion = input.get()?;
        let count = input.count(4)?;
        let mut argarray = Vec::with_capacity(count.min(16));
        for _ in 0..count {
            let op: Argop4 = input.get()?;
            let stop = matches!(op, Argop4::Unknown(_));
            argarray.push(op);
            if stop {
                input.take(input.remaining() & !3)?;
                break;
            }
        }
        Ok((Self { tag, minorversion, argarray }, before - input.remaining()))
    }
}

impl Pack<Writer> for Compound4res {
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

impl Unpack<Reader> for Compound4res {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        let before = input.remaining();
        let status = input.get()?;
        let tag = input.get()?;
        let count = input.count(8)?;
        let mut resarray = Vec::with_capacity(count.min(16));
        for _ in 0..count {
            let op: Resop4 = input.get()?;
            let stop = matches!(op, Resop4::Unknown { .. });
            resarray.push(op);
            if stop {
                input.take(input.remaining() & !3)?;
                break;
            }
        }
        Ok((Self { status, tag, resarray }, before - input.remaining()))
    }
}

/// The write verifier of the results that carry one.
impl Resop4 {
    /// WRITE's and COMMIT's verifier.
    pub fn write_verifier(&self) -> Option<Verifier4> {
        match self {
            Self::Write(Ok(done)) => Some(done.writeverf),
            Self::Commit(Ok(done)) => Some(done.writeverf),
            _ => None,
        }
    }
}
