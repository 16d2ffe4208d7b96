//! The back channel (RFC 8881 §2.10.3.1, §20): what the server asks of us. We hold no delegations and no layouts, so
//! most answers are "I have none"; CB_SEQUENCE is exactly-once on its one slot, as the fore channel is.

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::callback::{
    CbArgop4, CbCompound4args, CbCompound4res, CbResop4, CbSequence4args, CbSequence4resok, PROC_CB_COMPOUND,
};
use nfs4::rpc::{AcceptStat, CallHeader, Message, PROC_NULL, ReplyHeader, ReplyStatus};
use nfs4::types::Sessionid4;
use nfs4::xdr::{Reader, Writer, decode};

/// Slots of the back channel that we offer.
pub(crate) const CB_SLOTS: u32 = 1;

/// The back channel of one session.
#[derive(Debug)]
pub(crate) struct BackChannel {
    session: Sessionid4,
    /// Sequence id of the last request, and its answer.
    last: (u32, Option<CbCompound4res>),
}

/// What a callback changes beside its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The server wants no slot above this one to be used.
    TargetHighestSlot(u32),
}

impl BackChannel {
    pub(crate) fn new(session: Sessionid4) -> Self {
        Self { session, last: (0, None) }
    }

    /// Answers one call record; `None` when it is not a call that can be answered.
    pub(crate) fn answer(&mut self, record: Bytes) -> Option<(Vec<Bytes>, Vec<Effect>)> {
        let mut input = Reader::new(record);
        let Ok(Message::Call(call)) = decode::<Message>(&mut input) else { return None };
        let mut effects = Vec::new();
        let (status, body) = match call.proc {
            PROC_NULL => (ReplyStatus::Success, None),
            PROC_CB_COMPOUND => match decode::<CbCompound4args>(&mut input) {
                Ok(args) => (ReplyStatus::Success, Some(self.compound(args, &mut effects))),
                Err(_) => (ReplyStatus::Failed(AcceptStat::GarbageArgs), None),
            },
            _ => (ReplyStatus::Failed(AcceptStat::ProcUnavail), None),
        };
        Some((reply(&call, status, body.as_ref())?, effects))
    }

    fn compound(&mut self, args: CbCompound4args, effects: &mut Vec<Effect>) -> CbCompound4res {
        let fail = |tag, status| CbCompound4res { status: Err(status), tag, resarray: Vec::new() };
        let mut ops = args.argarray.into_iter();
        let sequence = match ops.next() {
            None => return CbCompound4res { status: Ok(()), tag: args.tag, resarray: Vec::new() },
            Some(CbArgop4::Sequence(sequence)) => sequence,
            Some(_) => return fail(args.tag, Nfs4Error::OpNotInSession),
        };
        match self.sequence(&sequence) {
            Turn::Refused(error) => {
                return CbCompound4res {
                    status: Err(error),
                    tag: args.tag,
                    resarray: vec![CbResop4::Sequence(Err(error))],
                };
            }
            Turn::Again => {
                if let Some(answer) = self.last.1.clone() {
                    return answer;
                }
                return fail(args.tag, Nfs4Error::RetryUncachedRep);
            }
            Turn::New => {}
        }
        let mut resarray = vec![CbResop4::Sequence(Ok(CbSequence4resok {
            csr_sessionid: sequence.csa_sessionid,
            csr_sequenceid: sequence.csa_sequenceid,
            csr_slotid: sequence.csa_slotid,
            csr_highest_slotid: CB_SLOTS - 1,
            csr_target_highest_slotid: CB_SLOTS - 1,
        }))];
        let mut status = Ok(());
        for op in ops {
            let result = answer_one(&op, effects);
            status = result.error().map_or(Ok(()), Err);
            resarray.push(result);
            if status.is_err() {
                break;
            }
        }
        let answer = CbCompound4res { status, tag: args.tag, resarray };
        self.last = (sequence.csa_sequenceid, Some(answer.clone()));
        answer
    }

    fn sequence(&self, args: &CbSequence4args) -> Turn {
        if args.csa_sessionid != self.session {
            Turn::Refused(Nfs4Error::Badsession)
        } else if args.csa_slotid >= CB_SLOTS {
            Turn::Refused(Nfs4Error::Badslot)
        } else if args.csa_sequenceid == self.last.0.wrapping_add(1) {
            Turn::New
        } else if args.csa_sequenceid == self.last.0 {
            Turn::Again
        } else {
            Turn::Refused(Nfs4Error::SeqMisordered)
        }
    }
}

enum Turn {
    New,
    Again,
    Refused(Nfs4Error),
}

fn answer_one(op: &CbArgop4, effects: &mut Vec<Effect>) -> CbResop4 {
    match op {
        CbArgop4::RecallSlot(args) => {
            effects.push(Effect::TargetHighestSlot(args.rsa_target_highest_slotid));
            CbResop4::RecallSlot(Ok(()))
        }
        CbArgop4::RecallAny(_) => CbResop4::RecallAny(Ok(())),
        CbArgop4::NotifyLock(_) => CbResop4::NotifyLock(Ok(())),
        CbArgop4::AwsfileHeartbeat(_) => CbResop4::AwsfileHeartbeat(Ok(())),
        // We hold nothing of what these are about.
        CbArgop4::Recall(_) => CbResop4::Recall(Err(Nfs4Error::BadStateid)),
        CbArgop4::Layoutrecall(_) => CbResop4::Layoutrecall(Err(Nfs4Error::NomatchingLayout)),
        CbArgop4::Getattr(_) => CbResop4::Getattr(Err(Nfs4Error::Badhandle)),
        CbArgop4::Sequence(_) => CbResop4::Sequence(Err(Nfs4Error::SequencePos)),
        CbArgop4::Illegal | CbArgop4::Unknown(_) => CbResop4::Illegal(Err(Nfs4Error::OpIllegal)),
        other => CbResop4::failed(other.opnum(), Nfs4Error::Notsupp),
    }
}

fn reply(call: &CallHeader, status: ReplyStatus, body: Option<&CbCompound4res>) -> Option<Vec<Bytes>> {
    let mut out = Writer::new();
    out.put(&Message::Reply(ReplyHeader { xid: call.xid, status })).ok()?;
    if let Some(body) = body {
        out.put(body).ok()?;
    }
    Some(out.into_segments())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nfs4::callback::{CbAwsfileHeartbeatArgs, CbRecall4args, CbRecallSlot4args};
    use nfs4::rpc::OpaqueAuth;
    use nfs4::types::{NfsFh4, Stateid4};

    const SESSION: Sessionid4 = Sessionid4([7; 16]);

    fn sequence(sequenceid: u32) -> CbArgop4 {
        CbArgop4::Sequence(CbSequence4args {
            csa_sessionid: SESSION,
            csa_sequenceid: sequenceid,
            csa_slotid: 0,
            csa_highest_slotid: 0,
            csa_cachethis: false,
            csa_referring_call_lists: Vec::new().into(),
        })
    }

    fn call(proc: u32, ops: Option<Vec<CbArgop4>>) -> Bytes {
        let mut out = Writer::new();
        let header =
            CallHeader { xid: 9, prog: 0x4000_0000, vers: 1, proc, cred: OpaqueAuth::none(), verf: OpaqueAuth::none() };
        out.put(&Message::Call(header)).unwrap();
        if let Some(argarray) = ops {
            out.put(&CbCompound4args { minorversion: 2, argarray, ..CbCompound4args::default() }).unwrap();
        }
        out.into_bytes()
    }

    fn ask(channel: &mut BackChannel, ops: Vec<CbArgop4>) -> (CbCompound4res, Vec<Effect>) {
        let (segments, effects) = channel.answer(call(PROC_CB_COMPOUND, Some(ops))).unwrap();
        let mut input = Reader::new(segments.concat().into());
        assert_eq!(
            input.get::<Message>().unwrap(),
            Message::Reply(ReplyHeader { xid: 9, status: ReplyStatus::Success })
        );
        (input.get().unwrap(), effects)
    }

    #[test]
    fn null_is_answered_with_nothing() {
        let (segments, _) = BackChannel::new(SESSION).answer(call(PROC_NULL, None)).unwrap();
        assert_eq!(segments.concat().len(), 24);
    }

    #[test]
    fn the_heartbeat_is_answered_with_ok() {
        let heartbeat = CbArgop4::AwsfileHeartbeat(CbAwsfileHeartbeatArgs { clientid: 1 });
        let (answer, _) = ask(&mut BackChannel::new(SESSION), vec![sequence(1), heartbeat]);
        assert_eq!(answer.status, Ok(()));
        assert_eq!(answer.resarray.len(), 2);
    }

    #[test]
    fn an_unknown_operation_is_illegal_and_ends_the_compound() {
        let (answer, _) = ask(&mut BackChannel::new(SESSION), vec![sequence(1), CbArgop4::Unknown(4242)]);
        assert_eq!(answer.status, Err(Nfs4Error::OpIllegal));
    }

    #[test]
    fn a_recall_of_what_we_do_not_hold_is_a_bad_stateid() {
        let recall =
            CbArgop4::Recall(CbRecall4args { stateid: Stateid4::ANONYMOUS, truncate: false, fh: NfsFh4::default() });
        let (answer, _) = ask(&mut BackChannel::new(SESSION), vec![sequence(1), recall]);
        assert_eq!(answer.status, Err(Nfs4Error::BadStateid));
    }

    #[test]
    fn a_repeated_request_gets_the_same_answer_and_has_no_second_effect() {
        let mut channel = BackChannel::new(SESSION);
        let ops = vec![sequence(1), CbArgop4::RecallSlot(CbRecallSlot4args { rsa_target_highest_slotid: 3 })];
        let (first, effects) = ask(&mut channel, ops.clone());
        assert_eq!(effects, [Effect::TargetHighestSlot(3)]);
        let (second, effects) = ask(&mut channel, ops);
        assert_eq!((second, effects), (first, vec![]));
        let (skipped, _) = ask(&mut channel, vec![sequence(3)]);
        assert_eq!(skipped.status, Err(Nfs4Error::SeqMisordered));
    }

    #[test]
    fn a_foreign_session_and_a_missing_sequence_are_refused() {
        let mut channel = BackChannel::new(Sessionid4([8; 16]));
        assert_eq!(ask(&mut channel, vec![sequence(1)]).0.status, Err(Nfs4Error::Badsession));
        assert_eq!(ask(&mut channel, vec![CbArgop4::Illegal]).0.status, Err(Nfs4Error::OpNotInSession));
    }

    #[test]
    fn garbage_is_not_answered_or_answered_as_garbage() {
        let mut channel = BackChannel::new(SESSION);
        assert!(channel.answer(Bytes::from_static(b"\0\0")).is_none());
        assert!(channel.answer(call(PROC_CB_COMPOUND, None)).is_some());
    }
}
