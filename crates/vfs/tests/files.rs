//! Open files: what is written is read, by whom and when, and what it costs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stage;

use std::time::Duration;

use bytes::Bytes;
use stage::{both, close, content, find, no_caching, on_stage, pattern, reading, with_options, writing};
use vfs::{Errno, OpenFlags, RenameFlags, SetAttr, TimeSet, Timestamp, VfsOptions};

#[tokio::test(flavor = "multi_thread")]
async fn an_open_for_reading_can_truncate() {
    on_stage("truncating", async |stage| {
        let (ino, fh) = stage.create("f").await;
        stage.write(ino, fh, 0, b"hello").await;
        stage.vfs.release(&stage.cred, ino, fh).await.unwrap();
        let flags = OpenFlags { read: true, truncate: true, ..OpenFlags::default() };
        let opened = stage.vfs.open(&stage.cred, ino, flags).await.unwrap();
        assert_eq!(stage.vfs.getattr(&stage.cred, ino, None).await.unwrap().0.size, 0);
        stage.vfs.release(&stage.cred, ino, opened.fh).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_costs_three_requests_to_make() {
    on_stage("small", async |stage| {
        stage.round_trips();
        let (ino, fh) = stage.create("f").await;
        stage.write(ino, fh, 0, b"hello").await;
        assert_eq!(stage.vfs.getattr(&stage.cred, ino, None).await.unwrap().0.size, 5);
        stage.vfs.flush(&stage.cred, ino, fh, None).await.unwrap();
        stage.vfs.release(&stage.cred, ino, fh).await.unwrap();
        let cost = stage.round_trips();
        assert!(cost <= 4, "OPEN, perhaps SETATTR, WRITE, CLOSE: {cost}");
        assert_eq!(stage.content(ino).await, b"hello");
        assert_eq!(stage.round_trips(), 2, "OPEN and CLOSE; the bytes are still there");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_small_file_is_read_with_its_open() {
    on_stage("cold", async |stage| {
        let bytes = pattern(1, 50_000);
        stage.file("f", &bytes).await;
        let (vfs, dir) = stage.second_mount(VfsOptions::default()).await;
        let before = vfs.client().counters().compounds;
        let ino = find(&vfs, &stage.cred, dir, "f").await.unwrap().attr.ino;
        let opened = vfs.open(&stage.cred, ino, reading()).await.unwrap();
        let read = vfs.read(&stage.cred, ino, opened.fh, 0, 128 << 10).await.unwrap().concat();
        assert!(read == bytes);
        let cost = vfs.client().counters().compounds - before;
        assert!(cost <= 3, "OPEN with READ, and LOOKUP and a listing where none has told the name yet: {cost}");
        close(&vfs, &stage.cred, ino, opened.fh).await;
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_written_and_read_back() {
    on_stage("large", async |stage| {
        let bytes = pattern(2, 20 << 20);
        let (ino, fh) = stage.create("f").await;
        for (index, part) in bytes.chunks(128 << 10).enumerate() {
            stage.write(ino, fh, (index * (128 << 10)) as u64, part).await;
        }
        assert!(stage.read(ino, fh, 5 << 20, 1 << 20).await == bytes[5 << 20..6 << 20]);
        stage.close(ino, fh).await;
        let cost = stage.round_trips();
        assert!(cost <= 20 + 2 + 6, "{cost} requests for 20 MiB");
        let (vfs, dir) = stage.second_mount(VfsOptions::default()).await;
        let ino = find(&vfs, &stage.cred, dir, "f").await.unwrap().attr.ino;
        assert!(content(&vfs, &stage.cred, ino).await == bytes);
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_wait_when_memory_is_short_and_nothing_is_lost() {
    let options = VfsOptions { dirty_limit: 1 << 20, cache_size: 2 << 20, ..VfsOptions::default() };
    with_options("short", options, async |stage| {
        let bytes = pattern(3, 8 << 20);
        let (ino, fh) = stage.create("f").await;
        for (index, part) in bytes.chunks(100_000).enumerate() {
            stage.write(ino, fh, (index * 100_000) as u64, part).await;
        }
        stage.close(ino, fh).await;
        assert!(stage.content(ino).await == bytes);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_read_as_zeros_before_and_after_they_are_written() {
    on_stage("holes", async |stage| {
        let (ino, fh) = stage.create("f").await;
        stage.write(ino, fh, 0, b"start").await;
        stage.write(ino, fh, 300_000, b"end").await;
        let mut expected = vec![0; 300_003];
        expected[..5].copy_from_slice(b"start");
        expected[300_000..].copy_from_slice(b"end");
        assert!(stage.read(ino, fh, 0, 400_000).await == expected);
        stage.vfs.fsync(&stage.cred, ino, fh, false).await.unwrap();
        assert!(stage.read(ino, fh, 0, 400_000).await == expected);
        stage.close(ino, fh).await;
        assert!(stage.content(ino).await == expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_cut_and_grows_with_what_was_written_before_and_after() {
    on_stage("cut", async |stage| {
        let (ino, fh) = stage.create("f").await;
        let size = |size| SetAttr { size: Some(size), ..SetAttr::default() };
        stage.write(ino, fh, 0, &pattern(4, 100_000)).await;
        let (attr, _) = stage.vfs.setattr(&stage.cred, ino, Some(fh), size(50_000)).await.unwrap();
        assert_eq!(attr.size, 50_000);
        stage.write(ino, fh, 60_000, b"behind").await;
        let mut expected = pattern(4, 50_000).to_vec();
        expected.resize(60_000, 0);
        expected.extend_from_slice(b"behind");
        assert!(stage.read(ino, fh, 0, 200_000).await == expected);
        let (attr, _) = stage.vfs.setattr(&stage.cred, ino, None, size(70_000)).await.unwrap();
        assert_eq!(attr.size, 70_000);
        expected.resize(70_000, 0);
        assert!(stage.read(ino, fh, 0, 200_000).await == expected);
        stage.close(ino, fh).await;
        assert!(stage.content(ino).await == expected);
        let opened = stage.open(ino, OpenFlags { truncate: true, ..both() }).await;
        assert_eq!(stage.read(ino, opened.fh, 0, 10).await, b"");
        stage.close(ino, opened.fh).await;
        assert_eq!(stage.find("f").await.unwrap().attr.size, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_sees_what_was_closed_elsewhere_before_it() {
    on_stage("close-to-open", async |stage| {
        let ino = stage.file("f", b"old content").await;
        assert_eq!(stage.content(ino).await, b"old content");
        let (vfs, dir) = stage.second_mount(VfsOptions::default()).await;
        let other = find(&vfs, &stage.cred, dir, "f").await.unwrap().attr.ino;
        let opened = vfs.open(&stage.cred, other, OpenFlags { truncate: true, ..writing() }).await.unwrap();
        vfs.write(&stage.cred, other, opened.fh, 0, Bytes::from_static(b"new")).await.unwrap();
        close(&vfs, &stage.cred, other, opened.fh).await;
        assert_eq!(stage.content(ino).await, b"new");
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

/// The truncation goes with the open: one round trip, and by name, so that it never hits a file that has lost the name.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_truncates_in_one_round_trip_and_spares_a_file_that_was_renamed_elsewhere() {
    on_stage("truncating", async |stage| {
        let truncating = OpenFlags { truncate: true, ..writing() };
        let ino = stage.file("f", b"old content").await;
        stage.round_trips();
        let opened = stage.open(ino, truncating).await;
        assert_eq!(stage.round_trips(), 1, "OPEN with SETATTR");
        stage.write(ino, opened.fh, 0, b"kept").await;
        stage.close(ino, opened.fh).await;
        assert_eq!(stage.round_trips(), 2, "WRITE, CLOSE");
        assert_eq!(stage.content(ino).await, b"kept");

        let (vfs, dir) = stage.second_mount(VfsOptions::default()).await;
        let rename = async |from: &[u8], to: &[u8]| {
            vfs.rename(&stage.cred, dir, from, dir, to, RenameFlags::default()).await.unwrap();
        };
        rename(b"f", b"backup").await;
        let new = vfs.create(&stage.cred, dir, b"f", 0o644, writing()).await.unwrap();
        close(&vfs, &stage.cred, new.0.attr.ino, new.1.fh).await;
        let refused = stage.vfs.open(&stage.cred, ino, truncating).await.unwrap_err();
        assert_eq!(refused.errno(), Errno::Stale);
        let backup = find(&vfs, &stage.cred, dir, "backup").await.unwrap().attr.ino;
        assert_eq!(content(&vfs, &stage.cred, backup).await, b"kept");
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_may_keep_its_pages_only_while_nobody_else_writes() {
    on_stage("keep", async |stage| {
        let ino = stage.file("f", b"one").await;
        let first = stage.open(ino, reading()).await;
        stage.close(ino, first.fh).await;
        let second = stage.open(ino, reading()).await;
        assert!(second.keep_cache);
        stage.close(ino, second.fh).await;
        let (vfs, dir) = stage.second_mount(VfsOptions::default()).await;
        let other = find(&vfs, &stage.cred, dir, "f").await.unwrap().attr.ino;
        let opened = vfs.open(&stage.cred, other, writing()).await.unwrap();
        vfs.write(&stage.cred, other, opened.fh, 0, Bytes::from_static(b"two")).await.unwrap();
        close(&vfs, &stage.cred, other, opened.fh).await;
        let third = stage.open(ino, reading()).await;
        assert!(!third.keep_cache);
        assert_eq!(stage.read(ino, third.fh, 0, 10).await, b"two");
        stage.close(ino, third.fh).await;
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn appending_goes_to_the_end_whatever_offset_the_kernel_believes() {
    on_stage("append", async |stage| {
        let ino = stage.file("f", b"start").await;
        let opened = stage.open(ino, OpenFlags { append: true, ..writing() }).await;
        stage.write(ino, opened.fh, 0, b"-more").await;
        stage.write(ino, opened.fh, 3, b"-end").await;
        stage.close(ino, opened.fh).await;
        assert_eq!(stage.content(ino).await, b"start-more-end");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_was_set_survives_the_flush_of_earlier_writes() {
    on_stage("times", async |stage| {
        let (ino, fh) = stage.create("f").await;
        stage.write(ino, fh, 0, b"data").await;
        let mtime = Timestamp { seconds: 1_000_000_000, nanos: 123_456_789 };
        let set = SetAttr { mtime: Some(TimeSet::At(mtime)), atime: Some(TimeSet::Now), ..SetAttr::default() };
        let (attr, _) = stage.vfs.setattr(&stage.cred, ino, Some(fh), set).await.unwrap();
        assert_eq!(attr.mtime, mtime);
        stage.close(ino, fh).await;
        let (vfs, dir) = stage.second_mount(VfsOptions::default()).await;
        let seen = find(&vfs, &stage.cred, dir, "f").await.unwrap().attr;
        assert_eq!((seen.mtime, seen.size), (mtime, 4));
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_create_fails_when_the_name_exists_elsewhere() {
    on_stage("exclusive", async |stage| {
        assert!(stage.find("lock").await.is_none());
        let (vfs, dir) = stage.second_mount(VfsOptions::default()).await;
        let flags = OpenFlags { exclusive: true, ..both() };
        let (entry, opened) = vfs.create(&stage.cred, dir, b"lock", 0o600, flags).await.unwrap();
        close(&vfs, &stage.cred, entry.attr.ino, opened.fh).await;
        let error = stage.vfs.create(&stage.cred, stage.dir, b"lock", 0o600, flags).await.unwrap_err();
        assert_eq!(error.errno(), Errno::Exist);
        assert!(stage.find("lock").await.is_some());
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_file_lives_until_it_is_closed() {
    on_stage("removed", async |stage| {
        let (ino, fh) = stage.create("f").await;
        stage.write(ino, fh, 0, b"before").await;
        stage.vfs.unlink(&stage.cred, stage.dir, b"f").await.unwrap();
        assert!(stage.find("f").await.is_none());
        assert_eq!(stage.names(stage.dir).await, Vec::<String>::new());
        stage.write(ino, fh, 6, b" after").await;
        assert_eq!(stage.read(ino, fh, 0, 100).await, b"before after");
        let (attr, _) = stage.vfs.getattr(&stage.cred, ino, Some(fh)).await.unwrap();
        assert_eq!((attr.size, attr.nlink), (12, 0));
        stage.close(ino, fh).await;
        let (vfs, dir) = stage.second_mount(VfsOptions::default()).await;
        assert_eq!(stage::names(&vfs, &stage.cred, dir).await, Vec::<String>::new(), "nothing is left");
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_replaced_while_open_keeps_its_content() {
    on_stage("replaced", async |stage| {
        let old = stage.file("target", b"old").await;
        stage.file("source", b"new").await;
        let opened = stage.open(old, reading()).await;
        stage
            .vfs
            .rename(&stage.cred, stage.dir, b"source", stage.dir, b"target", RenameFlags::default())
            .await
            .unwrap();
        assert_eq!(stage.read(old, opened.fh, 0, 10).await, b"old");
        let new = stage.find("target").await.unwrap().attr.ino;
        assert_ne!(new, old);
        assert_eq!(stage.content(new).await, b"new");
        stage.close(old, opened.fh).await;
        assert_eq!(stage.names(stage.dir).await, ["target"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_reads_and_writes_pass_every_cache() {
    on_stage("direct", async |stage| {
        let (ino, fh) = stage.create("f").await;
        stage.write(ino, fh, 0, &pattern(5, 8192)).await;
        let direct = stage.open(ino, OpenFlags { direct: true, ..both() }).await;
        assert!(stage.read(ino, direct.fh, 0, 8192).await == pattern(5, 8192));
        stage.write(ino, direct.fh, 4096, &pattern(6, 4096)).await;
        assert!(stage.read(ino, fh, 4096, 4096).await == pattern(6, 4096));
        assert!(stage.read(ino, direct.fh, 4096, 100_000).await == pattern(6, 4096));
        assert_eq!(stage.read(ino, direct.fh, 8192, 100).await, b"");
        stage.close(ino, direct.fh).await;
        stage.close(ino, fh).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_bytes_are_sent_without_being_asked_for() {
    let options = VfsOptions { dirty_age: Duration::from_millis(100), ..VfsOptions::default() };
    with_options("aged", options, async |stage| {
        let (ino, fh) = stage.create("f").await;
        stage.write(ino, fh, 0, b"soon there").await;
        let (vfs, dir) = stage.second_mount(no_caching()).await;
        for _ in 0..100 {
            if find(&vfs, &stage.cred, dir, "f").await.unwrap().attr.size == 10 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(find(&vfs, &stage.cred, dir, "f").await.unwrap().attr.size, 10);
        stage.close(ino, fh).await;
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_are_good_for_what_they_were_opened_for_and_no_more() {
    on_stage("handles", async |stage| {
        let ino = stage.file("f", b"x").await;
        let reader = stage.open(ino, reading()).await.fh;
        let writer = stage.open(ino, writing()).await.fh;
        let (vfs, cred) = (&stage.vfs, &stage.cred);
        assert_eq!(vfs.write(cred, ino, reader, 0, Bytes::from_static(b"y")).await.unwrap_err().errno(), Errno::BadF);
        assert_eq!(vfs.read(cred, ino, writer, 0, 1).await.unwrap_err().errno(), Errno::BadF);
        stage.close(ino, reader).await;
        assert_eq!(vfs.read(cred, ino, reader, 0, 1).await.unwrap_err().errno(), Errno::BadF);
        stage.close(ino, writer).await;
        assert_eq!(vfs.open(cred, stage.dir, reading()).await.unwrap_err().errno(), Errno::IsDir);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_can_be_changed_on_a_read_only_mount() {
    on_stage("read-only", async |stage| {
        stage.file("f", b"x").await;
        let (vfs, dir) = stage.second_mount(VfsOptions { read_only: true, ..VfsOptions::default() }).await;
        let cred = &stage.cred;
        let ino = find(&vfs, cred, dir, "f").await.unwrap().attr.ino;
        assert_eq!(content(&vfs, cred, ino).await, b"x");
        let errors = [
            vfs.open(cred, ino, writing()).await.unwrap_err(),
            vfs.create(cred, dir, b"g", 0o644, both()).await.unwrap_err(),
            vfs.mkdir(cred, dir, b"g", 0o755).await.unwrap_err(),
            vfs.unlink(cred, dir, b"f").await.unwrap_err(),
            vfs.setattr(cred, ino, None, SetAttr { mode: Some(0), ..SetAttr::default() }).await.unwrap_err(),
            vfs.access(cred, ino, 2).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.errno(), Errno::RoFs);
        }
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_map_goes_to_its_place_also_through_an_open_for_appending() {
    on_stage("mapped", async |stage| {
        let ino = stage.file("f", b"0123456789").await;
        let fh = stage.open(ino, OpenFlags { append: true, ..both() }).await.fh;
        stage.vfs.write_mapped(&stage.cred, ino, fh, 2, Bytes::from_static(b"map")).await.unwrap();
        stage.write(ino, fh, 0, b"end").await;
        stage.close(ino, fh).await;
        assert_eq!(stage.content(ino).await, b"01map56789end");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_keeps_no_pages_over_a_write_that_has_passed_them_by() {
    on_stage("passed-by", async |stage| {
        let ino = stage.file("log", b"one").await;
        let first = stage.open(ino, reading()).await;
        stage.close(ino, first.fh).await;
        let append = stage.open(ino, OpenFlags { append: true, ..writing() }).await;
        stage.write(ino, append.fh, 0, b" two").await;
        stage.close(ino, append.fh).await;
        stage.round_trips();
        let second = stage.open(ino, reading()).await;
        assert_eq!(second.keep_cache, !append.direct_io);
        assert_eq!(stage.read(ino, second.fh, 0, 100).await, b"one two");
        assert_eq!(stage.round_trips(), 1, "our own copy is still good");
        let third = stage.open(ino, reading()).await;
        assert!(third.keep_cache);
        stage.close(ino, second.fh).await;
        stage.close(ino, third.fh).await;
    })
    .await;
}
