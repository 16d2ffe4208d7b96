//! Why a call failed.

use nfs4_client::Errno;

/// What every call returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The server, or the way to it.
    #[error(transparent)]
    Client(#[from] nfs4_client::Error),
    /// Bytes that an earlier call took could not be written.
    #[error("data written earlier could not be stored: {0:?}")]
    Writeback(Errno),
    /// The number is not one that was handed out and not given back.
    #[error("no file has inode number {0} any more")]
    NoInode(u64),
    /// Another client has given the file's name to another file.
    #[error("the file's name stands for another file by now")]
    NameChanged,
    /// The handle is not open, or not for this.
    #[error("the file is not open for this")]
    BadHandle,
    /// The mount is read-only.
    #[error("the file system is mounted read-only")]
    ReadOnly,
    /// A directory was needed.
    #[error("not a directory")]
    NotDirectory,
    /// Anything but a directory was needed.
    #[error("is a directory")]
    IsDirectory,
    /// The name exists.
    #[error("the name exists")]
    Exists,
    /// A directory that would be replaced holds something.
    #[error("the directory is not empty")]
    NotEmpty,
    /// The name does not exist.
    #[error("no such file")]
    NotFound,
    /// The name is longer than the server takes.
    #[error("the name is too long")]
    NameTooLong,
    /// The file would grow beyond what the server takes.
    #[error("the file would be too large")]
    FileTooBig,
    /// The caller may not do that.
    #[error("permission denied")]
    Denied,
    /// The kind of file does not allow that.
    #[error("not permitted for this kind of file")]
    NotPermitted,
    /// There is no extended attribute of that name.
    #[error("no such extended attribute")]
    NoAttribute,
    /// The name of an extended attribute is too long or not one.
    #[error("not a name of an extended attribute")]
    OutOfRange,
    /// There is neither data nor hole at or behind that place.
    #[error("nothing there before the end of the file")]
    NoSuchOffset,
    /// Somebody else's lock is in the way.
    #[error("locked by somebody else")]
    Locked,
    /// No more locks, or none at all.
    #[error("the server gives no such lock")]
    NoLocks,
    /// The caller has been interrupted while it waited.
    #[error("interrupted")]
    Interrupted,
    /// Locks in this file were lost; what is done under them cannot be trusted.
    #[error("a lock in this file was lost")]
    LockLost,
    /// The server does not have this.
    #[error("the server does not offer {0}")]
    Unsupported(&'static str),
    /// The request makes no sense, or the protocol has no way to carry it out.
    #[error("{0}")]
    Invalid(&'static str),
    /// What a layer above keeps by itself could not be had.
    #[error("on this computer: {0:?}")]
    Elsewhere(Errno),
    /// The file system is being unmounted.
    #[error("the file system is being unmounted")]
    Closed,
}

impl Error {
    /// Whether the server itself has refused, so that nothing has happened. Who got no answer cannot know.
    pub(crate) fn is_definite(&self) -> bool {
        match self {
            Self::Client(error) => error.status().is_some(),
            Self::NotEmpty => true,
            _ => false,
        }
    }

    /// The errno for the program that made the call.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Client(error) => error.errno(),
            Self::Writeback(errno) | Self::Elsewhere(errno) => *errno,
            Self::NoInode(_) | Self::NameChanged => Errno::Stale,
            Self::BadHandle => Errno::BadF,
            Self::ReadOnly => Errno::RoFs,
            Self::NotDirectory => Errno::NotDir,
            Self::IsDirectory => Errno::IsDir,
            Self::Exists => Errno::Exist,
            Self::NotFound => Errno::NoEnt,
            Self::NameTooLong => Errno::NameTooLong,
            Self::FileTooBig => Errno::FBig,
            Self::NotEmpty => Errno::NotEmpty,
            Self::Denied => Errno::Access,
            Self::NotPermitted => Errno::Perm,
            Self::NoAttribute => Errno::NoData,
            Self::OutOfRange => Errno::Range,
            Self::NoSuchOffset => Errno::Nxio,
            Self::Locked => Errno::Again,
            Self::NoLocks => Errno::NoLck,
            Self::Interrupted => Errno::Intr,
            Self::Unsupported(_) => Errno::NotSup,
            Self::Invalid(_) => Errno::Inval,
            Self::LockLost | Self::Closed => Errno::Io,
        }
    }
}
