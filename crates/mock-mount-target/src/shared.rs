//! What all connections of a mock have in common.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::bind::Binder;
use crate::clock::Clock;
use crate::link::Link;
use crate::service::Service;
use crate::unanswered::Unanswered;
use crate::wire::WireFaults;

/// What all connections have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub service: Arc<dyn Service>,
    pub binder: Binder,
    pub link: Arc<Link>,
    pub wire: WireFaults,
    pub unanswered: Unanswered,
    pub clock: Arc<Clock>,
    pub mistakes: Mistakes,
    pub refusals: Mistakes,
    /// Panics of the mock itself; a test must hear of them.
    pub panics: Mistakes,
    pub connections: Arc<Connections>,
    pub counters: Counters,
}

impl Shared {
    /// Writes down how a connection's task ended, if it panicked.
    pub(crate) fn ended(&self, task: Result<(), JoinError>) {
        if let Err(error) = task
            && error.is_panic()
        {
            let panic = error.into_panic();
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            self.panics.add(format!("the mock panicked: {}", text.unwrap_or("without a text")));
        }
    }
}

/// Most entries of a list; a broken client must not fill the memory.
const MOST: usize = 10_000;

/// A list of what clients did wrong.
#[derive(Debug, Default)]
pub(crate) struct Mistakes(Mutex<Vec<String>>);

impl Mistakes {
    pub(crate) fn add(&self, what: String) {
        tracing::warn!(target: "referee", "{what}");
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() < MOST {
            list.push(what);
        }
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The connections that stand, so that they can be cut.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    last: AtomicU64,
    open: Mutex<HashMap<u64, CancellationToken>>,
}

impl Connections {
    /// A new connection's number and what cuts it, as long as the returned guard lives.
    pub(crate) fn enter(self: &Arc<Self>) -> Entered {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let cut = CancellationToken::new();
        self.with(|open| open.insert(id, cut.clone()));
        Entered { id, cut, connections: Arc::clone(self) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<u64, CancellationToken>) -> T) -> T {
        act(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Connections {
    /// Cuts every connection that stands.
    pub(crate) fn cut_all(&self) {
        self.with(|open| open.values().for_each(CancellationToken::cancel));
    }

    /// How many stand.
    pub(crate) fn len(&self) -> usize {
        self.with(|open| open.len())
    }
}

/// A connection's entry in the list; it is taken out when this is dropped.
#[derive(Debug)]
pub(crate) struct Entered {
    pub id: u64,
    pub cut: CancellationToken,
    connections: Arc<Connections>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.connections.with(|open| open.remove(&self.id));
    }
}

/// What went over the wire so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    accepted: AtomicU64,
    refused: AtomicU64,
    calls: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

/// What went over the wire, read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WireCounters {
    /// Connections that were let in.
    pub accepted: u64,
    /// Connections that were not.
    pub refused: u64,
    /// RPC calls, bind and NULL included.
    pub calls: u64,
    /// Bytes from clients, inside TLS.
    pub bytes_in: u64,
    /// Bytes to clients, inside TLS.
    pub bytes_out: u64,
}

impl Counters {
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn called(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> WireCounters {
        WireCounters {
            accepted: self.accepted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            calls: self.calls.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }
}
