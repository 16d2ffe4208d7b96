//! The grace period after a restart: who may reclaim what (RFC 8881 §8.4.2).
//!
//! The server's stable storage is this struct: it remembers every open, lock and delegation of every client. A real server
//! remembers less; this one refuses to give back what the client never had.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;

use super::config::Now;
use super::memfs::FileId;
use super::session::clients::Clients;
use super::state::States;
use super::state::ranges::Lock;

/// The state of one client before the restart.
#[derive(Debug, Default, Clone)]
struct Former {
    opens: HashMap<(Bytes, FileId), (u32, u32)>,
    locks: HashMap<(Bytes, FileId), Vec<Lock>>,
    /// Delegations, and whether they were for writing.
    delegations: HashMap<FileId, bool>,
}

/// A grace period, or none.
#[derive(Debug, Default, Clone)]
pub struct Grace {
    until: Option<Now>,
    former: HashMap<Bytes, Former>,
    waiting: HashSet<Bytes>,
}

impl Grace {
    /// The grace period after a restart that leaves this state behind; none when nobody had any.
    pub fn after(clients: &Clients, states: &States, now: Now, lease: Duration) -> Self {
        let mut former: HashMap<Bytes, Former> = HashMap::new();
        for (_, open) in states.opens().filter(|(_, open)| open.revoked.is_none()) {
            if let Some(client) = clients.get(open.client) {
                let entry = former.entry(client.owner.clone()).or_default();
                entry.opens.insert((open.owner.clone(), open.file), (open.access, open.deny));
            }
        }
        for (number, lock) in states.lock_states() {
            if let Some(client) = clients.get(lock.client)
                && let Some(ranges) = states.ranges(lock.file)
            {
                let entry = former.entry(client.owner.clone()).or_default();
                entry.locks.insert((lock.owner.clone(), lock.file), ranges.of(number).copied().collect());
            }
        }
        for (_, held) in states.delegations().filter(|(_, held)| held.revoked.is_none()) {
            if let Some(client) = clients.get(held.client) {
                former.entry(client.owner.clone()).or_default().delegations.insert(held.file, held.write);
            }
        }
        if former.is_empty() {
            return Self::default();
        }
        let waiting = former.keys().cloned().collect();
        Self { until: Some(Now(now.0 + lease)), former, waiting }
    }

    /// Whether only reclaims are allowed now.
    pub fn is_on(&self) -> bool {
        self.until.is_some()
    }

    /// The period ends by itself.
    pub fn tick(&mut self, now: Now) {
        if self.until.is_some_and(|until| now >= until) {
            *self = Self::default();
        }
    }

    /// A client has reclaimed all it wanted; once all have, the period ends.
    pub fn completed(&mut self, owner: &Bytes) {
        self.waiting.remove(owner);
        if self.waiting.is_empty() {
            *self = Self::default();
        }
    }

    /// Whether a client is known to have had state.
    pub fn knows(&self, owner: &Bytes) -> bool {
        self.former.contains_key(owner)
    }

    /// Whether an open-owner had a file open like this.
    pub fn had_open(&self, client: &Bytes, owner: &Bytes, file: FileId, access: u32, deny: u32) -> bool {
        let had = self.former.get(client).and_then(|former| former.opens.get(&(owner.clone(), file)));
        had.is_some_and(|(a, d)| access & !a == 0 && deny & !d == 0)
    }

    /// Whether a client had a file's delegation, and if so, whether it was for writing.
    pub fn had_delegation(&self, client: &Bytes, file: FileId) -> Option<bool> {
        self.former.get(client)?.delegations.get(&file).copied()
    }

    /// Whether somebody may still reclaim an open or a delegation of a file.
    pub fn remembers(&self, file: FileId) -> bool {
        self.former.values().any(|former| {
            former.delegations.contains_key(&file) || former.opens.keys().any(|(_, opened)| *opened == file)
        })
    }

    /// Whether a lock-owner had this range locked.
    pub fn had_lock(&self, client: &Bytes, owner: &Bytes, file: FileId, want: &Lock) -> bool {
        let had = self.former.get(client).and_then(|former| former.locks.get(&(owner.clone(), file)));
        had.is_some_and(|locks| {
            locks.iter().any(|lock| {
                lock.write == want.write && lock.range.first <= want.range.first && want.range.last <= lock.range.last
            })
        })
    }
}
