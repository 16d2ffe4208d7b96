//! Carries requests out, each exactly once: takes a slot, sends SEQUENCE and the operations, and sees it through
//! lost connections, lost sessions, delays and lost state.
//!
//! A request runs in a task of its own, so that a caller who stops waiting never leaves a slot in the middle of an
//! exchange. The decisions are [`judge`] and [`verdict`]; what they need from the network comes in as arguments.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mount_target::Channel;
use nfs4::Nfs4Error;
use nfs4::compound::{Argop4, Compound4res, Resop4};
use nfs4::ops::file::Putfh4args;
use nfs4::ops::session::Sequence4args;
use nfs4::rpc::{
    AuthSys, CallHeader, Message, NFS_PROGRAM, NFS_V4, OpaqueAuth, PROC_COMPOUND, ReplyHeader, ReplyStatus,
};
use nfs4::types::{NfsFh4, Sessionid4, Stateid4};
use nfs4::xdr::{Opaque, Reader, Writer, decode};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::attr::{Cred, Limits};
use crate::compound::Replies;
use crate::error::{Error, Result};
use crate::options::ClientOptions;
use crate::session::{Backoff, Lease, SlotTable, SlotUse};
use crate::state::Opens;

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

/// A session on a connection. Each recovery publishes a new one with a higher generation.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) generation: u64,
    pub(crate) session: Arc<Session>,
    pub(crate) channel: Channel,
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
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    compounds: AtomicU64,
    repeated: AtomicU64,
    delayed: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) sessions: AtomicU64,
}

type Build = Box<dyn Fn() -> Result<Vec<Argop4>> + Send + Sync>;

/// A request: operations that can be built again whenever they have to be sent anew.
pub(crate) struct Request {
    cred: Cred,
    /// Must not happen twice: the server shall cache the reply.
    changing: bool,
    build: Build,
}

impl Request {
    /// A request that does no harm when it is carried out twice.
    pub(crate) fn reading<F>(cred: &Cred, build: F) -> Self
    where
        F: Fn() -> Result<Vec<Argop4>> + Send + Sync + 'static,
    {
        Self { cred: cred.clone(), changing: false, build: Box::new(build) }
    }

    /// A request that must be carried out once.
    pub(crate) fn changing<F>(cred: &Cred, build: F) -> Self
    where
        F: Fn() -> Result<Vec<Argop4>> + Send + Sync + 'static,
    {
        Self { cred: cred.clone(), changing: true, build: Box::new(build) }
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
    machine_name: String,
    call_timeout: Duration,
    soft_timeout: Option<Duration>,
}

enum Exchange {
    Results(Vec<Resop4>),
    /// The session ended; `sent` says whether the request may have been carried out in it.
    SessionGone {
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
        }
    }

    /// Carries a request out; comes back when it is done or has failed for good.
    pub(crate) async fn call(self: &Arc<Self>, request: Request) -> Result<Done> {
        let engine = Arc::clone(self);
        let task = self.tasks.spawn(async move { engine.carry_out(&request).await });
        let answer = async { task.await.unwrap_or(Err(Error::Closed)) };
        match self.soft_timeout {
            None => answer.await,
            Some(limit) => timeout(limit, answer).await.unwrap_or(Err(Error::TimedOut)),
        }
    }

    async fn carry_out(&self, request: &Request) -> Result<Done> {
        let mut repeated = false;
        let mut delay = Backoff::for_delay();
        let mut state_losses = 0;
        // Results of the operations that need not be sent again, when the rest has to be.
        let mut settled: Vec<Resop4> = Vec::new();
        let mut rest: Option<Vec<Argop4>> = None;
        loop {
            let link = self.ready()?;
            let ops = match &rest {
                Some(rest) => rest.clone(),
                None => (request.build)()?,
            };
            let results = match self.exchange(&link, request, &ops).await? {
                Exchange::Results(results) => results,
                Exchange::SessionGone { sent } => {
                    repeated |= sent;
                    self.counts.repeated.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            };
            match verdict(&ops, &results) {
                Verdict::StateGone if state_losses < 4 => {
                    state_losses += 1;
                    self.report(Report::StateLost(link.generation));
                    self.newer_than(link.generation).await?;
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
            sleep(delay.pause()).await;
        }
    }

    /// One request on one slot until the server has answered it or the session has ended.
    async fn exchange(&self, link: &Arc<Link>, request: &Request, ops: &[Argop4]) -> Result<Exchange> {
        let session = Arc::clone(&link.session);
        let mut link = Arc::clone(link);
        let Some(used) = session.take_slot().await else {
            self.newer_than(link.generation).await?;
            return Ok(Exchange::SessionGone { sent: false });
        };
        let segments = match session.encode(used, &self.machine_name, &request.cred, request.changing, ops) {
            Ok(segments) => segments,
            Err(error) => {
                session.give_back(used, false);
                return Err(error);
            }
        };
        let mut delay = Backoff::for_delay();
        self.counts.compounds.fetch_add(1, Ordering::Relaxed);
        loop {
            let sent_at = Instant::now();
            let record = match timeout(self.call_timeout, link.channel.call(segments.clone())).await {
                Ok(Ok(record)) => record,
                lost => {
                    if lost.is_err() {
                        tracing::warn!(
                            "the server has not answered for {} s; connecting again",
                            self.call_timeout.as_secs()
                        );
                    }
                    self.report(Report::ChannelLost(link.generation));
                    link = self.newer_than(link.generation).await?;
                    if !Arc::ptr_eq(&link.session, &session) {
                        return Ok(Exchange::SessionGone { sent: true });
                    }
                    self.counts.repeated.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            };
            let judged = judge(record, &session.id, used);
            match judged {
                Judged::Executed { results, flags, target } => {
                    self.lease.lock().unwrap_or_else(PoisonError::into_inner).renewed(sent_at);
                    session.give_back(used, true);
                    session.set_target(target);
                    if flags != 0 {
                        self.report(Report::Flags(link.generation, flags));
                    }
                    return Ok(Exchange::Results(results));
                }
                Judged::Wait => {
                    self.counts.delayed.fetch_add(1, Ordering::Relaxed);
                    sleep(delay.pause()).await;
                }
                Judged::Refused(error) => {
                    session.give_back(used, false);
                    return Err(error);
                }
                Judged::Garbled(error) => {
                    // The server took the request, but nobody knows what it did.
                    session.give_back(used, true);
                    return Err(error);
                }
                Judged::Uncached => {
                    session.give_back(used, true);
                    return Ok(Exchange::SessionGone { sent: true });
                }
                Judged::NotBound => {
                    self.report(Report::ChannelLost(link.generation));
                    link = self.newer_than(link.generation).await?;
                    if !Arc::ptr_eq(&link.session, &session) {
                        return Ok(Exchange::SessionGone { sent: false });
                    }
                }
                Judged::SessionGone => {
                    self.report(Report::SessionLost(link.generation));
                    self.newer_than(link.generation).await?;
                    return Ok(Exchange::SessionGone { sent: true });
                }
            }
        }
    }

    fn report(&self, report: Report) {
        // A full queue holds reports enough to make the keeper act; the waiting call loses nothing.
        let _ = self.reports.try_send(report);
    }

    /// The link to use now.
    fn ready(&self) -> Result<Arc<Link>> {
        match &*self.phase.borrow() {
            Phase::Ready(link) => Ok(Arc::clone(link)),
            Phase::Closed => Err(Error::Closed),
        }
    }

    /// Waits until the keeper has mended what was wrong in `generation`.
    async fn newer_than(&self, generation: u64) -> Result<Arc<Link>> {
        let mut phase = self.phase.clone();
        let seen = phase
            .wait_for(|phase| match phase {
                Phase::Ready(link) => link.generation > generation,
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

/// A compound continued in the middle starts with a PUTFH of its own, whose result nobody asked for.
fn skip_restored(rest: &mut Option<Vec<Argop4>>, mut results: Vec<Resop4>) -> Vec<Resop4> {
    if rest.take().is_some() && !results.is_empty() {
        results.remove(0);
    }
    results
}

/// A COMPOUND call as it goes out; the channel puts its transaction id into the first word.
pub(crate) fn encode_compound(
    machine_name: &str,
    cred: &Cred,
    minor: u32,
    sequence: Option<&Argop4>,
    ops: &[Argop4],
) -> Result<Vec<Bytes>> {
    let failed = |error: nfs4::xdr::Error| Error::BadReply { op: "COMPOUND", why: format!("cannot encode: {error}") };
    let auth = AuthSys::new(machine_name, cred.uid, cred.gid, &cred.groups).to_opaque_auth().map_err(failed)?;
    let mut out = Writer::new();
    out.put(&Message::Call(CallHeader {
        xid: 0,
        prog: NFS_PROGRAM,
        vers: NFS_V4,
        proc: PROC_COMPOUND,
        cred: auth,
        verf: OpaqueAuth::none(),
    }))
    .map_err(failed)?;
    out.put(&Opaque::default()).map_err(failed)?;
    out.put(&minor).map_err(failed)?;
    let count = ops.len() + usize::from(sequence.is_some());
    out.put(&(count as u32)).map_err(failed)?;
    for op in sequence.into_iter().chain(ops) {
        out.put(op).map_err(failed)?;
    }
    Ok(out.into_segments())
}

/// The COMPOUND in a reply record.
pub(crate) fn decode_compound(record: Bytes) -> Result<Compound4res> {
    let bad = |why: String| Error::BadReply { op: "COMPOUND", why };
    let mut input = Reader::new(record);
    match decode::<Message>(&mut input).map_err(|error| bad(error.to_string()))? {
        Message::Reply(ReplyHeader { status: ReplyStatus::Success, .. }) => {}
        Message::Reply(ReplyHeader { status: ReplyStatus::AuthError(_), .. }) => {
            return Err(Error::Nfs { op: "COMPOUND", status: Nfs4Error::Access });
        }
        Message::Reply(reply) => return Err(bad(format!("the RPC layer refused it: {:?}", reply.status))),
        Message::Call(_) => return Err(bad("it is a call".into())),
    }
    decode(&mut input).map_err(|error| bad(error.to_string()))
}

/// What a reply means for its slot.
#[derive(Debug)]
pub(crate) enum Judged {
    /// SEQUENCE went through: the slot moves on.
    Executed { results: Vec<Resop4>, flags: u32, target: u32 },
    /// Ask again on the same slot, later.
    Wait,
    /// The server did not look at the request.
    Refused(Error),
    /// The server looked at it, but the answer cannot be read.
    Garbled(Error),
    /// The request was carried out before and its answer is gone.
    Uncached,
    /// The connection does not belong to the session.
    NotBound,
    /// The session is gone, or we and the server do not agree about the slot.
    SessionGone,
}

pub(crate) fn judge(record: Bytes, session: &Sessionid4, used: SlotUse) -> Judged {
    let mut compound = match decode_compound(record) {
        Ok(compound) => compound,
        Err(error @ Error::Nfs { .. }) => return Judged::Refused(error),
        Err(error) => return Judged::Garbled(error),
    };
    if compound.resarray.is_empty() {
        return match compound.status {
            Err(Nfs4Error::Delay) => Judged::Wait,
            Err(status) => Judged::Refused(Error::Nfs { op: "COMPOUND", status }),
            Ok(()) => Judged::Garbled(Error::BadReply { op: "SEQUENCE", why: "there is no result".into() }),
        };
    }
    match compound.resarray.remove(0) {
        Resop4::Sequence(Ok(ok)) => {
            if ok.sr_sessionid != *session || ok.sr_slotid != used.slot || ok.sr_sequenceid != used.sequence {
                return Judged::SessionGone;
            }
            Judged::Executed {
                results: compound.resarray,
                flags: ok.sr_status_flags,
                target: ok.sr_target_highest_slotid,
            }
        }
        Resop4::Sequence(Err(status)) => match status {
            Nfs4Error::Delay => Judged::Wait,
            Nfs4Error::RetryUncachedRep => Judged::Uncached,
            Nfs4Error::ConnNotBoundToSession => Judged::NotBound,
            Nfs4Error::Badsession
            | Nfs4Error::Deadsession
            | Nfs4Error::StaleClientid
            | Nfs4Error::Expired
            | Nfs4Error::Badslot
            | Nfs4Error::BadHighSlot
            | Nfs4Error::SeqMisordered
            | Nfs4Error::SeqFalseRetry => Judged::SessionGone,
            status => Judged::Refused(Error::Nfs { op: "SEQUENCE", status }),
        },
        other => Judged::Garbled(Replies::mismatch("SEQUENCE", &other)),
    }
}

/// What the results of a request mean for the request.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// They are the answer.
    Final,
    /// Send it again, later.
    Delay,
    /// The operations before the last were carried out and must not be repeated; send these, later.
    DelayedAfter(Vec<Argop4>),
    /// The stateid has to be made good first.
    StateGone,
}

/// Operations that must not be carried out twice.
fn must_not_repeat(op: &Argop4) -> bool {
    matches!(
        op,
        Argop4::Create(_)
            | Argop4::Remove(_)
            | Argop4::Rename(_)
            | Argop4::Link(_)
            | Argop4::Open(_)
            | Argop4::Close(_)
            | Argop4::OpenDowngrade(_)
            | Argop4::Lock(_)
            | Argop4::Locku(_)
            | Argop4::Copy(_)
            | Argop4::Setxattr(_)
            | Argop4::Removexattr(_)
    )
}

fn verdict(ops: &[Argop4], results: &[Resop4]) -> Verdict {
    let Some(failed) = results.last().and_then(Resop4::error) else { return Verdict::Final };
    let at = results.len() - 1;
    match failed {
        Nfs4Error::Delay | Nfs4Error::Grace => {
            if ops[..at.min(ops.len())].iter().any(must_not_repeat) {
                tail(ops, results, at).map_or(Verdict::Final, Verdict::DelayedAfter)
            } else {
                Verdict::Delay
            }
        }
        Nfs4Error::BadStateid
        | Nfs4Error::StaleStateid
        | Nfs4Error::Expired
        | Nfs4Error::AdminRevoked
        | Nfs4Error::DelegRevoked => {
            if uses_state(ops.get(at)) { Verdict::StateGone } else { Verdict::Final }
        }
        _ => Verdict::Final,
    }
}

fn uses_state(op: Option<&Argop4>) -> bool {
    let stateid = match op {
        Some(Argop4::Read(args)) => args.stateid,
        Some(Argop4::Write(args)) => args.stateid,
        Some(Argop4::Setattr(args)) => args.stateid,
        _ => return false,
    };
    !stateid.is_special()
}

/// The operations from `at` on as a compound of their own, when the file handle they stand on is known.
fn tail(ops: &[Argop4], results: &[Resop4], at: usize) -> Option<Vec<Argop4>> {
    let mut current: Option<NfsFh4> = None;
    let mut saved: Option<NfsFh4> = None;
    let mut stateid: Option<Stateid4> = None;
    for (op, result) in ops.iter().zip(results).take(at) {
        match (op, result) {
            (Argop4::Putfh(args), _) => current = Some(args.object.clone()),
            (Argop4::Savefh, _) => saved.clone_from(&current),
            (Argop4::Restorefh, _) => current.clone_from(&saved),
            (_, Resop4::Getfh(Ok(got))) => current = Some(got.object.clone()),
            (_, Resop4::Open(Ok(opened))) => {
                stateid = Some(opened.stateid);
                current = None;
            }
            (Argop4::Create(_) | Argop4::Lookup(_) | Argop4::Lookupp | Argop4::Putrootfh, _) => current = None,
            _ => {}
        }
    }
    let mut tail = vec![Argop4::Putfh(Putfh4args { object: current? })];
    for op in ops.get(at..)? {
        tail.push(match (op, stateid) {
            (Argop4::Setattr(args), Some(stateid)) if args.stateid == Stateid4::CURRENT => {
                let mut args = args.clone();
                args.stateid = stateid;
                Argop4::Setattr(args)
            }
            // What these stand on besides the current file handle is not carried over.
            (Argop4::Restorefh | Argop4::Rename(_) | Argop4::Link(_), _) => return None,
            (op, _) => op.clone(),
        });
    }
    Some(tail)
}
