//! Whole connections against a TLS server that the test makes: who is let in, who is not, and in which words.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::future::Future;

use nfs4::awsfile::{
    AWSFILE_PROGRAM, BindClientResponse, BindResponse, PROC_BIND_CLIENT_TO_PARTITION, ProxyIdentifier,
};
use nfs4::record::{LAST_FRAGMENT, record_mark};
use nfs4::rpc::{AcceptStat, Message, PROC_NULL, ReplyHeader, ReplyStatus};
use nfs4::xdr::{self, Reader, Writer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::FromDer;

use super::*;
use crate::target::{TargetName, TargetOptions};

const FS: &str = "fs-0123456789abcdef0";
const NAME: &str = "fs-0123456789abcdef0.s3files.us-east-1.on.aws";
const PARTITION: PartitionId = PartitionId([9; 64]);
static BOTH_VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("took more than 10 s")
}

/// Takes or refuses every client certificate, and keeps what it saw.
#[derive(Debug)]
struct Door {
    open: bool,
    seen: Arc<Mutex<Vec<CertificateDer<'static>>>>,
}

impl ClientCertVerifier for Door {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.seen.lock().unwrap().push(end_entity.clone().into_owned());
        if self.open {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What the server does once TLS stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// READY.
    Binds,
    /// PREFERRED, which yields no partition.
    Prefers,
    /// "No such program", to which the connection stays in order.
    Declines,
    /// Nonsense to bind, but answers NULL.
    Babbles,
    /// Closes without a word.
    HangsUp,
}

struct Server {
    port: u16,
    ca: CertificateDer<'static>,
    ca_pem: String,
    seen: Arc<Mutex<Vec<CertificateDer<'static>>>>,
    connections: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.connections.abort();
    }
}

fn ca() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

async fn server(name: &str, version: &'static SupportedProtocolVersion, open: bool, manner: Manner) -> Server {
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    server_with(params, version, open, manner).await
}

async fn server_with(
    params: CertificateParams,
    version: &'static SupportedProtocolVersion,
    open: bool,
    manner: Manner,
) -> Server {
    let ca = ca();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &ca).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let door = Door { open, seen: Arc::clone(&seen) };
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(Arc::new(door))
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, manner).await;
                }
            });
        }
    });
    Server { port, ca: ca.der().clone(), ca_pem: ca.pem(), seen, connections }
}

/// Answers bind and NULL until the stream ends.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, manner: Manner) -> Option<()> {
    if manner == Manner::HangsUp {
        let _ = stream.shutdown().await;
        return None;
    }
    loop {
        let mark = stream.read_u32().await.ok()?;
        let mut record = vec![0; (mark & !LAST_FRAGMENT) as usize];
        stream.read_exact(&mut record).await.ok()?;
        let mut reader = Reader::new(record.into());
        let Message::Call(call) = reader.get().unwrap() else { panic!("a reply came") };
        let mut writer = Writer::new();
        let mut reply = |status| writer.put(&Message::Reply(ReplyHeader { xid: call.xid, status })).unwrap();
        if call.prog == AWSFILE_PROGRAM && call.proc == PROC_BIND_CLIENT_TO_PARTITION && manner != Manner::Declines {
            reply(ReplyStatus::Success);
            let identity: ProxyIdentifier = xdr::decode(&mut reader).unwrap();
            assert_eq!((identity.identifier.len(), identity.incarnation.len()), (16, 8));
            let bind_response = match manner {
                Manner::Binds => BindResponse::Ready(PARTITION),
                _ => BindResponse::Preferred(PARTITION),
            };
            if manner == Manner::Babbles {
                writer.put(&77u32).unwrap();
            } else {
                writer.put(&BindClientResponse { bind_response, scale_up_config: bind::default_scale_up() }).unwrap();
            }
        } else if call.proc == PROC_NULL {
            reply(ReplyStatus::Success);
        } else {
            reply(ReplyStatus::Failed(AcceptStat::ProgUnavail));
        }
        let reply = writer.into_bytes();
        stream.write_all(&record_mark(reply.len())).await.ok()?;
        stream.write_all(&reply).await.ok()?;
        stream.flush().await.ok()?;
    }
}

fn config(port: u16, trust: Trust) -> ConnectorConfig {
    let options = TargetOptions {
        file_system_id: Some(FS.parse().unwrap()),
        region: Some("us-east-1".parse().unwrap()),
        ..TargetOptions::default()
    };
    let target = format!("127.0.0.1:{port}").parse::<TargetName>().unwrap().complete(options, None).unwrap();
    assert_eq!(target.server_name, NAME);
    ConnectorConfig { trust, ..ConnectorConfig::new(target, CredentialsSource::fixed("AKIDEXAMPLE", "secret", None)) }
}

fn connector(server: &Server) -> Connector {
    Connector::new(config(server.port, Trust::Roots(vec![server.ca.clone()]))).unwrap()
}

#[tokio::test]
async fn a_connection_is_bound_in_both_tls_versions_and_presents_the_iam_certificate() {
    for version in BOTH_VERSIONS {
        let server = server(NAME, version, true, Manner::Binds).await;
        let connector = connector(&server);
        let connected = within(connector.connect()).await.unwrap();
        assert_eq!(connected.partition, Some(PARTITION));
        assert_eq!(connected.peer.tls_version.unwrap(), format!("{:?}", version.version));
        bind::probe(&connected.channel).await.unwrap();
        let seen = server.seen.lock().unwrap().clone();
        let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(&seen[0]).unwrap();
        assert_eq!(certificate.extensions().len(), 4);
        assert!(certificate.validity().is_valid());
    }
}

#[tokio::test]
async fn a_second_connection_presents_the_same_certificate_while_it_is_fresh() {
    let server = server(NAME, &rustls::version::TLS13, true, Manner::Binds).await;
    let connector = connector(&server);
    for _ in 0..2 {
        within(connector.connect()).await.unwrap();
    }
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen.len(), 2, "a resumed session would not ask for the certificate again");
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn an_old_certificate_is_made_anew_before_anybody_connects_and_a_fresh_one_is_kept() {
    let server = server(NAME, &rustls::version::TLS13, true, Manner::Binds).await;
    let connector = connector(&server);
    connector.renew_certificate().await;
    let made = connector.certificate_lifetime().unwrap().made;
    connector.renew_certificate().await;
    assert_eq!(connector.certificate_lifetime().unwrap().made, made);
    let Route::Tls(route) = &connector.route else { panic!("it has no TLS") };
    let old = SystemTime::now() - Duration::from_hours(2);
    route.certificate.lock().unwrap().as_mut().unwrap().lifetime.made = old;
    connector.renew_certificate().await;
    assert!(connector.certificate_lifetime().unwrap().made > old + Duration::from_hours(1));
    assert!(server.seen.lock().unwrap().is_empty(), "the server hears nothing of it");
}

#[tokio::test]
async fn whatever_bind_answers_the_first_connection_is_usable() {
    for manner in [Manner::Prefers, Manner::Declines, Manner::Babbles] {
        let server = server(NAME, &rustls::version::TLS13, true, manner).await;
        let connected = within(connector(&server).connect()).await.unwrap();
        assert_eq!(connected.partition, None);
        bind::probe(&connected.channel).await.unwrap();
        // Only the answer that could not be understood costs a second connection.
        let connections = if manner == Manner::Babbles { 2 } else { 1 };
        assert_eq!(server.seen.lock().unwrap().len(), connections);
    }
}

#[tokio::test]
async fn a_server_with_another_name_is_refused() {
    let server =
        server("fs-99999999999999999.s3files.us-east-1.on.aws", &rustls::version::TLS13, true, Manner::Binds).await;
    let error = within(connector(&server).connect()).await.unwrap_err();
    let ConnectError::ServerNameMismatch { expected, presented, .. } = &error else { panic!("{error:?}") };
    assert_eq!(expected, NAME);
    assert_eq!(presented, &["fs-99999999999999999.s3files.us-east-1.on.aws"]);
    assert_eq!(server.seen.lock().unwrap().len(), 0, "the certificate is not shown to a stranger");
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_refused() {
    let server = server(NAME, &rustls::version::TLS13, true, Manner::Binds).await;
    for trust in [Trust::PublicRoots, Trust::Roots(vec![ca().der().clone()])] {
        let error = within(Connector::new(config(server.port, trust)).unwrap().connect()).await.unwrap_err();
        assert!(matches!(error, ConnectError::UntrustedIssuer { .. }), "{error:?}");
        assert!(error.to_string().contains("--ca-file"));
    }
}

#[tokio::test]
async fn a_ca_file_makes_a_private_server_trusted_and_a_useless_one_is_named() {
    let server = server(NAME, &rustls::version::TLS13, true, Manner::Binds).await;
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("ca.pem");
    std::fs::write(&good, &server.ca_pem).unwrap();
    within(Connector::new(config(server.port, Trust::CaFile(good))).unwrap().connect()).await.unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing here").unwrap();
    for path in [empty, folder.path().join("missing.pem")] {
        let error = Connector::new(config(server.port, Trust::CaFile(path.clone()))).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn a_refused_client_certificate_is_access_denied_in_both_tls_versions() {
    for version in BOTH_VERSIONS {
        let server = server(NAME, version, false, Manner::Binds).await;
        let error = within(connector(&server).connect()).await.unwrap_err();
        assert!(matches!(error, ConnectError::AccessDenied { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("s3files:ClientMount") && text.contains(FS), "{text}");
        assert!(!error.is_transient());
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_after_the_handshake_denies_access() {
    let server = server(NAME, &rustls::version::TLS13, true, Manner::HangsUp).await;
    let error = within(connector(&server).connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::AccessDenied { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_whose_certificate_has_expired_is_about_clocks() {
    let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let server = server_with(params, &rustls::version::TLS13, true, Manner::Binds).await;
    let error = within(connector(&server).connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::ClockSkew { .. }), "{error:?}");
}

/// A TCP server that greets with `greeting` and then keeps or drops the connection.
async fn no_tls(greeting: &'static [u8], keep: bool) -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(greeting).await;
            if keep {
                kept.push(stream);
            }
        }
    });
    (port, task)
}

#[tokio::test]
async fn what_does_not_speak_tls_is_named_as_such() {
    for (greeting, keep) in [
        (b"SSH-2.0-OpenSSH_9.9\r\n".as_slice(), true),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), false),
        (b"".as_slice(), false),
        (b"".as_slice(), true),
    ] {
        let (port, task) = no_tls(greeting, keep).await;
        let config = ConnectorConfig { handshake_limit: Duration::from_secs(1), ..config(port, Trust::PublicRoots) };
        let error = within(Connector::new(config).unwrap().connect()).await.unwrap_err();
        assert!(matches!(error, ConnectError::NotTls { .. }), "{greeting:?} {keep}: {error:?}");
        task.abort();
    }
}

#[tokio::test]
async fn missing_credentials_are_told_before_tls() {
    let server = server(NAME, &rustls::version::TLS13, true, Manner::Binds).await;
    let provider = aws_credential_types::provider::SharedCredentialsProvider::new(NoKeys);
    let config = ConnectorConfig {
        credentials: CredentialsSource::from_provider(provider),
        ..config(server.port, Trust::Roots(vec![server.ca.clone()]))
    };
    let error = within(Connector::new(config).unwrap().connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoCredentials { .. }), "{error:?}");
}

#[derive(Debug)]
struct NoKeys;

impl aws_credential_types::provider::ProvideCredentials for NoKeys {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        use aws_credential_types::provider::error::CredentialsError;
        aws_credential_types::provider::future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("none")))
    }
}

#[tokio::test]
async fn plain_tcp_is_for_this_machine_only() {
    let error = Connector::plain("192.0.2.1:2049".parse().unwrap(), ChannelOptions::default()).unwrap_err();
    assert!(matches!(error, ConnectError::BadTarget { .. }), "{error:?}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { serve(listener.accept().await.unwrap().0, Manner::Binds).await });
    let connected = within(Connector::plain(address, ChannelOptions::default()).unwrap().connect()).await.unwrap();
    bind::probe(&connected.channel).await.unwrap();
}

#[tokio::test]
async fn streams_in_memory_are_connections_too() {
    let dial = || {
        let (near, far) = tokio::io::duplex(1 << 16);
        tokio::spawn(serve(far, Manner::Binds));
        Ok(near)
    };
    let connector = Connector::in_memory(dial, ChannelOptions::default()).with_bind(true);
    let connected = within(connector.connect()).await.unwrap();
    assert_eq!(connected.partition, Some(PARTITION));
}
