//! The AWSFILE program after TLS: bind the connection to a partition, ask for direct reads (PROTOCOL.md §3).
//!
//! Both are favours: a first connection is usable whatever bind answers, and only READY yields the partition that
//! further connections have to reach. What an answer means is decided by pure functions; the driver only calls.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nfs4::awsfile::{
    AWSFILE_PROGRAM, AWSFILE_V1, BindClientResponse, BindResponse, ChannelConfig, ChannelInitArgs, ChannelInitRes,
    ChannelOffer, PROC_BIND_CLIENT_TO_PARTITION, PROC_CHANNEL_INIT, PartitionId, ProxyIdentifier, ReadBypassConfig,
    ReadBypassConfigV2, ScaleUpConfig,
};
use nfs4::rpc::{CallHeader, Message, NFS_PROGRAM, NFS_V4, OpaqueAuth, PROC_NULL, ReplyStatus};
use nfs4::xdr::{self, Opaque, Pack, Reader, Unpack, Writer};
use uuid::Uuid;

use crate::channel::Channel;
use crate::error::{ChannelError, LossReason};

/// The NFS minor version that `channel_init` speaks of.
const MINOR_VERSION: u32 = 2;
/// How long one of these calls may take.
pub const CALL_LIMIT: Duration = Duration::from_secs(4);
/// The pause after RETRY_LATER, ERROR or a search for more connections that found none.
pub const BACK_OFF: Duration = Duration::from_mins(5);
/// Most connections of one session that an advice may ask for.
const MOST_CONNECTIONS: i32 = 64;

/// What a mount is called towards the service: one identifier for its life, and a number for each new start.
#[derive(Debug)]
pub struct MountIdentity {
    id: Uuid,
    incarnation: AtomicI64,
}

impl Default for MountIdentity {
    fn default() -> Self {
        Self { id: Uuid::new_v4(), incarnation: AtomicI64::new(1) }
    }
}

impl MountIdentity {
    /// The identifier.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The current incarnation; the first is 1.
    pub fn incarnation(&self) -> i64 {
        self.incarnation.load(Ordering::Relaxed)
    }

    /// Begins the next incarnation: the client starts over with a new session.
    pub fn start_over(&self) {
        self.incarnation.fetch_add(1, Ordering::Relaxed);
    }

    fn on_the_wire(&self) -> ProxyIdentifier {
        ProxyIdentifier::new(*self.id.as_bytes(), self.incarnation())
    }
}

/// What the public client assumes where the server gives no advice.
pub fn default_scale_up() -> ScaleUpConfig {
    ScaleUpConfig {
        max_multiplexed_connections: 5,
        scale_up_bytes_per_sec_threshold: 300 << 20,
        scale_up_threshold_breached_duration_sec: 1,
        scale_up_lookback_window_size_sec: 1,
    }
}

/// Advice within reason: it comes from the network.
fn within_reason(advice: &ScaleUpConfig) -> ScaleUpConfig {
    ScaleUpConfig {
        max_multiplexed_connections: advice.max_multiplexed_connections.clamp(1, MOST_CONNECTIONS),
        scale_up_bytes_per_sec_threshold: advice.scale_up_bytes_per_sec_threshold.max(1 << 20),
        scale_up_threshold_breached_duration_sec: advice.scale_up_threshold_breached_duration_sec.clamp(1, 3600),
        scale_up_lookback_window_size_sec: advice.scale_up_lookback_window_size_sec.clamp(1, 3600),
    }
}

/// Why one of these calls brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallFailure {
    /// The server answered that it does not do this; the connection is in order.
    #[error("the server does not offer it ({0})")]
    Declined(String),
    /// The answer makes no sense, or none came in time; the connection is in doubt.
    #[error("{0}")]
    Unclear(String),
    /// The connection went.
    #[error(transparent)]
    Channel(#[from] ChannelError),
}

/// What to do with a first connection after bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterBind {
    /// Use it; only READY yields a partition.
    Use {
        /// The partition it is bound to.
        partition: Option<PartitionId>,
        /// When to open more connections.
        scale_up: ScaleUpConfig,
    },
    /// Open a new connection and go on without a partition.
    Reconnect,
    /// The server does not let us in; a new connection changes nothing.
    GiveUp(LossReason),
}

/// Decides about a first connection.
pub fn after_first_bind(answer: &Result<BindClientResponse, CallFailure>) -> AfterBind {
    match answer {
        Ok(response) => AfterBind::Use {
            partition: match response.bind_response {
                BindResponse::Ready(partition) => Some(partition),
                _ => None,
            },
            scale_up: within_reason(&response.scale_up_config),
        },
        Err(CallFailure::Declined(_)) => AfterBind::Use { partition: None, scale_up: default_scale_up() },
        Err(CallFailure::Channel(ChannelError::Lost(
            reason @ (LossReason::AccessDenied { .. } | LossReason::CertificateExpired { .. }),
        ))) => AfterBind::GiveUp(reason.clone()),
        Err(CallFailure::Unclear(_) | CallFailure::Channel(_)) => AfterBind::Reconnect,
    }
}

/// What to do with a further connection, which is wanted for one partition only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFurtherBind {
    /// It reached the session's partition: use it.
    Join,
    /// Drop it and try again.
    TryAgain,
    /// Drop it and wait for [`BACK_OFF`].
    BackOff,
}

/// Decides about a further connection of a session in `partition`.
pub fn after_further_bind(
    partition: &PartitionId,
    answer: &Result<BindClientResponse, CallFailure>,
) -> AfterFurtherBind {
    match answer.as_ref().map(|response| &response.bind_response) {
        Ok(BindResponse::Ready(reached)) if reached == partition => AfterFurtherBind::Join,
        Ok(BindResponse::RetryLater(_) | BindResponse::Error(_)) => AfterFurtherBind::BackOff,
        Ok(BindResponse::Ready(_) | BindResponse::Preferred(_) | BindResponse::Retry(_)) | Err(_) => {
            AfterFurtherBind::TryAgain
        }
    }
}

/// The server's offer of direct reads from S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectReads {
    /// The bucket behind the file system.
    pub bucket: String,
    /// The prefix in it.
    pub prefix: String,
    /// Whether the client should read ahead into a cache.
    pub read_ahead_cache: bool,
}

/// What the answer to `channel_init` offers; the newer form counts if both are there.
pub fn offered_direct_reads(answer: &ChannelInitRes) -> Option<DirectReads> {
    let ChannelInitRes::Ok(offers) = answer else {
        return None;
    };
    let text = |bytes: &Opaque| String::from_utf8(bytes.to_vec()).ok();
    let of = |enabled: bool, bucket: &Opaque, prefix: &Opaque, read_ahead_cache: bool| {
        let (bucket, prefix) = (text(bucket)?, text(prefix)?);
        (enabled && !bucket.is_empty()).then_some(DirectReads { bucket, prefix, read_ahead_cache })
    };
    let newer = offers.iter().find_map(|offer| match offer {
        ChannelOffer::ReadBypassV2(o) => Some(of(o.enabled, &o.bucket_name, &o.prefix, o.readahead_cache_enabled)),
        ChannelOffer::ReadBypass(_) => None,
    });
    let older = || {
        offers.iter().find_map(|offer| match offer {
            ChannelOffer::ReadBypass(o) => Some(of(o.enabled, &o.bucket_name, &o.prefix, false)),
            ChannelOffer::ReadBypassV2(_) => None,
        })
    };
    newer.or_else(older).flatten()
}

/// Binds the connection to a partition.
pub async fn bind(channel: &Channel, identity: &MountIdentity) -> Result<BindClientResponse, CallFailure> {
    awsfile_call(channel, PROC_BIND_CLIENT_TO_PARTITION, &identity.on_the_wire()).await
}

/// Asks for direct reads; any failure means that there are none.
pub async fn channel_init(channel: &Channel, client_version: &str) -> Option<DirectReads> {
    let configs = vec![
        ChannelConfig::ReadBypass(ReadBypassConfig { enabled: true }),
        ChannelConfig::ReadBypassV2(ReadBypassConfigV2 { enabled: true, client_version: client_version.into() }),
    ];
    let args = ChannelInitArgs { minor_version: MINOR_VERSION, configs: configs.into() };
    match awsfile_call(channel, PROC_CHANNEL_INIT, &args).await {
        Ok(answer) => offered_direct_reads(&answer),
        Err(error) => {
            tracing::debug!(%error, "no direct reads");
            None
        }
    }
}

/// Makes sure that the server answers NFS calls on this connection: its NULL procedure takes no arguments.
pub async fn probe(channel: &Channel) -> Result<(), CallFailure> {
    match null(channel).await {
        // Any well-formed answer proves that the server lets us talk.
        Err(CallFailure::Declined(_)) => Ok(()),
        answer => answer,
    }
}

/// NFSv4's NULL procedure, which does nothing.
///
/// # Errors
/// [`CallFailure::Declined`] from a server that does not speak NFSv4.
pub async fn null(channel: &Channel) -> Result<(), CallFailure> {
    call(channel, NFS_PROGRAM, NFS_V4, PROC_NULL, &()).await.map(drop)
}

/// The same without a limit.
pub async fn null_however_long(channel: &Channel) -> Result<(), CallFailure> {
    call_however_long(channel, NFS_PROGRAM, NFS_V4, PROC_NULL, &()).await.map(drop)
}

async fn awsfile_call<T: Unpack<Reader>>(
    channel: &Channel,
    proc: u32,
    args: &impl Pack<Writer>,
) -> Result<T, CallFailure> {
    let mut results = call(channel, AWSFILE_PROGRAM, AWSFILE_V1, proc, args).await?;
    xdr::decode(&mut results).map_err(|error| CallFailure::Unclear(error.to_string()))
}

async fn call(
    channel: &Channel,
    prog: u32,
    vers: u32,
    proc: u32,
    args: &impl Pack<Writer>,
) -> Result<Reader, CallFailure> {
    tokio::time::timeout(CALL_LIMIT, call_however_long(channel, prog, vers, proc, args))
        .await
        .map_err(|_| CallFailure::Unclear(format!("no answer within {} s", CALL_LIMIT.as_secs())))?
}

async fn call_however_long(
    channel: &Channel,
    prog: u32,
    vers: u32,
    proc: u32,
    args: &impl Pack<Writer>,
) -> Result<Reader, CallFailure> {
    let message = encoded(prog, vers, proc, args).map_err(|error| CallFailure::Unclear(error.to_string()))?;
    results(channel.call(message).await?)
}

fn encoded(prog: u32, vers: u32, proc: u32, args: &impl Pack<Writer>) -> xdr::Result<Vec<Bytes>> {
    let mut writer = Writer::new();
    let (cred, verf) = (OpaqueAuth::none(), OpaqueAuth::none());
    writer.put(&Message::Call(CallHeader { xid: 0, prog, vers, proc, cred, verf }))?;
    writer.put(args)?;
    Ok(writer.into_segments())
}

/// The results behind a reply's header.
fn results(reply: Bytes) -> Result<Reader, CallFailure> {
    let mut reader = Reader::new(reply);
    match xdr::decode::<Message>(&mut reader) {
        Ok(Message::Reply(header)) => match header.status {
            ReplyStatus::Success => Ok(reader),
            other => Err(CallFailure::Declined(format!("{other:?}"))),
        },
        Ok(Message::Call(_)) => Err(CallFailure::Unclear("a call came where a reply was due".to_owned())),
        Err(error) => Err(CallFailure::Unclear(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use nfs4::awsfile::{ReadBypassOffer, ReadBypassOfferV2};

    const MINE: PartitionId = PartitionId([7; 64]);
    const OTHER: PartitionId = PartitionId([8; 64]);

    #[allow(clippy::unnecessary_wraps)] // what `bind` returns
    fn answer(bind_response: BindResponse) -> Result<BindClientResponse, CallFailure> {
        Ok(BindClientResponse { bind_response, scale_up_config: default_scale_up() })
    }

    fn every_answer() -> [Result<BindClientResponse, CallFailure>; 6] {
        [
            answer(BindResponse::Ready(MINE)),
            answer(BindResponse::Ready(OTHER)),
            answer(BindResponse::Preferred(MINE)),
            answer(BindResponse::Retry("busy".into())),
            answer(BindResponse::RetryLater("busy".into())),
            answer(BindResponse::Error("no".into())),
        ]
    }

    #[test]
    fn a_first_connection_is_used_whatever_bind_answers_and_only_ready_names_the_partition() {
        let partitions = every_answer().map(|answer| match after_first_bind(&answer) {
            AfterBind::Use { partition, .. } => partition,
            other => panic!("{other:?}"),
        });
        assert_eq!(partitions, [Some(MINE), Some(OTHER), None, None, None, None]);
    }

    #[test]
    fn a_further_connection_joins_only_in_the_same_partition() {
        use AfterFurtherBind::{BackOff, Join, TryAgain};
        let decisions = every_answer().map(|answer| after_further_bind(&MINE, &answer));
        assert_eq!(decisions, [Join, TryAgain, TryAgain, TryAgain, BackOff, BackOff]);
    }

    #[test]
    fn a_failed_bind_means_another_connection_but_a_refusal_does_not() {
        let lost = |reason| Err(CallFailure::Channel(ChannelError::Lost(reason)));
        assert_eq!(after_first_bind(&lost(LossReason::ClosedByPeer)), AfterBind::Reconnect);
        assert_eq!(after_first_bind(&Err(CallFailure::Unclear("?".into()))), AfterBind::Reconnect);
        let denied = LossReason::AccessDenied { alert: "AccessDenied".into() };
        assert_eq!(after_first_bind(&lost(denied.clone())), AfterBind::GiveUp(denied));
        assert!(matches!(
            after_first_bind(&Err(CallFailure::Declined("?".into()))),
            AfterBind::Use { partition: None, .. }
        ));
    }

    #[test]
    fn advice_from_the_network_is_kept_within_reason() {
        let wild = ScaleUpConfig {
            max_multiplexed_connections: i32::MAX,
            scale_up_bytes_per_sec_threshold: -1,
            scale_up_threshold_breached_duration_sec: i32::MIN,
            scale_up_lookback_window_size_sec: 0,
        };
        let tame = within_reason(&wild);
        assert_eq!(tame.max_multiplexed_connections, 64);
        assert!(tame.scale_up_bytes_per_sec_threshold > 0 && tame.scale_up_threshold_breached_duration_sec == 1);
        assert_eq!(within_reason(&default_scale_up()), default_scale_up());
    }

    #[test]
    fn the_incarnation_starts_at_one_and_rises() {
        let identity = MountIdentity::default();
        assert_eq!(identity.incarnation(), 1);
        identity.start_over();
        let wire = identity.on_the_wire();
        assert_eq!(&wire.incarnation[..], &[0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(&wire.identifier[..], identity.id().as_bytes());
    }

    #[test]
    fn the_newer_offer_of_direct_reads_counts() {
        let older =
            ChannelOffer::ReadBypass(ReadBypassOffer { enabled: true, bucket_name: "old".into(), prefix: "".into() });
        let newer = |enabled| {
            ChannelOffer::ReadBypassV2(ReadBypassOfferV2 {
                enabled,
                bucket_name: "new".into(),
                prefix: "p".into(),
                readahead_cache_enabled: true,
            })
        };
        let offered = |offers: Vec<ChannelOffer>| offered_direct_reads(&ChannelInitRes::Ok(offers.into()));
        assert_eq!(offered(vec![older.clone()]).unwrap().bucket, "old");
        assert_eq!(offered(vec![older.clone(), newer(true)]).unwrap().bucket, "new");
        assert_eq!(offered(vec![older, newer(false)]), None);
        assert_eq!(offered(vec![]), None);
        assert_eq!(offered_direct_reads(&ChannelInitRes::RetryLater), None);
    }
}
