//! What the client's methods are told and what they bring back.

use bytes::Bytes;
use nfs4::ops::open::share;

use crate::attr::{Access, ChangeInfo, FileAttr, Handle, SetAttr};
use crate::error::Result;
use crate::state::OpenFile;

/// What LOOKUP brings: the directory as it was before, and the entry if there is one.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// The directory's attributes: its `change` says for which state of it the answer holds.
    pub dir: FileAttr,
    /// The entry; `None` when the name does not exist.
    pub entry: Option<Found>,
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its handle.
    pub handle: Handle,
    /// Its attributes.
    pub attr: FileAttr,
    /// What the caller may do with it, where the server said so.
    pub rights: Option<Access>,
    /// The beginning of its listing, where that was asked for and it is a directory that the caller may read.
    pub listing: Option<DirPage>,
    /// Its first bytes, where they were asked for and it is a file that the caller may read.
    pub data: Option<ReadData>,
}

/// What a LOOKUP shall bring along, besides attributes and rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Along {
    /// Nothing.
    Nothing,
    /// Of a directory, at most so many bytes of its listing.
    Listing(u32),
    /// Of a file, at most so many bytes from its beginning.
    Start(u32),
}

/// One entry of a listing.
#[derive(Debug, Clone)]
pub struct DirEntry {
    /// Position behind this entry.
    pub cookie: u64,
    /// The name.
    pub name: Bytes,
    /// The file; missing when the server could not tell.
    pub file: Option<(Handle, FileAttr)>,
}

/// A page of a listing.
#[derive(Debug, Clone)]
pub struct DirPage {
    /// The directory's attributes just before the page was made.
    pub dir: FileAttr,
    /// What the caller may do with the directory, where the server said so.
    pub rights: Option<Access>,
    /// The entries, without `.` and `..`.
    pub entries: Vec<DirEntry>,
    /// To be sent along with the next cookie.
    pub verifier: [u8; 8],
    /// Whether there are no more.
    pub eof: bool,
}

/// For what a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpenAccess {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Both.
    Both,
}

impl OpenAccess {
    pub(crate) fn to_wire(self) -> u32 {
        match self {
            Self::Read => share::ACCESS_READ,
            Self::Write => share::ACCESS_WRITE,
            Self::Both => share::ACCESS_BOTH,
        }
    }
}

/// How a file that does not exist is made by OPEN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// An existing file will do; the attributes are for a new one. A size of 0 truncates an existing one.
    Unchecked(SetAttr),
    /// The file must be new (`O_EXCL`); safe to repeat when the answer gets lost.
    Exclusive(SetAttr),
}

/// How OPEN shall open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenHow {
    /// For what.
    pub access: OpenAccess,
    /// Whether and how to create.
    pub create: Option<Create>,
    /// Whether to cut an existing file to nothing (`O_TRUNC`).
    pub truncate: bool,
}

/// An opened file.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Its state at the server.
    pub file: OpenFile,
    /// Its attributes after the open.
    pub attr: FileAttr,
    /// The directory's change; `None` for an open without a name.
    pub dir_change: Option<ChangeInfo>,
    /// What the opener may do, where the server was asked.
    pub rights: Option<Access>,
    /// Its first bytes, where they were asked for and the server gave them along.
    pub data: Option<ReadData>,
    /// What the name stands for, where one was to be looked up along with the open: this file or another.
    pub named: Option<Handle>,
}

/// What became of a new file and its first bytes.
#[derive(Debug)]
pub struct Born {
    /// The file, open, with its attributes after everything that went well.
    pub opened: Opened,
    /// How many bytes were written and how safe they are; `None`: there were none.
    pub written: Option<Result<(u32, Stability)>>,
    /// Whether the attributes were set; `None`: there were none, or something before has failed.
    pub set: Option<Result<()>>,
}

/// What was made by CREATE.
#[derive(Debug, Clone)]
pub struct Created {
    /// Its handle.
    pub handle: Handle,
    /// Its attributes.
    pub attr: FileAttr,
    /// What its maker may do with it, where the server said so.
    pub rights: Option<Access>,
    /// The directory's change.
    pub dir_change: ChangeInfo,
}

/// What CREATE shall make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewNode {
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(Bytes),
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A block device: major and minor.
    BlockDevice(u32, u32),
    /// A character device: major and minor.
    CharDevice(u32, u32),
}

/// Bytes read.
#[derive(Debug, Clone)]
pub struct ReadData {
    /// The bytes: a slice of the reply's buffer.
    pub data: Bytes,
    /// Whether they reach the end of the file.
    pub eof: bool,
}

/// How safe written bytes are (RFC 8881 §18.32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stability {
    /// May be lost in a server restart until a COMMIT.
    Unstable,
    /// Data are on stable storage.
    DataSync,
    /// Data and attributes are on stable storage.
    FileSync,
}

/// What WRITE did.
#[derive(Debug)]
pub struct Written {
    /// Bytes written: may be fewer than asked, never 0 for a request that was not empty.
    pub count: u32,
    /// How safe they are.
    pub committed: Stability,
    /// Changes when unstable data may have been lost.
    pub verifier: [u8; 8],
    /// The file's attributes afterwards.
    pub attr: FileAttr,
    /// The attributes after those that were to be set along with it.
    pub set: Option<Result<FileAttr>>,
}

/// What COMMIT did.
#[derive(Debug)]
pub struct Committed {
    /// Other than that of a WRITE: what that one wrote may have been lost.
    pub verifier: [u8; 8],
    /// The file's attributes afterwards.
    pub attr: FileAttr,
    /// The attributes after those that were to be set along with it.
    pub set: Option<Result<FileAttr>>,
}

/// What SEEK looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SeekWhat {
    /// Data (`SEEK_DATA`).
    Data,
    /// A hole (`SEEK_HOLE`).
    Hole,
}

/// What COPY did.
#[derive(Debug, Clone, Copy)]
pub struct Copied {
    /// Bytes copied.
    pub count: u64,
    /// How safe they are.
    pub committed: Stability,
    /// Changes when unstable data may have been lost.
    pub verifier: [u8; 8],
    /// The target's attributes afterwards.
    pub attr: FileAttr,
}

/// Whether an extended attribute may or must exist before it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum XattrSet {
    /// Either.
    Either,
    /// It must not exist (`XATTR_CREATE`).
    Create,
    /// It must exist (`XATTR_REPLACE`).
    Replace,
}
