//! What a caller may see, and the one table from NFS status to errno.

use mount_target::ConnectError;
use nfs4::Nfs4Error;

/// What every method returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request failed for good.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The server refused an operation.
    #[error("the server answered {op} with {status}")]
    Nfs {
        /// The operation's RFC name.
        op: &'static str,
        /// The status.
        status: Nfs4Error,
    },
    /// The server's answer makes no sense.
    #[error("the server's answer to {op} cannot be used: {why}")]
    BadReply {
        /// The operation's RFC name.
        op: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A request does not fit the session.
    #[error("a request of {size} bytes is larger than the session's {limit}")]
    TooLarge {
        /// Size in bytes.
        size: usize,
        /// The session's limit in bytes.
        limit: usize,
    },
    /// The server does not speak NFSv4.1 or later, or refuses a session.
    #[error("{0}")]
    NoSession(String),
    /// The mount target cannot be reached (only at the first connect; later the client goes on trying).
    #[error("{0}")]
    Connect(#[from] std::sync::Arc<ConnectError>),
    /// The state of an open file is gone at the server and cannot be had back.
    #[error("the server no longer knows this open file (its lease ran out or it was revoked)")]
    StateLost,
    /// The client was shut down.
    #[error("the file system is being unmounted")]
    Closed,
    /// The time limit of a soft mount ran out.
    #[error("the mount target did not answer within the time limit")]
    TimedOut,
}

impl Error {
    /// The NFS status, when the server gave one.
    pub fn status(&self) -> Option<Nfs4Error> {
        match self {
            Self::Nfs { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The errno (Linux numbering; those used here that differ on macOS are mapped by the adapter through
    /// [`Errno`]).
    pub fn errno(&self) -> Errno {
        match self {
            Self::Nfs { status, .. } => errno_of(*status),
            Self::TooLarge { .. }
            | Self::BadReply { .. }
            | Self::StateLost
            | Self::NoSession(_)
            | Self::Connect(_)
            | Self::Closed => Errno::Io,
            Self::TimedOut => Errno::TimedOut,
        }
    }
}

/// Errors by name: the adapter turns them into the platform's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Errno {
    /// `EPERM`
    Perm,
    /// `ENOENT`
    NoEnt,
    /// `EIO`
    Io,
    /// `ENXIO`
    Nxio,
    /// `EACCES`
    Access,
    /// `EEXIST`
    Exist,
    /// `EXDEV`
    Xdev,
    /// `ENOTDIR`
    NotDir,
    /// `EISDIR`
    IsDir,
    /// `EINVAL`
    Inval,
    /// `EFBIG`
    FBig,
    /// `ENOSPC`
    NoSpc,
    /// `EROFS`
    RoFs,
    /// `EMLINK`
    MLink,
    /// `ENAMETOOLONG`
    NameTooLong,
    /// `ENOTEMPTY`
    NotEmpty,
    /// `EDQUOT`
    Dquot,
    /// `ESTALE`
    Stale,
    /// `EOPNOTSUPP`
    NotSup,
    /// `EAGAIN`
    Again,
    /// `ENOLCK`
    NoLck,
    /// `EDEADLK`
    DeadLk,
    /// `EBUSY`
    Busy,
    /// `ENODATA` (`ENOATTR` on macOS)
    NoData,
    /// `E2BIG`
    TooBig,
    /// `ERANGE`
    Range,
    /// `ELOOP`
    Loop,
    /// `ETIMEDOUT`
    TimedOut,
    /// `EBADF`
    BadF,
    /// `ENOSYS`
    NoSys,
    /// `EINTR`
    Intr,
}

/// The one table from NFS status to errno.
pub fn errno_of(status: Nfs4Error) -> Errno {
    match status {
        Nfs4Error::Perm => Errno::Perm,
        Nfs4Error::Noent => Errno::NoEnt,
        Nfs4Error::Nxio => Errno::Nxio,
        Nfs4Error::Access | Nfs4Error::Wrongsec | Nfs4Error::WrongCred => Errno::Access,
        Nfs4Error::Exist => Errno::Exist,
        Nfs4Error::Xdev | Nfs4Error::Moved => Errno::Xdev,
        Nfs4Error::Notdir => Errno::NotDir,
        Nfs4Error::Isdir => Errno::IsDir,
        Nfs4Error::Inval | Nfs4Error::Badname | Nfs4Error::Badchar | Nfs4Error::BadRange | Nfs4Error::Badowner => {
            Errno::Inval
        }
        Nfs4Error::Fbig => Errno::FBig,
        Nfs4Error::Nospc => Errno::NoSpc,
        Nfs4Error::Rofs => Errno::RoFs,
        Nfs4Error::Mlink => Errno::MLink,
        Nfs4Error::Nametoolong => Errno::NameTooLong,
        Nfs4Error::Notempty => Errno::NotEmpty,
        Nfs4Error::Dquot => Errno::Dquot,
        Nfs4Error::Stale | Nfs4Error::Fhexpired | Nfs4Error::Badhandle => Errno::Stale,
        Nfs4Error::Notsupp
        | Nfs4Error::Attrnotsupp
        | Nfs4Error::OpIllegal
        | Nfs4Error::UnionNotsupp
        | Nfs4Error::LockNotsupp
        | Nfs4Error::OffloadDenied
        | Nfs4Error::OffloadNoReqs => Errno::NotSup,
        Nfs4Error::Denied | Nfs4Error::Locked | Nfs4Error::Delay | Nfs4Error::Grace => Errno::Again,
        Nfs4Error::LockRange => Errno::NoLck,
        Nfs4Error::Deadlock => Errno::DeadLk,
        Nfs4Error::ShareDenied | Nfs4Error::FileOpen | Nfs4Error::LocksHeld => Errno::Busy,
        Nfs4Error::Noxattr => Errno::NoData,
        Nfs4Error::Xattr2big => Errno::TooBig,
        Nfs4Error::Symlink => Errno::Loop,
        Nfs4Error::WrongType | Nfs4Error::Badtype => Errno::Inval,
        Nfs4Error::Openmode => Errno::BadF,
        Nfs4Error::Toosmall => Errno::Range,
        _ => Errno::Io,
    }
}
