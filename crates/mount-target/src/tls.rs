//! TLS 1.3 and 1.2 to a mount target: the server's name is verified, our certificate is presented, and whatever goes
//! wrong becomes a sentence that a user can act on.
//!
//! There is no way to switch the verification off; a private server is reached by naming its roots. Sessions are not
//! resumed: a resumed session carries the identity of an older certificate.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificate::ClientCertificate;
use crate::error::ConnectError;
use crate::ids::FileSystemId;

/// Whose word is taken for the server's name.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// Mozilla's roots, which hold Amazon's.
    #[default]
    PublicRoots,
    /// The certificates in this PEM file, instead of the public roots (`--ca-file`).
    CaFile(PathBuf),
    /// These certificates, instead of the public roots.
    Roots(Vec<CertificateDer<'static>>),
}

impl Trust {
    fn roots(&self) -> Result<RootCertStore, ConnectError> {
        let mut store = RootCertStore::empty();
        match self {
            Self::PublicRoots => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Self::Roots(roots) => {
                store.add_parsable_certificates(roots.iter().cloned());
            }
            Self::CaFile(path) => {
                let useless = |detail: String| ConnectError::CaFile { path: path.clone(), detail };
                let certificates = CertificateDer::pem_file_iter(path).map_err(|error| useless(pem_error(error)))?;
                for certificate in certificates {
                    let certificate = certificate.map_err(|error| useless(pem_error(error)))?;
                    store.add(certificate).map_err(|error| useless(error.to_string()))?;
                }
                if store.is_empty() {
                    return Err(useless("it holds no certificate in PEM form".to_owned()));
                }
            }
        }
        Ok(store)
    }
}

fn pem_error(error: rustls_pki_types::pem::Error) -> String {
    match error {
        rustls_pki_types::pem::Error::Io(error) => error.to_string(),
        other => format!("it is not a PEM file ({other})"),
    }
}

/// Whom a handshake is with.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Host and port, for messages.
    pub address: &'a str,
    /// Sent as SNI and verified.
    pub server_name: &'a str,
    /// The file system, for messages.
    pub file_system_id: &'a FileSystemId,
}

/// Makes TLS connections.
#[derive(Debug)]
pub struct TlsClient {
    base: ClientConfig,
}

impl TlsClient {
    /// A client that trusts `trust`.
    pub fn new(trust: &Trust) -> Result<Self, ConnectError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let failed = |detail: String| ConnectError::Certificate { detail };
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(trust.roots()?), Arc::clone(&provider))
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let mut base = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| failed(error.to_string()))?
            .with_webpki_verifier(verifier)
            .with_no_client_auth();
        base.resumption = Resumption::disabled();
        Ok(Self { base })
    }

    /// Does the handshake within `limit` and presents `certificate`.
    pub async fn handshake<S>(
        &self,
        io: S,
        certificate: &ClientCertificate,
        expected: Expected<'_>,
        limit: Duration,
    ) -> Result<TlsStream<Heard<S>>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(expected.server_name.to_owned()).map_err(|_| ConnectError::BadTarget {
            input: expected.server_name.to_owned(),
            why: "it cannot be a server's name in TLS".to_owned(),
        })?;
        let presented = Arc::new(Presented { certified: certificate.certified(), asked: AtomicBool::new(false) });
        let mut config = self.base.clone();
        config.client_auth_cert_resolver = Arc::clone(&presented) as Arc<dyn ResolvesClientCert>;
        let heard = Arc::new(AtomicU64::new(0));
        let io = Heard { io, bytes: Arc::clone(&heard) };
        let progress = || Progress {
            heard: heard.load(Ordering::Relaxed) > 0,
            certificate_asked: presented.asked.load(Ordering::Relaxed),
        };
        match tokio::time::timeout(limit, TlsConnector::from(Arc::new(config)).connect(name, io)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(explain(&error, progress(), expected)),
            Err(_) => Err(silence(progress(), expected, limit)),
        }
    }
}

/// Presents one certificate, whatever issuers the server would like.
#[derive(Debug)]
struct Presented {
    certified: Arc<CertifiedKey>,
    asked: AtomicBool,
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        Some(Arc::clone(&self.certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// How far a handshake came.
#[derive(Debug, Clone, Copy)]
struct Progress {
    /// Anything came back.
    heard: bool,
    /// The server asked for our certificate, so it had it before things went wrong.
    certificate_asked: bool,
}

/// What an alert says about us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AlertMeaning {
    /// The server does not accept the client certificate.
    ClientRefused,
    /// The server holds the client certificate for expired.
    ClientExpired,
    /// Something else.
    Other,
}

/// What an alert means once the server has our certificate (RFC 8446 §6.2).
pub(crate) fn alert_meaning(alert: AlertDescription) -> AlertMeaning {
    match alert {
        AlertDescription::CertificateExpired => AlertMeaning::ClientExpired,
        AlertDescription::AccessDenied
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRequired
        | AlertDescription::UnknownCA
        | AlertDescription::DecryptError
        | AlertDescription::HandshakeFailure => AlertMeaning::ClientRefused,
        _ => AlertMeaning::Other,
    }
}

fn silence(progress: Progress, expected: Expected<'_>, limit: Duration) -> ConnectError {
    let address = expected.address.to_owned();
    let seconds = limit.as_secs().max(1);
    if progress.heard {
        ConnectError::TlsFailed { address, detail: format!("it was not finished after {seconds} s") }
    } else {
        ConnectError::NotTls { address, detail: format!("it said nothing for {seconds} s") }
    }
}

fn explain(error: &io::Error, progress: Progress, expected: Expected<'_>) -> ConnectError {
    let address = expected.address.to_owned();
    let denied = |detail: String| ConnectError::AccessDenied {
        address: expected.address.to_owned(),
        file_system_id: expected.file_system_id.clone(),
        detail,
    };
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match (progress.heard, progress.certificate_asked) {
            (_, true) => denied("it closed the connection when it had the client certificate".to_owned()),
            (false, _) => ConnectError::NotTls {
                address,
                detail:
                    "it closed the connection without a word, which a load balancer without a healthy target does too"
                        .to_owned(),
            },
            (true, false) => ConnectError::TlsFailed { address, detail: error.to_string() },
        };
    };
    match tls {
        rustls::Error::InvalidCertificate(problem) => explain_certificate(problem, expected),
        rustls::Error::AlertReceived(AlertDescription::UnrecognisedName) => ConnectError::ServerNameMismatch {
            address,
            expected: expected.server_name.to_owned(),
            presented: Vec::new(),
        },
        rustls::Error::AlertReceived(alert) if progress.certificate_asked => match alert_meaning(*alert) {
            AlertMeaning::ClientRefused => denied(format!("TLS alert {alert:?}")),
            AlertMeaning::ClientExpired => ConnectError::ClockSkew {
                address,
                detail: "the server holds the fresh client certificate for expired".to_owned(),
            },
            AlertMeaning::Other => ConnectError::TlsFailed { address, detail: tls.to_string() },
        },
        rustls::Error::InvalidMessage(_)
        | rustls::Error::InappropriateMessage { .. }
        | rustls::Error::PeerSentOversizedRecord => ConnectError::NotTls { address, detail: tls.to_string() },
        _ => ConnectError::TlsFailed { address, detail: tls.to_string() },
    }
}

fn explain_certificate(problem: &CertificateError, expected: Expected<'_>) -> ConnectError {
    let address = expected.address.to_owned();
    let mismatch = |presented: Vec<String>| ConnectError::ServerNameMismatch {
        address: expected.address.to_owned(),
        expected: expected.server_name.to_owned(),
        presented,
    };
    match problem {
        CertificateError::NotValidForName => mismatch(Vec::new()),
        CertificateError::NotValidForNameContext { presented, .. } => {
            mismatch(presented.iter().map(|name| bare_name(name)).collect())
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            ConnectError::UntrustedIssuer { address, detail: "unknown issuer".to_owned() }
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ConnectError::ClockSkew { address, detail: "the server's certificate has expired".to_owned() }
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ConnectError::ClockSkew { address, detail: "the server's certificate is not valid yet".to_owned() }
        }
        other => {
            ConnectError::TlsFailed { address, detail: format!("the server's certificate is not usable: {other}") }
        }
    }
}

/// `DnsName("host")` as `host`. The names come from the peer, so they are cut and cleaned.
fn bare_name(shown: &str) -> String {
    let inner = shown.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"')).map_or(shown, |(name, _)| name);
    inner.chars().filter(char::is_ascii_graphic).take(100).collect()
}

/// A stream that counts what was heard from the peer: "closed at once" and "closed in the middle" differ.
#[derive(Debug)]
pub struct Heard<S> {
    io: S,
    bytes: Arc<AtomicU64>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        self.bytes.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
