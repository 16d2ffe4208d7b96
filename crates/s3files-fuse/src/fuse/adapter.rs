//! One method for each request of the kernel: parse, hand to a task, answer from there.
//!
//! What the server has no use for is answered ENOSYS where the kernel then does without and does not ask again. What NFS
//! has no namespace for (extended attributes beyond `user.`) is answered from here: the kernel asks for
//! `security.capability` at every write.

use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use bytes::Bytes;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, Generation, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr,
    ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLock, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use vfs::{Cred, Fh, Looked, Opened, SetAttr, Vfs};

use super::caller::{Caller, Groups};
use super::interrupt::{or_undone, unless_told_to_end};
use super::view::{Item, View};
use super::{convert, reply};
use crate::identity::{Presented, Shown};
use crate::local::Local;
use crate::local::numbers::is_local;
use crate::rights::FirstRefusal;

/// Most bytes of one READ or WRITE: as much as one READ or WRITE of the session carries.
const MAX_IO: u32 = 1 << 20;
/// Requests that the kernel may have under way on its own account (read-ahead, write-back, direct I/O).
const MAX_BACKGROUND: u16 = 128;
/// Requests under way at once. A program waits for its own, so there are rarely more than programs.
const MAX_IN_FLIGHT: usize = 1024;
/// About as many bytes of a listing as the kernel takes at once; what does not fit it asks for again.
const LISTING_BYTES: usize = 64 << 10;
/// Unit in which `statfs` counts.
const STATFS_BLOCK: u32 = 4096;

/// Answers the kernel's requests through a [`View`] of `vfs`, which is what `vfs` is called below.
#[derive(Debug)]
pub struct Adapter {
    work: Worker,
    first_refusal: FirstRefusal,
    shown: Shown,
}

/// Runs requests.
#[derive(Debug, Clone)]
struct Worker {
    vfs: View,
    groups: Arc<Groups>,
    runtime: Handle,
    tasks: TaskTracker,
    in_flight: Arc<Semaphore>,
}

impl Adapter {
    /// Runs its tasks on `runtime`, and counts them in `tasks` so that the end can wait for them.
    pub fn new(
        vfs: Vfs,
        local: Local,
        presented: Presented,
        shown: Shown,
        runtime: Handle,
        tasks: TaskTracker,
    ) -> Self {
        let vfs = View::new(vfs, local);
        let in_flight = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        let work = Worker { vfs, groups: Arc::new(Groups::new(presented)), runtime, tasks, in_flight };
        Self { work, first_refusal: FirstRefusal::default(), shown }
    }

    /// Does `work` without counting it among those under way: it may wait for another program.
    fn start_waiting<F>(&self, work: impl FnOnce(View) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.work.tasks.spawn_on(work(self.work.vfs.clone()), &self.work.runtime);
    }

    /// Does `work` with the identity of who asks: on this thread as far as it gets without waiting, which is to the end
    /// where everything is known or only has to be taken, and else in a task of its own.
    fn start<F>(&self, request: &Request, work: impl FnOnce(View, Cred) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Worker { vfs, groups, runtime, tasks, in_flight } = self.work.clone();
        let permit = match Arc::clone(&in_flight).try_acquire_owned() {
            Ok(permit) => Some(permit),
            // Whoever is under way needs the network only, not this thread: waiting here cannot last for ever.
            Err(_) => runtime.block_on(in_flight.acquire_owned()).ok(),
        };
        let caller = Caller::from(request);
        let mut answering = Box::pin(async move {
            let cred = groups.identify(caller);
            work(vfs, cred).await;
            drop(permit);
        });
        let _entered = runtime.enter();
        // A task polls it again with a waker of its own. A panic ends this request, which is answered EIO when it is
        // dropped, and not the thread that takes all of them.
        let mut first = || answering.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        match std::panic::catch_unwind(AssertUnwindSafe(&mut first)) {
            Ok(Poll::Pending) => drop(tasks.spawn_on(answering, &runtime)),
            Ok(Poll::Ready(())) => {}
            Err(_) => tracing::error!("a request ended in a panic"),
        }
    }
}

fn bytes(name: &OsStr) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn fh(handle: FileHandle) -> Fh {
    Fh(handle.0)
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_POSIX_LOCKS,
            InitFlags::FUSE_FLOCK_LOCKS,
        ];
        for capability in wanted {
            // macOS uses some of these bits for other things.
            if cfg!(target_os = "linux") && config.add_capabilities(capability).is_err() {
                tracing::debug!(?capability, "the kernel does not offer this");
            }
        }
        // Each setter answers with the nearest value that it would take.
        if let Err(nearest) = config.set_max_write(MAX_IO) {
            let _ = config.set_max_write(nearest);
        }
        if let Err(nearest) = config.set_max_readahead(MAX_IO) {
            let _ = config.set_max_readahead(nearest);
        }
        let _ = config.set_max_background(MAX_BACKGROUND);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = bytes(name);
        let shown = self.shown;
        let caller = Caller::from(request);
        self.start(request, move |vfs, cred| async move {
            reply::looked(
                reply,
                shown,
                unless_told_to_end(caller, vfs.lookup_for_kernel(&cred, parent.0, &name)).await,
            );
        });
    }

    fn forget(&self, _request: &Request, ino: INodeNo, nlookup: u64) {
        self.work.vfs.forget(ino.0, nlookup);
    }

    fn getattr(&self, request: &Request, ino: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        let shown = self.shown;
        let caller = Caller::from(request);
        self.start(request, move |vfs, cred| async move {
            reply::attr(reply, shown, unless_told_to_end(caller, vfs.getattr(&cred, ino.0, handle.map(fh))).await);
        });
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = SetAttr {
            mode: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            size,
            atime: atime.map(convert::time_set),
            mtime: mtime.map(convert::time_set),
        };
        let shown = self.shown;
        self.start(request, move |vfs, cred| async move {
            let handle = handle.map(fh);
            let result = if set.is_empty() {
                vfs.getattr(&cred, ino.0, handle).await
            } else {
                vfs.setattr(&cred, ino.0, handle, set).await
            };
            reply::attr(reply, shown, result);
        });
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        let caller = Caller::from(request);
        self.start(request, move |vfs, cred| async move {
            reply::target(reply, unless_told_to_end(caller, vfs.readlink(&cred, ino.0)).await);
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let Some(kind) = convert::node_kind(mode, rdev) else {
            return reply.error(Errno::EINVAL);
        };
        let name = bytes(name);
        let shown = self.shown;
        self.start(request, move |vfs, cred| async move {
            reply::entry(reply, shown, vfs.mknod(&cred, parent.0, &name, kind, mode & 0o7777).await);
        });
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let name = bytes(name);
        let first = self.first_refusal.clone();
        let shown = self.shown;
        self.start(request, move |vfs, cred| async move {
            let outcome = vfs.mkdir(&cred, parent.0, &name, mode & 0o7777).await;
            let is_first = first.is(&outcome);
            reply::entry(reply, shown, outcome);
            if is_first {
                first.explain(vfs.server(), &cred, parent.0).await;
            }
        });
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = bytes(name);
        self.start(request, move |vfs, cred| async move {
            reply::empty(reply, vfs.unlink(&cred, parent.0, &name).await);
        });
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = bytes(name);
        self.start(request, move |vfs, cred| async move {
            reply::empty(reply, vfs.rmdir(&cred, parent.0, &name).await);
        });
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (name, target) = (bytes(name), bytes(target.as_os_str()));
        let first = self.first_refusal.clone();
        let shown = self.shown;
        self.start(request, move |vfs, cred| async move {
            let outcome = vfs.symlink(&cred, parent.0, &name, &target).await;
            let is_first = first.is(&outcome);
            reply::entry(reply, shown, outcome);
            if is_first {
                first.explain(vfs.server(), &cred, parent.0).await;
            }
        });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let Some(flags) = convert::rename_flags(flags) else {
            return reply.error(Errno::EINVAL);
        };
        let (name, newname) = (bytes(name), bytes(newname));
        self.start(request, move |vfs, cred| async move {
            reply::empty(reply, vfs.rename(&cred, parent.0, &name, newparent.0, &newname, flags).await);
        });
    }

    fn link(&self, request: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let newname = bytes(newname);
        let shown = self.shown;
        self.start(request, move |vfs, cred| async move {
            reply::entry(reply, shown, vfs.link(&cred, ino.0, newparent.0, &newname).await);
        });
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let flags = convert::open_flags(flags.0);
        let first = self.first_refusal.clone();
        let caller = Caller::from(request);
        self.start(request, move |vfs, cred| async move {
            let (opening, closing, as_whom) = (vfs.clone(), vfs.clone(), cred.clone());
            let outcome = if flags.truncate {
                vfs.open(&cred, ino.0, flags).await
            } else {
                let whose = cred.clone();
                let open = async move { opening.open(&as_whom, ino.0, flags).await };
                let undo = move |opened: Opened| async move { drop(closing.release(&whose, ino.0, opened.fh).await) };
                or_undone(caller, open, undo).await
            };
            let is_first = flags.write && first.is(&outcome);
            reply::opened(reply, outcome);
            if is_first {
                first.explain(vfs.server(), &cred, ino.0).await;
            }
        });
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let caller = Caller::from(request);
        self.start(request, move |vfs, cred| async move {
            reply::data(reply, unless_told_to_end(caller, vfs.read(&cred, ino.0, fh(handle), offset, size)).await);
        });
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let data = Bytes::copy_from_slice(data);
        // A page that was changed through a map has its place, whatever the descriptor was opened for.
        let mapped = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE) && !is_local(ino.0);
        self.start(request, move |vfs, cred| async move {
            let written = if mapped {
                vfs.server().write_mapped(&cred, ino.0, fh(handle), offset, data).await
            } else {
                vfs.write(&cred, ino.0, fh(handle), offset, data).await
            };
            reply::written(reply, written);
        });
    }

    fn flush(&self, request: &Request, ino: INodeNo, handle: FileHandle, lock_owner: LockOwner, reply: ReplyEmpty) {
        self.start(request, move |vfs, cred| async move {
            reply::empty(reply, vfs.flush(&cred, ino.0, fh(handle), Some(lock_owner.0)).await);
        });
    }

    fn release(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.start(request, move |vfs, cred| async move {
            reply::empty(reply, vfs.release(&cred, ino.0, fh(handle)).await);
        });
    }

    fn fsync(&self, request: &Request, ino: INodeNo, handle: FileHandle, datasync: bool, reply: ReplyEmpty) {
        self.start(request, move |vfs, cred| async move {
            reply::empty(reply, vfs.fsync(&cred, ino.0, fh(handle), datasync).await);
        });
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.start(request, move |vfs, cred| async move {
            reply::opened_directory(reply, vfs.opendir(&cred, ino.0).await);
        });
    }

    fn readdir(&self, request: &Request, ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let caller = Caller::from(request);
        self.start(request, move |vfs, cred| async move {
            match unless_told_to_end(caller, vfs.readdir(&cred, ino.0, fh(handle), offset, false, LISTING_BYTES)).await
            {
                Ok(items) => {
                    for item in items {
                        let (kind, name) = (convert::file_type(item.kind()), OsStr::from_bytes(item.name()));
                        if reply.add(INodeNo(item.ino()), item.offset(), kind, name) {
                            break;
                        }
                    }
                    reply.ok();
                }
                Err(error) => reply.error(reply::errno(&error)),
            }
        });
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let shown = self.shown;
        let caller = Caller::from(request);
        self.start(request, move |vfs, cred| async move {
            match unless_told_to_end(caller, vfs.readdir(&cred, ino.0, fh(handle), offset, true, LISTING_BYTES)).await {
                Ok(items) => {
                    for item in items {
                        if add_plus(&vfs, &cred, ino.0, &item, shown, &mut reply).await {
                            break;
                        }
                    }
                    reply.ok();
                }
                Err(error) => reply.error(reply::errno(&error)),
            }
        });
    }

    fn releasedir(&self, request: &Request, ino: INodeNo, handle: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.start(request, move |vfs, cred| async move {
            reply::empty(reply, vfs.releasedir(&cred, ino.0, fh(handle)).await);
        });
    }

    fn fsyncdir(&self, request: &Request, ino: INodeNo, handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.start(request, move |vfs, cred| async move {
            reply::empty(reply, vfs.fsyncdir(&cred, ino.0, fh(handle)).await);
        });
    }

    fn statfs(&self, request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.start(request, move |vfs, _| async move {
            let stat = vfs.statfs();
            let blocks = |bytes: u64| bytes / u64::from(STATFS_BLOCK);
            reply.statfs(
                blocks(stat.total_bytes),
                blocks(stat.free_bytes),
                blocks(stat.available_bytes),
                stat.total_files,
                stat.free_files,
                STATFS_BLOCK,
                stat.max_name,
                STATFS_BLOCK,
            );
        });
    }

    fn access(&self, request: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let mask = mask.bits() as u32;
        let caller = Caller::from(request);
        self.start(request, move |vfs, cred| async move {
            reply::empty(reply, unless_told_to_end(caller, vfs.access(&cred, ino.0, mask)).await);
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (name, flags) = (bytes(name), convert::open_flags(flags));
        let first = self.first_refusal.clone();
        let shown = self.shown;
        self.start(request, move |vfs, cred| async move {
            let outcome = vfs.create(&cred, parent.0, &name, mode & 0o7777, flags).await;
            let is_first = first.is(&outcome);
            reply::created(reply, shown, outcome);
            if is_first {
                first.explain(vfs.server(), &cred, parent.0).await;
            }
        });
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        position: u32,
        reply: ReplyEmpty,
    ) {
        let Some(name) = convert::xattr_name(name) else {
            return reply.error(Errno::EOPNOTSUPP);
        };
        let Some(set) = convert::xattr_set(flags) else {
            return reply.error(Errno::EINVAL);
        };
        let value = Bytes::copy_from_slice(value);
        self.start(request, move |vfs, cred| async move {
            reply::xattr_changed(reply, vfs.setxattr(&cred, ino.0, &name, value, set, position).await);
        });
    }

    fn getxattr(&self, request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let Some(name) = convert::xattr_name(name) else {
            return reply.error(convert::absent_xattr(name));
        };
        let caller = Caller::from(request);
        self.start(request, move |vfs, cred| async move {
            reply::xattr(reply, unless_told_to_end(caller, vfs.getxattr(&cred, ino.0, &name)).await, size);
        });
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let caller = Caller::from(request);
        self.start(request, move |vfs, cred| async move {
            reply::xattrs(reply, unless_told_to_end(caller, vfs.listxattrs(&cred, ino.0)).await, size);
        });
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let Some(name) = convert::xattr_name(name) else {
            return reply.error(Errno::EOPNOTSUPP);
        };
        self.start(request, move |vfs, cred| async move {
            reply::xattr_changed(reply, vfs.removexattr(&cred, ino.0, &name).await);
        });
    }

    fn getlk(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        lock_owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        reply: ReplyLock,
    ) {
        let Ok(Some(kind)) = convert::lock_kind(kind) else {
            return reply.error(Errno::EINVAL);
        };
        let caller = vfs::Caller { owner: lock_owner.0, pid };
        let range = convert::lock_range(start, end);
        self.start(request, move |vfs, _| async move {
            reply::lock(reply, vfs.getlk(fh(handle), caller, range, kind).await);
        });
    }

    fn setlk(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        lock_owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        let kind = match convert::lock_kind(kind) {
            Ok(kind) => kind,
            Err(error) => return reply.error(error),
        };
        let caller = vfs::Caller { owner: lock_owner.0, pid };
        let range = convert::lock_range(start, end);
        let Some(kind) = kind else {
            return self.start(request, move |vfs, _| async move {
                reply::empty(reply, vfs.unlock(fh(handle), caller, range).await);
            });
        };
        let waiter = Caller::from(request);
        self.start_waiting(move |vfs| async move {
            let interrupted = || waiter.is_interrupted();
            let interrupted: Option<&(dyn Fn() -> bool + Send + Sync)> = if sleep { Some(&interrupted) } else { None };
            reply::empty(reply, vfs.lock(fh(handle), caller, range, kind, interrupted).await);
        });
    }

    fn bmap(&self, _request: &Request, _ino: INodeNo, _blocksize: u32, _index: u64, reply: ReplyBmap) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn poll(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let Some(how) = convert::allocation(mode) else {
            return reply.error(Errno::EOPNOTSUPP);
        };
        self.start(request, move |vfs, cred| async move {
            reply::empty(reply, vfs.fallocate(&cred, fh(handle), how, offset, length).await);
        });
    }

    fn lseek(&self, request: &Request, _ino: INodeNo, handle: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let Some(what) = convert::seek_what(whence) else {
            return reply.error(Errno::EINVAL);
        };
        let Ok(offset) = u64::try_from(offset) else {
            return reply.error(Errno::ENXIO);
        };
        self.start(request, move |vfs, cred| async move {
            match vfs.seek(&cred, fh(handle), offset, what).await {
                Ok(found) => reply.offset(found.cast_signed()),
                Err(error) => reply.error(reply::errno_or_without(&error)),
            }
        });
    }

    fn copy_file_range(
        &self,
        request: &Request,
        _ino_in: INodeNo,
        handle_in: FileHandle,
        offset_in: u64,
        _ino_out: INodeNo,
        handle_out: FileHandle,
        offset_out: u64,
        length: u64,
        flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        self.start(request, move |vfs, cred| async move {
            let copied = vfs.copy(&cred, (fh(handle_in), offset_in), (fh(handle_out), offset_out), length).await;
            // Far more than is ever copied at once would not fit into the answer.
            reply::written(reply, copied.map(|count| count.min(u64::from(u32::MAX)) as u32));
        });
    }
}

/// Adds an entry with its attributes; true when it did not fit.
///
/// An entry that the kernel takes counts as a lookup, and must be counted before the answer leaves: the kernel may
/// forget it right after. "." and ".." it never counts.
async fn add_plus(
    vfs: &View,
    cred: &Cred,
    parent: u64,
    item: &Item,
    shown: Shown,
    reply: &mut ReplyDirectoryPlus,
) -> bool {
    let (ino, offset, name) = (INodeNo(item.ino()), item.offset(), OsStr::from_bytes(item.name()));
    let is_dot = matches!(item.name(), b"." | b"..");
    if let Item::Server(item) = item
        && let Some(entry) = &item.entry
    {
        let (ttl, attr) = (reply::single_ttl(entry), convert::file_attr(&entry.attr, shown));
        let full = reply.add(ino, offset, name, &ttl, &attr, Generation(entry.generation));
        if !full && !is_dot {
            vfs.accepted(item);
        }
        return full;
    }
    let mut attr = convert::no_file();
    attr.kind = convert::file_type(item.kind());
    if is_dot {
        attr.ino = ino;
        return reply.add(ino, offset, name, &std::time::Duration::ZERO, &attr, Generation(0));
    }
    // The server did not say what this is, or it is local. Asking the server costs a round trip, but an entry without a
    // number is one that the C library does not show.
    let Ok(Looked::Found(entry)) = vfs.lookup_listed(cred, parent, item).await else {
        // Whoever may read a directory, but not look into it, still sees what is in it.
        attr.ino = if matches!(item, Item::Local(..)) { ino } else { INodeNo(0) };
        return reply.add(INodeNo(0), offset, name, &std::time::Duration::ZERO, &attr, Generation(0));
    };
    let (ttl, attr) = (reply::single_ttl(&entry), convert::file_attr(&entry.attr, shown));
    let full = reply.add(ino, offset, name, &ttl, &attr, Generation(entry.generation));
    if full {
        vfs.forget(entry.attr.ino, 1);
    }
    full
}
