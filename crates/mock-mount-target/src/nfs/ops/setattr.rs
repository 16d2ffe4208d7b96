//! Setting attributes: SETATTR and the first attributes of new files (RFC 8881 §5, §18.30, RFC 8275).
//!
//! Everything is checked before anything is set, so a refused SETATTR sets nothing.

use nfs4::Nfs4Error;
use nfs4::attr::{Attrs, Fattr4, number as n};
use nfs4::ops::file::{Setattr4args, Setattr4res};
use nfs4::types::{Bitmap4, Nfstime4, Settime4, Stateid4};

use super::attributes::{settable, supported};
use crate::nfs::compound::Context;
use crate::nfs::memfs::{FileId, Kind};
use crate::nfs::rights::WRITE;
use crate::nfs::server::Server;

const SUID: u32 = 0o4000;
const SGID: u32 = 0o2000;

/// Attributes to set, decoded and in range.
#[derive(Debug, Default, Clone)]
pub(super) struct Wanted {
    pub(super) mask: Bitmap4,
    pub(super) size: Option<u64>,
    pub(super) mode: Option<u32>,
    /// Which bits of `mode` count.
    mode_bits: u32,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    atime: Option<Settime4>,
    mtime: Option<Settime4>,
    btime: Option<Nfstime4>,
}

impl Wanted {
    /// The mode of a new file.
    pub(super) fn mode_of_new(&self, default: u32) -> u32 {
        self.mode.unwrap_or(default)
    }
}

/// `owner` and `owner_group` are numbers here (S3 Files maps no ids).
fn number_of(name: &[u8]) -> Result<u32, Nfs4Error> {
    let text = std::str::from_utf8(name).map_err(|_| Nfs4Error::Badowner)?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Nfs4Error::Badowner);
    }
    text.parse().map_err(|_| Nfs4Error::Badowner)
}

fn good_time(time: Nfstime4) -> Result<(), Nfs4Error> {
    if time.nseconds < 1_000_000_000 { Ok(()) } else { Err(Nfs4Error::Inval) }
}

impl Server {
    /// Decodes attributes to set: ATTRNOTSUPP for those that the server does not have, INVAL for those that cannot be
    /// set or are out of range.
    pub(super) fn wanted(&self, cx: &Context<'_>, fattr: &Fattr4, new: bool) -> Result<Wanted, Nfs4Error> {
        let mask = fattr.attrmask;
        let supported = supported(&self.config, cx.minor);
        if !mask.difference(supported).is_empty() {
            return Err(Nfs4Error::Attrnotsupp);
        }
        let mut settable = settable(&self.config, cx.minor);
        if new && supported.contains(n::MODE_UMASK) {
            settable = settable.with(n::MODE_UMASK);
        }
        if !mask.difference(settable).is_empty() {
            return Err(Nfs4Error::Inval);
        }
        let attrs = Attrs::from_fattr4(fattr).map_err(|_| Nfs4Error::Badxdr)?;
        let modes = [attrs.mode, attrs.mode_set_masked.map(|m| m.mm_value_to_set), attrs.mode_umask.map(|m| m.mu_mode)];
        if modes.iter().flatten().count() > 1 || modes.iter().flatten().any(|mode| mode & !0o7777 != 0) {
            return Err(Nfs4Error::Inval);
        }
        let (mode, mode_bits) = match (attrs.mode, attrs.mode_set_masked, attrs.mode_umask) {
            (Some(mode), _, _) => (Some(mode), 0o7777),
            (_, Some(masked), _) => (Some(masked.mm_value_to_set & masked.mm_mask_bits), masked.mm_mask_bits & 0o7777),
            (_, _, Some(umasked)) => (Some(umasked.mu_mode & !(umasked.mu_umask & 0o777)), 0o7777),
            _ => (None, 0),
        };
        for time in [&attrs.time_access_set, &attrs.time_modify_set].into_iter().flatten() {
            if let Settime4::ClientTime(time) = time {
                good_time(*time)?;
            }
        }
        attrs.time_create.map_or(Ok(()), good_time)?;
        if attrs.size.is_some_and(|size| size > self.config.max_file_size()) {
            return Err(Nfs4Error::Fbig);
        }
        Ok(Wanted {
            mask,
            size: attrs.size,
            mode,
            mode_bits,
            uid: attrs.owner.as_ref().map(|name| number_of(name)).transpose()?,
            gid: attrs.owner_group.as_ref().map(|name| number_of(name)).transpose()?,
            atime: attrs.time_access_set,
            mtime: attrs.time_modify_set,
            btime: attrs.time_create,
        })
    }

    pub(super) fn setattr(&mut self, cx: &mut Context<'_>, args: &Setattr4args) -> Setattr4res {
        match self.try_setattr(cx, args) {
            Ok(attrsset) => Setattr4res { status: Ok(()), attrsset },
            Err(error) => Setattr4res { status: Err(error), attrsset: Bitmap4::EMPTY },
        }
    }

    fn try_setattr(&mut self, cx: &mut Context<'_>, args: &Setattr4args) -> Result<Bitmap4, Nfs4Error> {
        let file = cx.file()?;
        let wanted = self.wanted(cx, &args.obj_attributes, false)?;
        Self::may_change(cx)?;
        if wanted.size.is_some() {
            self.may_set_size(cx, file, &args.stateid)?;
        }
        self.may_set(cx, file, &wanted)?;
        self.recall_for_change(cx, file, wanted.size == Some(0))?;
        self.set(cx, file, &wanted)?;
        Ok(wanted.mask)
    }

    fn may_set_size(&mut self, cx: &mut Context<'_>, file: FileId, stateid: &Stateid4) -> Result<(), Nfs4Error> {
        match &self.fs.inode(file)?.kind {
            Kind::Regular(_) => {}
            Kind::Directory(_) => return Err(Nfs4Error::Isdir),
            _ => return Err(Nfs4Error::Inval),
        }
        self.is_allowed(cx, file, stateid, WRITE)
    }

    /// Who may set what (POSIX `chmod`, `chown`, `utimensat`).
    pub(super) fn may_set(&self, cx: &Context<'_>, file: FileId, wanted: &Wanted) -> Result<(), Nfs4Error> {
        let inode = self.fs.inode(file)?;
        let caller = &cx.caller;
        let owns = caller.owns(inode);
        if (wanted.mode.is_some() || wanted.btime.is_some()) && !owns {
            return Err(Nfs4Error::Perm);
        }
        let new_owner = wanted.uid.is_some_and(|uid| uid != inode.uid);
        if (new_owner && !caller.is_root()) || (wanted.uid.is_some() && !owns) {
            return Err(Nfs4Error::Perm);
        }
        if let Some(gid) = wanted.gid
            && !caller.is_root()
            && !(owns && (gid == inode.gid || caller.in_group(gid)))
        {
            return Err(Nfs4Error::Perm);
        }
        for time in [&wanted.atime, &wanted.mtime].into_iter().flatten() {
            match time {
                Settime4::ClientTime(_) if !owns => return Err(Nfs4Error::Perm),
                Settime4::ServerTime if !owns && !caller.may(inode, WRITE) => return Err(Nfs4Error::Access),
                _ => {}
            }
        }
        Ok(())
    }

    /// Sets what [`Self::may_set`] allowed.
    pub(super) fn set(&mut self, cx: &Context<'_>, file: FileId, wanted: &Wanted) -> Result<(), Nfs4Error> {
        if wanted.mask.is_empty() {
            return Ok(());
        }
        let now = cx.now.stamp();
        if let Some(size) = wanted.size {
            self.fs.set_size(file, size, now)?;
            self.objects.remove(&file);
        }
        let group_of_caller = self
            .fs
            .inode(file)
            .is_ok_and(|inode| cx.caller.is_root() || cx.caller.in_group(wanted.gid.unwrap_or(inode.gid)));
        let inode = self.fs.inode_mut(file)?;
        let regular = matches!(inode.kind, Kind::Regular(_));
        if wanted.uid.is_some() || wanted.gid.is_some() {
            inode.uid = wanted.uid.unwrap_or(inode.uid);
            inode.gid = wanted.gid.unwrap_or(inode.gid);
            // Whoever gets a program does not get its rights along (POSIX chown).
            if regular && inode.mode & 0o111 != 0 {
                inode.mode &= !SUID;
                if inode.mode & 0o010 != 0 {
                    inode.mode &= !SGID;
                }
            }
        }
        if let Some(mode) = wanted.mode {
            inode.mode = inode.mode & !wanted.mode_bits | mode & wanted.mode_bits;
            if regular && !group_of_caller {
                inode.mode &= !SGID;
            }
        }
        let stamp = |time: &Settime4| match time {
            Settime4::ServerTime => now,
            Settime4::ClientTime(time) => *time,
        };
        if let Some(time) = &wanted.atime {
            inode.atime = stamp(time);
        }
        if let Some(time) = wanted.btime {
            inode.btime = time;
        }
        self.fs.touch(file, false, now)?;
        if let Some(time) = &wanted.mtime {
            self.fs.inode_mut(file)?.mtime = stamp(time);
        }
        Ok(())
    }

    /// A write by anybody but root takes set-user-id and set-group-id off a program.
    pub(super) fn drop_privileges_of(&mut self, cx: &Context<'_>, file: FileId) -> Result<(), Nfs4Error> {
        let inode = self.fs.inode_mut(file)?;
        if !cx.caller.is_root() && inode.mode & (SUID | SGID) != 0 {
            inode.mode &= !SUID;
            if inode.mode & 0o010 != 0 {
                inode.mode &= !SGID;
            }
        }
        Ok(())
    }
}
