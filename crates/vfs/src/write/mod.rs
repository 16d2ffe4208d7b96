//! Write-back: bytes that programs have written and the server does not hold for good yet.
//!
//! [`dirty`] decides what to send and when, without a runtime; [`flush`] sends it.

pub(crate) mod dirty;
