//! The door: one async method for each thing a file system asks, each one COMPOUND (more only where it says so).

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::attr::{Attrs, Fattr4};
use nfs4::compound::Argop4;
use nfs4::ops::dir::{Create4args, Createtype4, Link4args, Lookup4args, Readdir4args, Remove4args, Rename4args};
use nfs4::ops::file::{Access4args, Commit4args, Getattr4args, Putfh4args, Read4args, Setattr4args, Write4args};
use nfs4::types::{Bitmap4, NfsFtype4, Specdata4, StableHow4, Stateid4, Verifier4};

use crate::answers::{
    Along, Committed, Created, DirEntry, DirPage, Found, Lookup, NewNode, ReadData, Stability, Written,
};
use crate::attr::{
    Access, CHANGE, ChangeInfo, Cred, ENTRY_ATTRS, FILE_ATTRS, FS_ATTRS, FileAttr, FileKind, FsStat, Handle, Limits,
    SetAttr,
};
use crate::compound::{Replies, next};
use crate::engine::{Counters, Done, Engine, Request};
use crate::error::{Error, Result};
use crate::keeper::{self, Keeper};
use crate::options::{ClientOptions, Dial};
use crate::state::OpenFile;

/// A mounted NFSv4 server. Cheap to clone; all clones share one session.
#[derive(Clone, Debug)]
pub struct Client {
    engine: Arc<Engine>,
    keeper: Arc<Keeper>,
    root: (Handle, FileAttr),
}

pub(crate) fn putfh(handle: &Handle) -> Argop4 {
    Argop4::Putfh(Putfh4args { object: handle.to_wire() })
}

pub(crate) fn getattr(attr_request: Bitmap4) -> Argop4 {
    Argop4::Getattr(Getattr4args { attr_request })
}

pub(crate) fn encode(attrs: &Attrs) -> Result<Fattr4> {
    attrs.to_fattr4().map_err(|error| Error::BadReply { op: "SETATTR", why: error.to_string() })
}

/// The next result must be GETATTR's and hold a file's attributes.
pub(crate) fn file_attr(replies: &mut Replies) -> Result<FileAttr> {
    FileAttr::from_wire("GETATTR", &next!(replies, Getattr, "GETATTR").and_then(|got| replies.attrs(&got))?)
}

/// The next result must be that of a GETATTR of [`CHANGE`].
pub(crate) fn change_attr(replies: &mut Replies) -> Result<Option<u64>> {
    Ok(next!(replies, Getattr, "GETATTR").and_then(|got| replies.attrs(&got))?.change)
}

/// The next results must be GETFH's and GETATTR's.
fn file(replies: &mut Replies) -> Result<(Handle, FileAttr)> {
    let handle = Handle::from_wire(&next!(replies, Getfh, "GETFH")?.object);
    Ok((handle, file_attr(replies)?))
}

/// SETATTR of anything but the size, behind another operation on the same file.
fn set_after(attrs: &Fattr4) -> [Argop4; 2] {
    let set = Setattr4args { stateid: Stateid4::ANONYMOUS, obj_attributes: attrs.clone() };
    [Argop4::Setattr(set), getattr(FILE_ATTRS)]
}

/// What became of [`set_after`]: the attributes, which were at `before` until then.
fn after_set(replies: &mut Replies, before: u64) -> Result<FileAttr> {
    replies.setattr()?;
    Ok(FileAttr { before: Some(before), ..file_attr(replies)? })
}

fn readdir(cookie: u64, verifier: [u8; 8], size: u32) -> Argop4 {
    Argop4::Readdir(Readdir4args {
        cookie,
        cookieverf: Verifier4(verifier),
        dircount: size,
        maxcount: size,
        attr_request: ENTRY_ATTRS,
    })
}

/// The next result may be ACCESS's.
pub(crate) fn granted(replies: &mut Replies) -> Option<Access> {
    next!(replies, Access, "ACCESS").ok().map(|granted| Access(granted.access))
}

/// The next result must be READDIR's, of a directory that had these attributes just before.
fn dir_page(replies: &mut Replies, dir: FileAttr, rights: Option<Access>) -> Result<DirPage> {
    let page = next!(replies, Readdir, "READDIR")?;
    let mut entries = Vec::with_capacity(page.reply.entries.len());
    for entry in page.reply.entries {
        let name = &entry.name.0;
        // A name that cannot be one must not reach the kernel.
        if name.is_empty() || name.contains(&b'/') || name.contains(&0) || &name[..] == b"." || &name[..] == b".." {
            tracing::warn!("the server sent a directory entry that cannot be a name; it is left out");
            continue;
        }
        let attrs = replies.fattr("READDIR", &entry.attrs)?;
        let file = match (&attrs.filehandle, attrs.entry_error()) {
            (Some(handle), None) => Some((Handle::from_wire(handle), FileAttr::from_wire("READDIR", &attrs)?)),
            _ => None,
        };
        entries.push(DirEntry { cookie: entry.cookie, name: Bytes::copy_from_slice(name), file });
    }
    Ok(DirPage { dir, rights, entries, verifier: page.cookieverf.0, eof: page.reply.eof })
}

impl Client {
    /// Connects, makes a session, walks to `options.root` and reads its attributes.
    ///
    /// Fails at once when the target cannot be reached; once connected, the client goes on trying for ever.
    pub async fn connect(dial: Arc<dyn Dial>, options: ClientOptions) -> Result<Self> {
        let (engine, keeper, root) = keeper::start(dial, options).await?;
        Ok(Self { engine, keeper: Arc::new(keeper), root })
    }

    /// The root's handle and its attributes at the time of the mount.
    pub fn root(&self) -> &(Handle, FileAttr) {
        &self.root
    }

    /// What the session and the file system allow.
    pub fn limits(&self) -> Limits {
        self.engine.limits()
    }

    /// What was sent and received so far.
    pub fn counters(&self) -> Counters {
        self.engine.counters()
    }

    /// Finds out at once, instead of by time-outs, what of the connections is left: for when the machine woke after it `slept`
    /// for so long, or its network changed. The lease is renewed, and the certificate if it is old.
    ///
    /// Costs one round trip for each connection. Calls that wait for a connection which is gone go out on a new one.
    pub fn check_now(&self, slept: Duration) {
        let now = Instant::now();
        self.keeper.check_now();
        // After the nudge: else the keeper could renew the lease once before the check does.
        self.engine.lease.lock().unwrap_or_else(PoisonError::into_inner).slept(slept, now);
    }

    /// Ends the session. Open files should be closed before; requests after it fail with [`Error::Closed`].
    pub async fn shutdown(&self) {
        self.keeper.shutdown().await;
    }

    pub(crate) async fn call<F>(&self, cred: &Cred, build: F) -> Result<Done>
    where
        F: Fn() -> Result<Vec<Argop4>> + Send + Sync + 'static,
    {
        self.engine.call(Request::reading(cred, build)).await
    }

    /// For operations that must not happen twice: their reply is cached by the server.
    pub(crate) async fn change<F>(&self, cred: &Cred, build: F) -> Result<Done>
    where
        F: Fn() -> Result<Vec<Argop4>> + Send + Sync + 'static,
    {
        self.engine.call(Request::changing(cred, build)).await
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// GETATTR.
    pub async fn getattr(&self, cred: &Cred, handle: &Handle) -> Result<FileAttr> {
        let handle = handle.clone();
        let mut replies = self.call(cred, move || Ok(vec![putfh(&handle), getattr(FILE_ATTRS)])).await?.replies;
        next!(replies, Putfh, "PUTFH")?;
        file_attr(&mut replies)
    }

    /// LOOKUP of one name, with the directory's own attributes and what the caller may do with the file. A name that
    /// does not exist is an answer, not an error.
    ///
    /// The beginning of a listing or of a file's data comes along where `along` asks for it and the name stands for such.
    pub async fn lookup(&self, cred: &Cred, dir: &Handle, name: &[u8], along: Along) -> Result<Lookup> {
        let dir = dir.clone();
        let name = Bytes::copy_from_slice(name);
        let engine = Arc::clone(&self.engine);
        let mut replies = self
            .call(cred, move || {
                // Here, because another session may be smaller.
                let most = engine.limits().max_read;
                let mut ops = vec![
                    putfh(&dir),
                    getattr(FILE_ATTRS),
                    Argop4::Lookup(Lookup4args { objname: name.clone().into() }),
                    Argop4::Getfh,
                    getattr(FILE_ATTRS),
                    Argop4::Access(Access4args { access: Access::ALL.0 }),
                ];
                // What is something else answers NFS4ERR_NOTDIR or NFS4ERR_ISDIR, and nothing comes after it.
                match along {
                    Along::Nothing => {}
                    Along::Listing(size) => ops.push(readdir(0, [0; 8], size.min(most))),
                    Along::Start(size) => {
                        let (stateid, count) = (Stateid4::ANONYMOUS, size.min(most));
                        ops.push(Argop4::Read(Read4args { stateid, offset: 0, count }));
                    }
                }
                Ok(ops)
            })
            .await?
            .replies;
        next!(replies, Putfh, "PUTFH")?;
        let dir = file_attr(&mut replies)?;
        match next!(replies, Lookup, "LOOKUP") {
            Err(error) if error.status() == Some(Nfs4Error::Noent) => return Ok(Lookup { dir, entry: None }),
            Err(error) => return Err(error),
            Ok(()) => {}
        }
        let (handle, attr) = file(&mut replies)?;
        let rights = granted(&mut replies);
        let mut found = Found { handle, attr, rights, listing: None, data: None };
        match along {
            Along::Nothing => {}
            Along::Listing(_) => found.listing = dir_page(&mut replies, attr, rights).ok(),
            Along::Start(size) => {
                let read = next!(replies, Read, "READ").ok().filter(|read| read.data.len() <= size as usize);
                found.data = read.map(|read| ReadData { data: read.data.0, eof: read.eof });
            }
        }
        Ok(Lookup { dir, entry: Some(found) })
    }

    /// LOOKUPP: the parent directory.
    pub async fn lookup_parent(&self, cred: &Cred, dir: &Handle) -> Result<(Handle, FileAttr)> {
        let dir = dir.clone();
        let mut replies = self
            .call(cred, move || Ok(vec![putfh(&dir), Argop4::Lookupp, Argop4::Getfh, getattr(FILE_ATTRS)]))
            .await?
            .replies;
        next!(replies, Putfh, "PUTFH")?;
        next!(replies, Lookupp, "LOOKUPP")?;
        file(&mut replies)
    }

    /// ACCESS: which of `wanted` the caller may do.
    pub async fn access(&self, cred: &Cred, handle: &Handle, wanted: Access) -> Result<(Access, FileAttr)> {
        let handle = handle.clone();
        let mut replies = self
            .call(cred, move || {
                Ok(vec![putfh(&handle), Argop4::Access(Access4args { access: wanted.0 }), getattr(FILE_ATTRS)])
            })
            .await?
            .replies;
        next!(replies, Putfh, "PUTFH")?;
        let granted = Access(next!(replies, Access, "ACCESS")?.access & wanted.0);
        Ok((granted, file_attr(&mut replies)?))
    }

    /// READLINK.
    pub async fn readlink(&self, cred: &Cred, handle: &Handle) -> Result<Bytes> {
        let handle = handle.clone();
        let mut replies = self.call(cred, move || Ok(vec![putfh(&handle), Argop4::Readlink])).await?.replies;
        next!(replies, Putfh, "PUTFH")?;
        let link = next!(replies, Readlink, "READLINK")?.link;
        Ok(Bytes::copy_from_slice(&link))
    }

    /// READDIR: one page of at most `size` bytes, or as large as the session allows. `cookie` 0 and a zero verifier
    /// start; then the last entry's cookie and the page's verifier go on.
    pub async fn readdir(
        &self,
        cred: &Cred,
        dir: &Handle,
        cookie: u64,
        verifier: [u8; 8],
        size: u32,
    ) -> Result<DirPage> {
        let dir = dir.clone();
        let engine = Arc::clone(&self.engine);
        let mut replies = self
            .call(cred, move || {
                let size = size.min(engine.limits().max_read);
                Ok(vec![
                    putfh(&dir),
                    getattr(FILE_ATTRS),
                    readdir(cookie, verifier, size),
                    Argop4::Access(Access4args { access: Access::ALL.0 }),
                ])
            })
            .await?
            .replies;
        next!(replies, Putfh, "PUTFH")?;
        let dir = file_attr(&mut replies)?;
        let page = dir_page(&mut replies, dir, None)?;
        Ok(DirPage { rights: granted(&mut replies), ..page })
    }

    /// READ of at most `limits().max_read` bytes.
    pub async fn read(&self, file: &OpenFile, offset: u64, count: u32) -> Result<ReadData> {
        let (engine, state) = (Arc::clone(&self.engine), file.clone());
        let mut replies = self
            .call(file.cred(), move || {
                // Here, because another session may be smaller.
                let count = count.min(engine.limits().max_read);
                Ok(vec![putfh(state.handle()), Argop4::Read(Read4args { stateid: state.stateid()?, offset, count })])
            })
            .await?
            .replies;
        next!(replies, Putfh, "PUTFH")?;
        let read = next!(replies, Read, "READ")?;
        if read.data.len() > count as usize {
            return Err(Error::BadReply {
                op: "READ",
                why: format!("{} bytes came, {count} were asked for", read.data.len()),
            });
        }
        Ok(ReadData { data: read.data.0, eof: read.eof })
    }

    /// WRITE of at most `limits().max_write` bytes, in pieces that are not joined. With `set`, attributes are set after it
    /// in the same COMPOUND.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when a new session turns out to be smaller while the call waits: `limits()` is smaller then.
    pub async fn write(
        &self,
        file: &OpenFile,
        offset: u64,
        data: Vec<Bytes>,
        stability: Stability,
        set: Option<SetAttr>,
    ) -> Result<Written> {
        let asked: usize = data.iter().map(Bytes::len).sum();
        if asked > self.limits().max_write as usize {
            return Err(Error::TooLarge { size: asked, limit: self.limits().max_write as usize });
        }
        let state = file.clone();
        let stable = match stability {
            Stability::Unstable => StableHow4::Unstable4,
            Stability::DataSync => StableHow4::DataSync4,
            Stability::FileSync => StableHow4::FileSync4,
        };
        let attrs = set.map(|set| encode(&set.to_wire())).transpose()?;
        let mut replies = self
            .change(file.cred(), move || {
                let mut ops = vec![
                    putfh(state.handle()),
                    getattr(CHANGE),
                    Argop4::Write(Write4args { stateid: state.stateid()?, offset, stable, data: data.clone() }),
                    getattr(FILE_ATTRS),
                ];
                ops.extend(attrs.as_ref().into_iter().flat_map(set_after));
                Ok(ops)
            })
            .await?
            .replies;
        next!(replies, Putfh, "PUTFH")?;
        let before = change_attr(&mut replies)?;
        let written = next!(replies, Write, "WRITE")?;
        let committed = match written.committed {
            StableHow4::Unstable4 => Stability::Unstable,
            StableHow4::DataSync4 => Stability::DataSync,
            StableHow4::FileSync4 => Stability::FileSync,
            StableHow4::Unknown(value) => {
                return Err(Error::BadReply { op: "WRITE", why: format!("stability {value} is not defined") });
            }
        };
        if written.count as usize > asked || (written.count == 0 && asked > 0) || committed < stability {
            return Err(Error::BadReply {
                op: "WRITE",
                why: format!("{} of {asked} bytes were written as {committed:?}", written.count),
            });
        }
        let attr = FileAttr { before, ..file_attr(&mut replies)? };
        let set = set.map(|_| after_set(&mut replies, attr.change));
        Ok(Written { count: written.count, committed, verifier: written.writeverf.0, attr, set })
    }

    /// COMMIT of a range (`count` 0: to the end). With `set`, attributes are set after it in the same COMPOUND.
    pub async fn commit(
        &self,
        cred: &Cred,
        handle: &Handle,
        offset: u64,
        count: u32,
        set: Option<SetAttr>,
    ) -> Result<Committed> {
        let handle = handle.clone();
        let attrs = set.map(|set| encode(&set.to_wire())).transpose()?;
        let changes = set.is_some();
        let build = move || {
            let commit = Argop4::Commit(Commit4args { offset, count });
            let mut ops = vec![putfh(&handle), getattr(CHANGE), commit, getattr(FILE_ATTRS)];
            ops.extend(attrs.as_ref().into_iter().flat_map(set_after));
            Ok(ops)
        };
        let done = if changes { self.change(cred, build).await } else { self.call(cred, build).await };
        let mut replies = done?.replies;
        next!(replies, Putfh, "PUTFH")?;
        let before = change_attr(&mut replies)?;
        let verifier = next!(replies, Commit, "COMMIT")?.writeverf.0;
        let attr = FileAttr { before, ..file_attr(&mut replies)? };
        let set = set.map(|_| after_set(&mut replies, attr.change));
        Ok(Committed { verifier, attr, set })
    }

    /// SETATTR. Setting the size needs a file open for writing, or write permission.
    pub async fn setattr(
        &self,
        cred: &Cred,
        handle: &Handle,
        file: Option<&OpenFile>,
        set: SetAttr,
    ) -> Result<FileAttr> {
        let (handle, file) = (handle.clone(), file.cloned());
        let attrs = encode(&set.to_wire())?;
        let mut replies = self
            .change(cred, move || {
                let stateid = match &file {
                    Some(file) if set.size.is_some() => file.stateid()?,
                    _ => Stateid4::ANONYMOUS,
                };
                Ok(vec![
                    putfh(&handle),
                    getattr(CHANGE),
                    Argop4::Setattr(Setattr4args { stateid, obj_attributes: attrs.clone() }),
                    getattr(FILE_ATTRS),
                ])
            })
            .await?
            .replies;
        next!(replies, Putfh, "PUTFH")?;
        let before = change_attr(&mut replies)?;
        replies.setattr()?;
        Ok(FileAttr { before, ..file_attr(&mut replies)? })
    }

    /// CREATE of anything but a regular file (that is [`Client::open`]'s).
    pub async fn create(&self, cred: &Cred, dir: &Handle, name: &[u8], node: NewNode, set: SetAttr) -> Result<Created> {
        let createattrs = encode(&set.to_wire())?;
        let kind = match node {
            NewNode::Directory => FileKind::Directory,
            NewNode::Symlink(_) => FileKind::Symlink,
            NewNode::Fifo => FileKind::Fifo,
            NewNode::Socket => FileKind::Socket,
            NewNode::BlockDevice(..) => FileKind::BlockDevice,
            NewNode::CharDevice(..) => FileKind::CharDevice,
        };
        let objtype = match node {
            NewNode::Directory => Createtype4::DIR,
            NewNode::Symlink(target) => Createtype4::Lnk(target.into()),
            NewNode::Fifo => Createtype4::Other(NfsFtype4::Fifo),
            NewNode::Socket => Createtype4::Other(NfsFtype4::Sock),
            NewNode::BlockDevice(specdata1, specdata2) => Createtype4::Blk(Specdata4 { specdata1, specdata2 }),
            NewNode::CharDevice(specdata1, specdata2) => Createtype4::Chr(Specdata4 { specdata1, specdata2 }),
        };
        let (parent, objname) = (dir.clone(), Bytes::copy_from_slice(name));
        let done = self
            .change(cred, move || {
                Ok(vec![
                    putfh(&parent),
                    Argop4::Create(Create4args {
                        objtype: objtype.clone(),
                        objname: objname.clone().into(),
                        createattrs: createattrs.clone(),
                    }),
                    Argop4::Getfh,
                    getattr(FILE_ATTRS),
                    Argop4::Access(Access4args { access: Access::ALL.0 }),
                ])
            })
            .await?;
        let mut replies = done.replies;
        next!(replies, Putfh, "PUTFH")?;
        match next!(replies, Create, "CREATE") {
            Ok(created) => {
                let (handle, attr) = file(&mut replies)?;
                Ok(Created { handle, attr, rights: granted(&mut replies), dir_change: created.cinfo.into() })
            }
            // The first attempt's answer was lost together with its session: what exists now is what it made, unless
            // that cannot be. A directory of ours has nothing in it yet.
            Err(error) if done.repeated && error.status() == Some(Nfs4Error::Exist) => {
                let found = self.lookup(cred, dir, name, Along::Listing(4096)).await?;
                let is_ours = |found: &Found| {
                    let is_empty = |page: &DirPage| page.entries.is_empty() && page.eof;
                    found.attr.kind == kind && found.listing.as_ref().is_none_or(is_empty)
                };
                let Found { handle, attr, rights, .. } = found.entry.filter(is_ours).ok_or(error)?;
                let change = ChangeInfo { atomic: false, before: 0, after: found.dir.change };
                Ok(Created { handle, attr, rights, dir_change: change })
            }
            Err(error) => Err(error),
        }
    }

    /// REMOVE of a file or an empty directory.
    pub async fn remove(&self, cred: &Cred, dir: &Handle, name: &[u8]) -> Result<ChangeInfo> {
        let (dir, name) = (dir.clone(), Bytes::copy_from_slice(name));
        let done = self
            .change(cred, move || Ok(vec![putfh(&dir), Argop4::Remove(Remove4args { target: name.clone().into() })]))
            .await?;
        let mut replies = done.replies;
        next!(replies, Putfh, "PUTFH")?;
        match next!(replies, Remove, "REMOVE") {
            Ok(removed) => Ok(removed.cinfo.into()),
            Err(error) if done.repeated && error.status() == Some(Nfs4Error::Noent) => Ok(ChangeInfo::default()),
            Err(error) => Err(error),
        }
    }

    /// RENAME; an existing target is replaced. Returns the change of the old and of the new directory.
    pub async fn rename(
        &self,
        cred: &Cred,
        from: &Handle,
        oldname: &[u8],
        to: &Handle,
        newname: &[u8],
    ) -> Result<(ChangeInfo, ChangeInfo)> {
        let (source, target) = (from.clone(), to.clone());
        let (oldname, new) = (Bytes::copy_from_slice(oldname), Bytes::copy_from_slice(newname));
        let done = self
            .change(cred, move || {
                Ok(vec![
                    putfh(&source),
                    Argop4::Savefh,
                    putfh(&target),
                    Argop4::Rename(Rename4args { oldname: oldname.clone().into(), newname: new.clone().into() }),
                ])
            })
            .await?;
        let mut replies = done.replies;
        next!(replies, Putfh, "PUTFH")?;
        next!(replies, Savefh, "SAVEFH")?;
        next!(replies, Putfh, "PUTFH")?;
        match next!(replies, Rename, "RENAME") {
            Ok(renamed) => Ok((renamed.source_cinfo.into(), renamed.target_cinfo.into())),
            // The first attempt's answer was lost together with its session: it was carried out if the new name is
            // there.
            Err(error) if done.repeated && error.status() == Some(Nfs4Error::Noent) => {
                self.lookup(cred, to, newname, Along::Nothing).await?.entry.ok_or(error)?;
                Ok((ChangeInfo::default(), ChangeInfo::default()))
            }
            Err(error) => Err(error),
        }
    }

    /// LINK: a further name for a file.
    pub async fn link(
        &self,
        cred: &Cred,
        handle: &Handle,
        dir: &Handle,
        name: &[u8],
    ) -> Result<(FileAttr, ChangeInfo)> {
        let (handle, dir, newname) = (handle.clone(), dir.clone(), Bytes::copy_from_slice(name));
        let mut replies = self
            .change(cred, move || {
                Ok(vec![
                    putfh(&handle),
                    Argop4::Savefh,
                    putfh(&dir),
                    Argop4::Link(Link4args { newname: newname.clone().into() }),
                    Argop4::Restorefh,
                    getattr(FILE_ATTRS),
                ])
            })
            .await?
            .replies;
        next!(replies, Putfh, "PUTFH")?;
        next!(replies, Savefh, "SAVEFH")?;
        next!(replies, Putfh, "PUTFH")?;
        let change = next!(replies, Link, "LINK")?.cinfo.into();
        next!(replies, Restorefh, "RESTOREFH")?;
        Ok((file_attr(&mut replies)?, change))
    }

    /// Size of the file system that holds `handle`.
    pub async fn statfs(&self, cred: &Cred, handle: &Handle) -> Result<FsStat> {
        let handle = handle.clone();
        let mut replies = self.call(cred, move || Ok(vec![putfh(&handle), getattr(FS_ATTRS)])).await?.replies;
        next!(replies, Putfh, "PUTFH")?;
        let got = next!(replies, Getattr, "GETATTR")?;
        Ok(FsStat::from_wire(&replies.attrs(&got)?))
    }
}

/// Eight bytes that nobody else uses.
pub(crate) fn rand_verifier() -> [u8; 8] {
    let uuid = uuid::Uuid::new_v4();
    let mut verifier = [0; 8];
    verifier.copy_from_slice(&uuid.as_bytes()[..8]);
    // Some servers keep the verifier in time stamps, where a set top bit would not survive.
    verifier[0] &= 0x7f;
    verifier[4] &= 0x7f;
    verifier
}
