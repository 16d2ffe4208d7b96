//! Attributes and symbolic links' targets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nfs4_client::{Cred, Nfs4Error};

use crate::attr::{Attr, FileKind};
use crate::attrs::Origin;
use crate::error::{Error, Result};
use crate::kernel::Stale;
use crate::node::{Body, Node};
use crate::types::{Fh, SetAttr};
use crate::vfs::Vfs;
use crate::write::flush::Goal;
use crate::write::sets::may_wait;

/// So many children of one directory must be asked for within [`BURST`] with old attributes before all are asked for at
/// once.
const STALE_HITS: u32 = 3;

/// See [`STALE_HITS`].
const BURST: Duration = Duration::from_secs(1);

/// Larger directories are not read as a whole to refresh some children.
const REFRESH_LIMIT: usize = 20_000;

impl Vfs {
    /// A file's attributes and for how long they may be shown. One round trip when what is known is too old, else none.
    pub async fn getattr(&self, cred: &Cred, ino: u64, _fh: Option<Fh>) -> Result<(Attr, Duration)> {
        if let Some(held_back) = self.newborn_attr(ino) {
            return Ok(held_back);
        }
        self.settle_newborn(ino).await?;
        let node = self.node(ino)?;
        {
            let mut state = node.lock();
            if let Some(dir) = state.known_dir() {
                dir.watched = true;
            }
            if let Some(fresh) = state.fresh_or_held(Instant::now()) {
                return Ok(fresh);
            }
        }
        if self.refresh_siblings(cred, &node).await
            && let Some(fresh) = node.lock().fresh(Instant::now())
        {
            return Ok(fresh);
        }
        self.revalidate(cred, &node).await?;
        Ok(Self::attr_and_ttl(&node))
    }

    /// A file's attributes as the server has them now, whatever is known. One round trip.
    ///
    /// # Errors
    /// What the server says.
    pub async fn current_attr(&self, cred: &Cred, ino: u64) -> Result<Attr> {
        self.settle_newborn(ino).await?;
        let node = self.node(ino)?;
        self.revalidate(cred, &node).await?;
        Ok(Self::attr_and_ttl(&node).0)
    }

    fn attr_and_ttl(node: &Node) -> (Attr, Duration) {
        let state = node.lock();
        (state.shown(), state.ttl(Instant::now()))
    }

    /// GETATTR. True: the file's data have changed elsewhere.
    pub(crate) async fn revalidate(&self, cred: &Cred, node: &Arc<Node>) -> Result<bool> {
        let sent = Instant::now();
        let attr = self.mount().client.getattr(cred, &node.handle).await;
        Ok(self.take_attr(node, &self.heard(node, attr)?, sent))
    }

    /// What the server said about a file; also whether it is still there.
    pub(crate) fn heard<T>(&self, node: &Node, said: nfs4_client::Result<T>) -> Result<T> {
        said.map_err(|error| {
            if matches!(error.status(), Some(Nfs4Error::Stale | Nfs4Error::Fhexpired | Nfs4Error::Badhandle)) {
                self.is_gone(node);
            }
            error.into()
        })
    }

    /// The server says that the file is no longer there.
    fn is_gone(&self, node: &Node) {
        let place = {
            let mut state = node.lock();
            state.attrs.expire();
            state.place.clone()
        };
        self.mount().table.lock().retire(node.id);
        self.mount().pages.lock().drop_file(node.id.serial);
        if let Some(place) = place
            && let Ok(dir) = self.directory(place.parent)
        {
            dir.lock().dir().names.unlearn(&place.name);
            self.mount().kernel.drop_later(Stale::Entry(place.parent, place.name.to_bytes()));
        }
    }

    /// When several files of one directory are asked for one after the other, one listing brings the attributes of all.
    /// False: not done.
    pub(crate) async fn refresh_siblings(&self, cred: &Cred, node: &Node) -> bool {
        let Some(place) = node.lock().place.clone() else { return false };
        let Ok(dir) = self.directory(place.parent) else { return false };
        {
            let now = Instant::now();
            let enough = if self.mount().walk.lock().is_refreshing(now) { 1 } else { STALE_HITS };
            let mut state = dir.lock();
            let change = Some(state.attrs.last().change);
            let dir_state = state.dir();
            if dir_state.stale_since.is_none_or(|since| now.saturating_duration_since(since) > BURST) {
                dir_state.stale_since = Some(now);
                dir_state.stale_hits = 0;
            }
            dir_state.stale_hits += 1;
            if dir_state.stale_hits < enough || dir_state.names.len_if_complete(change, now, REFRESH_LIMIT).is_none() {
                return false;
            }
            // What came before is as old as what is to be refreshed.
            dir_state.head = None;
        }
        let listing = self.list(cred, &dir, true);
        self.refresh_cousins(cred, &dir);
        let done = listing.finished().await.is_ok();
        dir.lock().dir().stale_hits = 0;
        done
    }

    /// The next child that is asked for with old attributes is taken for the first of many. False: this directory is too
    /// large to be read again for that, or not wholly known.
    pub(crate) fn next_stale_child_refreshes_all(dir: &Node) -> bool {
        let now = Instant::now();
        let mut state = dir.lock();
        let change = Some(state.attrs.last().change);
        let dir_state = state.dir();
        (dir_state.stale_since, dir_state.stale_hits) = (Some(now), STALE_HITS - 1);
        dir_state.names.len_if_complete(change, now, REFRESH_LIMIT).is_some()
    }

    /// Whoever asks for the children of one directory after the other (`git status`) will go on with the next one.
    fn refresh_cousins(&self, cred: &Cred, dir: &Node) {
        let (now, parent) = (Instant::now(), dir.lock().place.as_ref().map(|place| place.parent));
        let walk = &self.mount().walk;
        let goes_on = {
            let mut walk = walk.lock();
            let goes_on = walk.is_refreshing(now);
            walk.refreshed(now);
            walk.opened(dir.ino(), None, now);
            goes_on
        };
        if let Some(parent) = parent.filter(|_| goes_on).and_then(|parent| self.directory(parent).ok())
            && self.expect_siblings(&parent, dir.ino())
        {
            self.walk_on(cred);
        }
    }

    /// Sets attributes. One round trip, and those of the writes that have to come before it.
    ///
    /// # Errors
    /// What the server says.
    pub async fn setattr(&self, cred: &Cred, ino: u64, fh: Option<Fh>, set: SetAttr) -> Result<(Attr, Duration)> {
        if set.is_empty() {
            return self.getattr(cred, ino, fh).await;
        }
        self.writable()?;
        if let Some(held_back) = self.set_newborn(cred, ino, &set) {
            return Ok(held_back);
        }
        self.settle_newborn(ino).await?;
        let node = self.node(ino)?;
        if let Some(size) = set.size {
            self.set_size(cred, &node, fh, set, size).await?;
            return Ok(Self::attr_and_ttl(&node));
        }
        if self.set_with_data(cred, &node, &set) || self.hold_set(cred, &node, &set) {
            return Ok(Self::attr_and_ttl(&node));
        }
        self.settle_held(&node).await?;
        // Data first: a WRITE after it would undo the times, and may no longer be allowed.
        self.flush_node(&node, if Self::has_sets(&node) { Goal::Stable } else { Goal::Sent }).await;
        let sent = Instant::now();
        let attr = self.mount().client.setattr(cred, &node.handle, None, set.to_client()).await;
        let attr = self.heard(&node, attr)?;
        let outcome = node.update(&attr, sent, Origin::OwnChange, &self.mount().options.timeouts);
        self.heed(&node, outcome);
        Ok(Self::attr_and_ttl(&node))
    }

    /// Whether attributes that were set are still on their way.
    fn has_sets(node: &Node) -> bool {
        node.lock().known_file().is_some_and(|file| !file.sets.is_idle())
    }

    /// Lets attributes of a file that is being written wait for its data, if the server is bound to allow them.
    fn set_with_data(&self, cred: &Cred, node: &Arc<Node>, set: &SetAttr) -> bool {
        let mut state = node.lock();
        let attr = state.shown();
        let Some(file) = state.known_file() else { return false };
        let is_writer = file.writer().is_some_and(|open| open.cred == *cred);
        if !is_writer || !may_wait(set, &attr, cred) || !file.sets.join(set, cred, Instant::now()) {
            return false;
        }
        self.account(node, file);
        true
    }

    /// Sends attributes that were set and say who may do what, before the server is asked that.
    pub(crate) async fn settle_rights(&self, node: &Arc<Node>) {
        let waits = node.lock().known_file().is_some_and(|file| file.sets.changes_rights());
        if waits {
            self.flush_node(node, Goal::Stable).await;
        }
        // That it failed is in the log; what holds now is for the server to say.
        let _ = self.settle_held(node).await;
    }

    async fn set_size(&self, cred: &Cred, node: &Arc<Node>, fh: Option<Fh>, set: SetAttr, size: u64) -> Result<()> {
        match node.kind {
            FileKind::Regular => {}
            FileKind::Directory => return Err(Error::IsDirectory),
            _ => return Err(Error::Invalid("only a regular file has a size that can be set")),
        }
        let limit = self.mount().client.limits().max_file_size;
        if size > i64::MAX as u64 || (limit > 0 && size > limit) {
            return Err(Error::FileTooBig);
        }
        self.settle_held(node).await?;
        // Through an open file its right to write counts, as it was when it was opened.
        let open = fh
            .and_then(|fh| self.mount().files.get(&fh.0).map(|handle| Arc::clone(&handle.open)))
            .filter(|open| open.writes());
        let (vfs, node, cred) = (self.clone(), Arc::clone(node), cred.clone());
        let work = async move {
            let file = open.and_then(|open| open.file());
            vfs.truncate(&node, set, size, &cred, file.as_ref()).await
        };
        self.to_its_end(work).await
    }

    /// A symbolic link's target.
    pub async fn readlink(&self, cred: &Cred, ino: u64) -> Result<Bytes> {
        let node = self.node(ino)?;
        if node.kind != FileKind::Symlink {
            return Err(Error::Invalid("not a symbolic link"));
        }
        {
            let state = node.lock();
            if let Body::Link(change, target) = state.body()
                && state.attrs.fresh_change(Instant::now()) == Some(*change)
            {
                return Ok(target.clone());
            }
        }
        let change = node.lock().attrs.last().change;
        let target = self.mount().client.readlink(cred, &node.handle).await;
        let target = self.heard(&node, target)?;
        node.lock().more().body = Body::Link(change, target.clone());
        Ok(target)
    }
}
