//! A known file in as few bytes as it takes.
//!
//! The one idea: what finds the entry (its number and its handle) stands in front and is read where it lies; all the rest
//! is made into a node again when somebody wants one. Numbers are short when they are small (postcard's format).

use serde::{Deserialize, Serialize};

use crate::inode::NodeId;

/// Handles have up to 128 bytes, names up to 255; the rest are numbers.
const MOST: usize = 640;

/// See the module's page.
#[derive(Debug)]
pub struct Packed(Box<[u8]>);

impl Packed {
    /// `None`: there is more of it than a file can have.
    pub fn new<T: Serialize>(id: NodeId, handle: &[u8], rest: &T) -> Option<Self> {
        let mut room = [0; MOST];
        let used = postcard::to_slice(&(id.ino, id.serial, handle, rest), &mut room).ok()?;
        // A copy is exactly as large as it has to be.
        Some(Self((&*used).into()))
    }

    /// Whose it is.
    pub fn id(&self) -> NodeId {
        // What `new` wrote can be read.
        let (ino, serial) = postcard::take_from_bytes(&self.0).map(|(id, _)| id).unwrap_or_default();
        NodeId { ino, serial }
    }

    /// What the server calls it by.
    pub fn handle(&self) -> &[u8] {
        postcard::take_from_bytes::<(u64, u64, &[u8])>(&self.0).map(|((_, _, handle), _)| handle).unwrap_or_default()
    }

    /// All of it.
    pub fn open<'a, T: Deserialize<'a>>(&'a self) -> Option<(NodeId, &'a [u8], T)> {
        let (ino, serial, handle, rest) = postcard::from_bytes(&self.0).ok()?;
        Some((NodeId { ino, serial }, handle, rest))
    }
}
