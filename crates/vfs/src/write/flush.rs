//! Sends what [`Dirty`](super::dirty::Dirty) decides, and waits for it.
//!
//! [`Vfs::pump`] asks for actions until there is none and gives each a task; each task ends by pumping again. Flushing is
//! asking for everything and waiting. No task holds a lock while it waits for the network.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nfs4_client::{Errno, FileAttr, OpenFile, Stability, Written};

use crate::attrs::Origin;
use crate::error::{Error, Result};
use crate::extents::Piece;
use crate::files::{OpenHandle, Telling};
use crate::kernel::Stale;
use crate::node::{FileState, Node, NodeState, ServerOpen};
use crate::types::SetAttr;
use crate::vfs::Vfs;
use crate::write::dirty::{Action, Cut, Policy};
use crate::write::sets::Waiting;

/// What a program has written, and neither synced nor closed, is on the server's stable storage after so long, as a kernel
/// would have it. Until then a crash of this machine and of the server together would lose it.
const STABLE_AGE: Duration = Duration::from_secs(30);

/// What a flush waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// The server has the bytes.
    Sent,
    /// They are on its stable storage.
    Stable,
}

/// How bytes of a program are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Where the program says.
    At,
    /// At the end of the file.
    Append,
    /// As `At`, and nothing is told of earlier failures: the program has written them long ago.
    Untold,
}

/// What is sent beyond what has been asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Push {
    /// What fills a WRITE.
    Ready,
    /// And what has waited long enough.
    Old,
    /// Everything: memory is short.
    All,
}

/// What is sent next.
enum Send {
    /// Data, or a COMMIT, and attributes that are set along with it.
    Data(Action, Option<SetAttr>),
    Attributes(Waiting),
}

/// Nothing is sent for a file while it is being cut; ends also when nobody waits for the truncation any more.
pub(crate) struct Frozen {
    vfs: Vfs,
    node: Arc<Node>,
    cut: Vec<Cut>,
}

impl Frozen {
    /// Whose data it is about.
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// The file was cut, or made longer, at the server, and had these attributes after that.
    pub(crate) fn succeed(mut self, size: u64, attr: &FileAttr, sent: Instant) {
        self.cut.clear();
        let mount = self.vfs.mount();
        let mut state = self.node.lock();
        let file = state.file();
        // Data that were read before the cut, and come after this, are old.
        file.touched += 1;
        file.dirty.was_cut(size);
        file.sets.data_changed();
        file.dirty.thaw();
        file.taint(&(0..u64::MAX));
        mount.pages.lock().drop_range(self.node.id.serial, size..u64::MAX);
        let timeouts = &mount.options.timeouts;
        let outcome = self.node.update_locked(&mut state, attr, sent, Origin::OwnChange, false, timeouts);
        self.vfs.heed(&self.node, outcome);
        let end = state.file().dirty.end().unwrap_or(0);
        state.attrs.set_size(size.max(end));
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let mut state = self.node.lock();
        let file = state.file();
        file.dirty.put_back(&self.cut);
        file.dirty.thaw();
        let progress = Arc::clone(&file.progress);
        self.vfs.account(&self.node, file);
        drop(state);
        progress.notify_waiters();
        self.vfs.pump(&self.node, Push::Ready);
    }
}

/// An open through which something is sent, whoever wrote it: it is not closed meanwhile.
struct Using(Arc<ServerOpen>);

impl Using {
    fn new(open: Arc<ServerOpen>) -> Self {
        open.in_use.add(1);
        Self(open)
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        self.0.in_use.remove(1);
    }
}

impl Vfs {
    /// Takes bytes written by a program through `handle`.
    pub(crate) async fn write_back(
        &self,
        handle: &OpenHandle,
        offset: u64,
        data: Bytes,
        manner: Manner,
    ) -> Result<u32> {
        let mount = self.mount();
        let len = data.len() as u64;
        let push = || self.pump_all(Push::All);
        mount.gauge.wait_for_room(len, mount.options.dirty_limit, push).await;
        while !self.take_in(handle, offset, &data, manner)? {
            let progress = Arc::clone(&handle.node.lock().file().progress);
            let moved = progress.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let is_frozen = handle.node.lock().file().dirty.is_frozen();
            if is_frozen {
                moved.await;
            }
        }
        self.pump(&handle.node, Push::Ready);
        Ok(len as u32)
    }

    /// False: it is to be appended, and a truncation under way decides where the end will be.
    pub(crate) fn take_in(&self, handle: &OpenHandle, offset: u64, data: &Bytes, manner: Manner) -> Result<bool> {
        let append = manner == Manner::Append;
        let mount = self.mount();
        let limits = mount.client.limits();
        let mut state = handle.node.lock();
        if append && state.file().dirty.is_frozen() {
            return Ok(false);
        }
        let offset = if append { state.attrs.last().size } else { offset };
        let end = offset.checked_add(data.len() as u64).ok_or(Error::FileTooBig)?;
        if end > i64::MAX as u64 || (limits.max_file_size > 0 && end > limits.max_file_size) {
            return Err(Error::FileTooBig);
        }
        let file = state.file();
        file.touched += 1;
        if handle.flags.bypasses_kernel_cache() {
            // Older kernels leave pages as they were that other opens have read.
            file.version += 1;
        }
        if manner != Manner::Untold
            && let Some(errno) = handle.untold(file, Telling::Write)
        {
            return Err(Error::Writeback(errno));
        }
        file.taint(&(offset..end));
        file.dirty.write(offset, data.clone(), Instant::now(), u64::from(limits.max_write));
        file.sets.data_changed();
        self.account(&handle.node, file);
        let size = state.attrs.last().size.max(end);
        state.attrs.set_size(size);
        state.attrs.touch(crate::attr::Timestamp::from_system_time(std::time::SystemTime::now()));
        let mut pages = mount.pages.lock();
        pages.drop_range(handle.node.id.serial, offset..end);
        pages.leave(mount.bytes_elsewhere());
        Ok(true)
    }

    /// Brings the mount's count of dirty bytes, and its list of files that have some, up to date.
    pub(crate) fn account(&self, node: &Arc<Node>, file: &mut FileState) {
        let mount = self.mount();
        mount.gauge.settle(&mut file.accounted, file.dirty.bytes());
        let mut dirty = mount.dirty.lock();
        if file.is_clean() {
            dirty.remove(&node.id.serial);
        } else {
            dirty.entry(node.id.serial).or_insert_with(|| Arc::clone(node));
        }
    }

    fn policy(&self, push: Push) -> Policy {
        let mount = self.mount();
        let limits = mount.client.limits();
        let (dirty, limit) = (mount.gauge.get(), mount.options.dirty_limit);
        let short = push == Push::All || mount.gauge.is_awaited();
        Policy {
            max_write: u64::from(limits.max_write).max(1),
            max_flights: (limits.slots as usize * 3 / 4).max(1),
            age: (push == Push::Old).then_some(mount.options.dirty_age),
            commit_age: (push == Push::Old).then_some(STABLE_AGE),
            commit_soon: short || dirty > limit / 2,
            send_now: short,
        }
    }

    /// Starts everything that can be sent for a file now.
    pub(crate) fn pump(&self, node: &Arc<Node>, push: Push) {
        let policy = self.policy(push);
        let now = Instant::now();
        loop {
            let mut state = node.lock();
            let Some(file) = state.known_file() else { return };
            if push == Push::Old {
                file.sets.want_older_than(self.mount().options.dirty_age, now);
            }
            let writer = file.writer();
            // A COMMIT that nobody can send would give its bytes up. For their age alone that is not done.
            let policy = Policy { commit_age: policy.commit_age.filter(|_| writer.is_some()), ..policy };
            let send = match file.dirty.next(now, &policy) {
                Some(action) => {
                    // The last thing that is sent takes the attributes along.
                    let is_last = matches!(action, Action::Write { sync: true, .. } | Action::Commit);
                    let set = writer.as_ref().filter(|_| is_last).and_then(|open| file.sets.take_for(&open.cred));
                    Send::Data(action, set)
                }
                // What is under way will pump again.
                None if file.sets.is_due() && !file.dirty.is_under_way() && !file.dirty.is_frozen() => {
                    match file.sets.take() {
                        Some(waiting) => Send::Attributes(waiting),
                        None => return,
                    }
                }
                None => return,
            };
            let using = writer.map(Using::new);
            drop(state);
            self.mount().tasks.spawn(self.clone().carry_out(Arc::clone(node), send, using));
        }
    }

    /// Starts what can be sent for every file.
    pub(crate) fn pump_all(&self, push: Push) {
        let nodes: Vec<Arc<Node>> = self.mount().dirty.lock().values().cloned().collect();
        for node in nodes {
            self.pump(&node, push);
        }
    }

    // A boxed future, because it starts the next ones of its kind.
    fn carry_out(
        self,
        node: Arc<Node>,
        send: Send,
        using: Option<Using>,
    ) -> Pin<Box<dyn Future<Output = ()> + std::marker::Send>> {
        Box::pin(async move {
            let writer = using.as_ref().map(|using| Arc::clone(&using.0));
            match send {
                Send::Data(Action::Write { id, offset, data, sync }, set) => {
                    self.send_write(&node, id, offset, data, sync, writer, set).await;
                }
                Send::Data(Action::Commit, set) => self.send_commit(&node, writer, set).await,
                Send::Attributes(waiting) => self.send_attributes(&node, waiting).await,
            }
            drop(using);
            let progress = {
                let mut state = node.lock();
                let file = state.file();
                self.account(&node, file);
                Arc::clone(&file.progress)
            };
            self.pump(&node, Push::Ready);
            progress.notify_waiters();
        })
    }

    async fn send_write(
        &self,
        node: &Arc<Node>,
        id: u64,
        offset: u64,
        data: Vec<Bytes>,
        sync: bool,
        writer: Option<Arc<ServerOpen>>,
        set: Option<SetAttr>,
    ) {
        let sent = Instant::now();
        let len: u64 = data.iter().map(|data| data.len() as u64).sum();
        let stability = if sync { Stability::FileSync } else { Stability::Unstable };
        let result = match &writer {
            Some(open) => self.write_at(open, offset, data, stability, set).await,
            None => Err(Error::BadHandle),
        };
        let mut state = node.lock();
        match result {
            Ok(written) => {
                state.file().touched += 1;
                let stable = written.committed > Stability::Unstable;
                let clean = state.file().dirty.written(id, u64::from(written.count), stable, written.verifier);
                self.keep_clean(node, clean);
                self.own_change(node, &mut state, &written.attr, sent);
                self.attributes_set(node, &mut state, set.and(written.set), sent, writer.as_deref());
            }
            // The session is a new one and takes less at a time.
            Err(Error::Client(nfs4_client::Error::TooLarge { .. }))
                if len > u64::from(self.mount().client.limits().max_write) =>
            {
                let file = state.file();
                file.dirty.written(id, 0, false, [0; 8]);
                if let (Some(open), true) = (&writer, set.is_some())
                    && !file.sets.put_back(&open.cred, Instant::now())
                {
                    file.fail(Errno::Io, 0);
                }
            }
            Err(error) => {
                let lost = state.file().dirty.failed(id);
                self.give_up(node, &mut state, lost.into_iter().collect(), &error);
                if set.is_some() {
                    // Their failure is told with that of the data.
                    state.file().sets.answered(None, Instant::now());
                }
            }
        }
    }

    async fn send_commit(&self, node: &Arc<Node>, writer: Option<Arc<ServerOpen>>, set: Option<SetAttr>) {
        let sent = Instant::now();
        let mount = self.mount();
        let to_send = set.map(SetAttr::to_client);
        let result = match &writer {
            Some(open) => mount.client.commit(&open.cred, &node.handle, 0, 0, to_send).await.map_err(Error::from),
            None => Err(Error::BadHandle),
        };
        let mut state = node.lock();
        match result {
            Ok(committed) => {
                let clean = state.file().dirty.committed(committed.verifier);
                self.keep_clean(node, clean);
                self.own_change(node, &mut state, &committed.attr, sent);
                self.attributes_set(node, &mut state, set.and(committed.set), sent, writer.as_deref());
            }
            Err(error) => {
                let lost = state.file().dirty.commit_failed();
                self.give_up(node, &mut state, lost, &error);
                if set.is_some() {
                    // Their failure is told with that of the data.
                    state.file().sets.answered(None, Instant::now());
                }
            }
        }
    }

    /// SETATTR of what has no data to go with.
    async fn send_attributes(&self, node: &Arc<Node>, waiting: Waiting) {
        let sent = Instant::now();
        let client = &self.mount().client;
        let result = client.setattr(&waiting.cred, &node.handle, None, waiting.set.to_client()).await;
        self.attributes_set(node, &mut node.lock(), Some(result), sent, None);
    }

    fn own_change(&self, node: &Node, state: &mut NodeState, attr: &FileAttr, sent: Instant) {
        let timeouts = &self.mount().options.timeouts;
        let outcome = node.update_locked(state, attr, sent, Origin::OwnChange, true, timeouts);
        self.heed(node, outcome);
    }

    /// What became of attributes that were to be set; `None` if there were none. `writer`: whose data went with them.
    fn attributes_set(
        &self,
        node: &Node,
        state: &mut NodeState,
        set: Option<nfs4_client::Result<FileAttr>>,
        sent: Instant,
        writer: Option<&ServerOpen>,
    ) {
        let Some(set) = set else { return };
        // Data that must be sent once more come after the time that was set.
        let again = writer.filter(|_| set.is_ok() && !state.file().dirty.is_clean()).map(|open| open.cred.clone());
        state.file().sets.answered(again.as_ref(), Instant::now());
        match set {
            Ok(attr) => self.own_change(node, state, &attr, sent),
            Err(error) => {
                tracing::error!(ino = node.ino(), %error, "attributes could not be set");
                state.file().fail(error.errno(), 0);
                state.attrs.expire();
            }
        }
    }

    fn keep_clean(&self, node: &Node, clean: Vec<Piece>) {
        let mut pages = self.mount().pages.lock();
        pages.leave(self.mount().bytes_elsewhere());
        for (at, data) in clean {
            pages.put(node.id.serial, at, &data);
        }
    }

    /// Bytes could not be written: they are gone, also from the kernel's pages, and whoever wrote them will be told.
    fn give_up(&self, node: &Node, state: &mut NodeState, lost: Vec<Range<u64>>, error: &Error) {
        let bytes: u64 = lost.iter().map(|range| range.end - range.start).sum();
        let errno = error.errno();
        tracing::error!(ino = node.ino(), bytes, %error, "written data could not be stored");
        let file = state.file();
        file.fail(errno, bytes);
        file.version += 1;
        state.attrs.expire();
        let mut pages = self.mount().pages.lock();
        for range in lost {
            pages.drop_range(node.id.serial, range);
        }
        drop(pages);
        self.mount().kernel.drop_later(Stale::Inode(node.ino()));
    }

    async fn write_at(
        &self,
        open: &Arc<ServerOpen>,
        offset: u64,
        data: Vec<Bytes>,
        stability: Stability,
        set: Option<SetAttr>,
    ) -> Result<Written> {
        let client = &self.mount().client;
        let set = set.map(SetAttr::to_client);
        match client.write(&self.file_of(open).await?, offset, data.clone(), stability, set).await {
            Err(nfs4_client::Error::StateLost) => {
                self.reopen(open).await?;
                Ok(client.write(&self.file_of(open).await?, offset, data, stability, set).await?)
            }
            result => Ok(result?),
        }
    }

    /// Waits until everything written so far has reached the goal or failed.
    pub(crate) async fn flush_node(&self, node: &Arc<Node>, goal: Goal) {
        let (seq, sets, progress) = {
            let mut state = node.lock();
            let Some(file) = state.known_file() else { return };
            let (seq, sets) = match goal {
                Goal::Sent => (file.dirty.ask_sent(), 0),
                Goal::Stable => (file.dirty.ask_stable(), file.sets.want()),
            };
            (seq, sets, Arc::clone(&file.progress))
        };
        loop {
            let moved = progress.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            self.pump(node, Push::Ready);
            {
                let mut state = node.lock();
                let file = state.file();
                let reached = match goal {
                    Goal::Sent => file.dirty.is_sent(seq),
                    Goal::Stable => file.dirty.is_stable(seq) && file.sets.is_done(sets),
                };
                if reached {
                    return;
                }
            }
            moved.await;
        }
    }

    /// SETATTR with a size: what was written before is at the server first or cut off, what is written after stays.
    pub(crate) async fn truncate(
        &self,
        node: &Arc<Node>,
        set: SetAttr,
        size: u64,
        cred: &nfs4_client::Cred,
        open: Option<&OpenFile>,
    ) -> Result<()> {
        let frozen = self.freeze(node, size).await;
        let sent = Instant::now();
        let attr = self.mount().client.setattr(cred, &node.handle, open, set.to_client()).await?;
        frozen.succeed(size, &attr, sent);
        Ok(())
    }

    /// An open has cut a file that is being written here under another name, as only its answer has shown: what was
    /// written before goes now, and the file is cut again. False: nothing had to be done.
    pub(crate) async fn cut_late(&self, node: &Arc<Node>, cred: &nfs4_client::Cred, open: &ServerOpen) -> Result<bool> {
        {
            let mut state = node.lock();
            // What was sent and not committed might be sent once more, over what comes after the cut.
            if !state.is_busy() && state.known_file().is_none_or(|file| file.dirty.is_clean()) {
                return Ok(false);
            }
        }
        let set = SetAttr { size: Some(0), ..SetAttr::default() };
        self.truncate(node, set, 0, cred, open.file().as_ref()).await?;
        Ok(true)
    }

    /// Waits until the server has everything below `size` and holds the rest back.
    pub(crate) async fn freeze(&self, node: &Arc<Node>, size: u64) -> Frozen {
        let progress = Arc::clone(&node.lock().file().progress);
        loop {
            let moved = progress.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            {
                let mut state = node.lock();
                let file = state.file();
                if file.dirty.is_ready_for_truncation(size) {
                    file.dirty.freeze();
                    file.touched += 1;
                    let cut = file.dirty.cut_off(size);
                    file.taint(&(size..u64::MAX));
                    return Frozen { vfs: self.clone(), node: Arc::clone(node), cut };
                }
                if !file.dirty.is_frozen() {
                    file.dirty.ask_sent();
                }
            }
            self.pump(node, Push::Ready);
            moved.await;
        }
    }
}
