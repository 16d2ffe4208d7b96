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
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;

/// The root's number, as FUSE has it.
pub const ROOT_INO: u64 = 1;

/// Numbers from here on are ours; no file system in use hands out such a `fileid`.
const INVENTED: u64 = 1 << 63;

/// Numbers from here on are never handed out here: a layer above may use them for files of its own. Invented ones are
/// counted up from 2^63 and do not get this far.
pub const FOREIGN_INO: u64 = 3 << 62;

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

/// What the table keeps for each file, and what it looks it up by.
pub trait Inode {
    /// What the server calls the file by.
    type Handle: Clone + Eq + Hash;

    /// Given when it was made.
    fn id(&self) -> NodeId;

    /// Never changes.
    fn handle(&self) -> &Self::Handle;
}

/// The table. A million entries are common, so both ways to find one hold little more than a pointer.
#[derive(Debug)]
pub struct InodeTable<N: Inode> {
    by_ino: HashTable<Slot<N>>,
    /// Entries whose file is gone are not in it.
    by_handle: HashTable<Arc<N>>,
    /// Second numbers of files that have one; each goes with its last lookup.
    aliases: HashMap<u64, Slot<N>>,
    hasher: RandomState,
    next_invented: u64,
    next_serial: u64,
    idle: VecDeque<NodeId>,
    idle_limit: usize,
    invented: HashMap<N::Handle, u64>,
    invented_order: VecDeque<N::Handle>,
}

#[derive(Debug)]
struct Slot<N> {
    node: Arc<N>,
    /// At the most that can be counted it stays, and the entry with it.
    lookups: u32,
    queued: bool,
    gone: bool,
}

impl<N> Slot<N> {
    const fn new(node: Arc<N>, lookups: u32, queued: bool) -> Self {
        Self { node, lookups, queued, gone: false }
    }

    fn add_lookups(&mut self, count: u64) {
        self.lookups = self.lookups.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    fn forget(&mut self, count: u64) {
        if self.lookups < u32::MAX {
            self.lookups = self.lookups.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        }
    }
}

impl<N: Inode> InodeTable<N> {
    /// A table that holds the root, which is never forgotten.
    pub fn new(idle_limit: usize, make: impl FnOnce(NodeId) -> N) -> (Self, Arc<N>) {
        let root = Arc::new(make(NodeId { ino: ROOT_INO, serial: 0 }));
        let mut table = Self {
            by_ino: HashTable::new(),
            by_handle: HashTable::new(),
            aliases: HashMap::new(),
            hasher: RandomState::new(),
            next_invented: INVENTED,
            next_serial: 1,
            idle: VecDeque::new(),
            idle_limit,
            invented: HashMap::new(),
            invented_order: VecDeque::new(),
        };
        table.insert(Slot::new(Arc::clone(&root), 1, false));
        (table, root)
    }

    /// How many entries there are, idle ones included.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_ino.len() + self.aliases.len()
    }

    fn insert(&mut self, slot: Slot<N>) {
        let hasher = &self.hasher;
        let handle_hash = hasher.hash_one(slot.node.handle());
        let rehash = |node: &Arc<N>| hasher.hash_one(node.handle());
        self.by_handle.insert_unique(handle_hash, Arc::clone(&slot.node), rehash);
        let ino_hash = hasher.hash_one(slot.node.id().ino);
        self.by_ino.insert_unique(ino_hash, slot, |slot| hasher.hash_one(slot.node.id().ino));
    }

    fn slot(&self, ino: u64) -> Option<&Slot<N>> {
        self.by_ino.find(self.hasher.hash_one(ino), |slot| slot.node.id().ino == ino)
    }

    fn slot_mut(&mut self, ino: u64) -> Option<&mut Slot<N>> {
        self.by_ino.find_mut(self.hasher.hash_one(ino), |slot| slot.node.id().ino == ino)
    }

    fn is_taken(&self, ino: u64) -> bool {
        self.slot(ino).is_some() || self.aliases.contains_key(&ino)
    }

    /// The node of a number that the kernel uses.
    pub fn get(&self, ino: u64) -> Option<Arc<N>> {
        self.slot(ino).or_else(|| self.aliases.get(&ino)).map(|slot| Arc::clone(&slot.node))
    }

    /// The node of an entry remembered elsewhere, if it is still the same entry.
    pub fn resolve(&self, id: NodeId) -> Option<Arc<N>> {
        self.slot(id.ino).filter(|slot| slot.node.id() == id && !slot.gone).map(|slot| Arc::clone(&slot.node))
    }

    /// The node of a file handle.
    pub fn find(&self, handle: &N::Handle) -> Option<Arc<N>> {
        self.by_handle.find(self.hasher.hash_one(handle), |node| node.handle() == handle).map(Arc::clone)
    }

    /// The number that [`Self::intern`] would most likely give, without making an entry.
    pub fn peek(&self, handle: Option<&N::Handle>, fileid: Option<u64>) -> u64 {
        let known = |handle| self.find(handle).map(|node| node.id().ino).or_else(|| self.invented.get(handle).copied());
        match (handle.and_then(known), fileid) {
            (Some(ino), _) => ino,
            (None, Some(fileid)) if usable(fileid) && !self.is_taken(fileid) => fileid,
            // Something that isn't 0, which programs take for a deleted entry.
            (None, _) => self.next_invented,
        }
    }

    /// The node of `handle`, made where there is none. `fileid` is the server's number for it, or None where that means
    /// nothing here (another fsid).
    pub fn intern(&mut self, handle: &N::Handle, fileid: Option<u64>, make: impl FnOnce(NodeId) -> N) -> Arc<N> {
        if let Some(node) = self.find(handle) {
            return node;
        }
        let id = NodeId { ino: self.number_for(handle, fileid), serial: self.next_serial };
        self.next_serial += 1;
        let node = Arc::new(make(id));
        self.insert(Slot::new(Arc::clone(&node), 0, true));
        self.idle.push_back(id);
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
    pub fn adopt(&mut self, id: NodeId, handle: &N::Handle, make: impl FnOnce(NodeId) -> N) -> Arc<N> {
        if let Some(node) = self.find(handle) {
            self.aliases.insert(id.ino, Slot::new(Arc::clone(&node), 0, false));
            return node;
        }
        let node = Arc::new(make(id));
        self.insert(Slot::new(Arc::clone(&node), 0, false));
        self.remember(handle, id.ino);
        node
    }

    fn number_for(&mut self, handle: &N::Handle, fileid: Option<u64>) -> u64 {
        if let Some(ino) = self.invented.get(handle)
            && !self.is_taken(*ino)
        {
            return *ino;
        }
        if let Some(fileid) = fileid
            && usable(fileid)
            && !self.is_taken(fileid)
        {
            return fileid;
        }
        let ino = self.next_invented;
        self.next_invented += 1;
        self.remember(handle, ino);
        ino
    }

    fn remember(&mut self, handle: &N::Handle, ino: u64) {
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
        if let Some(slot) = self.slot_mut(ino) {
            slot.add_lookups(count);
        } else if let Some(slot) = self.aliases.get_mut(&ino) {
            slot.add_lookups(count);
        }
    }

    /// The kernel gave `count` of its lookups back.
    pub fn forget(&mut self, ino: u64, count: u64) {
        if ino == ROOT_INO {
            return;
        }
        if let Some(slot) = self.aliases.get_mut(&ino) {
            slot.forget(count);
            if slot.lookups == 0 {
                self.aliases.remove(&ino);
            }
            return;
        }
        let Some(slot) = self.slot_mut(ino) else { return };
        slot.forget(count);
        if slot.lookups > 0 {
            return;
        }
        if slot.gone && Arc::strong_count(&slot.node) == 1 {
            self.remove(ino);
            return;
        }
        if !slot.queued {
            slot.queued = true;
            let id = slot.node.id();
            self.idle.push_back(id);
            self.evict();
        }
    }

    /// The file is no longer there: its handle, should the server use it again, is another file's.
    pub fn retire(&mut self, id: NodeId) {
        if id.ino == ROOT_INO {
            return;
        }
        let Some(slot) = self.slot_mut(id.ino).filter(|slot| slot.node.id() == id) else { return };
        slot.gone = true;
        let (node, lookups) = (Arc::clone(&slot.node), slot.lookups);
        self.unlink_handle(&node);
        self.invented.remove(node.handle());
        // The slot's and the one just above.
        if lookups == 0 && Arc::strong_count(&node) == 2 {
            self.remove(id.ino);
        }
    }

    fn unlink_handle(&mut self, node: &Arc<N>) {
        let hash = self.hasher.hash_one(node.handle());
        if let Ok(entry) = self.by_handle.find_entry(hash, |other| Arc::ptr_eq(other, node)) {
            entry.remove();
        }
    }

    fn remove(&mut self, ino: u64) {
        let hash = self.hasher.hash_one(ino);
        if let Ok(entry) = self.by_ino.find_entry(hash, |slot| slot.node.id().ino == ino) {
            let (slot, _) = entry.remove();
            self.unlink_handle(&slot.node);
        }
    }

    /// Lets go of the oldest idle entries. Looks at few entries a call, so that no caller pays for many.
    fn evict(&mut self) {
        let mut looks = 8;
        while self.idle.len() > self.idle_limit && looks > 0 {
            looks -= 1;
            let Some(id) = self.idle.pop_front() else { return };
            let Some(slot) = self.slot_mut(id.ino).filter(|slot| slot.node.id() == id) else { continue };
            // Both tables hold it, unless its file is gone.
            let held_here = if slot.gone { 1 } else { 2 };
            if slot.lookups > 0 {
                slot.queued = false;
            } else if Arc::strong_count(&slot.node) > held_here {
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

    #[derive(Debug)]
    struct File {
        id: NodeId,
        handle: String,
    }

    impl Inode for File {
        type Handle = String;

        fn id(&self) -> NodeId {
            self.id
        }

        fn handle(&self) -> &String {
            &self.handle
        }
    }

    fn table(idle: usize) -> InodeTable<File> {
        InodeTable::new(idle, |id| File { id, handle: "root".into() }).0
    }

    /// As a listing does it: the kernel is told nothing.
    fn listed(table: &mut InodeTable<File>, handle: &str, fileid: Option<u64>) -> Arc<File> {
        table.intern(&handle.to_owned(), fileid, |id| File { id, handle: handle.to_owned() })
    }

    fn intern(table: &mut InodeTable<File>, handle: &str, fileid: u64) -> u64 {
        let ino = listed(table, handle, Some(fileid)).id.ino;
        table.add_lookups(ino, 1);
        ino
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
            let node = listed(&mut table, handle, fileid);
            assert!(node.id.ino >= INVENTED, "{handle} got {}", node.id.ino);
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
        let held = listed(&mut table, "held", Some(5));
        table.add_lookups(5, 1);
        table.forget(5, 1);
        for n in 0..20 {
            listed(&mut table, &format!("h{n}"), Some(100 + n));
        }
        assert!(Arc::ptr_eq(&held, &table.get(5).unwrap()));
        assert!(table.len() < 10);
    }

    #[test]
    fn a_retired_handle_used_again_is_another_file() {
        let mut table = table(10);
        let old = listed(&mut table, "h", Some(9));
        table.add_lookups(9, 1);
        table.retire(old.id);
        assert!(table.resolve(old.id).is_none());
        let new = listed(&mut table, "h", Some(9));
        assert_ne!(new.id.ino, 9);
        assert!(table.get(9).is_some(), "the kernel still holds the old number");
    }

    #[test]
    fn a_remembered_id_does_not_name_a_later_file_of_the_same_number() {
        let mut table = table(0);
        let old = listed(&mut table, "h1", Some(9)).id;
        table.retire(old);
        let new = listed(&mut table, "h2", Some(9)).id;
        assert_eq!(new.ino, 9);
        assert!(table.resolve(old).is_none());
        assert!(table.resolve(new).is_some());
    }

    #[test]
    fn a_second_number_goes_with_its_last_lookup_and_leaves_the_first() {
        let mut table = table(10);
        let first = intern(&mut table, "a", 7);
        let second = table.reserve();
        let node = table.adopt(second, &"a".to_owned(), |id| File { id, handle: "a".into() });
        assert_eq!(node.id.ino, first);
        table.add_lookups(second.ino, 2);
        table.forget(second.ino, 1);
        assert!(Arc::ptr_eq(&node, &table.get(second.ino).unwrap()));
        table.forget(second.ino, 1);
        assert!(table.get(second.ino).is_none());
        assert!(Arc::ptr_eq(&node, &table.get(first).unwrap()));
    }

    #[test]
    fn lookups_that_can_no_longer_be_counted_are_never_given_back() {
        let mut table = table(0);
        let ino = intern(&mut table, "a", 7);
        table.add_lookups(ino, u64::MAX);
        table.forget(ino, u64::MAX);
        for n in 0..20 {
            listed(&mut table, &format!("h{n}"), Some(100 + n));
        }
        assert!(table.get(ino).is_some());
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
                        let ino = intern(&mut table, &name, fileid);
                        let entry = held.entry(ino).or_insert((name.clone(), 0));
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
                        let known = table.find(&name).map(|node| node.id);
                        if let Some(node) = known
                            && !held.contains_key(&node.ino)
                        {
                            table.retire(node);
                        }
                    }
                }
                for (ino, (name, _)) in &held {
                    prop_assert_eq!(table.find(name).map(|node| node.id.ino), Some(*ino));
                }
            }
        }
    }
}
