//! The identifiers that a mount target's name and the command line are made of, each checked once, when it is read.
//!
//! Forms are those of PROTOCOL.md §1: `fs-` and 17 to 40 hex digits, `fsap-` and hex digits, `us-east-1`, `use1-az1`.

use std::fmt;
use std::str::FromStr;

/// A word that is not the identifier it should be. The text is one sentence for the person who typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{input}` is not {what}: {form}")]
pub struct BadId {
    input: String,
    what: &'static str,
    form: &'static str,
}

macro_rules! id {
    ($(#[$meta:meta])* $name:ident, $what:literal, $form:literal, $check:expr) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The identifier as text, in lower case.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(input: &str) -> Result<Self, BadId> {
                let lower = input.trim().to_ascii_lowercase();
                let check: fn(&str) -> bool = $check;
                if check(&lower) {
                    Ok(Self(lower))
                } else {
                    // What was typed can be anything, also very long.
                    Err(BadId { input: input.chars().take(80).collect(), what: $what, form: $form })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// The id of a file system, `fs-` and 17 to 40 hex digits.
    FileSystemId,
    "a file system id",
    "it should look like fs-0123456789abcdef0 (fs- and 17 to 40 hex digits)",
    |id| hex_after(id, "fs-")
);
id!(
    /// The id of an access point, `fsap-` and 17 to 40 hex digits.
    AccessPointId,
    "an access point id",
    "it should look like fsap-0123456789abcdef0 (fsap- and 17 to 40 hex digits)",
    |id| hex_after(id, "fsap-")
);
id!(
    /// An AWS region, such as `eu-central-1`.
    Region,
    "an AWS region",
    "it should look like us-east-1",
    is_region
);
id!(
    /// The id (not the name) of an availability zone, such as `use1-az1`: the same zone for every account.
    AzId,
    "an availability zone id",
    "it should look like use1-az1 (the id, not the name us-east-1a)",
    is_az_id
);

fn hex_after(id: &str, prefix: &str) -> bool {
    id.strip_prefix(prefix)
        .is_some_and(|hex| (17..=40).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_region(region: &str) -> bool {
    let parts: Vec<&str> = region.split('-').collect();
    region.len() <= 32
        && parts.len() >= 3
        && parts[0].len() >= 2
        && parts[..parts.len() - 1].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase()))
        && is_number(parts[parts.len() - 1])
}

fn is_az_id(az: &str) -> bool {
    az.rsplit_once("-az").is_some_and(|(zone, number)| {
        az.len() <= 32
            && zone.len() >= 3
            && zone.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && zone.starts_with(|c: char| c.is_ascii_lowercase())
            && is_number(number)
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

impl Region {
    /// The domain under which this region's mount targets have their names (PROTOCOL.md §1).
    ///
    /// The suffixes of the isolated partitions are those of the partitions' other services *(inferred)*; whoever types
    /// a full mount target name gets the suffix that was typed.
    pub fn mount_target_suffix(&self) -> &'static str {
        const BY_PREFIX: [(&str, &str); 6] = [
            ("cn-", "on.amazonwebservices.com.cn"),
            ("eusc-", "amazonaws.eu"),
            ("us-iso-", "c2s.ic.gov"),
            ("us-isob-", "sc2s.sgov.gov"),
            ("us-isof-", "csp.hci.ic.gov"),
            ("eu-isoe-", "cloud.adc-e.uk"),
        ];
        BY_PREFIX.iter().find(|(prefix, _)| self.0.starts_with(prefix)).map_or("on.aws", |(_, suffix)| suffix)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn file_system_ids_have_17_to_40_hex_digits() {
        for good in ["fs-0123456789abcdef0", "FS-0123456789ABCDEF0", &format!("fs-{}", "a".repeat(40))] {
            assert_eq!(good.parse::<FileSystemId>().unwrap().as_str(), good.to_lowercase());
        }
        for bad in
            ["", "fs-", "fs-123", "fs-0123456789abcdefg", &format!("fs-{}", "a".repeat(41)), "fsap-0123456789abcdef0"]
        {
            assert!(bad.parse::<FileSystemId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn regions_of_every_partition_are_known_by_their_form() {
        for good in ["us-east-1", "us-gov-west-1", "eusc-de-east-1", "us-isob-east-1", "ap-southeast-12"] {
            assert!(good.parse::<Region>().is_ok(), "{good}");
        }
        for bad in ["", "us", "us-east", "us-east-1a", "us--1", "us-east-1.evil.example", "-east-1", "us-east-1\n2"] {
            assert!(bad.parse::<Region>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_suffix_follows_the_partition() {
        let suffix = |region: &str| region.parse::<Region>().unwrap().mount_target_suffix();
        assert_eq!(suffix("eu-central-1"), "on.aws");
        assert_eq!(suffix("us-gov-east-1"), "on.aws");
        assert_eq!(suffix("cn-north-1"), "on.amazonwebservices.com.cn");
        assert_eq!(suffix("eusc-de-east-1"), "amazonaws.eu");
    }

    #[test]
    fn zone_ids_are_told_from_zone_names() {
        assert!("use1-az1".parse::<AzId>().is_ok());
        assert!("usw2-lax1-az1".parse::<AzId>().is_ok());
        let error = "us-east-1a".parse::<AzId>().unwrap_err().to_string();
        assert!(error.contains("not the name"), "{error}");
    }
}
