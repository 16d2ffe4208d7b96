//! A lookup that nobody has been told of yet.

use std::sync::Arc;
use std::time::Duration;

use vfs::Looked;

use super::Overlay;

/// An answer that counts as a lookup once the kernel gets it. Whoever asked may have been told to end meanwhile: what is
/// dropped instead of told counts nothing.
#[derive(Debug)]
pub struct Counted {
    looked: Looked,
    by: Arc<Overlay>,
}

impl Counted {
    /// An answer of this overlay's.
    pub const fn new(looked: Looked, by: Arc<Overlay>) -> Self {
        Self { looked, by }
    }

    /// The answer, for the kernel.
    pub fn tell(mut self) -> Looked {
        std::mem::replace(&mut self.looked, Looked::Missing { ttl: Duration::ZERO })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Looked::Found(entry) = &self.looked {
            self.by.forget(entry.attr.ino, 1);
        }
    }
}
