//! Results of `vfs` as answers to the kernel.
//!
//! An answer that is never given leaves a program hanging for ever; fuser answers EIO for one that is dropped.

use std::time::Duration;

use bytes::Bytes;
use fuser::{
    FileHandle, FopenFlags, Generation, ReplyAttr, ReplyCreate, ReplyData, ReplyEmpty, ReplyEntry, ReplyLock,
    ReplyOpen, ReplyWrite, ReplyXattr,
};
use vfs::{Attr, Entry, Fh, Looked, Opened, Result};

use super::convert;
use crate::identity::Shown;

/// The number of an error, noted where somebody may look for it.
pub fn errno(error: &vfs::Error) -> fuser::Errno {
    tracing::debug!(%error, "refused");
    convert::errno(error.errno())
}

/// The same for requests with which the kernel can do without a file system: it does not ask again.
pub fn errno_or_without(error: &vfs::Error) -> fuser::Errno {
    match error {
        vfs::Error::Unsupported(_) => fuser::Errno::ENOSYS,
        error => errno(error),
    }
}

/// A change of an extended attribute. A Mac that hears that there are none would write a file `._NAME` for each instead.
pub fn xattr_changed(reply: ReplyEmpty, result: Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(vfs::Error::Unsupported(_)) if cfg!(target_os = "macos") => reply.error(fuser::Errno::EPERM),
        Err(error) => reply.error(errno_or_without(&error)),
    }
}

/// An extended attribute's value. Never ENOSYS: S3 Files has none but its own, which can be asked for by name.
pub fn xattr(reply: ReplyXattr, result: Result<Bytes>, size: u32) {
    match result {
        Ok(value) => sized(reply, &value, size),
        Err(vfs::Error::Unsupported(_)) if cfg!(target_os = "macos") => reply.error(fuser::Errno::NO_XATTR),
        Err(error) => reply.error(errno(&error)),
    }
}

/// The names of all extended attributes.
pub fn xattrs(reply: ReplyXattr, result: Result<Vec<Bytes>>, size: u32) {
    match result {
        Ok(names) => sized(reply, &convert::xattr_list(&names), size),
        Err(vfs::Error::Unsupported(_)) if cfg!(target_os = "macos") => sized(reply, &[], size),
        Err(error) => reply.error(errno_or_without(&error)),
    }
}

/// Bytes for a program that has room for `size`, or with 0 wants to know how many there are.
fn sized(reply: ReplyXattr, bytes: &[u8], size: u32) {
    match (size, u32::try_from(bytes.len())) {
        (0, Ok(len)) => reply.size(len),
        (size, Ok(len)) if len <= size => reply.data(bytes),
        (0, Err(_)) => reply.error(fuser::Errno::E2BIG),
        _ => reply.error(fuser::Errno::ERANGE),
    }
}

pub fn lock(reply: ReplyLock, result: Result<Option<vfs::Lock>>) {
    match result {
        Ok(None) => reply.locked(0, 0, convert::UNLOCKED, 0),
        Ok(Some(lock)) => {
            let (start, end) = convert::lock_ends(lock.range);
            reply.locked(start, end, convert::lock_number(lock.kind), lock.pid);
        }
        Err(error) => reply.error(errno(&error)),
    }
}

pub fn looked(reply: ReplyEntry, shown: Shown, result: Result<Looked>) {
    match result {
        Ok(Looked::Found(found)) => entry(reply, shown, Ok(found)),
        Ok(Looked::Missing { ttl }) if ttl.is_zero() => reply.error(fuser::Errno::ENOENT),
        Ok(Looked::Missing { ttl }) => missing(reply, ttl),
        Err(error) => reply.error(errno(&error)),
    }
}

/// Linux remembers a missing name when it is told for how long; macOS takes no such answer.
fn missing(reply: ReplyEntry, ttl: Duration) {
    if cfg!(target_os = "linux") {
        reply.entry_with_ttls(&ttl, &ttl, &convert::no_file(), Generation(0));
    } else {
        reply.error(fuser::Errno::ENOENT);
    }
}

pub fn entry(reply: ReplyEntry, shown: Shown, result: Result<Entry>) {
    match result {
        Ok(entry) => reply.entry_with_ttls(
            &entry.attr_ttl,
            &entry.entry_ttl,
            &convert::file_attr(&entry.attr, shown),
            Generation(entry.generation),
        ),
        Err(error) => reply.error(errno(&error)),
    }
}

pub fn attr(reply: ReplyAttr, shown: Shown, result: Result<(Attr, Duration)>) {
    match result {
        Ok((attr, ttl)) => reply.attr(&ttl, &convert::file_attr(&attr, shown)),
        Err(error) => reply.error(errno(&error)),
    }
}

pub fn empty(reply: ReplyEmpty, result: Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(&error)),
    }
}

pub fn opened(reply: ReplyOpen, result: Result<Opened>) {
    match result {
        Ok(opened) => reply.opened(FileHandle(opened.fh.0), convert::opened_flags(opened)),
        Err(error) => reply.error(errno(&error)),
    }
}

pub fn opened_directory(reply: ReplyOpen, result: Result<Fh>) {
    match result {
        Ok(fh) => reply.opened(FileHandle(fh.0), FopenFlags::empty()),
        Err(error) => reply.error(errno(&error)),
    }
}

pub fn created(reply: ReplyCreate, shown: Shown, result: Result<(Entry, Opened)>) {
    match result {
        Ok((entry, opened)) => reply.created(
            &single_ttl(&entry),
            &convert::file_attr(&entry.attr, shown),
            Generation(entry.generation),
            FileHandle(opened.fh.0),
            convert::opened_flags(opened),
        ),
        Err(error) => reply.error(errno(&error)),
    }
}

/// Some answers have room for one time only; the shorter is right for both.
pub fn single_ttl(entry: &Entry) -> Duration {
    entry.entry_ttl.min(entry.attr_ttl)
}

pub fn data(reply: ReplyData, result: Result<Vec<Bytes>>) {
    match result {
        // fuser takes one slice: pieces are joined, and one piece goes out as it is.
        Ok(pieces) => match pieces.as_slice() {
            [] => reply.data(&[]),
            [piece] => reply.data(piece),
            pieces => reply.data(&pieces.concat()),
        },
        Err(error) => reply.error(errno(&error)),
    }
}

pub fn target(reply: ReplyData, result: Result<Bytes>) {
    match result {
        Ok(target) => reply.data(&target),
        Err(error) => reply.error(errno(&error)),
    }
}

pub fn written(reply: ReplyWrite, result: Result<u32>) {
    match result {
        Ok(size) => reply.written(size),
        Err(error) => reply.error(errno(&error)),
    }
}
