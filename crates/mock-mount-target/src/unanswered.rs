//! Requests whose replies have not left yet. Whoever sends the next request of a slot has seen the reply to the one
//! before (RFC 8881 §2.10.6.1), so a reply that is still here shows that the client uses the slot twice at once.
//!
//! A reply counts as gone when its first byte is about to be written, so that no client can be quicker. The server
//! behind does not see this: it carries out one request after the other.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use nfs4::ops::session::Sequence4args;
use nfs4::types::Sessionid4;
use nfs4::xdr::{Opaque, Reader};

const SEQUENCE: u32 = 53;

/// A slot of a session.
type Slot = (Sessionid4, u32);

/// Requests without replies, by slot and by call.
#[derive(Debug, Default)]
pub(crate) struct Unanswered(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    by_slot: HashMap<Slot, Request>,
    by_call: HashMap<(u64, u32), Slot>,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    conn: u64,
    xid: u32,
    sequenceid: u32,
}

impl Unanswered {
    /// A COMPOUND came; the mistake of its client, if it is one.
    pub(crate) fn came(&self, conn: u64, xid: u32, args: &Bytes) -> Option<String> {
        let sequence = sequence_of(args)?;
        let slot = (sequence.sa_sessionid, sequence.sa_slotid);
        let request = Request { conn, xid, sequenceid: sequence.sa_sequenceid };
        let mut table = self.table();
        let before = table.forget(slot);
        match before {
            // Tried again, perhaps on another connection: either reply may be the one that arrives.
            Some(before) if before.sequenceid == request.sequenceid => return None,
            _ => {}
        }
        table.by_slot.insert(slot, request);
        table.by_call.insert((conn, xid), slot);
        let early = before.is_some_and(|before| before.sequenceid.wrapping_add(1) == request.sequenceid);
        early.then(|| {
            let (slot, id) = (sequence.sa_slotid, sequence.sa_sequenceid);
            format!("slot {slot} used twice at once: request {id} came before the reply to the one before was sent")
        })
    }

    /// The reply to a call is about to be written.
    pub(crate) fn leaves(&self, conn: u64, xid: u32) {
        let mut table = self.table();
        if let Some(slot) = table.by_call.get(&(conn, xid)).copied() {
            table.forget(slot);
        }
    }

    /// A connection is gone, and with it the replies that were meant for it.
    pub(crate) fn disconnected(&self, conn: u64) {
        let mut table = self.table();
        table.by_slot.retain(|_, request| request.conn != conn);
        table.by_call.retain(|(by, _), _| *by != conn);
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn forget(&mut self, slot: Slot) -> Option<Request> {
        let request = self.by_slot.remove(&slot)?;
        self.by_call.remove(&(request.conn, request.xid));
        Some(request)
    }
}

/// SEQUENCE's arguments, if a COMPOUND begins with it.
fn sequence_of(args: &Bytes) -> Option<Sequence4args> {
    let mut input = Reader::new(args.clone());
    let (_tag, _minor, _count) = (input.get::<Opaque>().ok()?, input.get::<u32>().ok()?, input.get::<u32>().ok()?);
    (input.get::<u32>().ok()? == SEQUENCE).then(|| input.get().ok()).flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nfs4::compound::{Argop4, Compound4args};
    use nfs4::xdr;

    fn request(slot: u32, sequenceid: u32) -> Bytes {
        let sequence = Sequence4args {
            sa_sessionid: Sessionid4([7; 16]),
            sa_sequenceid: sequenceid,
            sa_slotid: slot,
            sa_highest_slotid: slot,
            sa_cachethis: false,
        };
        let argarray = vec![Argop4::Sequence(sequence), Argop4::Putrootfh];
        xdr::to_bytes(&Compound4args { tag: "t".into(), minorversion: 2, argarray }).unwrap()
    }

    /// RFC 8881 §2.10.6.1.
    #[test]
    fn the_next_request_of_a_slot_before_the_reply_is_a_mistake_and_after_it_is_not() {
        let table = Unanswered::default();
        assert_eq!(table.came(1, 10, &request(0, 1)), None);
        assert_eq!(table.came(1, 11, &request(1, 1)), None, "another slot");
        table.leaves(1, 10);
        assert_eq!(table.came(1, 12, &request(0, 2)), None);
        assert!(table.came(2, 13, &request(0, 3)).unwrap().contains("slot 0 used twice"));
        table.leaves(1, 12);
        assert!(table.came(1, 14, &request(0, 4)).is_some(), "the reply to 3 has not left");
    }

    /// RFC 8881 §2.10.6.2.
    #[test]
    fn a_retry_after_a_cut_is_no_mistake_nor_is_what_follows() {
        let table = Unanswered::default();
        table.came(1, 10, &request(0, 1));
        table.disconnected(1);
        assert_eq!(table.came(2, 1, &request(0, 1)), None);
        table.leaves(2, 1);
        assert_eq!(table.came(2, 2, &request(0, 2)), None);
        // A retry while the first connection is still there: whichever reply comes lets the client go on.
        assert_eq!(table.came(3, 1, &request(0, 2)), None);
        assert_eq!(table.came(3, 2, &request(0, 3)), None);
        table.disconnected(3);
        assert!(table.table().by_slot.is_empty() && table.table().by_call.is_empty());
    }
}
