//! Which attributes there are and what they say: GETATTR, ACCESS, READLINK, VERIFY, NVERIFY
//! (RFC 8881 §5, §18.1, §18.7, §18.15, §18.24, §18.31).

use nfs4::Nfs4Error;
use nfs4::attr::{Attrs, ChangeAttrType4, number as n};
use nfs4::error::Status;
use nfs4::ops::file::{Access4args, Access4resok, Getattr4args, Getattr4resok, Readlink4resok, Verify4args, access};
use nfs4::types::{Bitmap4, Fsid4, Nfstime4, Specdata4};

use crate::nfs::compound::Context;
use crate::nfs::config::Config;
use crate::nfs::memfs::data::BLOCK;
use crate::nfs::memfs::{FileId, Kind};
use crate::nfs::rights::supported_access;
use crate::nfs::server::Server;

/// What S3 Files has of NFSv4.1's attributes (EFS: no ACLs, quotas, file counts, archive bit, backup time).
const BASE: Bitmap4 = Bitmap4::of(&[
    n::SUPPORTED_ATTRS,
    n::TYPE,
    n::FH_EXPIRE_TYPE,
    n::CHANGE,
    n::SIZE,
    n::LINK_SUPPORT,
    n::SYMLINK_SUPPORT,
    n::NAMED_ATTR,
    n::FSID,
    n::UNIQUE_HANDLES,
    n::LEASE_TIME,
    n::RDATTR_ERROR,
    n::CANSETTIME,
    n::CASE_INSENSITIVE,
    n::CASE_PRESERVING,
    n::CHOWN_RESTRICTED,
    n::FILEHANDLE,
    n::FILEID,
    n::HOMOGENEOUS,
    n::MAXFILESIZE,
    n::MAXLINK,
    n::MAXNAME,
    n::MAXREAD,
    n::MAXWRITE,
    n::MODE,
    n::NO_TRUNC,
    n::NUMLINKS,
    n::OWNER,
    n::OWNER_GROUP,
    n::RAWDEV,
    n::SPACE_AVAIL,
    n::SPACE_FREE,
    n::SPACE_TOTAL,
    n::SPACE_USED,
    n::TIME_ACCESS,
    n::TIME_ACCESS_SET,
    n::TIME_DELTA,
    n::TIME_METADATA,
    n::TIME_MODIFY,
    n::TIME_MODIFY_SET,
    n::MOUNTED_ON_FILEID,
    n::SUPPATTR_EXCLCREAT,
]);

/// What the `full` profile adds in NFSv4.1.
const FULL: Bitmap4 =
    Bitmap4::of(&[n::ACLSUPPORT, n::FILES_AVAIL, n::FILES_FREE, n::FILES_TOTAL, n::TIME_CREATE, n::MODE_SET_MASKED]);

/// What the `full` profile adds in NFSv4.2.
const FULL_V42: Bitmap4 = Bitmap4::of(&[n::CLONE_BLKSIZE, n::SPACE_FREED, n::CHANGE_ATTR_TYPE, n::MODE_UMASK]);

/// What can be set, if it is supported.
const SETTABLE: Bitmap4 = Bitmap4::of(&[
    n::SIZE,
    n::MODE,
    n::OWNER,
    n::OWNER_GROUP,
    n::TIME_ACCESS_SET,
    n::TIME_MODIFY_SET,
    n::TIME_CREATE,
    n::MODE_SET_MASKED,
]);

/// What can only be set (RFC 8881 §5.5, RFC 8275 §4.2).
pub(super) const WRITE_ONLY: Bitmap4 =
    Bitmap4::of(&[n::TIME_ACCESS_SET, n::TIME_MODIFY_SET, n::MODE_SET_MASKED, n::MODE_UMASK]);

/// Attributes of a server in a minor version.
pub(super) fn supported(config: &Config, minor: u32) -> Bitmap4 {
    let mut set = BASE;
    if minor >= 2 {
        set = set.with(n::XATTR_SUPPORT);
    }
    if config.is_full() {
        set = set.union(FULL);
        if minor >= 2 {
            set = set.union(FULL_V42);
        }
    }
    set
}

/// Attributes that SETATTR takes.
pub(super) fn settable(config: &Config, minor: u32) -> Bitmap4 {
    Bitmap4::of(&SETTABLE.iter().filter(|bit| supported(config, minor).contains(*bit)).collect::<Vec<_>>())
}

impl Server {
    /// The attributes of a file, of those in `want` that are supported.
    pub(super) fn attributes(&self, cx: &Context<'_>, file: FileId, want: Bitmap4) -> Result<Attrs, Nfs4Error> {
        if let Some(error) = self.broken.get(&file) {
            return Err(*error);
        }
        let inode = self.fs.inode(file)?;
        let supported = supported(&self.config, cx.minor);
        let has = |bit: u32| want.contains(bit) && supported.contains(bit);
        let full = self.config.is_full();
        let (size, used) = match &inode.kind {
            Kind::Regular(data) => (data.size(), data.space_used()),
            Kind::Directory(entries) => (4096 + 64 * entries.len() as u64, 4096),
            Kind::Symlink(target) => (target.len() as u64, 0),
            _ => (0, 0),
        };
        let total = if full { self.config.capacity } else { 1 << 63 };
        let free = total.saturating_sub(self.fs.used());
        let files_total = 1u64 << 32;
        let files_free = files_total.saturating_sub(self.fs.file_count() as u64);
        let some = |bit: u32, value: u64| has(bit).then_some(value);
        let flag = |bit: u32, value: bool| has(bit).then_some(value);
        Ok(Attrs {
            supported_attrs: has(n::SUPPORTED_ATTRS).then_some(supported),
            type_: has(n::TYPE).then(|| inode.kind.ftype()),
            fh_expire_type: has(n::FH_EXPIRE_TYPE).then_some(0),
            change: some(n::CHANGE, inode.change),
            size: some(n::SIZE, size),
            link_support: flag(n::LINK_SUPPORT, full),
            symlink_support: flag(n::SYMLINK_SUPPORT, true),
            named_attr: flag(n::NAMED_ATTR, false),
            fsid: has(n::FSID).then(|| Fsid4 { major: self.fs.fsid(), minor: 0 }),
            unique_handles: flag(n::UNIQUE_HANDLES, true),
            lease_time: has(n::LEASE_TIME).then_some(self.config.lease.as_secs() as u32),
            rdattr_error: has(n::RDATTR_ERROR).then_some(0),
            aclsupport: has(n::ACLSUPPORT).then_some(0),
            cansettime: flag(n::CANSETTIME, true),
            case_insensitive: flag(n::CASE_INSENSITIVE, false),
            case_preserving: flag(n::CASE_PRESERVING, true),
            chown_restricted: flag(n::CHOWN_RESTRICTED, true),
            filehandle: has(n::FILEHANDLE).then(|| self.fs.handle(file)),
            fileid: some(n::FILEID, file.0),
            files_avail: some(n::FILES_AVAIL, files_free),
            files_free: some(n::FILES_FREE, files_free),
            files_total: some(n::FILES_TOTAL, files_total),
            homogeneous: flag(n::HOMOGENEOUS, true),
            maxfilesize: some(n::MAXFILESIZE, self.config.max_file_size()),
            maxlink: has(n::MAXLINK).then_some(self.config.max_links()),
            maxname: has(n::MAXNAME).then_some(255),
            maxread: some(n::MAXREAD, u64::from(self.config.max_io)),
            maxwrite: some(n::MAXWRITE, u64::from(self.config.max_io)),
            mode: has(n::MODE).then_some(inode.mode),
            no_trunc: flag(n::NO_TRUNC, true),
            numlinks: has(n::NUMLINKS).then_some(inode.nlink),
            owner: has(n::OWNER).then(|| inode.uid.to_string().as_str().into()),
            owner_group: has(n::OWNER_GROUP).then(|| inode.gid.to_string().as_str().into()),
            rawdev: has(n::RAWDEV).then(|| match inode.kind {
                Kind::Block(device) | Kind::Character(device) => device,
                _ => Specdata4::default(),
            }),
            space_avail: some(n::SPACE_AVAIL, free),
            space_free: some(n::SPACE_FREE, free),
            space_total: some(n::SPACE_TOTAL, total),
            space_used: some(n::SPACE_USED, used),
            time_access: has(n::TIME_ACCESS).then_some(inode.atime),
            time_create: has(n::TIME_CREATE).then_some(inode.btime),
            time_delta: has(n::TIME_DELTA).then_some(Nfstime4 { seconds: 0, nseconds: 1 }),
            time_metadata: has(n::TIME_METADATA).then_some(inode.ctime),
            time_modify: has(n::TIME_MODIFY).then_some(inode.mtime),
            mounted_on_fileid: some(n::MOUNTED_ON_FILEID, file.0),
            suppattr_exclcreat: has(n::SUPPATTR_EXCLCREAT).then(|| settable(&self.config, cx.minor)),
            clone_blksize: has(n::CLONE_BLKSIZE).then_some(BLOCK as u32),
            space_freed: some(n::SPACE_FREED, used),
            change_attr_type: has(n::CHANGE_ATTR_TYPE).then_some(ChangeAttrType4::MonotonicIncr),
            xattr_support: flag(n::XATTR_SUPPORT, true),
            ..Attrs::default()
        })
    }

    pub(super) fn getattr(&mut self, cx: &mut Context<'_>, args: &Getattr4args) -> Result<Getattr4resok, Nfs4Error> {
        let file = cx.file()?;
        if WRITE_ONLY.iter().any(|bit| args.attr_request.contains(bit)) {
            self.referee.mistake("GETATTR of an attribute that can only be set".into());
            return Err(Nfs4Error::Inval);
        }
        self.recall_for_attributes(cx, file, args.attr_request)?;
        let attrs = self.attributes(cx, file, args.attr_request)?;
        let obj_attributes = attrs.to_fattr4().map_err(|_| Nfs4Error::Serverfault)?;
        Ok(Getattr4resok { obj_attributes })
    }

    /// Whoever writes behind the server's back under a delegation knows these attributes better (RFC 8881 §10.4.3).
    fn recall_for_attributes(&mut self, cx: &Context<'_>, file: FileId, want: Bitmap4) -> Status {
        const WRITTEN: [u32; 5] = [n::CHANGE, n::SIZE, n::SPACE_USED, n::TIME_METADATA, n::TIME_MODIFY];
        let asked = WRITTEN.iter().any(|bit| want.contains(*bit));
        if asked { self.recall_for_look(cx, file) } else { Ok(()) }
    }

    /// VERIFY (`same`) and NVERIFY: whether the attributes are as the client says.
    pub(super) fn verify(&mut self, cx: &mut Context<'_>, args: &Verify4args, same: bool) -> Status {
        let file = cx.file()?;
        let mask = args.obj_attributes.attrmask;
        let supported = supported(&self.config, cx.minor);
        if !mask.difference(supported).is_empty() {
            return Err(Nfs4Error::Attrnotsupp);
        }
        if mask.contains(n::RDATTR_ERROR) || WRITE_ONLY.iter().any(|bit| mask.contains(bit)) {
            self.referee.mistake("VERIFY or NVERIFY of an attribute that cannot be compared".into());
            return Err(Nfs4Error::Inval);
        }
        Attrs::from_fattr4(&args.obj_attributes).map_err(|_| Nfs4Error::Badxdr)?;
        self.recall_for_attributes(cx, file, mask)?;
        let have = self.attributes(cx, file, mask)?.to_fattr4().map_err(|_| Nfs4Error::Serverfault)?;
        match (have == args.obj_attributes, same) {
            (true, true) | (false, false) => Ok(()),
            (true, false) => Err(Nfs4Error::Same),
            (false, true) => Err(Nfs4Error::NotSame),
        }
    }

    pub(super) fn access(&mut self, cx: &mut Context<'_>, args: &Access4args) -> Result<Access4resok, Nfs4Error> {
        let file = cx.file()?;
        let inode = self.fs.inode(file)?;
        let mut known = supported_access(&inode.kind);
        if cx.minor < 2 {
            known &= !(access::XAREAD | access::XAWRITE | access::XALIST);
        }
        let supported = args.access & known;
        Ok(Access4resok { supported, access: supported & cx.caller.access(inode) })
    }

    pub(super) fn readlink(&mut self, cx: &mut Context<'_>) -> Result<Readlink4resok, Nfs4Error> {
        let file = cx.file()?;
        match &self.fs.inode(file)?.kind {
            Kind::Symlink(target) => Ok(Readlink4resok { link: target.clone().into() }),
            _ => Err(Nfs4Error::WrongType),
        }
    }
}
