//! READ, WRITE, COMMIT and READ_BYPASS (RFC 8881 §18.22, §18.32, §18.3; direct reads of S3 Files).

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::awsfile::{AWSFILE_READ_BYPASS_LOCATOR, ReadBypassLocator, ReadBypassRes};
use nfs4::compound::Resop4;
use nfs4::ops::file::{Commit4args, Commit4resok, Read4args, Write4args, Write4resok};
use nfs4::types::StableHow4;
use nfs4::xdr;

use crate::nfs::answer::Answer;
use crate::nfs::compound::Context;
use crate::nfs::memfs::FileId;
use crate::nfs::rights::{READ, WRITE};
use crate::nfs::server::Server;

const PUTFH: u32 = 22;
const SEQUENCE: u32 = 53;
const READ_BYPASS: u32 = 200_001;

impl Server {
    pub(super) fn read(&mut self, cx: &mut Context<'_>, args: &Read4args) -> Result<(bool, Vec<Bytes>), Nfs4Error> {
        if cx.done.contains(&READ_BYPASS) {
            self.referee.mistake("a READ in a compound with READ_BYPASS".into());
        }
        let file = cx.file()?;
        self.may_read(cx, file, args)?;
        let data = self.fs.data(file)?;
        let most = self.config.max_io.min(cx.short.unwrap_or(u32::MAX));
        let pieces = data.read(args.offset, u64::from(args.count.min(most)));
        let len: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let eof = args.offset.saturating_add(len) >= data.size();
        self.referee.count().bytes_read += len;
        Ok((eof, pieces))
    }

    fn may_read(&mut self, cx: &mut Context<'_>, file: FileId, args: &Read4args) -> Result<(), Nfs4Error> {
        self.fs.data(file)?;
        if let Some(error) = self.broken.get(&file) {
            return Err(*error);
        }
        self.may_use(cx, file, &args.stateid, READ)
    }

    /// READ_BYPASS: the place of the bytes in S3 if the file is there as it is here, the bytes otherwise.
    pub(super) fn read_bypass(&mut self, cx: &mut Context<'_>, args: &Read4args) -> Answer {
        if cx.done != [SEQUENCE, PUTFH] {
            self.referee.mistake("READ_BYPASS elsewhere than right behind SEQUENCE and PUTFH".into());
        }
        match self.locator(cx, args) {
            Ok(Some(locator)) => self.located(locator),
            Ok(None) => match self.read(cx, args) {
                Ok((eof, pieces)) => Answer::Read { opnum: READ_BYPASS, eof, pieces },
                Err(error) => Answer::Op(Resop4::ReadBypass(ReadBypassRes::Err(error))),
            },
            Err(error) => Answer::Op(Resop4::ReadBypass(ReadBypassRes::Err(error))),
        }
    }

    fn locator(&mut self, cx: &mut Context<'_>, args: &Read4args) -> Result<Option<ReadBypassLocator>, Nfs4Error> {
        let file = cx.file()?;
        self.may_read(cx, file, args)?;
        let size = self.fs.data(file)?.size();
        let Some(object) = self.objects.get(&file).filter(|_| args.offset < size && args.count > 0) else {
            return Ok(None);
        };
        Ok(Some(ReadBypassLocator {
            filehandle: self.fs.handle(file),
            bucket_name: object.bucket.as_str().into(),
            s3_key: object.key.as_str().into(),
            etag: object.etag.as_str().into(),
            version_id: object.version_id.as_str().into(),
            offset: args.offset,
            count: u64::from(args.count).min(size - args.offset) as u32,
            file_size: size,
        }))
    }

    /// Whether a locator ends the compound with its status is not known of the service; a choice of the server here.
    fn located(&self, locator: ReadBypassLocator) -> Answer {
        let answer = Resop4::ReadBypass(ReadBypassRes::Locator(Box::new(locator)));
        match (self.config.locator_ends_compound, Nfs4Error::from_status(AWSFILE_READ_BYPASS_LOCATOR)) {
            (true, Some(status)) => match xdr::to_bytes(&answer) {
                Ok(bytes) => Answer::Raw(Err(status), bytes.to_vec()),
                Err(_) => Answer::Op(Resop4::failed(READ_BYPASS, Nfs4Error::Serverfault)),
            },
            _ => Answer::Op(answer),
        }
    }

    pub(super) fn write(&mut self, cx: &mut Context<'_>, args: &Write4args) -> Result<Write4resok, Nfs4Error> {
        let file = cx.file()?;
        self.fs.data(file)?;
        if matches!(args.stable, StableHow4::Unknown(_)) {
            return Err(Nfs4Error::Inval);
        }
        Self::may_change(cx)?;
        self.may_use(cx, file, &args.stateid, WRITE)?;
        let most = self.config.max_io.min(cx.short.unwrap_or(u32::MAX)) as usize;
        let pieces = first_bytes(&args.data, most);
        let len: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.must_fit(args.offset, len)?;
        let stable = args.stable != StableHow4::Unstable4;
        self.fs.write(file, args.offset, &pieces, stable, cx.now.stamp())?;
        if len > 0 {
            self.drop_privileges_of(cx, file)?;
            self.objects.remove(&file);
        }
        self.referee.count().bytes_written += len;
        Ok(Write4resok {
            count: len as u32,
            committed: if stable { StableHow4::FileSync4 } else { StableHow4::Unstable4 },
            writeverf: self.write_verifier,
        })
    }

    /// FBIG past the longest file, NOSPC when the memory is used up.
    pub(super) fn must_fit(&self, offset: u64, len: u64) -> Result<(), Nfs4Error> {
        let end = offset.checked_add(len).ok_or(Nfs4Error::Fbig)?;
        if len > 0 && end > self.config.max_file_size() {
            return Err(Nfs4Error::Fbig);
        }
        if self.fs.used().saturating_add(len) > self.config.capacity {
            return Err(Nfs4Error::Nospc);
        }
        Ok(())
    }

    pub(super) fn commit(&mut self, cx: &mut Context<'_>, args: &Commit4args) -> Result<Commit4resok, Nfs4Error> {
        let file = cx.file()?;
        if args.offset.checked_add(u64::from(args.count)).is_none() {
            return Err(Nfs4Error::Inval);
        }
        let count = if args.count == 0 { u64::MAX } else { u64::from(args.count) };
        self.fs.commit(file, args.offset, count)?;
        Ok(Commit4resok { writeverf: self.write_verifier })
    }
}

/// The first `most` bytes of some pieces.
fn first_bytes(pieces: &[Bytes], most: usize) -> Vec<Bytes> {
    let mut left = most;
    let mut first = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let take = piece.len().min(left);
        first.push(piece.slice(..take));
        left -= take;
    }
    first
}
