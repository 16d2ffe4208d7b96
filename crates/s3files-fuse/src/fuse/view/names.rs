//! Names: looking up, making, removing, renaming.

use std::sync::Arc;
use std::time::Duration;

use vfs::{Cred, Entry, Errno, Error, Looked, NodeKind, OpenFlags, Opened, RenameFlags, Result};

use super::{Aim, Spot, View};
use crate::local::numbers::{Parent, is_local};
use crate::local::overlay::Counted;

/// What policy refuses; not what a directory's mode does.
const REFUSED: Error = Error::Elsewhere(Errno::Access);

/// What is never local: links, devices and the like.
const NO_SUCH_KIND: Error = Error::Elsewhere(Errno::Perm);

/// An entry that was reached by another form of its name: the kernel would miss a change under the name itself.
fn by_another_name(entry: Entry) -> Entry {
    Entry { entry_ttl: Duration::ZERO, ..entry }
}

impl View {
    /// A name was changed as the one that the server has it by: whether that is the name itself. If not, the kernel has heard
    /// nothing of that one yet.
    fn changed_as(&self, parent: u64, name: &[u8], known: &[u8]) -> bool {
        if name != known {
            self.server().forget_name(parent, known);
        }
        name == known
    }

    /// What a name stands for.
    pub async fn lookup_for_kernel(&self, cred: &Cred, parent: u64, name: &[u8]) -> Result<Looked> {
        match self.spot(parent, name)? {
            Spot::Server => {
                let known = self.known_as(cred, parent, name, Aim::Find).await?;
                let looked = self.server().lookup_for_kernel(cred, parent, &known).await?;
                Ok(match looked {
                    looked if *known == *name => looked,
                    Looked::Found(entry) => Looked::Found(by_another_name(entry)),
                    Looked::Missing { .. } => Looked::Missing { ttl: Duration::ZERO },
                })
            }
            Spot::Local(place) => {
                self.may_search(cred, parent).await?;
                let (name, cred) = (self.kept(name).into_owned(), cred.clone());
                let looked = self
                    .on_disk(move |overlay| Ok(Counted::new(overlay.lookup(&cred, place, &name)?, Arc::clone(overlay))))
                    .await?;
                Ok(looked.tell())
            }
            Spot::Denied => Ok(Looked::Missing { ttl: Duration::ZERO }),
        }
    }

    /// The kernel gives lookups back.
    pub fn forget(&self, ino: u64, count: u64) {
        match &self.local().overlay {
            Some(overlay) if is_local(ino) => overlay.forget(ino, count),
            _ => self.server().forget(ino, count),
        }
    }

    /// Something new: at the server, or here.
    async fn make(&self, cred: &Cred, parent: u64, name: &[u8], mode: u32, kind: Option<NodeKind>) -> Result<Entry> {
        match (self.spot(parent, name)?, kind) {
            (Spot::Denied, _) => Err(REFUSED),
            (Spot::Server, _) => {
                let known = self.known_as(cred, parent, name, Aim::Change).await?;
                let made = match kind {
                    None => self.server().mkdir(cred, parent, &known, mode).await,
                    Some(kind) => self.server().mknod(cred, parent, &known, kind, mode).await,
                };
                let entry = made?;
                Ok(if self.changed_as(parent, name, &known) { entry } else { by_another_name(entry) })
            }
            (Spot::Local(place), None | Some(NodeKind::Regular)) => {
                self.may_change(cred, parent).await?;
                let (name, cred) = (self.kept(name).into_owned(), cred.clone());
                self.on_disk(move |overlay| match kind {
                    None => overlay.mkdir(&cred, place, &name, mode),
                    Some(_) => overlay.mknod(&cred, place, &name, mode),
                })
                .await
            }
            (Spot::Local(_), Some(_)) => Err(NO_SUCH_KIND),
        }
    }

    /// Makes a directory.
    pub async fn mkdir(&self, cred: &Cred, parent: u64, name: &[u8], mode: u32) -> Result<Entry> {
        self.make(cred, parent, name, mode, None).await
    }

    /// Makes anything but a directory or a link.
    pub async fn mknod(&self, cred: &Cred, parent: u64, name: &[u8], kind: NodeKind, mode: u32) -> Result<Entry> {
        self.make(cred, parent, name, mode, Some(kind)).await
    }

    /// Makes a symbolic link; there are no local ones.
    pub async fn symlink(&self, cred: &Cred, parent: u64, name: &[u8], target: &[u8]) -> Result<Entry> {
        match self.spot(parent, name)? {
            Spot::Denied => Err(REFUSED),
            Spot::Local(_) => Err(NO_SUCH_KIND),
            Spot::Server => {
                let known = self.known_as(cred, parent, name, Aim::Change).await?;
                let entry = self.server().symlink(cred, parent, &known, target).await?;
                Ok(if self.changed_as(parent, name, &known) { entry } else { by_another_name(entry) })
            }
        }
    }

    /// A further name for a file; there are none for local ones.
    pub async fn link(&self, cred: &Cred, ino: u64, newparent: u64, newname: &[u8]) -> Result<Entry> {
        match self.spot(newparent, newname)? {
            Spot::Denied => Err(REFUSED),
            Spot::Local(_) if is_local(ino) => Err(NO_SUCH_KIND),
            Spot::Server if !is_local(ino) => {
                let known = self.known_as(cred, newparent, newname, Aim::Change).await?;
                let entry = self.server().link(cred, ino, newparent, &known).await?;
                Ok(if self.changed_as(newparent, newname, &known) { entry } else { by_another_name(entry) })
            }
            _ => Err(Error::Elsewhere(Errno::Xdev)),
        }
    }

    /// Opens a name, and makes the file when there is none.
    pub async fn create(
        &self,
        cred: &Cred,
        parent: u64,
        name: &[u8],
        mode: u32,
        flags: OpenFlags,
    ) -> Result<(Entry, Opened)> {
        match self.spot(parent, name)? {
            Spot::Denied => Err(REFUSED),
            Spot::Server => {
                let known = self.known_as(cred, parent, name, Aim::Change).await?;
                let (entry, opened) = self.server().create(cred, parent, &known, mode, flags).await?;
                let entry = if self.changed_as(parent, name, &known) { entry } else { by_another_name(entry) };
                Ok((entry, opened))
            }
            Spot::Local(place) => {
                self.may_change(cred, parent).await?;
                let (name, cred) = (self.kept(name).into_owned(), cred.clone());
                self.on_disk(move |overlay| overlay.create(&cred, place, &name, mode, flags)).await
            }
        }
    }

    async fn remove(&self, cred: &Cred, parent: u64, name: &[u8], is_directory: bool) -> Result<()> {
        match self.spot(parent, name)? {
            Spot::Denied => Err(Error::NotFound),
            Spot::Server => {
                let known = self.known_as(cred, parent, name, Aim::Change).await?;
                if is_directory {
                    self.server().rmdir(cred, parent, &known).await?;
                } else {
                    self.server().unlink(cred, parent, &known).await?;
                }
                self.changed_as(parent, name, &known);
                Ok(())
            }
            Spot::Local(place) => {
                self.may_take(cred, parent, place, name).await?;
                let (name, cred) = (self.kept(name).into_owned(), cred.clone());
                self.on_disk(move |overlay| {
                    if is_directory { overlay.rmdir(&cred, place, &name) } else { overlay.unlink(&cred, place, &name) }
                })
                .await
            }
        }
    }

    /// Removes a name that is not a directory's.
    pub async fn unlink(&self, cred: &Cred, parent: u64, name: &[u8]) -> Result<()> {
        self.remove(cred, parent, name, false).await
    }

    /// Removes a directory that is empty, or holds nothing but local files: the server does not know of those, and they go
    /// with it.
    pub async fn rmdir(&self, cred: &Cred, parent: u64, name: &[u8]) -> Result<()> {
        self.remove(cred, parent, name, true).await
    }

    /// Renames. Between the server and this computer, whoever asked has to copy (`EXDEV`).
    pub async fn rename(
        &self,
        cred: &Cred,
        parent: u64,
        name: &[u8],
        newparent: u64,
        newname: &[u8],
        flags: RenameFlags,
    ) -> Result<()> {
        match (self.spot(parent, name)?, self.spot(newparent, newname)?) {
            (Spot::Denied, _) => Err(Error::NotFound),
            (_, Spot::Denied) => Err(REFUSED),
            (Spot::Server, Spot::Server) => {
                let known = self.known_as(cred, parent, name, Aim::Change).await?;
                let newly = self.known_as(cred, newparent, newname, Aim::Change).await?;
                self.server().rename(cred, parent, &known, newparent, &newly, flags).await?;
                self.changed_as(parent, name, &known);
                self.changed_as(newparent, newname, &newly);
                Ok(())
            }
            (Spot::Local(from), Spot::Local(to)) => {
                self.may_take(cred, parent, from, name).await?;
                self.may_take(cred, newparent, to, newname).await?;
                self.rename_here(cred, (from, name), (to, newname), flags).await
            }
            _ => Err(Error::Elsewhere(Errno::Xdev)),
        }
    }

    async fn rename_here(
        &self,
        cred: &Cred,
        (from, name): (Parent, &[u8]),
        (to, newname): (Parent, &[u8]),
        flags: RenameFlags,
    ) -> Result<()> {
        if flags.exchange {
            return Err(Error::Invalid("local files do not change places"));
        }
        let (name, newname, cred) = (self.kept(name).into_owned(), self.kept(newname).into_owned(), cred.clone());
        self.on_disk(move |overlay| overlay.rename(&cred, (from, &name), (to, &newname), flags.no_replace)).await
    }
}
