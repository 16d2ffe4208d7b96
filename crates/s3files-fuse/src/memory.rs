//! What the program does so that its allocator holds no more memory than it needs.
//!
//! Freed memory goes back to the system when a mount comes to rest. The allocator gives it back some moments later, while
//! it does other work; when all work ends, it would keep what was freed last: tens of megabytes after a large file was
//! read.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::c_long;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use libmimalloc_sys::{_mi_option_last, mi_option_get, mi_option_set, mi_option_t};
use nfs4_client::Client;
use tokio::time::{MissedTickBehavior, interval};

/// How often to look whether anything moves.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes that have to have moved before there is something to give back.
const MUCH: u64 = 4 << 20;

/// mimalloc's option `arena_max_object_size`, in KiB: what is larger comes from the system, not from an arena. The bindings
/// have no name for it; it is the last but one.
const LARGEST: mi_option_t = _mi_option_last - 2;
/// What it is unless somebody sets it: 2 GiB.
const LARGEST_USUALLY: c_long = 2 << 20;
/// What it is made. More than any record; less than the 16 MiB that each of fuser's threads wants for requests. Those are
/// to be zeros, which in used memory are written one by one and then resident, although a request is short.
const LARGEST_HERE: c_long = 8 << 10;

/// To be called before anything else.
pub fn prepare() {
    // SAFETY: both only touch a table of numbers, and refuse an option that there is not.
    unsafe {
        if mi_option_get(LARGEST) == LARGEST_USUALLY {
            mi_option_set(LARGEST, LARGEST_HERE);
        }
    }
}

/// How often everybody was asked to give back what they hold.
static ROUND: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The last round that this thread heard of.
    static HEARD: Cell<u64> = const { Cell::new(0) };
}

/// Gives memory back when the mount stands, and whenever much was moved and nothing moves any more, for as long as it is
/// awaited.
pub async fn tidy(client: Client) {
    let moved = || {
        let counters = client.counters();
        counters.bytes_in + counters.bytes_out
    };
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last, mut tidied) = (moved(), None);
    loop {
        ticks.tick().await;
        let now = moved();
        if now - last < MUCH && tidied.is_none_or(|tidied| now - tidied >= MUCH) {
            tidied = Some(now);
            ROUND.fetch_add(1, Ordering::Relaxed);
            // Wakes workers that sleep; each gives back what is its own before it sleeps again.
            for _ in 0..available_parallelism().map_or(1, NonZero::get) {
                tokio::spawn(tokio::task::yield_now());
            }
        }
        last = now;
    }
}

/// To be called by each worker before it sleeps: what a thread has freed, only that thread can give back.
pub fn before_sleep() {
    let round = ROUND.load(Ordering::Relaxed);
    if HEARD.replace(round) != round {
        // SAFETY: it has no preconditions. Where mimalloc is not the program's allocator, it finds nothing.
        unsafe { libmimalloc_sys::mi_collect(true) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_where_it_is_looked_for() {
        // SAFETY: it reads a table of numbers.
        assert_eq!(unsafe { mi_option_get(LARGEST) }, LARGEST_USUALLY, "mimalloc has changed its table of options");
    }
}
