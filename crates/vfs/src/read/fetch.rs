//! READs under way, and the reads of programs that wait for them.
//!
//! A range is fetched once however many readers want it. What comes back goes into the page cache, but only where nothing
//! newer is: a fetch whose range was written, cut off or invalidated while it was under way is *tainted*, and then only
//! those who waited for it from before may use it (for them, the write is concurrent).

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::extents::{Extents, Piece};
use crate::files::OpenHandle;
use crate::node::{FileState, Node, NodeState, ServerOpen};
use crate::vfs::Vfs;

/// A read is tried again when a truncation got in its way, but not for ever.
const TRIES: u32 = 8;

/// Files that are larger than the cache divided by this do not stay in it when they are read through.
const STAYS: u64 = 4;

/// Zeros for holes, without memory of their own.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A READ under way.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) range: Range<u64>,
    tainted: AtomicBool,
    done: watch::Receiver<Option<Fetched>>,
}

/// What it brought.
type Fetched = Result<Brought>;

#[derive(Debug, Clone)]
struct Brought {
    pieces: Vec<Piece>,
    /// The file ended there.
    end: Option<u64>,
}

impl Fetch {
    pub(crate) fn taint(&self) {
        self.tainted.store(true, Ordering::Release);
    }

    fn is_tainted(&self) -> bool {
        self.tainted.load(Ordering::Acquire)
    }

    async fn wait(&self) -> Fetched {
        let mut done = self.done.clone();
        match done.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Err(Error::Closed)),
            Err(_) => Err(Error::Closed),
        }
    }
}

impl Vfs {
    /// Bytes from `offset` on, fewer than `size` only at the end of the file.
    pub(crate) async fn read_cached(&self, handle: &OpenHandle, offset: u64, size: u64) -> Result<Vec<Bytes>> {
        let mut got = Extents::default();
        let mut ended: Option<u64> = None;
        let mut asked_again = false;
        let mut telling: Option<Instant> = None;
        for attempt in 0.. {
            let waits: Vec<Arc<Fetch>>;
            {
                let mut state = handle.node.lock();
                let range = offset..offset.saturating_add(size).min(state.attrs.last().size);
                if range.is_empty() {
                    return Ok(Vec::new());
                }
                let have = self.on_hand(&mut state, &handle.node, &got, &range);
                let mut gaps = have.gaps(range.clone());
                if let Some(end) = ended {
                    // Behind the server's end of file there is nothing to fetch: a hole before bytes not yet written, or
                    // another client has cut the file.
                    let own_end = state.known_file().and_then(|file| file.dirty.end()).unwrap_or(0);
                    gaps.retain(|gap| gap.start < end);
                    if gaps.is_empty() && own_end > end {
                        return Ok(assemble(&have, &range));
                    }
                    if gaps.is_empty() && asked_again {
                        state.attrs.expire();
                        return Ok(assemble(&have, &(range.start..range.end.min(end.max(range.start)))));
                    }
                    if gaps.is_empty() {
                        // Ask once more: what ended there may have been overtaken by a write of ours.
                        (ended, asked_again) = (None, true);
                        gaps = have.gaps(range.clone());
                    }
                }
                if attempt == 0 {
                    telling = self.plan(handle, &mut state, &range, &gaps).then(Instant::now);
                } else {
                    for gap in &gaps {
                        self.fetch(&handle.node, &handle.open, &mut state, gap.clone(), true);
                    }
                }
                if gaps.is_empty() {
                    return Ok(assemble(&have, &range));
                }
                waits = waits_for(state.file(), &gaps);
            }
            for fetch in waits {
                let brought = fetch.wait().await?;
                if let Some(asked) = telling.take() {
                    handle.planner.lock().waited(asked.elapsed());
                }
                if fetch.is_tainted() && attempt < TRIES {
                    // Usable in principle; asking again gives what is there now.
                    continue;
                }
                for (at, data) in brought.pieces {
                    got.fill(at, &data, &());
                }
                if let Some(end) = brought.end {
                    ended = Some(ended.map_or(end, |other: u64| other.min(end)));
                }
            }
            if attempt > 2 * TRIES {
                break;
            }
        }
        Err(Error::Invalid("the file changes faster than it can be read"))
    }

    /// What need not be fetched of a range: newest first.
    fn on_hand(&self, state: &mut NodeState, node: &Node, got: &Extents<()>, range: &Range<u64>) -> Extents<()> {
        let mut have = Extents::default();
        if let Some(file) = state.known_file() {
            for (at, data) in file.dirty.overlay(range.clone()) {
                have.fill(at, &data, &());
            }
        }
        for (at, data) in self.mount().pages.lock().get(node.id.serial, range.clone()) {
            have.fill(at, &data, &());
        }
        for (at, data, _, ()) in got.within(range.clone()) {
            have.fill(at, &data, &());
        }
        have
    }

    /// Starts what the planner wants. Returns whether it wants to know how long the wait is.
    fn plan(&self, handle: &OpenHandle, state: &mut NodeState, range: &Range<u64>, gaps: &[Range<u64>]) -> bool {
        let mount = self.mount();
        let limit = mount.options.readahead_limit.min(mount.options.cache_size / 4);
        let size = state.attrs.last().size;
        let plan = handle.planner.lock().plan(range.clone(), size, !gaps.is_empty(), limit, Instant::now());
        if !gaps.is_empty() {
            self.fetch(&handle.node, &handle.open, state, plan.demand, true);
        }
        for ahead in plan.ahead {
            self.fetch(&handle.node, &handle.open, state, ahead, false);
        }
        // A large file does not push out everything else: the kernel has its bytes, and the memory is wanted for the next.
        if !plan.behind.is_empty() && size > mount.options.cache_size / STAYS {
            mount.pages.lock().drop_range(handle.node.id.serial, plan.behind);
        }
        plan.telling
    }

    /// Starts READs for what of `range` is neither on hand nor under way.
    fn fetch(&self, node: &Arc<Node>, open: &Arc<ServerOpen>, state: &mut NodeState, range: Range<u64>, wanted: bool) {
        let mount = self.mount();
        let unit = u64::from(mount.client.limits().max_read).max(4096);
        let file = state.file();
        let mut holes = mount.pages.lock().gaps(node.id.serial, range.clone());
        for (at, data) in file.dirty.overlay(range) {
            holes = without(&holes, &(at..at + data.len() as u64));
        }
        for fetch in &file.fetches {
            holes = without(&holes, &fetch.range);
        }
        for hole in holes {
            let mut at = hole.start;
            while at < hole.end {
                let end = (at - at % unit + unit).min(hole.end);
                if !wanted && !mount.may_read_ahead(end - at) {
                    return;
                }
                let fetch = self.start(Arc::clone(node), Arc::clone(open), at..end, wanted);
                file.fetches.push(fetch);
                at = end;
            }
        }
        mount.pages.lock().leave(mount.bytes_elsewhere());
    }

    fn start(&self, node: Arc<Node>, open: Arc<ServerOpen>, range: Range<u64>, wanted: bool) -> Arc<Fetch> {
        let (sender, done) = watch::channel(None);
        let fetch = Arc::new(Fetch { range, tainted: AtomicBool::new(false), done });
        let (vfs, started) = (self.clone(), Arc::clone(&fetch));
        vfs.mount().fetching.add(started.range.end - started.range.start);
        open.in_use.add(1);
        self.mount().tasks.spawn(async move {
            let result = vfs.read_pieces(&open, &started.range, wanted).await;
            open.in_use.remove(1);
            vfs.arrived(&node, &started, &result);
            vfs.mount().fetching.remove(started.range.end - started.range.start);
            sender.send_replace(Some(result));
        });
        fetch
    }

    fn arrived(&self, node: &Node, fetch: &Arc<Fetch>, result: &Fetched) {
        let mut state = node.lock();
        let file = state.file();
        file.fetches.retain(|other| !Arc::ptr_eq(other, fetch));
        if let Ok(brought) = result
            && !fetch.is_tainted()
        {
            let mut pages = self.mount().pages.lock();
            pages.leave(self.mount().bytes_elsewhere().saturating_sub(fetch.range.end - fetch.range.start));
            for (at, data) in &brought.pieces {
                pages.fill(node.id.serial, *at, data);
            }
        }
    }

    /// READs a range, in as many READs as the server makes of it.
    async fn read_pieces(&self, open: &Arc<ServerOpen>, range: &Range<u64>, wanted: bool) -> Fetched {
        let mount = self.mount();
        // Read-ahead leaves slots for everything else.
        let _permit = if wanted { None } else { Some(mount.bulk.acquire().await.map_err(|_| Error::Closed)?) };
        let mut pieces = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let count = (range.end - at).min(u64::from(u32::MAX)) as u32;
            let read = self.read_at(open, at, count).await?;
            let len = read.data.len() as u64;
            if len > 0 {
                pieces.push((at, read.data));
                at += len;
            }
            if read.eof || len == 0 {
                return Ok(Brought { pieces, end: (at < range.end).then_some(at) });
            }
        }
        Ok(Brought { pieces, end: None })
    }

    /// One READ; a file that the server no longer holds open is opened again.
    async fn read_at(&self, open: &Arc<ServerOpen>, at: u64, count: u32) -> Result<nfs4_client::ReadData> {
        let client = &self.mount().client;
        match client.read(&self.file_of(open).await?, at, count).await {
            Err(nfs4_client::Error::StateLost) => {
                self.reopen(open).await?;
                Ok(client.read(&self.file_of(open).await?, at, count).await?)
            }
            result => Ok(result?),
        }
    }

    /// Bytes straight from the server (`O_DIRECT`).
    pub(crate) async fn read_direct(&self, handle: &OpenHandle, offset: u64, size: u64) -> Result<Vec<Bytes>> {
        self.flush_node(&handle.node, crate::write::flush::Goal::Sent).await;
        let size_known = handle.node.lock().attrs.last().size;
        let end = offset.saturating_add(size).min(size_known.max(offset.saturating_add(size.min(1))));
        if offset >= end {
            return Ok(Vec::new());
        }
        let unit = u64::from(self.mount().client.limits().max_read).max(4096);
        let mut parts = Vec::new();
        let mut at = offset;
        while at < end {
            let next = (at + unit).min(end);
            let (vfs, open) = (self.clone(), Arc::clone(&handle.open));
            parts.push(self.mount().tasks.spawn(async move { vfs.read_pieces(&open, &(at..next), true).await }));
            at = next;
        }
        let mut pieces = Vec::new();
        for part in parts {
            let brought = part.await.map_err(|_| Error::Closed)??;
            pieces.extend(brought.pieces.into_iter().map(|(_, data)| data));
            if brought.end.is_some() {
                break;
            }
        }
        Ok(pieces)
    }

    /// The start of a file came along with its open, which was sent when the file had been `touched` so often, and found
    /// the file at `change`.
    pub(crate) fn keep_start(&self, node: &Node, data: &Bytes, change: u64, touched: u64) {
        let mut state = node.lock();
        let is_current = state.attrs.last().change == change;
        let file = state.file();
        // Written or cut since it was asked for, or another reply has brought word of a later change: what came may be old.
        if is_current && file.touched == touched && file.dirty.is_clean() {
            self.mount().pages.lock().fill(node.id.serial, 0, data);
        }
    }
}

/// The fetches that bring anything of the gaps.
fn waits_for(file: &FileState, gaps: &[Range<u64>]) -> Vec<Arc<Fetch>> {
    let useful =
        |fetch: &&Arc<Fetch>| gaps.iter().any(|gap| fetch.range.start < gap.end && gap.start < fetch.range.end);
    file.fetches.iter().filter(useful).cloned().collect()
}

fn without(ranges: &[Range<u64>], taken: &Range<u64>) -> Vec<Range<u64>> {
    let mut left = Vec::with_capacity(ranges.len());
    for range in ranges {
        if taken.start >= range.end || taken.end <= range.start {
            left.push(range.clone());
            continue;
        }
        if range.start < taken.start {
            left.push(range.start..taken.start);
        }
        if taken.end < range.end {
            left.push(taken.end..range.end);
        }
    }
    left
}

/// Bytes in order, zeros where nothing is.
fn assemble(have: &Extents<()>, range: &Range<u64>) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut at = range.start;
    let zeros = |from: u64, to: u64, pieces: &mut Vec<Bytes>| {
        let mut left = to - from;
        while left > 0 {
            let part = left.min(ZEROS.len() as u64);
            pieces.push(Bytes::from_static(&ZEROS[..part as usize]));
            left -= part;
        }
    };
    for (start, data, _, ()) in have.within(range.clone()) {
        zeros(at, start, &mut pieces);
        at = start + data.len() as u64;
        pieces.push(data);
    }
    zeros(at, range.end, &mut pieces);
    pieces
}

/// When the attributes have run out, a reader at the end of the file asks whether it has grown.
pub(crate) fn reaches_stale_end(state: &NodeState, offset: u64, size: u64, now: Instant) -> bool {
    !state.is_busy() && offset.saturating_add(size) > state.attrs.last().size && state.attrs.fresh(now).is_none()
}
