//! A mutex for short critical sections that shrugs off poisoning.
//!
//! A panic in one request is answered with EIO; it must not turn every later request for the same inode into another
//! panic. The data behind these locks is kept consistent by the methods of the pure cores, each of which completes or
//! leaves its structure as it was, so carrying on after a poisoned lock is sound. Never held across an `.await`.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module's page.
#[derive(Default)]
pub(crate) struct Locked<T>(Mutex<T>);

impl<T> Locked<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locked(..)")
    }
}
