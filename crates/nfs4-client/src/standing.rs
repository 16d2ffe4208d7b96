//! How the client stands with its server, for whoever shows it to a person.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::client::Client;

/// See the module's page. Taken at one moment, without asking the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Connections that are open now; 0 while the client connects anew.
    pub connections: usize,
    /// Length of the lease.
    pub lease: Duration,
    /// How much of it is left if the server answers nothing more; zero: it may have dropped our state.
    pub lease_left: Duration,
    /// How long a small request took lately; `None` before the first.
    pub round_trip: Option<Duration>,
}

impl Client {
    /// How the client stands with its server.
    pub fn standing(&self) -> Standing {
        let engine = self.engine();
        let micros = engine.counts.round_trip.load(Ordering::Relaxed);
        Standing {
            connections: engine.ready().map_or(0, |link| link.channels.count()),
            lease: Duration::from_secs(u64::from(engine.limits().lease)),
            lease_left: engine.lease.lock().unwrap_or_else(PoisonError::into_inner).left(Instant::now()),
            round_trip: (micros > 0).then(|| Duration::from_micros(micros)),
        }
    }
}
