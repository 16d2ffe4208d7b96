//! Two mounts of one server, within the rules of close-to-open: random sequences of opens, writes, reads, closes and
//! replacements on both, and each byte read must be one that the rules allow.
//!
//! The rules. A write comes before another if both were made on one mount in this order, or if it was closed (or synced)
//! before the other was made. An open file sees the writes of its own mount, and of the other mount those that were closed
//! before it was opened. What it reads must not be older than anything that it sees. What was written and not closed
//! may show or not. `MODEL_CASES=N` plays N cases.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use mock_mount_target::MockServer;
use mock_mount_target::nfs::Profile;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};
use whole_product_tests::Lab;

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(30);
const CASES: u32 = 500;

const FILES: usize = 2;
const SLOTS: usize = 3;
/// A file is made of so many cells, each written as a whole; their borders are not those of pages.
const CELLS: usize = 5;
const CELL: usize = 5000;

#[derive(Debug, Clone)]
enum Act {
    Open {
        mount: usize,
        slot: usize,
        file: usize,
        write: bool,
    },
    Write {
        mount: usize,
        slot: usize,
        cell: usize,
        cells: usize,
    },
    Read {
        mount: usize,
        slot: usize,
        cell: usize,
    },
    Fsync {
        mount: usize,
        slot: usize,
    },
    Close {
        mount: usize,
        slot: usize,
    },
    /// As editors save: a new file is written, closed, and given the name of the old one.
    Replace {
        mount: usize,
        file: usize,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let (mount, slot, file, cell) = (0..2usize, 0..SLOTS, 0..FILES, 0..CELLS);
    prop_oneof![
        5 => (mount.clone(), slot.clone(), file.clone(), any::<bool>())
            .prop_map(|(mount, slot, file, write)| Act::Open { mount, slot, file, write }),
        5 => (mount.clone(), slot.clone(), cell.clone(), 1..3usize)
            .prop_map(|(mount, slot, cell, cells)| Act::Write { mount, slot, cell, cells }),
        6 => (mount.clone(), slot.clone(), cell).prop_map(|(mount, slot, cell)| Act::Read { mount, slot, cell }),
        1 => (mount.clone(), slot.clone()).prop_map(|(mount, slot)| Act::Fsync { mount, slot }),
        4 => (mount.clone(), slot).prop_map(|(mount, slot)| Act::Close { mount, slot }),
        1 => (mount, file).prop_map(|(mount, file)| Act::Replace { mount, file }),
    ]
}

/// A write of a cell.
#[derive(Debug, Clone, Copy)]
struct Write {
    byte: u8,
    mount: usize,
    made: u64,
    closed: Option<u64>,
}

impl Write {
    fn is_before(&self, other: &Self) -> bool {
        self.made < other.made && (self.mount == other.mount || self.closed.is_some_and(|closed| closed < other.made))
    }

    fn is_seen_by(&self, mount: usize, opened: u64) -> bool {
        self.mount == mount || self.closed.is_some_and(|closed| closed < opened)
    }
}

/// A file, whatever its name; a replaced one is another file.
#[derive(Debug)]
struct Model {
    cells: [Vec<Write>; CELLS],
    /// The mount by which it lost its name.
    replaced_by: Option<usize>,
}

impl Model {
    fn new(byte: u8, now: u64) -> Self {
        let first = Write { byte, mount: 0, made: now, closed: Some(now) };
        Self { cells: std::array::from_fn(|_| vec![first]), replaced_by: None }
    }

    /// What somebody may read in a cell.
    fn allowed(&self, cell: usize, mount: usize, opened: u64) -> Vec<u8> {
        let writes = &self.cells[cell];
        let outdated =
            |write: &Write| writes.iter().any(|later| write.is_before(later) && later.is_seen_by(mount, opened));
        writes.iter().filter(|write| !outdated(write)).map(|write| write.byte).collect()
    }

    fn close(&mut self, mount: usize, now: u64) {
        for write in self.cells.iter_mut().flatten().filter(|write| write.mount == mount) {
            write.closed.get_or_insert(now);
        }
    }
}

struct Handle {
    file: File,
    model: usize,
    opened: u64,
    write: bool,
}

/// Both mounts, and what is known of the files.
struct World<'a> {
    folders: [&'a Path; 2],
    now: u64,
    models: Vec<Model>,
    named: [usize; FILES],
    open: BTreeMap<(usize, usize), Handle>,
}

impl World<'_> {
    fn path(&self, mount: usize, file: usize) -> std::path::PathBuf {
        self.folders[mount].join(format!("f{file}"))
    }

    fn make(&mut self, mount: usize, name: &str) -> usize {
        let byte = self.byte();
        fs::write(self.folders[mount].join(name), vec![byte; CELLS * CELL]).unwrap();
        self.models.push(Model::new(byte, self.now));
        self.models.len() - 1
    }

    /// Another one for each write of a case.
    fn byte(&self) -> u8 {
        u8::try_from(self.now % 251).unwrap() + 1
    }

    fn act(&mut self, act: &Act) -> TestCaseResult {
        self.now += 1;
        let now = self.now;
        match *act {
            Act::Open { mount, slot, file, write } => {
                self.end(mount, slot)?;
                let opened = OpenOptions::new().read(true).write(write).open(self.path(mount, file));
                prop_assert!(opened.is_ok(), "an open failed: {:?}", opened);
                let handle = Handle { file: opened.unwrap(), model: self.named[file], opened: now, write };
                self.open.insert((mount, slot), handle);
            }
            Act::Write { mount, slot, cell, cells } => {
                let byte = self.byte();
                let Some(handle) = self.open.get(&(mount, slot)).filter(|handle| handle.write) else { return Ok(()) };
                let cells = cell..CELLS.min(cell + cells);
                let written = handle.file.write_all_at(&vec![byte; cells.len() * CELL], (cell * CELL) as u64);
                let model = &mut self.models[handle.model];
                prop_assert!(written.is_ok() || model.is_lost_to(mount), "a write failed: {:?}", written);
                // A write that fails leaves everything as it was.
                for cell in cells.filter(|_| written.is_ok()) {
                    model.cells[cell].push(Write { byte, mount, made: now, closed: None });
                }
            }
            Act::Read { mount, slot, cell } => {
                let Some(handle) = self.open.get(&(mount, slot)) else { return Ok(()) };
                let model = &self.models[handle.model];
                let mut bytes = vec![0; CELL];
                let read = handle.file.read_exact_at(&mut bytes, (cell * CELL) as u64);
                if read.is_err() && model.is_lost_to(mount) {
                    return Ok(());
                }
                prop_assert!(read.is_ok(), "a read failed: {:?}", read);
                let allowed = model.allowed(cell, mount, handle.opened);
                bytes.dedup();
                prop_assert!(
                    bytes.iter().all(|byte| allowed.contains(byte)),
                    "mount {} reads {:?} in cell {}, allowed are {:?}; its writes: {:?}",
                    mount,
                    bytes,
                    cell,
                    allowed,
                    model.cells[cell]
                );
            }
            Act::Fsync { mount, slot } => {
                let Some(handle) = self.open.get(&(mount, slot)) else { return Ok(()) };
                let synced = handle.file.sync_all();
                let model = &mut self.models[handle.model];
                prop_assert!(synced.is_ok() || model.is_lost_to(mount), "fsync failed: {:?}", synced);
                model.close(mount, now);
            }
            Act::Close { mount, slot } => self.end(mount, slot)?,
            Act::Replace { mount, file } => {
                let new = self.make(mount, "new");
                fs::rename(self.folders[mount].join("new"), self.path(mount, file)).unwrap();
                let old = std::mem::replace(&mut self.named[file], new);
                self.models[old].replaced_by = Some(mount);
            }
        }
        Ok(())
    }

    fn end(&mut self, mount: usize, slot: usize) -> TestCaseResult {
        let Some(handle) = self.open.remove(&(mount, slot)) else { return Ok(()) };
        let closed = nix::unistd::close(handle.file);
        let model = &mut self.models[handle.model];
        prop_assert!(closed.is_ok() || model.is_lost_to(mount), "close failed: {:?}", closed);
        if handle.write {
            model.close(mount, self.now);
        }
        Ok(())
    }

    /// When everything is closed, both mounts read the same.
    fn agree(&mut self) -> TestCaseResult {
        let open: Vec<_> = self.open.keys().copied().collect();
        for (mount, slot) in open {
            self.now += 1;
            self.end(mount, slot)?;
        }
        for file in 0..FILES {
            let contents = [0, 1].map(|mount| fs::read(self.path(mount, file)).unwrap());
            let seen = contents.each_ref().map(|bytes| {
                let mut bytes = bytes.clone();
                bytes.dedup();
                bytes
            });
            prop_assert!(contents[0] == contents[1], "the mounts disagree about file {}: {:?}", file, seen);
            prop_assert_eq!(contents[0].len(), CELLS * CELL);
            let model = &self.models[self.named[file]];
            for (cell, bytes) in contents[0].chunks(CELL).enumerate() {
                let allowed = model.allowed(cell, 0, self.now + 1);
                prop_assert!(bytes.iter().all(|byte| allowed.contains(byte)), "a write to cell {} is lost", cell);
            }
        }
        Ok(())
    }
}

impl Model {
    /// S3 Files removes a replaced file under those who have it open on other mounts.
    fn is_lost_to(&self, mount: usize) -> bool {
        self.replaced_by.is_some_and(|by| by != mount)
    }
}

fn play(acts: &[Act], folders: [&Path; 2]) -> TestCaseResult {
    let mut world = World { folders, now: 1, models: Vec::new(), named: [0; FILES], open: BTreeMap::new() };
    for file in 0..FILES {
        world.now += 1;
        world.named[file] = world.make(0, &format!("f{file}"));
    }
    for act in acts {
        world.act(act)?;
    }
    world.agree()
}

fn on_two_mounts(profile: Profile) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mock = runtime.block_on(MockServer::builder().profile(profile).start()).unwrap();
    let labs = [Lab::new(PRODUCT, LIMIT).unwrap(), Lab::new(PRODUCT, LIMIT).unwrap()];
    let cases = std::env::var("MODEL_CASES").ok().map_or(CASES, |text| text.parse().expect("MODEL_CASES is a number"));
    let first = labs[0].mount(&mock, &[]).unwrap();
    // A folder that one mount makes may be missing on the other for a second, so all are made before. Some more are for
    // making a failure smaller.
    let folders = cases + 2000;
    for number in 0..folders {
        fs::create_dir(first.path(format!("case{number}"))).unwrap();
    }
    let mounted = [first, labs[1].mount(&mock, &[]).unwrap()];
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let next = std::sync::atomic::AtomicU64::new(0);
    let outcome = runner.run(&prop::collection::vec(act(), 1..60), |acts| {
        let name = format!("case{}", next.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let folders = [0, 1].map(|which: usize| mounted[which].path(&name));
        play(&acts, [&folders[0], &folders[1]])?;
        fs::remove_dir_all(&folders[0]).unwrap();
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    for mounted in mounted {
        mounted.umount().unwrap();
    }
    let verdict = mock.verdict();
    runtime.block_on(mock.stop());
    assert_eq!(verdict, Vec::<String>::new());
}

#[test]
fn two_mounts_of_a_full_server_keep_close_to_open() {
    on_two_mounts(Profile::Full);
}

#[test]
fn two_mounts_of_s3_files_keep_close_to_open() {
    on_two_mounts(Profile::S3Files);
}

/// Whoever waits for a lock file tries to make it again and again. A kernel asks for the name first; were it always told what
/// is remembered, the lock would stay taken until that is old.
#[test]
fn a_lock_file_that_the_other_mount_removes_is_free_within_a_few_tries() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mock = runtime.block_on(MockServer::builder().profile(Profile::S3Files).start()).unwrap();
    let labs = [Lab::new(PRODUCT, LIMIT).unwrap(), Lab::new(PRODUCT, LIMIT).unwrap()];
    let mounted = labs.each_ref().map(|lab| lab.mount(&mock, &[]).unwrap());
    let [here, there] = mounted.each_ref().map(|mounted| mounted.path("lock"));
    fs::write(&there, b"").unwrap();
    while !here.exists() {
        std::thread::sleep(Duration::from_millis(100));
    }
    let try_it = || OpenOptions::new().write(true).create_new(true).open(&here);
    assert_eq!(try_it().unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    fs::remove_file(&there).unwrap();
    let tries = (1..=10).find(|_| try_it().is_ok());
    assert!(tries.is_some_and(|tries| tries <= 3), "{tries:?}");
    for mounted in mounted {
        mounted.umount().unwrap();
    }
    let verdict = mock.verdict();
    runtime.block_on(mock.stop());
    assert_eq!(verdict, Vec::<String>::new());
}
