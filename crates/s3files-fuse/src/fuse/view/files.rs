//! What goes by a number or a handle: each says by itself where it belongs.

use std::time::Duration;

use bytes::Bytes;
use vfs::{
    Allocation, Attr, Caller, Cred, Errno, Error, Fh, FsStat, Lock, LockKind, LockRange, OpenFlags, Opened, Result,
    SeekWhat, SetAttr,
};

use super::{View, is_local_fh};
use crate::local::numbers::is_local;

impl View {
    /// Attributes.
    pub async fn getattr(&self, cred: &Cred, ino: u64, fh: Option<Fh>) -> Result<(Attr, Duration)> {
        if is_local(ino) {
            return self.on_disk(move |overlay| overlay.getattr(ino)).await;
        }
        self.server().getattr(cred, ino, fh).await
    }

    /// Sets attributes.
    pub async fn setattr(&self, cred: &Cred, ino: u64, fh: Option<Fh>, set: SetAttr) -> Result<(Attr, Duration)> {
        if is_local(ino) {
            let cred = cred.clone();
            return self.on_disk(move |overlay| overlay.setattr(&cred, ino, fh, set)).await;
        }
        self.server().setattr(cred, ino, fh, set).await
    }

    /// A link's target; there are no local links.
    pub async fn readlink(&self, cred: &Cred, ino: u64) -> Result<Bytes> {
        if is_local(ino) {
            return Err(Error::Invalid("not a symbolic link"));
        }
        self.server().readlink(cred, ino).await
    }

    /// Whether somebody may do everything in `mask`.
    pub async fn access(&self, cred: &Cred, ino: u64, mask: u32) -> Result<()> {
        if is_local(ino) {
            let cred = cred.clone();
            return self.on_disk(move |overlay| overlay.access(&cred, ino, mask)).await;
        }
        self.server().access(cred, ino, mask).await
    }

    /// Opens a file.
    pub async fn open(&self, cred: &Cred, ino: u64, flags: OpenFlags) -> Result<Opened> {
        if is_local(ino) {
            let cred = cred.clone();
            return self.on_disk(move |overlay| overlay.open(&cred, ino, flags)).await;
        }
        self.server().open(cred, ino, flags).await
    }

    /// Reads.
    pub async fn read(&self, cred: &Cred, ino: u64, fh: Fh, offset: u64, size: u32) -> Result<Vec<Bytes>> {
        if is_local_fh(fh) {
            return self.on_disk(move |overlay| overlay.read(fh, offset, size)).await;
        }
        self.server().read(cred, ino, fh, offset, size).await
    }

    /// Writes.
    pub async fn write(&self, cred: &Cred, ino: u64, fh: Fh, offset: u64, data: Bytes) -> Result<u32> {
        if is_local_fh(fh) {
            return self.on_disk(move |overlay| overlay.write(fh, offset, &data)).await;
        }
        self.server().write(cred, ino, fh, offset, data).await
    }

    /// A descriptor is closed; what was written to a local file is in it already.
    pub async fn flush(&self, cred: &Cred, ino: u64, fh: Fh, owner: Option<u64>) -> Result<()> {
        if is_local_fh(fh) { Ok(()) } else { self.server().flush(cred, ino, fh, owner).await }
    }

    /// The last descriptor is closed.
    pub async fn release(&self, cred: &Cred, ino: u64, fh: Fh) -> Result<()> {
        if is_local_fh(fh) {
            return self.on_disk(move |overlay| overlay.release(fh)).await;
        }
        self.server().release(cred, ino, fh).await
    }

    /// Makes what was written durable.
    pub async fn fsync(&self, cred: &Cred, ino: u64, fh: Fh, datasync: bool) -> Result<()> {
        if is_local_fh(fh) {
            return self.on_disk(move |overlay| overlay.fsync(fh, datasync)).await;
        }
        self.server().fsync(cred, ino, fh, datasync).await
    }

    /// How large the file system is.
    pub fn statfs(&self) -> FsStat {
        self.server().statfs()
    }

    /// Who holds a lock. There are none on local files: on a Mac no lock comes here, and nobody else sees these files.
    pub async fn getlk(&self, fh: Fh, caller: Caller, range: LockRange, kind: LockKind) -> Result<Option<Lock>> {
        if is_local_fh(fh) {
            return Err(Error::NoLocks);
        }
        self.server().getlk(fh, caller, range, kind).await
    }

    /// Takes a lock.
    pub async fn lock(
        &self,
        fh: Fh,
        caller: Caller,
        range: LockRange,
        kind: LockKind,
        interrupted: Option<&(dyn Fn() -> bool + Send + Sync)>,
    ) -> Result<()> {
        if is_local_fh(fh) {
            return Err(Error::NoLocks);
        }
        self.server().lock(fh, caller, range, kind, interrupted).await
    }

    /// Gives one back.
    pub async fn unlock(&self, fh: Fh, caller: Caller, range: LockRange) -> Result<()> {
        if is_local_fh(fh) { Ok(()) } else { self.server().unlock(fh, caller, range).await }
    }

    /// Reserves, and makes holes.
    pub async fn fallocate(&self, cred: &Cred, fh: Fh, how: Allocation, offset: u64, length: u64) -> Result<()> {
        if is_local_fh(fh) {
            return Err(Error::Elsewhere(Errno::NotSup));
        }
        self.server().fallocate(cred, fh, how, offset, length).await
    }

    /// Where data or a hole begins.
    pub async fn seek(&self, cred: &Cred, fh: Fh, offset: u64, what: SeekWhat) -> Result<u64> {
        if is_local_fh(fh) {
            return self.on_disk(move |overlay| overlay.seek(fh, offset, what)).await;
        }
        self.server().seek(cred, fh, offset, what).await
    }

    /// Copies within the server; with a local file, the kernel copies by itself.
    pub async fn copy(&self, cred: &Cred, from: (Fh, u64), to: (Fh, u64), length: u64) -> Result<u64> {
        if is_local_fh(from.0) || is_local_fh(to.0) {
            return Err(Error::Elsewhere(Errno::Xdev));
        }
        self.server().copy(cred, from, to, length).await
    }
}
