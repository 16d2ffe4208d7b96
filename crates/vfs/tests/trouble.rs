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
use stage::{Stage, both, content, find, on_mock, on_stage, pattern, reading, writing};
use vfs::{Errno, OpenFlags, RenameFlags, SetAttr, VfsOptions};

const OP_COMMIT: u32 = 5;
const OP_OPEN: u32 = 18;
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
async fn a_full_file_system_is_told_by_every_close_until_fsync_has_told_it_once() {
    on_mock("full", full(), VfsOptions::default(), async |stage, mock| {
        let (ino, fh) = stage.create("f").await;
        stage.write(ino, fh, 0, b"does not fit").await;
        mock.add_fault(Rule::once(OP_WRITE, Action::Status(Nfs4Error::Nospc)));
        let (vfs, cred) = (&stage.vfs, &stage.cred);
        // The first may be the close of a descriptor that a child process has inherited.
        for _ in 0..2 {
            assert_eq!(vfs.flush(cred, ino, fh, None).await.unwrap_err().errno(), Errno::NoSpc);
        }
        assert_eq!(vfs.fsync(cred, ino, fh, false).await.unwrap_err().errno(), Errno::NoSpc);
        vfs.fsync(cred, ino, fh, false).await.unwrap();
        stage.write(ino, fh, 0, b"fits").await;
        stage.close(ino, fh).await;
        assert_eq!(stage.content(ino).await, b"fits");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_failed_behind_the_callers_back_is_told_by_the_next_write_and_by_close() {
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
        // The error of a later part of one large write(2) is but a short count to the program.
        let closed = stage.vfs.flush(&stage.cred, ino, fh, None).await;
        assert_eq!(closed.unwrap_err().errno(), Errno::Dquot);
        stage.vfs.release(&stage.cred, ino, fh).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_map_is_taken_and_leaves_earlier_failures_to_close() {
    on_mock("page", full(), VfsOptions::default(), async |stage, mock| {
        let (ino, fh) = stage.create("f").await;
        stage.write(ino, fh, 0, b"does not fit").await;
        mock.add_fault(Rule::once(OP_WRITE, Action::Status(Nfs4Error::Nospc)));
        let (vfs, cred) = (&stage.vfs, &stage.cred);
        assert_eq!(vfs.flush(cred, ino, fh, None).await.unwrap_err().errno(), Errno::NoSpc);
        vfs.write_mapped(cred, ino, fh, 0, Bytes::from_static(b"page")).await.unwrap();
        assert_eq!(vfs.flush(cred, ino, fh, None).await.unwrap_err().errno(), Errno::NoSpc);
        vfs.release(cred, ino, fh).await.unwrap();
        assert!(stage.content(ino).await.starts_with(b"page"));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_written_here_tells_that_a_part_of_it_is_lost() {
    let options = VfsOptions { dirty_limit: 1 << 20, ..VfsOptions::default() };
    on_mock("copied", Config::new(Profile::S3Files), options, async |stage, mock| {
        let from = stage.file("from", &pattern(3, 4 << 20)).await;
        let from = stage.open(from, reading()).await.fh;
        let (ino, to) = stage.create("to").await;
        mock.add_fault(Rule::once(OP_WRITE, Action::Status(Nfs4Error::Nospc)));
        let copied = stage.vfs.copy(&stage.cred, (from, 0), (to, 0), 4 << 20).await;
        assert_eq!(copied.unwrap_err().errno(), Errno::NoSpc);
        stage.vfs.release(&stage.cred, ino, to).await.unwrap();
        stage.vfs.release(&stage.cred, ino, from).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_did_not_take_with_a_new_file_comes_before_whatever_follows() {
    let options = VfsOptions { dirty_limit: 10_000, ..VfsOptions::default() };
    on_mock("rest", full(), options, async |stage, mock| {
        let (vfs, cred, bytes) = (&stage.vfs, &stage.cred, pattern(4, 8000));
        let (other, dir) = stage.second_mount(stage::no_caching()).await;
        assert_eq!(stage.names(stage.dir).await, Vec::<String>::new());
        // Nothing has room while the other file is stuck.
        let stuck = Action::Status(Nfs4Error::Delay);
        mock.add_fault(Rule { name: Some(b"full".to_vec()), times: 8, ..Rule::once(OP_WRITE, stuck) });
        mock.add_fault(Rule { name: Some(b"new".to_vec()), ..Rule::once(OP_WRITE, Action::Short(1000)) });
        let (full_ino, full_fh) = stage.create("full").await;
        stage.write(full_ino, full_fh, 0, &[0; 5000]).await;
        let new = OpenFlags { truncate: true, ..writing() };
        let (made, opened) = vfs.create(cred, stage.dir, b"new", 0o644, new).await.unwrap();
        let (ino, fh) = (made.attr.ino, opened.fh);
        stage.write(ino, fh, 0, &bytes).await;
        while find(&other, cred, dir, "new").await.is_none_or(|entry| entry.attr.size < 1000) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        vfs.flush(cred, ino, fh, None).await.unwrap();
        assert!(content(&other, cred, find(&other, cred, dir, "new").await.unwrap().attr.ino).await == bytes);
        stage.close(ino, fh).await;
        stage.close(full_ino, full_fh).await;
        assert_eq!(other.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_given_up_are_not_left_in_the_kernel() {
    on_mock("given-up", full(), VfsOptions::default(), async |stage, mock| {
        let ino = stage.file("f", b"stored").await;
        let fh = stage.open(ino, both()).await.fh;
        stage.write(ino, fh, 0, b"lost").await;
        mock.add_fault(Rule::once(OP_WRITE, Action::Status(Nfs4Error::Nospc)));
        assert_eq!(stage.vfs.fsync(&stage.cred, ino, fh, false).await.unwrap_err().errno(), Errno::NoSpc);
        let again = stage.open(ino, reading()).await;
        assert!(!again.keep_cache);
        assert_eq!(stage.read(ino, again.fh, 0, 100).await, b"stored");
        stage.close(ino, again.fh).await;
        stage.close(ino, fh).await;
    })
    .await;
}

/// A rule that holds OPENs of a file back for some time.
fn late_open() -> Rule {
    Rule { times: 3, ..Rule::once(OP_OPEN, Action::Status(Nfs4Error::Delay)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_removed_while_it_is_being_opened_stays_for_who_opens_it() {
    on_mock("opening", Config::new(Profile::S3Files), VfsOptions::default(), async |stage, mock| {
        let bytes = pattern(5, 300_000);
        stage.file("removed", &bytes).await;
        stage.file("replaced", &bytes).await;
        stage.file("new", b"new").await;
        let (vfs, dir) = stage.second_mount(VfsOptions::default()).await;
        assert_eq!(stage::names(&vfs, &stage.cred, dir).await, ["new", "removed", "replaced"]);
        for name in ["removed", "replaced"] {
            let ino = find(&vfs, &stage.cred, dir, name).await.unwrap().attr.ino;
            mock.set_rtt(Duration::from_millis(100));
            let (opening, cred) = (vfs.clone(), stage.cred.clone());
            let open = tokio::spawn(async move { opening.open(&cred, ino, reading()).await });
            tokio::time::sleep(Duration::from_millis(70)).await;
            match name {
                "removed" => vfs.unlink(&stage.cred, dir, b"removed").await.unwrap(),
                _ => vfs.rename(&stage.cred, dir, b"new", dir, b"replaced", RenameFlags::default()).await.unwrap(),
            }
            mock.set_rtt(Duration::ZERO);
            let fh = open.await.unwrap().unwrap().fh;
            let read = vfs.read(&stage.cred, ino, fh, 200_000, 1000).await.unwrap().concat();
            assert!(read == bytes[200_000..201_000], "{name}");
            stage::close(&vfs, &stage.cred, ino, fh).await;
        }
        assert_eq!(stage::names(&vfs, &stage.cred, dir).await, ["replaced"]);
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_removed_during_an_open_that_fails_is_gone() {
    on_mock("open-fails", Config::new(Profile::S3Files), VfsOptions::default(), async |stage, mock| {
        let (vfs, cred) = (&stage.vfs, &stage.cred);
        let sub = vfs.mkdir(cred, stage.dir, b"sub", 0o755).await.unwrap().attr.ino;
        let (made, opened) = vfs.create(cred, sub, b"f", 0o644, OpenFlags { exclusive: true, ..both() }).await.unwrap();
        let ino = made.attr.ino;
        stage.close(ino, opened.fh).await;
        mock.add_fault(late_open());
        mock.add_fault(Rule::once(OP_OPEN, Action::Status(Nfs4Error::Io)));
        let (open, ()) = tokio::join!(vfs.open(cred, ino, reading()), async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            vfs.unlink(cred, sub, b"f").await.unwrap();
        });
        assert!(open.is_err());
        vfs.rmdir(cred, stage.dir, b"sub").await.unwrap();
    })
    .await;
}
