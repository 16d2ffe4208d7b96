//! The main test: random sequences of calls of several threads on a mount, call by call the same as in a local directory;
//! proptest shrinks what differs to a few calls.
//!
//! Each thread has a directory of its own and a part of one file that all share, so what a call gives does not depend on
//! who is faster. `MODEL_CASES=N` plays N cases.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod calls;

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mock_mount_target::MockServer;
use mock_mount_target::nfs::Profile;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestCaseResult, TestRunner};
use whole_product_tests::Lab;

use calls::{Call, Place, STRIPE, call};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(30);
/// Cases for each profile in an ordinary run.
const CASES: u32 = 1000;
const THREADS: usize = 3;

fn cases() -> u32 {
    std::env::var("MODEL_CASES").ok().map_or(CASES, |text| text.parse().expect("MODEL_CASES is a number"))
}

/// A file in which each thread has its part.
fn shared(directory: &Path) -> File {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(directory.join("shared")).unwrap();
    file.set_len(STRIPE * THREADS as u64).unwrap();
    file
}

/// One thread's calls, made in both places.
fn compare(calls: &[Call], mut here: Place<'_>, mut there: Place<'_>) -> TestCaseResult {
    for (number, call) in calls.iter().enumerate() {
        let (wanted, got) = (here.make(call), there.make(call));
        if wanted != got {
            let text = format!("call {number}, {call:?}\n  local: {wanted:?}\n  mount: {got:?}");
            return Err(TestCaseError::fail(shorten(&text)));
        }
    }
    Ok(())
}

/// Long contents tell nobody anything.
fn shorten(text: &str) -> String {
    text.lines().map(|line| line.chars().take(600).collect::<String>() + "\n").collect()
}

/// A whole tree is the same in both places.
fn same_tree(local: &Path, mount: &Path) -> TestCaseResult {
    let names = |directory: &Path| {
        let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    prop_assert_eq!(names(local), names(mount), "in {}", mount.display());
    for name in names(local) {
        let (local, mount) = (local.join(&name), mount.join(&name));
        let kind = fs::symlink_metadata(&local).unwrap().file_type();
        if kind.is_dir() {
            same_tree(&local, &mount)?;
        } else if kind.is_file() {
            prop_assert!(fs::read(&local).unwrap() == fs::read(&mount).unwrap(), "{} differs", mount.display());
        } else {
            prop_assert_eq!(fs::read_link(&local).unwrap(), fs::read_link(&mount).unwrap());
        }
    }
    Ok(())
}

/// One case: every thread's calls, in fresh directories.
fn play(threads: &[Vec<Call>], local: &Path, mount: &Path, hides: bool) -> TestCaseResult {
    for place in [local, mount] {
        fs::create_dir(place).unwrap();
        for thread in 0..threads.len() {
            fs::create_dir(place.join(format!("t{thread}"))).unwrap();
        }
    }
    let (shared_local, shared_mount) = (shared(local), shared(mount));
    let outcome: TestCaseResult = std::thread::scope(|scope| {
        let running: Vec<_> = threads
            .iter()
            .enumerate()
            .map(|(thread, calls)| {
                let stripe = thread as u64 * STRIPE;
                let (here, there) = (&shared_local, &shared_mount);
                let name = format!("t{thread}");
                let (local, mount) = (local.join(&name), mount.join(&name));
                scope.spawn(move || {
                    let here = Place::new(&local, here, stripe, hides);
                    compare(calls, here, Place::new(&mount, there, stripe, hides))
                })
            })
            .collect();
        running.into_iter().try_for_each(|thread| thread.join().expect("a thread panicked"))
    });
    drop((shared_local, shared_mount));
    outcome?;
    same_tree(local, mount)?;
    fs::remove_dir_all(local).unwrap();
    fs::remove_dir_all(mount).unwrap();
    Ok(())
}

fn on_a_mount(profile: Profile, links: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mock = runtime.block_on(MockServer::builder().profile(profile).start()).unwrap();
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let mounted = lab.mount(&mock, &[]).unwrap();
    // In memory, if there is such a place: the disk is not what is to be tested.
    let memory = PathBuf::from("/dev/shm");
    let local = tempfile::tempdir_in(if memory.is_dir() { memory } else { std::env::temp_dir() }).unwrap();

    // S3 Files promises nothing about removed files (RFC 8881 §18.16.3).
    let hides = profile == Profile::S3Files;
    let mut runner = TestRunner::new(Config { cases: cases(), failure_persistence: None, ..Config::default() });
    let threads = prop::collection::vec(prop::collection::vec(call(links), 1..25), 1..=THREADS);
    let next = AtomicU64::new(0);
    let outcome = runner.run(&threads, |threads| {
        let name = format!("case{}", next.fetch_add(1, Ordering::Relaxed));
        play(&threads, &local.path().join(&name), &mounted.path(&name), hides)
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    mounted.umount().unwrap();
    let verdict = mock.verdict();
    runtime.block_on(mock.stop());
    assert_eq!(verdict, Vec::<String>::new());
}

#[test]
fn calls_on_a_full_server_give_what_they_give_in_a_local_directory() {
    on_a_mount(Profile::Full, true);
}

#[test]
fn calls_on_s3_files_give_what_they_give_in_a_local_directory() {
    on_a_mount(Profile::S3Files, false);
}
