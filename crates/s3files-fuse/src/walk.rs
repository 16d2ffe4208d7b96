//! Finds a path in a file system that is not mounted: for `ls` and `cat`.
//!
//! The kernel does this for mounted folders. Links are followed here as it would, within the file system.

use std::collections::VecDeque;

use bytes::Bytes;
use vfs::{Attr, Cred, FileKind, Looked, ROOT_INO, Vfs};

use crate::failure::Failure;

/// Most links on one way (as the kernel's `MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// Who a command is, for the server.
pub fn own_identity() -> Cred {
    let cred = Cred::new(nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    Cred { groups: own_groups(), ..cred }
}

#[cfg(not(target_os = "macos"))]
fn own_groups() -> std::sync::Arc<[u32]> {
    nix::unistd::getgroups().unwrap_or_default().into_iter().map(nix::unistd::Gid::as_raw).collect()
}

/// macOS answers this question from a directory service, in its own way; the server goes by uid and gid there.
#[cfg(target_os = "macos")]
fn own_groups() -> std::sync::Arc<[u32]> {
    std::sync::Arc::from([])
}

/// Turns the file system's error into a sentence about `path`.
pub fn refused(path: &str, error: &vfs::Error) -> Failure {
    Failure::Path { path: path.to_owned(), why: error.to_string() }
}

/// The names of a path, without those that say nothing.
fn names(path: &[u8]) -> impl DoubleEndedIterator<Item = Bytes> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).map(Bytes::copy_from_slice)
}

/// The file at `path`, counted from the root, links followed.
pub async fn find(vfs: &Vfs, cred: &Cred, path: &str) -> Result<Attr, Failure> {
    let refuse = |error: vfs::Error| refused(path, &error);
    let say = |why: &str| Failure::Path { path: path.to_owned(), why: why.to_owned() };
    let mut way = vec![vfs.root_attr()];
    let mut ahead: VecDeque<Bytes> = names(path.as_bytes()).collect();
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        let here = way.last().map_or(ROOT_INO, |attr| attr.ino);
        if &*name == b".." {
            if way.len() > 1 {
                way.pop();
            }
            continue;
        }
        let entry = match vfs.lookup(cred, here, &name).await.map_err(refuse)? {
            Looked::Found(entry) => entry,
            Looked::Missing { .. } => return Err(say("no such file or directory")),
        };
        if entry.attr.kind != FileKind::Symlink {
            way.push(entry.attr);
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(say("too many symbolic links on the way"));
        }
        let target = vfs.readlink(cred, entry.attr.ino).await.map_err(refuse)?;
        if target.starts_with(b"/") {
            // On the machine that made it this leads out of the file system.
            return Err(say("a symbolic link on the way leads out of the file system"));
        }
        for name in names(&target).rev() {
            ahead.push_front(name);
        }
    }
    Ok(way.pop().unwrap_or_else(|| vfs.root_attr()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_names_and_dots_say_nothing() {
        let path: Vec<_> = names(b"//a/./b/../c/").collect();
        assert_eq!(path, ["a", "b", "..", "c"]);
        assert_eq!(names(b"/").count(), 0);
    }
}
