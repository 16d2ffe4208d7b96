//! The AWSFILE program: what an S3 Files mount target offers beside NFS.
//!
//! Procedures 2 and 3 tie a connection to a partition of the service and ask for direct reads from S3; procedure 1
//! is an NFSv4 COMPOUND that may hold `READ_BYPASS`. All facts are read off amazon-efs-utils 3.2.0.

use crate::types::NfsFh4;
use crate::xdr::{List, Opaque, Pack, Reader, Result, Unpack, Writer};

/// Program number.
pub const AWSFILE_PROGRAM: u32 = 400_123;
/// Program version.
pub const AWSFILE_V1: u32 = 1;
/// Procedure: NFSv4 COMPOUND that carries an AWSFILE operation.
pub const PROC_AWSFILE_COMPOUND: u32 = 1;
/// Procedure: `bind_client_to_partition`.
pub const PROC_BIND_CLIENT_TO_PARTITION: u32 = 2;
/// Procedure: `channel_init`.
pub const PROC_CHANNEL_INIT: u32 = 3;
/// Program number of the back channel.
pub const AWSFILE_CB_PROGRAM: u32 = 400_124;

/// Status of `READ_BYPASS` that brings a locator instead of data.
pub const AWSFILE_READ_BYPASS_LOCATOR: u32 = 100_001;

xdr_fixed! {
    /// Names a partition of the service; connections of one partition may share an NFS session.
    pub struct PartitionId([u8; 64]);
}

xdr_struct! {
    /// Argument of `bind_client_to_partition`.
    pub struct ProxyIdentifier {
        /// A UUID that stays the same for the life of a mount: 16 bytes.
        pub identifier: Opaque,
        /// A number that rises each time the client starts over: an `i64`, big endian, 8 bytes.
        pub incarnation: Opaque,
    }
    /// When and how far to open more connections.
    pub struct ScaleUpConfig {
        /// Most connections that share a session.
        pub max_multiplexed_connections: i32,
        /// Throughput from which more connections help, in bytes per second.
        pub scale_up_bytes_per_sec_threshold: i32,
        /// How long the throughput has to be that high, in seconds.
        pub scale_up_threshold_breached_duration_sec: i32,
        /// The window over which throughput is measured, in seconds.
        pub scale_up_lookback_window_size_sec: i32,
    }
    /// Result of `bind_client_to_partition`.
    pub struct BindClientResponse {
        /// Whether and to which partition the connection is bound.
        pub bind_response: BindResponse,
        /// Advice on more connections.
        pub scale_up_config: ScaleUpConfig,
    }
    /// Argument of `channel_init`.
    pub struct ChannelInitArgs {
        /// NFS minor version: 2.
        pub minor_version: u32,
        /// What the client wants to use.
        pub configs: List<ChannelConfig>,
    }
    /// Wish for direct reads, first form.
    pub struct ReadBypassConfig {
        /// Whether the client wants them.
        pub enabled: bool,
    }
    /// Wish for direct reads, second form.
    pub struct ReadBypassConfigV2 {
        /// Whether the client wants them.
        pub enabled: bool,
        /// The client's version.
        pub client_version: Opaque,
    }
    /// Offer of direct reads, first form.
    pub struct ReadBypassOffer {
        /// Whether the server allows them.
        pub enabled: bool,
        /// The bucket behind the file system.
        pub bucket_name: Opaque,
        /// The prefix in the bucket.
        pub prefix: Opaque,
    }
    /// Offer of direct reads, second form.
    pub struct ReadBypassOfferV2 {
        /// Whether the server allows them.
        pub enabled: bool,
        /// The bucket behind the file system.
        pub bucket_name: Opaque,
        /// The prefix in the bucket.
        pub prefix: Opaque,
        /// Whether the client should read ahead.
        pub readahead_cache_enabled: bool,
    }
    /// Where the bytes of a `READ_BYPASS` are found in S3.
    pub struct ReadBypassLocator {
        /// The file.
        pub filehandle: NfsFh4,
        /// Bucket.
        pub bucket_name: Opaque,
        /// Object key.
        pub s3_key: Opaque,
        /// Entity tag of the object.
        pub etag: Opaque,
        /// Version of the object; empty or `null` where there is none.
        pub version_id: Opaque,
        /// First byte, from the object's start.
        pub offset: u64,
        /// Number of bytes.
        pub count: u32,
        /// The file's size in bytes.
        pub file_size: u64,
    }
}

xdr_union! {
    /// Answer to a bind.
    pub enum BindResponse {
        /// Try again with a new connection; the text says why.
        0 => Retry(Opaque),
        /// Try again much later.
        1 => RetryLater(Opaque),
        /// Another connection may reach this partition.
        2 => Preferred(PartitionId),
        /// Bound to this partition.
        3 => Ready(PartitionId),
        /// Refused for good.
        4 => Error(Opaque),
    }
    /// One wish of `channel_init`.
    pub enum ChannelConfig {
        /// First form.
        4 => ReadBypass(ReadBypassConfig),
        /// Second form.
        5 => ReadBypassV2(ReadBypassConfigV2),
    }
    /// One offer in the answer to `channel_init`.
    pub enum ChannelOffer {
        /// First form.
        4 => ReadBypass(ReadBypassOffer),
        /// Second form.
        5 => ReadBypassV2(ReadBypassOfferV2),
    }
    /// Result of `channel_init`.
    pub enum ChannelInitRes {
        /// AWSFILE_OK.
        0 => Ok(List<ChannelOffer>),
        /// AWSFILE_ERR_RETRY_LATER.
        1 => RetryLater,
        /// AWSFILE_ERR_INVAL.
        2 => Inval,
    }
}

impl ProxyIdentifier {
    /// The identifier and incarnation as they stand on the wire.
    pub fn new(identifier: [u8; 16], incarnation: i64) -> Self {
        Self { identifier: identifier[..].into(), incarnation: incarnation.to_be_bytes()[..].into() }
    }
}

/// Result of `READ_BYPASS` (operation 200001).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReadBypassRes {
    /// The server answered with data.
    Data(crate::ops::file::Read4resok),
    /// The bytes are to be fetched from S3.
    Locator(Box<ReadBypassLocator>),
    /// As READ's error.
    Err(crate::Nfs4Error),
}

impl Pack<Writer> for ReadBypassRes {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        match self {
            Self::Data(data) => Ok(0u32.pack(out)? + data.pack(out)?),
            Self::Locator(locator) => {
                Ok(AWSFILE_READ_BYPASS_LOCATOR.pack(out)? + Pack::<Writer>::pack(&**locator, out)?)
            }
            Self::Err(error) => u32::from(*error).pack(out),
        }
    }
}

impl Unpack<Reader> for ReadBypassRes {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        let before = input.remaining();
        let value = match input.get::<u32>()? {
            0 => Self::Data(input.get()?),
            AWSFILE_READ_BYPASS_LOCATOR => Self::Locator(Box::new(input.get()?)),
            other => Self::Err(crate::Nfs4Error::from_status(other).unwrap_or(crate::Nfs4Error::Io)),
        };
        Ok((value, before - input.remaining()))
    }
}

#[cfg(test)]
impl<'a> arbitrary::Arbitrary<'a> for ReadBypassRes {
    fn arbitrary(u: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match u.arbitrary::<Option<Option<crate::Nfs4Error>>>()? {
            None => Self::Data(u.arbitrary()?),
            Some(Some(error)) if u32::from(error) != AWSFILE_READ_BYPASS_LOCATOR => Self::Err(error),
            Some(_) => Self::Locator(Box::new(u.arbitrary()?)),
        })
    }
}
