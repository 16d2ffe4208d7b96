//! Results of operations, and of a compound so far, as bytes: file data is shared and never joined.

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::compound::Resop4;
use nfs4::error::Status;
use nfs4::xdr::{Opaque, Pack, Writer};

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
pub(super) struct Results {
    pub(super) segments: Vec<Bytes>,
    pub(super) len: usize,
    pub(super) count: u32,
    pub(super) status: Option<Nfs4Error>,
    /// What a retry gets after a fault broke the reply: whoever could not read it must not get it again for ever.
    pub(super) mended: Option<Box<Results>>,
}

impl Results {
    /// The same with an error in the place of the broken result.
    pub(super) fn mended_by(&self, opnum: u32) -> Self {
        let mut mended = Self { segments: self.segments.clone(), mended: None, ..*self };
        mended.push(Answer::Op(Resop4::failed(opnum, Nfs4Error::Serverfault)), opnum);
        mended
    }

    pub(super) fn push(&mut self, answer: Answer, opnum: u32) {
        let error = answer.error();
        // Encoding fails only for lengths that no answer here has.
        let segments = answer.into_segments().unwrap_or_else(|| status_segments(opnum, Nfs4Error::Serverfault));
        self.len += segments.iter().map(Bytes::len).sum::<usize>();
        self.segments.extend(segments);
        self.count += 1;
        self.status = error;
    }

    pub(super) fn into_body(self, tag: &Opaque) -> Vec<Bytes> {
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
