//! `lock PATH -- COMMAND`: a lock of the server that holds between mounts and never outlives whoever took it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mock_mount_target::nfs::Profile;
use mock_mount_target::{MockHandle, MockServer};
use nix::sys::signal::Signal;
use whole_product_tests::{ANSWER, Done, Lab, Running, run};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(3);

/// Two mounts of one server, as two machines would have them.
fn on_two_machines(test: impl FnOnce(&MockHandle, &Lab, &Lab)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mock = runtime.block_on(MockServer::builder().profile(Profile::S3Files).start()).unwrap();
    let (here, there) = (Lab::new(PRODUCT, LIMIT).unwrap(), Lab::new(PRODUCT, LIMIT).unwrap());
    let mounts = [here.mount(&mock, &[]).unwrap(), there.mount(&mock, &[]).unwrap()];
    test(&mock, &here, &there);
    for mounted in mounts {
        mounted.umount().unwrap();
    }
    assert_eq!(mock.verdict(), Vec::<String>::new());
}

fn command(lab: &Lab, options: &[&str], run: &[&str]) -> Command {
    let file = lab.folder().join("file").display().to_string();
    let mut command = lab.product(["lock"]);
    command.args(options).arg(file).arg("--").args(run);
    command
}

fn lock(lab: &Lab, options: &[&str], program: &[&str]) -> Done {
    run(&mut command(lab, options, program), Duration::from_secs(30)).unwrap()
}

/// A command that holds the lock until `stop` is there; returns when it has it.
fn held(lab: &Lab, options: &[&str], stop: &Path) -> Running {
    let begun = lab.path("begun");
    let _ = fs::remove_file(&begun);
    let script = format!("touch {}; while [ ! -e {} ]; do sleep 0.05; done", begun.display(), stop.display());
    let running = Running::start(&mut command(lab, options, &["sh", "-c", &script])).unwrap();
    wait_for(|| begun.exists());
    running
}

fn wait_for(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "not within 30 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_lock_keeps_others_out_on_this_machine_and_on_another() {
    on_two_machines(|_, here, there| {
        let stop = here.path("stop");
        let mut holder = held(here, &[], &stop);
        let done = lock(there, &["--no-wait"], &["true"]);
        assert_eq!((done.code(), done.stderr.contains("locked by another machine")), (19, true), "{done:?}");
        let done = lock(here, &["--no-wait"], &["true"]);
        let words = format!("locked by process {}", holder.id());
        assert_eq!((done.code(), done.stderr.contains(&words)), (19, true), "{done:?}");
        let done = lock(there, &["--wait", "1", "--shared"], &["true"]);
        assert!(done.code() == 19 && done.took >= Duration::from_secs(1), "{done:?}");
        if cfg!(target_os = "linux") {
            // Locks of the kernel's own calls are of the same kind.
            let file = there.folder().join("file");
            let done = run(Command::new("flock").arg("-n").arg(file).arg("true"), ANSWER).unwrap();
            assert_eq!(done.code(), 1, "{done:?}");
        }
        fs::write(&stop, "").unwrap();
        let done = lock(there, &["--wait", "20"], &["echo", "mine now"]);
        assert_eq!((done.code(), &done.stdout[..]), (0, "mine now\n"), "{done:?}");
        assert_eq!(holder.code(ANSWER).unwrap(), 0);
    });
}

#[test]
fn shared_locks_stand_beside_each_other_and_keep_out_exclusive_ones() {
    on_two_machines(|_, here, there| {
        let stop = here.path("stop");
        let mut holder = held(here, &["--shared"], &stop);
        assert_eq!(lock(there, &["--shared", "--no-wait"], &["true"]).code(), 0);
        assert_eq!(lock(there, &["--no-wait"], &["true"]).code(), 19);
        fs::write(&stop, "").unwrap();
        assert_eq!(holder.code(ANSWER).unwrap(), 0);
        assert_eq!(lock(there, &["--no-wait"], &["true"]).code(), 0);
    });
}

#[test]
fn what_two_machines_count_under_the_lock_is_never_lost() {
    const EACH: usize = 25;
    on_two_machines(|_, here, there| {
        fs::write(here.folder().join("count"), "0\n").unwrap();
        let counting = |lab: &Lab| {
            let count = lab.folder().join("count").display().to_string();
            let script = format!("read n < {count}; echo $((n + 1)) > {count}");
            for _ in 0..EACH {
                lock(lab, &[], &["sh", "-c", &script]).ok().unwrap();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| counting(here));
            scope.spawn(|| counting(there));
        });
        for lab in [here, there] {
            assert_eq!(fs::read_to_string(lab.folder().join("count")).unwrap(), format!("{}\n", 2 * EACH));
        }
    });
}

#[test]
fn a_lock_goes_with_whoever_took_it_however_they_end() {
    on_two_machines(|_, here, there| {
        let stop = here.path("stop");
        let mut killed = held(here, &[], &stop);
        killed.signal(Signal::SIGKILL).unwrap();
        assert_eq!(lock(there, &["--wait", "20"], &["true"]).code(), 0);
        assert_eq!(killed.code(ANSWER).unwrap(), -1);
        fs::write(&stop, "").unwrap();
        // SIGTERM goes to the command, and its end is the end.
        let endless = here.path("never");
        let mut ended = held(here, &[], &endless);
        ended.signal(Signal::SIGTERM).unwrap();
        assert_eq!(ended.code(ANSWER).unwrap(), 128 + 15);
        assert_eq!(lock(there, &["--no-wait"], &["true"]).code(), 0);
        // Whoever waits and goes away leaves nothing behind either.
        let stop = here.path("stop2");
        let mut holder = held(here, &[], &stop);
        let mut waiting = Running::start(&mut command(there, &[], &["true"])).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert!(waiting.goes_on());
        waiting.signal(Signal::SIGKILL).unwrap();
        waiting.code(ANSWER).unwrap();
        fs::write(&stop, "").unwrap();
        holder.code(ANSWER).unwrap();
        assert_eq!(lock(here, &["--wait", "20"], &["true"]).code(), 0);
    });
}

#[test]
fn a_signal_ends_the_wait_for_a_lock_and_the_command_does_not_run() {
    on_two_machines(|mock, here, there| {
        let stop = here.path("stop");
        let mut holder = held(here, &[], &stop);
        let ran = there.path("ran");
        let asked = mock.count_of("LOCK");
        let touch = ["touch", ran.to_str().unwrap()];
        let mut waiting = Running::start(&mut command(there, &[], &touch)).unwrap();
        wait_for(|| mock.count_of("LOCK") > asked);
        waiting.signal(Signal::SIGINT).unwrap();
        assert_eq!(waiting.code(ANSWER).unwrap(), 128 + 2);
        fs::write(&stop, "").unwrap();
        assert_eq!(holder.code(ANSWER).unwrap(), 0);
        assert_eq!(lock(here, &["--wait", "20"], &["true"]).code(), 0);
        assert!(!ran.exists());
    });
}

#[test]
fn the_commands_exit_code_is_passed_on() {
    on_two_machines(|_, here, _| {
        assert_eq!(lock(here, &[], &["sh", "-c", "exit 42"]).code(), 42);
        assert_eq!(lock(here, &[], &["sh", "-c", "kill -9 $$"]).code(), 137);
        let done = lock(here, &[], &["no-such-program"]);
        assert_eq!((done.code(), done.stderr.contains("cannot be run")), (127, true), "{done:?}");
        assert_eq!(lock(here, &[], &["/"]).code(), 126);
    });
}

#[test]
fn a_mount_that_ends_under_a_lock_is_told_when_the_command_is_done() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mock = runtime.block_on(MockServer::builder().start()).unwrap();
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let mut mount = lab.mount_command(&mock, &["--foreground"]);
    let mut product = Running::start(mount.stdout(Stdio::null()).stderr(Stdio::null())).unwrap();
    wait_for(|| lab.is_mounted());
    let stop = lab.path("stop");
    let mut holder = held(&lab, &[], &stop);
    assert_eq!(lab.umount().unwrap().code(), 15, "the lock keeps the folder in use");
    product.signal(Signal::SIGTERM).unwrap();
    assert_eq!(product.code(Duration::from_secs(30)).unwrap(), 0);
    assert!(holder.goes_on());
    fs::write(&stop, "").unwrap();
    assert_eq!(holder.code(ANSWER).unwrap(), 20);
    lab.assert_clean().unwrap();
    runtime.block_on(mock.stop());
}

#[test]
fn what_cannot_be_locked_is_said_in_a_sentence() {
    on_two_machines(|_, here, _| {
        fs::create_dir(here.folder().join("file")).unwrap();
        let done = lock(here, &[], &["true"]);
        assert_eq!((done.code(), done.stderr.contains("is a directory; lock a file in it")), (1, true), "{done:?}");
        let outside = here.path("outside");
        let outside = outside.to_str().unwrap();
        let done = run(&mut here.product(["lock", outside, "--", "true"]), ANSWER).unwrap();
        assert_eq!((done.code(), done.stderr.contains("is not in a folder")), (14, true), "{done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
        assert!(!here.path("outside").exists(), "it was made for nothing");
        let done = run(&mut here.product(["lock", outside]), ANSWER).unwrap();
        assert_eq!(done.code(), 2, "{done:?}");
        fs::remove_dir(here.folder().join("file")).unwrap();
    });
}
