//! What the layer above sees of attributes, times, handles and credentials: file-system words, made from the wire's.

use std::sync::Arc;

use bytes::Bytes;
use nfs4::attr::{Attrs, number};
use nfs4::ops::file::access;
use nfs4::types::{Bitmap4, ChangeInfo4, NfsFh4, NfsFtype4, Nfstime4, Settime4};

use crate::error::{Error, Result};
use crate::owners::{self, NOBODY};

/// The server's name for a file: opaque, at most 128 bytes (RFC 8881 §3.1).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(Arc<[u8]>);

impl Handle {
    /// A handle that was kept as bytes; `None` for what cannot be one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (!bytes.is_empty() && bytes.len() <= 128).then(|| Self(bytes.into()))
    }

    /// The bytes, for keys and tests.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A handle of its own memory: one that came in a listing would keep the whole reply alive.
    pub(crate) fn from_wire(handle: &NfsFh4) -> Self {
        Self(Arc::from(&handle.0[..]))
    }

    pub(crate) fn to_wire(&self) -> NfsFh4 {
        NfsFh4(Bytes::copy_from_slice(&self.0).into())
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("handle ")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The `AUTH_SYS` identity under which a request is made (RFC 5531 appendix A).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cred {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Supplementary groups; sixteen travel, the rest are left out.
    pub groups: Arc<[u32]>,
}

impl Cred {
    /// An identity without supplementary groups.
    pub fn new(uid: u32, gid: u32) -> Self {
        Self { uid, gid, groups: Arc::from([]) }
    }
}

/// Seconds and nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds, negative before 1970.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

impl From<Nfstime4> for Timestamp {
    fn from(time: Nfstime4) -> Self {
        // A server that sends 1,000,000,000 or more must not make arithmetic above panic.
        Self { seconds: time.seconds, nanos: time.nseconds.min(999_999_999) }
    }
}

impl From<Timestamp> for Nfstime4 {
    fn from(time: Timestamp) -> Self {
        Self { seconds: time.seconds, nseconds: time.nanos }
    }
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Block device.
    BlockDevice,
    /// Character device.
    CharDevice,
    /// Socket.
    Socket,
    /// FIFO.
    Fifo,
}

impl FileKind {
    fn from_wire(kind: NfsFtype4) -> Option<Self> {
        Some(match kind {
            NfsFtype4::Reg | NfsFtype4::NamedAttr => Self::Regular,
            NfsFtype4::Dir | NfsFtype4::AttrDir => Self::Directory,
            NfsFtype4::Lnk => Self::Symlink,
            NfsFtype4::Blk => Self::BlockDevice,
            NfsFtype4::Chr => Self::CharDevice,
            NfsFtype4::Sock => Self::Socket,
            NfsFtype4::Fifo => Self::Fifo,
            NfsFtype4::Unknown(_) => return None,
        })
    }
}

/// A file's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileAttr {
    /// The change attribute just before the operation that these attributes come with, where that changes the file (WRITE,
    /// COMMIT, SETATTR): whoever did not know this value has missed a change.
    pub before: Option<u64>,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, 12 of them.
    pub mode: u32,
    /// Number of links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Bytes of storage used.
    pub space_used: u64,
    /// Number of the file in its file system.
    pub fileid: u64,
    /// On the root of another file system: the number of the directory that it covers.
    pub mounted_on_fileid: Option<u64>,
    /// The file system: major and minor.
    pub fsid: (u64, u64),
    /// Device number: major and minor.
    pub rdev: (u32, u32),
    /// Last read.
    pub atime: Timestamp,
    /// Last change of the data.
    pub mtime: Timestamp,
    /// Last change of the attributes.
    pub ctime: Timestamp,
    /// Creation, where the server keeps it.
    pub crtime: Option<Timestamp>,
    /// Changes with every change of data or attributes (RFC 8881 §5.8.1.4).
    pub change: u64,
}

/// Attributes asked for wherever a [`FileAttr`] comes back.
pub(crate) const CHANGE: Bitmap4 = Bitmap4::of(&[number::CHANGE]);
pub(crate) const FILE_ATTRS: Bitmap4 = Bitmap4::of(&[
    number::TYPE,
    number::CHANGE,
    number::SIZE,
    number::FSID,
    number::FILEID,
    number::MODE,
    number::NUMLINKS,
    number::OWNER,
    number::OWNER_GROUP,
    number::RAWDEV,
    number::SPACE_USED,
    number::TIME_ACCESS,
    number::TIME_CREATE,
    number::TIME_METADATA,
    number::TIME_MODIFY,
    number::MOUNTED_ON_FILEID,
]);

/// Attributes asked for of each entry of a listing.
pub(crate) const ENTRY_ATTRS: Bitmap4 = FILE_ATTRS.with(number::FILEHANDLE).with(number::RDATTR_ERROR);

/// Attributes that a `statfs` needs.
pub(crate) const FS_ATTRS: Bitmap4 = Bitmap4::of(&[
    number::FILES_AVAIL,
    number::FILES_FREE,
    number::FILES_TOTAL,
    number::MAXNAME,
    number::SPACE_AVAIL,
    number::SPACE_FREE,
    number::SPACE_TOTAL,
]);

/// Attributes of the file system that are asked for once, at mount.
pub(crate) const LIMIT_ATTRS: Bitmap4 = Bitmap4::of(&[
    number::SUPPORTED_ATTRS,
    number::LEASE_TIME,
    number::MAXFILESIZE,
    number::MAXNAME,
    number::MAXREAD,
    number::MAXWRITE,
    number::LINK_SUPPORT,
    number::ACLSUPPORT,
    number::SYMLINK_SUPPORT,
    number::XATTR_SUPPORT,
]);

impl FileAttr {
    /// From the wire; the type must be there, everything else has a default (RFC 8881 §5.6 requires most of it).
    pub(crate) fn from_wire(op: &'static str, attrs: &Attrs) -> Result<Self> {
        let kind = attrs
            .type_
            .and_then(FileKind::from_wire)
            .ok_or_else(|| Error::BadReply { op, why: "the file's type is missing".into() })?;
        let mtime: Timestamp = attrs.time_modify.unwrap_or_default().into();
        let size = attrs.size.unwrap_or(0);
        Ok(Self {
            before: None,
            kind,
            mode: attrs.mode.unwrap_or(if kind == FileKind::Directory { 0o755 } else { 0o644 }) & 0o7777,
            nlink: attrs.numlinks.unwrap_or(1),
            uid: attrs.owner.as_ref().map_or(NOBODY, |owner| owners::user(owner)),
            gid: attrs.owner_group.as_ref().map_or(NOBODY, |group| owners::group(group)),
            size,
            space_used: attrs.space_used.unwrap_or(size),
            fileid: attrs.fileid.unwrap_or(0),
            mounted_on_fileid: attrs.mounted_on_fileid,
            fsid: attrs.fsid.map_or((0, 0), |fsid| (fsid.major, fsid.minor)),
            rdev: attrs.rawdev.map_or((0, 0), |dev| (dev.specdata1, dev.specdata2)),
            atime: attrs.time_access.map_or(mtime, Into::into),
            mtime,
            ctime: attrs.time_metadata.map_or(mtime, Into::into),
            crtime: attrs.time_create.map(Into::into),
            change: attrs.change.unwrap_or_else(|| change_from_time(attrs.time_metadata.unwrap_or_default())),
        })
    }
}

/// A stand-in for a missing change attribute.
fn change_from_time(time: Nfstime4) -> u64 {
    (time.seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(u64::from(time.nseconds))
}

/// A time stamp to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeSet {
    /// The server's clock.
    Now,
    /// This time.
    At(Timestamp),
}

/// Attributes to set; `None` leaves one as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Last read.
    pub atime: Option<TimeSet>,
    /// Last change of the data.
    pub mtime: Option<TimeSet>,
}

impl SetAttr {
    /// Whether there is nothing to set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn to_wire(self) -> Attrs {
        let time = |set: TimeSet| match set {
            TimeSet::Now => Settime4::ServerTime,
            TimeSet::At(at) => Settime4::ClientTime(at.into()),
        };
        Attrs {
            mode: self.mode.map(|mode| mode & 0o7777),
            owner: self.uid.map(|uid| uid.to_string().as_str().into()),
            owner_group: self.gid.map(|gid| gid.to_string().as_str().into()),
            size: self.size,
            time_access_set: self.atime.map(time),
            time_modify_set: self.mtime.map(time),
            ..Attrs::default()
        }
    }
}

/// How an operation changed a directory (RFC 8881 §3.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChangeInfo {
    /// Whether nothing came between.
    pub atomic: bool,
    /// The change attribute before.
    pub before: u64,
    /// The change attribute after.
    pub after: u64,
}

impl From<ChangeInfo4> for ChangeInfo {
    fn from(info: ChangeInfo4) -> Self {
        Self { atomic: info.atomic, before: info.before, after: info.after }
    }
}

/// Rights: asked for or granted (RFC 8881 §18.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Access(pub(crate) u32);

impl Access {
    /// Read data or list a directory.
    pub const READ: Self = Self(access::READ);
    /// Look up a name in a directory.
    pub const LOOKUP: Self = Self(access::LOOKUP);
    /// Rewrite data, change entries.
    pub const MODIFY: Self = Self(access::MODIFY);
    /// Append data, add entries.
    pub const EXTEND: Self = Self(access::EXTEND);
    /// Remove entries.
    pub const DELETE: Self = Self(access::DELETE);
    /// Execute a file.
    pub const EXECUTE: Self = Self(access::EXECUTE);
    /// All of the above.
    pub const ALL: Self = Self(0x3f);

    /// Both sets together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in this set.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Size of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FsStat {
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes free.
    pub free_bytes: u64,
    /// Bytes free for the caller.
    pub available_bytes: u64,
    /// Files in all.
    pub total_files: u64,
    /// Files that can still be made.
    pub free_files: u64,
    /// Files that the caller can still make.
    pub available_files: u64,
    /// Longest name in bytes.
    pub max_name: u32,
}

/// Bytes of the longest name: what the server says, but no more than kernels and programs can handle. Some servers name
/// a number that the file system behind them does not keep.
pub(crate) fn longest_name(maxname: Option<u32>) -> u32 {
    maxname.filter(|bytes| *bytes > 0).unwrap_or(255).min(255)
}

impl FsStat {
    pub(crate) fn from_wire(attrs: &Attrs) -> Self {
        Self {
            total_bytes: attrs.space_total.unwrap_or(0),
            free_bytes: attrs.space_free.unwrap_or(0),
            available_bytes: attrs.space_avail.unwrap_or(0),
            total_files: attrs.files_total.unwrap_or(0),
            free_files: attrs.files_free.unwrap_or(0),
            available_files: attrs.files_avail.unwrap_or(0),
            max_name: longest_name(attrs.maxname),
        }
    }
}

/// What the session and the file system allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of one READ.
    pub max_read: u32,
    /// Most bytes of one WRITE.
    pub max_write: u32,
    /// Largest file in bytes.
    pub max_file_size: u64,
    /// Longest name in bytes.
    pub max_name: u32,
    /// Requests that can be under way at once.
    pub slots: u32,
    /// Lease in seconds.
    pub lease: u32,
    /// Whether the server keeps hard links.
    pub hard_links: bool,
    /// Whether the server keeps symbolic links.
    pub symlinks: bool,
    /// Whether the server keeps extended attributes.
    pub xattrs: bool,
    /// Whether the server keeps access control lists, so that a file's mode does not tell all about rights in it.
    pub acls: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reply_without_a_type_is_refused() {
        assert!(FileAttr::from_wire("GETATTR", &Attrs::default()).is_err());
        let attrs = Attrs { type_: Some(NfsFtype4::Unknown(77)), ..Attrs::default() };
        assert!(FileAttr::from_wire("GETATTR", &attrs).is_err());
    }

    #[test]
    fn nanoseconds_out_of_range_are_clamped() {
        let time: Timestamp = Nfstime4 { seconds: -1, nseconds: u32::MAX }.into();
        assert_eq!(time, Timestamp { seconds: -1, nanos: 999_999_999 });
    }
}
