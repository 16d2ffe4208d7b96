//! One COMPOUND from bytes to bytes (RFC 8881 §16.2): decode operation by operation, carry out until one fails, keep
//! to the session's limits, leave the reply in the slot.

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::compound::{Argop4, OP_ILLEGAL, Resop4};
use nfs4::ops::session::Sequence4args;
use nfs4::types::{Sessionid4, Stateid4};
use nfs4::xdr::{Opaque, Reader};

use super::answer::{Answer, Results};
use super::config::Now;
use super::memfs::FileId;
use super::rights::{Caller, Identity};
use super::sabotage::Disturbed;
use super::server::{Reply, Request, Server};
use super::session::ConnId;
use super::session::slots::{CachedReply, Verdict, fingerprint};

/// Bytes of the RPC header before a reply (AUTH_NONE verifier), which count in the session's limits.
const RPC_REPLY_HEADER: usize = 24;
const DESTROY_SESSION: u32 = 44;
const SEQUENCE: u32 = 53;
/// No result of an operation that changes something is longer, but for LOCK's refusals.
const MOST_OF_A_CHANGE: usize = 160;

/// The current or the saved file handle with its stateid (RFC 8881 §16.2.3.1).
#[derive(Debug, Clone, Copy)]
pub struct Handle {
    /// The file.
    pub file: FileId,
    /// The current stateid.
    pub stateid: Option<Stateid4>,
    /// Whether an operation has made use of it.
    pub used: bool,
}

/// What a compound carries from one operation to the next.
#[derive(Debug)]
pub struct Context<'a> {
    pub(super) conn: ConnId,
    pub(super) identity: &'a Identity,
    pub(super) partition: Option<[u8; 64]>,
    pub(super) caller: Caller,
    pub(super) now: Now,
    pub(super) minor: u32,
    pub(super) awsfile: bool,
    /// The client of the session; 0 outside of sessions.
    pub(super) client: u64,
    pub(super) session: Option<Sessionid4>,
    /// Session, slot and sequence id of the call.
    pub(super) slot: Option<(Sessionid4, u32, u32)>,
    pub(super) current: Option<Handle>,
    pub(super) saved: Option<Handle>,
    /// Limits of READ and WRITE that a fault set for the operation at hand.
    pub(super) short: Option<u32>,
    /// Operations of the compound that come after the one at hand.
    pub(super) following: usize,
    /// Numbers of the operations before the one at hand.
    pub(super) done: Vec<u32>,
}

impl Context<'_> {
    /// The current file, or NOFILEHANDLE.
    pub(super) fn file(&mut self) -> Result<FileId, Nfs4Error> {
        let handle = self.current.as_mut().ok_or(Nfs4Error::Nofilehandle)?;
        handle.used = true;
        Ok(handle.file)
    }

    /// The saved file, or NOFILEHANDLE.
    pub(super) fn saved_file(&mut self) -> Result<FileId, Nfs4Error> {
        let handle = self.saved.as_mut().ok_or(Nfs4Error::Nofilehandle)?;
        handle.used = true;
        Ok(handle.file)
    }

    /// Makes a file current.
    pub(super) fn set_file(&mut self, file: FileId) {
        self.current = Some(Handle { file, stateid: None, used: false });
    }

    /// Makes a stateid current.
    pub(super) fn set_stateid(&mut self, stateid: Stateid4) {
        if let Some(handle) = &mut self.current {
            handle.stateid = Some(stateid);
        }
    }
}

/// Limits of the session for the reply at hand.
#[derive(Debug, Clone, Copy)]
struct Room {
    most: usize,
    too_big: Nfs4Error,
}

impl Server {
    /// Answers one COMPOUND.
    pub fn call(&mut self, request: Request<'_>) -> Reply {
        let Request { conn, identity, partition, caller, now, awsfile, body, len } = request;
        self.tick(now);
        self.referee.count().compounds += 1;
        self.referee.count().request_bytes += len as u64;
        let mut input = Reader::new(body);
        let (Ok(tag), Ok(minor), Ok(count)) = (input.get::<Opaque>(), input.get::<u32>(), input.get::<u32>()) else {
            self.referee.mistake("a COMPOUND whose head does not decode".into());
            return Reply::Garbage;
        };
        let mut results = Results::default();
        if !(1..=2).contains(&minor) {
            results.status = Some(Nfs4Error::MinorVersMismatch);
            return self.reply(results, &tag);
        }
        if count == 0 {
            return self.reply(results, &tag);
        }
        let mut cx = Context {
            conn,
            identity,
            partition,
            caller,
            now,
            minor,
            awsfile,
            client: 0,
            session: None,
            slot: None,
            current: None,
            saved: None,
            short: None,
            following: count as usize - 1,
            done: Vec::new(),
        };
        let first = match decode_op(&mut input, &cx) {
            Ok(op) => op,
            Err((opnum, error)) => {
                self.referee.mistake(format!("the first operation ({opnum}) fails to decode or is unknown: {error}"));
                let (opnum, answer) = refusal(opnum, error);
                results.push(answer, opnum);
                return self.reply(results, &tag);
            }
        };
        if let Argop4::Sequence(args) = first {
            return self.in_session(cx, &args, len, count, input, &tag);
        }
        let answer = self.alone(&mut cx, first, count);
        match answer {
            Some((opnum, answer)) => {
                results.push(answer, opnum);
                self.reply(results, &tag)
            }
            None => Reply::Cut,
        }
    }

    fn reply(&mut self, results: Results, tag: &Opaque) -> Reply {
        let body = results.into_body(tag);
        let len = body.iter().map(Bytes::len).sum::<usize>() + RPC_REPLY_HEADER;
        self.referee.count().reply_bytes += len as u64;
        Reply::Body(body)
    }

    /// An operation that needs no session and then must be the only one (RFC 8881 §2.10.2.1, §18.35.3).
    fn alone(&mut self, cx: &mut Context<'_>, op: Argop4, count: u32) -> Option<(u32, Answer)> {
        let opnum = op.opnum();
        let refuse = |error| Some((opnum, Answer::Op(Resop4::failed(opnum, error))));
        let allowed = matches!(
            op,
            Argop4::ExchangeId(_)
                | Argop4::CreateSession(_)
                | Argop4::BindConnToSession(_)
                | Argop4::DestroySession(_)
                | Argop4::DestroyClientid(_)
        );
        if !allowed {
            self.referee.mistake(format!("{} outside of a session", op.name()));
            return refuse(Nfs4Error::OpNotInSession);
        }
        if count != 1 {
            self.referee.mistake(format!("{} without SEQUENCE is not the only operation", op.name()));
            return refuse(Nfs4Error::NotOnlyOp);
        }
        self.carry_out_with_faults(cx, op).map(|answer| (opnum, answer))
    }

    /// A compound that begins with SEQUENCE.
    fn in_session(
        &mut self,
        mut cx: Context<'_>,
        args: &Sequence4args,
        len: usize,
        count: u32,
        mut input: Reader,
        tag: &Opaque,
    ) -> Reply {
        let sequence = SEQUENCE;
        let mut results = Results::default();
        match self.disturb_sequence(&cx, args) {
            None => {}
            Some(Disturbed::Died) => return Reply::Cut,
            Some(Disturbed::Answer(answer)) => {
                results.push(answer, sequence);
                return self.reply(results, tag);
            }
        }
        // What stands behind SEQUENCE makes the request: a client may tell another highest slot when it tries again.
        let print = fingerprint(cx.caller.principal.number() ^ u64::from(count) << 40, &input.clone().into_rest());
        let verdict = match self.admit(&mut cx, args, count, len) {
            Ok(()) => self.judge_slot(args, print),
            Err(error) => Verdict::Refuse(error),
        };
        match verdict {
            Verdict::New => {}
            Verdict::Replay(body) => {
                self.referee.count().replays += 1;
                return Reply::Body(body);
            }
            Verdict::ReplayUncached(answer) => {
                self.referee.count().replays += 1;
                results.segments.push(answer);
                results.count = 1;
                let opnum = input.get::<u32>().unwrap_or(OP_ILLEGAL);
                results.push(Answer::Op(Resop4::failed(opnum, Nfs4Error::RetryUncachedRep)), opnum);
                return self.reply(results, tag);
            }
            Verdict::Refuse(error) => {
                results.push(Answer::Op(Resop4::failed(sequence, error)), sequence);
                return self.reply(results, tag);
            }
        }
        let answer = self.sequence_result(&cx, args);
        results.push(Answer::Op(Resop4::Sequence(Ok(answer))), sequence);
        *self.referee.count().operations.entry("Sequence").or_default() += 1;
        let sequence_bytes: Bytes = results.segments.concat().into();
        let room = self.room(args, tag);
        cx.done.push(sequence);
        cx.slot = Some((args.sa_sessionid, args.sa_slotid, args.sa_sequenceid));
        let cut = self.run(&mut cx, count, &mut input, &mut results, room);
        self.referee.answered(args.sa_sessionid, cx.now);
        if cut {
            return Reply::Cut;
        }
        if !self.sessions.contains_key(&args.sa_sessionid) && !cx.done.contains(&DESTROY_SESSION) {
            // A fault took the session away, and with it the reply to whatever came behind.
            self.states.excuse();
        }
        self.judge_handles(&cx, &results);
        let mended = results.mended.take().map(|mended| mended.into_body(tag));
        let keep = args.sa_cachethis || count == 1;
        let reply = self.reply(results, tag);
        let Reply::Body(body) = &reply else { return reply };
        let cached = if let Some(mended) = mended {
            CachedReply::Whole(mended)
        } else if keep {
            CachedReply::Whole(body.clone())
        } else {
            CachedReply::Uncached(sequence_bytes)
        };
        // DESTROY_SESSION may have taken the session away meanwhile.
        if let Some(session) = self.sessions.get_mut(&args.sa_sessionid) {
            session.slots.finish(args.sa_slotid, cached);
        }
        reply
    }

    fn room(&self, args: &Sequence4args, tag: &Opaque) -> Room {
        let head = RPC_REPLY_HEADER + 12 + tag.len() + nfs4::xdr::padding(tag.len());
        let Some(session) = self.sessions.get(&args.sa_sessionid) else {
            return Room { most: 0, too_big: Nfs4Error::RepTooBig };
        };
        let most = session.fore.ca_maxresponsesize;
        let cached = session.fore.ca_maxresponsesize_cached;
        let (most, too_big) = if args.sa_cachethis && cached < most {
            (cached, Nfs4Error::RepTooBigToCache)
        } else {
            (most, Nfs4Error::RepTooBig)
        };
        Room { most: (most as usize).saturating_sub(head), too_big }
    }

    /// The operations behind SEQUENCE. Whether the server died on the way.
    fn run(&mut self, cx: &mut Context<'_>, count: u32, input: &mut Reader, results: &mut Results, room: Room) -> bool {
        for index in 1..count {
            cx.following = (count - index - 1) as usize;
            let op = match decode_op(input, cx) {
                Ok(op) => op,
                Err((opnum, error)) => {
                    self.referee.mistake(format!("operation {opnum} is unknown or does not decode: {error}"));
                    let (opnum, answer) = refusal(opnum, error);
                    results.push(answer, opnum);
                    return false;
                }
            };
            let opnum = op.opnum();
            // What changes something must be refused before, what only reads may be thrown away after.
            let must_fit = if changes(&op) { MOST_OF_A_CHANGE } else { 8 };
            if results.len + must_fit > room.most {
                self.too_big(cx, results, opnum, room);
                return false;
            }
            let Some(answer) = self.carry_out_with_faults(cx, op) else { return true };
            if matches!(answer, Answer::Broken(_)) {
                results.mended = Some(Box::new(results.mended_by(opnum)));
            }
            let (segments, bytes, before) = (results.segments.len(), results.len, results.count);
            results.push(answer, opnum);
            if results.len > room.most {
                results.segments.truncate(segments);
                results.len = bytes;
                results.count = before;
                self.too_big(cx, results, opnum, room);
                return false;
            }
            if results.status.is_some() || results.mended.is_some() {
                return false;
            }
        }
        if input.remaining() > 0 {
            self.referee.mistake(format!("{} bytes behind the last operation of a compound", input.remaining()));
        }
        false
    }

    fn too_big(&mut self, cx: &Context<'_>, results: &mut Results, opnum: u32, room: Room) {
        let name = nfs4::compound::op_name(opnum);
        self.referee.mistake(format!(
            "a reply beyond the session's limit of {} bytes ({}) at {name}, {} operations before the end",
            room.most, room.too_big, cx.following
        ));
        results.push(Answer::Op(Resop4::failed(opnum, room.too_big)), opnum);
    }

    /// Handles that were put or saved for nothing.
    fn judge_handles(&mut self, cx: &Context<'_>, results: &Results) {
        if results.status.is_none() && results.mended.is_none() && cx.saved.is_some_and(|handle| !handle.used) {
            self.referee.mistake("a SAVEFH that nothing made use of".into());
        }
    }
}

/// The answer to an operation that [`decode_op`] refused: an unknown one is answered as OP_ILLEGAL.
fn refusal(opnum: u32, error: Nfs4Error) -> (u32, Answer) {
    let opnum = if error == Nfs4Error::OpIllegal { OP_ILLEGAL } else { opnum };
    (opnum, Answer::Op(Resop4::failed(opnum, error)))
}

/// Decodes one operation, or says which one it was and why not: OP_ILLEGAL for one that this minor version or program
/// does not have, BADXDR for one whose arguments do not decode (RFC 8881 §16.2.3).
fn decode_op(input: &mut Reader, cx: &Context<'_>) -> Result<Argop4, (u32, Nfs4Error)> {
    let mut peek = input.clone();
    let opnum: u32 = peek.get().map_err(|_| (OP_ILLEGAL, Nfs4Error::Badxdr))?;
    let known = match opnum {
        3..=58 => true,
        59..=75 => cx.minor >= 2,
        200_001 => cx.awsfile,
        _ => false,
    };
    if !known {
        return Err((opnum, Nfs4Error::OpIllegal));
    }
    match input.get::<Argop4>() {
        // NFSv4.0 operations without a meaning in 4.1 (RENEW, OPEN_CONFIRM, SETCLIENTID …): §2.7.
        Ok(Argop4::Unknown(opnum)) => Err((opnum, Nfs4Error::Notsupp)),
        Ok(op) => Ok(op),
        Err(_) => Err((opnum, Nfs4Error::Badxdr)),
    }
}

/// Whether an operation changes something that throwing away its result would not undo.
fn changes(op: &Argop4) -> bool {
    !matches!(
        op,
        Argop4::Access(_)
            | Argop4::Getattr(_)
            | Argop4::Getfh
            | Argop4::Lockt(_)
            | Argop4::Lookup(_)
            | Argop4::Lookupp
            | Argop4::Nverify(_)
            | Argop4::Verify(_)
            | Argop4::Putfh(_)
            | Argop4::Putpubfh
            | Argop4::Putrootfh
            | Argop4::Read(_)
            | Argop4::ReadBypass(_)
            | Argop4::ReadPlus(_)
            | Argop4::Readdir(_)
            | Argop4::Readlink
            | Argop4::Restorefh
            | Argop4::Savefh
            | Argop4::Secinfo(_)
            | Argop4::SecinfoNoName(_)
            | Argop4::Seek(_)
            | Argop4::TestStateid(_)
            | Argop4::Getxattr(_)
            | Argop4::Listxattrs(_)
            | Argop4::IoAdvise(_)
    )
}
