//! From what was typed to a [`Target`]: asks the AWS settings, and AWS itself, for what neither name nor options tell.
//!
//! The AWS settings are read only for a region that is missing, so a name that tells its region works on a machine
//! without AWS configuration files. AWS is asked only for the file system behind a load balancer's name, see [`Account`].

use std::collections::BTreeSet;
use std::time::Duration;

use crate::account::Account;
use crate::credentials::AwsSettings;
use crate::error::ConnectError;
use crate::ids::FileSystemId;
use crate::target::{NameForm, Target, TargetName, TargetOptions};

/// How long finding the file system behind a load balancer may take in all.
const ASKING_LIMIT: Duration = Duration::from_secs(40);

/// Completes `name` from `options`, the AWS settings, and, for a load balancer whose file system is not told, AWS.
pub async fn locate(name: TargetName, options: TargetOptions, settings: &AwsSettings) -> Result<Target, ConnectError> {
    let known = name.known_region(&options);
    let configured = if known.is_none() { settings.region().await } else { None };
    let mut options = options;
    if name.form == NameForm::LoadBalancer
        && options.file_system_id.is_none()
        && let Some(region) = name.region.clone().or(known)
    {
        let account = Account::new(settings, &region).await?;
        let asking = tokio::time::timeout(ASKING_LIMIT, account.behind(&name.host)).await;
        let found = asking.unwrap_or_else(|_| Err(Account::took_too_long(ASKING_LIMIT)))?;
        tracing::info!(host = %name.host, file_system = %found, "AWS told the file system behind the load balancer");
        options.file_system_id = Some(found);
    }
    name.complete(options, configured)
}

/// What a load balancer leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Behind {
    /// Address and VPC of each of its targets.
    pub targets: Vec<(String, Option<String>)>,
}

/// A mount target, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub file_system: String,
    pub addresses: Vec<String>,
    pub vpc: Option<String>,
}

/// The file system whose mount targets a load balancer leads to. Private addresses repeat, so where both sides tell
/// their VPC it must be the same.
pub(crate) fn match_up(host: &str, behind: &Behind, places: &[Place]) -> Result<FileSystemId, ConnectError> {
    let bad = |why: String| ConnectError::BadTarget { input: host.to_owned(), why };
    let leads_to = |place: &&Place| {
        behind.targets.iter().any(|(address, vpc)| {
            let same_vpc = match (vpc, &place.vpc) {
                (Some(a), Some(b)) => a == b,
                _ => true,
            };
            same_vpc && place.addresses.contains(address)
        })
    };
    let found: BTreeSet<&str> = places.iter().filter(leads_to).map(|place| place.file_system.as_str()).collect();
    let found: Vec<&str> = found.into_iter().collect();
    match found.as_slice() {
        [only] => only.parse().map_err(|error| bad(format!("AWS names its file system in a way of its own: {error}"))),
        [] if behind.targets.is_empty() => Err(bad(
            "no target is registered behind this load balancer; register the mount target's IP address on TCP 2049"
                .to_owned(),
        )),
        [] => {
            let addresses: Vec<_> = behind.targets.iter().take(4).map(|(address, _)| address.as_str()).collect();
            Err(bad(format!(
                "none of its targets ({}) is a mount target of this account in this region; check the target group, or \
                 add --file-system-id fs-… if the file system is another account's",
                addresses.join(", ")
            )))
        }
        several => Err(bad(format!(
            "it leads to several file systems ({}); choose one with --file-system-id",
            several.iter().take(4).copied().collect::<Vec<_>>().join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[tokio::test]
    async fn a_name_that_tells_everything_needs_no_settings() {
        let settings = AwsSettings { profile: Some("does-not-exist".to_owned()) };
        let name = "fs-0123456789abcdef0.s3files.eu-north-1.on.aws".parse().unwrap();
        let target = locate(name, TargetOptions::default(), &settings).await.unwrap();
        assert_eq!(target.region.as_str(), "eu-north-1");
    }

    fn place(file_system: &str, address: &str, vpc: Option<&str>) -> Place {
        Place { file_system: file_system.to_owned(), addresses: vec![address.to_owned()], vpc: vpc.map(str::to_owned) }
    }

    fn behind(targets: &[(&str, Option<&str>)]) -> Behind {
        Behind { targets: targets.iter().map(|(a, vpc)| ((*a).to_owned(), vpc.map(str::to_owned))).collect() }
    }

    const A: &str = "fs-0aaaaaaaaaaaaaaaa";
    const B: &str = "fs-0bbbbbbbbbbbbbbbb";

    #[test]
    fn the_address_and_the_vpc_tell_the_file_system() {
        let places = [
            place(A, "10.0.0.5", Some("vpc-1")),
            place(A, "10.0.1.5", Some("vpc-1")),
            place(B, "10.0.0.5", Some("vpc-2")),
        ];
        let find = |targets: &[(&str, Option<&str>)]| match_up("nlb", &behind(targets), &places);
        assert_eq!(find(&[("10.0.0.5", Some("vpc-2"))]).unwrap().as_str(), B);
        assert_eq!(find(&[("10.0.0.5", Some("vpc-1")), ("10.0.1.5", Some("vpc-1"))]).unwrap().as_str(), A);
        assert_eq!(find(&[("10.0.1.5", None)]).unwrap().as_str(), A);
    }

    #[test]
    fn what_is_not_one_file_system_is_said_with_the_way_out() {
        let places = [place(A, "10.0.0.5", None), place(B, "10.0.0.6", None), place("odd", "10.0.0.7", None)];
        let why =
            |targets: &[(&str, Option<&str>)]| match_up("nlb", &behind(targets), &places).unwrap_err().to_string();
        assert!(why(&[]).contains("no target is registered"));
        let none = why(&[("10.9.9.9", None)]);
        assert!(none.contains("10.9.9.9") && none.contains("--file-system-id"), "{none}");
        let both = why(&[("10.0.0.5", None), ("10.0.0.6", None)]);
        assert!(both.contains(A) && both.contains(B) && both.contains("--file-system-id"), "{both}");
        assert!(why(&[("10.0.0.7", None)]).contains("17 to 40"));
    }
}
