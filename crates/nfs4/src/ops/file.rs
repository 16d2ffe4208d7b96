//! Operations on a file and its attributes: ACCESS, COMMIT, GETATTR, SETATTR, READ, WRITE, VERIFY
//! (RFC 8881 §18.1–18.32).

use crate::attr::Fattr4;
use crate::error::{Nfs4Error, Status};
use crate::types::{Bitmap4, NfsFh4, StableHow4, Stateid4, Verifier4};
use crate::xdr::{Opaque, Pack, Reader, Result, Unpack, Writer};

/// Bits of ACCESS (RFC 8881 §18.1, RFC 8276 §8.5).
pub mod access {
    /// Read data or list a directory.
    pub const READ: u32 = 0x01;
    /// Look up a name in a directory.
    pub const LOOKUP: u32 = 0x02;
    /// Rewrite existing data or change entries.
    pub const MODIFY: u32 = 0x04;
    /// Write new data or add entries.
    pub const EXTEND: u32 = 0x08;
    /// Remove an entry.
    pub const DELETE: u32 = 0x10;
    /// Execute a file.
    pub const EXECUTE: u32 = 0x20;
    /// Read extended attributes.
    pub const XAREAD: u32 = 0x40;
    /// Write extended attributes.
    pub const XAWRITE: u32 = 0x80;
    /// List extended attributes.
    pub const XALIST: u32 = 0x100;
}

xdr_struct! {
    /// ACCESS arguments.
    pub struct Access4args {
        /// Rights asked about: bits of [`access`].
        pub access: u32,
    }
    /// ACCESS result.
    pub struct Access4resok {
        /// Rights that the server can tell about.
        pub supported: u32,
        /// Rights that the caller has.
        pub access: u32,
    }
    /// COMMIT arguments.
    pub struct Commit4args {
        /// First byte.
        pub offset: u64,
        /// Number of bytes; 0 means to the end of the file.
        pub count: u32,
    }
    /// COMMIT result.
    pub struct Commit4resok {
        /// Differs from the one of a WRITE whose data may be lost.
        pub writeverf: Verifier4,
    }
    /// GETATTR arguments.
    pub struct Getattr4args {
        /// Attributes asked for.
        pub attr_request: Bitmap4,
    }
    /// GETATTR result.
    pub struct Getattr4resok {
        /// The attributes.
        pub obj_attributes: Fattr4,
    }
    /// GETFH result.
    pub struct Getfh4resok {
        /// The current file handle.
        pub object: NfsFh4,
    }
    /// PUTFH arguments.
    pub struct Putfh4args {
        /// Becomes the current file handle.
        pub object: NfsFh4,
    }
    /// READ arguments; READ_BYPASS has the same.
    pub struct Read4args {
        /// An open, a lock, or a special stateid.
        pub stateid: Stateid4,
        /// First byte.
        pub offset: u64,
        /// Most bytes wanted.
        pub count: u32,
    }
    /// READ result.
    pub struct Read4resok {
        /// Whether the read reached the end of the file.
        pub eof: bool,
        /// The bytes: a slice of the reply's record.
        pub data: Opaque,
    }
    /// READLINK result.
    pub struct Readlink4resok {
        /// The link's target.
        pub link: Opaque,
    }
    /// SETATTR arguments.
    pub struct Setattr4args {
        /// An open for writing when the size is set, else the anonymous stateid.
        pub stateid: Stateid4,
        /// The attributes to set.
        pub obj_attributes: Fattr4,
    }
    /// SETATTR result: comes with errors as well.
    pub struct Setattr4res {
        /// Whether everything was set.
        pub status: Status,
        /// What was set.
        pub attrsset: Bitmap4,
    }
    /// VERIFY and NVERIFY arguments.
    pub struct Verify4args {
        /// Attributes to compare with.
        pub obj_attributes: Fattr4,
    }
    /// WRITE result.
    pub struct Write4resok {
        /// Bytes written: may be fewer than asked.
        pub count: u32,
        /// How safe they are: at least as safe as asked.
        pub committed: StableHow4,
        /// Changes when unstable data may have been lost.
        pub writeverf: Verifier4,
    }
}

/// WRITE arguments. The payload is a list of pieces that are written one after the other without being joined.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Write4args {
    /// An open for writing, a lock, or a special stateid.
    pub stateid: Stateid4,
    /// First byte.
    pub offset: u64,
    /// How safe the bytes must be when the call returns.
    pub stable: StableHow4,
    /// The bytes, in pieces; comes off the wire as one.
    pub data: Vec<bytes::Bytes>,
}

impl Write4args {
    /// Number of bytes to write.
    pub fn len(&self) -> usize {
        self.data.iter().map(bytes::Bytes::len).sum()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Pack<Writer> for Write4args {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        let before = out.len();
        self.stateid.pack(out)?;
        self.offset.pack(out)?;
        self.stable.pack(out)?;
        let len = u32::try_from(self.len()).map_err(|_| crate::xdr::Error::invalidlen(self.len()))?;
        len.pack(out)?;
        out.put_pieces(&self.data);
        Ok(out.len() - before)
    }
}

impl Unpack<Reader> for Write4args {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        let before = input.remaining();
        let args = Self {
            stateid: input.get()?,
            offset: input.get()?,
            stable: input.get()?,
            data: vec![input.get::<Opaque>()?.0],
        };
        Ok((args, before - input.remaining()))
    }
}

#[cfg(test)]
impl<'a> arbitrary::Arbitrary<'a> for Write4args {
    fn arbitrary(u: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(Self {
            stateid: u.arbitrary()?,
            offset: u.arbitrary()?,
            stable: u.arbitrary()?,
            data: vec![Vec::<u8>::arbitrary(u)?.into()],
        })
    }
}

impl Setattr4res {
    /// The status as a result.
    pub fn into_result(self) -> std::result::Result<Bitmap4, Nfs4Error> {
        self.status.map(|()| self.attrsset)
    }
}
