//! AWS credentials and the configured region, as the AWS tools would find them.
//!
//! Without a profile it is `aws-config`'s default chain (environment, profile, SSO, process, web identity, container,
//! instance); a profile named on the command line is used even where the environment holds keys, as the AWS CLI does.
//! The chain is built anew for every load, so a file that the user has changed since is read again. Every load is
//! bounded: an instance service that does not answer must not hold up a laptop.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::imds;
use aws_config::meta::region::ProvideRegion;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;

use crate::error::ConnectError;
use crate::ids::Region;

/// The longest that credentials may take: SSO and credential processes need a few round trips.
const LOAD_LIMIT: Duration = Duration::from_secs(9);
/// The longest that asking for a region may take; only the instance service is slow.
const REGION_LIMIT: Duration = Duration::from_secs(3);

/// Where AWS settings come from: the usual files and variables, with or without a named profile.
#[derive(Debug, Clone, Default)]
pub struct AwsSettings {
    /// `--profile`. Without it, `AWS_PROFILE` or `default` hold.
    pub profile: Option<String>,
}

impl AwsSettings {
    /// The region that environment, profile or instance tell, if any does so in time.
    pub async fn region(&self) -> Option<Region> {
        let find = async {
            if let Some(profile) = &self.profile {
                let provider = ProfileFileRegionProvider::builder().profile_name(profile).build();
                if let Some(region) = provider.region().await {
                    return Some(region);
                }
            }
            aws_config::default_provider::region::Builder::default().build().region().await
        };
        let region = tokio::time::timeout(REGION_LIMIT, find).await.ok()??;
        region.as_ref().parse().ok()
    }

    async fn provider(&self, region: &Region) -> Box<dyn ProvideCredentials> {
        let region = aws_config::Region::new(region.as_str().to_owned());
        let config = ProviderConfig::without_region().with_region(Some(region));
        if let Some(profile) = &self.profile {
            return Box::new(
                ProfileFileCredentialsProvider::builder().configure(&config).profile_name(profile).build(),
            );
        }
        let imds = imds::Client::builder()
            .configure(&config)
            .max_attempts(2)
            .connect_timeout(Duration::from_secs(1))
            .read_timeout(Duration::from_secs(1))
            .build();
        Box::new(DefaultCredentialsChain::builder().configure(config).imds_client(imds).build().await)
    }
}

#[derive(Clone)]
enum Source {
    Settings { settings: AwsSettings, region: Region },
    Fixed(Credentials),
    Provider(Arc<dyn ProvideCredentials>),
}

/// Where a connector gets credentials each time that it makes a certificate.
#[derive(Clone)]
pub struct CredentialsSource(Source);

impl fmt::Debug for CredentialsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Source::Settings { .. } => "CredentialsSource(AWS settings)",
            Source::Fixed(_) => "CredentialsSource(fixed)",
            Source::Provider(_) => "CredentialsSource(provider)",
        })
    }
}

impl CredentialsSource {
    /// The usual AWS settings. `region` is for the services that the chain itself may have to call.
    pub fn from_settings(settings: AwsSettings, region: Region) -> Self {
        Self(Source::Settings { settings, region })
    }

    /// These and no others (for `demo` and tests).
    pub fn fixed(access_key_id: &str, secret_access_key: &str, session_token: Option<&str>) -> Self {
        let token = session_token.map(str::to_owned);
        Self(Source::Fixed(Credentials::new(access_key_id, secret_access_key, token, None, "fixed")))
    }

    /// Any provider of the AWS SDK.
    pub fn from_provider(provider: impl ProvideCredentials + 'static) -> Self {
        Self(Source::Provider(Arc::new(provider)))
    }

    /// Fresh credentials, or one sentence about what is missing. `now` decides whether they still hold.
    pub async fn load(&self, now: SystemTime) -> Result<Credentials, ConnectError> {
        let profile = match &self.0 {
            Source::Settings { settings, .. } => settings.profile.as_deref(),
            _ => None,
        };
        let load = async {
            match &self.0 {
                Source::Fixed(credentials) => Ok(credentials.clone()),
                Source::Provider(provider) => provider.provide_credentials().await,
                Source::Settings { settings, region } => settings.provider(region).await.provide_credentials().await,
            }
        };
        let credentials = match tokio::time::timeout(LOAD_LIMIT, load).await {
            Ok(loaded) => loaded.map_err(|error| explain(&error, profile))?,
            Err(_) => {
                return Err(ConnectError::CredentialsFailed {
                    detail: format!("nothing came of it within {} s", LOAD_LIMIT.as_secs()),
                });
            }
        };
        match credentials.expiry() {
            Some(end) if end <= now => {
                Err(ConnectError::CredentialsExpired { detail: "they ended before now".to_owned() })
            }
            _ => Ok(credentials),
        }
    }
}

/// The SDK's error as one of ours. Its texts name files, profiles and services, never keys.
fn explain(error: &CredentialsError, profile: Option<&str>) -> ConnectError {
    let detail = chain_of(error);
    let lower = detail.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if says(&["was not defined"])
        && let Some(profile) = profile
    {
        return ConnectError::UnknownProfile { profile: profile.to_owned() };
    }
    if says(&["expired", "unauthorizedexception", "session token not found or invalid"]) {
        return ConnectError::CredentialsExpired { detail };
    }
    // The SSO cache holds no token until `aws sso login` has run.
    if says(&["sso token"]) && says(&["no such file", "failed to load"]) {
        return ConnectError::CredentialsExpired { detail: "there is no SSO session yet".to_owned() };
    }
    match error {
        CredentialsError::CredentialsNotLoaded(_) => ConnectError::NoCredentials {
            detail: match profile {
                Some(profile) => format!("the profile `{profile}` holds none"),
                None => "neither in the environment, the AWS profile nor the instance's role".to_owned(),
            },
        },
        _ => ConnectError::CredentialsFailed { detail },
    }
}

/// The error and its causes in one line of bounded length.
fn chain_of(error: &dyn StdError) -> String {
    const LONGEST: usize = 300;
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let own = error.to_string();
        if !text.contains(&own) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&own);
        }
        next = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(LONGEST).collect()
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
