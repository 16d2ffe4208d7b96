//! One file as the mount knows it.

/// One file as the mount knows it.
#[derive(Debug)]
pub(crate) struct Node {}
