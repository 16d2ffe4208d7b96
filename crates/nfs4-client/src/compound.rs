//! COMPOUND on the wire, and its results taken one after the other in the order of the operations.

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::attr::{Attrs, Fattr4};
use nfs4::compound::{Argop4, Compound4res, Resop4};
use nfs4::ops::file::Getattr4resok;
use nfs4::rpc::{
    AuthSys, CallHeader, Message, NFS_PROGRAM, NFS_V4, OpaqueAuth, PROC_COMPOUND, ReplyHeader, ReplyStatus,
};
use nfs4::types::Bitmap4;
use nfs4::xdr::{Opaque, Reader, Writer, decode};

use crate::attr::Cred;
use crate::error::{Error, Result};

/// Results that are still to be looked at.
#[derive(Debug)]
pub(crate) struct Replies {
    results: std::vec::IntoIter<Resop4>,
}

impl Replies {
    pub(crate) fn new(results: Vec<Resop4>) -> Self {
        Self { results: results.into_iter() }
    }

    /// Whether all results were looked at.
    pub(crate) fn is_empty(&self) -> bool {
        self.results.len() == 0
    }

    /// The status of the last result, if it is an error: nothing is carried out after one.
    pub(crate) fn failure(&self) -> Option<Nfs4Error> {
        self.results.as_slice().last().and_then(Resop4::error)
    }

    /// The next result; that there is none is the server's mistake.
    pub(crate) fn take(&mut self, op: &'static str) -> Result<Resop4> {
        self.results
            .next()
            .ok_or_else(|| Error::BadReply { op, why: "its result is missing though nothing failed before".into() })
    }

    /// What to make of a result that belongs to another operation (servers answer OP_ILLEGAL that way).
    pub(crate) fn mismatch(op: &'static str, other: &Resop4) -> Error {
        match other.error() {
            Some(status) => Error::Nfs { op, status },
            None => Error::BadReply { op, why: format!("the result is of operation {}", other.opnum()) },
        }
    }

    /// SETATTR's result, which has a shape of its own.
    pub(crate) fn setattr(&mut self) -> Result<Bitmap4> {
        match self.take("SETATTR")? {
            Resop4::Setattr(res) => res.into_result().map_err(|status| Error::Nfs { op: "SETATTR", status }),
            other => Err(Self::mismatch("SETATTR", &other)),
        }
    }

    /// GETATTR's attributes.
    #[allow(clippy::unused_self)] // reads like the others at the call
    pub(crate) fn attrs(&self, got: &Getattr4resok) -> Result<Attrs> {
        self.fattr("GETATTR", &got.obj_attributes)
    }

    /// The attributes in `fattr`.
    #[allow(clippy::unused_self)]
    pub(crate) fn fattr(&self, op: &'static str, fattr: &Fattr4) -> Result<Attrs> {
        Attrs::from_fattr4(fattr).map_err(|error| Error::BadReply { op, why: error.to_string() })
    }
}

/// The next result, which must be of the given operation; its status becomes an [`Error`].
macro_rules! next {
    ($replies:expr, $variant:ident, $op:literal) => {
        match $replies.take($op) {
            Ok(nfs4::compound::Resop4::$variant(result)) => {
                result.map_err(|status| $crate::error::Error::Nfs { op: $op, status })
            }
            Ok(other) => Err($crate::compound::Replies::mismatch($op, &other)),
            Err(error) => Err(error),
        }
    };
}
pub(crate) use next;

/// A COMPOUND call as it goes out; the channel puts its transaction id into the first word.
pub(crate) fn encode_compound(
    machine_name: &str,
    cred: &Cred,
    minor: u32,
    sequence: Option<&Argop4>,
    ops: &[Argop4],
) -> Result<Vec<Bytes>> {
    let failed = |error: nfs4::xdr::Error| Error::BadReply { op: "COMPOUND", why: format!("cannot encode: {error}") };
    let auth = AuthSys::new(machine_name, cred.uid, cred.gid, &cred.groups).to_opaque_auth().map_err(failed)?;
    let mut out = Writer::new();
    out.put(&Message::Call(CallHeader {
        xid: 0,
        prog: NFS_PROGRAM,
        vers: NFS_V4,
        proc: PROC_COMPOUND,
        cred: auth,
        verf: OpaqueAuth::none(),
    }))
    .map_err(failed)?;
    out.put(&Opaque::default()).map_err(failed)?;
    out.put(&minor).map_err(failed)?;
    let count = ops.len() + usize::from(sequence.is_some());
    out.put(&(count as u32)).map_err(failed)?;
    for op in sequence.into_iter().chain(ops) {
        out.put(op).map_err(failed)?;
    }
    Ok(out.into_segments())
}

/// The COMPOUND in a reply record.
pub(crate) fn decode_compound(record: Bytes) -> Result<Compound4res> {
    let bad = |why: String| Error::BadReply { op: "COMPOUND", why };
    let mut input = Reader::new(record);
    match decode::<Message>(&mut input).map_err(|error| bad(error.to_string()))? {
        Message::Reply(ReplyHeader { status: ReplyStatus::Success, .. }) => {}
        Message::Reply(ReplyHeader { status: ReplyStatus::AuthError(_), .. }) => {
            return Err(Error::Nfs { op: "COMPOUND", status: Nfs4Error::Access });
        }
        Message::Reply(ReplyHeader { status: ReplyStatus::ProgMismatch { low, high }, .. }) => {
            let why = format!("the server speaks the NFS versions {low} to {high} only, and 4.1 or 4.2 is needed");
            return Err(Error::NoSession(why));
        }
        Message::Reply(reply) => return Err(bad(format!("the RPC layer refused it: {:?}", reply.status))),
        Message::Call(_) => return Err(bad("it is a call".into())),
    }
    decode(&mut input).map_err(|error| bad(error.to_string()))
}
