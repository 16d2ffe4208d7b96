//! The mount: what all calls share, and how nodes come to be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use nfs4_client::{Client, Cred, FileAttr, FsStat, Handle};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alike::Alike;
use crate::attr::{Attr, FileKind};
use crate::attrs::{Origin, Outcome};
use crate::dir::DirHandle;
use crate::error::{Error, Result};
use crate::farewell::Farewell;
use crate::files::OpenHandle;
use crate::inode::{InodeTable, Limits, ROOT_INO};
use crate::insisted::Insisted;
use crate::kernel::{Kernel, Stale};
use crate::lacks::Lacks;
use crate::leftovers::Journal;
use crate::newborn::Newborns;
use crate::node::{Node, Place, kind, shown_attr};
use crate::read::pages::Pages;
use crate::siblings::Siblings;
use crate::sync::Locked;
use crate::types::{Entry, Fh, KernelCache, VfsOptions};
use crate::walk::Walk;
use crate::write::flush::Push;
use crate::write::gauge::Gauge;

/// How often old dirty bytes are looked for.
const TICK: Duration = Duration::from_millis(250);

/// How long the file system's size is believed.
const STAT_AGE: Duration = Duration::from_secs(10);

/// Files that are ready for use although nobody uses them.
const AWAKE: usize = 16_384;

/// A mounted file system. Cheap to clone; all clones are the same mount.
///
/// Calls must be made within a tokio runtime and should be awaited to their end: dropping a call's future leaves it
/// open whether the server has carried it out.
#[derive(Clone, Debug)]
pub struct Vfs(Arc<Mount>);

/// What all calls share.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) client: Client,
    pub(crate) options: VfsOptions,
    pub(crate) table: Locked<InodeTable<Node>>,
    pub(crate) root: Arc<Node>,
    root_fsid: (u64, u64),
    pub(crate) pages: Locked<Pages>,
    pub(crate) files: DashMap<u64, Arc<OpenHandle>>,
    pub(crate) dirs: DashMap<u64, Arc<DirHandle>>,
    next_fh: AtomicU64,
    pub(crate) gauge: Gauge,
    /// Files that have dirty bytes, by serial number.
    pub(crate) dirty: Locked<std::collections::HashMap<u64, Arc<Node>>>,
    /// Bytes of READs under way.
    pub(crate) fetching: Gauge,
    /// Read-ahead takes one of these, so that slots are left for everything else.
    pub(crate) bulk: Semaphore,
    pub(crate) tasks: TaskTracker,
    pub(crate) closed: CancellationToken,
    /// Nobody waits for locks any more.
    pub(crate) waits: CancellationToken,
    pub(crate) kernel: Kernel,
    stat: Locked<(FsStat, Option<Instant>)>,
    pub(crate) newborns: Locked<Newborns>,
    /// Files of which attributes are held back, by serial number.
    pub(crate) held: Locked<std::collections::HashMap<u64, Arc<Node>>>,
    /// Users that the server takes for themselves: what they made belongs to them.
    pub(crate) themselves: Locked<std::collections::HashSet<u32>>,
    pub(crate) walk: Locked<Walk>,
    pub(crate) insisted: Locked<Insisted>,
    pub(crate) siblings: Locked<Siblings>,
    pub(crate) lacks: Lacks,
    pub(crate) journal: Locked<Option<Arc<dyn Journal>>>,
    pub(crate) farewell: Locked<Option<Arc<dyn Farewell>>>,
    pub(crate) alike: Locked<Alike>,
    /// Bytes of extended attributes that are remembered.
    pub(crate) xattr_bytes: Arc<std::sync::atomic::AtomicUsize>,
    hidden_prefix: Vec<u8>,
    next_hidden: AtomicU64,
    /// A hidden name has gone.
    pub(crate) hidden_gone: tokio::sync::Notify,
}

impl Mount {
    pub(crate) fn next_fh(&self) -> Fh {
        Fh(self.next_fh.fetch_add(1, Ordering::Relaxed))
    }

    /// A name under which a removed file lives on until it is closed.
    pub(crate) fn hidden_name(&self) -> Vec<u8> {
        let mut name = self.hidden_prefix.clone();
        name.extend_from_slice(format!("{:x}", self.next_hidden.fetch_add(1, Ordering::Relaxed)).as_bytes());
        name
    }

    /// Whether a name is one of those.
    pub(crate) fn hides(&self, name: &[u8]) -> bool {
        name.starts_with(&self.hidden_prefix)
    }

    /// Bytes of files that are in memory beside the page cache: under way or dirty.
    pub(crate) fn bytes_elsewhere(&self) -> u64 {
        self.fetching.get().saturating_add(self.gauge.get())
    }

    pub(crate) fn may_read_ahead(&self, bytes: u64) -> bool {
        self.fetching.get().saturating_add(bytes) <= self.options.cache_size / 2
    }
}

impl Vfs {
    /// A mount of what `client` is connected to. Must be called within a tokio runtime.
    pub fn new(client: Client, options: VfsOptions) -> Self {
        let (handle, attr) = client.root().clone();
        let now = Instant::now();
        let make = |id: crate::inode::NodeId| {
            Node::new(id, handle.clone(), &shown_attr(ROOT_INO, &attr), now, &options.timeouts)
        };
        let (table, root) = InodeTable::new(Limits { idle: options.idle_inodes, awake: AWAKE }, make);
        let slots = client.limits().slots as usize;
        let mount = Arc::new(Mount {
            root,
            root_fsid: attr.fsid,
            table: Locked::new(table),
            pages: Locked::new(Pages::new(options.cache_size)),
            files: DashMap::new(),
            dirs: DashMap::new(),
            next_fh: AtomicU64::new(1),
            gauge: Gauge::default(),
            dirty: Locked::default(),
            fetching: Gauge::default(),
            bulk: Semaphore::new((slots * 3 / 4).max(1)),
            tasks: TaskTracker::new(),
            closed: CancellationToken::new(),
            waits: CancellationToken::new(),
            kernel: Kernel::default(),
            stat: Locked::new((FsStat { max_name: 255, ..FsStat::default() }, None)),
            newborns: Locked::default(),
            held: Locked::default(),
            themselves: Locked::default(),
            walk: Locked::default(),
            insisted: Locked::default(),
            siblings: Locked::default(),
            lacks: Lacks::default(),
            journal: Locked::default(),
            farewell: Locked::default(),
            alike: Locked::default(),
            xattr_bytes: Arc::default(),
            hidden_prefix: format!(".nfs.s3files.{}.", uuid::Uuid::new_v4().simple()).into_bytes(),
            next_hidden: AtomicU64::new(1),
            hidden_gone: tokio::sync::Notify::new(),
            client,
            options,
        });
        let vfs = Self(mount);
        vfs.tick();
        vfs.refresh_stat();
        // Whoever mounts looks into it first.
        vfs.list(&Cred::new(0, 0), &vfs.mount().root, false);
        vfs
    }

    pub(crate) fn mount(&self) -> &Mount {
        &self.0
    }

    /// The client below, for counters and limits.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// From now on, `cache` is told what the kernel must drop.
    pub fn set_kernel_cache(&self, cache: Arc<dyn KernelCache>) {
        self.0.tasks.spawn(self.0.kernel.connect(cache));
    }

    /// Sends old dirty bytes from time to time, until the mount ends.
    fn tick(&self) {
        let mount = Arc::downgrade(&self.0);
        let closed = self.0.closed.clone();
        self.0.tasks.spawn(async move {
            while closed.run_until_cancelled(tokio::time::sleep(TICK)).await.is_some() {
                let Some(mount) = mount.upgrade() else { return };
                Self(mount).pump_all(Push::Old);
            }
        });
    }

    /// The size of the file system: what was known last, asked for again in the background when that is old.
    pub fn statfs(&self) -> FsStat {
        let (stat, asked) = *self.0.stat.lock();
        if asked.is_none_or(|asked| asked.elapsed() >= STAT_AGE) {
            self.refresh_stat();
        }
        stat
    }

    fn refresh_stat(&self) {
        self.0.stat.lock().1 = Some(Instant::now());
        let vfs = self.clone();
        self.0.tasks.spawn(async move {
            let mount = vfs.mount();
            match mount.client.statfs(&Cred::new(0, 0), &mount.root.handle).await {
                Ok(stat) => *mount.stat.lock() = (stat, Some(Instant::now())),
                Err(error) => tracing::debug!(%error, "the size of the file system is not known"),
            }
        });
    }

    /// The root's attributes as known.
    pub fn root_attr(&self) -> Attr {
        self.0.root.lock().shown()
    }

    /// The kernel gives back `count` lookups of an inode.
    pub fn forget(&self, ino: u64, count: u64) {
        if !self.forget_newborn(ino, count) {
            self.0.table.lock().forget(ino, count);
        }
    }

    /// Runs something to its end even when nobody waits for it any more.
    pub(crate) async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.0.tasks.spawn(work).await.unwrap_or(Err(Error::Closed))
    }

    pub(crate) fn writable(&self) -> Result<()> {
        if self.0.options.read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// The node of a number that the kernel uses.
    pub(crate) fn node(&self, ino: u64) -> Result<Arc<Node>> {
        if ino == ROOT_INO {
            return Ok(Arc::clone(&self.0.root));
        }
        self.0.table.lock().get(ino).ok_or(Error::NoInode(ino))
    }

    /// The same, which must be a directory's.
    pub(crate) fn directory(&self, ino: u64) -> Result<Arc<Node>> {
        let node = self.node(ino)?;
        if node.kind == FileKind::Directory { Ok(node) } else { Err(Error::NotDirectory) }
    }

    /// A name that the server may take.
    pub(crate) fn check_name(&self, name: &[u8]) -> Result<()> {
        let limit = match self.0.client.limits().max_name {
            0 => 255,
            limit => limit.min(255) as usize,
        };
        if name.len() > limit {
            return Err(Error::NameTooLong);
        }
        if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
            return Err(Error::Invalid("not a name"));
        }
        Ok(())
    }

    /// The node of a file that the server has told of at some time after `sent`.
    pub(crate) fn node_for(&self, handle: &Handle, attr: &FileAttr, sent: Instant, place: Option<Place>) -> Arc<Node> {
        let mount = self.mount();
        let fileid = (attr.fsid == mount.root_fsid).then_some(attr.fileid);
        let node = {
            let mut table = mount.table.lock();
            if let Some(known) = table.find(handle.as_bytes())
                && known.kind != kind(attr.kind)
            {
                // The server has given the handle to another file.
                table.retire(known.id);
            }
            let make = |id: crate::inode::NodeId| {
                Node::new(id, handle.clone(), &shown_attr(id.ino, attr), Instant::now(), &mount.options.timeouts)
            };
            table.intern(handle.as_bytes(), fileid, make)
        };
        self.take_attr(&node, attr, sent);
        if let Some(place) = place {
            let mut state = node.lock();
            if state.hidden().is_none() {
                state.place = Some(place);
            }
        }
        node
    }

    /// Attributes that we asked for at `sent` arrived. True: the file's data have changed elsewhere.
    pub(crate) fn take_attr(&self, node: &Arc<Node>, attr: &FileAttr, sent: Instant) -> bool {
        let outcome = node.update(attr, sent, Origin::Asked, &self.0.options.timeouts);
        self.heed(node, outcome)
    }

    /// Drops what is cached of a file that has changed elsewhere, and has the kernel do so; says whether it has.
    pub(crate) fn heed(&self, node: &Node, outcome: Outcome) -> bool {
        let changed = outcome.data_changed && node.kind == FileKind::Regular;
        if changed {
            self.0.pages.lock().drop_file(node.id.serial);
            self.0.kernel.drop_later(Stale::Inode(node.ino()));
        }
        outcome.data_changed
    }

    /// For how long a name of this directory may be believed.
    pub(crate) fn name_ttl(&self, dir: &Node, now: Instant) -> Duration {
        let state = dir.lock();
        let is_for_all = self.0.options.kernel_judges || state.attrs.last().mode() & 0o111 == 0o111;
        if is_for_all { state.attrs.remaining(now) } else { Duration::ZERO }
    }

    /// What the kernel is told of a name; counts the lookup.
    pub(crate) fn entry(&self, dir: &Node, node: &Arc<Node>) -> Entry {
        let now = Instant::now();
        let entry_ttl = self.name_ttl(dir, now);
        let (attr, attr_ttl) = {
            let state = node.lock();
            (state.shown(), state.ttl(now))
        };
        self.0.table.lock().add_lookups(node.ino(), 1);
        Entry { attr, generation: node.id.serial, entry_ttl, attr_ttl }
    }
}
