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

/// What to do about a name, given what is known of its two forms without asking. What changes something must not hit the
/// other form's file while there may be one of exactly this name; what only asks takes the usual form's file where there is
/// one.
pub const fn choose(given: Option<bool>, composed: Option<bool>, aim: Aim) -> Step {
    match (given, composed, aim) {
        // Exactly this is there: whoever has seen both can have both.
        (Some(true), ..) => Step::Take(Form::Given),
        (Some(false), ..) | (None, Some(true), Aim::Ask) => Step::Take(Form::Composed),
        (None, _, Aim::Change) | (None, Some(false), Aim::Ask) => Step::Ask(Form::Given),
        (None, None, Aim::Ask) => Step::Ask(Form::Composed),
    }
}

/// What a name is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    Ask,
    /// Also what may change something: making, and so opening to truncate.
    Change,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The name goes to the server in this form.
    Take(Form),
    /// The server has to be asked whether it has it in this form.
    Ask(Form),
}

/// A form of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Given,
    Composed,
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

    #[test]
    fn what_is_there_is_found_and_what_is_new_is_composed() {
        use {Aim::Ask, Aim::Change};
        for aim in [Ask, Change] {
            for composed in [Some(true), Some(false), None] {
                assert_eq!(choose(Some(true), composed, aim), Step::Take(Form::Given));
                assert_eq!(choose(Some(false), composed, aim), Step::Take(Form::Composed));
            }
        }
        assert_eq!(choose(None, Some(true), Ask), Step::Take(Form::Composed));
        assert_eq!(choose(None, Some(false), Ask), Step::Ask(Form::Given));
        assert_eq!(choose(None, None, Ask), Step::Ask(Form::Composed));
        for composed in [Some(true), Some(false), None] {
            assert_eq!(choose(None, composed, Change), Step::Ask(Form::Given), "the other form's file is not hit");
        }
    }
}
