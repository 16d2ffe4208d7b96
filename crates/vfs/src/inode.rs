//! Inode numbers: which number stands for which file handle, for how long.
//!
//! The one idea: a number is the server's `fileid` whenever that is free in this mount, and an invented one (top bit
//! set) when it is not: another file system below ours (`fsid` differs), the reserved numbers 0 and 1, or a `fileid`
//! that the server has given to a new file while the kernel still holds the old one. So numbers agree with what other
//! clients see, survive being forgotten, and never stand for two files at once.
//!
//! An entry lives while the kernel holds lookups on it, while anyone holds its node, and after that as long as it is
//! among the youngest `idle` unreferenced ones, so that a plain listing can leave attributes behind.
//!
//! A million entries are common, and few of them are looked at. So a node that nobody holds and that has nothing to do is
//! put to sleep: its entry keeps what is known of the file in as few bytes as it takes, and the next one who asks gets a
//! node made from them.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use slab::Slab;

use crate::packed::Packed;

/// The root's number, as FUSE has it.
pub const ROOT_INO: u64 = 1;

/// Numbers from here on are ours; no file system in use hands out such a `fileid`.
const INVENTED: u64 = 1 << 63;

/// Numbers from here on are never handed out here: a layer above may use them for files of its own. Invented ones are
/// counted up from 2^63 and do not get this far.
pub const FOREIGN_INO: u64 = 3 << 62;

/// How many invented numbers outlive their entry, so that a forgotten inode gets its old number back.
const REMEMBERED: usize = 1 << 16;

/// Entries looked at in one call for what can be let go of, so that no caller pays for many.
const LOOKS: usize = 8;

/// Names one entry of the table for good: a number alone may be given to another file after its entry has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId {
    /// The inode number that users see.
    pub ino: u64,
    /// Never used twice in a mount.
    pub serial: u64,
}

/// What the table keeps for each file.
pub trait Inode: Sized {
    /// Given when it was made.
    fn id(&self) -> NodeId;

    /// What the server calls the file by. Never changes.
    fn handle(&self) -> &[u8];

    /// All that is known, if nothing is under way.
    fn pack(&mut self) -> Option<Packed>;

    /// The same again.
    fn unpack(packed: &Packed) -> Option<Self>;
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries that nobody refers to.
    pub idle: usize,
    /// Nodes that nobody has to hold; more when they have something to do.
    pub awake: usize,
}

/// The table.
#[derive(Debug)]
pub struct InodeTable<N> {
    slots: Slab<Slot<N>>,
    /// Both give indices of `slots`.
    by_ino: HashTable<u32>,
    /// Entries whose file is gone are not in it.
    by_handle: HashTable<u32>,
    /// Second numbers of files that have one; each goes with its last lookup.
    aliases: HashMap<u64, Alias<N>>,
    hasher: RandomState,
    next_invented: u64,
    next_serial: u64,
    limits: Limits,
    idle: VecDeque<Ticket>,
    awake: VecDeque<Ticket>,
    invented: HashMap<Arc<[u8]>, u64>,
    invented_order: VecDeque<Arc<[u8]>>,
}

#[derive(Debug)]
struct Slot<N> {
    kept: Kept<N>,
    lookups: Lookups,
    queued: bool,
    gone: bool,
}

#[derive(Debug)]
enum Kept<N> {
    Awake(Arc<N>),
    Asleep(Packed),
}

#[derive(Debug)]
struct Alias<N> {
    node: Arc<N>,
    lookups: Lookups,
}

/// How often the kernel was given a number. At the most that can be counted it stays, and the entry with it.
#[derive(Debug, Default)]
struct Lookups(u32);

/// An entry's place in a queue, which may outlive the entry.
#[derive(Clone, Copy, Debug)]
struct Ticket {
    index: u32,
    /// The end of its serial: enough to tell it from another entry at the same index.
    stamp: u32,
}

impl Lookups {
    fn add(&mut self, count: u64) {
        self.0 = self.0.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    fn give_back(&mut self, count: u64) {
        if self.0 < u32::MAX {
            self.0 = self.0.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        }
    }
}

impl<N: Inode> Slot<N> {
    const fn new(node: Arc<N>, queued: bool) -> Self {
        Self { kept: Kept::Awake(node), lookups: Lookups(0), queued, gone: false }
    }

    fn id(&self) -> NodeId {
        match &self.kept {
            Kept::Awake(node) => node.id(),
            Kept::Asleep(packed) => packed.id(),
        }
    }

    fn handle(&self) -> &[u8] {
        match &self.kept {
            Kept::Awake(node) => node.handle(),
            Kept::Asleep(packed) => packed.handle(),
        }
    }

    /// Whether anyone holds the node.
    fn is_held(&self) -> bool {
        matches!(&self.kept, Kept::Awake(node) if Arc::strong_count(node) > 1)
    }

    /// Puts it to sleep, if that can be.
    fn doze(&mut self) -> bool {
        let Kept::Awake(node) = &mut self.kept else { return true };
        let Some(packed) = Arc::get_mut(node).and_then(N::pack) else { return false };
        self.kept = Kept::Asleep(packed);
        true
    }
}

impl<N: Inode> InodeTable<N> {
    /// A table that holds the root, which is never forgotten.
    pub fn new(limits: Limits, make: impl FnOnce(NodeId) -> N) -> (Self, Arc<N>) {
        let root = Arc::new(make(NodeId { ino: ROOT_INO, serial: 0 }));
        let mut table = Self {
            slots: Slab::new(),
            by_ino: HashTable::new(),
            by_handle: HashTable::new(),
            aliases: HashMap::new(),
            hasher: RandomState::new(),
            next_invented: INVENTED,
            next_serial: 1,
            limits,
            idle: VecDeque::new(),
            awake: VecDeque::new(),
            invented: HashMap::new(),
            invented_order: VecDeque::new(),
        };
        table.insert(&root, false);
        table.add_lookups(ROOT_INO, 1);
        (table, root)
    }

    /// How many entries there are, idle ones included.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.slots.len() + self.aliases.len()
    }

    fn insert(&mut self, node: &Arc<N>, idle: bool) {
        let index = self.slots.insert(Slot::new(Arc::clone(node), idle)) as u32;
        let (hasher, slots) = (&self.hasher, &self.slots);
        let by_handle = |index: &u32| hasher.hash_one(slots[*index as usize].handle());
        self.by_handle.insert_unique(hasher.hash_one(node.handle()), index, by_handle);
        let by_ino = |index: &u32| hasher.hash_one(slots[*index as usize].id().ino);
        self.by_ino.insert_unique(hasher.hash_one(node.id().ino), index, by_ino);
        let ticket = Ticket { index, stamp: node.id().serial as u32 };
        if idle {
            self.idle.push_back(ticket);
            self.evict();
        }
        self.awake.push_back(ticket);
        self.lull();
    }

    fn index_of(&self, ino: u64) -> Option<u32> {
        let is_it = |index: &u32| self.slots[*index as usize].id().ino == ino;
        self.by_ino.find(self.hasher.hash_one(ino), is_it).copied()
    }

    fn index_of_handle(&self, handle: &[u8]) -> Option<u32> {
        let is_it = |index: &u32| self.slots[*index as usize].handle() == handle;
        self.by_handle.find(self.hasher.hash_one(handle), is_it).copied()
    }

    fn slot_mut(&mut self, ino: u64) -> Option<&mut Slot<N>> {
        let index = self.index_of(ino)?;
        self.slots.get_mut(index as usize)
    }

    /// The entry that a place in a queue was for, if it is still there.
    fn of_ticket(&mut self, ticket: Ticket) -> Option<&mut Slot<N>> {
        self.slots.get_mut(ticket.index as usize).filter(|slot| slot.id().serial as u32 == ticket.stamp)
    }

    fn is_taken(&self, ino: u64) -> bool {
        self.index_of(ino).is_some() || self.aliases.contains_key(&ino)
    }

    /// The node at an index, awake from now on.
    fn wake(&mut self, index: u32) -> Option<Arc<N>> {
        let slot = self.slots.get_mut(index as usize)?;
        let packed = match &slot.kept {
            Kept::Awake(node) => return Some(Arc::clone(node)),
            Kept::Asleep(packed) => packed,
        };
        let node = Arc::new(N::unpack(packed)?);
        slot.kept = Kept::Awake(Arc::clone(&node));
        self.awake.push_back(Ticket { index, stamp: node.id().serial as u32 });
        self.lull();
        Some(node)
    }

    /// The node of a number that the kernel uses.
    pub fn get(&mut self, ino: u64) -> Option<Arc<N>> {
        match self.index_of(ino) {
            Some(index) => self.wake(index),
            None => self.aliases.get(&ino).map(|alias| Arc::clone(&alias.node)),
        }
    }

    /// The node of an entry remembered elsewhere, if it is still the same entry.
    pub fn resolve(&mut self, id: NodeId) -> Option<Arc<N>> {
        let index = self.index_of(id.ino)?;
        let slot = &self.slots[index as usize];
        if slot.id() == id && !slot.gone { self.wake(index) } else { None }
    }

    /// The node of a file handle.
    pub fn find(&mut self, handle: &[u8]) -> Option<Arc<N>> {
        let index = self.index_of_handle(handle)?;
        self.wake(index)
    }

    /// The number that [`Self::intern`] would most likely give, without making an entry.
    pub fn peek(&self, handle: Option<&[u8]>, fileid: Option<u64>) -> u64 {
        let entry = |handle| self.index_of_handle(handle).map(|index| self.slots[index as usize].id().ino);
        let known = |handle| entry(handle).or_else(|| self.invented.get(handle).copied());
        match (handle.and_then(known), fileid) {
            (Some(ino), _) => ino,
            (None, Some(fileid)) if usable(fileid) && !self.is_taken(fileid) => fileid,
            // Something that isn't 0, which programs take for a deleted entry.
            (None, _) => self.next_invented,
        }
    }

    /// The node of `handle`, made where there is none. `fileid` is the server's number for it, or None where that means
    /// nothing here (another fsid).
    pub fn intern(&mut self, handle: &[u8], fileid: Option<u64>, make: impl FnOnce(NodeId) -> N) -> Arc<N> {
        if let Some(node) = self.find(handle) {
            return node;
        }
        let id = NodeId { ino: self.number_for(handle, fileid), serial: self.next_serial };
        self.next_serial += 1;
        let node = Arc::new(make(id));
        self.insert(&node, true);
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
    pub fn adopt(&mut self, id: NodeId, handle: &[u8], make: impl FnOnce(NodeId) -> N) -> Arc<N> {
        if let Some(node) = self.find(handle) {
            self.aliases.insert(id.ino, Alias { node: Arc::clone(&node), lookups: Lookups(0) });
            return node;
        }
        let node = Arc::new(make(id));
        self.insert(&node, false);
        self.remember(handle, id.ino);
        node
    }

    fn number_for(&mut self, handle: &[u8], fileid: Option<u64>) -> u64 {
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

    fn remember(&mut self, handle: &[u8], ino: u64) {
        let handle: Arc<[u8]> = handle.into();
        if self.invented.insert(Arc::clone(&handle), ino).is_none() {
            self.invented_order.push_back(handle);
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
            slot.lookups.add(count);
        } else if let Some(alias) = self.aliases.get_mut(&ino) {
            alias.lookups.add(count);
        }
    }

    /// The kernel gave `count` of its lookups back.
    pub fn forget(&mut self, ino: u64, count: u64) {
        if ino == ROOT_INO {
            return;
        }
        if let Some(alias) = self.aliases.get_mut(&ino) {
            alias.lookups.give_back(count);
            if alias.lookups.0 == 0 {
                self.aliases.remove(&ino);
            }
            return;
        }
        let Some(index) = self.index_of(ino) else { return };
        let slot = &mut self.slots[index as usize];
        slot.lookups.give_back(count);
        if slot.lookups.0 > 0 {
            return;
        }
        if slot.gone && !slot.is_held() {
            self.remove(index);
            return;
        }
        if !slot.queued {
            slot.queued = true;
            let ticket = Ticket { index, stamp: slot.id().serial as u32 };
            self.idle.push_back(ticket);
            self.evict();
        }
    }

    /// The file is no longer there: its handle, should the server use it again, is another file's.
    pub fn retire(&mut self, id: NodeId) {
        if id.ino == ROOT_INO {
            return;
        }
        let Some(index) = self.index_of(id.ino).filter(|index| self.slots[*index as usize].id() == id) else { return };
        self.unlink_handle(index);
        let slot = &mut self.slots[index as usize];
        slot.gone = true;
        self.invented.remove(slot.handle());
        if slot.lookups.0 == 0 && !slot.is_held() {
            self.remove(index);
        }
    }

    fn unlink_handle(&mut self, index: u32) {
        let hash = self.hasher.hash_one(self.slots[index as usize].handle());
        if let Ok(entry) = self.by_handle.find_entry(hash, |other| *other == index) {
            entry.remove();
        }
    }

    fn remove(&mut self, index: u32) {
        self.unlink_handle(index);
        let hash = self.hasher.hash_one(self.slots[index as usize].id().ino);
        if let Ok(entry) = self.by_ino.find_entry(hash, |other| *other == index) {
            entry.remove();
        }
        self.slots.remove(index as usize);
    }

    /// Lets go of the oldest idle entries.
    fn evict(&mut self) {
        let mut looks = LOOKS;
        while self.idle.len() > self.limits.idle && looks > 0 {
            looks -= 1;
            let Some(ticket) = self.idle.pop_front() else { return };
            let Some(slot) = self.of_ticket(ticket) else { continue };
            if slot.lookups.0 > 0 {
                slot.queued = false;
            } else if slot.is_held() {
                self.idle.push_back(ticket);
            } else {
                self.remove(ticket.index);
            }
        }
    }

    /// Puts the nodes to sleep that have been awake for longest, and lets go of those whose file is gone.
    fn lull(&mut self) {
        let mut looks = LOOKS;
        while self.awake.len() > self.limits.awake && looks > 0 {
            looks -= 1;
            let Some(ticket) = self.awake.pop_front() else { return };
            let Some(slot) = self.of_ticket(ticket) else { continue };
            if slot.gone && slot.lookups.0 == 0 && !slot.is_held() {
                self.remove(ticket.index);
            } else if !slot.doze() {
                self.awake.push_back(ticket);
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
        /// What it knows beside that.
        note: u32,
    }

    impl File {
        fn new(id: NodeId, handle: &str) -> Self {
            Self { id, handle: handle.into(), note: 0 }
        }
    }

    impl Inode for File {
        fn id(&self) -> NodeId {
            self.id
        }

        fn handle(&self) -> &[u8] {
            self.handle.as_bytes()
        }

        fn pack(&mut self) -> Option<Packed> {
            Packed::new(self.id, self.handle(), &self.note)
        }

        fn unpack(packed: &Packed) -> Option<Self> {
            let (id, handle, note) = packed.open()?;
            Some(Self { id, handle: String::from_utf8(handle.to_vec()).unwrap(), note })
        }
    }

    fn table(idle: usize) -> InodeTable<File> {
        InodeTable::new(Limits { idle, awake: 2 }, |id| File::new(id, "root")).0
    }

    /// As a listing does it: the kernel is told nothing.
    fn listed(table: &mut InodeTable<File>, handle: &str, fileid: Option<u64>) -> Arc<File> {
        table.intern(handle.as_bytes(), fileid, |id| File::new(id, handle))
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
    fn a_file_that_is_gone_goes_when_its_last_holder_has_gone() {
        let mut table = table(1000);
        let held = listed(&mut table, "removed while open", Some(5));
        table.add_lookups(5, 1);
        table.forget(5, 1);
        table.retire(held.id);
        assert!(table.get(5).is_some());
        drop(held);
        for n in 0..20 {
            listed(&mut table, &format!("h{n}"), Some(100 + n));
        }
        assert!(table.get(5).is_none());
    }

    #[test]
    fn what_was_known_of_a_file_is_known_when_it_wakes() {
        let mut table = table(100);
        let make = |id| File { note: 77, ..File::new(id, "quiet") };
        let (id, held) = (table.intern(b"quiet", Some(7), make).id, listed(&mut table, "held", Some(8)));
        for n in 0..20 {
            listed(&mut table, &format!("h{n}"), Some(100 + n));
        }
        assert!(matches!(table.slot_mut(7).unwrap().kept, Kept::Asleep(_)));
        assert!(matches!(table.slot_mut(8).unwrap().kept, Kept::Awake(_)), "somebody holds it");
        let woken = table.get(7).unwrap();
        assert_eq!((woken.id, woken.note, woken.handle.as_str()), (id, 77, "quiet"));
        assert!(Arc::ptr_eq(&woken, &table.find(b"quiet").unwrap()), "there is one node, not two");
        assert!(Arc::ptr_eq(&woken, &table.resolve(id).unwrap()));
        assert!(Arc::ptr_eq(&held, &table.get(8).unwrap()));
        let awake = table.slots.iter().filter(|(_, slot)| matches!(slot.kept, Kept::Awake(_))).count();
        assert!(awake < 8, "{awake} are awake");
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
        let node = table.adopt(second, b"a", |id| File::new(id, "a"));
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
                        let known = table.find(name.as_bytes()).map(|node| node.id);
                        if let Some(node) = known
                            && !held.contains_key(&node.ino)
                        {
                            table.retire(node);
                        }
                    }
                }
                for (ino, (name, _)) in &held {
                    prop_assert_eq!(table.find(name.as_bytes()).map(|node| node.id.ino), Some(*ino));
                }
            }
        }
    }
}
