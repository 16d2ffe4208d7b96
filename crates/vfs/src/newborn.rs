//! Files that a program has just made and of which the server has not heard yet.
//!
//! `echo > f`, `cp` and compilers make a file, write a little and close it. Where nothing speaks against it, making the
//! file is answered at once and held back for [`HOLD`], so that OPEN, WRITE, SETATTR and GETATTR go out as one COMPOUND
//! with the close, and one round trip does what took two. The one idea: until then the file is no
//! [`Node`] but a [`Newborn`], which knows no more than its name and its first bytes. Whatever else is asked of it, or of
//! its directory, brings it to the server first; after that it is a file like any other, under the same number.
//!
//! Held back is only what the server is bound to allow: the directory's names are known and this one is not among them,
//! and ACCESS has said that the caller may make files there. Only opens that cut the file to nothing qualify: should
//! another client have made a file of that name meanwhile, the outcome is that of an open a moment later. What goes wrong
//! all the same is told by close or fsync. With `O_EXCL` the server is always asked first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use nfs4_client::{Access, Cred, Errno, OpenAccess, Stability};
use tokio::sync::{Notify, watch};

use crate::attr::{Attr, FileKind, Timestamp};
use crate::error::{Error, Result};
use crate::extents::Piece;
use crate::files::OpenHandle;
use crate::inode::NodeId;
use crate::kernel::Stale;
use crate::name::Name;
use crate::names::{Dentry, Edit};
use crate::node::{Node, OwnChange, Place, ServerOpen};
use crate::sync::Locked;
use crate::types::{Entry, Fh, OpenFlags, Opened, SetAttr};
use crate::vfs::Vfs;
use crate::write::flush::{Manner, Push};
use crate::write::sets::{self, may_wait};

/// How long the server does not hear of a new file.
const HOLD: Duration = Duration::from_millis(5);

/// Most files that are held back at once.
const MOST: usize = 64;

/// Set-group-id of a directory: its files belong to its group.
const SET_GID: u32 = 0o2000;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Newborn {
    id: NodeId,
    fh: Fh,
    dir: Arc<Node>,
    name: Bytes,
    cred: Cred,
    mode: u32,
    flags: OpenFlags,
    state: Locked<Infant>,
    /// Somebody cannot wait any longer.
    wanted: Notify,
    /// What became of it.
    born: watch::Receiver<Option<Result<()>>>,
}

/// What changes about it.
#[derive(Debug)]
struct Infant {
    attr: Attr,
    data: Vec<Bytes>,
    set: SetAttr,
    /// It is on its way to the server: nothing can be added.
    taken: bool,
    lookups: u64,
    released: bool,
}

/// All of them in a mount. Those that the server refused stay until the program lets go of them.
#[derive(Debug, Default)]
pub(crate) struct Newborns {
    files: HashMap<u64, Arc<Newborn>>,
    names: HashMap<(u64, Bytes), u64>,
    opens: HashMap<u64, u64>,
}

impl Newborns {
    fn of_name(&self, dir: u64, name: &[u8]) -> Option<Arc<Newborn>> {
        if self.names.is_empty() {
            return None;
        }
        let ino = self.names.get(&(dir, Bytes::copy_from_slice(name)))?;
        self.files.get(ino).cloned()
    }

    fn of_fh(&self, fh: Fh) -> Option<Arc<Newborn>> {
        self.opens.get(&fh.0).and_then(|ino| self.files.get(ino)).cloned()
    }

    /// Nobody can ask for it any more.
    fn drop_if_left(&mut self, newborn: &Newborn) {
        let is_left = {
            let infant = newborn.state.lock();
            infant.released && infant.lookups == 0
        };
        if is_left && newborn.refusal().is_some() {
            self.files.remove(&newborn.id.ino);
        }
    }
}

impl Newborn {
    /// Why the server did not take it.
    fn refusal(&self) -> Option<Error> {
        self.born.borrow().as_ref().and_then(|born| born.as_ref().err().cloned())
    }

    fn entry(&self) -> Entry {
        let mut infant = self.state.lock();
        infant.lookups += 1;
        Entry { attr: infant.attr, generation: self.id.serial, entry_ttl: Duration::ZERO, attr_ttl: Duration::ZERO }
    }

    /// Waits until the server has it.
    async fn settled(&self) -> Result<()> {
        self.wanted.notify_one();
        let mut born = self.born.clone();
        match born.wait_for(Option::is_some).await {
            Ok(born) => born.clone().unwrap_or(Err(Error::Closed)),
            Err(_) => Err(Error::Closed),
        }
    }
}

/// Pieces that follow each other from the beginning of a file.
fn placed(data: &[Bytes]) -> Vec<Piece> {
    let mut end = 0;
    let place = |piece: &Bytes| {
        let at = end;
        end += piece.len() as u64;
        (at, piece.clone())
    };
    data.iter().map(place).collect()
}

impl Vfs {
    /// Makes a file without asking, if that may be.
    pub(crate) fn hold_back(
        &self,
        cred: &Cred,
        dir: &Arc<Node>,
        name: &Bytes,
        mode: u32,
        flags: OpenFlags,
    ) -> Option<(Entry, Opened)> {
        let mount = self.mount();
        let plain = flags.write && flags.truncate && !flags.exclusive && !flags.append && !flags.is_synchronous();
        if !plain || !mount.options.delayed_create {
            return None;
        }
        let now = Instant::now();
        let group = {
            let mut state = dir.lock();
            let may = Access::LOOKUP.and(Access::MODIFY).and(Access::EXTEND);
            let granted = state.rights(cred, now, mount.options.timeouts.dir_max);
            let change = state.attrs.fresh_change(now);
            if state.held().is_some()
                || !granted.is_some_and(|granted| granted.contains(may))
                || state.dir().names.get(name, change, now) != Some(Dentry::Missing)
            {
                return None;
            }
            let attr = state.attrs.last();
            if attr.mode() & SET_GID == 0 { cred.gid } else { attr.gid }
        };
        let (tell, born) = watch::channel(None);
        let mut newborns = mount.newborns.lock();
        if newborns.files.len() >= MOST || newborns.of_name(dir.ino(), name).is_some() {
            return None;
        }
        let id = mount.table.lock().reserve();
        let time = Timestamp::from_system_time(SystemTime::now());
        let attr = Attr {
            ino: id.ino,
            kind: FileKind::Regular,
            mode: mode & 0o7777,
            nlink: 1,
            uid: cred.uid,
            gid: group,
            size: 0,
            space_used: 0,
            rdev: (0, 0),
            atime: time,
            mtime: time,
            ctime: time,
            change: 0,
        };
        let infant =
            Infant { attr, data: Vec::new(), set: SetAttr::default(), taken: false, lookups: 0, released: false };
        let newborn = Arc::new(Newborn {
            id,
            fh: mount.next_fh(),
            dir: Arc::clone(dir),
            name: name.clone(),
            cred: cred.clone(),
            mode,
            flags,
            state: Locked::new(infant),
            wanted: Notify::new(),
            born,
        });
        newborns.files.insert(id.ino, Arc::clone(&newborn));
        newborns.names.insert((dir.ino(), name.clone()), id.ino);
        newborns.opens.insert(newborn.fh.0, id.ino);
        drop(newborns);
        let made =
            (newborn.entry(), Opened { fh: newborn.fh, keep_cache: false, direct_io: flags.bypasses_kernel_cache() });
        let vfs = self.clone();
        mount.tasks.spawn(async move {
            // Whether time is up or somebody wants it: now it goes.
            let _ = tokio::time::timeout(HOLD, newborn.wanted.notified()).await;
            let outcome = vfs.bear(&newborn).await;
            if outcome.is_err() {
                vfs.mount().kernel.drop_later(Stale::Entry(newborn.dir.ino(), newborn.name.clone()));
                vfs.mount().newborns.lock().names.remove(&(newborn.dir.ino(), newborn.name.clone()));
            }
            tell.send_replace(Some(outcome));
        });
        Some(made)
    }

    /// Brings it to the server.
    async fn bear(&self, newborn: &Arc<Newborn>) -> Result<()> {
        let mount = self.mount();
        let (data, set) = {
            let mut infant = newborn.state.lock();
            infant.taken = true;
            (std::mem::take(&mut infant.data), infant.set)
        };
        let len: u64 = data.iter().map(|data| data.len() as u64).sum();
        let Newborn { cred, dir, name, flags, .. } = &**newborn;
        let attrs = nfs4_client::SetAttr { mode: Some(newborn.mode & 0o7777), size: Some(0), ..Default::default() };
        let access = if flags.read { OpenAccess::Both } else { OpenAccess::Write };
        let set = (!set.is_empty()).then(|| set.to_client());
        let own = OwnChange::begin(dir);
        let sent = Instant::now();
        let ask = |data| mount.client.create_and_write(cred, &dir.handle, name, access, attrs, data, set);
        let mut asked = ask(data.clone()).await;
        let mut left = Vec::new();
        if matches!(asked, Err(nfs4_client::Error::TooLarge { .. })) {
            // The session is a new one and takes less at a time.
            asked = ask(Vec::new()).await;
            left = placed(&data);
        }
        mount.gauge.remove(len);
        let born = match asked {
            Ok(born) => born,
            Err(error) => {
                drop(own);
                tracing::error!(%error, bytes = len, "a new file could not be made");
                return Err(Self::not_made(dir, name, error));
            }
        };
        self.keep_known(cred, dir);
        let node = self.adopt(newborn, born.opened.file.handle(), &born.opened.attr, sent);
        let dentry = Dentry::Present { id: node.id, kind: node.kind };
        let edit = vec![Edit(Name::from(name), dentry)];
        own.done(born.opened.dir_change.unwrap_or_default(), edit, mount.options.timeouts.dir_min);
        let open = ServerOpen::new(born.opened.file);
        // What was written to it before, under another name, must not come after its truncation.
        let mut written = born.written;
        let cut = self.cut_late(&node, cred, &open).await;
        if let Ok(true) = cut {
            (written, left) = (None, placed(&data));
        }
        {
            let mut state = node.lock();
            let file = state.file();
            if let Err(error) = cut {
                file.fail(error.errno(), len);
            }
            file.opens.push(Arc::clone(&open));
            file.handles += 1;
            file.kernel_version = Some(file.version);
            match written {
                Some(Ok((count, Stability::FileSync))) => {
                    let mut at = 0;
                    for piece in data {
                        let kept =
                            piece.slice(..(u64::from(count).saturating_sub(at).min(piece.len() as u64)) as usize);
                        if !kept.is_empty() {
                            mount.pages.lock().put(node.id.serial, at, &kept);
                        }
                        if kept.len() < piece.len() {
                            left.push((at + kept.len() as u64, piece.slice(kept.len()..)));
                        }
                        at += piece.len() as u64;
                    }
                }
                Some(Err(error)) => file.fail(error.errno(), len),
                Some(Ok(_)) => file.fail(Errno::Io, len),
                None => {}
            }
            if let Some(Err(error)) = born.set {
                file.fail(error.errno(), 0);
            }
        }
        let handle = Arc::new(OpenHandle::new(Arc::clone(&node), open, *flags, 0));
        self.take_rest(&handle, left);
        mount.files.insert(newborn.fh.0, handle);
        self.hand_over(newborn, &node);
        Ok(())
    }

    /// What the server did not take of the first bytes goes the usual way, before anybody else can write or close the
    /// file. Others wait for this, so it does not wait for room: these bytes were in memory before.
    fn take_rest(&self, handle: &OpenHandle, left: Vec<Piece>) {
        if left.is_empty() {
            return;
        }
        for (at, data) in left {
            if let Err(error) = self.take_in(handle, at, &data, Manner::Untold) {
                handle.node.lock().file().fail(error.errno(), data.len() as u64);
            }
        }
        self.pump(&handle.node, Push::Ready);
    }

    fn adopt(
        &self,
        newborn: &Newborn,
        handle: &nfs4_client::Handle,
        attr: &nfs4_client::FileAttr,
        sent: Instant,
    ) -> Arc<Node> {
        let mount = self.mount();
        let make = |id: NodeId| {
            let shown = crate::node::shown_attr(id.ino, attr);
            Node::new(id, handle.clone(), &shown, Instant::now(), &mount.options.timeouts)
        };
        let node = mount.table.lock().adopt(newborn.id, handle.as_bytes(), make);
        self.take_attr(&node, attr, sent);
        let mut state = node.lock();
        if state.hidden().is_none() {
            state.place = Some(Place { parent: newborn.dir.ino(), name: Name::from(&newborn.name) });
        }
        drop(state);
        node
    }

    /// From now on it is a file like any other.
    fn hand_over(&self, newborn: &Newborn, node: &Node) {
        let mut newborns = self.mount().newborns.lock();
        newborns.files.remove(&newborn.id.ino);
        newborns.names.remove(&(newborn.dir.ino(), newborn.name.clone()));
        newborns.opens.remove(&newborn.fh.0);
        let lookups = newborn.state.lock().lookups;
        let mut table = self.mount().table.lock();
        table.add_lookups(newborn.id.ino, lookups);
        if lookups == 0 {
            // The kernel has given back all it had, and will say nothing more.
            table.forget(newborn.id.ino, 0);
        }
        debug_assert!(newborn.id.ino != node.ino() || node.id == newborn.id);
    }

    /// What the kernel is told of a name that is one of these; counts the lookup.
    pub(crate) fn newborn_entry(&self, dir: u64, name: &[u8]) -> Option<Entry> {
        let newborns = self.mount().newborns.lock();
        newborns.of_name(dir, name).map(|newborn| newborn.entry())
    }

    /// Whether a name is that of one of these.
    pub(crate) fn is_newborn(&self, dir: u64, name: &[u8]) -> bool {
        self.mount().newborns.lock().of_name(dir, name).is_some()
    }

    /// Attributes of one of these.
    pub(crate) fn newborn_attr(&self, ino: u64) -> Option<(Attr, Duration)> {
        let newborn = self.mount().newborns.lock().files.get(&ino).cloned()?;
        let attr = newborn.state.lock().attr;
        newborn.refusal().is_none().then_some((attr, Duration::ZERO))
    }

    /// Attributes that go with its first bytes; `None`: not here.
    pub(crate) fn set_newborn(&self, cred: &Cred, ino: u64, set: &SetAttr) -> Option<(Attr, Duration)> {
        let newborn = self.mount().newborns.lock().files.get(&ino).cloned()?;
        let mut infant = newborn.state.lock();
        if infant.taken || *cred != newborn.cred || !may_wait(set, &infant.attr, cred) {
            return None;
        }
        infant.set = sets::joined(&infant.set, set);
        infant.attr = sets::shown(infant.attr, set);
        Some((infant.attr, Duration::ZERO))
    }

    /// Takes bytes that follow those that are there. False: it takes no more.
    pub(crate) fn write_newborn(&self, fh: Fh, offset: u64, data: &Bytes) -> bool {
        let mount = self.mount();
        let Some(newborn) = mount.newborns.lock().of_fh(fh) else { return false };
        let mut infant = newborn.state.lock();
        let end = offset + data.len() as u64;
        if infant.taken || offset != infant.attr.size || end > u64::from(mount.client.limits().max_write) {
            return false;
        }
        infant.data.push(data.clone());
        infant.set.mtime = None;
        infant.attr.size = end;
        let now = Timestamp::from_system_time(SystemTime::now());
        (infant.attr.mtime, infant.attr.ctime) = (now, now);
        mount.gauge.add(data.len() as u64);
        true
    }

    /// Brings the file of an open to the server, if it is one of these.
    pub(crate) async fn settle_fh(&self, fh: Fh) -> Result<()> {
        let newborn = self.mount().newborns.lock().of_fh(fh);
        match newborn {
            Some(newborn) => newborn.settled().await,
            None => Ok(()),
        }
    }

    /// Brings a file to the server, if it is one of these, and attributes of it that are held back.
    pub(crate) async fn settle_ino(&self, ino: u64) -> Result<()> {
        self.settle_newborn(ino).await?;
        match self.node(ino) {
            Ok(node) => self.settle_held(&node).await,
            Err(_) => Ok(()),
        }
    }

    /// Brings a file to the server, if it is one of these.
    pub(crate) async fn settle_newborn(&self, ino: u64) -> Result<()> {
        let newborn = self.mount().newborns.lock().files.get(&ino).cloned();
        match newborn {
            Some(newborn) => newborn.settled().await,
            None => Ok(()),
        }
    }

    /// Brings all of these in a directory to the server, and attributes that are held back; in all directories with `None`.
    pub(crate) async fn settle_in(&self, dir: Option<u64>) {
        self.settle_newborns_in(dir).await;
        self.settle_held_in(dir).await;
    }

    /// Brings to the server what a new name in a directory depends on: the files that are held back there, and attributes
    /// of the directory itself. Those of other files in it say nothing about it and go on waiting for their time.
    pub(crate) async fn settle_for_new(&self, dir: &Node) {
        self.settle_newborns_in(Some(dir.ino())).await;
        // What went wrong with them is in the log.
        let _ = self.settle_held(dir).await;
    }

    async fn settle_newborns_in(&self, dir: Option<u64>) {
        let newborns: Vec<_> = {
            let newborns = self.mount().newborns.lock();
            let is_there = |newborn: &&Arc<Newborn>| dir.is_none_or(|dir| newborn.dir.ino() == dir);
            newborns.files.values().filter(is_there).cloned().collect()
        };
        for newborn in &newborns {
            newborn.wanted.notify_one();
        }
        for newborn in newborns {
            // Its failure is told to who made it.
            let _ = newborn.settled().await;
        }
    }

    /// The last descriptor of one that the server refused is closed. False: it is none.
    pub(crate) fn release_refused(&self, fh: Fh) -> bool {
        let mut newborns = self.mount().newborns.lock();
        let Some(newborn) = newborns.of_fh(fh) else { return false };
        newborns.opens.remove(&fh.0);
        newborn.state.lock().released = true;
        newborns.drop_if_left(&newborn);
        true
    }

    /// The kernel gives lookups back. False: it is none of these.
    pub(crate) fn forget_newborn(&self, ino: u64, count: u64) -> bool {
        let mut newborns = self.mount().newborns.lock();
        let Some(newborn) = newborns.files.get(&ino).cloned() else { return false };
        {
            let mut infant = newborn.state.lock();
            infant.lookups = infant.lookups.saturating_sub(count);
        }
        newborns.drop_if_left(&newborn);
        true
    }
}
