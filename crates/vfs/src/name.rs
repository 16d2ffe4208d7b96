//! A name as the caches keep it: one component of a path.
//!
//! The one idea: a directory's names, its listings and the files' places share one allocation, and a handle to it is two
//! words. With a million files known that is the difference between fitting into memory and not.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

/// See the module's page. Bytes as the server has them, without any encoding.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<[u8]>);

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
        Self(name.into())
    }
}

impl From<&Bytes> for Name {
    fn from(name: &Bytes) -> Self {
        Self(name[..].into())
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
