//! An NFSv4.1/4.2 client in user space: sessions, state and recovery below, one async method for each thing a
//! file system asks above.
//!
//! [`Client`] is the door: every method is one COMPOUND and says what it brings. [`OpenFile`] is a file opened at
//! the server; its state survives lost connections and server restarts as long as the server lets it.
//!
//! A caller sees delay or a final [`Error`], never a lost connection: the keeper makes the channel
//! again, keeps the session where the server kept it, and requests are sent again on their slots, so that the
//! server carries each out exactly once (RFC 8881 §2.10.6). What decides is in plain structs without a runtime
//! ([`session`]); tokio stands at the edge.
#![forbid(unsafe_code)]

mod answers;
mod attr;
mod callback;
mod channels;
mod client;
mod compound;
mod engine;
mod error;
mod handshake;
mod keeper;
mod locks;
mod opening;
mod options;
mod owners;
mod recovery;
pub mod session;
mod silence;
mod sparse;
mod standing;
mod state;
mod verdict;
mod xattrs;

pub use answers::{
    Along, Born, Committed, Copied, Create, Created, DirEntry, DirPage, Found, Lookup, NewNode, OpenAccess, OpenHow,
    Opened, ReadData, SeekWhat, Stability, Written, XattrSet,
};
pub use attr::{Access, ChangeInfo, Cred, FileAttr, FileKind, FsStat, Handle, Limits, SetAttr, TimeSet, Timestamp};
pub use client::Client;
pub use engine::Counters;
pub use error::{Errno, Error, Result};
pub use locks::{Conflict, LockKind, LockRange, Locked};
pub use nfs4::Nfs4Error;
pub use options::{ClientOptions, Dial, Dialling, DiallingFurther, Renewing};
pub use standing::Standing;
pub use state::OpenFile;
