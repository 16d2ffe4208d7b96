//! A connection as the layers above see it: calls go in, replies come out, many in flight (RFC 5531 §11).
//!
//! One task reads and one writes; small messages are written before large ones that still wait. A call registers its transaction id (xid) in a table and waits; the reader finds it
//! there when the reply's record has come. The message goes out as the segments it was encoded into, and the reply is
//! a slice of the buffer it was read into, so payloads are not copied here.
//!
//! The message's **first word** is the xid's place; whatever stands there is replaced. When the connection goes, every
//! waiting call gets [`ChannelError::Lost`] at once, with the reason; nothing is sent again here. Calls that the server
//! makes (the back channel, RFC 8881 §2.10.3.1) come out of [`Incoming`].

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::FutureExt as _;
use nfs4::record::{LAST_FRAGMENT, RecordAssembler, record_mark};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::error::{ChannelError, LossReason};
use crate::rope::Rope;

/// The largest record accepted at first: 1 MiB of payload and 64 KiB for everything around it.
pub const DEFAULT_MAX_RECORD: usize = (1 << 20) + (64 << 10);
/// The shortest message: xid and message type.
const SHORTEST_MESSAGE: usize = 8;
/// Messages of up to so many bytes go before larger ones: nobody asks for a name behind a hundred megabytes of writes.
const SMALL_MESSAGE: usize = 16 << 10;
/// How much is put into one write at most, in bytes and segments.
const BATCH: (usize, usize) = (1 << 20, 64);
/// How long a failed write leaves the reader to find out why (an alert may be waiting there), and how long closing
/// may take.
const GRACE: Duration = Duration::from_millis(500);
/// `msg_type` of a call and of a reply (RFC 5531 §9).
const CALL: u32 = 0;
const REPLY: u32 = 1;

/// Sizes of a channel's queues and records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelOptions {
    /// The largest record accepted from the peer, in bytes.
    pub max_record: usize,
    /// Messages that may wait to be written, small and large ones each.
    pub outgoing: usize,
    /// Calls of the server that may wait to be answered; more are dropped.
    pub incoming: usize,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self { max_record: DEFAULT_MAX_RECORD, outgoing: 64, incoming: 64 }
    }
}

/// The calls that the server makes on this connection.
pub type Incoming = mpsc::Receiver<IncomingCall>;

/// A record that waits to be written, and who wants to know when it was.
#[derive(Debug)]
struct Outgoing {
    record: Vec<Bytes>,
    left: Option<oneshot::Sender<()>>,
}

/// A call of the server.
#[derive(Debug)]
pub struct IncomingCall {
    /// The whole message, xid first.
    pub record: Bytes,
    answer: mpsc::WeakSender<Outgoing>,
}

impl IncomingCall {
    /// Sends a reply: a whole message, with the call's xid as its first word.
    pub async fn reply(self, segments: Vec<Bytes>) -> Result<(), ChannelError> {
        let gone = ChannelError::Lost(LossReason::ClosedHere);
        let record = framed(segments, None)?;
        let Some(sender) = self.answer.upgrade() else {
            return Err(gone);
        };
        sender.send(Outgoing { record, left: None }).await.map_err(|_| gone)
    }
}

/// What went over a channel so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChannelStats {
    /// Bytes received, record marks included, TLS not.
    pub bytes_in: u64,
    /// Bytes sent, record marks included, TLS not.
    pub bytes_out: u64,
    /// Those of them that had to wait until the peer had taken earlier ones: while they grow it is there.
    pub bytes_drained: u64,
    /// Calls sent.
    pub calls: u64,
    /// Replies that found their call.
    pub replies: u64,
    /// Replies to nobody: their call was given up, or there never was one.
    pub unmatched_replies: u64,
    /// Calls of the server.
    pub incoming_calls: u64,
    /// Calls of the server that found the queue full or nobody listening.
    pub dropped_incoming_calls: u64,
}

#[derive(Debug, Default)]
struct Counters {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    bytes_drained: AtomicU64,
    calls: AtomicU64,
    replies: AtomicU64,
    unmatched_replies: AtomicU64,
    incoming_calls: AtomicU64,
    dropped_incoming_calls: AtomicU64,
}

fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

struct Waiters {
    by_xid: HashMap<u32, oneshot::Sender<Bytes>>,
    next_xid: u32,
    lost: bool,
}

struct Shared {
    waiters: Mutex<Waiters>,
    loss: watch::Sender<Option<LossReason>>,
    max_record: AtomicUsize,
    counters: Counters,
}

impl Shared {
    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        // Nothing panics while it holds the lock, and the table is sound after every statement.
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self) -> Result<(u32, oneshot::Receiver<Bytes>), ChannelError> {
        let (sender, receiver) = oneshot::channel();
        let mut waiters = self.waiters();
        if waiters.lost {
            drop(waiters);
            return Err(self.lost_error());
        }
        // An xid that is still waited for must not be used again, however long ago it was given out.
        let mut xid = waiters.next_xid;
        while waiters.by_xid.contains_key(&xid) {
            xid = xid.wrapping_add(1);
        }
        waiters.next_xid = xid.wrapping_add(1);
        waiters.by_xid.insert(xid, sender);
        Ok((xid, receiver))
    }

    /// The first reason counts. It is readable before the first waiting call learns of the loss.
    fn lose(&self, reason: LossReason) {
        let waiting = {
            let mut waiters = self.waiters();
            if waiters.lost {
                return;
            }
            waiters.lost = true;
            std::mem::take(&mut waiters.by_xid)
        };
        tracing::debug!(%reason, waiting = waiting.len(), "channel lost");
        self.loss.send_replace(Some(reason));
        drop(waiting);
    }

    fn gone(&self) -> impl Future<Output = LossReason> + Send + use<> {
        let mut loss = self.loss.subscribe();
        async move {
            match loss.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or(LossReason::ClosedHere),
                Err(_) => LossReason::ClosedHere,
            }
        }
    }

    fn lost_error(&self) -> ChannelError {
        ChannelError::Lost(self.loss.borrow().clone().unwrap_or(LossReason::ClosedHere))
    }

    /// Hands a record to whom it is for; an error ends the channel.
    fn dispatch(
        &self,
        record: Bytes,
        incoming: &mpsc::Sender<IncomingCall>,
        answer: &mpsc::WeakSender<Outgoing>,
    ) -> Result<(), LossReason> {
        if record.len() < SHORTEST_MESSAGE {
            return Err(LossReason::Protocol(format!("a record of {} bytes is no RPC message", record.len())));
        }
        let mut head = &record[..SHORTEST_MESSAGE];
        let (xid, message_type) = (head.get_u32(), head.get_u32());
        match message_type {
            REPLY => {
                let waiter = self.waiters().by_xid.remove(&xid);
                // A waiter that is gone by now was given up between the two lines.
                match waiter.map(|waiter| waiter.send(record)) {
                    Some(Ok(())) => count(&self.counters.replies, 1),
                    Some(Err(_)) | None => count(&self.counters.unmatched_replies, 1),
                }
                Ok(())
            }
            CALL => {
                count(&self.counters.incoming_calls, 1);
                // Waiting here would hold up the replies that the handler itself may be waiting for.
                if incoming.try_send(IncomingCall { record, answer: answer.clone() }).is_err() {
                    count(&self.counters.dropped_incoming_calls, 1);
                }
                Ok(())
            }
            other => Err(LossReason::Protocol(format!("message type {other} is neither call nor reply"))),
        }
    }
}

/// A connection that calls can be made on. Clones share it; it ends with the last clone, with [`Channel::close`], or
/// when the network takes it.
#[derive(Clone)]
pub struct Channel(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    small: mpsc::Sender<Outgoing>,
    large: mpsc::Sender<Outgoing>,
    tasks: Mutex<Option<[JoinHandle<()>; 2]>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.lose(LossReason::ClosedHere);
        let tasks = self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        for task in tasks.into_iter().flatten() {
            task.abort();
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("lost", &self.lost()).field("in_flight", &self.in_flight()).finish()
    }
}

/// Takes a call out of the table when its future is dropped.
struct Registered<'a> {
    shared: &'a Shared,
    xid: u32,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.shared.waiters().by_xid.remove(&self.xid);
    }
}

impl Channel {
    /// Takes a connected stream over. Has to be called inside a Tokio runtime, which the two tasks run on.
    pub fn new<S>(io: S, options: ChannelOptions) -> (Self, Incoming)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let shared = Arc::new(Shared {
            waiters: Mutex::new(Waiters {
                by_xid: HashMap::new(),
                // A server that keeps a reply cache over connections must not take us for an earlier client.
                next_xid: uuid::Uuid::new_v4().as_fields().0,
                lost: false,
            }),
            loss: watch::Sender::new(None),
            max_record: AtomicUsize::new(options.max_record),
            counters: Counters::default(),
        });
        let (small, small_queue) = mpsc::channel(options.outgoing.max(1));
        let (large, large_queue) = mpsc::channel(options.outgoing.max(1));
        let (incoming_sender, incoming) = mpsc::channel(options.incoming.max(1));
        let (reader, writer) = tokio::io::split(io);
        let read = read_records(reader, Arc::clone(&shared), incoming_sender, small.downgrade());
        let write = write_records(writer, Arc::clone(&shared), small_queue, large_queue);
        let tasks = Mutex::new(Some([tokio::spawn(read), tokio::spawn(write)]));
        (Self(Arc::new(Inner { shared, small, large, tasks })), incoming)
    }

    /// Sends a call and waits for its reply. `segments` are the whole message; its first four bytes are replaced by
    /// the xid that the channel gives out. The reply is the whole message, xid first.
    ///
    /// Dropping the future gives the call up; its reply, if one comes, is ignored. There is no time limit here.
    pub async fn call(&self, segments: Vec<Bytes>) -> Result<Bytes, ChannelError> {
        self.send(segments, None).await
    }

    /// As [`Self::call`]. `left` is told when the call's last byte was handed to the network; until then it waits behind
    /// others. What the network itself holds back is not known.
    pub async fn call_telling(&self, segments: Vec<Bytes>, left: oneshot::Sender<()>) -> Result<Bytes, ChannelError> {
        self.send(segments, Some(left)).await
    }

    async fn send(&self, segments: Vec<Bytes>, left: Option<oneshot::Sender<()>>) -> Result<Bytes, ChannelError> {
        let shared = &self.0.shared;
        let size = segments.iter().map(Bytes::len).sum::<usize>();
        let queue = if size <= SMALL_MESSAGE { &self.0.small } else { &self.0.large };
        let place = queue.reserve().await.map_err(|_| shared.lost_error())?;
        let (xid, reply) = shared.register()?;
        let _registered = Registered { shared, xid };
        place.send(Outgoing { record: framed(segments, Some(xid))?, left });
        count(&shared.counters.calls, 1);
        reply.await.map_err(|_| shared.lost_error())
    }

    /// Gives the connection up, without waiting for its end: it does not answer any more. Calls still waiting are lost.
    pub fn give_up(&self) {
        self.0.shared.lose(LossReason::ClosedHere);
    }

    /// Changes the largest record accepted, in bytes (after a session has agreed on its sizes).
    pub fn set_max_record(&self, bytes: usize) {
        self.0.shared.max_record.store(bytes, Ordering::Relaxed);
    }

    /// Why the channel can no longer be used, if it cannot.
    pub fn lost(&self) -> Option<LossReason> {
        self.0.shared.loss.borrow().clone()
    }

    /// Waits until the channel is lost, and says why. The future does not keep the channel alive.
    pub fn closed(&self) -> impl Future<Output = LossReason> + Send + use<> {
        self.0.shared.gone()
    }

    /// Closes the connection properly and waits for both tasks. Calls still waiting are lost.
    pub async fn close(&self) {
        self.0.shared.lose(LossReason::ClosedHere);
        let tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        for task in tasks.into_iter().flatten() {
            // A task that was aborted or panicked has ended all the same.
            let _ = task.await;
        }
    }

    /// How many calls wait for their replies.
    pub fn in_flight(&self) -> usize {
        self.0.shared.waiters().by_xid.len()
    }

    /// What went over the channel so far.
    pub fn stats(&self) -> ChannelStats {
        let counters = &self.0.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ChannelStats {
            bytes_in: read(&counters.bytes_in),
            bytes_out: read(&counters.bytes_out),
            bytes_drained: read(&counters.bytes_drained),
            calls: read(&counters.calls),
            replies: read(&counters.replies),
            unmatched_replies: read(&counters.unmatched_replies),
            incoming_calls: read(&counters.incoming_calls),
            dropped_incoming_calls: read(&counters.dropped_incoming_calls),
        }
    }
}

/// A message as a record: its mark, the xid (a new one or the message's own), and the rest of the segments.
fn framed(segments: Vec<Bytes>, xid: Option<u32>) -> Result<Vec<Bytes>, ChannelError> {
    let len = segments.iter().map(Bytes::len).sum::<usize>();
    if len < SHORTEST_MESSAGE || len >= LAST_FRAGMENT as usize {
        return Err(ChannelError::NotACall(len));
    }
    let mut head = BytesMut::with_capacity(8);
    head.put_slice(&record_mark(len));
    let mut missing = 4;
    let mut record = Vec::with_capacity(segments.len() + 1);
    record.push(Bytes::new());
    for mut segment in segments {
        let first = segment.split_to(segment.len().min(missing));
        missing -= first.len();
        head.put_slice(&first);
        record.push(segment);
    }
    if let Some(xid) = xid {
        head.truncate(4);
        head.put_u32(xid);
    }
    record[0] = head.freeze();
    Ok(record)
}

async fn read_records<S: AsyncRead + AsyncWrite>(
    mut io: ReadHalf<S>,
    shared: Arc<Shared>,
    incoming: mpsc::Sender<IncomingCall>,
    answer: mpsc::WeakSender<Outgoing>,
) {
    let gone = shared.gone();
    tokio::pin!(gone);
    let mut assembler = RecordAssembler::new(shared.max_record.load(Ordering::Relaxed));
    let reason = 'stream: loop {
        assembler.set_limit(shared.max_record.load(Ordering::Relaxed));
        loop {
            match assembler.next_record() {
                Ok(Some(record)) => {
                    if let Err(reason) = shared.dispatch(record, &incoming, &answer) {
                        break 'stream reason;
                    }
                }
                Ok(None) => break,
                Err(error) => break 'stream error.into(),
            }
        }
        let read = tokio::select! {
            read = io.read_buf(assembler.buffer()) => read,
            _ = &mut gone => return,
        };
        match read {
            Ok(0) => break LossReason::ClosedByPeer,
            Ok(bytes) => count(&shared.counters.bytes_in, bytes),
            Err(error) => break LossReason::from_io(&error),
        }
    };
    shared.lose(reason);
}

/// Records that are being written, and the place in the stream where each ends that somebody wants to know about.
#[derive(Default)]
struct Outbox {
    rope: Rope,
    added: u64,
    sent: u64,
    ends: VecDeque<(u64, oneshot::Sender<()>)>,
}

impl Outbox {
    fn add(&mut self, outgoing: Outgoing) {
        self.added += outgoing.record.iter().map(Bytes::len).sum::<usize>() as u64;
        self.rope.extend(outgoing.record);
        self.ends.extend(outgoing.left.map(|left| (self.added, left)));
    }

    fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        while let Some((_, left)) = self.ends.pop_front_if(|(end, _)| *end <= self.sent) {
            // Nobody waits for a call that was given up.
            let _ = left.send(());
        }
    }
}

async fn write_records<S: AsyncRead + AsyncWrite>(
    mut io: WriteHalf<S>,
    shared: Arc<Shared>,
    mut small: mpsc::Receiver<Outgoing>,
    mut large: mpsc::Receiver<Outgoing>,
) {
    let gone = shared.gone();
    tokio::pin!(gone);
    let mut outbox = Outbox::default();
    loop {
        let next = tokio::select! {
            biased;
            _ = &mut gone => None,
            Some(next) = small.recv() => Some(next),
            Some(next) = large.recv() => Some(next),
        };
        let Some(next) = next else { break };
        outbox.add(next);
        // What else is ready goes into the same write: one TLS record and one packet for many small calls.
        while outbox.rope.remaining() < BATCH.0 && outbox.rope.segments() < BATCH.1 {
            let Ok(more) = small.try_recv().or_else(|_| large.try_recv()) else { break };
            outbox.add(more);
        }
        let written = tokio::select! {
            written = send(&mut io, &mut outbox, &shared.counters) => written,
            _ = &mut gone => break,
        };
        if let Err(error) = written {
            // The reader knows better: what the peer said last is still to be read.
            let _ = tokio::time::timeout(GRACE, &mut gone).await;
            shared.lose(LossReason::from_io(&error));
            break;
        }
    }
    small.close();
    large.close();
    let _ = tokio::time::timeout(GRACE, io.shutdown()).await;
}

/// Sends all of it, and counts as it goes.
async fn send<S: AsyncWrite>(io: &mut WriteHalf<S>, outbox: &mut Outbox, counters: &Counters) -> std::io::Result<()> {
    while outbox.rope.has_remaining() {
        // Cancelling it is safe: nothing was written then.
        let at_once = io.write_buf(&mut outbox.rope).now_or_never();
        let waits = at_once.is_none();
        let bytes = match at_once {
            Some(written) => written?,
            None => io.write_buf(&mut outbox.rope).await?,
        };
        if bytes == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        count(&counters.bytes_out, bytes);
        if waits {
            count(&counters.bytes_drained, bytes);
        }
        outbox.sent(bytes);
    }
    io.flush().await
}

#[cfg(test)]
#[path = "channel_tests.rs"]
mod tests;
