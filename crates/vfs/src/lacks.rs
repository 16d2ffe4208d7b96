//! What the server has turned out not to have.
//!
//! A server says NFS4ERR_NOTSUPP to an operation that it does not know. It is asked once: later callers are refused
//! without a round trip, and take their other way.

use std::sync::atomic::{AtomicU32, Ordering};

use nfs4_client::Nfs4Error;

use crate::error::{Error, Result};
use crate::vfs::Vfs;

/// Something that a server may not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    GetXattr,
    SetXattr,
    RemoveXattr,
    ListXattrs,
    Seek,
    Allocate,
    Deallocate,
    Copy,
}

impl Feature {
    const fn bit(self) -> u32 {
        1 << self as u32
    }

    const fn refusal(self) -> Error {
        Error::Unsupported(match self {
            Self::GetXattr | Self::SetXattr | Self::RemoveXattr | Self::ListXattrs => "extended attributes",
            Self::Seek => "a search for holes",
            Self::Allocate => "a reservation of space",
            Self::Deallocate => "holes made in files",
            Self::Copy => "copies of its own",
        })
    }
}

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Lacks(AtomicU32);

impl Lacks {
    pub(crate) fn contains(&self, feature: Feature) -> bool {
        self.0.load(Ordering::Relaxed) & feature.bit() != 0
    }

    pub(crate) fn add(&self, feature: Feature) {
        self.0.fetch_or(feature.bit(), Ordering::Relaxed);
    }
}

impl Vfs {
    /// Refuses what the server is known not to have.
    pub(crate) fn must_have(&self, feature: Feature) -> Result<()> {
        if self.mount().lacks.contains(feature) { Err(feature.refusal()) } else { Ok(()) }
    }

    /// The result of asking for a feature; learns from it.
    pub(crate) fn learn<T>(&self, feature: Feature, result: nfs4_client::Result<T>) -> Result<T> {
        match result {
            Err(error) if is_unknown(&error) => {
                tracing::debug!(?feature, %error, "the server does not have this");
                self.mount().lacks.add(feature);
                Err(feature.refusal())
            }
            result => Ok(result?),
        }
    }
}

fn is_unknown(error: &nfs4_client::Error) -> bool {
    matches!(
        error.status(),
        Some(
            Nfs4Error::Notsupp
                | Nfs4Error::OpIllegal
                | Nfs4Error::UnionNotsupp
                | Nfs4Error::OffloadDenied
                | Nfs4Error::OffloadNoReqs
        )
    )
}
