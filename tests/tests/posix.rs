//! Calls beyond reading and writing, as programs make them: extended attributes, holes, copies, locks, maps. On a server
//! that has everything, and on S3 Files, where programs must find their other way.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mock_mount_target::nfs::{Config, Profile};
use mock_mount_target::{MockHandle, MockServer};
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::signal::Signal;
use whole_product_tests::{Done, Lab, Running, noise, run};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(3);
/// How long a program may take.
const SOON: Duration = Duration::from_secs(60);

/// Runs a test that blocks on both kinds of servers, and hears the referee at the end.
async fn on_both(test: fn(&MockHandle, bool) -> anyhow::Result<()>) {
    for profile in [Profile::S3Files, Profile::Full] {
        let mock = Arc::new(MockServer::builder().config(Config::new(profile)).start().await.unwrap());
        let target = Arc::clone(&mock);
        tokio::task::spawn_blocking(move || test(&target, profile == Profile::Full)).await.unwrap().unwrap();
        assert_eq!(mock.verdict(), Vec::<String>::new(), "{profile:?}");
        mock.check_invariants().unwrap();
    }
}

/// Runs a shell command in a folder.
fn sh(folder: &Path, command: &str) -> anyhow::Result<Done> {
    run(Command::new("sh").args(["-c", command]).current_dir(folder), SOON)
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_use_holes_copies_and_extended_attributes_work_or_fall_back() {
    on_both(|mock, is_full| {
        let lab = Lab::new(PRODUCT, LIMIT)?;
        let mounted = lab.mount(mock, &[])?;
        let root = mounted.folder();
        let data = noise(1, 3 << 20);
        fs::write(root.join("data"), &data)?;
        for how in ["--reflink=auto", "--reflink=never", "--sparse=always", "--sparse=auto", "--archive"] {
            sh(&root, &format!("cp {how} data copy && cmp data copy && rm copy"))?.ok()?;
        }
        sh(&root, "truncate -s 8M sparse && printf x | dd of=sparse bs=1 seek=5000000 conv=notrunc 2>&1")?.ok()?;
        sh(&root, "cp --sparse=auto sparse sparse2 && cmp sparse sparse2")?.ok()?;
        // Reserving space works by itself or by writing zeros; a hole works or is refused.
        sh(&root, "fallocate --posix -l 100000 reserved && test $(stat -c %s reserved) = 100000")?.ok()?;
        let reserved = sh(&root, "fallocate -l 200000 reserved")?;
        assert_eq!(reserved.status.success(), is_full, "{reserved:?}");
        let hole = sh(&root, "fallocate --punch-hole --offset 1000000 --length 1000000 data")?;
        assert_eq!(hole.status.success(), is_full, "{hole:?}");
        let mut expected = data;
        if is_full {
            expected[1_000_000..2_000_000].fill(0);
        } else {
            assert!(hole.stderr.contains("unsupported") || hole.stderr.contains("not supported"), "{hole:?}");
        }
        assert!(fs::read(root.join("data"))? == expected, "the hole is not where it should be");
        let set = sh(&root, "setfattr -n user.note -v text data")?;
        if is_full {
            set.ok()?;
            assert_eq!(sh(&root, "getfattr --only-values -n user.note data")?.ok()?.stdout, "text");
            sh(&root, "cp --archive data other && getfattr -d other | grep -q 'user.note=\"text\"'")?.ok()?;
            sh(&root, "setfattr -x user.note data && test -z \"$(getfattr -d data)\"")?.ok()?;
        } else {
            assert!(set.stderr.contains("not supported"), "{set:?}");
            assert!(sh(&root, "getfattr -d data")?.stdout.is_empty());
            let status = sh(&root, "getfattr --only-values -n 'user.s3files.status;1700000000' data")?.ok()?.stdout;
            assert!(status.contains("ExportError"), "{status}");
        }
        assert!(!sh(&root, "setfattr -n trusted.note -v text data")?.status.success());
        let ioctl = sh(&root, "lsattr data")?;
        assert!(ioctl.stderr.contains("Inappropriate ioctl") || ioctl.stderr.contains("not supported"), "{ioctl:?}");
        mounted.umount()
    })
    .await;
}

/// A program that holds or wants an exclusive lock.
fn flock(root: &Path, arguments: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec flock {arguments}")]).current_dir(root).stdout(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_hold_between_programs_and_between_mounts_and_go_with_their_holder() {
    on_both(|mock, _| {
        let (lab, other) = (Lab::new(PRODUCT, LIMIT)?, Lab::new(PRODUCT, LIMIT)?);
        let (here, there) = (lab.mount(mock, &[])?, other.mount(mock, &[])?);
        fs::write(here.path("lock"), b"")?;
        let holder = Running::start(&mut flock(&here.folder(), "-x lock sleep 100"))?;
        let free = |root: &Path| run(&mut flock(root, "-x -n lock true"), SOON).unwrap().status.success();
        let start = Instant::now();
        while free(&there.folder()) {
            assert!(start.elapsed() < SOON, "the lock is not seen");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!free(&here.folder()));
        // Who waits can be interrupted, and killed.
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            let mut waiting = Running::start(&mut flock(&there.folder(), "-x lock true"))?;
            std::thread::sleep(Duration::from_millis(300));
            assert!(waiting.goes_on());
            waiting.signal(signal)?;
            assert_eq!(waiting.code(Duration::from_secs(3))?, -1, "{signal}");
        }
        let mut waiting = [
            Running::start(&mut flock(&here.folder(), "-x lock true"))?,
            Running::start(&mut flock(&there.folder(), "-x lock true"))?,
        ];
        std::thread::sleep(Duration::from_millis(300));
        // `flock` has become `sleep`'s parent; both hold the file open.
        let children = run(Command::new("pkill").args(["-KILL", "-P", &holder.id().to_string()]), SOON)?;
        children.ok()?;
        drop(holder);
        for waiting in &mut waiting {
            assert_eq!(waiting.code(Duration::from_secs(10))?, 0, "the lock went with its holder");
        }
        // One program, two files: locks of open files are in each other's way.
        let open = || OpenOptions::new().read(true).write(true).open(here.path("lock"));
        let first = Flock::lock(open()?, FlockArg::LockShared).map_err(|(_, error)| error)?;
        let second = Flock::lock(open()?, FlockArg::LockSharedNonblock).map_err(|(_, error)| error)?;
        assert!(Flock::lock(open()?, FlockArg::LockExclusiveNonblock).is_err());
        drop((first, second));
        drop(Flock::lock(open()?, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error)?);
        there.umount()?;
        here.umount()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_written_by_two_mounts_in_turn_and_stays_whole() {
    on_both(|mock, _| {
        let (lab, other) = (Lab::new(PRODUCT, LIMIT)?, Lab::new(PRODUCT, LIMIT)?);
        let (here, there) = (lab.mount(mock, &[])?, other.mount(mock, &[])?);
        // A journal that is deleted after each change may be believed to be there elsewhere for a while.
        sh(
            &here.folder(),
            "sqlite3 db 'pragma journal_mode=persist; create table t (n integer primary key, who text)'",
        )?
        .ok()?;
        let insert = |root: &Path, who: &str| {
            let script = format!(
                "for i in 1 2 3 4 5; do echo \"insert into t (who) values ('{who}');\"; done | \
                 sqlite3 -cmd '.timeout 30000' -cmd 'pragma journal_mode=persist' db"
            );
            let mut command = Command::new("sh");
            command.args(["-c", &script]).current_dir(root);
            Running::start(&mut command)
        };
        let mut writers = [insert(&here.folder(), "a")?, insert(&there.folder(), "b")?, insert(&here.folder(), "c")?];
        for writer in &mut writers {
            assert_eq!(writer.code(SOON)?, 0);
        }
        for root in [here.folder(), there.folder()] {
            let found = sh(&root, "sqlite3 db 'select count(*) from t; pragma integrity_check'")?.ok()?.stdout;
            assert_eq!(found, "15\nok\n");
        }
        there.umount()?;
        here.umount()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_behave_as_on_a_disk() {
    on_both(|mock, _| {
        let lab = Lab::new(PRODUCT, LIMIT)?;
        let mounted = lab.mount(mock, &[])?;
        let root = mounted.folder();
        appends(&root)?;
        replaced_while_open(&root)?;
        names_and_paths(&root)?;
        times(&root)?;
        direct_and_synchronous(&root)?;
        maps(&root)?;
        // Later than the numbers of the mount's beginning are believed.
        std::thread::sleep(Duration::from_secs(11));
        let stat = nix::sys::statvfs::statvfs(&root)?;
        assert!(stat.blocks() > 0 && stat.name_max() == 255);
        mounted.umount()
    })
    .await;
}

/// Several programs append lines to one file; none is lost or torn.
fn appends(root: &Path) -> anyhow::Result<()> {
    let mut writers = Vec::new();
    for who in 0..4 {
        let script = format!("for i in $(seq 100); do echo \"{who} $i\" >> log; done");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(root);
        writers.push(Running::start(&mut command)?);
    }
    for writer in &mut writers {
        assert_eq!(writer.code(SOON)?, 0);
    }
    let mut lines: Vec<String> = fs::read_to_string(root.join("log"))?.lines().map(str::to_owned).collect();
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), 400, "each line once, and whole");
    Ok(())
}

fn replaced_while_open(root: &Path) -> anyhow::Result<()> {
    fs::write(root.join("old"), b"old content")?;
    let old = File::options().read(true).write(true).open(root.join("old"))?;
    fs::write(root.join("new"), b"new")?;
    fs::rename(root.join("new"), root.join("old"))?;
    let mut content = [0; 11];
    old.read_exact_at(&mut content, 0)?;
    assert_eq!(&content, b"old content");
    old.write_all_at(b"OLD", 0)?;
    assert_eq!(fs::read(root.join("old"))?, b"new");
    drop(old);
    // Cut by another program while it is open.
    let open = File::options().read(true).write(true).open(root.join("old"))?;
    open.write_all_at(&[7; 100], 0)?;
    sh(root, "truncate -s 10 old")?.ok()?;
    assert_eq!(open.metadata()?.len(), 10);
    open.write_all_at(b"end", 20)?;
    drop(open);
    let content = fs::read(root.join("old"))?;
    assert_eq!((content.len(), &content[..10], &content[10..20]), (23, &[7; 10][..], &[0; 10][..]));
    Ok(())
}

fn names_and_paths(root: &Path) -> anyhow::Result<()> {
    // 255 bytes in three alphabets.
    for letter in ["ä", "語", "\u{1f980}"] {
        let name = letter.repeat(255 / letter.len()) + &"x".repeat(255 % letter.len());
        assert_eq!(name.len(), 255);
        fs::write(root.join(&name), b"")?;
        assert!(fs::read_dir(root)?.any(|entry| entry.unwrap().file_name().to_str() == Some(&name)));
        fs::remove_file(root.join(&name))?;
        assert!(fs::write(root.join(name + "x"), b"").is_err());
    }
    let mut deep = root.join("deep");
    for level in 0..100 {
        deep.push(format!("level-{level}"));
    }
    fs::create_dir_all(&deep)?;
    fs::write(deep.join("file"), b"deep")?;
    assert_eq!(fs::read(deep.join("../../././level-98/level-99/file"))?, b"deep");
    fs::remove_dir_all(root.join("deep"))?;
    Ok(())
}

fn times(root: &Path) -> anyhow::Result<()> {
    let path = root.join("times");
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
    let mut file = File::create(&path)?;
    file.write_all(b"written before the time is set")?;
    file.set_modified(time)?;
    drop(file);
    assert_eq!(fs::metadata(&path)?.modified()?, time);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(fs::metadata(&path)?.modified()?, time, "no later flush has moved it");
    sh(root, "touch -d '2001-02-03 04:05:06.789' times && stat -c %y times | grep -q 06.789")?.ok()?;
    Ok(())
}

fn direct_and_synchronous(root: &Path) -> anyhow::Result<()> {
    let direct = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags((OFlag::O_DIRECT | OFlag::O_SYNC).bits())
        .open(root.join("direct"))?;
    let block = vec![5; 8192];
    direct.write_all_at(&block, 4096)?;
    let mut back = vec![0; 8192];
    direct.read_exact_at(&mut back, 4096)?;
    assert_eq!(back, block);
    assert_eq!(fs::metadata(root.join("direct"))?.size(), 12_288);
    Ok(())
}

/// Maps, by a program that has them without unsafe code.
fn maps(root: &Path) -> anyhow::Result<()> {
    fs::write(root.join("map"), [b'a'; 10_000])?;
    let script = "\
import mmap, os
f = open('map', 'r+b')
shared = mmap.mmap(f.fileno(), 0)
private = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)
shared[5000:5006] = b'shared'
private[0:7] = b'private'
assert shared[0:3] == b'aaa'
os.pwrite(f.fileno(), b'written', 9000)
assert shared[9000:9007] == b'written'
shared.flush()
shared.close(); private.close(); f.close()
f = open('map', 'a+b')
appended = mmap.mmap(f.fileno(), 0)
appended[100:106] = b'place!'
appended.flush()
f.write(b'end'); f.flush()
appended.close(); f.close()
";
    run(Command::new("python3").args(["-c", script]).current_dir(root), SOON)?.ok()?;
    let content = fs::read(root.join("map"))?;
    assert_eq!((&content[5000..5006], &content[..7]), (&b"shared"[..], &b"aaaaaaa"[..]));
    assert_eq!(&content[9000..9007], b"written");
    // A map writes in its place, also through a descriptor that appends.
    assert_eq!((&content[100..106], &content[10_000..]), (&b"place!"[..], &b"end"[..]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_ten_thousand_entries_is_made_listed_and_removed_in_bounded_time() {
    on_both(|mock, _| {
        let lab = Lab::new(PRODUCT, LIMIT)?;
        let mounted = lab.mount(mock, &[])?;
        let many = mounted.path("many");
        fs::create_dir(&many)?;
        let start = Instant::now();
        for n in 0..10_000 {
            File::create(many.join(format!("entry-{n}")))?;
        }
        let made = start.elapsed();
        mounted.umount()?;
        let mounted = lab.mount(mock, &[])?;
        let start = Instant::now();
        let listed = fs::read_dir(&many)?.map(|entry| entry?.metadata()).collect::<Result<Vec<_>, _>>()?;
        assert_eq!(listed.len(), 10_000);
        let listed = start.elapsed();
        let start = Instant::now();
        fs::remove_dir_all(&many)?;
        println!("made in {made:?}, listed in {listed:?}, removed in {:?}", start.elapsed());
        assert!(listed < Duration::from_secs(20), "{listed:?}");
        mounted.umount()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_removed_while_open_is_gone_after_a_crash_and_files_of_others_stay() {
    let mock = Arc::new(MockServer::builder().config(Config::new(Profile::S3Files)).start().await.unwrap());
    let target = Arc::clone(&mock);
    let test = move || -> anyhow::Result<()> {
        let lab = Lab::new(PRODUCT, LIMIT)?;
        let mut command = lab.mount_command(&target, &["--foreground"]);
        let mut product = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
        let start = Instant::now();
        while !lab.is_mounted() {
            assert!(start.elapsed() < SOON);
            std::thread::sleep(Duration::from_millis(10));
        }
        let foreign = ".nfs.s3files.somebody-else.1";
        fs::write(lab.folder().join(foreign), b"not ours")?;
        let path = lab.folder().join("removed");
        let mut open = File::create(&path)?;
        open.write_all(b"still readable")?;
        fs::remove_file(&path)?;
        assert_eq!(open.metadata()?.nlink(), 0);
        product.signal(Signal::SIGKILL)?;
        product.code(SOON)?;
        drop(open);
        run(Command::new("umount").arg("-l").arg(lab.folder()), SOON)?;
        let mounted = lab.mount(&target, &[])?;
        let names = || -> Vec<_> { fs::read_dir(mounted.folder()).unwrap().map(|e| e.unwrap().file_name()).collect() };
        let start = Instant::now();
        while names().len() > 1 {
            assert!(start.elapsed() < Duration::from_secs(30), "{:?}", names());
            std::thread::sleep(Duration::from_millis(200));
            // A listing that is remembered would stay as it is.
            fs::write(mounted.path("x"), b"")?;
            fs::remove_file(mounted.path("x"))?;
        }
        assert_eq!(names(), [foreign]);
        let state = lab.path("home/.local/state/s3files-fuse");
        let journals = || -> Vec<_> {
            let names = fs::read_dir(&state).unwrap().flatten().map(|entry| entry.file_name());
            names.filter(|name| name.as_encoded_bytes().starts_with(b"hidden-")).collect()
        };
        // It goes when the server has answered, which may be a moment after others see that the file is gone.
        while !journals().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(30), "a journal is left: {:?}", journals());
            std::thread::sleep(Duration::from_millis(10));
        }
        mounted.umount()?;
        assert!(journals().is_empty(), "a journal is left: {:?}", journals());
        Ok(())
    };
    tokio::task::spawn_blocking(test).await.unwrap().unwrap();
}
