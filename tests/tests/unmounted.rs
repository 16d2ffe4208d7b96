//! What needs no mount: `ls`, `cat`, help; and the demo, which brings its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mock_mount_target::MockServer;
use whole_product_tests::{ANSWER, Done, Lab, Running, noise, run};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread")]
async fn ls_and_cat_show_a_file_system_that_is_not_mounted() {
    let mock = Arc::new(MockServer::builder().start().await.unwrap());
    let target = Arc::clone(&mock);
    tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        let lab = Lab::new(PRODUCT, LIMIT)?;
        let big = noise(3, 5 << 20);
        let mounted = lab.mount(&target, &[])?;
        fs::create_dir(mounted.path("dir"))?;
        fs::write(mounted.path("dir/text"), b"some text\n")?;
        fs::write(mounted.path("dir/.hidden"), b"")?;
        fs::write(mounted.path("big"), &big)?;
        symlink("dir/../dir", mounted.path("link"))?;
        mounted.umount()?;

        let ask = |verb: &str, further: &[&str]| -> anyhow::Result<Done> {
            // Whatever follows the verb and the folder in the mount's arguments names the target.
            let arguments = target.mount_arguments("");
            let mut command = lab.product([verb, arguments[1].as_str()]);
            run(command.args(&arguments[3..]).args(further).envs(target.environment()), ANSWER)
        };
        assert_eq!(ask("ls", &[])?.ok()?.stdout, "big\ndir\nlink\n");
        assert_eq!(ask("ls", &["/dir"])?.ok()?.stdout, "text\n");
        assert_eq!(ask("ls", &["-a", "link/"])?.ok()?.stdout, ".hidden\ntext\n");
        let long = ask("ls", &["-l", "/dir"])?.ok()?.stdout;
        assert!(long.starts_with("-rw-r--r--") && long.contains(" 10 ") && long.ends_with(" text\n"), "{long}");
        assert_eq!(ask("cat", &["/link/text"])?.ok()?.stdout, "some text\n");
        let printed = ask("cat", &["big"])?.ok()?.stdout;
        assert_eq!(printed, String::from_utf8_lossy(&big));
        let missing = ask("cat", &["/dir/none"])?;
        assert_eq!((missing.code(), missing.stderr.contains("/dir/none: no such file")), (1, true), "{missing:?}");
        let directory = ask("cat", &["/dir"])?;
        assert_eq!((directory.code(), directory.stderr.contains("not a regular file")), (1, true), "{directory:?}");
        Ok(())
    })
    .await
    .unwrap()
    .unwrap();
    assert_eq!(mock.verdict(), Vec::<String>::new());
}

/// What a program prints on a terminal.
fn on_terminal(command: &mut Command) -> String {
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut running = Running::start(command.stdout(pty.slave)).unwrap();
    // The terminal's other end stays open with the command.
    command.stdout(std::process::Stdio::null());
    let printed = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A terminal that nobody has open any more is an error.
        let _ = File::from(pty.master).read_to_end(&mut bytes);
        String::from_utf8(bytes).unwrap()
    });
    assert_eq!(running.code(ANSWER).unwrap(), 0);
    printed.join().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_others_have_given_write_nothing_to_a_terminal() {
    const EVIL: &str = "a\u{1b}[2J\u{1b}]0;title\u{7}b\nc";
    const SHOWN: &str = "a?[2J?]0;title?b?c";
    let mock = Arc::new(MockServer::builder().start().await.unwrap());
    let target = Arc::clone(&mock);
    tokio::task::spawn_blocking(move || {
        let lab = Lab::new(PRODUCT, LIMIT).unwrap();
        let mounted = lab.mount(&target, &[]).unwrap();
        fs::write(mounted.path(EVIL), b"x").unwrap();
        mounted.umount().unwrap();
        let ask = |verb: &str, further: &[&str]| {
            let arguments = target.mount_arguments("");
            let mut command = lab.product([verb, arguments[1].as_str()]);
            command.args(&arguments[3..]).args(further).envs(target.environment());
            command
        };
        assert_eq!(run(&mut ask("ls", &[]), ANSWER).unwrap().ok().unwrap().stdout, format!("{EVIL}\n"));
        assert_eq!(on_terminal(&mut ask("ls", &[])), format!("{SHOWN}\r\n"));
        let long = on_terminal(&mut ask("ls", &["-l"]));
        assert!(long.starts_with("-rw") && long.ends_with(&format!(" {SHOWN}\r\n")), "{long}");
        // Sentences go to terminals and logs alike.
        let (missing, local) = (format!("{EVIL}none"), lab.path("local").display().to_string());
        for mut command in
            [ask("cat", &[&missing]), ask("ls", &[&missing]), ask("cp", &[&format!(":/{missing}"), &local])]
        {
            let done = run(&mut command, ANSWER).unwrap();
            assert_ne!(done.code(), 0, "{done:?}");
            let said = done.stderr.trim_end();
            assert!(said.contains("a?[2J?]0;title?b") && !said.contains(char::is_control), "{done:?}");
        }
    })
    .await
    .unwrap();
    assert_eq!(mock.verdict(), Vec::<String>::new());
}

#[test]
fn the_demo_tours_a_mount_and_leaves_nothing_behind() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let done = run(&mut lab.product(["demo"]), LIMIT).unwrap().ok().unwrap();
    for words in ["write a file", "rename it", "remove everything", "Unmounted", "s3files-fuse mount NAME-HASH.elb"] {
        assert!(done.stdout.contains(words), "`{words}` is not in:\n{}", done.stdout);
    }
    assert!(done.stderr.is_empty(), "{}", done.stderr);
    lab.assert_clean().unwrap();
    let left = fs::read_dir(lab.path(".")).unwrap().filter(|entry| {
        entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("s3files-demo"))
    });
    assert_eq!(left.count(), 0);
}

#[test]
fn the_demo_shows_a_folder_of_the_users_choice_and_keeps_it_when_asked() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let (folder, out) = (lab.folder().display().to_string(), lab.path("out"));
    let stdout = File::create(&out).unwrap();
    let mut demo = Running::start(lab.product(["demo", "--keep", &folder]).stdout(stdout)).unwrap();
    let start = Instant::now();
    while !fs::read_to_string(&out).unwrap().contains("It stays mounted") {
        assert!(start.elapsed() < Duration::from_mins(1) && demo.goes_on());
        std::thread::sleep(Duration::from_millis(50));
    }
    fs::write(lab.folder().join("mine"), b"x").unwrap();
    lab.umount().unwrap().ok().unwrap();
    assert_eq!(demo.code(Duration::from_secs(20)).unwrap(), 0);
    lab.assert_clean().unwrap();
}

#[test]
fn help_and_version_are_there_without_a_target() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    for arguments in [&["--help"][..], &["--version"], &["mount", "--help"], &["demo", "--help"]] {
        let done = run(&mut lab.product(arguments), ANSWER).unwrap().ok().unwrap();
        assert!(done.stdout.contains("s3files-fuse") || done.stdout.contains("Usage"), "{done:?}");
        assert!(!done.stdout.contains("background-copy"), "{done:?}");
    }
}
