//! The key and the self-signed certificate that are the IAM handshake (PROTOCOL.md §2).
//!
//! One RSA-3072 key serves for the life of the process (making it takes a noticeable part of a second, so it is made
//! on a blocking thread beside the other steps); a certificate is made from it in a millisecond, whenever
//! [`renewal`](crate::renewal) says so.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize,
    SerialNumber,
};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use tokio::sync::OnceCell;

use crate::error::ConnectError;
use crate::extensions::{self, Extension, SignedIdentity};
use crate::ids::{AccessPointId, FileSystemId, Region};
use crate::renewal::Lifetime;
use crate::signature::{ConnectRequest, PublicKeyHash};

/// The longest source and common name that go into a certificate.
const MAX_SOURCE: usize = 100;
/// X.520's upper bound for a common name.
const MAX_COMMON_NAME: usize = 64;

fn failed(error: impl fmt::Display) -> ConnectError {
    ConnectError::Certificate { detail: error.to_string() }
}

/// The client's RSA-3072 key.
pub struct ClientKey {
    pair: KeyPair,
    signer: Arc<dyn SigningKey>,
    hash: PublicKeyHash,
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientKey").field("hash", &self.hash.to_hex()).finish_non_exhaustive()
    }
}

impl ClientKey {
    /// Makes a new key. Takes about a second at worst and blocks: call it on a blocking thread.
    pub fn generate() -> Result<Self, ConnectError> {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072).map_err(failed)?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private).map_err(failed)?;
        let hash = PublicKeyHash::of_public_key_bits(pair.der_bytes());
        Ok(Self { pair, signer, hash })
    }

    /// The key of this process, made on first use on a blocking thread. Await it beside other steps.
    pub async fn of_this_process() -> Result<Arc<Self>, ConnectError> {
        static KEY: OnceCell<Arc<ClientKey>> = OnceCell::const_new();
        let key = KEY
            .get_or_try_init(|| async {
                Ok(Arc::new(tokio::task::spawn_blocking(Self::generate).await.map_err(failed)??))
            })
            .await?;
        Ok(Arc::clone(key))
    }

    /// SHA-1 of the public key's bits.
    pub fn public_key_hash(&self) -> PublicKeyHash {
        self.hash
    }
}

/// How the client introduces itself in the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientInfo {
    common_name: String,
    source: String,
    version: String,
}

impl ClientInfo {
    /// `source` names the kind of client (at most 100 characters are kept), `version` is like `3.2.0`.
    pub fn new(common_name: &str, source: &str, version: &str) -> Self {
        let first = |text: &str, max: usize| text.chars().take(max).collect();
        Self {
            common_name: first(common_name, MAX_COMMON_NAME),
            source: first(source, MAX_SOURCE),
            version: first(version, MAX_SOURCE),
        }
    }

    /// The client's version.
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl Default for ClientInfo {
    fn default() -> Self {
        let source = if cfg!(target_os = "macos") { "macos" } else { "linux" };
        // The common name is a fixed word: in TLS 1.2 it travels in the clear, and a host's name is nobody's business.
        Self::new("s3files-fuse", source, env!("CARGO_PKG_VERSION"))
    }
}

/// What a certificate is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The client's introduction.
    pub client: ClientInfo,
    /// Region of the file system.
    pub region: Region,
    /// The file system.
    pub file_system_id: FileSystemId,
    /// The access point, if the mount goes through one.
    pub access_point: Option<AccessPointId>,
}

/// A certificate with its key, ready to be presented.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// The times that decide about its renewal.
    pub lifetime: Lifetime,
    certified: Arc<CertifiedKey>,
}

impl ClientCertificate {
    /// Signs with `credentials` as of `now` and makes the certificate.
    pub fn issue(
        key: &ClientKey,
        request: &CertificateRequest,
        credentials: &Credentials,
        now: SystemTime,
    ) -> Result<Self, ConnectError> {
        let lifetime = Lifetime { made: now, credentials_end: credentials.expiry() };
        let mut params = CertificateParams::default();
        params.not_before = lifetime.not_before().into();
        params.not_after = lifetime.not_after().into();
        params.serial_number = Some(SerialNumber::from_slice(&[0]));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, request.client.common_name.as_str());
        params.custom_extensions = extensions_of(key.hash, request, credentials, now.into())
            .into_iter()
            .map(|extension| CustomExtension::from_oid_content(extension.oid, extension.der))
            .collect();
        let certificate = params.self_signed(&key.pair).map_err(failed)?;
        let certified = CertifiedKey::new(vec![certificate.der().clone()], Arc::clone(&key.signer));
        Ok(Self { lifetime, certified: Arc::new(certified) })
    }

    /// The certificate in DER.
    pub fn der(&self) -> Option<&CertificateDer<'static>> {
        self.certified.cert.first()
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

/// The extensions in the service's order.
fn extensions_of(
    hash: PublicKeyHash,
    request: &CertificateRequest,
    credentials: &Credentials,
    time: OffsetDateTime,
) -> Vec<Extension> {
    let access_key_id = credentials.access_key_id();
    let session_token = credentials.session_token();
    let signature = ConnectRequest {
        access_key_id,
        session_token,
        region: &request.region,
        file_system_id: &request.file_system_id,
        public_key_hash: hash,
        time,
    }
    .sign(credentials.secret_access_key());
    let identity = SignedIdentity { access_key_id, signature: &signature, time, session_token };
    let mut all = vec![extensions::subject_key_identifier(hash)];
    all.extend(request.access_point.as_ref().map(extensions::access_point));
    all.push(extensions::signature(identity));
    all.push(extensions::file_system(&request.file_system_id));
    all.push(extensions::client_info(&request.client.source, &request.client.version));
    all
}

#[cfg(test)]
#[path = "golden_tests.rs"]
mod golden_tests;
