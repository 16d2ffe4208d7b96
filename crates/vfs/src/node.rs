//! One file as the mount knows it: its handle at the server, its attributes, and what its type adds.
//!
//! Everything that changes lies behind one lock, held for moments and never across an `.await`. Where several locks are
//! held at once, the order is inode table, node, page cache; two nodes' are never held together.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use nfs4_client::{Access, ChangeInfo, Cred, Errno, FileAttr, Handle, OpenAccess, OpenFile};
use tokio::sync::Notify;

use crate::attr::{Attr, FileKind, Timestamp};
use crate::attrs::{AttrCache, Origin, Outcome, Timeouts};
use crate::dir::{Head, Listing};
use crate::inode::{Inode, NodeId};
use crate::ledger::Ledger;
use crate::locks::Lockers;
use crate::name::Name;
use crate::names::{Edit, Names};
use crate::packed::Packed;
use crate::read::fetch::Fetch;
use crate::sync::Locked;
use crate::write::dirty::Dirty;
use crate::write::gauge::Gauge;
use crate::write::held::Held;
use crate::write::sets::Sets;

/// Answers to ACCESS kept for each file, for as many identities.
const RIGHTS: usize = 8;

/// Changes of a directory that follow each other faster are one after the other of a series: somebody fills or empties it.
const SERIES: Duration = Duration::from_millis(200);

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) handle: Handle,
    pub(crate) kind: FileKind,
    state: Locked<NodeState>,
}

/// What changes about a file.
#[derive(Debug)]
pub(crate) struct NodeState {
    pub(crate) attrs: AttrCache,
    /// Where it was last seen.
    pub(crate) place: Option<Place>,
    more: Option<Box<More>>,
}

/// What most of a million known files do not have: those that were merely listed.
#[derive(Debug, Default)]
pub(crate) struct More {
    pub(crate) body: Body,
    /// Whose changes `attrs` tells of.
    ledger: Ledger,
    rights: Vec<Rights>,
    /// It was removed while open and lives on under this name until it is closed.
    pub(crate) hidden: Option<Hidden>,
    /// Attributes that were set and that the server does not have yet.
    pub(crate) held: Option<Box<Held>>,
    /// What is known of its extended attributes.
    pub(crate) xattrs: Option<Box<crate::xattrs::Known>>,
    /// Major and minor number of a device.
    rdev: (u32, u32),
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) parent: u64,
    pub(crate) name: Name,
}

/// See [`NodeState::hidden`].
#[derive(Debug, Clone)]
pub(crate) struct Hidden {
    pub(crate) dir: Arc<Node>,
    pub(crate) name: Bytes,
    pub(crate) cred: Cred,
    /// It is this file without doubt; otherwise another machine may have put another one in the place of its name before.
    pub(crate) is_certain: bool,
}

/// An answer to ACCESS.
#[derive(Debug)]
struct Rights {
    cred: Cred,
    granted: Access,
    asked_at: Instant,
    /// Of what it was the answer: mode and owners.
    of: (u32, u32, u32),
}

/// What a type adds; made when it is first needed.
#[derive(Debug, Default)]
pub(crate) enum Body {
    #[default]
    Plain,
    File(Box<FileState>),
    Dir(Box<DirState>),
    /// A symbolic link's target, and the change attribute to which it belongs.
    Link(u64, Bytes),
}

/// A regular file that is, or was, open.
#[derive(Debug, Default)]
pub(crate) struct FileState {
    pub(crate) dirty: Dirty,
    /// Attributes that were set and go to the server with the data.
    pub(crate) sets: Sets,
    /// What of `dirty` the mount's gauge has counted.
    pub(crate) accounted: u64,
    /// READs under way whose result later readers may use too.
    pub(crate) fetches: Vec<Arc<Fetch>>,
    /// At the server.
    pub(crate) opens: Vec<Arc<ServerOpen>>,
    /// Of programs.
    pub(crate) handles: usize,
    /// Those of them whose last descriptor is closed already.
    pub(crate) closing: usize,
    /// Opens under way, which will be handles.
    pub(crate) opening: usize,
    /// Whenever a WRITE, COMMIT or truncation has come to its end.
    pub(crate) progress: Arc<Notify>,
    /// Counts versions of the data that the kernel has not seen: from elsewhere, past its pages, or without what was
    /// lost.
    pub(crate) version: u64,
    /// The version of which the kernel may hold pages.
    pub(crate) kernel_version: Option<u64>,
    /// Counts writes and truncations of ours.
    pub(crate) touched: u64,
    /// A change of ours may hide one of somebody else's: pages from before it may be old.
    pub(crate) mixed: bool,
    /// Who holds locks or has asked for some.
    pub(crate) lockers: Lockers,
    /// Counts failures to write, so that each handle tells each once.
    pub(crate) failures: u64,
    pub(crate) last_failure: Option<Errno>,
    pub(crate) lost: u64,
}

/// A file's open state at the server, shared by all handles of the same identity and access. Where an open may rely on
/// what was sent lately, there is none until something has to be read ([`Vfs::file_of`](crate::Vfs)).
#[derive(Debug)]
pub(crate) struct ServerOpen {
    pub(crate) cred: Cred,
    pub(crate) access: OpenAccess,
    pub(crate) handle: Handle,
    file: Locked<Option<OpenFile>>,
    /// One OPEN is enough, however many wait for it.
    pub(crate) opening: tokio::sync::OnceCell<()>,
    users: Locked<usize>,
    /// READs and WRITEs under way, which must be answered before the CLOSE.
    pub(crate) in_use: Gauge,
}

impl ServerOpen {
    pub(crate) fn new(file: OpenFile) -> Arc<Self> {
        Arc::new(Self {
            cred: file.cred().clone(),
            access: file.access(),
            handle: file.handle().clone(),
            file: Locked::new(Some(file)),
            opening: tokio::sync::OnceCell::new(),
            users: Locked::new(1),
            in_use: Gauge::default(),
        })
    }

    /// One that is opened at the server when it is needed.
    pub(crate) fn later(cred: &Cred, access: OpenAccess, handle: Handle) -> Arc<Self> {
        Arc::new(Self {
            cred: cred.clone(),
            access,
            handle,
            file: Locked::default(),
            opening: tokio::sync::OnceCell::new(),
            users: Locked::new(1),
            in_use: Gauge::default(),
        })
    }

    /// What the server holds open; `None`: nothing yet.
    pub(crate) fn file(&self) -> Option<OpenFile> {
        self.file.lock().clone()
    }

    pub(crate) fn replace(&self, file: OpenFile) {
        *self.file.lock() = Some(file);
    }

    /// One more user.
    pub(crate) fn share(&self) {
        *self.users.lock() += 1;
    }

    /// Whether it allows writing, or else reading.
    pub(crate) fn suits(&self, writes: bool) -> bool {
        if writes { self.writes() } else { self.access != OpenAccess::Write }
    }

    pub(crate) fn writes(&self) -> bool {
        self.access != OpenAccess::Read
    }
}

/// A directory.
#[derive(Debug, Default)]
pub(crate) struct DirState {
    pub(crate) names: Names,
    /// The listing that is being read.
    pub(crate) listing: Option<Arc<Listing>>,
    /// Children whose attributes had run out when they were asked for, and since when they are counted.
    pub(crate) stale_hits: u32,
    pub(crate) stale_since: Option<Instant>,
    /// The beginning of a listing that nobody has asked the rest of yet.
    pub(crate) head: Option<Box<Head>>,
    /// LOOKUPs in a row that a listing would have made needless, and since when they are counted.
    pub(crate) misses: u32,
    pub(crate) missed_since: Option<Instant>,
    /// When the reply to the last change of ours came.
    pub(crate) changed: Option<Instant>,
    /// It followed another one closely.
    pub(crate) in_series: bool,
    /// When we last made a directory in it.
    pub(crate) grew: Option<Instant>,
    /// Somebody has asked for its times: after a change of ours they are renewed unasked.
    pub(crate) watched: bool,
    /// Its attributes are being renewed behind everybody's back.
    pub(crate) asked_about: bool,
    /// Files that live on in it under hidden names.
    pub(crate) hidden: Vec<Weak<Node>>,
}

impl More {
    /// Whether it is but a memory of what was asked once, by nobody who is still there: the server can be asked again, and
    /// the kernel's pages be dropped at the next open.
    fn is_dispensable(&self) -> bool {
        let has_nothing_to_do = match &self.body {
            Body::Plain | Body::Link(..) => true,
            Body::File(file) => file.is_idle(),
            Body::Dir(_) => false,
        };
        has_nothing_to_do
            && self.ledger.is_settled()
            && self.hidden.is_none()
            && self.held.is_none()
            && self.rdev == (0, 0)
    }
}

impl FileState {
    /// Nobody has it open, nothing is on its way, and nobody is to be told of anything.
    fn is_idle(&self) -> bool {
        self.is_clean()
            && !self.dirty.is_frozen()
            && self.handles == 0
            && self.closing == 0
            && self.opening == 0
            && self.opens.is_empty()
            && self.fetches.is_empty()
            && self.lockers.is_empty()
            && !self.mixed
            && self.failures == 0
    }

    /// Somebody has it open, or is about to.
    pub(crate) const fn is_open(&self) -> bool {
        self.handles > 0 || self.opening > 0
    }

    /// The shared open for this identity and access, with one more user.
    pub(crate) fn join(&self, cred: &Cred, access: OpenAccess) -> Option<Arc<ServerOpen>> {
        let open = self.opens.iter().find(|open| open.access == access && open.cred == *cred)?;
        open.share();
        Some(Arc::clone(open))
    }

    /// One user less; true: it was the last, and the open is nobody's any more.
    pub(crate) fn leave(&mut self, open: &Arc<ServerOpen>) -> bool {
        let mut users = open.users.lock();
        *users = users.saturating_sub(1);
        if *users > 0 {
            return false;
        }
        self.opens.retain(|other| !Arc::ptr_eq(other, open));
        true
    }

    /// An open for this identity that allows reading or writing, with one more user.
    pub(crate) fn join_for(&self, cred: &Cred, writes: bool) -> Option<Arc<ServerOpen>> {
        let suits = |open: &&Arc<ServerOpen>| open.cred == *cred && open.suits(writes);
        let open = self.opens.iter().find(|open| open.access == OpenAccess::Both && suits(open));
        let open = open.or_else(|| self.opens.iter().find(suits))?;
        open.share();
        Some(Arc::clone(open))
    }

    /// An open through which data can be written.
    pub(crate) fn writer(&self) -> Option<Arc<ServerOpen>> {
        self.opens.iter().find(|open| open.writes()).cloned()
    }

    /// READs under way within `range` bring old data: nobody else may use them.
    pub(crate) fn taint(&mut self, range: &std::ops::Range<u64>) {
        self.fetches.retain(|fetch| {
            let hit = fetch.range.start < range.end && range.start < fetch.range.end;
            if hit {
                fetch.taint();
            }
            !hit
        });
    }

    /// Nothing is left that the server must get.
    pub(crate) fn is_clean(&self) -> bool {
        self.dirty.is_clean() && self.sets.is_idle()
    }

    pub(crate) fn fail(&mut self, errno: Errno, lost: u64) {
        self.failures += 1;
        self.last_failure = Some(errno);
        self.lost += lost;
    }
}

impl NodeState {
    /// The file has lost a name.
    pub(crate) fn gone_from(&mut self, place: &Place) {
        if self.place.as_ref() == Some(place) {
            self.place = None;
        }
    }

    /// What there is beside attributes and a name; made if need be.
    pub(crate) fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    pub(crate) fn body(&self) -> &Body {
        self.more.as_ref().map_or(&Body::Plain, |more| &more.body)
    }

    fn body_mut(&mut self) -> Option<&mut Body> {
        self.more.as_mut().map(|more| &mut more.body)
    }

    pub(crate) fn hidden(&self) -> Option<&Hidden> {
        self.more.as_ref()?.hidden.as_ref()
    }

    /// Nobody has it open any more: its hidden name may go.
    pub(crate) fn unhide(&mut self) -> Option<Hidden> {
        self.more.as_mut()?.hidden.take()
    }

    pub(crate) fn held(&self) -> Option<&Held> {
        self.more.as_ref()?.held.as_deref()
    }

    pub(crate) fn held_mut(&mut self) -> Option<&mut Held> {
        self.more.as_mut()?.held.as_deref_mut()
    }

    pub(crate) fn xattrs(&self) -> Option<&crate::xattrs::Known> {
        self.more.as_ref()?.xattrs.as_deref()
    }

    pub(crate) fn file(&mut self) -> &mut FileState {
        let body = &mut self.more().body;
        if !matches!(body, Body::File(_)) {
            *body = Body::File(Box::default());
        }
        match body {
            Body::File(file) => file,
            _ => unreachable!("it was made just above"),
        }
    }

    /// The file's state, if there is any.
    pub(crate) fn known_file(&mut self) -> Option<&mut FileState> {
        match self.body_mut() {
            Some(Body::File(file)) => Some(file),
            _ => None,
        }
    }

    /// The directory's state, if there is any.
    pub(crate) fn known_dir(&mut self) -> Option<&mut DirState> {
        match self.body_mut() {
            Some(Body::Dir(dir)) => Some(dir),
            _ => None,
        }
    }

    pub(crate) fn dir(&mut self) -> &mut DirState {
        let change = self.attrs.last().change;
        let body = &mut self.more().body;
        if !matches!(body, Body::Dir(_)) {
            let mut dir = DirState::default();
            dir.names.observe(change);
            *body = Body::Dir(Box::new(dir));
        }
        match body {
            Body::Dir(dir) => dir,
            _ => unreachable!("it was made just above"),
        }
    }

    /// Whether the server's idea of size and times is behind ours.
    pub(crate) fn is_busy(&self) -> bool {
        match self.body() {
            Body::File(file) => file.dirty.is_ahead_of_server() || file.dirty.is_frozen(),
            _ => false,
        }
    }

    /// The attributes as users see them.
    pub(crate) fn shown(&self) -> Attr {
        let mut attr = self.attrs.last().attr(self.more.as_ref().map_or((0, 0), |more| more.rdev));
        if let Body::File(file) = self.body() {
            attr = file.sets.shown(attr);
        }
        if let Some(held) = self.held() {
            attr = held.shown(attr);
        }
        if self.hidden().is_some() {
            attr.nlink = attr.nlink.saturating_sub(1);
        }
        attr
    }

    /// The attributes and how long they hold, if they may be shown without asking.
    pub(crate) fn fresh(&self, now: Instant) -> Option<(Attr, Duration)> {
        self.attrs.fresh(now)?;
        Some((self.shown(), self.ttl(now)))
    }

    /// For how long the attributes may be shown from now on.
    pub(crate) fn ttl(&self, now: Instant) -> Duration {
        if self.is_busy() || self.held().is_some() || self.attrs.fresh(now).is_none() {
            Duration::ZERO
        } else {
            self.attrs.remaining(now)
        }
    }

    /// What a complete answer to ACCESS said about `cred`, if it still holds.
    pub(crate) fn rights(&self, cred: &Cred, now: Instant, limit: Duration) -> Option<Access> {
        let of = self.rights_of();
        let rights = self.more.as_ref()?.rights.iter();
        rights
            .into_iter()
            .find(|rights| {
                rights.cred == *cred && rights.of == of && now.saturating_duration_since(rights.asked_at) < limit
            })
            .map(|rights| rights.granted)
    }

    pub(crate) fn learn_rights(&mut self, cred: &Cred, granted: Access, now: Instant) {
        let of = self.rights_of();
        let rights = &mut self.more().rights;
        rights.retain(|rights| rights.cred != *cred);
        if rights.len() >= RIGHTS {
            rights.remove(0);
        }
        rights.push(Rights { cred: cred.clone(), granted, asked_at: now, of });
    }

    pub(crate) const fn rights_of(&self) -> (u32, u32, u32) {
        let attr = self.attrs.last();
        (attr.mode(), attr.uid, attr.gid)
    }

    /// Whether `cred` may be told what is known of a name in this directory. ACCESS has the last word; where it was not
    /// asked, the mode bits do (what is in a file, the server is asked at each open).
    pub(crate) fn may_search(&self, cred: &Cred, now: Instant, limit: Duration) -> bool {
        self.permits(cred, Access::LOOKUP, 0o1, now, limit)
    }

    /// Whether `cred` may be told all names in this directory.
    pub(crate) fn may_list(&self, cred: &Cred, now: Instant, limit: Duration) -> bool {
        self.permits(cred, Access::READ, 0o4, now, limit)
    }

    pub(crate) fn permits(&self, cred: &Cred, right: Access, bit: u32, now: Instant, limit: Duration) -> bool {
        if let Some(granted) = self.rights(cred, now, limit) {
            return granted.contains(right);
        }
        let attr = self.attrs.last();
        let shift = if cred.uid == 0 {
            return true;
        } else if cred.uid == attr.uid {
            6
        } else if cred.gid == attr.gid || cred.groups.contains(&attr.gid) {
            3
        } else {
            0
        };
        (attr.mode() >> shift) & bit != 0
    }
}

impl Inode for Node {
    fn id(&self) -> NodeId {
        self.id
    }

    fn handle(&self) -> &[u8] {
        self.handle.as_bytes()
    }

    fn pack(&mut self) -> Option<Packed> {
        let state = self.state.get_mut();
        if state.more.as_ref().is_some_and(|more| !more.is_dispensable()) {
            return None;
        }
        let place = state.place.as_ref().map(|place| (place.parent, &place.name[..]));
        Packed::new(self.id, self.handle.as_bytes(), &(state.attrs.rest(), place))
    }

    fn unpack(packed: &Packed) -> Option<Self> {
        let (id, handle, (attrs, place)) = packed.open::<(_, Option<(u64, &[u8])>)>()?;
        let attrs = AttrCache::wake(attrs, id.ino);
        let kind = attrs.last().kind;
        let place = place.map(|(parent, name)| Place { parent, name: name.into() });
        let state = Locked::new(NodeState { attrs, place, more: None });
        Some(Self { id, handle: Handle::from_bytes(handle)?, kind, state })
    }
}

impl Node {
    pub(crate) fn new(id: NodeId, handle: Handle, attr: &Attr, now: Instant, timeouts: &Timeouts) -> Self {
        let is_device = attr.rdev != (0, 0);
        let more = is_device.then(|| Box::new(More { rdev: attr.rdev, ..More::default() }));
        let state = NodeState { attrs: AttrCache::new(attr, now, timeouts), place: None, more };
        Self { id, handle, kind: attr.kind, state: Locked::new(state) }
    }

    /// Neither file nor directory. Servers that find such files by the name under which they were made (nfs-ganesha) lose
    /// them when that name goes, though they have others; so what our own change of names does to their attributes is
    /// worked out here, not asked.
    pub(crate) const fn is_special(&self) -> bool {
        !matches!(self.kind, FileKind::Regular | FileKind::Directory)
    }

    pub(crate) const fn ino(&self) -> u64 {
        self.id.ino
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, NodeState> {
        self.state.lock()
    }

    /// How many changes of ours a directory's names have seen; 0 for anything else.
    pub(crate) fn edits(&self) -> u64 {
        self.lock().known_dir().map_or(0, |dir| dir.names.edits())
    }

    /// How often the file was written or cut by us.
    pub(crate) fn touched(&self) -> u64 {
        self.lock().known_file().map_or(0, |file| file.touched)
    }

    /// Attributes arrived that were asked for at `sent`. With `data_changed` the caller drops the pages.
    pub(crate) fn update(&self, attr: &FileAttr, sent: Instant, origin: Origin, timeouts: &Timeouts) -> Outcome {
        let mut state = self.state.lock();
        self.update_locked(&mut state, attr, sent, origin, false, timeouts)
    }

    /// As [`Self::update`]. `written`: this is the reply to a WRITE or COMMIT, which never makes a file smaller.
    pub(crate) fn update_locked(
        &self,
        state: &mut NodeState,
        attr: &FileAttr,
        sent: Instant,
        origin: Origin,
        written: bool,
        timeouts: &Timeouts,
    ) -> Outcome {
        let new = shown_attr(self.id.ino, attr);
        let busy = state.is_busy();
        let change = state.attrs.last().change;
        if let Body::Dir(dir) = state.body()
            && origin == Origin::Asked
            && dir.changed.is_some_and(|changed| sent < changed)
            && new.change.wrapping_sub(change).cast_signed() < 0
        {
            // A reply that a change of ours has overtaken.
            return Outcome { accepted: false, data_changed: false };
        }
        let (mtime, ctime) = (state.attrs.last().mtime(), state.attrs.last().ctime());
        let now = Instant::now();
        let mut outcome = state.attrs.update(new, sent, now, origin, busy || written, timeouts);
        match (origin, attr.before) {
            (Origin::OwnChange, Some(before)) => state.more().ledger.own(before, new.change, change),
            (Origin::Asked, _) if busy => state.more().ledger.seen(new.change, change),
            _ => {}
        }
        let under_way = matches!(state.body(), Body::File(file) if file.dirty.is_under_way() || file.dirty.is_frozen());
        if !under_way
            && self.kind == FileKind::Regular
            && let Some(more) = &mut state.more
        {
            outcome.data_changed |= more.ledger.settle();
        }
        if busy && outcome.accepted {
            state.attrs.touch(mtime.max(ctime));
        }
        match state.body_mut() {
            Some(Body::Dir(dir)) if outcome.accepted => {
                if let (Origin::OwnChange, Some(before)) = (origin, attr.before) {
                    dir.names.carry(before, new.change, now, timeouts.dir_min);
                }
                dir.names.observe(new.change);
            }
            Some(Body::File(file)) if outcome.data_changed => {
                file.version += 1;
                file.mixed = false;
                file.taint(&(0..u64::MAX));
            }
            Some(Body::File(file)) if outcome.accepted && change != new.change => file.mixed = true,
            _ => {}
        }
        outcome
    }
}

/// An operation of ours that changes a directory's names, from before it is sent until its reply is in.
#[derive(Debug)]
pub(crate) struct OwnChange {
    dir: Arc<Node>,
    done: bool,
}

impl OwnChange {
    pub(crate) fn begin(dir: &Arc<Node>) -> Self {
        dir.lock().dir().names.begin();
        Self { dir: Arc::clone(dir), done: false }
    }

    /// It went through.
    pub(crate) fn done(mut self, info: ChangeInfo, edits: Vec<Edit>, trust: Duration) {
        self.done = true;
        let mut state = self.dir.lock();
        let names = &mut state.dir().names;
        if info == ChangeInfo::default() {
            // The reply was lost, the deed is done: nobody knows the directory's state.
            names.end_failed();
            names.forget();
            state.attrs.expire();
            return;
        }
        names.end(info, edits, Instant::now(), trust);
        let (now, dir) = (Instant::now(), state.dir());
        dir.in_series = dir.changed.is_some_and(|changed| now.saturating_duration_since(changed) < SERIES);
        dir.changed = Some(now);
        state.attrs.own_directory_change(info.after, Timestamp::from_system_time(SystemTime::now()));
    }
}

impl Drop for OwnChange {
    /// It failed, or nobody waited for its reply: then the names would be wrong.
    fn drop(&mut self) {
        if !self.done {
            self.dir.lock().dir().names.end_failed();
        }
    }
}

/// Attributes from the server under the inode number of this mount.
pub(crate) fn shown_attr(ino: u64, attr: &FileAttr) -> Attr {
    let time = |time: nfs4_client::Timestamp| Timestamp { seconds: time.seconds, nanos: time.nanos };
    Attr {
        ino,
        kind: kind(attr.kind),
        mode: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        size: attr.size,
        space_used: attr.space_used,
        rdev: attr.rdev,
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
        change: attr.change,
    }
}

pub(crate) const fn kind(kind: nfs4_client::FileKind) -> FileKind {
    match kind {
        nfs4_client::FileKind::Regular => FileKind::Regular,
        nfs4_client::FileKind::Directory => FileKind::Directory,
        nfs4_client::FileKind::Symlink => FileKind::Symlink,
        nfs4_client::FileKind::BlockDevice => FileKind::BlockDevice,
        nfs4_client::FileKind::CharDevice => FileKind::CharDevice,
        nfs4_client::FileKind::Socket => FileKind::Socket,
        nfs4_client::FileKind::Fifo => FileKind::Fifo,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn directory(change: u64) -> FileAttr {
        let time = nfs4_client::Timestamp::default();
        FileAttr {
            before: None,
            kind: nfs4_client::FileKind::Directory,
            mode: 0o755,
            nlink: 2,
            uid: 0,
            gid: 0,
            size: 0,
            space_used: 0,
            fileid: 7,
            mounted_on_fileid: None,
            fsid: (0, 0),
            rdev: (0, 0),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: None,
            change,
        }
    }

    #[test]
    fn a_file_that_slept_is_the_same_and_one_with_something_to_do_does_not_sleep() {
        let (id, timeouts, now) = (NodeId { ino: 7, serial: u64::MAX }, Timeouts::default(), Instant::now());
        let attr = Attr { size: 9, mtime: Timestamp { seconds: -5, nanos: 1 }, ..shown_attr(7, &directory(10)) };
        let mut node = Node::new(id, Handle::from_bytes(&[200; 128]).unwrap(), &attr, now, &timeouts);
        node.lock().place = Some(Place { parent: u64::MAX, name: Name::from(&[b'n'; 255][..]) });
        let woken = Node::unpack(&node.pack().unwrap()).unwrap();
        assert_eq!((woken.id, &woken.handle, woken.kind), (node.id, &node.handle, node.kind));
        assert_eq!(woken.lock().fresh(now), Some((attr, timeouts.dir_min)));
        assert_eq!(woken.lock().place, node.lock().place);
        node.lock().learn_rights(&Cred::new(1, 1), Access::READ, now);
        node.lock().more().body = Body::File(Box::default());
        assert!(node.pack().is_some(), "what can be asked again keeps nothing awake");
        node.lock().file().handles = 1;
        assert!(node.pack().is_none(), "it is open");
    }

    #[test]
    fn attributes_that_a_change_of_ours_has_overtaken_take_nothing_back() {
        let (id, timeouts) = (NodeId { ino: 7, serial: 7 }, Timeouts::default());
        let attr = shown_attr(7, &directory(10));
        let node = Arc::new(Node::new(id, Handle::from_bytes(b"d").unwrap(), &attr, Instant::now(), &timeouts));
        node.lock().dir().names.install(10, []);
        let sent = Instant::now();
        let own = OwnChange::begin(&node);
        let made = Edit(Name::from(&b"f"[..]), crate::names::Dentry::Unknown);
        own.done(ChangeInfo { atomic: true, before: 10, after: 11 }, vec![made], timeouts.dir_min);
        assert!(!node.update(&directory(10), sent, Origin::Asked, &timeouts).accepted);
        assert!(node.lock().dir().names.is_complete());
        assert!(node.update(&directory(12), sent, Origin::Asked, &timeouts).accepted);
        assert!(!node.lock().dir().names.is_complete());
    }

    #[test]
    fn a_directory_whose_attributes_we_set_keeps_its_names_for_the_minimum() {
        let (id, timeouts) = (NodeId { ino: 7, serial: 7 }, Timeouts::default());
        let attr = shown_attr(7, &directory(10));
        let node = Node::new(id, Handle::from_bytes(b"d").unwrap(), &attr, Instant::now(), &timeouts);
        node.lock().dir().names.observe(10);
        node.lock().dir().names.install(10, []);
        let set = FileAttr { before: Some(10), ..directory(11) };
        assert!(node.update(&set, Instant::now(), Origin::OwnChange, &timeouts).accepted);
        let now = Instant::now();
        assert!(node.lock().dir().names.all(Some(11), now).is_some());
        assert!(node.lock().dir().names.all(Some(11), now + timeouts.dir_min).is_none());
    }
}
