//! Opens connections to one mount target, each ready for NFS: dial, certificate, TLS, bind.
//!
//! The certificate is looked at before every connection and made anew when [`renewal`](crate::renewal) says so, so a
//! reconnect after a night's sleep presents a fresh one. The first certificate is made while TCP connects.
//!
//! Two more ways exist for tests and local servers: plain TCP to a loopback address, and streams in memory.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nfs4::awsfile::{PartitionId, ScaleUpConfig};
use tokio::io::{BufReader, DuplexStream};

use crate::bind::{self, AfterBind, AfterFurtherBind, CallFailure, DirectReads, MountIdentity};
use crate::certificate::{CertificateRequest, ClientCertificate, ClientInfo, ClientKey};
use crate::channel::{Channel, ChannelOptions, Incoming};
use crate::credentials::CredentialsSource;
use crate::dial::dial;
use crate::error::{ChannelError, ConnectError, LossReason};
use crate::ids::FileSystemId;
use crate::renewal::{Lifetime, Verdict};
use crate::target::Target;
use crate::tls::{Expected, TlsClient, Trust};

/// How much is read from the socket below TLS at once, in bytes.
const TLS_READ: usize = 256 << 10;
/// How much may be encrypted before it is written to the socket, in bytes.
const TLS_WRITE: usize = 256 << 10;

/// How often and for how long the partition of a further connection is looked for.
const FURTHER_ATTEMPTS: u32 = 120;
const FURTHER_LIMIT: Duration = Duration::from_secs(15);

/// What a connector is made from.
#[derive(Debug, Clone)]
pub struct ConnectorConfig {
    /// Where to connect and whom to expect.
    pub target: Target,
    /// Where credentials come from.
    pub credentials: CredentialsSource,
    /// Whose word is taken for the server's name.
    pub trust: Trust,
    /// How the client introduces itself.
    pub client: ClientInfo,
    /// Sizes of each channel.
    pub channel: ChannelOptions,
    /// Limit for name resolution and TCP together.
    pub dial_limit: Duration,
    /// Limit for the TLS handshake.
    pub handshake_limit: Duration,
    /// Whether to bind each connection to a partition.
    pub bind: bool,
    /// Whether to ask for direct reads from S3.
    pub direct_reads: bool,
}

impl ConnectorConfig {
    /// The usual settings.
    pub fn new(target: Target, credentials: CredentialsSource) -> Self {
        Self {
            target,
            credentials,
            trust: Trust::default(),
            client: ClientInfo::default(),
            channel: ChannelOptions::default(),
            dial_limit: Duration::from_secs(20),
            handshake_limit: Duration::from_secs(8),
            bind: true,
            direct_reads: false,
        }
    }
}

/// The far end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address; none in memory.
    pub address: Option<SocketAddr>,
    /// The name that its certificate proved; none without TLS.
    pub server_name: Option<String>,
    /// The TLS version, such as `TLSv1_3`; none without TLS.
    pub tls_version: Option<String>,
}

/// A connection that is ready for NFS.
#[derive(Debug)]
pub struct Connected {
    /// For calls.
    pub channel: Channel,
    /// The calls that the server makes.
    pub incoming: Incoming,
    /// The partition it is bound to; only connections of the same partition may share a session.
    pub partition: Option<PartitionId>,
    /// When to open more connections.
    pub scale_up: ScaleUpConfig,
    /// The server's offer of direct reads, if it was asked for and made.
    pub direct_reads: Option<DirectReads>,
    /// The far end.
    pub peer: Peer,
}

/// What opens streams in memory.
type MemoryDial = Box<dyn Fn() -> io::Result<DuplexStream> + Send + Sync>;

enum Route {
    Tls(Box<TlsRoute>),
    Plain(SocketAddr),
    Memory(MemoryDial),
}

struct TlsRoute {
    target: Target,
    credentials: CredentialsSource,
    request: CertificateRequest,
    tls: TlsClient,
    dial_limit: Duration,
    handshake_limit: Duration,
    certificate: Mutex<Option<ClientCertificate>>,
    /// Held by whoever makes one.
    issuing: tokio::sync::Mutex<()>,
}

/// Opens connections to one mount target.
pub struct Connector {
    route: Route,
    identity: MountIdentity,
    channel: ChannelOptions,
    bind: bool,
    direct_reads: Option<String>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("address", &self.address())
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Connector {
    /// A connector over TLS. Reads the CA file, if there is one; does not touch the network.
    pub fn new(config: ConnectorConfig) -> Result<Self, ConnectError> {
        let ConnectorConfig {
            target,
            credentials,
            trust,
            client,
            channel,
            dial_limit,
            handshake_limit,
            bind,
            direct_reads,
        } = config;
        let direct_reads = direct_reads.then(|| client.version().to_owned());
        let request = CertificateRequest {
            client,
            region: target.region.clone(),
            file_system_id: target.file_system_id.clone(),
            access_point: target.access_point.clone(),
        };
        let tls = TlsClient::new(&trust)?;
        let (certificate, issuing) = (Mutex::new(None), tokio::sync::Mutex::new(()));
        let route = TlsRoute { target, credentials, request, tls, dial_limit, handshake_limit, certificate, issuing };
        Ok(Self { direct_reads, ..Self::over(Route::Tls(Box::new(route)), channel, bind) })
    }

    /// A connector over plain TCP, without TLS and bind: for servers on this machine only.
    pub fn plain(address: SocketAddr, channel: ChannelOptions) -> Result<Self, ConnectError> {
        if !address.ip().is_loopback() {
            return Err(ConnectError::BadTarget {
                input: address.to_string(),
                why: "a connection without TLS is only made to this machine (127.0.0.1 or ::1)".to_owned(),
            });
        }
        Ok(Self::over(Route::Plain(address), channel, false))
    }

    /// A connector whose connections are streams in memory, for tests of the layers above: `dial` makes one and serves
    /// its other end.
    pub fn in_memory(
        dial: impl Fn() -> io::Result<DuplexStream> + Send + Sync + 'static,
        channel: ChannelOptions,
    ) -> Self {
        Self::over(Route::Memory(Box::new(dial)), channel, false)
    }

    /// Binds connections, or does not.
    #[must_use]
    pub fn with_bind(mut self, bind: bool) -> Self {
        self.bind = bind;
        self
    }

    fn over(route: Route, channel: ChannelOptions, bind: bool) -> Self {
        Self { route, identity: MountIdentity::default(), channel, bind, direct_reads: None }
    }

    /// What this mount is called towards the service. [`MountIdentity::start_over`] before a new session.
    pub fn identity(&self) -> &MountIdentity {
        &self.identity
    }

    /// Host and port, for messages.
    pub fn address(&self) -> String {
        match &self.route {
            Route::Tls(route) => route.target.dial_address(),
            Route::Plain(address) => address.to_string(),
            Route::Memory(_) => "memory".to_owned(),
        }
    }

    /// The file system behind the target; none without TLS.
    pub fn file_system_id(&self) -> Option<&FileSystemId> {
        match &self.route {
            Route::Tls(route) => Some(&route.target.file_system_id),
            Route::Plain(_) | Route::Memory(_) => None,
        }
    }

    /// The times of the certificate that the next connection would present, if one was made yet.
    pub fn certificate_lifetime(&self) -> Option<Lifetime> {
        let Route::Tls(route) = &self.route else { return None };
        let held = route.certificate.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().map(|certificate| certificate.lifetime)
    }

    /// Makes the certificate anew if it is old, before the next connection asks for it. Where that fails, that one tries
    /// again and says why.
    pub async fn renew_certificate(&self) {
        let Route::Tls(route) = &self.route else { return };
        if let Err(error) = route.certificate().await {
            tracing::debug!(%error, "the client certificate could not be renewed");
        }
    }

    /// Opens a connection that is ready for NFS.
    pub async fn connect(&self) -> Result<Connected, ConnectError> {
        let first = self.open().await?;
        self.settle(first).await
    }

    /// The second half of [`connect`](Self::connect), for a connection that [`open`](Self::open) has made: bind, and
    /// direct reads where they are wanted. In TLS 1.3 this is where a refused certificate shows.
    pub async fn settle(&self, first: Connected) -> Result<Connected, ConnectError> {
        if !self.bind {
            return Ok(first);
        }
        let answer = bind::bind(&first.channel, &self.identity).await;
        let bound = match bind::after_first_bind(&answer) {
            AfterBind::Use { partition, scale_up } => Connected { partition, scale_up, ..first },
            AfterBind::GiveUp(reason) => return Err(self.explain_loss(&reason)),
            AfterBind::Reconnect => {
                tracing::debug!(?answer, "bind failed; going on without a partition");
                first.channel.close().await;
                return self.connect_without_partition().await;
            }
        };
        let Some(version) = &self.direct_reads else {
            return Ok(bound);
        };
        let direct_reads = bind::channel_init(&bound.channel, version).await;
        if bound.channel.lost().is_some() {
            // Asking for a favour must not cost the mount.
            return self.connect_without_partition().await;
        }
        Ok(Connected { direct_reads, ..bound })
    }

    /// Opens one more connection for a session in `partition`. `None`: there is none to be had now, or the bind rules allow
    /// none (PROTOCOL.md §3), and asking again soon is of no use.
    pub async fn connect_further(&self, partition: Option<&PartitionId>) -> Result<Option<Connected>, ConnectError> {
        if !self.bind {
            return Ok(Some(self.open().await?));
        }
        let Some(partition) = partition else { return Ok(None) };
        let started = Instant::now();
        for _ in 0..FURTHER_ATTEMPTS {
            let opened = self.open().await?;
            let answer = bind::bind(&opened.channel, &self.identity).await;
            match bind::after_further_bind(partition, &answer) {
                AfterFurtherBind::Join => return Ok(Some(Connected { partition: Some(*partition), ..opened })),
                AfterFurtherBind::TryAgain => opened.channel.close().await,
                AfterFurtherBind::BackOff => {
                    tracing::debug!(?answer, "no further connection");
                    opened.channel.close().await;
                    return Ok(None);
                }
            }
            if started.elapsed() >= FURTHER_LIMIT {
                break;
            }
        }
        Ok(None)
    }

    /// Opens a connection and makes sure that it answers, which a handshake in TLS 1.3 does not prove yet.
    async fn connect_without_partition(&self) -> Result<Connected, ConnectError> {
        let opened = self.open().await?;
        match bind::probe(&opened.channel).await {
            Ok(()) => Ok(opened),
            Err(CallFailure::Channel(ChannelError::Lost(reason))) => Err(self.explain_loss_at_start(&reason)),
            Err(other) => Err(ConnectError::Lost {
                address: self.address(),
                reason: LossReason::Protocol(format!("the first call failed: {other}")),
            }),
        }
    }

    /// The first half of [`connect`](Self::connect): a connection that is not bound and has not answered anything yet.
    pub async fn open(&self) -> Result<Connected, ConnectError> {
        let lost =
            |error: io::Error| ConnectError::Lost { address: self.address(), reason: LossReason::from_io(&error) };
        let no_tls = |address| Peer { address, server_name: None, tls_version: None };
        let ((channel, incoming), peer) = match &self.route {
            Route::Tls(route) => route.open(self.channel).await?,
            Route::Plain(address) => {
                let stream = dial(&address.ip().to_string(), address.port(), Duration::from_secs(20)).await?;
                (Channel::new(stream, self.channel), no_tls(Some(*address)))
            }
            Route::Memory(dial) => (Channel::new(dial().map_err(lost)?, self.channel), no_tls(None)),
        };
        tracing::debug!(?peer, "connected");
        Ok(Connected {
            channel,
            incoming,
            partition: None,
            scale_up: bind::default_scale_up(),
            direct_reads: None,
            peer,
        })
    }

    /// What the loss of a channel means for the user. In TLS 1.3 a refused certificate shows only on the first read.
    pub fn explain_loss(&self, reason: &LossReason) -> ConnectError {
        let address = self.address();
        match (reason, &self.route) {
            (LossReason::AccessDenied { alert }, Route::Tls(route)) => ConnectError::AccessDenied {
                address,
                file_system_id: route.target.file_system_id.clone(),
                detail: format!("TLS alert {alert}"),
            },
            (LossReason::CertificateExpired { .. }, _) => ConnectError::ClockSkew {
                address,
                detail: "the server holds the fresh client certificate for expired".to_owned(),
            },
            _ => ConnectError::Lost { address, reason: reason.clone() },
        }
    }

    /// The same for a connection that went before it brought a single reply: servers also refuse by hanging up.
    fn explain_loss_at_start(&self, reason: &LossReason) -> ConnectError {
        match (reason, &self.route) {
            (LossReason::ClosedByPeer | LossReason::Io(_), Route::Tls(route)) => ConnectError::AccessDenied {
                address: self.address(),
                file_system_id: route.target.file_system_id.clone(),
                detail: "it hung up twice right after the TLS handshake".to_owned(),
            },
            _ => self.explain_loss(reason),
        }
    }
}

impl TlsRoute {
    async fn open(&self, options: ChannelOptions) -> Result<((Channel, Incoming), Peer), ConnectError> {
        let target = &self.target;
        let dialled = dial(&target.host, target.port, self.dial_limit);
        let (stream, certificate) = tokio::try_join!(dialled, self.certificate())?;
        let address = stream.peer_addr().ok();
        let expected = Expected {
            address: &target.dial_address(),
            server_name: &target.server_name,
            file_system_id: &target.file_system_id,
        };
        // rustls takes one TLS record at a time; the socket gives many.
        let stream = BufReader::with_capacity(TLS_READ, stream);
        let mut stream = self.tls.handshake(stream, &certificate, expected, self.handshake_limit).await?;
        stream.get_mut().1.set_buffer_limit(Some(TLS_WRITE));
        let tls_version = stream.get_ref().1.protocol_version().map(|version| format!("{version:?}"));
        let peer = Peer { address, server_name: Some(target.server_name.clone()), tls_version };
        Ok((Channel::new(stream, options), peer))
    }

    /// A certificate that may be used now. One is made at a time: loading credentials may ask a person.
    async fn certificate(&self) -> Result<ClientCertificate, ConnectError> {
        let _one = self.issuing.lock().await;
        let held = || self.certificate.lock().unwrap_or_else(PoisonError::into_inner);
        let current = held().clone();
        let verdict = current.as_ref().map(|current| current.lifetime.verdict(SystemTime::now()));
        if let (Some(current), Some(Verdict::Fresh)) = (&current, verdict) {
            return Ok(current.clone());
        }
        match (self.issue().await, current) {
            (Ok(fresh), _) => {
                *held() = Some(fresh.clone());
                Ok(fresh)
            }
            (Err(error), Some(current)) if verdict == Some(Verdict::Due) => {
                tracing::warn!(%error, "the client certificate could not be renewed; the old one still holds");
                Ok(current)
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn issue(&self) -> Result<ClientCertificate, ConnectError> {
        let (key, credentials): (Arc<ClientKey>, _) =
            tokio::try_join!(ClientKey::of_this_process(), self.credentials.load(SystemTime::now()))?;
        // Loading may have taken seconds; the signature's time is the time of signing.
        ClientCertificate::issue(&key, &self.request, &credentials, SystemTime::now())
    }
}

#[cfg(test)]
#[path = "connector_tests.rs"]
mod tests;
