//! The door: TCP, TLS 1.2 and 1.3 with a client certificate that [`Iam`] judges during the handshake, and then the
//! records. A second door without TLS is there for other NFS clients on this machine.
//!
//! A refused certificate gets the alert that its reason calls for (RFC 8446 §6.2): certificate_expired when it is over,
//! access_denied otherwise. Sessions are never resumed, so every connection shows a certificate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::ca::ServerIdentity;
use crate::clock::Clock;
use crate::connection::{End, FAREWELL, serve};
use crate::error::MockError;
use crate::iam::{Grant, Iam, Refusal};
use crate::service::ConnInfo;
use crate::shared::{Entered, Shared};
use crate::wire::{On, WireAction};

/// How long a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Plain text that one connection's TLS holds before it waits for the socket.
const TLS_BUFFER: usize = 256 << 10;

/// The TLS side of the door.
#[derive(Clone)]
pub(crate) struct TlsDoor {
    pub acceptor: TlsAcceptor,
    pub iam: Arc<Iam>,
    /// What clients must send as SNI.
    pub server_name: Arc<str>,
}

impl TlsDoor {
    /// A door that shows `identity` and judges with `iam`.
    pub(crate) fn new(
        identity: ServerIdentity,
        iam: Arc<Iam>,
        clock: Arc<Clock>,
        server_name: &str,
    ) -> Result<Self, MockError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let judge = Judge { iam: Arc::clone(&iam), clock, algorithms: provider.signature_verification_algorithms };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_client_cert_verifier(Arc::new(judge))
            .with_single_cert(identity.chain, identity.key)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), iam, server_name: server_name.into() })
    }
}

/// Lets IAM judge in the middle of a handshake.
#[derive(Debug)]
struct Judge {
    iam: Arc<Iam>,
    clock: Arc<Clock>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Judge {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let mut presented = vec![end_entity.clone()];
        presented.extend_from_slice(intermediates);
        match self.iam.judge(&presented, self.clock.now()) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(refusal) => Err(alert_for(&refusal).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The error that makes rustls send the right alert.
fn alert_for(refusal: &Refusal) -> CertificateError {
    match refusal {
        Refusal::Expired => CertificateError::Expired,
        Refusal::NotYetValid => CertificateError::NotValidYet,
        Refusal::Malformed(_) => CertificateError::BadEncoding,
        _ => CertificateError::ApplicationVerificationFailure,
    }
}

/// Accepts connections until `stop`; then ends them all.
pub(crate) async fn accept_loop(
    listener: TcpListener,
    tls: Option<TlsDoor>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => shared.ended(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let entered = shared.connections.enter();
                    let (tls, shared) = (tls.clone(), Arc::clone(&shared));
                    connections.spawn(async move { attend(stream, peer, entered, tls, shared).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
        }
    }
    drop(listener);
    // All are cut by now; what is left waits for a peer that does not read.
    connections.abort_all();
    while let Some(ended) = connections.join_next().await {
        shared.ended(ended);
    }
}

async fn attend(mut stream: TcpStream, peer: SocketAddr, entered: Entered, tls: Option<TlsDoor>, shared: Arc<Shared>) {
    // Replies are whole records; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    // TCP takes one round trip before the client may speak, TLS 1.3 another before records flow.
    shared.link.round_trips(if tls.is_some() { 2 } else { 1 }).await;
    match shared.wire.event(On::Connect, shared.clock.running()) {
        None => {}
        Some(WireAction::Alert) if tls.is_some() => {
            // access_denied, in the record layer of a handshake (RFC 8446 §5.1, §6).
            let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, 49]).await;
            let _ = stream.shutdown().await;
            return;
        }
        Some(WireAction::Silence) => return entered.cut.cancelled().await,
        Some(WireAction::Reply(crate::outlet::ReplyFault::RawGarbage(bytes))) => {
            let _ = stream.write_all(&bytes).await;
            return;
        }
        Some(_) => return,
    }
    match tls {
        None => {
            shared.counters.accepted();
            let conn = ConnInfo::new(entered.id, Some(peer), None);
            serve(stream, conn, &shared, entered.cut.clone()).await;
        }
        Some(door) => {
            let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, welcome(stream, &door, &shared));
            let handshake = tokio::select! {
                () = entered.cut.cancelled() => return,
                handshake = handshake => handshake,
            };
            let Ok(Some((stream, grant))) = handshake else {
                shared.counters.refused();
                return;
            };
            shared.counters.accepted();
            let conn = ConnInfo::new(entered.id, Some(peer), Some(grant));
            let (end, stream) = serve(stream, conn, &shared, entered.cut.clone()).await;
            if end == End::Alert {
                fatal_alert(stream).await;
            }
        }
    }
}

/// The handshake, and what the certificate earned.
async fn welcome(stream: TcpStream, door: &TlsDoor, shared: &Shared) -> Option<(TlsStream<TcpStream>, Grant)> {
    let refused = |why: String| {
        shared.refusals.add(why);
        None
    };
    let accepting = door.acceptor.accept_with(stream, |session| {
        session.set_buffer_limit(Some(TLS_BUFFER));
    });
    let stream = match accepting.await {
        Ok(stream) => stream,
        Err(error) => return refused(format!("a handshake failed: {error}")),
    };
    let session = stream.get_ref().1;
    match session.server_name() {
        Some(name) if *name == *door.server_name => {}
        other => {
            let name = other.unwrap_or("no name");
            shared.mistakes.add(format!("a client asks for {name} in SNI instead of {}", door.server_name));
        }
    }
    let presented = session.peer_certificates().unwrap_or_default().to_vec();
    match door.iam.judge(&presented, shared.clock.now()) {
        Ok(grant) => Some((stream, grant)),
        Err(refusal) => refused(refusal.to_string()),
    }
}

/// Sends a fatal alert on an established connection. rustls has no call for that, but it answers a record that does not
/// decrypt with bad_record_mac.
async fn fatal_alert<S: AsyncRead + AsyncWrite + Unpin>(mut stream: TlsStream<S>) {
    let mut broken = vec![23, 3, 3, 0, 32];
    broken.extend([0; 32]);
    let (io, session) = stream.get_mut();
    // A part of a record may be waiting for its rest; enough of these fill it up and then fail.
    for _ in 0..1024 {
        let mut bytes = broken.as_slice();
        let fed = session.read_tls(&mut bytes);
        if fed.is_err() || session.process_new_packets().is_err() {
            break;
        }
    }
    let mut alert = Vec::new();
    while session.wants_write() && session.write_tls(&mut alert).is_ok() {}
    // A peer that does not read gets no alert.
    let _ = tokio::time::timeout(FAREWELL, async {
        let _ = io.write_all(&alert).await;
        let _ = io.shutdown().await;
    })
    .await;
}
