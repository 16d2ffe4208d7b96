//! The builder of a mock and the handle of a running one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bind::{BindFault, Binder, Bucket};
use crate::ca::ServerCertificate;
use crate::clock::Clock;
use crate::connection;
use crate::error::MockError;
use crate::forward::Forward;
use crate::front::{TlsDoor, accept_loop};
use crate::iam::{AccessPoint, Credentials, Iam};
use crate::kept::Kept;
use crate::later::Later;
use crate::link::{Link, LinkSettings};
use crate::memory::{Memory, MemoryService};
use crate::nfs::{Config, Profile};
use crate::objects::Objects;
use crate::plan::{Fault, FaultPlan};
#[cfg(feature = "s3")]
use crate::s3::S3End;
use crate::service::{ConnInfo, Service};
use crate::shared::{Connections, Counters, Mistakes, Shared, WireCounters};
use crate::unanswered::Unanswered;
use crate::wire::{WireFaults, WireRule};

const THIS_MACHINE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Bytes that a connection in memory holds in each direction.
const IN_MEMORY: usize = 1 << 20;

/// What stands behind the front.
#[derive(Debug, Clone)]
pub(crate) enum Backend {
    Memory { config: Box<Config>, import: Option<PathBuf> },
    Forward(SocketAddr),
    Service(Arc<dyn Service>),
}

/// Choices of a mock, all with usable defaults.
#[derive(Debug)]
#[must_use = "a builder does nothing before it is started"]
pub struct MockServerBuilder {
    backend: Backend,
    listen: SocketAddr,
    plain: Option<SocketAddr>,
    file_system_id: String,
    region: String,
    credentials: Option<Credentials>,
    read_only: bool,
    further_credentials: Vec<Credentials>,
    access_points: Vec<AccessPoint>,
    certificate: ServerCertificate,
    link: LinkSettings,
    bucket: Option<Bucket>,
    faults: FaultPlan,
    #[cfg(feature = "s3")]
    s3: Option<SocketAddr>,
    seed: u64,
    state_dir: Option<PathBuf>,
}

impl Default for MockServerBuilder {
    fn default() -> Self {
        Self {
            backend: Backend::Memory { config: Box::default(), import: None },
            listen: THIS_MACHINE,
            plain: None,
            file_system_id: "fs-0123456789abcdef0".into(),
            region: "us-east-1".into(),
            credentials: None,
            read_only: false,
            further_credentials: Vec::new(),
            access_points: Vec::new(),
            certificate: ServerCertificate::default(),
            link: LinkSettings::default(),
            bucket: None,
            faults: FaultPlan::default(),
            #[cfg(feature = "s3")]
            s3: None,
            seed: 1,
            state_dir: None,
        }
    }
}

/// A mount target for tests. See [`MockServer::builder`].
#[derive(Debug, Clone, Copy)]
pub struct MockServer;

impl MockServer {
    /// Begins to choose what the mock shall be.
    pub fn builder() -> MockServerBuilder {
        MockServerBuilder::default()
    }
}

impl MockServerBuilder {
    /// Serves from memory, as this profile does (the default: S3 Files).
    pub fn profile(self, profile: Profile) -> Self {
        self.config(Config::new(profile))
    }

    /// Serves from memory with these choices. The file system id is the builder's.
    pub fn config(mut self, config: Config) -> Self {
        self.backend = Backend::Memory { config: Box::new(config), import: None };
        self
    }

    /// Serves from memory, beginning with a copy of this folder; nothing is ever written back.
    pub fn import(mut self, dir: impl Into<PathBuf>) -> Self {
        let config = match self.backend {
            Backend::Memory { config, .. } => config,
            _ => Box::default(),
        };
        self.backend = Backend::Memory { config, import: Some(dir.into()) };
        self
    }

    /// Passes NFS records on to the server at `to`, connection for connection.
    pub fn forward(mut self, to: SocketAddr) -> Self {
        self.backend = Backend::Forward(to);
        self
    }

    /// Puts another service behind the front.
    pub fn service(mut self, service: Arc<dyn Service>) -> Self {
        self.backend = Backend::Service(service);
        self
    }

    /// Where TLS connections are accepted; port 0 is any free one, on 127.0.0.1 unless told otherwise.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Accepts connections without TLS as well, at any free port of 127.0.0.1.
    pub fn plain(self) -> Self {
        self.plain_listen(THIS_MACHINE)
    }

    /// Accepts connections without TLS as well; loopback addresses only.
    pub fn plain_listen(mut self, address: SocketAddr) -> Self {
        self.plain = Some(address);
        self
    }

    /// The file system that certificates must name.
    pub fn file_system_id(mut self, id: impl Into<String>) -> Self {
        self.file_system_id = id.into();
        self
    }

    /// The region that signatures must name.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = region.into();
        self
    }

    /// The credentials that [`MockHandle::credentials`] gives, instead of new ones.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Whether the credentials lack `s3files:ClientWrite`. Not in front of another server ([`forward`](Self::forward)).
    pub fn read_only_credentials(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Further credentials that are accepted.
    pub fn also_accept(mut self, credentials: Credentials) -> Self {
        self.further_credentials.push(credentials);
        self
    }

    /// An access point that certificates may name.
    pub fn access_point(mut self, access_point: AccessPoint) -> Self {
        self.access_points.push(access_point);
        self
    }

    /// Which certificate the server shows.
    pub fn server_certificate(mut self, kind: ServerCertificate) -> Self {
        self.certificate = kind;
        self
    }

    /// A slow link between the mock and its clients.
    pub fn link(mut self, settings: LinkSettings) -> Self {
        self.link = settings;
        self
    }

    /// The bucket that `channel_init` offers for direct reads.
    pub fn bucket(mut self, name: impl Into<String>, prefix: impl Into<String>) -> Self {
        self.bucket = Some(Bucket { name: name.into(), prefix: prefix.into() });
        self
    }

    /// Serves that bucket over HTTP as well, at any free port of 127.0.0.1 ([`MockHandle::s3_addr`]).
    #[cfg(feature = "s3")]
    pub fn s3(self, name: impl Into<String>, prefix: impl Into<String>) -> Self {
        self.s3_listen(THIS_MACHINE, name, prefix)
    }

    /// The same at an address of one's choice.
    #[cfg(feature = "s3")]
    pub fn s3_listen(mut self, address: SocketAddr, name: impl Into<String>, prefix: impl Into<String>) -> Self {
        self.s3 = Some(address);
        self.bucket(name, prefix)
    }

    /// Failures on purpose. Their seed, if they name one, is the mock's.
    pub fn faults(mut self, plan: FaultPlan) -> Self {
        self.seed = plan.seed.unwrap_or(self.seed);
        self.faults.faults.extend(plan.faults);
        self
    }

    /// Where randomness on purpose comes from: partition ids, random bytes, jitter.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Keeps the CA and the credentials in this folder, so that the next mock there is the same to its clients.
    pub fn state_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(dir.into());
        self
    }

    /// Starts the mock on the runtime of the caller.
    pub async fn start(self) -> Result<MockHandle, MockError> {
        if let Some(plain) = self.plain
            && !plain.ip().is_loopback()
        {
            return Err(MockError::Choice(format!(
                "{plain} is not on this machine; NFS without TLS is served on loopback only"
            )));
        }
        if self.read_only && matches!(self.backend, Backend::Forward(_)) {
            return Err(MockError::Choice(
                "credentials without ClientWrite have no effect in front of another server, which does not know of them"
                    .into(),
            ));
        }
        let kept = Kept::open(self.state_dir.as_deref(), self.credentials)?;
        let clock = Arc::new(Clock::default());
        let iam = Arc::new(Iam::new(&self.file_system_id, &self.region));
        for credentials in self.further_credentials {
            iam.allow(credentials);
        }
        let mut credentials = kept.credentials.clone();
        credentials.write &= !self.read_only;
        iam.allow(credentials);
        for access_point in self.access_points {
            iam.add_access_point(access_point);
        }
        let (service, memory): (Arc<dyn Service>, _) = match self.backend {
            Backend::Memory { config, import } => {
                let config = Config { file_system_id: self.file_system_id.clone(), ..*config };
                let memory = Arc::new(Memory::new(config, Arc::clone(&clock), import.as_deref())?);
                (Arc::new(MemoryService(Arc::clone(&memory))), Some(memory))
            }
            Backend::Forward(to) => (Arc::new(Forward::new(to)), None),
            Backend::Service(service) => (service, None),
        };
        let shared = Arc::new(Shared {
            service,
            binder: Binder::new(self.seed, self.bucket.clone()),
            link: Arc::new(Link::new(self.link, self.seed)),
            wire: WireFaults::new(self.seed),
            unanswered: Unanswered::default(),
            clock: Arc::clone(&clock),
            mistakes: Mistakes::default(),
            refusals: Mistakes::default(),
            panics: Mistakes::default(),
            connections: Arc::new(Connections::default()),
            counters: Counters::default(),
        });
        let server_name = server_name(&self.file_system_id, &self.region);
        let identity = kept.authority.issue(&server_name, self.certificate)?;
        let door = TlsDoor::new(identity, Arc::clone(&iam), clock, &server_name)?;
        let stop = CancellationToken::new();
        let mut tasks = Vec::new();
        let (listener, addr) = listen(self.listen).await?;
        let plain = match self.plain {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let plain_addr = plain.as_ref().map(|(_, address)| *address);
        let doors = [Some((listener, Some(door))), plain.map(|(listener, _)| (listener, None))];
        for (listener, door) in doors.into_iter().flatten() {
            let (shared, stop) = (Arc::clone(&shared), stop.clone());
            tasks.push(tokio::spawn(accept_loop(listener, door, shared, stop)));
        }
        let objects = Arc::new(Objects::default());
        #[cfg(feature = "s3")]
        let s3_addr = match (self.s3, self.bucket.clone()) {
            (Some(address), Some(bucket)) => {
                let (listener, address) = listen(address).await?;
                let end = S3End {
                    bucket,
                    region: self.region.clone(),
                    objects: Arc::clone(&objects),
                    iam: Arc::clone(&iam),
                    link: Arc::clone(&shared.link),
                    clock: Arc::clone(&shared.clock),
                };
                tasks.push(tokio::spawn(end.serve(listener, stop.clone())));
                Some(address)
            }
            _ => None,
        };
        if let Some(memory) = &memory {
            tasks.push(tokio::spawn(Arc::clone(memory).keep_time(stop.clone())));
        }
        let handle = MockHandle {
            addr,
            plain_addr,
            server_name,
            file_system_id: self.file_system_id,
            region: self.region,
            seed: self.seed,
            kept,
            iam,
            shared,
            memory,
            objects,
            bucket: self.bucket,
            #[cfg(feature = "s3")]
            s3_addr,
            stop,
            tasks,
            tracker: TaskTracker::new(),
        };
        handle.tell_rtt(self.link.rtt);
        handle.add_faults(self.faults);
        Ok(handle)
    }
}

/// The name that the server's certificate is for (PROTOCOL.md §1).
fn server_name(file_system_id: &str, region: &str) -> String {
    let suffix = match region {
        region if region.starts_with("cn-") => "on.amazonwebservices.com.cn",
        "eusc-de-east-1" => "amazonaws.eu",
        _ => "on.aws",
    };
    format!("{file_system_id}.s3files.{region}.{suffix}")
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), MockError> {
    let failed = |source| MockError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// A running mock. Dropping it ends the mock at once; [`stop`](Self::stop) waits until it has ended.
pub struct MockHandle {
    addr: SocketAddr,
    plain_addr: Option<SocketAddr>,
    server_name: String,
    file_system_id: String,
    region: String,
    seed: u64,
    kept: Kept,
    iam: Arc<Iam>,
    shared: Arc<Shared>,
    pub(crate) memory: Option<Arc<Memory>>,
    pub(crate) objects: Arc<Objects>,
    pub(crate) bucket: Option<Bucket>,
    #[cfg(feature = "s3")]
    s3_addr: Option<SocketAddr>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    /// Connections in memory, and events that wait for their time.
    tracker: TaskTracker,
}

impl fmt::Debug for MockHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockHandle")
            .field("addr", &self.addr)
            .field("plain_addr", &self.plain_addr)
            .field("file_system_id", &self.file_system_id)
            .finish_non_exhaustive()
    }
}

impl Drop for MockHandle {
    fn drop(&mut self) {
        self.stop.cancel();
        self.shared.connections.cut_all();
    }
}

/// What a client needs to know.
impl MockHandle {
    /// Where it accepts TLS connections.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it accepts connections without TLS, if it does.
    pub fn plain_addr(&self) -> Option<SocketAddr> {
        self.plain_addr
    }

    /// Where it serves the bucket, if it does.
    #[cfg(feature = "s3")]
    pub fn s3_addr(&self) -> Option<SocketAddr> {
        self.s3_addr
    }

    /// The CA certificate in PEM.
    pub fn ca_pem(&self) -> &str {
        self.kept.authority.pem()
    }

    /// The CA certificate in DER.
    pub fn ca_der(&self) -> &CertificateDer<'static> {
        self.kept.authority.der()
    }

    /// A file with the CA certificate; it lives as long as the handle.
    pub fn ca_file(&self) -> &Path {
        &self.kept.ca_file
    }

    /// Credentials that it accepts.
    pub fn credentials(&self) -> &Credentials {
        &self.kept.credentials
    }

    /// The file system id.
    pub fn fs_id(&self) -> &str {
        &self.file_system_id
    }

    /// The region.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The name that clients must send as SNI and verify.
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// Where randomness on purpose comes from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The environment that gives the credentials to a client.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let credentials = self.credentials();
        let mut environment = vec![
            ("AWS_ACCESS_KEY_ID", credentials.access_key_id.clone()),
            ("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key.clone()),
        ];
        if let Some(token) = &credentials.session_token {
            environment.push(("AWS_SESSION_TOKEN", token.clone()));
        }
        environment
    }

    /// The arguments with which `s3files-fuse` mounts it on `folder`.
    pub fn mount_arguments(&self, folder: &str) -> Vec<String> {
        [
            "mount",
            &self.addr.to_string(),
            folder,
            "--file-system-id",
            &self.file_system_id,
            "--region",
            &self.region,
            "--ca-file",
            &self.ca_file().display().to_string(),
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// The command line that mounts it, credentials included.
    pub fn mount_command(&self, folder: &str) -> String {
        let environment = self.environment().into_iter().map(|(name, value)| format!("{name}={value}"));
        let arguments = self.mount_arguments(folder);
        environment.chain(["s3files-fuse".to_owned()]).chain(arguments).collect::<Vec<_>>().join(" ")
    }

    /// A connection in memory: NFS without TLS, as on [`plain_addr`](Self::plain_addr). Must be called on the runtime.
    pub fn connect_in_memory(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(IN_MEMORY);
        let shared = Arc::clone(&self.shared);
        let entered = shared.connections.enter();
        self.tracker.spawn(async move {
            shared.counters.accepted();
            let serving = Arc::clone(&shared);
            let task = tokio::spawn(async move {
                let conn = ConnInfo::new(entered.id, None, None);
                connection::serve(far, conn, &serving, entered.cut.clone()).await;
            });
            shared.ended(task.await);
        });
        near
    }
}

/// What a test does to it, and what it sees.
impl MockHandle {
    /// Cuts every connection that stands; new ones are accepted.
    pub fn cut_all(&self) {
        self.shared.connections.cut_all();
    }

    /// How many connections stand.
    pub fn connections(&self) -> usize {
        self.shared.connections.len()
    }

    /// Changes the link.
    pub fn set_link(&self, settings: LinkSettings) {
        self.shared.link.set(settings);
        self.tell_rtt(settings.rtt);
    }

    /// Changes the link's round trip time only.
    pub fn set_rtt(&self, rtt: Duration) {
        self.set_link(LinkSettings { rtt, ..self.shared.link.settings() });
    }

    /// Adds failures.
    pub fn add_faults(&self, plan: FaultPlan) {
        for fault in plan.faults {
            match fault {
                Fault::Wire(rule) => self.add_wire_fault(rule),
                Fault::Nfs(after, rule) => self.add_fault_after(after, rule),
                Fault::S3(rule) => self.objects.fail(rule),
                Fault::At(at, event) => {
                    let later = Later { shared: Arc::clone(&self.shared), memory: self.memory.clone() };
                    let wait = at.saturating_sub(self.shared.clock.running());
                    let stop = self.stop.clone();
                    self.tracker.spawn(async move {
                        if tokio::time::timeout(wait, stop.cancelled()).await.is_err() {
                            later.happen(event).await;
                        }
                    });
                }
            }
        }
    }

    /// Adds a failure on the wire.
    pub fn add_wire_fault(&self, rule: WireRule) {
        self.shared.wire.add(rule);
    }

    /// Takes all failures on the wire away that have not happened yet.
    pub fn clear_wire_faults(&self) {
        self.shared.wire.clear();
    }

    /// The next binds get these answers, one each.
    pub fn fail_binds(&self, answers: impl IntoIterator<Item = BindFault>) {
        self.shared.binder.fail_next(answers);
    }

    /// How often a failure on the wire has happened.
    pub fn wire_faults_acted(&self) -> u64 {
        self.shared.wire.acted()
    }

    /// The partition that bind names.
    pub fn partition(&self) -> [u8; 64] {
        self.shared.binder.partition()
    }

    /// Accepts further credentials from now on.
    pub fn allow(&self, credentials: Credentials) {
        self.iam.allow(credentials);
    }

    /// Does not accept these any more; connections that stand stay.
    pub fn revoke(&self, access_key_id: &str) {
        self.iam.revoke(access_key_id);
    }

    /// Puts the mock's clock forward: leases run out, certificates and signatures grow old.
    pub fn advance_clock(&self, by: Duration) {
        self.shared.clock.advance(by);
    }

    /// Why connections were refused, in order.
    pub fn refusals(&self) -> Vec<String> {
        self.shared.refusals.all()
    }

    /// Panics of the mock itself, of which there must be none.
    pub fn panics(&self) -> Vec<String> {
        self.shared.panics.all()
    }

    /// What clients did wrong below NFS: records, procedures, SNI, bind.
    pub fn wire_mistakes(&self) -> Vec<String> {
        self.shared.mistakes.all()
    }

    /// What went over the wire.
    pub fn wire_counters(&self) -> WireCounters {
        self.shared.counters.read()
    }

    /// Ends the mock: no connection and no port stays open. A panic of the mock is a panic of whoever stops it.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.shared.connections.cut_all();
        self.tracker.close();
        self.tracker.wait().await;
        for task in std::mem::take(&mut self.tasks) {
            self.shared.ended(task.await);
        }
        if let Some(panic) = self.shared.panics.all().into_iter().next() {
            std::panic::resume_unwind(Box::new(panic));
        }
    }
}
