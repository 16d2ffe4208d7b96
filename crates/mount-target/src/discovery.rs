//! From what was typed to a [`Target`]: asks the AWS settings for what neither name nor options tell.
//!
//! Today that is the region. Only when it is missing is anything read, so a name that tells its region works on a
//! machine without AWS configuration files.

use crate::credentials::AwsSettings;
use crate::error::ConnectError;
use crate::target::{Target, TargetName, TargetOptions};

/// Parses `name` and completes it from `options` and, for the region, from the AWS settings.
pub async fn locate(name: &str, options: TargetOptions, settings: &AwsSettings) -> Result<Target, ConnectError> {
    let name: TargetName = name.parse()?;
    let configured = if name.known_region(&options).is_none() { settings.region().await } else { None };
    name.complete(options, configured)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[tokio::test]
    async fn a_name_that_tells_everything_needs_no_settings() {
        let settings = AwsSettings { profile: Some("does-not-exist".to_owned()) };
        let name = "fs-0123456789abcdef0.s3files.eu-north-1.on.aws";
        let target = locate(name, TargetOptions::default(), &settings).await.unwrap();
        assert_eq!(target.region.as_str(), "eu-north-1");
    }
}
