//! What the whole-product tests stand on: programs with a time limit, mounts that are taken away whatever happens, and
//! a mount target of the test's own.
//!
//! A test of a file system can hang in the kernel, where no panic reaches it. So every test has a [`Watch`]: when its
//! time is over, the watch aborts the FUSE connections of the test's folders, calls that hang get an error, and the
//! test fails by itself.

mod command;
mod mount;
mod watch;
pub mod work;

pub use command::{Done, Running, run};
pub use mount::{ANSWER, Lab, Mounted};
pub use watch::Watch;

use std::io::Read;
use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest, Sha256};

/// Bytes that look like noise, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut data = Vec::with_capacity(len + 8);
    while data.len() < len {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend_from_slice(&state.to_le_bytes());
    }
    data.truncate(len);
    data
}

/// SHA-256 of a file, read piece by piece.
pub fn sha256(path: &Path) -> anyhow::Result<[u8; 32]> {
    let mut file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut digest = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).with_context(|| format!("reading {}", path.display()))? {
            0 => return Ok(digest.finalize().into()),
            len => digest.update(&piece[..len]),
        }
    }
}
