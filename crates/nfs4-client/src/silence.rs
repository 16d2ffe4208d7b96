//! Whether a connection still answers. After a sleep or on another network it may be gone without a word, and TCP takes
//! minutes to notice.
//!
//! A connection is silent when **nothing at all** comes or goes on it for a while after it was asked something. On a narrow
//! link the question stands behind data that are being written, and the answer behind data that are being read. Data that
//! come are an answer as well, and so are data that the peer has made room for.

use std::time::Duration;

use mount_target::{Channel, bind};
use tokio::time::timeout;

/// How long a connection in doubt may be silent, at least. Phones and satellites answer within two seconds.
pub(crate) const SILENCE: Duration = Duration::from_secs(3);

/// Waits for an answer on a connection for as long as that is not silent for `limit`.
pub(crate) async fn unless_silent<T>(channel: &Channel, limit: Duration, answer: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(answer);
    let life = || {
        let stats = channel.stats();
        (stats.bytes_in, stats.bytes_drained)
    };
    let mut heard = life();
    loop {
        if let Ok(answer) = timeout(limit, &mut answer).await {
            return Some(answer);
        }
        let now = life();
        if now == heard {
            return None;
        }
        heard = now;
    }
}

/// Asks a connection whether it is there, and gives it up if it is silent. Takes no slot: all may be held by requests that
/// wait for an answer on it.
pub(crate) async fn probe(channel: &Channel, limit: Duration) {
    if unless_silent(channel, limit, bind::null_however_long(channel)).await.is_none() {
        tracing::info!("a connection to the mount target is silent; it is given up");
        channel.give_up();
    }
}
