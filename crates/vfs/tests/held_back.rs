//! New files that the server has not heard of, attributes that wait for data, and opens that ask nothing: what they cost,
//! and that nobody can tell the difference otherwise.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stage;

use std::time::Duration;

use bytes::Bytes;
use mock_mount_target::nfs::faults::{Action, Rule};
use mock_mount_target::nfs::{Config, Profile};
use nfs4_client::{Cred, Nfs4Error};
use stage::{Stage, close, content, find, on_mock, on_stage, pattern, reading, with_options, writing};
use vfs::{Errno, Fh, Looked, OpenFlags, RenameFlags, SetAttr, TimeSet, Timeouts, Timestamp, Vfs, VfsOptions};

const OP_SETATTR: u32 = 34;

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

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_that_works_on_what_it_finds_asks_for_no_listing_twice() {
    on_stage("slow-walk", async |stage| {
        let (cred, dirs) = (&stage.cred, 8);
        for number in 0..dirs {
            let sub = stage.vfs.mkdir(cred, stage.dir, format!("d{number}").as_bytes(), 0o755).await.unwrap().attr.ino;
            for name in [&b"a"[..], b"b"] {
                stage.vfs.symlink(cred, sub, name, b"target").await.unwrap();
            }
        }
        // The attributes of what is no directory have run out whenever the walk comes to it.
        let timeouts = Timeouts { file_min: Duration::ZERO, file_max: Duration::ZERO, ..Timeouts::default() };
        let (vfs, dir) = stage.second_mount(VfsOptions { timeouts, ..VfsOptions::default() }).await;
        let listed = list(&vfs, cred, dir).await;
        assert_eq!(listed.len(), dirs);
        let mut waits = 0;
        for (at, sub) in listed.into_iter().enumerate() {
            while at > 1 && !is_quiet(&vfs).await {}
            let before = vfs.client().counters().compounds;
            // Once to see whether it is empty, as `rm -r` does.
            for _ in 0..2 {
                assert_eq!(list(&vfs, cred, sub).await.len(), 2);
            }
            waits += u64::from(vfs.client().counters().compounds > before);
        }
        assert!(waits <= 2, "{waits} of {dirs} directories had to be asked for");
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_does_not_begin_with_what_came_beside_an_earlier_one() {
    const HOLD: Duration = Duration::from_secs(2);
    on_mock("beside", Config::new(Profile::Full), VfsOptions::default(), async |stage, mock| {
        let cred = &stage.cred;
        let large = stage.vfs.mkdir(cred, stage.dir, b"large", 0o755).await.unwrap().attr.ino;
        for number in 0..1000 {
            let name = format!("{number:0>200}");
            stage.vfs.symlink(cred, large, name.as_bytes(), b"target").await.unwrap();
        }
        let timeouts = Timeouts { file_min: HOLD, file_max: HOLD, ..Timeouts::default() };
        let (vfs, dir) = stage.second_mount(VfsOptions { timeouts, ..VfsOptions::default() }).await;
        assert_eq!(list(&vfs, cred, dir).await.len(), 1);
        mock.set_rtt(Duration::from_millis(20));
        // The beginning of the listing is asked for behind the first call's back, all of it by the second.
        let Looked::Found(found) = vfs.lookup_for_kernel(cred, dir, b"large").await.unwrap() else { panic!("large") };
        list(&vfs, cred, found.attr.ino).await;
        while !is_quiet(&vfs).await {}
        tokio::time::sleep(HOLD).await;
        let fh = vfs.opendir(cred, found.attr.ino).await.unwrap();
        let items = vfs.readdir(cred, found.attr.ino, fh, 0, true, 64 << 10).await.unwrap();
        vfs.releasedir(cred, found.attr.ino, fh).await.unwrap();
        let entry = items.last().and_then(|item| item.entry).unwrap();
        assert!(!entry.attr_ttl.is_zero(), "the attributes are old");
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

/// What is in a directory, as who also wants the attributes asks for it. Nothing has to be looked up by name.
async fn list(vfs: &Vfs, cred: &Cred, dir: u64) -> Vec<u64> {
    let fh = vfs.opendir(cred, dir).await.unwrap();
    let items = vfs.readdir(cred, dir, fh, 0, true, 64 << 10).await.unwrap();
    vfs.releasedir(cred, dir, fh).await.unwrap();
    assert!(items[2..].iter().all(|item| item.entry.is_some()));
    items.into_iter().filter(|item| *item.name != *b"." && *item.name != *b"..").map(|item| item.ino).collect()
}

/// Nothing was asked for some time.
async fn is_quiet(vfs: &Vfs) -> bool {
    let before = vfs.client().counters().compounds;
    tokio::time::sleep(Duration::from_millis(50)).await;
    vfs.client().counters().compounds == before
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_file_that_is_an_open_one_under_another_name_loses_what_was_written_before() {
    for delayed_create in [true, false] {
        let options = VfsOptions { delayed_create, ..VfsOptions::default() };
        with_options("renamed", options, async |stage| {
            let (ino, old) = stage.create("old").await;
            stage.write(ino, old, 0, b"on the server").await;
            stage.vfs.fsync(&stage.cred, ino, old, false).await.unwrap();
            let (other, dir) = stage.second_mount(stage::no_caching()).await;
            assert_eq!(stage.names(stage.dir).await, ["old"]);
            stage.write(ino, old, 0, b"these bytes are older than the truncation").await;
            other.rename(&stage.cred, dir, b"old", dir, b"new", RenameFlags::default()).await.unwrap();
            let (made, new) = make(stage, "new").await;
            stage.write(made, new, 0, b"new").await;
            stage.close(made, new).await;
            stage.close(ino, old).await;
            let there = find(&other, &stage.cred, dir, "new").await.unwrap().attr;
            assert_eq!(content(&other, &stage.cred, there.ino).await, b"new", "{delayed_create}");
            assert_eq!(stage.content(ino).await, b"new", "{delayed_create}");
            assert_eq!(other.shutdown().await, []);
        })
        .await;
    }
}

/// Times, owner and mode, each by a call of its own, as `tar` and `rsync` set them.
async fn set_all(stage: &Stage, ino: u64, mode: u32) {
    let at = TimeSet::At(Timestamp { seconds: 1_000_000, nanos: 0 });
    let sets = [
        SetAttr { mtime: Some(at), ..SetAttr::default() },
        SetAttr { uid: Some(stage.cred.uid), gid: Some(stage.cred.gid), ..SetAttr::default() },
        SetAttr { mode: Some(mode), ..SetAttr::default() },
    ];
    for set in sets {
        stage.vfs.setattr(&stage.cred, ino, None, set).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_of_a_directory_or_a_closed_file_go_out_together() {
    on_stage("together", async |stage| {
        let file = stage.file("f", b"closed").await;
        let dir = stage.vfs.mkdir(&stage.cred, stage.dir, b"d", 0o755).await.unwrap().attr.ino;
        for ino in [file, dir] {
            stage.vfs.getattr(&stage.cred, ino, None).await.unwrap();
            stage.round_trips();
            set_all(stage, ino, 0o700).await;
            let shown = stage.vfs.getattr(&stage.cred, ino, None).await.unwrap().0;
            assert_eq!((shown.mode, shown.mtime.seconds), (0o700, 1_000_000));
            let fh = stage.vfs.opendir(&stage.cred, stage.dir).await.unwrap();
            stage.vfs.fsyncdir(&stage.cred, stage.dir, fh).await.unwrap();
            assert_eq!(stage.round_trips(), 1);
        }
        let (other, dir) = stage.second_mount(stage::no_caching()).await;
        for name in ["f", "d"] {
            let there = find(&other, &stage.cred, dir, name).await.unwrap().attr;
            assert_eq!((there.mode, there.mtime.seconds), (0o700, 1_000_000), "{name}");
        }
        assert_eq!(other.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_name_does_not_wait_for_the_attributes_of_another_file() {
    const REFUSALS: u64 = 6;
    on_mock("besides", Config::new(Profile::Full), VfsOptions::default(), async |stage, mock| {
        let (vfs, cred) = (&stage.vfs, &stage.cred);
        let dir = vfs.mkdir(cred, stage.dir, b"d", 0o755).await.unwrap().attr.ino;
        let before = mock.faults_acted();
        let later = Action::Status(Nfs4Error::Delay);
        mock.add_fault(Rule { times: REFUSALS, ..Rule::once(OP_SETATTR, later) });
        set_all(stage, dir, 0o711).await;
        vfs.mkdir(cred, stage.dir, b"e", 0o755).await.unwrap();
        vfs.symlink(cred, stage.dir, b"s", b"d").await.unwrap();
        let exclusive = OpenFlags { exclusive: true, ..writing() };
        let (entry, opened) = vfs.create(cred, stage.dir, b"f", 0o644, exclusive).await.unwrap();
        assert!(mock.faults_acted() - before < REFUSALS);
        stage.close(entry.attr.ino, opened.fh).await;
        assert_eq!(vfs.current_attr(cred, dir).await.unwrap().mode, 0o711);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_depends_on_attributes_that_are_held_back_comes_after_them() {
    on_stage("after", async |stage| {
        let (vfs, cred) = (&stage.vfs, &stage.cred);
        let dir = vfs.mkdir(cred, stage.dir, b"d", 0o755).await.unwrap().attr.ino;
        let (other, root) = stage.second_mount(stage::no_caching()).await;
        set_all(stage, dir, 0o711).await;
        vfs.rename(cred, stage.dir, b"d", stage.dir, b"e", RenameFlags::default()).await.unwrap();
        assert_eq!(find(&other, cred, root, "e").await.unwrap().attr.mode, 0o711);
        set_all(stage, dir, 0o722).await;
        vfs.mkdir(cred, dir, b"inside", 0o755).await.unwrap();
        assert_eq!(find(&other, cred, root, "e").await.unwrap().attr.mode, 0o722);
        set_all(stage, dir, 0o733).await;
        assert!(stage.find("nothing").await.is_none());
        assert_eq!(stage.names(stage.dir).await, ["e"]);
        assert_eq!(find(&other, cred, root, "e").await.unwrap().attr.mode, 0o733);
        let (ino, fh) = stage.create("f").await;
        stage.close(ino, fh).await;
        set_all(stage, ino, 0o600).await;
        let read = vfs.open(cred, ino, reading()).await.unwrap();
        assert_eq!(find(&other, cred, root, "f").await.unwrap().attr.mode, 0o600);
        stage.close(ino, read.fh).await;
        set_all(stage, ino, 0o611).await;
        other.unlink(cred, root, b"f").await.unwrap();
        assert_eq!(other.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_names_of_a_directory_stay_known_when_its_attributes_are_set() {
    on_stage("stay", async |stage| {
        let (vfs, cred) = (&stage.vfs, &stage.cred);
        let dir = vfs.mkdir(cred, stage.dir, b"d", 0o755).await.unwrap().attr.ino;
        vfs.mkdir(cred, dir, b"inside", 0o755).await.unwrap();
        vfs.getattr(cred, dir, None).await.unwrap();
        set_all(stage, dir, 0o700).await;
        let fh = vfs.opendir(cred, stage.dir).await.unwrap();
        vfs.fsyncdir(cred, stage.dir, fh).await.unwrap();
        stage.round_trips();
        assert!(find(vfs, cred, dir, "inside").await.is_some());
        assert!(find(vfs, cred, dir, "nothing").await.is_none());
        assert_eq!(stage.round_trips(), 0);
    })
    .await;
}
