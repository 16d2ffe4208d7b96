//! Fills the memory file system from a directory of the machine (`serve --dir`). Nothing is ever written back.

use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::types::Nfstime4;

use super::memfs::{Directory, FileData, FileId, Kind, MemFs, NewFile};

fn refused(error: Nfs4Error) -> io::Error {
    io::Error::other(error)
}

/// Copies what lies in `from` (files, directories, symbolic links; nothing else) into the directory `into`, with
/// owners, modes and modification times. Returns how many files were made.
pub fn import_directory(fs: &mut MemFs, into: FileId, from: &Path) -> io::Result<u64> {
    let mut made = 0;
    // A list in place of recursion, so that a deep tree cannot exhaust the stack.
    let mut todo = vec![(from.to_path_buf(), into)];
    while let Some((path, dir)) = todo.pop() {
        for entry in std::fs::read_dir(&path)? {
            let path = entry?.path();
            let Some(name) = path.file_name() else { continue };
            let name = Bytes::copy_from_slice(name.as_bytes());
            let meta = std::fs::symlink_metadata(&path)?;
            let time = Nfstime4 { seconds: meta.mtime(), nseconds: meta.mtime_nsec() as u32 };
            let kind = if meta.is_dir() {
                Kind::Directory(Directory::default())
            } else if meta.is_symlink() {
                Kind::Symlink(std::fs::read_link(&path)?.into_os_string().into_vec().into())
            } else if meta.is_file() {
                let mut data = FileData::default();
                data.write(0, &std::fs::read(&path)?.into(), true);
                Kind::Regular(data)
            } else {
                continue;
            };
            let new = NewFile { mode: meta.mode(), uid: meta.uid(), gid: meta.gid() };
            let (file, _) = fs.create(dir, &name, kind, new, time).map_err(refused)?;
            made += 1;
            if meta.is_dir() {
                todo.push((path, file));
            }
        }
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_directory_is_imported_with_contents_links_and_modes() {
        use std::os::unix::fs::PermissionsExt;
        let host = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(host.path().join("a/b")).unwrap();
        let path = host.path().join("a/b/f");
        std::fs::write(&path, b"hello").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("b/f", host.path().join("a/l")).unwrap();
        let mut fs = MemFs::new(1, 32, Nfstime4::default());
        let root = fs.root();
        assert_eq!(import_directory(&mut fs, root, host.path()).unwrap(), 4);
        let a = fs.lookup(root, b"a").unwrap();
        let file = fs.lookup(fs.lookup(a, b"b").unwrap(), b"f").unwrap();
        assert_eq!(fs.data(file).unwrap().read(0, 99).concat(), b"hello");
        assert_eq!(fs.inode(file).unwrap().mode, 0o640);
        assert_eq!(fs.used(), 5);
        let link = fs.lookup(a, b"l").unwrap();
        assert!(matches!(&fs.inode(link).unwrap().kind, Kind::Symlink(target) if target == "b/f"));
    }
}
