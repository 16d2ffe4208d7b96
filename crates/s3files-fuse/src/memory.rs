//! Freed memory goes back to the system when a mount comes to rest.
//!
//! The allocator gives back what was freed some moments later, while it does other work. When all work ends, it would keep
//! what was freed last: tens of megabytes after a large file was read.
#![allow(unsafe_code)]

use std::time::Duration;

use nfs4_client::Client;
use tokio::time::{MissedTickBehavior, interval};

/// How often to look whether anything moves.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes that have to have moved before there is something to give back.
const MUCH: u64 = 4 << 20;

/// Gives memory back whenever much was moved and nothing moves any more, for as long as it is awaited.
pub async fn tidy(client: Client) {
    let moved = || {
        let counters = client.counters();
        counters.bytes_in + counters.bytes_out
    };
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last, mut tidied) = (moved(), moved());
    loop {
        ticks.tick().await;
        let now = moved();
        if now - last < MUCH && now - tidied >= MUCH {
            tidied = now;
            let _ = tokio::task::spawn_blocking(give_back).await;
        }
        last = now;
    }
}

fn give_back() {
    // SAFETY: it has no preconditions. Where mimalloc is not the program's allocator, it finds nothing.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
