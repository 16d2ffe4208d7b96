//! `synced` tells whether a file has reached the bucket, and why not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::time::{Duration, SystemTime};

use mock_mount_target::{MockHandle, MockServer};
use whole_product_tests::{Done, Lab, run};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(2);
const ANSWER: Duration = Duration::from_secs(20);

fn synced(lab: &Lab, arguments: &[&str]) -> Done {
    run(lab.product(["synced"]).args(arguments).current_dir(lab.folder()), ANSWER).unwrap()
}

/// What the service says of a file.
fn tell(mock: &MockHandle, path: &str, key: &str, error: &str) {
    let text = format!("S3Key: {key}\nExportError: {error}\nFilePath: /{path}\n");
    mock.with_server(|server| {
        let file = server.file_at(path).unwrap();
        server.set_status_text(file, text);
    });
}

#[test]
fn files_wait_arrive_or_are_stuck_and_the_exit_code_tells() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let mock = runtime.block_on(MockServer::builder().start()).unwrap();
    let mounted = lab.mount(&mock, &[]).unwrap();
    fs::create_dir(mounted.path("dir")).unwrap();
    for name in ["dir/a", "dir/b", "c"] {
        fs::write(mounted.path(name), name).unwrap();
    }
    // Just written: whatever the service says, the export is to come.
    let done = synced(&lab, &["dir/a"]);
    assert_eq!((done.code(), done.stdout.contains("waits   dir/a")), (18, true), "{done:?}");
    assert!(done.stderr.contains("1 of 1 files have not reached S3"), "{done:?}");

    let rested = "--export-after=0";
    let done = synced(&lab, &[rested, "dir", "c"]).ok().unwrap();
    assert_eq!(done.stdout, "synced  dir/a  (dir/a)\nsynced  dir/b  (dir/b)\nsynced  c  (c)\n");

    tell(&mock, "dir/b", "None", "S3AccessDenied");
    let done = synced(&lab, &[rested, "--wait", "dir"]);
    assert_eq!(done.code(), 18, "{done:?}");
    assert!(done.stdout.contains("stuck   dir/b") && done.stdout.contains("role may not write"), "{done:?}");

    // One that arrives while it is waited for.
    tell(&mock, "c", "None", "None");
    let started = std::thread::scope(|scope| {
        let waits = scope.spawn(|| synced(&lab, &[rested, "--wait", "c"]));
        std::thread::sleep(Duration::from_secs(1));
        assert!(!waits.is_finished());
        tell(&mock, "c", "c", "None");
        waits.join().unwrap()
    });
    assert_eq!(started.ok().unwrap().stdout, "synced  c  (c)\n");
    let done = synced(&lab, &["--wait", "--timeout", "1", "c"]);
    assert_eq!((done.code(), done.stdout.contains("waits   c")), (18, true), "{done:?}");

    // A time of change to come does not make it wait for that time.
    let ahead = SystemTime::now() + Duration::from_hours(1);
    fs::File::options().write(true).open(mounted.path("c")).unwrap().set_modified(ahead).unwrap();
    synced(&lab, &["--export-after=1", "--wait", "c"]).ok().unwrap();
    // A link that is named stands for its file.
    std::os::unix::fs::symlink("c", mounted.path("link")).unwrap();
    assert_eq!(synced(&lab, &[rested, "link"]).ok().unwrap().stdout, "synced  link  (c)\n");

    // One that is removed while others are waited for.
    tell(&mock, "dir/b", "None", "None");
    let done = std::thread::scope(|scope| {
        let waits = scope.spawn(|| synced(&lab, &[rested, "--wait", "dir"]));
        std::thread::sleep(Duration::from_secs(1));
        fs::remove_file(mounted.path("dir/b")).unwrap();
        waits.join().unwrap()
    });
    assert_eq!(done.ok().unwrap().stdout, "synced  dir/a  (dir/a)\ngone    dir/b\n");

    mounted.umount().unwrap();
    assert_eq!(mock.verdict(), Vec::<String>::new());
    runtime.block_on(mock.stop());
}

#[test]
fn what_is_in_no_mount_is_said() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    fs::write(lab.path("folder/plain"), b"x").unwrap();
    let done = synced(&lab, &["plain"]);
    assert_eq!((done.code(), done.stderr.contains("mounted S3 Files folder")), (1, true), "{done:?}");
    let done = synced(&lab, &["none"]);
    assert_eq!((done.code(), done.stderr.contains("none: ")), (1, true), "{done:?}");
    run(std::process::Command::new("mkfifo").arg(lab.path("folder/fifo")), ANSWER).unwrap().ok().unwrap();
    let done = synced(&lab, &["fifo"]);
    assert_eq!((done.code(), done.stderr.contains("neither a file nor a directory")), (1, true), "{done:?}");
    fs::create_dir(lab.path("folder/empty")).unwrap();
    let done = synced(&lab, &["empty"]);
    assert_eq!((done.code(), done.stderr.contains("no files")), (1, true), "{done:?}");
    for name in ["plain", "fifo"] {
        fs::remove_file(lab.path("folder").join(name)).unwrap();
    }
    fs::remove_dir(lab.path("folder/empty")).unwrap();
}
