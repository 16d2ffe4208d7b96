//! The slot table of a session's fore channel (RFC 8881 §2.10.6.1): which slot the next request takes and with
//! which sequence id, so that the server can carry each request out exactly once.
//!
//! A slot holds one request at a time. Its sequence id rises by one when the server has taken the request, and
//! stays when the server refused to look at it (an error of SEQUENCE itself). The lowest free slot is taken, so that
//! the highest one in use tells the server how much of its reply cache is needed.

/// A slot taken for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotUse {
    /// Number of the slot, from 0.
    pub slot: u32,
    /// Sequence id of the request.
    pub sequence: u32,
    /// The highest slot in use, this one included.
    pub highest: u32,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    next_sequence: u32,
    busy: bool,
}

/// The slots of one session.
#[derive(Debug)]
pub struct SlotTable {
    slots: Vec<Slot>,
    /// Slots from here on are not taken: the server asked for fewer (RFC 8881 §2.10.6.1.3).
    usable: u32,
}

impl SlotTable {
    /// A table of `count` slots, at least one, as CREATE_SESSION granted.
    pub fn new(count: u32) -> Self {
        let count = count.max(1);
        Self { slots: vec![Slot { next_sequence: 1, busy: false }; count as usize], usable: count }
    }

    /// Takes the lowest free slot; `None` when all usable ones are busy.
    pub fn take(&mut self) -> Option<SlotUse> {
        let free = self.slots.iter().take(self.usable as usize).position(|slot| !slot.busy)?;
        self.slots[free].busy = true;
        let highest = self.slots.iter().rposition(|slot| slot.busy).unwrap_or(free);
        Some(SlotUse { slot: free as u32, sequence: self.slots[free].next_sequence, highest: highest as u32 })
    }

    /// Gives a slot back. `executed` says whether the server took the request into its reply cache, that is, whether
    /// its SEQUENCE succeeded.
    pub fn give_back(&mut self, used: SlotUse, executed: bool) {
        if let Some(slot) = self.slots.get_mut(used.slot as usize) {
            debug_assert!(slot.busy && slot.next_sequence == used.sequence);
            slot.busy = false;
            if executed {
                // Sequence ids wrap around to 0 (RFC 8881 §2.10.6.1).
                slot.next_sequence = used.sequence.wrapping_add(1);
            }
        }
    }

    /// The server's wish for the highest slot to be used; never more than the session has, never less than one slot.
    pub fn set_target(&mut self, highest: u32) {
        self.usable = highest.saturating_add(1).clamp(1, self.slots.len() as u32);
    }

    /// Requests under way.
    pub fn busy(&self) -> u32 {
        self.slots.iter().filter(|slot| slot.busy).count() as u32
    }

    /// Slots that may be taken.
    pub fn usable(&self) -> u32 {
        self.usable
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[derive(Debug, Clone)]
    enum Step {
        Take,
        GiveBack { which: prop::sample::Index, executed: bool },
        Target(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Take),
            4 => (any::<prop::sample::Index>(), any::<bool>())
                .prop_map(|(which, executed)| Step::GiveBack { which, executed }),
            1 => prop_oneof![0u32..12, any::<u32>()].prop_map(Step::Target),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn a_slot_never_holds_two_requests_and_its_sequence_rises_by_one_for_each_executed(
            count in 1u32..10, steps in steps(),
        ) {
            let mut table = SlotTable::new(count);
            let mut held: Vec<SlotUse> = Vec::new();
            let mut executed_on: HashMap<u32, u32> = HashMap::new();
            let mut usable = count;
            for step in steps {
                match step {
                    Step::Take => match table.take() {
                        Some(used) => {
                            prop_assert!(held.iter().all(|other| other.slot != used.slot));
                            prop_assert!(used.slot < usable);
                            prop_assert_eq!(used.sequence, 1 + executed_on.get(&used.slot).copied().unwrap_or(0));
                            let top = held.iter().map(|other| other.slot).chain([used.slot]).max();
                            prop_assert_eq!(Some(used.highest), top);
                            held.push(used);
                        }
                        None => prop_assert!((0..usable).all(|slot| held.iter().any(|other| other.slot == slot))),
                    },
                    Step::GiveBack { which, executed } => {
                        if !held.is_empty() {
                            let used = held.remove(which.index(held.len()));
                            table.give_back(used, executed);
                            *executed_on.entry(used.slot).or_default() += u32::from(executed);
                        }
                    }
                    Step::Target(highest) => {
                        table.set_target(highest);
                        usable = highest.saturating_add(1).clamp(1, count);
                        prop_assert_eq!(table.usable(), usable);
                    }
                }
                prop_assert_eq!(table.busy() as usize, held.len());
            }
        }
    }

    #[test]
    fn the_sequence_wraps_around_to_zero() {
        let mut table = SlotTable::new(1);
        table.slots[0].next_sequence = u32::MAX;
        let used = table.take().unwrap();
        table.give_back(used, true);
        assert_eq!(table.take().unwrap().sequence, 0);
    }
}
