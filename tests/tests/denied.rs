//! What the server refuses reaches the program that asked, at the call where it can still do something about it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use mock_mount_target::{Credentials, FaultPlan, MockHandle, MockServer, MockServerBuilder};
use nix::errno::Errno;
use whole_product_tests::Lab;

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(3);

/// Mounts a server that begins with a file `there`, and hears the referee at the end.
fn on(server: MockServerBuilder, test: impl FnOnce(&MockHandle, &Path)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let tree = lab.path("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("there"), "as it was").unwrap();
    let mock = runtime.block_on(server.import(tree).start()).unwrap();
    let mounted = lab.mount(&mock, &[]).unwrap();
    test(&mock, &mounted.folder());
    mounted.umount().unwrap();
    assert_eq!(mock.verdict(), Vec::<String>::new());
    runtime.block_on(mock.stop());
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Errno {
    Errno::from_raw(result.expect_err("this must be refused").raw_os_error().unwrap())
}

/// Every way to change something is refused by the call itself, and reading works.
fn nothing_can_be_changed(folder: &Path, why: &[Errno]) {
    let there = folder.join("there");
    assert_eq!(fs::read(&there).unwrap(), b"as it was");
    let refused = [
        errno(File::create(folder.join("new"))),
        errno(OpenOptions::new().write(true).open(&there)),
        errno(OpenOptions::new().append(true).open(&there)),
        errno(OpenOptions::new().write(true).truncate(true).open(&there)),
        errno(fs::create_dir(folder.join("directory"))),
        errno(std::os::unix::fs::symlink("there", folder.join("link"))),
        errno(fs::remove_file(&there)),
        errno(fs::rename(&there, folder.join("elsewhere"))),
        errno(fs::set_permissions(&there, Permissions::from_mode(0o600))),
    ];
    for (which, errno) in refused.iter().enumerate() {
        assert!(why.contains(errno), "way {which} gives {errno}");
    }
    assert_eq!(fs::read(&there).unwrap(), b"as it was");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
}

#[test]
fn credentials_without_client_write_refuse_each_change_at_once() {
    on(MockServer::builder().read_only_credentials(true), |_, folder| {
        nothing_can_be_changed(folder, &[Errno::EROFS, Errno::EACCES]);
    });
}

#[test]
fn credentials_without_root_access_make_root_a_stranger_at_once() {
    let credentials = Credentials::new("AKIAISASTRANGER00000", "secret").without_root_access();
    on(MockServer::builder().credentials(credentials), |_, folder| {
        nothing_can_be_changed(folder, &[Errno::EACCES, Errno::EPERM]);
    });
}

/// A plan in which so many WRITEs fail with this status.
fn writes_fail(mock: &MockHandle, status: &str, times: u32) {
    let plan = format!("[[fault]]\non = 'WRITE'\ndo = 'status'\nstatus = '{status}'\ntimes = {times}\n");
    mock.add_faults(FaultPlan::from_toml(&plan, 1).unwrap());
}

#[test]
fn a_full_server_and_a_full_quota_are_told_once_by_fsync_or_close_and_stay_with_the_file() {
    on(MockServer::builder(), |mock, folder| {
        for (status, wanted) in [("NOSPC", Errno::ENOSPC), ("DQUOT", Errno::EDQUOT)] {
            let mut synced = File::create(folder.join("synced")).unwrap();
            writes_fail(mock, status, 1);
            synced.write_all(b"too much").unwrap();
            assert_eq!(errno(synced.sync_all()), wanted);
            // It was told; what is written from now on is judged anew.
            synced.write_all_at(b"it fits", 0).unwrap();
            synced.sync_all().unwrap();
            nix::unistd::close(synced).unwrap();
            assert_eq!(&fs::read(folder.join("synced")).unwrap()[..7], b"it fits");

            let mut closed = File::create(folder.join("closed")).unwrap();
            let other = File::create(folder.join("other")).unwrap();
            writes_fail(mock, status, 1);
            closed.write_all(b"too much").unwrap();
            assert_eq!(nix::unistd::close(closed), Err(wanted));
            nix::unistd::close(other).unwrap();
        }
    });
}

#[test]
fn a_file_too_big_is_refused_by_the_write_itself() {
    on(MockServer::builder(), |_, folder| {
        let file = File::create(folder.join("big")).unwrap();
        assert_eq!(errno(file.write_at(b"x", i64::MAX as u64 - 10)), Errno::EFBIG);
        assert_eq!(errno(file.set_len(i64::MAX as u64)), Errno::EFBIG);
        file.write_all_at(b"small", 0).unwrap();
        nix::unistd::close(file).unwrap();
        assert_eq!(fs::read(folder.join("big")).unwrap(), b"small");
    });
}
