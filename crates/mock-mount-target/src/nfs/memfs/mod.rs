//! A file system in memory: inodes, names and bytes, and nothing of NFS but its status codes.
//!
//! Numbers are never used twice, so a handle of a removed file can only be stale. Every change of an inode takes
//! the next value of one clock, so `change` differs after every change and only ever rises (RFC 8881 §5.8.1.4).
//! Rights are not checked here.

pub mod data;
pub mod directory;
pub mod handle;
mod names;
pub mod xattr;

use std::collections::HashMap;

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::types::{ChangeInfo4, NfsFh4, NfsFtype4, Nfstime4, Specdata4};

pub use data::FileData;
pub use directory::Directory;
pub use names::{Removed, Renamed};
pub use xattr::Xattrs;

/// What the operations here return: a status of NFS in place of an error of their own.
pub type Result<T> = std::result::Result<T, Nfs4Error>;

/// Number of a file, unique for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u64);

/// What a file is, with what belongs to its kind.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A regular file.
    Regular(FileData),
    /// A directory.
    Directory(Directory),
    /// A symbolic link and its target.
    Symlink(Bytes),
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A block device.
    Block(Specdata4),
    /// A character device.
    Character(Specdata4),
}

impl Kind {
    /// The file type on the wire.
    pub fn ftype(&self) -> NfsFtype4 {
        match self {
            Self::Regular(_) => NfsFtype4::Reg,
            Self::Directory(_) => NfsFtype4::Dir,
            Self::Symlink(_) => NfsFtype4::Lnk,
            Self::Fifo => NfsFtype4::Fifo,
            Self::Socket => NfsFtype4::Sock,
            Self::Block(_) => NfsFtype4::Blk,
            Self::Character(_) => NfsFtype4::Chr,
        }
    }
}

/// A file of any kind.
#[derive(Debug, Clone)]
pub struct Inode {
    /// Kind and contents.
    pub kind: Kind,
    /// Permission bits, with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names that the file has (for a directory: 2 and one for each subdirectory).
    pub nlink: u32,
    /// Changes with every change.
    pub change: u64,
    /// Last access.
    pub atime: Nfstime4,
    /// Last change of the contents.
    pub mtime: Nfstime4,
    /// Last change of anything.
    pub ctime: Nfstime4,
    /// Creation.
    pub btime: Nfstime4,
    /// Extended attributes.
    pub xattrs: Xattrs,
    /// For a directory: the one above it; the root is its own.
    pub parent: FileId,
    /// The verifier of the exclusive creation that made it (RFC 8881 §18.16.3).
    pub create_verifier: Option<[u8; 8]>,
}

/// Owner, group and mode of a new file.
#[derive(Debug, Clone, Copy)]
pub struct NewFile {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A tree of files.
#[derive(Debug)]
pub struct MemFs {
    inodes: HashMap<FileId, Inode>,
    root: FileId,
    fsid: u64,
    handle_len: usize,
    last_file: u64,
    last_change: u64,
    used: u64,
}

impl MemFs {
    /// An empty tree whose root belongs to `root:root` with mode 0755.
    pub fn new(fsid: u64, handle_len: usize, now: Nfstime4) -> Self {
        let mut fs =
            Self { inodes: HashMap::new(), root: FileId(0), fsid, handle_len, last_file: 0, last_change: 0, used: 0 };
        let new = NewFile { mode: 0o755, uid: 0, gid: 0 };
        let root = fs.new_inode(Kind::Directory(Directory::default()), new, FileId(0), now);
        fs.root = root;
        if let Some(inode) = fs.inodes.get_mut(&root) {
            inode.parent = root;
            inode.nlink = 2;
        }
        fs
    }

    /// The root directory.
    pub fn root(&self) -> FileId {
        self.root
    }

    /// Number of the file system.
    pub fn fsid(&self) -> u64 {
        self.fsid
    }

    /// How many files there are, of every kind.
    pub fn file_count(&self) -> usize {
        self.inodes.len()
    }

    /// Bytes that the contents of all files take.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// All files.
    pub fn inodes(&self) -> impl Iterator<Item = (FileId, &Inode)> {
        self.inodes.iter().map(|(file, inode)| (*file, inode))
    }

    /// A path to a file from the root, if it has a name. Looks through all directories.
    pub fn path_of(&self, file: FileId) -> Option<String> {
        let (mut at, mut names) = (file, Vec::new());
        while at != self.root {
            let (dir, name) = self.inodes.iter().find_map(|(dir, inode)| match &inode.kind {
                Kind::Directory(entries) => {
                    entries.iter().find(|entry| entry.file == at).map(|entry| (*dir, entry.name.clone()))
                }
                _ => None,
            })?;
            names.push(String::from_utf8_lossy(&name).into_owned());
            at = dir;
        }
        names.reverse();
        Some(format!("/{}", names.join("/")))
    }

    /// The handle of a file.
    pub fn handle(&self, file: FileId) -> NfsFh4 {
        handle::encode(self.fsid, file, self.handle_len)
    }

    /// The file of a handle: BADHANDLE when the server never made it, STALE when the file is gone.
    pub fn resolve(&self, handle: &NfsFh4) -> Result<FileId> {
        let file = handle::decode(self.fsid, handle, self.handle_len)?;
        if self.inodes.contains_key(&file) { Ok(file) } else { Err(Nfs4Error::Stale) }
    }

    /// A file, or STALE.
    pub fn inode(&self, file: FileId) -> Result<&Inode> {
        self.inodes.get(&file).ok_or(Nfs4Error::Stale)
    }

    /// The same, to be changed; the caller calls [`Self::touch`] too.
    pub fn inode_mut(&mut self, file: FileId) -> Result<&mut Inode> {
        self.inodes.get_mut(&file).ok_or(Nfs4Error::Stale)
    }

    /// The entries of a directory; NOTDIR (SYMLINK for a symbolic link) for another kind.
    pub fn directory(&self, file: FileId) -> Result<&Directory> {
        match &self.inode(file)?.kind {
            Kind::Directory(directory) => Ok(directory),
            Kind::Symlink(_) => Err(Nfs4Error::Symlink),
            _ => Err(Nfs4Error::Notdir),
        }
    }

    /// The bytes of a regular file; ISDIR, SYMLINK or WRONG_TYPE for another kind (RFC 8881 §18.22.3).
    pub fn data(&self, file: FileId) -> Result<&FileData> {
        match &self.inode(file)?.kind {
            Kind::Regular(data) => Ok(data),
            other => Err(not_regular(other)),
        }
    }

    /// Changes the bytes of a regular file and keeps count of what they take.
    fn change_data<T>(&mut self, file: FileId, change: impl FnOnce(&mut FileData) -> T) -> Result<T> {
        let data = match &mut self.inode_mut(file)?.kind {
            Kind::Regular(data) => data,
            other => return Err(not_regular(other)),
        };
        let before = data.space_used();
        let result = change(data);
        let after = data.space_used();
        self.used = self.used + after - before;
        Ok(result)
    }

    /// Marks a file as changed: new `change`, new metadata time, and new modification time if `contents` changed.
    pub fn touch(&mut self, file: FileId, contents: bool, now: Nfstime4) -> Result<()> {
        self.last_change += 1;
        let change = self.last_change;
        let inode = self.inode_mut(file)?;
        inode.change = change;
        inode.ctime = now;
        if contents {
            inode.mtime = now;
        }
        Ok(())
    }

    /// Writes pieces one after the other, from `offset` on.
    pub fn write(&mut self, file: FileId, offset: u64, pieces: &[Bytes], stable: bool, now: Nfstime4) -> Result<()> {
        let at = self.change_data(file, |data| {
            pieces.iter().fold(offset, |at, piece| {
                data.write(at, piece, stable);
                at + piece.len() as u64
            })
        })?;
        if at > offset { self.touch(file, true, now) } else { Ok(()) }
    }

    /// Cuts or extends a file. The modification time moves even when the size stays (POSIX `ftruncate`).
    pub fn set_size(&mut self, file: FileId, size: u64, now: Nfstime4) -> Result<()> {
        self.change_data(file, |data| data.set_size(size))?;
        self.touch(file, true, now)
    }

    /// What was written into a range is stable from here on.
    pub fn commit(&mut self, file: FileId, offset: u64, count: u64) -> Result<()> {
        self.change_data(file, |data| data.commit_range(offset, count))
    }

    /// Makes a range a hole.
    pub fn punch(&mut self, file: FileId, offset: u64, length: u64, now: Nfstime4) -> Result<()> {
        self.change_data(file, |data| data.punch(offset, length))?;
        self.touch(file, true, now)
    }

    /// Reserves a range.
    pub fn allocate(&mut self, file: FileId, offset: u64, length: u64, now: Nfstime4) -> Result<()> {
        self.change_data(file, |data| data.allocate(offset, length))?;
        self.touch(file, true, now)
    }

    /// A restart of the server: all that was not committed is gone. Says in how many files.
    pub fn lose_unstable(&mut self, now: Nfstime4) -> usize {
        let mut lost = Vec::new();
        for (file, inode) in &mut self.inodes {
            if let Kind::Regular(data) = &mut inode.kind {
                let before = data.space_used();
                if data.lose_unstable() {
                    lost.push(*file);
                }
                self.used = self.used + data.space_used() - before;
            }
        }
        for file in &lost {
            // The file exists: it was found in the loop above.
            let _ = self.touch(*file, true, now);
        }
        lost.len()
    }

    fn new_inode(&mut self, kind: Kind, new: NewFile, parent: FileId, now: Nfstime4) -> FileId {
        self.last_file += 1;
        self.last_change += 1;
        // An odd factor makes this one-to-one, and most numbers longer than 32 bits, as the service's are.
        let file = FileId(self.last_file.wrapping_mul(0x1_0000_0001_b3b5) & (u64::MAX >> 1));
        let inode = Inode {
            nlink: if matches!(kind, Kind::Directory(_)) { 2 } else { 1 },
            kind,
            mode: new.mode & 0o7777,
            uid: new.uid,
            gid: new.gid,
            change: self.last_change,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            xattrs: Xattrs::default(),
            parent,
            create_verifier: None,
        };
        if let Kind::Regular(data) = &inode.kind {
            self.used += data.space_used();
        }
        self.inodes.insert(file, inode);
        file
    }

    /// A directory's change around what `action` does to it. One thread does it, so it is atomic.
    fn change_of(before: u64, after: u64) -> ChangeInfo4 {
        ChangeInfo4 { atomic: true, before, after }
    }
}

fn not_regular(kind: &Kind) -> Nfs4Error {
    match kind {
        Kind::Directory(_) => Nfs4Error::Isdir,
        Kind::Symlink(_) => Nfs4Error::Symlink,
        _ => Nfs4Error::WrongType,
    }
}

#[cfg(test)]
mod tests;
