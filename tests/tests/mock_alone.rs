//! The same work as on a real server, on the mock alone, as S3 Files is; the referee watches.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use mock_mount_target::{MockHandle, MockServer};
use whole_product_tests::{Lab, work};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(10);

/// Runs a test that blocks against the mock.
fn with_mock(test: impl FnOnce(&MockHandle, &Lab, &[&str]) -> anyhow::Result<()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let mock = runtime.block_on(MockServer::builder().start()).unwrap();
    test(&mock, &lab, &[]).unwrap();
    assert_eq!(mock.verdict(), Vec::<String>::new());
    mock.check_invariants().unwrap();
    runtime.block_on(mock.stop());
}

#[test]
fn a_source_tree_of_5000_files_is_the_same_after_a_new_mount() {
    with_mock(work::source_tree);
}

#[test]
fn a_git_clone_in_the_folder_is_sound_and_clean() {
    with_mock(work::git_clone);
}

#[test]
fn a_file_of_1_gib_has_the_same_sha_256_after_a_new_mount() {
    with_mock(work::large_file);
}
