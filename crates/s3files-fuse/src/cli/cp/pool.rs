//! Work that makes more work, done by so many at once and kept in little memory.
//!
//! A stack, not a queue: a tree is walked into its depth, so what waits is a few entries of each directory on the way and
//! not the whole tree.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Work that waits, and how many are at work.
#[derive(Debug)]
pub struct Pool<W> {
    stack: Mutex<Stack<W>>,
    changed: Notify,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Stack<W> {
    waiting: Vec<W>,
    busy: usize,
}

impl<W> Pool<W> {
    /// A pool with something to begin with; `stop` ends it early.
    pub fn new(first: Vec<W>, stop: CancellationToken) -> Self {
        Self { stack: Mutex::new(Stack { waiting: first, busy: 0 }), changed: Notify::new(), stop }
    }

    fn stack(&self) -> std::sync::MutexGuard<'_, Stack<W>> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds work; the last is done first.
    pub fn push(&self, work: impl IntoIterator<Item = W>) {
        self.stack().waiting.extend(work);
        self.changed.notify_waiters();
    }

    /// The next piece of work; `None` when there is none and can be none any more.
    pub async fn next(&self) -> Option<W> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.stop.is_cancelled() {
                return None;
            }
            {
                let mut stack = self.stack();
                if let Some(work) = stack.waiting.pop() {
                    stack.busy += 1;
                    return Some(work);
                }
                if stack.busy == 0 {
                    return None;
                }
            }
            tokio::select! {
                () = changed => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// A piece of work that [`Pool::next`] gave out is done.
    pub fn done(&self) {
        let is_over = {
            let mut stack = self.stack();
            stack.busy = stack.busy.saturating_sub(1);
            stack.busy == 0 && stack.waiting.is_empty()
        };
        if is_over {
            self.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(flavor = "multi_thread")]
    async fn work_that_makes_work_is_done_to_its_end_by_all() {
        let pool = Arc::new(Pool::new(vec![10_u32], CancellationToken::new()));
        let done = Arc::new(AtomicUsize::new(0));
        let workers = (0..8).map(|_| {
            let (pool, done) = (Arc::clone(&pool), Arc::clone(&done));
            tokio::spawn(async move {
                while let Some(depth) = pool.next().await {
                    tokio::task::yield_now().await;
                    if depth > 0 {
                        pool.push([depth - 1, depth - 1]);
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    pool.done();
                }
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            worker.await.unwrap();
        }
        assert_eq!(done.load(Ordering::Relaxed), (1 << 11) - 1);
    }

    #[tokio::test]
    async fn a_stop_leaves_the_rest_undone() {
        let stop = CancellationToken::new();
        let pool = Pool::new(vec![1, 2], stop.clone());
        assert_eq!(pool.next().await, Some(2));
        stop.cancel();
        assert_eq!(pool.next().await, None);
    }
}
