//! Options that are not typed: from the configuration file, from `-o`, and from mount(8).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::Command;
use std::time::Duration;

use mock_mount_target::{MockHandle, MockServer};
use whole_product_tests::{ANSWER, Done, Lab, run};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(2);

fn with_mock(test: impl FnOnce(&MockHandle, &Lab)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mock = runtime.block_on(MockServer::builder().start()).unwrap();
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    test(&mock, &lab);
    lab.assert_clean().unwrap();
    assert_eq!(mock.verdict(), Vec::<String>::new());
}

/// The file at its usual place, with a mount `work` of the mock and further lines.
fn configure(lab: &Lab, mock: &MockHandle, further: &str) {
    let arguments = mock.mount_arguments(&lab.folder().display().to_string());
    let mut text = format!("[mounts.work]\ntarget = \"{}\"\nfolder = \"{}\"\n", arguments[1], arguments[2]);
    for option in arguments[3..].chunks(2) {
        writeln!(text, "{} = \"{}\"", option[0].trim_start_matches("--"), option[1]).unwrap();
    }
    text.push_str(further);
    fs::create_dir_all(lab.path("home/.config/s3files-fuse")).unwrap();
    fs::write(lab.path("home/.config/s3files-fuse/config.toml"), text).unwrap();
}

fn product(lab: &Lab, mock: &MockHandle, arguments: &[&str]) -> Done {
    run(lab.product(arguments).envs(mock.environment()), ANSWER).unwrap()
}

#[test]
fn a_named_mount_needs_nothing_but_its_name() {
    with_mock(|mock, lab| {
        configure(lab, mock, "read-only = true\ncache-size = \"64M\"\n");
        let mounted = lab.mount_by(lab.product(["mount", "work"]).envs(mock.environment())).unwrap();
        assert!(fs::write(mounted.path("file"), b"x").is_err(), "read-only stands in the file");
        let page = product(lab, mock, &["status", "work"]).ok().unwrap().stdout;
        assert!(page.contains("read-only") && page.contains("of 64.0 MiB"), "{page}");
        product(lab, mock, &["umount", "work"]).ok().unwrap();
        // What is typed goes before what stands in the file, and -o before both the file and the default.
        let mut command = lab.product(["mount", "work", "-o", "rw,defaults", "--cache-size", "32M"]);
        let mounted = lab.mount_by(command.envs(mock.environment())).unwrap();
        fs::write(mounted.path("file"), b"x").unwrap();
        let page = product(lab, mock, &["status", "work"]).ok().unwrap().stdout;
        assert!(page.contains("of 32.0 MiB") && !page.contains("read-only"), "{page}");
        mounted.umount().unwrap();
    });
}

#[test]
fn the_configuration_is_shown_and_checked() {
    with_mock(|mock, lab| {
        configure(lab, mock, "soft = 30\n[mounts.home]\ntarget = \"fs-0123456789abcdef0\"\nfolder = \"~/s3\"\n");
        let path = lab.path("home/.config/s3files-fuse/config.toml").display().to_string();
        assert_eq!(product(lab, mock, &["config", "path"]).ok().unwrap().stdout, format!("{path}\n"));
        let check = product(lab, mock, &["config", "check"]).ok().unwrap().stdout;
        assert_eq!(check, format!("{path} is in order: 2 mounts\n"));
        let show = product(lab, mock, &["config", "show"]).ok().unwrap().stdout;
        let home = lab.path("home/s3").display().to_string();
        for words in ["work\n  target", "home\n  target", &home, "soft                 30"] {
            assert!(show.contains(words), "`{words}` is not in:\n{show}");
        }
        let one = product(lab, mock, &["config", "show", "home"]).ok().unwrap().stdout;
        assert!(one.starts_with("home\n") && !one.contains("work"), "{one}");

        configure(lab, mock, "regoin = \"x\"\nsoft = \"long\"\n");
        let refused = [&["config", "check"][..], &["config", "show"], &["mount", "work"]];
        for arguments in refused {
            let done = product(lab, mock, arguments);
            assert_eq!((done.code(), done.stderr.lines().count()), (2, 1), "{done:?}");
            assert!(done.stderr.contains("[mounts.work] `regoin` is unknown; did you mean `region`?"), "{done:?}");
        }
        let other = lab.path("other.toml");
        fs::write(&other, "[mounts.x\n").unwrap();
        let other = other.to_str().unwrap();
        let done = product(lab, mock, &["config", "check", "--config", other]);
        assert_eq!((done.code(), done.stderr.contains("other.toml: line 1: ")), (2, true), "{done:?}");
        let done = run(lab.product(["config", "check"]).env("S3FILES_FUSE_CONFIG", "/no/such/file"), ANSWER).unwrap();
        assert_eq!((done.code(), done.stderr.contains("/no/such/file: ")), (2, true), "{done:?}");
    });
}

#[test]
fn a_name_that_is_not_in_the_file_is_a_missing_folder() {
    with_mock(|mock, lab| {
        let done = product(lab, mock, &["mount", "nobody"]);
        assert_eq!((done.code(), done.stderr.contains("has none")), (2, true), "{done:?}");
        configure(lab, mock, "");
        let done = product(lab, mock, &["mount", "nobody"]);
        assert_eq!((done.code(), done.stderr.contains("has work")), (2, true), "{done:?}");
    });
}

#[test]
fn fstab_options_are_those_of_mount_and_nothing_else() {
    with_mock(|mock, lab| {
        let mounted = lab.mount(mock, &["-o", "ro,_netdev,nofail", "-o", "noatime,cache_size=16M"]).unwrap();
        assert!(fs::write(mounted.path("file"), b"x").is_err());
        let table = fs::read_to_string("/proc/self/mounts").unwrap();
        let line = table.lines().find(|line| line.contains(lab.folder().to_str().unwrap())).unwrap().to_owned();
        assert!(line.contains(" fuse.s3files-fuse ro,"), "{line}");
        mounted.umount().unwrap();
        let done = run(lab.mount_command(mock, &[]).args(["-o", "ro,regoin=x"]), ANSWER).unwrap();
        assert_eq!((done.code(), done.stderr.contains("did you mean `region`?")), (2, true), "{done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
    });
}

#[test]
fn owners_are_shown_as_asked_for_and_stay_what_they_are_on_the_server() {
    with_mock(|mock, lab| {
        let owner = |path: &std::path::Path| {
            let metadata = fs::symlink_metadata(path).unwrap();
            (metadata.uid(), metadata.gid())
        };
        let mounted = lab.mount(mock, &["-o", "uid=501", "--gid", "20"]).unwrap();
        fs::create_dir(mounted.path("dir")).unwrap();
        fs::write(mounted.path("dir/file"), b"x").unwrap();
        chown(mounted.path("dir/file"), Some(7), Some(8)).unwrap();
        symlink("file", mounted.path("dir/link")).unwrap();
        fs::set_permissions(mounted.path("dir"), fs::Permissions::from_mode(0o777)).unwrap();
        for path in ["", "dir", "dir/file", "dir/link"] {
            assert_eq!(owner(&mounted.path(path)), (501, 20), "{path}");
        }
        mounted.umount().unwrap();
        // From a listing, and again to somebody else.
        let mounted = lab.mount(mock, &["--uid", "9"]).unwrap();
        let shown = fs::read_dir(mounted.path("dir")).unwrap().map(|entry| owner(&entry.unwrap().path()));
        assert!(shown.into_iter().all(|(uid, gid)| uid == 9 && gid != 20));
        mounted.umount().unwrap();
        // What the server has; and whom it is told of is another matter.
        let mounted = lab.mount(mock, &["--as-uid", "1234", "--as-gid", "5"]).unwrap();
        assert_eq!(owner(&mounted.path("dir/file")), (7, 8));
        fs::write(mounted.path("dir/own"), b"x").unwrap();
        assert_eq!(owner(&mounted.path("dir/own")), (1234, 5));
        assert!(fs::write(mounted.path("dir/file"), b"y").is_err(), "1234 may not write what belongs to 7");
        mounted.umount().unwrap();
    });
}

/// In a mount namespace of its own, where the program lies over /sbin: nothing of it is left on the machine.
#[cfg(target_os = "linux")]
#[test]
fn mount_t_finds_the_program_under_its_other_name() {
    with_mock(|mock, lab| {
        let sbin = lab.path("sbin");
        fs::create_dir(&sbin).unwrap();
        symlink(PRODUCT, sbin.join("mount.s3files-fuse")).unwrap();
        let folder = lab.folder().display().to_string();
        let arguments = mock.mount_arguments(&folder);
        let mut options = "defaults,_netdev,nofail,user,x-systemd.automount".to_owned();
        for option in arguments[3..].chunks(2) {
            write!(options, ",{}={}", option[0].trim_start_matches("--"), option[1]).unwrap();
        }
        let script = format!(
            "mount -t overlay overlay -o lowerdir={sbin}:/usr/sbin /usr/sbin || exit 99
            mount -t s3files-fuse {target} {folder} -o {options} || exit $?
            grep ' {folder} ' /proc/self/mounts
            echo written > {folder}/file && cat {folder}/file
            {PRODUCT} umount {folder} || exit 98
            mount -t s3files-fuse {target} {folder} -o nonsense=1
            echo $?
            mount -s -f -t s3files-fuse {target} {folder} -o nonsense=1 && echo fake",
            sbin = sbin.display(),
            target = arguments[1],
        );
        let mut command = lab.product(["--version"]);
        let environment: Vec<_> =
            command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
        command = Command::new("unshare");
        command.args(["-m", "--propagation", "private", "sh", "-c", &script]);
        command.env_clear().envs(environment).envs(mock.environment());
        let done = run(&mut command, Duration::from_secs(60)).unwrap();
        if done.code() == 99 {
            eprintln!("no overlay in a namespace of its own here: {}", done.stderr);
            return;
        }
        assert_eq!(done.code(), 0, "{done:?}");
        for words in ["fuse.s3files-fuse", "nosuid", "noexec", "\nwritten\n2\nfake\n"] {
            assert!(done.stdout.contains(words), "`{words}` is not in {done:?}");
        }
        assert!(done.stderr.contains("`nonsense` is unknown"), "{done:?}");
    });
}

#[test]
fn completions_and_man_pages_are_made_from_the_command_line() {
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let text = run(&mut lab.product(["completions", shell]), ANSWER).unwrap().ok().unwrap().stdout;
        assert!(text.contains("file-system-id") && !text.is_empty(), "{shell}");
    }
    assert_eq!(run(&mut lab.product(["completions", "cobol"]), ANSWER).unwrap().code(), 2);
    let man = lab.path("man");
    fs::create_dir(&man).unwrap();
    run(&mut lab.product(["generate", "man", man.to_str().unwrap()]), ANSWER).unwrap().ok().unwrap();
    let page = fs::read_to_string(man.join("s3files-fuse-mount.1")).unwrap();
    assert!(page.starts_with(".ie") && page.contains("\\-\\-file\\-system\\-id"), "{page}");
    let done = run(&mut lab.product(["generate", "man", "/no/such/directory"]), ANSWER).unwrap();
    assert_eq!((done.code(), done.stderr.contains("/no/such/directory")), (1, true), "{done:?}");
}
