//! Which written bytes are where on their way to the server's stable storage (RFC 8881 §18.3, §18.32).
//!
//! Bytes are *fresh* until a WRITE takes them, *flying* until it is answered, *unstable* until a COMMIT, and clean after
//! that. The one idea: every write has a number, and "flush" is a promise about numbers. It is kept when nothing with a
//! number up to that of the flush is fresh, flying or unstable, so a write that comes while a flush is under way neither
//! delays it nor gets lost in it.
//!
//! What may overlap: fresh bytes lie over flying ones (written again while under way) and are not sent before those have
//! arrived, or the older could arrive last. Nothing else overlaps.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::extents::{Extents, Piece};

/// Tiny writes are joined until they are this large, so that a log written line by line isn't thousands of pieces.
const JOIN: usize = 64 << 10;

/// A write's number, from 1.
type Seq = u64;

/// What may be sent at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// Most bytes of one WRITE.
    pub(crate) max_write: u64,
    /// Most WRITEs under way for one file.
    pub(crate) max_flights: usize,
    /// How old fresh bytes may become; `None`: not looked at this time.
    pub(crate) age: Option<Duration>,
    /// How old bytes may become that the server has not on stable storage; `None`: not looked at this time.
    pub(crate) commit_age: Option<Duration>,
    /// Much is waiting in memory: commit what can be.
    pub(crate) commit_soon: bool,
    /// Memory is short: send what there is.
    pub(crate) send_now: bool,
}

/// What to send next.
#[derive(Debug)]
pub(crate) enum Action {
    /// WRITE; answered by [`Dirty::written`] or [`Dirty::failed`].
    Write {
        id: u64,
        offset: u64,
        data: Vec<Bytes>,
        /// FILE_SYNC instead of UNSTABLE.
        sync: bool,
    },
    /// COMMIT of the whole file; answered by [`Dirty::committed`] or [`Dirty::commit_failed`].
    Commit,
}

#[derive(Debug, Clone)]
struct Fresh {
    seq: Seq,
    since: Instant,
}

/// Bytes that a truncation is about to cut off.
#[derive(Debug)]
pub(crate) struct Cut {
    offset: u64,
    data: Bytes,
    tag: Fresh,
}

#[derive(Debug, Clone)]
struct Unstable {
    seq: Seq,
    verifier: [u8; 8],
    /// A COMMIT covers what was unstable before it was sent.
    stamp: u64,
    /// When it was written.
    since: Instant,
}

#[derive(Debug)]
struct Flight {
    offset: u64,
    len: u64,
    pieces: Vec<(Bytes, Fresh)>,
}

impl Flight {
    const fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.len
    }

    fn oldest(&self) -> Seq {
        self.pieces.iter().map(|(_, tag)| tag.seq).min().unwrap_or(Seq::MAX)
    }
}

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    fresh: Extents<Fresh>,
    flights: BTreeMap<u64, Flight>,
    flying: u64,
    unstable: Extents<Unstable>,
    seq: Seq,
    /// Everything up to here shall be sent.
    send_to: Seq,
    /// Everything up to here shall be on stable storage.
    stable_to: Seq,
    /// There may be fresh bytes that shall be sent.
    urgent: bool,
    /// Where runs long enough for a WRITE were seen.
    full: VecDeque<u64>,
    next_id: u64,
    stamp: u64,
    commit: Option<u64>,
    frozen: bool,
}

impl Dirty {
    /// Bytes that are not on stable storage.
    pub(crate) const fn bytes(&self) -> u64 {
        self.fresh.bytes() + self.flying + self.unstable.bytes()
    }

    /// When the oldest byte was written that is not on stable storage.
    pub(crate) fn since(&self) -> Option<Instant> {
        let fresh = self.fresh.iter().map(|(_, _, tag)| tag.since);
        let flying = self.flights.values().flat_map(|flight| flight.pieces.iter().map(|(_, tag)| tag.since));
        fresh.chain(flying).chain(self.unstable.iter().map(|(_, _, tag)| tag.since)).min()
    }

    /// Nothing is left to do.
    pub(crate) fn is_clean(&self) -> bool {
        self.fresh.is_empty() && self.flights.is_empty() && self.unstable.is_empty() && self.commit.is_none()
    }

    /// The server does not have all bytes yet: what it says about the file's size and times is behind.
    pub(crate) fn is_ahead_of_server(&self) -> bool {
        !self.fresh.is_empty() || !self.flights.is_empty()
    }

    /// A WRITE or COMMIT is on its way.
    pub(crate) fn is_under_way(&self) -> bool {
        !self.flights.is_empty() || self.commit.is_some()
    }

    /// Where the last byte ends that the server may not have.
    pub(crate) fn end(&self) -> Option<u64> {
        let flying = self.flights.values().map(|flight| flight.range().end).max();
        self.fresh.end().max(flying)
    }

    /// Takes bytes written by a program. `max_write` as in [`Policy`].
    pub(crate) fn write(&mut self, offset: u64, data: Bytes, now: Instant, max_write: u64) {
        if data.is_empty() {
            return;
        }
        self.seq += 1;
        let range = offset..offset + data.len() as u64;
        self.unstable.cut(range.clone());
        self.fresh.cut(range.clone());
        if let Some(data) = self.fresh.append(offset, data, JOIN) {
            self.fresh.insert(offset, data, Fresh { seq: self.seq, since: now });
        }
        let run = self.fresh.run_around(offset, max_write);
        if run.end - run.start >= max_write && self.full.back() != Some(&run.start) {
            self.full.push_back(run.start);
        }
    }

    /// What the server must get before anything that follows: everything written so far. The number is for
    /// [`Self::is_sent`].
    pub(crate) const fn ask_sent(&mut self) -> Seq {
        self.send_to = self.seq;
        self.urgent = true;
        self.seq
    }

    /// Everything written so far shall be on stable storage. The number is for [`Self::is_stable`].
    pub(crate) const fn ask_stable(&mut self) -> Seq {
        self.stable_to = self.seq;
        self.urgent = true;
        self.seq
    }

    /// Whether the server has everything up to `seq`. Never while it is undecided what a truncation has cut off.
    pub(crate) fn is_sent(&self, seq: Seq) -> bool {
        !self.frozen && self.has_left(seq)
    }

    fn has_left(&self, seq: Seq) -> bool {
        self.flights.values().all(|flight| flight.oldest() > seq) && self.fresh.iter().all(|(_, _, tag)| tag.seq > seq)
    }

    /// Whether everything up to `seq` is on stable storage.
    pub(crate) fn is_stable(&self, seq: Seq) -> bool {
        self.is_sent(seq) && self.unstable.iter().all(|(_, _, tag)| tag.seq > seq)
    }

    /// The next thing to send, if any; ask until there is none.
    pub(crate) fn next(&mut self, now: Instant, policy: &Policy) -> Option<Action> {
        if self.frozen {
            return None;
        }
        if !self.urgent && !self.fresh.is_empty() {
            let too_old = |age| self.fresh.iter().any(|(_, _, tag)| now.saturating_duration_since(tag.since) >= age);
            if policy.send_now || policy.age.is_some_and(too_old) {
                self.ask_sent();
            }
        }
        if self.flights.len() < policy.max_flights
            && let Some(start) = self.urgent_run().or_else(|| self.full_run(policy))
        {
            return Some(self.take(start, policy));
        }
        self.wants_commit(now, policy).then(|| {
            self.commit = Some(self.stamp);
            Action::Commit
        })
    }

    fn target(&self) -> Seq {
        self.send_to.max(self.stable_to)
    }

    fn blocked(&self, range: &Range<u64>) -> bool {
        self.flights.values().any(|flight| flight.offset < range.end && range.start < flight.range().end)
    }

    /// The first fresh extent that must go and can.
    fn urgent_run(&mut self) -> Option<u64> {
        if !self.urgent {
            return None;
        }
        let target = self.target();
        let mut waiting = false;
        for (start, data, tag) in self.fresh.iter() {
            if tag.seq <= target {
                if !self.blocked(&(start..start + data.len() as u64)) {
                    return Some(start);
                }
                waiting = true;
            }
        }
        self.urgent = waiting;
        None
    }

    /// The start of a run that fills a WRITE.
    fn full_run(&mut self, policy: &Policy) -> Option<u64> {
        let mut looks = self.full.len();
        while looks > 0
            && let Some(start) = self.full.pop_front()
        {
            looks -= 1;
            let run = self.fresh.run_around(start, policy.max_write);
            if run.end - start < policy.max_write || self.fresh.at(start).is_none() {
                continue;
            }
            if self.blocked(&(start..start + policy.max_write)) {
                self.full.push_back(start);
                continue;
            }
            return Some(start);
        }
        None
    }

    /// Takes up to `max_write` bytes in one piece from `start` on.
    fn take(&mut self, start: u64, policy: &Policy) -> Action {
        let mut end = start;
        for (at, data, _) in
            self.fresh.within(start..start.saturating_add(policy.max_write)).map(|(at, data, _, tag)| (at, data, tag))
        {
            let range = at..at + data.len() as u64;
            if at != end || (at != start && self.blocked(&range)) {
                break;
            }
            end = range.end;
        }
        let pieces: Vec<_> = self.fresh.cut(start..end).into_iter().map(|(_, data, tag)| (data, tag)).collect();
        let data = pieces.iter().map(|(data, _)| data.clone()).collect();
        let stable_wanted = pieces.iter().any(|(_, tag)| tag.seq <= self.stable_to);
        let alone =
            self.fresh.is_empty() && self.flights.is_empty() && self.unstable.is_empty() && self.commit.is_none();
        self.next_id += 1;
        let flight = Flight { offset: start, len: end - start, pieces };
        // More of the same run may fill another WRITE.
        let rest = self.fresh.run_around(end, policy.max_write);
        if rest.start == end && rest.end - end >= policy.max_write {
            self.full.push_front(end);
        }
        self.flying += flight.len;
        self.flights.insert(self.next_id, flight);
        Action::Write { id: self.next_id, offset: start, data, sync: stable_wanted && alone }
    }

    fn wants_commit(&self, now: Instant, policy: &Policy) -> bool {
        if self.commit.is_some() || self.unstable.is_empty() {
            return false;
        }
        if policy.commit_soon && self.unstable.bytes() >= self.fresh.bytes() + self.flying {
            return true;
        }
        let too_old = |age| self.unstable.iter().any(|(_, _, tag)| now.saturating_duration_since(tag.since) >= age);
        if policy.commit_age.is_some_and(too_old) {
            return true;
        }
        self.unstable.iter().any(|(_, _, tag)| tag.seq <= self.stable_to) && self.is_sent(self.stable_to)
    }

    /// A WRITE was answered: `count` bytes arrived, on stable storage or as `verifier` says. Returns what is clean now.
    pub(crate) fn written(&mut self, id: u64, count: u64, stable: bool, verifier: [u8; 8]) -> Vec<Piece> {
        let Some(flight) = self.flights.remove(&id) else { return Vec::new() };
        self.flying -= flight.len;
        self.stamp += 1;
        let arrived = flight.offset + count.min(flight.len);
        let mut clean = Vec::new();
        let mut at = flight.offset;
        for (mut data, tag) in flight.pieces {
            let end = at + data.len() as u64;
            if end > arrived {
                // What did not arrive goes again, unless it was written anew meanwhile.
                let rest = data.split_off(arrived.saturating_sub(at).min(data.len() as u64) as usize);
                self.fresh.fill(end - rest.len() as u64, &rest, &tag);
                self.urgent = true;
                self.send_to = self.send_to.max(tag.seq);
            }
            for gap in self.fresh.gaps(at..at + data.len() as u64) {
                let part = data.slice((gap.start - at) as usize..(gap.end - at) as usize);
                if stable {
                    clean.push((gap.start, part));
                } else {
                    self.unstable.insert(
                        gap.start,
                        part,
                        Unstable { seq: tag.seq, verifier, stamp: self.stamp, since: tag.since },
                    );
                }
            }
            at = end;
        }
        clean
    }

    /// A WRITE failed for good: its bytes are lost. Returns where they were.
    pub(crate) fn failed(&mut self, id: u64) -> Option<Range<u64>> {
        let flight = self.flights.remove(&id)?;
        self.flying -= flight.len;
        Some(flight.range())
    }

    /// A COMMIT was answered. What was written under another verifier may be lost and becomes fresh again (RFC 8881
    /// §18.3.3). Returns what is clean now.
    pub(crate) fn committed(&mut self, verifier: [u8; 8]) -> Vec<Piece> {
        let mut clean = Vec::new();
        for (offset, data, tag) in self.take_committed() {
            if tag.verifier == verifier {
                clean.push((offset, data));
            } else {
                self.fresh.fill(offset, &data, &Fresh { seq: tag.seq, since: tag.since });
                self.send_to = self.send_to.max(tag.seq);
                self.urgent = true;
            }
        }
        clean
    }

    /// A COMMIT failed for good: what it should have covered is lost. Returns where that was.
    pub(crate) fn commit_failed(&mut self) -> Vec<Range<u64>> {
        self.take_committed().into_iter().map(|(offset, data, _)| offset..offset + data.len() as u64).collect()
    }

    fn take_committed(&mut self) -> Vec<(u64, Bytes, Unstable)> {
        let Some(stamp) = self.commit.take() else { return Vec::new() };
        let starts: Vec<u64> =
            self.unstable.iter().filter(|(_, _, tag)| tag.stamp <= stamp).map(|(start, _, _)| start).collect();
        let remove = |start| self.unstable.remove(start).map(|(data, tag)| (start, data, tag));
        starts.into_iter().filter_map(remove).collect()
    }

    /// The newest bytes within `range` that are not clean, in order.
    pub(crate) fn overlay(&self, range: Range<u64>) -> Vec<Piece> {
        let mut seen = Extents::default();
        for (at, data, _, _) in self.fresh.within(range.clone()) {
            seen.insert(at, data, ());
        }
        for flight in self.flights.values() {
            let mut at = flight.offset;
            for (data, _) in &flight.pieces {
                fill_within(&mut seen, at, data, &range);
                at += data.len() as u64;
            }
        }
        for (at, data, _, _) in self.unstable.within(range) {
            seen.fill(at, &data, &());
        }
        seen.iter().map(|(at, data, ())| (at, data.clone())).collect()
    }

    /// Nothing more is sent until [`Self::thaw`]: a truncation is under way. Only when nothing is flying.
    pub(crate) fn freeze(&mut self) {
        debug_assert!(self.flights.is_empty());
        self.frozen = true;
    }

    pub(crate) const fn thaw(&mut self) {
        self.frozen = false;
        self.urgent = true;
    }

    pub(crate) const fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Whether a truncation to `size` can go ahead: the server has everything below, and nothing is on its way.
    pub(crate) fn is_ready_for_truncation(&self, size: u64) -> bool {
        self.flights.is_empty() && !self.fresh.touches(0..size) && self.commit.is_none() && !self.frozen
    }

    /// Takes out what was not sent from `size` on. Until the truncation is decided, and [`Self::thaw`] is called, nobody knows
    /// what has become of it.
    pub(crate) fn cut_off(&mut self, size: u64) -> Vec<Cut> {
        self.fresh.cut(size..u64::MAX).into_iter().map(|(offset, data, tag)| Cut { offset, data, tag }).collect()
    }

    /// The file was cut to `size`: what was sent and lay behind it need not be kept.
    pub(crate) fn was_cut(&mut self, size: u64) {
        self.unstable.cut(size..u64::MAX);
    }

    /// Puts back what [`Self::cut_off`] took, when the truncation failed: with its numbers, for flushes wait for those.
    pub(crate) fn put_back(&mut self, cut: &[Cut]) {
        for Cut { offset, data, tag } in cut {
            self.fresh.fill(*offset, data, tag);
        }
    }
}

fn fill_within(seen: &mut Extents<()>, at: u64, data: &Bytes, range: &Range<u64>) {
    let start = range.start.max(at);
    let end = range.end.min(at + data.len() as u64);
    if start < end {
        seen.fill(start, &data.slice((start - at) as usize..(end - at) as usize), &());
    }
}

#[cfg(test)]
#[path = "dirty_tests.rs"]
mod tests;
