//! Extended attributes (RFC 8276). Names are those of the wire, without the `user.` that Linux puts in front.
//! [`crate::Limits::xattrs`] says whether the server claims to have them; some that claim it answer
//! [`crate::Errno::NotSup`] all the same.

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::compound::Argop4;
use nfs4::ops::extended::{Getxattr4args, Listxattrs4args, Removexattr4args, Setxattr4args, SetxattrOption4};

use crate::answers::XattrSet;
use crate::attr::{ChangeInfo, Cred, FILE_ATTRS, FileAttr, Handle};
use crate::client::{Client, file_attr, getattr, putfh};
use crate::compound::next;
use crate::error::{Error, Result};

/// Pages of a listing of names before the server is taken for one that never ends.
const MOST_PAGES: usize = 1024;

impl Client {
    /// GETXATTR, and the file's attributes from just before; an attribute that is not there is an answer, not an error.
    pub async fn getxattr(&self, cred: &Cred, handle: &Handle, name: &[u8]) -> Result<(FileAttr, Option<Bytes>)> {
        let (handle, name) = (handle.clone(), Bytes::copy_from_slice(name));
        let mut replies = self
            .call(cred, move || {
                let get = Getxattr4args { gxa_name: name.clone().into() };
                Ok(vec![putfh(&handle), getattr(FILE_ATTRS), Argop4::Getxattr(get)])
            })
            .await?
            .replies;
        next!(replies, Putfh, "PUTFH")?;
        let attr = file_attr(&mut replies)?;
        match next!(replies, Getxattr, "GETXATTR") {
            // Of its own memory: a slice would keep the whole reply alive in a cache.
            Ok(got) => Ok((attr, Some(Bytes::copy_from_slice(&got.gxr_value)))),
            Err(error) if error.status() == Some(Nfs4Error::Noxattr) => Ok((attr, None)),
            Err(error) => Err(error),
        }
    }

    /// SETXATTR.
    pub async fn setxattr(
        &self,
        cred: &Cred,
        handle: &Handle,
        name: &[u8],
        value: Bytes,
        set: XattrSet,
    ) -> Result<ChangeInfo> {
        let (handle, name) = (handle.clone(), Bytes::copy_from_slice(name));
        let sxa_option = match set {
            XattrSet::Either => SetxattrOption4::Either,
            XattrSet::Create => SetxattrOption4::Create,
            XattrSet::Replace => SetxattrOption4::Replace,
        };
        let done = self
            .change(cred, move || {
                let sxa_key = name.clone().into();
                let set = Setxattr4args { sxa_option, sxa_key, sxa_value: value.clone().into() };
                Ok(vec![putfh(&handle), Argop4::Setxattr(set)])
            })
            .await?;
        let mut replies = done.replies;
        next!(replies, Putfh, "PUTFH")?;
        match next!(replies, Setxattr, "SETXATTR") {
            Ok(set) => Ok(set.info.into()),
            // The first attempt's answer was lost together with its session: what exists now is what it made.
            Err(error) if done.repeated && set == XattrSet::Create && error.status() == Some(Nfs4Error::Exist) => {
                Ok(ChangeInfo::default())
            }
            Err(error) => Err(error),
        }
    }

    /// REMOVEXATTR.
    pub async fn removexattr(&self, cred: &Cred, handle: &Handle, name: &[u8]) -> Result<ChangeInfo> {
        let (handle, name) = (handle.clone(), Bytes::copy_from_slice(name));
        let done = self
            .change(cred, move || {
                Ok(vec![putfh(&handle), Argop4::Removexattr(Removexattr4args { rxa_name: name.clone().into() })])
            })
            .await?;
        let mut replies = done.replies;
        next!(replies, Putfh, "PUTFH")?;
        match next!(replies, Removexattr, "REMOVEXATTR") {
            Ok(removed) => Ok(removed.info.into()),
            Err(error) if done.repeated && error.status() == Some(Nfs4Error::Noxattr) => Ok(ChangeInfo::default()),
            Err(error) => Err(error),
        }
    }

    /// LISTXATTRS: all names, and the file's attributes from just before; one round trip for each 64 KiB of names.
    pub async fn listxattrs(&self, cred: &Cred, handle: &Handle) -> Result<(FileAttr, Vec<Bytes>)> {
        let (mut lxa_cookie, mut names) = (0, Vec::new());
        let mut first = None;
        for _ in 0..MOST_PAGES {
            let handle = handle.clone();
            let mut replies = self
                .call(cred, move || {
                    let list = Listxattrs4args { lxa_cookie, lxa_maxcount: 64 * 1024 };
                    Ok(vec![putfh(&handle), getattr(FILE_ATTRS), Argop4::Listxattrs(list)])
                })
                .await?
                .replies;
            next!(replies, Putfh, "PUTFH")?;
            let attr = file_attr(&mut replies)?;
            let attr = *first.get_or_insert(attr);
            let page = next!(replies, Listxattrs, "LISTXATTRS")?;
            let empty = page.lxr_names.0.is_empty();
            names.extend(page.lxr_names.0.into_iter().map(|name| Bytes::copy_from_slice(&name)));
            if page.lxr_eof {
                return Ok((attr, names));
            }
            if empty {
                break;
            }
            lxa_cookie = page.lxr_cookie;
        }
        Err(Error::BadReply { op: "LISTXATTRS", why: "the list of names does not end".into() })
    }
}
