//! A test's own corner of the machine, and the product mounted in it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use mock_mount_target::MockHandle;
use tempfile::TempDir;

use crate::command::{Done, run};
use crate::watch::{Watch, mounts};

/// How long the product may take to mount or to refuse (the issue's own number).
pub const ANSWER: Duration = Duration::from_secs(10);
/// How long it may take to write everything back.
const WRITE_BACK: Duration = Duration::from_mins(2);

/// A temporary directory with a folder to mount on, the product, and a time limit.
#[derive(Debug)]
pub struct Lab {
    // Dropped in this order: the mounts go first, then the directory.
    _watch: Watch,
    dir: TempDir,
    product: PathBuf,
}

impl Lab {
    /// A lab for one test, which may take `limit`. `product` is the program.
    pub fn new(product: &str, limit: Duration) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("s3files-test-").tempdir()?;
        for name in ["folder", "run", "home"] {
            std::fs::create_dir(dir.path().join(name))?;
        }
        Ok(Self { _watch: Watch::start(dir.path(), limit), dir, product: product.into() })
    }

    /// The folder to mount on.
    pub fn folder(&self) -> PathBuf {
        self.dir.path().join("folder")
    }

    /// A path in the test's directory, outside of the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Whether anything is mounted in the test's directory.
    pub fn is_mounted(&self) -> bool {
        !mounts(self.dir.path()).is_empty()
    }

    /// The directory of control sockets.
    pub fn runtime_dir(&self) -> PathBuf {
        self.path("run").join("s3files-fuse")
    }

    /// The product with arguments, in an environment of its own: no AWS settings but those that the test adds.
    pub fn product<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.product);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.dir.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            // The C library's resolver sends nothing: names that are to be unknown are not asked for in the network.
            .env("RES_OPTIONS", "attempts:0");
        command
    }

    /// The command that mounts `mock` on the folder, with further arguments.
    pub fn mount_command(&self, mock: &MockHandle, further: &[&str]) -> Command {
        let mut command = self.product(mock.mount_arguments(&self.folder().display().to_string()));
        command.args(further).envs(mock.environment());
        command
    }

    /// Mounts `mock` on the folder.
    pub fn mount(&self, mock: &MockHandle, further: &[&str]) -> anyhow::Result<Mounted<'_>> {
        self.mount_by(&mut self.mount_command(mock, further))
    }

    /// Mounts with this command, which must be one of [`Lab::product`].
    pub fn mount_by(&self, command: &mut Command) -> anyhow::Result<Mounted<'_>> {
        let done = run(command, ANSWER)?.ok()?;
        ensure!(self.is_mounted(), "`mount` came back but nothing is mounted: {done:?}");
        Ok(Mounted { lab: self })
    }

    /// Unmounts the folder with the product.
    pub fn umount(&self) -> anyhow::Result<Done> {
        run(&mut self.product(["umount", &self.folder().display().to_string()]), WRITE_BACK)
    }

    /// The log of the process that serves the folder.
    pub fn log(&self) -> String {
        let logs = std::fs::read_dir(self.path("home/.local/state/s3files-fuse")).into_iter().flatten().flatten();
        logs.filter(|file| file.path().extension().is_some_and(|ending| ending == "log"))
            .map(|file| std::fs::read_to_string(file.path()).unwrap_or_default())
            .collect()
    }

    /// Nothing of the product is left: no mount, no socket, nothing in the folder.
    pub fn assert_clean(&self) -> anyhow::Result<()> {
        ensure!(!self.is_mounted(), "something is still mounted");
        let left: Vec<_> = std::fs::read_dir(self.folder())?.collect();
        ensure!(left.is_empty(), "the folder is not empty: {left:?}");
        let start = Instant::now();
        while self.sockets() > 0 {
            ensure!(start.elapsed() < Duration::from_secs(5), "a control socket was left behind");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn sockets(&self) -> usize {
        let files = std::fs::read_dir(self.runtime_dir()).into_iter().flatten().flatten();
        files.filter(|file| file.path().extension().is_some_and(|ending| ending == "sock")).count()
    }
}

/// The product, mounted on the folder of a lab. The lab's watch takes it away if the test does not.
#[derive(Debug)]
pub struct Mounted<'a> {
    lab: &'a Lab,
}

impl Mounted<'_> {
    /// The folder.
    pub fn folder(&self) -> PathBuf {
        self.lab.folder()
    }

    /// A path in the folder.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.lab.folder().join(name)
    }

    /// Unmounts with the product; everything must have been written.
    pub fn umount(self) -> anyhow::Result<()> {
        self.lab.umount()?.ok().with_context(|| format!("umount; the log says: {}", self.lab.log()))?;
        self.lab.assert_clean()
    }
}
