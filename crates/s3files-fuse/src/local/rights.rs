//! Who may do what with a local file: mode, owner and group, as any file system judges.
//!
//! Everything here compares identities as the server is told of them, so that `--as-uid` does not lock anybody out of
//! their own files. Root can give files to others; anybody else can only own what they make, so without root all local
//! files are those of the user who has mounted.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use vfs::{Cred, Error, Result};

/// Reading.
pub const READ: u32 = 4;
/// Writing.
pub const WRITE: u32 = 2;
/// Searching a directory.
pub const SEARCH: u32 = 1;

/// Whose local files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Whoever the disk says: this process may set it.
    AsOnDisk,
    /// This user and group, whom the mounting user is for the server.
    Always(u32, u32),
}

impl Owner {
    /// Owner and group of a file.
    pub fn of(self, metadata: &Metadata) -> (u32, u32) {
        match self {
            Self::AsOnDisk => (metadata.uid(), metadata.gid()),
            Self::Always(uid, gid) => (uid, gid),
        }
    }

    /// Whether somebody may do everything in `wanted`.
    pub fn permits(self, cred: &Cred, metadata: &Metadata, wanted: u32) -> Result<()> {
        let (uid, gid) = self.of(metadata);
        let shift = if cred.uid == uid {
            6
        } else if cred.gid == gid || cred.groups.contains(&gid) {
            3
        } else {
            0
        };
        if cred.uid == 0 || (metadata.mode() >> shift) & wanted == wanted { Ok(()) } else { Err(Error::Denied) }
    }

    /// Whether somebody owns a file, or is root.
    pub fn is(self, cred: &Cred, metadata: &Metadata) -> Result<()> {
        if cred.uid == 0 || cred.uid == self.of(metadata).0 { Ok(()) } else { Err(Error::NotPermitted) }
    }

    /// Whether somebody may make, remove and rename names in a directory; with the sticky bit, their own only.
    pub fn permits_change(self, cred: &Cred, directory: &Metadata, file: Option<&Metadata>) -> Result<()> {
        self.permits(cred, directory, WRITE | SEARCH)?;
        match file {
            Some(file) if directory.mode() & 0o1000 != 0 => self.is(cred, file).or_else(|_| self.is(cred, directory)),
            _ => Ok(()),
        }
    }
}
