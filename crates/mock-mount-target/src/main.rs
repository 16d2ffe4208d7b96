//! The mock mount target as a program: `mock-mount-target serve` starts one and says how to mount it.
#![forbid(unsafe_code)]

mod remote;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use mock_mount_target::nfs::{Config, Profile};
use mock_mount_target::{FaultPlan, LinkSettings, MockHandle, MockServer, MockServerBuilder, ServerCertificate};

/// Buffers of a megabyte come and go on many threads, which glibc's allocator pays for with page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A mount target for tests: TLS, IAM and bind as Amazon S3 Files has them, and an NFSv4.1/4.2 server behind.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until interrupted.
    Serve(Box<Serve>),
}

#[derive(Args)]
struct Serve {
    /// Where to accept TLS connections.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Accept NFSv4 without TLS here as well; loopback only.
    #[arg(long, value_name = "ADDRESS:PORT")]
    plain_listen: Option<SocketAddr>,
    #[command(flatten)]
    backend: Backend,
    /// Which server is played from memory.
    #[arg(long, value_enum, default_value_t = Played::S3files)]
    profile: Played,
    /// Delegate files to clients that ask for it in OPEN and have a back channel; only with --profile full.
    #[arg(long)]
    delegations: bool,
    /// How long a client of the server in memory may be silent, in seconds.
    #[arg(long, default_value_t = 90, value_name = "SECONDS")]
    lease: u64,
    /// The file system id that clients must name.
    #[arg(long, default_value = "fs-0123456789abcdef0", value_name = "ID")]
    file_system_id: String,
    /// The region that clients must sign for.
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// Round trip time of the link: 30ms, 1s; a bare number is milliseconds.
    #[arg(long, default_value = "0ms", value_name = "TIME", value_parser = time)]
    rtt: Duration,
    /// Bandwidth of the link in each direction: 100mbit, 1gbit, 12MB; a bare number is megabytes per second.
    #[arg(long, value_name = "RATE", value_parser = bytes_per_second)]
    bandwidth: Option<u64>,
    /// Up to how much later each reply may be: 5ms; a bare number is milliseconds.
    #[arg(long, default_value = "0ms", value_name = "TIME", value_parser = time)]
    jitter: Duration,
    /// How long the link stands still when it loses a packet: 200ms; 0 loses none.
    #[arg(long, default_value = "0ms", value_name = "TIME", value_parser = time)]
    loss_stall: Duration,
    /// A plan of failures, in TOML.
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// Serve the bucket for direct reads here, over HTTP.
    #[cfg(feature = "s3")]
    #[arg(long, value_name = "ADDRESS:PORT")]
    s3_listen: Option<SocketAddr>,
    /// Where randomness on purpose comes from; printed, so that a run can be had again.
    #[arg(long)]
    seed: Option<u64>,
    /// The credentials lack s3files:ClientWrite; not with --forward, where the server behind decides what may be written.
    #[arg(long)]
    read_only_key: bool,
    /// Which certificate the server shows.
    #[arg(long, value_enum, default_value_t = Certificate::Good, value_name = "KIND")]
    server_certificate: Certificate,
    /// Keep the CA and the credentials in this folder, and use what is kept there.
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// Write how to reach the server to this file, as JSON, once it accepts connections.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// At the end, list every mistake that clients made and everything that they left open, and fail if there is any.
    #[arg(long)]
    judge: bool,
    /// Obey lines on standard input (`link RTT [RATE]`, `counters`), each answered by a line of JSON; end with the input.
    #[arg(long)]
    control: bool,
}

#[derive(Args)]
#[group(multiple = false)]
struct Backend {
    /// Serve an empty file system from memory (the default).
    #[arg(long)]
    memory: bool,
    /// Serve from memory, beginning with a copy of this folder; nothing is ever written back.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Pass NFS records on to this server.
    #[arg(long, value_name = "HOST:PORT")]
    forward: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Played {
    /// What Amazon S3 Files does, and no more.
    S3files,
    /// Everything that a good NFSv4.2 server does.
    Full,
}

#[derive(Clone, Copy, ValueEnum)]
enum Certificate {
    Good,
    Expired,
    WrongName,
}

impl From<Certificate> for ServerCertificate {
    fn from(kind: Certificate) -> Self {
        match kind {
            Certificate::Good => Self::Good,
            Certificate::Expired => Self::Expired,
            Certificate::WrongName => Self::WrongName,
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let Command::Serve(serve) = Cli::parse().command;
    serve.run().await
}

impl Serve {
    async fn run(self) -> anyhow::Result<()> {
        let seed = self.seed.unwrap_or_else(rand::random);
        let ready_file = self.ready_file.clone();
        let (judge, control) = (self.judge, self.control);
        let mock = self.builder(seed).await?.start().await?;
        println!("{}", introduction(&mock));
        if let Some(file) = &ready_file {
            write_whole(file, &ready(&mock).to_string())?;
        }
        let mut end = std::pin::pin!(interrupted());
        if control {
            let mut lines = remote::lines();
            loop {
                tokio::select! {
                    ended = &mut end => { ended?; break }
                    line = lines.recv() => match line {
                        Some(line) => println!("{}", remote::obey(&mock, &line)),
                        None => break,
                    },
                }
            }
        } else {
            end.await?;
        }
        let mut mistakes = if judge { mock.verdict() } else { Vec::new() };
        mistakes.extend(judge.then(|| mock.check_invariants().err()).flatten());
        let failures = mock.faults_acted();
        mock.stop().await;
        if judge {
            println!("failures on purpose: {failures}");
        }
        for mistake in &mistakes {
            println!("mistake: {mistake}");
        }
        anyhow::ensure!(mistakes.is_empty(), "clients made {} mistakes", mistakes.len());
        Ok(())
    }

    async fn builder(self, seed: u64) -> anyhow::Result<MockServerBuilder> {
        let mut builder = MockServer::builder()
            .listen(self.listen)
            .file_system_id(self.file_system_id)
            .region(self.region)
            .server_certificate(self.server_certificate.into())
            .seed(seed)
            .read_only_credentials(self.read_only_key)
            .link(LinkSettings {
                rtt: self.rtt,
                bandwidth: self.bandwidth,
                jitter: self.jitter,
                loss_stall: self.loss_stall,
            });
        if let Some(address) = self.plain_listen {
            builder = builder.plain_listen(address);
        }
        if let Some(file) = self.faults {
            let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            builder = builder.faults(FaultPlan::from_toml(&text, seed)?);
        }
        #[cfg(feature = "s3")]
        if let Some(address) = self.s3_listen {
            builder = builder.s3_listen(address, "mock-bucket", "mock-prefix/");
        }
        if let Some(dir) = self.state_dir {
            builder = builder.state_dir(dir);
        }
        let profile = match self.profile {
            Played::S3files => Profile::S3Files,
            Played::Full => Profile::Full,
        };
        anyhow::ensure!(
            !self.delegations || (profile == Profile::Full && self.backend.forward.is_none()),
            "--delegations needs --profile full and has no effect in front of another server"
        );
        builder = builder.config(Config {
            lease: Duration::from_secs(self.lease),
            delegations: self.delegations,
            ..Config::new(profile)
        });
        if let Some(dir) = self.backend.dir {
            builder = builder.import(dir);
        }
        if let Some(to) = self.backend.forward {
            let mut addresses = tokio::net::lookup_host(&to).await.with_context(|| format!("cannot resolve {to}"))?;
            builder = builder.forward(addresses.next().with_context(|| format!("{to} has no address"))?);
        }
        Ok(builder)
    }
}

/// A number and its unit.
fn split_unit(text: &str) -> Result<(u64, &str), String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..digits].parse().map_err(|_| format!("{text} does not begin with a whole number"))?;
    Ok((number, &text[digits..]))
}

fn time(text: &str) -> Result<Duration, String> {
    match split_unit(text)? {
        (number, "ms" | "") => Ok(Duration::from_millis(number)),
        (number, "s") => Ok(Duration::from_secs(number)),
        (_, unit) => Err(format!("{unit} is no unit of time here; ms and s are")),
    }
}

fn bytes_per_second(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text)?;
    let one: u64 = match unit {
        "kbit" => 125,
        "mbit" => 125_000,
        "gbit" => 125_000_000,
        "MB" | "" => 1_000_000,
        unit => return Err(format!("{unit} is no unit of bandwidth here; kbit, mbit, gbit and MB are")),
    };
    number.checked_mul(one).filter(|rate| *rate > 0).ok_or_else(|| format!("{text} is no bandwidth"))
}

fn introduction(mock: &MockHandle) -> String {
    let mut lines = vec![format!("serving {} at {} (seed {})", mock.fs_id(), mock.addr(), mock.seed())];
    if let Some(plain) = mock.plain_addr() {
        lines.push(format!("serving NFSv4 without TLS at {plain}"));
    }
    lines.push(format!("CA file: {}", mock.ca_file().display()));
    for (name, value) in mock.environment() {
        lines.push(format!("export {name}={value}"));
    }
    lines.push(format!("s3files-fuse {}", mock.mount_arguments("FOLDER").join(" ")));
    lines.join("\n")
}

/// What a test script needs.
fn ready(mock: &MockHandle) -> serde_json::Value {
    let environment: serde_json::Map<String, serde_json::Value> =
        mock.environment().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    serde_json::json!({
        "pid": std::process::id(),
        "address": mock.addr().to_string(),
        "port": mock.addr().port(),
        "plain_address": mock.plain_addr().map(|address| address.to_string()),
        "plain_port": mock.plain_addr().map(|address| address.port()),
        "file_system_id": mock.fs_id(),
        "region": mock.region(),
        "server_name": mock.server_name(),
        "ca_file": mock.ca_file(),
        "environment": environment,
        "mount_arguments": mock.mount_arguments("FOLDER"),
        "mount_command": mock.mount_command("FOLDER"),
        "s3_address": s3_address(mock),
        "seed": mock.seed(),
    })
}

#[cfg(feature = "s3")]
fn s3_address(mock: &MockHandle) -> Option<String> {
    mock.s3_addr().map(|address| address.to_string())
}

#[cfg(not(feature = "s3"))]
fn s3_address(_: &MockHandle) -> Option<String> {
    None
}

/// Whoever waits for the file finds it complete or not at all. It holds the credentials, so nobody else may read it.
fn write_whole(file: &Path, text: &str) -> anyhow::Result<()> {
    let dir = match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut whole =
        tempfile::NamedTempFile::new_in(dir).with_context(|| format!("cannot write to {}", dir.display()))?;
    whole.write_all(text.as_bytes())?;
    whole.persist(file).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(())
}

#[cfg(unix)]
async fn interrupted() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn interrupted() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_described_in_the_units_of_networks() {
        assert_eq!(time("30ms"), Ok(Duration::from_millis(30)));
        assert_eq!(time("30"), Ok(Duration::from_millis(30)));
        assert_eq!(time("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(bytes_per_second("100mbit"), Ok(12_500_000));
        assert_eq!(bytes_per_second("1gbit"), Ok(125_000_000));
        assert_eq!(bytes_per_second("50"), Ok(50_000_000));
        for wrong in ["", "ms", "3 ms", "-1ms", "5min"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0mbit", "99999999999999gbit", "1kB", "fast"] {
            assert!(bytes_per_second(wrong).is_err(), "{wrong}");
        }
    }
}
