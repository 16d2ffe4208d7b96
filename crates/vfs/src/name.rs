//! A name as the caches keep it: one component of a path.
//!
//! The one idea: of a million names few are long, and a short one lies where a longer one's address would be.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;
use compact_bytes::CompactBytes;

/// See the module's page. Bytes as the server has them, without any encoding.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Name(CompactBytes);

const _: () = assert!(size_of::<Name>() == 24, "a million of them are to fit into memory");

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self[..].cmp(&other[..])
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self[..].hash(state);
    }
}

impl Name {
    /// A copy, for those who speak of names otherwise.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
}

impl Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Name {
    fn from(name: &[u8]) -> Self {
        Self(CompactBytes::new(name))
    }
}

impl From<&Bytes> for Name {
    fn from(name: &Bytes) -> Self {
        Self(CompactBytes::new(name))
    }
}

impl From<Bytes> for Name {
    fn from(name: Bytes) -> Self {
        Self::from(&name)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}
