//! Opens, locks and delegations of all clients, and the stateids that name them (RFC 8881 §8.2, §9).
//!
//! One open state stands for all opens of one open-owner in one file, one lock state for all locks of one
//! lock-owner in one file. A stateid's `other` holds the server's life and a number that is never used twice, so
//! that a stateid of the past is told from one that never was.

pub mod delegations;
pub mod ranges;
mod stateids;

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::ops::open::share;

use super::memfs::FileId;
use delegations::Delegation;
use ranges::RangeLocks;
pub use stateids::{Gone, Named};

/// Number of a state; also the holder of its byte ranges.
pub type StateNumber = u64;

/// An open-owner's opens of one file.
#[derive(Debug, Clone)]
pub struct Open {
    /// Whose it is.
    pub client: u64,
    /// The open-owner.
    pub owner: Bytes,
    /// The file.
    pub file: FileId,
    /// Union of the share access of all opens.
    pub access: u32,
    /// Union of the share deny of all opens.
    pub deny: u32,
    /// Which pairs of access and deny were opened, as bits `access * 4 + deny`: what OPEN_DOWNGRADE may go back to.
    pub combinations: u32,
    /// `seqid` of its stateid.
    pub seqid: u32,
    /// Whether the server took it away, and why.
    pub revoked: Option<Nfs4Error>,
    /// Whether a fault may have hidden it from the client, which then cannot be blamed for leaving it.
    pub excused: bool,
}

/// A lock-owner's locks in one file.
#[derive(Debug, Clone)]
pub struct LockState {
    /// Whose it is.
    pub client: u64,
    /// The lock-owner.
    pub owner: Bytes,
    /// The file.
    pub file: FileId,
    /// The open that it came from.
    pub open: StateNumber,
    /// `seqid` of its stateid.
    pub seqid: u32,
    /// Whether the server took it away, and why.
    pub revoked: Option<Nfs4Error>,
}

/// All state of all clients.
#[derive(Debug)]
pub struct States {
    boot: u32,
    last: StateNumber,
    opens: BTreeMap<StateNumber, Open>,
    locks: BTreeMap<StateNumber, LockState>,
    delegations: BTreeMap<StateNumber, Delegation>,
    opens_of_file: HashMap<FileId, Vec<StateNumber>>,
    delegations_of_file: HashMap<FileId, Vec<StateNumber>>,
    ranges: HashMap<FileId, RangeLocks>,
    /// Whether any state was ever revoked; every SEQUENCE asks.
    ever_revoked: bool,
    /// States of the past, and whether the client itself ended them.
    past: HashMap<StateNumber, bool>,
}

/// Bit of a pair of share access and deny.
fn combination(access: u32, deny: u32) -> u32 {
    1 << ((access & 3) * 4 + (deny & 3))
}

impl States {
    /// No state, in the server's `boot`-th life.
    pub fn new(boot: u32) -> Self {
        Self {
            boot,
            last: 0,
            opens: BTreeMap::new(),
            locks: BTreeMap::new(),
            delegations: BTreeMap::new(),
            opens_of_file: HashMap::new(),
            delegations_of_file: HashMap::new(),
            ranges: HashMap::new(),
            ever_revoked: false,
            past: HashMap::new(),
        }
    }

    /// An open.
    pub fn open(&self, number: StateNumber) -> Option<&Open> {
        self.opens.get(&number)
    }

    /// All opens.
    pub fn opens(&self) -> impl Iterator<Item = (StateNumber, &Open)> {
        self.opens.iter().map(|(number, open)| (*number, open))
    }

    /// A lock state.
    pub fn lock_state(&self, number: StateNumber) -> Option<&LockState> {
        self.locks.get(&number)
    }

    /// All lock states.
    pub fn lock_states(&self) -> impl Iterator<Item = (StateNumber, &LockState)> {
        self.locks.iter().map(|(number, lock)| (*number, lock))
    }

    /// Opens of a file.
    pub fn opens_of(&self, file: FileId) -> impl Iterator<Item = (StateNumber, &Open)> {
        let numbers = self.opens_of_file.get(&file).map_or(&[][..], Vec::as_slice);
        numbers.iter().filter_map(|number| self.opens.get(number).map(|open| (*number, open)))
    }

    /// Whether a file is open, or delegated to somebody who may open it on his own.
    pub fn is_open(&self, file: FileId) -> bool {
        self.opens_of(file).any(|(_, open)| open.revoked.is_none()) || self.delegations_of(file).next().is_some()
    }

    /// How many opens a client has.
    pub fn open_count(&self, client: u64) -> usize {
        self.opens.values().filter(|open| open.client == client).count()
    }

    /// Whether a client has any state.
    pub fn has_state(&self, client: u64) -> bool {
        self.opens.values().any(|open| open.client == client && open.revoked.is_none())
            || self.delegations.values().any(|held| held.client == client && held.revoked.is_none())
    }

    /// Byte-range locks of a file.
    pub fn ranges(&self, file: FileId) -> Option<&RangeLocks> {
        self.ranges.get(&file)
    }

    /// The same, to be changed.
    pub fn ranges_mut(&mut self, file: FileId) -> &mut RangeLocks {
        self.ranges.entry(file).or_default()
    }

    /// Files with byte-range locks.
    pub fn all_ranges(&self) -> impl Iterator<Item = (FileId, &RangeLocks)> {
        self.ranges.iter().map(|(file, ranges)| (*file, ranges))
    }

    /// Takes a holder's locks off a range of its file; its stateid's `seqid` goes up.
    pub fn unlock(&mut self, number: StateNumber, range: ranges::ByteRange) {
        if let Some(file) = self.locks.get(&number).map(|lock| lock.file) {
            if let Some(ranges) = self.ranges.get_mut(&file) {
                ranges.unlock(number, range);
                if ranges.is_empty() {
                    self.ranges.remove(&file);
                }
            }
            self.bump_lock(number);
        }
    }

    /// What a client left open, locked or delegated, in words; not what a fault may have hidden from it.
    pub fn leftovers(&self, client: u64) -> Vec<String> {
        let opens =
            self.opens.iter().filter(|(_, open)| open.client == client && open.revoked.is_none() && !open.excused);
        let opens = opens.map(|(number, open)| {
            let locks = self.locks.iter().filter(|(_, lock)| lock.open == *number);
            let held: usize = locks.map(|(n, l)| self.ranges.get(&l.file).map_or(0, |r| r.of(*n).count())).sum();
            format!("a file was never closed (owner {:?}), {held} locks of it were never given back", open.owner)
        });
        let kept = self.delegations.values().filter(|held| held.client == client && held.revoked.is_none());
        let kept = kept.filter(|held| !held.excused);
        opens.chain(kept.map(|held| format!("a delegation of {:?} was never returned", held.file))).collect()
    }

    /// A fault made it impossible for clients to know what they hold: nobody is blamed for what is there now, nor for
    /// the use of what is gone.
    pub fn excuse(&mut self) {
        self.opens.values_mut().for_each(|open| open.excused = true);
        self.delegations.values_mut().for_each(|held| held.excused = true);
        self.excuse_the_past();
    }

    /// A client left a session, and with it the replies that it may not have got: it does not know what it closed.
    pub fn excuse_the_past(&mut self) {
        for by_client in self.past.values_mut() {
            *by_client = false;
        }
    }

    /// A state ended by no wish of its client: to use it once more is no mistake.
    pub fn excuse_use_of(&mut self, number: StateNumber) {
        if let Some(by_client) = self.past.get_mut(&number) {
            *by_client = false;
        }
    }

    /// A client was blamed already.
    pub fn excuse_client(&mut self, client: u64) {
        self.opens.values_mut().filter(|open| open.client == client).for_each(|open| open.excused = true);
        self.delegations.values_mut().filter(|held| held.client == client).for_each(|held| held.excused = true);
    }

    /// Whether a number was ever given to a state.
    fn was(&self, number: StateNumber) -> bool {
        (1..=self.last).contains(&number)
    }

    /// How many byte-range locks a client has.
    pub fn lock_count(&self, client: u64) -> usize {
        let mine = self.locks.iter().filter(|(_, lock)| lock.client == client);
        mine.map(|(number, lock)| self.ranges.get(&lock.file).map_or(0, |r| r.of(*number).count())).sum()
    }

    /// The open of an open-owner in a file.
    pub fn find_open(&self, client: u64, owner: &[u8], file: FileId) -> Option<StateNumber> {
        let mine = |(_, open): &(_, &Open)| open.client == client && open.owner == owner && open.revoked.is_none();
        self.opens_of(file).find(mine).map(|(number, _)| number)
    }

    /// The lock state of a lock-owner in a file.
    pub fn find_lock(&self, client: u64, owner: &[u8], file: FileId) -> Option<StateNumber> {
        let mine = |(_, l): &(&StateNumber, &LockState)| {
            l.client == client && l.owner == owner && l.file == file && l.revoked.is_none()
        };
        self.locks.iter().find(mine).map(|(number, _)| *number)
    }

    /// Whether opening a file is kept out by what others opened (RFC 8881 §9.7). `but` is left out of account.
    pub fn share_conflict(&self, file: FileId, access: u32, deny: u32, but: Option<StateNumber>) -> bool {
        self.opens_of(file)
            .filter(|(number, open)| Some(*number) != but && open.revoked.is_none())
            .any(|(_, open)| open.deny & access != 0 || open.access & deny != 0)
    }

    /// Records an open: a new state, or an upgrade of the owner's one.
    pub fn add_open(&mut self, client: u64, owner: &Bytes, file: FileId, access: u32, deny: u32) -> StateNumber {
        if let Some(number) = self.find_open(client, owner, file) {
            if let Some(open) = self.opens.get_mut(&number) {
                open.access |= access;
                open.deny |= deny;
                open.combinations |= combination(access, deny);
                open.seqid = next_seqid(open.seqid);
            }
            return number;
        }
        self.last += 1;
        let open = Open {
            client,
            owner: owner.clone(),
            file,
            access,
            deny,
            combinations: combination(access, deny),
            seqid: 1,
            revoked: None,
            excused: false,
        };
        self.opens.insert(self.last, open);
        self.opens_of_file.entry(file).or_default().push(self.last);
        self.last
    }

    /// OPEN_DOWNGRADE: goes back to a share that the owner opened before, or a union of such; else INVAL
    /// (RFC 8881 §18.18.3).
    pub fn downgrade(&mut self, number: StateNumber, access: u32, deny: u32) -> Result<(), Nfs4Error> {
        let open = self.opens.get_mut(&number).ok_or(Nfs4Error::BadStateid)?;
        let (mut union_access, mut union_deny, mut kept) = (0, 0, 0);
        for pair in 0..16 {
            let (a, d) = (pair / 4, pair % 4);
            if open.combinations & 1 << pair != 0 && a & !access == 0 && d & !deny == 0 {
                union_access |= a;
                union_deny |= d;
                kept |= 1 << pair;
            }
        }
        if access & share::ACCESS_BOTH == 0 || union_access != access || union_deny != deny {
            return Err(Nfs4Error::Inval);
        }
        open.access = access;
        open.deny = deny;
        open.combinations = kept;
        open.seqid = next_seqid(open.seqid);
        Ok(())
    }

    /// CLOSE: the open and the locks that came from it go.
    pub fn close(&mut self, number: StateNumber) -> Option<Open> {
        self.end_open(number, true)
    }

    fn end_open(&mut self, number: StateNumber, by_client: bool) -> Option<Open> {
        let open = self.opens.remove(&number)?;
        if let Some(numbers) = self.opens_of_file.get_mut(&open.file) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.opens_of_file.remove(&open.file);
            }
        }
        let locks: Vec<_> = self.locks.iter().filter(|(_, l)| l.open == number).map(|(n, _)| *n).collect();
        for lock in locks {
            self.end_lock(lock, by_client);
        }
        self.remember(number, by_client);
        Some(open)
    }

    /// A lock state of an owner in a file: the one that is there, or a new one.
    pub fn add_lock_state(&mut self, client: u64, owner: &Bytes, file: FileId, open: StateNumber) -> StateNumber {
        if let Some(number) = self.find_lock(client, owner, file) {
            return number;
        }
        self.last += 1;
        let lock = LockState { client, owner: owner.clone(), file, open, seqid: 0, revoked: None };
        self.locks.insert(self.last, lock);
        self.last
    }

    /// A lock state changed: its stateid's `seqid` goes up.
    pub fn bump_lock(&mut self, number: StateNumber) {
        if let Some(lock) = self.locks.get_mut(&number) {
            lock.seqid = next_seqid(lock.seqid);
        }
    }

    /// Lets go of a lock state and of its ranges.
    pub fn free_lock(&mut self, number: StateNumber) -> Option<LockState> {
        self.end_lock(number, true)
    }

    fn end_lock(&mut self, number: StateNumber, by_client: bool) -> Option<LockState> {
        let lock = self.locks.remove(&number)?;
        if let Some(ranges) = self.ranges.get_mut(&lock.file) {
            ranges.release(number);
            if ranges.is_empty() {
                self.ranges.remove(&lock.file);
            }
        }
        self.remember(number, by_client);
        Some(lock)
    }

    /// Everything of a client goes; the files that it had open.
    pub fn drop_client(&mut self, client: u64) -> Vec<FileId> {
        let numbers: Vec<_> = self.opens.iter().filter(|(_, o)| o.client == client).map(|(n, _)| *n).collect();
        let delegations: Vec<_> =
            self.delegations.iter().filter(|(_, held)| held.client == client).map(|(n, _)| *n).collect();
        let opened = numbers.into_iter().filter_map(|number| self.end_open(number, false)).map(|open| open.file);
        let mut files: Vec<FileId> = opened.collect();
        files.extend(delegations.into_iter().filter_map(|n| self.end_delegation(n, false)).map(|held| held.file));
        files
    }

    /// Everything of a removed file goes: its handle is stale, so its owners cannot close it.
    pub fn drop_file(&mut self, file: FileId) {
        let numbers = self.opens_of_file.get(&file).cloned().unwrap_or_default();
        for number in numbers {
            self.end_open(number, false);
        }
        for number in self.delegations_of_file.get(&file).cloned().unwrap_or_default() {
            self.end_delegation(number, false);
        }
    }

    /// The server takes all state of a client away but remembers its stateids until FREE_STATEID.
    pub fn revoke_client(&mut self, client: u64, why: Nfs4Error) -> Vec<FileId> {
        self.ever_revoked = true;
        let mut files = Vec::new();
        for open in self.opens.values_mut().filter(|open| open.client == client) {
            open.revoked = Some(why);
            files.push(open.file);
        }
        let locks: Vec<_> = self.locks.iter().filter(|(_, l)| l.client == client).map(|(n, l)| (*n, l.file)).collect();
        for (number, file) in locks {
            if let Some(ranges) = self.ranges.get_mut(&file) {
                ranges.release(number);
            }
            if let Some(lock) = self.locks.get_mut(&number) {
                lock.revoked = Some(why);
            }
        }
        let delegations: Vec<_> =
            self.delegations.iter().filter(|(_, held)| held.client == client).map(|(n, _)| *n).collect();
        files.extend(delegations.into_iter().filter_map(|number| self.revoke_delegation(number, why)));
        files
    }

    /// Whether a client has state that was taken away and not yet freed, by the reason.
    pub fn has_revoked(&self, client: u64, why: Nfs4Error) -> bool {
        let open = || self.opens.values().any(|open| open.client == client && open.revoked == Some(why));
        let lock = || self.locks.values().any(|lock| lock.client == client && lock.revoked == Some(why));
        let held = || self.delegations.values().any(|held| held.client == client && held.revoked == Some(why));
        self.ever_revoked && (open() || lock() || held())
    }

    /// How many lock states there are, with locks or without.
    pub fn lock_state_count(&self) -> usize {
        self.locks.len()
    }

    fn remember(&mut self, number: StateNumber, by_client: bool) {
        if self.past.len() > 1_000_000 {
            self.past.clear();
        }
        self.past.insert(number, by_client);
    }
}

/// `seqid` skips 0, which means "the most recent" (RFC 8881 §8.2.2).
fn next_seqid(seqid: u32) -> u32 {
    seqid.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FILE: FileId = FileId(5);

    /// RFC 8881 §18.18.3.
    #[test]
    fn a_downgrade_goes_back_only_to_a_share_that_was_opened() {
        let mut states = States::new(1);
        let owner = Bytes::from_static(b"o");
        let open = states.add_open(1, &owner, FILE, 3, 0);
        assert_eq!(states.downgrade(open, 1, 0), Err(Nfs4Error::Inval));
        assert_eq!(states.add_open(1, &owner, FILE, 1, 2), open);
        assert_eq!(states.downgrade(open, 0, 0), Err(Nfs4Error::Inval));
        assert_eq!(states.downgrade(open, 1, 0), Err(Nfs4Error::Inval));
        assert_eq!(states.downgrade(open, 1, 2), Ok(()));
        assert_eq!(states.downgrade(open, 3, 0), Err(Nfs4Error::Inval));
        assert_eq!(states.open(open).unwrap().seqid, 3);
    }

    /// RFC 8881 §9.7.
    #[test]
    fn a_share_that_another_denies_is_a_conflict_both_ways() {
        let mut states = States::new(1);
        states.add_open(1, &Bytes::from_static(b"o"), FILE, 1, 2);
        assert!(states.share_conflict(FILE, 2, 0, None));
        assert!(states.share_conflict(FILE, 1, 1, None));
        assert!(!states.share_conflict(FILE, 1, 0, None));
        assert!(!states.share_conflict(FileId(6), 3, 3, None));
    }

    #[test]
    fn closing_an_open_takes_its_locks_along() {
        let mut states = States::new(1);
        let open = states.add_open(1, &Bytes::from_static(b"o"), FILE, 3, 0);
        let lock = states.add_lock_state(1, &Bytes::from_static(b"l"), FILE, open);
        states.ranges_mut(FILE).lock(lock, ranges::ByteRange { first: 0, last: 9 }, true);
        assert_eq!(states.lock_count(1), 1);
        states.close(open);
        assert_eq!(states.lock_count(1), 0);
        assert!(states.ranges(FILE).is_none() && states.lock_state(lock).is_none());
    }
}
