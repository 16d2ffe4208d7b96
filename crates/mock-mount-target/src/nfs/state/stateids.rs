//! From a stateid to the state it names, by the rules of RFC 8881 §8.2.4.

use nfs4::Nfs4Error;
use nfs4::types::{Stateid4, StateidOther};

use super::{StateNumber, States};

/// The state that a stateid names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// An open.
    Open(StateNumber),
    /// A lock state.
    Lock(StateNumber),
    /// A delegation.
    Delegation(StateNumber),
}

/// Why a stateid names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// The client itself closed or freed it.
    Closed,
    /// The client's `seqid` is of the future, or the stateid never was.
    NeverWas,
    /// Anything else.
    Status(Nfs4Error),
}

impl Gone {
    /// The status that the client gets.
    pub fn status(self) -> Nfs4Error {
        match self {
            Self::Closed | Self::NeverWas => Nfs4Error::BadStateid,
            Self::Status(status) => status,
        }
    }
}

impl States {
    /// The stateid of a state as it is now.
    pub fn stateid(&self, number: StateNumber) -> Stateid4 {
        let open = self.opens.get(&number).map(|open| open.seqid);
        let lock = || self.locks.get(&number).map(|lock| lock.seqid);
        let delegation = || self.delegations.get(&number).map(|held| held.seqid);
        self.stateid_of(number, open.or_else(lock).or_else(delegation).unwrap_or(0))
    }

    /// A stateid of this life of the server that nobody was ever given.
    pub fn nobodys(&self) -> Stateid4 {
        self.stateid_of(StateNumber::MAX, 1)
    }

    fn stateid_of(&self, number: StateNumber, seqid: u32) -> Stateid4 {
        let mut other = [0; 12];
        other[..4].copy_from_slice(&self.boot.to_be_bytes());
        other[4..].copy_from_slice(&number.to_be_bytes());
        Stateid4 { seqid, other: StateidOther(other) }
    }

    /// The state of a client's stateid (RFC 8881 §8.2.4). Special stateids name nothing.
    pub fn named(&self, client: u64, stateid: &Stateid4) -> Result<Named, Gone> {
        let (boot, number) = split(stateid);
        if boot != self.boot {
            // After a restart the session is gone too, so a client that knew would not ask (§8.2.4).
            let earlier = boot != 0 && boot < self.boot;
            return Err(if earlier { Gone::Status(Nfs4Error::BadStateid) } else { Gone::NeverWas });
        }
        let open = self.opens.get(&number).map(|open| (open.client, open.seqid, open.revoked, Named::Open(number)));
        let lock = || self.locks.get(&number).map(|lock| (lock.client, lock.seqid, lock.revoked, Named::Lock(number)));
        let delegation = || {
            let held = self.delegations.get(&number)?;
            Some((held.client, held.seqid, held.revoked, Named::Delegation(number)))
        };
        let Some((owner, seqid, revoked, named)) = open.or_else(lock).or_else(delegation) else {
            return Err(match self.past.get(&number) {
                Some(true) => Gone::Closed,
                Some(false) => Gone::Status(Nfs4Error::BadStateid),
                // The past is not remembered for ever.
                None if self.was(number) => Gone::Status(Nfs4Error::BadStateid),
                None => Gone::NeverWas,
            });
        };
        if owner != client {
            return Err(Gone::NeverWas);
        }
        if let Some(why) = revoked {
            return Err(Gone::Status(why));
        }
        match stateid.seqid {
            0 => Ok(named),
            asked if asked == seqid => Ok(named),
            asked if asked < seqid => Err(Gone::Status(Nfs4Error::OldStateid)),
            _ => Err(Gone::NeverWas),
        }
    }

    /// A state that was taken away, for FREE_STATEID.
    pub fn revoked(&self, client: u64, stateid: &Stateid4) -> Option<Named> {
        let (boot, number) = split(stateid);
        if boot != self.boot {
            return None;
        }
        let open = self.opens.get(&number).filter(|o| o.client == client && o.revoked.is_some());
        let lock = self.locks.get(&number).filter(|l| l.client == client && l.revoked.is_some());
        let delegation = self.delegations.get(&number).filter(|d| d.client == client && d.revoked.is_some());
        let named = open.map(|_| Named::Open(number)).or(lock.map(|_| Named::Lock(number)));
        named.or(delegation.map(|_| Named::Delegation(number)))
    }
}

fn split(stateid: &Stateid4) -> (u32, StateNumber) {
    let mut boot = [0; 4];
    let mut number = [0; 8];
    boot.copy_from_slice(&stateid.other.0[..4]);
    number.copy_from_slice(&stateid.other.0[4..]);
    (u32::from_be_bytes(boot), u64::from_be_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nfs::memfs::FileId;
    use bytes::Bytes;

    /// RFC 8881 §8.2.4, case by case.
    #[test]
    fn a_stateid_names_its_state_only_for_its_client_and_with_its_seqid() {
        let mut states = States::new(3);
        let owner = Bytes::from_static(b"o");
        let open = states.add_open(7, &owner, FileId(1), 1, 0);
        let first = states.stateid(open);
        assert_eq!(states.named(7, &first), Ok(Named::Open(open)));
        assert_eq!(states.named(8, &first), Err(Gone::NeverWas));
        states.add_open(7, &owner, FileId(1), 2, 0);
        assert_eq!(states.named(7, &first), Err(Gone::Status(Nfs4Error::OldStateid)));
        assert_eq!(states.named(7, &Stateid4 { seqid: 0, ..first }), Ok(Named::Open(open)));
        assert_eq!(states.named(7, &Stateid4 { seqid: 9, ..first }), Err(Gone::NeverWas));
        let mut other = first.other.0;
        other[3] = 2;
        let earlier = Stateid4 { seqid: 1, other: StateidOther(other) };
        assert_eq!(states.named(7, &earlier), Err(Gone::Status(Nfs4Error::BadStateid)));
        states.close(open);
        assert_eq!(states.named(7, &first), Err(Gone::Closed));
    }
}
