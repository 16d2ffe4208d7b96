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
pub use xtask::noise::noise;

use std::io::Read;
use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest, Sha256};

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
