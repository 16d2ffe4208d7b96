//! What a person sees when something does not work: one sentence with cause and remedy, and an exit code for scripts.
//!
//! The codes are part of the interface (README.md lists them) and never change their meaning.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mount_target::ConnectError;
use nfs4_client::Nfs4Error;

/// Why a command failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The mount target could not be reached or did not let us in.
    #[error("{0}")]
    Connect(Arc<ConnectError>),
    /// The command line contradicts itself.
    #[error("{0}")]
    Usage(String),
    /// This machine has no FUSE, or does not let us use it.
    #[error("folders cannot be mounted here: {0}")]
    NoFuse(String),
    /// The folder is not one that can be mounted.
    #[error("{} {why}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// The system does not let this user share a mount.
    #[error(
        "--allow-other is not allowed to this user; add the line `user_allow_other` to /etc/fuse.conf, or leave the \
         option out"
    )]
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))] // that file is Linux's
    AllowOther,
    /// The kernel refused the mount.
    #[error("the folder {} could not be mounted: {detail}", folder.display())]
    Mount {
        /// The folder.
        folder: PathBuf,
        /// The system's words.
        detail: String,
    },
    /// The server is no NFSv4.1 or 4.2 server.
    #[error("{address} gives no NFSv4.2 session: {detail}")]
    NoSession {
        /// Host and port.
        address: String,
        /// What the server said.
        detail: String,
    },
    /// The server let us in and then refused the root.
    #[error(
        "{address} denied access to {what} ({detail}); allow the action s3files:ClientMount for these credentials, and \
         s3files:ClientRootAccess if the directory belongs to root"
    )]
    Denied {
        /// Host and port.
        address: String,
        /// What was asked for.
        what: String,
        /// What the server said.
        detail: String,
    },
    /// `--path` leads nowhere.
    #[error("there is no directory {path} on {address} ({detail}); check --path")]
    NoSuchRoot {
        /// The path.
        path: String,
        /// Host and port.
        address: String,
        /// What the server said.
        detail: String,
    },
    /// The server took too long.
    #[error(
        "{address} was reached but gave no file system within {seconds} s; it may be restarting, so try again in a minute"
    )]
    Slow {
        /// Host and port.
        address: String,
        /// How long was waited.
        seconds: u64,
    },
    /// There is nothing to unmount.
    #[error("{} {why}", folder.display())]
    NotMounted {
        /// The folder.
        folder: PathBuf,
        /// What is there instead.
        why: String,
    },
    /// There is nothing to show.
    #[error("nothing is mounted by this user's s3files-fuse; mount something with: s3files-fuse mount TARGET FOLDER")]
    NoMounts,
    /// Programs use the folder.
    #[error("{} is in use{}; close what uses it (also a shell whose directory it is) and try again", folder.display(), by(holders, folder))]
    Busy {
        /// The folder.
        folder: PathBuf,
        /// The programs that use it, as far as they can be seen.
        holders: Vec<String>,
    },
    /// Somebody else has the lock.
    #[error("{} is locked by {}; wait with --wait SECONDS, or try again later", path.display(), holder(*pid))]
    Locked {
        /// The file.
        path: PathBuf,
        /// The process that has it, if it is of this mount.
        pid: Option<u32>,
    },
    /// The lock went while the command ran.
    #[error(
        "the lock on {} was lost while the command ran ({why}), so somebody else may have had it; the command ended with \
         code {command}, and what it did should be checked",
        path.display()
    )]
    LockLost {
        /// The file.
        path: PathBuf,
        /// What happened.
        why: String,
        /// The command's exit code.
        command: u8,
    },
    /// A command could not be run.
    #[error("{program} cannot be run: {why}")]
    Command {
        /// The program.
        program: String,
        /// Why.
        why: String,
        /// As shells have it: 126 or 127.
        code: u8,
    },
    /// Data are lost.
    #[error("{}; what was not written is lost, so copy these files again", lost(files))]
    Unwritten {
        /// The files, each with the reason.
        files: Vec<String>,
    },
    /// The user did not wait for the server any longer.
    #[error("given up before everything was written back; what was written last is lost, so copy it again")]
    GivenUp,
    /// A path inside the file system.
    #[error("{path}: {why}")]
    Path {
        /// As it was typed.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The program that was started in the background said something we know the code of.
    #[error("{sentence}")]
    Told {
        /// Its sentence.
        sentence: String,
        /// Its exit code.
        code: u8,
    },
    /// Not everything was copied.
    #[error("{}", not_copied(*copied, *failed, *stopped))]
    NotCopied {
        /// How many were, or were there already.
        copied: u64,
        /// How many could not be.
        failed: u64,
        /// The user, or an error that nothing helps against, has ended it.
        stopped: bool,
    },
    /// Files have not reached the bucket.
    #[error("{waits} of {total} files have not reached S3 yet, and {stuck} cannot")]
    NotSynced {
        /// How many were asked about.
        total: u64,
        /// How many wait.
        waits: u64,
        /// How many the service cannot export.
        stuck: u64,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

fn by(holders: &[String], folder: &Path) -> String {
    match holders {
        // What macOS has in the place of /proc is not for everybody.
        [] if cfg!(target_os = "macos") => format!(" (`lsof {}` lists by what)", folder.display()),
        [] => String::new(),
        holders => format!(" by {}", holders.join(", ")),
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another machine".to_owned(), |pid| format!("process {pid} on this mount"))
}

fn lost(files: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown = files.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match files.len() {
        1 => format!("1 file could not be written: {shown}"),
        count if count <= SHOWN => format!("{count} files could not be written: {shown}"),
        count => format!("{count} files could not be written: {shown} and {} more", count - SHOWN),
    }
}

fn not_copied(copied: u64, failed: u64, stopped: bool) -> String {
    let ended = if stopped { "ended early: " } else { "" };
    match failed {
        0 => format!("{ended}{copied} files were copied; the same command with --resume goes on"),
        1 => {
            format!("{ended}1 thing was not copied, {copied} files were; with --resume only what is missing is copied")
        }
        _ => format!(
            "{ended}{failed} things were not copied, {copied} files were; with --resume only what is missing is copied"
        ),
    }
}

/// The command line is wrong (also clap's code for it).
pub const USAGE: u8 = 2;
/// `cp`: not everything was copied.
pub const NOT_COPIED: u8 = 17;
/// `synced`: something has not reached the bucket.
pub const NOT_SYNCED: u8 = 18;
/// `lock`: somebody else has the lock.
pub const LOCKED: u8 = 19;
/// `lock`: the lock was lost while the command ran.
pub const LOCK_LOST: u8 = 20;

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Connect(error) => code_of(error),
            Self::Usage(_) => USAGE,
            Self::NoFuse(_) | Self::AllowOther => 3,
            Self::Folder { .. } | Self::Mount { .. } => 4,
            Self::Denied { .. } => 12,
            Self::NoSession { .. } => 13,
            Self::NotMounted { .. } | Self::NoMounts => 14,
            Self::Busy { .. } => 15,
            Self::Unwritten { .. } | Self::GivenUp => 16,
            Self::NotCopied { .. } => NOT_COPIED,
            Self::NotSynced { .. } => NOT_SYNCED,
            Self::Locked { .. } => LOCKED,
            Self::LockLost { .. } => LOCK_LOST,
            Self::Told { code, .. } | Self::Command { code, .. } => *code,
            Self::NoSuchRoot { .. } | Self::Slow { .. } | Self::Path { .. } | Self::Other(_) => 1,
        }
    }

    /// What the client's first words with the server came to.
    pub fn from_client(error: nfs4_client::Error, address: &str, path: &str) -> Self {
        use nfs4_client::Error;
        let address = address.to_owned();
        match error {
            Error::Connect(error) => Self::Connect(error),
            Error::NoSession(detail) => Self::NoSession { address, detail },
            Error::Nfs { status: Nfs4Error::Access | Nfs4Error::Perm | Nfs4Error::Wrongsec, .. } => Self::Denied {
                address,
                what: if path.is_empty() { "the file system".to_owned() } else { path.to_owned() },
                detail: error.to_string(),
            },
            Error::Nfs { op: "LOOKUP", .. } if !path.is_empty() => {
                Self::NoSuchRoot { path: path.to_owned(), address, detail: error.to_string() }
            }
            Error::Nfs { status: Nfs4Error::MinorVersMismatch, .. } => {
                Self::NoSession { address, detail: error.to_string() }
            }
            other => Self::Other(format!("{address} cannot be used: {other}")),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::Connect(Arc::new(error))
    }
}

fn code_of(error: &ConnectError) -> u8 {
    match error {
        ConnectError::BadTarget { .. } => USAGE,
        ConnectError::NoCredentials { .. }
        | ConnectError::UnknownProfile { .. }
        | ConnectError::CredentialsExpired { .. }
        | ConnectError::CredentialsFailed { .. } => 5,
        ConnectError::NameNotResolved { .. } => 6,
        ConnectError::PortClosed { .. }
        | ConnectError::ConnectTimeout { .. }
        | ConnectError::Unreachable { .. }
        | ConnectError::AwsNotAsked { .. } => 7,
        ConnectError::NotTls { .. } | ConnectError::TlsFailed { .. } => 8,
        ConnectError::ServerNameMismatch { .. } => 9,
        ConnectError::UntrustedIssuer { .. } | ConnectError::CaFile { .. } => 10,
        ConnectError::ClockSkew { .. } => 11,
        ConnectError::AccessDenied { .. } | ConnectError::ActionDenied { .. } => 12,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn every_sentence_is_one_line() {
        let failures = [
            Failure::AllowOther,
            Failure::Unwritten { files: (0..50).map(|i| format!("file{i} (ENOSPC)")).collect() },
            Failure::Busy { folder: "/x".into(), holders: vec!["bash (12)".to_owned()] },
            Failure::NoSession { address: "h:1".to_owned(), detail: "it speaks 4.0 only".to_owned() },
            Failure::Denied { address: "h:1".to_owned(), what: "/a".to_owned(), detail: "no".to_owned() },
        ];
        for failure in failures {
            let text = failure.to_string();
            assert!(!text.contains('\n') && !text.contains("  ") && text.len() < 600, "{text}");
        }
    }

    #[test]
    fn what_was_lost_is_named_but_not_without_end() {
        let text = Failure::Unwritten { files: (0..50).map(|i| format!("file{i}")).collect() }.to_string();
        assert!(text.contains("50 files") && text.contains("file19") && text.contains("30 more"), "{text}");
        assert!(!text.contains("file20,"), "{text}");
    }
}
