//! `cp` moves files and trees both ways without a mount, and never shows half a file.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use mock_mount_target::{Credentials, FaultPlan, MockHandle, MockServer, MockServerBuilder};
use nix::sys::signal::Signal;
use whole_product_tests::{Done, Lab, Running, noise, run, sha256};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(3);

/// A `cp` against the mock: the options name the target as for `mount`.
fn command(lab: &Lab, mock: &MockHandle, arguments: &[&str]) -> Command {
    let target = mock.mount_arguments("");
    let mut command = lab.product(["cp", target[1].as_str()]);
    command.args(&target[3..]).args(arguments).envs(mock.environment()).current_dir(lab.path("."));
    command
}

fn cp(lab: &Lab, mock: &MockHandle, arguments: &[&str]) -> Done {
    run(&mut command(lab, mock, arguments), LIMIT).unwrap()
}

/// Runs a test that blocks against a mock, and hears the referee at the end.
fn with_mock(test: impl FnOnce(&Lab, &MockHandle)) {
    with(MockServer::builder(), |lab, mock| {
        test(lab, mock);
        assert_eq!(mock.verdict(), Vec::<String>::new());
        mock.check_invariants().unwrap();
    });
}

/// The same where clients are killed, and leave things behind.
fn without_referee(test: impl FnOnce(&Lab, &MockHandle)) {
    with(MockServer::builder(), test);
}

fn with(builder: MockServerBuilder, test: impl FnOnce(&Lab, &MockHandle)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let mock = runtime.block_on(builder.start()).unwrap();
    test(&lab, &mock);
    runtime.block_on(mock.stop());
}

/// Everything below a directory: path, kind, permissions, contents.
fn tree(root: &Path) -> Vec<(String, String, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(dir) = ahead.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let (kind, bytes) = if metadata.is_dir() {
                ahead.push(path);
                ("directory", Vec::new())
            } else if metadata.is_symlink() {
                ("link", fs::read_link(&path).unwrap().display().to_string().into_bytes())
            } else {
                ("file", fs::read(&path).unwrap())
            };
            let mode = if kind == "link" { 0 } else { metadata.mode() & 0o777 };
            found.push((name, kind.to_owned(), mode, bytes));
        }
    }
    found.sort();
    found
}

#[test]
fn a_tree_comes_back_as_it_went() {
    with_mock(|lab, mock| {
        let from = lab.path("from");
        fs::create_dir_all(from.join("deep/er/still")).unwrap();
        for number in 0..300 {
            fs::write(from.join(format!("deep/file{number}")), noise(number, (number * 37 % 5000) as usize)).unwrap();
        }
        fs::write(from.join("empty"), b"").unwrap();
        fs::write(from.join("deep/er/large"), noise(7, 5 << 20)).unwrap();
        fs::write(from.join("deep/er/still/one piece"), noise(8, 1 << 20)).unwrap();
        fs::write(from.join("deep/er/a byte more"), noise(9, (1 << 20) + 1)).unwrap();
        symlink("deep/file7", from.join("link")).unwrap();
        fs::set_permissions(from.join("deep/file1"), Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(from.join("deep/er/still"), Permissions::from_mode(0o555)).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_000_000_000_123_456_789);
        File::options().write(true).open(from.join("empty")).unwrap().set_modified(long_ago).unwrap();
        File::open(from.join("deep")).unwrap().set_modified(long_ago).unwrap();

        let done = cp(lab, mock, &["-rp", "from", ":/there"]);
        assert_eq!((done.code(), done.stdout.as_str(), done.stderr.as_str()), (0, "", ""));
        let done = cp(lab, mock, &["-rp", ":/there", "back"]);
        assert_eq!((done.code(), done.stdout.as_str(), done.stderr.as_str()), (0, "", ""));
        assert_eq!(tree(&lab.path("back")), tree(&from));
        for name in ["empty", "deep", "deep/file299"] {
            let time = |root: &str| fs::metadata(lab.path(root).join(name)).unwrap().modified().unwrap();
            assert_eq!(time("back"), time("from"), "{name}");
        }
        // What is there already is asked about and not copied again.
        let before = mock.count_of("WRITE");
        cp(lab, mock, &["-r", "--resume", "from/.", ":/there"]).ok().unwrap();
        assert_eq!(mock.count_of("WRITE"), before);
        let before = mock.count_of("READ");
        cp(lab, mock, &["-r", "--resume", ":/there/", "back/.."]).ok().unwrap();
        assert!(mock.count_of("READ") > before, "`there` beside `back` is a new copy");
        assert_eq!(tree(&lab.path("there")).len(), tree(&from).len());
    });
}

#[test]
fn a_destination_means_what_it_means_to_cp() {
    with_mock(|lab, mock| {
        fs::create_dir_all(lab.path("dir/sub")).unwrap();
        fs::write(lab.path("dir/sub/inner"), b"inner").unwrap();
        fs::write(lab.path("a"), b"a").unwrap();
        fs::write(lab.path("b"), b"bb").unwrap();
        // A new name; into a directory; over a file; several into a directory.
        cp(lab, mock, &["a", ":/x"]).ok().unwrap();
        cp(lab, mock, &["-r", "dir", ":/"]).ok().unwrap();
        cp(lab, mock, &["-r", "dir/sub/.", ":/dir"]).ok().unwrap();
        cp(lab, mock, &["b", ":/x"]).ok().unwrap();
        cp(lab, mock, &["a", "b", ":dir/sub"]).ok().unwrap();
        cp(lab, mock, &["-r", ":/", "all"]).ok().unwrap();
        let names: Vec<_> = tree(&lab.path("all")).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["dir", "dir/inner", "dir/sub", "dir/sub/a", "dir/sub/b", "dir/sub/inner", "x"]);
        assert_eq!(fs::read(lab.path("all/x")).unwrap(), b"bb");
        cp(lab, mock, &[":/x", "."]).ok().unwrap();
        assert_eq!(fs::read(lab.path("x")).unwrap(), b"bb");
        // What cannot be meant is said, and changes nothing.
        for (arguments, code, words) in [
            (&["dir", ":/new"][..], 1, "add -r"),
            (&[":/dir", "."], 1, "add -r"),
            (&["a", ":/none/x"], 1, "no such file"),
            (&["a", ":/none/"], 1, "no such directory"),
            (&["a", "b", ":/x"], 1, "no such directory"),
            (&[":/x", "none/"], 1, "no such directory"),
            (&[":/none", "."], 1, "no such file"),
            (&["none", ":/"], 1, "No such file"),
            (&["a", "b"], 2, "colon"),
            (&["a", ":/dir/sub/a", "--jobs", "0"], 2, "--jobs"),
            (&["-r", "dir", ":/x"], 17, "not copied"),
        ] {
            let done = cp(lab, mock, arguments);
            assert_eq!(done.code(), code, "{arguments:?}: {done:?}");
            assert!(done.stderr.contains(words), "{arguments:?}: {done:?}");
        }
        assert!(!lab.path("new").exists());
    });
}

/// What is in the root, hidden names too.
fn names(lab: &Lab, mock: &MockHandle) -> Vec<String> {
    let target = mock.mount_arguments("");
    let mut ls = lab.product(["ls", target[1].as_str()]);
    let done = run(ls.args(&target[3..]).arg("-a").envs(mock.environment()), LIMIT).unwrap().ok().unwrap();
    done.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn a_killed_upload_shows_no_half_file_and_goes_on_where_it_was() {
    without_referee(|lab, mock| {
        const SIZE: usize = 200 << 20;
        fs::write(lab.path("big"), noise(1, SIZE)).unwrap();
        mock.set_rtt(Duration::from_millis(20));
        let mut first = Running::start(&mut command(lab, mock, &["big", ":/big"])).unwrap();
        let start = Instant::now();
        while mock.count_of("WRITE") < 140 {
            assert!(first.goes_on() && start.elapsed() < LIMIT, "it was over too soon");
            std::thread::sleep(Duration::from_millis(2));
        }
        first.signal(Signal::SIGKILL).unwrap();
        first.code(LIMIT).unwrap();
        mock.set_rtt(Duration::ZERO);
        let left = names(lab, mock);
        assert!(left.len() == 1 && left[0].starts_with(".big.") && left[0].ends_with(".s3files-part"), "{left:?}");
        let before = mock.count_of("WRITE");
        cp(lab, mock, &["--resume", "big", ":/big"]).ok().unwrap();
        let writes = mock.count_of("WRITE") - before;
        assert!(writes < 150, "{writes} of 200 MiB were written again");
        assert_eq!(names(lab, mock), ["big"]);
        // The same way back.
        mock.set_rtt(Duration::from_millis(20));
        let before = mock.count_of("READ");
        let said = lab.path("said");
        let mut download = command(lab, mock, &[":/big", "back"]);
        let mut first = Running::start(download.stderr(File::create(&said).unwrap())).unwrap();
        while mock.count_of("READ") < before + 140 {
            assert!(first.goes_on() && start.elapsed() < LIMIT, "it was over too soon");
            std::thread::sleep(Duration::from_millis(2));
        }
        first.signal(Signal::SIGINT).unwrap();
        assert_eq!(first.code(LIMIT).unwrap(), 17);
        assert!(!lab.path("back").exists());
        let said = fs::read_to_string(said).unwrap();
        assert!(said.contains("Ctrl-C again") && said.contains("--resume"), "{said}");
        mock.set_rtt(Duration::ZERO);
        let before = mock.count_of("READ");
        cp(lab, mock, &["--resume", ":/big", "back"]).ok().unwrap();
        let reads = mock.count_of("READ") - before;
        assert!(reads < 190, "{reads} of 200 MiB were read again");
        assert_eq!(sha256(&lab.path("back")).unwrap(), sha256(&lab.path("big")).unwrap());
        assert!(
            fs::read_dir(lab.path("."))
                .unwrap()
                .all(|entry| { !entry.unwrap().file_name().to_string_lossy().ends_with("s3files-part") })
        );
    });
}

#[test]
fn a_full_server_ends_the_copy_and_leaves_neither_parts_nor_empty_files() {
    with_mock(|lab, mock| {
        fs::create_dir(lab.path("from")).unwrap();
        for number in 0..5 {
            fs::write(lab.path("from").join(format!("small{number}")), noise(number, 1000)).unwrap();
        }
        fs::write(lab.path("from/large"), noise(9, 3 << 20)).unwrap();
        let plan = "[[fault]]\non = 'WRITE'\ndo = 'status'\nstatus = 'NOSPC'\ntimes = 1000\n";
        mock.add_faults(FaultPlan::from_toml(plan, 1).unwrap());
        let done = cp(lab, mock, &["-r", "from/.", ":/"]);
        assert_eq!(done.code(), 17, "{done:?}");
        assert!(done.stderr.contains("NoSpc") && done.stderr.contains("ended early"), "{done:?}");
        assert_eq!(names(lab, mock), Vec::<String>::new());
    });
}

#[test]
fn who_may_not_write_is_told_once_why_and_what_helps() {
    let root_squashed = Credentials::new("AKIAISASTRANGER00000", "secret").without_root_access();
    with(MockServer::builder().credentials(root_squashed), |lab, mock| {
        for name in ["a", "b"] {
            fs::write(lab.path(name), name).unwrap();
        }
        let done = cp(lab, mock, &["a", "b", ":/"]);
        assert_eq!(done.code(), 17, "{done:?}");
        assert_eq!(done.stderr.matches("s3files:ClientRootAccess").count(), 1, "{done:?}");
        assert_eq!(names(lab, mock), Vec::<String>::new());
    });
}

#[test]
fn links_of_the_server_lead_nothing_out_of_the_destination() {
    with_mock(|lab, mock| {
        fs::create_dir_all(lab.path("from/dir")).unwrap();
        fs::write(lab.path("from/dir/file"), b"from the server").unwrap();
        cp(lab, mock, &["-r", "from/.", ":/"]).ok().unwrap();
        // Where the directory would be is a link to somewhere else.
        fs::create_dir_all(lab.path("to")).unwrap();
        fs::create_dir_all(lab.path("elsewhere")).unwrap();
        symlink(lab.path("elsewhere"), lab.path("to/dir")).unwrap();
        let done = cp(lab, mock, &["-r", ":/", "to"]);
        assert_eq!(done.code(), 17, "{done:?}");
        assert_eq!(fs::read_dir(lab.path("elsewhere")).unwrap().count(), 0);
    });
}

/// WRITEs that touch this byte have to be repeated until the faults are cleared.
fn stall(mock: &MockHandle, byte: u64) {
    let plan =
        format!("[[fault]]\non = 'WRITE'\nbyte = {byte}\ndo = 'status'\nstatus = 'NFS4ERR_DELAY'\ntimes = 1000000\n");
    mock.add_faults(FaultPlan::from_toml(&plan, 1).unwrap());
}

fn go_on(mock: &MockHandle) {
    mock.with_server(|server| server.plan_mut().clear());
}

#[test]
fn a_resumed_upload_has_no_hole_where_one_write_was_slow() {
    without_referee(|lab, mock| {
        const SIZE: usize = 200 << 20;
        fs::write(lab.path("big"), noise(1, SIZE)).unwrap();
        stall(mock, 4 << 20);
        let mut first = Running::start(&mut command(lab, mock, &["big", ":/big"])).unwrap();
        // Until nothing comes any more but that one WRITE.
        let largest = || {
            let target = mock.mount_arguments("");
            let mut ls = lab.product(["ls", target[1].as_str()]);
            let done = run(ls.args(&target[3..]).arg("-al").envs(mock.environment()), LIMIT).unwrap().ok().unwrap();
            done.stdout
        };
        let (start, mut last) = (Instant::now(), String::new());
        loop {
            std::thread::sleep(Duration::from_secs(2));
            let now = largest();
            if now == last && now.contains(".big.") {
                break;
            }
            assert!(first.goes_on() && start.elapsed() < LIMIT, "it never came to a stop: {now}");
            last = now;
        }
        first.signal(Signal::SIGKILL).unwrap();
        first.code(LIMIT).unwrap();
        go_on(mock);
        cp(lab, mock, &["--resume", "big", ":/big"]).ok().unwrap();
        assert_eq!(names(lab, mock), ["big"]);
        cp(lab, mock, &[":/big", "back"]).ok().unwrap();
        assert_eq!(sha256(&lab.path("back")).unwrap(), sha256(&lab.path("big")).unwrap());
    });
}

#[test]
fn two_uploads_of_one_file_are_two_parts_and_both_come_to_an_end() {
    with_mock(|lab, mock| {
        fs::write(lab.path("big"), noise(1, 12 << 20)).unwrap();
        stall(mock, 4 << 20);
        let mut both = Vec::new();
        for count in 1..=2 {
            both.push(Running::start(&mut command(lab, mock, &["big", ":/big"])).unwrap());
            let start = Instant::now();
            while names(lab, mock).len() < count {
                assert!(start.elapsed() < LIMIT, "there are not {count} parts");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        assert!(names(lab, mock).iter().all(|name| name.ends_with(".s3files-part")));
        go_on(mock);
        for mut one in both {
            assert_eq!(one.code(LIMIT).unwrap(), 0);
        }
        assert_eq!(names(lab, mock), ["big"]);
        cp(lab, mock, &[":/big", "back"]).ok().unwrap();
        assert_eq!(sha256(&lab.path("back")).unwrap(), sha256(&lab.path("big")).unwrap());
    });
}

#[test]
fn of_two_sources_with_one_name_the_second_is_refused_both_ways() {
    with_mock(|lab, mock| {
        for dir in ["a", "b"] {
            fs::create_dir_all(lab.path(dir).join("sub")).unwrap();
            fs::write(lab.path(dir).join("x"), dir).unwrap();
            fs::write(lab.path(dir).join("sub/y"), dir).unwrap();
            fs::write(lab.path(dir).join(format!("only {dir}")), dir).unwrap();
        }
        let done = cp(lab, mock, &["a/x", "b/x", ":/"]);
        assert_eq!(done.code(), 17, "{done:?}");
        assert!(done.stderr.contains("b/x: not copied: another source"), "{done:?}");
        cp(lab, mock, &[":/x", "x"]).ok().unwrap();
        assert_eq!(fs::read(lab.path("x")).unwrap(), b"a");
        // What is in trees, too; directories come together.
        let done = cp(lab, mock, &["-r", "a/.", "b/.", ":/"]);
        assert_eq!((done.code(), done.stderr.matches("another source").count()), (17, 2), "{done:?}");
        assert_eq!(names(lab, mock), ["only a", "only b", "sub", "x"]);
        cp(lab, mock, &["-r", "a", "b", ":/"]).ok().unwrap();
        fs::create_dir(lab.path("back")).unwrap();
        let done = cp(lab, mock, &[":/a/x", ":/b/x", "back"]);
        assert_eq!((done.code(), done.stderr.contains(":/b/x: not copied: another source")), (17, true), "{done:?}");
        assert_eq!(fs::read(lab.path("back/x")).unwrap(), b"a");
        let done = cp(lab, mock, &["-r", ":/a/.", ":/b/.", "back"]);
        assert_eq!((done.code(), done.stderr.matches("another source").count()), (17, 2), "{done:?}");
        assert_eq!(tree(&lab.path("back")).len(), 5);
    });
}

/// The permissions of what is in a directory of the server.
fn permissions(lab: &Lab, mock: &MockHandle, path: &str) -> Vec<String> {
    let target = mock.mount_arguments("");
    let mut ls = lab.product(["ls", "-l", target[1].as_str(), path]);
    let done = run(ls.args(&target[3..]).envs(mock.environment()), LIMIT).unwrap().ok().unwrap();
    done.stdout.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn what_is_no_file_counts_and_read_only_directories_are_closed_when_all_is_there() {
    with_mock(|lab, mock| {
        let in_closed = |change: &dyn Fn(&Path)| {
            let dir = lab.path("from/closed");
            fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
            change(&dir);
            fs::set_permissions(&dir, Permissions::from_mode(0o555)).unwrap();
        };
        let mode = |path: &str| fs::metadata(lab.path(path)).unwrap().mode() & 0o777;
        fs::create_dir_all(lab.path("from/closed")).unwrap();
        in_closed(&|dir| {
            fs::write(dir.join("file"), b"x").unwrap();
            run(Command::new("mkfifo").arg(dir.join("fifo")), LIMIT).unwrap().ok().unwrap();
        });
        let done = cp(lab, mock, &["-r", "from", ":/"]);
        assert_eq!((done.code(), done.stderr.contains("no file, directory or link")), (17, true), "{done:?}");
        assert_eq!(permissions(lab, mock, "/from"), ["drwxr-xr-x"], "the next attempt would not get in");
        in_closed(&|dir| fs::remove_file(dir.join("fifo")).unwrap());
        cp(lab, mock, &["-r", "--resume", "from", ":/"]).ok().unwrap();
        assert_eq!(permissions(lab, mock, "/from"), ["dr-xr-xr-x"]);
        // What comes later gets in, and it is closed again.
        in_closed(&|dir| fs::write(dir.join("later"), b"y").unwrap());
        cp(lab, mock, &["-r", "--resume", "from", ":/"]).ok().unwrap();
        assert_eq!(permissions(lab, mock, "/from"), ["dr-xr-xr-x"]);
        assert_eq!(permissions(lab, mock, "/from/closed").len(), 2);
        cp(lab, mock, &["-r", ":/from", "back"]).ok().unwrap();
        assert_eq!(mode("back/closed"), 0o555);
        in_closed(&|dir| fs::write(dir.join("last"), b"z").unwrap());
        cp(lab, mock, &["-r", "--resume", "from", ":/"]).ok().unwrap();
        cp(lab, mock, &["-r", "--resume", ":/from/.", "back"]).ok().unwrap();
        assert_eq!((mode("back/closed"), tree(&lab.path("back")).len()), (0o555, 4));
        // A directory that was there before keeps its permissions, whatever the source has.
        fs::create_dir_all(lab.path("open/closed")).unwrap();
        cp(lab, mock, &["-r", "open", ":/"]).ok().unwrap();
        cp(lab, mock, &["-r", "from/.", ":/open"]).ok().unwrap();
        assert_eq!(permissions(lab, mock, "/open"), ["drwxr-xr-x"]);
    });
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_taken_for_whole() {
    with_mock(|lab, mock| {
        fs::write(lab.path("big"), noise(1, 8 << 20)).unwrap();
        cp(lab, mock, &["big", ":/big"]).ok().unwrap();
        let last = (8 << 20) - 1;
        let text = "x".repeat(8 << 20);
        let plan = format!("[[fault]]\non = 'READ'\nbyte = {last}\ndo = 's3_put'\npath = 'big'\ntext = '{text}'\n");
        mock.add_faults(FaultPlan::from_toml(&plan, 1).unwrap());
        let done = cp(lab, mock, &[":/big", "back"]);
        assert_eq!((done.code(), lab.path("back").exists()), (17, false), "{done:?}");
    });
}
