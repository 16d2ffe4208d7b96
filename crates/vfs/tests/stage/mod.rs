//! A mount for a test: on the mock, once as S3 Files is and once as a whole NFSv4.2 server is; or on the server named by
//! `S3FILES_TEST_NFS` (`127.0.0.1:PORT/export`). Each test has a directory of its own. On the mock, the referee has the
//! last word.
#![allow(dead_code)] // each test file uses a part of it

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mock_mount_target::nfs::{Config, Profile};
use mock_mount_target::{MockHandle, MockServer};
use mount_target::{ChannelOptions, Connector};
use nfs4_client::{Client, ClientOptions};
use vfs::{Cred, Entry, Fh, Looked, OpenFlags, Opened, ROOT_INO, Timeouts, Vfs, VfsOptions};

const LIMIT: Duration = Duration::from_secs(120);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A server, and one mount of it.
pub struct Stage {
    pub server: Server,
    pub vfs: Vfs,
    pub cred: Cred,
    /// The test's own directory.
    pub dir: u64,
    name: String,
    counted: AtomicU64,
}

#[derive(Clone)]
pub enum Server {
    Real { address: std::net::SocketAddr, root: Vec<Vec<u8>> },
    Mock(Arc<MockHandle>),
}

impl Server {
    /// The one named by the environment.
    fn real() -> Option<Self> {
        let target = std::env::var("S3FILES_TEST_NFS").ok()?;
        let (address, path) = target.split_once('/').unwrap_or((&target, ""));
        let root = path.split('/').filter(|name| !name.is_empty()).map(|name| name.as_bytes().to_vec()).collect();
        Some(Self::Real { address: address.parse().unwrap(), root })
    }

    pub async fn mock(config: Config) -> Self {
        Self::Mock(Arc::new(MockServer::builder().config(config).start().await.unwrap()))
    }

    pub async fn mount(&self, options: VfsOptions) -> Vfs {
        let (dial, root) = match self {
            Self::Real { address, root } => {
                (Connector::plain(*address, ChannelOptions::default()).unwrap(), root.clone())
            }
            Self::Mock(mock) => {
                let mock = Arc::clone(mock);
                let dial = move || Ok(mock.connect_in_memory());
                (Connector::in_memory(dial, ChannelOptions::default()), Vec::new())
            }
        };
        let client = ClientOptions { root, ..ClientOptions::default() };
        let vfs = Vfs::new(Client::connect(Arc::new(dial), client).await.unwrap(), options);
        // What a mount asks on its own is not to be counted as the test's.
        let before = vfs.client().counters().compounds;
        names(&vfs, &Cred::new(0, 0), ROOT_INO).await;
        while vfs.statfs().total_bytes == 0 && vfs.client().counters().compounds < before + 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        vfs
    }

    /// What the referee says when everything is unmounted.
    pub fn verdict(&self) {
        if let Self::Mock(mock) = self {
            assert_eq!(mock.verdict(), Vec::<String>::new(), "the referee's list");
            mock.check_invariants().unwrap();
        }
    }
}

/// Runs a test on a mount with the usual options.
pub async fn on_stage(name: &str, test: impl AsyncFn(&Stage)) {
    with_options(name, VfsOptions::default(), test).await;
}

/// Runs a test on a mount; afterwards, everything is unmounted and nothing may be left unwritten.
pub async fn with_options(name: &str, options: VfsOptions, test: impl AsyncFn(&Stage)) {
    if let Some(server) = Server::real() {
        return run(server, name, options, &test).await;
    }
    for profile in [Profile::S3Files, Profile::Full] {
        run(Server::mock(Config::new(profile)).await, name, options.clone(), &test).await;
    }
}

/// Runs a test on a mock of its own only: it needs what only a mock can do.
pub async fn on_mock(name: &str, config: Config, options: VfsOptions, test: impl AsyncFn(&Stage, &MockHandle)) {
    let server = Server::mock(config).await;
    let Server::Mock(mock) = server.clone() else { unreachable!("it is one") };
    run(server, name, options, &async |stage: &Stage| test(stage, &mock).await).await;
}

async fn run(server: Server, name: &str, options: VfsOptions, test: &impl AsyncFn(&Stage)) {
    let run = async {
        let cred = Cred::new(0, 0);
        let vfs = server.mount(options).await;
        let name = format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = vfs.mkdir(&cred, 1, name.as_bytes(), 0o755).await.unwrap().attr.ino;
        let stage = Stage { server, vfs, cred, dir, name, counted: AtomicU64::new(0) };
        stage.round_trips();
        test(&stage).await;
        assert_eq!(stage.vfs.shutdown().await, []);
        stage.server.verdict();
    };
    tokio::time::timeout(LIMIT, run).await.expect("the test takes too long");
}

/// Attributes are asked for again at every use.
pub fn no_caching() -> VfsOptions {
    let zero = Duration::ZERO;
    let timeouts = Timeouts { file_min: zero, file_max: zero, dir_min: zero, dir_max: zero };
    VfsOptions { timeouts, ..VfsOptions::default() }
}

pub fn reading() -> OpenFlags {
    OpenFlags { read: true, ..OpenFlags::default() }
}

pub fn writing() -> OpenFlags {
    OpenFlags { write: true, ..OpenFlags::default() }
}

pub fn both() -> OpenFlags {
    OpenFlags { read: true, write: true, ..OpenFlags::default() }
}

/// Bytes that differ at every place.
pub fn pattern(seed: u64, len: usize) -> Bytes {
    (0..len as u64).map(|at| (at.wrapping_mul(31).wrapping_add(at >> 8).wrapping_add(seed)) as u8).collect()
}

impl Stage {
    /// A second mount of the same server, and the inode of the test's directory there.
    pub async fn second_mount(&self, options: VfsOptions) -> (Vfs, u64) {
        let vfs = self.server.mount(options).await;
        let dir = find(&vfs, &self.cred, 1, &self.name).await.unwrap().attr.ino;
        (vfs, dir)
    }

    /// Requests sent since this was last asked.
    pub fn round_trips(&self) -> u64 {
        let now = self.vfs.client().counters().compounds;
        now - self.counted.swap(now, Ordering::Relaxed)
    }

    pub async fn create(&self, name: &str) -> (u64, Fh) {
        let flags = OpenFlags { exclusive: true, ..both() };
        let (entry, opened) = self.vfs.create(&self.cred, self.dir, name.as_bytes(), 0o644, flags).await.unwrap();
        (entry.attr.ino, opened.fh)
    }

    pub async fn find(&self, name: &str) -> Option<Entry> {
        find(&self.vfs, &self.cred, self.dir, name).await
    }

    pub async fn open(&self, ino: u64, flags: OpenFlags) -> Opened {
        self.vfs.open(&self.cred, ino, flags).await.unwrap()
    }

    pub async fn close(&self, ino: u64, fh: Fh) {
        close(&self.vfs, &self.cred, ino, fh).await;
    }

    pub async fn read(&self, ino: u64, fh: Fh, offset: u64, size: u32) -> Vec<u8> {
        self.vfs.read(&self.cred, ino, fh, offset, size).await.unwrap().concat()
    }

    pub async fn write(&self, ino: u64, fh: Fh, offset: u64, data: &[u8]) {
        let data = Bytes::copy_from_slice(data);
        let len = data.len();
        assert_eq!(self.vfs.write(&self.cred, ino, fh, offset, data).await.unwrap() as usize, len);
    }

    /// Makes a file with this content and closes it.
    pub async fn file(&self, name: &str, content: &[u8]) -> u64 {
        let (ino, fh) = self.create(name).await;
        if !content.is_empty() {
            self.write(ino, fh, 0, content).await;
        }
        self.close(ino, fh).await;
        ino
    }

    /// Opens a file, reads all of it and closes it.
    pub async fn content(&self, ino: u64) -> Vec<u8> {
        content(&self.vfs, &self.cred, ino).await
    }

    pub async fn names(&self, dir: u64) -> Vec<String> {
        names(&self.vfs, &self.cred, dir).await
    }
}

pub async fn find(vfs: &Vfs, cred: &Cred, dir: u64, name: &str) -> Option<Entry> {
    match vfs.lookup(cred, dir, name.as_bytes()).await.unwrap() {
        Looked::Found(entry) => Some(entry),
        Looked::Missing { .. } => None,
    }
}

pub async fn close(vfs: &Vfs, cred: &Cred, ino: u64, fh: Fh) {
    vfs.flush(cred, ino, fh, None).await.unwrap();
    vfs.release(cred, ino, fh).await.unwrap();
}

pub async fn content(vfs: &Vfs, cred: &Cred, ino: u64) -> Vec<u8> {
    let opened = vfs.open(cred, ino, reading()).await.unwrap();
    let mut content = Vec::new();
    loop {
        let part = vfs.read(cred, ino, opened.fh, content.len() as u64, 128 << 10).await.unwrap().concat();
        if part.is_empty() {
            break;
        }
        content.extend(part);
    }
    close(vfs, cred, ino, opened.fh).await;
    content
}

/// The names of a directory, sorted, without `.` and `..`.
pub async fn names(vfs: &Vfs, cred: &Cred, dir: u64) -> Vec<String> {
    let fh = vfs.opendir(cred, dir).await.unwrap();
    let mut found = Vec::new();
    let mut offset = 0;
    loop {
        let items = vfs.readdir(cred, dir, fh, offset, false, 4096).await.unwrap();
        let Some(last) = items.last() else { break };
        offset = last.offset;
        found.extend(items.iter().map(|item| String::from_utf8_lossy(&item.name).into_owned()));
    }
    vfs.releasedir(cred, dir, fh).await.unwrap();
    found.retain(|name| name != "." && name != "..");
    found.sort();
    found
}
