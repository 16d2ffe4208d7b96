//! READDIR (RFC 8881 §18.23): pages by size, cookies that stay good, errors inside entries.

use nfs4::Nfs4Error;
use nfs4::attr::{Attrs, number as n};
use nfs4::ops::dir::{Dirlist4, Entry4, Readdir4args, Readdir4resok};
use nfs4::types::{Bitmap4, Verifier4};

use super::attributes::WRITE_ONLY;
use crate::nfs::compound::Context;
use crate::nfs::memfs::FileId;
use crate::nfs::rights::READ;
use crate::nfs::server::Server;

/// Verifier, end of the list and end-of-directory flag.
const FRAME: usize = 8 + 4 + 4;

/// The verifier of a directory's cookies: it stays the same, since the cookies stay good.
fn verifier_of(dir: FileId) -> Verifier4 {
    Verifier4((dir.0.rotate_left(17) ^ 0x7265_6164_6469_7221).to_be_bytes())
}

impl Server {
    pub(super) fn readdir(&mut self, cx: &mut Context<'_>, args: &Readdir4args) -> Result<Readdir4resok, Nfs4Error> {
        let dir = cx.file()?;
        self.fs.directory(dir)?;
        self.must(cx, dir, READ)?;
        self.must_continue(dir, args)?;
        if WRITE_ONLY.iter().any(|bit| args.attr_request.contains(bit)) {
            self.referee.mistake("READDIR of an attribute that can only be set".into());
            return Err(Nfs4Error::Inval);
        }
        let (most, hint) = (args.maxcount as usize, args.dircount as usize);
        let (mut entries, mut size, mut names) = (Vec::new(), FRAME, 0);
        let mut eof = true;
        for (cookie, entry) in self.fs.directory(dir)?.after(args.cookie) {
            let attrs = self.entry_attributes(cx, entry.file, args.attr_request)?;
            let attrs = attrs.to_fattr4().map_err(|_| Nfs4Error::Serverfault)?;
            let entry = Entry4 { cookie, name: entry.name.clone().into(), attrs };
            let bytes = Dirlist4::entry_size(&entry).map_err(|_| Nfs4Error::Serverfault)?;
            let name = 8 + 4 + entry.name.len();
            let hint_is_full = hint > 0 && !entries.is_empty() && names + name > hint;
            if size + bytes > most || hint_is_full {
                eof = false;
                break;
            }
            size += bytes;
            names += name;
            entries.push(entry);
        }
        if size > most || (entries.is_empty() && !eof) {
            return Err(Nfs4Error::Toosmall);
        }
        Ok(Readdir4resok { cookieverf: verifier_of(dir), reply: Dirlist4 { entries, eof } })
    }

    fn must_continue(&mut self, dir: FileId, args: &Readdir4args) -> Result<(), Nfs4Error> {
        if args.cookie == 0 {
            return Ok(());
        }
        if !self.fs.directory(dir)?.gave_out(args.cookie) {
            self.referee.mistake(format!("READDIR with a cookie that was never given out: {}", args.cookie));
            return Err(Nfs4Error::BadCookie);
        }
        if args.cookieverf != verifier_of(dir) {
            self.referee.mistake("READDIR with a verifier that did not come with the cookie".into());
            return Err(Nfs4Error::NotSame);
        }
        Ok(())
    }

    /// An error about one entry stands in its `rdattr_error` if the client asked for that, and fails the whole
    /// operation otherwise (RFC 8881 §5.8.1.12).
    fn entry_attributes(&self, cx: &Context<'_>, file: FileId, want: Bitmap4) -> Result<Attrs, Nfs4Error> {
        match self.attributes(cx, file, want) {
            Err(error) if want.contains(n::RDATTR_ERROR) => {
                Ok(Attrs { rdattr_error: Some(error.into()), ..Attrs::default() })
            }
            other => other,
        }
    }
}
