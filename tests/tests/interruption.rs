//! A connection that breaks is not noticed by programs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mock_mount_target::MockServer;
use whole_product_tests::{Lab, noise, run, sha256};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(5);
const SIZE: usize = 200 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_during_a_copy_lose_nothing_and_cp_does_not_notice() {
    let mock = Arc::new(MockServer::builder().start().await.unwrap());
    let target = Arc::clone(&mock);
    let over = Arc::new(AtomicBool::new(false));
    // Mounting is not what this is about: a mount target that hangs up on a first visitor is a reason not to mount.
    let cutting = Arc::new(AtomicBool::new(false));
    let cutter = {
        let (mock, over, cutting) = (Arc::clone(&mock), Arc::clone(&over), Arc::clone(&cutting));
        tokio::spawn(async move {
            let mut cuts = 0;
            while !over.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(250)).await;
                if cutting.load(Ordering::Relaxed) && mock.connections() > 0 {
                    mock.cut_all();
                    cuts += 1;
                }
            }
            cuts
        })
    };
    let copying = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        let lab = Lab::new(PRODUCT, LIMIT)?;
        let source = lab.path("source");
        std::fs::write(&source, noise(2, SIZE))?;
        let mounted = lab.mount(&target, &[])?;
        let copy = mounted.path("copy");
        cutting.store(true, Ordering::Relaxed);
        let done = run(Command::new("cp").arg(&source).arg(&copy), LIMIT)?.ok()?;
        assert!(done.stderr.is_empty(), "{done:?}");
        mounted.umount()?;
        cutting.store(false, Ordering::Relaxed);
        // Read back from the server, as a new mount has nothing cached, and through cuts again.
        let mounted = lab.mount(&target, &[])?;
        cutting.store(true, Ordering::Relaxed);
        assert_eq!(sha256(&mounted.path("copy"))?, sha256(&source)?);
        mounted.umount()
    });
    let copied = copying.await;
    over.store(true, Ordering::Relaxed);
    let cuts = cutter.await.unwrap();
    copied.unwrap().unwrap();
    assert!(cuts >= 3, "the connection was cut {cuts} times only, so this test shows nothing");
    assert_eq!(mock.verdict(), Vec::<String>::new());
}
