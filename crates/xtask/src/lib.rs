//! What chores and tests share: servers that are not ours.
#![forbid(unsafe_code)]

pub mod ganesha;
