//! Where everything that is sent on a connection goes: replies in the order in which they are ready, callbacks between
//! them, each at the time at which the [`Link`] delivers it, and spoiled where a fault says so.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use nfs4::record::record_mark;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::link::{self, Link};

/// Records that wait to be sent, at most.
const QUEUE: usize = 256;
/// Bytes that one write collects, at least, if they are there.
const BATCH: usize = 256 * 1024;

/// How a reply is spoiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyFault {
    /// It is never sent.
    Drop,
    /// It is not sent, and the connection is cut.
    CutBefore,
    /// A part of it is sent, then the connection is cut: so many bytes, or half of it.
    CutInside(Option<usize>),
    /// It is sent, then the connection is cut.
    CutAfter,
    /// It is sent twice.
    Duplicate,
    /// It is sent later than others.
    Delay(Duration),
    /// Its record mark announces so many bytes, whatever follows.
    Mark(u32),
    /// These bytes are sent in its place, in a well-formed record.
    Garbage(Bytes),
    /// These bytes are sent in its place, without a record mark.
    RawGarbage(Bytes),
    /// A fatal TLS alert is sent in its place, and the connection ends.
    Alert,
}

/// What happens once a frame is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Continue,
    Cut,
    Alert,
}

/// Something to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    due: Option<Instant>,
    /// The call that it answers, if it is a reply.
    answers: Option<u32>,
    frame: Vec<Bytes>,
    after: After,
}

/// The connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is gone")]
pub struct Gone;

/// The sending side of a connection.
#[derive(Debug, Clone)]
pub struct Outlet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    queue: mpsc::Sender<Outgoing>,
    link: Arc<Link>,
    armed: Mutex<HashMap<u32, ReplyFault>>,
    armed_len: AtomicUsize,
    cut: CancellationToken,
    delayed: TaskTracker,
}

impl Outlet {
    /// An outlet and what comes out of it. `cut` ends the connection.
    pub(crate) fn new(link: Arc<Link>, cut: CancellationToken) -> (Self, mpsc::Receiver<Outgoing>) {
        let (queue, outgoing) = mpsc::channel(QUEUE);
        let inner = Inner {
            queue,
            link,
            armed: Mutex::default(),
            armed_len: AtomicUsize::new(0),
            cut,
            delayed: TaskTracker::new(),
        };
        (Self { inner: Arc::new(inner) }, outgoing)
    }

    /// Spoils the reply to call `xid` when it is sent.
    pub(crate) fn spoil(&self, xid: u32, fault: ReplyFault) {
        let mut armed = self.inner.armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed.insert(xid, fault);
        self.inner.armed_len.store(armed.len(), Ordering::Release);
    }

    fn fault_of(&self, record: &[Bytes]) -> Option<ReplyFault> {
        if self.inner.armed_len.load(Ordering::Acquire) == 0 {
            return None;
        }
        let xid = answered_by(record)?;
        let mut armed = self.inner.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = armed.remove(&xid);
        self.inner.armed_len.store(armed.len(), Ordering::Release);
        fault
    }

    /// Sends a record: a reply or a callback, header included. Waits while too many are waiting.
    pub async fn send(&self, record: Vec<Bytes>) -> Result<(), Gone> {
        let fault = self.fault_of(&record);
        let len: usize = record.iter().map(Bytes::len).sum();
        let mut out = Outgoing {
            due: self.inner.link.outbound(len + 4),
            answers: answered_by(&record),
            frame: Vec::with_capacity(record.len() + 1),
            after: After::Continue,
        };
        out.frame.push(Bytes::copy_from_slice(&record_mark(len)));
        out.frame.extend(record);
        match fault {
            None => {}
            Some(ReplyFault::Drop) => return Ok(()),
            Some(ReplyFault::CutBefore) => (out.frame, out.after) = (Vec::new(), After::Cut),
            Some(ReplyFault::CutInside(bytes)) => {
                truncate(&mut out.frame, bytes.unwrap_or(4 + len / 2).min(len + 3));
                out.after = After::Cut;
            }
            Some(ReplyFault::CutAfter) => out.after = After::Cut,
            Some(ReplyFault::Duplicate) => self.queue(out.clone()).await?,
            Some(ReplyFault::Delay(by)) => {
                self.send_later(out, by);
                return Ok(());
            }
            Some(ReplyFault::Mark(mark)) => {
                out.frame[0] = Bytes::copy_from_slice(&mark.to_be_bytes());
            }
            Some(ReplyFault::Garbage(bytes)) => {
                let mark = Bytes::copy_from_slice(&record_mark(bytes.len()));
                out.frame = vec![mark, bytes];
            }
            Some(ReplyFault::RawGarbage(bytes)) => out.frame = vec![bytes],
            Some(ReplyFault::Alert) => (out.frame, out.after) = (Vec::new(), After::Alert),
        }
        self.queue(out).await
    }

    async fn queue(&self, out: Outgoing) -> Result<(), Gone> {
        self.inner.queue.send(out).await.map_err(|_| Gone)
    }

    fn send_later(&self, mut out: Outgoing, by: Duration) {
        let (this, cut) = (self.clone(), self.inner.cut.clone());
        let at = out.due.unwrap_or_else(Instant::now) + by;
        out.due = None;
        self.inner.delayed.spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                () = link::until(at) => { let _ = this.queue(out).await; }
            }
        });
    }

    /// Cuts the connection.
    pub fn cut(&self) {
        self.inner.cut.cancel();
    }

    /// Ends the tasks that hold delayed replies.
    pub(crate) async fn close(&self) {
        self.inner.cut.cancel();
        self.inner.delayed.close();
        self.inner.delayed.wait().await;
    }
}

/// The call that a record is the reply to. A callback has an xid of its own, which may be the same.
fn answered_by(record: &[Bytes]) -> Option<u32> {
    let head = record.first()?;
    let xid = u32::from_be_bytes(head.get(..4)?.try_into().ok()?);
    (head.get(4..8)? == [0, 0, 0, 1]).then_some(xid)
}

fn truncate(frame: &mut [Bytes], len: usize) {
    let mut left = len;
    for segment in frame.iter_mut() {
        segment.truncate(left);
        left -= segment.len();
    }
}

/// Writes what comes out of an outlet until the connection is to end; says how. `leaves` hears of each reply before it
/// is written, `sent` of the bytes after.
pub(crate) async fn write_all<W: AsyncWrite + Unpin>(
    io: &mut W,
    outgoing: &mut mpsc::Receiver<Outgoing>,
    leaves: impl Fn(u32),
    sent: impl Fn(usize),
) -> io::Result<After> {
    let mut held: Option<Outgoing> = None;
    let mut batch: Vec<Bytes> = Vec::new();
    loop {
        let first = match held.take() {
            Some(out) => out,
            None => match outgoing.recv().await {
                Some(out) => out,
                None => return Ok(After::Cut),
            },
        };
        if let Some(due) = first.due {
            link::until(due).await;
        }
        first.answers.map(&leaves);
        let mut len = add(&mut batch, first.frame);
        let mut after = first.after;
        while after == After::Continue && len < BATCH {
            match outgoing.try_recv() {
                Ok(next) if next.due.is_none_or(|due| due <= Instant::now()) => {
                    next.answers.map(&leaves);
                    len += add(&mut batch, next.frame);
                    after = next.after;
                }
                Ok(next) => {
                    held = Some(next);
                    break;
                }
                Err(_) => break,
            }
        }
        write_segments(io, &mut batch).await?;
        sent(len);
        if after != After::Continue || outgoing.is_empty() {
            io.flush().await?;
        }
        if after != After::Continue {
            return Ok(after);
        }
    }
}

fn add(batch: &mut Vec<Bytes>, frame: Vec<Bytes>) -> usize {
    let before: usize = batch.len();
    batch.extend(frame);
    batch[before..].iter().map(Bytes::len).sum()
}

/// Vectored writes until all segments are out; leaves `segments` empty.
async fn write_segments<W: AsyncWrite + Unpin>(io: &mut W, segments: &mut Vec<Bytes>) -> io::Result<()> {
    const AT_ONCE: usize = 64;
    let mut done = 0;
    while done < segments.len() {
        if segments[done].is_empty() {
            done += 1;
            continue;
        }
        let end = segments.len().min(done + AT_ONCE);
        let mut slices = [IoSlice::new(&[]); AT_ONCE];
        for (slice, segment) in slices.iter_mut().zip(&segments[done..end]) {
            *slice = IoSlice::new(segment);
        }
        let mut written = io.write_vectored(&slices[..end - done]).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while written > 0 {
            let step = written.min(segments[done].len());
            segments[done].advance(step);
            written -= step;
            if segments[done].is_empty() {
                done += 1;
            }
        }
    }
    segments.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::link::LinkSettings;
    use tokio::io::AsyncReadExt;

    fn reply(xid: u32, len: usize) -> Vec<Bytes> {
        let mut head = xid.to_be_bytes().to_vec();
        head.extend([0, 0, 0, 1]);
        vec![head.into(), vec![xid as u8; len].into()]
    }

    /// Everything that comes out until the connection ends.
    async fn sent(settings: LinkSettings, act: impl AsyncFnOnce(Outlet)) -> (Vec<u8>, After) {
        let (outlet, mut outgoing) = Outlet::new(Arc::new(Link::new(settings, 1)), CancellationToken::new());
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        act(outlet.clone()).await;
        outlet.inner.delayed.close();
        outlet.inner.delayed.wait().await;
        drop(outlet);
        let after = write_all(&mut near, &mut outgoing, |_| {}, |_| {}).await.unwrap();
        drop(near);
        let mut bytes = Vec::new();
        far.read_to_end(&mut bytes).await.unwrap();
        (bytes, after)
    }

    async fn spoiled(fault: ReplyFault) -> (Vec<u8>, After) {
        sent(LinkSettings::default(), async |outlet| {
            outlet.spoil(2, fault);
            for xid in 1..=3 {
                let _ = outlet.send(reply(xid, 8)).await;
            }
        })
        .await
    }

    fn whole(xid: u8) -> Vec<u8> {
        let mut record = vec![0x80, 0, 0, 16, 0, 0, 0, xid, 0, 0, 0, 1];
        record.extend([xid; 8]);
        record
    }

    #[tokio::test]
    async fn each_fault_spoils_the_reply_it_is_meant_for_and_no_other() {
        let three = |middle: Vec<u8>| [whole(1), middle, whole(3)].concat();
        assert_eq!(spoiled(ReplyFault::Drop).await.0, three(vec![]));
        assert_eq!(spoiled(ReplyFault::Duplicate).await.0, three([whole(2), whole(2)].concat()));
        assert_eq!(spoiled(ReplyFault::CutAfter).await, ([whole(1), whole(2)].concat(), After::Cut));
        assert_eq!(spoiled(ReplyFault::CutBefore).await, (whole(1), After::Cut));
        assert_eq!(
            spoiled(ReplyFault::CutInside(None)).await,
            ([whole(1), whole(2)[..12].to_vec()].concat(), After::Cut)
        );
        assert_eq!(
            spoiled(ReplyFault::CutInside(Some(1000))).await,
            ([whole(1), whole(2)[..19].to_vec()].concat(), After::Cut)
        );
        assert_eq!(spoiled(ReplyFault::Alert).await, (whole(1), After::Alert));
        let mut lying = whole(2);
        lying[..4].copy_from_slice(&[0xff; 4]);
        assert_eq!(spoiled(ReplyFault::Mark(u32::MAX)).await.0, three(lying));
        assert_eq!(
            spoiled(ReplyFault::Garbage(Bytes::from_static(b"xyz"))).await.0,
            three(b"\x80\0\0\x03xyz".to_vec())
        );
        assert_eq!(spoiled(ReplyFault::RawGarbage(Bytes::from_static(b"xyz"))).await.0, three(b"xyz".to_vec()));
        assert_eq!(
            spoiled(ReplyFault::Delay(Duration::from_millis(20))).await.0,
            [whole(1), whole(3), whole(2)].concat()
        );
    }

    #[tokio::test]
    async fn a_callback_with_the_same_xid_is_left_alone() {
        let (bytes, _) = sent(LinkSettings::default(), async |outlet| {
            outlet.spoil(2, ReplyFault::Drop);
            let _ = outlet.send(vec![Bytes::from_static(&[0, 0, 0, 2, 0, 0, 0, 0])]).await;
        })
        .await;
        assert_eq!(bytes.len(), 12);
    }

    #[tokio::test]
    async fn records_that_are_ready_together_share_one_round_trip() {
        let start = Instant::now();
        let settings = LinkSettings { rtt: Duration::from_millis(50), ..LinkSettings::default() };
        let (bytes, _) = sent(settings, async |outlet| {
            for xid in 0..100 {
                let _ = outlet.send(reply(xid, 100)).await;
            }
        })
        .await;
        assert_eq!(bytes.len(), 100 * 112);
        let took = start.elapsed();
        assert!((50..1000).contains(&took.as_millis()), "{took:?}");
    }
}
