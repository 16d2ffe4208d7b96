//! `cargo xtask real-server`: the product against a server that is not ours.
//!
//! nfs-ganesha serves a folder, `mock-mount-target serve --forward` puts the TLS and IAM of S3 Files in front of it, and
//! the product is mounted with its real command line. The tests are `#[ignore]`d elsewhere, because they need ganesha
//! and some minutes.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;

use crate::{cargo, succeed};

/// Mount a real NFS server (nfs-ganesha) through the mock's front door and work in it.
#[derive(Debug, Args)]
pub struct RealServerArgs {
    /// Only tests whose name holds this.
    filter: Option<String>,
}

impl RealServerArgs {
    /// Carries it out.
    pub fn run(self) -> anyhow::Result<()> {
        // A chance to leave it out where it cannot run, said aloud.
        if std::env::var_os("S3FILES_SKIP_REAL_SERVER").is_some() {
            println!("real-server: skipped, because S3FILES_SKIP_REAL_SERVER is set");
            return Ok(());
        }
        for (program, package) in
            [("ganesha.nfsd", "nfs-ganesha nfs-ganesha-vfs"), ("git", "git"), ("diff", "diffutils")]
        {
            if find(program).is_none() {
                bail!("{program} is needed: apt-get install {package}");
            }
        }
        succeed(cargo().args(["build", "--release", "--package", "s3files-fuse", "--package", "mock-mount-target"]))?;
        let mut tests = cargo();
        tests.args(["test", "--release", "--package", "whole-product-tests", "--test", "real_server"]);
        tests.args(["--", "--ignored", "--nocapture", "--test-threads=1"]);
        tests.args(self.filter);
        succeed(&mut tests)
    }
}

/// A program on the path, or where Debian keeps daemons.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| Path::is_file(file))
}
