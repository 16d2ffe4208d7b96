//! What needs no mount: `ls`, `cat`, help; and the demo, which brings its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::symlink;
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
    let stdout = fs::File::create(&out).unwrap();
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
