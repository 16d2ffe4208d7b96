//! Extended attributes (RFC 8276), and what is remembered of them.
//!
//! Every change of an extended attribute moves the file's change attribute, so names and values hold as long as that
//! one does; that an attribute is absent is worth remembering too. Names are those of the wire: RFC 8276 has one
//! namespace, which Linux calls `user.`.
//!
//! S3 Files keeps none, but answers questions about `s3files.status;TIME`. Names that begin like that are always asked
//! for and never remembered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use nfs4_client::{Access, ChangeInfo, Cred, FileAttr, XattrSet};

use crate::attr::{FileKind, Timestamp};
use crate::error::{Error, Result};
use crate::lacks::Feature;
use crate::node::{Node, NodeState};
use crate::vfs::Vfs;

/// Largest value that is remembered, in bytes.
const MOST_OF_VALUE: usize = 4 << 10;
/// Most bytes remembered of one file.
const MOST_OF_FILE: usize = 16 << 10;
/// Most bytes remembered in all.
const MOST_OF_MOUNT: usize = 16 << 20;
/// Bookkeeping of one name, counted as bytes.
const OVERHEAD: usize = 64;

/// Attributes that the server makes up when it is asked.
const VIRTUAL: &[u8] = b"s3files.";

/// What is known of one file's attributes, for one value of its change attribute.
#[derive(Debug)]
pub(crate) struct Known {
    change: u64,
    names: Option<Vec<Bytes>>,
    values: BTreeMap<Bytes, Option<Bytes>>,
    share: Share,
}

/// A file's part of what the mount remembers.
#[derive(Debug)]
struct Share {
    total: Arc<AtomicUsize>,
    bytes: usize,
}

impl Share {
    /// Whether there is room for so many bytes more; then they are taken.
    fn grow(&mut self, bytes: usize) -> bool {
        if self.bytes + bytes > MOST_OF_FILE || self.total.load(Ordering::Relaxed) + bytes > MOST_OF_MOUNT {
            return false;
        }
        self.bytes += bytes;
        self.total.fetch_add(bytes, Ordering::Relaxed);
        true
    }

    fn shrink(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.total.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Known {
    fn new(change: u64, total: &Arc<AtomicUsize>) -> Self {
        let share = Share { total: Arc::clone(total), bytes: 0 };
        Self { change, names: None, values: BTreeMap::new(), share }
    }

    fn cost(name: &Bytes, value: Option<&Bytes>) -> usize {
        OVERHEAD + name.len() + value.map_or(0, Bytes::len)
    }

    fn forget(&mut self, name: &Bytes) {
        if let Some(old) = self.values.remove(name) {
            self.share.shrink(Self::cost(name, old.as_ref()));
        }
    }

    fn put(&mut self, name: Bytes, value: Option<Bytes>) {
        self.forget(&name);
        if value.as_ref().is_none_or(|value| value.len() <= MOST_OF_VALUE)
            && self.share.grow(Self::cost(&name, value.as_ref()))
        {
            self.values.insert(name, value);
        }
    }

    fn put_names(&mut self, names: &[Bytes]) {
        self.forget_names();
        if self.share.grow(Self::cost_of_names(names)) {
            self.names = Some(names.to_vec());
        }
    }

    fn forget_names(&mut self) {
        if let Some(names) = self.names.take() {
            self.share.shrink(Self::cost_of_names(&names));
        }
    }

    fn cost_of_names(names: &[Bytes]) -> usize {
        names.iter().map(|name| OVERHEAD + name.len()).sum()
    }

    /// A change of ours went through.
    fn changed(&mut self, name: Bytes, value: Option<Bytes>, change: u64) {
        let exists = self.names.as_ref().map(|names| names.contains(&name));
        if exists.is_some_and(|exists| exists != value.is_some()) {
            self.forget_names();
        }
        self.put(name, value);
        self.change = change;
    }
}

impl NodeState {
    /// What is known for sure of the file's extended attributes at this moment, if `cred` may be told.
    fn known_xattrs(&self, vfs: &Vfs, cred: &Cred, now: Instant) -> Option<&Known> {
        let known = self.xattrs()?;
        let holds = self.attrs.fresh_change(now) == Some(known.change);
        (holds && self.permits(cred, Access::READ, 0o4, now, vfs.mount().options.timeouts.dir_max)).then_some(known)
    }

    fn learn_xattrs(&mut self, vfs: &Vfs, change: u64, learn: impl FnOnce(&mut Known)) {
        let stale = self.xattrs().is_none_or(|known| known.change != change);
        let kept = &mut self.more().xattrs;
        if stale {
            *kept = Some(Box::new(Known::new(change, &vfs.mount().xattr_bytes)));
        }
        if let Some(known) = kept {
            learn(known);
        }
    }
}

/// Whether the server makes an attribute of this name up when it is asked, whether or not it keeps any.
pub fn is_made_up(name: &[u8]) -> bool {
    name.starts_with(VIRTUAL)
}

impl Vfs {
    /// Whether the server keeps extended attributes, as far as is known without asking.
    pub fn keeps_xattrs(&self) -> bool {
        let all = [Feature::GetXattr, Feature::SetXattr, Feature::ListXattrs];
        self.mount().client.limits().xattrs && !all.into_iter().any(|feature| self.mount().lacks.contains(feature))
    }

    /// Whether the file can have extended attributes of users (Linux knows none of links, devices and the like).
    fn check_kept(&self, feature: Feature, name: Option<&[u8]>) -> Result<()> {
        if name.is_some_and(is_made_up) && feature == Feature::GetXattr {
            return Ok(());
        }
        let lacks = &self.mount().lacks;
        // Where none can be set or listed there are none to be had.
        if !self.mount().client.limits().xattrs
            || (feature == Feature::GetXattr && lacks.contains(Feature::SetXattr))
            || (feature == Feature::GetXattr && lacks.contains(Feature::ListXattrs))
        {
            lacks.add(feature);
        }
        self.must_have(feature)
    }

    fn check_kind(node: &Node) -> Result<()> {
        match node.kind {
            FileKind::Regular | FileKind::Directory => Ok(()),
            _ => Err(Error::NotPermitted),
        }
    }

    fn check_xattr_name(name: &[u8]) -> Result<()> {
        if name.is_empty() || name.len() > 255 || name.contains(&0) { Err(Error::OutOfRange) } else { Ok(()) }
    }

    /// An extended attribute's value. One round trip, none while it is known.
    ///
    /// # Errors
    /// [`Error::NoAttribute`] when there is none of that name; [`Error::Unsupported`] where the server keeps none.
    pub async fn getxattr(&self, cred: &Cred, ino: u64, name: &[u8]) -> Result<Bytes> {
        self.settle_ino(ino).await?;
        let node = self.node(ino)?;
        Self::check_xattr_name(name)?;
        self.check_kept(Feature::GetXattr, Some(name))?;
        Self::check_kind(&node).map_err(|_| Error::NoAttribute)?;
        let is_virtual = is_made_up(name);
        if !is_virtual {
            let state = node.lock();
            if let Some(known) = state.known_xattrs(self, cred, Instant::now()) {
                if let Some(value) = known.values.get(name) {
                    return value.clone().ok_or(Error::NoAttribute);
                }
                if known.names.as_ref().is_some_and(|names| !names.iter().any(|known| known == name)) {
                    return Err(Error::NoAttribute);
                }
            }
        }
        let sent = Instant::now();
        let asked = self.mount().client.getxattr(cred, &node.handle, name).await;
        if is_virtual {
            // Whatever the server says to this says nothing about other names.
            return asked?.1.ok_or(Error::NoAttribute);
        }
        let (attr, value) = self.learn(Feature::GetXattr, asked)?;
        let name = Bytes::copy_from_slice(name);
        self.learned(&node, &attr, sent, |known| known.put(name, value.clone()));
        value.ok_or(Error::NoAttribute)
    }

    fn learned(&self, node: &Arc<Node>, attr: &FileAttr, sent: Instant, learn: impl FnOnce(&mut Known)) {
        self.take_attr(node, attr, sent);
        let mut state = node.lock();
        // Only what belongs to the state that we believe in now.
        if state.attrs.last().change == attr.change {
            state.learn_xattrs(self, attr.change, learn);
        }
    }

    /// The names of all extended attributes. One round trip for each 64 KiB of them, none while they are known.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the server keeps none.
    pub async fn listxattrs(&self, cred: &Cred, ino: u64) -> Result<Vec<Bytes>> {
        self.settle_ino(ino).await?;
        let node = self.node(ino)?;
        self.check_kept(Feature::ListXattrs, None)?;
        if Self::check_kind(&node).is_err() {
            return Ok(Vec::new());
        }
        {
            let state = node.lock();
            if let Some(names) = state.known_xattrs(self, cred, Instant::now()).and_then(|known| known.names.as_ref()) {
                return Ok(names.clone());
            }
        }
        let sent = Instant::now();
        let asked = self.mount().client.listxattrs(cred, &node.handle).await;
        let (attr, mut names) = self.learn(Feature::ListXattrs, asked)?;
        // What cannot be a name must not reach the kernel: a NUL in it would look like the end of one.
        names.retain(|name| Self::check_xattr_name(name).is_ok());
        self.learned(&node, &attr, sent, |known| known.put_names(&names));
        Ok(names)
    }

    /// Sets an extended attribute. One round trip.
    ///
    /// # Errors
    /// What the server says; [`Error::Unsupported`] where it keeps none.
    pub async fn setxattr(&self, cred: &Cred, ino: u64, name: &[u8], value: Bytes, set: XattrSet) -> Result<()> {
        self.writable()?;
        self.settle_ino(ino).await?;
        let node = self.node(ino)?;
        Self::check_xattr_name(name)?;
        self.check_kept(Feature::SetXattr, Some(name))?;
        Self::check_kind(&node)?;
        let (vfs, cred, name) = (self.clone(), cred.clone(), Bytes::copy_from_slice(name));
        let work = async move {
            let asked = vfs.mount().client.setxattr(&cred, &node.handle, &name, value.clone(), set).await;
            let info = vfs.learn(Feature::SetXattr, asked)?;
            vfs.changed_xattr(&node, info, name, Some(value));
            Ok(())
        };
        self.to_its_end(work).await
    }

    /// Removes an extended attribute. One round trip.
    ///
    /// # Errors
    /// As [`Self::setxattr`].
    pub async fn removexattr(&self, cred: &Cred, ino: u64, name: &[u8]) -> Result<()> {
        self.writable()?;
        self.settle_ino(ino).await?;
        let node = self.node(ino)?;
        Self::check_xattr_name(name)?;
        self.check_kept(Feature::RemoveXattr, Some(name))?;
        Self::check_kind(&node)?;
        let (vfs, cred, name) = (self.clone(), cred.clone(), Bytes::copy_from_slice(name));
        let work = async move {
            let asked = vfs.mount().client.removexattr(&cred, &node.handle, &name).await;
            let info = vfs.learn(Feature::RemoveXattr, asked)?;
            vfs.changed_xattr(&node, info, name, None);
            Ok(())
        };
        self.to_its_end(work).await
    }

    fn changed_xattr(&self, node: &Node, info: ChangeInfo, name: Bytes, value: Option<Bytes>) {
        let mut state = node.lock();
        let now = Timestamp::from_system_time(std::time::SystemTime::now());
        if state.attrs.own_attribute_change(info, now) {
            state.xattr_changed(self, info, name, value);
        } else {
            state.more().xattrs = None;
        }
    }
}

impl NodeState {
    fn xattr_changed(&mut self, vfs: &Vfs, info: ChangeInfo, name: Bytes, value: Option<Bytes>) {
        self.learn_xattrs(vfs, info.before, |known| known.changed(name, value, info.after));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_counted_until_it_is_dropped() {
        let total = Arc::new(AtomicUsize::new(0));
        let mut known = Known::new(1, &total);
        for n in 0..10_000_u32 {
            known.put(Bytes::from(n.to_string()), Some(Bytes::from(vec![0; 100])));
        }
        known.put(Bytes::from_static(b"large"), Some(Bytes::from(vec![0; MOST_OF_VALUE + 1])));
        assert!(known.values.len() > 10 && !known.values.contains_key(&b"large"[..]));
        assert!(total.load(Ordering::Relaxed) <= MOST_OF_FILE);
        assert_eq!(total.load(Ordering::Relaxed), known.share.bytes);
        known.put(Bytes::from_static(b"0"), None);
        drop(known);
        assert_eq!(total.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_value_set_by_us_is_known_and_the_list_of_names_is_not_older_than_it() {
        let total = Arc::new(AtomicUsize::new(0));
        let mut known = Known::new(1, &total);
        known.put_names(&[Bytes::from_static(b"a")]);
        known.changed(Bytes::from_static(b"a"), Some(Bytes::from_static(b"1")), 2);
        assert!(known.names.is_some());
        known.changed(Bytes::from_static(b"b"), Some(Bytes::from_static(b"2")), 3);
        assert!(known.names.is_none());
        assert_eq!((known.change, known.values.len()), (3, 2));
    }
}
