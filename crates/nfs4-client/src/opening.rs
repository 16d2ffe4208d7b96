//! OPEN and CLOSE: by name, by handle, with the first bytes to read or to write (RFC 8881 §18.16, §18.2).

use std::sync::Arc;

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::attr::Attrs;
use nfs4::compound::Argop4;
use nfs4::ops::dir::Lookup4args;
use nfs4::ops::file::{Access4args, Read4args, Setattr4args, Write4args};
use nfs4::ops::lock::FreeStateid4args;
use nfs4::ops::open::{Close4args, Createhow4, Creatverfattr, OpenClaim4, Openflag4};
use nfs4::types::{StableHow4, Stateid4, Verifier4};

use crate::answers::{Born, Create, OpenAccess, OpenHow, Opened, ReadData, Stability};
use crate::attr::{Access, Cred, FILE_ATTRS, FileAttr, Handle, SetAttr};
use crate::client::{Client, encode, file_attr, getattr, granted, putfh, rand_verifier};
use crate::compound::{Replies, next};
use crate::engine::Request;
use crate::error::{Error, Result};
use crate::keeper;
use crate::state::{OpenFile, OpenState};

/// The next result must be that of a WRITE of `asked` bytes to stable storage.
fn first_write(replies: &mut Replies, asked: usize) -> Result<(u32, Stability)> {
    let written = next!(replies, Write, "WRITE")?;
    if written.count as usize > asked || written.count == 0 || written.committed != StableHow4::FileSync4 {
        let why = format!("{} of {asked} bytes were written as {:?}", written.count, written.committed);
        return Err(Error::BadReply { op: "WRITE", why });
    }
    Ok((written.count, Stability::FileSync))
}

impl Client {
    /// Opens in a task of its own. A file that is opened after its caller has stopped waiting is closed again.
    async fn kept_or_closed<T: Send + 'static>(
        &self,
        open: impl Future<Output = Result<T>> + Send + 'static,
        file: fn(&T) -> &OpenFile,
    ) -> Result<T> {
        let client = self.clone();
        let work = async move {
            let opened = open.await?;
            let file = file(&opened).clone();
            let undo = async move {
                if let Err(error) = client.close(&file).await {
                    tracing::warn!(%error, "a file that nobody waits for any more may stay open at the server");
                }
            };
            Ok((opened, undo))
        };
        self.engine().taken_or_undone(Box::pin(work)).await
    }

    /// OPEN by name in a directory.
    ///
    /// An exclusive create takes a second round trip where the server cannot set attributes along with it.
    pub async fn open(&self, cred: &Cred, dir: &Handle, name: &[u8], how: OpenHow) -> Result<Opened> {
        let (client, cred) = (self.clone(), cred.clone());
        let (dir, name) = (dir.clone(), Bytes::copy_from_slice(name));
        let open = async move { client.open_now(&cred, dir, name, how).await };
        self.kept_or_closed(Box::pin(open), |opened| &opened.file).await
    }

    async fn open_now(&self, cred: &Cred, dir: Handle, name: Bytes, how: OpenHow) -> Result<Opened> {
        let state = OpenState::new(cred, how.access);
        let verifier = Verifier4(rand_verifier());
        let owner = state.owner();
        // An exclusive create with attributes is one step less for a file that nobody has seen yet.
        let attrs = match how.create {
            Some(Create::Unchecked(attrs) | Create::Exclusive(attrs)) => Some(encode(&attrs.to_wire())?),
            None => None,
        };
        let build = move || {
            let openhow = match (how.create, attrs.clone()) {
                (Some(Create::Unchecked(_)), Some(attrs)) => Openflag4::Create(Createhow4::Unchecked(attrs)),
                (Some(Create::Exclusive(_)), Some(cva_attrs)) => {
                    Openflag4::Create(Createhow4::Exclusive41(Creatverfattr { cva_verf: verifier, cva_attrs }))
                }
                _ => Openflag4::NoCreate,
            };
            let mut ops = vec![
                putfh(&dir),
                keeper::open_how(&owner, how.access, openhow, OpenClaim4::Null(name.clone().into())),
                Argop4::Getfh,
            ];
            if how.truncate {
                ops.push(Argop4::Setattr(Setattr4args {
                    stateid: Stateid4::CURRENT,
                    obj_attributes: encode(&Attrs { size: Some(0), ..Attrs::default() })?,
                }));
            }
            ops.push(getattr(FILE_ATTRS));
            Ok(ops)
        };
        let request = Request::changing(cred, build);
        let mut replies = self.engine().call_to_its_end(request).await?.replies;
        next!(replies, Putfh, "PUTFH")?;
        let opened = next!(replies, Open, "OPEN")?;
        let handle = Handle::from_wire(&next!(replies, Getfh, "GETFH")?.object);
        let file = self.engine().opens().add(state, handle, opened.stateid, opened.rflags);
        let finish = async {
            if how.truncate {
                replies.setattr()?;
            }
            let attr = file_attr(&mut replies)?;
            Ok(Opened {
                file: file.clone(),
                attr,
                dir_change: Some(opened.cinfo.into()),
                rights: None,
                data: None,
                named: None,
            })
        };
        match finish.await {
            Ok(opened) => Ok(opened),
            Err(error) => {
                // The open itself went through: it must not stay behind.
                let _ = self.close(&file).await;
                Err(error)
            }
        }
    }

    /// OPEN of a name that may not exist yet, WRITE of its first bytes to stable storage and SETATTR, in one round trip. A
    /// file that exists is cut or grown to the size in `attrs`.
    ///
    /// # Errors
    /// What the OPEN met with; what came after it is in the answer.
    pub async fn create_and_write(
        &self,
        cred: &Cred,
        dir: &Handle,
        name: &[u8],
        access: OpenAccess,
        attrs: SetAttr,
        data: Vec<Bytes>,
        set: Option<SetAttr>,
    ) -> Result<Born> {
        let (client, cred) = (self.clone(), cred.clone());
        let (dir, name) = (dir.clone(), Bytes::copy_from_slice(name));
        let open = async move { client.create_and_write_now(&cred, dir, name, access, attrs, data, set).await };
        self.kept_or_closed(Box::pin(open), |born| &born.opened.file).await
    }

    #[allow(clippy::too_many_arguments)]
    async fn create_and_write_now(
        &self,
        cred: &Cred,
        dir: Handle,
        name: Bytes,
        access: OpenAccess,
        attrs: SetAttr,
        data: Vec<Bytes>,
        set: Option<SetAttr>,
    ) -> Result<Born> {
        let asked: usize = data.iter().map(Bytes::len).sum();
        if asked > self.limits().max_write as usize {
            return Err(Error::TooLarge { size: asked, limit: self.limits().max_write as usize });
        }
        let state = OpenState::new(cred, access);
        let owner = state.owner();
        let attrs = encode(&attrs.to_wire())?;
        let after = set.map(|set| encode(&set.to_wire())).transpose()?;
        let build = move || {
            let openhow = Openflag4::Create(Createhow4::Unchecked(attrs.clone()));
            let mut ops = vec![
                putfh(&dir),
                keeper::open_how(&owner, access, openhow, OpenClaim4::Null(name.clone().into())),
                Argop4::Getfh,
                getattr(FILE_ATTRS),
            ];
            if asked > 0 {
                let (stateid, stable) = (Stateid4::CURRENT, StableHow4::FileSync4);
                ops.push(Argop4::Write(Write4args { stateid, offset: 0, stable, data: data.clone() }));
            }
            if let Some(attrs) = &after {
                let set = Setattr4args { stateid: Stateid4::ANONYMOUS, obj_attributes: attrs.clone() };
                ops.push(Argop4::Setattr(set));
            }
            if ops.len() > 4 {
                ops.push(getattr(FILE_ATTRS));
            }
            Ok(ops)
        };
        let request = Request::changing(cred, build);
        let mut replies = self.engine().call_to_its_end(request).await?.replies;
        next!(replies, Putfh, "PUTFH")?;
        let opened = next!(replies, Open, "OPEN")?;
        let handle = Handle::from_wire(&next!(replies, Getfh, "GETFH")?.object);
        let file = self.engine().opens().add(state, handle, opened.stateid, opened.rflags);
        let made = match file_attr(&mut replies) {
            Ok(attr) => attr,
            Err(error) => {
                // The open itself went through: it must not stay behind.
                let _ = self.close(&file).await;
                return Err(error);
            }
        };
        let written = (asked > 0).then(|| first_write(&mut replies, asked));
        let goes_on = !matches!(written, Some(Err(_)));
        let set = set.filter(|_| goes_on).map(|_| replies.setattr().map(drop));
        let is_whole = goes_on && !matches!(set, Some(Err(_))) && (asked > 0 || set.is_some());
        let attr = match is_whole.then(|| file_attr(&mut replies)) {
            Some(Ok(attr)) => FileAttr { before: Some(made.change), ..attr },
            _ => made,
        };
        let dir_change = Some(opened.cinfo.into());
        let opened = Opened { file, attr, dir_change, rights: None, data: None, named: None };
        Ok(Born { opened, written, set })
    }

    /// OPEN of a file whose handle is known.
    pub async fn open_handle(&self, cred: &Cred, handle: &Handle, access: OpenAccess) -> Result<Opened> {
        self.open_and_read(cred, handle, None, access, 0).await
    }

    /// OPEN of a file whose handle is known, with what its opener may do and its first `count` bytes, all in one round
    /// trip. The bytes may be newer than the attributes, never older.
    ///
    /// With `name`, a name in a directory, the same round trip brings what it stands for ([`Opened::named`]); a name that
    /// is gone is an error, and then nothing is opened.
    pub async fn open_and_read(
        &self,
        cred: &Cred,
        handle: &Handle,
        name: Option<(&Handle, &[u8])>,
        access: OpenAccess,
        count: u32,
    ) -> Result<Opened> {
        let (client, cred, handle) = (self.clone(), cred.clone(), handle.clone());
        let name = name.map(|(dir, name)| (dir.clone(), Bytes::copy_from_slice(name)));
        let open = async move { client.open_and_read_now(&cred, handle, name, access, count).await };
        self.kept_or_closed(Box::pin(open), |opened| &opened.file).await
    }

    async fn open_and_read_now(
        &self,
        cred: &Cred,
        handle: Handle,
        name: Option<(Handle, Bytes)>,
        access: OpenAccess,
        count: u32,
    ) -> Result<Opened> {
        let engine = Arc::clone(self.engine());
        let state = OpenState::new(cred, access);
        let owner = state.owner();
        let fh = handle.clone();
        let has_name = name.is_some();
        let build = move || {
            let mut ops = Vec::with_capacity(8);
            if let Some((dir, name)) = &name {
                ops.push(putfh(dir));
                ops.push(Argop4::Lookup(Lookup4args { objname: name.clone().into() }));
                ops.push(Argop4::Getfh);
            }
            ops.push(putfh(&fh));
            ops.push(keeper::open_claim(&owner, access, OpenClaim4::Fh));
            ops.push(getattr(FILE_ATTRS));
            ops.push(Argop4::Access(Access4args { access: Access::ALL.0 }));
            if count > 0 {
                let count = count.min(engine.limits().max_read);
                ops.push(Argop4::Read(Read4args { stateid: Stateid4::CURRENT, offset: 0, count }));
            }
            Ok(ops)
        };
        // The same owner opens the same file: to do so twice does no harm, and so the server need not keep the reply.
        let mut replies = self.engine().call_to_its_end(Request::reading(cred, build)).await?.replies;
        let mut named = None;
        if has_name {
            next!(replies, Putfh, "PUTFH")?;
            next!(replies, Lookup, "LOOKUP")?;
            named = Some(Handle::from_wire(&next!(replies, Getfh, "GETFH")?.object));
        }
        next!(replies, Putfh, "PUTFH")?;
        let opened = next!(replies, Open, "OPEN")?;
        let file = self.engine().opens().add(state, handle, opened.stateid, opened.rflags);
        let attr = match file_attr(&mut replies) {
            Ok(attr) => attr,
            Err(error) => {
                // The open itself went through: it must not stay behind.
                let _ = self.close(&file).await;
                return Err(error);
            }
        };
        let rights = granted(&mut replies);
        let data = match count {
            0 => None,
            _ => next!(replies, Read, "READ").ok().filter(|read| read.data.len() <= count as usize),
        };
        let data = data.map(|read| ReadData { data: read.data.0, eof: read.eof });
        Ok(Opened { file, attr, dir_change: None, rights, data, named })
    }

    /// CLOSE. A file that the server does not know any more is closed already.
    pub async fn close(&self, file: &OpenFile) -> Result<()> {
        if !self.engine().opens().start_closing(file) {
            return Ok(());
        }
        // It is no open file to us any more, so nobody would close it later: the CLOSE goes out however late, which
        // surprises nobody.
        let (client, file) = (self.clone(), file.clone());
        let task = self.engine().tasks().spawn(async move {
            loop {
                let closed = client.close_now(&file).await;
                if file.closed() || closed.is_err() {
                    return closed;
                }
            }
        });
        self.engine().within_limit(async { task.await.unwrap_or(Err(Error::Closed)) }).await
    }

    async fn close_now(&self, file: &OpenFile) -> Result<()> {
        let (state, handle) = (file.clone(), file.handle().clone());
        let close = Request::changing(file.cred(), move || {
            Ok(vec![putfh(&handle), Argop4::Close(Close4args { seqid: 0, open_stateid: state.closing_stateid()? })])
        });
        let done = self.engine().call_without_limit(close).await;
        let mut replies = match done {
            Ok(done) => done.replies,
            Err(Error::StateLost) => return Ok(()),
            Err(error) => return Err(error),
        };
        let closed = match next!(replies, Putfh, "PUTFH") {
            Ok(()) => next!(replies, Close, "CLOSE").map(drop),
            Err(error) => Err(error),
        };
        match closed.as_ref().map_err(Error::status) {
            Err(Some(Nfs4Error::Expired | Nfs4Error::AdminRevoked)) => self.free(file).await,
            Err(Some(Nfs4Error::BadStateid | Nfs4Error::StaleStateid | Nfs4Error::OldStateid)) => Ok(()),
            _ => closed,
        }
    }

    /// FREE_STATEID: tells the server that we know of a revoked stateid (RFC 8881 §18.38).
    async fn free(&self, file: &OpenFile) -> Result<()> {
        let state = file.clone();
        let free = Request::changing(file.cred(), move || {
            Ok(vec![Argop4::FreeStateid(FreeStateid4args { fsa_stateid: state.stateid()? })])
        });
        self.engine().call_without_limit(free).await.map(drop)
    }
}
