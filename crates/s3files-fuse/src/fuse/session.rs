//! A mount: from a folder that becomes the file system to a folder again.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

use fuser::{Config, MountOption, SessionACL};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use vfs::Vfs;

use super::adapter::Adapter;
use super::invalidate::Invalidator;
use crate::failure::Failure;

/// How long the last requests may take once the folder is unmounted; nobody waits for their answers any more.
const LAST_REQUESTS: Duration = Duration::from_secs(30);

/// Most threads that take requests from the kernel. Each takes the bytes of a write out of it, and answers what is known.
#[cfg(target_os = "linux")]
const MOST_THREADS: usize = 4;

/// How a folder is mounted.
#[derive(Debug, Clone, Default)]
pub struct MountOptions {
    /// What `df` and `mount` show as the source.
    pub source: String,
    /// Nothing may be changed.
    pub read_only: bool,
    /// Other users see the folder too.
    pub allow_other: bool,
    /// The kernel judges by mode, owner and group, beside the server.
    pub default_permissions: bool,
    /// The volume's name in Finder.
    #[cfg(target_os = "macos")]
    pub volume_name: Option<String>,
}

impl MountOptions {
    fn config(&self) -> Config {
        let mut config = Config::default();
        // A comma would end the option; fuser does not escape it.
        let source = self.source.replace(',', "_");
        let options = &mut config.mount_options;
        options.push(MountOption::FSName(source));
        options.push(if self.read_only { MountOption::RO } else { MountOption::RW });
        if self.default_permissions {
            options.push(MountOption::DefaultPermissions);
        }
        #[cfg(target_os = "linux")]
        options.push(MountOption::CUSTOM("subtype=s3files-fuse".to_owned()));
        #[cfg(target_os = "macos")]
        if let Some(name) = &self.volume_name {
            options.push(MountOption::CUSTOM(format!("volname={}", name.replace(',', "_"))));
        }
        // Elsewhere fuser offers one only.
        #[cfg(target_os = "linux")]
        {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            config.n_threads = Some(cores.min(MOST_THREADS));
        }
        config.acl = if self.allow_other { SessionACL::All } else { SessionACL::Owner };
        config
    }
}

/// A mounted folder.
#[derive(Debug)]
pub struct Session {
    folder: PathBuf,
    reader: JoinHandle<io::Result<()>>,
    ended: oneshot::Receiver<()>,
    has_ended: bool,
    tasks: TaskTracker,
    invalidator: Invalidator,
}

impl Session {
    /// Mounts `vfs` on `folder`. Blocks for as long as the kernel takes, so not on a thread that answers requests.
    pub fn start(vfs: &Vfs, folder: &Path, options: &MountOptions, runtime: &Handle) -> Result<Self, Failure> {
        let tasks = TaskTracker::new();
        let adapter = Adapter::new(vfs.clone(), runtime.clone(), tasks.clone());
        let session =
            fuser::Session::new(adapter, folder, &options.config()).map_err(|error| explain(&error, folder))?;
        let thread_failed = |error: io::Error| Failure::Mount { folder: folder.to_owned(), detail: error.to_string() };
        let invalidator = Invalidator::start(session.notifier()).map_err(thread_failed)?;
        vfs.set_kernel_cache(invalidator.kernel_cache());
        let (tell, ended) = oneshot::channel();
        let reader = std::thread::Builder::new()
            .name("fuse".to_owned())
            .spawn(move || {
                let result = session.run();
                // Nobody listens any more when the program is ending anyway.
                let _ = tell.send(());
                result
            })
            .map_err(thread_failed)?;
        Ok(Self { folder: folder.to_owned(), reader, ended, has_ended: false, tasks, invalidator })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns when the folder is no longer mounted, whoever unmounted it.
    pub async fn ended(&mut self) {
        if !self.has_ended {
            // An error means that the thread is gone, which is an end as well.
            let _ = (&mut self.ended).await;
            self.has_ended = true;
        }
    }

    /// Waits for the requests that are still under way. If programs still use what was detached, nothing is waited for:
    /// the kernel ends the rest when this process ends.
    pub async fn finish(mut self) {
        if tokio::time::timeout(Duration::ZERO, self.ended()).await.is_err() {
            // Its threads may be waiting in the kernel; dropping it would wait for them.
            std::mem::forget(self);
            return;
        }
        self.tasks.close();
        if tokio::time::timeout(LAST_REQUESTS, self.tasks.wait()).await.is_err() {
            tracing::warn!(requests = self.tasks.len(), "requests did not end after the unmount");
        }
        let Self { reader, invalidator, .. } = self;
        let joined = tokio::task::spawn_blocking(move || {
            drop(invalidator);
            reader.join()
        });
        match joined.await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the FUSE session ended with an error"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the FUSE session ended with a panic"),
        }
    }
}

/// Whether a folder can be mounted on this machine at all, before anything else is tried.
#[cfg(target_os = "linux")]
pub fn check_available() -> Result<(), Failure> {
    match File::options().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::NoFuse(match error.kind() {
            io::ErrorKind::NotFound => {
                "there is no /dev/fuse; run `modprobe fuse`, or start the container with `--device /dev/fuse --cap-add \
                 SYS_ADMIN`"
                    .to_owned()
            }
            _ => format!("/dev/fuse cannot be opened ({error}); this user or container must be allowed to use it"),
        })),
    }
}

/// Whether a folder can be mounted on this machine at all, before anything else is tried.
#[cfg(target_os = "macos")]
pub fn check_available() -> Result<(), Failure> {
    const MACFUSE: &str = "/Library/Filesystems/macfuse.fs";
    if Path::new(MACFUSE).is_dir() {
        return Ok(());
    }
    Err(Failure::NoFuse(
        "macFUSE is not installed; get it from https://macfuse.io, allow its system extension in System Settings > \
         Privacy & Security, and restart"
            .to_owned(),
    ))
}

fn explain(error: &io::Error, folder: &Path) -> Failure {
    let detail = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    if detail.contains("user_allow_other") {
        return Failure::AllowOther;
    }
    match error.kind() {
        io::ErrorKind::NotFound => Failure::NoFuse(
            "neither may this user mount by itself nor is there a fusermount3; install the package fuse3".to_owned(),
        ),
        _ => Failure::Mount { folder: folder.to_owned(), detail },
    }
}

/// Takes the file system off `folder`. `detach` does it even while programs use it: they keep what they have open.
///
/// Blocks while the kernel hands over what it still holds.
pub fn unmount(folder: &Path, detach: bool) -> io::Result<()> {
    match unmount_directly(folder, detach) {
        // Only root may unmount; everybody else has a program with the right to.
        Err(nix::errno::Errno::EPERM) => unmount_by_helper(folder, detach),
        result => result.map_err(io::Error::from),
    }
}

#[cfg(target_os = "linux")]
fn unmount_directly(folder: &Path, detach: bool) -> nix::Result<()> {
    use nix::mount::MntFlags;
    let flags = if detach { MntFlags::MNT_DETACH } else { MntFlags::empty() };
    nix::mount::umount2(folder, flags | MntFlags::UMOUNT_NOFOLLOW)
}

#[cfg(target_os = "macos")]
fn unmount_directly(folder: &Path, detach: bool) -> nix::Result<()> {
    use nix::mount::MntFlags;
    nix::mount::unmount(folder, if detach { MntFlags::MNT_FORCE } else { MntFlags::empty() })
}

fn unmount_by_helper(folder: &Path, detach: bool) -> io::Result<()> {
    let mut command = Command::new("fusermount3");
    command.arg("-u");
    if detach {
        command.arg("-z");
    }
    let output = command.arg("--").arg(folder).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let kind = if said.contains("busy") { io::ErrorKind::ResourceBusy } else { io::ErrorKind::Other };
    Err(io::Error::new(kind, said))
}
