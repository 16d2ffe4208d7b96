//! Where the control sockets are: one for each mounted folder, in a directory that belongs to the user alone.

use std::hash::Hasher;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The directory of sockets and logs, made if it is missing.
pub fn directory() -> io::Result<PathBuf> {
    first_usable(candidates())
}

/// The first that is there or can be made. Askers look in all of them. The error is that of the likeliest.
fn first_usable(candidates: impl Iterator<Item = PathBuf>) -> io::Result<PathBuf> {
    let mut first = None;
    for path in candidates {
        match make(&path) {
            Ok(()) => return Ok(path),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

fn make(path: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => check(path),
    }
}

/// Where the directory may be, the likeliest first: a service and a terminal of one user have different environments.
fn candidates() -> impl Iterator<Item = PathBuf> {
    let user = nix::unistd::geteuid();
    let own = std::env::var_os("XDG_RUNTIME_DIR").into_iter().map(PathBuf::from);
    let login = PathBuf::from(format!("/run/user/{user}"));
    let shared = [std::env::temp_dir(), PathBuf::from("/tmp")].map(|dir| dir.join(format!("s3files-fuse-{user}")));
    let named = own.filter(move |dir| is_of(dir, user.as_raw())).map(|dir| dir.join("s3files-fuse"));
    named.chain(shared).chain([login.join("s3files-fuse")])
}

/// Whether it is a directory of that user. `su` and `sudo -E` leave the variable of another one in place, whom a directory
/// of root's in there would lock out.
fn is_of(dir: &Path, uid: u32) -> bool {
    std::fs::metadata(dir).is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == uid)
}

/// In a directory that all users write to, somebody else may have made it first.
fn check(path: &Path) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    if !metadata.is_dir() || metadata.uid() != nix::unistd::geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
        let why = format!("{} does not belong to this user alone", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

/// The file that belongs to `folder`, an absolute path.
pub fn file(folder: &Path, ending: &str) -> io::Result<PathBuf> {
    Ok(directory()?.join(file_name(folder, ending)))
}

/// A number that stands for a name, the same in every release.
pub fn fnv(name: &[u8]) -> u64 {
    Fnv::of(name)
}

pub(super) fn file_name(folder: &Path, ending: &str) -> String {
    format!("{:016x}.{ending}", Fnv::of(folder.as_os_str().as_bytes()))
}

/// FNV-1a: the same name in every release, which the standard library's hasher does not promise.
struct Fnv(u64);

impl Fnv {
    fn of(bytes: &[u8]) -> u64 {
        let mut hasher = Self(0xcbf2_9ce4_8422_2325);
        hasher.write(bytes);
        hasher.finish()
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The directories that this user's sockets may be in.
pub(super) fn directories() -> impl Iterator<Item = PathBuf> {
    candidates().filter(|path| check(path).is_ok())
}

/// All sockets of this user, also those that nobody listens on any more.
pub(super) fn sockets() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = directories()
        .filter_map(|directory| std::fs::read_dir(directory).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "sock"))
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_that_others_can_look_into_or_that_is_a_link_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let (own, link) = (dir.path().join("own"), dir.path().join("link"));
        std::fs::create_dir(&own).unwrap();
        std::os::unix::fs::symlink(&own, &link).unwrap();
        for (mode, is_used) in [(0o700, true), (0o750, false), (0o701, false), (0o777, false)] {
            std::fs::set_permissions(&own, Permissions::from_mode(mode)).unwrap();
            assert_eq!(check(&own).is_ok(), is_used, "{mode:o}");
        }
        std::fs::set_permissions(&own, Permissions::from_mode(0o700)).unwrap();
        assert_eq!(check(&link).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_directory_of_another_user_is_no_place_for_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let user = nix::unistd::geteuid().as_raw();
        assert!(is_of(dir.path(), user) && !is_of(dir.path(), user + 1));
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(!is_of(&file, user) && !is_of(&dir.path().join("missing"), user));
    }

    #[test]
    fn a_place_that_cannot_be_used_is_passed_over_and_named_if_there_is_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let [open, deep, good] = ["open", "missing/deep", "good"].map(|name| dir.path().join(name));
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
        let all = [&open, &deep, &good].map(Clone::clone);
        assert_eq!(first_usable(all.clone().into_iter()).unwrap(), good);
        let error = first_usable(all.into_iter().take(2)).unwrap_err();
        assert_eq!(error.to_string(), format!("{} does not belong to this user alone", open.display()));
        assert_eq!(first_usable(std::iter::empty()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn file_names_do_not_change_between_releases() {
        assert_eq!(Fnv::of(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(Fnv::of(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
