//! What the plan of faults does to operations, and what the referee must not hold against a client afterwards.

use nfs4::Nfs4Error;
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::lock::{Lock4denied, LockRes, NfsLockType4};
use nfs4::ops::session::Sequence4args;
use nfs4::types::StateOwner4;

use super::answer::Answer;
use super::compound::Context;
use super::faults::{Action, Subject};
use super::server::Server;

const CLOSE: u32 = 4;
const LOCK: u32 = 12;
const LOCKT: u32 = 13;
const LOCKU: u32 = 14;
const OPEN: u32 = 18;
const OPEN_DOWNGRADE: u32 = 21;
const DELEGRETURN: u32 = 8;
const FREE_STATEID: u32 = 45;
const SEQUENCE: u32 = 53;
/// No status or discriminant has this number.
const NOBODYS: u32 = 0x7fff_fff1;

/// What a fault made of a compound at its SEQUENCE.
pub(super) enum Disturbed {
    /// This is the answer; the slot is as it was.
    Answer(Answer),
    /// The server died.
    Died,
}

impl Server {
    /// SEQUENCE, before it looks at its session. `None` lets it go on.
    pub(super) fn disturb_sequence(&mut self, cx: &Context<'_>, args: &Sequence4args) -> Option<Disturbed> {
        let action = self.plan.judge(Subject { opnum: SEQUENCE, ..Subject::default() })?;
        match action {
            Action::Status(error) => {
                if matches!(error, Nfs4Error::Badsession | Nfs4Error::Deadsession) {
                    // Nobody destroys a session that he was told is not there; so it is not.
                    self.lose_session(args.sa_sessionid);
                }
                if error != Nfs4Error::Delay {
                    // The client may leave the session, and with it the replies that it did not get.
                    self.states.excuse();
                }
                return Some(Disturbed::Answer(Answer::Op(Resop4::failed(SEQUENCE, error))));
            }
            Action::Restart { stable_storage, .. } => {
                self.restart(cx.now, stable_storage);
                return Some(Disturbed::Died);
            }
            Action::UnknownArm => {
                self.states.excuse();
                let bytes = [SEQUENCE, NOBODYS].map(u32::to_be_bytes).concat();
                return Some(Disturbed::Answer(Answer::Broken(bytes)));
            }
            Action::Bytes(bytes) => {
                self.states.excuse();
                return Some(Disturbed::Answer(Answer::Broken(bytes)));
            }
            Action::S3 { path, change } => {
                // A change of what is not there changes nothing.
                let _ = self.s3_change(&path, &change, cx.now);
            }
            Action::DropSessions => self.drop_sessions(),
            Action::NewWriteVerifier => self.lose_unstable(cx.now),
            Action::Revoke(why) => self.revoke_all_state(why),
            Action::Recall => self.recall_delegations(cx.now),
            Action::RecallUnknown => self.recall_unknown(),
            Action::StatusAfter(_) | Action::Short(_) => {}
        }
        None
    }

    /// One operation, with whatever the plan of faults does to it. `None` when the server died.
    pub(super) fn carry_out_with_faults(&mut self, cx: &mut Context<'_>, op: Argop4) -> Option<Answer> {
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
                self.excuse_after(cx, opnum, error);
                return Some(Answer::Op(failed(opnum, error)));
            }
            Some(Action::StatusAfter(error)) => {
                self.carry_out(cx, op);
                self.states.excuse();
                return Some(Answer::Op(failed(opnum, error)));
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
                let bytes = [opnum, 0, NOBODYS, NOBODYS].map(u32::to_be_bytes).concat();
                return Some(Answer::Broken(bytes));
            }
            Some(Action::DropSessions) => self.drop_sessions(),
            Some(Action::Revoke(why)) => self.revoke_all_state(why),
            Some(Action::Recall) => self.recall_delegations(cx.now),
            Some(Action::RecallUnknown) => self.recall_unknown(),
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
    /// it was told that the state is gone, or because giving it back failed, here or in an operation behind this one, or
    /// because it did not get the handle of the file that it opened. DELAY and GRACE say to try again.
    fn excuse_after(&mut self, cx: &Context<'_>, opnum: u32, error: Nfs4Error) {
        let gives_back = [CLOSE, LOCKU, OPEN_DOWNGRADE, DELEGRETURN, FREE_STATEID].contains(&opnum);
        let on_the_way = gives_back || cx.following > 0 || cx.done.contains(&OPEN);
        let tries_again = matches!(error, Nfs4Error::Delay | Nfs4Error::Grace);
        if says_that_state_is_gone(error) || on_the_way && !tries_again {
            self.states.excuse();
        }
    }
}

/// A failed operation. A denied lock has to say which one is in the way: one that nobody holds.
fn failed(opnum: u32, error: Nfs4Error) -> Resop4 {
    let denied = Lock4denied {
        offset: 0,
        length: u64::MAX,
        locktype: NfsLockType4::Write,
        owner: StateOwner4 { clientid: 0, owner: "a fault".into() },
    };
    match (opnum, error) {
        (LOCK, Nfs4Error::Denied) => Resop4::Lock(LockRes::Denied(denied)),
        (LOCKT, Nfs4Error::Denied) => Resop4::Lockt(LockRes::Denied(denied)),
        _ => Resop4::failed(opnum, error),
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
