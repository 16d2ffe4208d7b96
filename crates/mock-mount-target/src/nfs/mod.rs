//! An NFSv4.1 and 4.2 server over a file system in memory, stricter than a real one (RFC 8881, RFC 7862, RFC 8276).
//!
//! It is one synchronous state machine: [`Server`] has no socket, no clock and no thread. Its driver does this:
//!
//! 1. `Server::new(Config::new(profile), now)` makes it. One server stands behind all connections (in a `Mutex`
//!    that is held for one call only).
//! 2. Each connection gets a [`ConnId`] that is never used again and an [`Identity`] (what its certificate grants).
//!    A record that arrives goes to [`Server::rpc`], which answers with what to send ([`Outcome`]): a reply in
//!    segments, nothing and a cut connection, or, for the AWSFILE program's own procedures, the call itself, which
//!    the driver answers. A driver that reads RPC headers itself uses [`Server::call`] with the COMPOUND alone.
//! 3. When a connection ends, it says [`Server::disconnected`]. Now and then it calls [`Server::tick`].
//! 4. [`Server::take_callbacks`] has the callbacks to send; the client's answers go to [`Server::called_back`].
//! 5. The test reads [`Server::referee`]; at its end it calls [`Server::at_end`], and the list must be empty.
//!
//! Time ([`Now`]) comes in with every event. Faults ([`faults::Rule`]) are added to [`Server::plan_mut`]. Tests look
//! at and change files behind the client's back through [`Server::fs_mut`] and the `s3_*` methods.

mod callbacks;
mod compound;
pub mod config;
pub mod faults;
mod grace;
mod import;
mod invariants;
pub mod memfs;
mod ops;
pub mod referee;
pub mod rights;
mod rpc;
mod s3side;
mod server;
pub mod session;
pub mod state;

pub use callbacks::Callback;
pub use config::{Config, Now, Profile};
pub use import::import_directory;
pub use referee::{Counters, Referee};
pub use rights::{Caller, Identity, Ids};
pub use rpc::{Outcome, Peer};
pub use s3side::{Object, S3Change};
pub use server::{Reply, Request, Server};
pub use session::ConnId;
