//! A mount whose process stood still, as in a sleep, and whose connection has gone meanwhile without a word.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mock_mount_target::MockServer;
use nix::sys::signal::Signal;
use whole_product_tests::{ANSWER, Lab, Running};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(3);
/// Longer than the process may stand still without being noticed.
const SLEEP: Duration = Duration::from_secs(22);
/// A look every three seconds, three seconds of silence, and a new connection.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_call_on_a_connection_that_went_in_the_sleep_goes_on_soon_after_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mock = runtime.block_on(MockServer::builder().start()).unwrap();
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let mut command = lab.mount_command(&mock, &["--foreground", "--answer-timeout", "10m"]);
    let product = Running::start(command.stdout(Stdio::null())).unwrap();
    let start = Instant::now();
    while !lab.is_mounted() {
        assert!(start.elapsed() < ANSWER);
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::write(lab.folder().join("file"), b"x").unwrap();
    // The next answer takes longer than the test, and whatever comes on this connection waits behind it.
    mock.set_rtt(Duration::from_mins(10));
    // Every open asks the server.
    let mut call = Running::start(Command::new("cat").arg(lab.folder().join("file")).stdout(Stdio::null())).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    mock.set_rtt(Duration::ZERO);
    product.signal(Signal::SIGSTOP).unwrap();
    std::thread::sleep(SLEEP);
    assert!(call.goes_on(), "the connection is no black hole");
    product.signal(Signal::SIGCONT).unwrap();
    let woke = Instant::now();
    assert_eq!(call.code(SOON).unwrap(), 0, "{}", lab.log());
    println!("the call went on {:?} after the sleep", woke.elapsed());
    lab.umount().unwrap().ok().unwrap();
    assert_eq!(mock.verdict(), Vec::<String>::new());
}
