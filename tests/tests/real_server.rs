//! A server that is not ours: nfs-ganesha behind the mock's front door (what `mock-mount-target serve --forward` starts),
//! mounted with the real command line. `cargo xtask real-server` runs these; they need ganesha and some minutes, so plain
//! `cargo test` leaves them out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use mock_mount_target::nfs::Profile;
use mock_mount_target::{MockHandle, MockServer};
use whole_product_tests::{Lab, work};
use xtask::ganesha::{self, Ganesha, Grace};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(20);

/// Runs a test that blocks against ganesha, behind the mock's front door.
fn with_ganesha(test: impl FnOnce(&MockHandle, &Lab, &[&str]) -> anyhow::Result<()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let ganesha = Ganesha::start(&lab.path("ganesha"), Grace::None).unwrap();
    let mock = runtime.block_on(MockServer::builder().forward(ganesha.address()).start()).unwrap();
    let outcome = test(&mock, &lab, &["--path", ganesha::EXPORT]);
    let mistakes = mock.wire_mistakes();
    runtime.block_on(mock.stop());
    outcome.unwrap();
    assert_eq!(mistakes, Vec::<String>::new());
}

#[test]
#[ignore = "needs nfs-ganesha: cargo xtask real-server"]
fn a_source_tree_of_5000_files_is_the_same_after_a_new_mount() {
    with_ganesha(work::source_tree);
}

#[test]
#[ignore = "needs nfs-ganesha: cargo xtask real-server"]
fn a_git_clone_in_the_folder_is_sound_and_clean() {
    with_ganesha(work::git_clone);
}

#[test]
#[ignore = "needs nfs-ganesha: cargo xtask real-server"]
fn a_file_of_1_gib_has_the_same_sha_256_after_a_new_mount() {
    with_ganesha(work::large_file);
}

/// The other way round: the mock is the server, and its client is not ours. ganesha's PROXY_V4 speaks NFSv4.1 with a
/// session, opens and locks; what it is told to do comes through a folder.
#[test]
#[ignore = "needs nfs-ganesha: cargo xtask real-server"]
fn another_client_untars_and_compiles_on_the_mocks_plain_door_and_leaves_nothing_open() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let mock = runtime.block_on(MockServer::builder().profile(Profile::Full).plain().start()).unwrap();
    let ganesha = Ganesha::in_front_of(&lab.path("ganesha"), mock.plain_addr().unwrap()).unwrap();
    let outcome = work::small_build(&lab, ganesha.address(), ganesha::EXPORT);
    // It does not end when it is told to (its client side waits for ever), so what it holds at the end counts.
    drop(ganesha);
    let (opens, verdict) = (mock.count_of("OPEN"), mock.verdict());
    runtime.block_on(mock.stop());
    outcome.unwrap();
    assert!(opens > 100, "ganesha opened {opens} files at the mock");
    assert_eq!(verdict, Vec::<String>::new());
}
