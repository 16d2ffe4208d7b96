//! How a mount is, as one value: the mount's own process makes it ([`Live`](crate::live::Live)), and whoever asks shows
//! it as a table ([`table`]), as JSON, or as Prometheus text ([`prometheus`]).
//!
//! The names of the fields are those of `status --json` and never change their meaning.

pub mod prometheus;
pub mod rates;
pub mod table;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How a mount is at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The mounted folder.
    pub folder: PathBuf,
    /// The target as it was given.
    pub target: String,
    /// Host and port.
    pub address: String,
    /// What it is doing.
    pub state: State,
    /// Nothing can be changed.
    pub read_only: bool,
    /// The process that serves it.
    pub pid: u32,
    /// The release of that process.
    pub program: String,
    /// How long it has been mounted.
    pub uptime_seconds: f64,
    /// Connections open now, and made so far.
    pub connections: Connections,
    /// The lease of our state at the server.
    pub lease: Lease,
    /// The certificate that new connections present; none without TLS.
    pub certificate: Option<Certificate>,
    /// Bytes of files that are kept for reading.
    pub cache: Cache,
    /// Bytes that programs have written and that are not on the server's stable storage yet.
    pub unwritten: Unwritten,
    /// What went over the network.
    pub throughput: Throughput,
    /// Requests, each a round trip.
    pub requests: Requests,
    /// Files that programs have open.
    pub open_files: u64,
    /// What S3 Files has set aside because the bucket had changed as well; none if there is no such directory, or it is
    /// not below the mounted one.
    pub conflicts: Option<Conflicts>,
    /// The log file.
    pub log: Option<PathBuf>,
}

/// What a mount is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It serves.
    Serving,
    /// The server is out of reach: calls wait, and it is tried again.
    Connecting,
    /// The folder is gone, and what was written is brought to the server.
    WritingBack,
}

/// See [`Status::connections`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Open now.
    pub open: u64,
    /// Made so far.
    pub made: u64,
    /// Sessions made so far.
    pub sessions: u64,
}

/// See [`Status::lease`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// Its length.
    pub seconds: f64,
    /// What is left of it if the server says nothing more.
    pub left_seconds: f64,
    /// False: the server may have dropped our locks and opens, which are reclaimed when it is back.
    pub valid: bool,
}

/// See [`Status::certificate`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[allow(clippy::struct_field_names)] // whoever reads the JSON wants to know the unit
pub struct Certificate {
    /// How long ago it was made; below zero if the clock was set back.
    pub age_seconds: f64,
    /// When it ends; below zero if it has. A new one is made for the next connection.
    pub expires_in_seconds: f64,
    /// When the credentials behind it end, if they do.
    pub credentials_expire_in_seconds: Option<f64>,
}

/// See [`Status::cache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// Bytes kept.
    pub used_bytes: u64,
    /// Most bytes.
    pub limit_bytes: u64,
}

/// See [`Status::unwritten`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Unwritten {
    /// Bytes.
    pub bytes: u64,
    /// Most bytes; programs that write wait beyond.
    pub limit_bytes: u64,
    /// In so many files.
    pub files: u64,
    /// How long ago the oldest was written.
    pub oldest_seconds: Option<f64>,
}

/// See [`Status::throughput`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// Bytes received since the mount.
    pub bytes_in: u64,
    /// Bytes sent since the mount.
    pub bytes_out: u64,
    /// Bytes received in a second, over the last few.
    pub in_per_second: f64,
    /// Bytes sent in a second, over the last few.
    pub out_per_second: f64,
}

/// See [`Status::requests`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Requests {
    /// Round trips made since the mount.
    pub round_trips: u64,
    /// How long a small one took lately, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// Sent again after a lost connection or session.
    pub repeated: u64,
    /// Answers that asked to wait.
    pub delayed: u64,
    /// Ended in EIO, ENOSPC, EDQUOT, ESTALE or ETIMEDOUT.
    pub errors: u64,
}

/// See [`Status::conflicts`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflicts {
    /// The directory, below the folder.
    pub directory: String,
    /// Names in it, the first ones if there are many.
    pub files: Vec<String>,
    /// How many there are.
    pub count: u64,
}

#[cfg(test)]
pub(crate) fn example() -> Status {
    Status {
        folder: "/home/u/s3".into(),
        target: "fs-0123456789abcdef0".to_owned(),
        address: "10.0.0.1:2049".to_owned(),
        state: State::Serving,
        read_only: false,
        pid: 77,
        program: "0.1.0".to_owned(),
        uptime_seconds: 3725.0,
        connections: Connections { open: 2, made: 5, sessions: 1 },
        lease: Lease { seconds: 90.0, left_seconds: 61.5, valid: true },
        certificate: Some(Certificate {
            age_seconds: 125.0,
            expires_in_seconds: 10_675.0,
            credentials_expire_in_seconds: None,
        }),
        cache: Cache { used_bytes: 3 << 20, limit_bytes: 256 << 20 },
        unwritten: Unwritten { bytes: 1536, limit_bytes: 128 << 20, files: 1, oldest_seconds: Some(0.4) },
        throughput: Throughput { bytes_in: 5 << 30, bytes_out: 12, in_per_second: 2.5e6, out_per_second: 0.0 },
        requests: Requests { round_trips: 4711, round_trip_ms: Some(31.25), repeated: 1, delayed: 2, errors: 3 },
        open_files: 4,
        conflicts: Some(Conflicts {
            directory: ".s3files-lost+found-fs-0123456789abcdef0".to_owned(),
            files: vec!["report.odt".to_owned()],
            count: 1,
        }),
        log: Some("/home/u/.local/state/s3files-fuse/x.log".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn what_goes_over_the_socket_comes_back_as_it_was() {
        let text = serde_json::to_string(&example()).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), example());
        assert!(text.contains("\"state\":\"serving\"") && text.contains("\"oldest_seconds\":0.4"), "{text}");
    }
}
