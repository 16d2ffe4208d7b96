//! Listings: a directory read once, page by page, for as many readers as want it.
//!
//! A reader gets a listing when it starts (or goes back to the beginning) and keeps it, so its positions are places in a
//! list that does not change, whatever happens to the directory. READDIR asks for attributes and handles of all
//! children, so a listing fills the caches; when the directory stayed the same from the first page to the last, the
//! listing is also the whole truth about its names.
//!
//! The first page often comes before anybody asks: along with the lookup of the directory, or ahead of a program that
//! walks a tree ([`Walk`](crate::walk::Walk)). What it does not hold is read only when somebody wants it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nfs4_client::{Cred, DirEntry, DirPage, Nfs4Error};
use tokio::sync::Notify;

use crate::attr::FileKind;
use crate::attrs::Origin;
use crate::error::{Error, Result};
use crate::inode::NodeId;
use crate::name::Name;
use crate::names::Dentry;
use crate::node::{Node, Place};
use crate::sync::Locked;
use crate::types::{DirItem, Entry, Fh};
use crate::vfs::Vfs;
use crate::walk::Arrival;

/// `.` and `..` come first.
const DOTS: u64 = 2;

/// How often a listing is begun anew when the server has lost track of it.
const RESTARTS: u32 = 3;

/// How many children are looked at to see whether a cached listing's attributes are still good.
const SAMPLE: usize = 32;

/// Bytes of a listing that come before anybody asks for it.
pub(crate) const FIRST_PAGE: u32 = 256 << 10;

/// LOOKUPs in a row, within [`MISSES_WITHIN`], after which the directory is listed.
const MISSES: u32 = 2;

/// See [`MISSES`].
const MISSES_WITHIN: Duration = Duration::from_secs(1);

/// Larger directories are not listed anew ahead of a walk only because their children's attributes are old.
const REFRESH_AHEAD: usize = 5_000;

/// A listing that is being read, or has been.
#[derive(Debug)]
pub(crate) struct Listing {
    cred: Cred,
    /// Our own changes of the directory before it was begun.
    edits: u64,
    /// Somebody wants all of it. Changes under the directory's lock.
    wanted: AtomicBool,
    state: Locked<ListingState>,
    progress: Notify,
}

#[derive(Debug, Default)]
struct ListingState {
    items: Vec<Item>,
    end: Option<Result<()>>,
}

/// The first page of a listing that has more.
#[derive(Debug)]
pub(crate) struct Head {
    cred: Cred,
    edits: u64,
    change: u64,
    items: Vec<Item>,
    cookie: u64,
    verifier: [u8; 8],
}

/// One name.
#[derive(Debug, Clone)]
struct Item {
    name: Name,
    kind: FileKind,
    ino: u64,
    id: Option<NodeId>,
}

impl Item {
    fn dentry(&self) -> Dentry {
        self.id.map_or(Dentry::Unknown, |id| Dentry::Present { id, kind: self.kind })
    }
}

impl Listing {
    fn new(cred: &Cred, edits: u64, wanted: bool) -> Self {
        let wanted = AtomicBool::new(wanted);
        Self { cred: cred.clone(), edits, wanted, state: Locked::default(), progress: Notify::new() }
    }

    fn push(&self, items: Vec<Item>) {
        self.state.lock().items.extend(items);
        self.progress.notify_waiters();
    }

    fn finish(&self, end: Result<()>) {
        self.state.lock().end = Some(end);
        self.progress.notify_waiters();
    }

    /// It is no longer the one to join.
    fn leave(self: &Arc<Self>, dir: &Node) {
        let listing = &mut dir.lock();
        let listing = &mut listing.dir().listing;
        if listing.as_ref().is_some_and(|other| Arc::ptr_eq(other, self)) {
            *listing = None;
        }
    }

    /// Nobody wants more than the first page: it is kept with the place where it ends.
    fn rests(self: &Arc<Self>, dir: &Node, change: u64, cookie: u64, verifier: [u8; 8]) -> bool {
        let mut state = dir.lock();
        if self.wanted.load(Ordering::Acquire) {
            return false;
        }
        let dir_state = state.dir();
        // Who comes from now on begins with what is kept.
        if dir_state.listing.as_ref().is_some_and(|other| Arc::ptr_eq(other, self)) {
            dir_state.listing = None;
        }
        let items = std::mem::take(&mut self.state.lock().items);
        let (cred, edits) = (self.cred.clone(), self.edits);
        dir_state.head = Some(Box::new(Head { cred, edits, change, items, cookie, verifier }));
        true
    }

    fn is_finished(&self) -> bool {
        self.state.lock().end.is_some()
    }

    /// The items from `index` on, at most `count`; empty at the end. Waits until there is at least one.
    async fn items(&self, index: usize, count: usize) -> Result<Vec<Item>> {
        loop {
            let more = self.progress.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            {
                let state = self.state.lock();
                if index < state.items.len() {
                    let end = state.items.len().min(index.saturating_add(count));
                    return Ok(state.items[index..end].to_vec());
                }
                match &state.end {
                    Some(Ok(())) => return Ok(Vec::new()),
                    Some(Err(error)) => return Err(error.clone()),
                    None => {}
                }
            }
            more.await;
        }
    }

    /// Waits for the end.
    pub(crate) async fn finished(&self) -> Result<()> {
        loop {
            let more = self.progress.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            let end = self.state.lock().end.clone();
            if let Some(end) = end {
                return end;
            }
            more.await;
        }
    }
}

/// A directory that a program has open.
#[derive(Debug)]
pub(crate) struct DirHandle {
    node: Arc<Node>,
    listing: Locked<Option<Arc<Listing>>>,
}

impl Vfs {
    /// Opens a directory for listing.
    ///
    /// # Errors
    /// When it is none.
    #[allow(clippy::unused_async)] // one day it may have to ask; the adapter treats all calls alike
    pub async fn opendir(&self, _cred: &Cred, ino: u64) -> Result<Fh> {
        let node = self.directory(ino)?;
        let fh = self.mount().next_fh();
        self.mount().dirs.insert(fh.0, Arc::new(DirHandle { node, listing: Locked::default() }));
        Ok(fh)
    }

    /// Closes it.
    #[allow(clippy::unused_async)]
    pub async fn releasedir(&self, _cred: &Cred, _ino: u64, fh: Fh) -> Result<()> {
        self.mount().dirs.remove(&fh.0).map(|_| ()).ok_or(Error::BadHandle)
    }

    /// Makes changes of a directory durable: brings to the server what is held back; it makes durable what it answers.
    ///
    /// # Errors
    /// What the server says of the directory's own attributes.
    pub async fn fsyncdir(&self, _cred: &Cred, _ino: u64, fh: Fh) -> Result<()> {
        let handle = self.mount().dirs.get(&fh.0).map(|handle| Arc::clone(&handle)).ok_or(Error::BadHandle)?;
        // Its own attributes first: what goes wrong with them is told here.
        let told = self.settle_held(&handle.node).await;
        self.settle_in(Some(handle.node.ino())).await;
        told
    }

    /// Entries from `offset` on (0, or the `offset` of an entry that was returned), as many as fit in `max_bytes` as FUSE
    /// counts them; `.` and `..` included; none at the end. With `plus`, what is known of each file comes along.
    pub async fn readdir(
        &self,
        cred: &Cred,
        _ino: u64,
        fh: Fh,
        offset: u64,
        plus: bool,
        max_bytes: usize,
    ) -> Result<Vec<DirItem>> {
        let handle = self.mount().dirs.get(&fh.0).map(|handle| Arc::clone(&handle)).ok_or(Error::BadHandle)?;
        let dir = &handle.node;
        let mut fresh = plus;
        if offset == 0 {
            self.settle_in(Some(dir.ino())).await;
            // What was listed ahead serves the walk, though the children's attributes may have run out meanwhile. Should it
            // ask for them, it will for all.
            if self.walk_to(cred, dir).expected && Self::next_stale_child_refreshes_all(dir) {
                fresh = false;
            }
        }
        let known = handle.listing.lock().clone();
        let listing = match known {
            Some(listing) if offset > 0 => listing,
            _ => {
                let listing = match self.listing_from_names(cred, dir, fresh) {
                    Some(listing) => listing,
                    None => self.list(cred, dir, true),
                };
                *handle.listing.lock() = Some(Arc::clone(&listing));
                listing
            }
        };
        let per_item = if plus { 160 } else { 32 };
        let mut room = max_bytes;
        let mut out = Vec::new();
        for (at, name) in (0..).zip([&b"."[..], b".."]) {
            if at >= offset {
                let ino =
                    if at == 0 { dir.ino() } else { dir.lock().place.as_ref().map_or(dir.ino(), |place| place.parent) };
                let name = Name::from(name);
                out.push(DirItem {
                    ino,
                    offset: at + 1,
                    kind: FileKind::Directory,
                    name,
                    entry: None,
                    pin: None,
                    parent: dir.ino(),
                });
                room = room.saturating_sub(per_item);
            }
        }
        let first = offset.max(DOTS) - DOTS;
        let items = listing.items(first as usize, (room / per_item).max(1)).await;
        let items = match items {
            // What is there already is served first; the error comes with the next call.
            Err(error) if out.is_empty() => return Err(error),
            Err(_) => return Ok(out),
            Ok(items) => items,
        };
        let now = Instant::now();
        let entry_ttl = self.name_ttl(dir, now);
        // What a name meant when the listing was read, it may mean no longer since a change of ours. Then the kernel asks.
        let means = |item: &Item| {
            let mut state = dir.lock();
            let names = &state.dir().names;
            names.edits() == listing.edits || names.last_known(&item.name) == item.id
        };
        for (index, item) in (first..).zip(items) {
            let cost = per_item + item.name.len();
            if cost > room && !out.is_empty() {
                break;
            }
            room = room.saturating_sub(cost);
            let pin = item.id.filter(|_| plus && means(&item)).and_then(|id| self.mount().table.lock().resolve(id));
            // Attributes that have run out come with a time of zero: the kernel asks for them if it needs them. The name
            // does, too, where another client may have given it to another file since the listing was read.
            let entry = pin.as_ref().map(|node| {
                let (attr, attr_ttl) = {
                    let state = node.lock();
                    (state.shown(), state.ttl(now))
                };
                let holds = !attr_ttl.is_zero() || Self::still_means(dir, &item.name, node.id, now);
                let entry_ttl = if holds { entry_ttl } else { Duration::ZERO };
                Entry { attr, generation: node.id.serial, entry_ttl, attr_ttl }
            });
            out.push(DirItem {
                ino: item.ino,
                offset: index + DOTS + 1,
                kind: item.kind,
                name: item.name,
                entry,
                pin,
                parent: dir.ino(),
            });
        }
        Ok(out)
    }

    /// Whether a name is known to stand for this file, by what the directory is now.
    fn still_means(dir: &Node, name: &[u8], id: NodeId, now: Instant) -> bool {
        let mut state = dir.lock();
        let change = state.attrs.fresh_change(now);
        matches!(state.dir().names.get(name, change, now), Some(Dentry::Present { id: known, .. }) if known == id)
    }

    /// The kernel took the entry of a [`DirItem`]: that counts as a lookup.
    pub fn accepted(&self, item: &DirItem) {
        if let (Some(node), Some(_)) = (&item.pin, &item.entry) {
            {
                let mut state = node.lock();
                if state.hidden().is_none() {
                    state.place = Some(Place { parent: item.parent, name: item.name.clone() });
                }
            }
            self.mount().table.lock().add_lookups(node.ino(), 1);
        }
    }

    /// A listing without asking, when all names are known and, with `fresh`, most children's attributes hold.
    fn listing_from_names(&self, cred: &Cred, dir: &Arc<Node>, fresh: bool) -> Option<Arc<Listing>> {
        let now = Instant::now();
        let (names, edits) = {
            let mut state = dir.lock();
            if !state.may_list(cred, now, self.mount().options.timeouts.dir_max) {
                return None;
            }
            let change = state.attrs.fresh_change(now);
            let names = &mut state.dir().names;
            (names.all(change, now)?, names.edits())
        };
        if names.iter().any(|(_, dentry)| *dentry == Dentry::Unknown) {
            return None;
        }
        let mut table = self.mount().table.lock();
        if fresh {
            let step = (names.len() / SAMPLE).max(1);
            let sample: Vec<_> = names.iter().step_by(step).collect();
            let mut is_fresh = |dentry: &Dentry| match dentry {
                Dentry::Present { id, .. } => table.resolve(*id).is_some_and(|node| node.lock().fresh(now).is_some()),
                _ => false,
            };
            if sample.iter().filter(|(_, dentry)| is_fresh(dentry)).count() * 4 < sample.len() * 3 {
                return None;
            }
        }
        let item = |(name, dentry): (Name, Dentry)| match dentry {
            Dentry::Present { id, kind } => Item { name, kind, ino: id.ino, id: Some(id) },
            _ => Item { name, kind: FileKind::Regular, ino: table.peek(None, None), id: None },
        };
        let listing = Listing::new(cred, edits, true);
        listing.push(names.into_iter().map(item).collect());
        listing.finish(Ok(()));
        Some(Arc::new(listing))
    }

    /// Reads the directory, or joins somebody who is just doing so. Without `wanted`, only the first page.
    pub(crate) fn list(&self, cred: &Cred, dir: &Arc<Node>, wanted: bool) -> Arc<Listing> {
        let mut state = dir.lock();
        let change = state.attrs.fresh_change(Instant::now());
        let dir_state = state.dir();
        let edits = dir_state.names.edits();
        if let Some(listing) = &dir_state.listing
            && listing.edits == edits
            && listing.cred == *cred
            && !listing.is_finished()
        {
            listing.wanted.fetch_or(wanted, Ordering::AcqRel);
            return Arc::clone(listing);
        }
        let head = dir_state.head.take().filter(|head| head.holds(cred, edits, change));
        let listing = Arc::new(Listing::new(cred, edits, wanted));
        dir_state.listing = Some(Arc::clone(&listing));
        drop(state);
        let (vfs, dir, reading) = (self.clone(), Arc::clone(dir), Arc::clone(&listing));
        self.mount().tasks.spawn(async move {
            let end = vfs.read_listing(&dir, &reading, head).await;
            reading.leave(&dir);
            reading.finish(end);
            vfs.walk_below(&reading.cred, &dir);
        });
        listing
    }

    async fn read_listing(&self, dir: &Arc<Node>, listing: &Arc<Listing>, head: Option<Box<Head>>) -> Result<()> {
        let mount = self.mount();
        let (mut cookie, mut verifier, mut restarts) = (0, [0; 8], 0);
        let mut change = None;
        let mut one_state = true;
        let mut served: HashSet<Name> = HashSet::new();
        if let Some(head) = head {
            (cookie, verifier, change) = (head.cookie, head.verifier, Some(head.change));
            listing.push(head.items);
        }
        loop {
            let sent = Instant::now();
            let size = if listing.wanted.load(Ordering::Acquire) { u32::MAX } else { FIRST_PAGE };
            let page = match mount.client.readdir(&listing.cred, &dir.handle, cookie, verifier, size).await {
                Ok(page) => page,
                Err(error) if lost_track(&error) && cookie > 0 && restarts < RESTARTS => {
                    // Begin again; what has been served already is not served twice.
                    (cookie, verifier, restarts) = (0, [0; 8], restarts + 1);
                    one_state = false;
                    served.extend(listing.state.lock().items.iter().map(|item| item.name.clone()));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            self.take_page_attr(&listing.cred, dir, &page, sent);
            one_state &= change.is_none_or(|change| change == page.dir.change);
            change = Some(page.dir.change);
            let last = page.entries.last().map(|entry| entry.cookie);
            let mut items = self.take_entries(dir, page.entries, sent);
            items.retain(|item| !served.contains(&item.name));
            listing.push(items);
            match last {
                _ if page.eof => break,
                Some(last) if last != cookie => (cookie, verifier) = (last, page.verifier),
                _ => return Err(Error::Invalid("the server sent a page of a listing that leads nowhere")),
            }
            if one_state && listing.rests(dir, page.dir.change, cookie, verifier) {
                return Ok(());
            }
        }
        if let Some(change) = change
            && one_state
        {
            let names: Vec<_> =
                listing.state.lock().items.iter().map(|item| (item.name.clone(), item.dentry())).collect();
            let mut state = dir.lock();
            let dir_state = state.dir();
            if dir_state.names.edits() == listing.edits {
                dir_state.names.install(change, names);
                dir_state.head = None;
            }
        }
        Ok(())
    }

    fn take_page_attr(&self, cred: &Cred, dir: &Arc<Node>, page: &DirPage, sent: Instant) {
        dir.update(&page.dir, sent, Origin::Asked, &self.mount().options.timeouts);
        if let Some(rights) = page.rights {
            dir.lock().learn_rights(cred, rights, sent);
        }
    }

    /// The first page of a directory's listing came along with its lookup, which was sent after `edits` changes of ours.
    pub(crate) fn take_first_page(&self, cred: &Cred, dir: &Arc<Node>, page: DirPage, edits: u64, sent: Instant) {
        if dir.kind != FileKind::Directory {
            return;
        }
        let (change, verifier, eof) = (page.dir.change, page.verifier, page.eof);
        let cookie = page.entries.last().map(|entry| entry.cookie);
        let items = self.take_entries(dir, page.entries, sent);
        let mut state = dir.lock();
        let dir_state = state.dir();
        if dir_state.names.edits() != edits {
            return;
        }
        if eof {
            dir_state.names.install(change, items.into_iter().map(|item| (item.name.clone(), item.dentry())));
        } else if let Some(cookie) = cookie
            && dir_state.listing.is_none()
            && !dir_state.names.is_complete()
        {
            // Else somebody has read on meanwhile; who lists it later shall not begin with what is old by then.
            dir_state.head = Some(Box::new(Head { cred: cred.clone(), edits, change, items, cookie, verifier }));
        }
    }

    /// Whether the listing of what may be a directory is worth a page: not all of its names are known.
    pub(crate) fn wants_listing(node: &Node) -> bool {
        node.kind == FileKind::Directory && !node.lock().dir().names.is_complete()
    }

    /// A name is asked for that a listing would have told. When that happens again and again, the directory is listed.
    pub(crate) fn list_after_misses(&self, cred: &Cred, dir: &Arc<Node>) {
        {
            let now = Instant::now();
            let mut state = dir.lock();
            let change = Some(state.attrs.last().change);
            let dir_state = state.dir();
            if dir_state.missed_since.is_none_or(|since| now.saturating_duration_since(since) > MISSES_WITHIN) {
                (dir_state.missed_since, dir_state.misses) = (Some(now), 0);
            }
            dir_state.misses += 1;
            let edits = dir_state.names.edits();
            // A directory whose first page is known to be not all is too large to be listed unasked.
            let is_large = dir_state.head.as_ref().is_some_and(|head| head.holds(cred, edits, change));
            if dir_state.misses != MISSES || is_large || dir_state.names.is_complete() {
                return;
            }
        }
        self.list(cred, dir, false);
    }

    /// A program reads a directory: if it is walking a tree, what it will open next is listed ahead.
    fn walk_to(&self, cred: &Cred, dir: &Arc<Node>) -> Arrival {
        let (now, parent) = (Instant::now(), dir.lock().place.as_ref().map(|place| place.parent));
        let walk = &self.mount().walk;
        let arrival = walk.lock().opened(dir.ino(), parent, now);
        if !arrival.walks {
            return arrival;
        }
        if let Some(parent) = parent.and_then(|parent| self.directory(parent).ok()) {
            self.expect_siblings(&parent, dir.ino());
        }
        self.walk_below(cred, dir);
        arrival
    }

    /// Expects the subdirectories of `parent`, once in a while: those behind `ino` first, as they will be opened. False: it
    /// was done lately, or they are not known yet.
    pub(crate) fn expect_siblings(&self, parent: &Node, ino: u64) -> bool {
        let now = Instant::now();
        let walk = &self.mount().walk;
        if !walk.lock().expands(parent.ino(), now) {
            return false;
        }
        let mut dirs = subdirectories(parent);
        if dirs.is_empty() {
            // Its listing is still on the way, and expects them when it is there.
            walk.lock().not_expanded(parent.ino());
            return false;
        }
        let here = dirs.iter().position(|other| *other == ino).map_or(0, |at| at + 1);
        dirs.rotate_left(here);
        walk.lock().expect(dirs.into_iter(), now);
        true
    }

    /// The names of a directory are known; if somebody walks through it, its subdirectories come next.
    fn walk_below(&self, cred: &Cred, dir: &Arc<Node>) {
        let now = Instant::now();
        let walk = &self.mount().walk;
        if !walk.lock().goes_below(dir.ino(), now) {
            return;
        }
        let dirs = subdirectories(dir);
        if !dirs.is_empty() {
            let mut walk = walk.lock();
            if walk.expands(dir.ino(), now) {
                walk.expect(dirs.into_iter(), now);
            }
        }
        self.walk_on(cred);
    }

    /// Lists what is expected to be opened, as far as it may go ahead.
    pub(crate) fn walk_on(&self, cred: &Cred) {
        loop {
            let next = self.mount().walk.lock().next(Instant::now());
            let Some(ino) = next else { return };
            let (vfs, cred) = (self.clone(), cred.clone());
            self.mount().tasks.spawn(async move {
                if !vfs.list_ahead(&cred, ino).await {
                    vfs.mount().walk.lock().not_listed(ino);
                }
            });
        }
    }

    async fn list_ahead(&self, cred: &Cred, ino: u64) -> bool {
        let Ok(dir) = self.directory(ino) else { return false };
        if self.listing_from_names(cred, &dir, true).is_some() {
            self.walk_below(cred, &dir);
            return true;
        }
        let Ok(_permit) = self.mount().bulk.acquire().await else { return false };
        let small = {
            let mut state = dir.lock();
            let change = Some(state.attrs.last().change);
            state.dir().names.len_if_complete(change, Instant::now(), REFRESH_AHEAD).is_some()
        };
        self.list(cred, &dir, small).finished().await.is_ok()
    }

    fn take_entries(&self, dir: &Arc<Node>, entries: Vec<DirEntry>, sent: Instant) -> Vec<Item> {
        let mut items = Vec::with_capacity(entries.len());
        for entry in entries {
            if self.mount().hides(&entry.name) {
                continue;
            }
            let name = Name::from(entry.name);
            let Some((handle, attr)) = &entry.file else {
                let ino = self.mount().table.lock().peek(None, None);
                items.push(Item { name, kind: FileKind::Regular, ino, id: None });
                continue;
            };
            let node = self.node_for(handle, attr, sent, None);
            {
                // The kernel may know it by another name, which an open has to check; until it takes this one, that stays.
                let mut state = node.lock();
                if state.place.is_none() && state.hidden().is_none() {
                    state.place = Some(Place { parent: dir.ino(), name: name.clone() });
                }
            }
            items.push(Item { name, kind: node.kind, ino: node.ino(), id: Some(node.id) });
        }
        items
    }
}

impl Head {
    fn holds(&self, cred: &Cred, edits: u64, change: Option<u64>) -> bool {
        self.cred == *cred && self.edits == edits && change == Some(self.change)
    }
}

/// The inode numbers of a directory's subdirectories, as far as all its names are known.
fn subdirectories(dir: &Node) -> Vec<u64> {
    dir.lock().dir().names.subdirectories()
}

/// Errors that mean: the place in the listing is gone, the directory is not.
fn lost_track(error: &nfs4_client::Error) -> bool {
    matches!(error.status(), Some(Nfs4Error::BadCookie | Nfs4Error::NotSame))
}
