//! From a mount target's name to a channel: name, credentials, certificate, TLS, bind.
//!
//! Two types matter to a reader. A [`Connector`] knows one mount target and opens connections to it; it holds the
//! credentials' source, the RSA key and the certificate, and makes a fresh certificate when the old one is due. A
//! [`Channel`] is one such connection: a call goes in as segments, the reply comes out as one slice, and many calls
//! are in flight at once.
//!
//! What decides is pure and takes the time as an argument: [`target`] (what a name says), [`signature`] and
//! [`extensions`] (what the certificate says), [`renewal`] (when to make a new one), [`bind`] (what an answer means).
//! Sockets stand in [`dial`], [`tls`] and [`channel`]. The crate knows nothing of NFS operations.
//!
//! The server's name is always verified, and no secret reaches a log or an error text.
#![forbid(unsafe_code)]

pub mod account;
pub mod bind;
pub mod certificate;
pub mod channel;
pub mod connector;
pub mod credentials;
pub mod dial;
pub mod discovery;
pub mod error;
pub mod extensions;
pub mod ids;
pub mod renewal;
pub mod rope;
pub mod signature;
pub mod target;
pub mod tls;

pub use account::Account;
pub use bind::{DirectReads, MountIdentity};
pub use channel::{Channel, ChannelOptions, ChannelStats, Incoming, IncomingCall};
pub use connector::{Connected, Connector, ConnectorConfig, Peer};
pub use credentials::{AwsSettings, CredentialsSource};
pub use error::{ChannelError, ConnectError, LossReason};
pub use ids::{AccessPointId, AzId, FileSystemId, Region};
pub use nfs4::awsfile::{PartitionId, ScaleUpConfig};
pub use renewal::Lifetime;
pub use target::{Target, TargetOptions};
pub use tls::Trust;
