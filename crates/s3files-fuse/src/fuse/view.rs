//! The file system as the kernel sees it: the server's files, and beside them what stays on this computer.
//!
//! The one idea: **a local file is told by its number**. Inode numbers and handles of local files lie above all those of
//! `vfs`, so each request knows by the numbers in it where it belongs; only a name in a directory of the server has to be
//! looked at ([`Spot`]). Without any of this, every request goes to `vfs` as it is.
//!
//! A local name never goes to the server and is never asked for there: that a file has none costs nothing.

mod files;
mod listing;
mod names;
mod xattrs;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vfs::{Cred, Errno, Error, Fh, Looked, Result, Vfs};

use crate::local::numbers::{Parent, is_local};
use crate::local::overlay::{Listed, Overlay};
use crate::local::policy::is_macs;
use crate::local::{Key, Local, normal};

pub use listing::Item;

/// See the module's page. Cheap to clone.
#[derive(Debug, Clone)]
pub struct View(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    vfs: Vfs,
    local: Local,
    /// The local part of listings that programs are reading.
    tails: Mutex<HashMap<u64, Arc<Vec<Listed>>>>,
}

/// What a name is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    /// What it stands for, which mostly is something in the usual form.
    Find,
    /// To make, remove or rename something.
    Change,
}

/// Where a name belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spot {
    Server,
    Local(Parent),
    /// Nobody has it, and nobody may make it.
    Denied,
}

/// Whether a handle is that of something local.
const fn is_local_fh(fh: Fh) -> bool {
    fh.0 >= Fh::FOREIGN
}

impl View {
    /// `vfs` with what is local.
    pub fn new(vfs: Vfs, local: Local) -> Self {
        Self(Arc::new(Inner { vfs, local, tails: Mutex::default() }))
    }

    /// The server's files alone.
    pub fn server(&self) -> &Vfs {
        &self.0.vfs
    }

    fn local(&self) -> &Local {
        &self.0.local
    }

    fn tails(&self) -> MutexGuard<'_, HashMap<u64, Arc<Vec<Listed>>>> {
        self.0.tails.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spot(&self, parent: u64, name: &[u8]) -> Result<Spot> {
        if is_local(parent) {
            return Ok(Spot::Local(Parent::Local(parent)));
        }
        if !self.hides(name) {
            Ok(Spot::Server)
        } else if self.local().denies {
            Ok(Spot::Denied)
        } else {
            let handle = self.server().lasting_handle(parent)?.ok_or(Error::NotDirectory)?;
            Ok(Spot::Local(Parent::Home(Key::of(&handle))))
        }
    }

    /// Whether a name of the server is not shown, because its place is here or nowhere.
    fn hides(&self, name: &[u8]) -> bool {
        (self.local().overlay.is_some() || self.local().denies) && is_macs(name)
    }

    /// Works on local files, where the disk holds up nobody.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Overlay>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let overlay = self.local().overlay.clone().ok_or(Error::NotFound)?;
        let done = tokio::task::spawn_blocking(move || work(&overlay)).await.unwrap_or(Err(Error::Closed));
        // Nobody's rights at the server are in question.
        done.map_err(|error| match error {
            Error::Denied => Error::Elsewhere(Errno::Access),
            Error::NotPermitted => Error::Elsewhere(Errno::Perm),
            error => error,
        })
    }

    /// Whether somebody may change names in a directory. Local directories judge for themselves.
    async fn may_change(&self, cred: &Cred, parent: u64) -> Result<()> {
        if is_local(parent) { Ok(()) } else { self.server().access(cred, parent, 0o3).await }
    }

    /// Whether somebody may look a local name up in a directory. Mostly answered from memory.
    async fn may_search(&self, cred: &Cred, parent: u64) -> Result<()> {
        if is_local(parent) { Ok(()) } else { self.server().access(cred, parent, 0o1).await }
    }

    /// Whether somebody may take a local name away, which in a directory of the server with the sticky bit is for its owner
    /// and the file's.
    async fn may_take(&self, cred: &Cred, parent: u64, place: Parent, name: &[u8]) -> Result<()> {
        self.may_change(cred, parent).await?;
        if is_local(parent) {
            return Ok(());
        }
        let (directory, _) = self.server().getattr(cred, parent, None).await?;
        if directory.mode & 0o1000 == 0 || cred.uid == 0 || cred.uid == directory.uid {
            return Ok(());
        }
        let (name, cred) = (self.kept(name).into_owned(), cred.clone());
        self.on_disk(move |overlay| overlay.check_own(&cred, place, &name)).await
    }

    /// The name as it is kept: for local files always in one form.
    fn kept<'a>(&self, name: &'a [u8]) -> Cow<'a, [u8]> {
        match normal::composed(name).filter(|_| self.local().normal) {
            Some(composed) => Cow::Owned(composed.to_vec()),
            None => Cow::Borrowed(name),
        }
    }

    /// The name as the server has it, or shall get it. Who has files of both forms can have both: what is done to one never
    /// hits the other, so the server is asked, unless enough is known of the directory.
    async fn known_as<'a>(&self, cred: &Cred, parent: u64, name: &'a [u8], aim: Aim) -> Result<Cow<'a, [u8]>> {
        let Some(composed) = normal::composed(name).filter(|_| self.local().normal) else {
            return Ok(Cow::Borrowed(name));
        };
        let is_given = if let Some(known) = self.server().remembers(cred, parent, name) {
            known
        } else {
            let usual = async {
                if aim == Aim::Find && self.server().remembers(cred, parent, &composed).is_none() {
                    // What becomes of it, the caller sees.
                    let _ = self.is_there(cred, parent, &composed).await;
                }
            };
            let (is_given, ()) = tokio::join!(self.is_there(cred, parent, name), usual);
            is_given?
        };
        Ok(if is_given { Cow::Borrowed(name) } else { Cow::Owned(composed.to_vec()) })
    }

    async fn is_there(&self, cred: &Cred, parent: u64, name: &[u8]) -> Result<bool> {
        match self.server().lookup(cred, parent, name).await {
            Ok(Looked::Found(entry)) => {
                self.server().forget(entry.attr.ino, 1);
                Ok(true)
            }
            // The longer form may be longer than any name can be.
            Ok(Looked::Missing { .. }) | Err(Error::NameTooLong) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
