//! The public client's own output is the truth: `fixtures/golden` holds its canonical requests, signatures and
//! certificates for fixed inputs, and what this crate makes has to equal them byte for byte.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use time::format_description::well_known::Rfc3339;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;

#[derive(Deserialize)]
struct Info {
    source: String,
    efs_utils_version: String,
}

#[derive(Deserialize)]
struct Case {
    client_info: Info,
    region: String,
    fs_id: String,
    access_point: Option<String>,
    access_key: String,
    secret_key: String,
    token: Option<String>,
    now: String,
    public_key_sha1: Option<String>,
    canonical_request: Option<String>,
    string_to_sign: Option<String>,
    signature: Option<String>,
    credential_scope: Option<String>,
}

impl Case {
    fn time(&self) -> OffsetDateTime {
        OffsetDateTime::parse(&self.now, &Rfc3339).unwrap()
    }

    fn credentials(&self) -> Credentials {
        Credentials::new(&self.access_key, &self.secret_key, self.token.clone(), None, "golden")
    }

    fn request(&self) -> CertificateRequest {
        CertificateRequest {
            client: ClientInfo::new("golden-host", &self.client_info.source, &self.client_info.efs_utils_version),
            region: self.region.parse().unwrap(),
            file_system_id: self.fs_id.parse().unwrap(),
            access_point: self.access_point.as_ref().map(|id| id.parse().unwrap()),
        }
    }
}

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden")
}

/// Every case with its certificate in DER.
fn cases() -> BTreeMap<String, (Case, Vec<u8>)> {
    let text = std::fs::read_to_string(golden().join("golden.json")).unwrap();
    let cases: BTreeMap<String, Case> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 4);
    cases
        .into_iter()
        .map(|(name, case)| {
            let pem = golden().join(format!("{name}.cert.pem"));
            let der = CertificateDer::from_pem_file(pem).unwrap().to_vec();
            (name, (case, der))
        })
        .collect()
}

/// The cases that carry a signature; the fourth is a certificate without credentials, which S3 Files does not take.
fn signed_cases() -> impl Iterator<Item = (String, (Case, Vec<u8>))> {
    cases().into_iter().filter(|(_, (case, _))| case.signature.is_some())
}

fn hash_of(der: &[u8]) -> PublicKeyHash {
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    PublicKeyHash::of_public_key_bits(&certificate.public_key().subject_public_key.data)
}

fn extension_list(der: &[u8]) -> Vec<(String, bool, Vec<u8>)> {
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    certificate.extensions().iter().map(|e| (e.oid.to_id_string(), e.critical, e.value.to_vec())).collect()
}

static KEY: LazyLock<ClientKey> = LazyLock::new(|| ClientKey::generate().unwrap());

#[test]
fn the_public_key_hash_is_the_golden_one() {
    for (name, (case, der)) in signed_cases() {
        assert_eq!(hash_of(&der).to_hex(), case.public_key_sha1.unwrap(), "{name}");
    }
}

#[test]
fn canonical_request_string_to_sign_and_signature_are_the_golden_ones() {
    let mut tokens = 0;
    for (name, (case, der)) in signed_cases() {
        let request = case.request();
        let connect = ConnectRequest {
            access_key_id: &case.access_key,
            session_token: case.token.as_deref(),
            region: &request.region,
            file_system_id: &request.file_system_id,
            public_key_hash: hash_of(&der),
            time: case.time(),
        };
        assert_eq!(&connect.canonical_request(), case.canonical_request.as_ref().unwrap(), "{name}");
        assert_eq!(&connect.credential_scope(), case.credential_scope.as_ref().unwrap(), "{name}");
        assert_eq!(&connect.string_to_sign(), case.string_to_sign.as_ref().unwrap(), "{name}");
        assert_eq!(&connect.sign(&case.secret_key), case.signature.as_ref().unwrap(), "{name}");
        tokens += usize::from(case.token.is_some());
    }
    assert_eq!(tokens, 2, "both the signature with and without a session token are proved");
}

#[test]
fn every_extension_is_the_golden_one_byte_for_byte_and_in_order() {
    for (name, (case, der)) in signed_cases() {
        let made: Vec<_> = extensions_of(hash_of(&der), &case.request(), &case.credentials(), case.time())
            .into_iter()
            .map(|e| {
                let dotted: Vec<String> = e.oid.iter().map(u64::to_string).collect();
                (dotted.join("."), false, e.der)
            })
            .collect();
        assert_eq!(made, extension_list(&der), "{name}");
    }
}

#[test]
fn a_certificate_of_our_own_differs_from_the_golden_one_only_in_key_and_signature() {
    for (name, (case, golden)) in signed_cases() {
        let made = ClientCertificate::issue(&KEY, &case.request(), &case.credentials(), case.time().into()).unwrap();
        let der = made.der().unwrap();
        let (_, ours) = X509Certificate::from_der(der).unwrap();
        let (_, theirs) = X509Certificate::from_der(&golden).unwrap();
        assert_eq!(ours.version(), theirs.version());
        assert_eq!(ours.tbs_certificate.raw_serial(), theirs.tbs_certificate.raw_serial(), "{name}");
        assert_eq!(ours.subject().as_raw(), theirs.subject().as_raw(), "{name}");
        assert_eq!(ours.issuer().as_raw(), theirs.issuer().as_raw(), "{name}");
        assert_eq!(ours.validity(), theirs.validity(), "{name}");
        assert_eq!(ours.signature_algorithm, theirs.signature_algorithm, "{name}");
        assert_eq!(ours.public_key().algorithm, theirs.public_key().algorithm, "{name}");
        assert_eq!(ours.public_key().parsed().unwrap().key_size(), 3072);
        let mine: Vec<_> = extension_list(der).into_iter().map(|(oid, critical, _)| (oid, critical)).collect();
        let other: Vec<_> = extension_list(&golden).into_iter().map(|(oid, critical, _)| (oid, critical)).collect();
        assert_eq!(mine, other, "{name}");
        assert_eq!(hash_of(der), KEY.public_key_hash());
    }
}

#[test]
fn the_validity_is_15_minutes_back_and_3_hours_ahead() {
    let (_, (case, _)) = signed_cases().next().unwrap();
    let made = ClientCertificate::issue(&KEY, &case.request(), &case.credentials(), case.time().into()).unwrap();
    let (_, certificate) = X509Certificate::from_der(made.der().unwrap()).unwrap();
    let now = case.time().unix_timestamp();
    assert_eq!(certificate.validity().not_before.timestamp(), now - 15 * 60);
    assert_eq!(certificate.validity().not_after.timestamp(), now + 3 * 60 * 60);
}

#[test]
fn a_fraction_of_a_second_does_not_change_the_form_of_the_signing_time() {
    let (_, (case, golden)) = signed_cases().next().unwrap();
    let time = case.time() + time::Duration::milliseconds(123);
    let made = extensions_of(hash_of(&golden), &case.request(), &case.credentials(), time);
    assert_eq!(made[1].der, extension_list(&golden)[1].2);
}

#[test]
fn client_names_are_cut_to_what_a_certificate_takes() {
    let info = ClientInfo::new(&"ä".repeat(200), &"x".repeat(200), "1.0.0");
    assert_eq!((info.common_name.chars().count(), info.source.len()), (64, 100));
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let (_, (case, golden)) = signed_cases().find(|(_, (case, _))| case.token.is_some()).unwrap();
    let request = case.request();
    let connect = ConnectRequest {
        access_key_id: &case.access_key,
        session_token: case.token.as_deref(),
        region: &request.region,
        file_system_id: &request.file_system_id,
        public_key_hash: hash_of(&golden),
        time: case.time(),
    };
    let shown = format!("{connect:?} {:?} {:?}", *KEY, case.credentials());
    assert!(!shown.contains(&case.secret_key) && !shown.contains(case.token.as_deref().unwrap()), "{shown}");
}
