//! Extended attributes (RFC 8276 §8.4), and the one of S3 Files that nobody set: how a file's export went.

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::ops::extended::{
    Getxattr4args, Getxattr4resok, Listxattrs4args, Listxattrs4resok, Removexattr4args, Setxattr4args, SetxattrOption4,
    XattrChange4resok,
};
use nfs4::types::ChangeInfo4;
use nfs4::xdr::{Opaque, padding};

use crate::nfs::compound::Context;
use crate::nfs::memfs::FileId;
use crate::nfs::rights::{READ, WRITE};
use crate::nfs::server::Server;

/// Longest name and value, in bytes (Linux's limits).
const MOST_OF_NAME: usize = 255;
const MOST_OF_VALUE: usize = 65_536;
/// Most bytes of all names and values of one file.
const MOST_OF_FILE: usize = 1 << 20;

/// The virtual attribute of S3 Files; a time stamp follows, so that nobody answers from a cache.
const STATUS: &[u8] = b"s3files.status;";

fn good_name(name: &[u8]) -> Result<(), Nfs4Error> {
    match name.len() {
        0 => Err(Nfs4Error::Inval),
        len if len > MOST_OF_NAME => Err(Nfs4Error::Nametoolong),
        _ => Ok(()),
    }
}

impl Server {
    pub(super) fn getxattr(&mut self, cx: &mut Context<'_>, args: &Getxattr4args) -> Result<Getxattr4resok, Nfs4Error> {
        let file = cx.file()?;
        good_name(&args.gxa_name)?;
        self.must(cx, file, READ)?;
        if !self.config.is_full() {
            let stamp = args.gxa_name.strip_prefix(STATUS).ok_or(Nfs4Error::Noxattr)?;
            if stamp.is_empty() || !stamp.iter().all(u8::is_ascii_digit) {
                return Err(Nfs4Error::Noxattr);
            }
            return Ok(Getxattr4resok { gxr_value: self.status_text(file).as_str().into() });
        }
        let value = self.fs.inode(file)?.xattrs.get(&args.gxa_name).ok_or(Nfs4Error::Noxattr)?;
        Ok(Getxattr4resok { gxr_value: value.clone().into() })
    }

    fn status_text(&self, file: FileId) -> String {
        self.status_texts.get(&file).cloned().unwrap_or_else(|| {
            let path = self.fs.path_of(file).unwrap_or_default();
            format!("S3Key: {}\nExportError: None\nFilePath: {path}\n", path.trim_start_matches('/'))
        })
    }

    pub(super) fn setxattr(
        &mut self,
        cx: &mut Context<'_>,
        args: &Setxattr4args,
    ) -> Result<XattrChange4resok, Nfs4Error> {
        let file = cx.file()?;
        good_name(&args.sxa_key)?;
        if args.sxa_value.len() > MOST_OF_VALUE {
            return Err(Nfs4Error::Xattr2big);
        }
        Self::may_change(cx)?;
        self.must(cx, file, WRITE)?;
        let xattrs = &self.fs.inode(file)?.xattrs;
        let exists = xattrs.get(&args.sxa_key).is_some();
        match args.sxa_option {
            SetxattrOption4::Create if exists => return Err(Nfs4Error::Exist),
            SetxattrOption4::Replace if !exists => return Err(Nfs4Error::Noxattr),
            SetxattrOption4::Unknown(_) => return Err(Nfs4Error::Inval),
            _ => {}
        }
        if xattrs.size() + args.sxa_key.len() + args.sxa_value.len() > MOST_OF_FILE {
            return Err(Nfs4Error::Nospc);
        }
        let (name, value) = (Bytes::copy_from_slice(&args.sxa_key), Bytes::copy_from_slice(&args.sxa_value));
        self.change_xattrs(cx, file, |server| {
            server.fs.inode_mut(file)?.xattrs.set(name, value);
            Ok(())
        })
    }

    pub(super) fn removexattr(
        &mut self,
        cx: &mut Context<'_>,
        args: &Removexattr4args,
    ) -> Result<XattrChange4resok, Nfs4Error> {
        let file = cx.file()?;
        good_name(&args.rxa_name)?;
        Self::may_change(cx)?;
        self.must(cx, file, WRITE)?;
        self.change_xattrs(cx, file, |server| {
            let was_there = server.fs.inode_mut(file)?.xattrs.remove(&args.rxa_name);
            if was_there { Ok(()) } else { Err(Nfs4Error::Noxattr) }
        })
    }

    fn change_xattrs(
        &mut self,
        cx: &Context<'_>,
        file: FileId,
        change: impl FnOnce(&mut Self) -> Result<(), Nfs4Error>,
    ) -> Result<XattrChange4resok, Nfs4Error> {
        self.recall_for_change(cx, file, false)?;
        let before = self.fs.inode(file)?.change;
        change(self)?;
        self.fs.touch(file, false, cx.now.stamp())?;
        let after = self.fs.inode(file)?.change;
        Ok(XattrChange4resok { info: ChangeInfo4 { atomic: true, before, after } })
    }

    /// LISTXATTRS (RFC 8276 §8.4.3): `maxcount` bounds the whole result.
    pub(super) fn listxattrs(
        &mut self,
        cx: &mut Context<'_>,
        args: &Listxattrs4args,
    ) -> Result<Listxattrs4resok, Nfs4Error> {
        let file = cx.file()?;
        self.must(cx, file, READ)?;
        let most = args.lxa_maxcount as usize;
        // Cookie, count of names, end flag.
        let mut size = 8 + 4 + 4;
        let mut names: Vec<Opaque> = Vec::new();
        let (mut cookie, mut eof) = (args.lxa_cookie, true);
        for (next, name) in self.fs.inode(file)?.xattrs.after(args.lxa_cookie) {
            size += 4 + name.len() + padding(name.len());
            if size > most {
                eof = false;
                break;
            }
            names.push(name.clone().into());
            cookie = next;
        }
        if names.is_empty() && !eof {
            return Err(Nfs4Error::Toosmall);
        }
        Ok(Listxattrs4resok { lxr_cookie: cookie, lxr_names: names.into(), lxr_eof: eof })
    }
}
