//! The door (skeleton).
#![allow(unused_variables, clippy::unused_async)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nfs4_client::{Client, Cred, FsStat};

use crate::attr::{Attr, FileKind, Timestamp};
use crate::error::{Error, Result};
use crate::types::{
    DirItem, Entry, Fh, KernelCache, Looked, NodeKind, OpenFlags, Opened, RenameFlags, SetAttr, Unwritten, VfsOptions,
};

/// A mounted file system. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Vfs {
    client: Arc<Client>,
}

const LATER: Error = Error::Invalid("not yet");

impl Vfs {
    pub fn new(client: Client, options: VfsOptions) -> Self {
        Self { client: Arc::new(client) }
    }
    pub fn set_kernel_cache(&self, cache: Arc<dyn KernelCache>) {}
    pub async fn lookup(&self, cred: &Cred, parent: u64, name: &[u8]) -> Result<Looked> {
        Err(LATER)
    }
    pub async fn getattr(&self, cred: &Cred, ino: u64, fh: Option<Fh>) -> Result<(Attr, Duration)> {
        Err(LATER)
    }
    pub async fn setattr(&self, cred: &Cred, ino: u64, fh: Option<Fh>, set: SetAttr) -> Result<(Attr, Duration)> {
        Err(LATER)
    }
    pub async fn readlink(&self, cred: &Cred, ino: u64) -> Result<Bytes> {
        Err(LATER)
    }
    pub async fn mkdir(&self, cred: &Cred, parent: u64, name: &[u8], mode: u32) -> Result<Entry> {
        Err(LATER)
    }
    pub async fn mknod(&self, cred: &Cred, parent: u64, name: &[u8], kind: NodeKind, mode: u32) -> Result<Entry> {
        Err(LATER)
    }
    pub async fn symlink(&self, cred: &Cred, parent: u64, name: &[u8], target: &[u8]) -> Result<Entry> {
        Err(LATER)
    }
    pub async fn link(&self, cred: &Cred, ino: u64, newparent: u64, newname: &[u8]) -> Result<Entry> {
        Err(LATER)
    }
    pub async fn unlink(&self, cred: &Cred, parent: u64, name: &[u8]) -> Result<()> {
        Err(LATER)
    }
    pub async fn rmdir(&self, cred: &Cred, parent: u64, name: &[u8]) -> Result<()> {
        Err(LATER)
    }
    pub async fn rename(
        &self,
        cred: &Cred,
        parent: u64,
        name: &[u8],
        newparent: u64,
        newname: &[u8],
        flags: RenameFlags,
    ) -> Result<()> {
        Err(LATER)
    }
    pub async fn open(&self, cred: &Cred, ino: u64, flags: OpenFlags) -> Result<Opened> {
        Err(LATER)
    }
    pub async fn create(
        &self,
        cred: &Cred,
        parent: u64,
        name: &[u8],
        mode: u32,
        flags: OpenFlags,
    ) -> Result<(Entry, Opened)> {
        Err(LATER)
    }
    pub async fn read(&self, cred: &Cred, ino: u64, fh: Fh, offset: u64, size: u32) -> Result<Vec<Bytes>> {
        Err(LATER)
    }
    pub async fn write(&self, cred: &Cred, ino: u64, fh: Fh, offset: u64, data: Bytes) -> Result<u32> {
        Err(LATER)
    }
    pub async fn flush(&self, cred: &Cred, ino: u64, fh: Fh) -> Result<()> {
        Err(LATER)
    }
    pub async fn fsync(&self, cred: &Cred, ino: u64, fh: Fh, datasync: bool) -> Result<()> {
        Err(LATER)
    }
    pub async fn release(&self, cred: &Cred, ino: u64, fh: Fh) -> Result<()> {
        Err(LATER)
    }
    pub async fn opendir(&self, cred: &Cred, ino: u64) -> Result<Fh> {
        Err(LATER)
    }
    pub async fn readdir(
        &self,
        cred: &Cred,
        ino: u64,
        fh: Fh,
        offset: u64,
        plus: bool,
        max_bytes: usize,
    ) -> Result<Vec<DirItem>> {
        Err(LATER)
    }
    pub async fn releasedir(&self, cred: &Cred, ino: u64, fh: Fh) -> Result<()> {
        Err(LATER)
    }
    pub async fn fsyncdir(&self, cred: &Cred, ino: u64, fh: Fh) -> Result<()> {
        Err(LATER)
    }
    pub async fn access(&self, cred: &Cred, ino: u64, mask: u32) -> Result<()> {
        Err(LATER)
    }
    pub fn statfs(&self) -> FsStat {
        FsStat::default()
    }
    pub fn root_attr(&self) -> Attr {
        Attr {
            ino: 1,
            kind: FileKind::Directory,
            mode: 0,
            nlink: 0,
            uid: 0,
            gid: 0,
            size: 0,
            space_used: 0,
            rdev: (0, 0),
            atime: Timestamp::default(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            change: 0,
        }
    }
    pub fn accepted(&self, item: &DirItem) {}
    pub fn forget(&self, ino: u64, count: u64) {}
    pub async fn shutdown(&self) -> Vec<Unwritten> {
        Vec::new()
    }
}
