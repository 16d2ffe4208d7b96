//! `status`: what a mount says of itself, in each of its forms.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mock_mount_target::{MockHandle, MockServer};
use nix::sys::signal::Signal;
use serde_json::Value;
use whole_product_tests::{ANSWER, Done, Lab, Mounted, Running, run};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(2);

/// Mounts a mock, and hears the referee at the end.
fn mounted(test: impl FnOnce(&MockHandle, &Lab, &Mounted<'_>)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mock = runtime.block_on(MockServer::builder().start()).unwrap();
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let mounted = lab.mount(&mock, &[]).unwrap();
    test(&mock, &lab, &mounted);
    mounted.umount().unwrap();
    assert_eq!(mock.verdict(), Vec::<String>::new());
}

fn status(lab: &Lab, further: &[&str]) -> Done {
    run(lab.product(["status", &lab.folder().display().to_string()]).args(further), ANSWER).unwrap()
}

fn json(lab: &Lab) -> Value {
    let document: Value = serde_json::from_str(&status(lab, &["--json"]).ok().unwrap().stdout).unwrap();
    assert_eq!(document["version"], 1);
    document["mounts"][0].clone()
}

#[test]
fn a_mount_is_shown_as_a_page_as_json_and_for_prometheus() {
    mounted(|mock, lab, mounted| {
        fs::write(mounted.path("file"), vec![7; 3 << 20]).unwrap();
        let folder = lab.folder().canonicalize().unwrap().display().to_string();
        let page = status(lab, &[]).ok().unwrap().stdout;
        for words in [&folder[..], "serving", "1 open", "valid, ", "old, expires in 2 h", "of 256.0 MiB", "unwritten"] {
            assert!(page.contains(words), "`{words}` is not in:\n{page}");
        }
        let one = json(lab);
        assert_eq!((&one["folder"], &one["state"]), (&Value::from(folder.clone()), &Value::from("serving")));
        assert_eq!(one["address"], mock.addr().to_string());
        assert!(one["throughput"]["bytes_out"].as_u64().unwrap() > 3 << 20, "{one}");
        assert!(one["throughput"]["bytes_in"].as_u64().unwrap() > 1000, "{one}");
        let trips = one["requests"]["round_trips"].as_u64().unwrap();
        assert!((3..1000).contains(&trips), "{one}");
        assert!(one["requests"]["round_trip_ms"].as_f64().unwrap() > 0.0, "{one}");
        assert_eq!(one["requests"]["errors"], 0);
        assert_eq!(one["unwritten"]["bytes"], 0, "the file was closed");
        assert!(one["lease"]["left_seconds"].as_f64().unwrap() > 0.0, "{one}");
        assert!(one["certificate"]["expires_in_seconds"].as_f64().unwrap() > 10_000.0, "{one}");
        assert_eq!(one["conflicts"], Value::Null);
        let metrics = status(lab, &["--prometheus"]).ok().unwrap().stdout;
        let received = metrics.lines().find(|line| line.starts_with("s3files_received_bytes_total{")).unwrap();
        assert!(received.contains(&format!("folder=\"{folder}\"")), "{received}");
        assert!(metrics.ends_with("# EOF\n"), "{metrics}");
        let all = run(&mut lab.product(["status"]), ANSWER).unwrap().ok().unwrap().stdout;
        assert!(all.contains(&folder), "{all}");
    });
}

/// A program that keeps a file open and writes what it is told. The test itself must not: starting a command closes the
/// child's copies of its files, which waits until they are written.
struct Writer {
    tee: Child,
}

impl Writer {
    fn open(path: &Path) -> Self {
        let tee = Command::new("tee").arg(path).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        Self { tee }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.tee.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Closes the file.
    fn end(mut self) {
        drop(self.tee.stdin.take());
        assert!(self.tee.wait().unwrap().success());
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.tee.kill();
    }
}

/// Asks until it is so.
fn until(lab: &Lab, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let one = json(lab);
        if is_so(&one) {
            return one;
        }
        assert!(start.elapsed() < ANSWER, "never: {what}: {one}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_is_not_on_the_server_yet_is_counted_and_has_an_age() {
    const LATE: Duration = Duration::from_secs(4);
    mounted(|mock, lab, mounted| {
        let mut writer = Writer::open(&mounted.path("file"));
        writer.write(b"x");
        until(lab, "a file with a byte", |_| fs::metadata(mounted.path("file")).is_ok_and(|file| file.len() == 1));
        File::open(mounted.path("file")).unwrap().sync_all().unwrap();
        // What the command looks at on its way is known then, and waits for nobody.
        assert_eq!(fs::read_dir(mounted.folder()).unwrap().count(), 1);
        fs::metadata(mounted.folder()).unwrap();
        mock.set_rtt(LATE);
        let before = Instant::now();
        writer.write(&vec![1; 100_000]);
        let one = until(lab, "unwritten bytes", |one| one["unwritten"]["bytes"] == 100_000);
        let (seen, first) = (Instant::now(), one["unwritten"]["oldest_seconds"].as_f64().unwrap());
        assert_eq!((&one["unwritten"]["files"], &one["open_files"]), (&1.into(), &1.into()), "{one}");
        assert!(first <= before.elapsed().as_secs_f64(), "{first} s old after {:?}", before.elapsed());
        std::thread::sleep(Duration::from_millis(500));
        let slept = seen.elapsed().as_secs_f64();
        let later = json(lab)["unwritten"]["oldest_seconds"].as_f64().unwrap();
        assert!(
            (first + slept..=before.elapsed().as_secs_f64()).contains(&later),
            "{first} s, {slept} s later {later} s"
        );
        mock.set_rtt(Duration::ZERO);
        writer.end();
        let one = json(lab);
        assert_eq!(
            (&one["unwritten"]["bytes"], &one["unwritten"]["oldest_seconds"]),
            (&0.into(), &Value::Null),
            "{one}"
        );
    });
}

#[test]
fn conflicts_that_the_service_has_set_aside_are_named() {
    mounted(|mock, lab, mounted| {
        // The mock's own way to it is a change of the object; the directory is what `status` looks for.
        let aside = format!(".s3files-lost+found-{}", mock.fs_id());
        fs::create_dir(mounted.path(&aside)).unwrap();
        fs::write(mounted.path(&aside).join("00000000000000aa-report.odt"), b"mine").unwrap();
        let one = json(lab);
        assert_eq!(one["conflicts"]["count"], 1, "{one}");
        assert_eq!(one["conflicts"]["files"][0], "00000000000000aa-report.odt");
        let page = status(lab, &[]).ok().unwrap().stdout;
        assert!(page.contains(&format!("1 in {aside}")) && page.contains("report.odt"), "{page}");
    });
}

#[test]
fn watching_goes_on_until_ctrl_c_which_is_no_failure() {
    mounted(|_, lab, _| {
        let out = lab.path("out");
        let folder = lab.folder().display().to_string();
        let mut command = lab.product(["status", "--watch", "--json", &folder]);
        let mut watching =
            Running::start(command.stdout(File::create(&out).unwrap()).stderr(Stdio::inherit())).unwrap();
        let start = Instant::now();
        while fs::read_to_string(&out).unwrap().lines().count() < 3 {
            assert!(start.elapsed() < Duration::from_secs(30) && watching.goes_on());
            std::thread::sleep(Duration::from_millis(50));
        }
        watching.signal(Signal::SIGINT).unwrap();
        assert_eq!(watching.code(ANSWER).unwrap(), 0);
        for line in fs::read_to_string(&out).unwrap().lines() {
            assert_eq!(serde_json::from_str::<Value>(line).unwrap()["mounts"][0]["state"], "serving");
        }
    });
}

#[test]
fn a_mount_whose_server_is_silent_still_says_how_it_is() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mock = runtime.block_on(MockServer::builder().start()).unwrap();
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let mut command = lab.mount_command(&mock, &["--foreground"]);
    let _product = Running::start(command.stdout(Stdio::null())).unwrap();
    let start = Instant::now();
    while !lab.is_mounted() {
        assert!(start.elapsed() < ANSWER);
        std::thread::sleep(Duration::from_millis(10));
    }
    mock.set_rtt(Duration::from_mins(5));
    let one = json(&lab);
    assert_eq!(one["state"], "serving", "nobody has noticed yet: {one}");
    runtime.block_on(mock.stop());
    let start = Instant::now();
    while json(&lab)["state"] != "connecting" {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(status(&lab, &[]).ok().unwrap().stdout.contains("out of reach"));
}

#[test]
fn a_mount_whose_program_is_stopped_is_said_to_be_that() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mock = runtime.block_on(MockServer::builder().start()).unwrap();
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let mut command = lab.mount_command(&mock, &["--foreground"]);
    let product = Running::start(command.stdout(Stdio::null())).unwrap();
    let start = Instant::now();
    while !lab.is_mounted() {
        assert!(start.elapsed() < ANSWER);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(json(&lab)["state"], "serving");
    product.signal(Signal::SIGSTOP).unwrap();
    let done = status(&lab, &[]);
    product.signal(Signal::SIGCONT).unwrap();
    assert_eq!((done.code(), done.stderr.contains("does not answer")), (1, true), "{done:?}");
}

#[test]
fn where_nothing_is_mounted_the_sentence_and_the_code_say_so() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let done = status(&lab, &[]);
    assert_eq!((done.code(), done.stderr.contains("is not a mount")), (14, true), "{done:?}");
    assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
    let done = run(&mut lab.product(["status", "/proc"]), ANSWER).unwrap();
    assert_eq!((done.code(), done.stderr.contains("not one of this user's")), (14, true), "{done:?}");
    let done = run(&mut lab.product(["status", "--json", "--prometheus"]), ANSWER).unwrap();
    assert_eq!(done.code(), 2, "{done:?}");
}
