//! Listings: the server's names, then those that are local.
//!
//! The local ones come last because only then is the rest known to be all; their positions begin where no listing of the
//! server gets to. They are taken down when the reader comes to them, so that positions stay what they are.

use std::sync::Arc;

use vfs::{Cred, DirItem, Fh, FileKind, Looked, Result};

use super::{View, is_local_fh};
use crate::local::numbers::Parent;
use crate::local::overlay::Listed;
use crate::local::{Key, numbers::is_local};

/// Where the local part of a listing begins.
const TAIL: u64 = 1 << 62;
/// What an entry takes beside its name, at most.
const EACH: usize = 160;

/// An entry of a listing.
#[derive(Debug)]
pub enum Item {
    /// The server's.
    Server(DirItem),
    /// A local one, and where the listing goes on behind it.
    Local(Listed, u64),
}

impl Item {
    /// Its number.
    pub fn ino(&self) -> u64 {
        match self {
            Self::Server(item) => item.ino,
            Self::Local(item, _) => item.ino,
        }
    }

    /// What it is.
    pub fn kind(&self) -> FileKind {
        match self {
            Self::Server(item) => item.kind,
            Self::Local(item, _) => item.kind,
        }
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        match self {
            Self::Server(item) => &item.name,
            Self::Local(item, _) => &item.name,
        }
    }

    /// Where the listing goes on behind it.
    pub fn offset(&self) -> u64 {
        match self {
            Self::Server(item) => item.offset,
            Self::Local(_, offset) => *offset,
        }
    }
}

impl View {
    /// Opens a directory for listing.
    pub async fn opendir(&self, cred: &Cred, ino: u64) -> Result<Fh> {
        if is_local(ino) {
            let cred = cred.clone();
            return self.on_disk(move |overlay| overlay.opendir(&cred, ino)).await;
        }
        self.server().opendir(cred, ino).await
    }

    /// Closes it.
    pub async fn releasedir(&self, cred: &Cred, ino: u64, fh: Fh) -> Result<()> {
        self.tails().remove(&fh.0);
        if is_local_fh(fh) { Ok(()) } else { self.server().releasedir(cred, ino, fh).await }
    }

    /// Makes changes of a directory durable.
    pub async fn fsyncdir(&self, cred: &Cred, ino: u64, fh: Fh) -> Result<()> {
        if is_local_fh(fh) { Ok(()) } else { self.server().fsyncdir(cred, ino, fh).await }
    }

    /// Entries from `offset` on; none at the end.
    pub async fn readdir(
        &self,
        cred: &Cred,
        ino: u64,
        fh: Fh,
        offset: u64,
        plus: bool,
        max_bytes: usize,
    ) -> Result<Vec<Item>> {
        if !is_local_fh(fh) && offset < TAIL {
            let items = self.servers(cred, ino, fh, offset, plus, max_bytes).await?;
            if !items.is_empty() || self.local().overlay.is_none() {
                return Ok(items);
            }
        }
        let begin = if is_local_fh(fh) { 0 } else { TAIL };
        let first = offset.saturating_sub(begin);
        let tail = self.tail(ino, fh, first == 0).await?;
        let mut room = max_bytes;
        let fits = |(_, item): &(u64, &Listed)| {
            let cost = EACH + item.name.len();
            let fits = cost <= room;
            room = room.saturating_sub(cost);
            fits
        };
        let rest = (first + 1..).zip(tail.iter().skip(first as usize));
        Ok(rest.take_while(fits).map(|(next, item)| Item::Local(item.clone(), begin + next)).collect())
    }

    /// The server's entries that are shown; none at the end only.
    async fn servers(
        &self,
        cred: &Cred,
        ino: u64,
        fh: Fh,
        offset: u64,
        plus: bool,
        max_bytes: usize,
    ) -> Result<Vec<Item>> {
        let mut offset = offset;
        loop {
            let items = self.server().readdir(cred, ino, fh, offset, plus, max_bytes).await?;
            let Some(last) = items.last() else { return Ok(Vec::new()) };
            offset = last.offset;
            let shown: Vec<_> = items.into_iter().filter(|item| !self.hides(&item.name)).map(Item::Server).collect();
            if !shown.is_empty() {
                return Ok(shown);
            }
        }
    }

    /// The local entries of a directory, as they were when its reader came to them; of a local one, `.` and `..` first.
    async fn tail(&self, ino: u64, fh: Fh, anew: bool) -> Result<Arc<Vec<Listed>>> {
        let known = self.tails().get(&fh.0).cloned();
        if let Some(known) = known.filter(|_| !anew) {
            return Ok(known);
        }
        let parent = if is_local(ino) {
            Parent::Local(ino)
        } else {
            let handle = self.server().settled_handle(ino).await?;
            Parent::Home(Key::of(&handle))
        };
        let dot = |name: &str| Listed { ino, kind: FileKind::Directory, name: name.into() };
        let mut tail = if is_local(ino) { vec![dot("."), dot("..")] } else { Vec::new() };
        tail.extend(self.on_disk(move |overlay| overlay.list(parent)).await?);
        let tail = Arc::new(tail);
        self.tails().insert(fh.0, Arc::clone(&tail));
        Ok(tail)
    }

    /// The kernel took an entry of the server's with its attributes: that counts as a lookup.
    pub fn accepted(&self, item: &DirItem) {
        self.server().accepted(item);
    }

    /// What a name of a listing stands for, by that very name.
    pub async fn lookup_listed(&self, cred: &Cred, parent: u64, item: &Item) -> Result<Looked> {
        match item {
            Item::Server(item) => self.server().lookup(cred, parent, &item.name).await,
            Item::Local(item, _) => self.lookup_for_kernel(cred, parent, &item.name).await,
        }
    }
}
