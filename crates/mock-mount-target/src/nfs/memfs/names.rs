//! Names: look up, create, link, remove, rename, each with the directory's change before and after.

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::types::{ChangeInfo4, Nfstime4};

use super::{Directory, FileId, Inode, Kind, MemFs, NewFile, Result};

/// What a removal did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// The file that lost its name.
    pub file: FileId,
    /// Whether that was its last name (it still is there until [`MemFs::forget`]).
    pub last_name: bool,
    /// Change of the directory.
    pub cinfo: ChangeInfo4,
}

/// What a renaming did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renamed {
    /// Change of the old directory.
    pub source: ChangeInfo4,
    /// Change of the new directory.
    pub target: ChangeInfo4,
    /// The file that was replaced, and whether that was its last name.
    pub replaced: Option<(FileId, bool)>,
}

impl MemFs {
    /// The file of a name, or NOENT.
    pub fn lookup(&self, dir: FileId, name: &[u8]) -> Result<FileId> {
        self.directory(dir)?.get(name).ok_or(Nfs4Error::Noent)
    }

    /// The directory above a directory.
    pub fn parent(&self, dir: FileId) -> Result<FileId> {
        self.directory(dir)?;
        Ok(self.inode(dir)?.parent)
    }

    /// Makes a file of any kind under a name that is free.
    pub fn create(
        &mut self,
        dir: FileId,
        name: &Bytes,
        kind: Kind,
        new: NewFile,
        now: Nfstime4,
    ) -> Result<(FileId, ChangeInfo4)> {
        if self.directory(dir)?.get(name).is_some() {
            return Err(Nfs4Error::Exist);
        }
        let is_dir = matches!(kind, Kind::Directory(_));
        let file = self.new_inode(kind, new, dir, now);
        let cinfo = self.change_directory(dir, now, |inode, entries| {
            entries.insert(name.clone(), file);
            inode_links(inode, is_dir, 1);
        })?;
        Ok((file, cinfo))
    }

    /// Gives a file one name more.
    pub fn link(&mut self, file: FileId, dir: FileId, name: &Bytes, now: Nfstime4) -> Result<ChangeInfo4> {
        if matches!(self.inode(file)?.kind, Kind::Directory(_)) {
            return Err(Nfs4Error::Isdir);
        }
        if self.directory(dir)?.get(name).is_some() {
            return Err(Nfs4Error::Exist);
        }
        self.inode_mut(file)?.nlink += 1;
        self.touch(file, false, now)?;
        self.change_directory(dir, now, |_, entries| entries.insert(name.clone(), file))
    }

    /// Takes a name away. A directory must be empty. The file itself goes with [`Self::forget`].
    pub fn remove(&mut self, dir: FileId, name: &[u8], now: Nfstime4) -> Result<Removed> {
        let file = self.lookup(dir, name)?;
        let is_dir = self.must_be_empty(file)?;
        let cinfo = self.change_directory(dir, now, |inode, entries| {
            entries.remove(name);
            inode_links(inode, is_dir, -1);
        })?;
        let last_name = self.drop_name(file, now)?;
        Ok(Removed { file, last_name, cinfo })
    }

    /// Moves a name, replacing a file or an empty directory of the same kind (RFC 8881 §18.26.3).
    pub fn rename(&mut self, from: FileId, old: &[u8], to: FileId, new: &Bytes, now: Nfstime4) -> Result<Renamed> {
        self.directory(to)?;
        let file = self.lookup(from, old)?;
        let is_dir = matches!(self.inode(file)?.kind, Kind::Directory(_));
        if is_dir && self.is_within(to, file)? {
            return Err(Nfs4Error::Inval);
        }
        let target = self.directory(to)?.get(new);
        if target == Some(file) {
            // The same file under both names: nothing happens, successfully.
            let source = self.inode(from)?.change;
            let target = self.inode(to)?.change;
            return Ok(Renamed {
                source: Self::change_of(source, source),
                target: Self::change_of(target, target),
                replaced: None,
            });
        }
        let mut replaced = None;
        if let Some(target) = target {
            let target_is_dir = matches!(self.inode(target)?.kind, Kind::Directory(_));
            if target_is_dir != is_dir {
                return Err(Nfs4Error::Exist);
            }
            self.must_be_empty(target).map_err(|_| Nfs4Error::Exist)?;
            replaced = Some(target);
        }
        let source_before = self.inode(from)?.change;
        let target_before = self.inode(to)?.change;
        self.change_directory(from, now, |inode, entries| {
            entries.remove(old);
            inode_links(inode, is_dir, -1);
        })?;
        self.change_directory(to, now, |inode, entries| {
            if replaced.is_some() {
                entries.remove(new);
                inode_links(inode, is_dir, -1);
            }
            entries.insert(new.clone(), file);
            inode_links(inode, is_dir, 1);
        })?;
        self.touch(file, false, now)?;
        self.inode_mut(file)?.parent = to;
        let replaced = match replaced {
            Some(file) => Some((file, self.drop_name(file, now)?)),
            None => None,
        };
        Ok(Renamed {
            source: Self::change_of(source_before, self.inode(from)?.change),
            target: Self::change_of(target_before, self.inode(to)?.change),
            replaced,
        })
    }

    /// Lets go of a file that has no name left.
    pub fn forget(&mut self, file: FileId) {
        if self.inodes.get(&file).is_some_and(|inode| inode.nlink == 0)
            && let Some(inode) = self.inodes.remove(&file)
            && let Kind::Regular(data) = &inode.kind
        {
            self.used -= data.space_used();
        }
    }

    /// Whether a directory is `ancestor` or lies under it.
    pub fn is_within(&self, dir: FileId, ancestor: FileId) -> Result<bool> {
        let mut at = dir;
        loop {
            if at == ancestor {
                return Ok(true);
            }
            let parent = self.inode(at)?.parent;
            if parent == at {
                return Ok(false);
            }
            at = parent;
        }
    }

    /// Whether `file` is a directory; NOTEMPTY for one with entries.
    fn must_be_empty(&self, file: FileId) -> Result<bool> {
        match &self.inode(file)?.kind {
            Kind::Directory(entries) if entries.is_empty() => Ok(true),
            Kind::Directory(_) => Err(Nfs4Error::Notempty),
            _ => Ok(false),
        }
    }

    /// One name less; whether it was the last.
    fn drop_name(&mut self, file: FileId, now: Nfstime4) -> Result<bool> {
        let inode = self.inode_mut(file)?;
        inode.nlink = match inode.kind {
            Kind::Directory(_) => 0,
            _ => inode.nlink.saturating_sub(1),
        };
        let last = inode.nlink == 0;
        self.touch(file, false, now)?;
        Ok(last)
    }

    fn change_directory(
        &mut self,
        dir: FileId,
        now: Nfstime4,
        action: impl FnOnce(&mut i64, &mut Directory),
    ) -> Result<ChangeInfo4> {
        let inode = self.inode_mut(dir)?;
        let before = inode.change;
        let mut links = 0;
        match &mut inode.kind {
            Kind::Directory(entries) => action(&mut links, entries),
            _ => return Err(Nfs4Error::Notdir),
        }
        add_links(inode, links);
        self.touch(dir, true, now)?;
        Ok(Self::change_of(before, self.inode(dir)?.change))
    }
}

fn inode_links(links: &mut i64, is_dir: bool, by: i64) {
    if is_dir {
        *links += by;
    }
}

fn add_links(inode: &mut Inode, by: i64) {
    inode.nlink = u32::try_from(i64::from(inode.nlink) + by).unwrap_or(0);
}
