//! Record marking (RFC 5531 §11): a TCP stream cut into records of one or more fragments.
//!
//! The driver reads into [`RecordAssembler::buffer`] and takes whole records out with
//! [`RecordAssembler::next_record`]. A record of one fragment (all that real servers send) comes out as a slice of the
//! read buffer; only a record of several fragments is put together by copying.

use bytes::{Buf, Bytes, BytesMut};

/// The bit of a record mark that says "last fragment".
pub const LAST_FRAGMENT: u32 = 0x8000_0000;

/// Fragments of less than this many bytes on average are taken for an attack (a real sender has one per record).
const MAX_FRAGMENTS: u32 = 1024;

/// How much is read at once when the size of the next record is not known yet.
const READ_AHEAD: usize = 64 * 1024;

/// The stream cannot be followed any further; the connection has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A record mark announces more than is allowed.
    #[error("the peer announced a record of {announced} bytes, more than the {limit} allowed")]
    TooLarge {
        /// Size of the record so far and the announced fragment, in bytes.
        announced: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A record is cut into too many fragments.
    #[error("the peer cut one record into more than {MAX_FRAGMENTS} fragments")]
    TooManyFragments,
}

/// Puts records together from whatever the stream yields.
#[derive(Debug)]
pub struct RecordAssembler {
    buffer: BytesMut,
    /// Fragments of the current record that came before the one being read.
    earlier: BytesMut,
    fragments: u32,
    limit: usize,
}

impl RecordAssembler {
    /// An assembler that accepts records of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), earlier: BytesMut::new(), fragments: 0, limit }
    }

    /// Changes the largest record accepted, in bytes.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Where the next bytes of the stream belong; has room for what is missing of the current fragment.
    pub fn buffer(&mut self) -> &mut BytesMut {
        let want = match self.mark() {
            Some((len, _)) if len <= self.limit => (4 + len).saturating_sub(self.buffer.len()),
            _ => 0,
        };
        self.buffer.reserve(want.max(READ_AHEAD.min(self.limit + 4)));
        &mut self.buffer
    }

    fn mark(&self) -> Option<(usize, bool)> {
        let mark: [u8; 4] = self.buffer.get(..4)?.try_into().ok()?;
        let mark = u32::from_be_bytes(mark);
        Some(((mark & !LAST_FRAGMENT) as usize, mark & LAST_FRAGMENT != 0))
    }

    /// The next whole record, if it has arrived.
    pub fn next_record(&mut self) -> Result<Option<Bytes>, RecordError> {
        while let Some((len, last)) = self.mark() {
            let announced = self.earlier.len() + len;
            if announced > self.limit {
                return Err(RecordError::TooLarge { announced, limit: self.limit });
            }
            if self.buffer.len() < 4 + len {
                return Ok(None);
            }
            self.buffer.advance(4);
            let fragment = self.buffer.split_to(len);
            if last {
                self.fragments = 0;
                if self.earlier.is_empty() {
                    return Ok(Some(fragment.freeze()));
                }
                self.earlier.extend_from_slice(&fragment);
                return Ok(Some(self.earlier.split().freeze()));
            }
            self.fragments += 1;
            if self.fragments > MAX_FRAGMENTS {
                return Err(RecordError::TooManyFragments);
            }
            self.earlier.extend_from_slice(&fragment);
        }
        Ok(None)
    }

    /// Whether the stream may end here: no part of a record is waiting for its rest.
    pub fn is_between_records(&self) -> bool {
        self.buffer.is_empty() && self.earlier.is_empty() && self.fragments == 0
    }
}

/// The record mark of a record sent as one fragment of `len` bytes.
pub fn record_mark(len: usize) -> [u8; 4] {
    debug_assert!(len < LAST_FRAGMENT as usize);
    (LAST_FRAGMENT | len as u32).to_be_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn feed(assembler: &mut RecordAssembler, bytes: &[u8]) -> Result<Vec<Bytes>, RecordError> {
        assembler.buffer().extend_from_slice(bytes);
        let mut out = Vec::new();
        while let Some(record) = assembler.next_record()? {
            out.push(record);
        }
        Ok(out)
    }

    proptest! {
        #[test]
        fn records_survive_any_fragmentation_and_any_reads(
            records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8),
            cut in 1usize..40, read in 1usize..70,
        ) {
            let mut stream = Vec::new();
            for record in &records {
                let mut pieces: Vec<&[u8]> = record.chunks(cut).collect();
                if pieces.is_empty() { pieces.push(&[]); }
                for (i, piece) in pieces.iter().enumerate() {
                    let last = if i + 1 == pieces.len() { LAST_FRAGMENT } else { 0 };
                    stream.extend((last | piece.len() as u32).to_be_bytes());
                    stream.extend(*piece);
                }
            }
            let mut assembler = RecordAssembler::new(1024);
            let mut got = Vec::new();
            for chunk in stream.chunks(read) {
                got.extend(feed(&mut assembler, chunk).unwrap());
            }
            prop_assert!(assembler.is_between_records());
            prop_assert_eq!(got, records);
        }

        #[test]
        fn no_byte_stream_makes_it_hold_more_than_the_limit(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let mut assembler = RecordAssembler::new(512);
            for chunk in bytes.chunks(64) {
                if feed(&mut assembler, chunk).is_err() { return Ok(()); }
                prop_assert!(assembler.earlier.len() <= 512);
                prop_assert!(assembler.buffer.len() <= 512 + 4 + 64);
            }
        }
    }

    #[test]
    fn a_lying_mark_is_refused_before_its_bytes_arrive() {
        let mut assembler = RecordAssembler::new(1 << 20);
        assert_eq!(
            feed(&mut assembler, &[0xff; 4]),
            Err(RecordError::TooLarge { announced: 0x7fff_ffff, limit: 1 << 20 })
        );
    }

    #[test]
    fn endless_empty_fragments_are_refused() {
        let mut assembler = RecordAssembler::new(1 << 20);
        assert_eq!(feed(&mut assembler, &[0; 4 * 2000]), Err(RecordError::TooManyFragments));
    }
}
