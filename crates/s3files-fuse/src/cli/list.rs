//! `list`: what there is to mount, as the account knows it.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::Args;
use mount_target::account::{Account, FileSystem};
use mount_target::{AwsSettings, Region};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::printable::printable;

/// Show the file systems, mount targets and access points of an AWS account.
///
/// Asks AWS, and needs the actions s3files:ListFileSystems, s3files:ListMountTargets and s3files:ListAccessPoints.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// The AWS region; else AWS_REGION or the profile's region is taken.
    #[arg(long)]
    region: Option<Region>,
    /// The AWS profile whose credentials are used, instead of the default chain.
    #[arg(long)]
    profile: Option<String>,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

impl ListArgs {
    /// Carries it out.
    pub async fn run(self) -> Result<(), Failure> {
        let settings = AwsSettings { profile: self.profile };
        let region = match self.region {
            Some(region) => Some(region),
            None => settings.region().await,
        };
        let region = region.ok_or_else(|| {
            Failure::Usage("which AWS region is not known; add --region or set AWS_REGION".to_owned())
        })?;
        let account = Account::new(&settings, &region).await?;
        let found = account.list().await?;
        let text = if self.json { format!("{:#}\n", in_json(&found, &region)) } else { in_words(&found, &region) };
        match io::stdout().write_all(text.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::Other(format!("the list cannot be printed: {error}")))
            }
            _ => Ok(()),
        }
    }
}

fn dns_name(id: &str, az: &str, region: &Region) -> String {
    format!("{az}.{id}.s3files.{region}.{}", region.mount_target_suffix())
}

fn in_words(found: &[FileSystem], region: &Region) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    if found.is_empty() {
        let _ = writeln!(out, "no file systems in {region}");
    }
    for one in found {
        let bucket = one.bucket.rsplit(":::").next().unwrap_or(&one.bucket);
        let name = one.name.as_deref().map_or_else(String::new, |name| format!("  \"{name}\""));
        let _ = writeln!(out, "{}", printable(&format!("{}  {}  s3://{bucket}{name}", one.id, one.status)));
        if let Some(message) = &one.status_message {
            let _ = writeln!(out, "    {}", printable(message));
        }
        for target in &one.mount_targets {
            let az = target.az_id.as_deref().unwrap_or("?");
            let addresses = target.addresses.join(", ");
            let line = format!("    mount target {}  {}  {az}  {addresses}", target.id, target.status);
            let _ = writeln!(out, "{}", printable(&line));
            let _ = writeln!(out, "        {}", printable(&dns_name(&one.id, az, region)));
        }
        if one.mount_targets.is_empty() {
            let _ = writeln!(out, "    no mount target; make one in the VPC and zone that you come from");
        }
        for point in &one.access_points {
            let identity = match point.identity {
                Some((uid, gid)) => format!("everybody is {uid}:{gid}"),
                None => "everybody as they come".to_owned(),
            };
            let name = point.name.as_deref().map_or_else(String::new, |name| format!("  \"{name}\""));
            let line = format!("    access point {}  {}  {}  {identity}{name}", point.id, point.status, point.path);
            let _ = writeln!(out, "{}", printable(&line));
        }
    }
    out
}

fn in_json(found: &[FileSystem], region: &Region) -> Value {
    let file_systems = found.iter().map(|one| {
        let targets = one.mount_targets.iter().map(|target| {
            json!({ "id": target.id, "az_id": target.az_id, "addresses": target.addresses, "vpc": target.vpc,
                "status": target.status,
                "dns_name": target.az_id.as_ref().map(|az| dns_name(&one.id, az, region)) })
        });
        let points = one.access_points.iter().map(|point| {
            json!({ "id": point.id, "name": point.name, "path": point.path, "status": point.status,
                "uid": point.identity.map(|identity| identity.0), "gid": point.identity.map(|identity| identity.1) })
        });
        json!({ "id": one.id, "name": one.name, "bucket": one.bucket, "status": one.status,
            "status_message": one.status_message, "mount_targets": targets.collect::<Vec<_>>(),
            "access_points": points.collect::<Vec<_>>() })
    });
    json!({ "region": region.as_str(), "file_systems": file_systems.collect::<Vec<_>>() })
}
