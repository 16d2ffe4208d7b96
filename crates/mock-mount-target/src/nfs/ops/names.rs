//! Names: CREATE, REMOVE, RENAME, LINK, SECINFO (RFC 8881 §18.4, §18.9, §18.25, §18.26, §18.29, §18.45).

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::ops::dir::{
    Create4args, Create4resok, Createtype4, Link4args, Link4resok, Remove4args, Remove4resok, Rename4args,
    Rename4resok, Secinfo4, Secinfo4args, Secinfo4resok, SecinfoStyle4,
};
use nfs4::types::NfsFtype4;

use super::setattr::Wanted;
use crate::nfs::compound::Context;
use crate::nfs::memfs::{Directory, FileId, Kind, NewFile};
use crate::nfs::rights::{EXECUTE, WRITE};
use crate::nfs::server::Server;

/// Files at most, of every kind: each takes memory that no capacity counts.
const MOST_FILES: usize = 1 << 24;
/// Flavor of AUTH_SYS, the only one that may do anything here.
const AUTH_SYS: u32 = 1;

impl Server {
    pub(super) fn create(&mut self, cx: &mut Context<'_>, args: &Create4args) -> Result<Create4resok, Nfs4Error> {
        let dir = cx.file()?;
        self.name_is_good(&args.objname)?;
        let full = self.config.is_full();
        let kind = match &args.objtype {
            Createtype4::Lnk(target) if target.is_empty() => return Err(Nfs4Error::Inval),
            Createtype4::Lnk(target) if target.len() > self.config.max_symlink() => {
                return Err(Nfs4Error::Nametoolong);
            }
            // A copy, so that a short target does not hold a long record in memory.
            Createtype4::Lnk(target) => Kind::Symlink(Bytes::copy_from_slice(target)),
            Createtype4::Blk(_) | Createtype4::Chr(_) if !full => return Err(Nfs4Error::Notsupp),
            Createtype4::Blk(_) | Createtype4::Chr(_) if !cx.caller.is_root() => return Err(Nfs4Error::Perm),
            Createtype4::Blk(device) => Kind::Block(*device),
            Createtype4::Chr(device) => Kind::Character(*device),
            Createtype4::Other(NfsFtype4::Dir) => Kind::Directory(Directory::default()),
            Createtype4::Other(NfsFtype4::Fifo) => Kind::Fifo,
            Createtype4::Other(NfsFtype4::Sock) => Kind::Socket,
            Createtype4::Other(_) => return Err(Nfs4Error::Badtype),
        };
        let wanted = self.wanted(cx, &args.createattrs, true)?;
        if wanted.size.is_some() {
            return Err(Nfs4Error::Inval);
        }
        let default = if matches!(kind, Kind::Symlink(_)) { 0o777 } else { 0o755 };
        let (file, cinfo) = self.make(cx, dir, &args.objname, kind, &wanted, default)?;
        cx.set_file(file);
        Ok(Create4resok { cinfo, attrset: wanted.mask })
    }

    /// Makes a file under a free name and gives it its first attributes.
    pub(super) fn make(
        &mut self,
        cx: &Context<'_>,
        dir: FileId,
        name: &[u8],
        kind: Kind,
        wanted: &Wanted,
        default_mode: u32,
    ) -> Result<(FileId, nfs4::types::ChangeInfo4), Nfs4Error> {
        self.fs.directory(dir)?;
        self.must(cx, dir, EXECUTE)?;
        if self.fs.lookup(dir, name).is_ok() {
            return Err(Nfs4Error::Exist);
        }
        Self::may_change(cx)?;
        self.must(cx, dir, WRITE)?;
        let parent = self.fs.inode(dir)?;
        let inherits = parent.mode & 0o2000 != 0;
        let (uid, gid) = (cx.caller.ids.uid, if inherits { parent.gid } else { cx.caller.ids.gid });
        let is_dir = matches!(kind, Kind::Directory(_));
        if is_dir && self.depth(dir)? >= self.config.max_depth() {
            return Err(Nfs4Error::Nametoolong);
        }
        if self.fs.file_count() >= MOST_FILES {
            return Err(Nfs4Error::Nospc);
        }
        if wanted.uid.is_some_and(|want| want != uid) && !cx.caller.is_root() {
            return Err(Nfs4Error::Perm);
        }
        if wanted.gid.is_some_and(|want| want != gid && !cx.caller.in_group(want)) && !cx.caller.is_root() {
            return Err(Nfs4Error::Perm);
        }
        if wanted.size.is_some_and(|size| size > 0) && !matches!(kind, Kind::Regular(_)) {
            return Err(Nfs4Error::Inval);
        }
        let mut mode = wanted.mode_of_new(default_mode);
        if inherits && is_dir {
            mode |= 0o2000;
        }
        let name = Bytes::copy_from_slice(name);
        let (file, cinfo) = self.fs.create(dir, &name, kind, NewFile { mode, uid, gid }, cx.now.stamp())?;
        let mut rest = wanted.clone();
        rest.mode = None;
        self.set(cx, file, &rest)?;
        Ok((file, cinfo))
    }

    fn depth(&self, dir: FileId) -> Result<usize, Nfs4Error> {
        let (mut at, mut depth) = (dir, 0);
        while at != self.fs.root() {
            at = self.fs.parent(at)?;
            depth += 1;
        }
        Ok(depth)
    }

    pub(super) fn remove(&mut self, cx: &mut Context<'_>, args: &Remove4args) -> Result<Remove4resok, Nfs4Error> {
        let dir = cx.file()?;
        self.name_is_good(&args.target)?;
        let victim = self.find(cx, dir, &args.target)?;
        self.may_take(cx, dir, victim)?;
        if self.is_lost_and_found(victim) {
            return Err(Nfs4Error::Perm);
        }
        self.recall_for_change(cx, victim, false)?;
        let removed = self.fs.remove(dir, &args.target, cx.now.stamp())?;
        if removed.last_name {
            self.let_go(removed.file);
        }
        Ok(Remove4resok { cinfo: removed.cinfo })
    }

    /// Whether the caller may take a name out of a directory.
    fn may_take(&self, cx: &Context<'_>, dir: FileId, victim: FileId) -> Result<(), Nfs4Error> {
        Self::may_change(cx)?;
        let (dir, victim) = (self.fs.inode(dir)?, self.fs.inode(victim)?);
        if !cx.caller.may(dir, WRITE | EXECUTE) {
            return Err(Nfs4Error::Access);
        }
        if cx.caller.may_remove(dir, victim) { Ok(()) } else { Err(Nfs4Error::Perm) }
    }

    /// A file has lost its last name: it goes now, or when its last open is closed.
    pub(in crate::nfs) fn let_go(&mut self, file: FileId) {
        self.objects.remove(&file);
        self.status_texts.remove(&file);
        self.broken.remove(&file);
        if self.is_needed(file) {
            return;
        }
        self.states.drop_file(file);
        self.fs.forget(file);
    }

    pub(super) fn rename(&mut self, cx: &mut Context<'_>, args: &Rename4args) -> Result<Rename4resok, Nfs4Error> {
        let from = cx.saved_file()?;
        let to = cx.file()?;
        self.name_is_good(&args.oldname)?;
        self.name_is_good(&args.newname)?;
        self.fs.directory(to)?;
        let file = self.find(cx, from, &args.oldname)?;
        self.may_take(cx, from, file)?;
        self.must(cx, to, WRITE | EXECUTE)?;
        let is_dir = matches!(self.fs.inode(file)?.kind, Kind::Directory(_));
        if is_dir && from != to {
            // Its `..` changes.
            self.must(cx, file, WRITE)?;
        }
        if self.is_lost_and_found(file) || self.is_lost_and_found(from) {
            return Err(Nfs4Error::Perm);
        }
        if let Ok(victim) = self.fs.lookup(to, &args.newname) {
            self.may_take(cx, to, victim)?;
            self.recall_for_change(cx, victim, false)?;
        }
        self.recall_for_change(cx, file, false)?;
        let newname = Bytes::copy_from_slice(&args.newname);
        let renamed = self.fs.rename(from, &args.oldname, to, &newname, cx.now.stamp())?;
        if let Some((file, true)) = renamed.replaced {
            self.let_go(file);
        }
        Ok(Rename4resok { source_cinfo: renamed.source, target_cinfo: renamed.target })
    }

    pub(super) fn link(&mut self, cx: &mut Context<'_>, args: &Link4args) -> Result<Link4resok, Nfs4Error> {
        if !self.config.is_full() {
            return Err(Nfs4Error::Notsupp);
        }
        let file = cx.saved_file()?;
        let dir = cx.file()?;
        self.name_is_good(&args.newname)?;
        self.fs.directory(dir)?;
        Self::may_change(cx)?;
        self.must(cx, dir, WRITE | EXECUTE)?;
        let inode = self.fs.inode(file)?;
        if inode.nlink >= self.config.max_links() && !matches!(inode.kind, Kind::Directory(_)) {
            return Err(Nfs4Error::Mlink);
        }
        if inode.nlink == 0 {
            // A file that was removed while open stays removed.
            return Err(Nfs4Error::Stale);
        }
        self.recall_for_change(cx, file, false)?;
        let name = Bytes::copy_from_slice(&args.newname);
        let cinfo = self.fs.link(file, dir, &name, cx.now.stamp())?;
        Ok(Link4resok { cinfo })
    }

    /// SECINFO and SECINFO_NO_NAME consume the current file handle (RFC 8881 §2.6.3.1.1.8).
    pub(super) fn secinfo(&mut self, cx: &mut Context<'_>, args: &Secinfo4args) -> Result<Secinfo4resok, Nfs4Error> {
        let dir = cx.file()?;
        self.name_is_good(&args.name)?;
        self.find(cx, dir, &args.name)?;
        cx.current = None;
        Ok(vec![Secinfo4::Flavor(AUTH_SYS)].into())
    }

    pub(super) fn secinfo_no_name(
        &mut self,
        cx: &mut Context<'_>,
        style: SecinfoStyle4,
    ) -> Result<Secinfo4resok, Nfs4Error> {
        let file = cx.file()?;
        match style {
            SecinfoStyle4::CurrentFh => {}
            SecinfoStyle4::Parent => {
                self.fs.directory(file)?;
                if file == self.root_of(cx)? {
                    return Err(Nfs4Error::Noent);
                }
            }
            SecinfoStyle4::Unknown(_) => return Err(Nfs4Error::Inval),
        }
        cx.current = None;
        Ok(vec![Secinfo4::Flavor(AUTH_SYS)].into())
    }
}
