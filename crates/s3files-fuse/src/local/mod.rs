//! What stays on this computer: Finder's own files, and extended attributes that the server does not keep.
//!
//! The one idea: a file of the server is known here by its handle, which is the file's and nobody else's, whatever it is
//! called and wherever it lies. What is kept for it lies under a key made of that handle, so it follows every rename by
//! itself; and `vfs` tells when the file is gone ([`vfs::Farewell`]).
//!
//! ```text
//! ~/.local/state/s3files-fuse/local/FILE SYSTEM/
//!     names/KEY OF A DIRECTORY/.DS_Store …     the local files of that directory, as files
//!     xattrs/KEY OF A FILE                     the local attributes of that file
//! ```
//!
//! [`policy`] says which names are meant, [`overlay`] works on the local files, [`numbers`] gives them inode numbers,
//! [`escape`] writes their names so that any disk tells them apart,
//! [`store`] keeps attributes, [`attributes`] is what it keeps for one file, [`room`] bounds both, [`normal`] is about the
//! form of names. Who asks whom is decided in [`crate::fuse`]'s view.

pub mod attributes;
pub mod escape;
pub mod normal;
pub mod numbers;
pub mod overlay;
pub mod policy;
pub mod rights;
pub mod room;
pub mod store;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use vfs::{Cred, Errno, Error, Farewell, ROOT_INO, Vfs};

use overlay::Overlay;
use policy::{MacFiles, Manners, Names, Xattrs};
use rights::Owner;
use room::Room;
use store::XattrStore;

/// A file of the server, for as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; 16]);

impl Key {
    /// The key of the file with this handle.
    pub fn of(handle: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(handle).into();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        Self(key)
    }

    /// As a file's name.
    pub fn name(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }

    #[cfg(test)]
    pub fn of_number(number: u8) -> Self {
        Self([number; 16])
    }
}

/// What one mount keeps on this computer.
#[derive(Debug, Clone, Default)]
pub struct Local {
    /// Where local files live; without it there are none.
    pub overlay: Option<Arc<Overlay>>,
    /// Finder's names are refused.
    pub denies: bool,
    /// Where extended attributes live that the server does not keep.
    pub xattrs: Option<Arc<XattrStore>>,
    /// Names go to the server in one form.
    pub normal: bool,
}

impl Local {
    /// Opens what is kept for a file system, or begins it. Blocks on the disk.
    pub fn open(manners: Manners, file_system: &str, owner: Owner) -> io::Result<Self> {
        let Manners { mac_files, xattrs, names, limit } = manners;
        let (wants_files, wants_xattrs) = (mac_files == MacFiles::Local, xattrs == Xattrs::Local);
        let mut local = Self { denies: mac_files == MacFiles::Deny, normal: names == Names::Nfc, ..Self::default() };
        if !wants_files && !wants_xattrs {
            return Ok(local);
        }
        let base = crate::home::state()?.join("local").join(Key::of(file_system.as_bytes()).name());
        let (names, xattrs) = (made(base.join("names"))?, made(base.join("xattrs"))?);
        overlay::remove_leftovers(&names);
        store::remove_leftovers(&xattrs)?;
        let room = Arc::new(Room::new(limit, room::weight_below(&names) + room::weight(&xattrs)));
        local.overlay = wants_files.then(|| Arc::new(Overlay::new(names, Arc::clone(&room), owner)));
        local.xattrs = wants_xattrs.then(|| Arc::new(XattrStore::new(xattrs, room)));
        Ok(local)
    }

    /// Has `vfs` find out whether the server keeps attributes, where that matters. One round trip at most. S3 Files says that it
    /// does, because it makes some up; asked for others by name it says that there are none, but it lists none.
    pub async fn find_out(&self, vfs: &Vfs, me: &Cred) {
        if self.xattrs.is_some()
            && vfs.keeps_xattrs()
            && let Err(error) = vfs.listxattrs(me, ROOT_INO).await
        {
            tracing::debug!(%error, "the server's extended attributes");
        }
    }

    /// Who is to be told of files that are gone; nobody, where nothing is kept.
    pub fn farewell(&self) -> Option<Arc<dyn Farewell>> {
        (self.overlay.is_some() || self.xattrs.is_some()).then(|| Arc::new(self.clone()) as Arc<dyn Farewell>)
    }
}

impl Farewell for Local {
    fn gone(&self, handle: &[u8]) {
        let key = Key::of(handle);
        if let Some(overlay) = &self.overlay {
            overlay.drop_home(key);
        }
        if let Some(xattrs) = &self.xattrs
            && let Err(error) = xattrs.drop_all(key)
        {
            tracing::debug!(%error, "the attributes of a file that is gone stay behind");
        }
    }
}

/// A directory for this user alone.
fn made(path: PathBuf) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
    Ok(path)
}

/// An error of this computer's disk as programs know it from any other.
fn refusal(error: &io::Error, what: &Path) -> Error {
    use nix::errno::Errno as E;
    let errno = match E::from_raw(error.raw_os_error().unwrap_or(0)) {
        E::ENOENT => return Error::NotFound,
        E::EEXIST => return Error::Exists,
        E::ENOTDIR => return Error::NotDirectory,
        E::EISDIR => return Error::IsDirectory,
        E::ENOTEMPTY => return Error::NotEmpty,
        E::ENAMETOOLONG => return Error::NameTooLong,
        E::EACCES => return Error::Denied,
        E::EPERM => return Error::NotPermitted,
        E::ENOSPC => Errno::NoSpc,
        E::EDQUOT => Errno::Dquot,
        E::EROFS => Errno::RoFs,
        E::EINVAL => Errno::Inval,
        E::EFBIG => Errno::FBig,
        E::EBUSY => Errno::Busy,
        E::E2BIG => Errno::TooBig,
        E::ERANGE => Errno::Range,
        _ => Errno::Io,
    };
    tracing::debug!(%error, path = %what.display(), "a local file");
    Error::Elsewhere(errno)
}
