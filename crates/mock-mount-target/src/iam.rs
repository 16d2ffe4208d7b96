//! What AWS IAM and S3 Files would say to a client certificate (PROTOCOL.md §2): its form, its validity, the signature
//! over AWS credentials in its private extensions, the file system and the access point that it names.
//!
//! Everything here is as strict as the facts allow. The mock reads certificates with code of its own and shares
//! nothing with the client that writes them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use rustls_pki_types::CertificateDer;
use sha1::{Digest, Sha1};
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};
use x509_parser::public_key::PublicKey;

use crate::der::{Der, EXPLICIT_0, OCTET_STRING, SEQUENCE, UTC_TIME, only_text};
use crate::sigv4::Connect;

/// `1.3.6.1.4.1.4843.7`: the arc of the private extensions.
const ARC: &[u64] = &[1, 3, 6, 1, 4, 1, 4843, 7];
const SUBJECT_KEY_IDENTIFIER: &[u64] = &[2, 5, 29, 14];
const SHA256_WITH_RSA: &[u64] = &[1, 2, 840, 113_549, 1, 1, 11];
/// Validity of 15 min before to 3 h after the moment of making.
const LONGEST_VALIDITY: i64 = 3 * 3600 + 15 * 60;
/// X-Amz-Expires of the signature, in seconds.
const SIGNATURE_LIFE: i64 = 86_400;
/// How far a client's clock may be ahead, in seconds.
const SKEW: i64 = 15 * 60;
/// Bits of the client's RSA key.
const LEAST_KEY_BITS: usize = 3072;

/// A pair of access keys, and what its principal may do.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: String,
    /// Session token of temporary credentials.
    pub session_token: Option<String>,
    /// Whether its principal may mount (`s3files:ClientMount`).
    pub mount: bool,
    /// Whether its principal may write (`s3files:ClientWrite`).
    pub write: bool,
    /// Whether its uid 0 is root (`s3files:ClientRootAccess`).
    pub root_access: bool,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .field("mount", &self.mount)
            .field("write", &self.write)
            .field("root_access", &self.root_access)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Keys of a principal that may do everything.
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<String>) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            secret_access_key: secret_access_key.into(),
            session_token: None,
            mount: true,
            write: true,
            root_access: true,
        }
    }

    /// With a session token.
    #[must_use]
    pub fn with_session_token(mut self, token: impl Into<String>) -> Self {
        self.session_token = Some(token.into());
        self
    }

    /// Without `s3files:ClientWrite`.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.write = false;
        self
    }

    /// Without `s3files:ClientRootAccess`.
    #[must_use]
    pub fn without_root_access(mut self) -> Self {
        self.root_access = false;
        self
    }

    /// Without `s3files:ClientMount`.
    #[must_use]
    pub fn without_mount(mut self) -> Self {
        self.mount = false;
        self
    }
}

/// A door to a part of the file system, under a forced identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessPoint {
    /// `fsap-…`.
    pub id: String,
    /// Its root directory, as a path; `/` for the whole file system.
    pub root_directory: String,
    /// User and group that every caller gets, with further groups.
    pub identity: Option<(u32, u32, Vec<u32>)>,
}

/// What a certificate earned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose credentials signed it.
    pub access_key_id: String,
    /// Whether it may write.
    pub write: bool,
    /// Whether uid 0 is root.
    pub root_access: bool,
    /// The access point it names.
    pub access_point: Option<AccessPoint>,
    /// How the client calls itself, and its version.
    pub client: (String, String),
}

/// Why a certificate is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not a certificate of the prescribed form.
    #[error("the client certificate is malformed: {0}")]
    Malformed(&'static str),
    /// It is over.
    #[error("the client certificate has expired")]
    Expired,
    /// It has not begun.
    #[error("the client certificate is not valid yet")]
    NotYetValid,
    /// Nothing in it says who it is.
    #[error("the client certificate carries no IAM signature")]
    NoCredentials,
    /// The table does not have this access key id.
    #[error("the access key id {0} is unknown")]
    UnknownKey(String),
    /// The signature is not that of the secret key.
    #[error("the signature does not match; the secret key, the region or the file system differ")]
    BadSignature,
    /// The signature is too old or lies ahead.
    #[error("the signature was made {0} s from now")]
    SignatureTime(i64),
    /// The session token is missing, superfluous or another.
    #[error("the session token is not the one that belongs to the access key")]
    BadToken,
    /// Another file system.
    #[error("the certificate is for the file system {0}")]
    OtherFileSystem(String),
    /// An access point that does not exist.
    #[error("the access point {0} does not exist")]
    UnknownAccessPoint(String),
    /// The principal lacks an action.
    #[error("the principal is not allowed to perform s3files:ClientMount")]
    NotAllowed,
}

/// The judge: which file system, which keys, which access points.
#[derive(Debug)]
pub struct Iam {
    file_system_id: String,
    region: String,
    keys: RwLock<BTreeMap<String, Credentials>>,
    access_points: RwLock<BTreeMap<String, AccessPoint>>,
}

impl Iam {
    /// A judge for one file system.
    pub fn new(file_system_id: impl Into<String>, region: impl Into<String>) -> Self {
        Self {
            file_system_id: file_system_id.into(),
            region: region.into(),
            keys: RwLock::default(),
            access_points: RwLock::default(),
        }
    }

    /// Adds credentials, or replaces those with the same access key id.
    pub fn allow(&self, credentials: Credentials) {
        self.keys
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(credentials.access_key_id.clone(), credentials);
    }

    /// Takes credentials away.
    pub fn revoke(&self, access_key_id: &str) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).remove(access_key_id);
    }

    /// The credentials of an access key id.
    #[cfg_attr(not(feature = "s3"), allow(dead_code))]
    pub(crate) fn credentials(&self, access_key_id: &str) -> Option<Credentials> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(access_key_id).cloned()
    }

    /// Adds an access point.
    pub fn add_access_point(&self, access_point: AccessPoint) {
        self.access_points
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(access_point.id.clone(), access_point);
    }

    /// Judges the certificates that a client presented at `now` (since 1970).
    pub fn judge(&self, presented: &[CertificateDer<'_>], now: Duration) -> Result<Grant, Refusal> {
        let [der] = presented else {
            return Err(Refusal::Malformed("exactly one certificate is expected"));
        };
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| Refusal::Malformed("it is not X.509 in DER"))?;
        if !rest.is_empty() {
            return Err(Refusal::Malformed("something stands behind it"));
        }
        check_form(&certificate)?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        check_validity(&certificate, now)?;
        let claims = Claims::of(&certificate)?;
        self.check_claims(&claims, now)
    }

    fn check_claims(&self, claims: &Claims<'_>, now: i64) -> Result<Grant, Refusal> {
        if claims.file_system_id != self.file_system_id {
            return Err(Refusal::OtherFileSystem(claims.file_system_id.to_owned()));
        }
        let auth = claims.auth.as_ref().ok_or(Refusal::NoCredentials)?;
        let credentials = self
            .keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(auth.access_key_id)
            .cloned()
            .ok_or_else(|| Refusal::UnknownKey(auth.access_key_id.to_owned()))?;
        if auth.session_token != credentials.session_token.as_deref() {
            return Err(Refusal::BadToken);
        }
        let away = now - auth.made_at;
        if !(-SKEW..=SIGNATURE_LIFE).contains(&away) {
            return Err(Refusal::SignatureTime(away));
        }
        let date_time =
            long_date_time(auth.date_time).ok_or(Refusal::Malformed("sigv4DateTime is not YYMMDDHHMMSSZ"))?;
        let connect = Connect {
            access_key_id: auth.access_key_id,
            session_token: auth.session_token,
            region: &self.region,
            file_system_id: &self.file_system_id,
            public_key_hash: &claims.public_key_hash,
            date_time: &date_time,
        };
        if !connect.is_signed(&credentials.secret_access_key, auth.signature) {
            return Err(Refusal::BadSignature);
        }
        let access_point = claims
            .access_point
            .map(|id| {
                self.access_points
                    .read()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get(id)
                    .cloned()
                    .ok_or_else(|| Refusal::UnknownAccessPoint(id.to_owned()))
            })
            .transpose()?;
        if !credentials.mount {
            return Err(Refusal::NotAllowed);
        }
        Ok(Grant {
            access_key_id: credentials.access_key_id,
            write: credentials.write,
            root_access: credentials.root_access,
            access_point,
            client: (claims.client.0.to_owned(), claims.client.1.to_owned()),
        })
    }
}

fn is_oid(oid: &x509_parser::der_parser::oid::Oid<'_>, arcs: &[u64]) -> bool {
    oid.iter().is_some_and(|iter| iter.eq(arcs.iter().copied()))
}

/// Self-signed, version 3, RSA 3072 with SHA-256, one common name.
fn check_form(certificate: &X509Certificate<'_>) -> Result<(), Refusal> {
    let malformed = |what| Err(Refusal::Malformed(what));
    if certificate.version() != X509Version::V3 {
        return malformed("it is not of version 3");
    }
    if certificate.subject().as_raw() != certificate.issuer().as_raw() {
        return malformed("subject and issuer differ");
    }
    if certificate.subject().iter_attributes().count() != 1 || certificate.subject().iter_common_name().count() != 1 {
        return malformed("the subject is not one common name");
    }
    let algorithms = [&certificate.signature_algorithm, &certificate.tbs_certificate.signature];
    if !algorithms.iter().all(|id| is_oid(&id.algorithm, SHA256_WITH_RSA)) {
        return malformed("it is not signed with sha256WithRSAEncryption");
    }
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() >= LEAST_KEY_BITS => {}
        Ok(PublicKey::RSA(_)) => return malformed("the RSA key is shorter than 3072 bits"),
        _ => return malformed("the key is not RSA"),
    }
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &certificate.public_key().subject_public_key.data)
        .verify(certificate.tbs_certificate.as_ref(), &certificate.signature_value.data)
        .or(malformed("it is not signed by its own key"))
}

fn check_validity(certificate: &X509Certificate<'_>, now: i64) -> Result<(), Refusal> {
    let (from, until) = (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
    if until - from > LONGEST_VALIDITY {
        return Err(Refusal::Malformed("it is valid for more than 3 h 15 min"));
    }
    if now < from {
        return Err(Refusal::NotYetValid);
    }
    if now > until {
        return Err(Refusal::Expired);
    }
    Ok(())
}

/// What the extensions say.
#[derive(Debug)]
struct Claims<'a> {
    access_point: Option<&'a str>,
    auth: Option<ClientAuth<'a>>,
    file_system_id: &'a str,
    client: (&'a str, &'a str),
    public_key_hash: String,
}

#[derive(Debug)]
struct ClientAuth<'a> {
    access_key_id: &'a str,
    signature: &'a str,
    date_time: &'a str,
    made_at: i64,
    session_token: Option<&'a str>,
}

impl<'a> Claims<'a> {
    fn of(certificate: &'a X509Certificate<'a>) -> Result<Self, Refusal> {
        let malformed = Refusal::Malformed;
        let public_key_hash = Sha1::digest(&certificate.public_key().subject_public_key.data);
        let mut values: [Option<&'a [u8]>; 4] = [None; 4];
        let mut key_identifier = None;
        for extension in certificate.extensions() {
            let oid: Vec<u64> = extension.oid.iter().into_iter().flatten().collect();
            let slot = if oid == SUBJECT_KEY_IDENTIFIER {
                &mut key_identifier
            } else if let Some(&[number]) = oid.strip_prefix(ARC) {
                usize::try_from(number)
                    .ok()
                    .and_then(|n| values.get_mut(n.checked_sub(1)?))
                    .ok_or(malformed("it has an unknown private extension"))?
            } else {
                continue;
            };
            if slot.replace(extension.value).is_some() {
                return Err(malformed("an extension stands there twice"));
            }
        }
        let identifier = key_identifier
            .and_then(|value| {
                let mut der = Der::new(value);
                let identifier = der.take(OCTET_STRING)?;
                der.end(identifier)
            })
            .ok_or(malformed("subjectKeyIdentifier is missing"))?;
        if identifier != public_key_hash.as_slice() {
            return Err(malformed("subjectKeyIdentifier is not the SHA-1 of the public key"));
        }
        let [access_point, auth, file_system_id, client] = values;
        Ok(Self {
            access_point: access_point
                .map(|value| {
                    only_text(value)
                        .filter(|id| is_id(id, "fsap-", 17..=17))
                        .ok_or(malformed("the access point id (.7.1) is malformed"))
                })
                .transpose()?,
            auth: auth
                .map(|value| client_auth(value).ok_or(malformed("the client auth (.7.2) is malformed")))
                .transpose()?,
            file_system_id: file_system_id
                .and_then(only_text)
                .filter(|id| is_id(id, "fs-", 17..=40))
                .ok_or(malformed("the file system id (.7.3) is missing or malformed"))?,
            client: client.and_then(client_info).ok_or(malformed("the client info (.7.4) is missing or malformed"))?,
            public_key_hash: hex::encode(public_key_hash),
        })
    }
}

/// A prefix and as many lower-case hex digits as are allowed.
fn is_id(text: &str, prefix: &str, digits: std::ops::RangeInclusive<usize>) -> bool {
    text.strip_prefix(prefix).is_some_and(|rest| {
        digits.contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// `SEQUENCE { UTF8String, OCTET STRING, UTCTime, [0] EXPLICIT UTF8String OPTIONAL }`.
fn client_auth(value: &[u8]) -> Option<ClientAuth<'_>> {
    let mut outer = Der::new(value);
    let mut der = Der::new(outer.take(SEQUENCE)?);
    outer.is_empty().then_some(())?;
    let access_key_id = der.text()?;
    let signature = std::str::from_utf8(der.take(OCTET_STRING)?).ok()?;
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (signature.len() == 64 && signature.bytes().all(is_hex)).then_some(())?;
    let date_time = std::str::from_utf8(der.take(UTC_TIME)?).ok()?;
    let session_token = if der.is_empty() { None } else { Some(only_text(der.take(EXPLICIT_0)?)?) };
    der.end(ClientAuth { access_key_id, signature, date_time, made_at: seconds_of(date_time)?, session_token })
}

/// `SEQUENCE { source UTF8String (1 to 100 characters), version UTF8String }`.
fn client_info(value: &[u8]) -> Option<(&str, &str)> {
    let mut outer = Der::new(value);
    let mut der = Der::new(outer.take(SEQUENCE)?);
    outer.is_empty().then_some(())?;
    let (source, version) = (der.text()?, der.text()?);
    let fits = (1..=100).contains(&source.chars().count()) && !version.is_empty();
    der.end((source, version)).filter(|_| fits)
}

/// `YYMMDDHHMMSSZ` as `YYYYMMDDTHHMMSSZ`; this century only.
fn long_date_time(utc_time: &str) -> Option<String> {
    seconds_of(utc_time)?;
    Some(format!("20{}T{}", &utc_time[..6], &utc_time[6..]))
}

/// Seconds since 1970 of `YYMMDDHHMMSSZ`.
fn seconds_of(utc_time: &str) -> Option<i64> {
    let digits = utc_time.strip_suffix('Z')?;
    (digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_digit())).then_some(())?;
    let part = |at: usize| digits[at..at + 2].parse::<u8>().ok();
    let date =
        time::Date::from_calendar_date(2000 + i32::from(part(0)?), time::Month::try_from(part(2)?).ok()?, part(4)?)
            .ok()?;
    let time = time::Time::from_hms(part(6)?, part(8)?, part(10)?).ok()?;
    Some(date.with_time(time).assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rustls_pki_types::pem::PemObject;

    const FS: &str = "fs-0123456789abcdef0";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    /// 2026-04-07T12:34:56Z, when the golden certificates were made.
    const MADE: u64 = 1_775_565_296;

    fn golden_token() -> String {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../../fixtures/golden/golden.json")).unwrap();
        golden["case2_token_no_ap"]["token"].as_str().unwrap().to_owned()
    }

    fn certificates() -> [CertificateDer<'static>; 4] {
        [
            &include_bytes!("../../../fixtures/golden/case1_no_token_no_ap.cert.pem")[..],
            include_bytes!("../../../fixtures/golden/case2_token_no_ap.cert.pem"),
            include_bytes!("../../../fixtures/golden/case3_token_ap_source.cert.pem"),
            include_bytes!("../../../fixtures/golden/case4_no_credentials.cert.pem"),
        ]
        .map(|pem| CertificateDer::from_pem_slice(pem).unwrap())
    }

    fn iam(credentials: Credentials) -> Iam {
        let iam = Iam::new(FS, "us-east-1");
        iam.allow(credentials);
        iam
    }

    fn plain() -> Credentials {
        Credentials::new("AKIDEXAMPLE", SECRET)
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_public_clients_certificates_are_accepted_when_they_are_valid() {
        let [one, two, three, _] = certificates();
        let grant = iam(plain()).judge(&[one], at(MADE)).unwrap();
        assert_eq!(grant.access_key_id, "AKIDEXAMPLE");
        assert_eq!(grant.client, ("unknown".to_owned(), "3.2.0".to_owned()));
        let with_token = iam(plain().with_session_token(golden_token()).read_only());
        assert!(!with_token.judge(&[two], at(MADE)).unwrap().write);
        assert_eq!(
            with_token.judge(std::slice::from_ref(&three), at(MADE)),
            Err(Refusal::UnknownAccessPoint("fsap-0123456789abcdef0".into()))
        );
        let access_point = AccessPoint {
            id: "fsap-0123456789abcdef0".into(),
            root_directory: "/team".into(),
            identity: Some((1000, 1000, vec![])),
        };
        with_token.add_access_point(access_point.clone());
        let grant = with_token.judge(&[three], at(MADE)).unwrap();
        assert_eq!(grant.access_point, Some(access_point));
        assert_eq!(grant.client.0, "example-client");
    }

    #[test]
    fn a_certificate_counts_for_its_three_hours_only() {
        let [one, ..] = certificates();
        let iam = iam(plain());
        let judge = |seconds| iam.judge(std::slice::from_ref(&one), at(seconds));
        assert_eq!(judge(MADE - 901), Err(Refusal::NotYetValid));
        assert!(judge(MADE - 899).is_ok());
        assert!(judge(MADE + 3 * 3600).is_ok());
        assert_eq!(judge(MADE + 3 * 3600 + 1), Err(Refusal::Expired));
    }

    #[test]
    fn what_does_not_fit_the_key_table_is_refused() {
        let [one, two, _, four] = certificates();
        let judge = |iam: &Iam, certificate: &CertificateDer<'_>| {
            iam.judge(std::slice::from_ref(certificate), at(MADE)).unwrap_err()
        };
        let wrong = iam(Credentials::new("AKIDEXAMPLE", "wrong"));
        assert_eq!(judge(&wrong, &one), Refusal::BadSignature);
        let none = Iam::new(FS, "us-east-1");
        assert!(matches!(judge(&none, &one), Refusal::UnknownKey(_)));
        assert_eq!(judge(&iam(plain()), &two), Refusal::BadToken);
        let token = iam(plain().with_session_token(golden_token()));
        assert_eq!(judge(&token, &one), Refusal::BadToken);
        assert_eq!(judge(&iam(plain()), &four), Refusal::NoCredentials);
        assert_eq!(judge(&iam(plain().without_mount()), &one), Refusal::NotAllowed);
        let other = Iam::new("fs-0123456789abcdef1", "us-east-1");
        assert!(matches!(judge(&other, &one), Refusal::OtherFileSystem(_)));
        let elsewhere = Iam::new(FS, "eu-west-1");
        elsewhere.allow(plain());
        assert_eq!(judge(&elsewhere, &one), Refusal::BadSignature);
    }

    #[test]
    fn a_changed_certificate_is_not_signed_by_its_own_key() {
        let [one, ..] = certificates();
        let iam = iam(plain());
        let mut accepted = 0;
        for index in (0..one.len()).step_by(7) {
            let mut bytes = one.to_vec();
            bytes[index] ^= 1;
            accepted += usize::from(iam.judge(&[bytes.into()], at(MADE)).is_ok());
        }
        assert_eq!(accepted, 0);
        assert!(matches!(iam.judge(&[], at(MADE)), Err(Refusal::Malformed(_))));
        assert!(matches!(iam.judge(&[one.clone(), one], at(MADE)), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", plain().with_session_token("a-token"));
        assert!(!shown.contains(SECRET) && !shown.contains("a-token"), "{shown}");
    }
}
