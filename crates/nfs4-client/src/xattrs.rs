//! Extended attributes (RFC 8276). Names are those of the wire, without the `user.` that Linux puts in front.
//! [`crate::Limits::xattrs`] says whether the server claims to have them; some that claim it answer
//! [`crate::Errno::NotSup`] all the same.

use bytes::Bytes;
use nfs4::compound::Argop4;
use nfs4::ops::extended::{Getxattr4args, Listxattrs4args, Removexattr4args, Setxattr4args, SetxattrOption4};

use crate::answers::XattrSet;
use crate::attr::{ChangeInfo, Cred, Handle};
use crate::client::{Client, putfh};
use crate::compound::next;
use crate::error::{Error, Result};

/// Pages of a listing of names before the server is taken for one that never ends.
const MOST_PAGES: usize = 1024;

impl Client {
    /// GETXATTR.
    pub async fn getxattr(&self, cred: &Cred, handle: &Handle, name: &[u8]) -> Result<Bytes> {
        let (handle, name) = (handle.clone(), Bytes::copy_from_slice(name));
        let mut replies = self
            .call(cred, move || {
                Ok(vec![putfh(&handle), Argop4::Getxattr(Getxattr4args { gxa_name: name.clone().into() })])
            })
            .await?
            .replies;
        next!(replies, Putfh, "PUTFH")?;
        Ok(next!(replies, Getxattr, "GETXATTR")?.gxr_value.0)
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
        let mut replies = self
            .change(cred, move || {
                let sxa_key = name.clone().into();
                let set = Setxattr4args { sxa_option, sxa_key, sxa_value: value.clone().into() };
                Ok(vec![putfh(&handle), Argop4::Setxattr(set)])
            })
            .await?
            .replies;
        next!(replies, Putfh, "PUTFH")?;
        Ok(next!(replies, Setxattr, "SETXATTR")?.info.into())
    }

    /// REMOVEXATTR.
    pub async fn removexattr(&self, cred: &Cred, handle: &Handle, name: &[u8]) -> Result<ChangeInfo> {
        let (handle, name) = (handle.clone(), Bytes::copy_from_slice(name));
        let mut replies = self
            .change(cred, move || {
                Ok(vec![putfh(&handle), Argop4::Removexattr(Removexattr4args { rxa_name: name.clone().into() })])
            })
            .await?
            .replies;
        next!(replies, Putfh, "PUTFH")?;
        Ok(next!(replies, Removexattr, "REMOVEXATTR")?.info.into())
    }

    /// LISTXATTRS: all names; one round trip for each 64 KiB of them.
    pub async fn listxattrs(&self, cred: &Cred, handle: &Handle) -> Result<Vec<Bytes>> {
        let (mut lxa_cookie, mut names) = (0, Vec::new());
        for _ in 0..MOST_PAGES {
            let handle = handle.clone();
            let mut replies = self
                .call(cred, move || {
                    let list = Listxattrs4args { lxa_cookie, lxa_maxcount: 64 * 1024 };
                    Ok(vec![putfh(&handle), Argop4::Listxattrs(list)])
                })
                .await?
                .replies;
            next!(replies, Putfh, "PUTFH")?;
            let page = next!(replies, Listxattrs, "LISTXATTRS")?;
            let empty = page.lxr_names.0.is_empty();
            names.extend(page.lxr_names.0.into_iter().map(|name| Bytes::copy_from_slice(&name)));
            if page.lxr_eof {
                return Ok(names);
            }
            if empty {
                break;
            }
            lxa_cookie = page.lxr_cookie;
        }
        Err(Error::BadReply { op: "LISTXATTRS", why: "the list of names does not end".into() })
    }
}
