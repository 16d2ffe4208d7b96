//! One COMPOUND from bytes to bytes (RFC 8881 §16.2): decode operation by operation, carry out until one fails, keep
//! to the session's limits, leave the reply in the slot.

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::compound::{Argop4, OP_ILLEGAL, Resop4};
use nfs4::error::Status;
use nfs4::ops::session::Sequence4args;
use nfs4::types::{Sessionid4, Stateid4};
use nfs4::xdr::{Opaque, Pack, Reader, Writer};

use super::config::Now;
use super::faults::{Action, Subject};
use super::memfs::FileId;
use super::rights::{Caller, Identity};
use super::server::{Reply, Request, Server};
use super::session::ConnId;
use super::session::slots::{CachedReply, Verdict, fingerprint};

/// Bytes of the RPC header before a reply (AUTH_NONE verifier), which count in the session's limits.
const RPC_REPLY_HEADER: usize = 24;
const CLOSE: u32 = 4;
const LOCKU: u32 = 14;
const OPEN_DOWNGRADE: u32 = 21;
const FREE_STATEID: u32 = 45;
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

/// The result of an operation.
#[derive(Debug)]
pub enum Answer {
    /// As the codec knows it.
    Op(Resop4),
    /// READ or READ_BYPASS: pieces that are not joined.
    Read {
        /// Operation number.
        opnum: u32,
        /// Whether the end of the file was reached.
        eof: bool,
        /// The bytes.
        pieces: Vec<Bytes>,
    },
    /// Bytes as they are: operation number, status, body.
    Raw(Status, Vec<u8>),
    /// Bytes that a fault put in the place of a result. Nothing is carried out behind them.
    Broken(Vec<u8>),
}

impl Answer {
    fn error(&self) -> Option<Nfs4Error> {
        match self {
            Self::Op(result) => result.error(),
            Self::Read { .. } | Self::Broken(_) => None,
            Self::Raw(status, _) => status.err(),
        }
    }

    fn into_segments(self) -> Option<Vec<Bytes>> {
        let mut out = Writer::new();
        match self {
            Self::Op(result) => out.put(&result).ok()?,
            Self::Read { opnum, eof, pieces } => {
                let len: usize = pieces.iter().map(Bytes::len).sum();
                out.put(&opnum).ok()?;
                out.put(&0u32).ok()?;
                out.put(&eof).ok()?;
                out.put(&(len as u32)).ok()?;
                out.put_pieces(&pieces);
            }
            Self::Raw(_, bytes) | Self::Broken(bytes) => return Some(vec![bytes.into()]),
        }
        Some(out.into_segments())
    }
}

/// Results so far, as bytes.
#[derive(Debug, Default)]
struct Results {
    segments: Vec<Bytes>,
    len: usize,
    count: u32,
    status: Option<Nfs4Error>,
    /// What a retry gets after a fault broke the reply: whoever could not read it must not get it again for ever.
    mended: Option<Box<Results>>,
}

impl Results {
    /// The same with an error in the place of the broken result.
    fn mended_by(&self, opnum: u32) -> Self {
        let mut mended = Self { segments: self.segments.clone(), mended: None, ..*self };
        mended.push(Answer::Op(Resop4::failed(opnum, Nfs4Error::Serverfault)), opnum);
        mended
    }

    fn push(&mut self, answer: Answer, opnum: u32) {
        let error = answer.error();
        // Encoding fails only for lengths that no answer here has.
        let segments = answer.into_segments().unwrap_or_else(|| status_segments(opnum, Nfs4Error::Serverfault));
        self.len += segments.iter().map(Bytes::len).sum::<usize>();
        self.segments.extend(segments);
        self.count += 1;
        self.status = error;
    }

    fn into_body(self, tag: &Opaque) -> Vec<Bytes> {
        let mut out = Writer::new();
        let status = self.status.map_or(0, u32::from);
        // Words and the client's own tag always encode.
        let _ = status.pack(&mut out).and_then(|_| tag.pack(&mut out)).and_then(|_| self.count.pack(&mut out));
        let mut body = out.into_segments();
        body.extend(self.segments);
        body
    }
}

fn status_segments(opnum: u32, error: Nfs4Error) -> Vec<Bytes> {
    vec![[opnum.to_be_bytes(), u32::from(error).to_be_bytes()].concat().into()]
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
        match self.plan.judge(Subject { opnum: sequence, ..Subject::default() }) {
            Some(Action::Status(error)) => {
                if matches!(error, Nfs4Error::Badsession | Nfs4Error::Deadsession) {
                    // Nobody destroys a session that he was told is not there; so it is not.
                    self.lose_session(args.sa_sessionid);
                }
                self.excuse_after(sequence, error);
                results.push(Answer::Op(Resop4::failed(sequence, error)), sequence);
                return self.reply(results, tag);
            }
            Some(Action::Restart { stable_storage, .. }) => {
                self.restart(cx.now, stable_storage);
                return Reply::Cut;
            }
            Some(Action::UnknownArm) => {
                let bytes = [sequence, 0x7fff_fff1].map(u32::to_be_bytes).concat();
                results.push(Answer::Broken(bytes), sequence);
                return self.reply(results, tag);
            }
            Some(Action::Bytes(bytes)) => {
                results.push(Answer::Broken(bytes), sequence);
                return self.reply(results, tag);
            }
            Some(Action::S3 { path, change }) => {
                let _ = self.s3_change(&path, &change, cx.now);
            }
            Some(Action::DropSessions) => self.drop_sessions(),
            Some(Action::NewWriteVerifier) => self.lose_unstable(cx.now),
            Some(Action::Revoke(why)) => self.revoke_all_state(why),
            _ => {}
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
        *self.referee.count().operations.entry("SEQUENCE").or_default() += 1;
        let sequence_bytes: Bytes = results.segments.concat().into();
        let room = self.room(args, tag);
        cx.done.push(sequence);
        let cut = self.run(&mut cx, count, &mut input, &mut results, room);
        self.referee.answered(args.sa_sessionid, cx.now);
        if cut {
            return Reply::Cut;
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

    /// One operation, with whatever the plan of faults does to it. `None` when the server died.
    fn carry_out_with_faults(&mut self, cx: &mut Context<'_>, op: Argop4) -> Option<Answer> {
        let opnum = op.opnum();
        *self.referee.count().operations.entry(op.name()).or_default() += 1;
        cx.short = None;
        let path = if self.plan.wants_names() { cx.current.and_then(|at| self.fs.path_of(at.file)) } else { None };
        let mut subject = subject_of(&op);
        if subject.name.is_none() {
            subject.name = path.as_deref().and_then(|path| path.rsplit('/').next()).map(str::as_bytes);
        }
        let action = self.plan.judge(subject);
        if let (Some(_), Argop4::CreateSession(args)) = (&action, &op)
            && let Some(client) = self.clients.get_mut(args.csa_clientid)
        {
            client.create_disturbed = true;
        }
        match action {
            None => return Some(self.carry_out(cx, op)),
            Some(Action::Status(error)) => {
                self.excuse_after(opnum, error);
                return Some(Answer::Op(Resop4::failed(opnum, error)));
            }
            Some(Action::StatusAfter(error)) => {
                self.carry_out(cx, op);
                self.states.excuse();
                return Some(Answer::Op(Resop4::failed(opnum, error)));
            }
            Some(Action::Restart { stable_storage, after }) => {
                if after {
                    self.carry_out(cx, op);
                }
                self.restart(cx.now, stable_storage);
                return None;
            }
            Some(Action::NewWriteVerifier) => self.lose_unstable(cx.now),
            Some(Action::Short(most)) => cx.short = Some(most),
            Some(Action::UnknownArm) => {
                self.states.excuse();
                // A status without a name; where the body is a union, its discriminant is as unknown.
                let bytes = [opnum, 0, 0x7fff_fff1, 0x7fff_fff1].map(u32::to_be_bytes).concat();
                return Some(Answer::Broken(bytes));
            }
            Some(Action::DropSessions) => self.drop_sessions(),
            Some(Action::Revoke(why)) => self.revoke_all_state(why),
            Some(Action::S3 { path, change }) => {
                // A change of what is not there changes nothing.
                let _ = self.s3_change(&path, &change, cx.now);
            }
            Some(Action::Bytes(bytes)) => {
                self.states.excuse();
                return Some(Answer::Broken(bytes));
            }
        }
        Some(self.carry_out(cx, op))
    }

    /// A fault answered an error that the server had no reason for. Whoever believes it may leave state behind: because
    /// it was told that the state is gone, or because giving it back failed. DELAY and GRACE say to try again.
    fn excuse_after(&mut self, opnum: u32, error: Nfs4Error) {
        let gives_back = [CLOSE, LOCKU, OPEN_DOWNGRADE, FREE_STATEID].contains(&opnum);
        let tries_again = matches!(error, Nfs4Error::Delay | Nfs4Error::Grace);
        if says_that_state_is_gone(error) || (gives_back && !tries_again) {
            self.states.excuse();
        }
    }

    /// Handles that were put or saved for nothing.
    fn judge_handles(&mut self, cx: &Context<'_>, results: &Results) {
        if results.status.is_none() && results.mended.is_none() && cx.saved.is_some_and(|handle| !handle.used) {
            self.referee.mistake("a SAVEFH that nothing made use of".into());
        }
    }
}

fn says_that_state_is_gone(error: Nfs4Error) -> bool {
    use Nfs4Error as E;
    matches!(
        error,
        E::BadStateid
            | E::OldStateid
            | E::StaleStateid
            | E::Expired
            | E::AdminRevoked
            | E::DelegRevoked
            | E::Stale
            | E::Badhandle
            | E::Fhexpired
            | E::StaleClientid
            | E::Badsession
            | E::Deadsession
    )
}

/// The answer to an operation that [`decode_op`] refused: an unknown one is answered as OP_ILLEGAL.
fn refusal(opnum: u32, error: Nfs4Error) -> (u32, Answer) {
    let opnum = if error == Nfs4Error::OpIllegal { OP_ILLEGAL } else { opnum };
    (opnum, Answer::Op(Resop4::failed(opnum, error)))
}

/// Decodes one operation, or says which one it was and why not. OP_ILLEGAL for one that this minor version or program does not have, BADXDR for one whose
/// arguments do not decode (RFC 8881 §16.2.3).
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

fn subject_of(op: &Argop4) -> Subject<'_> {
    use nfs4::ops::open::OpenClaim4;
    let name: Option<&[u8]> = match op {
        Argop4::Lookup(args) => Some(&args.objname),
        Argop4::Create(args) => Some(&args.objname),
        Argop4::Remove(args) => Some(&args.target),
        Argop4::Rename(args) => Some(&args.oldname),
        Argop4::Open(args) => match &args.claim {
            OpenClaim4::Null(name) => Some(name),
            _ => None,
        },
        _ => None,
    };
    let range = match op {
        Argop4::Read(args) | Argop4::ReadBypass(args) => Some((args.offset, u64::from(args.count))),
        Argop4::Write(args) => Some((args.offset, args.len() as u64)),
        _ => None,
    };
    Subject { opnum: op.opnum(), name, range }
}
