//! The client against a real NFSv4.1/4.2 server, named by `S3FILES_TEST_NFS` (`127.0.0.1:PORT/export`); without it
//! these tests say so and pass. `cargo xtask real-server` sets it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod relay;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mount_target::{ChannelOptions, Connector};
use nfs4_client::{
    Access, Along, Client, ClientOptions, Committed, Create, Cred, Errno, Handle, LockKind, LockRange, NewNode,
    OpenAccess, OpenFile, OpenHow, SeekWhat, SetAttr, Stability, XattrSet,
};
use relay::Relay;

const LIMIT: Duration = Duration::from_secs(60);

struct Server {
    relay: Relay,
    root: Vec<Vec<u8>>,
}

impl Server {
    async fn start() -> Option<Self> {
        let Ok(target) = std::env::var("S3FILES_TEST_NFS") else {
            eprintln!("skipped: S3FILES_TEST_NFS names no server");
            return None;
        };
        let (addr, path) = target.split_once('/').unwrap_or((&target, ""));
        let relay = Relay::start(addr.parse().unwrap()).await;
        let root = path.split('/').filter(|name| !name.is_empty()).map(|name| name.as_bytes().to_vec()).collect();
        Some(Self { relay, root })
    }

    async fn client(&self) -> Client {
        let dial = Connector::plain(self.relay.addr, ChannelOptions::default()).unwrap();
        let options = ClientOptions { root: self.root.clone(), ..ClientOptions::default() };
        Client::connect(Arc::new(dial), options).await.unwrap()
    }
}

/// A client in a directory of its own, which is removed at the end.
async fn in_a_directory<F, R>(name: &str, test: F)
where
    F: AsyncFnOnce(&Server, &Client, Handle) -> R,
{
    let Some(server) = Server::start().await else { return };
    let run = async {
        let client = server.client().await;
        let name = format!("{name}-{}", std::process::id());
        let root = client.root().0.clone();
        let dir = client.create(&cred(), &root, name.as_bytes(), NewNode::Directory, mode(0o755)).await.unwrap().handle;
        test(&server, &client, dir.clone()).await;
        empty(&client, &dir).await;
        client.remove(&cred(), &root, name.as_bytes()).await.unwrap();
        client.shutdown().await;
    };
    tokio::time::timeout(LIMIT, run).await.expect("the test takes too long");
}

async fn empty(client: &Client, dir: &Handle) {
    for (name, _) in list(client, dir).await {
        client.remove(&cred(), dir, &name).await.unwrap();
    }
}

async fn list(client: &Client, dir: &Handle) -> Vec<(Bytes, u64)> {
    let (mut cookie, mut verifier, mut found) = (0, [0; 8], Vec::new());
    loop {
        let page = client.readdir(&cred(), dir, cookie, verifier, u32::MAX).await.unwrap();
        (cookie, verifier) = (page.entries.last().map_or(cookie, |entry| entry.cookie), page.verifier);
        found.extend(page.entries.into_iter().map(|entry| (entry.name, entry.file.unwrap().1.size)));
        if page.eof {
            return found;
        }
    }
}

fn cred() -> Cred {
    Cred::new(0, 0)
}

fn mode(mode: u32) -> SetAttr {
    SetAttr { mode: Some(mode), ..SetAttr::default() }
}

fn new_file() -> OpenHow {
    OpenHow { access: OpenAccess::Both, create: Some(Create::Exclusive(mode(0o644))), truncate: false }
}

fn existing(access: OpenAccess) -> OpenHow {
    OpenHow { access, create: None, truncate: false }
}

async fn read_all(client: &Client, file: &OpenFile) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let read = client.read(file, bytes.len() as u64, 1 << 20).await.unwrap();
        bytes.extend_from_slice(&read.data);
        if read.eof {
            return bytes;
        }
    }
}

/// Sends a pattern in pieces, all at once, and returns it.
async fn write_pattern(client: &Client, file: &OpenFile, pieces: u64, piece: usize) -> Vec<u8> {
    let pattern: Vec<u8> = (0..pieces as usize * piece).map(|at| (at * 31 + at / 251) as u8).collect();
    let writes = pattern.chunks(piece).enumerate().map(|(index, bytes)| {
        let (client, file, bytes) = (client.clone(), file.clone(), Bytes::copy_from_slice(bytes));
        tokio::spawn(async move {
            let offset = index as u64 * bytes.len() as u64;
            let written = client.write(&file, offset, vec![bytes.clone()], Stability::Unstable, None).await.unwrap();
            assert_eq!(written.count as usize, bytes.len());
            written.verifier
        })
    });
    let mut verifiers = Vec::new();
    for write in writes.collect::<Vec<_>>() {
        verifiers.push(write.await.unwrap());
    }
    let Committed { verifier, attr, .. } = client.commit(&cred(), file.handle(), 0, 0, None).await.unwrap();
    assert!(verifiers.iter().all(|other| *other == verifier), "the server lost what was not committed");
    assert_eq!(attr.size, pattern.len() as u64);
    pattern
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_read_back() {
    in_a_directory("written", async |_, client, dir| {
        let opened = client.open(&cred(), &dir, b"file", new_file()).await.unwrap();
        let pattern = write_pattern(client, &opened.file, 40, 100_000).await;
        assert!(read_all(client, &opened.file).await == pattern);
        client.close(&opened.file).await.unwrap();
        assert_eq!(list(client, &dir).await, [(Bytes::from_static(b"file"), pattern.len() as u64)]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_come_and_go() {
    in_a_directory("names", async |_, client, dir| {
        let cred = cred();
        let made = client.create(&cred, &dir, b"sub", NewNode::Directory, mode(0o700)).await.unwrap();
        let link = NewNode::Symlink(Bytes::from_static(b"sub/x"));
        let linked = client.create(&cred, &dir, b"link", link, SetAttr::default()).await.unwrap();
        assert_eq!(client.readlink(&cred, &linked.handle).await.unwrap(), "sub/x");
        let opened = client.open(&cred, &made.handle, b"x", new_file()).await.unwrap();
        client.close(&opened.file).await.unwrap();
        let again = client.open(&cred, &made.handle, b"x", new_file()).await.unwrap_err();
        assert_eq!(again.errno(), Errno::Exist);
        client.rename(&cred, &made.handle, b"x", &dir, b"y").await.unwrap();
        assert!(client.lookup(&cred, &made.handle, b"x", Along::Nothing).await.unwrap().entry.is_none());
        let found = client.lookup(&cred, &dir, b"y", Along::Nothing).await.unwrap().entry.unwrap();
        assert_eq!(found.handle, *opened.file.handle());
        let (granted, _) = client.access(&cred, &found.handle, Access::READ.and(Access::MODIFY)).await.unwrap();
        assert_eq!(granted, Access::READ.and(Access::MODIFY));
        let sized = SetAttr { size: Some(77), ..SetAttr::default() };
        assert_eq!(client.setattr(&cred, &found.handle, None, sized).await.unwrap().size, 77);
        assert!(client.statfs(&cred, &dir).await.unwrap().total_bytes > 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_names_come_in_one_listing_with_their_sizes() {
    in_a_directory("thousand", async |_, client, dir| {
        for index in 0..1000 {
            let name = format!("file-{index}");
            let opened = client.open(&cred(), &dir, name.as_bytes(), new_file()).await.unwrap();
            client.close(&opened.file).await.unwrap();
        }
        let before = client.counters().compounds;
        assert_eq!(list(client, &dir).await.len(), 1000);
        assert!(client.counters().compounds - before <= 5);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_are_not_noticed() {
    in_a_directory("cut", async |server, client, dir| {
        let opened = client.open(&cred(), &dir, b"file", new_file()).await.unwrap();
        for cut_after in [0, 50, 1_000, 70_000, 300_000, 1_000_000] {
            server.relay.cut_after(cut_after);
            let pattern = write_pattern(client, &opened.file, 40, 50_000).await;
            server.relay.cut_after(cut_after / 2);
            assert!(read_all(client, &opened.file).await == pattern);
        }
        client.close(&opened.file).await.unwrap();
        assert!(client.counters().connections >= 7, "{:?}", client.counters());
        assert_eq!(client.counters().sessions, 1, "the session is kept");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_happen_once_happens_once_over_cut_connections() {
    in_a_directory("once", async |server, client, dir| {
        for index in 0..60_i64 {
            let name = format!("file-{index}");
            server.relay.cut_after(index * 20);
            let opened = client.open(&cred(), &dir, name.as_bytes(), new_file()).await.unwrap();
            server.relay.cut_after(index * 20);
            client.rename(&cred(), &dir, name.as_bytes(), &dir, b"other").await.unwrap();
            server.relay.cut_after(index * 20);
            client.remove(&cred(), &dir, b"other").await.unwrap();
            server.relay.cut();
            client.close(&opened.file).await.unwrap();
        }
        assert_eq!(list(client, &dir).await, []);
        assert_eq!(client.counters().sessions, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_by_handle_reads_what_another_client_wrote() {
    in_a_directory("other", async |server, client, dir| {
        let other = server.client().await;
        let written = other.open(&cred(), &dir, b"file", new_file()).await.unwrap();
        other.write(&written.file, 3, vec![Bytes::from_static(b"abc")], Stability::FileSync, None).await.unwrap();
        other.close(&written.file).await.unwrap();
        let before = client.counters().compounds;
        let opened =
            client.open_and_read(&cred(), written.file.handle(), None, OpenAccess::Read, 65_536).await.unwrap();
        assert_eq!(client.counters().compounds - before, 1, "an open with its data is one round trip");
        assert_eq!(opened.attr.size, 6);
        assert!(opened.rights.unwrap().contains(Access::READ));
        let data = opened.data.unwrap();
        assert!(data.eof && data.data == b"\0\0\0abc"[..]);
        assert_eq!(read_all(client, &opened.file).await, b"\0\0\0abc");
        client.close(&opened.file).await.unwrap();
        let named = client.open(&cred(), &dir, b"file", existing(OpenAccess::Write)).await.unwrap();
        client.close(&named.file).await.unwrap();
        other.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_are_made_and_found() {
    in_a_directory("holes", async |_, client, dir| {
        let file = client.open(&cred(), &dir, b"file", new_file()).await.unwrap().file;
        let data = vec![Bytes::from(vec![7; 300_000])];
        client.write(&file, 0, data, Stability::FileSync, None).await.unwrap();
        match client.deallocate(&file, 65_536, 65_536).await {
            Ok(attr) => assert_eq!(attr.size, 300_000),
            Err(error) => {
                assert_eq!(error.errno(), Errno::NotSup);
                return client.close(&file).await.unwrap();
            }
        }
        assert_eq!(client.seek(&file, 0, SeekWhat::Hole).await.unwrap(), Some(65_536));
        assert_eq!(client.seek(&file, 70_000, SeekWhat::Data).await.unwrap(), Some(131_072));
        assert_eq!(client.seek(&file, 200_000, SeekWhat::Hole).await.unwrap(), Some(300_000));
        assert_eq!(client.seek(&file, 300_000, SeekWhat::Data).await.unwrap(), None);
        assert_eq!(client.allocate(&file, 300_000, 100_000).await.unwrap().size, 400_000);
        assert!(read_all(client, &file).await[65_536..131_072].iter().all(|byte| *byte == 0));
        client.close(&file).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_within_the_server_is_whole_or_refused() {
    in_a_directory("copy", async |_, client, dir| {
        let source = client.open(&cred(), &dir, b"source", new_file()).await.unwrap().file;
        let target = client.open(&cred(), &dir, b"target", new_file()).await.unwrap().file;
        let pattern = write_pattern(client, &source, 2, 50_000).await;
        match client.copy(&source, 0, &target, 0, pattern.len() as u64).await {
            Ok(copied) => {
                client.commit(&cred(), target.handle(), 0, 0, None).await.unwrap();
                assert!(read_all(client, &target).await == pattern[..usize::try_from(copied.count).unwrap()]);
            }
            Err(error) => assert_eq!(error.errno(), Errno::NotSup),
        }
        client.close(&source).await.unwrap();
        client.close(&target).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn extended_attributes_are_kept_or_refused() {
    in_a_directory("xattrs", async |_, client, dir| {
        let value = Bytes::from_static(b"value");
        match client.setxattr(&cred(), &dir, b"name", value.clone(), XattrSet::Create).await {
            Ok(_) => {
                assert_eq!(client.getxattr(&cred(), &dir, b"name").await.unwrap().1, Some(value));
                assert_eq!(client.listxattrs(&cred(), &dir).await.unwrap().1, ["name"]);
                client.removexattr(&cred(), &dir, b"name").await.unwrap();
                assert_eq!(client.getxattr(&cred(), &dir, b"name").await.unwrap().1, None);
            }
            Err(error) => assert_eq!(error.errno(), Errno::NotSup),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_keep_others_out_and_never_their_owner() {
    in_a_directory("locks", async |server, client, dir| {
        let file = client.open(&cred(), &dir, b"file", new_file()).await.unwrap().file;
        let (low, high) = (LockRange { first: 0, last: 99 }, LockRange { first: 50, last: u64::MAX });
        assert_eq!(client.lock(&file, 1, low, LockKind::Write).await.unwrap().conflict(), None);
        assert_eq!(client.lock(&file, 1, high, LockKind::Write).await.unwrap().conflict(), None);
        let denied = client.lock(&file, 2, high, LockKind::Read).await.unwrap().conflict().unwrap();
        assert_eq!(denied.kind, LockKind::Write);
        let other = server.client().await;
        let theirs = other.open_handle(&cred(), file.handle(), OpenAccess::Both).await.unwrap().file;
        assert!(other.test_lock(&theirs, 1, low, LockKind::Read).await.unwrap().is_some());
        client.unlock(&file, 1, low).await.unwrap();
        assert_eq!(other.lock(&theirs, 1, low, LockKind::Write).await.unwrap().conflict(), None);
        assert!(client.lock(&file, 1, low, LockKind::Read).await.unwrap().conflict().is_some());
        other.unlock(&theirs, 1, LockRange::ALL).await.unwrap();
        client.unlock(&file, 1, LockRange::ALL).await.unwrap();
        assert_eq!(client.lock(&file, 2, low, LockKind::Write).await.unwrap().conflict(), None);
        client.unlock(&file, 2, LockRange::ALL).await.unwrap();
        client.unlock(&file, 3, LockRange::ALL).await.unwrap();
        assert!(!file.holds_locks(2));
        assert_eq!(other.lock(&theirs, 2, LockRange::ALL, LockKind::Write).await.unwrap().conflict(), None);
        other.unlock(&theirs, 2, LockRange::ALL).await.unwrap();
        // A forgotten owner may come again.
        assert_eq!(client.lock(&file, 2, high, LockKind::Write).await.unwrap().conflict(), None);
        client.unlock(&file, 2, LockRange::ALL).await.unwrap();
        other.close(&theirs).await.unwrap();
        other.shutdown().await;
        client.close(&file).await.unwrap();
    })
    .await;
}

async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    while !holds().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_client_keeps_its_connection_after_a_cut() {
    in_a_directory("idle", async |server, client, _| {
        server.relay.cut();
        until(async || client.counters().connections >= 2).await;
        client.getattr(&cred(), &client.root().0).await.unwrap();
    })
    .await;
}

/// `S3FILES_TEST_NFS_RESTART` is a shell command that restarts the server.
async fn restart() -> bool {
    let Ok(command) = std::env::var("S3FILES_TEST_NFS_RESTART") else {
        eprintln!("skipped: S3FILES_TEST_NFS_RESTART says nothing");
        return false;
    };
    let status = tokio::task::spawn_blocking(move || {
        std::process::Command::new("sh").arg("-c").arg(command).stdout(std::process::Stdio::null()).status()
    });
    assert!(status.await.unwrap().unwrap().success(), "the server could not be restarted");
    true
}

/// Restarts the server under everybody's feet, so it is run alone. The server must have a grace period.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "restarts the server; run with --ignored and --test-threads 1"]
async fn open_files_survive_a_restart_of_the_server() {
    in_a_directory("restart", async |_, client, dir| {
        let mut files = Vec::new();
        for index in 0..40 {
            let name = format!("file-{index}");
            let file = client.open(&cred(), &dir, name.as_bytes(), new_file()).await.unwrap().file;
            assert_eq!(client.lock(&file, 1, LockRange::ALL, LockKind::Write).await.unwrap().conflict(), None);
            files.push(file);
        }
        for round in 0..2_u8 {
            if !restart().await {
                break;
            }
            for file in &files {
                let data = vec![Bytes::from(vec![round; 100])];
                client.write(file, u64::from(round) * 100, data, Stability::FileSync, None).await.unwrap();
            }
            assert_eq!(client.counters().sessions, 2 + u64::from(round));
        }
        for file in &files {
            assert_eq!(read_all(client, file).await.len() % 100, 0);
            assert!(file.holds_locks(1) && !file.lost_locks(), "a lock is lost though the server had a grace period");
            client.unlock(file, 1, LockRange::ALL).await.unwrap();
            client.close(file).await.unwrap();
        }
        assert_eq!(list(client, &dir).await.len(), 40);
    })
    .await;
}
