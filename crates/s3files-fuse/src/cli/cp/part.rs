//! What a file is called while it is being copied, and how much of it can be kept by the next attempt.
//!
//! The one idea: **a name says which state of which file it holds.** A copy grows under [`name`], which holds a number made
//! from the source's size and time of change, and gets its real name when every byte is in place. So nothing half-done
//! ever looks finished, and what an interrupted attempt has left is taken up again only if the source is still the same.

use vfs::Timestamp;

use crate::control::fnv;

/// How such a name ends.
const ENDING: &str = ".s3files-part";
/// Longest name that file systems take, in bytes.
const LONGEST_NAME: usize = 255;
/// Where a copy is taken up again is a multiple of this.
const GRAIN: u64 = 1 << 20;

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Size in bytes.
    pub size: u64,
    /// When its data changed.
    pub mtime: Timestamp,
}

impl Stamp {
    /// Whether a copy with `other` is a finished copy of this. Not every file system keeps all digits of a time.
    pub fn is_kept_by(&self, other: &Self) -> bool {
        let (a, b) = (self.mtime.nanos, other.mtime.nanos);
        let same_nanos = a == b || a / 1000 == b / 1000 || a == 0 || b == 0;
        self.size == other.size && self.mtime.seconds == other.mtime.seconds && same_nanos
    }
}

/// The name under which a copy of the file `name` grows.
pub fn name(name: &[u8], source: &Stamp) -> Vec<u8> {
    let state = format!("{}:{}:{}", source.size, source.mtime.seconds, source.mtime.nanos);
    let state = format!(".{:08x}{ENDING}", fnv(state.as_bytes()) as u32);
    if 1 + name.len() + state.len() <= LONGEST_NAME {
        [b".", name, state.as_bytes()].concat()
    } else {
        format!(".{:016x}{state}", fnv(name)).into_bytes()
    }
}

/// The same for this attempt alone, where the usual name is taken by another one.
pub fn own_name(name_of: &[u8], source: &Stamp) -> Vec<u8> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let attempt = format!("{}:{}", std::process::id(), now.as_nanos());
    let mut name = name(name_of, source);
    name.truncate(name.len() - ENDING.len());
    if name.len() + 9 + ENDING.len() > LONGEST_NAME {
        name = format!(".{:016x}", fnv(&name)).into_bytes();
    }
    name.extend_from_slice(format!(".{:08x}{ENDING}", fnv(attempt.as_bytes()) as u32).as_bytes());
    name
}

/// Whether a name is one of these.
pub fn is_part(name: &[u8]) -> bool {
    name.starts_with(b".") && name.ends_with(ENDING.as_bytes())
}

/// Where to go on in a part that is `there` bytes long, when at most the last `unsure` of them may not be in place.
pub fn resume_at(there: u64, unsure: u64, source: &Stamp) -> u64 {
    let sure = there.saturating_sub(unsure).min(source.size);
    sure - sure % GRAIN
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamp(size: u64, seconds: i64, nanos: u32) -> Stamp {
        Stamp { size, mtime: Timestamp { seconds, nanos } }
    }

    #[test]
    fn another_state_of_the_source_has_another_part() {
        let part = name(b"film.mov", &stamp(5, 1, 0));
        assert!(is_part(&part) && part.starts_with(b".film.mov."));
        for other in [stamp(6, 1, 0), stamp(5, 2, 0), stamp(5, 1, 1)] {
            assert_ne!(name(b"film.mov", &other), part);
        }
        assert!(!is_part(b"film.mov") && !is_part(b"x.s3files-part"));
    }

    #[test]
    fn a_long_name_still_has_a_part_of_its_own() {
        let (a, b) = ([b'a'; 255], [b'b'; 255]);
        let source = stamp(1, 1, 1);
        assert!(name(&a, &source).len() <= 255);
        assert_ne!(name(&a, &source), name(&b, &source));
    }

    #[test]
    fn an_attempt_beside_another_has_a_part_that_is_none_of_the_usual_ones() {
        let source = stamp(1, 1, 1);
        for of in [&b"film.mov"[..], &[b'a'; 225], &[b'a'; 255]] {
            let own = own_name(of, &source);
            assert!(is_part(&own) && own.len() <= LONGEST_NAME && own != name(of, &source), "{own:?}");
        }
    }

    #[test]
    fn a_copy_without_fractions_of_a_second_is_finished_all_the_same() {
        let source = stamp(7, 100, 123_456_789);
        assert!(source.is_kept_by(&stamp(7, 100, 0)) && source.is_kept_by(&stamp(7, 100, 123_456_000)));
        assert!(!source.is_kept_by(&stamp(7, 100, 999_000_000)) && !source.is_kept_by(&stamp(7, 101, 0)));
        assert!(!source.is_kept_by(&stamp(8, 100, 0)));
    }

    proptest! {
        #[test]
        fn no_byte_that_may_be_missing_is_kept(there: u64, unsure in 0u64..1 << 40, size: u64) {
            let at = resume_at(there, unsure, &stamp(size, 0, 0));
            prop_assert!(at <= size && at <= there.saturating_sub(unsure) && at.is_multiple_of(GRAIN));
        }
    }
}
