//! What can go wrong between a name and a channel. Each variant's text is one sentence: what, where, what to do.
//!
//! The variants are stable kinds: the command line maps them to exit codes, the recovery code asks
//! [`ConnectError::is_transient`] whether trying again can help.

use std::io;
use std::path::PathBuf;

use nfs4::record::RecordError;

use crate::ids::FileSystemId;

/// Why no channel could be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// What was typed names no mount target, or not enough of it.
    #[error("`{input}` cannot be mounted: {why}")]
    BadTarget {
        /// What was typed.
        input: String,
        /// What is wrong and how to put it right.
        why: String,
    },
    /// DNS does not know the host.
    #[error(
        "the name {host} could not be resolved ({detail}); check the spelling, and that this machine uses the DNS that knows it (for example over the VPN)"
    )]
    NameNotResolved {
        /// The host name.
        host: String,
        /// The resolver's words.
        detail: String,
    },
    /// The machine answers, the port does not.
    #[error(
        "{address} refused the connection; check the port, and that the load balancer or mount target behind it is there and listens"
    )]
    PortClosed {
        /// Host and port.
        address: String,
    },
    /// Nothing answers.
    #[error(
        "{address} did not answer within {seconds} s; the usual cause is a security group or firewall that does not let this machine in on that port"
    )]
    ConnectTimeout {
        /// Host and port.
        address: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The network knows no way.
    #[error("{address} cannot be reached ({detail}); check the network connection or the VPN")]
    Unreachable {
        /// Host and port.
        address: String,
        /// The system's words.
        detail: String,
    },
    /// What answers is not a TLS server.
    #[error(
        "{address} does not speak TLS ({detail}); S3 Files always does, so check the host and the port, and that a load balancer in between relays plain TCP"
    )]
    NotTls {
        /// Host and port.
        address: String,
        /// What happened instead.
        detail: String,
    },
    /// The server proved to be somebody else.
    #[error(
        "{address} is not {expected}: its certificate is for {}; check the file system id and the region",
        list(presented)
    )]
    ServerNameMismatch {
        /// Host and port.
        address: String,
        /// The name that was asked for.
        expected: String,
        /// The names in its certificate.
        presented: Vec<String>,
    },
    /// The server's certificate leads to no trusted root.
    #[error(
        "the certificate of {address} was issued by nobody that is trusted ({detail}); if this server has a private certificate authority, name its PEM file with --ca-file"
    )]
    UntrustedIssuer {
        /// Host and port.
        address: String,
        /// What is wrong with it.
        detail: String,
    },
    /// This machine and the server disagree about the time.
    #[error("{address} and this machine disagree about the time ({detail}); set this machine's clock right")]
    ClockSkew {
        /// Host and port.
        address: String,
        /// Whose certificate is out of date.
        detail: String,
    },
    /// The server does not let these credentials in.
    #[error(
        "{address} denied access to {file_system_id} ({detail}); allow the action s3files:ClientMount for these credentials (IAM or file system policy), and check the file system id and the region"
    )]
    AccessDenied {
        /// Host and port.
        address: String,
        /// The file system that was asked for.
        file_system_id: FileSystemId,
        /// How it was denied.
        detail: String,
    },
    /// There are no AWS credentials.
    #[error(
        "no AWS credentials were found ({detail}); run `aws configure` or `aws sso login`, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile with --profile"
    )]
    NoCredentials {
        /// Where was looked.
        detail: String,
    },
    /// The profile is not in the configuration.
    #[error("the AWS profile `{profile}` does not exist; `aws configure list-profiles` shows the ones that do")]
    UnknownProfile {
        /// The profile's name.
        profile: String,
    },
    /// The AWS credentials are no longer valid.
    #[error("the AWS credentials have expired ({detail}); run `aws sso login` or fetch new ones, then try again")]
    CredentialsExpired {
        /// Which ones, and where from.
        detail: String,
    },
    /// There are credentials, but getting them failed.
    #[error("the AWS credentials could not be loaded: {detail}; check the profile in ~/.aws/config")]
    CredentialsFailed {
        /// What happened.
        detail: String,
    },
    /// The credentials may not ask AWS for something.
    #[error("these credentials may not ask AWS for {action} ({detail}); allow that action, or {instead}")]
    ActionDenied {
        /// The IAM action.
        action: &'static str,
        /// AWS's words.
        detail: String,
        /// What does without it.
        instead: &'static str,
    },
    /// AWS could not be asked for something.
    #[error("AWS did not answer {action} ({detail}); check the region and the network, or {instead}")]
    AwsNotAsked {
        /// The IAM action.
        action: &'static str,
        /// What happened instead.
        detail: String,
        /// What does without it.
        instead: &'static str,
    },
    /// `--ca-file` is of no use.
    #[error("the CA file {} cannot be used: {detail}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The client's key or certificate could not be made.
    #[error("the client certificate could not be made: {detail}")]
    Certificate {
        /// What happened.
        detail: String,
    },
    /// TLS failed in another way.
    #[error("the TLS handshake with {address} failed: {detail}")]
    TlsFailed {
        /// Host and port.
        address: String,
        /// What happened.
        detail: String,
    },
    /// The connection was made and lost again before it could be used.
    #[error("the connection to {address} was lost: {reason}")]
    Lost {
        /// Host and port.
        address: String,
        /// Why.
        reason: LossReason,
    },
}

impl ConnectError {
    /// Whether the same attempt may succeed a little later, with nothing changed by the user.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NameNotResolved { .. }
            | Self::PortClosed { .. }
            | Self::ConnectTimeout { .. }
            | Self::Unreachable { .. }
            | Self::NotTls { .. }
            | Self::TlsFailed { .. }
            | Self::CredentialsFailed { .. }
            | Self::AwsNotAsked { .. }
            | Self::Lost { .. } => true,
            Self::BadTarget { .. }
            | Self::ServerNameMismatch { .. }
            | Self::UntrustedIssuer { .. }
            | Self::ClockSkew { .. }
            | Self::AccessDenied { .. }
            | Self::NoCredentials { .. }
            | Self::UnknownProfile { .. }
            | Self::CredentialsExpired { .. }
            | Self::ActionDenied { .. }
            | Self::CaFile { .. }
            | Self::Certificate { .. } => false,
        }
    }
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 3;
    match names {
        [] => "another name".to_owned(),
        few if few.len() <= SHOWN => few.join(", "),
        many => format!("{} and {} more", many[..SHOWN].join(", "), many.len() - SHOWN),
    }
}

/// Why a channel can no longer be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LossReason {
    /// This side closed it.
    #[error("this side closed it")]
    ClosedHere,
    /// The peer closed it.
    #[error("the server closed it")]
    ClosedByPeer,
    /// In TLS 1.3 a refused client certificate shows only now: the first read brings the alert.
    #[error("the server refused the client certificate (TLS alert {alert})")]
    AccessDenied {
        /// The alert.
        alert: String,
    },
    /// The server holds our certificate for expired.
    #[error("the server holds the client certificate for expired (TLS alert {alert})")]
    CertificateExpired {
        /// The alert.
        alert: String,
    },
    /// The peer sent something that is no RPC.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// The peer sent too much in one record.
    #[error("{0}")]
    Record(#[from] RecordError),
    /// The network failed.
    #[error("{0}")]
    Io(String),
}

impl LossReason {
    /// What a failed read or write means.
    pub fn from_io(error: &io::Error) -> Self {
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return match tls {
                rustls::Error::AlertReceived(alert) => Self::from_alert(*alert),
                other => Self::Protocol(other.to_string()),
            };
        }
        match error.kind() {
            // rustls reports a connection that ends without close_notify like this.
            io::ErrorKind::UnexpectedEof => Self::ClosedByPeer,
            _ => Self::Io(error.to_string()),
        }
    }

    fn from_alert(alert: rustls::AlertDescription) -> Self {
        let text = format!("{alert:?}");
        match crate::tls::alert_meaning(alert) {
            crate::tls::AlertMeaning::ClientRefused => Self::AccessDenied { alert: text },
            crate::tls::AlertMeaning::ClientExpired => Self::CertificateExpired { alert: text },
            crate::tls::AlertMeaning::Other => Self::Protocol(format!("TLS alert {text}")),
        }
    }
}

/// Why a call brought no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The connection is gone; whether the server carried the call out is unknown.
    #[error("the connection was lost: {0}")]
    Lost(LossReason),
    /// The message has no room for an xid, or is longer than a record can be.
    #[error("a message of {0} bytes is not a call")]
    NotACall(usize),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_name_mismatch_names_both_sides_and_stays_short() {
        let names = (0..50).map(|i| format!("fs-{i}.example")).collect();
        let error = ConnectError::ServerNameMismatch {
            address: "10.0.0.1:2049".into(),
            expected: "fs-x.s3files.us-east-1.on.aws".into(),
            presented: names,
        };
        let text = error.to_string();
        assert!(text.contains("fs-x.s3files") && text.contains("fs-0.example") && text.contains("47 more"), "{text}");
        assert!(text.len() < 300 && !text.contains('\n'));
    }

    #[test]
    fn an_alert_on_the_first_read_is_access_denied() {
        let error = io::Error::new(
            io::ErrorKind::InvalidData,
            rustls::Error::AlertReceived(rustls::AlertDescription::BadCertificate),
        );
        assert_eq!(LossReason::from_io(&error), LossReason::AccessDenied { alert: "BadCertificate".into() });
    }
}
