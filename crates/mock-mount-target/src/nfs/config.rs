//! What the server is: its profile, its limits, its clock.

use std::time::Duration;

use nfs4::types::Nfstime4;

/// Which server is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// What Amazon S3 Files does, and no more.
    #[default]
    S3Files,
    /// Everything that a good NFSv4.2 server does.
    Full,
}

/// Choices of a [`Server`](super::Server).
#[derive(Debug, Clone)]
pub struct Config {
    /// Which server is played.
    pub profile: Profile,
    /// File system id, for the name of the lost+found directory.
    pub file_system_id: String,
    /// How long a client may be silent.
    pub lease: Duration,
    /// Most slots of a session.
    pub max_slots: u32,
    /// Most operations of a compound.
    pub max_operations: u32,
    /// Largest request in bytes, RPC header included.
    pub max_request: u32,
    /// Largest reply in bytes, RPC header included.
    pub max_response: u32,
    /// Largest reply that is cached, in bytes.
    pub max_response_cached: u32,
    /// Most bytes of one READ or WRITE.
    pub max_io: u32,
    /// Bytes of file data that the memory may hold; more is NFS4ERR_NOSPC.
    pub capacity: u64,
    /// Whether a removed file stays while it is open (`OPEN4_RESULT_PRESERVE_UNLINKED`).
    pub preserve_unlinked: bool,
    /// Whether files are delegated to clients that ask for it (the `full` profile only).
    pub delegations: bool,
    /// Whether a locator ends its compound with status 100001; the service's way is not known.
    pub locator_ends_compound: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self::new(Profile::default())
    }
}

impl Config {
    /// The usual choices of a profile.
    pub fn new(profile: Profile) -> Self {
        Self {
            profile,
            file_system_id: "fs-0123456789abcdef0".into(),
            lease: Duration::from_secs(90),
            max_slots: 64,
            max_operations: 64,
            max_request: 1_052_672,
            max_response: 1_052_672,
            max_response_cached: 8192,
            max_io: 1 << 20,
            capacity: 16 << 30,
            preserve_unlinked: profile == Profile::Full,
            delegations: false,
            locator_ends_compound: false,
        }
    }

    /// Length of a file handle in bytes.
    pub fn handle_len(&self) -> usize {
        match self.profile {
            Profile::S3Files => 128,
            Profile::Full => 32,
        }
    }

    /// Longest target of a symbolic link, in bytes.
    pub fn max_symlink(&self) -> usize {
        match self.profile {
            Profile::S3Files => 4080,
            Profile::Full => 4095,
        }
    }

    /// Most byte-range locks of a file.
    pub fn max_locks_of_file(&self) -> usize {
        match self.profile {
            Profile::S3Files => 512,
            Profile::Full => 100_000,
        }
    }

    /// Most byte-range locks of a client.
    pub fn max_locks_of_client(&self) -> usize {
        match self.profile {
            Profile::S3Files => 8192,
            Profile::Full => 1_000_000,
        }
    }

    /// Most names of a file.
    pub fn max_links(&self) -> u32 {
        match self.profile {
            Profile::S3Files => 1,
            Profile::Full => 32_000,
        }
    }

    /// Most directories below one another.
    pub fn max_depth(&self) -> usize {
        match self.profile {
            Profile::S3Files => 1000,
            Profile::Full => 10_000,
        }
    }

    /// Most open files of a client.
    pub fn max_opens_of_client(&self) -> usize {
        65_536
    }

    /// Largest file in bytes.
    pub fn max_file_size(&self) -> u64 {
        match self.profile {
            Profile::S3Files => 52_673_613_135_872,
            Profile::Full => i64::MAX as u64,
        }
    }

    /// Whether delegations are given at all.
    pub fn delegates(&self) -> bool {
        self.delegations && self.is_full()
    }

    /// Whether the whole of NFSv4.2 is served.
    pub fn is_full(&self) -> bool {
        self.profile == Profile::Full
    }
}

/// The time, given with every event: since 1970-01-01T00:00:00Z, and never going back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Now(pub Duration);

impl Now {
    /// As a time stamp of a file.
    pub fn stamp(self) -> Nfstime4 {
        Nfstime4 { seconds: i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX), nseconds: self.0.subsec_nanos() }
    }
}
