//! `login`: jobs that mount a folder at every login, with a service manager that only writes down what it is asked.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mock_mount_target::MockServer;
use nix::sys::signal::Signal;
use whole_product_tests::{ANSWER, Done, Lab, Running, run};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(2);

/// A lab with a `systemctl` on the path, which notes its arguments and then does `further`.
fn lab(further: &str) -> Lab {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let bin = lab.path("bin");
    fs::create_dir(&bin).unwrap();
    let program = bin.join("systemctl");
    let asked = lab.path("asked");
    fs::write(&program, format!("#!/bin/sh\necho \"$*\" >> '{}'\n{further}\n", asked.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    lab
}

fn login(lab: &Lab, arguments: &[&str]) -> Command {
    let mut command = lab.product(["login"].iter().chain(arguments));
    let own = lab.path("bin").display().to_string();
    command.env("PATH", format!("{own}:/usr/bin:/bin"));
    command
}

fn ask(lab: &Lab, arguments: &[&str]) -> Done {
    run(&mut login(lab, arguments), ANSWER).unwrap()
}

fn units(lab: &Lab) -> Vec<PathBuf> {
    services(lab, "home/.config/systemd/user")
}

/// What the user's manager of systemd starts at a login.
fn wanted(lab: &Lab) -> Vec<PathBuf> {
    services(lab, "home/.config/systemd/user/default.target.wants")
}

fn services(lab: &Lab, folder: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(lab.path(folder)).into_iter().flatten().flatten().map(|entry| entry.path());
    files.filter(|file| file.extension().is_some_and(|ending| ending == "service")).collect()
}

fn asked(lab: &Lab) -> Vec<String> {
    fs::read_to_string(lab.path("asked")).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_login_starts_mounts_the_folder_and_stays_away_once_it_is_unmounted() {
    let mock = Arc::new(MockServer::builder().start().await.unwrap());
    let target = Arc::clone(&mock);
    tokio::task::spawn_blocking(move || {
        let lab = lab("");
        let folder = lab.folder().canonicalize().unwrap();
        let mut install = login(&lab, &["install"]);
        // As typed in the folder above, with a profile that only the terminal knows.
        install.args(&target.mount_arguments("folder")[1..]).current_dir(lab.path(".")).env("AWS_PROFILE", "work");
        install.args(["-o", "log-level=debug,log_file=job.log"]);
        install.env("AWS_SECRET_ACCESS_KEY", "SECRETSECRETSECRET");
        let done = run(&mut install, ANSWER).unwrap().ok().unwrap();
        assert!(done.stdout.contains("now and at every login"), "{}", done.stdout);
        let [unit] = &units(&lab)[..] else { panic!("{:?}", units(&lab)) };
        let name = unit.file_name().unwrap().to_str().unwrap();
        assert_eq!(asked(&lab), ["--user daemon-reload".to_owned(), format!("--user enable --now {name}")]);
        let text = fs::read_to_string(unit).unwrap();
        assert!(text.contains(&format!("\"{}\"", folder.display())), "the folder must be absolute: {text}");
        assert!(text.contains("\"--profile\" \"work\"") && !text.contains("SECRET"), "{text}");
        assert_eq!(fs::metadata(unit).unwrap().permissions().mode() & 0o777, 0o600);

        // What systemd would start.
        let command = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let words: Vec<_> =
            command.trim_matches('"').split("\" \"").filter(|word| !["--profile", "work"].contains(word)).collect();
        let said = fs::File::create(lab.path("said")).unwrap();
        let mut job = lab.product(&words[1..]);
        job.envs(target.environment()).current_dir("/").stdout(said.try_clone().unwrap()).stderr(said);
        let mut job = Running::start(&mut job).unwrap();
        let start = Instant::now();
        while !lab.is_mounted() {
            assert!(start.elapsed() < LIMIT / 2 && job.goes_on());
            std::thread::sleep(Duration::from_millis(20));
        }
        let done = run(&mut lab.product(["umount".as_ref(), folder.as_os_str()]), ANSWER).unwrap();
        assert_eq!((done.code(), job.code(ANSWER).unwrap()), (0, 0), "an end that is no failure is not repeated");
        // Nothing bounds what a service manager writes down.
        let [said, logged] = ["said", "job.log"].map(|name| fs::read_to_string(lab.path(name)).unwrap());
        assert!(said.lines().count() == 1 && said.contains("is mounted on"), "{said}");
        assert!(logged.contains("DEBUG"), "{logged}");

        let listed = ask(&lab, &["list"]).ok().unwrap().stdout;
        assert!(listed.contains(&folder.display().to_string()) && listed.contains("runs"), "{listed}");
        let again =
            run(login(&lab, &["install"]).args(&target.mount_arguments(&folder.display().to_string())[1..]), ANSWER);
        let again = again.unwrap();
        assert_eq!((again.code(), again.stderr.contains("already")), (4, true), "{again:?}");
        let removed = ask(&lab, &["remove", &folder.display().to_string()]).ok().unwrap();
        assert!(removed.stdout.contains("no more"), "{removed:?}");
        assert_eq!(units(&lab), Vec::<PathBuf>::new());
        assert!(asked(&lab).contains(&format!("--user disable --now {name}")), "{:?}", asked(&lab));
        assert!(ask(&lab, &["list"]).ok().unwrap().stdout.contains("No folder is mounted at login"));
    })
    .await
    .unwrap();
    assert_eq!(mock.verdict(), Vec::<String>::new());
}

#[test]
fn without_a_service_manager_the_job_is_there_at_the_next_login_all_the_same() {
    let nobody = lab("exit 0");
    fs::remove_file(nobody.path("bin/systemctl")).unwrap();
    let folder = nobody.folder().display().to_string();
    let mut install = login(&nobody, &["install", "--plain", "127.0.0.1", &folder]);
    let done = run(install.env("PATH", nobody.path("bin")), ANSWER).unwrap().ok().unwrap();
    assert!(done.stdout.contains("not now (systemctl cannot be started"), "{}", done.stdout);
    let [unit] = &units(&nobody)[..] else { panic!("{:?}", units(&nobody)) };
    let [link] = &wanted(&nobody)[..] else { panic!("nothing starts it: {:?}", wanted(&nobody)) };
    assert_eq!((link.file_name(), &fs::canonicalize(link).unwrap()), (unit.file_name(), &unit.canonicalize().unwrap()));

    // One that has no session to speak to, as in a container.
    let deaf = lab("echo 'Failed to connect to bus' >&2; exit 1");
    let folder = deaf.folder().display().to_string();
    let done = ask(&deaf, &["install", "--plain", "127.0.0.1", &folder]).ok().unwrap();
    assert!(
        done.stdout.contains("Failed to connect to bus") && done.stdout.contains("at every login"),
        "{}",
        done.stdout
    );
    assert_eq!((units(&deaf).len(), wanted(&deaf).len()), (1, 1));
    let listed = ask(&deaf, &["list"]).ok().unwrap().stdout;
    assert!(listed.contains("does not run"), "{listed}");
    // `disable` cannot be said to it either.
    ask(&deaf, &["remove", &folder]).ok().unwrap();
    assert_eq!((units(&deaf), wanted(&deaf)), (Vec::new(), Vec::new()));
}

#[test]
fn a_job_that_cannot_be_started_leaves_nothing_behind() {
    // It has the links made before it starts the job.
    let lab = lab("case $2 in enable)
           wants=$HOME/.config/systemd/user/default.target.wants; mkdir $wants; ln -s ../$4 $wants
           echo no such luck >&2; exit 5;;
         esac");
    let folder = lab.folder().display().to_string();
    let done = ask(&lab, &["install", "--plain", "127.0.0.1", &folder]);
    assert_eq!((done.code(), done.stderr.contains("no such luck")), (1, true), "{done:?}");
    assert_eq!((units(&lab), wanted(&lab)), (Vec::new(), Vec::new()));
}

#[test]
fn what_mount_would_refuse_is_refused_before_anything_is_written() {
    let lab = lab("");
    let folder = lab.folder().display().to_string();
    let missing = ask(&lab, &["install", "fs-1", &lab.path("missing").display().to_string()]);
    assert_eq!((missing.code(), missing.stderr.contains("does not exist")), (4, true), "{missing:?}");
    assert_eq!(ask(&lab, &["install", "fs-1"]).code(), 2);
    assert_eq!(ask(&lab, &["install", "fs-1", &folder, "--no-such-option"]).code(), 2);
    assert_eq!(ask(&lab, &["install", "--ca-file", "/nonexistent.pem", "fs-1", &folder]).code(), 2);
    assert_eq!(ask(&lab, &["install"]).code(), 2);
    let unknown = ask(&lab, &["remove", &folder]);
    assert_eq!((unknown.code(), unknown.stderr.contains("login list")), (14, true), "{unknown:?}");
    assert_eq!((units(&lab), asked(&lab)), (Vec::new(), Vec::new()));
    let homeless = run(login(&lab, &["list"]).env_remove("HOME"), ANSWER).unwrap();
    assert_eq!((homeless.code(), homeless.stderr.contains("HOME")), (2, true), "{homeless:?}");
}

#[test]
fn paths_of_a_job_are_absolute_and_options_of_every_verb_may_stand_in_front() {
    let lab = lab("");
    let ca = lab.path("ca.pem");
    fs::write(&ca, "").unwrap();
    let install = |words: &[&str]| {
        let done = run(login(&lab, words).current_dir(lab.path(".")), ANSWER).unwrap();
        (done.code(), done.stderr)
    };
    let missing = install(&["install", "fs-1", "folder", "-o", "ro,ca_file=no.pem"]);
    assert!(missing.0 == 2 && missing.1.contains("no.pem cannot be read"), "{missing:?}");
    let done = install(&[
        "--log-file",
        "x.log",
        "install",
        "--log-level",
        "debug",
        "-o",
        "ro,ca_file=ca.pem",
        "--profile",
        "folder",
        "fs-1",
        "folder",
    ]);
    assert_eq!(done, (0, String::new()));
    let text = fs::read_to_string(&units(&lab)[0]).unwrap();
    let at = |name: &str| lab.path(".").canonicalize().unwrap().join(name).display().to_string();
    let wanted = format!(
        "\"--log-level\",\"debug\",\"--log-file\",\"{}\",\"-o\",\"ro,ca_file={}\",\
         \"--profile\",\"folder\",\"fs-1\",\"{}\"]",
        at("x.log"),
        at("ca.pem"),
        at("folder")
    );
    assert!(text.contains(&wanted), "{wanted}: {text}");
}

/// Nobody reads what a service says, so the log must have it too.
#[test]
fn a_refusal_is_in_the_log_file_too() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let (missing, log) = (lab.path("missing").display().to_string(), lab.path("log"));
    let mut mount = lab.product(["mount", "--foreground", "--plain", "127.0.0.1", &missing, "--log-file"]);
    let done = run(mount.arg(&log), ANSWER).unwrap();
    assert_eq!((done.code(), done.stderr.contains("does not exist")), (4, true), "{done:?}");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("ERROR") && log.contains("does not exist"), "{log}");
}

#[test]
fn a_mount_that_waits_for_the_network_ends_when_it_is_told_to() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    // A port that nobody listens on, for as long as its owner is not listening.
    let owner = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = owner.local_addr().unwrap().to_string();
    drop(owner);
    let (folder, log) = (lab.folder().display().to_string(), lab.path("log"));
    let mut mount = lab.product(["mount", "--foreground", "--wait-for-network", "--plain", &target, &folder]);
    let mut waiting = Running::start(mount.arg("--log-file").arg(&log)).unwrap();
    let start = Instant::now();
    while !fs::read_to_string(&log).unwrap_or_default().contains("waiting for the network") {
        assert!(start.elapsed() < ANSWER && waiting.goes_on());
        std::thread::sleep(Duration::from_millis(20));
    }
    waiting.signal(Signal::SIGTERM).unwrap();
    assert_eq!(waiting.code(ANSWER).unwrap(), 7);
}

/// Whoever waits at the terminal may give up, and nobody is left to see a mount that comes later.
#[test]
fn a_mount_that_waits_in_the_background_ends_with_whoever_waits_for_it() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let owner = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = owner.local_addr().unwrap().to_string();
    drop(owner);
    let mut mount = lab.product(["mount", "--wait-for-network", "--plain", &target]);
    let mut waiting = Running::start(mount.arg(lab.folder())).unwrap();
    let log_says = |word: &str| {
        let start = Instant::now();
        while !lab.log().contains(word) {
            assert!(start.elapsed() < ANSWER * 2, "no `{word}` in: {}", lab.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    // More than once: by then the copy has left the terminal.
    log_says("pause=2s");
    assert!(waiting.goes_on());
    waiting.signal(Signal::SIGINT).unwrap();
    assert_eq!(waiting.code(ANSWER).unwrap(), -1);
    log_says("ERROR");
}
