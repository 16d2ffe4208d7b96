//! Whether a connection still answers. After a sleep or on another network it may be gone without a word, and TCP takes
//! minutes to notice.
//!
//! A connection is silent when **nothing at all** comes or goes on it for a while after it was asked something. On a narrow
//! link the question stands behind data that are being written, and the answer behind data that are being read. Data that
//! come are an answer as well, and so are data that the peer has made room for.
//!
//! A connection in no doubt has longer, and for the same reason no request on it has a fixed limit: see [`unless_stuck`].

use std::time::Duration;

use mount_target::{Channel, bind};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// How long a connection in doubt may be silent, at least. Phones and satellites answer within two seconds.
pub(crate) const SILENCE: Duration = Duration::from_secs(3);

/// What came and went on a connection so far, in bytes; of what went only that which had to wait for the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life {
    came: u64,
    went: u64,
}

impl Life {
    fn of(channel: &Channel) -> Self {
        let stats = channel.stats();
        Self { came: stats.bytes_in, went: stats.bytes_drained }
    }
}

/// Waits for an answer on a connection for as long as that is not silent for `limit`.
pub(crate) async fn unless_silent<T>(channel: &Channel, limit: Duration, answer: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(answer);
    let mut heard = Life::of(channel);
    loop {
        if let Ok(answer) = timeout(limit, &mut answer).await {
            return Some(answer);
        }
        let now = Life::of(channel);
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

/// Waits for the answer to one request, which may stand behind a lot of data on a narrow link, but not for one that was
/// lost among others on a busy connection. `left` says when the request has left, `backlog` how many bytes of data may
/// still be under way before its answer then, at most.
pub(crate) async fn unless_stuck<T>(
    channel: &Channel,
    limit: Duration,
    mut left: oneshot::Receiver<()>,
    backlog: impl Fn() -> u64,
    answer: impl Future<Output = T>,
) -> Option<T> {
    tokio::pin!(answer);
    let mut patience = Patience { last: Life::of(channel), left: None };
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return Some(answer),
            // Also when the connection is gone, which the answer says next.
            _ = &mut left, if patience.left.is_none() => patience.has_left(Life::of(channel), backlog()),
            () = sleep(limit) => {
                if !patience.goes_on(Life::of(channel)) {
                    return None;
                }
            }
        }
    }
}

/// Says, each time the limit has passed without the answer, whether to wait once more.
#[derive(Debug)]
struct Patience {
    last: Life,
    /// What had come and gone when the request left, and what may stand before its answer.
    left: Option<(Life, u64)>,
}

impl Patience {
    fn has_left(&mut self, now: Life, backlog: u64) {
        self.last = now;
        self.left = Some((now, backlog));
    }

    /// Before the request has left, whatever the peer takes stood before it. After that so much is life as stood before
    /// the answer; the limit begins with the last of it.
    fn goes_on(&mut self, now: Life) -> bool {
        let before = std::mem::replace(&mut self.last, now);
        match self.left {
            None => now.went > before.went,
            Some((left, backlog)) => {
                let moves = |left: u64, before: u64, now: u64| now > before && before - left < backlog;
                moves(left.went, before.went, now.went) || moves(left.came, before.came, now.came)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use bytes::Bytes;
    use mount_target::ChannelOptions;

    const MIB: u64 = 1 << 20;

    fn patience() -> Patience {
        Patience { last: Life { came: 0, went: 0 }, left: None }
    }

    /// How many limits of this many bytes each way are waited through, of a hundred.
    fn limits(patience: &mut Patience, came: u64, went: u64) -> usize {
        let mut now = patience.last;
        let goes_on = |_: &usize| {
            now = Life { came: now.came + came, went: now.went + went };
            patience.goes_on(now)
        };
        (0..100).take_while(goes_on).count()
    }

    #[test]
    fn a_request_that_has_not_left_waits_for_as_long_as_the_peer_takes_what_stands_before_it() {
        assert_eq!(limits(&mut patience(), 0, 1), 100);
        assert_eq!(limits(&mut patience(), MIB, 0), 0, "what comes says nothing about the way out");
    }

    #[test]
    fn data_before_the_answer_are_waited_for_and_then_one_limit_more() {
        for (came, went) in [(MIB, 0), (0, MIB)] {
            let mut patience = patience();
            patience.has_left(patience.last, 8 * MIB);
            assert_eq!(limits(&mut patience, came, went), 8);
        }
    }

    #[test]
    fn a_connection_on_which_nothing_moves_is_given_up_at_once() {
        let mut patience = patience();
        patience.has_left(patience.last, 100 * MIB);
        assert_eq!(limits(&mut patience, 0, 0), 0);
    }

    #[test]
    fn an_answer_that_was_lost_is_not_waited_for_because_others_come() {
        let mut patience = patience();
        patience.has_left(patience.last, 0);
        assert_eq!(limits(&mut patience, 1, 1), 0);
    }

    #[tokio::test]
    async fn a_request_that_leaves_and_one_that_does_not_are_both_given_up_when_the_peer_is_dead() {
        for room in [16, 1 << 20] {
            let (near, far) = tokio::io::duplex(room);
            let (channel, _incoming) = Channel::new(near, ChannelOptions::default());
            let (left, has_left) = oneshot::channel();
            let answer = channel.call_telling(vec![Bytes::from(vec![0; 1000])], left);
            let limit = Duration::from_millis(20);
            assert!(unless_stuck(&channel, limit, has_left, || 0, answer).await.is_none());
            drop(far);
        }
    }
}
