//! The program: it starts, says how to reach it, serves, and ends when it is told to.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod peer;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use peer::Peer;
use peer::session::Session;
use serde_json::Value;
use tokio::net::TcpStream;

/// A running program; it is killed when this is dropped.
struct Program {
    child: Child,
    ready: Value,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(dir: &Path, arguments: &[&str]) -> Program {
    let ready = dir.join("ready.json");
    let _ = std::fs::remove_file(&ready);
    let child = Command::new(env!("CARGO_BIN_EXE_mock-mount-target"))
        .arg("serve")
        .args(arguments)
        .arg("--ready-file")
        .arg(&ready)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut program = Program { child, ready: Value::Null };
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(30) {
        if let Ok(text) = std::fs::read_to_string(&ready) {
            program.ready = serde_json::from_str(&text).unwrap();
            return program;
        }
        assert!(program.child.try_wait().unwrap().is_none(), "the program ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the program does not get ready");
}

impl Program {
    fn text(&self, field: &str) -> &str {
        self.ready[field].as_str().unwrap()
    }
}

#[tokio::test]
async fn it_serves_from_memory_and_its_ready_file_says_how_to_reach_it() {
    let dir = tempfile::tempdir().unwrap();
    let program = start(dir.path(), &["--memory", "--plain-listen", "127.0.0.1:0", "--seed", "5"]);
    for field in ["address", "ca_file", "file_system_id", "region", "server_name", "mount_command"] {
        assert!(!program.text(field).is_empty(), "{field}");
    }
    assert_eq!(program.ready["seed"], 5);
    let ca = std::fs::read_to_string(program.text("ca_file")).unwrap();
    assert!(ca.starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(program.text("address").starts_with("127.0.0.1:"));
    let stream = TcpStream::connect(program.text("plain_address")).await.unwrap();
    let mut session = Session::establish(Peer::new(stream), "one", 0).await.unwrap();
    let file = session.create_file("a").await.unwrap();
    session.close(&file).await.unwrap();
    session.leave().await.unwrap();
}

#[test]
fn a_state_directory_makes_the_next_program_the_same_to_its_clients() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let arguments = ["--state-dir", state.to_str().unwrap()];
    let first = start(dir.path(), &arguments);
    let (environment, ca_file) = (first.ready["environment"].clone(), first.text("ca_file").to_owned());
    let ca = std::fs::read_to_string(&ca_file).unwrap();
    drop(first);
    let second = start(dir.path(), &arguments);
    assert_eq!(second.ready["environment"], environment);
    assert_eq!(second.text("ca_file"), ca_file);
    assert_eq!(std::fs::read_to_string(&ca_file).unwrap(), ca);
}

#[test]
fn two_backends_at_once_are_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_mock-mount-target"))
        .args(["serve", "--memory", "--forward", "127.0.0.1:1"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be used with"));
}

#[test]
fn choices_without_effect_are_refused_with_a_sentence() {
    for (arguments, part) in [
        (["--read-only-key", "--forward", "127.0.0.1:1"], "have no effect in front of another server"),
        (["--delegations", "--profile", "s3files"], "--delegations needs --profile full"),
    ] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_mock-mount-target")).arg("serve").args(arguments).output().unwrap();
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(part), "{said}");
    }
}

#[cfg(unix)]
#[test]
fn it_ends_well_when_it_is_told_to_terminate() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = start(dir.path(), &[]);
    let ca_file = program.text("ca_file").to_owned();
    let pid = program.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(program.child.wait().unwrap().success());
    assert!(!Path::new(&ca_file).exists());
}

#[cfg(unix)]
#[tokio::test]
async fn a_judge_fails_when_a_client_leaves_something_open_and_only_then() {
    for leaves_open in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut program = start(dir.path(), &["--plain-listen", "127.0.0.1:0", "--judge"]);
        let stream = TcpStream::connect(program.text("plain_address")).await.unwrap();
        let mut session = Session::establish(Peer::new(stream), "one", 0).await.unwrap();
        let file = session.create_file("a").await.unwrap();
        if !leaves_open {
            session.close(&file).await.unwrap();
            session.leave().await.unwrap();
        }
        let pid = program.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert_eq!(program.child.wait().unwrap().success(), !leaves_open);
    }
}
