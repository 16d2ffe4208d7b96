//! `cargo xtask real-server`: the client and the product against a server that is not ours.
//!
//! nfs-ganesha serves a folder. The client's own tests talk to it directly, over a relay that breaks. For the product's,
//! `mock-mount-target` puts the TLS and IAM of S3 Files in front of it, and the folder is mounted with the real command
//! line. Plain `cargo test` leaves these out, because they need ganesha and some minutes.

use anyhow::bail;
use clap::Args;
use xtask::ganesha::{EXPORT, Ganesha, Grace};

use crate::{cargo, find, succeed};

/// Work on a real NFS server (nfs-ganesha), directly and through the mock's front door.
#[derive(Debug, Args)]
pub struct RealServerArgs {
    /// Only tests whose name holds this.
    filter: Option<String>,
    /// Build with optimisation, for timings that mean something.
    #[arg(long)]
    release: bool,
}

impl RealServerArgs {
    /// Carries it out.
    pub fn run(self) -> anyhow::Result<()> {
        // A chance to leave it out where it cannot run, said aloud.
        if std::env::var_os("S3FILES_SKIP_REAL_SERVER").is_some() {
            println!("real-server: skipped, because S3FILES_SKIP_REAL_SERVER is set");
            return Ok(());
        }
        let needed = [
            ("ganesha.nfsd", "nfs-ganesha nfs-ganesha-vfs nfs-ganesha-proxy-v4"),
            ("git", "git"),
            ("diff", "diffutils"),
            ("cc", "gcc"),
        ];
        for (program, package) in needed {
            if find(program).is_none() {
                bail!("{program} is needed: apt-get install {package}");
            }
        }
        self.client()?;
        self.product()
    }

    /// The tests of nfs4-client, those that restart the server last and one after the other.
    fn client(&self) -> anyhow::Result<()> {
        let dir = tempfile::Builder::new().prefix("s3files-ganesha-").tempdir()?;
        let server = Ganesha::start(dir.path(), Grace::FiveSeconds)?;
        let restart = format!("'{}' restart-ganesha '{}'", std::env::current_exe()?.display(), server.dir().display());
        for further in [&[][..], &["--ignored", "--test-threads=1"]] {
            let mut tests = self.tests("server");
            tests.env("S3FILES_TEST_NFS", format!("{}{EXPORT}", server.address()));
            tests.env("S3FILES_TEST_NFS_RESTART", &restart);
            succeed(tests.args(further))?;
        }
        Ok(())
    }

    fn product(&self) -> anyhow::Result<()> {
        succeed(self.tests("real_server").args(["--ignored", "--nocapture", "--test-threads=1"]))
    }

    /// With `--workspace` everything is built as for `cargo test --workspace`, so nothing is built twice.
    fn tests(&self, name: &str) -> std::process::Command {
        let mut tests = cargo();
        tests.args(["test", "--workspace", "--test", name]);
        if self.release {
            tests.arg("--release");
        }
        tests.arg("--").args(&self.filter);
        tests
    }
}
