//! The slot table: exactly-once for every request of a session (RFC 8881 §2.10.6.1).
//!
//! A slot remembers the last sequence id, a fingerprint of the request and, where the client asked for it, the
//! bytes of the reply. Nothing here knows what a request does.

use bytes::Bytes;
use nfs4::Nfs4Error;

/// Slots of one direction of a session.
#[derive(Debug)]
pub struct SlotTable {
    slots: Vec<Slot>,
}

#[derive(Debug, Default, Clone)]
struct Slot {
    sequenceid: u32,
    fingerprint: u64,
    reply: CachedReply,
    busy: bool,
}

/// What a slot kept of its last reply.
#[derive(Debug, Default, Clone)]
pub enum CachedReply {
    /// The slot was never used.
    #[default]
    Unused,
    /// The client did not want it kept; the result of SEQUENCE alone is here (RFC 8881 §2.10.6.1.3).
    Uncached(Bytes),
    /// The whole body of the reply.
    Whole(Vec<Bytes>),
}

/// What to do with a request.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Carry it out, then call [`SlotTable::finish`].
    New,
    /// Send these bytes again.
    Replay(Vec<Bytes>),
    /// It was carried out before, but the reply was not kept; here is what SEQUENCE answered.
    ReplayUncached(Bytes),
    /// Refuse it; the slot stays as it is.
    Refuse(Nfs4Error),
}

impl SlotTable {
    /// A table of `count` unused slots.
    pub fn new(count: u32) -> Self {
        Self { slots: vec![Slot::default(); count as usize] }
    }

    /// How many slots there are.
    pub fn len(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Sequence id of a slot's last request.
    pub fn last(&self, slotid: u32) -> Option<u32> {
        self.slots.get(slotid as usize).map(|slot| slot.sequenceid)
    }

    /// Whether a sequence id leaves out the next one of its slot.
    pub fn is_ahead(&self, slotid: u32, sequenceid: u32) -> bool {
        self.slots.get(slotid as usize).is_some_and(|slot| sequenceid.wrapping_sub(slot.sequenceid) as i32 > 1)
    }

    /// Judges a request. A new one marks the slot as busy.
    pub fn begin(&mut self, slotid: u32, sequenceid: u32, fingerprint: u64) -> Verdict {
        let Some(slot) = self.slots.get_mut(slotid as usize) else {
            return Verdict::Refuse(Nfs4Error::Badslot);
        };
        if sequenceid == slot.sequenceid.wrapping_add(1) {
            if slot.busy {
                let same = slot.fingerprint == fingerprint;
                return Verdict::Refuse(if same { Nfs4Error::Delay } else { Nfs4Error::SeqFalseRetry });
            }
            slot.busy = true;
            slot.fingerprint = fingerprint;
            return Verdict::New;
        }
        // While the next request is being carried out, its predecessor was answered long ago.
        if sequenceid != slot.sequenceid || slot.busy || matches!(slot.reply, CachedReply::Unused) {
            return Verdict::Refuse(Nfs4Error::SeqMisordered);
        }
        match &slot.reply {
            _ if slot.fingerprint != fingerprint => Verdict::Refuse(Nfs4Error::SeqFalseRetry),
            CachedReply::Whole(reply) => Verdict::Replay(reply.clone()),
            CachedReply::Uncached(sequence) => Verdict::ReplayUncached(sequence.clone()),
            CachedReply::Unused => Verdict::Refuse(Nfs4Error::SeqMisordered),
        }
    }

    /// The request that [`Self::begin`] called new was carried out.
    pub fn finish(&mut self, slotid: u32, reply: CachedReply) {
        if let Some(slot) = self.slots.get_mut(slotid as usize)
            && slot.busy
        {
            slot.busy = false;
            slot.sequenceid = slot.sequenceid.wrapping_add(1);
            slot.reply = reply;
        }
    }

    /// The request that [`Self::begin`] called new was refused after all; the slot is as it was.
    pub fn withdraw(&mut self, slotid: u32) {
        if let Some(slot) = self.slots.get_mut(slotid as usize) {
            slot.busy = false;
        }
    }

    /// Whether a request of this slot is being carried out.
    pub fn is_busy(&self, slotid: u32) -> bool {
        self.slots.get(slotid as usize).is_some_and(|slot| slot.busy)
    }
}

/// Tells requests apart (no secret is involved): a retry must be the same request (RFC 8881 §2.10.6.1.3.1).
pub fn fingerprint(principal: u64, body: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut lanes = [principal ^ FACTOR, body.len() as u64, 3, 4];
    let mut words = body.chunks_exact(32);
    for chunk in &mut words {
        for (lane, word) in lanes.iter_mut().zip(chunk.chunks_exact(8)) {
            let word = word.try_into().map_or(0, u64::from_le_bytes);
            *lane = (*lane ^ word).wrapping_mul(FACTOR).rotate_left(29);
        }
    }
    let mut sum = lanes.iter().fold(0u64, |sum, lane| (sum ^ lane).wrapping_mul(FACTOR).rotate_left(31));
    for byte in words.remainder() {
        sum = (sum ^ u64::from(*byte)).wrapping_mul(FACTOR).rotate_left(31);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// Slot, distance from the expected sequence id, request, whether to cache.
        Request(u32, i32, u8, bool),
    }

    /// Sequence id of a slot's last request; which request it was and its reply, if that was cached.
    type Last = (u32, Option<(u8, Option<u32>)>);

    fn step() -> impl Strategy<Value = Step> {
        (0u32..4, -2i32..3, 0u8..3, any::<bool>())
            .prop_map(|(slot, off, request, cache)| Step::Request(slot, off, request, cache))
    }

    proptest! {
        /// RFC 8881 §2.10.6.1: each request is carried out once, and its answer is never another request's.
        #[test]
        fn every_request_is_carried_out_once_and_replays_are_its_own_bytes(steps in proptest::collection::vec(step(), 1..200)) {
            const SLOTS: u32 = 3;
            let mut table = SlotTable::new(SLOTS);
            // By slot: sequence id, request, reply if cached.
            let mut model: Vec<Last> = vec![(0, None); SLOTS as usize];
            let mut serial = 0u32;
            for Step::Request(slot, off, request, cache) in steps {
                let have = model.get(slot as usize).map_or(0, |m| m.0);
                let sequence = (have + 1).wrapping_add_signed(off);
                let verdict = table.begin(slot, sequence, u64::from(request));
                if slot >= SLOTS {
                    prop_assert!(matches!(verdict, Verdict::Refuse(Nfs4Error::Badslot)));
                    continue;
                }
                let entry = &mut model[slot as usize];
                match (off, &entry.1) {
                    (0, _) => {
                        prop_assert!(matches!(verdict, Verdict::New));
                        prop_assert!(table.is_busy(slot));
                        serial += 1;
                        let bytes = Bytes::copy_from_slice(&serial.to_be_bytes());
                        table.finish(slot, if cache { CachedReply::Whole(vec![bytes]) } else { CachedReply::Uncached(bytes) });
                        *entry = (sequence, Some((request, cache.then_some(serial))));
                    }
                    (-1, Some((same, reply))) if *same == request => match (reply, verdict) {
                        (Some(reply), Verdict::Replay(bytes)) => prop_assert_eq!(&bytes.concat()[..], &reply.to_be_bytes()[..]),
                        (None, Verdict::ReplayUncached(_)) => {}
                        (_, other) => prop_assert!(false, "{:?}", other),
                    },
                    (-1, Some(_)) => prop_assert!(matches!(verdict, Verdict::Refuse(Nfs4Error::SeqFalseRetry))),
                    _ => prop_assert!(matches!(verdict, Verdict::Refuse(Nfs4Error::SeqMisordered))),
                }
            }
        }

        #[test]
        fn another_request_has_another_fingerprint(a in proptest::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>()) {
            let mut b = a.clone();
            b.push(0);
            prop_assert_ne!(fingerprint(1, &a), fingerprint(1, &b));
            let i = at.index(b.len());
            b[i] ^= 0x80;
            prop_assert_ne!(fingerprint(1, &a), fingerprint(1, &b));
            prop_assert_ne!(fingerprint(1, &a), fingerprint(2, &a));
        }
    }

    /// RFC 8881 §2.10.6.1: sequence ids wrap around.
    #[test]
    fn sequence_ids_wrap_around() {
        let mut table = SlotTable::new(1);
        table.slots[0].sequenceid = u32::MAX;
        assert!(matches!(table.begin(0, 0, 7), Verdict::New));
        table.finish(0, CachedReply::Whole(vec![Bytes::from_static(b"x")]));
        assert!(matches!(table.begin(0, 0, 7), Verdict::Replay(_)));
        assert!(matches!(table.begin(0, 1, 7), Verdict::New));
    }

    /// RFC 8881 §2.10.6.2: a retry while the request is being carried out waits.
    #[test]
    fn a_retry_of_a_request_under_way_is_delayed_and_a_next_one_is_misordered() {
        let mut table = SlotTable::new(1);
        assert!(matches!(table.begin(0, 1, 7), Verdict::New));
        table.finish(0, CachedReply::Whole(vec![]));
        assert!(matches!(table.begin(0, 2, 8), Verdict::New));
        assert!(matches!(table.begin(0, 2, 8), Verdict::Refuse(Nfs4Error::Delay)));
        assert!(matches!(table.begin(0, 2, 9), Verdict::Refuse(Nfs4Error::SeqFalseRetry)));
        assert!(matches!(table.begin(0, 3, 9), Verdict::Refuse(Nfs4Error::SeqMisordered)));
    }
}
