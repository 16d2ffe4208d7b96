//! Sparse files and copies within the server: SEEK, ALLOCATE, DEALLOCATE, READ_PLUS, COPY, CLONE, IO_ADVISE
//! (RFC 7862 §15). The `full` profile only.

use nfs4::Nfs4Error;
use nfs4::error::Status;
use nfs4::ops::file::Read4args;
use nfs4::ops::v42::{
    Allocate4args, Clone4args, Copy4args, Copy4res, Copy4resok, CopyRequirements4, Data4, DataContent4, DataInfo4,
    IoAdvise4args, IoAdvise4resok, ReadPlus4resok, ReadPlusContent, Seek4args, Seek4resok, WriteResponse4,
};
use nfs4::types::{Bitmap4, StableHow4};

use crate::nfs::compound::Context;
use crate::nfs::memfs::FileId;
use crate::nfs::memfs::data::{BLOCK, Segment};
use crate::nfs::rights::{READ, WRITE};
use crate::nfs::server::Server;

/// Most bytes of one COPY; the client asks again for the rest (RFC 7862 §15.2.3).
const MOST_OF_A_COPY: u64 = 64 << 20;

impl Server {
    pub(super) fn seek(&mut self, cx: &mut Context<'_>, args: &Seek4args) -> Result<Seek4resok, Nfs4Error> {
        let file = cx.file()?;
        self.fs.data(file)?;
        self.may_use(cx, file, &args.sa_stateid, READ)?;
        let data = self.fs.data(file)?;
        if args.sa_offset >= data.size() {
            return Err(Nfs4Error::Nxio);
        }
        let wants_data = match args.sa_what {
            DataContent4::Data => true,
            DataContent4::Hole => false,
            DataContent4::Unknown(_) => return Err(Nfs4Error::UnionNotsupp),
        };
        Ok(match data.seek(args.sa_offset, wants_data) {
            Some(at) => Seek4resok { sr_eof: at >= data.size(), sr_offset: at },
            None => Seek4resok { sr_eof: true, sr_offset: data.size() },
        })
    }

    pub(super) fn allocate(&mut self, cx: &mut Context<'_>, args: &Allocate4args) -> Status {
        let file = cx.file()?;
        self.fs.data(file)?;
        Self::may_change(cx)?;
        self.may_use(cx, file, &args.aa_stateid, WRITE)?;
        if args.aa_length == 0 {
            return Err(Nfs4Error::Inval);
        }
        self.must_fit(args.aa_offset, args.aa_length)?;
        self.fs.allocate(file, args.aa_offset, args.aa_length, cx.now.stamp())
    }

    pub(super) fn deallocate(&mut self, cx: &mut Context<'_>, args: &Allocate4args) -> Status {
        let file = cx.file()?;
        self.fs.data(file)?;
        Self::may_change(cx)?;
        self.may_use(cx, file, &args.aa_stateid, WRITE)?;
        if args.aa_length == 0 || args.aa_offset.checked_add(args.aa_length).is_none() {
            return Err(Nfs4Error::Inval);
        }
        self.objects.remove(&file);
        self.fs.punch(file, args.aa_offset, args.aa_length, cx.now.stamp())
    }

    pub(super) fn read_plus(&mut self, cx: &mut Context<'_>, args: &Read4args) -> Result<ReadPlus4resok, Nfs4Error> {
        let file = cx.file()?;
        self.fs.data(file)?;
        self.may_use(cx, file, &args.stateid, READ)?;
        let data = self.fs.data(file)?;
        let count = u64::from(args.count.min(self.config.max_io));
        let segments = data.segments(args.offset, count);
        let mut end = args.offset;
        let mut read = 0;
        let contents = segments.into_iter().map(|segment| match segment {
            Segment::Data(at, pieces) => {
                let bytes = pieces.concat();
                end = at + bytes.len() as u64;
                read += bytes.len() as u64;
                ReadPlusContent::Data(Data4 { d_offset: at, d_data: bytes.into() })
            }
            Segment::Hole(at, length) => {
                end = at + length;
                ReadPlusContent::Hole(DataInfo4 { di_offset: at, di_length: length })
            }
        });
        let rpr_contents = contents.collect::<Vec<_>>().into();
        let rpr_eof = end >= data.size();
        self.referee.count().bytes_read += read;
        Ok(ReadPlus4resok { rpr_eof, rpr_contents })
    }

    pub(super) fn copy(&mut self, cx: &mut Context<'_>, args: &Copy4args) -> Copy4res {
        match self.try_copy(cx, args) {
            Ok(count) => Copy4res::Ok(Copy4resok {
                cr_response: WriteResponse4 {
                    wr_callback_id: Vec::new().into(),
                    wr_count: count,
                    wr_committed: StableHow4::FileSync4,
                    wr_writeverf: self.write_verifier,
                },
                cr_requirements: CopyRequirements4 { cr_consecutive: true, cr_synchronous: true },
            }),
            Err(error) => Copy4res::Err(error),
        }
    }

    fn try_copy(&mut self, cx: &mut Context<'_>, args: &Copy4args) -> Result<u64, Nfs4Error> {
        if !args.ca_source_server.is_empty() {
            return Err(Nfs4Error::Notsupp);
        }
        let (src, dst) = (cx.saved_file()?, cx.file()?);
        self.fs.data(dst)?;
        let size = self.fs.data(src)?.size();
        Self::may_change(cx)?;
        self.may_use(cx, dst, &args.ca_dst_stateid, WRITE)?;
        self.may_use(cx, src, &args.ca_src_stateid, READ)?;
        let rest = size.checked_sub(args.ca_src_offset).ok_or(Nfs4Error::Inval)?;
        let wanted = if args.ca_count == 0 { rest } else { args.ca_count };
        let count = wanted.min(rest).min(MOST_OF_A_COPY);
        if src == dst && args.ca_src_offset.abs_diff(args.ca_dst_offset) < count {
            return Err(Nfs4Error::Inval);
        }
        self.copy_range(cx, (src, args.ca_src_offset), (dst, args.ca_dst_offset), count)?;
        Ok(count)
    }

    /// Copies bytes and holes.
    fn copy_range(
        &mut self,
        cx: &Context<'_>,
        (src, from): (FileId, u64),
        (dst, to): (FileId, u64),
        count: u64,
    ) -> Status {
        let segments = self.fs.data(src)?.segments(from, count);
        let bytes = segments.iter().map(|segment| match segment {
            Segment::Data(_, pieces) => pieces.iter().map(|piece| piece.len() as u64).sum(),
            Segment::Hole(..) => 0,
        });
        let bytes: u64 = bytes.sum();
        let end = to.checked_add(count).filter(|end| *end <= self.config.max_file_size()).ok_or(Nfs4Error::Fbig)?;
        self.must_fit(0, bytes)?;
        let now = cx.now.stamp();
        if self.fs.data(dst)?.size() < end {
            self.fs.set_size(dst, end, now)?;
        }
        for segment in segments {
            match segment {
                Segment::Data(at, pieces) => self.fs.write(dst, to + (at - from), &pieces, true, now)?,
                Segment::Hole(at, length) => self.fs.punch(dst, to + (at - from), length, now)?,
            }
        }
        self.objects.remove(&dst);
        self.drop_privileges_of(cx, dst)
    }

    /// CLONE (RFC 7862 §15.13): whole blocks, or up to the end of the source.
    pub(super) fn clone_range(&mut self, cx: &mut Context<'_>, args: &Clone4args) -> Status {
        let (src, dst) = (cx.saved_file()?, cx.file()?);
        self.fs.data(dst)?;
        let size = self.fs.data(src)?.size();
        Self::may_change(cx)?;
        self.may_use(cx, dst, &args.cl_dst_stateid, WRITE)?;
        self.may_use(cx, src, &args.cl_src_stateid, READ)?;
        let rest = size.checked_sub(args.cl_src_offset).ok_or(Nfs4Error::Inval)?;
        let count = if args.cl_count == 0 { rest } else { args.cl_count };
        let to_end = count == rest;
        let aligned = args.cl_src_offset.is_multiple_of(BLOCK) && args.cl_dst_offset.is_multiple_of(BLOCK);
        if count > rest || !aligned || (!count.is_multiple_of(BLOCK) && !to_end) {
            return Err(Nfs4Error::Inval);
        }
        if src == dst && args.cl_src_offset.abs_diff(args.cl_dst_offset) < count {
            return Err(Nfs4Error::Inval);
        }
        self.copy_range(cx, (src, args.cl_src_offset), (dst, args.cl_dst_offset), count)
    }

    /// Hints are heard and not followed.
    pub(super) fn io_advise(
        &mut self,
        cx: &mut Context<'_>,
        args: &IoAdvise4args,
    ) -> Result<IoAdvise4resok, Nfs4Error> {
        let file = cx.file()?;
        self.fs.data(file)?;
        if args.iaa_offset.checked_add(args.iaa_count).is_none() {
            return Err(Nfs4Error::Inval);
        }
        self.state_of(cx, file, &args.iaa_stateid)?;
        Ok(IoAdvise4resok { ior_hints: Bitmap4::EMPTY })
    }
}
