//! XDR (RFC 4506) over [`Bytes`]: a reader that hands out slices of the record, a writer that collects
//! segments so that a WRITE's payload is never copied.
//!
//! The traits are `xdr-codec`'s [`Pack`] and [`Unpack`], and so are the integers and booleans. Everything of
//! variable length goes through [`Opaque`] and [`List`], because `xdr-codec`'s own variable-length types
//! allocate what the peer claims and take a short body for a whole one.

use std::fmt;
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
pub use xdr_codec::{Pack, Unpack};

/// What `Pack` and `Unpack` return.
pub type Result<T> = xdr_codec::Result<T>;
/// The error of `Pack` and `Unpack`.
pub type Error = xdr_codec::Error;

/// A byte string that is not what the protocol says it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot decode {what}: {why}")]
pub struct DecodeError {
    /// The type that was being decoded.
    pub what: &'static str,
    /// What was wrong with the bytes.
    pub why: String,
}

/// Reads XDR from one record. Opaque data comes out as slices of that record.
#[derive(Debug, Clone)]
pub struct Reader {
    record: Bytes,
}

impl Reader {
    /// A reader at the start of `record`.
    pub fn new(record: Bytes) -> Self {
        Self { record }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.record.len()
    }

    /// What is left, as a slice of the record.
    pub fn into_rest(self) -> Bytes {
        self.record
    }

    /// The next `len` bytes and their padding to a multiple of four, without copying.
    pub fn take(&mut self, len: usize) -> Result<Bytes> {
        let pad = padding(len);
        // The sum cannot overflow: the first comparison bounds `len` by a real buffer's size.
        if len > self.record.len() || len + pad > self.record.len() {
            return Err(Error::invalidlen(len));
        }
        let data = self.record.split_to(len);
        self.record.advance(pad);
        Ok(data)
    }

    /// The next `N` bytes and their padding.
    pub fn take_array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let data = self.take(N)?;
        let mut out = [0; N];
        out.copy_from_slice(&data);
        Ok(out)
    }

    /// Decodes one value.
    pub fn get<T: Unpack<Self>>(&mut self) -> Result<T> {
        Ok(T::unpack(self)?.0)
    }

    /// A count of elements that take at least `least` bytes each: refused when they cannot fit in what is left.
    pub fn count(&mut self, least: usize) -> Result<usize> {
        let count = self.get::<u32>()? as usize;
        if count > self.remaining() / least.max(1) {
            return Err(Error::invalidlen(count));
        }
        Ok(count)
    }
}

impl io::Read for Reader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min(self.record.len());
        self.record.copy_to_slice(&mut buf[..len]);
        Ok(len)
    }
}

/// Decodes a whole byte string; bytes left over are an error.
pub fn from_bytes<T: Unpack<Reader>>(record: Bytes) -> std::result::Result<T, DecodeError> {
    let mut reader = Reader::new(record);
    let value = decode(&mut reader)?;
    if reader.remaining() > 0 {
        return Err(DecodeError {
            what: std::any::type_name::<T>(),
            why: format!("{} bytes are left over", reader.remaining()),
        });
    }
    Ok(value)
}

/// Decodes one value and leaves the reader behind it.
pub fn decode<T: Unpack<Reader>>(reader: &mut Reader) -> std::result::Result<T, DecodeError> {
    reader.get().map_err(|error| DecodeError { what: std::any::type_name::<T>(), why: error.to_string() })
}

/// Payloads from this size on become segments of their own instead of being copied.
const SEGMENT: usize = 2048;

/// Writes XDR as a list of segments, which go out in one vectored write.
#[derive(Debug, Default)]
pub struct Writer {
    done: Vec<Bytes>,
    done_len: usize,
    tail: BytesMut,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.done_len + self.tail.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Encodes one value.
    pub fn put<T: Pack<Self>>(&mut self, value: &T) -> Result<()> {
        value.pack(self).map(|_| ())
    }

    /// Bytes as they are, padded with zeros to a multiple of four. Large ones are shared, not copied.
    pub fn put_bytes(&mut self, data: &Bytes) {
        if data.len() < SEGMENT {
            self.tail.put_slice(data);
        } else {
            self.seal();
            self.done_len += data.len();
            self.done.push(data.clone());
        }
        self.pad(data.len());
    }

    /// Several pieces as the body of one opaque value: each piece is shared, the padding comes after the last.
    pub fn put_pieces<'a>(&mut self, pieces: impl IntoIterator<Item = &'a Bytes>) {
        let mut len = 0;
        for piece in pieces {
            len += piece.len();
            if piece.len() < SEGMENT {
                self.tail.put_slice(piece);
            } else {
                self.seal();
                self.done_len += piece.len();
                self.done.push(piece.clone());
            }
        }
        self.pad(len);
    }

    fn pad(&mut self, len: usize) {
        self.tail.put_bytes(0, padding(len));
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let sealed = self.tail.split().freeze();
            self.done_len += sealed.len();
            self.done.push(sealed);
        }
    }

    /// The message as segments, in order.
    pub fn into_segments(mut self) -> Vec<Bytes> {
        self.seal();
        self.done
    }

    /// The message in one piece (copies the payload: for tests and small messages).
    pub fn into_bytes(self) -> Bytes {
        let mut segments = self.into_segments();
        if segments.len() == 1 {
            return segments.remove(0);
        }
        segments.concat().into()
    }
}

impl io::Write for Writer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.tail.put_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Encodes one value into one piece.
pub fn to_bytes<T: Pack<Writer>>(value: &T) -> Result<Bytes> {
    let mut writer = Writer::new();
    writer.put(value)?;
    Ok(writer.into_bytes())
}

/// Zero bytes that follow `len` bytes up to a multiple of four (RFC 4506 §3).
pub const fn padding(len: usize) -> usize {
    (4 - len % 4) % 4
}

/// Bytes of variable length (`opaque<>`, and `string<>` as well: names are bytes here). A slice of its record.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Opaque(pub Bytes);

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() > 64 { write!(f, "[{} bytes]", self.0.len()) } else { fmt::Debug::fmt(&self.0, f) }
    }
}

impl std::ops::Deref for Opaque {
    type Target = Bytes;
    fn deref(&self) -> &Bytes {
        &self.0
    }
}

impl From<Bytes> for Opaque {
    fn from(data: Bytes) -> Self {
        Self(data)
    }
}

impl From<Vec<u8>> for Opaque {
    fn from(data: Vec<u8>) -> Self {
        Self(data.into())
    }
}

impl From<&[u8]> for Opaque {
    fn from(data: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(data))
    }
}

impl From<&str> for Opaque {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl Pack<Writer> for Opaque {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        let len = u32::try_from(self.0.len()).map_err(|_| Error::invalidlen(self.0.len()))?;
        len.pack(out)?;
        out.put_bytes(&self.0);
        Ok(4 + self.0.len() + padding(self.0.len()))
    }
}

impl Unpack<Reader> for Opaque {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        let len = input.get::<u32>()? as usize;
        let data = input.take(len)?;
        Ok((Self(data), 4 + len + padding(len)))
    }
}

/// An array of variable length (`T<>`). Its memory grows with what really arrived, never with what was claimed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct List<T>(pub Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> std::ops::Deref for List<T> {
    type Target = Vec<T>;
    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T> std::ops::DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

impl<T> From<Vec<T>> for List<T> {
    fn from(items: Vec<T>) -> Self {
        Self(items)
    }
}

impl<T> IntoIterator for List<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a List<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(items.into_iter().collect())
    }
}

impl<T: Pack<Writer>> Pack<Writer> for List<T> {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        let count = u32::try_from(self.0.len()).map_err(|_| Error::invalidlen(self.0.len()))?;
        let mut size = count.pack(out)?;
        for item in &self.0 {
            size += item.pack(out)?;
        }
        Ok(size)
    }
}

impl<T: Unpack<Reader>> Unpack<Reader> for List<T> {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        // No XDR value is shorter than four bytes; the few void ones never stand in a list.
        let count = input.count(4)?;
        // An element in memory can be much larger than its four bytes on the wire, so the
        // allocation starts small and grows only as elements really decode.
        let mut items = Vec::with_capacity(count.min(64));
        let mut size = 4;
        for _ in 0..count {
            let (item, used) = T::unpack(input)?;
            size += used;
            items.push(item);
        }
        Ok((Self(items), size))
    }
}

#[cfg(test)]
mod arbitrary_impls {
    use super::{List, Opaque};
    use arbitrary::{Arbitrary, Result, Unstructured};

    impl<'a> Arbitrary<'a> for Opaque {
        fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
            Ok(Vec::<u8>::arbitrary(u)?.into())
        }
    }

    impl<'a, T: Arbitrary<'a>> Arbitrary<'a> for List<T> {
        fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
            Ok(Self(Vec::arbitrary(u)?))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write as _;

    #[test]
    fn an_opaque_is_a_slice_of_its_record() {
        let record = Bytes::from_static(b"\0\0\0\x05hello\0\0\0rest");
        let mut reader = Reader::new(record.clone());
        let opaque: Opaque = reader.get().unwrap();
        assert_eq!(&opaque.0[..], b"hello");
        assert_eq!(opaque.0.as_ptr(), record[4..].as_ptr());
        assert_eq!(reader.remaining(), 4);
    }

    #[test]
    fn a_length_beyond_the_record_is_refused_before_allocation() {
        for claim in [6u32, 0x7fff_ffff, u32::MAX] {
            let mut bytes = claim.to_be_bytes().to_vec();
            bytes.extend(b"hello");
            assert!(from_bytes::<Opaque>(bytes.clone().into()).is_err());
            assert!(from_bytes::<List<u32>>(bytes.into()).is_err());
        }
    }

    #[test]
    fn missing_padding_is_an_error() {
        assert!(from_bytes::<Opaque>(Bytes::from_static(b"\0\0\0\x05hello")).is_err());
    }

    #[test]
    fn a_large_payload_is_shared_and_not_copied() {
        let payload = Bytes::from(vec![7u8; 100_001]);
        let mut writer = Writer::new();
        writer.write_all(b"head").unwrap();
        writer.put(&Opaque(payload.clone())).unwrap();
        writer.put(&9u32).unwrap();
        let len = writer.len();
        let segments = writer.into_segments();
        assert_eq!(segments.len(), 3);
        assert_eq!(segments[1].as_ptr(), payload.as_ptr());
        assert_eq!(segments.iter().map(Bytes::len).sum::<usize>(), len);
        assert_eq!(len, 4 + 4 + 100_001 + 3 + 4);
    }

    #[test]
    fn pieces_of_a_payload_are_padded_once() {
        let mut writer = Writer::new();
        writer.put(&9u32).unwrap();
        writer.put_pieces(&[Bytes::from_static(b"abcde"), Bytes::from_static(b"fghi")]);
        assert_eq!(&writer.into_bytes()[..], b"\0\0\0\x09abcdefghi\0\0\0");
    }
}
