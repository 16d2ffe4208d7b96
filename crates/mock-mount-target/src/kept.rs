//! What outlives a connection, and with a state directory also the process: the CA and the credentials.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::Rng;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::ca::Authority;
use crate::error::MockError;
use crate::iam::Credentials;

/// The CA and the credentials.
pub(crate) struct Kept {
    pub authority: Arc<Authority>,
    pub credentials: Credentials,
    /// A file with the CA's certificate.
    pub ca_file: PathBuf,
    /// Where the file lives when there is no state directory; removed in the end.
    _scratch: Option<TempDir>,
}

/// Credentials as they are kept in a file.
#[derive(Serialize, Deserialize)]
struct KeptCredentials {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
}

impl Kept {
    /// Reads what `dir` has and makes what it lacks. `credentials` count more than kept ones.
    pub(crate) fn open(dir: Option<&Path>, credentials: Option<Credentials>) -> Result<Self, MockError> {
        let Some(dir) = dir else {
            let scratch = TempDir::with_prefix("mock-mount-target-")
                .map_err(|error| MockError::file(&std::env::temp_dir(), error))?;
            let authority = Authority::new()?;
            let ca_file = scratch.path().join("ca.pem");
            write_private(&ca_file, authority.pem())?;
            return Ok(Self {
                authority,
                credentials: credentials.unwrap_or_else(new_credentials),
                ca_file,
                _scratch: Some(scratch),
            });
        };
        std::fs::create_dir_all(dir).map_err(|error| MockError::file(dir, error))?;
        let (ca_file, key_file) = (dir.join("ca.pem"), dir.join("ca-key.pem"));
        let authority = if let (Some(pem), Some(key)) = (read(&ca_file)?, read(&key_file)?) {
            Authority::from_pem(pem, key)?
        } else {
            let authority = Authority::new()?;
            write_private(&key_file, authority.key_pem())?;
            write_private(&ca_file, authority.pem())?;
            authority
        };
        let credentials = match credentials {
            Some(credentials) => credentials,
            None => kept_credentials(&dir.join("credentials.json"))?,
        };
        Ok(Self { authority, credentials, ca_file, _scratch: None })
    }
}

fn kept_credentials(file: &Path) -> Result<Credentials, MockError> {
    let nonsense = |error: serde_json::Error| MockError::State(error.to_string());
    if let Some(text) = read(file)? {
        let kept: KeptCredentials = serde_json::from_str(&text).map_err(nonsense)?;
        let mut credentials = Credentials::new(kept.access_key_id, kept.secret_access_key);
        credentials.session_token = kept.session_token;
        return Ok(credentials);
    }
    let credentials = new_credentials();
    let kept = KeptCredentials {
        access_key_id: credentials.access_key_id.clone(),
        secret_access_key: credentials.secret_access_key.clone(),
        session_token: credentials.session_token.clone(),
    };
    write_private(file, &serde_json::to_string(&kept).map_err(nonsense)?)?;
    Ok(credentials)
}

/// Credentials that nobody has seen before.
fn new_credentials() -> Credentials {
    let mut random = rand::rng();
    let mut text = |len: usize, alphabet: &[u8]| -> String {
        (0..len).map(|_| char::from(alphabet[random.random_range(0..alphabet.len())])).collect()
    };
    let key = text(16, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567");
    let secret = text(40, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789");
    Credentials::new(format!("AKIA{key}"), secret)
}

fn read(file: &Path) -> Result<Option<String>, MockError> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(MockError::file(file, error)),
    }
}

/// Writes a file that nobody else can read.
fn write_private(file: &Path, text: &str) -> Result<(), MockError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(file)
        .and_then(|mut open| open.write_all(text.as_bytes()))
        .map_err(|error| MockError::file(file, error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_state_directory_keeps_the_ca_and_the_credentials() {
        let dir = TempDir::new().unwrap();
        let first = Kept::open(Some(dir.path()), None).unwrap();
        let again = Kept::open(Some(dir.path()), None).unwrap();
        assert_eq!(first.authority.der(), again.authority.der());
        assert_eq!(first.credentials, again.credentials);
        assert_eq!(std::fs::read_to_string(again.ca_file).unwrap(), first.authority.pem());
        let given = Kept::open(Some(dir.path()), Some(Credentials::new("A", "B"))).unwrap();
        assert_eq!(given.credentials.access_key_id, "A");
    }

    #[test]
    fn without_one_every_mock_is_another() {
        let (a, b) = (Kept::open(None, None).unwrap(), Kept::open(None, None).unwrap());
        assert_ne!(a.credentials, b.credentials);
        assert_ne!(a.authority.der(), b.authority.der());
        let file = a.ca_file.clone();
        assert!(file.exists());
        drop(a);
        assert!(!file.exists());
    }
}
