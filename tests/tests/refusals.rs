//! Every set-up that cannot work is refused within 10 s, with one sentence of its own, an exit code of its own, and
//! nothing left behind.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use mock_mount_target::{Credentials, MockHandle, MockServer, MockServerBuilder, ServerCertificate};
use whole_product_tests::{ANSWER, Lab, run};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(1);

/// What a refusal must be like.
struct Expected {
    code: i32,
    /// Words that its sentence must hold: the cause and the remedy.
    words: &'static [&'static str],
}

/// Runs a command of the lab and holds it to what is expected.
fn refuse(lab: &Lab, command: &mut Command, expected: &Expected) {
    let done = run(command, ANSWER).unwrap();
    assert_eq!(done.code(), expected.code, "{done:?}");
    assert!(done.stdout.is_empty(), "{done:?}");
    assert_eq!(done.stderr.trim_end().lines().count(), 1, "more than one line: {}", done.stderr);
    for word in expected.words {
        assert!(done.stderr.contains(word), "`{word}` is not in: {}", done.stderr);
    }
    assert!(!lab.is_mounted());
}

/// Mounts a mock in both ways, after `change` has spoilt the command, and expects a refusal.
async fn with_mock(
    builder: MockServerBuilder,
    expected: Expected,
    change: impl Fn(&MockHandle, &mut Command) + Send + 'static,
) {
    let mock = Arc::new(builder.start().await.unwrap());
    let target = Arc::clone(&mock);
    tokio::task::spawn_blocking(move || {
        for way in [&[][..], &["--foreground"]] {
            let lab = Lab::new(PRODUCT, LIMIT).unwrap();
            let mut command = lab.mount_command(&target, way);
            change(&target, &mut command);
            refuse(&lab, &mut command, &expected);
            lab.assert_clean().unwrap();
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_key_is_denied_and_the_missing_action_is_named() {
    with_mock(
        MockServer::builder(),
        Expected { code: 12, words: &["denied access", "s3files:ClientMount"] },
        |_, command| {
            command.env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY");
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_without_the_mount_action_are_denied() {
    let builder = MockServer::builder().also_accept(Credentials::new("AKIAMAYNOTMOUNT00000", "secret").without_mount());
    with_mock(builder, Expected { code: 12, words: &["denied access", "s3files:ClientMount"] }, |_, command| {
        command.env("AWS_ACCESS_KEY_ID", "AKIAMAYNOTMOUNT00000").env("AWS_SECRET_ACCESS_KEY", "secret");
        command.env_remove("AWS_SESSION_TOKEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_file_systems_id_is_seen_in_the_servers_name() {
    with_mock(
        MockServer::builder().file_system_id("fs-0aaaaaaaaaaaaaaaa"),
        Expected { code: 9, words: &["is not fs-0bbbbbbbbbbbbbbbb", "check the file system id"] },
        |mock, command| replace_argument(command, mock.fs_id(), "fs-0bbbbbbbbbbbbbbbb"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_region_is_seen_in_the_servers_name() {
    with_mock(MockServer::builder(), Expected { code: 9, words: &["eu-north-1", "the region"] }, |mock, command| {
        replace_argument(command, mock.region(), "eu-north-1");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_name_in_its_certificate_is_refused() {
    with_mock(
        MockServer::builder().server_certificate(ServerCertificate::WrongName),
        Expected { code: 9, words: &["its certificate is for", "check the file system id and the region"] },
        |_, _| {},
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_server_certificate_is_refused() {
    with_mock(
        MockServer::builder().server_certificate(ServerCertificate::Expired),
        Expected { code: 11, words: &["disagree about the time", "clock"] },
        |_, _| {},
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_certificate_authority_must_be_named() {
    with_mock(
        MockServer::builder(),
        Expected { code: 10, words: &["nobody that is trusted", "--ca-file"] },
        |mock, command| {
            let ca_file = mock.ca_file().display().to_string();
            let arguments: Vec<_> = command.get_args().map(|argument| argument.to_str().unwrap().to_owned()).collect();
            let kept = arguments.into_iter().filter(|argument| *argument != "--ca-file" && *argument != ca_file);
            set_arguments(command, kept.collect());
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_credentials_are_said_to_be_missing() {
    with_mock(
        MockServer::builder(),
        Expected { code: 5, words: &["no AWS credentials", "aws configure"] },
        |_, command| {
            for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
                command.env_remove(name);
            }
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_holds_nothing_is_named() {
    with_mock(
        MockServer::builder(),
        Expected { code: 5, words: &["profile `nobody`", "aws configure"] },
        |_, command| {
            command.args(["--profile", "nobody"]);
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_the_server_does_not_have_is_named() {
    with_mock(MockServer::builder(), Expected { code: 1, words: &["/no/such", "check --path"] }, |_, command| {
        command.args(["--path", "/no/such"]);
    })
    .await;
}

fn replace_argument(command: &mut Command, old: &str, new: &str) {
    let arguments = command.get_args().map(|argument| argument.to_str().unwrap());
    let arguments = arguments.map(|argument| if argument == old { new } else { argument }.to_owned()).collect();
    set_arguments(command, arguments);
}

/// `Command` has no way to take an argument back, so a new one takes over everything else.
fn set_arguments(command: &mut Command, arguments: Vec<String>) {
    let mut new = Command::new(command.get_program());
    new.args(arguments).env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            new.env(name, value);
        }
    }
    *command = new;
}

const FS: [&str; 4] = ["--file-system-id", "fs-0123456789abcdef0", "--region", "us-east-1"];

fn with_keys(command: &mut Command) -> &mut Command {
    command.env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE000000000").env("AWS_SECRET_ACCESS_KEY", "secret")
}

/// Mounts `target` and expects a refusal.
fn refuse_target(target: &str, further: &[&str], expected: &Expected) {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let mut command = lab.product(["mount", target, &lab.folder().display().to_string()]);
    refuse(&lab, with_keys(&mut command).args(further), expected);
    lab.assert_clean().unwrap();
}

#[test]
fn a_server_without_tls_is_told_from_one_with() {
    for says in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", b""] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // The client may be gone by now.
                let _ = stream.and_then(|mut stream| {
                    let _ = stream.read(&mut [0; 1024])?;
                    stream.write_all(says)
                });
            }
        });
        let expected = Expected { code: 8, words: &["does not speak TLS", "check the host and the port"] };
        refuse_target(&address.to_string(), &FS, &expected);
    }
}

#[test]
fn a_closed_port_is_told_from_a_wrong_name() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let closed = Expected { code: 7, words: &["refused the connection", "check the port"] };
    refuse_target(&format!("127.0.0.1:{port}"), &FS, &closed);
    refuse_target(&format!("127.0.0.1:{port}"), &["--plain"], &closed);
    let unknown = Expected { code: 6, words: &["no-such-host.invalid", "could not be resolved"] };
    refuse_target("no-such-host.invalid", &FS, &unknown);
}

#[test]
fn what_was_typed_wrong_is_said_with_code_2() {
    let usage = |words| Expected { code: 2, words };
    refuse_target("nlb-1.example.org", &["--region", "us-east-1"], &usage(&["--file-system-id"]));
    refuse_target("https://host", &FS, &usage(&["leave out the scheme"]));
    refuse_target("192.0.2.1", &["--plain"], &usage(&["this machine"]));
    refuse_target("127.0.0.1", &["--plain", "--path", "/a/../b"], &usage(&["--path"]));
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let done = run(&mut lab.product(["mount", "127.0.0.1"]), ANSWER).unwrap();
    assert_eq!(done.code(), 2, "{done:?}");
    let done = run(&mut lab.product(["mount", "127.0.0.1", "x", "--cache-size", "12parsecs"]), ANSWER).unwrap();
    assert_eq!(done.code(), 2, "{done:?}");
}

#[test]
fn a_server_that_speaks_only_nfs_4_0_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            while let Some(xid) = read_call(&mut stream) {
                // An accepted reply to COMPOUND: status NFS4ERR_MINOR_VERS_MISMATCH, no tag, no results.
                let words = [xid, 1, 0, 0, 0, 0, 10021, 0, 0];
                let mut record = (0x8000_0000 | (words.len() as u32 * 4)).to_be_bytes().to_vec();
                record.extend(words.iter().flat_map(|word| word.to_be_bytes()));
                if stream.write_all(&record).is_err() {
                    break;
                }
            }
        }
    });
    let expected = Expected { code: 13, words: &["no NFSv4.2 session", "NFSv4.1"] };
    refuse_target(&address.to_string(), &["--plain"], &expected);
}

/// Reads a record of one fragment and returns its xid.
fn read_call(stream: &mut impl Read) -> Option<u32> {
    let mut head = [0; 8];
    stream.read_exact(&mut head).ok()?;
    let mark = u32::from_be_bytes(head[..4].try_into().unwrap());
    let mut rest = vec![0; (mark & 0x7fff_ffff) as usize - 4];
    stream.read_exact(&mut rest).ok()?;
    Some(u32::from_be_bytes(head[4..].try_into().unwrap()))
}

#[test]
fn a_folder_that_cannot_be_mounted_is_refused_before_anything_is_connected() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let file = lab.path("file");
    fs::write(&file, b"x").unwrap();
    let full = lab.path("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("x"), b"x").unwrap();
    let cases = [
        (lab.path("missing"), "mkdir -p"),
        (file, "not a directory"),
        (full, "is not empty"),
        ("/proc".into(), "is a mount already"),
    ];
    for (folder, word) in cases {
        let words: &'static [&'static str] = Box::leak(Box::new([word]));
        // The target does not exist: nobody may ask for it.
        let mut command = lab.product(["mount", "no-such-host.invalid", &folder.display().to_string()]);
        refuse(&lab, with_keys(&mut command).args(FS), &Expected { code: 4, words });
    }
}
