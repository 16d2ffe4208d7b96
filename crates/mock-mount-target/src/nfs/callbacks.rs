//! The back channel (RFC 8881 §2.10.3.1, §20.9): callbacks to send, and whether the client answers them as it must.
//!
//! One callback is under way at a time in each session (slot 0). The driver sends what [`Server::take_callbacks`]
//! gives and says how it ended; a callback that got lost is sent again under the same sequence id when the next one
//! is due.

use bytes::Bytes;
use nfs4::callback::{
    CbArgop4, CbAwsfileHeartbeatArgs, CbCompound4args, CbCompound4res, CbResop4, CbSequence4args, NFS_CB_V1,
    PROC_CB_COMPOUND,
};
use nfs4::rpc::{CallHeader, Message, OpaqueAuth};
use nfs4::types::Sessionid4;
use nfs4::xdr;

use super::server::Server;
use super::session::ConnId;

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

impl Server {
    /// Asks every client with a back channel whether it is alive (CB_AWSFILE_HEARTBEAT).
    pub fn heartbeat(&mut self) {
        let sessions: Vec<Sessionid4> = self.sessions.keys().copied().collect();
        for id in sessions {
            let Some(client) = self.sessions.get(&id).map(|session| session.client) else { continue };
            self.call_back(id, CbArgop4::AwsfileHeartbeat(CbAwsfileHeartbeatArgs { clientid: client }));
        }
    }

    /// Queues a callback with one operation behind CB_SEQUENCE. Does nothing while another one is under way or when
    /// the session has no back channel.
    pub fn call_back(&mut self, id: Sessionid4, op: CbArgop4) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(conn) = session.back_connections.last().copied().filter(|_| !session.cb_busy) else { return };
        let sequence = CbSequence4args {
            csa_sessionid: id,
            csa_sequenceid: session.cb_sequenceid.wrapping_add(1),
            csa_slotid: 0,
            csa_highest_slotid: 0,
            csa_cachethis: false,
            csa_referring_call_lists: Vec::new().into(),
        };
        let call = CbCompound4args {
            minorversion: session.minor,
            argarray: vec![CbArgop4::Sequence(sequence), op],
            ..CbCompound4args::default()
        };
        if let Ok(body) = xdr::to_bytes(&call) {
            session.cb_busy = true;
            self.outbox.push(Callback { conn, session: id, program: session.cb_program, body });
        }
    }

    /// The callbacks to send.
    pub fn take_callbacks(&mut self) -> Vec<Callback> {
        std::mem::take(&mut self.outbox)
    }

    /// How a callback ended: the client's `CB_COMPOUND4res`, or nothing when the connection was lost first.
    pub fn called_back(&mut self, callback: &Callback, reply: Option<Bytes>) {
        let Some(session) = self.sessions.get_mut(&callback.session) else { return };
        session.cb_busy = false;
        let Some(reply) = reply else { return };
        let answered = xdr::from_bytes::<CbCompound4res>(reply).map_err(|error| error.to_string());
        let judged = answered.and_then(|reply| judge(&reply, session.id, session.cb_sequenceid.wrapping_add(1)));
        match judged {
            Ok(()) => session.cb_sequenceid = session.cb_sequenceid.wrapping_add(1),
            Err(why) => self.referee.mistake(format!("a callback answered wrongly: {why}")),
        }
    }
}

fn judge(reply: &CbCompound4res, session: Sessionid4, sequence: u32) -> Result<(), String> {
    match reply.resarray.first() {
        Some(CbResop4::Sequence(Ok(done))) => {
            if (done.csr_sessionid, done.csr_sequenceid, done.csr_slotid) != (session, sequence, 0) {
                return Err(format!("CB_SEQUENCE came back as {done:?}"));
            }
        }
        other => return Err(format!("CB_SEQUENCE answered by {other:?}")),
    }
    match reply.resarray.get(1) {
        Some(result) if result.error().is_none() => Ok(()),
        other => Err(format!("the operation behind CB_SEQUENCE answered by {other:?}")),
    }
}
