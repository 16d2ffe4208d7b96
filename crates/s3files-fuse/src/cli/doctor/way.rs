//! From the name to a read of the root, a step at a time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use mount_target::bind::{self, CallFailure};
use mount_target::certificate::{CertificateRequest, ClientCertificate, ClientKey};
use mount_target::dial::dial;
use mount_target::target::{DEFAULT_PORT, Target};
use mount_target::{ChannelError, ConnectError, Connected, Connector, ConnectorConfig, LossReason};
use nfs4_client::{Access, Client, ClientOptions, Cred, Dial, Dialling};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::source::{Plan, SourceArgs, Way};
use super::{Findings, Found, clock};
use crate::failure::Failure;
use crate::rights;

/// How long a name or a connection may take; `mount` waits longer, but a person is looking.
const STEP_LIMIT: Duration = Duration::from_secs(6);
/// How long the session may take, and the first question in it.
const SESSION_LIMIT: Duration = Duration::from_secs(30);
/// A step that may take no time at all would always fail.
const LEAST_LIMIT: Duration = Duration::from_millis(100);
/// The steps to the server, in order.
static STEPS: [&str; 11] =
    ["target", "name", "tcp", "credentials", "clock", "certificate", "tls", "iam", "nfs", "session", "root"];

/// How long steps may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A name, a connection, a handshake.
    step: Duration,
    /// What asks the server something.
    session: Duration,
}

impl Limits {
    /// The usual ones, or `most` where that is less.
    pub fn of(most: Duration) -> Self {
        let most = most.max(LEAST_LIMIT);
        Self { step: STEP_LIMIT.min(most), session: SESSION_LIMIT.min(most) }
    }

    /// Waits for the server's answer to something.
    async fn answer<T>(self, address: &str, asked: impl Future<Output = T>) -> Result<T, Failure> {
        let slow = || Failure::Slow { address: address.to_owned(), seconds: self.session.as_secs().max(1) };
        tokio::time::timeout(self.session, asked).await.map_err(|_| slow())
    }
}

/// Takes the steps until one fails; the rest is listed as not tried.
pub async fn walk(findings: &mut Findings, source: SourceArgs, clock: Option<&str>, limits: Limits) {
    let before = findings.steps.len();
    if Box::pin(steps(findings, source, clock, limits)).await.is_none() {
        let taken: Vec<&str> = findings.steps[before..].iter().map(|step| step.name).collect();
        let left = STEPS.iter().skip_while(|step| Some(*step) != taken.last()).skip(1);
        for step in left {
            let skipped = async { Ok((Found::Skipped("not tried".to_owned()), ())) };
            findings.take(step, skipped).await;
        }
    }
}

async fn steps(findings: &mut Findings, source: SourceArgs, clock: Option<&str>, within: Limits) -> Option<()> {
    let mut plan = Box::pin(findings.take("target", target(source))).await?;
    if let Way::Tls(config) = &mut plan.way {
        config.dial_limit = config.dial_limit.min(within.session);
        config.handshake_limit = config.handshake_limit.min(within.session);
    }
    let (host, port) = match &plan.way {
        Way::Plain(address) => (address.ip().to_string(), address.port()),
        Way::Tls(config) => (config.target.host.clone(), config.target.port),
    };
    if let Way::Tls(config) = &plan.way {
        findings.server.insert("port_is_usual".to_owned(), json!(config.target.port == DEFAULT_PORT));
    }
    findings.take("name", name(&host, port, within.step)).await?;
    if findings.take("tcp", tcp(&host, port, within.step)).await.is_none() {
        if matches!(&findings.first, Some(Failure::Connect(error)) if matches!(**error, ConnectError::ConnectTimeout { .. }))
        {
            findings.hint(format!(
                "security groups: this machine → load balancer and load balancer → mount target, TCP {port}"
            ));
            findings.hint(
                "some networks block port 2049: try another, or let the balancer listen on 443 and add --port 443",
            );
        }
        return None;
    }
    let connector = match &plan.way {
        Way::Plain(_) => {
            let connector = plan.connector();
            findings
                .take("tls", async { connector.map(|made| (Found::Skipped("--plain: none".to_owned()), made)) })
                .await?
        }
        Way::Tls(config) => identity(findings, config, clock).await?,
    };
    let opened = match &plan.way {
        Way::Plain(_) => connector.open().await.map_err(Failure::from),
        Way::Tls(config) => {
            let opened = findings.take("tls", tls(&connector)).await;
            if opened.is_none() {
                hint_about_tls(findings, &config.target);
            }
            Ok(opened?)
        }
    };
    let settled = match opened {
        Err(failure) => {
            findings.take::<()>("nfs", async { Err(failure) }).await;
            return None;
        }
        Ok(opened) => match &plan.way {
            Way::Plain(_) => opened,
            Way::Tls(config) => {
                let settled = Box::pin(findings.take("iam", iam(&connector, opened, within))).await;
                if settled.is_none() {
                    hint_about_iam(findings, config);
                }
                settled?
            }
        },
    };
    let peer = &settled.peer;
    findings.server.insert("tls".to_owned(), json!(peer.tls_version));
    findings.server.insert("bound".to_owned(), json!(settled.partition.is_some()));
    let address = connector.address();
    let settled = findings.take("nfs", nfs(&connector, settled, &address, within)).await?;
    let options = plan.client.clone();
    let client = findings.take("session", session(connector, settled, options, &address, within)).await?;
    let limits = client.limits();
    let facts = json!({ "slots": limits.slots, "max_read": limits.max_read, "max_write": limits.max_write,
        "lease_s": limits.lease, "hard_links": limits.hard_links, "symlinks": limits.symlinks, "xattrs": limits.xattrs });
    findings.server.insert("limits".to_owned(), facts);
    let read = findings.take("root", root(&client, &plan.client.cred, &address, within)).await;
    // Without it the server forgets the session by itself.
    let _ = tokio::time::timeout(within.step, client.shutdown()).await;
    read
}

async fn target(source: SourceArgs) -> Result<(Found, Plan), Failure> {
    let asks = source.target.clone();
    let plan = source.plan().await?;
    let detail = match &plan.way {
        Way::Plain(address) => format!("{asks} is {address}, without TLS"),
        Way::Tls(config) => {
            let Target { file_system_id, region, server_name, access_point, .. } = &config.target;
            let through = access_point.as_ref().map_or_else(String::new, |point| format!(" through {point}"));
            format!("{file_system_id} in {region}{through}; the server must be {server_name}")
        }
    };
    Ok((Found::Ok(detail), plan))
}

async fn name(host: &str, port: u16, limit: Duration) -> Result<(Found, ()), Failure> {
    let unknown = |detail: String| ConnectError::NameNotResolved { host: host.to_owned(), detail };
    let found = tokio::time::timeout(limit, tokio::net::lookup_host((host, port))).await;
    let found = found
        .map_err(|_| unknown(format!("no answer within {} s", limit.as_secs().max(1))))?
        .map_err(|error| unknown(error.to_string()))?;
    let addresses: Vec<String> = found.map(|address: SocketAddr| address.ip().to_string()).collect();
    if addresses.is_empty() {
        return Err(unknown("it has no address".to_owned()).into());
    }
    Ok((Found::Ok(format!("{host} is {}", addresses.join(", "))), ()))
}

async fn tcp(host: &str, port: u16, limit: Duration) -> Result<(Found, ()), Failure> {
    let stream = dial(host, port, limit).await?;
    let peer = stream.peer_addr().map_or_else(|_| host.to_owned(), |peer| peer.to_string());
    Ok((Found::Ok(format!("connected to {peer}")), ()))
}

/// Credentials, clock and certificate: what this machine has to show.
async fn identity(findings: &mut Findings, config: &ConnectorConfig, clock: Option<&str>) -> Option<Connector> {
    let load = async {
        let credentials = config.credentials.load(SystemTime::now()).await?;
        let key = credentials.access_key_id();
        let shown = format!("{}…{}", key.get(..4).unwrap_or(""), key.get(key.len().saturating_sub(4)..).unwrap_or(""));
        let kind = if credentials.session_token().is_some() { "temporary key" } else { "key" };
        let until = credentials.expiry().map_or_else(String::new, |end| format!(", valid until {}", at(end)));
        Ok((Found::Ok(format!("{kind} {shown}{until}")), credentials))
    };
    let credentials = findings.take("credentials", load).await?;
    findings.take("clock", async { Ok((compare_clock(config, clock).await, ())) }).await?;
    let issue = async {
        let key = ClientKey::of_this_process().await?;
        let request = CertificateRequest {
            client: config.client.clone(),
            region: config.target.region.clone(),
            file_system_id: config.target.file_system_id.clone(),
            access_point: config.target.access_point.clone(),
        };
        let made = ClientCertificate::issue(&key, &request, &credentials, SystemTime::now())?;
        let connector = Connector::new(config.clone())?;
        Ok((Found::Ok(format!("made and signed, valid until {}", at(made.lifetime.not_after()))), connector))
    };
    findings.take("certificate", issue).await
}

fn at(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_else(|_| "?".to_owned())
}

async fn compare_clock(config: &ConnectorConfig, clock: Option<&str>) -> Found {
    let region = config.target.region.as_str();
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let usual = format!("s3.{region}.{suffix}:80");
    let address = match clock {
        Some("none") => return Found::Skipped("left out".to_owned()),
        Some(address) => address,
        None => &usual,
    };
    let Some(ahead) = clock::ahead(address).await else {
        return Found::Skipped(format!("{address} did not tell its time; compare with `date -u`"));
    };
    if ahead.unsigned_abs() >= clock::TOLERANCE.as_secs() {
        let which = if ahead > 0 { "behind" } else { "ahead of" };
        // Anybody on the way can have made the answer up, so it ends nothing.
        return Found::Note(format!(
            "this machine is {} s {which} {address}, and signatures are valid for minutes: if something below is refused, \
             set this machine's clock",
            ahead.unsigned_abs()
        ));
    }
    Found::Ok(format!("{} s from that of {address}", ahead.unsigned_abs()))
}

async fn tls(connector: &Connector) -> Result<(Found, Connected), Failure> {
    let opened = connector.open().await?;
    let version = opened.peer.tls_version.clone().unwrap_or_default();
    let name = opened.peer.server_name.clone().unwrap_or_default();
    Ok((Found::Ok(format!("{version}; the server proved to be {name}")), opened))
}

/// A certificate for another file system tells which one the address leads to.
fn hint_about_tls(findings: &mut Findings, target: &Target) {
    let Some(Failure::Connect(error)) = &findings.first else { return };
    let hint = match &**error {
        ConnectError::ServerNameMismatch { presented, .. } => presented.iter().find_map(|name| {
            let (id, rest) = name.split_once(".s3files.")?;
            let region = rest.split('.').next()?;
            let other = (id != target.file_system_id.as_str()).then(|| format!("--file-system-id {id}"));
            let elsewhere = (region != target.region.as_str()).then(|| format!("--region {region}"));
            let options: Vec<String> = other.into_iter().chain(elsewhere).collect();
            (!options.is_empty()).then(|| format!("this address leads there with {}", options.join(" ")))
        }),
        ConnectError::NotTls { .. } => Some(
            "the load balancer's listener must be TCP, not TLS, and its target group must \
            have healthy targets"
                .to_owned(),
        ),
        ConnectError::AccessDenied { .. } => Some(permissions(target)),
        _ => None,
    };
    if let Some(hint) = hint {
        findings.hint(hint);
    }
}

fn permissions(target: &Target) -> String {
    let point = match &target.access_point {
        Some(point) => format!(", and {point} must belong to it"),
        None => String::new(),
    };
    format!("s3files:ClientMount on {} in {} must be allowed{point}", target.file_system_id, target.region)
}

fn hint_about_iam(findings: &mut Findings, config: &ConnectorConfig) {
    let denied = matches!(&findings.first, Some(Failure::Connect(error)) if matches!(**error, ConnectError::AccessDenied { .. }));
    if !denied {
        return;
    }
    findings.hint(permissions(&config.target));
    findings.hint(
        "a wrong secret key, and a key of another account, get the same answer: try `aws sts get-caller-identity`",
    );
    let clock_is_known = findings.steps.iter().any(|step| step.name == "clock" && step.state == super::State::Ok);
    if !clock_is_known {
        findings.hint("so does a wrong clock: compare with `date -u`");
    }
}

async fn iam(connector: &Connector, opened: Connected, limits: Limits) -> Result<(Found, Connected), Failure> {
    let settled = limits.answer(&connector.address(), connector.settle(opened)).await??;
    let bound = if settled.partition.is_some() { "bound to a partition" } else { "without a partition" };
    Ok((Found::Ok(format!("let in, {bound}")), settled))
}

/// NFSv4's NULL procedure: also the first answer of a server without bind.
async fn nfs(
    connector: &Connector,
    connected: Connected,
    address: &str,
    limits: Limits,
) -> Result<(Found, Connected), Failure> {
    match limits.answer(address, bind::null(&connected.channel)).await? {
        Ok(()) => Ok((Found::Ok("it answers NFSv4 calls".to_owned()), connected)),
        Err(CallFailure::Declined(why)) => Err(Failure::NoSession {
            address: address.to_owned(),
            detail: format!("it does not speak NFS version 4 ({why}); check that the address is a mount target's"),
        }),
        Err(CallFailure::Channel(ChannelError::Lost(reason))) => Err(connector.explain_loss(&reason).into()),
        Err(other) => Err(ConnectError::Lost {
            address: address.to_owned(),
            reason: LossReason::Protocol(format!("NFSv4's NULL procedure: {other}")),
        }
        .into()),
    }
}

/// Gives out the connection that stands first, then new ones.
struct StandsAlready {
    first: Mutex<Option<Connected>>,
    connector: Connector,
}

impl Dial for StandsAlready {
    fn dial(&self) -> Dialling<'_> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            match first {
                Some(first) => Ok(first),
                None => self.connector.connect().await,
            }
        })
    }
}

async fn session(
    connector: Connector,
    connected: Connected,
    options: ClientOptions,
    address: &str,
    limits: Limits,
) -> Result<(Found, Client), Failure> {
    let names: Vec<_> = options.root.iter().map(|name| String::from_utf8_lossy(name)).collect();
    let path = if names.is_empty() { String::new() } else { format!("/{}", names.join("/")) };
    let dial = Arc::new(StandsAlready { first: Mutex::new(Some(connected)), connector });
    let connecting = limits.answer(address, Client::connect(dial, options));
    let client = connecting.await?.map_err(|error| Failure::from_client(error, address, &path))?;
    let limits = client.limits();
    let detail = format!(
        "{} requests at once, {} KiB each, lease {} s",
        limits.slots,
        limits.max_read.min(limits.max_write) >> 10,
        limits.lease
    );
    Ok((Found::Ok(detail), client))
}

async fn root(client: &Client, cred: &Cred, address: &str, limits: Limits) -> Result<(Found, ()), Failure> {
    let (handle, attr) = client.root();
    let asked = async {
        let page = client.readdir(cred, handle, 0, [0; 8], 64 << 10).await?;
        Ok((page, client.access(cred, handle, Access::ALL).await?.0))
    };
    let (page, granted) =
        limits.answer(address, asked).await?.map_err(|error| Failure::from_client(error, "the server", "/"))?;
    let more = if page.eof { "" } else { " or more" };
    let read = format!(
        "{} entries{more}; owner {}:{}, mode {:04o}",
        page.entries.len(),
        attr.uid,
        attr.gid,
        attr.mode & 0o7777
    );
    if granted.contains(Access::MODIFY.and(Access::EXTEND)) {
        return Ok((Found::Ok(read), ()));
    }
    let why = rights::why_refused("the root", cred, (attr.uid, attr.gid), attr.mode);
    Ok((Found::Note(format!("{read}; {why}")), ()))
}
