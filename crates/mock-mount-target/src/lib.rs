//! A mount target for tests and for `demo`: TLS with a client certificate that is checked as S3 Files would, the
//! AWSFILE bind, and behind that an NFSv4.1/4.2 server in memory or any other NFS server. It is stricter than a real
//! server, writes down every mistake of its client, and fails on purpose wherever a plan says so.
//!
//! Delegations are given only where [`nfs::Config::delegations`] says so, in the `full` profile: for reading and for
//! writing, of regular files, recalled over the back channel. Directory delegations, WANT_DELEGATION, CB_GETATTR and
//! pNFS are not served.
//!
//! Two types matter to a test: [`MockServer`], whose builder starts a mock on a free port of this machine, and
//! [`MockHandle`], which says how to reach it, shows what it saw, and lets it fail.
//!
//! The mock shares the codec ([`nfs4`]) with the client and nothing else: what it checks, it checks with code of its own,
//! so that one mistake cannot hide in both.
#![forbid(unsafe_code)]

mod bind;
mod ca;
mod clock;
mod connection;
mod controls;
mod der;
mod error;
mod forward;
mod front;
mod iam;
mod kept;
mod later;
mod link;
mod memory;
mod mock;
pub mod nfs;
mod objects;
mod outlet;
mod plan;
#[cfg(feature = "s3")]
mod s3;
mod service;
mod shared;
mod sigv4;
mod unanswered;
mod wire;

pub use bind::{BindFault, Bucket};
pub use ca::ServerCertificate;
pub use error::MockError;
pub use iam::{AccessPoint, Credentials, Grant, Refusal};
pub use link::LinkSettings;
pub use mock::{MockHandle, MockServer, MockServerBuilder};
pub use objects::{S3Fault, S3Rule, Version};
pub use outlet::{Gone, Outlet, ReplyFault};
pub use plan::{Event, Fault, FaultPlan};
pub use service::{Answer, Attached, Call, ConnInfo, Pending, Service};
pub use shared::WireCounters;
pub use wire::{On, WireAction, WireRule};
