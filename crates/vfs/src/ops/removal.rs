//! Removing and renaming, and the hidden names of files that are removed while they are open.
//!
//! A file that a program still has open must stay until it is closed. Where the server promises that
//! (OPEN4_RESULT_PRESERVE_UNLINKED, RFC 8881 §18.16.3) it is simply removed; elsewhere it is renamed to a name of our own
//! in the same directory, which is not shown, and removed with the last close. The kernel does not wait for that close, so
//! the next request may be the removal of the directory; then the directory waits for it.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use nfs4_client::{Along, ChangeInfo, Cred, Errno, Nfs4Error};

use crate::attr::{FileKind, Timestamp};
use crate::error::{Error, Result};
use crate::kernel::Stale;
use crate::leftovers::Leftover;
use crate::name::Name;
use crate::names::{Dentry, Edit};
use crate::node::{Hidden, Node, OwnChange, Place, ServerOpen};
use crate::types::RenameFlags;
use crate::vfs::Vfs;

/// How long a close may take from the kernel to us, while the removal of the directory has overtaken it.
const ON_ITS_WAY: Duration = Duration::from_millis(50);

impl Vfs {
    /// Removes a name that is not a directory's. One round trip.
    pub async fn unlink(&self, cred: &Cred, parent: u64, name: &[u8]) -> Result<()> {
        self.writable()?;
        let dir = self.directory(parent)?;
        self.settle_in(Some(parent)).await;
        let node = self.named(cred, &dir, name).await?.ok_or(Error::NotFound)?;
        if node.kind == FileKind::Directory {
            return Err(Error::IsDirectory);
        }
        if must_hide(&node) {
            return self.hide(cred, &dir, name, &node).await;
        }
        let (vfs, cred, name) = (self.clone(), cred.clone(), Bytes::copy_from_slice(name));
        self.to_its_end(async move { vfs.remove(&cred, &dir, name, &node).await }).await
    }

    /// Removes an empty directory. One round trip.
    pub async fn rmdir(&self, cred: &Cred, parent: u64, name: &[u8]) -> Result<()> {
        self.writable()?;
        let dir = self.directory(parent)?;
        if name == b"." {
            return Err(Error::Invalid("a directory cannot remove itself"));
        }
        self.settle_in(None).await;
        let node = self.named(cred, &dir, name).await?.ok_or(Error::NotFound)?;
        if node.kind != FileKind::Directory {
            return Err(Error::NotDirectory);
        }
        let (vfs, cred, name) = (self.clone(), cred.clone(), Bytes::copy_from_slice(name));
        let work = async move {
            let hidden = hidden_in(&node);
            match vfs.remove(&cred, &dir, name.clone(), &node).await {
                Err(error) if vfs.is_empty_now(&error, &node, hidden).await => {
                    vfs.remove(&cred, &dir, name, &node).await
                }
                outcome => outcome,
            }
        };
        self.to_its_end(work).await
    }

    /// Whether a directory that the server holds for full was so because of hidden files whose last close is under way.
    /// They have gone when this returns. `before`: how many hidden files it had before the server was asked.
    async fn is_empty_now(&self, error: &Error, dir: &Node, before: usize) -> bool {
        // A rename onto a directory that is not empty may give either.
        if !matches!(error.errno(), Errno::NotEmpty | Errno::Exist) || dir.kind != FileKind::Directory {
            return false;
        }
        let mut patient = true;
        loop {
            let mut gone = pin!(self.mount().hidden_gone.notified());
            gone.as_mut().enable();
            let hidden: Vec<_> = dir.lock().dir().hidden.iter().filter_map(Weak::upgrade).collect();
            if hidden.iter().any(|node| is_leaving(node)) {
                gone.await;
            } else if hidden.is_empty() || !patient {
                return hidden.len() < before;
            } else {
                // The close may still be on its way from the kernel to us.
                patient = false;
                let _ = tokio::time::timeout(ON_ITS_WAY, gone).await;
            }
        }
    }

    async fn remove(&self, cred: &Cred, dir: &Arc<Node>, name: Bytes, node: &Arc<Node>) -> Result<()> {
        let was_it = self.remove_name(cred, dir, name, node).await?;
        self.name_has_gone(cred, node, was_it).await;
        self.keep_watched(cred, dir);
        Ok(())
    }

    /// REMOVE of a name that stands for `node` as far as we know. Whether it did without doubt.
    async fn remove_name(&self, cred: &Cred, dir: &Arc<Node>, name: Bytes, node: &Arc<Node>) -> Result<bool> {
        let own = OwnChange::begin(dir);
        match self.mount().client.remove(cred, &dir.handle, &name).await {
            Ok(info) => {
                node.lock().gone_from(&Place { parent: dir.ino(), name: Name::from(&name) });
                let was_it = self.takes_on_trust(info) || dir.lock().dir().names.found(&name, node.id, info);
                own.done(info, vec![Edit(name.into(), Dentry::Missing)], self.mount().options.timeouts.dir_min);
                Ok(was_it)
            }
            Err(error) => {
                drop(own);
                if error.errno() == Errno::NoEnt {
                    dir.lock().dir().names.unlearn(&name);
                }
                Err(error.into())
            }
        }
    }

    /// A name is gone that stood for this file as far as we know. Where that is not certain, the server is asked behind the
    /// caller's back: another machine may have given the file another name before, and then another file has lost this one.
    async fn name_has_gone(&self, cred: &Cred, node: &Arc<Node>, was_it: bool) {
        // Of the others with several names the server may know nothing any more ([`Node::is_special`]).
        if was_it || (node.is_special() && node.lock().attrs.last().nlink > 1) {
            if self.lost_a_name(node) {
                self.say_farewell(cred, node).await;
            }
            return;
        }
        node.lock().attrs.expire();
        let (vfs, cred, node) = (self.clone(), cred.clone(), Arc::clone(node));
        self.mount().tasks.spawn(async move {
            let Ok(_permit) = vfs.mount().bulk.acquire().await else { return };
            let sent = Instant::now();
            match vfs.mount().client.getattr(&cred, &node.handle).await {
                Ok(attr) => {
                    vfs.take_attr(&node, &attr, sent);
                }
                Err(error) if matches!(error.status(), Some(Nfs4Error::Stale | Nfs4Error::Noent)) => {
                    node.lock().attrs.set_nlink(0);
                    vfs.retire(&node);
                    vfs.tell_farewell(&node).await;
                }
                Err(error) => tracing::debug!(%error, ino = node.ino(), "GETATTR"),
            }
        });
    }

    /// Of a server that never says what else happened in a directory it is not worth a request for each name to know better,
    /// unless something is kept for the file here.
    fn takes_on_trust(&self, info: ChangeInfo) -> bool {
        !info.atomic && self.mount().farewell.lock().is_none()
    }

    /// The file is gone.
    fn retire(&self, node: &Node) {
        self.mount().table.lock().retire(node.id);
        self.mount().pages.lock().drop_file(node.id.serial);
    }

    /// A file has one name less; without any it is gone, which is the answer.
    fn lost_a_name(&self, node: &Arc<Node>) -> bool {
        let last = {
            let mut state = node.lock();
            let links = state.attrs.last().nlink;
            let last = links <= 1 || node.kind == FileKind::Directory;
            state.attrs.set_nlink(if last { 0 } else { links - 1 });
            if !last && node.is_special() {
                state.attrs.renamed(Timestamp::from_system_time(SystemTime::now()));
            } else if !last {
                state.attrs.expire();
            }
            last
        };
        if last {
            self.retire(node);
        }
        last
    }

    /// Has the kernel forget what it believes of a name, for whoever has changed it by another one. It does so soon, not at
    /// once.
    pub fn forget_name(&self, parent: u64, name: &[u8]) {
        self.mount().kernel.drop_later(Stale::Entry(parent, Bytes::copy_from_slice(name)));
    }

    /// Renames an open file out of sight.
    async fn hide(&self, cred: &Cred, dir: &Arc<Node>, name: &[u8], node: &Arc<Node>) -> Result<()> {
        let hidden = Bytes::from(self.mount().hidden_name());
        let (vfs, cred, dir, node) = (self.clone(), cred.clone(), Arc::clone(dir), Arc::clone(node));
        let name = Bytes::copy_from_slice(name);
        let work = async move {
            let mount = vfs.mount();
            let mut as_hidden =
                Hidden { dir: Arc::clone(&dir), name: hidden.clone(), cred: cred.clone(), is_certain: false };
            let leftover = Leftover::new(&as_hidden, &node);
            vfs.note(leftover.clone(), true).await;
            let own = OwnChange::begin(&dir);
            let renamed = mount.client.rename(&cred, &dir.handle, &name, &dir.handle, &hidden).await;
            let (info, _) = match renamed {
                Ok(renamed) => renamed,
                Err(error) => {
                    drop(own);
                    // A server that did not answer in time may have renamed it all the same.
                    if error.status().is_some() {
                        vfs.note(leftover, false).await;
                    }
                    return Err(error.into());
                }
            };
            as_hidden.is_certain = vfs.takes_on_trust(info) || dir.lock().dir().names.found(&name, node.id, info);
            own.done(info, vec![Edit(name.into(), Dentry::Missing)], mount.options.timeouts.dir_min);
            dir.lock().dir().hidden.push(Arc::downgrade(&node));
            let closed = {
                let mut state = node.lock();
                state.more().hidden = Some(as_hidden);
                state.place = None;
                // The rename has changed its change attribute, but not its data.
                state.attrs.expire();
                if state.file().is_open() { None } else { state.unhide() }
            };
            if let Some(hidden) = closed {
                vfs.remove_hidden(&node, &hidden).await;
            }
            Ok(())
        };
        self.to_its_end(work).await
    }

    /// The last close of a hidden file.
    pub(crate) async fn remove_hidden(&self, node: &Arc<Node>, hidden: &Hidden) {
        let (cred, dir) = (&hidden.cred, &hidden.dir);
        match self.remove_name(cred, dir, hidden.name.clone(), node).await {
            Err(error) if error.errno() != Errno::NoEnt => {
                let name = String::from_utf8_lossy(&hidden.name);
                tracing::warn!(%error, "a file that was removed while it was open is left behind as {name}");
            }
            removed => {
                if removed.is_ok() {
                    self.name_has_gone(cred, node, hidden.is_certain).await;
                    self.keep_watched(cred, dir);
                }
                self.note(Leftover::new(hidden, node), false).await;
            }
        }
        self.is_hidden_no_more(hidden, node);
    }

    /// Renames; an existing target is replaced. One round trip.
    ///
    /// # Errors
    /// `no_replace` and `exchange` have no counterpart in NFS and are refused, so that programs take their other way.
    pub async fn rename(
        &self,
        cred: &Cred,
        parent: u64,
        name: &[u8],
        newparent: u64,
        newname: &[u8],
        flags: RenameFlags,
    ) -> Result<()> {
        self.writable()?;
        self.check_name(newname)?;
        let from = self.directory(parent)?;
        let to = self.directory(newparent)?;
        self.settle_in(None).await;
        if flags.exchange {
            return Err(Error::Invalid("NFS cannot exchange two names"));
        }
        let node = self.named(cred, &from, name).await?.ok_or(Error::NotFound)?;
        let target = self.named(cred, &to, newname).await?;
        if flags.no_replace {
            let refused = Error::Invalid("NFS cannot rename on condition that the target does not exist");
            return Err(if target.is_some() { Error::Exists } else { refused });
        }
        let (vfs, cred) = (self.clone(), cred.clone());
        let names = (Bytes::copy_from_slice(name), Bytes::copy_from_slice(newname));
        let work = async move {
            let out_of_sight = target.clone().filter(|target| {
                target.id != node.id
                    && target.kind != FileKind::Directory
                    && node.kind != FileKind::Directory
                    && must_hide(target)
            });
            let Some(replaced) = out_of_sight else {
                let hidden = target.as_deref().map_or(0, hidden_in);
                let renamed = vfs.rename_at_server(&cred, [&from, &to], names.clone(), &node, target.clone()).await;
                return match (renamed, &target) {
                    (Err(error), Some(replaced)) if vfs.is_empty_now(&error, replaced, hidden).await => {
                        vfs.rename_at_server(&cred, [&from, &to], names, &node, target).await
                    }
                    (outcome, _) => outcome,
                };
            };
            // A close meanwhile must not remove what has to come back if the server refuses.
            replaced.lock().file().handles += 1;
            let outcome = match vfs.hide(&cred, &to, &names.1, &replaced).await {
                Ok(()) => {
                    let outcome = vfs.rename_at_server(&cred, [&from, &to], names.clone(), &node, target).await;
                    if outcome.as_ref().is_err_and(Error::is_definite) {
                        vfs.bring_back(&to, &names.1, &replaced).await;
                    }
                    outcome
                }
                Err(error) => Err(error),
            };
            vfs.one_handle_less(&replaced, 0).await;
            outcome
        };
        self.to_its_end(work).await
    }

    /// A rename was refused for which an open file had been renamed out of sight: it gets its name back, unless another file
    /// has that by now.
    async fn bring_back(&self, dir: &Arc<Node>, name: &Bytes, node: &Arc<Node>) {
        let Some(hidden) = node.lock().unhide() else { return };
        let client = &self.mount().client;
        let found = client.lookup(&hidden.cred, &dir.handle, name, Along::Nothing).await;
        let renamed = if found.is_ok_and(|found| found.entry.is_none()) {
            let own = OwnChange::begin(dir);
            let renamed = client.rename(&hidden.cred, &dir.handle, &hidden.name, &dir.handle, name).await;
            renamed.map(|(info, _)| (own, info)).ok()
        } else {
            None
        };
        let Some((own, info)) = renamed else {
            tracing::warn!("a file that is open has lost its name, and will be removed when it is closed");
            node.lock().more().hidden = Some(hidden);
            return;
        };
        {
            let mut state = node.lock();
            state.place = Some(Place { parent: dir.ino(), name: Name::from(name) });
            state.attrs.expire();
        }
        let back = Edit(Name::from(name), Dentry::Present { id: node.id, kind: node.kind });
        own.done(info, vec![back], self.mount().options.timeouts.dir_min);
        self.is_hidden_no_more(&hidden, node);
        self.note(Leftover::new(&hidden, node), false).await;
    }

    fn is_hidden_no_more(&self, hidden: &Hidden, node: &Arc<Node>) {
        hidden.dir.lock().dir().hidden.retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(node)));
        self.mount().hidden_gone.notify_waiters();
    }

    /// Somebody has a file open no longer, of whom so many counted as closing it. The last one removes it, where it lives on
    /// under a hidden name.
    pub(crate) async fn one_handle_less(&self, node: &Arc<Node>, closing: usize) {
        let hidden = {
            let mut state = node.lock();
            let file = state.file();
            file.handles = file.handles.saturating_sub(1);
            file.closing = file.closing.saturating_sub(closing);
            if file.is_open() { None } else { state.unhide() }
        };
        if let Some(hidden) = hidden {
            self.remove_hidden(node, &hidden).await;
        }
    }

    async fn rename_at_server(
        &self,
        cred: &Cred,
        [from, to]: [&Arc<Node>; 2],
        (name, newname): (Bytes, Bytes),
        node: &Arc<Node>,
        target: Option<Arc<Node>>,
    ) -> Result<()> {
        let mount = self.mount();
        let trust = mount.options.timeouts.dir_min;
        let same_dir = Arc::ptr_eq(from, to);
        let own_from = OwnChange::begin(from);
        let own_to = (!same_dir).then(|| OwnChange::begin(to));
        let renamed = mount.client.rename(cred, &from.handle, &name, &to.handle, &newname).await;
        let (source, destination) = match renamed {
            Ok(changes) => changes,
            Err(error) => {
                drop((own_from, own_to));
                if error.errno() == Errno::NoEnt {
                    from.lock().dir().names.unlearn(&name);
                }
                // For a directory that is in use as the target servers say either (RFC 8881 §18.26.3); programs on a disk
                // are told this.
                let onto_directory = target.is_some_and(|target| target.kind == FileKind::Directory);
                return Err(if onto_directory && error.errno() == Errno::Exist {
                    Error::NotEmpty
                } else {
                    error.into()
                });
            }
        };
        if target.as_ref().is_some_and(|target| target.id == node.id) {
            // Two names of one file: nothing happened.
            own_from.done(source, Vec::new(), trust);
            if let Some(own_to) = own_to {
                own_to.done(destination, Vec::new(), trust);
            }
            return Ok(());
        }
        let replaced = if same_dir { both(source, destination) } else { destination };
        let meant = |target: &Arc<Node>| to.lock().dir().names.found(&newname, target.id, replaced);
        let was_it = self.takes_on_trust(replaced) || target.as_ref().is_some_and(meant);
        node.lock().gone_from(&Place { parent: from.ino(), name: Name::from(&name) });
        if let Some(target) = &target {
            target.lock().gone_from(&Place { parent: to.ino(), name: Name::from(&newname) });
        }
        let gone = Edit(name.into(), Dentry::Missing);
        let come = Edit(Name::from(&newname), Dentry::Present { id: node.id, kind: node.kind });
        match own_to {
            None => own_from.done(replaced, vec![gone, come], trust),
            Some(own_to) => {
                own_from.done(source, vec![gone], trust);
                own_to.done(destination, vec![come], trust);
            }
        }
        {
            let mut state = node.lock();
            state.place = Some(Place { parent: to.ino(), name: newname.into() });
            if node.is_special() {
                state.attrs.renamed(Timestamp::from_system_time(SystemTime::now()));
            } else {
                // Its ctime has changed.
                state.attrs.expire_times();
            }
        }
        if let Some(target) = target
            && target.lock().hidden().is_none()
        {
            self.name_has_gone(cred, &target, was_it).await;
        }
        Ok(())
    }
}

/// Within one directory, the reply tells the same change twice; servers differ in which half is right.
fn both(source: ChangeInfo, destination: ChangeInfo) -> ChangeInfo {
    if source == destination {
        return source;
    }
    let later = |a: u64, b: u64| if a.wrapping_sub(b).cast_signed() > 0 { a } else { b };
    let earlier = |a: u64, b: u64| if a.wrapping_sub(b).cast_signed() > 0 { b } else { a };
    ChangeInfo {
        atomic: source.atomic && destination.atomic,
        before: earlier(source.before, destination.before),
        after: later(source.after, destination.after),
    }
}

/// How many files live on in a directory under hidden names.
fn hidden_in(dir: &Node) -> usize {
    if dir.kind == FileKind::Directory { dir.lock().dir().hidden.len() } else { 0 }
}

/// Whether a hidden file's last close is under way.
fn is_leaving(node: &Node) -> bool {
    let mut state = node.lock();
    state.known_file().is_none_or(|file| file.opening == 0 && file.closing >= file.handles)
}

/// Whether removing the file's name must leave the file alone because it is open, or about to be, and the server would
/// not keep it: what it does is known from the opens that it has answered.
fn must_hide(node: &Arc<Node>) -> bool {
    let mut state = node.lock();
    if state.hidden().is_some() {
        return false;
    }
    let Some(file) = state.known_file() else { return false };
    let survives = |open: &Arc<ServerOpen>| open.file().is_some_and(|file| file.survives_unlink());
    file.is_open() && (file.opens.is_empty() || !file.opens.iter().all(survives))
}
