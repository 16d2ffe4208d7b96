//! A reader for the few DER shapes in the certificate's private extensions (X.690): strict, and written here so that
//! the mock does not share a mistake with whoever wrote them.

/// Tag of OCTET STRING.
pub(crate) const OCTET_STRING: u8 = 0x04;
/// Tag of UTF8String.
pub(crate) const UTF8_STRING: u8 = 0x0c;
/// Tag of UTCTime.
pub(crate) const UTC_TIME: u8 = 0x17;
/// Tag of SEQUENCE.
pub(crate) const SEQUENCE: u8 = 0x30;
/// Tag of `[0] EXPLICIT`.
pub(crate) const EXPLICIT_0: u8 = 0xa0;

/// What is left of a DER encoding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The contents of the next element, which must have this tag.
    pub(crate) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&found, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // The long form is for lengths that do not fit in the short one, without leading zeros (X.690 §10.1).
            0x81 => {
                let (&len, rest) = rest.split_first()?;
                (len > 0x7f).then_some((usize::from(len), rest))?
            }
            0x82 => {
                let (len, rest) = rest.split_at_checked(2)?;
                let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
                (len > 0xff).then_some((len, rest))?
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(len)?;
        if found != tag {
            return None;
        }
        self.0 = rest;
        Some(contents)
    }

    /// The next element as a UTF8String.
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.take(UTF8_STRING)?).ok()
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// `value` if nothing is left behind it.
    pub(crate) fn end<T>(self, value: T) -> Option<T> {
        self.is_empty().then_some(value)
    }
}

/// One UTF8String and nothing else.
pub(crate) fn only_text(bytes: &[u8]) -> Option<&str> {
    let mut der = Der::new(bytes);
    let text = der.text()?;
    der.end(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_have_exactly_one_form() {
        assert_eq!(only_text(b"\x0c\x02hi"), Some("hi"));
        assert_eq!(only_text(b"\x0c\x81\x02hi"), None);
        assert_eq!(only_text(b"\x0c\x82\x00\x02hi"), None);
        assert_eq!(only_text(b"\x0c\x80hi\0\0"), None);
        assert_eq!(only_text(b"\x0c\x02hi!"), None);
        assert_eq!(only_text(b"\x0c\x03hi"), None);
        assert_eq!(only_text(b"\x13\x02hi"), None);
        assert_eq!(only_text(b"\x0c\x01\xff"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_by_the_rule_is_read(text in "[a-z]{0,400}") {
            let len = text.len();
            let head = match len {
                0..=127 => vec![0x0c, len as u8],
                128..=255 => vec![0x0c, 0x81, len as u8],
                _ => vec![0x0c, 0x82, (len >> 8) as u8, len as u8],
            };
            let der = [head.as_slice(), text.as_bytes()].concat();
            prop_assert_eq!(only_text(&der), Some(text.as_str()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), tag: u8) {
            let mut der = Der::new(&bytes);
            while der.take(tag).is_some() {}
            let _ = only_text(&bytes);
        }
    }
}
