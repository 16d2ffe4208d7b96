//! Extended attributes: the server's where it keeps them, else those on this computer.

use std::sync::Arc;

use bytes::Bytes;
use vfs::{Cred, Errno, Error, Result, XattrSet};

use super::View;
use crate::fuse::convert;
use crate::local::Key;
use crate::local::numbers::is_local;
use crate::local::store::XattrStore;

/// What somebody must be allowed to do with a file to read and to set its attributes.
const READ: u32 = 4;
const WRITE: u32 = 2;

/// The name of a local file's attribute as the disk knows it.
fn on_disk(name: &[u8]) -> Result<String> {
    String::from_utf8(convert::full_xattr_name(name)).map_err(|_| Error::OutOfRange)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Closed))
}

impl View {
    /// The store, where it is the one to be asked about this name.
    fn keeper(&self, name: Option<&[u8]>) -> Option<Arc<XattrStore>> {
        let store = self.local().xattrs.as_ref()?;
        let is_servers = name.is_some_and(vfs::is_made_up) || self.server().keeps_xattrs();
        (!is_servers).then(|| Arc::clone(store))
    }

    /// What the server said; `None`: it has just turned out to keep none, and the store is the one to be asked.
    fn unless_unsupported<T>(&self, said: Result<T>, name: Option<&[u8]>) -> Option<Result<T>> {
        match said {
            Err(Error::Unsupported(_)) if self.keeper(name).is_some() => None,
            said => Some(said),
        }
    }

    /// An attribute's value.
    pub async fn getxattr(&self, cred: &Cred, ino: u64, name: &[u8]) -> Result<Bytes> {
        if is_local(ino) {
            let (name, cred) = (on_disk(name)?, cred.clone());
            return self.on_disk(move |overlay| overlay.getxattr(&cred, ino, &name)).await;
        }
        if self.keeper(Some(name)).is_none() {
            let said = self.server().getxattr(cred, ino, name).await;
            if let Some(said) = self.unless_unsupported(said, Some(name)) {
                return said;
            }
        }
        let store = self.keeper(Some(name)).ok_or(Error::NoAttribute)?;
        // A file that the server has not heard of yet has none.
        let Some(handle) = self.server().lasting_handle(ino)? else { return Err(Error::NoAttribute) };
        let name = Bytes::copy_from_slice(name);
        let value = blocking(move || store.get(Key::of(&handle), &name)).await?;
        // Only what there is can cost a round trip.
        self.server().access(cred, ino, READ).await?;
        Ok(value)
    }

    /// The names of all.
    pub async fn listxattrs(&self, cred: &Cred, ino: u64) -> Result<Vec<Bytes>> {
        if is_local(ino) {
            let names = self.on_disk(move |overlay| overlay.listxattrs(ino)).await?;
            return Ok(names.iter().filter_map(|name| convert::xattr_name_of(name)).collect());
        }
        if self.keeper(None).is_none() {
            let said = self.server().listxattrs(cred, ino).await;
            if let Some(said) = self.unless_unsupported(said, None) {
                return said;
            }
        }
        let store = self.keeper(None).ok_or(Error::NoAttribute)?;
        let Some(handle) = self.server().lasting_handle(ino)? else { return Ok(Vec::new()) };
        blocking(move || store.names(Key::of(&handle))).await
    }

    /// Sets one, or a part of it from `position` on.
    pub async fn setxattr(
        &self,
        cred: &Cred,
        ino: u64,
        name: &[u8],
        value: Bytes,
        set: XattrSet,
        position: u32,
    ) -> Result<()> {
        if is_local(ino) {
            if position > 0 {
                return Err(Error::Elsewhere(Errno::Inval));
            }
            let (name, cred) = (on_disk(name)?, cred.clone());
            return self.on_disk(move |overlay| overlay.setxattr(&cred, ino, &name, &value, set)).await;
        }
        if self.keeper(Some(name)).is_none() {
            if position > 0 {
                return Err(Error::Invalid("the server takes whole attributes only"));
            }
            let said = self.server().setxattr(cred, ino, name, value.clone(), set).await;
            if let Some(said) = self.unless_unsupported(said, Some(name)) {
                return said;
            }
        }
        let store = self.keeper(Some(name)).ok_or(Error::NoAttribute)?;
        let handle = self.server().settled_handle(ino).await?;
        self.server().access(cred, ino, WRITE).await?;
        let name = Bytes::copy_from_slice(name);
        blocking(move || store.set(Key::of(&handle), &name, &value, set, position)).await
    }

    /// Removes one.
    pub async fn removexattr(&self, cred: &Cred, ino: u64, name: &[u8]) -> Result<()> {
        if is_local(ino) {
            let (name, cred) = (on_disk(name)?, cred.clone());
            return self.on_disk(move |overlay| overlay.removexattr(&cred, ino, &name)).await;
        }
        if self.keeper(Some(name)).is_none() {
            let said = self.server().removexattr(cred, ino, name).await;
            if let Some(said) = self.unless_unsupported(said, Some(name)) {
                return said;
            }
        }
        let store = self.keeper(Some(name)).ok_or(Error::NoAttribute)?;
        let Some(handle) = self.server().lasting_handle(ino)? else { return Err(Error::NoAttribute) };
        let name = Bytes::copy_from_slice(name);
        let key = Key::of(&handle);
        let reading = Arc::clone(&store);
        let wanted = name.clone();
        // That there is none costs nothing; only then are rights asked for.
        blocking(move || reading.get(key, &wanted)).await?;
        self.server().access(cred, ino, WRITE).await?;
        blocking(move || store.remove(key, &name)).await
    }
}
