//! An NFSv4.1 and 4.2 server over a file system in memory, stricter than a real one (RFC 8881, RFC 7862, RFC 8276).
//!
//! It is one synchronous state machine: [`Server`] has no socket, no clock and no thread. Its driver does this:
//!
//! 1. `Server::new(Config::new(profile), now)` makes it. One server stands behind all connections (in a `Mutex`
//!    that is held for one call only).
//! 2. Each connection gets a [`ConnId`] that is never used again and an [`Identity`] (what its certificate grants).
//!    The arguments of each COMPOUND (of NFS, or of the AWSFILE program) go with the caller of the RPC credential
//!    ([`Caller::of`]) into [`Server::call`], which returns what to send ([`Reply`]): the results in segments,
//!    GARBAGE_ARGS, or nothing and a cut connection.
//! 3. When a connection ends, it says [`Server::disconnected`]. Now and then it calls [`Server::tick`].
//! 4. [`Server::take_callbacks`] has the callbacks to send; how they ended goes to [`Server::called_back`].
//! 5. The test reads [`Server::referee`]; at its end it calls [`Server::at_end`], and the list must be empty.
//!
//! Time ([`Now`]) comes in with every event. Faults ([`faults::Rule`]) are added to [`Server::plan_mut`]. Tests look
//! at and change files behind the client's back through [`Server::fs_mut`] and [`Server::s3_change`].

mod answer;
mod callbacks;
mod compound;
pub mod config;
mod delegations;
pub mod faults;
mod grace;
mod import;
mod invariants;
pub mod memfs;
mod ops;
pub mod referee;
pub mod rights;
mod s3side;
mod sabotage;
mod server;
pub mod session;
pub mod state;

pub use callbacks::Callback;
pub use config::{Config, Now, Profile};
pub use import::import_directory;
pub use referee::{Counters, Referee};
pub use rights::{Caller, Identity, Ids};
pub use s3side::{Object, S3Change};
pub use server::{Reply, Request, Server};
pub use session::ConnId;
