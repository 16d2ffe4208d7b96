//! Keeps the client alive: connects, makes the session, renews the lease, answers callbacks, and mends whatever
//! requests report as broken (RFC 8881 §2.10.13, §8.4).
//!
//! One task does all of this, one step after the other, so recovery never races with itself. When it has mended
//! something it publishes a [`Link`] of a higher generation, and whoever waits for one goes on.
//!
//! A [nudge](Keeper::check_now) says that the world may have changed unnoticed: every connection is asked whether it is still
//! there, and what waits for the network (a pause, a connection that is being made) does not wait for a time-out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use mount_target::{Channel, Connected, IncomingCall, PartitionId};
use nfs4::Nfs4Error;
use nfs4::attr::Attrs;
use nfs4::compound::Argop4;
use nfs4::ops::dir::Lookup4args;
use nfs4::ops::file::Getattr4args;
use nfs4::ops::open::{Open4args, OpenClaim4, Openflag4, share};
use nfs4::ops::session::{ChannelDirFromClient4, ReclaimComplete4args, seq4_status};
use nfs4::types::StateOwner4;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, sleep_until, timeout};

use crate::answers::OpenAccess;
use crate::attr::{FILE_ATTRS, FileAttr, Handle, LIMIT_ATTRS, Limits, longest_name};
use crate::callback::{BackChannel, Effect};
use crate::channels::Channels;
use crate::compound::next;
use crate::engine::{Engine, Link, Phase, Report, Request, Session};
use crate::error::{Error, Result};
use crate::handshake::{ASKED_OVERHEAD, Broken, ClientId, Granted, Handshake, Step, first_error, within};
use crate::options::{ClientOptions, Dial};
use crate::recovery::{Asker, Restore};
use crate::session::{Backoff, Growth, LeaseStep};
use crate::silence::{SILENCE, probe};

/// Bytes of a request or reply beside its payload: RPC header with a full `AUTH_SYS` credential, SEQUENCE, PUTFH,
/// the operation, and a GETATTR.
const OVERHEAD: u32 = 2048;
/// The same flags of SEQUENCE are not acted on more often than this.
const FLAG_PAUSE: Duration = Duration::from_secs(5);
/// How long each step of the end may take.
const SHUTDOWN_STEP: Duration = Duration::from_secs(5);
/// How long a callback's answer may wait to be sent.
const CALLBACK_LIMIT: Duration = Duration::from_secs(5);
/// How often to look whether the connections are enough.
const LOOK: Duration = Duration::from_millis(500);
/// A session that has served for so long, or a connection, may break without the next one being held back.
const STEADY: Duration = Duration::from_secs(10);
/// Reports that may wait; more say nothing new.
const REPORTS: usize = 64;

/// The keeper's handle.
#[derive(Debug)]
pub(crate) struct Keeper {
    stop: Mutex<Option<oneshot::Sender<()>>>,
    nudge: Arc<Notify>,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    /// Has everything checked now that may be broken without a sign.
    pub(crate) fn check_now(&self) {
        self.nudge.notify_one();
    }

    /// Ends the session and waits for the task.
    pub(crate) async fn shutdown(&self) {
        if let Some(stop) = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = stop.send(());
        }
        if let Some(task) = self.task.lock().await.take() {
            let _ = task.await;
        }
    }
}

/// OPEN without a name: reclaims and opens by handle.
pub(crate) fn open_claim(owner: &Bytes, access: OpenAccess, claim: OpenClaim4) -> Argop4 {
    open_how(owner, access, Openflag4::NoCreate, claim)
}

/// OPEN that may create.
pub(crate) fn open_how(owner: &Bytes, access: OpenAccess, openhow: Openflag4, claim: OpenClaim4) -> Argop4 {
    Argop4::Open(Open4args {
        seqid: 0,
        share_access: access.to_wire() | share::WANT_NO_DELEG,
        share_deny: share::DENY_NONE,
        owner: StateOwner4 { clientid: 0, owner: owner.clone().into() },
        openhow,
        claim,
    })
}

/// What keeps a connection from serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// The connection is gone.
    Channel,
    /// The session is gone, the connection is not.
    Session,
    /// Some or all state of open files is in doubt.
    State(Restore),
    /// The back channel does not work: the connection has to be bound again.
    BackChannel,
}

struct Worker {
    engine: Arc<Engine>,
    dial: Arc<dyn Dial>,
    handshake: Arc<Handshake>,
    phase: watch::Sender<Phase>,
    reports: mpsc::Receiver<Report>,
    generation: u64,
    minor: u32,
    client: Option<ClientId>,
    session: Option<Current>,
    restore: Restore,
    acted_on_flags: Option<Instant>,
    renewing: Arc<AtomicBool>,
    nudge: Arc<Notify>,
    /// When a connection or a session was last replaced, and how many bytes of answers had come by then.
    replaced: Option<(Instant, u64)>,
    /// Pauses before connections that follow each other fast.
    rest: Backoff,
    /// Connections of the session beside the one with the back channel.
    further: Vec<Connected>,
    growth: Growth,
    /// Opens one more.
    growing: JoinSet<Option<Connected>>,
}

/// Does `work` on one of these connections. Those that are silent after a nudge are given up; then work on them fails.
async fn unless_gone<T>(nudge: &Notify, channels: &[Channel], work: impl Future<Output = T>) -> T {
    let check = async {
        nudge.notified().await;
        join_all(channels.iter().map(|channel| probe(channel, SILENCE))).await;
        std::future::pending().await
    };
    tokio::select! {
        done = work => done,
        done = check => done,
    }
}

/// The session in use.
struct Current {
    session: Arc<Session>,
    back: BackChannel,
    partition: Option<PartitionId>,
    max_record: usize,
    /// Whether the connection at hand belongs to it.
    bound: bool,
}

/// The first connect: everything that can be wrong is told to the caller.
pub(crate) async fn start(
    dial: Arc<dyn Dial>,
    options: ClientOptions,
) -> Result<(Arc<Engine>, Keeper, (Handle, FileAttr))> {
    let up = dial.dial().await.map_err(|error| Error::Connect(Arc::new(error)))?;
    let handshake = Arc::new(Handshake::new(&options));
    let (minor, client) = handshake.first_exchange_id(&up.channel).await.map_err(first_error)?;
    let granted = handshake.create_session(&up.channel, minor, client).await.map_err(first_error)?;
    let current = Current::new(&granted, minor, &up);
    let asker = Asker { handshake: &handshake, channel: &up.channel, session: &current.session };
    let (limits, root) = enter(asker, &granted).await.map_err(first_error)?;

    let link = Arc::new(Link {
        generation: 1,
        session: Arc::clone(&current.session),
        channels: Channels::new([up.channel.clone()]),
        restored: true,
    });
    let (phase, phases) = watch::channel(Phase::Ready(link));
    let (report, reports) = mpsc::channel(REPORTS);
    let engine = Arc::new(Engine::new(phases, report, limits, &options));
    engine.counts.connections.store(1, Ordering::Relaxed);
    engine.counts.sessions.store(1, Ordering::Relaxed);
    let nudge = Arc::new(Notify::new());
    let worker = Worker {
        engine: Arc::clone(&engine),
        dial,
        handshake,
        phase,
        reports,
        generation: 1,
        minor,
        client: Some(client.after_session()),
        session: Some(current),
        restore: Restore::Nothing,
        acted_on_flags: None,
        renewing: Arc::new(AtomicBool::new(false)),
        nudge: Arc::clone(&nudge),
        replaced: None,
        rest: Backoff::for_connect(),
        further: Vec::new(),
        growth: Growth::new(options.connections),
        growing: JoinSet::new(),
    };
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(worker.run(up, stopped));
    let keeper = Keeper { stop: Mutex::new(Some(stop)), nudge, task: tokio::sync::Mutex::new(Some(task)) };
    Ok((engine, keeper, root))
}

impl ClientId {
    /// The sequence id goes up with each session made.
    fn after_session(self) -> Self {
        Self { sequence: self.sequence.wrapping_add(1), known: true, ..self }
    }
}

impl Current {
    fn new(granted: &Granted, minor: u32, up: &Connected) -> Self {
        let max_record = (granted.max_response + ASKED_OVERHEAD) as usize;
        up.channel.set_max_record(max_record);
        Self {
            session: Arc::new(Session::new(granted.id, minor, granted.slots, granted.max_request as usize)),
            back: BackChannel::new(granted.id),
            partition: up.partition,
            max_record,
            bound: true,
        }
    }
}

/// The session's first compound: no state to reclaim, walk to the root, read what the file system allows.
async fn enter(asker: Asker<'_>, granted: &Granted) -> Step<(Limits, (Handle, FileAttr))> {
    let options = asker.handshake.options();
    let mut ops = vec![Argop4::ReclaimComplete(ReclaimComplete4args { rca_one_fs: false }), Argop4::Putrootfh];
    ops.extend(options.root.iter().map(|name| Argop4::Lookup(Lookup4args { objname: name.clone().into() })));
    ops.push(Argop4::Getfh);
    ops.push(Argop4::Getattr(Getattr4args { attr_request: FILE_ATTRS.union(LIMIT_ATTRS) }));
    let mut replies = asker.ask(&options.cred, true, &ops).await?;
    if let Err(error) = next!(replies, ReclaimComplete, "RECLAIM_COMPLETE") {
        // COMPLETE_ALREADY after a repeated compound, or a server that does not know the operation.
        tracing::debug!(%error, "RECLAIM_COMPLETE was refused; going on without");
        replies = asker.ask(&options.cred, true, &ops[1..]).await?;
    }
    next!(replies, Putrootfh, "PUTROOTFH")?;
    for _ in &options.root {
        next!(replies, Lookup, "LOOKUP")?;
    }
    let handle = Handle::from_wire(&next!(replies, Getfh, "GETFH")?.object);
    let attrs = next!(replies, Getattr, "GETATTR").and_then(|got| replies.attrs(&got))?;
    let attr = FileAttr::from_wire("GETATTR", &attrs)?;
    Ok((limits(&attrs, granted, options), (handle, attr)))
}

fn limits(attrs: &Attrs, granted: &Granted, options: &ClientOptions) -> Limits {
    let size = |attr: Option<u64>, channel: u32| {
        let attr = attr.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(u32::MAX);
        attr.min(channel - OVERHEAD).min(options.max_io)
    };
    Limits {
        max_read: size(attrs.maxread, granted.max_response),
        max_write: size(attrs.maxwrite, granted.max_request),
        max_file_size: attrs.maxfilesize.unwrap_or(i64::MAX as u64),
        max_name: longest_name(attrs.maxname),
        slots: granted.slots,
        // Servers that do not tell have 90 s by custom.
        lease: attrs.lease_time.filter(|seconds| *seconds > 0).unwrap_or(90),
        hard_links: attrs.link_support.unwrap_or(true),
        symlinks: attrs.symlink_support.unwrap_or(true),
        xattrs: attrs.xattr_support.unwrap_or(false),
        acls: attrs.aclsupport.is_some_and(|kinds| kinds != 0),
    }
}

impl Worker {
    async fn run(mut self, up: Connected, mut stop: oneshot::Receiver<()>) {
        let mut up = Some(up);
        loop {
            let trouble = match &mut up {
                Some(connected) => tokio::select! {
                    // The handle was dropped or wants the end.
                    _ = &mut stop => break,
                    trouble = self.serve(connected) => trouble,
                },
                None => Trouble::Channel,
            };
            tracing::info!(?trouble, "mending the connection to the mount target");
            let mended = tokio::select! {
                _ = &mut stop => None,
                mended = self.mend(up.take(), trouble) => Some(mended),
            };
            match mended {
                Some(connected) => up = Some(connected),
                None => break,
            }
        }
        self.end(up).await;
    }

    /// Serves a connection until something is wrong.
    async fn serve(&mut self, up: &mut Connected) -> Trouble {
        let closed = up.channel.closed();
        tokio::pin!(closed);
        loop {
            if self.session.as_ref().is_some_and(|current| current.session.is_used_up()) {
                return Trouble::Session;
            }
            let due = self.renew_if_due().min(self.look(up.partition));
            tokio::select! {
                reason = &mut closed => {
                    tracing::info!(%reason, "the connection to the mount target was lost");
                    return Trouble::Channel;
                }
                Some(call) = up.incoming.recv() => self.answer(call).await,
                Some(report) = self.reports.recv() => {
                    if let Some(trouble) = self.judge(report) {
                        return trouble;
                    }
                }
                Some(grown) = self.growing.join_next() => self.grown(grown.ok().flatten()),
                () = self.nudge.notified() => {
                    self.replaced = None;
                    self.check();
                }
                () = sleep_until(due.into()) => {}
            }
        }
    }

    /// Opens one more connection when those that there are have been busy for a while; returns when to look again.
    fn look(&mut self, partition: Option<PartitionId>) -> Instant {
        let now = Instant::now();
        self.further.retain(|connected| connected.channel.lost().is_none());
        let (Some(current), Ok(link)) = (&self.session, self.engine.ready()) else { return now + LOOK };
        let connections = 1 + self.further.len();
        if self.growing.is_empty() && self.growth.look(now, connections, link.channels.least_load()) {
            let (dial, handshake, minor) = (Arc::clone(&self.dial), Arc::clone(&self.handshake), self.minor);
            let (session, max_record) = (current.session.id, current.max_record);
            self.growing.spawn(async move {
                let connected = match dial.dial_further(partition).await {
                    Ok(connected) => connected?,
                    Err(error) => {
                        tracing::debug!(%error, "no further connection");
                        return None;
                    }
                };
                let bound =
                    handshake.bind_connection(&connected.channel, minor, session, ChannelDirFromClient4::Fore).await;
                connected.channel.set_max_record(max_record);
                bound.is_ok().then_some(connected)
            });
        }
        now + LOOK
    }

    /// One more connection stands, or was not to be had.
    fn grown(&mut self, connected: Option<Connected>) {
        let Some(connected) = connected else {
            self.growth.failed(Instant::now());
            return;
        };
        if let Ok(link) = self.engine.ready() {
            tracing::info!(connections = 2 + self.further.len(), "one more connection to the mount target");
            link.channels.join(connected.channel.clone());
        }
        self.engine.counts.connections.fetch_add(1, Ordering::Relaxed);
        self.further.push(connected);
    }

    /// Renews the lease when it is time; returns when to look again.
    fn renew_if_due(&self) -> Instant {
        let now = Instant::now();
        let step = self.engine.lease.lock().unwrap_or_else(PoisonError::into_inner).step(now);
        match step {
            LeaseStep::WaitUntil(due) => due,
            LeaseStep::Renew => {
                if !self.renewing.swap(true, Ordering::AcqRel) {
                    let (engine, renewing) = (Arc::clone(&self.engine), Arc::clone(&self.renewing));
                    let cred = self.handshake.options().cred.clone();
                    self.engine.tasks().spawn(async move {
                        // SEQUENCE alone renews the lease (RFC 8881 §8.3); its failure is reported by the engine.
                        let _ = engine.call_without_limit(Request::reading(&cred, || Ok(Vec::new()))).await;
                        renewing.store(false, Ordering::Release);
                    });
                }
                now + Duration::from_secs(1)
            }
        }
    }

    /// Has every connection asked whether it is there, the lease renewed with that, and the certificate if it is old. What
    /// is found wrong comes back as a report.
    fn check(&self) {
        let (engine, dial, renewing) = (Arc::clone(&self.engine), Arc::clone(&self.dial), Arc::clone(&self.renewing));
        let cred = self.handshake.options().cred.clone();
        // The check renews the lease; a renewal that is under way may hang on a dead connection.
        let is_first = !renewing.swap(true, Ordering::AcqRel);
        self.engine.tasks().spawn(async move {
            let check = async {
                engine.check(&cred).await;
                if is_first {
                    renewing.store(false, Ordering::Release);
                }
            };
            tokio::join!(check, dial.renew());
        });
    }

    async fn answer(&mut self, call: IncomingCall) {
        let Some(current) = &mut self.session else { return };
        let Some((segments, effects)) = current.back.answer(call.record.clone()) else { return };
        for effect in effects {
            match effect {
                Effect::TargetHighestSlot(highest) => current.session.set_target(highest),
            }
        }
        if timeout(CALLBACK_LIMIT, call.reply(segments)).await.is_err() {
            tracing::debug!("the answer to a callback could not be sent");
        }
    }

    /// What a report asks for; what was mended since then asks for nothing.
    fn judge(&mut self, report: Report) -> Option<Trouble> {
        const REVOKED: u32 = seq4_status::EXPIRED_ALL_STATE_REVOKED
            | seq4_status::EXPIRED_SOME_STATE_REVOKED
            | seq4_status::ADMIN_STATE_REVOKED;
        const BACK: u32 =
            seq4_status::CB_PATH_DOWN | seq4_status::CB_PATH_DOWN_SESSION | seq4_status::BACKCHANNEL_FAULT;
        if report.generation() != self.generation {
            return None;
        }
        match report {
            Report::ChannelLost(_) => Some(Trouble::Channel),
            Report::SessionLost(_) => Some(Trouble::Session),
            Report::StateLost(_) => Some(Trouble::State(Restore::Test)),
            Report::Flags(_, flags) => {
                let trouble = if flags & seq4_status::RESTART_RECLAIM_NEEDED != 0 {
                    Trouble::State(Restore::Reclaim)
                } else if flags & REVOKED != 0 {
                    Trouble::State(Restore::Test)
                } else if flags & BACK != 0 {
                    Trouble::BackChannel
                } else {
                    return None;
                };
                let now = Instant::now();
                // Flags stay up for a while after what they ask for was done.
                if self.acted_on_flags.is_some_and(|last| now.duration_since(last) < FLAG_PAUSE) {
                    return None;
                }
                self.acted_on_flags = Some(now);
                Some(trouble)
            }
        }
    }

    /// Mends what is wrong; comes back with a connection on which the session works.
    async fn mend(&mut self, up: Option<Connected>, trouble: Trouble) -> Connected {
        let mut up = match trouble {
            Trouble::Channel => {
                if let Some(up) = up {
                    up.channel.close().await;
                }
                self.unbind();
                None
            }
            Trouble::Session => {
                if let Some(up) = &up {
                    self.leave_session(&up.channel).await;
                }
                up
            }
            Trouble::State(restore) => {
                self.restore = self.restore.max(restore);
                up
            }
            Trouble::BackChannel => {
                self.unbind();
                up
            }
        };
        let has_other = self.further.iter().any(|other| other.channel.lost().is_none());
        let replaces = trouble == Trouble::Session || (trouble == Trouble::Channel && !has_other);
        if replaces {
            self.rest(&trouble).await;
        }
        let mut backoff = Backoff::for_connect();
        loop {
            let connected = match up.take() {
                Some(connected) => connected,
                None => match self.next_of_session() {
                    Some(connected) => connected,
                    None => self.dial(&mut backoff).await,
                },
            };
            let nudge = Arc::clone(&self.nudge);
            // All of them are in doubt then, and one after the other would be tried.
            let others = self.further.iter().map(|other| other.channel.clone());
            let channels: Vec<Channel> = others.chain([connected.channel.clone()]).collect();
            match unless_gone(&nudge, &channels, self.establish(&connected)).await {
                Ok(()) => {
                    if replaces {
                        self.replaced = Some((Instant::now(), self.engine.answered()));
                    }
                    return connected;
                }
                Err(Broken::Session) => {
                    self.leave_session(&connected.channel).await;
                    up = Some(connected);
                }
                Err(broken) => {
                    tracing::warn!(?broken, "the session could not be restored; connecting again");
                    connected.channel.close().await;
                    self.unbind();
                }
            }
            tokio::select! {
                () = sleep(backoff.pause()) => {}
                () = self.nudge.notified() => backoff.reset(),
            }
        }
    }

    /// A target that lets us in and hangs up at the first request is not tried again at full speed. A connection that has
    /// brought an answer is replaced without losing time, however short it lived.
    async fn rest(&mut self, trouble: &Trouble) {
        let has_served = self.replaced.is_none_or(|(at, answered)| {
            at.elapsed() >= STEADY || (*trouble == Trouble::Channel && self.engine.answered() > answered)
        });
        if has_served {
            self.rest.reset();
            return;
        }
        tokio::select! {
            () = sleep(self.rest.pause()) => {}
            () = self.nudge.notified() => self.rest.reset(),
        }
    }

    /// Another connection of the session, which still stands.
    fn next_of_session(&mut self) -> Option<Connected> {
        while let Some(connected) = self.further.pop() {
            if connected.channel.lost().is_none() {
                return Some(connected);
            }
        }
        None
    }

    async fn dial(&self, backoff: &mut Backoff) -> Connected {
        self.dial.start_over();
        loop {
            let mut dialling = self.dial.dial();
            let dialled = tokio::select! {
                dialled = &mut dialling => Ok(dialled),
                () = self.nudge.notified() => {
                    backoff.reset();
                    timeout(SILENCE, dialling).await
                }
            };
            let Ok(dialled) = dialled else {
                tracing::info!("connecting takes long, perhaps by a way that is gone; it begins anew");
                continue;
            };
            match dialled {
                Ok(connected) => {
                    self.engine.counts.connections.fetch_add(1, Ordering::Relaxed);
                    return connected;
                }
                Err(error) => {
                    let pause = backoff.pause();
                    tracing::warn!(%error, ?pause, "connecting again failed");
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = self.nudge.notified() => backoff.reset(),
                    }
                }
            }
        }
    }

    fn unbind(&mut self) {
        if let Some(current) = &mut self.session {
            current.bound = false;
        }
    }

    /// Gives the session up: requests in it go on in the next one.
    async fn leave_session(&mut self, channel: &Channel) {
        let Some(current) = self.session.take() else { return };
        current.session.end();
        self.growing.shutdown().await;
        for connected in self.further.drain(..) {
            connected.channel.close().await;
        }
        // Where the server still has it, only we and it disagree about a slot; it must not stay behind.
        let destroyed = self.handshake.destroy_session(channel, self.minor, current.session.id);
        within(SHUTDOWN_STEP, "DESTROY_SESSION", destroyed).await;
    }

    /// Makes the session work on a connection, the old one where the server kept it, and restores open files.
    async fn establish(&mut self, up: &Connected) -> Step<()> {
        self.keep_session(up).await?;
        let is_new = self.session.is_none();
        if is_new {
            let current = self.new_session(up).await?;
            self.session = Some(current);
        }
        let restores = self.restore != Restore::Nothing;
        if !is_new || !restores {
            // Requests that hold slots go on at once; what restores state needs slots too.
            self.publish(up);
        }
        if restores {
            let Some(current) = &self.session else { return Err(Broken::Session) };
            let asker = Asker { handshake: &self.handshake, channel: &up.channel, session: &current.session };
            let files = self.engine.opens().all();
            match self.restore {
                Restore::Nothing => {}
                Restore::Test => asker.test(&files).await?,
                Restore::Complete => {
                    asker.reclaim_complete().await?;
                    asker.test(&files).await?;
                }
                Restore::Reclaim => {
                    let refused = asker.reclaim(&files).await?;
                    // The server may take it without our knowing, and then gives nothing back any more.
                    self.restore = Restore::Complete;
                    asker.reclaim_complete().await?;
                    asker.open_again(&refused).await?;
                }
            }
            self.restore = Restore::Nothing;
            self.publish(up);
        }
        Ok(())
    }

    /// Binds the connection to the session, or finds that the session is gone.
    async fn keep_session(&mut self, up: &Connected) -> Step<()> {
        let Some(current) = &mut self.session else { return Ok(()) };
        if current.bound {
            return Ok(());
        }
        let elsewhere = matches!((&current.partition, &up.partition), (Some(old), Some(new)) if old != new);
        let both = ChannelDirFromClient4::ForeOrBoth;
        let gone = if elsewhere || current.session.is_worn_out() {
            true
        } else {
            match self.handshake.bind_connection(&up.channel, self.minor, current.session.id, both).await {
                Ok(()) => false,
                Err(Broken::Channel) => return Err(Broken::Channel),
                Err(broken) => {
                    tracing::info!(?broken, "the session did not survive");
                    true
                }
            }
        };
        if gone {
            self.leave_session(&up.channel).await;
        } else {
            up.channel.set_max_record(current.max_record);
            current.bound = true;
        }
        Ok(())
    }

    async fn new_session(&mut self, up: &Connected) -> Step<Current> {
        let mut attempts = 0;
        loop {
            let client = if let Some(client) = self.client {
                client
            } else {
                let client = self.handshake.exchange_id(&up.channel, self.minor).await?;
                if !client.known {
                    self.restore = Restore::Reclaim;
                }
                *self.client.insert(client)
            };
            match self.handshake.create_session(&up.channel, self.minor, client).await {
                Ok(granted) => {
                    self.client = Some(client.after_session());
                    self.engine.counts.sessions.fetch_add(1, Ordering::Relaxed);
                    self.engine.shrink_limits(
                        granted.max_response - OVERHEAD,
                        granted.max_request - OVERHEAD,
                        granted.slots,
                    );
                    return Ok(Current::new(&granted, self.minor, up));
                }
                Err(broken) => {
                    let start_anew = matches!(
                        broken.status(),
                        Some(Nfs4Error::StaleClientid | Nfs4Error::SeqMisordered | Nfs4Error::ClidInuse)
                    );
                    attempts += 1;
                    if !start_anew || attempts > 2 {
                        return Err(broken);
                    }
                    self.client = None;
                }
            }
        }
    }

    fn publish(&mut self, up: &Connected) {
        let Some(current) = &self.session else { return };
        self.generation += 1;
        let channels = std::iter::once(up).chain(&self.further).map(|connected| connected.channel.clone());
        let link = Link {
            generation: self.generation,
            session: Arc::clone(&current.session),
            channels: Channels::new(channels),
            restored: self.restore == Restore::Nothing,
        };
        self.phase.send_replace(Phase::Ready(Arc::new(link)));
    }

    /// The end: nothing of ours stays at the server, as far as it can be reached in time.
    async fn end(mut self, up: Option<Connected>) {
        let tasks = self.engine.tasks().clone();
        tasks.close();
        if let Some(up) = &up
            && self.session.as_ref().is_some_and(|current| current.bound)
        {
            // What is under way ends first; then files that nobody closed.
            let _ = timeout(SHUTDOWN_STEP, tasks.wait()).await;
            self.close_files(&up.channel).await;
            if let Some(current) = &self.session {
                let destroyed = self.handshake.destroy_session(&up.channel, self.minor, current.session.id);
                within(SHUTDOWN_STEP, "DESTROY_SESSION", destroyed).await;
            }
            if let Some(client) = self.client {
                let destroyed = self.handshake.destroy_clientid(&up.channel, self.minor, client.id);
                within(SHUTDOWN_STEP, "DESTROY_CLIENTID", destroyed).await;
            }
        }
        self.phase.send_replace(Phase::Closed);
        if let Some(current) = self.session.take() {
            current.session.end();
        }
        self.growing.shutdown().await;
        for connected in self.further.drain(..) {
            connected.channel.close().await;
        }
        if let Some(up) = up {
            up.channel.close().await;
        }
        let _ = timeout(SHUTDOWN_STEP, tasks.wait()).await;
    }

    async fn close_files(&self, channel: &Channel) {
        let Some(current) = &self.session else { return };
        let asker = Asker { handshake: &self.handshake, channel, session: &current.session };
        for file in self.engine.opens().all() {
            if within(SHUTDOWN_STEP, "CLOSE", asker.close(&file)).await.is_none() {
                return;
            }
        }
    }
}
