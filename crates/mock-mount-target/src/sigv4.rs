//! The signature in the client certificate, worked out again from the secret key: AWS SigV4 in query form over a
//! canonical request that lacks the empty line before the signed headers (PROTOCOL.md §2).

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// SHA-256 of nothing: the hash of the empty payload.
const EMPTY_HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What the signature covers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connect<'a> {
    /// Access key id.
    pub access_key_id: &'a str,
    /// Session token, where there is one.
    pub session_token: Option<&'a str>,
    /// Region of the file system.
    pub region: &'a str,
    /// The file system, which is the signed host.
    pub file_system_id: &'a str,
    /// Lower-case hex of SHA-1 over the public key's bits.
    pub public_key_hash: &'a str,
    /// `YYYYMMDDTHHMMSSZ`.
    pub date_time: &'a str,
}

impl Connect<'_> {
    fn scope(&self) -> String {
        format!("{}/{}/s3files/aws4_request", &self.date_time[..8], self.region)
    }

    /// The text that stands for the request.
    pub(crate) fn canonical_request(&self) -> String {
        let credential = format!("{}/{}", self.access_key_id, self.scope());
        let token = self
            .session_token
            .map(|token| format!("&X-Amz-Security-Token={}", percent_encoded(token)))
            .unwrap_or_default();
        format!(
            "GET\n/\nAction=Connect&PublicKeyHash={}&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}\
             &X-Amz-Date={}&X-Amz-Expires=86400{token}&X-Amz-SignedHeaders=host\nhost:{}\nhost\n{EMPTY_HASH}",
            self.public_key_hash,
            percent_encoded(&credential),
            self.date_time,
            self.file_system_id,
        )
    }

    /// The text that is signed.
    pub(crate) fn string_to_sign(&self) -> String {
        format!(
            "AWS4-HMAC-SHA256\n{}\n{}\n{}",
            self.date_time,
            self.scope(),
            hex::encode(Sha256::digest(self.canonical_request()))
        )
    }

    /// Whether `signature` (lower-case hex) is the one that `secret` makes; takes the same time for every wrong one.
    pub(crate) fn is_signed(&self, secret: &str, signature: &str) -> bool {
        let Ok(signature) = hex::decode(signature) else {
            return false;
        };
        let scope = self.scope();
        let mut key = format!("AWS4{secret}").into_bytes();
        for part in scope.split('/') {
            key = hmac(&key, part.as_bytes()).finalize().into_bytes().to_vec();
        }
        hmac(&key, self.string_to_sign().as_bytes()).verify_slice(&signature).is_ok()
    }
}

fn hmac(key: &[u8], data: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of every length; the fallback is never taken.
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .unwrap_or_else(|_| Hmac::new(&hmac::digest::Key::<Hmac<Sha256>>::default()));
    mac.update(data);
    mac
}

/// RFC 3986 §2.1 with the unreserved characters of §2.3 left alone.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&hex::encode_upper([byte]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Texts and signatures that the public client made.
    fn golden() -> serde_json::Value {
        serde_json::from_str(include_str!("../../../fixtures/golden/golden.json")).unwrap()
    }

    #[test]
    fn the_public_clients_texts_and_signatures_come_out() {
        let golden = golden();
        for case in ["case1_no_token_no_ap", "case2_token_no_ap", "case3_token_ap_source"] {
            let case = &golden[case];
            let text = |field: &str| case[field].as_str().unwrap();
            let connect = Connect {
                access_key_id: text("access_key"),
                session_token: case["token"].as_str(),
                region: text("region"),
                file_system_id: text("fs_id"),
                public_key_hash: text("public_key_sha1"),
                date_time: "20260407T123456Z",
            };
            assert_eq!(connect.canonical_request(), text("canonical_request"));
            assert_eq!(connect.string_to_sign(), text("string_to_sign"));
            assert!(connect.is_signed(text("secret_key"), text("signature")));
            assert!(!connect.is_signed("another secret", text("signature")));
            assert!(!connect.is_signed(text("secret_key"), "f8"));
            let elsewhere = Connect { region: "us-east-2", ..connect };
            assert!(!elsewhere.is_signed(text("secret_key"), text("signature")));
        }
    }
}
