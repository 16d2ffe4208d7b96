//! A certificate authority that lives as long as the mock, and the server's certificate from it: a good one, an expired
//! one, or one for another name.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

use crate::error::MockError;

/// Which certificate the server shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerCertificate {
    /// For the file system's name, valid today.
    #[default]
    Good,
    /// For the file system's name, over since yesterday.
    Expired,
    /// Valid today, for a name of another file system.
    WrongName,
}

/// The authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
    key_pem: String,
}

/// What a TLS server needs.
pub(crate) struct ServerIdentity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "mock-mount-target test CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::days(30);
    params.not_after = now + Duration::days(365);
    params
}

impl Authority {
    /// A new authority with a new key.
    pub(crate) fn new() -> Result<Arc<Self>, MockError> {
        let key = KeyPair::generate()?;
        let params = authority_params();
        let certificate = params.self_signed(&key)?;
        let (pem, der, key_pem) = (certificate.pem(), certificate.der().clone(), key.serialize_pem());
        Ok(Arc::new(Self { issuer: Issuer::new(params, key), pem, der, key_pem }))
    }

    /// An authority that was made before.
    pub(crate) fn from_pem(pem: String, key_pem: String) -> Result<Arc<Self>, MockError> {
        use rustls_pki_types::pem::PemObject;
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| MockError::State(format!("the kept CA: {error}")))?;
        // What it issues names the same subject and the same key, which is all that an issuer is.
        let issuer = Issuer::new(authority_params(), KeyPair::from_pem(&key_pem)?);
        Ok(Arc::new(Self { issuer, pem, der, key_pem }))
    }

    /// The authority's own certificate, for `--ca-file`.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// The same in DER.
    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Its private key, for a state directory.
    pub(crate) fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// A certificate for `name`, or one that is wrong on purpose.
    pub(crate) fn issue(&self, name: &str, kind: ServerCertificate) -> Result<ServerIdentity, MockError> {
        let name = match kind {
            ServerCertificate::WrongName => {
                let rest = name.split_once('.').map_or("", |(_, rest)| rest);
                format!("fs-0fedcba9876543210.{rest}")
            }
            _ => name.to_owned(),
        };
        let mut params = CertificateParams::new(vec![name.clone()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let now = OffsetDateTime::now_utc();
        params.not_before = now - Duration::days(10);
        params.not_after = match kind {
            ServerCertificate::Expired => now - Duration::days(1),
            _ => now + Duration::days(30),
        };
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(ServerIdentity {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

    const NAME: &str = "fs-0123456789abcdef0.s3files.us-east-1.on.aws";

    fn issued(kind: ServerCertificate) -> (String, bool) {
        let identity = Authority::new().unwrap().issue(NAME, kind).unwrap();
        let (_, certificate) = X509Certificate::from_der(&identity.chain[0]).unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        let GeneralName::DNSName(name) = names.value.general_names[0] else { panic!("not a DNS name") };
        (name.to_owned(), certificate.validity().is_valid())
    }

    #[test]
    fn each_kind_is_wrong_in_one_way_only() {
        assert_eq!(issued(ServerCertificate::Good), (NAME.to_owned(), true));
        assert_eq!(issued(ServerCertificate::Expired), (NAME.to_owned(), false));
        let (name, valid) = issued(ServerCertificate::WrongName);
        assert!(name != NAME && valid && name.ends_with(".s3files.us-east-1.on.aws"));
    }

    #[test]
    fn an_authority_comes_back_from_its_pem() {
        let first = Authority::new().unwrap();
        let again = Authority::from_pem(first.pem().to_owned(), first.key_pem().to_owned()).unwrap();
        assert_eq!(first.der(), again.der());
        assert!(again.issue(NAME, ServerCertificate::Good).is_ok());
    }
}
