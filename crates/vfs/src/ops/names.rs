//! Finding and making names.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nfs4_client::{Along, Create, Created, Cred, Errno, NewNode, OpenAccess, OpenHow};

use crate::attr::FileKind;
use crate::attrs::Origin;
use crate::dir::FIRST_PAGE;
use crate::error::{Error, Result};
use crate::name::Name;
use crate::names::{Dentry, Edit};
use crate::node::{Node, OwnChange, Place};
use crate::types::{Entry, Looked, NodeKind};
use crate::vfs::Vfs;

/// How long a name that nobody has asked for is taken for missing because a listing lacks it. Short: another client may
/// have just made it and told somebody here.
const INFERRED: Duration = Duration::from_secs(1);

/// For so long after the last directory was made in a directory, another is expected there.
const GROWS: Duration = Duration::from_secs(30);

/// How long nothing must be changed in a directory whose times are renewed unasked.
const QUIET: Duration = Duration::from_millis(30);

impl Vfs {
    /// What a name stands for. No round trip while the directory's names are known and the file's attributes hold, else
    /// one.
    pub async fn lookup(&self, cred: &Cred, parent: u64, name: &[u8]) -> Result<Looked> {
        let dir = self.directory(parent)?;
        if let Some(entry) = self.newborn_entry(parent, name) {
            if self.mount().options.kernel_judges || self.may_search(cred, &dir) {
                return Ok(Looked::Found(entry));
            }
            self.settle_in(Some(parent)).await;
        }
        match self.child(cred, &dir, name).await? {
            Some(node) => Ok(Looked::Found(self.entry(&dir, &node))),
            None => Ok(Looked::Missing { ttl: self.missing_ttl(&dir, name, Instant::now()) }),
        }
    }

    /// As [`Self::lookup`] for a kernel, which asks for a file's attributes by themselves when it needs them: where the name
    /// is known and only the attributes have run out, they come with a time of zero and cost nothing.
    pub async fn lookup_for_kernel(&self, cred: &Cred, parent: u64, name: &[u8]) -> Result<Looked> {
        let dir = self.directory(parent)?;
        if !matches!(name, b"." | b"..") && !self.mount().hides(name) {
            self.settle_rights(&dir).await;
            if let Some(Remembered::Fresh(node) | Remembered::Stale(node)) = self.remembered(cred, &dir, name) {
                if !self.is_insisted_on(&dir, &node) {
                    self.arrive(cred, &dir, name, &node);
                    return Ok(Looked::Found(self.entry(&dir, &node)));
                }
                if let Some(node) = self.ask_for(cred, &dir, name).await? {
                    return Ok(Looked::Found(self.entry(&dir, &node)));
                }
            }
        }
        self.lookup(cred, parent, name).await
    }

    /// Whether the kernel asks for a name again that it could rely on ([`Insisted`](crate::insisted::Insisted)).
    fn is_insisted_on(&self, dir: &Node, node: &Node) -> bool {
        if !self.mount().options.kernel_keeps_names {
            return false;
        }
        let now = Instant::now();
        let until = now + self.name_ttl(dir, now);
        self.mount().insisted.lock().asks_again(dir.ino(), node.id, until, now)
    }

    /// The kernel has come to a directory without a round trip. Whoever is on the way there will ask for a name in it next,
    /// so the beginning of its listing is fetched behind their back, as a LOOKUP would have brought it.
    fn arrive(&self, cred: &Cred, dir: &Arc<Node>, name: &[u8], node: &Arc<Node>) {
        if !Self::wants_listing(node) {
            return;
        }
        {
            let mut state = node.lock();
            let children = state.dir();
            if children.head.is_some() || children.listing.is_some() || children.asked_about {
                return;
            }
            children.asked_about = true;
        }
        let (vfs, cred, dir) = (self.clone(), cred.clone(), Arc::clone(dir));
        let (name, node) = (Bytes::copy_from_slice(name), Arc::clone(node));
        self.mount().tasks.spawn(async move {
            if let Err(error) = vfs.ask_for(&cred, &dir, &name).await {
                tracing::debug!(%error, ino = node.ino(), "a directory could not be listed ahead");
            }
            node.lock().dir().asked_about = false;
        });
    }

    /// Whether a name stands for something, as far as that can be told without asking.
    pub fn remembers(&self, cred: &Cred, parent: u64, name: &[u8]) -> Option<bool> {
        if self.is_newborn(parent, name) {
            return Some(true);
        }
        let dir = self.directory(parent).ok()?;
        self.remembered(cred, &dir, name).map(|remembered| !matches!(remembered, Remembered::Missing))
    }

    /// For how long a name may be taken for missing.
    fn missing_ttl(&self, dir: &Node, name: &[u8], now: Instant) -> Duration {
        let ttl = self.name_ttl(dir, now);
        let mut state = dir.lock();
        let age = state.attrs.age(now);
        if state.dir().names.is_inferred(name) { ttl.min(INFERRED.saturating_sub(age)) } else { ttl }
    }

    /// The file of a name, if there is one; its attributes may be old.
    pub(crate) async fn named(&self, cred: &Cred, dir: &Arc<Node>, name: &[u8]) -> Result<Option<Arc<Node>>> {
        match self.remembered(cred, dir, name) {
            Some(Remembered::Fresh(node) | Remembered::Stale(node)) => Ok(Some(node)),
            _ => self.child(cred, dir, name).await,
        }
    }

    /// The file of a name, if there is one, with attributes that hold.
    pub(crate) async fn child(&self, cred: &Cred, dir: &Arc<Node>, name: &[u8]) -> Result<Option<Arc<Node>>> {
        if name == b"." {
            return Ok(Some(Arc::clone(dir)));
        }
        if name == b".." {
            return self.parent(cred, dir).await.map(Some);
        }
        self.check_name(name)?;
        if self.mount().hides(name) {
            return Ok(None);
        }
        self.settle_rights(dir).await;
        match self.remembered(cred, dir, name) {
            Some(Remembered::Missing) => return Ok(None),
            Some(Remembered::Fresh(node)) => return Ok(Some(node)),
            Some(Remembered::Stale(node)) => {
                if self.refresh_siblings(cred, &node).await
                    && let Some(Remembered::Fresh(node)) = self.remembered(cred, dir, name)
                {
                    return Ok(Some(node));
                }
            }
            None => {}
        }
        self.ask_for(cred, dir, name).await
    }

    /// LOOKUP; a directory that is found brings its listing along.
    async fn ask_for(&self, cred: &Cred, dir: &Arc<Node>, name: &[u8]) -> Result<Option<Arc<Node>>> {
        let before = self.known_child(dir, name);
        let wants = before.as_ref().is_none_or(|node| Self::wants_listing(node));
        let along = if wants { Along::Listing(FIRST_PAGE) } else { Along::Nothing };
        let edits = before.map_or(0, |node| node.edits());
        self.list_after_misses(cred, dir);
        let sent = Instant::now();
        let found = self.mount().client.lookup(cred, &dir.handle, name, along).await;
        let found = self.heard(dir, found)?;
        self.take_attr(dir, &found.dir, sent);
        let node = found.entry.map(|found| {
            let place = Place { parent: dir.ino(), name: name.into() };
            let node = self.node_for(&found.handle, &found.attr, sent, Some(place));
            if let Some(rights) = found.rights {
                node.lock().learn_rights(cred, rights, sent);
            }
            if let Some(page) = found.listing {
                self.take_first_page(cred, &node, page, edits, sent);
            }
            node
        });
        let dentry = node.as_ref().map_or(Dentry::Missing, |node| Dentry::Present { id: node.id, kind: node.kind });
        dir.lock().dir().names.learn(found.dir.change, name, dentry);
        Ok(node)
    }

    fn may_search(&self, cred: &Cred, dir: &Node) -> bool {
        dir.lock().may_search(cred, Instant::now(), self.mount().options.timeouts.dir_max)
    }

    fn remembered(&self, cred: &Cred, dir: &Arc<Node>, name: &[u8]) -> Option<Remembered> {
        let now = Instant::now();
        let dentry = {
            let mut state = dir.lock();
            if !state.may_search(cred, now, self.mount().options.timeouts.dir_max) {
                return None;
            }
            let (change, age) = (state.attrs.fresh_change(now), state.attrs.age(now));
            let names = &mut state.dir().names;
            let dentry = names.get(name, change, now)?;
            if dentry == Dentry::Missing && names.is_inferred(name) && age >= INFERRED {
                return None;
            }
            dentry
        };
        let Dentry::Present { id, .. } = dentry else { return Some(Remembered::Missing) };
        let node = self.mount().table.lock().resolve(id)?;
        let holds = node.lock().fresh(now).is_some();
        Some(if holds { Remembered::Fresh(node) } else { Remembered::Stale(node) })
    }

    /// The file that a name stood for when it was last heard of. Open files are found even when the directory's names
    /// have been forgotten.
    pub(crate) fn known_child(&self, dir: &Node, name: &[u8]) -> Option<Arc<Node>> {
        let id = dir.lock().dir().names.last_known(name);
        let known = id.and_then(|id| self.mount().table.lock().resolve(id));
        let is_there = |node: &Node| {
            let place = &node.lock().place;
            place.as_ref().is_some_and(|place| place.parent == dir.ino() && *place.name == *name)
        };
        known.or_else(|| {
            let open = self.mount().files.iter().find(|handle| is_there(&handle.node));
            open.map(|handle| Arc::clone(&handle.node))
        })
    }

    async fn parent(&self, cred: &Cred, dir: &Arc<Node>) -> Result<Arc<Node>> {
        if Arc::ptr_eq(dir, &self.mount().root) {
            return Ok(Arc::clone(dir));
        }
        let known = dir.lock().place.as_ref().map(|place| place.parent);
        if let Some(Ok(node)) = known.map(|ino| self.directory(ino)) {
            return Ok(node);
        }
        let sent = Instant::now();
        let (handle, attr) = self.mount().client.lookup_parent(cred, &dir.handle).await?;
        Ok(self.node_for(&handle, &attr, sent, None))
    }

    /// Makes a directory. One round trip.
    pub async fn mkdir(&self, cred: &Cred, parent: u64, name: &[u8], mode: u32) -> Result<Entry> {
        self.make(cred, parent, name, NewNode::Directory, mode).await
    }

    /// Makes a symbolic link. One round trip.
    pub async fn symlink(&self, cred: &Cred, parent: u64, name: &[u8], target: &[u8]) -> Result<Entry> {
        self.make(cred, parent, name, NewNode::Symlink(Bytes::copy_from_slice(target)), 0o777).await
    }

    /// Makes an empty regular file, a FIFO, a socket or a device. One round trip.
    pub async fn mknod(&self, cred: &Cred, parent: u64, name: &[u8], kind: NodeKind, mode: u32) -> Result<Entry> {
        let new = match kind {
            NodeKind::Regular => return self.make_regular(cred, parent, name, mode).await,
            NodeKind::Fifo => NewNode::Fifo,
            NodeKind::Socket => NewNode::Socket,
            NodeKind::CharDevice { major, minor } => NewNode::CharDevice(major, minor),
            NodeKind::BlockDevice { major, minor } => NewNode::BlockDevice(major, minor),
        };
        self.make(cred, parent, name, new, mode).await
    }

    async fn make(&self, cred: &Cred, parent: u64, name: &[u8], new: NewNode, mode: u32) -> Result<Entry> {
        self.writable()?;
        self.check_name(name)?;
        let dir = self.directory(parent)?;
        self.settle_for_new(&dir).await;
        let own = OwnChange::begin(&dir);
        let sent = Instant::now();
        let wanted = kind_of(&new);
        let set = nfs4_client::SetAttr { mode: Some(mode & 0o7777), ..Default::default() };
        let made = self.mount().client.create(cred, &dir.handle, name, new, set).await;
        let Created { handle, attr, rights, dir_change } = match made {
            Ok(created) => created,
            Err(error) => {
                drop(own);
                return Err(Self::not_made(&dir, name, error));
            }
        };
        let name = Name::from(name);
        let place = Place { parent: dir.ino(), name: name.clone() };
        let node = self.node_for(&handle, &attr, sent, Some(place));
        if let Some(rights) = rights {
            node.lock().learn_rights(cred, rights, sent);
        }
        let dentry = Dentry::Present { id: node.id, kind: node.kind };
        own.done(dir_change, vec![Edit(name, dentry)], self.mount().options.timeouts.dir_min);
        if node.kind != wanted {
            // The client takes what exists for what a first attempt without answer has made; this it cannot be.
            return Err(Error::Exists);
        }
        // Such an answer does not know the directory's value before, either.
        let is_new = dir_change.before != 0;
        if node.kind == FileKind::Directory {
            dir.lock().dir().grew = Some(Instant::now());
        }
        self.keep_known(cred, &dir);
        if is_new {
            self.has_made(cred, attr.uid);
        }
        if node.kind == FileKind::Directory && is_new {
            // Nobody else has seen it: it is empty.
            node.lock().dir().names.install(attr.change, []);
        }
        Ok(self.entry(&dir, &node))
    }

    /// Something was made in `dir`. Whoever did that will soon ask for the next name that is not there, in it or, when it is
    /// full, in the directory above (tar, git, compilers). So that this needs no round trip, GETATTR goes out behind the
    /// caller's back before [`INFERRED`] is over.
    pub(crate) fn keep_known(&self, cred: &Cred, dir: &Arc<Node>) {
        self.renew(cred, dir, true);
        let parent = dir.lock().place.as_ref().map(|place| place.parent);
        if let Some(Ok(parent)) = parent.map(|parent| self.directory(parent)) {
            self.renew(cred, &parent, false);
        }
    }

    /// Something was removed from `dir`.
    pub(crate) fn keep_watched(&self, cred: &Cred, dir: &Arc<Node>) {
        self.renew(cred, dir, false);
    }

    /// See [`Self::keep_known`]. A directory in which nothing was made just now is of interest only while it grows.
    fn renew(&self, cred: &Cred, dir: &Arc<Node>, made_in: bool) {
        let now = Instant::now();
        {
            let mut state = dir.lock();
            let (holds, has_times) = (state.attrs.fresh_change(now).is_some(), state.attrs.fresh(now).is_some());
            let is_old = state.attrs.age(now) >= INFERRED / 2;
            let grows = |at: Instant| now.saturating_duration_since(at) < GROWS;
            let children = state.dir();
            let matters = (made_in || children.grew.is_some_and(grows)) && is_old && children.names.is_complete();
            let is_watched = children.watched && !children.in_series && !has_times;
            if !holds || children.asked_about || (!matters && !is_watched) {
                return;
            }
            children.asked_about = true;
        }
        let (vfs, cred, dir) = (self.clone(), cred.clone(), Arc::clone(dir));
        self.mount().tasks.spawn(async move {
            if !made_in {
                // If this was the first of a series, that comes first.
                tokio::time::sleep(QUIET).await;
                if dir.lock().dir().names.is_changing() {
                    dir.lock().dir().asked_about = false;
                    return;
                }
            }
            if let Err(error) = vfs.revalidate(&cred, &dir).await {
                tracing::debug!(%error, ino = dir.ino(), "a directory's attributes could not be renewed");
            }
            dir.lock().dir().asked_about = false;
        });
    }

    async fn make_regular(&self, cred: &Cred, parent: u64, name: &[u8], mode: u32) -> Result<Entry> {
        self.writable()?;
        self.check_name(name)?;
        let dir = self.directory(parent)?;
        self.settle_for_new(&dir).await;
        let (vfs, cred, name) = (self.clone(), cred.clone(), Bytes::copy_from_slice(name));
        let work = async move {
            let own = OwnChange::begin(&dir);
            let sent = Instant::now();
            let set = nfs4_client::SetAttr { mode: Some(mode & 0o7777), ..Default::default() };
            let how = OpenHow { access: OpenAccess::Write, create: Some(Create::Exclusive(set)), truncate: false };
            let opened = match vfs.mount().client.open(&cred, &dir.handle, &name, how).await {
                Ok(opened) => opened,
                Err(error) => {
                    drop(own);
                    return Err(Self::not_made(&dir, &name, error));
                }
            };
            let place = Place { parent: dir.ino(), name: Name::from(&name) };
            let handle = opened.file.handle().clone();
            let node = vfs.node_for(&handle, &opened.attr, sent, Some(place));
            let dentry = Dentry::Present { id: node.id, kind: node.kind };
            let info = opened.dir_change.unwrap_or_default();
            own.done(info, vec![Edit(name.into(), dentry)], vfs.mount().options.timeouts.dir_min);
            // Behind the caller's back: nothing was written.
            let closing = vfs.clone();
            vfs.mount().tasks.spawn(async move {
                if let Err(error) = closing.mount().client.close(&opened.file).await {
                    tracing::debug!(%error, "CLOSE");
                }
            });
            Ok(vfs.entry(&dir, &node))
        };
        self.to_its_end(work).await
    }

    /// A further name for a file. One round trip.
    pub async fn link(&self, cred: &Cred, ino: u64, newparent: u64, newname: &[u8]) -> Result<Entry> {
        self.writable()?;
        self.check_name(newname)?;
        self.settle_ino(ino).await?;
        let dir = self.directory(newparent)?;
        self.settle_for_new(&dir).await;
        let node = self.node(ino)?;
        let own = OwnChange::begin(&dir);
        let sent = Instant::now();
        let linked = self.mount().client.link(cred, &node.handle, &dir.handle, newname).await;
        let (attr, info) = match linked {
            Ok(linked) => linked,
            Err(error) => {
                drop(own);
                return Err(Self::not_made(&dir, newname, error));
            }
        };
        node.update(&attr, sent, Origin::OwnChange, &self.mount().options.timeouts);
        let dentry = Dentry::Present { id: node.id, kind: node.kind };
        let edits = vec![Edit(newname.into(), dentry)];
        own.done(info, edits, self.mount().options.timeouts.dir_min);
        Ok(self.entry(&dir, &node))
    }

    /// A name that exists though we may have believed otherwise.
    pub(crate) fn not_made(dir: &Node, name: &[u8], error: nfs4_client::Error) -> Error {
        if error.errno() == Errno::Exist {
            let mut state = dir.lock();
            if state.dir().names.last_known(name).is_none() {
                // What is believed of this directory is wrong somewhere.
                state.dir().names.forget();
                state.attrs.expire();
            }
        }
        error.into()
    }
}

const fn kind_of(new: &NewNode) -> FileKind {
    match new {
        NewNode::Directory => FileKind::Directory,
        NewNode::Symlink(_) => FileKind::Symlink,
        NewNode::Fifo => FileKind::Fifo,
        NewNode::Socket => FileKind::Socket,
        NewNode::BlockDevice(..) => FileKind::BlockDevice,
        NewNode::CharDevice(..) => FileKind::CharDevice,
    }
}

/// What is known of a name without asking.
enum Remembered {
    Missing,
    /// This file, whose attributes hold.
    Fresh(Arc<Node>),
    /// This file, whose attributes have run out.
    Stale(Arc<Node>),
}
