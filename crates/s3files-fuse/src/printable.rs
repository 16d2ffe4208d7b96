//! What others have named, as it can be shown on a terminal.

use std::borrow::Cow;

/// The same text without control characters: what is one line stays one, and no terminal takes a name for an order.
pub fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '?' } else { char }).collect()
}

/// A name for an output: printable for a terminal, and as it is for a program.
pub fn for_output(name: &[u8], is_terminal: bool) -> Cow<'_, [u8]> {
    if is_terminal { printable(&String::from_utf8_lossy(name)).into_bytes().into() } else { name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_moves_the_cursor_or_ends_the_line() {
        assert_eq!(printable("a\x1b[2Jb\nc\u{9b}d\r\u{7f}"), "a?[2Jb?c?d??");
        assert_eq!(printable("größer – ü.txt"), "größer – ü.txt");
    }

    #[test]
    fn a_program_gets_the_bytes_of_a_name_and_a_terminal_none_that_act() {
        let name = b"a\x1b]0;title\x07\xff\n";
        assert_eq!(&*for_output(name, false), name);
        assert_eq!(&*for_output(name, true), "a?]0;title?\u{fffd}?".as_bytes());
    }
}
