#![allow(clippy::unwrap_used)]
use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const SIZE: usize = 64;
const MAX_WRITE: u64 = 8;

fn policy() -> Policy {
    Policy {
        max_write: MAX_WRITE,
        max_flights: 3,
        age: Some(Duration::from_secs(1)),
        commit_age: Some(Duration::from_secs(30)),
        commit_soon: false,
        send_now: false,
    }
}

fn bytes(byte: u8, len: usize) -> Bytes {
    Bytes::from(vec![byte; len])
}

/// A server that keeps unstable bytes in memory until a COMMIT and loses them in a restart.
struct Server {
    stable: [u8; SIZE],
    volatile: [u8; SIZE],
    verifier: u8,
}

impl Server {
    fn write(&mut self, offset: u64, data: &[u8], sync: bool) {
        let range = offset as usize..offset as usize + data.len();
        self.volatile[range.clone()].copy_from_slice(data);
        if sync {
            self.stable[range].copy_from_slice(data);
        }
    }
}

#[derive(Debug, Clone)]
enum Event {
    Write(u64, usize, u8),
    Send,
    Answer(usize, u8),
    Restart,
    AskStable,
    Wait,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0u64..40, 1usize..24, 1u8..255).prop_map(|(at, len, byte)| Event::Write(at, len, byte)),
        3 => Just(Event::Send),
        3 => (0usize..4, 1u8..9).prop_map(|(which, count)| Event::Answer(which, count)),
        1 => Just(Event::Restart),
        1 => Just(Event::AskStable),
        1 => Just(Event::Wait),
    ]
}

struct World {
    dirty: Dirty,
    server: Server,
    model: [u8; SIZE],
    now: Instant,
    /// Sent and not answered: the server may carry them out at any time until then.
    open: HashMap<u64, (u64, Vec<u8>, bool)>,
    commit_open: bool,
}

impl World {
    fn new() -> Self {
        Self {
            dirty: Dirty::default(),
            server: Server { stable: [0; SIZE], volatile: [0; SIZE], verifier: 0 },
            model: [0; SIZE],
            now: Instant::now(),
            open: HashMap::new(),
            commit_open: false,
        }
    }

    fn send(&mut self) -> bool {
        match self.dirty.next(self.now, &policy()) {
            None => false,
            Some(Action::Commit) => {
                assert!(!self.commit_open, "two COMMITs at once");
                self.commit_open = true;
                true
            }
            Some(Action::Write { id, offset, data, sync }) => {
                let data: Vec<u8> = data.concat();
                assert!(!data.is_empty() && data.len() as u64 <= MAX_WRITE);
                for (other, bytes, _) in self.open.values() {
                    let apart = offset + data.len() as u64 <= *other || other + bytes.len() as u64 <= offset;
                    assert!(apart, "two WRITEs under way overlap");
                }
                self.open.insert(id, (offset, data, sync));
                true
            }
        }
    }

    fn answer(&mut self, which: usize, count: u8) {
        let mut ids: Vec<u64> = self.open.keys().copied().collect();
        ids.sort_unstable();
        if which < ids.len() {
            let (offset, data, sync) = self.open.remove(&ids[which]).unwrap();
            let count = usize::from(count).min(data.len());
            self.server.write(offset, &data[..count], sync);
            for (at, clean) in self.dirty.written(ids[which], count as u64, sync, [self.server.verifier; 8]) {
                let range = at as usize..at as usize + clean.len();
                assert_eq!(&self.server.stable[range], &clean[..], "clean bytes are not on stable storage");
            }
        } else if self.commit_open {
            self.commit_open = false;
            self.server.stable = self.server.volatile;
            for (at, clean) in self.dirty.committed([self.server.verifier; 8]) {
                let range = at as usize..at as usize + clean.len();
                assert_eq!(&self.server.stable[range], &clean[..], "clean bytes are not on stable storage");
            }
        }
    }

    fn check(&self) {
        let mut seen = self.server.volatile;
        for (at, data) in self.dirty.overlay(0..SIZE as u64) {
            seen[at as usize..at as usize + data.len()].copy_from_slice(&data);
        }
        assert_eq!(seen, self.model, "a reader would not see what was written");
    }

    fn settle(&mut self, seq: u64) {
        for _ in 0..1000 {
            if self.dirty.is_stable(seq) {
                return;
            }
            while self.send() {}
            self.answer(0, 8);
        }
        panic!("a flush never ends: {:?}", self.dirty);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_written_byte_is_ever_lost(events in prop::collection::vec(event(), 1..80)) {
        let mut world = World::new();
        for event in events {
            match event {
                Event::Write(at, len, byte) => {
                    let len = len.min(SIZE - at as usize);
                    world.dirty.write(at, bytes(byte, len), world.now, MAX_WRITE);
                    world.model[at as usize..at as usize + len].fill(byte);
                }
                Event::Send => {
                    world.send();
                }
                Event::Answer(which, count) => world.answer(which, count),
                Event::Restart => {
                    world.server.volatile = world.server.stable;
                    world.server.verifier += 1;
                }
                Event::AskStable => {
                    world.dirty.ask_stable();
                }
                Event::Wait => world.now += Duration::from_millis(600),
            }
            world.check();
        }
        let seq = world.dirty.ask_stable();
        world.settle(seq);
        prop_assert_eq!(world.server.stable, world.model, "a flush ended before the bytes were stable");
        for _ in 0..10 {
            world.answer(0, 8);
        }
        prop_assert!(world.dirty.is_clean());
        prop_assert_eq!(world.dirty.bytes(), 0);
    }

    #[test]
    fn a_flush_does_not_wait_for_what_is_written_after_it(first in 1u8..100, second in 101u8..200) {
        let mut world = World::new();
        world.dirty.write(0, bytes(first, 8), world.now, MAX_WRITE);
        world.model[..8].fill(first);
        let seq = world.dirty.ask_stable();
        while world.send() {}
        world.dirty.write(20, bytes(second, 4), world.now, MAX_WRITE);
        world.model[20..24].fill(second);
        world.answer(0, 8);
        prop_assert!(world.dirty.is_stable(seq));
        prop_assert!(!world.dirty.is_clean());
        world.check();
    }
}

#[test]
fn a_small_file_goes_out_as_one_stable_write() {
    let mut dirty = Dirty::default();
    let now = Instant::now();
    dirty.write(0, bytes(1, 5), now, MAX_WRITE);
    assert!(dirty.next(now, &policy()).is_none(), "a small piece waits for more");
    let seq = dirty.ask_stable();
    let Some(Action::Write { id, offset: 0, sync: true, .. }) = dirty.next(now, &policy()) else { panic!("no WRITE") };
    assert!(dirty.next(now, &policy()).is_none());
    assert_eq!(dirty.written(id, 5, true, [0; 8]), vec![(0, bytes(1, 5))]);
    assert!(dirty.is_stable(seq) && dirty.is_clean());
}

#[test]
fn many_writes_are_followed_by_one_commit() {
    let mut dirty = Dirty::default();
    let now = Instant::now();
    dirty.write(0, bytes(1, 20), now, MAX_WRITE);
    dirty.ask_stable();
    let mut ids = Vec::new();
    while let Some(Action::Write { id, sync, data, .. }) = dirty.next(now, &policy()) {
        assert!(!sync);
        ids.push((id, data.iter().map(Bytes::len).sum::<usize>()));
    }
    assert_eq!(ids.iter().map(|(_, len)| *len).collect::<Vec<_>>(), [8, 8, 4]);
    for (id, len) in ids {
        assert!(dirty.next(now, &policy()).is_none());
        dirty.written(id, len as u64, false, [7; 8]);
    }
    assert!(matches!(dirty.next(now, &policy()), Some(Action::Commit)));
    assert!(dirty.next(now, &policy()).is_none());
    dirty.committed([7; 8]);
    assert!(dirty.is_clean());
}

#[test]
fn a_full_write_goes_at_once_and_a_small_one_when_it_is_old() {
    let mut dirty = Dirty::default();
    let now = Instant::now();
    dirty.write(0, bytes(1, 9), now, MAX_WRITE);
    assert!(matches!(dirty.next(now, &policy()), Some(Action::Write { offset: 0, .. })));
    assert!(dirty.next(now, &policy()).is_none());
    let later = now + Duration::from_secs(1);
    assert!(matches!(dirty.next(later, &policy()), Some(Action::Write { offset: 8, .. })));
}

#[test]
fn what_was_sent_long_ago_is_committed_though_nobody_has_asked() {
    let mut dirty = Dirty::default();
    let now = Instant::now();
    dirty.write(0, bytes(1, MAX_WRITE as usize), now, MAX_WRITE);
    let Some(Action::Write { id, sync: false, .. }) = dirty.next(now, &policy()) else { panic!("no write") };
    dirty.written(id, MAX_WRITE, false, [1; 8]);
    let later = now + Duration::from_secs(30);
    assert!(dirty.next(now + Duration::from_millis(29_999), &policy()).is_none());
    assert!(dirty.next(later, &Policy { commit_age: None, ..policy() }).is_none());
    assert!(matches!(dirty.next(later, &policy()), Some(Action::Commit)));
    assert!(dirty.next(later, &policy()).is_none(), "once");
}

#[test]
fn a_truncation_takes_what_lies_behind_it_and_can_be_undone() {
    let mut dirty = Dirty::default();
    let now = Instant::now();
    dirty.write(10, bytes(3, 6), now, MAX_WRITE);
    assert!(dirty.is_ready_for_truncation(10));
    assert!(!dirty.is_ready_for_truncation(11));
    dirty.freeze();
    let cut = dirty.cut_off(12);
    assert_eq!(cut.len(), 1);
    assert_eq!((cut[0].offset, &cut[0].data), (12, &bytes(3, 4)));
    let all = dirty.ask_stable();
    assert!(dirty.next(now, &policy()).is_none(), "nothing is sent while frozen");
    assert!(!dirty.is_sent(all) && !dirty.is_stable(all), "nobody knows yet whether it was cut off");
    dirty.put_back(&cut);
    dirty.thaw();
    assert!(!dirty.is_sent(all), "it has to be sent after all");
    assert_eq!(dirty.overlay(0..100).iter().map(|(_, data)| data.len()).sum::<usize>(), 6);
}

#[test]
fn tiny_writes_in_a_row_become_one_piece() {
    let mut dirty = Dirty::default();
    let now = Instant::now();
    for at in 0..1000 {
        dirty.write(at, bytes(1, 1), now, 1 << 20);
    }
    assert_eq!(dirty.fresh.len(), 1);
    assert_eq!(dirty.bytes(), 1000);
}
