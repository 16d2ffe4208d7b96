//! The back channel (RFC 8881 §2.10.3.1, §20.2, §20.9): callbacks to send, and whether the client answers them as it must.
//!
//! One callback is under way at a time in each session (slot 0); the others wait in the session's queue. The driver
//! sends what [`Server::take_callbacks`] gives and says how it ended; a callback that got lost is sent again as it was
//! before any other, because the client may have seen its sequence id.

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::callback::{
    CbArgop4, CbAwsfileHeartbeatArgs, CbCompound4args, CbCompound4res, CbResop4, CbSequence4args, NFS_CB_V1,
    PROC_CB_COMPOUND, ReferringCall4, ReferringCallList4,
};
use nfs4::rpc::{CallHeader, Message, OpaqueAuth};
use nfs4::types::Sessionid4;
use nfs4::xdr;

use super::server::Server;
use super::session::{ConnId, Session};
use super::state::StateNumber;
use super::state::delegations::Told;

/// Callbacks that wait in a session, at most; what does not fit is asked for again later.
const MOST_WAITING: usize = 256;

/// A call to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// The connection to send it on.
    pub conn: ConnId,
    /// The session whose back channel that is.
    pub session: Sessionid4,
    /// The callback program's number at the client.
    pub program: u32,
    /// `CB_COMPOUND4args`.
    pub body: Bytes,
}

/// What a callback is for, and so which answers fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Is the client alive?
    Heartbeat,
    /// A delegation is wanted back.
    Recall(StateNumber),
    /// A delegation is asked for that the client never had.
    Unknown,
}

/// A callback of a session's queue.
#[derive(Debug, Clone)]
pub struct Waiting {
    op: CbArgop4,
    purpose: Purpose,
    /// The call that brought the state at hand, if the client may not have its reply yet (RFC 8881 §2.10.6.3).
    referring: Option<ReferringCall4>,
    /// Its bytes, once it was sent.
    sent: Option<Bytes>,
}

impl Callback {
    /// The whole record: RPC header (AUTH_NONE) and body.
    pub fn record(&self, xid: u32) -> Vec<Bytes> {
        let header = Message::Call(CallHeader {
            xid,
            prog: self.program,
            vers: NFS_CB_V1,
            proc: PROC_CB_COMPOUND,
            cred: OpaqueAuth::none(),
            verf: OpaqueAuth::none(),
        });
        // A header without credentials always encodes.
        let header = xdr::to_bytes(&header).unwrap_or_default();
        vec![header, self.body.clone()]
    }
}

impl Session {
    /// The next callback to send, if the back channel stands and is free.
    fn next_callback(&mut self) -> Option<Callback> {
        let conn = self.back_connections.last().copied().filter(|_| !self.cb_busy)?;
        let (id, sequenceid) = (self.id, self.cb_sequenceid.wrapping_add(1));
        let waiting = self.cb_queue.front_mut()?;
        if waiting.sent.is_none() {
            waiting.sent = xdr::to_bytes(&compound(id, sequenceid, self.minor, waiting)).ok();
        }
        let body = waiting.sent.clone()?;
        self.cb_busy = true;
        Some(Callback { conn, session: id, program: self.cb_program, body })
    }
}

fn compound(id: Sessionid4, sequenceid: u32, minor: u32, waiting: &Waiting) -> CbCompound4args {
    let referring = waiting
        .referring
        .clone()
        .map(|call| ReferringCallList4 { rcl_sessionid: id, rcl_referring_calls: vec![call].into() });
    let sequence = CbSequence4args {
        csa_sessionid: id,
        csa_sequenceid: sequenceid,
        csa_slotid: 0,
        csa_highest_slotid: 0,
        csa_cachethis: false,
        csa_referring_call_lists: referring.into_iter().collect::<Vec<_>>().into(),
    };
    CbCompound4args {
        minorversion: minor,
        argarray: vec![CbArgop4::Sequence(sequence), waiting.op.clone()],
        ..CbCompound4args::default()
    }
}

impl Server {
    /// Asks every client with a back channel whether it is alive (CB_AWSFILE_HEARTBEAT), unless another callback is
    /// under way.
    pub fn heartbeat(&mut self) {
        for session in self.sessions.values_mut() {
            if session.cb_queue.is_empty() && !session.back_connections.is_empty() {
                let op = CbArgop4::AwsfileHeartbeat(CbAwsfileHeartbeatArgs { clientid: session.client });
                let waiting = Waiting { op, purpose: Purpose::Heartbeat, referring: None, sent: None };
                session.cb_queue.push_back(waiting);
            }
        }
        self.pump_callbacks();
    }

    /// Puts a callback into a session's queue; `false` when there is no such session or no room.
    pub(super) fn call_back(
        &mut self,
        id: Sessionid4,
        op: CbArgop4,
        purpose: Purpose,
        referring: Option<ReferringCall4>,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&id).filter(|s| s.cb_queue.len() < MOST_WAITING) else {
            return false;
        };
        session.cb_queue.push_back(Waiting { op, purpose, referring, sent: None });
        true
    }

    /// Lets every back channel that is free send its next callback.
    pub(super) fn pump_callbacks(&mut self) {
        for session in self.sessions.values_mut() {
            let states = &self.states;
            // What was returned meanwhile need not be asked for; what was sent once must be sent as it was.
            let over = |waiting: &Waiting| match waiting.purpose {
                Purpose::Recall(number) => {
                    waiting.sent.is_none() && states.delegation(number).is_none_or(|held| held.revoked.is_some())
                }
                Purpose::Heartbeat | Purpose::Unknown => false,
            };
            session.cb_queue.retain(|waiting| !over(waiting));
            self.outbox.extend(session.next_callback());
        }
    }

    /// The callbacks to send.
    pub fn take_callbacks(&mut self) -> Vec<Callback> {
        let mut calls = std::mem::take(&mut self.outbox);
        calls.retain(|call| self.sessions.contains_key(&call.session));
        calls
    }

    /// How a callback ended: the client's `CB_COMPOUND4res`, or nothing when the connection was lost first.
    pub fn called_back(&mut self, callback: &Callback, reply: Option<Bytes>) {
        let Some(session) = self.sessions.get_mut(&callback.session) else { return };
        session.cb_busy = false;
        let Some(reply) = reply else { return };
        let Some(waiting) = session.cb_queue.pop_front() else { return };
        let expected = session.cb_sequenceid.wrapping_add(1);
        let answered = xdr::from_bytes::<CbCompound4res>(reply).map_err(|error| error.to_string());
        match answered.and_then(|reply| behind_sequence(reply, session.id, expected)) {
            Ok(result) => {
                session.cb_sequenceid = expected;
                self.judge_callback(waiting.purpose, result.as_ref());
            }
            Err(why) => {
                self.referee.mistake(format!("a callback answered wrongly: {why}"));
                self.set_told(waiting.purpose, Told::No);
            }
        }
        self.pump_callbacks();
    }

    fn judge_callback(&mut self, purpose: Purpose, result: Option<&CbResop4>) {
        use Nfs4Error as E;
        let error = result.map(CbResop4::error);
        let (fits, told) = match (purpose, error) {
            (Purpose::Heartbeat | Purpose::Recall(_), Some(None)) => (true, Told::Yes),
            // The recall may have overtaken the delegation, or its return (RFC 8881 §20.2.4, §10.4.4).
            (Purpose::Recall(_), Some(Some(error))) => {
                (matches!(error, E::BadStateid | E::Badhandle | E::Delay), Told::Refused)
            }
            (Purpose::Unknown, Some(Some(error))) => (matches!(error, E::BadStateid | E::Badhandle), Told::Refused),
            _ => (false, Told::Refused),
        };
        self.set_told(purpose, told);
        if !fits {
            let of_what = if purpose == Purpose::Unknown { " for a delegation that the client never had" } else { "" };
            self.referee.mistake(format!(
                "a callback answered wrongly: the operation behind CB_SEQUENCE{of_what} answered by {result:?}"
            ));
        }
    }

    fn set_told(&mut self, purpose: Purpose, told: Told) {
        if let Purpose::Recall(number) = purpose
            && let Some(recall) = self.states.delegation_mut(number).and_then(|held| held.recall.as_mut())
        {
            recall.told = told;
        }
    }
}

/// The result behind CB_SEQUENCE's, which must be that of the callback at hand.
fn behind_sequence(reply: CbCompound4res, session: Sessionid4, sequence: u32) -> Result<Option<CbResop4>, String> {
    match reply.resarray.first() {
        Some(CbResop4::Sequence(Ok(done))) => {
            if (done.csr_sessionid, done.csr_sequenceid, done.csr_slotid) != (session, sequence, 0) {
                return Err(format!("CB_SEQUENCE came back as {done:?}"));
            }
        }
        other => return Err(format!("CB_SEQUENCE answered by {other:?}")),
    }
    Ok(reply.resarray.into_iter().nth(1))
}
