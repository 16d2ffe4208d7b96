//! What keeps the mock from starting.

use std::io;
use std::net::SocketAddr;

/// Why the mock cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum MockError {
    /// A port cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Certificates cannot be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS does not take what it was given.
    #[error("cannot set TLS up: {0}")]
    Tls(#[from] rustls::Error),
    /// A file cannot be read or written.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// What is kept in the state directory does not make sense.
    #[error("cannot use what is kept in the state directory: {0}")]
    State(String),
    /// A plan of faults does not make sense.
    #[error("cannot use the plan of faults: {0}")]
    Plan(String),
    /// The choices contradict each other.
    #[error("{0}")]
    Choice(String),
}

impl MockError {
    pub(crate) fn file(path: &std::path::Path, source: io::Error) -> Self {
        Self::File { path: path.display().to_string(), source }
    }
}
