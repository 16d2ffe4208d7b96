//! A mount that others may ask: how it is, and for locks of the server.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nfs4_client::{Client, Dial};
use vfs::{Caller, Cred, LockKind, LockRange, Looked, OpenFlags, ROOT_INO, Vfs};

use crate::control::{Answer, Ask, Desk, LockAsk, Talk};
use crate::identity::Presented;
use crate::status::rates::Rates;
use crate::status::{
    Cache, Certificate, Conflicts, Connections, Lease, Requests, State, Status, Throughput, Unwritten,
};
use crate::walk::own_identity;

/// How often the counters are looked at, for the rates.
const SAMPLE: Duration = Duration::from_secs(1);
/// How long looking into the lost-and-found directory may take.
const CONFLICTS_LIMIT: Duration = Duration::from_secs(3);
/// Most conflicts that are counted, and most that are named.
const MOST_COUNTED: usize = 1000;
const MOST_NAMED: usize = 20;
/// About as much of a listing as is asked for at a time.
const PIECE: usize = 64 << 10;
/// Lock owners of ours are told from those of the kernel, which are as good as random, by these bits.
const OWNERS: u64 = 0x5333_4c4b << 32;

/// What does not change about a mount.
#[derive(Debug, Clone)]
pub struct About {
    /// The mounted folder.
    pub folder: PathBuf,
    /// The target as it was given.
    pub target: String,
    /// Host and port.
    pub address: String,
    /// Nothing can be changed.
    pub read_only: bool,
    /// The log file.
    pub log: Option<PathBuf>,
    /// Whom the server is told of.
    pub presented: Presented,
}

/// See the module's page.
pub struct Live {
    vfs: Vfs,
    client: Client,
    dial: Arc<dyn Dial>,
    about: About,
    since: Instant,
    rates: Mutex<Rates>,
    ending: AtomicBool,
    next_owner: AtomicU64,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("about", &self.about).finish_non_exhaustive()
    }
}

fn seconds(from: SystemTime, to: SystemTime) -> f64 {
    match to.duration_since(from) {
        Ok(after) => after.as_secs_f64(),
        Err(error) => -error.duration().as_secs_f64(),
    }
}

impl Live {
    /// A mount that stands from now on.
    pub fn new(vfs: Vfs, dial: Arc<dyn Dial>, about: About) -> Self {
        let client = vfs.client().clone();
        let (since, rates) = (Instant::now(), Mutex::default());
        Self { vfs, client, dial, about, since, rates, ending: AtomicBool::new(false), next_owner: AtomicU64::new(0) }
    }

    /// From now on what was written is written back, and nothing else happens.
    pub fn will_end(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// Looks at the counters from time to time, for as long as it is awaited.
    pub async fn watch(&self) {
        loop {
            let counters = self.client.counters();
            self.rates().sample(Instant::now(), [counters.bytes_in, counters.bytes_out]);
            tokio::time::sleep(SAMPLE).await;
        }
    }

    fn rates(&self) -> std::sync::MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the mount is.
    pub async fn status(&self) -> Status {
        let (counters, client, memory) = (self.client.counters(), self.client.standing(), self.vfs.standing());
        let [in_per_second, out_per_second] =
            self.rates().per_second(Instant::now(), [counters.bytes_in, counters.bytes_out]);
        let state = match (self.ending.load(Ordering::Acquire), client.connections) {
            (true, _) => State::WritingBack,
            (false, 0) => State::Connecting,
            (false, _) => State::Serving,
        };
        let now = SystemTime::now();
        let certificate = self.dial.certificate().map(|lifetime| Certificate {
            age_seconds: seconds(lifetime.made, now),
            expires_in_seconds: seconds(now, lifetime.not_after()),
            credentials_expire_in_seconds: lifetime.credentials_end.map(|end| seconds(now, end)),
        });
        let About { folder, target, address, read_only, log, .. } = self.about.clone();
        Status {
            folder,
            target,
            address,
            state,
            read_only,
            pid: std::process::id(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.since.elapsed().as_secs_f64(),
            connections: Connections {
                open: client.connections as u64,
                made: counters.connections,
                sessions: counters.sessions,
            },
            lease: Lease {
                seconds: client.lease.as_secs_f64(),
                left_seconds: client.lease_left.as_secs_f64(),
                valid: !client.lease_left.is_zero(),
            },
            certificate,
            cache: Cache { used_bytes: memory.cached, limit_bytes: memory.cache_size },
            unwritten: Unwritten {
                bytes: memory.dirty,
                limit_bytes: memory.dirty_limit,
                files: memory.dirty_files as u64,
                oldest_seconds: memory.oldest_dirty.map(|age| age.as_secs_f64()),
            },
            throughput: Throughput {
                bytes_in: counters.bytes_in,
                bytes_out: counters.bytes_out,
                in_per_second,
                out_per_second,
            },
            requests: Requests {
                round_trips: counters.compounds,
                round_trip_ms: client.round_trip.map(|time| time.as_secs_f64() * 1000.0),
                repeated: counters.repeated,
                delayed: counters.delayed,
                errors: counters.failed,
            },
            open_files: memory.open_files as u64,
            conflicts: if state == State::Serving { self.conflicts().await } else { None },
            log,
        }
    }

    /// What is in the directory into which S3 Files puts files that were changed here and in the bucket.
    async fn conflicts(&self) -> Option<Conflicts> {
        let directory = format!(".s3files-lost+found-{}", self.dial.file_system_id()?);
        let cred = self.about.presented.of(&own_identity());
        match tokio::time::timeout(CONFLICTS_LIMIT, self.names_in(&cred, &directory)).await {
            Ok(Ok(Some(names))) => {
                let files = names.iter().take(MOST_NAMED).cloned().collect();
                Some(Conflicts { directory, files, count: names.len() as u64 })
            }
            Ok(Ok(None)) | Err(_) => None,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the lost-and-found directory cannot be listed");
                None
            }
        }
    }

    /// The names in a directory of the root; `None` if there is no such directory.
    async fn names_in(&self, cred: &Cred, directory: &str) -> vfs::Result<Option<Vec<String>>> {
        let found = self.vfs.lookup(cred, ROOT_INO, &bytes::Bytes::copy_from_slice(directory.as_bytes())).await?;
        let Looked::Found(entry) = found else { return Ok(None) };
        let listed = self.list(cred, entry.attr.ino).await;
        self.vfs.forget(entry.attr.ino, 1);
        listed.map(Some)
    }

    async fn list(&self, cred: &Cred, ino: u64) -> vfs::Result<Vec<String>> {
        let fh = self.vfs.opendir(cred, ino).await?;
        let mut names = Vec::new();
        let mut offset = 0;
        let outcome = loop {
            match self.vfs.readdir(cred, ino, fh, offset, false, PIECE).await {
                Ok(items) => {
                    let Some(last) = items.last() else { break Ok(()) };
                    offset = last.offset;
                    let shown = items.iter().filter(|item| !matches!(&*item.name, b"." | b".."));
                    names.extend(shown.map(|item| String::from_utf8_lossy(&item.name).into_owned()));
                }
                Err(error) => break Err(error),
            }
            if names.len() >= MOST_COUNTED {
                break Ok(());
            }
        };
        let _ = self.vfs.releasedir(cred, ino, fh).await;
        names.sort();
        outcome.map(|()| names)
    }

    /// Takes a lock, holds it until the asker hangs up, and gives it back.
    async fn lock(&self, ask: LockAsk, talk: &mut Talk) -> io::Result<()> {
        let asker = Cred { groups: ask.groups.into(), ..Cred::new(talk.peer.uid(), talk.peer.gid()) };
        let cred = self.about.presented.of(&asker);
        let flags = OpenFlags { read: true, write: !ask.shared, ..OpenFlags::default() };
        let opened = match self.vfs.open(&cred, ask.ino, flags).await {
            Ok(opened) => opened,
            Err(error) => return talk.say(Answer::Failed { why: error.to_string() }).await,
        };
        let number = self.next_owner.fetch_add(1, Ordering::Relaxed);
        let pid = talk.peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        let caller = Caller { owner: OWNERS | (number & u64::from(u32::MAX)), pid };
        let kind = if ask.shared { LockKind::Read } else { LockKind::Write };
        let held = self.take(opened.fh, caller, kind, ask.wait, talk).await;
        let said = match held {
            Ok(()) => self.hold(opened.fh, caller, talk).await,
            Err(vfs::Error::Locked | vfs::Error::Interrupted) => {
                let holder = self.vfs.getlk(opened.fh, caller, LockRange::ALL, kind).await.ok().flatten();
                let pid = holder.map(|lock| lock.pid).filter(|pid| *pid != 0);
                talk.say(Answer::Taken { pid }).await
            }
            Err(error) => talk.say(Answer::Failed { why: error.to_string() }).await,
        };
        if let Err(error) = self.vfs.release(&cred, ask.ino, opened.fh).await {
            tracing::debug!(%error, "a locked file could not be closed");
        }
        said
    }

    /// Waits for a lock, but not for longer than the asker.
    async fn take(
        &self,
        fh: vfs::Fh,
        caller: Caller,
        kind: LockKind,
        wait: Option<u64>,
        talk: &mut Talk,
    ) -> vfs::Result<()> {
        let until = wait.and_then(|limit| Instant::now().checked_add(Duration::from_millis(limit)));
        let gone = AtomicBool::new(false);
        let is_over = || gone.load(Ordering::Acquire) || until.is_some_and(|until| Instant::now() >= until);
        let interrupted: Option<&(dyn Fn() -> bool + Send + Sync)> =
            if wait == Some(0) { None } else { Some(&is_over) };
        let locking = self.vfs.lock(fh, caller, LockRange::ALL, kind, interrupted);
        tokio::pin!(locking);
        tokio::select! {
            locked = &mut locking => locked,
            () = talk.ended() => {
                // It is awaited to its end, so that a lock that comes at the last moment is known and given back.
                gone.store(true, Ordering::Release);
                locking.await
            }
        }
    }

    async fn hold(&self, fh: vfs::Fh, caller: Caller, talk: &mut Talk) -> io::Result<()> {
        let said = talk.say(Answer::Locked).await;
        if said.is_ok() {
            talk.ended().await;
        }
        let kept = self.vfs.keeps_locks(fh, caller).await.unwrap_or(false);
        let freed = self.vfs.unlock(fh, caller, LockRange::ALL).await;
        said?;
        match freed {
            Ok(()) => talk.say(Answer::Unlocked { kept }).await,
            Err(error) => talk.say(Answer::Failed { why: format!("the lock cannot be given back: {error}") }).await,
        }
    }
}

impl Desk for Live {
    async fn serve(&self, ask: Ask, mut talk: Talk) -> io::Result<()> {
        match ask {
            Ask::Status => talk.say(Answer::Status(Box::new(self.status().await))).await,
            Ask::Lock(ask) => self.lock(ask, &mut talk).await,
            // The mount's own loop takes it.
            Ask::Unmount => Ok(()),
        }
    }
}
