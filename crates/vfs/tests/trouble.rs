//! What goes wrong: lost connections, restarts, full disks, lost leases. Nothing that was promised gets lost, and what
//! could not be kept is told to whom it belongs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stage;

use std::time::Duration;

use bytes::Bytes;
use mock_mount_target::nfs::faults::{Action, Rule};
use mock_mount_target::nfs::{Config, Profile};
use mock_mount_target::{MockHandle, On, WireAction, WireRule};
use nfs4_client::Nfs4Error;
use stage::{Stage, content, find, on_mock, on_stage, pattern, writing};
use vfs::{Errno, OpenFlags, RenameFlags, SetAttr, VfsOptions};

const OP_COMMIT: u32 = 5;
const OP_READ: u32 = 25;
const OP_SETATTR: u32 = 34;
const OP_WRITE: u32 = 38;

fn full() -> Config {
    Config::new(Profile::Full)
}

#[tokio::test(flavor = "multi_thread")]
async fn uncommitted_bytes_are_written_again_when_the_server_loses_them() {
    on_mock("rewritten", full(), VfsOptions::default(), async |stage, mock| {
        let bytes = pattern(1, 5 << 20);
        let (ino, fh) = stage.create("f").await;
        stage.write(ino, fh, 0, &bytes[..3 << 20]).await;
        stage.write(ino, fh, 3 << 20, &bytes[3 << 20..]).await;
        for _ in 0..100 {
            if mock.count_of("WRITE") >= 5 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        mock.lose_unstable();
        stage.close(ino, fh).await;
        mock.lose_unstable();
        let (vfs, dir) = stage.second_mount(VfsOptions::default()).await;
        let ino = find(&vfs, &stage.cred, dir, "f").await.unwrap().attr.ino;
        assert!(content(&vfs, &stage.cred, ino).await == bytes);
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_copy_loses_nothing() {
    on_mock("restart", full(), VfsOptions::default(), async |stage, mock| {
        let bytes = pattern(2, 6 << 20);
        let (ino, fh) = stage.create("f").await;
        for (index, part) in bytes.chunks(256 << 10).enumerate() {
            if index % 8 == 5 {
                mock.restart(true);
            }
            stage.write(ino, fh, (index * (256 << 10)) as u64, part).await;
        }
        stage.close(ino, fh).await;
        mock.lose_unstable();
        let (vfs, dir) = stage.second_mount(VfsOptions::default()).await;
        let ino = find(&vfs, &stage.cred, dir, "f").await.unwrap().attr.ino;
        assert!(content(&vfs, &stage.cred, ino).await == bytes);
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_are_not_noticed() {
    on_mock("cut", full(), VfsOptions::default(), async |stage, mock| {
        let bytes = pattern(3, 4 << 20);
        for at in [1 << 20, 2 << 20, 3 << 20] {
            mock.add_wire_fault(WireRule::once(On::BytesIn(at), WireAction::CutBefore));
        }
        let ino = stage.file("f", &bytes).await;
        mock.add_wire_fault(WireRule::once(On::Operation(OP_READ), WireAction::CutBefore));
        assert!(stage.content(ino).await == bytes);
        mock.cut_all();
        assert_eq!(stage.names(stage.dir).await, ["f"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_system_is_told_once_by_close() {
    on_mock("full", full(), VfsOptions::default(), async |stage, mock| {
        let (ino, fh) = stage.create("f").await;
        stage.write(ino, fh, 0, b"does not fit").await;
        mock.add_fault(Rule::once(OP_WRITE, Action::Status(Nfs4Error::Nospc)));
        let (vfs, cred) = (&stage.vfs, &stage.cred);
        assert_eq!(vfs.flush(cred, ino, fh, None).await.unwrap_err().errno(), Errno::NoSpc);
        vfs.flush(cred, ino, fh, None).await.unwrap();
        stage.write(ino, fh, 0, b"fits").await;
        stage.close(ino, fh).await;
        assert_eq!(stage.content(ino).await, b"fits");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_failed_behind_the_callers_back_is_told_by_the_next_write() {
    let options = VfsOptions { dirty_age: Duration::from_millis(10), ..VfsOptions::default() };
    on_mock("next", full(), options, async |stage, mock| {
        let (ino, fh) = stage.create("f").await;
        mock.add_fault(Rule::once(OP_WRITE, Action::Status(Nfs4Error::Dquot)));
        stage.write(ino, fh, 0, b"too much").await;
        let write = async || stage.vfs.write(&stage.cred, ino, fh, 8, Bytes::from_static(b"more")).await;
        let mut errors = Vec::new();
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            errors.extend(write().await.err().map(|error| error.errno()));
        }
        assert_eq!(errors, [Errno::Dquot]);
        stage.close(ino, fh).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_fails_the_fsync() {
    on_mock("commit", full(), VfsOptions::default(), async |stage, mock| {
        let (ino, fh) = stage.create("f").await;
        stage.write(ino, fh, 0, &pattern(4, 2 << 20)).await;
        stage.write(ino, fh, 2 << 20, &pattern(4, 2 << 20)).await;
        mock.add_fault(Rule::once(OP_COMMIT, Action::Status(Nfs4Error::Io)));
        let (vfs, cred) = (&stage.vfs, &stage.cred);
        assert_eq!(vfs.fsync(cred, ino, fh, false).await.unwrap_err().errno(), Errno::Io);
        vfs.fsync(cred, ino, fh, false).await.unwrap();
        stage.close(ino, fh).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn short_reads_and_writes_are_gone_on_with() {
    on_mock("short", full(), VfsOptions::default(), async |stage, mock| {
        let bytes = pattern(5, 300_000);
        mock.add_fault(Rule { times: 3, ..Rule::once(OP_WRITE, Action::Short(1000)) });
        let ino = stage.file("f", &bytes).await;
        let (vfs, dir) = stage.second_mount(VfsOptions::default()).await;
        mock.add_fault(Rule { times: 3, ..Rule::once(OP_READ, Action::Short(777)) });
        let other = find(&vfs, &stage.cred, dir, "f").await.unwrap().attr.ino;
        assert_eq!(other, ino);
        assert!(content(&vfs, &stage.cred, other).await == bytes);
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncation_that_is_refused_leaves_what_was_written() {
    on_mock("refused", full(), VfsOptions::default(), async |stage, mock| {
        let (ino, fh) = stage.create("f").await;
        stage.write(ino, fh, 0, b"0123456789").await;
        mock.add_fault(Rule::once(OP_SETATTR, Action::Status(Nfs4Error::Access)));
        let cut = SetAttr { size: Some(4), ..SetAttr::default() };
        assert_eq!(stage.vfs.setattr(&stage.cred, ino, Some(fh), cut).await.unwrap_err().errno(), Errno::Access);
        assert_eq!(stage.read(ino, fh, 0, 100).await, b"0123456789");
        stage.close(ino, fh).await;
        assert_eq!(stage.content(ino).await, b"0123456789");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_written_while_a_flush_is_under_way_are_not_forgotten() {
    on_mock("during", full(), VfsOptions::default(), async |stage, mock| {
        let (ino, fh) = stage.create("f").await;
        stage.write(ino, fh, 0, b"first").await;
        mock.set_rtt(Duration::from_millis(100));
        let (vfs, cred) = (stage.vfs.clone(), stage.cred.clone());
        let flush = tokio::spawn(async move { vfs.fsync(&cred, ino, fh, false).await });
        tokio::time::sleep(Duration::from_millis(30)).await;
        stage.write(ino, fh, 2, b"RS").await;
        flush.await.unwrap().unwrap();
        mock.set_rtt(Duration::ZERO);
        assert_eq!(stage.read(ino, fh, 0, 100).await, b"fiRSt");
        stage.close(ino, fh).await;
        mock.lose_unstable();
        let (vfs, dir) = stage.second_mount(VfsOptions::default()).await;
        let ino = find(&vfs, &stage.cred, dir, "f").await.unwrap().attr.ino;
        assert_eq!(content(&vfs, &stage.cred, ino).await, b"fiRSt");
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_does_not_lose_open_files() {
    on_mock("lease", full(), VfsOptions::default(), async |stage, mock| {
        let (ino, fh) = stage.create("f").await;
        stage.write(ino, fh, 0, b"before ").await;
        stage.vfs.fsync(&stage.cred, ino, fh, false).await.unwrap();
        mock.revoke_all_state(Nfs4Error::Expired);
        stage.write(ino, fh, 7, b"and after").await;
        stage.close(ino, fh).await;
        assert_eq!(stage.content(ino).await, b"before and after");
        let opened = stage.open(ino, writing()).await;
        stage.close(ino, opened.fh).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_at_the_end_is_named() {
    let server = stage::Server::mock(full()).await;
    let stage::Server::Mock(mock) = &server else { unreachable!("it is one") };
    let vfs = server.mount(VfsOptions::default()).await;
    let cred = vfs::Cred::new(0, 0);
    let (entry, opened) = vfs.create(&cred, 1, b"lost", 0o644, writing()).await.unwrap();
    vfs.write(&cred, entry.attr.ino, opened.fh, 0, Bytes::from_static(b"12345")).await.unwrap();
    mock.add_fault(Rule::once(OP_WRITE, Action::Status(Nfs4Error::Nospc)));
    let unwritten = tokio::time::timeout(Duration::from_secs(60), vfs.shutdown()).await.unwrap();
    assert_eq!(unwritten.len(), 1);
    assert_eq!((unwritten[0].name.as_deref(), unwritten[0].bytes), (Some(&b"lost"[..]), 5));
    assert_eq!(unwritten[0].errno, Errno::NoSpc);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_rename_leaves_an_open_target_as_it_was() {
    on_stage("refused", async |stage| {
        let old = stage.file("target", b"old").await;
        stage.file("source", b"new").await;
        let opened = stage.open(old, writing()).await;
        let (other, dir) = stage.second_mount(stage::no_caching()).await;
        // Known here, and not there any more.
        assert_eq!(stage.names(stage.dir).await, ["source", "target"]);
        other.unlink(&stage.cred, dir, b"source").await.unwrap();
        let how = RenameFlags::default();
        let renamed = stage.vfs.rename(&stage.cred, stage.dir, b"source", stage.dir, b"target", how).await;
        assert_eq!(renamed.unwrap_err().errno(), Errno::NoEnt);
        assert_eq!(stage.find("target").await.unwrap().attr.ino, old);
        stage.write(old, opened.fh, 3, b" and more").await;
        stage.close(old, opened.fh).await;
        let ino = find(&other, &stage.cred, dir, "target").await.unwrap().attr.ino;
        assert_eq!(content(&other, &stage.cred, ino).await, b"old and more");
        assert_eq!(stage::names(&other, &stage.cred, dir).await, ["target"]);
        assert_eq!(other.shutdown().await, []);
    })
    .await;
}

/// A rule that holds WRITEs of a byte back for some time.
fn late(offset: u64, times: u64) -> Rule {
    Rule { offset: Some(offset), times, ..Rule::once(OP_WRITE, Action::Status(Nfs4Error::Delay)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_through_anothers_open_arrives_although_that_is_closed_meanwhile() {
    const FAR: u64 = 8 << 20;
    on_mock("others", full(), VfsOptions::default(), async |stage, mock| {
        let (ino, first) = stage.create("f").await;
        let second = stage.open(ino, writing()).await.fh;
        let bytes = pattern(6, 1 << 20);
        stage.write(ino, first, 0, b"first").await;
        mock.add_fault(late(0, 3));
        mock.add_fault(late(FAR, 6));
        // The first waits for its own bytes only; those of the second fill a WRITE and go at once, as the first.
        let (closed, ()) = tokio::join!(stage.vfs.release(&stage.cred, ino, first), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            stage.write(ino, second, FAR, &bytes).await;
        });
        closed.unwrap();
        stage.close(ino, second).await;
        assert!(stage.content(ino).await.ends_with(&bytes));
    })
    .await;
}

/// Cuts a file to nothing, which takes the server a while and comes out as `status` says.
async fn cut_slowly(stage: &Stage, mock: &MockHandle, ino: u64, status: Option<Nfs4Error>) -> vfs::Result<()> {
    mock.add_fault(Rule { times: 3, ..Rule::once(OP_SETATTR, Action::Status(Nfs4Error::Delay)) });
    if let Some(status) = status {
        mock.add_fault(Rule::once(OP_SETATTR, Action::Status(status)));
    }
    let set = SetAttr { size: Some(0), ..SetAttr::default() };
    stage.vfs.setattr(&stage.cred, ino, None, set).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_closed_while_a_truncation_is_under_way_survives_its_refusal() {
    on_mock("refused", full(), VfsOptions::default(), async |stage, mock| {
        let (ino, fh) = stage.create("f").await;
        stage.write(ino, fh, 0, b"not to be lost").await;
        let (cut, ()) = tokio::join!(cut_slowly(stage, mock, ino, Some(Nfs4Error::Access)), async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            stage.close(ino, fh).await;
        });
        assert_eq!(cut.unwrap_err().errno(), Errno::Access);
        let (other, dir) = stage.second_mount(VfsOptions::default()).await;
        let ino = find(&other, &stage.cred, dir, "f").await.unwrap().attr.ino;
        assert_eq!(content(&other, &stage.cred, ino).await, b"not to be lost");
        assert_eq!(other.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_appended_during_a_truncation_is_appended_to_what_is_left() {
    on_mock("appended", full(), VfsOptions::default(), async |stage, mock| {
        let ino = stage.file("log", &pattern(1, 5000)).await;
        let fh = stage.open(ino, OpenFlags { append: true, ..writing() }).await.fh;
        let (cut, ()) = tokio::join!(cut_slowly(stage, mock, ino, None), async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            stage.write(ino, fh, 0, b"a line").await;
        });
        cut.unwrap();
        stage.close(ino, fh).await;
        assert!(stage.content(ino).await == b"a line");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_a_truncation_by_another_name_is_not_sent_again() {
    on_mock("again", full(), VfsOptions::default(), async |stage, mock| {
        let (ino, old) = stage.create("old").await;
        stage.write(ino, old, 0, &pattern(2, 2 << 20)).await;
        while mock.count_of("WRITE") < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (other, dir) = stage.second_mount(stage::no_caching()).await;
        assert_eq!(stage.names(stage.dir).await, ["old"]);
        other.rename(&stage.cred, dir, b"old", dir, b"new", RenameFlags::default()).await.unwrap();
        let flags = OpenFlags { truncate: true, ..writing() };
        let (made, opened) = stage.vfs.create(&stage.cred, stage.dir, b"new", 0o644, flags).await.unwrap();
        mock.lose_unstable();
        stage.write(made.attr.ino, opened.fh, 0, b"new").await;
        stage.close(made.attr.ino, opened.fh).await;
        stage.close(ino, old).await;
        let there = find(&other, &stage.cred, dir, "new").await.unwrap().attr;
        assert!(content(&other, &stage.cred, there.ino).await == b"new");
        assert_eq!(other.shutdown().await, []);
    })
    .await;
}
