//! Write-back: bytes that programs have written and the server does not hold for good yet.
//!
//! [`dirty`] decides what to send and when, without a runtime; [`sets`] holds attributes that go with it; [`flush`] sends
//! it; [`gauge`] bounds it for the mount. [`held`] is about attributes of files that are not being written.

pub(crate) mod dirty;
pub(crate) mod flush;
pub(crate) mod gauge;
pub(crate) mod held;
pub(crate) mod sets;
