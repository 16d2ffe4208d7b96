//! What the AWS account knows: its file systems with their mount targets and access points, and what stands behind a
//! load balancer (S3FILES.md's chain: load balancer → target groups → targets' addresses → mount targets).
//!
//! Every call may be forbidden to these credentials, so every refusal names the IAM action and the option that does
//! without the call.

use std::time::{Duration, SystemTime};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_elasticloadbalancingv2 as balancing;
use aws_sdk_s3files as s3files;
use balancing::error::{ProvideErrorMetadata, SdkError};

use crate::credentials::{AwsSettings, CredentialsSource};
use crate::discovery::{Behind, Place, match_up};
use crate::error::ConnectError;
use crate::ids::{FileSystemId, Region};

/// How long one call may take, second attempts included.
const CALL_LIMIT: Duration = Duration::from_secs(12);
/// How long the connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(4);
/// Most pages of a list: the account's limits lie far below.
const MOST_PAGES: usize = 200;

/// The way out where a mount asks.
const INSTEAD_OF_ASKING: &str = "add --file-system-id fs-…, which needs no such call";
/// There is none where a list is what was asked for.
const NOTHING_INSTEAD: &str = "ask somebody who may: only AWS knows the list";

/// Asks AWS, with these credentials, in one region.
#[derive(Debug, Clone)]
pub struct Account {
    s3files: s3files::Client,
    balancing: balancing::Client,
    region: Region,
}

/// A file system with everything that leads to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// `fs-…`.
    pub id: String,
    /// Its name tag.
    pub name: Option<String>,
    /// The bucket's ARN.
    pub bucket: String,
    /// `available`, or what is wrong.
    pub status: String,
    /// More about that.
    pub status_message: Option<String>,
    /// One in each zone at most.
    pub mount_targets: Vec<MountTarget>,
    /// Ways in with an identity or a directory of their own.
    pub access_points: Vec<AccessPoint>,
}

/// A mount target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountTarget {
    /// `fsmt-…`.
    pub id: String,
    /// The zone, such as `use1-az1`.
    pub az_id: Option<String>,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its VPC.
    pub vpc: Option<String>,
    /// `available`, or what is wrong.
    pub status: String,
    /// The file system.
    pub file_system: Option<String>,
}

/// An access point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessPoint {
    /// `fsap-…`.
    pub id: String,
    /// Its name tag.
    pub name: Option<String>,
    /// The directory that it shows.
    pub path: String,
    /// The uid and gid that everybody gets, if it sets one.
    pub identity: Option<(i64, i64)>,
    /// `available`, or what is wrong.
    pub status: String,
}

/// A refusal's sentence.
fn explain<E>(action: &'static str, instead: &'static str, error: &SdkError<E>) -> ConnectError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let code = error.as_service_error().and_then(|error| error.meta().code());
    let said = error.as_service_error().and_then(|error| error.meta().message());
    let short =
        |text: &str| -> String { text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(240).collect() };
    let detail = match (code, said) {
        (Some(code), Some(said)) => format!("{code}: {}", short(said)),
        (Some(code), None) => code.to_owned(),
        _ => short(&chain(error)),
    };
    let denied = ["AccessDenied", "Unauthorized", "NotAuthorized", "Forbidden"];
    let expired = ["ExpiredToken", "TokenRefreshRequired"];
    let status = error.raw_response().map(|raw| raw.status().as_u16());
    match code {
        Some(code) if expired.iter().any(|word| code.contains(word)) => ConnectError::CredentialsExpired { detail },
        Some(code) if denied.iter().any(|word| code.contains(word)) => {
            ConnectError::ActionDenied { action, detail, instead }
        }
        None if status == Some(403) => ConnectError::ActionDenied { action, detail, instead },
        _ => ConnectError::AwsNotAsked { action, detail, instead },
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let own = error.to_string();
        if !text.contains(&own) {
            text = format!("{text}: {own}");
        }
        next = error.source();
    }
    text
}

/// One and the same for both kinds of lists: a page's items are taken, an error ends it.
macro_rules! all_pages {
    ($pages:expr, $items:ident, $action:literal, $instead:expr) => {{
        let mut pages = $pages;
        let mut found = Vec::new();
        for _ in 0..MOST_PAGES {
            match pages.next().await {
                None => break,
                Some(Ok(page)) => found.extend(page.$items().iter().cloned()),
                Some(Err(error)) => return Err(explain($action, $instead, &error)),
            }
        }
        found
    }};
}

impl Account {
    /// Loads the credentials; asks AWS for nothing yet.
    pub async fn new(settings: &AwsSettings, region: &Region) -> Result<Self, ConnectError> {
        let source = CredentialsSource::from_settings(settings.clone(), region.clone());
        let credentials = source.load(SystemTime::now()).await?;
        let timeouts = TimeoutConfig::builder().operation_timeout(CALL_LIMIT).connect_timeout(CONNECT_LIMIT).build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(aws_config::Region::new(region.as_str().to_owned()))
            .credentials_provider(credentials)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(2));
        if let Some(profile) = &settings.profile {
            loader = loader.profile_name(profile);
        }
        let config: SdkConfig = loader.load().await;
        Ok(Self {
            s3files: s3files::Client::new(&config),
            balancing: balancing::Client::new(&config),
            region: region.clone(),
        })
    }

    /// The region that is asked.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The file system behind the load balancer with this DNS name.
    pub async fn behind(&self, host: &str) -> Result<FileSystemId, ConnectError> {
        let behind = self.targets_of(host).await?;
        let targets = self.mount_targets(INSTEAD_OF_ASKING).await?;
        let places = targets.into_iter().filter_map(|target| {
            Some(Place { file_system: target.file_system?, addresses: target.addresses, vpc: target.vpc })
        });
        match_up(host, &behind, &places.collect::<Vec<_>>())
    }

    /// The error for a search that found no end.
    pub(crate) fn took_too_long(limit: Duration) -> ConnectError {
        let detail = format!("no end of it within {} s", limit.as_secs());
        ConnectError::AwsNotAsked { action: "s3files:ListMountTargets", detail, instead: INSTEAD_OF_ASKING }
    }

    async fn targets_of(&self, host: &str) -> Result<Behind, ConnectError> {
        let instead = INSTEAD_OF_ASKING;
        let balancers = all_pages!(
            self.balancing.describe_load_balancers().into_paginator().send(),
            load_balancers,
            "elasticloadbalancing:DescribeLoadBalancers",
            instead
        );
        let balancer = balancers.iter().find(|balancer| {
            balancer.dns_name().is_some_and(|name| name.trim_end_matches('.').eq_ignore_ascii_case(host))
        });
        let Some(arn) = balancer.and_then(balancing::types::LoadBalancer::load_balancer_arn) else {
            return Err(ConnectError::BadTarget {
                input: host.to_owned(),
                why: format!(
                    "these credentials' account has no load balancer of that name in {}; {instead}",
                    self.region
                ),
            });
        };
        let groups = all_pages!(
            self.balancing.describe_target_groups().load_balancer_arn(arn).into_paginator().send(),
            target_groups,
            "elasticloadbalancing:DescribeTargetGroups",
            instead
        );
        let mut behind = Behind::default();
        for group in groups {
            let Some(arn) = group.target_group_arn() else { continue };
            let health = self.balancing.describe_target_health().target_group_arn(arn).send().await;
            let health =
                health.map_err(|error| explain("elasticloadbalancing:DescribeTargetHealth", instead, &error))?;
            let addresses = health.target_health_descriptions().iter().filter_map(|target| target.target()?.id());
            behind.targets.extend(addresses.map(|id| (id.to_owned(), group.vpc_id().map(str::to_owned))));
        }
        Ok(behind)
    }

    async fn mount_targets(&self, instead: &'static str) -> Result<Vec<MountTarget>, ConnectError> {
        let found = all_pages!(
            self.s3files.list_mount_targets().into_paginator().send(),
            mount_targets,
            "s3files:ListMountTargets",
            instead
        );
        Ok(found.into_iter().map(MountTarget::from).collect())
    }

    /// Every file system of the account in this region.
    pub async fn list(&self) -> Result<Vec<FileSystem>, ConnectError> {
        let instead = NOTHING_INSTEAD;
        let found = all_pages!(
            self.s3files.list_file_systems().into_paginator().send(),
            file_systems,
            "s3files:ListFileSystems",
            instead
        );
        let mut targets = self.mount_targets(instead).await?;
        let mut file_systems = Vec::with_capacity(found.len());
        for one in found {
            let access_points = all_pages!(
                self.s3files.list_access_points().file_system_id(&one.file_system_id).into_paginator().send(),
                access_points,
                "s3files:ListAccessPoints",
                instead
            );
            let (own, others) =
                targets.into_iter().partition(|target| target.file_system.as_ref() == Some(&one.file_system_id));
            targets = others;
            file_systems.push(FileSystem {
                id: one.file_system_id,
                name: one.name,
                bucket: one.bucket,
                status: one.status.as_str().to_owned(),
                status_message: one.status_message,
                mount_targets: own,
                access_points: access_points.into_iter().map(AccessPoint::from).collect(),
            });
        }
        Ok(file_systems)
    }
}

impl From<s3files::types::ListMountTargetsDescription> for MountTarget {
    fn from(target: s3files::types::ListMountTargetsDescription) -> Self {
        Self {
            id: target.mount_target_id,
            az_id: target.availability_zone_id,
            addresses: target.ipv4_address.into_iter().chain(target.ipv6_address).collect(),
            vpc: target.vpc_id,
            status: target.status.map_or_else(String::new, |status| status.as_str().to_owned()),
            file_system: target.file_system_id,
        }
    }
}

impl From<s3files::types::ListAccessPointsDescription> for AccessPoint {
    fn from(point: s3files::types::ListAccessPointsDescription) -> Self {
        Self {
            id: point.access_point_id,
            name: point.name,
            path: point.root_directory.and_then(|root| root.path).unwrap_or_else(|| "/".to_owned()),
            identity: point.posix_user.map(|user| (user.uid, user.gid)),
            status: point.status.as_str().to_owned(),
        }
    }
}
