//! How a mount ends: by command, by signal, by the system's own command, in use, and after a crash.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mock_mount_target::{FaultPlan, MockHandle, MockServer};
use nix::sys::signal::Signal;
use whole_product_tests::{ANSWER, Lab, Running, run};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(2);
/// How long the product may take to end.
const END: Duration = Duration::from_secs(20);

/// Runs a test that blocks, with a mock, and hears the referee at the end.
async fn with_mock(test: impl FnOnce(&MockHandle, &Lab) -> anyhow::Result<()> + Send + 'static, is_clean: bool) {
    let mock = Arc::new(MockServer::builder().start().await.unwrap());
    let target = Arc::clone(&mock);
    tokio::task::spawn_blocking(move || test(&target, &Lab::new(PRODUCT, LIMIT).unwrap())).await.unwrap().unwrap();
    if is_clean {
        assert_eq!(mock.verdict(), Vec::<String>::new());
    }
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The product in the foreground, mounted.
fn foreground(lab: &Lab, mock: &MockHandle) -> anyhow::Result<Running> {
    let mut command = lab.mount_command(mock, &["--foreground"]);
    let product = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
    wait_for("mounted", || lab.is_mounted());
    Ok(product)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_unmounts_and_what_was_written_is_on_the_server() {
    with_mock(
        |mock, lab| {
            for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
                let mut product = foreground(lab, mock)?;
                let name = lab.folder().join(signal.as_str());
                fs::write(&name, b"written")?;
                product.signal(signal)?;
                assert_eq!(product.code(END)?, 0, "{signal}");
                lab.assert_clean()?;
                let mounted = lab.mount(mock, &[])?;
                assert_eq!(fs::read(&name)?, b"written", "{signal}");
                mounted.umount()?;
            }
            Ok(())
        },
        true,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_systems_own_umount_ends_the_process_too() {
    with_mock(
        |mock, lab| {
            let mut product = foreground(lab, mock)?;
            fs::write(lab.folder().join("file"), b"x")?;
            run(Command::new("umount").arg(lab.folder()), ANSWER)?.ok()?;
            assert_eq!(product.code(END)?, 0);
            lab.assert_clean()
        },
        true,
    )
    .await;
}

/// Somebody else's copy of the mount, as a container has it, keeps the kernel from ending the session.
#[tokio::test(flavor = "multi_thread")]
async fn umount_ends_the_process_also_while_the_mount_lives_on_in_another_namespace() {
    with_mock(
        |mock, lab| {
            let mut product = foreground(lab, mock)?;
            fs::write(lab.folder().join("file"), b"written")?;
            let mut elsewhere = Command::new("unshare");
            let elsewhere = Running::start(elsewhere.args(["-m", "--propagation", "private", "sleep", "120"]))?;
            let namespace = |id: &str| fs::read_link(format!("/proc/{id}/ns/mnt")).ok();
            wait_for("another namespace", || {
                // `unshare` has become `sleep` only when the mounts are private.
                let id = elsewhere.id().to_string();
                namespace(&id) != namespace("self")
                    && fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.trim() == "sleep")
            });
            let done = run(&mut lab.product(["umount".as_ref(), lab.folder().as_os_str()]), END)?;
            assert_eq!((done.code(), product.code(END)?), (0, 0), "{done:?}");
            lab.assert_clean()?;
            let mounted = lab.mount(mock, &[])?;
            assert_eq!(fs::read(mounted.path("file"))?, b"written");
            drop(elsewhere);
            mounted.umount()
        },
        true,
    )
    .await;
}

/// A service manager starts what has failed again, and the folder was to be away. Whoever asked has been told.
#[tokio::test(flavor = "multi_thread")]
async fn what_umount_could_not_write_is_told_by_umount_and_the_mount_ends_in_order() {
    with_mock(
        |mock, lab| {
            let mut product = foreground(lab, mock)?;
            let plan = "[[fault]]\non = 'WRITE'\ndo = 'status'\nstatus = 'NOSPC'\ntimes = 1000\n";
            mock.add_faults(FaultPlan::from_toml(plan, 1)?);
            // A file that is open elsewhere is not in the way of unmounting here. Nothing may close a copy of it, which
            // would write it and hear of the failure.
            let lost = lab.folder().join("lost");
            let script = format!("exec > '{}'; printf 12345; exec sleep 120", lost.display());
            let mut elsewhere = Command::new("unshare");
            let _elsewhere = Running::start(elsewhere.args(["-m", "--propagation", "private", "sh", "-c", &script]))?;
            wait_for("written elsewhere", || fs::metadata(&lost).is_ok_and(|file| file.len() == 5));
            let done = run(&mut lab.product(["umount".as_ref(), lab.folder().as_os_str()]), END)?;
            assert_eq!((done.code(), done.stderr.contains("lost (5 bytes, NoSpc)")), (16, true), "{done:?}");
            assert_eq!(product.code(END)?, 0);
            lab.assert_clean()
        },
        false,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_use_is_not_unmounted_and_the_user_is_told_by_whom() {
    with_mock(
        |mock, lab| {
            let mounted = lab.mount(mock, &[])?;
            let sleeper = Running::start(Command::new("sleep").arg("60").current_dir(mounted.folder()))?;
            let done = lab.umount()?;
            assert_eq!(done.code(), 15, "{done:?}");
            assert!(done.stderr.contains(&format!("sleep ({})", sleeper.id())), "{done:?}");
            // It goes on as if nothing had happened.
            fs::write(mounted.path("file"), b"x")?;
            drop(sleeper);
            mounted.umount()
        },
        true,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_also_a_mount_that_is_in_use() {
    with_mock(
        |mock, lab| {
            let mut product = foreground(lab, mock)?;
            let mut file = File::create(lab.folder().join("file"))?;
            file.write_all(b"written before the signal")?;
            product.signal(Signal::SIGTERM)?;
            assert_eq!(product.code(END)?, 0);
            assert!(file.write_all(b"too late").and_then(|()| file.sync_all()).is_err());
            drop(file);
            lab.assert_clean()?;
            let mounted = lab.mount(mock, &[])?;
            assert_eq!(fs::read(mounted.path("file"))?, b"written before the signal");
            mounted.umount()
        },
        true,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_gives_up_a_server_that_does_not_answer_and_says_so() {
    with_mock(
        |mock, lab| {
            let mut product = foreground(lab, mock)?;
            let mut file = File::create(lab.folder().join("file"))?;
            file.write_all(b"never written")?;
            mock.set_rtt(Duration::from_mins(5));
            product.signal(Signal::SIGTERM)?;
            std::thread::sleep(Duration::from_secs(8));
            assert!(product.goes_on(), "it ended with dirty data");
            product.signal(Signal::SIGTERM)?;
            assert_eq!(product.code(END)?, 16);
            lab.assert_clean()
        },
        false,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_gives_a_server_that_does_not_answer_only_so_much_time() {
    with_mock(
        |mock, lab| {
            let mut command = lab.mount_command(mock, &["--foreground", "--flush-limit", "3s"]);
            let mut product = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
            wait_for("mounted", || lab.is_mounted());
            let mut file = File::create(lab.folder().join("file"))?;
            file.write_all(b"never written")?;
            mock.set_rtt(Duration::from_mins(5));
            product.signal(Signal::SIGTERM)?;
            assert_eq!(product.code(END)?, 16);
            lab.assert_clean()
        },
        false,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_wait_for_a_silent_server_end_when_they_are_told_to() {
    with_mock(
        |mock, lab| {
            let mounted = lab.mount(mock, &[])?;
            fs::create_dir(mounted.path("dir"))?;
            fs::write(mounted.path("dir/file"), "text")?;
            mounted.umount()?;
            let mounted = lab.mount(mock, &[])?;
            mock.set_rtt(Duration::from_mins(5));
            let (folder, file) = (mounted.path("dir"), mounted.path("dir/file"));
            let told =
                [("ls", &folder, Signal::SIGINT), ("cat", &file, Signal::SIGTERM), ("stat", &file, Signal::SIGKILL)];
            for (program, path, signal) in told {
                let mut command = Command::new(program);
                let mut waiting = Running::start(command.arg(path).stdout(Stdio::null()).stderr(Stdio::null()))?;
                std::thread::sleep(Duration::from_secs(1));
                assert!(waiting.goes_on(), "{program} did not have to wait, so this shows nothing");
                waiting.signal(signal)?;
                waiting.code(END)?;
            }
            mock.set_rtt(Duration::ZERO);
            mock.cut_all();
            assert_eq!(fs::read_to_string(mounted.path("dir/file"))?, "text");
            mounted.umount()
        },
        true,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_the_next_mount_clears_the_way() {
    with_mock(
        |mock, lab| {
            let mut product = foreground(lab, mock)?;
            product.signal(Signal::SIGKILL)?;
            product.code(END)?;
            wait_for("the mount is dead", || fs::metadata(lab.folder()).is_err());
            let mounted = lab.mount(mock, &[])?;
            fs::write(mounted.path("file"), b"x")?;
            mounted.umount()
        },
        // A client that was killed leaves its session open; that is what it is about.
        false,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn umount_clears_a_dead_mount_and_says_that_something_may_be_lost() {
    with_mock(
        |mock, lab| {
            let mut product = foreground(lab, mock)?;
            product.signal(Signal::SIGKILL)?;
            product.code(END)?;
            wait_for("the mount is dead", || fs::metadata(lab.folder()).is_err());
            let done = lab.umount()?;
            assert_eq!(done.code(), 1, "{done:?}");
            assert!(done.stderr.contains("had died"), "{done:?}");
            assert!(!lab.is_mounted());
            Ok(())
        },
        false,
    )
    .await;
}

#[test]
fn what_is_not_a_mount_is_not_unmounted() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let umount = |folder: &str| run(&mut lab.product(["umount", folder]), ANSWER).unwrap();
    let done = umount(&lab.folder().display().to_string());
    assert_eq!((done.code(), done.stderr.contains("is not a mount")), (14, true), "{done:?}");
    let done = umount("/proc");
    assert_eq!((done.code(), done.stderr.contains("not one of this user's")), (14, true), "{done:?}");
    let done = umount("/no/such/folder");
    assert_eq!(done.code(), 4, "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_not_mounted_twice() {
    with_mock(
        |mock, lab| {
            let mounted = lab.mount(mock, &[])?;
            let done = run(&mut lab.mount_command(mock, &[]), ANSWER)?;
            assert_eq!((done.code(), done.stderr.contains("is a mount already")), (4, true), "{done:?}");
            fs::write(mounted.path("file"), b"x")?;
            mounted.umount()
        },
        true,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_mount_on_a_folder_whose_server_is_away_is_refused_without_waiting_for_it() {
    with_mock(
        |mock, lab| {
            let mounted = lab.mount(mock, &["--acdirmin", "0s", "--acdirmax", "0s"])?;
            mock.set_rtt(Duration::from_mins(5));
            let done = run(&mut lab.mount_command(mock, &[]), ANSWER);
            mock.set_rtt(Duration::ZERO);
            let done = done?;
            assert_eq!((done.code(), done.stderr.contains("is a mount already")), (4, true), "{done:?}");
            mounted.umount()
        },
        true,
    )
    .await;
}
