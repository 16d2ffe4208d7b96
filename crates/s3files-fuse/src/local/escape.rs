//! Names as the disk has them.
//!
//! Names of the file system are bytes, and each is another file. A Mac's disk takes names that differ in case, or in the
//! form of an accent, for one. So on the disk upper-case letters and everything beyond ASCII stand as `%` and two
//! hexadecimal digits, in lower case, and `%` itself does: what is left cannot be mistaken for anything else. Longest names
//! are shorter for it: up to three bytes of 255 go into one.

/// Longest name on a disk, in bytes.
const LONGEST: usize = 255;

const fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii() && !byte.is_ascii_uppercase() && byte != b'%'
}

/// A name as the disk has it.
pub fn on_disk(name: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut written = String::with_capacity(name.len());
    for &byte in name {
        if stands_for_itself(byte) {
            written.push(char::from(byte));
        } else {
            let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
            written.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    written
}

/// Whether the disk can have this name.
pub fn fits(name: &[u8]) -> bool {
    on_disk(name).len() <= LONGEST
}

/// The name that the disk has in this form; `None`: it is none of ours.
pub fn from_disk(written: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(written.len());
    let mut rest = written;
    while let Some((&first, behind)) = rest.split_first() {
        if first == b'%' {
            let (digits, behind) = behind.split_at_checked(2)?;
            name.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = behind;
        } else {
            name.push(first);
            rest = behind;
        }
    }
    // There is one way to write a name only.
    (on_disk(&name).as_bytes() == written).then_some(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// Names of which many differ in case, in a form, or by an escape.
    fn name() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            prop::sample::select(vec![
                &b"a"[..],
                b"A",
                b"%",
                b"%41",
                b"%4",
                b"41",
                "\u{e9}".as_bytes(),
                b"e\xcc\x81",
                b"\xff"
            ])
            .prop_map(<[u8]>::to_vec),
            prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn a_name_survives_the_disk_and_no_two_are_one_to_a_mac(one in name(), other in name()) {
            let (first, second) = (on_disk(&one), on_disk(&other));
            prop_assert_eq!(from_disk(first.as_bytes()), Some(one.clone()));
            prop_assert!(first.is_ascii(), "nothing that has another form");
            prop_assert_eq!(first.eq_ignore_ascii_case(&second), one == other);
        }

        #[test]
        fn what_is_on_the_disk_is_a_name_of_ours_or_nothing(written in name()) {
            if let Some(name) = from_disk(&written) {
                prop_assert_eq!(on_disk(&name).into_bytes(), written);
            }
        }
    }

    #[test]
    fn names_look_like_themselves_where_they_can() {
        assert_eq!(on_disk(b"._icon.txt"), "._icon.txt");
        assert_eq!(on_disk("._R\u{e9}%".as_bytes()), "._%52%c3%a9%25");
        for written in [&b"A"[..], b"%4", b"%", b"%61", b"%C3", b"%+1", b"\xc3\xa9"] {
            assert_eq!(from_disk(written), None, "{}", written.escape_ascii());
        }
        assert!(fits(&[b'a'; 255]) && fits(&[b'A'; 85]) && !fits(&[b'A'; 86]));
    }
}
