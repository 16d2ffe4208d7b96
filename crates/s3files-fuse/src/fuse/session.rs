//! A mount: from a folder that becomes the file system to a folder again.

#[cfg(target_os = "linux")]
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

use fuser::Config;
#[cfg(target_os = "linux")]
use fuser::{MountOption, SessionACL};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use vfs::Vfs;

use super::adapter::Adapter;
use super::invalidate::Invalidator;
use crate::failure::Failure;
use crate::identity::{Presented, Shown};
use crate::local::Local;
use crate::local::policy::Manners;

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
    /// Set-user-id and set-group-id bits have no effect.
    pub no_suid: bool,
    /// Device files are mere files.
    pub no_dev: bool,
    /// No program of the folder can be run.
    pub no_exec: bool,
    /// After a signal, how long what was written may take to reach the server; `None`: as long as it takes.
    pub flush_limit: Option<Duration>,
    /// Whom the server is told of.
    pub presented: Presented,
    /// Whom files are shown to belong to.
    pub shown: Shown,
    /// What stays on this computer.
    pub manners: Manners,
    /// The log file, to be shown.
    pub log: Option<PathBuf>,
}

#[cfg(target_os = "linux")]
impl MountOptions {
    fn config(&self) -> Config {
        let mut config = Config::default();
        // A comma would end the option; fuser does not escape it.
        let source = self.source.replace(',', "_");
        let options = &mut config.mount_options;
        options.push(MountOption::FSName(source));
        options.push(if self.read_only { MountOption::RO } else { MountOption::RW });
        let wanted = [
            (self.default_permissions, MountOption::DefaultPermissions),
            (self.no_suid, MountOption::NoSuid),
            (self.no_dev, MountOption::NoDev),
            (self.no_exec, MountOption::NoExec),
        ];
        options.extend(wanted.into_iter().filter_map(|(is_wanted, option)| is_wanted.then_some(option)));
        options.push(MountOption::CUSTOM("subtype=s3files-fuse".to_owned()));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        config.n_threads = Some(cores.min(MOST_THREADS));
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
    pub fn start(
        vfs: &Vfs,
        local: Local,
        folder: &Path,
        options: &MountOptions,
        runtime: &Handle,
    ) -> Result<Self, Failure> {
        let tasks = TaskTracker::new();
        let (presented, shown) = (options.presented.clone(), options.shown);
        let adapter = Adapter::new(vfs.clone(), local, presented, shown, runtime.clone(), tasks.clone());
        let (session, pending) = open(adapter, folder, options)?;
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
        pending.finish(folder)?;
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

/// Nothing is left to be done: on Linux the folder is mounted before the session runs.
#[cfg(target_os = "linux")]
struct Pending;

#[cfg(target_os = "linux")]
impl Pending {
    #[allow(clippy::unnecessary_wraps, clippy::unused_self)] // as on the Mac
    fn finish(self, _folder: &Path) -> Result<(), Failure> {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn open(
    adapter: Adapter,
    folder: &Path,
    options: &MountOptions,
) -> Result<(fuser::Session<Adapter>, Pending), Failure> {
    match fuser::Session::new(adapter, folder, &options.config()) {
        Ok(session) => Ok((session, Pending)),
        Err(error) => Err(explain(&error, folder)),
    }
}

#[cfg(target_os = "macos")]
fn open(
    adapter: Adapter,
    folder: &Path,
    options: &MountOptions,
) -> Result<(fuser::Session<Adapter>, crate::mac::Pending), Failure> {
    let volume = crate::mac::options::Volume {
        source: options.source.clone(),
        name: options.volume_name.clone(),
        read_only: options.read_only,
        allow_other: options.allow_other,
        default_permissions: options.default_permissions,
        no_suid: options.no_suid,
        no_dev: options.no_dev,
        no_exec: options.no_exec,
    };
    crate::mac::open(adapter, folder, &volume, Config::default())
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

#[cfg(target_os = "macos")]
pub use crate::mac::check_available;

#[cfg(target_os = "linux")]
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

#[cfg(target_os = "linux")]
fn unmounting(detach: bool) -> Command {
    let mut command = Command::new("fusermount3");
    command.arg("-u");
    if detach {
        command.arg("-z");
    }
    command.arg("--");
    command
}

#[cfg(target_os = "macos")]
fn unmounting(detach: bool) -> Command {
    let mut command = Command::new("/usr/sbin/diskutil");
    command.arg("unmount");
    if detach {
        command.arg("force");
    }
    command
}

fn unmount_by_helper(folder: &Path, detach: bool) -> io::Result<()> {
    let output = unmounting(detach).arg(folder).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let kind = if said.contains("busy") { io::ErrorKind::ResourceBusy } else { io::ErrorKind::Other };
    Err(io::Error::new(kind, said))
}
