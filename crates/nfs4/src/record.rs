//! Record marking (RFC 5531 §11): a TCP stream cut into records of one or more fragments.
//!
//! The driver reads into [`RecordAssembler::buffer`] and takes whole records out with
//! [`RecordAssembler::next_record`]. A large record of one fragment (all that real servers send) is read into a buffer of
//! exactly its size and comes out as that buffer, without being copied. Small ones are copied out of a buffer that is
//! used again, so that whoever keeps a few bytes of a reply never keeps more than that reply alive.
//!
//! The buffer of a large record begins where the bytes of a READ in it begin a page ([`READ_DATA_AT`]): a kernel that takes
//! them page by page touches each page once then, not two for every one.

use bytes::{Buf, Bytes, BytesMut};

/// The bit of a record mark that says "last fragment".
pub const LAST_FRAGMENT: u32 = 0x8000_0000;

/// Fragments of less than this many bytes on average are taken for an attack (a real sender has one per record).
const MAX_FRAGMENTS: u32 = 1024;

/// How much is read at once when the size of the next record is not known yet; larger records get a buffer of their own.
const READ_AHEAD: usize = 64 * 1024;

/// Where the bytes that were read begin in a reply to SEQUENCE, PUTFH, READ with an empty tag and verifier (RFC 5531 §9,
/// RFC 8881 §16.2, §18.46.2, §18.22.2).
pub const READ_DATA_AT: usize = 24 + 12 + 44 + 8 + 16;

/// Of the kernels that the bytes are for; with larger pages, these are parts of one.
const PAGE: usize = 4096;

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

/// A fragment that is read into a buffer of its own.
#[derive(Debug)]
struct Large {
    /// Has room for the whole fragment and no more.
    buffer: BytesMut,
    len: usize,
    last: bool,
}

/// Puts records together from whatever the stream yields.
#[derive(Debug)]
pub struct RecordAssembler {
    /// Marks and small fragments.
    buffer: BytesMut,
    large: Option<Large>,
    /// Fragments of the current record that came before the one being read.
    earlier: BytesMut,
    fragments: u32,
    limit: usize,
}

impl RecordAssembler {
    /// An assembler that accepts records of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), large: None, earlier: BytesMut::new(), fragments: 0, limit }
    }

    /// Changes the largest record accepted, in bytes.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Where the next bytes of the stream belong. No more may be put there than it has room for.
    pub fn buffer(&mut self) -> &mut BytesMut {
        if let Some(large) = &mut self.large {
            return &mut large.buffer;
        }
        let all = READ_AHEAD.min(self.limit + 4);
        let missing = all.saturating_sub(self.buffer.len()).max(1);
        // Moving a little to the front is done once in a while only.
        if self.buffer.capacity() - self.buffer.len() < missing.min(all / 4 + 1) {
            self.buffer.reserve(missing);
        }
        &mut self.buffer
    }

    fn mark(&self) -> Option<(usize, bool)> {
        let mark: [u8; 4] = self.buffer.get(..4)?.try_into().ok()?;
        let mark = u32::from_be_bytes(mark);
        Some(((mark & !LAST_FRAGMENT) as usize, mark & LAST_FRAGMENT != 0))
    }

    /// The next fragment, if it has arrived, and whether it is its record's last.
    fn next_fragment(&mut self) -> Result<Option<(Bytes, bool)>, RecordError> {
        if let Some(large) = self.large.take_if(|large| large.buffer.len() >= large.len) {
            return Ok(Some((large.buffer.freeze(), large.last)));
        }
        if self.large.is_some() {
            return Ok(None);
        }
        let Some((len, last)) = self.mark() else { return Ok(None) };
        let announced = self.earlier.len() + len;
        if announced > self.limit {
            return Err(RecordError::TooLarge { announced, limit: self.limit });
        }
        let there = self.buffer.len() - 4;
        if there < len && 4 + len > READ_AHEAD {
            let mut buffer = with_room_for(len);
            buffer.extend_from_slice(&self.buffer[4..]);
            self.buffer.clear();
            self.large = Some(Large { buffer, len, last });
            return Ok(None);
        }
        if there < len {
            return Ok(None);
        }
        self.buffer.advance(4);
        let fragment = Bytes::copy_from_slice(&self.buffer[..len]);
        self.buffer.advance(len);
        Ok(Some((fragment, last)))
    }

    /// The next whole record, if it has arrived.
    pub fn next_record(&mut self) -> Result<Option<Bytes>, RecordError> {
        while let Some((fragment, last)) = self.next_fragment()? {
            if last {
                self.fragments = 0;
                if self.earlier.is_empty() {
                    return Ok(Some(fragment));
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
        self.buffer.is_empty() && self.large.is_none() && self.earlier.is_empty() && self.fragments == 0
    }
}

/// Room for exactly `len` bytes, of which the one at [`READ_DATA_AT`] begins a page.
fn with_room_for(len: usize) -> BytesMut {
    let mut whole = BytesMut::with_capacity(len + PAGE);
    let past = (whole.as_ptr().addr() + READ_DATA_AT) % PAGE;
    let mut room = whole.split_off((PAGE - past) % PAGE);
    drop(room.split_off(len));
    room
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

    fn feed(assembler: &mut RecordAssembler, mut bytes: &[u8]) -> Result<Vec<Bytes>, RecordError> {
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let buffer = assembler.buffer();
            let room = buffer.capacity() - buffer.len();
            assert!(room > 0, "there is always room for more");
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            buffer.extend_from_slice(now);
            bytes = later;
            while let Some(record) = assembler.next_record()? {
                out.push(record);
            }
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
    fn a_kept_record_keeps_nothing_else_alive_and_a_large_one_is_not_copied() {
        let (small, large) = (vec![1; 100], vec![2; 3 * READ_AHEAD]);
        let mut stream = Vec::new();
        for record in [&small, &large, &small, &large] {
            stream.extend(record_mark(record.len()));
            stream.extend(record);
        }
        for read in [10_000, stream.len()] {
            let mut assembler = RecordAssembler::new(1 << 20);
            let mut got = Vec::new();
            for chunk in stream.chunks(read) {
                got.extend(feed(&mut assembler, chunk).unwrap());
            }
            assert!(got.iter().zip([&small, &large, &small, &large]).all(|(got, sent)| got == sent));
            assert!(assembler.is_between_records());
            for record in got {
                let len = record.len();
                assert!(len < READ_AHEAD || record[READ_DATA_AT..].as_ptr().addr().is_multiple_of(PAGE));
                let spare = if len < READ_AHEAD { 0 } else { PAGE };
                assert!(record.try_into_mut().unwrap().capacity() <= len + spare);
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
