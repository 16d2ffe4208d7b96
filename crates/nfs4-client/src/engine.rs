//! Carries requests out, each exactly once: takes a slot, sends SEQUENCE and the operations, and sees it through
//! lost connections, lost sessions, delays and lost state.
//!
//! A request runs in a task of its own, so that a caller who stops waiting never leaves a slot in the middle of an
//! exchange. What a reply means is decided in [`crate::verdict`].

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::session::Sequence4args;
use nfs4::types::Sessionid4;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use crate::attr::{Cred, Limits};
use crate::channels::{Channels, Place};
use crate::compound::{Replies, encode_compound};
use crate::error::{Errno, Error, Result, errno_of};
use crate::options::ClientOptions;
use crate::session::{Backoff, Lease, SlotTable, SlotUse};
use crate::silence::{SILENCE, probe, unless_silent, unless_stuck};
use crate::state::Opens;
use crate::verdict::{Judged, Verdict, judge, skip_restored, verdict};

/// A READ or WRITE of more payload bytes than this is a large transfer.
const LARGE: usize = 64 << 10;

/// How many bytes of file data a request moves at most.
fn payload(ops: &[Argop4]) -> usize {
    let of = |op: &Argop4| match op {
        Argop4::Read(read) => read.count as usize,
        Argop4::Write(write) => write.data.iter().map(Bytes::len).sum(),
        _ => 0,
    };
    ops.iter().map(of).fold(0, usize::saturating_add)
}

/// A session and what it allows.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: Sessionid4,
    pub(crate) minor: u32,
    pub(crate) max_request: usize,
    table: Mutex<SlotTable>,
    freed: Notify,
    gone: AtomicBool,
    abandoned: AtomicU32,
}

impl Session {
    pub(crate) fn new(id: Sessionid4, minor: u32, slots: u32, max_request: usize) -> Self {
        Self {
            id,
            minor,
            max_request,
            table: Mutex::new(SlotTable::new(slots)),
            freed: Notify::new(),
            gone: AtomicBool::new(false),
            abandoned: AtomicU32::new(0),
        }
    }

    fn table(&self) -> MutexGuard<'_, SlotTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot if one is free.
    fn take_free_slot(&self) -> Option<SlotUse> {
        if self.gone.load(Ordering::Acquire) { None } else { self.table().take() }
    }

    /// Waits for a slot; `None` when the session has ended meanwhile.
    pub(crate) async fn take_slot(&self) -> Option<SlotUse> {
        loop {
            let freed = self.freed.notified();
            if self.gone.load(Ordering::Acquire) {
                return None;
            }
            if let Some(used) = self.table().take() {
                return Some(used);
            }
            freed.await;
        }
    }

    pub(crate) fn give_back(&self, used: SlotUse, executed: bool) {
        self.table().give_back(used, executed);
        self.freed.notify_one();
    }

    /// A slot stays taken for good: nobody knows whether the server has seen its request.
    pub(crate) fn abandon(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether so many slots were abandoned that a new session is better.
    pub(crate) fn is_worn_out(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed).saturating_mul(2) >= self.table().usable()
    }

    /// Whether there may be no slot left that anybody gives back.
    pub(crate) fn is_used_up(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed) >= self.table().usable()
    }

    /// A request as it goes out on a slot.
    pub(crate) fn encode(
        &self,
        used: SlotUse,
        machine_name: &str,
        cred: &Cred,
        changing: bool,
        ops: &[Argop4],
    ) -> Result<Vec<Bytes>> {
        let sequence = Argop4::Sequence(Sequence4args {
            sa_sessionid: self.id,
            sa_sequenceid: used.sequence,
            sa_slotid: used.slot,
            sa_highest_slotid: used.highest,
            sa_cachethis: changing,
        });
        let segments = encode_compound(machine_name, cred, self.minor, Some(&sequence), ops)?;
        let size = segments.iter().map(Bytes::len).sum();
        if size > self.max_request {
            return Err(Error::TooLarge { size, limit: self.max_request });
        }
        Ok(segments)
    }

    pub(crate) fn set_target(&self, highest: u32) {
        let mut table = self.table();
        let before = table.usable();
        table.set_target(highest);
        let grown = table.usable() > before;
        drop(table);
        if grown {
            self.freed.notify_waiters();
        }
    }

    /// The session has ended: whoever waits for a slot goes on to the next session.
    pub(crate) fn end(&self) {
        self.gone.store(true, Ordering::Release);
        self.freed.notify_waiters();
    }
}

/// A session on its connections. Each recovery publishes a new one with a higher generation.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) generation: u64,
    pub(crate) session: Arc<Session>,
    pub(crate) channels: Channels,
    /// Stateids are good again as far as that can be; before, those who hold slots may go on.
    pub(crate) restored: bool,
}

/// Where the client stands.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// Requests can be sent.
    Ready(Arc<Link>),
    /// The client was shut down.
    Closed,
}

/// What a request tells the keeper; the number is the generation in which it was noticed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Report {
    /// The connection is gone or silent.
    ChannelLost(u64),
    /// The session is gone or out of step.
    SessionLost(u64),
    /// A stateid is no longer good.
    StateLost(u64),
    /// SEQUENCE's status flags (RFC 8881 §18.46.3), not zero.
    Flags(u64, u32),
}

impl Report {
    /// The generation in which it was noticed.
    pub(crate) fn generation(self) -> u64 {
        let (Self::ChannelLost(generation)
        | Self::SessionLost(generation)
        | Self::StateLost(generation)
        | Self::Flags(generation, _)) = self;
        generation
    }
}

/// What was sent and received so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Compounds sent.
    pub compounds: u64,
    /// Compounds sent a second time after a lost connection or session.
    pub repeated: u64,
    /// Answers that asked to wait (NFS4ERR_DELAY, NFS4ERR_GRACE).
    pub delayed: u64,
    /// Connections made.
    pub connections: u64,
    /// Sessions made.
    pub sessions: u64,
    /// Bytes of requests sent, RPC headers included, TLS not.
    pub bytes_out: u64,
    /// Bytes of answers received, RPC headers included, TLS not.
    pub bytes_in: u64,
    /// Requests that ended in an error no program asks for: EIO, ENOSPC, EDQUOT, ESTALE, ETIMEDOUT.
    pub failed: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    compounds: AtomicU64,
    repeated: AtomicU64,
    delayed: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) sessions: AtomicU64,
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
    failed: AtomicU64,
    /// How long a small request took lately, in microseconds; 0 before the first.
    pub(crate) round_trip: AtomicU64,
}

impl Counts {
    /// Counts how a request ended.
    fn ended(&self, outcome: &Result<Done>) {
        let errno = match outcome {
            Ok(done) => done.replies.failure().map(errno_of),
            // The caller's wait has counted the second.
            Err(Error::Closed | Error::TimedOut) => None,
            Err(error) => Some(error.errno()),
        };
        if matches!(errno, Some(Errno::Io | Errno::NoSpc | Errno::Dquot | Errno::Stale | Errno::TimedOut)) {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes one more round trip into the average, which follows within some eight of them.
    fn took(&self, time: Duration) {
        let micros = (time.as_micros() as u64).max(1);
        let before = self.round_trip.load(Ordering::Relaxed);
        let now = if before == 0 { micros } else { before - before / 8 + micros / 8 };
        self.round_trip.store(now.max(1), Ordering::Relaxed);
    }
}

type Build = Box<dyn Fn() -> Result<Vec<Argop4>> + Send + Sync>;

/// A request: operations that can be built again whenever they have to be sent anew.
pub(crate) struct Request {
    cred: Cred,
    /// Must not happen twice: the server shall cache the reply.
    changing: bool,
    /// From here on it is not sent any more: its caller was told that it has failed.
    deadline: Option<tokio::time::Instant>,
    build: Build,
}

impl Request {
    /// A request that does no harm when it is carried out twice.
    pub(crate) fn reading<F>(cred: &Cred, build: F) -> Self
    where
        F: Fn() -> Result<Vec<Argop4>> + Send + Sync + 'static,
    {
        Self { cred: cred.clone(), changing: false, deadline: None, build: Box::new(build) }
    }

    /// A request that must be carried out once.
    pub(crate) fn changing<F>(cred: &Cred, build: F) -> Self
    where
        F: Fn() -> Result<Vec<Argop4>> + Send + Sync + 'static,
    {
        Self { cred: cred.clone(), changing: true, deadline: None, build: Box::new(build) }
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline)
    }

    /// Waits for what has to come before the request can go out, no longer than until its deadline.
    async fn before_deadline<T>(&self, wait: impl Future<Output = Result<T>>) -> Result<T> {
        match self.deadline {
            None => wait.await,
            Some(deadline) => timeout_at(deadline, wait).await.unwrap_or(Err(Error::TimedOut)),
        }
    }
}

/// A request that was carried out.
#[derive(Debug)]
pub(crate) struct Done {
    /// The results behind SEQUENCE.
    pub(crate) replies: Replies,
    /// An earlier attempt was sent in a session whose end hides whether it was carried out.
    pub(crate) repeated: bool,
}

/// What all requests of a client share.
#[derive(Debug)]
pub(crate) struct Engine {
    phase: watch::Receiver<Phase>,
    reports: mpsc::Sender<Report>,
    tasks: TaskTracker,
    opens: Opens,
    pub(crate) counts: Counts,
    pub(crate) lease: Mutex<Lease>,
    limits: Mutex<Limits>,
    /// Large transfers take one of these, fewer than there are slots: names and attributes never wait for bulk data.
    large: Semaphore,
    machine_name: String,
    call_timeout: Duration,
    soft_timeout: Option<Duration>,
}

enum Exchange {
    Results(Vec<Resop4>),
    /// The session ended or the answer is gone: to be sent as a new request. `sent` says whether this one may have
    /// been carried out.
    Anew {
        sent: bool,
    },
}

impl Engine {
    pub(crate) fn new(
        phase: watch::Receiver<Phase>,
        reports: mpsc::Sender<Report>,
        limits: Limits,
        options: &ClientOptions,
    ) -> Self {
        let lease = Lease::new(Duration::from_secs(u64::from(limits.lease)), Instant::now());
        Self {
            phase,
            reports,
            tasks: TaskTracker::new(),
            opens: Opens::default(),
            counts: Counts::default(),
            lease: Mutex::new(lease),
            large: Semaphore::new((limits.slots as usize * 3 / 4).max(1)),
            limits: Mutex::new(limits),
            machine_name: options.machine_name.clone(),
            call_timeout: options.call_timeout,
            soft_timeout: options.soft_timeout,
        }
    }

    pub(crate) fn opens(&self) -> &Opens {
        &self.opens
    }

    pub(crate) fn limits(&self) -> Limits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new session may be smaller than the one before.
    pub(crate) fn shrink_limits(&self, max_read: u32, max_write: u32, slots: u32) {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.max_read = limits.max_read.min(max_read);
        limits.max_write = limits.max_write.min(max_write);
        limits.slots = slots;
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    pub(crate) fn counters(&self) -> Counters {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counters {
            compounds: load(&self.counts.compounds),
            repeated: load(&self.counts.repeated),
            delayed: load(&self.counts.delayed),
            connections: load(&self.counts.connections),
            sessions: load(&self.counts.sessions),
            bytes_out: load(&self.counts.bytes_out),
            bytes_in: load(&self.counts.bytes_in),
            failed: load(&self.counts.failed),
        }
    }

    /// Carries a request out; comes back when it is done or has failed for good.
    pub(crate) async fn call(self: &Arc<Self>, request: Request) -> Result<Done> {
        let engine = Arc::clone(self);
        let task = self.tasks.spawn(async move { engine.call_to_its_end(request).await });
        self.within_limit(async { task.await.unwrap_or(Err(Error::Closed)) }).await
    }

    /// The same for callers that have a task of their own: what was sent is waited for, however late its answer comes.
    pub(crate) async fn call_to_its_end(&self, mut request: Request) -> Result<Done> {
        request.deadline = self.soft_timeout.map(|limit| tokio::time::Instant::now() + limit);
        self.carry_out_counted(&request).await
    }

    /// As [`Self::call`], but for as long as it takes: for callers that have a task of their own.
    pub(crate) async fn call_without_limit(&self, request: Request) -> Result<Done> {
        self.carry_out_counted(&request).await
    }

    /// A caller waits so long and no longer.
    pub(crate) async fn within_limit<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(limit) = self.soft_timeout else { return answer.await };
        let answer = timeout(limit, answer).await.unwrap_or(Err(Error::TimedOut));
        if matches!(answer, Err(Error::TimedOut)) {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// Does `work` to its end in a task of its own. What it brings along to undo it is done, and the rest dropped after
    /// it, when its caller has stopped waiting by then.
    pub(crate) async fn taken_or_undone<T, U>(
        &self,
        work: impl Future<Output = Result<(T, U)>> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        U: Future<Output = ()> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        self.tasks.spawn(async move {
            let (answer, undo) = match work.await {
                Ok((answer, undo)) => (Ok(answer), Some(undo)),
                Err(error) => (Err(error), None),
            };
            // An answer that was sent may still be left lying by its caller.
            let (taken, is_taken) = oneshot::channel::<()>();
            let _ = tell.send((answer, taken));
            if let (Err(_), Some(undo)) = (is_taken.await, undo) {
                undo.await;
            }
        });
        let answer = async {
            let (answer, taken) = told.await.map_err(|_| Error::Closed)?;
            let _ = taken.send(());
            answer
        };
        self.within_limit(answer).await
    }

    /// Bytes of answers that came to requests, those of recovery not counted.
    pub(crate) fn answered(&self) -> u64 {
        self.counts.bytes_in.load(Ordering::Relaxed)
    }

    async fn carry_out_counted(&self, request: &Request) -> Result<Done> {
        let outcome = self.carry_out(request).await;
        self.counts.ended(&outcome);
        outcome
    }

    async fn carry_out(&self, request: &Request) -> Result<Done> {
        let mut repeated = false;
        let mut delay = Backoff::for_delay();
        let mut state_losses = 0;
        // Results of the operations that need not be sent again, when the rest has to be.
        let mut settled: Vec<Resop4> = Vec::new();
        let mut rest: Option<Vec<Argop4>> = None;
        loop {
            if request.is_late() {
                return Err(Error::TimedOut);
            }
            let link = self.ready()?;
            let ops = match &rest {
                Some(rest) => rest.clone(),
                None => (request.build)()?,
            };
            let results = match self.exchange(&link, request, &ops).await? {
                Exchange::Results(results) => results,
                Exchange::Anew { sent } => {
                    repeated |= sent;
                    self.counts.repeated.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            };
            match verdict(&ops, &results) {
                Verdict::StateGone if state_losses < 4 => {
                    // What was not restored yet could not be good.
                    state_losses += u32::from(link.restored);
                    let restored = async {
                        self.report(Report::StateLost(link.generation)).await;
                        self.restored_after(link.generation).await
                    };
                    request.before_deadline(restored).await?;
                    continue;
                }
                Verdict::Final | Verdict::StateGone => {
                    settled.extend(skip_restored(&mut rest, results));
                    return Ok(Done { replies: Replies::new(settled), repeated });
                }
                Verdict::Delay => {}
                Verdict::DelayedAfter(tail) => {
                    let mut done = skip_restored(&mut rest, results);
                    done.pop();
                    settled.extend(done);
                    rest = Some(tail);
                }
            }
            self.counts.delayed.fetch_add(1, Ordering::Relaxed);
            let pause = sleep(delay.pause());
            request.before_deadline(pause.map(Ok)).await?;
        }
    }

    /// One request on one slot until the server has answered it or there is no answer to be had.
    async fn exchange(&self, link: &Arc<Link>, request: &Request, ops: &[Argop4]) -> Result<Exchange> {
        let _large = if payload(ops) > LARGE {
            let large = async { self.large.acquire().await.map_err(|_| Error::Closed) };
            Some(request.before_deadline(large).await?)
        } else {
            None
        };
        let Some(used) = request.before_deadline(link.session.take_slot().map(Ok)).await? else {
            request.before_deadline(self.newer_than(link.generation)).await?;
            return Ok(Exchange::Anew { sent: false });
        };
        self.exchange_on(link, used, None, request, ops).await
    }

    /// The same on a slot that was taken. It goes out on connection `asked` first, if there is one, which may not be silent.
    async fn exchange_on(
        &self,
        link: &Arc<Link>,
        used: SlotUse,
        mut asked: Option<Place>,
        request: &Request,
        ops: &[Argop4],
    ) -> Result<Exchange> {
        let session = Arc::clone(&link.session);
        let mut link = Arc::clone(link);
        let payload = payload(ops);
        let segments = match session.encode(used, &self.machine_name, &request.cred, request.changing, ops) {
            Ok(segments) => segments,
            Err(error) => {
                session.give_back(used, false);
                return Err(error);
            }
        };
        let mut delay = Backoff::for_delay();
        // Whether the server may have carried it out without our knowing.
        let mut unanswered = false;
        self.counts.compounds.fetch_add(1, Ordering::Relaxed);
        loop {
            if request.is_late() {
                leave(&session, used, unanswered);
                return Err(Error::TimedOut);
            }
            let sent_at = Instant::now();
            let in_doubt = asked.is_some();
            let Some(place) = asked.take().or_else(|| link.channels.take(payload)) else {
                let newer = async {
                    self.report(Report::ChannelLost(link.generation)).await;
                    self.newer_than(link.generation).await
                };
                link = match request.before_deadline(newer).await {
                    Ok(newer) => newer,
                    Err(error) => {
                        leave(&session, used, unanswered);
                        return Err(error);
                    }
                };
                if !Arc::ptr_eq(&link.session, &session) {
                    return Ok(Exchange::Anew { sent: unanswered });
                }
                continue;
            };
            let Ok(record) = self.answer_on(&place, segments.clone(), in_doubt).await else {
                unanswered = true;
                self.counts.repeated.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let judged = judge(record, &session.id, used);
            match judged {
                Judged::Executed { results, flags, target } => {
                    if payload <= LARGE {
                        self.counts.took(sent_at.elapsed());
                    }
                    self.lease.lock().unwrap_or_else(PoisonError::into_inner).renewed(sent_at);
                    session.give_back(used, true);
                    session.set_target(target);
                    if flags != 0 {
                        self.report_flags(link.generation, flags);
                    }
                    return Ok(Exchange::Results(results));
                }
                Judged::Wait => {
                    self.counts.delayed.fetch_add(1, Ordering::Relaxed);
                    sleep(delay.pause()).await;
                }
                Judged::Refused(error) => {
                    leave(&session, used, unanswered);
                    return Err(error);
                }
                Judged::Garbled(error) => {
                    // The server took the request, but nobody knows what it did.
                    session.give_back(used, true);
                    return Err(error);
                }
                Judged::Uncached => {
                    session.give_back(used, true);
                    return Ok(Exchange::Anew { sent: true });
                }
                Judged::NotBound => place.channel().give_up(),
                Judged::SessionGone { executed } => {
                    let newer = async {
                        self.report(Report::SessionLost(link.generation)).await;
                        self.newer_than(link.generation).await
                    };
                    request.before_deadline(newer).await?;
                    return Ok(Exchange::Anew { sent: unanswered || executed });
                }
            }
        }
    }

    /// Sends a request on a connection, and gives that up when it brings no answer. One that is in doubt is given up sooner.
    async fn answer_on(&self, place: &Place, segments: Vec<Bytes>, in_doubt: bool) -> std::result::Result<Bytes, ()> {
        let size = segments.iter().map(Bytes::len).sum::<usize>();
        self.counts.bytes_out.fetch_add(size as u64, Ordering::Relaxed);
        let (channel, limit) = (place.channel(), if in_doubt { self.silence() } else { self.call_timeout });
        let answered = if in_doubt {
            unless_silent(channel, limit, channel.call(segments)).await
        } else {
            let (left, has_left) = oneshot::channel();
            let answer = channel.call_telling(segments, left);
            unless_stuck(channel, limit, has_left, || place.backlog(), answer).await
        };
        match answered {
            Some(Ok(record)) => {
                self.counts.bytes_in.fetch_add(record.len() as u64, Ordering::Relaxed);
                return Ok(record);
            }
            Some(Err(_)) => {}
            None => {
                let seconds = limit.as_secs();
                tracing::warn!("the server has not answered for {seconds} s; connecting again");
            }
        }
        channel.give_up();
        Err(())
    }

    /// Asks every connection whether it is there, at one round trip each, and gives up those that are silent. What is asked
    /// is SEQUENCE where a slot is free, which renews the lease and brings word of lost state as well.
    pub(crate) async fn check(&self, cred: &Cred) {
        let Ok(link) = self.ready() else { return };
        let request = Request::reading(cred, || Ok(Vec::new()));
        let checks = link.channels.each().into_iter().map(|place| async {
            match link.session.take_free_slot() {
                // What became of it has been reported.
                Some(used) => drop(self.exchange_on(&link, used, Some(place), &request, &[]).await),
                None => probe(place.channel(), self.silence()).await,
            }
        });
        join_all(checks).await;
    }

    /// How long a connection in doubt may be silent: small requests take a while on a busy narrow link.
    pub(crate) fn silence(&self) -> Duration {
        let lately = Duration::from_micros(self.counts.round_trip.load(Ordering::Relaxed));
        SILENCE.max(lately * 8).min(self.call_timeout)
    }

    /// Tells the keeper what the caller goes on to wait for, so this must arrive, unless there is a newer link already. That
    /// counts: the keeper takes no reports while it mends, and the caller may hold a slot that it needs for that.
    async fn report(&self, report: Report) {
        // The keeper is gone only when the client is closed, which the caller sees next.
        tokio::select! {
            _ = self.reports.send(report) => {}
            _ = self.newer_than(report.generation()) => {}
        }
    }

    /// Tells the keeper of SEQUENCE's flags. The next reply has them again, so a full queue loses nothing.
    fn report_flags(&self, generation: u64, flags: u32) {
        let _ = self.reports.try_send(Report::Flags(generation, flags));
    }

    /// The link to use now.
    pub(crate) fn ready(&self) -> Result<Arc<Link>> {
        match &*self.phase.borrow() {
            Phase::Ready(link) => Ok(Arc::clone(link)),
            Phase::Closed => Err(Error::Closed),
        }
    }

    /// Waits until the keeper has mended the connection or the session that was wrong in `generation`.
    async fn newer_than(&self, generation: u64) -> Result<Arc<Link>> {
        self.link_that(|link| link.generation > generation).await
    }

    /// Waits until the keeper has restored the state that was lost in `generation`.
    async fn restored_after(&self, generation: u64) -> Result<Arc<Link>> {
        self.link_that(|link| link.generation > generation && link.restored).await
    }

    async fn link_that(&self, serves: impl Fn(&Link) -> bool) -> Result<Arc<Link>> {
        let mut phase = self.phase.clone();
        let seen = phase
            .wait_for(|phase| match phase {
                Phase::Ready(link) => serves(link),
                Phase::Closed => true,
            })
            .await
            .map_err(|_| Error::Closed)?;
        match &*seen {
            Phase::Ready(link) => Ok(Arc::clone(link)),
            Phase::Closed => Err(Error::Closed),
        }
    }
}

/// A request that is not sent any more leaves its slot, for good where the server may have seen it.
fn leave(session: &Session, used: SlotUse, unanswered: bool) {
    if unanswered {
        session.abandon();
    } else {
        session.give_back(used, false);
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
