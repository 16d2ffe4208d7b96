//! What others have named, as it can be shown on a terminal.

/// The same text without control characters: what is one line stays one, and no terminal takes a name for an order.
pub fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '?' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_moves_the_cursor_or_ends_the_line() {
        assert_eq!(printable("a\x1b[2Jb\nc\u{9b}d\r\u{7f}"), "a?[2Jb?c?d??");
        assert_eq!(printable("größer – ü.txt"), "größer – ü.txt");
    }
}
