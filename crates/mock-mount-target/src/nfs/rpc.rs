//! From a record to what to send back: the RPC header around COMPOUND (RFC 5531 §9, RFC 8881 §16.1).

use bytes::Bytes;
use nfs4::awsfile::{AWSFILE_PROGRAM, AWSFILE_V1, PROC_AWSFILE_COMPOUND};
use nfs4::rpc::{
    AcceptStat, AuthStat, CallHeader, Message, NFS_PROGRAM, NFS_V4, PROC_COMPOUND, PROC_NULL, ReplyHeader, ReplyStatus,
};
use nfs4::xdr::{self, Reader};

use super::config::Now;
use super::rights::{Caller, Identity};
use super::server::{Reply, Request, Server};
use super::session::ConnId;

/// The connection that a record came on.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Its name.
    pub conn: ConnId,
    /// Who holds it.
    pub identity: &'a Identity,
    /// The partition that it was bound to, if the bind answered READY.
    pub partition: Option<[u8; 64]>,
    /// Whether the AWSFILE program is served on it.
    pub awsfile: bool,
}

/// What becomes of a record.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A reply to send, in segments (without a record mark).
    Reply(Vec<Bytes>),
    /// Nothing to send: the connection is to be cut.
    Cut,
    /// A call of the AWSFILE program that is not a COMPOUND: header and arguments, for the driver to answer.
    Awsfile(CallHeader, Bytes),
    /// A reply to a callback: transaction id and, if it was successful, `CB_COMPOUND4res`.
    Answer(u32, Option<Bytes>),
}

fn reply(xid: u32, status: ReplyStatus, body: Vec<Bytes>) -> Outcome {
    let header = Message::Reply(ReplyHeader { xid, status });
    // A reply header has no part of variable length, so it always encodes.
    let mut segments = vec![xdr::to_bytes(&header).unwrap_or_default()];
    segments.extend(body);
    Outcome::Reply(segments)
}

impl Server {
    /// Takes a record that arrived (without its mark) and says what to do.
    pub fn rpc(&mut self, peer: Peer<'_>, now: Now, record: Bytes) -> Outcome {
        let len = record.len();
        let mut input = Reader::new(record);
        let call = match input.get::<Message>() {
            Ok(Message::Call(call)) => call,
            Ok(Message::Reply(answer)) => {
                let body = (answer.status == ReplyStatus::Success).then(|| input.into_rest());
                return Outcome::Answer(answer.xid, body);
            }
            Err(_) => {
                self.referee.mistake("a record that holds no RPC message".into());
                return Outcome::Cut;
            }
        };
        let version = match call.prog {
            NFS_PROGRAM => NFS_V4,
            AWSFILE_PROGRAM if peer.awsfile => AWSFILE_V1,
            _ => return reply(call.xid, ReplyStatus::Failed(AcceptStat::ProgUnavail), Vec::new()),
        };
        if call.vers != version {
            return reply(call.xid, ReplyStatus::ProgMismatch { low: version, high: version }, Vec::new());
        }
        let awsfile = call.prog == AWSFILE_PROGRAM;
        match call.proc {
            PROC_NULL => reply(call.xid, ReplyStatus::Success, Vec::new()),
            PROC_COMPOUND if !awsfile => self.compound(peer, now, &call, input.into_rest(), len),
            PROC_AWSFILE_COMPOUND if awsfile => self.compound(peer, now, &call, input.into_rest(), len),
            _ if awsfile => Outcome::Awsfile(call, input.into_rest()),
            _ => reply(call.xid, ReplyStatus::Failed(AcceptStat::ProcUnavail), Vec::new()),
        }
    }

    fn compound(&mut self, peer: Peer<'_>, now: Now, call: &CallHeader, body: Bytes, len: usize) -> Outcome {
        let Some(caller) = Caller::of(&call.cred, peer.identity) else {
            self.referee.mistake("a credential that is neither AUTH_NONE nor AUTH_SYS".into());
            return reply(call.xid, ReplyStatus::AuthError(AuthStat::BadCred), Vec::new());
        };
        let awsfile = call.prog == AWSFILE_PROGRAM;
        let request = Request {
            conn: peer.conn,
            identity: peer.identity,
            partition: peer.partition,
            caller,
            now,
            awsfile,
            body,
            len,
        };
        match self.call(request) {
            Reply::Body(body) => reply(call.xid, ReplyStatus::Success, body),
            Reply::Garbage => reply(call.xid, ReplyStatus::Failed(AcceptStat::GarbageArgs), Vec::new()),
            Reply::Cut => Outcome::Cut,
        }
    }
}
