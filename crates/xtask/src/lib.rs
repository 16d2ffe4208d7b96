//! What chores and tests share: servers that are not ours, and data.
#![forbid(unsafe_code)]

pub mod ganesha;
pub mod noise;
