//! Everything that a program does with files, through the kernel, against the mock.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use mock_mount_target::{MockHandle, MockServer};
use whole_product_tests::{ANSWER, Lab, noise, run};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(3);

async fn mock() -> MockHandle {
    MockServer::builder().start().await.unwrap()
}

/// Runs what blocks where it holds nobody up.
async fn blocking(work: impl FnOnce() -> anyhow::Result<()> + Send + 'static) {
    tokio::task::spawn_blocking(work).await.unwrap().unwrap();
}

/// With and without a Mac's manners, which must not be seen in files that are not the Mac's own.
#[tokio::test(flavor = "multi_thread")]
async fn every_basic_operation_does_what_it_says_and_the_referee_is_silent() {
    for options in [&[][..], &["--mac-files", "local", "--xattrs", "local", "--names", "nfc"]] {
        let mock = std::sync::Arc::new(mock().await);
        let target = std::sync::Arc::clone(&mock);
        blocking(move || {
            let lab = Lab::new(PRODUCT, LIMIT)?;
            let mounted = lab.mount(&target, options)?;
            let root = mounted.folder();
            files(&root);
            directories(&root);
            renames(&root);
            links(&root);
            attributes(&root);
            large_and_sparse_files(&root);
            fs::write(root.join("kept"), b"still here").unwrap();
            mounted.umount()?;
            let mounted = lab.mount(&target, options)?;
            assert_eq!(fs::read(mounted.path("kept")).unwrap(), b"still here");
            mounted.umount()
        })
        .await;
        assert_eq!(mock.verdict(), Vec::<String>::new());
        mock.check_invariants().unwrap();
    }
}

/// `df` asks for the size of the file system; an answer older than ten seconds is asked for anew in the background.
#[tokio::test(flavor = "multi_thread")]
async fn the_size_of_the_file_system_can_be_asked_for_at_any_time() {
    let mock = std::sync::Arc::new(mock().await);
    let target = std::sync::Arc::clone(&mock);
    blocking(move || {
        let lab = Lab::new(PRODUCT, LIMIT)?;
        let mounted = lab.mount(&target, &[])?;
        run(Command::new("df").arg(mounted.folder()), ANSWER)?.ok()?;
        std::thread::sleep(Duration::from_millis(10_500));
        for _ in 0..2 {
            run(Command::new("df").arg(mounted.folder()), ANSWER)?.ok()?;
        }
        mounted.umount()
    })
    .await;
    assert_eq!(mock.verdict(), Vec::<String>::new());
}

fn kind<T: std::fmt::Debug>(result: std::io::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

fn files(root: &Path) {
    let file = root.join("file");
    assert_eq!(kind(fs::read(&file)), ErrorKind::NotFound);
    fs::write(&file, b"one").unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"one");
    assert_eq!(kind(OpenOptions::new().write(true).create_new(true).open(&file)), ErrorKind::AlreadyExists);
    OpenOptions::new().append(true).open(&file).unwrap().write_all(b" two").unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"one two");
    // O_TRUNC
    fs::write(&file, b"3").unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"3");
    let mut open = OpenOptions::new().read(true).write(true).open(&file).unwrap();
    open.seek(SeekFrom::Start(10)).unwrap();
    open.write_all(b"end").unwrap();
    open.sync_all().unwrap();
    open.rewind().unwrap();
    let mut all = Vec::new();
    open.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"3\0\0\0\0\0\0\0\0\0end");
    open.set_len(2).unwrap();
    assert_eq!(open.metadata().unwrap().len(), 2);
    open.set_len(5).unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"3\0\0\0\0");
    drop(open);
    fs::remove_file(&file).unwrap();
    assert_eq!(kind(fs::metadata(&file)), ErrorKind::NotFound);
    let longest = "n".repeat(255);
    fs::write(root.join(&longest), b"").unwrap();
    fs::remove_file(root.join(&longest)).unwrap();
    assert_eq!(kind(fs::write(root.join("n".repeat(256)), b"")), ErrorKind::InvalidFilename);
    let odd = root.join("ein Näme\nwith \\ ünd \u{1f980}");
    fs::write(&odd, b"x").unwrap();
    assert_eq!(fs::read_dir(root).unwrap().next().unwrap().unwrap().path(), odd);
    fs::remove_file(&odd).unwrap();
}

fn directories(root: &Path) {
    let dir = root.join("dir");
    fs::create_dir(&dir).unwrap();
    assert_eq!(kind(fs::create_dir(&dir)), ErrorKind::AlreadyExists);
    fs::create_dir_all(dir.join("a/b/c")).unwrap();
    assert_eq!(kind(fs::remove_dir(&dir)), ErrorKind::DirectoryNotEmpty);
    for i in 0..1000 {
        File::create(dir.join(format!("{i:04}"))).unwrap();
    }
    let mut names: Vec<_> =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut expected: Vec<_> = (0..1000).map(|i| format!("{i:04}")).collect();
    expected.push("a".to_owned());
    assert_eq!(names, expected);
    assert_eq!(kind(fs::read_dir(dir.join("0000"))), ErrorKind::NotADirectory);
    assert_eq!(kind(fs::remove_file(dir.join("a"))), ErrorKind::IsADirectory);
    assert_eq!(kind(fs::remove_dir(dir.join("0000"))), ErrorKind::NotADirectory);
    fs::remove_dir_all(&dir).unwrap();
    assert_eq!(fs::read_dir(root).unwrap().count(), 0);
}

fn renames(root: &Path) {
    let (one, two) = (root.join("one"), root.join("two"));
    fs::write(&one, b"1").unwrap();
    fs::write(&two, b"2").unwrap();
    let ino = fs::metadata(&one).unwrap().ino();
    fs::rename(&one, &two).unwrap();
    assert_eq!(fs::read(&two).unwrap(), b"1");
    assert_eq!(fs::metadata(&two).unwrap().ino(), ino);
    assert_eq!(kind(fs::metadata(&one)), ErrorKind::NotFound);
    // An open file stays the same file under its new name.
    let mut open = OpenOptions::new().append(true).open(&two).unwrap();
    fs::create_dir(root.join("sub")).unwrap();
    fs::rename(&two, root.join("sub/three")).unwrap();
    open.write_all(b"+").unwrap();
    drop(open);
    assert_eq!(fs::read(root.join("sub/three")).unwrap(), b"1+");
    fs::rename(root.join("sub"), root.join("moved")).unwrap();
    assert_eq!(fs::read(root.join("moved/three")).unwrap(), b"1+");
    assert_eq!(kind(fs::rename(root.join("missing"), root.join("x"))), ErrorKind::NotFound);
    fs::remove_dir_all(root.join("moved")).unwrap();
}

fn links(root: &Path) {
    fs::write(root.join("target"), b"t").unwrap();
    symlink("target", root.join("link")).unwrap();
    assert_eq!(fs::read_link(root.join("link")).unwrap(), Path::new("target"));
    assert_eq!(fs::read(root.join("link")).unwrap(), b"t");
    assert!(fs::symlink_metadata(root.join("link")).unwrap().is_symlink());
    symlink("nowhere", root.join("dangling")).unwrap();
    assert_eq!(kind(fs::read(root.join("dangling"))), ErrorKind::NotFound);
    // S3 Files has no hard links, and says so at once.
    assert!(fs::hard_link(root.join("target"), root.join("hard")).is_err());
    for name in ["target", "link", "dangling"] {
        fs::remove_file(root.join(name)).unwrap();
    }
}

fn attributes(root: &Path) {
    let file = root.join("file");
    fs::write(&file, b"12345").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234_567_890_123_456_789);
    File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o640);
    assert_eq!(metadata.modified().unwrap(), time);
    assert_eq!((metadata.len(), metadata.nlink()), (5, 1));
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&file, Some(1234), Some(4321)).unwrap();
        let metadata = fs::metadata(&file).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (1234, 4321));
    }
    fs::remove_file(&file).unwrap();
}

fn large_and_sparse_files(root: &Path) {
    let data = noise(1, (8 << 20) + 12_345);
    let large = root.join("large");
    fs::write(&large, &data).unwrap();
    assert!(fs::read(&large).unwrap() == data, "what was read is not what was written");
    let file = File::options().read(true).write(true).open(&large).unwrap();
    file.write_all_at(b"middle", 4 << 20).unwrap();
    let mut piece = [0; 16];
    file.read_exact_at(&mut piece, (4 << 20) - 5).unwrap();
    assert_eq!(&piece[5..11], b"middle");
    assert_eq!(piece[..5], data[(4 << 20) - 5..4 << 20]);
    file.write_all_at(b"far", 1 << 30).unwrap();
    assert_eq!(file.metadata().unwrap().len(), (1 << 30) + 3);
    file.read_exact_at(&mut piece, (1 << 30) - 16).unwrap();
    assert_eq!(piece, [0; 16]);
    drop(file);
    fs::remove_file(&large).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_mount_shows_everything_and_changes_nothing() {
    let mock = std::sync::Arc::new(mock().await);
    let target = std::sync::Arc::clone(&mock);
    blocking(move || {
        let lab = Lab::new(PRODUCT, LIMIT)?;
        let mounted = lab.mount(&target, &[])?;
        fs::write(mounted.path("file"), b"data").unwrap();
        mounted.umount()?;
        let mounted = lab.mount(&target, &["--read-only"])?;
        assert_eq!(fs::read(mounted.path("file")).unwrap(), b"data");
        for result in [
            fs::write(mounted.path("file"), b"new"),
            fs::write(mounted.path("other"), b"new"),
            fs::remove_file(mounted.path("file")),
            fs::create_dir(mounted.path("dir")),
            fs::rename(mounted.path("file"), mounted.path("name")),
        ] {
            assert_eq!(kind(result), ErrorKind::ReadOnlyFilesystem);
        }
        mounted.umount()
    })
    .await;
    assert_eq!(mock.verdict(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_may_not_write_get_an_error_and_not_silence() {
    let mock = std::sync::Arc::new(MockServer::builder().read_only_credentials(true).start().await.unwrap());
    let target = std::sync::Arc::clone(&mock);
    blocking(move || {
        let lab = Lab::new(PRODUCT, LIMIT)?;
        let mounted = lab.mount(&target, &[])?;
        let refused = kind(fs::write(mounted.path("file"), b"x"));
        assert!(matches!(refused, ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied), "{refused:?}");
        mounted.umount()
    })
    .await;
}
