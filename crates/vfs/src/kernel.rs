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

/// How long an open waits until the kernel has dropped old pages.
const PATIENCE: Duration = Duration::from_secs(1);

/// What to drop.
#[derive(Debug)]
pub(crate) enum Stale {
    /// A file's attributes and data.
    Inode(u64),
    /// What a name in a directory stands for.
    Entry(u64, Bytes),
}

type Item = (Stale, Option<oneshot::Sender<()>>);

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
                let tell = move || match stale {
                    Stale::Inode(ino) => cache.invalidate_inode(ino),
                    Stale::Entry(parent, name) => cache.invalidate_entry(parent, &name),
                };
                if tokio::task::spawn_blocking(tell).await.is_err() {
                    tracing::warn!("telling the kernel to drop what it holds has failed");
                }
                if let Some(told) = told {
                    let _ = told.send(());
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

    /// Has the kernel drop something and waits for it, within reason.
    pub(crate) async fn drop_now(&self, stale: Stale) {
        let Some(sender) = self.sender() else { return };
        let (done, told) = oneshot::channel();
        let wait = async {
            if sender.send((stale, Some(done))).await.is_ok() {
                let _ = told.await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            tracing::debug!("the kernel takes long to drop what it holds");
        }
    }
}
