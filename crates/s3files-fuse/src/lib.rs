//! `s3files-fuse`: an Amazon S3 Files file system as a folder.
//!
//! This crate is what a person sees: the command line ([`cli`]), the mount from its first connection to its last byte
//! ([`serve`]), and the adapter between the kernel and `vfs` ([`fuse`]). What a file system means is in `vfs`, what
//! NFSv4 means in `nfs4-client`, how a mount target is reached in `mount-target`.

mod background;
mod cli;
mod config;
mod control;
mod failure;
mod folder;
mod fstab;
mod fuse;
mod home;
mod identity;
mod leftovers;
mod live;
mod local;
mod logging;
mod login;
#[cfg(any(target_os = "macos", test))]
mod mac;
mod memory;
mod mounts;
mod patience;
mod printable;
mod rights;
mod serve;
mod settings;
mod status;
mod wake;
mod walk;

use std::process::ExitCode;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    memory::prepare();
    cli::run()
}
