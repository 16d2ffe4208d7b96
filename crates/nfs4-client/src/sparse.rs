//! Holes, reserved space and copies that the server makes itself (RFC 7862 §15). Many servers have none of it: the
//! answer is then [`crate::Errno::NotSup`], and callers do without.

use nfs4::Nfs4Error;
use nfs4::compound::Argop4;
use nfs4::ops::v42::{Allocate4args, Copy4args, Copy4res, DataContent4, Seek4args};
use nfs4::types::StableHow4;

use crate::answers::{Copied, SeekWhat, Stability};
use crate::attr::{CHANGE, FILE_ATTRS, FileAttr};
use crate::client::{Client, change_attr, file_attr, getattr, putfh};
use crate::compound::{Replies, next};
use crate::error::{Error, Result};
use crate::state::OpenFile;

impl Client {
    /// SEEK: where the next data or hole starts at or behind `offset`; `None` when there is none. The end of the file
    /// counts as a hole.
    pub async fn seek(&self, file: &OpenFile, offset: u64, what: SeekWhat) -> Result<Option<u64>> {
        let state = file.clone();
        let sa_what = match what {
            SeekWhat::Data => DataContent4::Data,
            SeekWhat::Hole => DataContent4::Hole,
        };
        let mut replies = self
            .call(file.cred(), move || {
                let seek = Seek4args { sa_stateid: state.stateid()?, sa_offset: offset, sa_what };
                Ok(vec![putfh(state.handle()), Argop4::Seek(seek)])
            })
            .await?
            .replies;
        next!(replies, Putfh, "PUTFH")?;
        match next!(replies, Seek, "SEEK") {
            Ok(found) if found.sr_eof && what == SeekWhat::Data => Ok(None),
            Ok(found) if found.sr_offset < offset => Err(Error::BadReply {
                op: "SEEK",
                why: format!("offset {} lies before {offset}, where the search began", found.sr_offset),
            }),
            Ok(found) => Ok(Some(found.sr_offset)),
            Err(error) if error.status() == Some(Nfs4Error::Nxio) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// ALLOCATE: reserves space for a range; the file grows to hold it.
    pub async fn allocate(&self, file: &OpenFile, offset: u64, length: u64) -> Result<FileAttr> {
        let mut replies = self.range(file, offset, length, Argop4::Allocate).await?;
        let before = change_attr(&mut replies)?;
        next!(replies, Allocate, "ALLOCATE")?;
        Ok(FileAttr { before, ..file_attr(&mut replies)? })
    }

    /// DEALLOCATE: makes a hole; the size stays.
    pub async fn deallocate(&self, file: &OpenFile, offset: u64, length: u64) -> Result<FileAttr> {
        let mut replies = self.range(file, offset, length, Argop4::Deallocate).await?;
        let before = change_attr(&mut replies)?;
        next!(replies, Deallocate, "DEALLOCATE")?;
        Ok(FileAttr { before, ..file_attr(&mut replies)? })
    }

    async fn range(
        &self,
        file: &OpenFile,
        aa_offset: u64,
        aa_length: u64,
        op: fn(Allocate4args) -> Argop4,
    ) -> Result<Replies> {
        let state = file.clone();
        let mut replies = self
            .change(file.cred(), move || {
                let args = Allocate4args { aa_stateid: state.stateid()?, aa_offset, aa_length };
                Ok(vec![putfh(state.handle()), getattr(CHANGE), op(args), getattr(FILE_ATTRS)])
            })
            .await?
            .replies;
        next!(replies, Putfh, "PUTFH")?;
        Ok(replies)
    }

    /// COPY within the server; `count` is not 0 and the source holds that many bytes. Fewer may be copied, never 0.
    pub async fn copy(
        &self,
        source: &OpenFile,
        source_offset: u64,
        target: &OpenFile,
        target_offset: u64,
        count: u64,
    ) -> Result<Copied> {
        let (from, to) = (source.clone(), target.clone());
        let mut replies = self
            .change(target.cred(), move || {
                let copy = Copy4args {
                    ca_src_stateid: from.stateid()?,
                    ca_dst_stateid: to.stateid()?,
                    ca_src_offset: source_offset,
                    ca_dst_offset: target_offset,
                    ca_count: count,
                    ca_consecutive: true,
                    ca_synchronous: true,
                    ca_source_server: Vec::new().into(),
                };
                Ok(vec![
                    putfh(from.handle()),
                    Argop4::Savefh,
                    putfh(to.handle()),
                    getattr(CHANGE),
                    Argop4::Copy(copy),
                    getattr(FILE_ATTRS),
                ])
            })
            .await?
            .replies;
        next!(replies, Putfh, "PUTFH")?;
        next!(replies, Savefh, "SAVEFH")?;
        next!(replies, Putfh, "PUTFH")?;
        let before = change_attr(&mut replies)?;
        let done = match replies.take("COPY")? {
            nfs4::compound::Resop4::Copy(Copy4res::Ok(done)) => done.cr_response,
            nfs4::compound::Resop4::Copy(Copy4res::OffloadNoReqs(_)) => {
                return Err(Error::Nfs { op: "COPY", status: Nfs4Error::OffloadNoReqs });
            }
            nfs4::compound::Resop4::Copy(Copy4res::Err(status)) => return Err(Error::Nfs { op: "COPY", status }),
            other => return Err(Replies::mismatch("COPY", &other)),
        };
        if !done.wr_callback_id.0.is_empty() {
            // It was to be synchronous; a copy that goes on cannot be trusted to be there.
            return Err(Error::Nfs { op: "COPY", status: Nfs4Error::OffloadNoReqs });
        }
        if done.wr_count == 0 || done.wr_count > count {
            return Err(Error::BadReply { op: "COPY", why: format!("{} of {count} bytes", done.wr_count) });
        }
        let committed = match done.wr_committed {
            StableHow4::Unstable4 => Stability::Unstable,
            StableHow4::DataSync4 => Stability::DataSync,
            StableHow4::FileSync4 => Stability::FileSync,
            StableHow4::Unknown(value) => {
                return Err(Error::BadReply { op: "COPY", why: format!("stability {value} is not defined") });
            }
        };
        let attr = FileAttr { before, ..file_attr(&mut replies)? };
        Ok(Copied { count: done.wr_count, committed, verifier: done.wr_writeverf.0, attr })
    }
}
