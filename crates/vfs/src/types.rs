//! The words in which the layer above asks and is answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::attr::{Attr, FileKind, Timestamp};
use crate::attrs::Timeouts;
use crate::name::Name;
use crate::node::Node;

/// An open file or directory, from `open`, `create` or `opendir` until `release` or `releasedir`. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fh(pub u64);

impl Fh {
    /// Numbers from here on are never handed out here: a layer above may use them for what it has open by itself.
    pub const FOREIGN: u64 = 1 << 63;
}

/// A name's file and for how long the answer may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The file.
    pub attr: Attr,
    /// Distinguishes files that had the same inode number one after the other.
    pub generation: u64,
    /// How long the name may be taken to mean this file.
    pub entry_ttl: Duration,
    /// How long the attributes may be shown.
    pub attr_ttl: Duration,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// This file.
    Found(Entry),
    /// Nothing.
    Missing {
        /// How long that may be believed; zero: ask again each time.
        ttl: Duration,
    },
}

/// An opened file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Names it in further calls.
    pub fh: Fh,
    /// What the kernel holds of the file's data is still right.
    pub keep_cache: bool,
    /// The kernel shall not keep data of this open at all.
    pub direct_io: bool,
}

/// How a file shall be opened (from `O_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenFlags {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Every write goes to the end of the file.
    pub append: bool,
    /// The file is cut to nothing.
    pub truncate: bool,
    /// With create: the file must be new.
    pub exclusive: bool,
    /// Every write is on stable storage before it returns.
    pub sync: bool,
    /// Data are not cached.
    pub direct: bool,
}

impl OpenFlags {
    /// Whether every write is on stable storage before it returns.
    pub(crate) const fn is_synchronous(self) -> bool {
        self.sync || self.direct
    }

    /// Whether the kernel shall pass what is written straight on. Nobody reads or maps through an open for writing only, so
    /// keeping a copy of its bytes in the kernel as well would only take time and memory; other opens' pages go.
    pub(crate) const fn bypasses_kernel_cache(self) -> bool {
        self.direct || (self.write && !self.read && cfg!(target_os = "linux"))
    }
}

/// What `fallocate` is asked to do with a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// Reserve space; the file grows to hold it.
    Reserve,
    /// Reserve space; the size stays (`FALLOC_FL_KEEP_SIZE`).
    ReserveWithin,
    /// Make a hole; the size stays (`FALLOC_FL_PUNCH_HOLE`).
    Hole,
    /// Zeros, and space for them (`FALLOC_FL_ZERO_RANGE`).
    Zeros {
        /// The size stays.
        keep_size: bool,
    },
}

impl Allocation {
    pub(crate) const fn may_grow(self) -> bool {
        matches!(self, Self::Reserve | Self::Zeros { keep_size: false })
    }
}

/// A time to set.
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
    /// Permission bits, 0o7777.
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

    pub(crate) fn to_client(self) -> nfs4_client::SetAttr {
        let time = |set: TimeSet| match set {
            TimeSet::Now => nfs4_client::TimeSet::Now,
            TimeSet::At(at) => {
                nfs4_client::TimeSet::At(nfs4_client::Timestamp { seconds: at.seconds, nanos: at.nanos })
            }
        };
        nfs4_client::SetAttr {
            mode: self.mode.map(|mode| mode & 0o7777),
            uid: self.uid,
            gid: self.gid,
            size: self.size,
            atime: self.atime.map(time),
            mtime: self.mtime.map(time),
        }
    }
}

/// What `mknod` makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// An empty regular file.
    Regular,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// How `rename` treats a target that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RenameFlags {
    /// It must not exist (`RENAME_NOREPLACE`).
    pub no_replace: bool,
    /// The two change places (`RENAME_EXCHANGE`).
    pub exchange: bool,
}

/// One entry of a listing.
#[derive(Debug, Clone)]
pub struct DirItem {
    /// Inode number.
    pub ino: u64,
    /// Where the listing goes on behind this entry.
    pub offset: u64,
    /// Type.
    pub kind: FileKind,
    /// Name.
    pub name: Name,
    /// The file, where it was asked for and is known, with a time of zero when its attributes have run out; count it with
    /// [`crate::Vfs::accepted`] when the kernel takes it.
    pub entry: Option<Entry>,
    /// Keeps the number from meaning another file until the kernel has counted it.
    pub(crate) pin: Option<Arc<Node>>,
    /// The directory.
    pub(crate) parent: u64,
}

/// What the kernel keeps on its own and must be told to drop. Called from a task of this crate's own, never from within
/// a request. What is said may reach the kernel later.
pub trait KernelCache: Send + Sync {
    /// Attributes and data of a file have changed elsewhere.
    fn invalidate_inode(&self, ino: u64);
    /// The same, by somebody who waits for it: `dropped` is called when the kernel has dropped them, and is let go of
    /// uncalled when it has not or nobody can tell.
    fn drop_inode(&self, ino: u64, dropped: Box<dyn FnOnce() + Send>);
    /// A name means something else now.
    fn invalidate_entry(&self, parent: u64, name: &[u8]);
}

/// How a mount behaves.
#[derive(Debug, Clone)]
pub struct VfsOptions {
    /// How long attributes are believed.
    pub timeouts: Timeouts,
    /// Most bytes of file data kept for reading.
    pub cache_size: u64,
    /// Most bytes written by programs and not yet on the server's stable storage; writers wait beyond it.
    pub dirty_limit: u64,
    /// How long written bytes may wait before they are sent.
    pub dirty_age: Duration,
    /// Most bytes read ahead of one reader.
    pub readahead_limit: u64,
    /// Files that are remembered though the kernel has forgotten them.
    pub idle_inodes: usize,
    /// An open may rely on attributes that the server sent at most that long ago; zero: each open asks the server
    /// (close-to-open).
    pub open_freshness: Duration,
    /// A new file, and attributes that are set, may be held back for some milliseconds: so a file goes to the server together
    /// with its first bytes, and attributes that are set one after the other go together.
    pub delayed_create: bool,
    /// Nothing may be changed.
    pub read_only: bool,
    /// Whom the kernel lets reach a file by names that it remembers has the right to: it judges by the mode bits, or serves
    /// one user only. Otherwise it is to ask anew for each name in a directory that not everybody may search.
    pub kernel_judges: bool,
    /// The kernel keeps names for as long as it is told. If it asks for one earlier, it may have to know what the server says.
    pub kernel_keeps_names: bool,
}

impl Default for VfsOptions {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            cache_size: 256 << 20,
            dirty_limit: 128 << 20,
            dirty_age: Duration::from_secs(1),
            readahead_limit: 64 << 20,
            idle_inodes: 200_000,
            open_freshness: Duration::ZERO,
            delayed_create: true,
            read_only: false,
            kernel_judges: true,
            kernel_keeps_names: false,
        }
    }
}

/// A file whose data could not be written before the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwritten {
    /// Inode number.
    pub ino: u64,
    /// The name under which it was last seen, where known.
    pub name: Option<Bytes>,
    /// Bytes that are lost.
    pub bytes: u64,
    /// Why.
    pub errno: nfs4_client::Errno,
}
