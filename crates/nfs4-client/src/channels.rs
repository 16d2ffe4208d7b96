//! The connections of one session. Any of them carries any request (RFC 8881 §2.10.3.1), and a request that was lost with
//! one goes out again on another: slot and sequence id tell the server that it is the same.
//!
//! Each request takes the connection that has the fewest bytes to move, so a name is not asked for behind bulk data when
//! there is another way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mount_target::Channel;

/// What a request counts beside its payload, in bytes.
const OVERHEAD: u64 = 1024;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Channels {
    all: Mutex<Vec<Lane>>,
}

/// One connection.
#[derive(Debug, Clone)]
struct Lane {
    channel: Channel,
    /// Bytes of the requests under way on it.
    load: Arc<AtomicU64>,
}

/// A request's place on a connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    lane: Lane,
    bytes: u64,
}

impl Place {
    pub(crate) fn channel(&self) -> &Channel {
        &self.lane.channel
    }

    /// Bytes under way on the connection: what may stand before the answer to this request.
    pub(crate) fn backlog(&self) -> u64 {
        self.lane.load.load(Ordering::Relaxed).saturating_sub(OVERHEAD)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lane.load.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Channels {
    pub(crate) fn new(channels: impl IntoIterator<Item = Channel>) -> Self {
        let lanes = channels.into_iter().map(|channel| Lane { channel, load: Arc::default() });
        Self { all: Mutex::new(lanes.collect()) }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Lane>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection for a request that moves so many bytes of payload; `None` when all are lost.
    pub(crate) fn take(&self, payload: usize) -> Option<Place> {
        let bytes = payload as u64 + OVERHEAD;
        let mut all = self.all();
        all.retain(|lane| lane.channel.lost().is_none());
        let lane = all.iter().min_by_key(|lane| lane.load.load(Ordering::Relaxed))?.clone();
        lane.load.fetch_add(bytes, Ordering::Relaxed);
        Some(Place { lane, bytes })
    }

    /// A place on each that is not lost.
    pub(crate) fn each(&self) -> Vec<Place> {
        let all = self.all();
        let lanes = all.iter().filter(|lane| lane.channel.lost().is_none());
        lanes.map(|lane| Place { lane: lane.clone(), bytes: 0 }).collect()
    }

    /// One more.
    pub(crate) fn join(&self, channel: Channel) {
        self.all().push(Lane { channel, load: Arc::default() });
    }

    /// How many there are that are not lost.
    pub(crate) fn count(&self) -> usize {
        self.all().iter().filter(|lane| lane.channel.lost().is_none()).count()
    }

    /// Bytes under way on the connection that has the fewest.
    pub(crate) fn least_load(&self) -> u64 {
        self.all().iter().map(|lane| lane.load.load(Ordering::Relaxed)).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use mount_target::ChannelOptions;
    use tokio::io::{DuplexStream, duplex};

    fn channel() -> (Channel, DuplexStream) {
        let (near, far) = duplex(1024);
        (Channel::new(near, ChannelOptions::default()).0, far)
    }

    #[tokio::test]
    async fn each_request_takes_the_connection_with_the_fewest_bytes() {
        let ((first, _first), (second, _second)) = (channel(), channel());
        let channels = Channels::new([first, second]);
        let large = channels.take(1 << 20).unwrap();
        let small: Vec<_> = (0..10).map(|_| channels.take(0).unwrap()).collect();
        assert!(small.iter().all(|place| !Arc::ptr_eq(&place.lane.load, &large.lane.load)));
        assert!(channels.least_load() < 1 << 20);
        drop(large);
        drop(small);
        assert_eq!(channels.least_load(), 0);
    }

    #[tokio::test]
    async fn a_lost_connection_gets_no_requests_and_the_others_get_all() {
        let ((first, _first), (second, _second)) = (channel(), channel());
        let channels = Channels::new([first.clone()]);
        channels.join(second.clone());
        first.close().await;
        assert!((0..5).all(|_| channels.take(0).unwrap().channel().lost().is_none()));
        second.close().await;
        assert!(channels.take(0).is_none());
    }
}
