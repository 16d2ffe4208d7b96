//! The log: where it is, how it is shown, and what must never be in it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use mock_mount_target::{Credentials, MockHandle, MockServer};
use nix::sys::signal::Signal;
use whole_product_tests::{ANSWER, Lab, Running, run};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(2);

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYSECRETKEY1";
const TOKEN: &str = "IQoJb3JpZ2luX2VjSESSIONTOKENabcdefghijklmnopqrstuvwxyz0123456789";

fn with_mock(test: impl FnOnce(&MockHandle, &Lab)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let keys = Credentials::new("AKIAEXAMPLE000000000", SECRET).with_session_token(TOKEN);
    let mock = runtime.block_on(MockServer::builder().credentials(keys).start()).unwrap();
    test(&mock, &Lab::new(PRODUCT, LIMIT).unwrap());
    assert_eq!(mock.verdict(), Vec::<String>::new());
}

/// Every way in which a secret of 20 or more characters could be written down.
fn assert_no_secret(text: &str, of: &str) {
    for secret in [SECRET, TOKEN] {
        let hex = secret.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        let list = secret.bytes().take(12).map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
        for form in [&secret[..20], &secret[secret.len() - 20..], &hex[..40], &list] {
            assert!(!text.contains(form), "a secret is in the log of {of}");
        }
    }
    // Keys are made at run time; these are the forms in which libraries print them.
    for form in ["PRIVATE KEY", "PrivatePkcs8", "PrivateKeyDer"] {
        assert!(!text.contains(form), "a private key is in the log of {of}");
    }
}

#[test]
fn the_log_of_a_whole_session_holds_no_secret_at_any_level() {
    with_mock(|mock, lab| {
        for level in ["debug", "trace"] {
            let mounted = lab.mount(mock, &["--log-level", level]).unwrap();
            fs::write(mounted.path("file"), vec![1; 300_000]).unwrap();
            fs::create_dir_all(mounted.path("dir")).unwrap();
            assert_eq!(fs::read_dir(mounted.folder()).unwrap().count(), 2);
            assert_eq!(fs::read(mounted.path("file")).unwrap().len(), 300_000);
            // A new connection presents a new signature.
            mock.cut_all();
            assert!(fs::read(mounted.path("nothing")).is_err());
            fs::write(mounted.path("dir/again"), b"x").unwrap();
            let (folder, file) = (lab.folder().display().to_string(), mounted.path("file").display().to_string());
            let mut said = Vec::new();
            for arguments in [
                &["status", "--json"][..],
                &["logs", &folder],
                &["synced", "--export-after=0", &file],
                &["umount", &folder],
            ] {
                // They need no credentials, and have them at hand all the same.
                let mut command = lab.product(arguments);
                command.args(["--log-level", level]).envs(mock.environment());
                let done = run(&mut command, ANSWER).unwrap().ok().unwrap();
                said.push(done.stdout + &done.stderr);
            }
            assert!(said[2].contains("synced  "), "{}", said[2]);
            lab.assert_clean().unwrap();
            let arguments = mock.mount_arguments("");
            for verb in ["ls", "cat"] {
                let mut command = lab.product([verb, &arguments[1][..]]);
                command.args(&arguments[3..]).args(["file", "--log-level", level]).envs(mock.environment());
                let done = run(&mut command, ANSWER).unwrap().ok().unwrap();
                assert!(done.stderr.contains("connected"), "it logs nothing: {}", done.stderr);
                said.push(done.stderr);
            }
            let log = lab.log();
            assert!(log.contains("connected") && log.len() > 2000, "it logs nothing: {log}");
            assert_no_secret(&log, level);
            for text in &said {
                assert_no_secret(text, level);
            }
        }
    });
}

/// The same with credentials of a profile, and with the commands that need no mount.
#[test]
fn no_command_writes_a_secret_of_a_profile_down() {
    with_mock(|mock, lab| {
        let key = &mock.credentials().access_key_id;
        let profile = format!(
            "[work]\naws_access_key_id = {key}\naws_secret_access_key = {SECRET}\naws_session_token = {TOKEN}\n"
        );
        fs::create_dir_all(lab.path("home/.aws")).unwrap();
        fs::write(lab.path("home/.aws/credentials"), profile).unwrap();
        let folder = lab.folder().display().to_string();
        let target = mock.mount_arguments(&folder);
        let log = ["--profile", "work", "--log-level", "trace"];
        let mounted = lab.mount_by(lab.product(&target).args(log)).unwrap();
        fs::write(mounted.path("file"), b"x").unwrap();
        mounted.umount().unwrap();
        assert!(lab.log().contains("connected"), "it logs nothing");
        assert_no_secret(&lab.log(), "mount");
        fs::write(lab.path("local"), b"local").unwrap();
        let (local, back) = (lab.path("local").display().to_string(), lab.path("back").display().to_string());
        let report = lab.path("report.json").display().to_string();
        for arguments in [
            &["cp", &target[1], &local, ":/local"][..],
            &["cp", &target[1], ":/local", &back],
            &["ls", &target[1]],
            &["doctor", &target[1], &folder, "--clock", "none", "--report", &report],
        ] {
            let done = run(lab.product(arguments).args(&target[3..]).args(log), ANSWER).unwrap().ok().unwrap();
            assert!(done.stderr.contains("TRACE") && done.stderr.contains("mount_target"), "it logs nothing: {done:?}");
            assert_no_secret(&(done.stdout + &done.stderr), arguments[0]);
        }
        assert_no_secret(&fs::read_to_string(&report).unwrap(), "the report");
        assert_eq!(fs::read(&back).unwrap(), b"local");
    });
}

#[test]
fn the_log_of_a_mount_is_shown_while_it_lives_and_afterwards() {
    with_mock(|mock, lab| {
        let folder = lab.folder().display().to_string();
        let logs = |further: &[&str]| run(lab.product(["logs"]).args(further), ANSWER).unwrap();
        let done = logs(&[&folder]);
        assert_eq!((done.code(), done.stderr.contains("is not a mount")), (14, true), "{done:?}");
        let mounted = lab.mount(mock, &["--log-level", "warn,mount_target=debug"]).unwrap();
        let shown = logs(&[&folder]).ok().unwrap().stdout;
        assert!(shown.contains("DEBUG") && shown.contains("mount_target::"), "{shown}");
        assert!(!shown.contains("DEBUG nfs4_client"), "levels are by module: {shown}");
        assert_eq!(logs(&[&folder, "-n", "1"]).ok().unwrap().stdout.lines().count(), 1);
        let status = run(&mut lab.product(["status", &folder]), ANSWER).unwrap().ok().unwrap().stdout;
        let file = status.lines().find_map(|line| line.strip_prefix("log")).unwrap().trim().to_owned();
        assert!(file.starts_with(lab.path("home/.local/state/s3files-fuse").to_str().unwrap()), "{file}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        mounted.umount().unwrap();
        assert!(logs(&[&folder]).ok().unwrap().stdout.starts_with(&shown));
    });
}

#[test]
fn following_goes_on_until_ctrl_c() {
    with_mock(|mock, lab| {
        let file = lab.path("mine.log").display().to_string();
        let mounted = lab.mount(mock, &["--log", "debug", "--log-file", &file]).unwrap();
        let out = lab.path("out");
        let mut command = lab.product(["logs", "--follow", "-n", "0", &lab.folder().display().to_string()]);
        let mut following =
            Running::start(command.stdout(File::create(&out).unwrap()).stderr(Stdio::inherit())).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        mock.cut_all();
        fs::write(mounted.path("file"), b"x").unwrap();
        let start = Instant::now();
        while !fs::read_to_string(&out).unwrap().contains("connected") {
            assert!(start.elapsed() < Duration::from_secs(20) && following.goes_on());
            std::thread::sleep(Duration::from_millis(50));
        }
        following.signal(Signal::SIGINT).unwrap();
        assert_eq!(following.code(ANSWER).unwrap(), 0);
        mounted.umount().unwrap();
        assert!(fs::read_to_string(file).unwrap().contains("connected"));
    });
}
