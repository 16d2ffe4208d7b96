//! Attributes of files that nobody has open for writing, held back for a moment.
//!
//! `tar`, `rsync` and `cp -a` set the times, the owner and the mode of a directory, or of a file that they have closed, in
//! three calls one after the other. The one idea: the first is answered at once and waits for [`HOLD`], so that those
//! that follow go out with it, as one SETATTR. As with [`sets`](super::sets), only what the server is bound to allow is
//! held back, and every call that depends on it, or on what lies in the directory, waits until the server has it.
//!
//! Should the server refuse it all the same, a call on the file itself that waits for it is told, and the log in any case.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nfs4_client::Cred;
use tokio::sync::{Notify, watch};

use crate::attr::{Attr, Timestamp};
use crate::attrs::Origin;
use crate::error::{Error, Result};
use crate::kernel::Stale;
use crate::node::{Body, Node, NodeState};
use crate::types::SetAttr;
use crate::vfs::Vfs;
use crate::write::sets::{joined, may_wait, shown};

/// How long the server does not hear of them.
const HOLD: Duration = Duration::from_millis(5);

/// Most files with such attributes at once.
const MOST: usize = 64;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Held {
    set: SetAttr,
    cred: Cred,
    at: Timestamp,
    /// They are on their way: nothing can be added.
    taken: bool,
    wanted: Arc<Notify>,
    answered: watch::Receiver<Option<Result<()>>>,
}

impl Held {
    /// The attributes as they will be.
    pub(crate) fn shown(&self, attr: Attr) -> Attr {
        let attr = shown(attr, &self.set);
        Attr { ctime: attr.ctime.max(self.at), ..attr }
    }

    /// Joins a set. False: it cannot be.
    fn join(&mut self, set: &SetAttr, cred: &Cred) -> bool {
        let joins = !self.taken && self.cred == *cred;
        if joins {
            self.set = joined(&self.set, set);
            self.at = Timestamp::from_system_time(SystemTime::now());
        }
        joins
    }
}

impl NodeState {
    /// As [`Self::fresh`]; also where the only doubt is about times, and those are about to be set.
    pub(crate) fn fresh_or_held(&self, now: Instant) -> Option<(Attr, Duration)> {
        let sets_times = self.held().is_some_and(|held| held.set.mtime.is_some());
        if sets_times && self.attrs.fresh_change(now).is_some() {
            return Some((self.shown(), Duration::ZERO));
        }
        self.fresh(now)
    }

    /// Whether the file's own state speaks against holding a set back.
    fn may_hold(&self) -> bool {
        match self.body() {
            Body::File(file) => file.is_clean() && file.writer().is_none() && !file.dirty.is_frozen(),
            _ => true,
        }
    }
}

impl Vfs {
    /// `cred` has made something, which belongs to `owner`. Where that is the same, the server knows who asks and lets them
    /// change things: it squashes nobody, no access point speaks in their name, and their credentials are good for more
    /// than reading. Without this proof nothing is held back.
    pub(crate) fn has_made(&self, cred: &Cred, owner: u32) {
        if cred.uid == owner {
            self.mount().themselves.lock().insert(owner);
        }
    }

    /// Holds a set back, if that may be.
    pub(crate) fn hold_set(&self, cred: &Cred, node: &Arc<Node>, set: &SetAttr) -> bool {
        let mount = self.mount();
        if !mount.options.delayed_create || node.is_special() || !mount.themselves.lock().contains(&cred.uid) {
            return false;
        }
        let mut state = node.lock();
        if state.attrs.fresh_change(Instant::now()).is_none()
            || !may_wait(set, &state.shown(), cred)
            || !state.may_hold()
        {
            return false;
        }
        if let Some(held) = state.held_mut() {
            return held.join(set, cred);
        }
        let (tell, answered) = watch::channel(None);
        let wanted = Arc::new(Notify::new());
        {
            let mut all = mount.held.lock();
            if all.len() >= MOST {
                return false;
            }
            all.insert(node.id.serial, Arc::clone(node));
        }
        let at = Timestamp::from_system_time(SystemTime::now());
        let held = Held { set: *set, cred: cred.clone(), at, taken: false, wanted: Arc::clone(&wanted), answered };
        state.more().held = Some(Box::new(held));
        drop(state);
        let (vfs, node) = (self.clone(), Arc::clone(node));
        mount.tasks.spawn(async move {
            // Whether time is up or somebody wants it: now it goes.
            let _ = tokio::time::timeout(HOLD, wanted.notified()).await;
            let outcome = vfs.send_held(&node).await;
            tell.send_replace(Some(outcome));
        });
        true
    }

    /// Under the file's lock: else a set that follows at once could lose its place among those that wait.
    fn let_go(&self, node: &Node, state: &mut NodeState) {
        state.more().held = None;
        self.mount().held.lock().remove(&node.id.serial);
    }

    async fn send_held(&self, node: &Arc<Node>) -> Result<()> {
        let Some((set, cred)) = node.lock().held_mut().map(|held| {
            held.taken = true;
            (held.set, held.cred.clone())
        }) else {
            return Ok(());
        };
        let mount = self.mount();
        let sent = Instant::now();
        let said = mount.client.setattr(&cred, &node.handle, None, set.to_client()).await;
        match self.heard(node, said) {
            Ok(attr) => {
                let mut state = node.lock();
                let timeouts = &mount.options.timeouts;
                let outcome = node.update_locked(&mut state, &attr, sent, Origin::OwnChange, false, timeouts);
                self.let_go(node, &mut state);
                drop(state);
                self.heed(node, outcome);
                Ok(())
            }
            Err(error) => {
                tracing::error!(ino = node.ino(), %error, "attributes that were set could not be stored");
                let mut state = node.lock();
                self.let_go(node, &mut state);
                state.attrs.expire();
                drop(state);
                mount.kernel.drop_later(Stale::Inode(node.ino()));
                Err(error)
            }
        }
    }

    /// Waits until the server has what was held back for this file.
    ///
    /// # Errors
    /// That it refused it.
    pub(crate) async fn settle_held(&self, node: &Node) -> Result<()> {
        let waits = node.lock().held().map(|held| (Arc::clone(&held.wanted), held.answered.clone()));
        let Some((wanted, mut answered)) = waits else { return Ok(()) };
        wanted.notify_one();
        match answered.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(Error::Closed)),
            Err(_) => Err(Error::Closed),
        }
    }

    /// The same for a directory and all that is in it; for all files with `None`. What went wrong is in the log.
    pub(crate) async fn settle_held_in(&self, dir: Option<u64>) {
        let nodes: Vec<Arc<Node>> = self.mount().held.lock().values().cloned().collect();
        let is_there = |node: &Arc<Node>| {
            dir.is_none_or(|dir| {
                node.ino() == dir || node.lock().place.as_ref().is_none_or(|place| place.parent == dir)
            })
        };
        let nodes: Vec<_> = nodes.into_iter().filter(is_there).collect();
        // All at once: each waits for a round trip of its own.
        for node in &nodes {
            if let Some(held) = node.lock().held() {
                held.wanted.notify_one();
            }
        }
        for node in nodes {
            let _ = self.settle_held(&node).await;
        }
    }
}
