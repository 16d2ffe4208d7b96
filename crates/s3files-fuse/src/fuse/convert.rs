//! Words of FUSE into words of `vfs`, and back.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fuser::{FileAttr, FileType, FopenFlags, INodeNo, TimeOrNow};
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::stat::SFlag;
use vfs::{
    Allocation, Attr, Errno, FileKind, LockKind, LockRange, NodeKind, OpenFlags, Opened, RenameFlags, SeekWhat,
    TimeSet, Timestamp, XattrSet,
};

use crate::identity::Shown;

/// What programs are told to read and write at a time (`st_blksize`).
const BLOCK_SIZE: u32 = 256 << 10;

/// The platform's number for an error.
pub fn errno(errno: Errno) -> fuser::Errno {
    use nix::errno::Errno as E;
    let number = match errno {
        Errno::Perm => E::EPERM,
        Errno::NoEnt => E::ENOENT,
        Errno::Io => E::EIO,
        Errno::Nxio => E::ENXIO,
        Errno::Access => E::EACCES,
        Errno::Exist => E::EEXIST,
        Errno::Xdev => E::EXDEV,
        Errno::NotDir => E::ENOTDIR,
        Errno::IsDir => E::EISDIR,
        Errno::Inval => E::EINVAL,
        Errno::FBig => E::EFBIG,
        Errno::NoSpc => E::ENOSPC,
        Errno::RoFs => E::EROFS,
        Errno::MLink => E::EMLINK,
        Errno::NameTooLong => E::ENAMETOOLONG,
        Errno::NotEmpty => E::ENOTEMPTY,
        Errno::Dquot => E::EDQUOT,
        Errno::Stale => E::ESTALE,
        Errno::NotSup => E::EOPNOTSUPP,
        Errno::Again => E::EAGAIN,
        Errno::NoLck => E::ENOLCK,
        Errno::DeadLk => E::EDEADLK,
        Errno::Busy => E::EBUSY,
        Errno::NoData => return fuser::Errno::NO_XATTR,
        Errno::TooBig => E::E2BIG,
        Errno::Range => E::ERANGE,
        Errno::Loop => E::ELOOP,
        Errno::TimedOut => E::ETIMEDOUT,
        Errno::BadF => E::EBADF,
        Errno::NoSys => E::ENOSYS,
        Errno::Intr => E::EINTR,
    };
    fuser::Errno::from_i32(number as i32)
}

pub fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// Attributes, with the owner that is to be shown.
pub fn file_attr(attr: &Attr, shown: Shown) -> FileAttr {
    let (uid, gid) = shown.of(attr.uid, attr.gid);
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.space_used.div_ceil(512),
        atime: attr.atime.to_system_time(),
        mtime: attr.mtime.to_system_time(),
        ctime: attr.ctime.to_system_time(),
        crtime: attr.ctime.to_system_time(),
        kind: file_type(attr.kind),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid,
        gid,
        rdev: device_number(attr.rdev),
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// Stands for "there is no such file" in an entry: inode number 0 and nothing else that counts.
pub fn no_file() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// Major and minor number in the 32 bits of the FUSE protocol (the kernel's `new_encode_dev`).
fn device_number((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12)
}

fn device_of(number: u32) -> (u32, u32) {
    ((number & 0xf_ff00) >> 8, (number & 0xff) | ((number >> 12) & 0xf_ff00))
}

/// What `mknod` is asked to make; `None` for what cannot be made that way.
pub fn node_kind(mode: u32, rdev: u32) -> Option<NodeKind> {
    let (major, minor) = device_of(rdev);
    let kind = SFlag::from_bits_truncate(mode as nix::sys::stat::mode_t) & SFlag::S_IFMT;
    match kind {
        SFlag::S_IFREG => Some(NodeKind::Regular),
        SFlag::S_IFIFO => Some(NodeKind::Fifo),
        SFlag::S_IFSOCK => Some(NodeKind::Socket),
        SFlag::S_IFCHR => Some(NodeKind::CharDevice { major, minor }),
        SFlag::S_IFBLK => Some(NodeKind::BlockDevice { major, minor }),
        _ => None,
    }
}

pub fn open_flags(flags: i32) -> OpenFlags {
    let flags = OFlag::from_bits_retain(flags);
    let access = flags & OFlag::O_ACCMODE;
    OpenFlags {
        read: access == OFlag::O_RDONLY || access == OFlag::O_RDWR,
        write: access == OFlag::O_WRONLY || access == OFlag::O_RDWR,
        append: flags.contains(OFlag::O_APPEND),
        truncate: flags.contains(OFlag::O_TRUNC),
        exclusive: flags.contains(OFlag::O_EXCL),
        sync: flags.intersects(OFlag::O_SYNC | OFlag::O_DSYNC),
        direct: is_direct(flags),
    }
}

#[cfg(target_os = "linux")]
fn is_direct(flags: OFlag) -> bool {
    flags.contains(OFlag::O_DIRECT)
}

#[cfg(not(target_os = "linux"))]
fn is_direct(_flags: OFlag) -> bool {
    false
}

pub fn opened_flags(opened: Opened) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
    flags.set(FopenFlags::FOPEN_DIRECT_IO, opened.direct_io);
    flags
}

/// `None` when a flag is set that no protocol can carry out.
#[cfg(target_os = "linux")]
pub fn rename_flags(flags: fuser::RenameFlags) -> Option<RenameFlags> {
    use fuser::RenameFlags as Known;
    let known = Known::RENAME_NOREPLACE | Known::RENAME_EXCHANGE;
    known.contains(flags).then(|| RenameFlags {
        no_replace: flags.contains(Known::RENAME_NOREPLACE),
        exchange: flags.contains(Known::RENAME_EXCHANGE),
    })
}

#[cfg(not(target_os = "linux"))]
pub fn rename_flags(flags: fuser::RenameFlags) -> Option<RenameFlags> {
    flags.is_empty().then(RenameFlags::default)
}

/// The end of a file, as the kernel writes it in a lock (`OFFSET_MAX`).
const LOCK_END: u64 = i64::MAX as u64;

/// The kinds of locks in the platform's numbers, whose type is not the same everywhere.
#[allow(clippy::unnecessary_cast)]
const READ_LOCK: i32 = libc::F_RDLCK as i32;
#[allow(clippy::unnecessary_cast)]
const WRITE_LOCK: i32 = libc::F_WRLCK as i32;
/// "No lock", as an answer.
#[allow(clippy::unnecessary_cast)]
pub const UNLOCKED: i32 = libc::F_UNLCK as i32;

/// The kind of a lock, `None` for none.
pub fn lock_kind(number: i32) -> Result<Option<LockKind>, fuser::Errno> {
    match number {
        READ_LOCK => Ok(Some(LockKind::Read)),
        WRITE_LOCK => Ok(Some(LockKind::Write)),
        UNLOCKED => Ok(None),
        _ => Err(fuser::Errno::EINVAL),
    }
}

pub fn lock_number(kind: LockKind) -> i32 {
    match kind {
        LockKind::Read => READ_LOCK,
        LockKind::Write => WRITE_LOCK,
    }
}

pub fn lock_range(start: u64, end: u64) -> LockRange {
    LockRange { first: start, last: if end >= LOCK_END { u64::MAX } else { end.max(start) } }
}

pub fn lock_ends(range: LockRange) -> (u64, u64) {
    (range.first.min(LOCK_END), range.last.min(LOCK_END))
}

/// What stands before the names of the one namespace that NFS knows (RFC 8276 §8.1). macOS has one namespace only.
const XATTR_PREFIX: &[u8] = if cfg!(target_os = "linux") { b"user." } else { b"" };

/// A name without its namespace; `None` for the namespaces that stay on this machine.
pub fn xattr_name(name: &OsStr) -> Option<Bytes> {
    name.as_bytes().strip_prefix(XATTR_PREFIX).map(Bytes::copy_from_slice)
}

/// The same of bytes.
pub fn xattr_name_of(name: &[u8]) -> Option<Bytes> {
    xattr_name(OsStr::from_bytes(name))
}

/// A name as this system has it.
pub fn full_xattr_name(name: &[u8]) -> Vec<u8> {
    [XATTR_PREFIX, name].concat()
}

/// What there is to say of an attribute of another namespace.
pub fn absent_xattr(name: &OsStr) -> fuser::Errno {
    if name.as_bytes() == b"security.capability" { fuser::Errno::NO_XATTR } else { fuser::Errno::EOPNOTSUPP }
}

/// Names as programs get them: one after the other, each with a NUL behind it.
pub fn xattr_list(names: &[Bytes]) -> Vec<u8> {
    let mut list = Vec::new();
    for name in names {
        list.extend_from_slice(XATTR_PREFIX);
        list.extend_from_slice(name);
        list.push(0);
    }
    list
}

#[cfg(target_os = "linux")]
pub fn xattr_set(flags: i32) -> Option<XattrSet> {
    match flags {
        0 => Some(XattrSet::Either),
        libc::XATTR_CREATE => Some(XattrSet::Create),
        libc::XATTR_REPLACE => Some(XattrSet::Replace),
        _ => None,
    }
}

#[cfg(not(target_os = "linux"))]
pub fn xattr_set(flags: i32) -> Option<XattrSet> {
    // XATTR_CREATE and XATTR_REPLACE; the others (no following of links and the like) are the kernel's.
    match flags & 6 {
        0 => Some(XattrSet::Either),
        2 => Some(XattrSet::Create),
        4 => Some(XattrSet::Replace),
        _ => None,
    }
}

/// What `fallocate` is to do; `None` for what no protocol can.
#[cfg(target_os = "linux")]
pub fn allocation(mode: i32) -> Option<Allocation> {
    const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
    const HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP;
    const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
    const ZERO_KEEP: i32 = ZERO | KEEP;
    match mode {
        0 => Some(Allocation::Reserve),
        KEEP => Some(Allocation::ReserveWithin),
        HOLE => Some(Allocation::Hole),
        ZERO => Some(Allocation::Zeros { keep_size: false }),
        ZERO_KEEP => Some(Allocation::Zeros { keep_size: true }),
        _ => None,
    }
}

/// macOS has F_PREALLOCATE and F_PUNCHHOLE, which do not come here.
#[cfg(not(target_os = "linux"))]
pub fn allocation(mode: i32) -> Option<Allocation> {
    (mode == 0).then_some(Allocation::Reserve)
}

pub fn seek_what(whence: i32) -> Option<SeekWhat> {
    match whence {
        libc::SEEK_DATA => Some(SeekWhat::Data),
        libc::SEEK_HOLE => Some(SeekWhat::Hole),
        _ => None,
    }
}

pub fn time_set(time: TimeOrNow) -> TimeSet {
    match time {
        TimeOrNow::Now => TimeSet::Now,
        TimeOrNow::SpecificTime(time) => TimeSet::At(timestamp(time)),
    }
}

/// fuser 0.18 takes the nanoseconds of a time before 1970 in the wrong direction; this takes them back.
fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(_) => Timestamp::from_system_time(time),
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            Timestamp { seconds: -seconds, nanos: before.subsec_nanos() }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::time::Duration;

    #[test]
    fn device_numbers_survive_the_way_to_the_kernel() {
        for device in [(0, 0), (8, 1), (259, 3), (0xfff, 0xf_ffff), (1, 256)] {
            assert_eq!(device_of(device_number(device)), device);
        }
        assert_eq!(device_number((8, 1)), 0x801);
    }

    #[test]
    fn open_flags_are_taken_apart() {
        let flags = open_flags((OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_DSYNC).bits());
        assert!(flags.read && flags.write && flags.append && flags.sync && !flags.truncate && !flags.exclusive);
        let flags = open_flags((OFlag::O_WRONLY | OFlag::O_TRUNC | OFlag::O_EXCL).bits());
        assert!(!flags.read && flags.write && flags.truncate && flags.exclusive && !flags.sync);
        assert!(open_flags(OFlag::O_RDONLY.bits()).read);
    }

    #[test]
    fn a_directory_or_a_link_is_not_made_by_mknod() {
        assert_eq!(node_kind(0o100_644, 0), Some(NodeKind::Regular));
        assert_eq!(node_kind(0o060_000, 0x801), Some(NodeKind::BlockDevice { major: 8, minor: 1 }));
        assert_eq!(node_kind(0o040_755, 0), None);
        assert_eq!(node_kind(0o120_777, 0), None);
    }

    #[test]
    fn a_time_before_1970_arrives_as_the_program_gave_it() {
        // The program says -1.25 s, that is second -2 and 750 ms forward; fuser makes 2.75 s before 1970 of it.
        let time = timestamp(UNIX_EPOCH - Duration::new(2, 750_000_000));
        assert_eq!(time, Timestamp { seconds: -2, nanos: 750_000_000 });
        assert_eq!(timestamp(UNIX_EPOCH + Duration::new(2, 5)), Timestamp { seconds: 2, nanos: 5 });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_the_namespace_of_users_goes_over_the_wire() {
        assert_eq!(xattr_name(OsStr::new("user.note")).unwrap(), "note");
        assert_eq!(xattr_name(OsStr::new("security.capability")), None);
        assert_eq!(xattr_name(OsStr::new("system.posix_acl_access")), None);
        assert_eq!(xattr_list(&[Bytes::from_static(b"a"), Bytes::from_static(b"b.c")]), b"user.a\0user.b.c\0");
    }

    #[test]
    fn a_lock_to_the_end_of_the_file_stays_one() {
        let range = lock_range(5, LOCK_END);
        assert_eq!(range, LockRange { first: 5, last: u64::MAX });
        assert_eq!(lock_ends(range), (5, LOCK_END));
        assert_eq!(lock_ends(lock_range(3, 9)), (3, 9));
        assert_eq!(lock_kind(lock_number(LockKind::Write)).ok(), Some(Some(LockKind::Write)));
        assert_eq!(lock_kind(UNLOCKED).ok(), Some(None));
        assert!(lock_kind(99).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_whiteout_is_not_silently_a_rename() {
        assert_eq!(rename_flags(fuser::RenameFlags::RENAME_WHITEOUT), None);
        assert_eq!(rename_flags(fuser::RenameFlags::empty()), Some(RenameFlags::default()));
        assert!(rename_flags(fuser::RenameFlags::RENAME_NOREPLACE).unwrap().no_replace);
    }
}
