//! Mounting on a Mac, where the kernel's part comes from macFUSE.
//!
//! The one idea: **macFUSE's library is not needed, only its mount program**, because the library's entry points changed
//! their meaning from one release to the next and the way that the mount program hands over a device did not. Which
//! ways are tried, in which order, is decided by what is installed ([`installed`]); what the kernel is told about the
//! volume stands in [`options`]; the first exchange with the kernel, in which a volume becomes case-sensitive or not,
//! goes through our hands ([`handshake`], [`init`]).
//!
//! Everything that decides, and everything but the last step, is compiled and tested on Linux as well.

mod handshake;
mod helper;
mod init;
mod installed;
mod libfuse;
mod mount;
pub mod options;
mod raw;

#[cfg(test)]
mod frames;

#[cfg(target_os = "macos")]
pub use mount::{Pending, check_available, found, open};
