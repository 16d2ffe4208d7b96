//! Who calls and what he may do: AUTH_SYS ids against mode bits, squashing, access points
//! (RFC 8881 §5.9, §18.1; S3 Files: ClientRootAccess, ClientWrite).

use nfs4::ops::file::access;
use nfs4::rpc::{AuthFlavor, AuthSys, OpaqueAuth};
use nfs4::xdr;

use super::memfs::{Inode, Kind};

/// User and group of nobody.
pub const ANONYMOUS: u32 = 65_534;

/// Permission to read, in a mode's octal digit.
pub const READ: u32 = 4;
/// Permission to write.
pub const WRITE: u32 = 2;
/// Permission to execute a file or to pass through a directory.
pub const EXECUTE: u32 = 1;

/// What the connection's IAM identity brings (access point, actions).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Whether it may write (`s3files:ClientWrite`).
    pub write: bool,
    /// Whether uid 0 is root (`s3files:ClientRootAccess`).
    pub root: bool,
    /// Ids that an access point forces on everybody.
    pub forced: Option<Ids>,
    /// The directory that PUTROOTFH gives; empty for the file system's root.
    pub root_directory: String,
}

impl Default for Identity {
    fn default() -> Self {
        Self { write: true, root: true, forced: None, root_directory: String::new() }
    }
}

/// Numbers of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// The caller of a compound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// In effect: after squashing and forcing.
    pub ids: Ids,
    /// Whether the file system may be changed at all.
    pub may_write: bool,
    /// Who sent it, before anything was forced: the owner of client ids and of replies in the cache.
    pub principal: Principal,
}

/// Who made a client id (RFC 8881 §2.10.5): the flavor and the user of the RPC credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Principal {
    flavor: u32,
    uid: u32,
}

impl Principal {
    /// As one number.
    pub fn number(self) -> u64 {
        u64::from(self.flavor) << 32 | u64::from(self.uid)
    }
}

impl Caller {
    /// The caller of an RPC credential; `None` when the credential does not decode or is of another flavor.
    pub fn of(cred: &OpaqueAuth, identity: &Identity) -> Option<Self> {
        let (mut ids, principal) = match cred.flavor {
            AuthFlavor::None => (nobody(), Principal { flavor: 0, uid: 0 }),
            AuthFlavor::Sys => {
                let sys: AuthSys = xdr::from_bytes(cred.body.0.clone()).ok()?;
                let principal = Principal { flavor: 1, uid: sys.uid };
                (Ids { uid: sys.uid, gid: sys.gid, groups: sys.gids.0 }, principal)
            }
            _ => return None,
        };
        if let Some(forced) = &identity.forced {
            ids = forced.clone();
        }
        if ids.uid == 0 && !identity.root {
            ids = nobody();
        }
        Some(Self { ids, may_write: identity.write, principal })
    }

    /// Whether nothing is forbidden to the caller.
    pub fn is_root(&self) -> bool {
        self.ids.uid == 0
    }

    /// Whether the caller is in a group.
    pub fn in_group(&self, gid: u32) -> bool {
        self.ids.gid == gid || self.ids.groups.contains(&gid)
    }

    /// Whether the caller owns a file, or is root.
    pub fn owns(&self, inode: &Inode) -> bool {
        self.is_root() || self.ids.uid == inode.uid
    }

    /// Whether the mode bits grant all of `want` (of [`READ`], [`WRITE`], [`EXECUTE`]).
    pub fn may(&self, inode: &Inode, want: u32) -> bool {
        if self.is_root() {
            let is_dir = matches!(inode.kind, Kind::Directory(_));
            return want & EXECUTE == 0 || is_dir || inode.mode & 0o111 != 0;
        }
        let shift = if self.ids.uid == inode.uid {
            6
        } else if self.in_group(inode.gid) {
            3
        } else {
            0
        };
        (inode.mode >> shift) & want == want
    }

    /// Whether the caller may take `victim` out of `dir`: with the sticky bit only the owner of one of them may.
    pub fn may_remove(&self, dir: &Inode, victim: &Inode) -> bool {
        self.may(dir, WRITE | EXECUTE) && (dir.mode & 0o1000 == 0 || self.owns(dir) || self.owns(victim))
    }

    /// The rights of ACCESS that the caller has, of those that make sense for the kind of file.
    pub fn access(&self, inode: &Inode) -> u32 {
        let is_dir = matches!(inode.kind, Kind::Directory(_));
        let mut rights = 0;
        if self.may(inode, READ) {
            rights |= access::READ | access::XAREAD | access::XALIST;
        }
        if self.may(inode, EXECUTE) {
            rights |= if is_dir { access::LOOKUP } else { access::EXECUTE };
        }
        if self.may_write && self.may(inode, WRITE) {
            rights |= access::MODIFY | access::EXTEND | access::XAWRITE;
            // A change of entries passes through the directory as well.
            if is_dir && self.may(inode, EXECUTE) {
                rights |= access::DELETE;
            }
        }
        rights
    }
}

/// The rights of ACCESS that have a meaning for a kind of file.
pub fn supported_access(kind: &Kind) -> u32 {
    let both = access::READ | access::MODIFY | access::EXTEND | access::XAREAD | access::XAWRITE | access::XALIST;
    match kind {
        Kind::Directory(_) => both | access::LOOKUP | access::DELETE,
        _ => both | access::EXECUTE,
    }
}

fn nobody() -> Ids {
    Ids { uid: ANONYMOUS, gid: ANONYMOUS, groups: Vec::new() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::nfs::memfs::{FileData, FileId, Xattrs};
    use nfs4::types::Nfstime4;
    use std::sync::Arc;

    fn file(mode: u32, uid: u32, gid: u32) -> Inode {
        let time = Nfstime4::default();
        Inode {
            kind: Kind::Regular(FileData::default()),
            mode,
            uid,
            gid,
            nlink: 1,
            change: 0,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            xattrs: Xattrs::default(),
            parent: FileId(1),
            create_verifier: None,
        }
    }

    fn caller(uid: u32, gid: u32, groups: &[u32], identity: &Identity) -> Caller {
        let cred = AuthSys::new("h", uid, gid, &Arc::from(groups)).to_opaque_auth().unwrap();
        Caller::of(&cred, identity).unwrap()
    }

    #[test]
    fn the_first_class_that_fits_decides_even_if_a_later_one_grants_more() {
        let all = Identity::default();
        let secret = file(0o077, 5, 6);
        assert!(!caller(5, 6, &[], &all).may(&secret, READ));
        let shared = file(0o604, 5, 6);
        assert!(!caller(7, 6, &[], &all).may(&shared, READ));
        assert!(!caller(7, 1, &[2, 6], &all).may(&shared, READ));
        assert!(caller(7, 1, &[], &all).may(&shared, READ));
    }

    #[test]
    fn root_may_everything_but_execute_what_nobody_may() {
        let root = caller(0, 0, &[], &Identity::default());
        assert!(root.may(&file(0, 5, 6), READ | WRITE));
        assert!(!root.may(&file(0o600, 5, 6), EXECUTE));
        assert!(root.may(&file(0o601, 5, 6), EXECUTE));
    }

    #[test]
    fn without_root_access_root_is_nobody() {
        let squashed = caller(0, 0, &[0], &Identity { root: false, ..Identity::default() });
        assert_eq!(squashed.ids.uid, ANONYMOUS);
        assert!(!squashed.may(&file(0o600, 0, 0), READ));
        assert!(!squashed.in_group(0));
    }

    #[test]
    fn an_access_point_forces_its_ids_on_everybody() {
        let forced = Ids { uid: 1001, gid: 1002, groups: vec![1003] };
        let identity = Identity { forced: Some(forced.clone()), ..Identity::default() };
        assert_eq!(caller(0, 0, &[4], &identity).ids, forced);
    }

    #[test]
    fn without_client_write_access_grants_no_change() {
        let reader = caller(0, 0, &[], &Identity { write: false, ..Identity::default() });
        let rights = reader.access(&file(0o666, 0, 0));
        assert_eq!(rights & (access::MODIFY | access::EXTEND | access::DELETE | access::XAWRITE), 0);
        assert_ne!(rights & access::READ, 0);
    }
}
