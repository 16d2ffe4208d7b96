//! Byte-range locks and the care of stateids: LOCK, LOCKT, LOCKU, TEST_STATEID, FREE_STATEID
//! (RFC 8881 §18.10–18.12, §18.38, §18.48).

use crate::error::Nfs4Error;
use crate::types::{StateOwner4, Stateid4};
use crate::xdr::{List, Pack, Reader, Result, Unpack, Writer};

xdr_enum! {
    /// `nfs_lock_type4`; the `W` forms wait in a queue where the server has one.
    pub enum NfsLockType4 { Read = 1, Write = 2, ReadW = 3, WriteW = 4 }
}

xdr_struct! {
    /// `open_to_lock_owner4`: the first lock of an owner in a file.
    pub struct OpenToLockOwner4 {
        /// Not used in NFSv4.1: 0.
        pub open_seqid: u32,
        /// The open it belongs to.
        pub open_stateid: Stateid4,
        /// Not used in NFSv4.1: 0.
        pub lock_seqid: u32,
        /// Who locks.
        pub lock_owner: StateOwner4,
    }
    /// `exist_lock_owner4`: a further lock.
    pub struct ExistLockOwner4 {
        /// The lock state.
        pub lock_stateid: Stateid4,
        /// Not used in NFSv4.1: 0.
        pub lock_seqid: u32,
    }
    /// LOCK arguments.
    pub struct Lock4args {
        /// Kind of lock.
        pub locktype: NfsLockType4,
        /// Whether it is reclaimed after a restart.
        pub reclaim: bool,
        /// First byte.
        pub offset: u64,
        /// Number of bytes; all ones means to the end of the file.
        pub length: u64,
        /// Who locks.
        pub locker: Locker4,
    }
    /// `LOCK4denied`: the lock in the way.
    pub struct Lock4denied {
        /// First byte.
        pub offset: u64,
        /// Number of bytes.
        pub length: u64,
        /// Its kind.
        pub locktype: NfsLockType4,
        /// Its owner.
        pub owner: StateOwner4,
    }
    /// LOCK result.
    pub struct Lock4resok {
        /// The lock state.
        pub lock_stateid: Stateid4,
    }
    /// LOCKT arguments.
    pub struct Lockt4args {
        /// Kind of lock.
        pub locktype: NfsLockType4,
        /// First byte.
        pub offset: u64,
        /// Number of bytes.
        pub length: u64,
        /// Who asks.
        pub owner: StateOwner4,
    }
    /// LOCKU arguments.
    pub struct Locku4args {
        /// Kind of lock (of no weight).
        pub locktype: NfsLockType4,
        /// Not used in NFSv4.1: 0.
        pub seqid: u32,
        /// The lock state.
        pub lock_stateid: Stateid4,
        /// First byte.
        pub offset: u64,
        /// Number of bytes.
        pub length: u64,
    }
    /// TEST_STATEID arguments.
    pub struct TestStateid4args {
        /// The stateids in question.
        pub ts_stateids: List<Stateid4>,
    }
    /// TEST_STATEID result.
    pub struct TestStateid4resok {
        /// One status each: 0, or an error's number.
        pub tsr_status_codes: List<u32>,
    }
    /// FREE_STATEID arguments.
    pub struct FreeStateid4args {
        /// The state to forget.
        pub fsa_stateid: Stateid4,
    }
}

xdr_union! {
    /// `locker4`.
    pub enum Locker4 {
        /// A further lock.
        0 => Exist(ExistLockOwner4),
        /// The first lock.
        1 => OpenOwner(OpenToLockOwner4),
    }
}

/// Result of LOCK and LOCKT: `NFS4ERR_DENIED` brings the lock in the way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LockRes<T> {
    /// Done.
    Ok(T),
    /// Another lock is in the way.
    Denied(Lock4denied),
    /// Any error but `NFS4ERR_DENIED`.
    Err(Nfs4Error),
}

impl<T: Pack<Writer>> Pack<Writer> for LockRes<T> {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        match self {
            Self::Ok(body) => Ok(0u32.pack(out)? + body.pack(out)?),
            Self::Denied(denied) => Ok(u32::from(Nfs4Error::Denied).pack(out)? + denied.pack(out)?),
            Self::Err(error) => u32::from(*error).pack(out),
        }
    }
}

impl<T: Unpack<Reader>> Unpack<Reader> for LockRes<T> {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        Ok(match Nfs4Error::from_status(input.get()?) {
            None => {
                let (body, size) = T::unpack(input)?;
                (Self::Ok(body), 4 + size)
            }
            Some(Nfs4Error::Denied) => {
                let (denied, size) = Lock4denied::unpack(input)?;
                (Self::Denied(denied), 4 + size)
            }
            Some(error) => (Self::Err(error), 4),
        })
    }
}

#[cfg(test)]
impl<'a, T: arbitrary::Arbitrary<'a>> arbitrary::Arbitrary<'a> for LockRes<T> {
    fn arbitrary(u: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match u.arbitrary::<Option<Nfs4Error>>()? {
            None => Self::Ok(u.arbitrary()?),
            Some(Nfs4Error::Denied) => Self::Denied(u.arbitrary()?),
            Some(error) => Self::Err(error),
        })
    }
}
