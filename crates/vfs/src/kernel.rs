//! Telling the kernel what it must no longer believe.
//!
//! The kernel takes locks to drop what it holds, some of which a request in progress may be holding. So the telling is
//! done by a task of its own on a thread that may block, and a request at most waits for it for a limited time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::sync::Locked;
use crate::types::KernelCache;

/// How long an open or a lock waits until the kernel has dropped old pages.
const PATIENCE: Duration = Duration::from_secs(1);

/// What to drop.
#[derive(Debug)]
pub(crate) enum Stale {
    /// A file's attributes and data.
    Inode(u64),
    /// What a name in a directory stands for.
    Entry(u64, Bytes),
}

/// Who waits for the kernel to have dropped a file's attributes and data.
type Told = oneshot::Sender<()>;

type Item = (Stale, Option<Told>);

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    queue: Locked<Option<mpsc::Sender<Item>>>,
}

impl Kernel {
    /// From now on `cache` is told. Returns what must run for it.
    pub(crate) fn connect(&self, cache: Arc<dyn KernelCache>) -> impl Future<Output = ()> + Send + use<> {
        let (sender, mut queue) = mpsc::channel::<Item>(1024);
        *self.queue.lock() = Some(sender);
        async move {
            while let Some((stale, told)) = queue.recv().await {
                let cache = Arc::clone(&cache);
                let tell = move || match (stale, told) {
                    (Stale::Inode(ino), Some(told)) => cache.drop_inode(ino, Box::new(move || _ = told.send(()))),
                    (Stale::Inode(ino), None) => cache.invalidate_inode(ino),
                    (Stale::Entry(parent, name), _) => cache.invalidate_entry(parent, &name),
                };
                if tokio::task::spawn_blocking(tell).await.is_err() {
                    tracing::warn!("telling the kernel to drop what it holds has failed");
                }
            }
        }
    }

    /// Nobody is told any more.
    pub(crate) fn disconnect(&self) {
        *self.queue.lock() = None;
    }

    fn sender(&self) -> Option<mpsc::Sender<Item>> {
        self.queue.lock().clone()
    }

    /// Has the kernel drop something; when the queue is full, time-outs have to do.
    pub(crate) fn drop_later(&self, stale: Stale) {
        if let Some(sender) = self.sender() {
            let _ = sender.try_send((stale, None));
        }
    }

    /// Has the kernel drop a file's attributes and data and waits for it, within reason. False: it may hold them still.
    pub(crate) async fn drop_now(&self, ino: u64) -> bool {
        let Some(sender) = self.sender() else { return false };
        let (done, told) = oneshot::channel();
        let wait = async { sender.send((Stale::Inode(ino), Some(done))).await.is_ok() && told.await.is_ok() };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| {
            tracing::debug!("the kernel takes long to drop what it holds");
            false
        })
    }
}
