//! Inode numbers: which number stands for which file handle, for how long.
//!
//! The one idea: a number is the server's `fileid` whenever that is free in this mount, and an invented one (top bit
//! set) when it is not: another file system below ours (`fsid` differs), the reserved numbers 0 and 1, or a `fileid`
//! that the server has given to a new file while the kernel still holds the old one. So numbers agree with what other
//! clients see, survive being forgotten, and never stand for two files at once.
//!
//! An entry lives while the kernel holds lookups on it, while anyone holds its node, and after that as long as it is
//! among the youngest `idle_limit` unreferenced ones, so that a plain listing can leave attributes behind.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

/// The root's number, as FUSE has it.
pub const ROOT_INO: u64 = 1;

/// Numbers from here on are ours; no file system in use hands out such a `fileid`.
const INVENTED: u64 = 1 << 63;

/// How many invented numbers outlive their entry, so that a forgotten inode gets its old number back.
const REMEMBERED: usize = 1 << 16;

/// Names one entry of the table for good: a number alone may be given to another file after its entry has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId {
    /// The inode number that users see.
    pub ino: u64,
    /// Never used twice in a mount.
    pub serial: u64,
}

/// The table; `H` is a file handle, `N` what is kept for each file.
#[derive(Debug)]
pub struct InodeTable<H, N> {
    by_ino: HashMap<u64, Slot<H, N>>,
    by_handle: HashMap<H, u64>,
    next_invented: u64,
    next_serial: u64,
    idle: VecDeque<NodeId>,
    idle_limit: usize,
    invented: HashMap<H, u64>,
    invented_order: VecDeque<H>,
}

#[derive(Debug)]
struct Slot<H, N> {
    node: Arc<N>,
    handle: H,
    serial: u64,
    lookups: u64,
    queued: bool,
    gone: bool,
    /// A second number of a file that has one: goes with its last lookup.
    alias: bool,
}

impl<H: Clone + Eq + Hash, N> InodeTable<H, N> {
    /// A table that holds the root, which is never forgotten.
    pub fn new(root: H, idle_limit: usize, make: impl FnOnce(NodeId) -> N) -> (Self, Arc<N>) {
        let id = NodeId { ino: ROOT_INO, serial: 0 };
        let node = Arc::new(make(id));
        let slot = Slot {
            node: Arc::clone(&node),
            handle: root.clone(),
            serial: 0,
            lookups: 1,
            queued: false,
            gone: false,
            alias: false,
        };
        let table = Self {
            by_ino: HashMap::from([(ROOT_INO, slot)]),
            by_handle: HashMap::from([(root, ROOT_INO)]),
            next_invented: INVENTED,
            next_serial: 1,
            idle: VecDeque::new(),
            idle_limit,
            invented: HashMap::new(),
            invented_order: VecDeque::new(),
        };
        (table, node)
    }

    /// How many entries there are, idle ones included.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_ino.len()
    }

    /// The node of a number that the kernel uses.
    pub fn get(&self, ino: u64) -> Option<Arc<N>> {
        self.by_ino.get(&ino).map(|slot| Arc::clone(&slot.node))
    }

    /// The node of an entry remembered elsewhere, if it is still the same entry.
    pub fn resolve(&self, id: NodeId) -> Option<Arc<N>> {
        self.by_ino
            .get(&id.ino)
            .filter(|slot| slot.serial == id.serial && !slot.gone)
            .map(|slot| Arc::clone(&slot.node))
    }

    /// The node of a file handle.
    pub fn find(&self, handle: &H) -> Option<Arc<N>> {
        self.by_handle.get(handle).and_then(|ino| self.get(*ino))
    }

    /// The number that [`Self::intern`] would most likely give, without making an entry.
    pub fn peek(&self, handle: Option<&H>, fileid: Option<u64>) -> u64 {
        let known = handle.and_then(|handle| self.by_handle.get(handle).or_else(|| self.invented.get(handle)));
        match (known, fileid) {
            (Some(ino), _) => *ino,
            (None, Some(fileid)) if usable(fileid) && !self.by_ino.contains_key(&fileid) => fileid,
            // Something that isn't 0, which programs take for a deleted entry.
            (None, _) => self.next_invented,
        }
    }

    /// The node of `handle`, made where there is none. `fileid` is the server's number for it, or None where that means
    /// nothing here (another fsid).
    pub fn intern(&mut self, handle: &H, fileid: Option<u64>, make: impl FnOnce(NodeId) -> N) -> Arc<N> {
        if let Some(node) = self.find(handle) {
            return node;
        }
        let ino = self.number_for(handle, fileid);
        let serial = self.next_serial;
        self.next_serial += 1;
        let node = Arc::new(make(NodeId { ino, serial }));
        let slot = Slot {
            node: Arc::clone(&node),
            handle: handle.clone(),
            serial,
            lookups: 0,
            queued: true,
            gone: false,
            alias: false,
        };
        self.by_ino.insert(ino, slot);
        self.by_handle.insert(handle.clone(), ino);
        self.idle.push_back(NodeId { ino, serial });
        self.evict();
        node
    }

    /// A number of ours for a file that has no handle yet. It stands for nothing until [`Self::adopt`].
    pub fn reserve(&mut self) -> NodeId {
        let id = NodeId { ino: self.next_invented, serial: self.next_serial };
        self.next_invented += 1;
        self.next_serial += 1;
        id
    }

    /// The node of `handle` under a number that was reserved for it. Where the handle is known already, the number becomes
    /// a second one of that node.
    pub fn adopt(&mut self, id: NodeId, handle: &H, make: impl FnOnce(NodeId) -> N) -> Arc<N> {
        let known = self.find(handle);
        let alias = known.is_some();
        let node = known.unwrap_or_else(|| Arc::new(make(id)));
        let slot = Slot {
            node: Arc::clone(&node),
            handle: handle.clone(),
            serial: id.serial,
            lookups: 0,
            queued: false,
            gone: false,
            alias,
        };
        self.by_ino.insert(id.ino, slot);
        if !alias {
            self.by_handle.insert(handle.clone(), id.ino);
            self.remember(handle, id.ino);
        }
        node
    }

    fn number_for(&mut self, handle: &H, fileid: Option<u64>) -> u64 {
        if let Some(ino) = self.invented.get(handle)
            && !self.by_ino.contains_key(ino)
        {
            return *ino;
        }
        if let Some(fileid) = fileid
            && usable(fileid)
            && !self.by_ino.contains_key(&fileid)
        {
            return fileid;
        }
        let ino = self.next_invented;
        self.next_invented += 1;
        self.remember(handle, ino);
        ino
    }

    fn remember(&mut self, handle: &H, ino: u64) {
        if self.invented.insert(handle.clone(), ino).is_none() {
            self.invented_order.push_back(handle.clone());
        }
        while self.invented_order.len() > REMEMBERED {
            if let Some(oldest) = self.invented_order.pop_front() {
                self.invented.remove(&oldest);
            }
        }
    }

    /// The kernel was given the number `count` more times.
    pub fn add_lookups(&mut self, ino: u64, count: u64) {
        if let Some(slot) = self.by_ino.get_mut(&ino) {
            slot.lookups = slot.lookups.saturating_add(count);
        }
    }

    /// The kernel gave `count` of its lookups back.
    pub fn forget(&mut self, ino: u64, count: u64) {
        if ino == ROOT_INO {
            return;
        }
        let Some(slot) = self.by_ino.get_mut(&ino) else { return };
        slot.lookups = slot.lookups.saturating_sub(count);
        if slot.lookups > 0 {
            return;
        }
        if slot.alias || (slot.gone && Arc::strong_count(&slot.node) == 1) {
            self.remove(ino);
            return;
        }
        if !slot.queued {
            slot.queued = true;
            self.idle.push_back(NodeId { ino, serial: slot.serial });
            self.evict();
        }
    }

    /// The file is no longer there: its handle, should the server use it again, is another file's.
    pub fn retire(&mut self, id: NodeId) {
        if id.ino == ROOT_INO {
            return;
        }
        let Some(slot) = self.by_ino.get_mut(&id.ino).filter(|slot| slot.serial == id.serial) else { return };
        slot.gone = true;
        let handle = slot.handle.clone();
        if self.by_handle.get(&handle) == Some(&id.ino) {
            self.by_handle.remove(&handle);
        }
        self.invented.remove(&handle);
        if slot.lookups == 0 && Arc::strong_count(&slot.node) == 1 {
            self.by_ino.remove(&id.ino);
        }
    }

    fn remove(&mut self, ino: u64) {
        if let Some(slot) = self.by_ino.remove(&ino)
            && self.by_handle.get(&slot.handle) == Some(&ino)
        {
            self.by_handle.remove(&slot.handle);
        }
    }

    /// Lets go of the oldest idle entries. Looks at few entries a call, so that no caller pays for many.
    fn evict(&mut self) {
        let mut looks = 8;
        while self.idle.len() > self.idle_limit && looks > 0 {
            looks -= 1;
            let Some(id) = self.idle.pop_front() else { return };
            let Some(slot) = self.by_ino.get_mut(&id.ino).filter(|slot| slot.serial == id.serial) else { continue };
            if slot.lookups > 0 {
                slot.queued = false;
            } else if Arc::strong_count(&slot.node) > 1 {
                self.idle.push_back(id);
            } else {
                self.remove(id.ino);
            }
        }
    }
}

const fn usable(fileid: u64) -> bool {
    fileid > ROOT_INO && fileid < INVENTED
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    fn table(idle: usize) -> InodeTable<String, NodeId> {
        InodeTable::new("root".into(), idle, |id| id).0
    }

    fn intern(table: &mut InodeTable<String, NodeId>, handle: &str, fileid: u64) -> u64 {
        let node = table.intern(&handle.to_owned(), Some(fileid), |id| id);
        table.add_lookups(node.ino, 1);
        node.ino
    }

    #[test]
    fn the_number_is_the_servers_fileid_where_that_is_free() {
        let mut table = table(10);
        assert_eq!(intern(&mut table, "a", 42), 42);
        assert_eq!(intern(&mut table, "a", 42), 42);
    }

    #[test]
    fn a_second_file_with_the_same_fileid_gets_a_number_of_its_own() {
        let mut table = table(10);
        assert_eq!(intern(&mut table, "old", 42), 42);
        let other = intern(&mut table, "new", 42);
        assert_ne!(other, 42);
        assert_eq!(intern(&mut table, "new", 42), other);
    }

    #[test]
    fn reserved_and_foreign_fileids_are_never_used() {
        let mut table = table(10);
        for (handle, fileid) in [("zero", Some(0)), ("one", Some(1)), ("high", Some(u64::MAX)), ("foreign", None)] {
            let node = table.intern(&handle.to_owned(), fileid, |id| id);
            assert!(node.ino >= INVENTED, "{handle} got {}", node.ino);
        }
    }

    #[test]
    fn a_forgotten_inode_gets_its_number_back() {
        let mut table = table(0);
        let plain = intern(&mut table, "a", 7);
        let invented = intern(&mut table, "b", 7);
        table.forget(plain, 1);
        table.forget(invented, 1);
        assert_eq!(table.len(), 1);
        assert_eq!(intern(&mut table, "b", 7), invented);
        assert_eq!(intern(&mut table, "a", 7), plain);
    }

    #[test]
    fn the_root_survives_any_forget() {
        let mut table = table(0);
        table.forget(ROOT_INO, u64::MAX);
        assert!(table.get(ROOT_INO).is_some());
    }

    #[test]
    fn an_entry_someone_holds_is_not_evicted() {
        let mut table = table(0);
        let held = table.intern(&"held".to_owned(), Some(5), |id| id);
        table.add_lookups(5, 1);
        table.forget(5, 1);
        for n in 0..20 {
            table.intern(&format!("h{n}"), Some(100 + n), |id| id);
        }
        assert!(Arc::ptr_eq(&held, &table.get(5).unwrap()));
        assert!(table.len() < 10);
    }

    #[test]
    fn a_retired_handle_used_again_is_another_file() {
        let mut table = table(10);
        let old = table.intern(&"h".to_owned(), Some(9), |id| id);
        table.add_lookups(9, 1);
        table.retire(*old);
        assert!(table.resolve(*old).is_none());
        let new = table.intern(&"h".to_owned(), Some(9), |id| id);
        assert_ne!(new.ino, 9);
        assert!(table.get(9).is_some(), "the kernel still holds the old number");
    }

    #[test]
    fn a_remembered_id_does_not_name_a_later_file_of_the_same_number() {
        let mut table = table(0);
        let old = *table.intern(&"h1".to_owned(), Some(9), |id| id);
        table.retire(old);
        let new = *table.intern(&"h2".to_owned(), Some(9), |id| id);
        assert_eq!(new.ino, 9);
        assert!(table.resolve(old).is_none());
        assert!(table.resolve(new).is_some());
    }

    proptest! {
        #[test]
        fn no_number_ever_stands_for_two_handles(
            ops in prop::collection::vec((0u8..4, 0u8..12, 0u64..6), 1..200),
        ) {
            let mut table = table(3);
            let mut held: HashMap<u64, (String, u64)> = HashMap::new();
            for (op, handle, fileid) in ops {
                let name = format!("h{handle}");
                match op {
                    0 | 1 => {
                        let node = table.intern(&name, Some(fileid), |id| id);
                        table.add_lookups(node.ino, 1);
                        let entry = held.entry(node.ino).or_insert((name.clone(), 0));
                        prop_assert_eq!(&entry.0, &name);
                        entry.1 += 1;
                    }
                    2 => {
                        if let Some(ino) = held.keys().next().copied() {
                            table.forget(ino, 1);
                            let entry = held.get_mut(&ino).unwrap();
                            entry.1 -= 1;
                            if entry.1 == 0 {
                                held.remove(&ino);
                            }
                        }
                    }
                    _ => {
                        let known = table.find(&name).map(|node| *node);
                        if let Some(node) = known
                            && !held.contains_key(&node.ino)
                        {
                            table.retire(node);
                        }
                    }
                }
                for (ino, (name, _)) in &held {
                    prop_assert_eq!(table.find(name).map(|node| node.ino), Some(*ino));
                }
            }
        }
    }
}
