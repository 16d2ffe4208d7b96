//! What a file system means, over an NFSv4 client: inodes, names, attributes, pages, read-ahead, write-back.
#![forbid(unsafe_code)]

mod alike;
pub mod attr;
mod attrs;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod copy;
mod dir;
mod error;
mod extents;
mod farewell;
mod files;
mod inode;
mod insisted;
mod kernel;
mod known;
mod lacks;
mod ledger;
mod leftovers;
mod locks;
mod name;
mod names;
mod newborn;
mod node;
mod opens;
mod ops;
mod packed;
mod read;
mod siblings;
mod sparse;
mod standing;
mod sync;
mod types;
mod vfs;
mod walk;
mod write;
mod xattrs;

pub use attr::{Attr, FileKind, Timestamp};
pub use attrs::Timeouts;
pub use error::{Error, Result};
pub use farewell::Farewell;
pub use inode::{FOREIGN_INO, ROOT_INO};
pub use leftovers::{Journal, Leftover};
pub use locks::{Caller, Lock};
pub use name::Name;
pub use nfs4_client::{Cred, Errno, FsStat, LockKind, LockRange, SeekWhat, XattrSet};
pub use standing::Standing;
pub use types::{
    Allocation, DirItem, Entry, Fh, KernelCache, Looked, NodeKind, OpenFlags, Opened, RenameFlags, SetAttr, TimeSet,
    Unwritten, VfsOptions,
};
pub use vfs::Vfs;
pub use xattrs::is_made_up;
