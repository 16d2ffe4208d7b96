//! Delegations of files: who holds which, and how far their recall has come (RFC 8881 §10.2, §10.4).

use nfs4::Nfs4Error;
use nfs4::types::Sessionid4;

use super::{StateNumber, States};
use crate::nfs::config::Now;
use crate::nfs::memfs::FileId;

/// A delegation.
#[derive(Debug, Clone)]
pub struct Delegation {
    /// Whose it is.
    pub client: u64,
    /// The file.
    pub file: FileId,
    /// Whether it is for writing; else for reading.
    pub write: bool,
    /// `seqid` of its stateid.
    pub seqid: u32,
    /// Whether the server took it away, and why.
    pub revoked: Option<Nfs4Error>,
    /// Whether a fault may have hidden it from the client, which then cannot be blamed for keeping it.
    pub excused: bool,
    /// Its recall, if it is wanted back.
    pub recall: Option<Recall>,
    /// Session, slot and sequence id of the OPEN that brought it: the client may not have its reply when the recall
    /// comes (RFC 8881 §2.10.6.3).
    pub granted_by: Option<(Sessionid4, u32, u32)>,
}

/// A recall under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recall {
    /// When it began; a lease later the delegation is revoked.
    pub since: Now,
    /// Whether the file is about to be cut to nothing.
    pub truncate: bool,
    /// Whether the client knows.
    pub told: Told,
}

/// Whether a client was told of a recall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Not yet, or the callback has to be made again.
    No,
    /// CB_RECALL waits or is under way in this session.
    Under(Sessionid4),
    /// It was answered.
    Yes,
    /// It was answered by an error; whoever is held up by the delegation makes it be asked for again.
    Refused,
}

impl States {
    /// Gives a file's delegation to a client.
    pub fn add_delegation(
        &mut self,
        client: u64,
        file: FileId,
        write: bool,
        granted_by: Option<(Sessionid4, u32, u32)>,
    ) -> StateNumber {
        self.last += 1;
        let delegation =
            Delegation { client, file, write, seqid: 1, revoked: None, excused: false, recall: None, granted_by };
        self.delegations.insert(self.last, delegation);
        self.delegations_of_file.entry(file).or_default().push(self.last);
        self.last
    }

    /// A delegation.
    pub fn delegation(&self, number: StateNumber) -> Option<&Delegation> {
        self.delegations.get(&number)
    }

    /// The same, to be changed.
    pub fn delegation_mut(&mut self, number: StateNumber) -> Option<&mut Delegation> {
        self.delegations.get_mut(&number)
    }

    /// All delegations.
    pub fn delegations(&self) -> impl Iterator<Item = (StateNumber, &Delegation)> {
        self.delegations.iter().map(|(number, delegation)| (*number, delegation))
    }

    /// Delegations of a file that were not revoked.
    pub fn delegations_of(&self, file: FileId) -> impl Iterator<Item = (StateNumber, &Delegation)> {
        let numbers = self.delegations_of_file.get(&file).map_or(&[][..], Vec::as_slice);
        let all = numbers.iter().filter_map(|number| self.delegations.get(number).map(|held| (*number, held)));
        all.filter(|(_, held)| held.revoked.is_none())
    }

    /// A client's delegation of a file.
    pub fn find_delegation(&self, client: u64, file: FileId) -> Option<StateNumber> {
        self.delegations_of(file).find(|(_, held)| held.client == client).map(|(number, _)| number)
    }

    /// DELEGRETURN, or FREE_STATEID of a revoked one.
    pub fn return_delegation(&mut self, number: StateNumber) -> Option<Delegation> {
        self.end_delegation(number, true)
    }

    pub(super) fn end_delegation(&mut self, number: StateNumber, by_client: bool) -> Option<Delegation> {
        let delegation = self.delegations.remove(&number)?;
        if let Some(numbers) = self.delegations_of_file.get_mut(&delegation.file) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.delegations_of_file.remove(&delegation.file);
            }
        }
        self.remember(number, by_client);
        Some(delegation)
    }

    /// The server takes a delegation away but remembers its stateid until FREE_STATEID; the file that it was of.
    pub fn revoke_delegation(&mut self, number: StateNumber, why: Nfs4Error) -> Option<FileId> {
        let delegation = self.delegations.get_mut(&number).filter(|held| held.revoked.is_none())?;
        self.ever_revoked = true;
        delegation.revoked = Some(why);
        Some(delegation.file)
    }
}
