//! How many bytes are dirty in the whole mount, and the waiting of writers when there are too many.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    bytes: AtomicU64,
    waiting: AtomicUsize,
    freed: Notify,
}

/// Somebody waits for room.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Gauge {
    pub(crate) fn get(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(crate) fn remove(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.freed.notify_waiters();
    }

    /// Whether a writer waits: then everything must go, however little it is.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Replaces what was counted before by what there is now.
    pub(crate) fn settle(&self, before: &mut u64, now: u64) {
        match now.checked_sub(*before) {
            Some(0) => {}
            Some(more) => self.add(more),
            None => self.remove(*before - now),
        }
        *before = now;
    }

    /// Waits until there is room for `bytes` within `limit`; one writer may always go on when nothing is dirty. `push` is
    /// called each time before waiting.
    pub(crate) async fn wait_for_room(&self, bytes: u64, limit: u64, mut push: impl FnMut()) {
        let mut waiting = None;
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let now = self.get();
            if now == 0 || now.saturating_add(bytes) <= limit {
                return;
            }
            waiting.get_or_insert_with(|| {
                self.waiting.fetch_add(1, Ordering::AcqRel);
                Waiting(&self.waiting)
            });
            push();
            freed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_writer_waits_until_there_is_room() {
        let gauge = Arc::new(Gauge::default());
        let mut counted = 0;
        gauge.settle(&mut counted, 90);
        gauge.wait_for_room(10, 100, || panic!("there is room")).await;
        let waiting = Arc::clone(&gauge);
        let writer = tokio::spawn(async move { waiting.wait_for_room(20, 100, || {}).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!writer.is_finished());
        gauge.settle(&mut counted, 80);
        let done = tokio::time::timeout(Duration::from_secs(5), writer).await;
        assert!(done.is_ok());
    }

    #[tokio::test]
    async fn a_write_larger_than_the_limit_goes_ahead_when_nothing_is_dirty() {
        let gauge = Gauge::default();
        let waits = gauge.wait_for_room(1000, 100, || {});
        assert!(tokio::time::timeout(Duration::from_secs(5), waits).await.is_ok());
    }
}
