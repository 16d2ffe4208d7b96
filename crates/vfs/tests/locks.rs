//! Locks: between owners of one mount and between mounts, and the data that they guard.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stage;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stage::{both, find, on_stage, pattern, reading};
use vfs::{Caller, Errno, Error, Fh, KernelCache, LockKind, LockRange, Vfs, VfsOptions};

const ALL: LockRange = LockRange::ALL;

fn caller(owner: u64) -> Caller {
    Caller { owner, pid: owner as u32 }
}

fn bytes(first: u64, last: u64) -> LockRange {
    LockRange { first, last }
}

async fn try_lock(vfs: &Vfs, fh: Fh, owner: u64, range: LockRange, kind: LockKind) -> Result<(), Error> {
    vfs.lock(fh, caller(owner), range, kind, None).await
}

fn is_locked(result: &Result<(), Error>) -> bool {
    matches!(result, Err(error) if error.errno() == Errno::Again)
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_keep_each_other_out_and_never_themselves_in_one_mount_and_between_two() {
    on_stage("locks", async |stage| {
        let (ino, fh) = stage.create("file").await;
        let (other, dir) = stage.second_mount(VfsOptions::default()).await;
        let there = find(&other, &stage.cred, dir, "file").await.unwrap().attr.ino;
        let theirs = other.open(&stage.cred, there, both()).await.unwrap().fh;
        let vfs = &stage.vfs;
        try_lock(vfs, fh, 1, bytes(0, 99), LockKind::Write).await.unwrap();
        // The same program through another open of the file, and one that may only read.
        let (second, third) = (stage.open(ino, both()).await.fh, stage.open(ino, reading()).await.fh);
        try_lock(vfs, second, 1, bytes(50, 149), LockKind::Write).await.unwrap();
        try_lock(vfs, third, 1, bytes(0, 9), LockKind::Read).await.unwrap();
        for (vfs, fh) in [(vfs, fh), (&other, theirs)] {
            assert!(is_locked(&try_lock(vfs, fh, 2, bytes(100, 100), LockKind::Read).await));
            try_lock(vfs, fh, 2, bytes(0, 9), LockKind::Read).await.unwrap();
            vfs.unlock(fh, caller(2), ALL).await.unwrap();
            try_lock(vfs, fh, 2, bytes(200, 200), LockKind::Write).await.unwrap();
            let found = vfs.getlk(fh, caller(2), bytes(120, 120), LockKind::Write).await.unwrap().unwrap();
            assert_eq!(found.kind, LockKind::Write);
            assert!(found.range.first <= 120 && 120 <= found.range.last);
            assert!(vfs.getlk(fh, caller(2), bytes(200, 200), LockKind::Write).await.unwrap().is_none());
            vfs.unlock(fh, caller(2), ALL).await.unwrap();
        }
        let found = vfs.getlk(fh, caller(7), bytes(120, 120), LockKind::Write).await.unwrap().unwrap();
        assert_eq!(found.pid, 1, "the process is known, because it is of this mount");
        // A close gives back everything that the owner has in the file, through whatever it was taken.
        stage.vfs.flush(&stage.cred, ino, third, Some(1)).await.unwrap();
        try_lock(&other, theirs, 2, ALL, LockKind::Write).await.unwrap();
        other.flush(&stage.cred, there, theirs, Some(2)).await.unwrap();
        other.release(&stage.cred, there, theirs).await.unwrap();
        for fh in [second, third, fh] {
            stage.close(ino, fh).await;
        }
        assert_eq!(other.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_lock_becomes_a_write_lock_on_a_file_open_for_reading_only() {
    on_stage("upgrade", async |stage| {
        let ino = stage.file("file", b"data").await;
        let (one, two) = (stage.open(ino, reading()).await.fh, stage.open(ino, reading()).await.fh);
        let vfs = &stage.vfs;
        try_lock(vfs, one, 1, bytes(0, 9), LockKind::Read).await.unwrap();
        try_lock(vfs, one, 1, bytes(20, 29), LockKind::Read).await.unwrap();
        try_lock(vfs, two, 2, bytes(20, 29), LockKind::Read).await.unwrap();
        // As `flock` does.
        assert!(is_locked(&try_lock(vfs, one, 1, ALL, LockKind::Write).await));
        assert!(is_locked(&try_lock(vfs, two, 2, bytes(0, 0), LockKind::Write).await), "what was held is kept");
        vfs.unlock(two, caller(2), ALL).await.unwrap();
        try_lock(vfs, one, 1, bytes(0, 5), LockKind::Write).await.unwrap();
        assert!(is_locked(&try_lock(vfs, two, 2, bytes(0, 0), LockKind::Read).await));
        assert!(is_locked(&try_lock(vfs, two, 2, bytes(25, 25), LockKind::Write).await), "it moved along");
        try_lock(vfs, two, 2, bytes(7, 8), LockKind::Read).await.unwrap();
        // `release` without `flush`: locks of the open file itself.
        vfs.release(&stage.cred, ino, one).await.unwrap();
        try_lock(vfs, two, 2, ALL, LockKind::Write).await.unwrap();
        stage.close(ino, two).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_gets_the_lock_when_it_goes_and_an_end_when_interrupted() {
    on_stage("waiting", async |stage| {
        let (ino, fh) = stage.create("file").await;
        let (other, dir) = stage.second_mount(VfsOptions::default()).await;
        let there = find(&other, &stage.cred, dir, "file").await.unwrap().attr.ino;
        let theirs = other.open(&stage.cred, there, both()).await.unwrap().fh;
        try_lock(&stage.vfs, fh, 1, ALL, LockKind::Write).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let wait = |vfs: &Vfs, fh: Fh, owner: u64| {
            let (vfs, stop) = (vfs.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let interrupted = move || stop.load(Ordering::Relaxed);
                vfs.lock(fh, caller(owner), ALL, LockKind::Write, Some(&interrupted)).await
            })
        };
        let (near, far) = (wait(&stage.vfs, fh, 2), wait(&other, theirs, 3));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!near.is_finished() && !far.is_finished());
        // Nobody is held up by those who wait.
        stage.write(ino, fh, 0, b"x").await;
        stage.vfs.unlock(fh, caller(1), ALL).await.unwrap();
        let start = Instant::now();
        let first = tokio::select! {
            done = near => { done.unwrap().unwrap(); 2 }
            done = far => { done.unwrap().unwrap(); 3 }
        };
        assert!(start.elapsed() < Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
        let (vfs, fh_of_first) = if first == 2 { (&stage.vfs, fh) } else { (&other, theirs) };
        let waiting = wait(vfs, fh_of_first, 9);
        assert_eq!(waiting.await.unwrap().unwrap_err().errno(), Errno::Intr);
        vfs.unlock(fh_of_first, caller(first), ALL).await.unwrap();
        stop.store(false, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(200)).await;
        other.release(&stage.cred, there, theirs).await.unwrap();
        assert_eq!(other.shutdown().await, []);
        stage.vfs.unlock(fh, caller(2), ALL).await.unwrap();
        try_lock(&stage.vfs, fh, 1, ALL, LockKind::Write).await.unwrap();
        // The end of the mount ends all waiting.
        let waiting = wait(&stage.vfs, fh, 2);
        tokio::time::sleep(Duration::from_millis(100)).await;
        stage.vfs.stop_waiting();
        assert_eq!(waiting.await.unwrap().unwrap_err().errno(), Errno::Intr);
        stage.vfs.flush(&stage.cred, ino, fh, Some(1)).await.unwrap();
        stage.close(ino, fh).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_mounts_that_lock_before_they_write_one_file_see_all_of_each_other() {
    on_stage("guarded", async |stage| {
        const ROUNDS: u8 = 20;
        let (ino, fh) = stage.create("file").await;
        stage.write(ino, fh, 0, &[0; 8192]).await;
        stage.vfs.fsync(&stage.cred, ino, fh, false).await.unwrap();
        let (other, dir) = stage.second_mount(VfsOptions::default()).await;
        let there = find(&other, &stage.cred, dir, "file").await.unwrap().attr.ino;
        let theirs = other.open(&stage.cred, there, both()).await.unwrap().fh;
        // Each has a counter of its own in the file and reads the other's: a page of it must never be old.
        for round in 1..=ROUNDS {
            for (vfs, ino, fh, own, others, seen) in
                [(&stage.vfs, ino, fh, 0, 4096, round - 1), (&other, there, theirs, 4096, 0, round)]
            {
                try_lock(vfs, fh, 1, ALL, LockKind::Write).await.unwrap();
                let found = vfs.read(&stage.cred, ino, fh, others, 1).await.unwrap().concat();
                assert_eq!(found, [seen], "round {round}");
                let data = bytes::Bytes::from(vec![round; 100]);
                vfs.write(&stage.cred, ino, fh, own, data).await.unwrap();
                vfs.unlock(fh, caller(1), ALL).await.unwrap();
            }
        }
        stage::close(&other, &stage.cred, there, theirs).await;
        assert_eq!(other.shutdown().await, []);
        stage.close(ino, fh).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_costs_one_round_trip_and_so_does_giving_it_back() {
    on_stage("cost", async |stage| {
        let ino = stage.file("file", &pattern(1, 1000)).await;
        let fh = stage.open(ino, both()).await.fh;
        stage.round_trips();
        for owner in 1..=50 {
            try_lock(&stage.vfs, fh, owner, ALL, LockKind::Write).await.unwrap();
            stage.vfs.unlock(fh, caller(owner), ALL).await.unwrap();
        }
        assert_eq!(stage.round_trips(), 100);
        // Who has no locks closes for nothing.
        for owner in 1..=50 {
            stage.vfs.flush(&stage.cred, ino, fh, Some(owner)).await.unwrap();
        }
        assert_eq!(stage.round_trips(), 0);
        stage.close(ino, fh).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_gives_locks_back_after_what_was_written_under_them() {
    on_stage("after", async |stage| {
        let (ino, fh) = stage.create("file").await;
        let (other, dir) = stage.second_mount(stage::no_caching()).await;
        let there = find(&other, &stage.cred, dir, "file").await.unwrap().attr.ino;
        let vfs = &stage.vfs;
        // A process closes another descriptor of the file, which may only read.
        let reader = stage.open(ino, reading()).await.fh;
        try_lock(vfs, fh, 1, ALL, LockKind::Write).await.unwrap();
        stage.write(ino, fh, 0, b"one").await;
        vfs.flush(&stage.cred, ino, reader, Some(1)).await.unwrap();
        assert_eq!(stage::content(&other, &stage.cred, there).await, b"one");
        // As `flock`, whose locks go with the last descriptor.
        try_lock(vfs, reader, 2, ALL, LockKind::Write).await.unwrap();
        stage.write(ino, fh, 3, b" and two").await;
        vfs.release(&stage.cred, ino, reader).await.unwrap();
        assert_eq!(stage::content(&other, &stage.cred, there).await, b"one and two");
        stage.close(ino, fh).await;
        assert_eq!(other.shutdown().await, []);
    })
    .await;
}

/// A kernel that takes its time.
#[derive(Default)]
struct SlowKernel(Mutex<Vec<Box<dyn FnOnce() + Send>>>);

impl KernelCache for SlowKernel {
    fn invalidate_inode(&self, _: u64) {}

    fn drop_inode(&self, _: u64, dropped: Box<dyn FnOnce() + Send>) {
        self.0.lock().unwrap().push(dropped);
    }

    fn invalidate_entry(&self, _: u64, _: &[u8]) {}
}

impl SlowKernel {
    /// Waits for the next request to drop a file.
    async fn asked(&self) -> Box<dyn FnOnce() + Send> {
        loop {
            if let Some(dropped) = self.0.lock().unwrap().pop() {
                return dropped;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_not_given_before_the_kernel_has_dropped_what_somebody_else_has_changed() {
    on_stage("kernel", async |stage| {
        let kernel = Arc::new(SlowKernel::default());
        stage.vfs.set_kernel_cache(Arc::clone(&kernel) as Arc<dyn KernelCache>);
        let ino = stage.file("file", b"one").await;
        let fh = stage.open(ino, both()).await.fh;
        let (other, dir) = stage.second_mount(VfsOptions::default()).await;
        let there = find(&other, &stage.cred, dir, "file").await.unwrap().attr.ino;
        for kernel_does in [true, false] {
            let theirs = other.open(&stage.cred, there, both()).await.unwrap().fh;
            other.write(&stage.cred, there, theirs, 0, bytes::Bytes::from_static(b"two")).await.unwrap();
            stage::close(&other, &stage.cred, there, theirs).await;
            let vfs = stage.vfs.clone();
            let lock = tokio::spawn(async move { try_lock(&vfs, fh, 1, ALL, LockKind::Read).await });
            let dropped = kernel.asked().await;
            assert!(!lock.is_finished());
            if kernel_does {
                dropped();
            } else {
                drop(dropped);
            }
            lock.await.unwrap().unwrap();
            stage.vfs.unlock(fh, caller(1), ALL).await.unwrap();
            let again = stage.open(ino, both()).await;
            assert_eq!(again.keep_cache, kernel_does);
            stage.close(ino, again.fh).await;
        }
        stage.close(ino, fh).await;
        assert_eq!(other.shutdown().await, []);
    })
    .await;
}
