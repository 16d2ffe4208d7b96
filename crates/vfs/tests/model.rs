//! The main test: random sequences of calls, compared call by call with a file system that fits on a page, while the
//! server restarts, forgets and is cut off.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stage;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use mock_mount_target::MockHandle;
use mock_mount_target::nfs::{Config, Profile};
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use stage::{Server, both, close, content};
use vfs::{Cred, Errno, Fh, FileKind, Looked, OpenFlags, RenameFlags, SetAttr, Vfs, VfsOptions};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const CASE_LIMIT: Duration = Duration::from_secs(15);

/// A call, or something that happens to the server. Numbers name directories, names and handles modulo how many there
/// are.
#[derive(Debug, Clone)]
enum Step {
    Create { dir: usize, name: usize, exclusive: bool, truncate: bool },
    Open { dir: usize, name: usize, truncate: bool, append: bool },
    Write { handle: usize, offset: u64, len: usize, byte: u8 },
    Read { handle: usize, offset: u64, len: u32 },
    Fsync { handle: usize },
    Close { handle: usize },
    Resize { dir: usize, name: usize, size: u64 },
    Lookup { dir: usize, name: usize },
    List { dir: usize, plus: bool },
    Mkdir { dir: usize, name: usize },
    Remove { dir: usize, name: usize, directory: bool },
    Rename { dir: usize, name: usize, to: usize, newname: usize },
    Forget { dir: usize, name: usize },
    Cut,
    Restart,
    LoseUnstable,
    DropSessions,
}

fn step() -> impl Strategy<Value = Step> {
    let dir = 0usize..3;
    let name = 0usize..NAMES.len();
    let handle = 0usize..4;
    let offset = prop_oneof![0u64..100, 0u64..200_000];
    prop_oneof![
        6 => (dir.clone(), name.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(dir, name, exclusive, truncate)| Step::Create { dir, name, exclusive, truncate }),
        6 => (dir.clone(), name.clone(), prop::bool::weighted(0.2), prop::bool::weighted(0.2))
            .prop_map(|(dir, name, truncate, append)| Step::Open { dir, name, truncate, append }),
        12 => (handle.clone(), offset.clone(), prop_oneof![1usize..50, 1usize..100_000], 1u8..)
            .prop_map(|(handle, offset, len, byte)| Step::Write { handle, offset, len, byte }),
        10 => (handle.clone(), offset.clone(), 1u32..150_000).prop_map(|(handle, offset, len)| Step::Read { handle, offset, len }),
        2 => handle.clone().prop_map(|handle| Step::Fsync { handle }),
        4 => handle.prop_map(|handle| Step::Close { handle }),
        4 => (dir.clone(), name.clone(), offset).prop_map(|(dir, name, size)| Step::Resize { dir, name, size }),
        4 => (dir.clone(), name.clone()).prop_map(|(dir, name)| Step::Lookup { dir, name }),
        3 => (dir.clone(), any::<bool>()).prop_map(|(dir, plus)| Step::List { dir, plus }),
        3 => (dir.clone(), name.clone()).prop_map(|(dir, name)| Step::Mkdir { dir, name }),
        4 => (dir.clone(), name.clone(), any::<bool>()).prop_map(|(dir, name, directory)| Step::Remove { dir, name, directory }),
        4 => (dir.clone(), name.clone(), dir.clone(), name.clone())
            .prop_map(|(dir, name, to, newname)| Step::Rename { dir, name, to, newname }),
        2 => (dir, name).prop_map(|(dir, name)| Step::Forget { dir, name }),
        1 => Just(Step::Cut),
        1 => Just(Step::Restart),
        1 => Just(Step::LoseUnstable),
        1 => Just(Step::DropSessions),
    ]
}

/// A node of the model: a file's bytes or a directory's names.
#[derive(Debug, Clone)]
enum Thing {
    File(Vec<u8>),
    Dir(BTreeMap<usize, usize>),
}

#[derive(Debug)]
struct OpenModel {
    thing: usize,
    ino: u64,
    fh: Fh,
    append: bool,
}

/// The model beside the real thing.
struct World<'a> {
    vfs: &'a Vfs,
    mock: &'a MockHandle,
    cred: Cred,
    things: Vec<Thing>,
    inos: Vec<u64>,
    open: Vec<OpenModel>,
    /// A session was lost: the client may take "exists" or "does not exist" for the trace of a first attempt whose answer
    /// got lost.
    doubt: bool,
}

fn patch(content: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let end = offset as usize + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset as usize..end].copy_from_slice(data);
}

impl World<'_> {
    /// Directories that exist, the test's own first.
    fn dirs(&self) -> Vec<usize> {
        let mut found = vec![0];
        let mut at = 0;
        while at < found.len() {
            if let Thing::Dir(names) = &self.things[found[at]] {
                found.extend(names.values().filter(|thing| matches!(self.things[**thing], Thing::Dir(_))));
            }
            at += 1;
        }
        found
    }

    fn dir(&self, which: usize) -> usize {
        let dirs = self.dirs();
        dirs[which % dirs.len()]
    }

    fn names(&mut self, dir: usize) -> &mut BTreeMap<usize, usize> {
        match &mut self.things[dir] {
            Thing::Dir(names) => names,
            Thing::File(_) => unreachable!("only directories are asked"),
        }
    }

    fn file(&mut self, thing: usize) -> &mut Vec<u8> {
        match &mut self.things[thing] {
            Thing::File(content) => content,
            Thing::Dir(_) => unreachable!("only files are asked"),
        }
    }

    fn add(&mut self, thing: Thing, ino: u64) -> usize {
        self.things.push(thing);
        self.inos.push(ino);
        self.things.len() - 1
    }

    fn is_below(&self, thing: usize, ancestor: usize) -> bool {
        if thing == ancestor {
            return true;
        }
        match &self.things[ancestor] {
            Thing::Dir(names) => names.values().any(|child| self.is_below(thing, *child)),
            Thing::File(_) => false,
        }
    }

    /// Carries a step out in both and compares.
    async fn step(&mut self, step: &Step) {
        let cred = self.cred.clone();
        match *step {
            Step::Create { dir, name, exclusive, truncate } => self.create(dir, name, exclusive, truncate).await,
            Step::Open { dir, name, truncate, append } => self.open(dir, name, truncate, append).await,
            Step::Write { handle, offset, len, byte } => self.write(handle, offset, len, byte).await,
            Step::Read { handle, offset, len } => {
                if self.open.is_empty() {
                    return;
                }
                let OpenModel { thing, ino, fh, .. } = self.open[handle % self.open.len()];
                let got = self.vfs.read(&cred, ino, fh, offset, len).await.unwrap().concat();
                let content = self.file(thing);
                let start = (offset as usize).min(content.len());
                let end = (start + len as usize).min(content.len());
                assert!(got == content[start..end], "read {} of {} bytes at {offset}", got.len(), end - start);
            }
            Step::Fsync { handle } => {
                if !self.open.is_empty() {
                    let OpenModel { ino, fh, .. } = self.open[handle % self.open.len()];
                    self.vfs.fsync(&cred, ino, fh, false).await.unwrap();
                }
            }
            Step::Close { handle } => {
                if !self.open.is_empty() {
                    let OpenModel { ino, fh, .. } = self.open.swap_remove(handle % self.open.len());
                    close(self.vfs, &cred, ino, fh).await;
                }
            }
            Step::Resize { dir, name, size } => {
                let dir = self.dir(dir);
                let Some(&thing) = self.names(dir).get(&name) else { return };
                let set = SetAttr { size: Some(size), ..SetAttr::default() };
                let result = self.vfs.setattr(&cred, self.inos[thing], None, set).await;
                match &mut self.things[thing] {
                    Thing::File(content) => {
                        content.resize(size as usize, 0);
                        assert_eq!(result.unwrap().0.size, size);
                    }
                    Thing::Dir(_) => assert_eq!(result.unwrap_err().errno(), Errno::IsDir),
                }
            }
            Step::Lookup { dir, name } => {
                let dir = self.dir(dir);
                self.look(dir, name).await;
            }
            Step::List { dir, plus } => {
                let dir = self.dir(dir);
                self.list(dir, plus).await;
            }
            Step::Mkdir { dir, name } => {
                let dir = self.dir(dir);
                let exists = self.names(dir).contains_key(&name);
                match self.vfs.mkdir(&cred, self.inos[dir], NAMES[name].as_bytes(), 0o755).await {
                    Ok(entry) if exists => assert!(self.doubt && entry.attr.kind == FileKind::Directory),
                    Ok(entry) => {
                        let thing = self.add(Thing::Dir(BTreeMap::new()), entry.attr.ino);
                        self.names(dir).insert(name, thing);
                    }
                    Err(error) => assert!(exists && error.errno() == Errno::Exist, "{error}"),
                }
            }
            Step::Remove { dir, name, directory } => self.remove(dir, name, directory).await,
            Step::Rename { dir, name, to, newname } => self.rename(dir, name, to, newname).await,
            Step::Forget { dir, name } => {
                let dir = self.dir(dir);
                if let Some(&thing) = self.names(dir).get(&name)
                    && matches!(self.things[thing], Thing::File(_))
                    && self.open.iter().all(|open| open.thing != thing)
                {
                    self.vfs.forget(self.inos[thing], 1_000_000);
                    self.look(dir, name).await;
                }
            }
            Step::LoseUnstable => self.mock.lose_unstable(),
            Step::Cut | Step::Restart | Step::DropSessions => {
                match step {
                    Step::Cut => self.mock.cut_all(),
                    Step::Restart => self.mock.restart(true),
                    _ => self.mock.drop_sessions(),
                }
                self.doubt = true;
            }
        }
    }

    async fn create(&mut self, dir: usize, name: usize, exclusive: bool, truncate: bool) {
        let dir = self.dir(dir);
        let flags = OpenFlags { exclusive, truncate, ..both() };
        let known = self.names(dir).get(&name).copied();
        let result = self.vfs.create(&self.cred, self.inos[dir], NAMES[name].as_bytes(), 0o644, flags).await;
        let (entry, opened) = match (result, known.map(|thing| &self.things[thing])) {
            (Err(error), Some(Thing::Dir(_))) => {
                assert!(matches!(error.errno(), Errno::IsDir | Errno::Exist), "{error}");
                return;
            }
            (Err(error), Some(Thing::File(_))) if exclusive => {
                assert_eq!(error.errno(), Errno::Exist);
                return;
            }
            (Ok(_), Some(_)) if exclusive => panic!("O_EXCL on a file that exists"),
            (result, _) => result.unwrap(),
        };
        let ino = entry.attr.ino;
        let thing = match known {
            Some(thing) => {
                assert_eq!(self.inos[thing], ino);
                if truncate {
                    self.file(thing).clear();
                }
                thing
            }
            None => self.add(Thing::File(Vec::new()), ino),
        };
        self.names(dir).insert(name, thing);
        assert_eq!(entry.attr.size as usize, self.file(thing).len());
        self.open.push(OpenModel { thing, ino, fh: opened.fh, append: false });
    }

    async fn open(&mut self, dir: usize, name: usize, truncate: bool, append: bool) {
        let dir = self.dir(dir);
        let Some(&thing) = self.names(dir).get(&name) else { return };
        let ino = self.inos[thing];
        let result = self.vfs.open(&self.cred, ino, OpenFlags { truncate, append, ..both() }).await;
        if let Thing::Dir(_) = self.things[thing] {
            assert_eq!(result.unwrap_err().errno(), Errno::IsDir);
            return;
        }
        if truncate {
            self.file(thing).clear();
        }
        self.open.push(OpenModel { thing, ino, fh: result.unwrap().fh, append });
    }

    async fn write(&mut self, handle: usize, offset: u64, len: usize, byte: u8) {
        if self.open.is_empty() {
            return;
        }
        let OpenModel { thing, ino, fh, append } = self.open[handle % self.open.len()];
        let data: Bytes = (0..len).map(|at| byte.wrapping_add((at / 7) as u8)).collect();
        assert_eq!(self.vfs.write(&self.cred, ino, fh, offset, data.clone()).await.unwrap() as usize, len);
        let content = self.file(thing);
        let offset = if append { content.len() as u64 } else { offset };
        patch(content, offset, &data);
        let size = content.len() as u64;
        assert_eq!(self.vfs.getattr(&self.cred, ino, Some(fh)).await.unwrap().0.size, size);
    }

    async fn look(&mut self, dir: usize, name: usize) {
        let known = self.names(dir).get(&name).copied();
        match (self.vfs.lookup(&self.cred, self.inos[dir], NAMES[name].as_bytes()).await.unwrap(), known) {
            (Looked::Missing { .. }, None) => {}
            (Looked::Found(entry), Some(thing)) => {
                assert_eq!(entry.attr.ino, self.inos[thing]);
                match &self.things[thing] {
                    Thing::File(content) => assert_eq!(entry.attr.size, content.len() as u64),
                    Thing::Dir(_) => assert_eq!(entry.attr.kind, FileKind::Directory),
                }
            }
            (looked, known) => panic!("{name}: {looked:?} instead of {known:?}"),
        }
    }

    async fn list(&mut self, dir: usize, plus: bool) {
        let ino = self.inos[dir];
        let fh = self.vfs.opendir(&self.cred, ino).await.unwrap();
        let mut found = Vec::new();
        let mut offset = 0;
        loop {
            let items = self.vfs.readdir(&self.cred, ino, fh, offset, plus, 400).await.unwrap();
            let Some(last) = items.last() else { break };
            offset = last.offset;
            found.extend(items);
        }
        self.vfs.releasedir(&self.cred, ino, fh).await.unwrap();
        let mut listed: Vec<(String, u64)> =
            found.iter().skip(2).map(|item| (String::from_utf8_lossy(&item.name).into_owned(), item.ino)).collect();
        listed.sort();
        let names = self.names(dir).clone();
        let expected: Vec<(String, u64)> =
            names.iter().map(|(name, thing)| (NAMES[*name].to_owned(), self.inos[*thing])).collect();
        assert_eq!(listed, expected);
        for item in found.iter().skip(2) {
            let Some(entry) = item.entry else { continue };
            let Some(thing) = names.values().find(|thing| self.inos[**thing] == item.ino) else { continue };
            if let Thing::File(content) = &self.things[*thing] {
                assert_eq!(entry.attr.size, content.len() as u64);
            }
        }
    }

    async fn remove(&mut self, dir: usize, name: usize, directory: bool) {
        let dir = self.dir(dir);
        let known = self.names(dir).get(&name).copied();
        let (parent, text) = (self.inos[dir], NAMES[name].as_bytes());
        let result = if directory {
            self.vfs.rmdir(&self.cred, parent, text).await
        } else {
            self.vfs.unlink(&self.cred, parent, text).await
        };
        let errno = result.err().map(|error| error.errno());
        let expected = match known.map(|thing| &self.things[thing]) {
            None => Some(Errno::NoEnt),
            Some(Thing::File(_)) if directory => Some(Errno::NotDir),
            Some(Thing::Dir(_)) if !directory => Some(Errno::IsDir),
            Some(Thing::Dir(names)) if !names.is_empty() => Some(Errno::NotEmpty),
            Some(_) => None,
        };
        // A hidden file of ours keeps its directory.
        let hidden = expected.is_none() && directory && errno == Some(Errno::NotEmpty);
        let unclear = self.doubt && expected == Some(Errno::NoEnt) && errno.is_none();
        assert!(errno == expected || hidden || unclear, "{errno:?} instead of {expected:?}");
        if errno.is_none() {
            self.names(dir).remove(&name);
        }
    }

    async fn rename(&mut self, dir: usize, name: usize, to: usize, newname: usize) {
        let (dir, to) = (self.dir(dir), self.dir(to));
        let source = self.names(dir).get(&name).copied();
        let target = self.names(to).get(&newname).copied();
        // The kernel refuses this before it asks.
        if source.is_some_and(|source| self.is_below(to, source))
            || target.is_some_and(|target| self.is_below(dir, target))
        {
            return;
        }
        let (from_ino, to_ino) = (self.inos[dir], self.inos[to]);
        let (old, new) = (NAMES[name].as_bytes(), NAMES[newname].as_bytes());
        let result = self.vfs.rename(&self.cred, from_ino, old, to_ino, new, RenameFlags::default()).await;
        let errno = result.err().map(|error| error.errno());
        let Some(source) = source else {
            assert!(errno == Some(Errno::NoEnt) || (self.doubt && errno.is_none()), "{errno:?}");
            return;
        };
        if target == Some(source) {
            assert_eq!(errno, None);
            return;
        }
        let allowed = match (&self.things[source], target.map(|target| &self.things[target])) {
            (_, None) | (Thing::File(_), Some(Thing::File(_))) => true,
            (Thing::Dir(_), Some(Thing::Dir(names))) => names.is_empty(),
            _ => false,
        };
        match errno {
            None => assert!(allowed, "a rename that must be refused"),
            // A hidden file of ours keeps the directory that would be replaced.
            Some(Errno::NotEmpty | Errno::Exist) if target.is_some() => return,
            Some(errno) => {
                assert!(!allowed, "{errno:?}");
                return;
            }
        }
        self.names(dir).remove(&name);
        self.names(to).insert(newname, source);
    }

    /// Everything closed, everything seen by somebody else.
    async fn end(&mut self, server: &Server) {
        for OpenModel { ino, fh, .. } in std::mem::take(&mut self.open) {
            close(self.vfs, &self.cred, ino, fh).await;
        }
        self.mock.lose_unstable();
        let other = server.mount(VfsOptions::default()).await;
        let top = stage::find(&other, &self.cred, 1, "top").await.unwrap().attr.ino;
        let mut left = vec![(0, top)];
        while let Some((dir, ino)) = left.pop() {
            let names = self.names(dir).clone();
            let expected: Vec<&str> = names.keys().map(|name| NAMES[*name]).collect();
            assert_eq!(stage::names(&other, &self.cred, ino).await, expected, "as another client sees it");
            for (name, thing) in names {
                let child = stage::find(&other, &self.cred, ino, NAMES[name]).await.unwrap().attr.ino;
                match &self.things[thing] {
                    Thing::Dir(_) => left.push((thing, child)),
                    Thing::File(bytes) => {
                        assert!(&content(&other, &self.cred, child).await == bytes, "as another client reads it");
                    }
                }
            }
        }
        assert_eq!(other.shutdown().await, []);
    }
}

async fn case(server: &Server, mock: &MockHandle, options: VfsOptions, steps: &[Step], at: &std::sync::Mutex<String>) {
    let cred = Cred::new(0, 0);
    let vfs = server.mount(options).await;
    let top = vfs.mkdir(&cred, 1, b"top", 0o755).await.unwrap().attr.ino;
    let things = vec![Thing::Dir(BTreeMap::new())];
    let mut world = World { vfs: &vfs, mock, cred, things, inos: vec![top], open: Vec::new(), doubt: false };
    for (index, step) in steps.iter().enumerate() {
        *at.lock().unwrap() = format!("step {index}: {step:?}");
        world.step(step).await;
    }
    "the end".clone_into(&mut at.lock().unwrap());
    world.end(server).await;
    assert_eq!(vfs.shutdown().await, []);
    assert_eq!(mock.mistakes(), Vec::<String>::new());
}

fn run(profile: Profile, options: &VfsOptions) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let cases = std::env::var("S3FILES_MODEL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(100);
    let mut runner =
        TestRunner::new(Cases { cases, failure_persistence: None, max_shrink_time: 60_000, ..Cases::default() });
    let result = runner.run(&prop::collection::vec(step(), 1..60), |steps| {
        let at = std::sync::Mutex::new(String::new());
        // A server of its own: a case that fails leaves it in any state.
        // Removed files that are open are hidden by us: the mock keeps its own kind no longer than until it restarts.
        let config = Config { preserve_unlinked: false, ..Config::new(profile) };
        let server = runtime.block_on(Server::mock(config));
        let Server::Mock(mock) = server.clone() else { unreachable!("it is one") };
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(async {
                tokio::time::timeout(CASE_LIMIT, case(&server, &mock, options.clone(), &steps, &at)).await
            })
        }));
        match done {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(TestCaseError::fail(format!("{} takes too long", at.lock().unwrap()))),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                Err(TestCaseError::fail(text.unwrap_or_default()))
            }
        }
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn random_calls_do_what_the_model_does_on_s3_files() {
    run(Profile::S3Files, &VfsOptions::default());
}

#[test]
fn random_calls_do_what_the_model_does_with_little_memory_and_no_trust() {
    let options = VfsOptions {
        cache_size: 100_000,
        dirty_limit: 150_000,
        dirty_age: Duration::from_millis(1),
        ..stage::no_caching()
    };
    run(Profile::Full, &options);
}
