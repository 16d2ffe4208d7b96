//! Names that a command has filled: of two sources with one name, the second must not replace the first unsaid.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// The names, if there is more than one source; one alone has each name once.
#[derive(Debug)]
pub struct Claims<K>(Option<Mutex<HashSet<K>>>);

impl<K: Eq + Hash> Claims<K> {
    /// What is said to the second.
    pub const REFUSED: &'static str = "not copied: another source has just been copied to the same name";

    /// None yet.
    pub fn new(sources: usize) -> Self {
        Self((sources > 1).then(Mutex::default))
    }

    /// Whether nothing else has been copied to this name.
    pub fn is_first(&self, name: K) -> bool {
        self.0.as_ref().is_none_or(|names| names.lock().unwrap_or_else(PoisonError::into_inner).insert(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_of_a_name_is_refused_where_there_are_several_sources() {
        let several = Claims::new(2);
        assert!(several.is_first("a") && several.is_first("b") && !several.is_first("a"));
    }
}
