//! The private extensions that carry the IAM handshake, in DER (PROTOCOL.md §2, OID arc `1.3.6.1.4.1.4843.7`).
//!
//! Order, tags and string types are the service's; the golden certificates in `fixtures/golden` hold them.

use time::OffsetDateTime;
use yasna::Tag;
use yasna::models::UTCTime;

use crate::ids::{AccessPointId, FileSystemId};
use crate::signature::PublicKeyHash;

/// An object identifier's components.
pub type Oid = &'static [u64];

/// subjectKeyIdentifier (RFC 5280 §4.2.1.2).
pub const SUBJECT_KEY_IDENTIFIER: Oid = &[2, 5, 29, 14];
/// The access point.
pub const ACCESS_POINT: Oid = &[1, 3, 6, 1, 4, 1, 4843, 7, 1];
/// The signature over the AWS credentials.
pub const SIGNATURE: Oid = &[1, 3, 6, 1, 4, 1, 4843, 7, 2];
/// The file system.
pub const FILE_SYSTEM: Oid = &[1, 3, 6, 1, 4, 1, 4843, 7, 3];
/// The client program.
pub const CLIENT_INFO: Oid = &[1, 3, 6, 1, 4, 1, 4843, 7, 4];

/// An extension: its OID and its value in DER. None is critical.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Which one.
    pub oid: Oid,
    /// What stands inside the extension's OCTET STRING.
    pub der: Vec<u8>,
}

/// The IAM signature and what a server needs to check it.
#[derive(Clone, Copy)]
pub struct SignedIdentity<'a> {
    /// Access key id.
    pub access_key_id: &'a str,
    /// 64 lower-case hex characters.
    pub signature: &'a str,
    /// When it was signed.
    pub time: OffsetDateTime,
    /// Session token of temporary credentials.
    pub session_token: Option<&'a str>,
}

impl std::fmt::Debug for SignedIdentity<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedIdentity")
            .field("access_key_id", &self.access_key_id)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

/// Key identifier.
pub fn subject_key_identifier(hash: PublicKeyHash) -> Extension {
    Extension { oid: SUBJECT_KEY_IDENTIFIER, der: yasna::construct_der(|writer| writer.write_bytes(&hash.0)) }
}

/// `UTF8String`.
pub fn access_point(id: &AccessPointId) -> Extension {
    Extension { oid: ACCESS_POINT, der: yasna::construct_der(|writer| writer.write_utf8_string(id.as_str())) }
}

/// `UTF8String`.
pub fn file_system(id: &FileSystemId) -> Extension {
    Extension { oid: FILE_SYSTEM, der: yasna::construct_der(|writer| writer.write_utf8_string(id.as_str())) }
}

/// `SEQUENCE { source UTF8String, clientVersion UTF8String }`.
pub fn client_info(source: &str, version: &str) -> Extension {
    let der = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_utf8_string(source);
            writer.next().write_utf8_string(version);
        });
    });
    Extension { oid: CLIENT_INFO, der }
}

/// `SEQUENCE { accessKeyId UTF8String, signature OCTET STRING, sigv4DateTime UTCTime, sessionToken [0] EXPLICIT
/// UTF8String OPTIONAL }`. The OCTET STRING holds the hex characters, not the bytes that they stand for.
pub fn signature(identity: SignedIdentity<'_>) -> Extension {
    let der = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_utf8_string(identity.access_key_id);
            writer.next().write_bytes(identity.signature.as_bytes());
            writer.next().write_utctime(&utc_time(identity.time));
            if let Some(token) = identity.session_token {
                writer.next().write_tagged(Tag::context(0), |writer| writer.write_utf8_string(token));
            }
        });
    });
    Extension { oid: SIGNATURE, der }
}

/// To the second: a fraction would lengthen the UTCTime, which the service's format does not have.
fn utc_time(time: OffsetDateTime) -> UTCTime {
    UTCTime::from_datetime(time.to_offset(time::UtcOffset::UTC).replace_nanosecond(0).unwrap_or(time))
}
