//! New files that the server has not heard of, attributes that wait for data, and opens that ask nothing: what they cost,
//! and that nobody can tell the difference otherwise.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stage;

use std::time::Duration;

use bytes::Bytes;
use stage::{Stage, close, content, find, on_stage, pattern, reading, with_options};
use vfs::{Errno, Fh, OpenFlags, RenameFlags, SetAttr, TimeSet, Timestamp, VfsOptions};

const NEW: OpenFlags =
    OpenFlags { read: false, write: true, append: false, truncate: true, exclusive: false, sync: false, direct: false };

/// `open(O_CREAT | O_TRUNC | O_WRONLY)`, as `echo >` has it.
async fn make(stage: &Stage, name: &str) -> (u64, Fh) {
    let (entry, opened) = stage.vfs.create(&stage.cred, stage.dir, name.as_bytes(), 0o644, NEW).await.unwrap();
    (entry.attr.ino, opened.fh)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_file_goes_out_with_its_bytes_and_attributes_in_one_request() {
    on_stage("one", async |stage| {
        let (ino, fh) = make(stage, "f").await;
        stage.write(ino, fh, 0, b"hello ").await;
        stage.write(ino, fh, 6, b"world").await;
        let set = SetAttr {
            mode: Some(0o600),
            mtime: Some(TimeSet::At(Timestamp { seconds: 1_000_000, nanos: 0 })),
            ..SetAttr::default()
        };
        let shown = stage.vfs.setattr(&stage.cred, ino, Some(fh), set).await.unwrap().0;
        assert_eq!((shown.mode, shown.mtime.seconds, shown.size), (0o600, 1_000_000, 11));
        stage.vfs.flush(&stage.cred, ino, fh, None).await.unwrap();
        assert_eq!(stage.round_trips(), 1);
        stage.vfs.release(&stage.cred, ino, fh).await.unwrap();
        let (vfs, dir) = stage.second_mount(VfsOptions::default()).await;
        let there = find(&vfs, &stage.cred, dir, "f").await.unwrap().attr;
        assert_eq!((there.mode, there.mtime.seconds, there.size), (0o600, 1_000_000, 11));
        assert_eq!(content(&vfs, &stage.cred, there.ino).await, b"hello world");
        assert_eq!(vfs.shutdown().await, []);
        assert_eq!(stage.content(ino).await, b"hello world");
        assert_eq!(stage.find("f").await.unwrap().attr.ino, ino);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_file_is_in_the_listing_and_can_be_renamed_linked_and_removed_at_once() {
    on_stage("at-once", async |stage| {
        let (vfs, cred, dir) = (&stage.vfs, &stage.cred, stage.dir);
        let (ino, fh) = make(stage, "a").await;
        assert_eq!(stage.find("a").await.unwrap().attr.ino, ino);
        assert_eq!(stage.names(dir).await, ["a"]);
        stage.write(ino, fh, 0, b"x").await;
        stage.close(ino, fh).await;
        let (ino, fh) = make(stage, "b").await;
        vfs.rename(cred, dir, b"b", dir, b"c", RenameFlags::default()).await.unwrap();
        stage.write(ino, fh, 0, b"y").await;
        stage.close(ino, fh).await;
        assert_eq!(stage.content(stage.find("c").await.unwrap().attr.ino).await, b"y");
        let (ino, fh) = make(stage, "d").await;
        stage.write(ino, fh, 0, b"z").await;
        vfs.unlink(cred, dir, b"d").await.unwrap();
        stage.close(ino, fh).await;
        assert_eq!(stage.names(dir).await, ["a", "c"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_file_that_is_not_closed_reaches_the_server_all_the_same() {
    on_stage("soon", async |stage| {
        let (ino, fh) = make(stage, "f").await;
        let (vfs, dir) = stage.second_mount(stage::no_caching()).await;
        while find(&vfs, &stage.cred, dir, "f").await.is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let bytes = pattern(3, 3 << 20);
        for (at, part) in (0..).step_by(100_000).zip(bytes.chunks(100_000)) {
            stage.write(ino, fh, at, part).await;
        }
        stage.close(ino, fh).await;
        assert_eq!(content(&vfs, &stage.cred, find(&vfs, &stage.cred, dir, "f").await.unwrap().attr.ino).await, bytes);
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_told_by_close_and_nothing_stays_behind() {
    on_stage("refused", async |stage| {
        let (vfs, cred) = (&stage.vfs, &stage.cred);
        let sub = vfs.mkdir(cred, stage.dir, b"sub", 0o755).await.unwrap().attr.ino;
        let (other, dir) = stage.second_mount(VfsOptions::default()).await;
        other.rmdir(cred, dir, b"sub").await.unwrap();
        let (entry, opened) = vfs.create(cred, sub, b"f", 0o644, NEW).await.unwrap();
        let (ino, fh) = (entry.attr.ino, opened.fh);
        let written = vfs.write(cred, ino, fh, 0, Bytes::from_static(b"lost")).await;
        let flushed = vfs.flush(cred, ino, fh, None).await;
        assert!(written.is_err() || flushed.is_err());
        assert!(matches!(flushed.unwrap_err().errno(), Errno::Stale | Errno::NoEnt));
        vfs.release(cred, ino, fh).await.unwrap();
        vfs.forget(ino, 1);
        assert!(vfs.getattr(cred, ino, None).await.is_err());
        assert_eq!(other.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_client_made_meanwhile_is_cut_and_written_as_an_open_would() {
    on_stage("meanwhile", async |stage| {
        let (other, dir) = stage.second_mount(VfsOptions::default()).await;
        let (entry, opened) = other.create(&stage.cred, dir, b"f", 0o644, NEW).await.unwrap();
        other.write(&stage.cred, entry.attr.ino, opened.fh, 0, pattern(1, 5000)).await.unwrap();
        close(&other, &stage.cred, entry.attr.ino, opened.fh).await;
        let (ino, fh) = make(stage, "f").await;
        stage.write(ino, fh, 0, b"mine").await;
        stage.close(ino, fh).await;
        assert_eq!(content(&other, &stage.cred, entry.attr.ino).await, b"mine");
        assert_eq!(stage.content(stage.find("f").await.unwrap().attr.ino).await, b"mine");
        assert_eq!(other.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_of_a_file_that_is_written_go_with_its_data_and_a_later_write_keeps_its_own_time() {
    on_stage("with-data", async |stage| {
        let (ino, fh) = stage.create("f").await;
        stage.round_trips();
        stage.write(ino, fh, 0, b"data").await;
        let at = |seconds| Some(TimeSet::At(Timestamp { seconds, nanos: 0 }));
        let sets = [
            SetAttr { mtime: at(7_000_000), atime: at(8_000_000), ..SetAttr::default() },
            SetAttr { uid: Some(0), gid: Some(0), ..SetAttr::default() },
            SetAttr { mode: Some(0o640), ..SetAttr::default() },
        ];
        for set in sets {
            stage.vfs.setattr(&stage.cred, ino, Some(fh), set).await.unwrap();
        }
        stage.vfs.flush(&stage.cred, ino, fh, None).await.unwrap();
        assert_eq!(stage.round_trips(), 1);
        let (other, dir) = stage.second_mount(stage::no_caching()).await;
        let there = find(&other, &stage.cred, dir, "f").await.unwrap().attr;
        assert_eq!((there.mode, there.mtime.seconds), (0o640, 7_000_000));
        let old = SetAttr { mtime: at(9_000_000), ..SetAttr::default() };
        stage.vfs.setattr(&stage.cred, ino, Some(fh), old).await.unwrap();
        stage.write(ino, fh, 0, b"more").await;
        stage.close(ino, fh).await;
        let there = find(&other, &stage.cred, dir, "f").await.unwrap().attr;
        assert!(there.mtime.seconds > 9_000_000, "a write after it makes the time that was set void");
        assert_eq!(other.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_open_freshness_small_files_in_a_row_cost_few_requests() {
    let fresh = VfsOptions { open_freshness: Duration::from_secs(100), ..VfsOptions::default() };
    with_options("row", fresh.clone(), async |stage| {
        let names: Vec<String> = (0..60).map(|number| format!("file{number:02}")).collect();
        for (seed, name) in (0..).zip(&names) {
            stage.file(name, &pattern(seed, 3000)).await;
        }
        let (vfs, dir) = stage.second_mount(fresh.clone()).await;
        stage::names(&vfs, &stage.cred, dir).await;
        for (seed, name) in (0..).zip(&names) {
            let ino = find(&vfs, &stage.cred, dir, name).await.unwrap().attr.ino;
            let opened = vfs.open(&stage.cred, ino, reading()).await.unwrap();
            let read = vfs.read(&stage.cred, ino, opened.fh, 0, 128 << 10).await.unwrap().concat();
            assert!(read == pattern(seed, 3000), "{name}");
            close(&vfs, &stage.cred, ino, opened.fh).await;
            // As long as a program takes to look at it.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let before = vfs.client().counters().compounds;
        for name in &names {
            let ino = find(&vfs, &stage.cred, dir, name).await.unwrap().attr.ino;
            assert_eq!(content(&vfs, &stage.cred, ino).await.len(), 3000);
        }
        assert_eq!(vfs.client().counters().compounds, before, "everything was said lately");
        // What is written here is seen at once.
        let ino = find(&vfs, &stage.cred, dir, "file07").await.unwrap().attr.ino;
        let opened = vfs.open(&stage.cred, ino, OpenFlags { truncate: true, ..NEW }).await.unwrap();
        vfs.write(&stage.cred, ino, opened.fh, 0, Bytes::from_static(b"new")).await.unwrap();
        close(&vfs, &stage.cred, ino, opened.fh).await;
        assert_eq!(content(&vfs, &stage.cred, ino).await, b"new");
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_walked_in_as_many_round_trips_as_it_is_deep() {
    on_stage("walk", async |stage| {
        let (cred, dirs) = (&stage.cred, 30u64);
        for number in 0..dirs {
            let name = format!("d{number:02}");
            let sub = stage.vfs.mkdir(cred, stage.dir, name.as_bytes(), 0o755).await.unwrap().attr.ino;
            stage.vfs.mkdir(cred, sub, b"below", 0o755).await.unwrap();
        }
        let (vfs, dir) = stage.second_mount(VfsOptions::default()).await;
        let listed = stage::names(&vfs, cred, dir).await;
        assert_eq!(listed.len() as u64, dirs);
        let mut waits = 0;
        for name in listed {
            let sub = find(&vfs, cred, dir, &name).await.unwrap().attr.ino;
            let before = vfs.client().counters().compounds;
            assert_eq!(stage::names(&vfs, cred, sub).await, ["below"]);
            waits += u64::from(vfs.client().counters().compounds > before);
            // As long as a program takes to look at it; what was asked ahead arrives meanwhile.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(waits <= 3, "{waits} of {dirs} directories had to be asked for");
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}
