//! The form of names: `é` can be one character or an `e` and an accent, which look alike and are different bytes.
//!
//! Macs mostly ask with the letter taken apart (NFD), other systems write it as one (NFC), and S3 knows bytes only. So
//! names go to the server as NFC. A name that the server has in another form already is found by that form.

use bytes::Bytes;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The name in NFC, where it is in another form; what is no text has none.
pub fn composed(name: &[u8]) -> Option<Bytes> {
    if name.is_ascii() {
        return None;
    }
    let text = std::str::from_utf8(name).ok()?;
    if is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return None;
    }
    let composed: String = text.nfc().collect();
    (composed.as_bytes() != name).then(|| Bytes::from(composed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_in_another_form_is_changed() {
        assert_eq!(composed("e\u{301}te\u{301}".as_bytes()).as_deref(), Some("\u{e9}t\u{e9}".as_bytes()));
        // A letter that has no form in one piece, and one whose marks are in the wrong order.
        assert_eq!(composed("x\u{301}".as_bytes()), None);
        assert_eq!(composed("q\u{307}\u{323}".as_bytes()).as_deref(), Some("q\u{323}\u{307}".as_bytes()));
        for name in
            [&b"plain"[..], "\u{e9}t\u{e9}".as_bytes(), "\u{4f60}\u{597d}".as_bytes(), b"e\xcc", b"\xff\xfe", b""]
        {
            assert_eq!(composed(name), None, "{}", name.escape_ascii());
        }
    }
}
