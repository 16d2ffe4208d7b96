//! Opening: by a handle that the kernel has, by a name, from memory; and making a file.
//!
//! Close-to-open begins here: every open asks the server (an OPEN, or a GETATTR when the same identity has the file open
//! already), and pages are dropped when the change attribute has moved. One round trip brings the open state, attributes,
//! what the opener may do and the file's first bytes, and says whether its name still is its name.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use nfs4_client::{Access, Along, Create, Cred, Errno, Lookup, OpenAccess, OpenFile, OpenHow};

use crate::attr::FileKind;
use crate::error::{Error, Result};
use crate::files::OpenHandle;
use crate::kernel::Stale;
use crate::name::Name;
use crate::names::{Dentry, Edit};
use crate::node::{Node, OwnChange, Place, ServerOpen};
use crate::types::{Entry, OpenFlags, Opened};
use crate::vfs::Vfs;

/// How much of a file comes along with its open.
pub(crate) const START: u32 = 64 << 10;

fn access_of(flags: OpenFlags) -> OpenAccess {
    match (flags.read, flags.write) {
        (_, false) => OpenAccess::Read,
        (false, true) => OpenAccess::Write,
        (true, true) => OpenAccess::Both,
    }
}

/// An open under way: whoever removes the file's name meanwhile must leave the file alone.
struct Opening {
    vfs: Vfs,
    node: Arc<Node>,
}

impl Opening {
    fn begin(vfs: &Vfs, node: &Arc<Node>) -> Self {
        node.lock().file().opening += 1;
        Self { vfs: vfs.clone(), node: Arc::clone(node) }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let hidden = {
            let mut state = self.node.lock();
            let file = state.file();
            file.opening = file.opening.saturating_sub(1);
            if file.is_open() { None } else { state.unhide() }
        };
        // It was removed meanwhile, and the open has failed.
        if let Some(hidden) = hidden {
            let (vfs, node) = (self.vfs.clone(), Arc::clone(&self.node));
            self.vfs.mount().tasks.spawn(async move { vfs.remove_hidden(&node, &hidden).await });
        }
    }
}

impl Vfs {
    /// Opens a regular file. Always asks the server, unless `open_freshness` allows otherwise.
    ///
    /// # Errors
    /// What the server says, or that it is not a regular file.
    pub async fn open(&self, cred: &Cred, ino: u64, flags: OpenFlags) -> Result<Opened> {
        if flags.write || flags.truncate {
            self.writable()?;
        }
        self.settle_ino(ino).await?;
        let node = self.node(ino)?;
        match node.kind {
            FileKind::Regular => {}
            FileKind::Directory => return Err(Error::IsDirectory),
            _ => return Err(Error::Invalid("only regular files can be opened")),
        }
        let opening = Opening::begin(self, &node);
        let (vfs, cred) = (self.clone(), cred.clone());
        let work = async move {
            let _opening = opening;
            vfs.open_node(&cred, node, flags).await
        };
        self.to_its_end(work).await
    }

    async fn open_node(&self, cred: &Cred, node: Arc<Node>, flags: OpenFlags) -> Result<Opened> {
        let access = access_of(flags);
        self.settle_rights(&node).await;
        if !flags.write && !flags.truncate && !flags.direct {
            self.read_along(cred, &node);
            if let Some(open) = self.open_from_memory(cred, &node) {
                return Ok(self.new_handle(node, open, flags));
            }
        }
        let joined = node.lock().file().join(cred, access);
        if joined.is_none()
            && flags.truncate
            && flags.write
            && let Some(open) = self.open_and_truncate(cred, &node, access).await?
        {
            return Ok(self.new_handle(node, open, flags));
        }
        let (open, changed) = match joined {
            Some(open) => match self.revalidate_open(cred, &node).await {
                Ok(changed) => (open, changed),
                Err(error) => {
                    self.leave(&node, &open).await;
                    return Err(error);
                }
            },
            None => self.open_at_server(cred, &node, access, flags).await?,
        };
        if flags.truncate {
            let set = crate::types::SetAttr { size: Some(0), ..Default::default() };
            // An open for reading lends no right to change the file; then the server judges by who asks.
            let through = open.file().filter(|_| flags.write);
            if let Err(error) = self.truncate(&node, set, 0, cred, through.as_ref()).await {
                self.leave(&node, &open).await;
                return Err(error);
            }
        }
        if changed {
            // Where the kernel takes too long, the answer still has it drop the file's pages.
            let _ = self.mount().kernel.drop_now(node.ino()).await;
        }
        Ok(self.new_handle(node, open, flags))
    }

    /// An open for reading that relies on what the server said lately ([`crate::VfsOptions::open_freshness`]): of the
    /// file, of its name, and of what the caller may do with it; and its first bytes are here.
    fn open_from_memory(&self, cred: &Cred, node: &Arc<Node>) -> Option<Arc<ServerOpen>> {
        let mount = self.mount();
        let (now, freshness) = (Instant::now(), mount.options.open_freshness);
        if freshness.is_zero() {
            return None;
        }
        let (dir, place) = self.name_of(node)?;
        let is_named = {
            let mut state = dir.lock();
            let change = state.attrs.fresh_change(now).filter(|_| state.attrs.age(now) < freshness);
            let named = state.dir().names.get(&place.name, change, now);
            matches!(named, Some(Dentry::Present { id, .. }) if id == node.id)
                && state.may_search(cred, now, mount.options.timeouts.dir_max)
        };
        let mut state = node.lock();
        let may_read = |rights: Access| rights.contains(Access::READ);
        if !is_named
            || state.attrs.age(now) >= freshness
            || !state.rights(cred, now, mount.options.timeouts.dir_max).is_some_and(may_read)
        {
            return None;
        }
        let start = 0..state.attrs.last().size.min(u64::from(START));
        if !mount.pages.lock().gaps(node.id.serial, start).is_empty() {
            return None;
        }
        let file = state.file();
        let open = file.join(cred, OpenAccess::Read).unwrap_or_else(|| {
            let open = ServerOpen::later(cred, OpenAccess::Read, node.handle.clone());
            file.opens.push(Arc::clone(&open));
            open
        });
        Some(open)
    }

    /// When small files of a directory are read one after the other, the next ones are fetched ahead.
    fn read_along(&self, cred: &Cred, node: &Arc<Node>) {
        let mount = self.mount();
        if mount.options.open_freshness.is_zero() || node.lock().attrs.last().size > u64::from(START) {
            return;
        }
        let Some((dir, place)) = self.name_of(node) else { return };
        let now = Instant::now();
        let Some(ahead) = mount.siblings.lock().opened(dir.ino(), &place.name, now) else { return };
        let names = dir.lock().dir().names.files_after(&place.name, ahead.count);
        let new: Vec<_> = names.iter().filter(|(name, _)| *name > ahead.behind).cloned().collect();
        // Asked for in parts: when half of the window has been used up, or the directory's end is in sight.
        if new.is_empty() || (names.len() == ahead.count && new.len() * 2 < ahead.count) {
            return;
        }
        let reached = new.last().map(|(name, _)| name.clone()).unwrap_or_default();
        mount.siblings.lock().fetched(dir.ino(), reached);
        for (name, id) in new {
            let known = mount.table.lock().resolve(id);
            // What is large is not worth a guess.
            if known.is_some_and(|node| node.lock().attrs.last().size <= u64::from(START)) {
                mount.tasks.spawn(self.clone().fetch_sibling(cred.clone(), Arc::clone(&dir), name));
            }
        }
    }

    async fn fetch_sibling(self, cred: Cred, dir: Arc<Node>, name: Name) {
        let mount = self.mount();
        let Ok(_permit) = mount.bulk.acquire().await else { return };
        // Held until the answer is in: asleep, it would forget what was counted.
        let known = self.known_child(&dir, &name);
        let touched = known.as_ref().map_or(0, |node| node.touched());
        let sent = Instant::now();
        let Ok(found) = mount.client.lookup(&cred, &dir.handle, &name, Along::Start(START)).await else { return };
        self.take_attr(&dir, &found.dir, sent);
        let Some(found) = found.entry else { return };
        let node = self.node_for(&found.handle, &found.attr, sent, None);
        if node.kind != FileKind::Regular {
            return;
        }
        if let Some(rights) = found.rights {
            node.lock().learn_rights(&cred, rights, sent);
        }
        if let Some(read) = found.data {
            self.keep_start(&node, &read.data, found.attr.change, touched);
        }
    }

    /// OPEN and SETATTR in one round trip. By name: whatever the name stands for by now is what is to be truncated, and the
    /// file that had it before must keep its bytes. `None`: it has no name that we know, or not for this caller.
    async fn open_and_truncate(
        &self,
        cred: &Cred,
        node: &Arc<Node>,
        access: OpenAccess,
    ) -> Result<Option<Arc<ServerOpen>>> {
        let Some((dir, place)) = self.name_of(node) else { return Ok(None) };
        let frozen = self.freeze(node, 0).await;
        let how = OpenHow { access, create: None, truncate: true };
        let sent = Instant::now();
        match self.mount().client.open(cred, &dir.handle, &place.name, how).await {
            Ok(opened) if *opened.file.handle() == node.handle => {
                frozen.succeed(0, &opened.attr, sent);
                let open = ServerOpen::new(opened.file);
                node.lock().file().opens.push(Arc::clone(&open));
                Ok(Some(open))
            }
            Ok(opened) => {
                self.close_later(opened.file);
                Err(self.name_is_another(node, &dir, &place))
            }
            Err(error) if error.errno() == Errno::Access => Ok(None),
            Err(error) if error.errno() == Errno::NoEnt => Err(self.name_is_another(node, &dir, &place)),
            Err(error) => self.heard(node, Err(error)),
        }
    }

    /// CLOSE behind the caller's back.
    fn close_later(&self, file: OpenFile) {
        let vfs = self.clone();
        self.mount().tasks.spawn(async move {
            if let Err(error) = vfs.mount().client.close(&file).await {
                tracing::debug!(%error, "CLOSE");
            }
        });
    }

    /// Asks whether the file has changed and its name still is its name.
    async fn revalidate_open(&self, cred: &Cred, node: &Arc<Node>) -> Result<bool> {
        let Some((dir, place)) = self.name_of(node) else { return self.revalidate(cred, node).await };
        let sent = Instant::now();
        match self.mount().client.lookup(cred, &dir.handle, &place.name, Along::Nothing).await {
            Ok(Lookup { entry: Some(found), .. }) if found.handle == node.handle => {
                Ok(self.take_attr(node, &found.attr, sent))
            }
            Ok(_) => Err(self.name_is_another(node, &dir, &place)),
            Err(_) => self.revalidate(cred, node).await,
        }
    }

    /// The name by which a file was last found.
    fn name_of(&self, node: &Node) -> Option<(Arc<Node>, Place)> {
        let place = {
            let state = node.lock();
            state.place.clone().filter(|_| state.hidden().is_none())
        }?;
        Some((self.directory(place.parent).ok()?, place))
    }

    /// Another client has put another file in a name's place, or none. The error makes the kernel look the name up again,
    /// once, and open what it then finds.
    fn name_is_another(&self, node: &Node, dir: &Node, place: &Place) -> Error {
        let mut state = node.lock();
        if state.place.as_ref().is_some_and(|now| now.parent == place.parent && now.name == place.name) {
            state.place = None;
        }
        state.attrs.expire();
        drop(state);
        dir.lock().dir().names.unlearn(&place.name);
        self.mount().kernel.drop_later(Stale::Entry(place.parent, place.name.to_bytes()));
        Error::NameChanged
    }

    /// Whether somebody may have come to a file without the right to search the directory of its name. Where the kernel does
    /// not judge, that right is asked for here, unless they may have come by another name.
    fn may_lack_name(&self, node: &Node) -> bool {
        self.mount().options.kernel_judges || node.lock().attrs.last().nlink > 1
    }

    /// OPEN at the server, in the same round trip as the question whether the file's name still is its name.
    async fn open_by_name(
        &self,
        cred: &Cred,
        node: &Arc<Node>,
        access: OpenAccess,
        count: u32,
    ) -> Result<nfs4_client::Opened> {
        let client = &self.mount().client;
        let named = self.name_of(node);
        let name = named.as_ref().map(|(dir, place)| (&dir.handle, &place.name[..]));
        let opened = match client.open_and_read(cred, &node.handle, name, access, count).await {
            // Whoever has the file by other ways than its name does not need the right to look its name up.
            Err(error) if name.is_some() && error.errno() == Errno::Access && self.may_lack_name(node) => {
                client.open_and_read(cred, &node.handle, None, access, count).await
            }
            other => other,
        };
        match (opened, &named) {
            (Ok(opened), Some((dir, place))) if opened.named.as_ref().is_some_and(|named| *named != node.handle) => {
                let error = self.name_is_another(node, dir, place);
                self.close_later(opened.file);
                Err(error)
            }
            (Err(error), Some((dir, place))) if error.errno() == Errno::NoEnt => {
                Err(self.name_is_another(node, dir, place))
            }
            (opened, _) => self.heard(node, opened),
        }
    }

    async fn open_at_server(
        &self,
        cred: &Cred,
        node: &Arc<Node>,
        access: OpenAccess,
        flags: OpenFlags,
    ) -> Result<(Arc<ServerOpen>, bool)> {
        let mount = self.mount();
        let (touched, has_start) = {
            let mut state = node.lock();
            let start = 0..state.attrs.last().size.min(u64::from(START));
            let has_start = state.attrs.last().size > 0 && mount.pages.lock().gaps(node.id.serial, start).is_empty();
            (state.file().touched, has_start)
        };
        let wants_start = flags.read && !flags.truncate && !flags.direct && !has_start && mount.options.cache_size > 0;
        let count = if wants_start { START } else { 0 };
        let sent = Instant::now();
        let opened = self.open_by_name(cred, node, access, count).await?;
        let open = ServerOpen::new(opened.file);
        let changed = self.take_attr(node, &opened.attr, sent);
        {
            let mut state = node.lock();
            state.file().opens.push(Arc::clone(&open));
            if let Some(rights) = opened.rights {
                state.learn_rights(cred, rights, sent);
            }
        }
        if let Some(data) = opened.data {
            self.keep_start(node, &data.data, opened.attr.change, touched);
        }
        Ok((open, changed))
    }

    fn new_handle(&self, node: Arc<Node>, open: Arc<ServerOpen>, flags: OpenFlags) -> Opened {
        let fh = self.mount().next_fh();
        let (failures, keep_cache) = {
            let mut state = node.lock();
            let file = state.file();
            file.handles += 1;
            let keep_cache = file.kernel_version == Some(file.version) && !flags.truncate;
            file.kernel_version = Some(file.version);
            (file.failures, keep_cache)
        };
        let handle = OpenHandle::new(node, open, flags, failures);
        self.mount().files.insert(fh.0, Arc::new(handle));
        Opened { fh, keep_cache, direct_io: flags.bypasses_kernel_cache() }
    }

    /// Opens a name, and makes the file when there is none. With `exclusive` the server is always asked, whatever is known.
    pub async fn create(
        &self,
        cred: &Cred,
        parent: u64,
        name: &[u8],
        mode: u32,
        flags: OpenFlags,
    ) -> Result<(Entry, Opened)> {
        self.writable()?;
        self.check_name(name)?;
        let dir = self.directory(parent)?;
        let (vfs, cred, name) = (self.clone(), cred.clone(), Bytes::copy_from_slice(name));
        if let Some(made) = self.hold_back(&cred, &dir, &name, mode, flags) {
            return Ok(made);
        }
        if flags.exclusive {
            self.settle_for_new(&dir).await;
        } else {
            self.settle_in(Some(parent)).await;
        }
        let work = async move {
            let (node, open) = vfs.create_at_server(&cred, &dir, name, mode, flags).await?;
            let entry = vfs.entry(&dir, &node);
            Ok((entry, vfs.new_handle(node, open, flags)))
        };
        self.to_its_end(work).await
    }

    async fn create_at_server(
        &self,
        cred: &Cred,
        dir: &Arc<Node>,
        name: Bytes,
        mode: u32,
        flags: OpenFlags,
    ) -> Result<(Arc<Node>, Arc<ServerOpen>)> {
        // The file may exist after all; then what was written to it comes before its truncation.
        let truncates = flags.truncate && !flags.exclusive;
        let frozen = match self.known_child(dir, &name) {
            Some(node) if truncates && node.kind == FileKind::Regular => Some(self.freeze(&node, 0).await),
            _ => None,
        };
        let mount = self.mount();
        let set =
            nfs4_client::SetAttr { mode: Some(mode & 0o7777), size: truncates.then_some(0), ..Default::default() };
        let create = if flags.exclusive { Create::Exclusive(set) } else { Create::Unchecked(set) };
        let how = OpenHow { access: access_of(flags), create: Some(create), truncate: false };
        let own = OwnChange::begin(dir);
        let sent = Instant::now();
        let opened = match mount.client.open(cred, &dir.handle, &name, how).await {
            Ok(opened) => opened,
            Err(error) => {
                drop(own);
                return Err(Self::not_made(dir, &name, error));
            }
        };
        self.keep_known(cred, dir);
        if flags.exclusive {
            self.has_made(cred, opened.attr.uid);
        }
        let place = Place { parent: dir.ino(), name: Name::from(&name) };
        let handle = opened.file.handle().clone();
        let node = self.node_for(&handle, &opened.attr, sent, Some(place));
        let mut was_frozen = false;
        if let Some(frozen) = frozen.filter(|frozen| Arc::ptr_eq(frozen.node(), &node)) {
            frozen.succeed(0, &opened.attr, sent);
            was_frozen = true;
        }
        let dentry = Dentry::Present { id: node.id, kind: node.kind };
        own.done(
            opened.dir_change.unwrap_or_default(),
            vec![Edit(name.into(), dentry)],
            mount.options.timeouts.dir_min,
        );
        let open = ServerOpen::new(opened.file);
        node.lock().file().opens.push(Arc::clone(&open));
        if truncates
            && !was_frozen
            && let Err(error) = self.cut_late(&node, cred, &open).await
        {
            self.leave(&node, &open).await;
            return Err(error);
        }
        Ok((node, open))
    }
}
