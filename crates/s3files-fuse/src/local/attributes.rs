//! The extended attributes of one file, and how they stand in a file of ours.
//!
//! After a line that says what it is come the attributes in the order of their names: the length of the name in two
//! bytes, that of the value in four, both most significant first, then name and value. Any bytes decode to attributes or
//! to an error.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use vfs::{Errno, Error, Result, XattrSet};

/// What a file of ours begins with.
const FIRST_LINE: &[u8] = b"s3files-fuse xattrs 1\n";
/// Longest name, in bytes.
const LONGEST_NAME: usize = 255;
/// Most bytes of one file's attributes, names included: a Mac may keep an icon in one.
pub const MOST: usize = 16 << 20;

/// See the module's page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes(BTreeMap<Bytes, Bytes>);

impl Attributes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A value.
    pub fn get(&self, name: &[u8]) -> Result<Bytes> {
        self.0.get(name).cloned().ok_or(Error::NoAttribute)
    }

    /// All names.
    pub fn names(&self) -> Vec<Bytes> {
        self.0.keys().cloned().collect()
    }

    /// Sets a value, or a part of it from `position` on, as Macs write the resource fork.
    pub fn set(&mut self, name: &[u8], value: &[u8], set: XattrSet, position: u32) -> Result<()> {
        if name.is_empty() || name.len() > LONGEST_NAME || name.contains(&0) {
            return Err(Error::OutOfRange);
        }
        let old = self.0.get(name);
        match (set, old) {
            (XattrSet::Create, Some(_)) => return Err(Error::Exists),
            (XattrSet::Replace, None) => return Err(Error::NoAttribute),
            _ => {}
        }
        let position = position as usize;
        let mut new = if position == 0 { Vec::new() } else { old.map(|old| old.to_vec()).unwrap_or_default() };
        let end = position.saturating_add(value.len());
        let others = self.weight() - old.map_or(0, |old| name.len() + old.len());
        if others.saturating_add(name.len()).saturating_add(end.max(new.len())) > MOST {
            return Err(Error::Elsewhere(Errno::TooBig));
        }
        new.resize(end.max(new.len()), 0);
        new[position..end].copy_from_slice(value);
        self.0.insert(Bytes::copy_from_slice(name), Bytes::from(new));
        Ok(())
    }

    /// Removes one.
    pub fn remove(&mut self, name: &[u8]) -> Result<()> {
        self.0.remove(name).map(|_| ()).ok_or(Error::NoAttribute)
    }

    fn weight(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// As a file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIRST_LINE.len() + self.weight() + 6 * self.0.len());
        out.put_slice(FIRST_LINE);
        for (name, value) in &self.0 {
            out.put_u16(name.len() as u16);
            out.put_u32(value.len() as u32);
            out.put_slice(name);
            out.put_slice(value);
        }
        out
    }

    /// From a file; `None`: it is damaged.
    pub fn decode(file: Vec<u8>) -> Option<Self> {
        let mut file = Bytes::from(file);
        if !file.starts_with(FIRST_LINE) {
            return None;
        }
        file.advance(FIRST_LINE.len());
        let mut found = BTreeMap::new();
        while file.has_remaining() {
            let (name, value) = (file.try_get_u16().ok()?, file.try_get_u32().ok()?);
            let (name, value) = (usize::from(name), value as usize);
            if name == 0 || file.remaining() < name.checked_add(value)? {
                return None;
            }
            let name = file.split_to(name);
            found.insert(name, file.split_to(value));
        }
        Some(Self(found))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn attributes() -> impl Strategy<Value = Attributes> {
        prop::collection::vec(("[a-z.]{1,20}", prop::collection::vec(any::<u8>(), 0..50)), 0..8).prop_map(|all| {
            let mut attributes = Attributes::default();
            for (name, value) in all {
                attributes.set(name.as_bytes(), &value, XattrSet::Either, 0).unwrap();
            }
            attributes
        })
    }

    proptest! {
        #[test]
        fn attributes_survive_the_disk(attributes in attributes()) {
            prop_assert_eq!(Attributes::decode(attributes.encode()), Some(attributes));
        }

        #[test]
        fn a_damaged_file_is_an_error_or_attributes_and_never_a_panic(
            attributes in attributes(), at: usize, byte: u8, cut: usize,
        ) {
            let mut file = attributes.encode();
            let at = at % file.len();
            file[at] = byte;
            file.truncate(cut % (file.len() + 1));
            let _ = Attributes::decode(file);
        }

        #[test]
        fn any_bytes_decode_to_something_or_nothing(bytes: Vec<u8>) {
            let _ = Attributes::decode([FIRST_LINE, &bytes].concat());
        }
    }

    #[test]
    fn half_a_file_is_damaged() {
        let mut attributes = Attributes::default();
        attributes.set(b"a", b"value", XattrSet::Create, 0).unwrap();
        let file = attributes.encode();
        assert_eq!(Attributes::decode(Vec::new()), None);
        for len in FIRST_LINE.len() + 1..file.len() {
            assert_eq!(Attributes::decode(file[..len].to_vec()), None, "{len}");
        }
    }

    #[test]
    fn conditions_limits_and_parts_are_heeded() {
        let mut all = Attributes::default();
        assert_eq!(all.set(b"a", b"1", XattrSet::Replace, 0).unwrap_err().errno(), Errno::NoData);
        all.set(b"a", b"1", XattrSet::Create, 0).unwrap();
        assert_eq!(all.set(b"a", b"1", XattrSet::Create, 0).unwrap_err().errno(), Errno::Exist);
        // A resource fork is written piece by piece.
        all.set(b"fork", b"abcdef", XattrSet::Either, 0).unwrap();
        all.set(b"fork", b"XY", XattrSet::Either, 2).unwrap();
        all.set(b"fork", b"Z", XattrSet::Either, 7).unwrap();
        assert_eq!(all.get(b"fork").unwrap(), &b"abXYef\0Z"[..]);
        all.set(b"fork", b"", XattrSet::Either, 0).unwrap();
        assert_eq!(all.get(b"fork").unwrap(), "");
        for bad in [&b""[..], b"a\0b", &[b'x'; 256]] {
            assert_eq!(all.set(bad, b"", XattrSet::Either, 0).unwrap_err().errno(), Errno::Range);
        }
        let before = all.clone();
        assert_eq!(all.set(b"big", &vec![0; MOST], XattrSet::Either, 0).unwrap_err().errno(), Errno::TooBig);
        assert_eq!(all.set(b"a", b"x", XattrSet::Either, u32::MAX).unwrap_err().errno(), Errno::TooBig);
        assert_eq!(all, before);
    }
}
