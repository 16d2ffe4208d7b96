//! What must hold after every call, whatever the client sent and whatever faults were made.

use std::collections::HashMap;

use super::memfs::{FileId, Kind, MemFs};
use super::server::Server;

impl Server {
    /// Looks for a contradiction in the server's own state; for tests.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.check_sessions()?;
        self.check_states()?;
        check_tree(&self.fs)?;
        for (_, inode) in self.fs.inodes().filter(|(_, inode)| inode.nlink == 0) {
            if !self.config.preserve_unlinked {
                return Err(format!("a removed file is still there: {inode:?}"));
            }
        }
        for (file, _) in self.fs.inodes().filter(|(_, inode)| inode.nlink == 0) {
            if !self.is_needed(file) {
                return Err(format!("{file:?} has no name and nobody has it open"));
            }
        }
        Ok(())
    }

    fn check_sessions(&self) -> Result<(), String> {
        for (id, session) in &self.sessions {
            if session.id != *id {
                return Err(format!("session {id:?} is filed wrongly"));
            }
            match self.clients.get(session.client) {
                Some(client) if client.confirmed => {}
                _ => return Err(format!("session {id:?} has no confirmed client")),
            }
            if (0..session.slots.len()).any(|slot| session.slots.is_busy(slot)) {
                return Err(format!("a slot of session {id:?} stayed busy"));
            }
        }
        let mut confirmed = HashMap::new();
        for client in self.clients.iter().filter(|client| client.confirmed) {
            if confirmed.insert(client.owner.clone(), client.id).is_some() {
                return Err("two confirmed records of one client".into());
            }
        }
        Ok(())
    }

    fn check_states(&self) -> Result<(), String> {
        let mut owners = HashMap::new();
        for (number, open) in self.states.opens() {
            if self.clients.get(open.client).is_none() {
                return Err(format!("open {number} has no client"));
            }
            if !(1..=3).contains(&open.access) || open.seqid == 0 {
                return Err(format!("open {number} is empty: {open:?}"));
            }
            if open.revoked.is_some() {
                continue;
            }
            if self.fs.data(open.file).is_err() {
                return Err(format!("open {number} is of no regular file"));
            }
            if owners.insert((open.client, open.owner.clone(), open.file), number).is_some() {
                return Err(format!("open {number} is its owner's second of one file"));
            }
            if !self.states.opens_of(open.file).any(|(other, _)| other == number) {
                return Err(format!("open {number} is not known to its file"));
            }
            if self.states.share_conflict(open.file, open.access, open.deny, Some(number)) {
                return Err(format!("open {number} is denied by another"));
            }
        }
        for (number, lock) in self.states.lock_states() {
            match self.states.open(lock.open) {
                Some(open) if open.file == lock.file && open.client == lock.client => {}
                _ => return Err(format!("lock state {number} has no open")),
            }
        }
        self.check_delegations()?;
        for (file, locks) in self.states.all_ranges() {
            let all: Vec<_> = locks.iter().collect();
            for (i, lock) in all.iter().enumerate() {
                if self.states.lock_state(lock.holder).is_none_or(|state| state.file != file || state.revoked.is_some())
                {
                    return Err(format!("a lock on {file:?} that nobody holds"));
                }
                if let Some(other) = all[..i].iter().find(|other| other.clashes(lock)) {
                    return Err(format!("two locks at once on {file:?}: {lock:?} and {other:?}"));
                }
            }
        }
        Ok(())
    }
}

impl Server {
    /// Nobody else has open what is delegated, or not in a way that clashes (RFC 8881 §10.4).
    fn check_delegations(&self) -> Result<(), String> {
        for (number, held) in self.states.delegations() {
            if self.clients.get(held.client).is_none() {
                return Err(format!("delegation {number} has no client"));
            }
            if held.revoked.is_some() {
                continue;
            }
            if self.fs.data(held.file).is_err() {
                return Err(format!("delegation {number} is of no regular file"));
            }
            let mut others = self.states.delegations_of(held.file).filter(|(other, _)| *other != number);
            if others.any(|(_, other)| other.client == held.client || other.write || held.write) {
                return Err(format!("delegation {number} is not the only one"));
            }
            let opens = self.states.opens_of(held.file).filter(|(_, open)| open.revoked.is_none());
            let mut foreign = opens.filter(|(_, open)| open.client != held.client);
            if foreign.any(|(_, open)| held.write || open.access & 2 != 0) {
                return Err(format!("somebody else opened what delegation {number} is of"));
            }
        }
        Ok(())
    }
}

/// Names, parents, link counts and the sum of the bytes.
fn check_tree(fs: &MemFs) -> Result<(), String> {
    let mut names: HashMap<FileId, u32> = HashMap::new();
    let mut subdirectories: HashMap<FileId, u32> = HashMap::new();
    let mut used = 0;
    for (dir, inode) in fs.inodes() {
        if let Kind::Regular(data) = &inode.kind {
            used += data.space_used();
        }
        let Kind::Directory(entries) = &inode.kind else { continue };
        for entry in entries.iter() {
            let child = fs.inode(entry.file).map_err(|_| format!("a name without a file in {dir:?}: {entry:?}"))?;
            *names.entry(entry.file).or_default() += 1;
            if matches!(child.kind, Kind::Directory(_)) {
                *subdirectories.entry(dir).or_default() += 1;
                if child.parent != dir {
                    return Err(format!("{:?} lies in {dir:?} and says otherwise", entry.file));
                }
            }
        }
    }
    if used != fs.used() {
        return Err(format!("{used} bytes are held, {} are counted", fs.used()));
    }
    for (file, inode) in fs.inodes() {
        let named = names.get(&file).copied().unwrap_or(0);
        let wanted = match &inode.kind {
            Kind::Directory(_) if file == fs.root() || named == 1 => {
                2 + subdirectories.get(&file).copied().unwrap_or(0)
            }
            Kind::Directory(_) => return Err(format!("directory {file:?} has {named} names")),
            _ => named,
        };
        if inode.nlink != wanted {
            return Err(format!("{file:?} has {} links and should have {wanted}", inode.nlink));
        }
    }
    Ok(())
}
