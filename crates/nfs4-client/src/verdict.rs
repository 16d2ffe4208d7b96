//! What a reply means: for its slot ([`judge`]), and for the request that waits for it ([`verdict`]).

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::file::Putfh4args;
use nfs4::ops::lock::Locker4;
use nfs4::ops::open::OpenClaim4;
use nfs4::types::{NfsFh4, Sessionid4, Stateid4};

use crate::compound::{Replies, decode_compound};
use crate::error::Error;
use crate::session::SlotUse;

/// What a reply means for its slot.
#[derive(Debug)]
pub(crate) enum Judged {
    /// SEQUENCE went through: the slot moves on.
    Executed { results: Vec<Resop4>, flags: u32, target: u32 },
    /// Ask again on the same slot, later.
    Wait,
    /// The server did not look at the request.
    Refused(Error),
    /// The server looked at it, but the answer cannot be read.
    Garbled(Error),
    /// The request was carried out before and its answer is gone.
    Uncached,
    /// The connection does not belong to the session.
    NotBound,
    /// The session is gone, or we and the server do not agree about the slot; `executed` says whether the server may
    /// have carried this out all the same.
    SessionGone { executed: bool },
}

pub(crate) fn judge(record: Bytes, session: &Sessionid4, used: SlotUse) -> Judged {
    let mut compound = match decode_compound(record) {
        Ok(compound) => compound,
        Err(error @ Error::Nfs { .. }) => return Judged::Refused(error),
        Err(error) => return Judged::Garbled(error),
    };
    if compound.resarray.is_empty() {
        return match compound.status {
            Err(Nfs4Error::Delay) => Judged::Wait,
            Err(status) => Judged::Refused(Error::Nfs { op: "COMPOUND", status }),
            Ok(()) => Judged::Garbled(Error::BadReply { op: "SEQUENCE", why: "there is no result".into() }),
        };
    }
    match compound.resarray.remove(0) {
        Resop4::Sequence(Ok(ok)) => {
            if ok.sr_sessionid != *session || ok.sr_slotid != used.slot || ok.sr_sequenceid != used.sequence {
                return Judged::SessionGone { executed: true };
            }
            // RFC 8881 §2.10.6.1.3: a repeated request may be told so behind SEQUENCE.
            if compound.resarray.first().and_then(Resop4::error) == Some(Nfs4Error::RetryUncachedRep) {
                return Judged::Uncached;
            }
            Judged::Executed {
                results: compound.resarray,
                flags: ok.sr_status_flags,
                target: ok.sr_target_highest_slotid,
            }
        }
        Resop4::Sequence(Err(status)) => match status {
            Nfs4Error::Delay => Judged::Wait,
            Nfs4Error::RetryUncachedRep => Judged::Uncached,
            Nfs4Error::ConnNotBoundToSession => Judged::NotBound,
            Nfs4Error::Badsession
            | Nfs4Error::Deadsession
            | Nfs4Error::StaleClientid
            | Nfs4Error::Expired
            | Nfs4Error::Badslot
            | Nfs4Error::BadHighSlot
            | Nfs4Error::SeqMisordered
            | Nfs4Error::SeqFalseRetry => Judged::SessionGone { executed: false },
            status => Judged::Refused(Error::Nfs { op: "SEQUENCE", status }),
        },
        other => Judged::Garbled(Replies::mismatch("SEQUENCE", &other)),
    }
}

/// What the results of a request mean for the request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They are the answer.
    Final,
    /// Send it again, later.
    Delay,
    /// The operations before the last were carried out and must not be repeated; send these, later.
    DelayedAfter(Vec<Argop4>),
    /// The stateid has to be made good first.
    StateGone,
}

/// Operations that must not be carried out twice.
fn must_not_repeat(op: &Argop4) -> bool {
    matches!(
        op,
        Argop4::Create(_)
            | Argop4::Remove(_)
            | Argop4::Rename(_)
            | Argop4::Link(_)
            | Argop4::Open(_)
            | Argop4::Close(_)
            | Argop4::OpenDowngrade(_)
            | Argop4::Lock(_)
            | Argop4::Locku(_)
            | Argop4::Copy(_)
            | Argop4::Setxattr(_)
            | Argop4::Removexattr(_)
    )
}

pub(crate) fn verdict(ops: &[Argop4], results: &[Resop4]) -> Verdict {
    let Some(failed) = results.last().and_then(Resop4::error) else { return Verdict::Final };
    let at = results.len() - 1;
    match failed {
        Nfs4Error::Delay | Nfs4Error::Grace => {
            if ops[..at.min(ops.len())].iter().any(must_not_repeat) {
                tail(ops, results, at).map_or(Verdict::Final, Verdict::DelayedAfter)
            } else {
                Verdict::Delay
            }
        }
        Nfs4Error::BadStateid
        | Nfs4Error::StaleStateid
        | Nfs4Error::Expired
        | Nfs4Error::AdminRevoked
        | Nfs4Error::DelegRevoked => {
            if uses_state(ops.get(at)) {
                Verdict::StateGone
            } else {
                Verdict::Final
            }
        }
        _ => Verdict::Final,
    }
}

fn uses_state(op: Option<&Argop4>) -> bool {
    let stateid = match op {
        Some(Argop4::Read(args)) => args.stateid,
        Some(Argop4::Write(args)) => args.stateid,
        Some(Argop4::Setattr(args)) => args.stateid,
        Some(Argop4::Seek(args)) => args.sa_stateid,
        Some(Argop4::Allocate(args) | Argop4::Deallocate(args)) => args.aa_stateid,
        Some(Argop4::Copy(args)) => args.ca_dst_stateid,
        Some(Argop4::Locku(args)) => args.lock_stateid,
        Some(Argop4::Lock(args)) => match &args.locker {
            Locker4::Exist(locker) => locker.lock_stateid,
            Locker4::OpenOwner(locker) => locker.open_stateid,
        },
        _ => return false,
    };
    !stateid.is_special()
}

/// The operations from `at` on as a compound of their own, when the file handle they stand on is known.
fn tail(ops: &[Argop4], results: &[Resop4], at: usize) -> Option<Vec<Argop4>> {
    let mut current: Option<NfsFh4> = None;
    let mut saved: Option<NfsFh4> = None;
    let mut stateid: Option<Stateid4> = None;
    for (op, result) in ops.iter().zip(results).take(at) {
        match (op, result) {
            (Argop4::Putfh(args), _) => current = Some(args.object.clone()),
            (Argop4::Savefh, _) => saved.clone_from(&current),
            (Argop4::Restorefh, _) => current.clone_from(&saved),
            (_, Resop4::Getfh(Ok(got))) => current = Some(got.object.clone()),
            (Argop4::Open(args), Resop4::Open(Ok(opened))) => {
                stateid = Some(opened.stateid);
                if !matches!(args.claim, OpenClaim4::Fh | OpenClaim4::Previous(_)) {
                    current = None;
                }
            }
            (Argop4::Create(_) | Argop4::Lookup(_) | Argop4::Lookupp | Argop4::Putrootfh, _) => current = None,
            _ => {}
        }
    }
    let mut tail = vec![Argop4::Putfh(Putfh4args { object: current? })];
    for op in ops.get(at..)? {
        tail.push(match (op, stateid) {
            (Argop4::Setattr(args), Some(stateid)) if args.stateid == Stateid4::CURRENT => {
                let mut args = args.clone();
                args.stateid = stateid;
                Argop4::Setattr(args)
            }
            (Argop4::Read(args), Some(stateid)) if args.stateid == Stateid4::CURRENT => {
                let mut args = args.clone();
                args.stateid = stateid;
                Argop4::Read(args)
            }
            (Argop4::Write(args), Some(stateid)) if args.stateid == Stateid4::CURRENT => {
                let mut args = args.clone();
                args.stateid = stateid;
                Argop4::Write(args)
            }
            // What these stand on besides the current file handle is not carried over.
            (Argop4::Restorefh | Argop4::Rename(_) | Argop4::Link(_), _) => return None,
            (op, _) => op.clone(),
        });
    }
    Some(tail)
}

/// A compound continued in the middle starts with a PUTFH of its own, whose result nobody asked for.
pub(crate) fn skip_restored(rest: &mut Option<Vec<Argop4>>, mut results: Vec<Resop4>) -> Vec<Resop4> {
    if rest.take().is_some() && !results.is_empty() {
        results.remove(0);
    }
    results
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use nfs4::ops::file::{Getattr4args, Read4args, Setattr4args, Write4args};
    use nfs4::ops::open::{Close4args, Open4resok, OpenDelegation4};
    use nfs4::types::{Bitmap4, ChangeInfo4, NfsFh4, StableHow4};

    fn putfh(byte: u8) -> Argop4 {
        Argop4::Putfh(Putfh4args { object: handle(byte) })
    }

    fn handle(byte: u8) -> NfsFh4 {
        NfsFh4(vec![byte].into())
    }

    fn stateid(byte: u8) -> Stateid4 {
        Stateid4 { seqid: 1, other: nfs4::types::StateidOther([byte; 12]) }
    }

    fn read(stateid: Stateid4) -> Argop4 {
        Argop4::Read(Read4args { stateid, offset: 0, count: 1 })
    }

    fn getattr() -> Argop4 {
        Argop4::Getattr(Getattr4args { attr_request: Bitmap4::default() })
    }

    fn opened() -> Resop4 {
        Resop4::Open(Ok(Open4resok {
            stateid: stateid(9),
            cinfo: ChangeInfo4 { atomic: true, before: 1, after: 2 },
            rflags: 0,
            attrset: Bitmap4::default(),
            delegation: OpenDelegation4::None,
        }))
    }

    fn open_op(claim: OpenClaim4) -> Argop4 {
        crate::keeper::open_claim(&"owner".into(), crate::OpenAccess::Read, claim)
    }

    #[test]
    fn a_delayed_compound_that_changed_nothing_is_sent_again_whole() {
        let ops = [putfh(1), read(stateid(2))];
        let results = [Resop4::Putfh(Ok(())), Resop4::Read(Err(Nfs4Error::Delay))];
        assert_eq!(verdict(&ops, &results), Verdict::Delay);
    }

    #[test]
    fn what_was_carried_out_before_a_delay_is_not_sent_again() {
        let truncate =
            |stateid| Argop4::Setattr(Setattr4args { stateid, obj_attributes: nfs4::attr::Fattr4::default() });
        let ops =
            [putfh(1), open_op(OpenClaim4::Null("name".into())), Argop4::Getfh, truncate(Stateid4::CURRENT), getattr()];
        let getfh = Resop4::Getfh(Ok(nfs4::ops::file::Getfh4resok { object: handle(5) }));
        let results = [Resop4::Putfh(Ok(())), opened(), getfh, Resop4::Getattr(Err(Nfs4Error::Delay))];
        let expected = vec![putfh(5), truncate(stateid(9)), getattr()];
        assert_eq!(verdict(&ops, &results), Verdict::DelayedAfter(expected));
    }

    #[test]
    fn a_write_that_is_delayed_behind_its_open_goes_on_under_the_stateid_of_the_open() {
        let write = |stateid| {
            let data = vec![Bytes::from_static(b"data")];
            Argop4::Write(Write4args { stateid, offset: 0, stable: StableHow4::FileSync4, data })
        };
        let open = open_op(OpenClaim4::Null("name".into()));
        let ops = [putfh(1), open, Argop4::Getfh, getattr(), write(Stateid4::CURRENT), getattr()];
        let getfh = Resop4::Getfh(Ok(nfs4::ops::file::Getfh4resok { object: handle(5) }));
        let got = nfs4::ops::file::Getattr4resok { obj_attributes: nfs4::attr::Fattr4::default() };
        for status in [Nfs4Error::Delay, Nfs4Error::Grace] {
            let (getfh, got) = (getfh.clone(), Resop4::Getattr(Ok(got.clone())));
            let results = [Resop4::Putfh(Ok(())), opened(), getfh, got, Resop4::Write(Err(status))];
            let expected = vec![putfh(5), write(stateid(9)), getattr()];
            assert_eq!(verdict(&ops, &results), Verdict::DelayedAfter(expected));
        }
    }

    #[test]
    fn a_delay_behind_an_open_whose_handle_nobody_knows_is_final() {
        let open = open_op(OpenClaim4::Null("name".into()));
        let ops = [putfh(1), open, getattr()];
        let results = [Resop4::Putfh(Ok(())), opened(), Resop4::Getattr(Err(Nfs4Error::Delay))];
        assert_eq!(verdict(&ops, &results), Verdict::Final);
    }

    #[test]
    fn a_delay_behind_an_open_by_handle_leaves_the_rest_to_be_sent() {
        let ops = [putfh(1), open_op(OpenClaim4::Fh), getattr(), read(Stateid4::CURRENT)];
        let results = [Resop4::Putfh(Ok(())), opened(), Resop4::Getattr(Err(Nfs4Error::Delay))];
        let expected = vec![putfh(1), getattr(), read(stateid(9))];
        assert_eq!(verdict(&ops, &results), Verdict::DelayedAfter(expected));
    }

    #[test]
    fn a_bad_stateid_of_ours_is_restored_but_not_a_special_one_and_not_for_close() {
        for status in [Nfs4Error::BadStateid, Nfs4Error::StaleStateid, Nfs4Error::Expired, Nfs4Error::AdminRevoked] {
            let failed = |op| verdict(&[putfh(1), op], &[Resop4::Putfh(Ok(())), Resop4::Read(Err(status))]);
            assert_eq!(failed(read(stateid(1))), Verdict::StateGone);
            assert_eq!(failed(read(Stateid4::ANONYMOUS)), Verdict::Final);
            let close = Argop4::Close(Close4args { seqid: 0, open_stateid: stateid(1) });
            assert_eq!(failed(close), Verdict::Final);
        }
    }

    #[test]
    fn results_of_a_continued_compound_start_behind_its_own_putfh() {
        let results = || vec![Resop4::Putfh(Ok(())), Resop4::Savefh(Ok(()))];
        assert_eq!(skip_restored(&mut None, results()).len(), 2);
        let mut rest = Some(vec![]);
        assert_eq!(skip_restored(&mut rest, results()).len(), 1);
        assert!(rest.is_none());
    }

    fn reply(status: Nfs4Error, results: Vec<Resop4>) -> Bytes {
        use nfs4::compound::Compound4res;
        use nfs4::rpc::{Message, ReplyHeader, ReplyStatus};
        use nfs4::xdr::{Opaque, Writer};
        let mut out = Writer::new();
        let header = ReplyHeader { xid: 1, status: ReplyStatus::Success };
        out.put(&Message::Reply(header)).unwrap();
        out.put(&Compound4res { status: Err(status), tag: Opaque::default(), resarray: results }).unwrap();
        out.into_segments().concat().into()
    }

    fn used() -> SlotUse {
        crate::session::SlotTable::new(1).take().unwrap()
    }

    fn judged(status: Nfs4Error) -> Judged {
        judge(reply(status, vec![Resop4::Sequence(Err(status))]), &Sessionid4::default(), used())
    }

    #[test]
    fn an_error_of_sequence_says_what_becomes_of_the_slot() {
        assert!(matches!(judged(Nfs4Error::Delay), Judged::Wait));
        assert!(matches!(judged(Nfs4Error::RetryUncachedRep), Judged::Uncached));
        assert!(matches!(judged(Nfs4Error::ConnNotBoundToSession), Judged::NotBound));
        for status in [
            Nfs4Error::Badsession,
            Nfs4Error::Deadsession,
            Nfs4Error::SeqMisordered,
            Nfs4Error::SeqFalseRetry,
            Nfs4Error::Badslot,
        ] {
            assert!(matches!(judged(status), Judged::SessionGone { executed: false }));
        }
        assert!(matches!(judged(Nfs4Error::ReqTooBig), Judged::Refused(_)));
    }

    #[test]
    fn garbage_in_place_of_a_reply_leaves_the_slot_taken_by_the_server() {
        let record = Bytes::from_static(b"not a reply at all, of course");
        assert!(matches!(judge(record, &Sessionid4::default(), used()), Judged::Garbled(_)));
    }

    proptest::proptest! {
        #[test]
        fn no_reply_panics(bytes: Vec<u8>, cut in 0_usize..200) {
            judge(Bytes::from(bytes), &Sessionid4::default(), used());
            let mut whole = reply(Nfs4Error::Delay, vec![opened(), Resop4::Sequence(Err(Nfs4Error::Delay))]).to_vec();
            whole.truncate(cut);
            judge(whole.into(), &Sessionid4::default(), used());
        }
    }
}
