//! The results of a COMPOUND, taken one after the other in the order of the operations.

use nfs4::attr::{Attrs, Fattr4};
use nfs4::compound::Resop4;
use nfs4::ops::file::Getattr4resok;
use nfs4::types::Bitmap4;

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
