//! `doctor` names the right step, cause and remedy for each set-up that is broken, and its report tells nobody's secrets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use mock_mount_target::{AccessPoint, Credentials, MockHandle, MockServer, MockServerBuilder, ServerCertificate};
use serde_json::Value;
use whole_product_tests::{Done, Lab, run};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(1);
const ANSWER: Duration = Duration::from_secs(40);
const FS: [&str; 4] = ["--file-system-id", "fs-0123456789abcdef0", "--region", "us-east-1"];

/// What must be found.
struct Expected {
    /// The step that fails.
    step: &'static str,
    code: i32,
    /// Words of its cause and remedy, hints included.
    words: &'static [&'static str],
}

/// The findings of a run with `--json`, after they were held to `expected`.
fn found(command: &mut Command, expected: &Expected) -> Value {
    let done = run(command.arg("--json"), ANSWER).unwrap();
    let json: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    let failed: Vec<&Value> =
        json["steps"].as_array().unwrap().iter().filter(|step| step["state"] == "failed").collect();
    assert_eq!((done.code(), failed.len()), (expected.code, 1), "{done:?}");
    assert_eq!(failed[0]["step"], expected.step, "{done:?}");
    let told = failed[0].to_string();
    for word in expected.words {
        assert!(told.contains(word), "`{word}` is not in: {told}");
    }
    // The sentence of the failure, once, for whoever reads no JSON.
    assert_eq!(done.stderr.trim_end().lines().count(), 1, "{}", done.stderr);
    json
}

fn with_keys(command: &mut Command) -> &mut Command {
    command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", "secretsecret")
}

/// `doctor` for a target that is no mock.
fn ask(lab: &Lab, target: &str, options: &[&str]) -> Command {
    let mut command = lab.product(["doctor", target, "--clock", "none"]);
    with_keys(command.args(options));
    command
}

/// `doctor` for a mock and the lab's folder.
fn ask_mock(lab: &Lab, mock: &MockHandle) -> Command {
    let mut arguments = mock.mount_arguments(&lab.folder().display().to_string());
    "doctor".clone_into(&mut arguments[0]);
    let mut command = lab.product(arguments);
    command.args(["--clock", "none"]).envs(mock.environment());
    command
}

fn with_mock(builder: MockServerBuilder, test: impl FnOnce(&Lab, &MockHandle)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let mock = runtime.block_on(builder.start()).unwrap();
    test(&lab, &mock);
    runtime.block_on(mock.stop());
}

/// A listener that does something with each connection.
fn listener(serve: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
    address
}

#[test]
fn a_healthy_set_up_passes_every_step_and_leaves_nothing() {
    with_mock(MockServer::builder(), |lab, mock| {
        let done = run(&mut ask_mock(lab, mock), ANSWER).unwrap();
        assert_eq!((done.code(), done.stderr.as_str()), (0, ""), "{done:?}");
        for step in
            ["name", "tcp", "credentials", "certificate", "tls", "iam", "nfs", "session", "root", "fuse", "folder"]
        {
            let line = done.stdout.lines().find(|line| line.split_whitespace().nth(1) == Some(step));
            assert!(
                line.is_some_and(|line| line.starts_with("ok ") && line.contains(" ms ")),
                "{step}: {}",
                done.stdout
            );
        }
        assert!(done.stdout.contains("TLSv1_3") && done.stdout.contains("let in, bound"), "{}", done.stdout);
        assert_eq!(mock.verdict(), Vec::<String>::new());
        lab.assert_clean().unwrap();
    });
}

#[test]
fn without_a_target_this_machine_alone_is_looked_at() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let done = run(&mut lab.product(["doctor"]), ANSWER).unwrap().ok().unwrap();
    assert_eq!(done.stdout.lines().count(), 1, "{}", done.stdout);
    assert!(done.stdout.contains("/dev/fuse"), "{}", done.stdout);
}

/// In a namespace of mounts of its own, where /dev is hidden.
#[test]
fn without_fuse_the_code_is_3_and_what_is_missing_is_named() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let plain = lab.product(["doctor"]);
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs none /dev || exit 99; exec \"$0\" doctor \"$@\"";
    command.args(["-m", "--propagation", "private", "sh", "-c", script, PRODUCT]);
    command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))));
    let expected = Expected { step: "fuse", code: 3, words: &["there is no /dev/fuse", "modprobe fuse"] };
    found(&mut command, &expected);
}

#[test]
fn set_up_1_a_name_that_does_not_exist() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let expected = Expected { step: "name", code: 6, words: &["no-such-host.invalid", "VPN"] };
    let json = found(&mut ask(&lab, "no-such-host.invalid", &FS), &expected);
    // What could not be tried is listed as that.
    assert_eq!(json.to_string().matches("not tried").count(), 9, "{json}");
}

#[test]
fn set_up_2_a_port_on_which_nothing_listens() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let expected = Expected { step: "tcp", code: 7, words: &["refused the connection", "load balancer"] };
    found(&mut ask(&lab, &format!("127.0.0.1:{port}"), &FS), &expected);
}

#[test]
fn set_up_3_a_black_hole_as_a_security_group_makes_it() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    // A backlog that is full answers nothing, like a firewall.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_listener, _held, address) = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = Vec::new();
        let connect = || tokio::time::timeout(Duration::from_millis(500), tokio::net::TcpStream::connect(address));
        while let Ok(stream) = connect().await {
            held.push(stream.unwrap());
            assert!(held.len() < 64, "the backlog never filled");
        }
        (listener, held, address)
    });
    let expected = Expected { step: "tcp", code: 7, words: &["did not answer", "security group", "--port 443"] };
    found(&mut ask(&lab, &address.to_string(), &FS), &expected);
}

#[test]
fn set_up_4_no_credentials() {
    with_mock(MockServer::builder(), |lab, mock| {
        let mut command = ask_mock(lab, mock);
        for (name, _) in mock.environment() {
            command.env_remove(name);
        }
        let expected = Expected { step: "credentials", code: 5, words: &["no AWS credentials", "aws sso login"] };
        found(&mut command, &expected);
    });
}

#[test]
fn set_up_5_a_clock_that_is_an_hour_late_is_a_note_because_anybody_can_tell_that() {
    let web = listener(|mut stream| {
        let mut asked = [0; 1024];
        let _ = stream.read(&mut asked);
        let ahead = SystemTime::now() + Duration::from_hours(1);
        let seconds = ahead.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let mut date = Command::new("date");
        date.args(["-u", "-d", &format!("@{seconds}"), "+%a, %d %b %Y %H:%M:%S GMT"]).env("LC_ALL", "C");
        let date = String::from_utf8(date.output().unwrap().stdout).unwrap();
        let _ = write!(stream, "HTTP/1.1 405 Method Not Allowed\r\nDate: {}\r\n\r\n", date.trim());
    });
    with_mock(MockServer::builder(), |lab, mock| {
        let mut arguments = mock.mount_arguments(&lab.folder().display().to_string());
        "doctor".clone_into(&mut arguments[0]);
        let mut command = lab.product(arguments);
        command.args(["--clock", &web]).envs(mock.environment());
        let done = run(&mut command, ANSWER).unwrap().ok().unwrap();
        let line = done.stdout.lines().find(|line| line.contains(" clock ")).unwrap();
        assert!(line.starts_with("note ") && line.contains("behind"), "{line}");
        assert!(line.contains("set this machine's clock") && done.stdout.contains("let in"), "{done:?}");
    });
}

#[test]
fn set_up_6_a_server_that_speaks_no_tls() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let address = listener(|mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
    });
    let expected = Expected { step: "tls", code: 8, words: &["does not speak TLS", "must be TCP, not TLS"] };
    found(&mut ask(&lab, &address, &FS), &expected);
}

#[test]
fn set_up_7_a_certificate_of_another_file_system() {
    let builder = MockServer::builder().file_system_id("fs-0bbbbbbbbbbbbbbbb");
    with_mock(builder, |lab, mock| {
        let mut arguments = mock.mount_arguments(&lab.folder().display().to_string());
        "doctor".clone_into(&mut arguments[0]);
        for argument in &mut arguments {
            *argument = argument.replace("fs-0bbbbbbbbbbbbbbbb", "fs-0aaaaaaaaaaaaaaaa");
        }
        let mut command = lab.product(arguments);
        command.args(["--clock", "none"]).envs(mock.environment());
        let expected = Expected {
            step: "tls",
            code: 9,
            words: &["is not fs-0aaaaaaaaaaaaaaaa", "leads there with --file-system-id fs-0bbbbbbbbbbbbbbbb"],
        };
        found(&mut command, &expected);
    });
    with_mock(MockServer::builder().server_certificate(ServerCertificate::Expired), |lab, mock| {
        let expected = Expected { step: "tls", code: 11, words: &["disagree about the time", "clock"] };
        found(&mut ask_mock(lab, mock), &expected);
    });
}

#[test]
fn set_up_8_credentials_that_iam_does_not_let_in() {
    let builder = MockServer::builder().also_accept(Credentials::new("AKIAMAYNOTMOUNT00000", "secret").without_mount());
    with_mock(builder, |lab, mock| {
        let mut command = ask_mock(lab, mock);
        command.env("AWS_ACCESS_KEY_ID", "AKIAMAYNOTMOUNT00000").env("AWS_SECRET_ACCESS_KEY", "secret");
        command.env_remove("AWS_SESSION_TOKEN");
        let words = &["denied access", "s3files:ClientMount", "aws sts get-caller-identity", "date -u"];
        found(&mut command, &Expected { step: "iam", code: 12, words });
    });
}

/// Answers every call with these words behind its transaction id.
fn rpc_server(words: &'static [u32]) -> String {
    listener(move |mut stream| {
        let mut head = [0; 8];
        while stream.read_exact(&mut head).is_ok() {
            let mark = u32::from_be_bytes(head[..4].try_into().unwrap()) & 0x7fff_ffff;
            let mut rest = vec![0; mark as usize - 4];
            // NFSv4's NULL procedure has nothing behind its header of ten words.
            let is_null = rest.len() == 36;
            if stream.read_exact(&mut rest).is_err() {
                break;
            }
            let words = if is_null && words.get(4) == Some(&0) { &words[..5] } else { words };
            let mut record = (0x8000_0000 | (words.len() as u32 * 4 + 4)).to_be_bytes().to_vec();
            record.extend_from_slice(&head[4..]);
            record.extend(words.iter().flat_map(|word| word.to_be_bytes()));
            if stream.write_all(&record).is_err() {
                break;
            }
        }
    })
}

#[test]
fn set_up_9_an_nfs_server_of_another_version() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    // PROG_MISMATCH: versions 2 to 3 are served.
    let old = rpc_server(&[1, 0, 0, 0, 2, 2, 3]);
    let expected = Expected { step: "nfs", code: 13, words: &["does not speak NFS version 4", "mount target"] };
    found(&mut lab.product(["doctor", &old, "--plain"]), &expected);
    let done = run(&mut lab.product(["ls", &old, "--plain"]), ANSWER).unwrap();
    assert_eq!((done.code(), done.stderr.contains("versions 2 to 3")), (13, true), "{done:?}");
    // NFS4ERR_MINOR_VERS_MISMATCH: 4.0 only.
    let older = rpc_server(&[1, 0, 0, 0, 0, 10021, 0, 0]);
    let expected = Expected { step: "session", code: 13, words: &["neither NFSv4.2 nor NFSv4.1"] };
    found(&mut lab.product(["doctor", &older, "--plain"]), &expected);
}

#[test]
fn set_up_10_a_folder_that_is_missing() {
    with_mock(MockServer::builder(), |lab, mock| {
        fs::remove_dir(lab.folder()).unwrap();
        let expected = Expected { step: "folder", code: 4, words: &["does not exist", "mkdir -p"] };
        let json = found(&mut ask_mock(lab, mock), &expected);
        assert!(!json.to_string().contains("not tried"), "{json}");
        fs::create_dir(lab.folder()).unwrap();
    });
}

/// Says nothing, but keeps what it has accepted.
fn silent() -> String {
    let held = std::sync::Mutex::new(Vec::new());
    listener(move |stream| held.lock().unwrap().push(stream))
}

/// As [`found`], and in time.
fn found_within(limit: Duration, command: &mut Command, expected: &Expected) {
    let start = Instant::now();
    found(command, expected);
    let took = start.elapsed();
    assert!(took < limit, "{} took {took:?}", expected.step);
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_given_up_in_time_at_each_step() {
    const STARTING: Duration = Duration::from_secs(3);
    let lab = Lab::new(PRODUCT, Duration::from_mins(2)).unwrap();
    let asked = Duration::from_secs(1);
    let within = ["--step-timeout", "1s"];
    let code_8 = |words| Expected { step: "tls", code: 8, words };
    // By itself, and sooner when it is told.
    let own = Duration::from_secs(8);
    found_within(own + STARTING, &mut ask(&lab, &silent(), &FS), &code_8(&["said nothing for 8 s"]));
    let mut command = ask(&lab, &silent(), &FS);
    found_within(asked + STARTING, command.args(within), &code_8(&["said nothing for 1 s"]));
    let mut command = lab.product(["doctor", &silent(), "--plain"]);
    let words = &["within 1 s"];
    found_within(asked + STARTING, command.args(within), &Expected { step: "nfs", code: 1, words });
    // Its NULL procedure answers, and nothing else does.
    let null = listener(|mut stream| {
        let mut call = [0; 44];
        // The step before only connects.
        if stream.read_exact(&mut call).is_err() {
            return;
        }
        let words = [0x8000_0018, u32::from_be_bytes(call[4..8].try_into().unwrap()), 1, 0, 0, 0, 0];
        stream.write_all(&words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>()).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let mut command = lab.product(["doctor", &null, "--plain"]);
    found_within(asked + STARTING, command.args(within), &Expected { step: "session", code: 1, words });
}

#[test]
fn a_mount_target_that_falls_silent_half_way_is_given_up_in_time() {
    const IN_TIME: Duration = Duration::from_secs(6);
    with_mock(MockServer::builder(), |lab, mock| {
        for (call, step) in [("bind", "iam"), ("READDIR", "root")] {
            let dropped = format!("[[fault]]\non = '{call}'\ntimes = 100\ndo = 'drop_reply'");
            mock.add_faults(mock_mount_target::FaultPlan::from_toml(&dropped, 1).unwrap());
            let expected = Expected { step, code: 1, words: &["within 1 s"] };
            found_within(IN_TIME, ask_mock(lab, mock).args(["--step-timeout", "1s"]), &expected);
            mock.clear_wire_faults();
        }
    });
}

#[test]
fn credentials_that_take_for_ever_are_given_up_in_time() {
    with_mock(MockServer::builder(), |lab, mock| {
        fs::create_dir_all(lab.path("home/.aws")).unwrap();
        fs::write(lab.path("home/.aws/config"), "[profile slow]\ncredential_process = sleep 60\n").unwrap();
        let mut command = ask_mock(lab, mock);
        for (name, _) in mock.environment() {
            command.env_remove(name);
        }
        let expected = Expected { step: "credentials", code: 5, words: &[] };
        found_within(Duration::from_secs(15), command.args(["--profile", "slow"]), &expected);
    });
}

#[test]
fn an_access_point_of_another_file_system_is_denied_and_named() {
    with_mock(MockServer::builder(), |lab, mock| {
        let mut command = ask_mock(lab, mock);
        command.args(["--access-point", "fsap-0123456789abcdef0"]);
        found(&mut command, &Expected { step: "iam", code: 12, words: &["denied access", "fsap-0123456789abcdef0"] });
    });
}

#[test]
fn who_may_not_write_is_told_why_and_what_helps() {
    let root_squashed = Credentials::new("AKIAISASTRANGER00000", "secret").without_root_access();
    let read_only = Credentials::new("AKIAREADONLY00000000", "secret").read_only();
    for (credentials, word) in [(root_squashed, "s3files:ClientRootAccess"), (read_only, "s3files:ClientWrite")] {
        with_mock(MockServer::builder().credentials(credentials), |lab, mock| {
            let done = run(&mut ask_mock(lab, mock), ANSWER).unwrap().ok().unwrap();
            let line = done.stdout.lines().find(|line| line.contains(" root ")).unwrap().to_owned();
            assert!(line.starts_with("note") && line.contains(word), "{line}");
            // The mount says it once, when it happens.
            let mounted = lab.mount(mock, &[]).unwrap();
            for name in ["one", "two"] {
                fs::create_dir(mounted.path(name)).unwrap_err();
            }
            let start = Instant::now();
            while !lab.log().contains("a change was refused") && start.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(20));
            }
            mounted.umount().unwrap();
            let log = lab.log();
            assert_eq!(log.matches("a change was refused").count(), 1, "{log}");
            assert!(log.contains(word), "{log}");
        });
    }
}

fn through_a_door() -> AccessPoint {
    AccessPoint { id: "fsap-0123456789abcdef0".to_owned(), root_directory: "/".to_owned(), identity: None }
}

#[test]
fn a_report_holds_every_step_and_nobodys_secrets() {
    with_mock(MockServer::builder().access_point(through_a_door()), |lab, mock| {
        let file = lab.path("report.json");
        let mut command = ask_mock(lab, mock);
        command.args(["--access-point", "fsap-0123456789abcdef0", "--report", &file.display().to_string()]);
        run(&mut command, ANSWER).unwrap().ok().unwrap();
        let report = fs::read_to_string(&file).unwrap();
        for word in ["s3files-fuse 0.", "\"kernel\"", "\"tls\": \"TLSv1_3\"", "\"slots\"", "\"ms\"", "\"session\""] {
            assert!(report.contains(word), "`{word}` is not in {report}");
        }
        let keys = mock.credentials();
        let secrets = [Some(&keys.secret_access_key), keys.session_token.as_ref(), Some(&keys.access_key_id)];
        for secret in secrets.into_iter().flatten().map(String::as_str).chain([mock.fs_id(), "fsap-0123456789abcdef0"])
        {
            assert!(!report.contains(secret), "{secret} is in {report}");
        }
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&file).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    });
}

/// A report that cannot be written is a mistake on the command line.
#[test]
fn a_report_that_cannot_be_written_is_said() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let done: Done = run(&mut lab.product(["doctor", "--report", "/nowhere/report"]), ANSWER).unwrap();
    assert_eq!((done.code(), done.stderr.contains("cannot be written")), (2, true), "{done:?}");
    assert!(done.stdout.contains("/dev/fuse"), "the findings are lost: {done:?}");
    // What was found comes first.
    let mut command = ask(&lab, "no-such-host.invalid", &FS);
    let done = run(command.args(["--report", "/nowhere/report"]), ANSWER).unwrap();
    assert_eq!((done.code(), done.stderr.contains("cannot be written")), (6, true), "{done:?}");
    assert!(done.stdout.contains("FAILED  name"), "{done:?}");
}
