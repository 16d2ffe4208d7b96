//! A client made by hand for the tests of the door: a certificate written field by field, rustls, and records. It
//! shares nothing with the client of this project.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

pub mod session;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use mock_mount_target::{Credentials, MockHandle};
use nfs4::awsfile::{AWSFILE_PROGRAM, AWSFILE_V1, BindClientResponse, PROC_BIND_CLIENT_TO_PARTITION, ProxyIdentifier};
use nfs4::rpc::{CallHeader, Message, OpaqueAuth, ReplyStatus};
use nfs4::xdr::{self, Reader, Writer};
use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair, PKCS_RSA_SHA256, PublicKeyData};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use sha1::{Digest as _, Sha1};
use time::{Duration as Span, OffsetDateTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Every test ends within this time.
pub const LIMIT: Duration = Duration::from_secs(60);

/// RSA keys take their time to be made, so the tests of one process share one.
pub fn key() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    KEY.get_or_init(|| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, rcgen::RsaKeySize::_3072).unwrap())
}

/// What a certificate says, each field to be got wrong by a test.
#[derive(Clone)]
pub struct Claims {
    pub access_key_id: String,
    pub secret: String,
    pub token: Option<String>,
    pub file_system_id: String,
    pub region: String,
    pub access_point: Option<String>,
    pub made: OffsetDateTime,
    pub signed: bool,
}

impl Claims {
    pub fn for_mock(mock: &MockHandle) -> Self {
        Self::with(mock, mock.credentials())
    }

    pub fn with(mock: &MockHandle, credentials: &Credentials) -> Self {
        Self {
            access_key_id: credentials.access_key_id.clone(),
            secret: credentials.secret_access_key.clone(),
            token: credentials.session_token.clone(),
            file_system_id: mock.fs_id().into(),
            region: mock.region().into(),
            access_point: None,
            made: OffsetDateTime::now_utc(),
            signed: true,
        }
    }

    fn signature(&self, public_key_hash: &str) -> String {
        let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
        let date_time = self.made.format(&format).unwrap();
        let scope = format!("{}/{}/s3files/aws4_request", &date_time[..8], self.region);
        let escape = |text: &str| text.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D");
        let token = self.token.as_ref().map(|t| format!("&X-Amz-Security-Token={}", escape(t))).unwrap_or_default();
        let request = format!(
            "GET\n/\nAction=Connect&PublicKeyHash={public_key_hash}&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}\
             &X-Amz-Date={date_time}&X-Amz-Expires=86400{token}&X-Amz-SignedHeaders=host\nhost:{}\nhost\n{}",
            escape(&format!("{}/{scope}", self.access_key_id)),
            self.file_system_id,
            hex::encode(sha2::Sha256::digest(b"")),
        );
        let to_sign = format!("AWS4-HMAC-SHA256\n{date_time}\n{scope}\n{}", hex::encode(sha2::Sha256::digest(request)));
        let mut secret = format!("AWS4{}", self.secret).into_bytes();
        for part in scope.split('/').chain([to_sign.as_str()]) {
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
            secret = aws_lc_rs::hmac::sign(&key, part.as_bytes()).as_ref().to_vec();
        }
        hex::encode(secret)
    }

    fn certificate(&self) -> rcgen::Certificate {
        let hash = Sha1::digest(key().der_bytes());
        let utc = time::macros::format_description!("[year repr:last_two][month][day][hour][minute][second]Z");
        let mut auth = [
            tlv(0x0c, self.access_key_id.as_bytes()),
            tlv(0x04, self.signature(&hex::encode(hash)).as_bytes()),
            tlv(0x17, self.made.format(&utc).unwrap().as_bytes()),
        ]
        .concat();
        if let Some(token) = &self.token {
            auth.extend(tlv(0xa0, &tlv(0x0c, token.as_bytes())));
        }
        let client = [tlv(0x0c, b"by hand"), tlv(0x0c, b"1.0")].concat();
        let own = |last, value: Vec<u8>| CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 4843, 7, last], value);
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "by-hand");
        params.not_before = self.made - Span::minutes(15);
        params.not_after = self.made + Span::hours(3);
        params.custom_extensions = vec![
            CustomExtension::from_oid_content(&[2, 5, 29, 14], tlv(0x04, &hash)),
            own(3, tlv(0x0c, self.file_system_id.as_bytes())),
            own(4, tlv(0x30, &client)),
        ];
        if self.signed {
            params.custom_extensions.push(own(2, tlv(0x30, &auth)));
        }
        if let Some(access_point) = &self.access_point {
            params.custom_extensions.push(own(1, tlv(0x0c, access_point.as_bytes())));
        }
        params.self_signed(key()).unwrap()
    }
}

fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let len = contents.len();
    let mut out = vec![tag];
    match len {
        0..=127 => out.push(len as u8),
        128..=255 => out.extend([0x81, len as u8]),
        _ => out.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    out.extend(contents);
    out
}

/// A connection that speaks records.
pub struct Peer<S> {
    pub io: S,
    xid: u32,
}

pub type Tls = Peer<TlsStream<TcpStream>>;

/// What came back.
#[derive(Debug)]
pub struct Back {
    pub xid: u32,
    pub status: ReplyStatus,
    pub results: Bytes,
}

pub async fn tls(
    mock: &MockHandle,
    claims: Option<&Claims>,
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<Tls> {
    tls_as(mock, claims, versions, mock.server_name()).await
}

pub async fn tls_as(
    mock: &MockHandle,
    claims: Option<&Claims>,
    versions: &[&'static SupportedProtocolVersion],
    server_name: &str,
) -> std::io::Result<Tls> {
    let stream = TcpStream::connect(mock.addr()).await?;
    stream.set_nodelay(true)?;
    tls_over(stream, mock, claims, versions, server_name).await
}

/// The handshake on a stream that is connected already.
pub async fn tls_over<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    mock: &MockHandle,
    claims: Option<&Claims>,
    versions: &[&'static SupportedProtocolVersion],
    server_name: &str,
) -> std::io::Result<Peer<TlsStream<S>>> {
    let mut roots = RootCertStore::empty();
    roots.add(mock.ca_der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match claims {
        Some(claims) => {
            let chain = vec![claims.certificate().der().clone()];
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key().serialize_der()));
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let name = ServerName::try_from(server_name.to_owned()).unwrap();
    let io = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    Ok(Peer { io, xid: 100 })
}

pub async fn tls13(mock: &MockHandle) -> Tls {
    tls(mock, Some(&Claims::for_mock(mock)), &[&rustls::version::TLS13]).await.unwrap()
}

pub async fn plain(mock: &MockHandle) -> Peer<TcpStream> {
    Peer { io: TcpStream::connect(mock.plain_addr().unwrap()).await.unwrap(), xid: 100 }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub fn new(io: S) -> Self {
        Self { io, xid: 100 }
    }

    /// Sends a call without waiting; its xid.
    pub async fn send(&mut self, prog: u32, vers: u32, proc: u32, args: &[u8]) -> std::io::Result<u32> {
        self.send_as(prog, vers, proc, OpaqueAuth::none(), args).await
    }

    pub async fn send_as(
        &mut self,
        prog: u32,
        vers: u32,
        proc: u32,
        cred: OpaqueAuth,
        args: &[u8],
    ) -> std::io::Result<u32> {
        self.xid += 1;
        let mut out = Writer::new();
        let header = CallHeader { xid: self.xid, prog, vers, proc, cred, verf: OpaqueAuth::none() };
        out.put(&Message::Call(header)).unwrap();
        let record = [&out.into_bytes(), args].concat();
        self.send_record(&record).await?;
        Ok(self.xid)
    }

    pub async fn send_record(&mut self, record: &[u8]) -> std::io::Result<()> {
        let mark = (0x8000_0000 | record.len() as u32).to_be_bytes();
        self.io.write_all(&[&mark, record].concat()).await?;
        self.io.flush().await
    }

    /// The next record.
    pub async fn record(&mut self) -> std::io::Result<Bytes> {
        let mark = self.io.read_u32().await?;
        assert!(mark & 0x8000_0000 != 0, "a record in one piece");
        let mut record = vec![0; (mark & 0x7fff_ffff) as usize];
        self.io.read_exact(&mut record).await?;
        Ok(record.into())
    }

    pub async fn back(&mut self) -> std::io::Result<Back> {
        let mut reader = Reader::new(self.record().await?);
        match xdr::decode::<Message>(&mut reader).unwrap() {
            Message::Reply(header) => Ok(Back { xid: header.xid, status: header.status, results: reader.into_rest() }),
            Message::Call(call) => panic!("a call of the server: {call:?}"),
        }
    }

    /// A call and the reply to it.
    pub async fn call(&mut self, prog: u32, vers: u32, proc: u32, args: &[u8]) -> std::io::Result<Back> {
        let xid = self.send(prog, vers, proc, args).await?;
        let back = self.back().await?;
        assert_eq!(back.xid, xid);
        Ok(back)
    }

    pub async fn null(&mut self) -> std::io::Result<Back> {
        self.call(100_003, 4, 0, &[]).await
    }

    pub async fn bind(&mut self) -> std::io::Result<BindClientResponse> {
        let args = xdr::to_bytes(&ProxyIdentifier::new([7; 16], 1)).unwrap();
        let back = self.call(AWSFILE_PROGRAM, AWSFILE_V1, PROC_BIND_CLIENT_TO_PARTITION, &args).await?;
        assert_eq!(back.status, ReplyStatus::Success);
        Ok(xdr::from_bytes(back.results).unwrap())
    }

    /// Whether the connection is at its end.
    pub async fn is_closed(&mut self) -> bool {
        matches!(self.io.read(&mut [0; 1]).await, Ok(0) | Err(_))
    }
}

/// Runs a test within [`LIMIT`].
pub async fn within<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, test).await.expect("the test takes too long")
}
