//! The current and the saved file handle: PUTFH, PUTROOTFH, GETFH, SAVEFH, RESTOREFH, LOOKUP, LOOKUPP
//! (RFC 8881 §18.8, §18.13, §18.14, §18.19–18.21, §18.27, §18.28).

use nfs4::Nfs4Error;
use nfs4::error::Status;
use nfs4::ops::dir::Lookup4args;
use nfs4::ops::file::{Getfh4resok, Putfh4args};

use crate::nfs::compound::Context;
use crate::nfs::memfs::FileId;
use crate::nfs::rights::EXECUTE;
use crate::nfs::server::Server;

impl Server {
    /// What PUTROOTFH gives: the file system's root, or the access point's root directory. An access point whose
    /// directory is not there cannot be mounted.
    pub(super) fn root_of(&self, cx: &Context<'_>) -> Result<FileId, Nfs4Error> {
        let names = cx.identity.root_directory.split('/').filter(|name| !name.is_empty());
        let mut dir = self.fs.root();
        for name in names {
            dir = self.fs.lookup(dir, name.as_bytes()).map_err(|_| Nfs4Error::Access)?;
        }
        self.fs.directory(dir).map(|_| dir).map_err(|_| Nfs4Error::Access)
    }

    pub(super) fn putfh(&mut self, cx: &mut Context<'_>, args: &Putfh4args) -> Status {
        match self.fs.resolve(&args.object) {
            Ok(file) => {
                self.put(cx, file);
                Ok(())
            }
            Err(error) => {
                if error == Nfs4Error::Badhandle {
                    self.referee.mistake("PUTFH of a handle that the server never made".into());
                }
                Err(error)
            }
        }
    }

    pub(super) fn putrootfh(&mut self, cx: &mut Context<'_>) -> Status {
        let root = self.root_of(cx)?;
        self.put(cx, root);
        Ok(())
    }

    fn put(&mut self, cx: &mut Context<'_>, file: FileId) {
        if cx.current.is_some_and(|handle| !handle.used) {
            self.referee.mistake("a current file handle that was replaced before anything made use of it".into());
        }
        cx.set_file(file);
    }

    pub(super) fn getfh(&mut self, cx: &mut Context<'_>) -> Result<Getfh4resok, Nfs4Error> {
        let file = cx.file()?;
        Ok(Getfh4resok { object: self.fs.handle(file) })
    }

    pub(super) fn savefh(cx: &mut Context<'_>) -> Status {
        cx.file()?;
        cx.saved = cx.current;
        if let Some(saved) = &mut cx.saved {
            saved.used = false;
        }
        Ok(())
    }

    pub(super) fn restorefh(cx: &mut Context<'_>) -> Status {
        cx.saved_file()?;
        cx.current = cx.saved;
        Ok(())
    }

    pub(super) fn lookup(&mut self, cx: &mut Context<'_>, args: &Lookup4args) -> Status {
        let dir = cx.file()?;
        self.name_is_good(&args.objname)?;
        let file = self.find(cx, dir, &args.objname)?;
        cx.set_file(file);
        Ok(())
    }

    /// The file of a name in a directory that the caller may search.
    pub(super) fn find(&self, cx: &Context<'_>, dir: FileId, name: &[u8]) -> Result<FileId, Nfs4Error> {
        self.fs.directory(dir)?;
        self.must(cx, dir, EXECUTE)?;
        self.fs.lookup(dir, name)
    }

    pub(super) fn lookupp(&mut self, cx: &mut Context<'_>) -> Status {
        let dir = cx.file()?;
        self.fs.directory(dir)?;
        self.must(cx, dir, EXECUTE)?;
        if dir == self.root_of(cx)? {
            return Err(Nfs4Error::Noent);
        }
        let parent = self.fs.parent(dir)?;
        cx.set_file(parent);
        Ok(())
    }

    /// A component name (RFC 8881 §14.4, §14.5): 1 to 255 bytes, no slash or NUL, neither `.` nor `..`.
    pub(super) fn name_is_good(&mut self, name: &[u8]) -> Status {
        let error = match name {
            b"" => Nfs4Error::Inval,
            b"." | b".." => Nfs4Error::Badname,
            long if long.len() > 255 => return Err(Nfs4Error::Nametoolong),
            other if other.iter().any(|byte| matches!(byte, 0 | b'/')) => Nfs4Error::Badchar,
            _ => return Ok(()),
        };
        self.referee.mistake(format!("a name that no component has: {}", String::from_utf8_lossy(name)));
        Err(error)
    }

    /// ACCESS unless the mode bits grant all of `want`.
    pub(super) fn must(&self, cx: &Context<'_>, file: FileId, want: u32) -> Status {
        if cx.caller.may(self.fs.inode(file)?, want) { Ok(()) } else { Err(Nfs4Error::Access) }
    }

    /// ROFS for an identity without `s3files:ClientWrite`.
    pub(super) fn may_change(cx: &Context<'_>) -> Status {
        if cx.caller.may_write { Ok(()) } else { Err(Nfs4Error::Rofs) }
    }
}
