//! The product, mounted with its real command line, and taken away whatever happens.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

const MOUNT_LIMIT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A mount that goes away when this is dropped.
#[derive(Debug)]
pub struct Mounted {
    product: PathBuf,
    lab: PathBuf,
    // It stays in the foreground, so that there is a process to end when the folder hangs.
    daemon: Child,
}

impl Mounted {
    /// Mounts on [`folder_of`] a lab, with these arguments and variables.
    pub fn mount<'a>(
        programs: &Path,
        lab: &Path,
        arguments: &[String],
        environment: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> anyhow::Result<Self> {
        let folder = prepare(lab)?;
        let product = programs.join("s3files-fuse");
        let log = File::create(lab.join("product.log"))?;
        let mut command = product_command(&product, lab);
        command.args(arguments).args(["--foreground", "--allow-other"]).envs(environment);
        let daemon = command.stdout(log.try_clone()?).stderr(log).spawn().context("starting s3files-fuse")?;
        let mut mounted = Self { product, lab: lab.to_owned(), daemon };
        let start = Instant::now();
        while !is_mounted(&folder) {
            let ended = mounted.daemon.try_wait()?;
            ensure!(ended.is_none(), "s3files-fuse did not mount: {}", mounted.log());
            ensure!(start.elapsed() < MOUNT_LIMIT, "nothing is mounted yet: {}", mounted.log());
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(mounted)
    }

    /// The folder.
    pub fn folder(&self) -> PathBuf {
        folder_of(&self.lab)
    }

    /// What the product wrote into its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.lab.join("product.log")).unwrap_or_default()
    }

    /// The number of the process that serves the folder; when it ends, no call on the folder hangs any longer.
    pub fn process(&self) -> u32 {
        self.daemon.id()
    }

    /// Unmounts with the product; everything must get written, and the daemon must end well.
    pub fn umount(mut self, limit: Duration) -> anyhow::Result<()> {
        let still_runs = self.daemon.try_wait()?.is_none();
        ensure!(still_runs, "the daemon had ended by itself; its log: {}", self.log());
        let mut umount = product_command(&self.product, &self.lab);
        let mut umount = umount.arg("umount").arg(self.folder()).stderr(Stdio::inherit()).spawn()?;
        let deadline = Instant::now() + limit;
        let status = wait(&mut umount, deadline)?;
        ensure!(status.success(), "`s3files-fuse umount` ended with {status}; the daemon's log: {}", self.log());
        let status = wait(&mut self.daemon, deadline)?;
        ensure!(status.success(), "the daemon ended with {status}; its log: {}", self.log());
        ensure!(!is_mounted(&self.folder()), "the folder is still mounted");
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // All of this finds nothing to do when `umount` has gone well.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        if is_mounted(&self.folder()) {
            let _ = Command::new("umount").arg("-l").arg(self.folder()).output();
        }
    }
}

/// The folder of a lab that is mounted on.
pub fn folder_of(lab: &Path) -> PathBuf {
    lab.join("folder")
}

/// Makes what a mount needs below a lab, and gives the folder.
pub fn prepare(lab: &Path) -> anyhow::Result<PathBuf> {
    for name in ["folder", "home", "run"] {
        fs::create_dir_all(lab.join(name))?;
    }
    Ok(folder_of(lab))
}

/// The product in an environment of its own: no AWS settings but those that are added.
pub fn product_command(product: &Path, lab: &Path) -> Command {
    let mut command = Command::new(product);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", lab.join("home"))
        .env("XDG_RUNTIME_DIR", lab.join("run"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null());
    command
}

fn wait(child: &mut Child, deadline: Instant) -> anyhow::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            anyhow::bail!("it took longer than it may");
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Whether something is mounted on `folder`, without touching it.
pub fn is_mounted(folder: &Path) -> bool {
    let folder = folder
        .parent()
        .and_then(|parent| parent.canonicalize().ok())
        .map_or_else(|| folder.to_owned(), |parent| parent.join(folder.file_name().unwrap_or_default()));
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .any(|mount| Path::new(&mount.replace("\\040", " ")) == folder)
}
