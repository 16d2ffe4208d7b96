//! A mount from its first connection to its last byte: connect, mount, wait for an end, write back, end the session.
//!
//! Whatever ends it (`umount`, a signal, the system's own unmount command), the order is the same: the folder first, so
//! that no program can write any more, then everything dirty, then the session.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nfs4_client::{Client, ClientOptions, Dial};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use vfs::{Unwritten, Vfs, VfsOptions};

use crate::control::{Answer, Asked, Control};
use crate::failure::Failure;
use crate::folder;
use crate::fuse::{self, MountOptions, Session};
use crate::leftovers::OwnJournal;
use crate::live::{About, Live};
use crate::local::Local;
use crate::local::rights::Owner;
use crate::memory;
use crate::wake;
use crate::walk::own_identity;

/// How long connecting may take in all: credentials, DNS, TCP, TLS, bind and the session, each with its own limit.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);
/// How long a mount waits for its user's rights in the root, which are only there to save time later.
const EXPECT_LIMIT: Duration = Duration::from_secs(2);
/// How long what still uses the file system may go on once the folder is unmounted.
const GRACE: Duration = Duration::from_secs(5);
/// How long the answer to `umount` may take to be read before the process ends.
const LAST_WORD: Duration = Duration::from_secs(5);

/// Where a file system comes from.
#[derive(Clone)]
pub struct Source {
    /// Makes connections.
    pub dial: Arc<dyn Dial>,
    /// How to be a client.
    pub client: ClientOptions,
    /// Host and port, for messages.
    pub address: String,
    /// The file system behind it, where its id is known.
    pub file_system: Option<String>,
}

impl Source {
    /// The same for every mount of the same directory.
    fn what(&self) -> String {
        let names: Vec<_> = self.client.root.iter().map(|name| name.escape_ascii().to_string()).collect();
        format!("{}/{}", self.address, names.join("/"))
    }

    /// The same for every mount of the same file system, whichever way it is reached.
    fn file_system(&self) -> String {
        self.file_system.clone().unwrap_or_else(|| self.address.clone())
    }

    /// Makes the session and a file system over it.
    pub async fn connect(self, options: VfsOptions) -> Result<(Vfs, Client), Failure> {
        let Self { dial, client, address, .. } = self;
        let names: Vec<_> = client.root.iter().map(|name| String::from_utf8_lossy(name)).collect();
        let path = if names.is_empty() { String::new() } else { format!("/{}", names.join("/")) };
        let connecting = Client::connect(dial, client);
        let client = tokio::time::timeout(CONNECT_LIMIT, connecting)
            .await
            .map_err(|_| Failure::Slow { address: address.clone(), seconds: CONNECT_LIMIT.as_secs() })?
            .map_err(|error| Failure::from_client(error, &address, &path))?;
        Ok((Vfs::new(client.clone(), options), client))
    }
}

/// A mounted file system.
#[derive(Debug)]
pub struct Mounted {
    vfs: Vfs,
    client: Client,
    session: Session,
    control: Control,
    live: Arc<Live>,
    flush_limit: Option<Duration>,
    /// Follows the counters.
    _watch: AbortOnDrop,
    /// Looks whether the machine slept.
    _wake: AbortOnDrop,
    /// Gives memory back.
    _tidy: AbortOnDrop,
    signals: Signals,
    /// Removes what dead mounts have left.
    sweeper: Option<AbortOnDrop>,
}

/// A task that ends with its owner.
#[derive(Debug)]
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The signals that ask a mount to end. Those that come while nobody waits are kept for whoever waits next.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// From here on they do not end the process by themselves any more.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Returns when one has come.
    pub async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// What ended a mount.
enum End {
    Outside,
    Signal,
    Asked(oneshot::Sender<(Answer, oneshot::Sender<()>)>),
}

impl Mounted {
    /// Connects and mounts. On failure nothing is left behind.
    pub async fn start(
        source: Source,
        folder: PathBuf,
        vfs_options: VfsOptions,
        options: MountOptions,
    ) -> Result<Self, Failure> {
        let own = |error: io::Error| Failure::Other(format!("the mount cannot be controlled: {error}"));
        // From here on a signal is an orderly end, not an end in the middle.
        let mut signals = Signals::new().map_err(own)?;
        let what = source.what();
        let read_only = vfs_options.read_only;
        let kernel_judges = !options.allow_other || options.default_permissions;
        // A Mac asks whenever it likes.
        let kernel_keeps_names = cfg!(target_os = "linux");
        let vfs_options = VfsOptions { kernel_judges, kernel_keeps_names, ..vfs_options };
        let local = open_local(&source, &options).await?;
        let about = About {
            folder: folder.clone(),
            target: options.source.clone(),
            address: source.address.clone(),
            read_only,
            log: options.log.clone(),
            presented: options.presented.clone(),
        };
        let (dial, flush_limit) = (Arc::clone(&source.dial), options.flush_limit);
        let (vfs, client) = tokio::select! {
            connected = source.connect(vfs_options) => connected?,
            () = signals.any() => return Err(Failure::Other("interrupted before the folder was mounted".to_owned())),
        };
        // Before the folder is there: then whoever uses it at once need not wait for it.
        let me = options.presented.of(&own_identity());
        let first = async { tokio::join!(vfs.expect(&me), local.find_out(&vfs, &me)) };
        let _ = tokio::time::timeout(EXPECT_LIMIT, first).await;
        if let Some(farewell) = local.farewell() {
            vfs.set_farewell(farewell);
        }
        let mounting = {
            let (vfs, folder, runtime) = (vfs.clone(), folder.clone(), Handle::current());
            tokio::task::spawn_blocking(move || Session::start(&vfs, local, &folder, &options, &runtime)).await
        };
        let session = match mounting {
            Ok(Ok(session)) => session,
            Ok(Err(failure)) => {
                vfs.shutdown().await;
                return Err(failure);
            }
            Err(error) => {
                vfs.shutdown().await;
                return Err(Failure::Other(format!("mounting failed: {error}")));
            }
        };
        let live = Arc::new(Live::new(vfs.clone(), dial, about));
        match Control::listen(&folder, Arc::clone(&live)) {
            Ok(control) => {
                let sweeper = if read_only { None } else { sweep(&vfs, &what) };
                let watched = Arc::clone(&live);
                let watch = AbortOnDrop(tokio::spawn(async move { watched.watch().await }));
                let wake = AbortOnDrop(tokio::spawn(wake::watch(client.clone())));
                let tidy = AbortOnDrop(tokio::spawn(memory::tidy(client.clone())));
                Ok(Self {
                    vfs,
                    client,
                    session,
                    control,
                    live,
                    flush_limit,
                    _watch: watch,
                    _wake: wake,
                    _tidy: tidy,
                    signals,
                    sweeper,
                })
            }
            Err(error) => {
                if let Err(error) = unmount(folder, true).await {
                    tracing::error!(%error, "the folder stays mounted");
                }
                session.finish().await;
                vfs.shutdown().await;
                Err(own(error))
            }
        }
    }

    /// Asks how many round trips there have been so far.
    pub fn counters(&self) -> impl Fn() -> u64 + Send + 'static {
        let client = self.client.clone();
        move || client.counters().compounds
    }

    /// Returns when this process is asked to end.
    pub async fn signalled(&mut self) {
        self.signals.any().await;
    }

    /// Serves until something ends the mount, then writes everything back.
    pub async fn until_end(mut self) -> Result<(), Failure> {
        let sweeper = self.sweeper.take();
        let end = loop {
            tokio::select! {
                () = self.session.ended() => break End::Outside,
                () = self.signals.any() => {
                    self.unmount_on_signal().await;
                    break End::Signal;
                }
                Some(asked) = self.control.next() => {
                    if let Some(answer) = self.answer(asked).await {
                        break End::Asked(answer);
                    }
                }
            }
        };
        drop(sweeper);
        self.live.will_end();
        let mut signals = self.signals;
        let finishing = finish(self.vfs, self.session);
        tokio::pin!(finishing);
        // Whoever asked by command waits as long as it takes; the end of the system does not.
        let limit = self.flush_limit.filter(|_| matches!(end, End::Signal));
        let too_late = tokio::time::sleep(limit.unwrap_or(Duration::MAX));
        tokio::pin!(too_late);
        let mut ignored = usize::from(!matches!(end, End::Signal));
        let unwritten = loop {
            tokio::select! {
                unwritten = &mut finishing => break unwritten,
                () = &mut too_late, if limit.is_some() => {
                    let left = self.live.status().await.unwritten;
                    tracing::error!(bytes = left.bytes, files = left.files, "given up: the time to write back is over");
                    return Err(Failure::GivenUp);
                }
                // The server may be out of reach, and then writing back takes until it is there again.
                () = signals.any() => match ignored.checked_sub(1) {
                    Some(left) => {
                        tracing::warn!("still writing back; one more signal gives that up");
                        ignored = left;
                    }
                    None => return Err(Failure::GivenUp),
                },
            }
        };
        let is_told = match end {
            End::Asked(answer) => say(answer, Answer::Unmounted { unwritten: unwritten.clone() }).await,
            End::Outside | End::Signal => false,
        };
        // The socket goes last: while it is there, another mount on this folder is not finished.
        drop(self.control);
        // A failure has service managers mount the folder again, which was to be away; whoever asked knows of it.
        if is_told { Ok(()) } else { lost(unwritten) }
    }

    /// Unmounts now and writes everything back.
    pub async fn unmount(mut self) -> Result<(), Failure> {
        let folder = self.session.folder().to_owned();
        self.sweeper = None;
        match unmount(folder.clone(), false).await {
            Ok(()) => self.let_go().await,
            Err(error) => {
                let holders = folder::holders(&folder);
                self.unmount_on_signal().await;
                finish(self.vfs, self.session).await;
                return Err(if error.kind() == io::ErrorKind::ResourceBusy {
                    Failure::Busy { folder, holders }
                } else {
                    Failure::Mount { folder, detail: error.to_string() }
                });
            }
        }
        lost(finish(self.vfs, self.session).await)
    }

    /// Carries a question out. Returns where the answer goes when the mount is over.
    async fn answer(&mut self, asked: Asked) -> Option<oneshot::Sender<(Answer, oneshot::Sender<()>)>> {
        let Asked { answer } = asked;
        let folder = self.session.folder().to_owned();
        match unmount(folder.clone(), false).await {
            Ok(()) => {
                self.let_go().await;
                Some(answer)
            }
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                say(answer, Answer::Busy { holders: folder::holders(&folder) }).await;
                None
            }
            Err(error) => {
                say(answer, Answer::Failed { why: error.to_string() }).await;
                None
            }
        }
    }

    /// A signal must end the mount, also one that is in use.
    async fn unmount_on_signal(&mut self) {
        let folder = self.session.folder().to_owned();
        let gone = match unmount(folder.clone(), false).await {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "the folder is in use; it is taken away all the same");
                self.vfs.stop_waiting();
                unmount(folder, true).await
            }
        };
        if let Err(error) = gone {
            tracing::error!(%error, "the folder cannot be unmounted");
        }
        self.let_go().await;
    }

    /// Waits until the kernel has let go of what is unmounted. It keeps it for as long as programs have files open in what
    /// was detached, and for as long as there is a copy of the mount elsewhere: in a container, or by `mount --bind`.
    async fn let_go(&mut self) {
        if tokio::time::timeout(GRACE, self.session.ended()).await.is_err() {
            tracing::warn!("the file system is still in use, or mounted elsewhere too; that gets errors from now on");
        }
    }
}

/// What is kept on this computer for a file system.
async fn open_local(source: &Source, options: &MountOptions) -> Result<Local, Failure> {
    let (file_system, manners) = (source.file_system(), options.manners);
    let me = options.presented.of(&own_identity());
    // Only root can give files to others.
    let is_root = nix::unistd::geteuid().is_root();
    let owner = if is_root { Owner::AsOnDisk } else { Owner::Always(me.uid, me.gid) };
    let opening = tokio::task::spawn_blocking(move || Local::open(manners, &file_system, owner));
    opening.await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| {
        Failure::Other(format!(
            "nothing can be kept on this computer ({error}); set HOME or XDG_STATE_HOME to a folder that can be written, or \
             mount with --mac-files store --xattrs server"
        ))
    })
}

/// Has hidden files noted for the mount after a crash, and removes what mounts of the same before this one have left.
fn sweep(vfs: &Vfs, what: &str) -> Option<AbortOnDrop> {
    let (own, dead) = match OwnJournal::start(what) {
        Ok(journals) => journals,
        Err(error) => {
            tracing::debug!(%error, "hidden files are not noted: there is no folder for it");
            return None;
        }
    };
    vfs.set_journal(Arc::new(own));
    let vfs = vfs.clone();
    (!dead.is_empty()).then(|| {
        AbortOnDrop(tokio::spawn(async move {
            for journal in dead {
                if vfs.sweep(&journal.leftovers).await == 0 {
                    journal.done();
                }
            }
        }))
    })
}

/// Once the folder is gone: writes everything back and ends the session. Returns what could not be written.
async fn finish(vfs: Vfs, session: Session) -> Vec<String> {
    vfs.stop_waiting();
    session.finish().await;
    let unwritten = describe(&vfs.shutdown().await);
    for file in &unwritten {
        tracing::error!(file, "could not be written");
    }
    unwritten
}

async fn unmount(folder: PathBuf, detach: bool) -> io::Result<()> {
    tokio::task::spawn_blocking(move || fuse::unmount(&folder, detach)).await.map_err(io::Error::other)?
}

/// Gives an answer and waits until it is on its way; false if it does not get there.
async fn say(to: oneshot::Sender<(Answer, oneshot::Sender<()>)>, answer: Answer) -> bool {
    let (tell, sent) = oneshot::channel();
    to.send((answer, tell)).is_ok() && matches!(tokio::time::timeout(LAST_WORD, sent).await, Ok(Ok(())))
}

fn describe(unwritten: &[Unwritten]) -> Vec<String> {
    let name = |file: &Unwritten| match &file.name {
        Some(name) => String::from_utf8_lossy(name).into_owned(),
        None => format!("inode {}", file.ino),
    };
    unwritten.iter().map(|file| format!("{} ({} bytes, {:?})", name(file), file.bytes, file.errno)).collect()
}

fn lost(files: Vec<String>) -> Result<(), Failure> {
    if files.is_empty() { Ok(()) } else { Err(Failure::Unwritten { files }) }
}
