//! Failures on purpose at the level of records and connections: which call, the how many-th time, and how the
//! connection or the reply suffers. Whatever concerns the result of an operation belongs to `nfs::faults` instead.
//!
//! The plan only looks: a call's operations are decoded here when there is a rule at all, so it works in front of any
//! server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use nfs4::compound::Argop4;
use nfs4::ops::open::OpenClaim4;
use nfs4::xdr::{Opaque, Reader};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use crate::bind::BindFault;
use crate::outlet::ReplyFault;

/// What a rule waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// A COMPOUND with this operation.
    Operation(u32),
    /// Any COMPOUND.
    AnyCompound,
    /// A new connection.
    Connect,
    /// A call of `bind_client_to_partition`.
    Bind,
    /// A call of `channel_init`.
    ChannelInit,
    /// This many bytes from clients, all connections together, since the rule was made.
    BytesIn(u64),
}

/// What goes wrong on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireAction {
    /// The connection is cut and the call is not carried out.
    CutBefore,
    /// The call is carried out, and its reply is spoiled.
    Reply(ReplyFault),
    /// So many random bytes take the place of the reply, with a record mark or without.
    RandomBytes {
        /// How many.
        len: usize,
        /// Whether they come without a record mark.
        raw: bool,
    },
    /// The call is carried out twice, and answered twice, as if it had come twice.
    DuplicateRequest,
    /// A new connection gets a fatal alert instead of a handshake; an established one gets it instead of the reply.
    Alert,
    /// A new connection is left alone: nothing is ever sent on it.
    Silence,
    /// Bind gives this answer.
    Bind(BindFault),
}

/// An action and when it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireRule {
    /// What it waits for.
    pub on: On,
    /// Only compounds with an operation on this name (LOOKUP, OPEN, CREATE, REMOVE, RENAME).
    pub name: Option<Vec<u8>>,
    /// Only compounds with a READ or WRITE that touches this byte.
    pub offset: Option<u64>,
    /// So many matching events are left alone first.
    pub skip: u64,
    /// So many matching events are hit then.
    pub times: u64,
    /// Nothing is hit before the mock has run for so long.
    pub after: Duration,
    /// What happens.
    pub action: WireAction,
}

impl WireRule {
    /// The first event is hit, once.
    pub fn once(on: On, action: WireAction) -> Self {
        Self { on, name: None, offset: None, skip: 0, times: 1, after: Duration::ZERO, action }
    }
}

/// What a rule looks at in an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Subject {
    opnum: u32,
    name: Option<Bytes>,
    range: Option<(u64, u64)>,
}

impl Subject {
    fn of(op: &Argop4) -> Self {
        let name = match op {
            Argop4::Lookup(args) => Some(args.objname.0.clone()),
            Argop4::Create(args) => Some(args.objname.0.clone()),
            Argop4::Remove(args) => Some(args.target.0.clone()),
            Argop4::Rename(args) => Some(args.oldname.0.clone()),
            Argop4::Open(args) => match &args.claim {
                OpenClaim4::Null(name) => Some(name.0.clone()),
                _ => None,
            },
            _ => None,
        };
        let range = match op {
            Argop4::Read(args) | Argop4::ReadBypass(args) => Some((args.offset, u64::from(args.count))),
            Argop4::Write(args) => Some((args.offset, args.len() as u64)),
            _ => None,
        };
        Self { opnum: op.opnum(), name, range }
    }

    fn fits(&self, rule: &WireRule) -> bool {
        let operation = match rule.on {
            On::Operation(opnum) => opnum == self.opnum,
            On::AnyCompound => true,
            _ => false,
        };
        operation
            && rule.name.as_ref().is_none_or(|name| self.name.as_ref().is_some_and(|mine| mine == name))
            && rule
                .offset
                .is_none_or(|byte| self.range.is_some_and(|(offset, len)| offset <= byte && byte - offset < len.max(1)))
    }
}

/// The operations of a COMPOUND, as far as they decode.
fn subjects(args: &Bytes) -> Vec<Subject> {
    let mut input = Reader::new(args.clone());
    let mut found = Vec::new();
    if input.get::<Opaque>().is_err() || input.get::<u32>().is_err() {
        return found;
    }
    for _ in 0..input.get::<u32>().unwrap_or(0) {
        match input.get::<Argop4>() {
            Ok(op) => found.push(Subject::of(&op)),
            Err(_) => break,
        }
    }
    found
}

/// The rules. The first that fits an event acts; each rule counts the events that fit it.
#[derive(Debug)]
struct WirePlan {
    rules: Vec<WireRule>,
    random: StdRng,
    acted: u64,
}

impl WirePlan {
    fn judge(&mut self, running: Duration, fits: impl Fn(&WireRule) -> bool) -> Option<WireAction> {
        let mut hit = None;
        for rule in self.rules.iter_mut().filter(|rule| running >= rule.after && fits(rule)) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if hit.is_none() {
                rule.times -= 1;
                hit = Some(rule.action.clone());
            }
        }
        self.rules.retain(|rule| rule.times > 0);
        self.acted += u64::from(hit.is_some());
        hit.map(|action| match action {
            WireAction::RandomBytes { len, raw } => {
                let mut bytes = vec![0; len];
                self.random.fill_bytes(&mut bytes);
                WireAction::Reply(if raw {
                    ReplyFault::RawGarbage(bytes.into())
                } else {
                    ReplyFault::Garbage(bytes.into())
                })
            }
            other => other,
        })
    }

    /// Bytes came in: how many of them count when the connection is cut there.
    fn bytes_in(&mut self, running: Duration, len: u64) -> Option<u64> {
        let mut kept = None;
        for rule in &mut self.rules {
            if let On::BytesIn(left) = &mut rule.on
                && running >= rule.after
            {
                if *left <= len {
                    kept = Some(kept.unwrap_or(len).min(*left));
                    rule.times = 0;
                    self.acted += 1;
                }
                *left = left.saturating_sub(len);
            }
        }
        self.rules.retain(|rule| rule.times > 0);
        kept
    }
}

/// The plan of a mock, shared by its connections.
#[derive(Debug)]
pub(crate) struct WireFaults {
    armed: AtomicBool,
    plan: Mutex<WirePlan>,
}

impl WireFaults {
    /// No rules yet; random bytes come from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            armed: AtomicBool::new(false),
            plan: Mutex::new(WirePlan { rules: Vec::new(), random: StdRng::seed_from_u64(seed), acted: 0 }),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut WirePlan) -> T) -> T {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut plan);
        self.armed.store(!plan.rules.is_empty(), Ordering::Release);
        result
    }

    fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Acquire)
    }

    /// Adds a rule; one that hits no time does nothing.
    pub(crate) fn add(&self, rule: WireRule) {
        if rule.times > 0 {
            self.with(|plan| plan.rules.push(rule));
        }
    }

    /// Takes all rules away.
    pub(crate) fn clear(&self) {
        self.with(|plan| plan.rules.clear());
    }

    /// How often a rule acted.
    pub(crate) fn acted(&self) -> u64 {
        self.with(|plan| plan.acted)
    }

    /// What happens to a COMPOUND with these arguments.
    pub(crate) fn compound(&self, args: &Bytes, running: Duration) -> Option<WireAction> {
        if !self.is_armed() {
            return None;
        }
        let subjects = subjects(args);
        self.with(|plan| {
            plan.judge(running, |rule| {
                subjects.iter().any(|subject| subject.fits(rule))
                    || (rule.on == On::AnyCompound && rule.name.is_none() && rule.offset.is_none())
            })
        })
    }

    /// What happens to another event.
    pub(crate) fn event(&self, on: On, running: Duration) -> Option<WireAction> {
        if !self.is_armed() {
            return None;
        }
        self.with(|plan| plan.judge(running, |rule| rule.on == on))
    }

    /// Where the connection is cut in the bytes that just came.
    pub(crate) fn bytes_in(&self, len: usize, running: Duration) -> Option<usize> {
        if !self.is_armed() {
            return None;
        }
        self.with(|plan| plan.bytes_in(running, len as u64)).map(|kept| kept as usize)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nfs4::ops::dir::Lookup4args;
    use nfs4::ops::file::Read4args;
    use nfs4::types::Stateid4;
    use nfs4::xdr::Writer;

    const NOW: Duration = Duration::ZERO;
    const READ: u32 = 25;

    fn compound(ops: &[Argop4]) -> Bytes {
        let mut out = Writer::new();
        out.put(&Opaque::from("tag")).unwrap();
        out.put(&2u32).unwrap();
        out.put(&(ops.len() as u32)).unwrap();
        for op in ops {
            out.put(op).unwrap();
        }
        out.into_bytes()
    }

    fn read(offset: u64, count: u32) -> Bytes {
        compound(&[
            Argop4::Putrootfh,
            Argop4::Read(Read4args {
                stateid: Stateid4 { seqid: 0, other: nfs4::types::StateidOther([0; 12]) },
                offset,
                count,
            }),
        ])
    }

    fn lookup(name: &str) -> Bytes {
        compound(&[Argop4::Lookup(Lookup4args { objname: name.into() })])
    }

    fn faults(rule: WireRule) -> WireFaults {
        let faults = WireFaults::new(1);
        faults.add(rule);
        faults
    }

    #[test]
    fn the_nth_operation_of_a_kind_is_hit_and_no_other() {
        let faults =
            faults(WireRule { skip: 1, times: 2, ..WireRule::once(On::Operation(READ), WireAction::CutBefore) });
        let hits: Vec<bool> = [read(0, 1), lookup("a"), read(0, 1), read(0, 1), read(0, 1)]
            .iter()
            .map(|args| faults.compound(args, NOW).is_some())
            .collect();
        assert_eq!(hits, [false, false, true, true, false]);
        assert_eq!(faults.acted(), 2);
    }

    #[test]
    fn names_and_bytes_narrow_a_rule_down() {
        let named =
            faults(WireRule { name: Some(b"b".to_vec()), ..WireRule::once(On::AnyCompound, WireAction::CutBefore) });
        assert!(named.compound(&lookup("a"), NOW).is_none());
        assert!(named.compound(&lookup("b"), NOW).is_some());
        let byte = faults(WireRule { offset: Some(100), ..WireRule::once(On::Operation(READ), WireAction::CutBefore) });
        assert!(byte.compound(&read(0, 100), NOW).is_none());
        assert!(byte.compound(&read(100, 1), NOW).is_some());
    }

    #[test]
    fn a_rule_sleeps_until_its_time() {
        let faults =
            faults(WireRule { after: Duration::from_secs(5), ..WireRule::once(On::Connect, WireAction::Alert) });
        assert!(faults.event(On::Connect, NOW).is_none());
        assert!(faults.event(On::Bind, Duration::from_secs(6)).is_none());
        assert!(faults.event(On::Connect, Duration::from_secs(6)).is_some());
    }

    #[test]
    fn a_connection_is_cut_at_the_byte_that_the_rule_names() {
        let faults = faults(WireRule::once(On::BytesIn(1000), WireAction::CutBefore));
        assert_eq!(faults.bytes_in(900, NOW), None);
        assert_eq!(faults.bytes_in(500, NOW), Some(100));
        assert_eq!(faults.bytes_in(5000, NOW), None);
    }

    #[test]
    fn random_bytes_come_from_the_seed() {
        let bytes = || {
            let action = WireAction::RandomBytes { len: 16, raw: true };
            faults(WireRule::once(On::AnyCompound, action)).compound(&read(0, 1), NOW)
        };
        assert!(matches!(bytes(), Some(WireAction::Reply(ReplyFault::RawGarbage(b))) if b.len() == 16));
        assert_eq!(bytes(), bytes());
    }

    #[test]
    fn calls_that_do_not_decode_still_count_as_compounds() {
        let faults = faults(WireRule::once(On::AnyCompound, WireAction::CutBefore));
        assert!(faults.compound(&Bytes::from_static(b"?"), NOW).is_some());
    }
}
