//! What a person types to name a mount target, and what that name tells.
//!
//! The one idea: **where to dial** and **whom to expect** are two things. The TCP connection goes wherever the name
//! leads (a load balancer, a VPN address), but the server must always prove to be
//! `{file system id}.s3files.{region}.{suffix}`, without the zone (PROTOCOL.md §1).
//!
//! A bare `fs-…` is dialled at `{az}.{fs}.s3files.{region}.{suffix}` when `--az-id` is given, and else at the same name
//! without the zone, which resolves where the network's DNS has it.
//!
//! This module is pure: no name is resolved and no configuration is read here.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::error::ConnectError;
use crate::ids::{AccessPointId, AzId, FileSystemId, Region};

/// The port of NFS (RFC 8881 §2.9.3).
pub const DEFAULT_PORT: u16 = 2049;

/// Which kind of name was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameForm {
    /// A Network Load Balancer, `NAME-HASH.elb.REGION.amazonaws.com`.
    LoadBalancer,
    /// `fs-…` alone.
    FileSystem,
    /// A mount target's DNS name, with or without the zone.
    MountTarget,
    /// An IPv4 or IPv6 address.
    Address,
    /// Any other host name.
    OtherHost,
}

/// What a name says by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetName {
    /// Which kind of name it is.
    pub form: NameForm,
    /// Host name or address, in lower case, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The region, where the name holds it.
    pub region: Option<Region>,
    /// The file system, where the name holds it.
    pub file_system_id: Option<FileSystemId>,
    /// The availability zone, where the name holds it.
    pub az_id: Option<AzId>,
    /// The domain behind the region in a mount target's name.
    pub suffix: Option<String>,
}

/// What the command line says beside the name.
#[derive(Debug, Clone, Default)]
pub struct TargetOptions {
    /// `--file-system-id`.
    pub file_system_id: Option<FileSystemId>,
    /// `--region`.
    pub region: Option<Region>,
    /// `--az-id`: only used to dial a bare `fs-…`.
    pub az_id: Option<AzId>,
    /// `--access-point`.
    pub access_point: Option<AccessPointId>,
    /// `--server-name`: replaces the name that the server must prove. It is still verified.
    pub server_name: Option<String>,
}

/// A mount target, everything known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host name or address to dial.
    pub host: String,
    /// TCP port to dial.
    pub port: u16,
    /// The region that the signature is made for.
    pub region: Region,
    /// The file system.
    pub file_system_id: FileSystemId,
    /// The access point, if the mount goes through one.
    pub access_point: Option<AccessPointId>,
    /// The name sent as SNI and verified against the server's certificate.
    pub server_name: String,
}

impl Target {
    /// `host:port`, for messages.
    pub fn dial_address(&self) -> String {
        host_and_port(&self.host, self.port)
    }
}

pub(crate) fn host_and_port(host: &str, port: u16) -> String {
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn bad(input: &str, why: impl Into<String>) -> ConnectError {
    // What was typed can be anything, also very long.
    ConnectError::BadTarget { input: input.chars().take(120).collect(), why: why.into() }
}

impl FromStr for TargetName {
    type Err = ConnectError;

    fn from_str(input: &str) -> Result<Self, ConnectError> {
        let text = input.trim();
        if text.is_empty() {
            return Err(bad(
                input,
                "it is empty; give a load balancer's DNS name, fs-…, a mount target's DNS name or an address",
            ));
        }
        if text.contains("://") {
            return Err(bad(
                input,
                "leave out the scheme and give only the host, for example name.elb.us-east-1.amazonaws.com",
            ));
        }
        // `fs-…:/` is what the kernel's mount command wants; the root is all there is, so nothing is lost.
        let text = text.strip_suffix(":/").unwrap_or(text);
        if text.contains('/') {
            return Err(bad(
                input,
                "a path cannot be mounted; name only the host (use an access point for a sub-directory)",
            ));
        }
        let (host, port) = split_port(input, text)?;
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Self::plain(NameForm::Address, address.to_string(), port));
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if host.starts_with("fs-") && !host.contains('.') {
            let id: FileSystemId = host.parse().map_err(|error| bad(input, format!("{error}")))?;
            let mut name = Self::plain(NameForm::FileSystem, host, port);
            name.file_system_id = Some(id);
            return Ok(name);
        }
        check_host_name(input, &host)?;
        if let Some(name) = mount_target_name(input, &host, port)? {
            return Ok(name);
        }
        let mut name = Self::plain(NameForm::OtherHost, host, port);
        if let Some(region) = load_balancer_region(&name.host) {
            name.form = NameForm::LoadBalancer;
            name.region = Some(region);
        }
        Ok(name)
    }
}

fn split_port<'a>(input: &str, text: &'a str) -> Result<(&'a str, u16), ConnectError> {
    let port = |digits: &str| match digits.parse::<u16>() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(bad(input, "the port should be a number from 1 to 65535")),
    };
    if let Some(rest) = text.strip_prefix('[') {
        let Some((host, tail)) = rest.split_once(']') else {
            return Err(bad(input, "the bracket around the IPv6 address is not closed"));
        };
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(bad(input, "brackets go around an IPv6 address only"));
        }
        return match tail.strip_prefix(':') {
            Some(digits) => Ok((host, port(digits)?)),
            None if tail.is_empty() => Ok((host, DEFAULT_PORT)),
            None => Err(bad(input, "only a colon and a port may follow the bracket")),
        };
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok((text, DEFAULT_PORT));
    }
    match text.split_once(':') {
        None => Ok((text, DEFAULT_PORT)),
        Some((_, digits)) if digits.contains(':') => {
            Err(bad(input, "it has more than one colon but is no IPv6 address; write [address]:port"))
        }
        Some((host, digits)) => Ok((host, port(digits)?)),
    }
}

/// Letters, digits, hyphens and underscores in labels of 1 to 63 bytes, 253 bytes in all (RFC 1123 §2.1).
fn check_host_name(input: &str, host: &str) -> Result<(), ConnectError> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return Err(bad(input, "it is neither an address nor a host name"));
    }
    Ok(())
}

/// `[az.]fs.s3files.region.suffix`; `None` if the name has another form.
fn mount_target_name(input: &str, host: &str, port: u16) -> Result<Option<TargetName>, ConnectError> {
    let (az, rest) = match host.split_once('.') {
        Some((_, _)) if host.starts_with("fs-") => (None, host),
        Some((az, rest)) if rest.starts_with("fs-") => (Some(az), rest),
        _ => return Ok(None),
    };
    let mut labels = rest.splitn(4, '.');
    let (Some(id), Some("s3files"), Some(region), Some(suffix)) =
        (labels.next(), labels.next(), labels.next(), labels.next())
    else {
        return Ok(None);
    };
    let told = |error: crate::ids::BadId| bad(input, error.to_string());
    Ok(Some(TargetName {
        form: NameForm::MountTarget,
        host: host.to_owned(),
        port,
        region: Some(region.parse().map_err(told)?),
        file_system_id: Some(id.parse().map_err(told)?),
        az_id: az.map(str::parse).transpose().map_err(told)?,
        suffix: Some(suffix.to_owned()),
    }))
}

/// The region in `NAME-HASH.elb.REGION.amazonaws.com[.cn]`. Classic load balancers have the two words the other way
/// round and relay TCP as well.
fn load_balancer_region(host: &str) -> Option<Region> {
    let stem = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    let mut labels = stem.rsplit('.');
    let (last, before) = (labels.next()?, labels.next()?);
    labels.next()?;
    match (before, last) {
        ("elb", region) | (region, "elb") => region.parse().ok(),
        _ => None,
    }
}

impl TargetName {
    fn plain(form: NameForm, host: String, port: u16) -> Self {
        Self { form, host, port, region: None, file_system_id: None, az_id: None, suffix: None }
    }

    /// The region that the name or the options tell, before any configuration is asked.
    pub fn known_region(&self, options: &TargetOptions) -> Option<Region> {
        options.region.clone().or_else(|| self.region.clone())
    }

    /// Puts the name and the options together; `configured_region` is asked for where neither tells the region.
    pub fn complete(self, options: TargetOptions, configured_region: Option<Region>) -> Result<Target, ConnectError> {
        let input = self.host.clone();
        let file_system_id = agreed(&input, "file system", self.file_system_id.clone(), options.file_system_id)?
            .ok_or_else(|| {
                bad(&input, "the name does not tell which file system it leads to; add --file-system-id fs-…")
            })?;
        let region = match self.form {
            // The name is the file system's own, so another region cannot be meant.
            NameForm::MountTarget => agreed(&input, "region", self.region, options.region)?,
            // A balancer may stand in another region than what is behind it.
            _ => options.region.or(self.region),
        };
        let region = region
            .or(configured_region)
            .ok_or_else(|| bad(&input, "the name does not tell the AWS region; add --region or set AWS_REGION"))?;
        let suffix = self.suffix.as_deref().unwrap_or_else(|| region.mount_target_suffix());
        let own_name = format!("{file_system_id}.s3files.{region}.{suffix}");
        let host = match (self.form, options.az_id) {
            (NameForm::FileSystem, Some(az)) => format!("{az}.{own_name}"),
            (NameForm::FileSystem, None) => own_name.clone(),
            _ => self.host,
        };
        let server_name = match options.server_name {
            Some(name) => {
                let name = name.trim().to_ascii_lowercase();
                check_host_name(&name, &name)?;
                name
            }
            None => own_name,
        };
        Ok(Target { host, port: self.port, region, file_system_id, access_point: options.access_point, server_name })
    }
}

/// What name and option say, if they do not contradict each other.
fn agreed<T: PartialEq + std::fmt::Display>(
    input: &str,
    what: &str,
    named: Option<T>,
    option: Option<T>,
) -> Result<Option<T>, ConnectError> {
    match (named, option) {
        (Some(named), Some(option)) if named != option => {
            Err(bad(input, format!("the name says {what} {named}, but the option says {option}; leave the option out")))
        }
        (named, option) => Ok(named.or(option)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    const FS: &str = "fs-0123456789abcdef0";

    fn name(text: &str) -> TargetName {
        text.parse().unwrap()
    }

    fn with_fs() -> TargetOptions {
        TargetOptions { file_system_id: Some(FS.parse().unwrap()), ..TargetOptions::default() }
    }

    #[test]
    fn a_load_balancer_tells_its_region() {
        let nlb = name("My-NLB-0a1b2c3d4e5f6789.elb.eu-central-1.amazonaws.com");
        assert_eq!(nlb.form, NameForm::LoadBalancer);
        assert_eq!(nlb.port, 2049);
        let target = nlb.complete(with_fs(), None).unwrap();
        assert_eq!(target.host, "my-nlb-0a1b2c3d4e5f6789.elb.eu-central-1.amazonaws.com");
        assert_eq!(target.server_name, format!("{FS}.s3files.eu-central-1.on.aws"));
        let china = name("n-1.elb.cn-north-1.amazonaws.com.cn:12049").complete(with_fs(), None).unwrap();
        assert_eq!(china.server_name, format!("{FS}.s3files.cn-north-1.on.amazonwebservices.com.cn"));
        assert_eq!(china.port, 12049);
        assert_eq!(name("n-1.us-west-2.elb.amazonaws.com").region.unwrap().as_str(), "us-west-2");
    }

    #[test]
    fn a_load_balancer_without_a_file_system_id_says_which_option_is_missing() {
        let error = name("n-1.elb.us-east-1.amazonaws.com").complete(TargetOptions::default(), None).unwrap_err();
        assert!(error.to_string().contains("--file-system-id"), "{error}");
    }

    #[test]
    fn the_server_name_of_a_mount_target_drops_the_zone() {
        let typed = format!("use1-az1.{FS}.s3files.us-east-1.on.aws.");
        let parsed = name(&typed);
        assert_eq!(parsed.az_id.as_ref().unwrap().as_str(), "use1-az1");
        let target = parsed.complete(TargetOptions::default(), None).unwrap();
        assert_eq!(target.host, typed.trim_end_matches('.'));
        assert_eq!(target.server_name, format!("{FS}.s3files.us-east-1.on.aws"));
        let zoneless = name(&format!("{FS}.s3files.us-east-1.on.aws"));
        assert_eq!(zoneless.az_id, None);
        assert_eq!(zoneless.complete(TargetOptions::default(), None).unwrap().server_name, target.server_name);
    }

    #[test]
    fn a_mount_target_in_an_unknown_partition_keeps_the_suffix_that_was_typed() {
        let target =
            name(&format!("{FS}.s3files.xx-nowhere-1.example.org")).complete(TargetOptions::default(), None).unwrap();
        assert_eq!(target.server_name, format!("{FS}.s3files.xx-nowhere-1.example.org"));
    }

    #[test]
    fn a_bare_file_system_is_dialled_with_the_zone_when_it_is_known() {
        let region: Region = "us-east-1".parse().unwrap();
        let plain = name(FS).complete(TargetOptions::default(), Some(region.clone())).unwrap();
        assert_eq!(plain.host, format!("{FS}.s3files.us-east-1.on.aws"));
        let options = TargetOptions { az_id: Some("use1-az2".parse().unwrap()), ..TargetOptions::default() };
        let zoned = name(&format!("{FS}:/")).complete(options, Some(region)).unwrap();
        assert_eq!(zoned.host, format!("use1-az2.{FS}.s3files.us-east-1.on.aws"));
        assert_eq!(zoned.server_name, plain.server_name);
    }

    #[test]
    fn addresses_are_dialled_as_they_are() {
        for (typed, host, port) in [
            ("10.1.2.3", "10.1.2.3", 2049),
            ("10.1.2.3:99", "10.1.2.3", 99),
            ("::1", "::1", 2049),
            ("[2001:DB8::1]:2050", "2001:db8::1", 2050),
            ("[::1]", "::1", 2049),
        ] {
            let parsed = name(typed);
            assert_eq!((parsed.form, parsed.host.as_str(), parsed.port), (NameForm::Address, host, port));
            assert!(parsed.complete(with_fs(), None).unwrap_err().to_string().contains("--region"));
        }
    }

    #[test]
    fn the_option_wins_over_a_balancers_region_but_not_over_the_file_systems_own_name() {
        let options = TargetOptions { region: Some("us-west-2".parse().unwrap()), ..with_fs() };
        let target = name("n-1.elb.us-east-1.amazonaws.com").complete(options.clone(), None).unwrap();
        assert_eq!(target.region.as_str(), "us-west-2");
        let error = name(&format!("{FS}.s3files.us-east-1.on.aws")).complete(options, None).unwrap_err();
        assert!(error.to_string().contains("us-west-2"), "{error}");
    }

    #[test]
    fn what_cannot_be_a_target_is_refused_with_a_reason() {
        for (typed, reason) in [
            ("", "empty"),
            ("nfs://host", "scheme"),
            ("host:/export", "path"),
            ("host:0", "port"),
            ("host:99999", "port"),
            ("a:b:c", "colon"),
            ("[::1", "bracket"),
            ("[host]:1", "IPv6"),
            ("fs-12", "17 to 40"),
            ("fs-0123456789abcdefg.s3files.us-east-1.on.aws", "17 to 40"),
            ("two words", "host name"),
            ("-x.example", "host name"),
            ("a..b", "host name"),
        ] {
            let error = typed.parse::<TargetName>().unwrap_err().to_string();
            assert!(error.contains(reason), "{typed}: {error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,80}") {
            let _ = text.parse::<TargetName>();
        }

        #[test]
        fn parsing_near_misses_never_panics(text in "(fs-[0-9a-f]{15,20}|use1-az1|s3files|elb|us-east-1|amazonaws|com|on|aws|\\.|:|\\[|\\]|[0-9]{1,5}|é){0,12}") {
            if let Ok(name) = text.parse::<TargetName>()
                && let Ok(target) = name.complete(with_fs(), "eu-west-1".parse().ok())
            {
                prop_assert!(!target.host.is_empty() && target.port != 0);
                prop_assert!(target.server_name.contains(".s3files."));
            }
        }

        #[test]
        fn any_host_with_any_port_keeps_both(host in "[a-z][a-z0-9]{0,20}(\\.[a-z][a-z0-9]{0,10}){0,3}", port in 1u16..) {
            let parsed = name(&format!("{host}:{port}"));
            prop_assert_eq!((parsed.host, parsed.port), (host, port));
        }
    }
}
