//! The options that name a mount target and say how to get in; every verb that connects has them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use mount_target::target::TargetName;
use mount_target::{
    AccessPointId, AwsSettings, AzId, ChannelOptions, Connector, ConnectorConfig, CredentialsSource, FileSystemId,
    Region, TargetOptions, Trust,
};
use nfs4_client::ClientOptions;

use crate::failure::Failure;
use crate::serve::Source;
use crate::walk::own_identity;

/// A server that is given less time than this is never heard.
const LEAST_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the file system is.
#[derive(Debug, Clone, Args)]
pub struct SourceArgs {
    /// The mount target: a load balancer's DNS name, `fs-…`, a mount target's DNS name, or an IP address; `:PORT` may
    /// follow.
    #[arg(value_name = "TARGET")]
    pub target: String,
    /// The file system behind the target, where its name does not tell (`fs-…`).
    #[arg(long, value_name = "ID", help_heading = "Target")]
    file_system_id: Option<FileSystemId>,
    /// The AWS region, where the name does not tell; else AWS_REGION or the profile's region is taken.
    #[arg(long, help_heading = "Target")]
    region: Option<Region>,
    /// The availability zone id (such as use1-az1) whose mount target a bare `fs-…` means.
    #[arg(long, value_name = "ID", help_heading = "Target")]
    az_id: Option<AzId>,
    /// Enter through this access point (`fsap-…`).
    #[arg(long, value_name = "ID", help_heading = "Target")]
    access_point: Option<AccessPointId>,
    /// The TCP port; 2049 unless the target says otherwise.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Target")]
    port: Option<u16>,
    /// The directory of the file system that becomes the root.
    #[arg(long, value_name = "DIRECTORY", default_value = "/", help_heading = "Target")]
    path: String,
    /// The AWS profile whose credentials are used, instead of the default chain.
    #[arg(long, help_heading = "Credentials and trust")]
    profile: Option<String>,
    /// A PEM file with the certificates to trust instead of the public ones, for a private server.
    #[arg(long, value_name = "FILE", help_heading = "Credentials and trust")]
    ca_file: Option<PathBuf>,
    /// The name that the server's certificate must hold, where it is not the file system's own.
    #[arg(long, value_name = "NAME", help_heading = "Credentials and trust")]
    server_name: Option<String>,
    /// Connect without TLS and without credentials; for NFSv4 servers on this machine only.
    #[arg(
        long,
        conflicts_with_all = ["file_system_id", "region", "az_id", "access_point", "profile", "ca_file", "server_name"],
        help_heading = "Credentials and trust"
    )]
    plain: bool,
    /// Give calls an error after this many seconds without the server, instead of waiting until it is back.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Target")]
    soft: Option<u64>,
    /// Let calls wait for the server for as long as it takes, whatever --soft says.
    #[arg(long, help_heading = "Target")]
    hard: bool,
    /// Most connections to the mount target; more than one are opened while they are kept busy.
    #[arg(
        long,
        value_name = "COUNT",
        value_parser = clap::value_parser!(u8).range(1..=16),
        default_value_t = 4,
        help_heading = "Target"
    )]
    connections: u8,
    /// How long the server may leave a request unanswered before the connection is made anew.
    #[arg(long, value_name = "TIME", value_parser = super::mount::time, default_value = "60s", help_heading = "Target")]
    answer_timeout: Duration,
}

impl SourceArgs {
    /// The file of certificates, as it was typed.
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    /// The AWS profile, if one is named.
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// Whether AWS credentials are needed.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// Everything that is needed to connect.
    pub async fn source(self) -> Result<Source, Failure> {
        let plan = self.plan().await?;
        let connector = plan.connector()?;
        let address = connector.address();
        let file_system = connector.file_system_id().map(ToString::to_string);
        Ok(Source { dial: Arc::new(connector), client: plan.client, address, file_system })
    }

    /// What the options come to. Asks the AWS configuration for the region, and AWS for the file system behind a load
    /// balancer; the mount target is not asked for anything.
    pub async fn plan(self) -> Result<Plan, Failure> {
        let mut name: TargetName = self.target.parse()?;
        if let Some(port) = self.port {
            name.port = port;
        }
        let client = ClientOptions {
            machine_name: machine_name(),
            cred: own_identity(),
            root: root(&self.path)?,
            connections: usize::from(self.connections),
            call_timeout: self.answer_timeout.max(LEAST_TIMEOUT),
            soft_timeout: self.soft.filter(|_| !self.hard).map(Duration::from_secs),
            ..ClientOptions::default()
        };
        let way = if self.plain { Way::Plain(loopback(&name)?) } else { Way::Tls(Box::new(self.config(name).await?)) };
        Ok(Plan { client, way })
    }

    async fn config(self, name: TargetName) -> Result<ConnectorConfig, Failure> {
        let settings = AwsSettings { profile: self.profile };
        let options = TargetOptions {
            file_system_id: self.file_system_id,
            region: self.region,
            az_id: self.az_id,
            access_point: self.access_point,
            server_name: self.server_name,
        };
        let target = mount_target::discovery::locate(name, options, &settings).await?;
        let credentials = CredentialsSource::from_settings(settings, target.region.clone());
        let trust = self.ca_file.map_or(Trust::PublicRoots, Trust::CaFile);
        Ok(ConnectorConfig { trust, ..ConnectorConfig::new(target, credentials) })
    }
}

/// What the options come to.
#[derive(Debug)]
pub struct Plan {
    /// How to be a client.
    pub client: ClientOptions,
    /// How to get there.
    pub way: Way,
}

/// How to get there.
#[derive(Debug)]
pub enum Way {
    /// Without TLS, on this machine.
    Plain(SocketAddr),
    /// As a mount target wants it.
    Tls(Box<ConnectorConfig>),
}

impl Plan {
    /// What makes the connections.
    pub fn connector(&self) -> Result<Connector, Failure> {
        Ok(match &self.way {
            Way::Plain(address) => Connector::plain(*address, ChannelOptions::default())?,
            Way::Tls(config) => Connector::new(ConnectorConfig::clone(config))?,
        })
    }
}

/// This machine's name without its domain, as the server may log it.
fn machine_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    match name.split('.').next() {
        Some(name) if !name.is_empty() => name.chars().take(64).collect(),
        _ => "s3files-fuse".to_owned(),
    }
}

fn root(path: &str) -> Result<Vec<Vec<u8>>, Failure> {
    let names: Vec<Vec<u8>> =
        path.split('/').filter(|name| !name.is_empty() && *name != ".").map(|name| name.as_bytes().to_vec()).collect();
    if names.iter().any(|name| name == b"..") {
        return Err(Failure::Usage(format!("--path {path} goes upwards; write the path without `..`")));
    }
    Ok(names)
}

/// Without TLS the target must be an address; the connector checks that it is this machine's.
fn loopback(name: &TargetName) -> Result<SocketAddr, Failure> {
    if name.host == "localhost" {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), name.port));
    }
    let address = name.host.parse::<IpAddr>().map_err(|_| {
        Failure::Usage(format!("--plain is for servers on this machine; {} is not 127.0.0.1 or ::1", name.host))
    })?;
    Ok(SocketAddr::new(address, name.port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_path_becomes_its_names_and_never_goes_up() {
        assert_eq!(root("/a//b/./c/").unwrap(), [b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]);
        assert!(root("/").unwrap().is_empty());
        assert_eq!(root("/a/../b").unwrap_err().code(), 2);
    }

    #[test]
    fn plain_goes_to_this_machine_only() {
        let address = |text: &str| loopback(&text.parse().unwrap());
        assert_eq!(address("localhost:99").unwrap(), "127.0.0.1:99".parse().unwrap());
        assert_eq!(address("[::1]:99").unwrap(), "[::1]:99".parse().unwrap());
        assert_eq!(address("example.org").unwrap_err().code(), 2);
        let elsewhere = Connector::plain(address("192.0.2.1").unwrap(), ChannelOptions::default()).unwrap_err();
        assert_eq!(Failure::from(elsewhere).code(), 2);
    }
}
