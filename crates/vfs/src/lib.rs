//! What a file system means, over an NFSv4 client: inodes, names, attributes, pages, read-ahead, write-back.
#![forbid(unsafe_code)]

pub mod attr;
mod attrs;
mod dir;
mod error;
mod extents;
mod files;
mod inode;
mod kernel;
mod names;
mod node;
mod ops;
mod read;
mod sync;
mod types;
mod vfs;
mod write;

pub use attr::{Attr, FileKind, Timestamp};
pub use attrs::Timeouts;
pub use error::{Error, Result};
pub use inode::ROOT_INO;
pub use nfs4_client::{Cred, Errno, FsStat};
pub use types::{
    DirItem, Entry, Fh, KernelCache, Looked, NodeKind, OpenFlags, Opened, RenameFlags, SetAttr, TimeSet, Unwritten,
    VfsOptions,
};
pub use vfs::Vfs;
