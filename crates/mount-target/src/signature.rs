//! The SigV4 signature inside the client certificate (PROTOCOL.md §2).
//!
//! It is a presigned-query signature over a canonical request of the service's own making: there is **no blank line**
//! between the `host:` line and the signed headers. Standard SigV4 has one, so a stock signer gives another
//! signature. Only the text is made here; keys and HMAC are `aws-sigv4`'s.

use std::fmt::Write as _;
use std::time::SystemTime;

use aws_lc_rs::digest;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::ids::{FileSystemId, Region};

/// The service in the credential scope.
pub const SERVICE: &str = "s3files";
/// What the request asks for.
const ACTION: &str = "Connect";
/// How long the signature says it holds, in seconds. The certificate's own validity is much shorter.
const EXPIRES: u32 = 86_400;

/// SHA-1 of the public key's bits: key identifier of the certificate and part of what is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKeyHash(pub [u8; 20]);

impl PublicKeyHash {
    /// The hash of the BIT STRING's content in SubjectPublicKeyInfo (bits only, no header).
    pub fn of_public_key_bits(bits: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bits);
        let mut hash = [0; 20];
        hash.copy_from_slice(digest.as_ref());
        Self(hash)
    }

    /// Lower-case hex.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

/// Everything that is signed. Holds no secret key.
#[derive(Clone)]
pub struct ConnectRequest<'a> {
    /// Access key id.
    pub access_key_id: &'a str,
    /// Session token of temporary credentials.
    pub session_token: Option<&'a str>,
    /// Region of the file system.
    pub region: &'a Region,
    /// The file system.
    pub file_system_id: &'a FileSystemId,
    /// The key that the certificate is for.
    pub public_key_hash: PublicKeyHash,
    /// When it is signed (UTC).
    pub time: OffsetDateTime,
}

impl std::fmt::Debug for ConnectRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectRequest")
            .field("access_key_id", &self.access_key_id)
            .field("session_token", &self.session_token.map(|_| "…"))
            .field("region", &self.region)
            .field("file_system_id", &self.file_system_id)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

impl ConnectRequest<'_> {
    fn date(&self) -> String {
        formatted(self.time, format_description!("[year][month][day]"))
    }

    fn date_time(&self) -> String {
        formatted(self.time, format_description!("[year][month][day]T[hour][minute][second]Z"))
    }

    /// `date/region/service/aws4_request`.
    pub fn credential_scope(&self) -> String {
        format!("{}/{}/{SERVICE}/aws4_request", self.date(), self.region)
    }

    /// The text whose hash is signed.
    pub fn canonical_request(&self) -> String {
        let credential = format!("{}/{}", self.access_key_id, self.credential_scope());
        let mut query = vec![
            ("Action", ACTION.to_owned()),
            ("PublicKeyHash", self.public_key_hash.to_hex()),
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_owned()),
            ("X-Amz-Credential", percent_encoded(&credential)),
            ("X-Amz-Date", self.date_time()),
            ("X-Amz-Expires", EXPIRES.to_string()),
        ];
        if let Some(token) = self.session_token {
            query.push(("X-Amz-Security-Token", percent_encoded(token)));
        }
        query.push(("X-Amz-SignedHeaders", "host".to_owned()));
        let query: Vec<String> = query.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let empty_body = hex::encode(digest::digest(&digest::SHA256, b""));
        format!("GET\n/\n{}\nhost:{}\nhost\n{empty_body}", query.join("&"), self.file_system_id)
    }

    /// The text that is signed.
    pub fn string_to_sign(&self) -> String {
        let hash = hex::encode(digest::digest(&digest::SHA256, self.canonical_request().as_bytes()));
        format!("AWS4-HMAC-SHA256\n{}\n{}\n{hash}", self.date_time(), self.credential_scope())
    }

    /// The signature, 64 lower-case hex characters.
    pub fn sign(&self, secret_access_key: &str) -> String {
        let key = generate_signing_key(secret_access_key, SystemTime::from(self.time), self.region.as_str(), SERVICE);
        calculate_signature(key, self.string_to_sign().as_bytes())
    }
}

fn formatted(time: OffsetDateTime, format: &(impl time::formatting::Formattable + ?Sized)) -> String {
    // Formatting a valid time with a fixed all-numeric description cannot fail.
    time.to_offset(time::UtcOffset::UTC).format(format).unwrap_or_default()
}

/// Everything but RFC 3986's unreserved characters as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 3 / 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
