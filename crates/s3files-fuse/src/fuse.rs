//! Between the kernel's FUSE device and `vfs`: the adapter.
//!
//! The one idea: **the thread that reads the device never waits for the network**. Each request is parsed, given to a
//! task of its own and answered from there, so that a slow answer holds up nobody else. What is answered from memory
//! (`statfs`, `forget`) is done on the spot.
//!
//! [`adapter`] holds one method for each request, [`caller`] finds out who asks, [`convert`] turns words of one side
//! into words of the other, [`view`] puts local files beside those of the server, [`reply`] gives answers, [`invalidate`] tells the kernel what it must forget, [`session`]
//! mounts and ends.

mod adapter;
mod caller;
mod convert;
mod interrupt;
mod invalidate;
mod reply;
mod session;
mod view;

pub use session::{MountOptions, Session, check_available, unmount};
