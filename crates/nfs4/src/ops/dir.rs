//! Operations on directories and names: CREATE, LINK, LOOKUP, READDIR, REMOVE, RENAME, SECINFO.

use crate::attr::Fattr4;
use crate::types::{Bitmap4, ChangeInfo4, NfsFtype4, Specdata4, Verifier4};
use crate::xdr::{Error, List, Opaque, Pack, Reader, Result, Unpack, Writer};

xdr_struct! {
    /// CREATE arguments (RFC 8881 §18.4).
    pub struct Create4args {
        /// What to create.
        pub objtype: Createtype4,
        /// Its name.
        pub objname: Opaque,
        /// Its first attributes.
        pub createattrs: Fattr4,
    }
    /// CREATE result.
    pub struct Create4resok {
        /// The directory's change.
        pub cinfo: ChangeInfo4,
        /// Attributes that were set.
        pub attrset: Bitmap4,
    }
    /// LINK arguments (RFC 8881 §18.9): saved file handle is the file, current one the directory.
    pub struct Link4args {
        /// The new name.
        pub newname: Opaque,
    }
    /// LINK result.
    pub struct Link4resok {
        /// The directory's change.
        pub cinfo: ChangeInfo4,
    }
    /// LOOKUP arguments (RFC 8881 §18.13).
    pub struct Lookup4args {
        /// The name.
        pub objname: Opaque,
    }
    /// OPENATTR arguments (RFC 8881 §18.17).
    pub struct Openattr4args {
        /// Whether to create the attribute directory.
        pub createdir: bool,
    }
    /// READDIR arguments (RFC 8881 §18.23).
    pub struct Readdir4args {
        /// Where to go on: 0 is the start.
        pub cookie: u64,
        /// From the reply that brought the cookie; zeros at the start.
        pub cookieverf: Verifier4,
        /// Hint: bytes of names and cookies wanted.
        pub dircount: u32,
        /// Most bytes of the whole result.
        pub maxcount: u32,
        /// Attributes of each entry.
        pub attr_request: Bitmap4,
    }
    /// READDIR result.
    pub struct Readdir4resok {
        /// To be sent along with the next cookie.
        pub cookieverf: Verifier4,
        /// The entries.
        pub reply: Dirlist4,
    }
    /// `entry4` without its link to the next one.
    pub struct Entry4 {
        /// Position behind this entry.
        pub cookie: u64,
        /// The name.
        pub name: Opaque,
        /// The attributes.
        pub attrs: Fattr4,
    }
    /// REMOVE arguments (RFC 8881 §18.25).
    pub struct Remove4args {
        /// The name.
        pub target: Opaque,
    }
    /// REMOVE result.
    pub struct Remove4resok {
        /// The directory's change.
        pub cinfo: ChangeInfo4,
    }
    /// RENAME arguments (RFC 8881 §18.26): saved file handle is the old directory, current one the new.
    pub struct Rename4args {
        /// The old name.
        pub oldname: Opaque,
        /// The new name.
        pub newname: Opaque,
    }
    /// RENAME result.
    pub struct Rename4resok {
        /// The old directory's change.
        pub source_cinfo: ChangeInfo4,
        /// The new directory's change.
        pub target_cinfo: ChangeInfo4,
    }
    /// SECINFO arguments (RFC 8881 §18.29).
    pub struct Secinfo4args {
        /// The name.
        pub name: Opaque,
    }
    /// `rpcsec_gss_info`.
    pub struct RpcsecGssInfo {
        /// Mechanism.
        pub oid: Opaque,
        /// Quality of protection.
        pub qop: u32,
        /// Service.
        pub service: u32,
    }
}

xdr_enum! {
    /// SECINFO_NO_NAME arguments (RFC 8881 §18.45).
    pub enum SecinfoStyle4 { CurrentFh = 0, Parent = 1 }
}

/// `createtype4`: what CREATE makes. A kind that brings nothing along may be any number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Createtype4 {
    /// A symbolic link to this target.
    Lnk(Opaque),
    /// A block device.
    Blk(Specdata4),
    /// A character device.
    Chr(Specdata4),
    /// Anything else: directory, socket, FIFO.
    Other(NfsFtype4),
}

impl Createtype4 {
    /// A directory.
    pub const DIR: Self = Self::Other(NfsFtype4::Dir);

    /// The type of what is made.
    pub fn ftype(&self) -> NfsFtype4 {
        match self {
            Self::Lnk(_) => NfsFtype4::Lnk,
            Self::Blk(_) => NfsFtype4::Blk,
            Self::Chr(_) => NfsFtype4::Chr,
            Self::Other(other) => *other,
        }
    }
}

impl Pack<Writer> for Createtype4 {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        let size = self.ftype().pack(out)?;
        Ok(size
            + match self {
                Self::Lnk(target) => target.pack(out)?,
                Self::Blk(device) | Self::Chr(device) => device.pack(out)?,
                Self::Other(_) => 0,
            })
    }
}

impl Unpack<Reader> for Createtype4 {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        let before = input.remaining();
        let value = match input.get::<NfsFtype4>()? {
            NfsFtype4::Lnk => Self::Lnk(input.get()?),
            NfsFtype4::Blk => Self::Blk(input.get()?),
            NfsFtype4::Chr => Self::Chr(input.get()?),
            other => Self::Other(other),
        };
        Ok((value, before - input.remaining()))
    }
}

#[cfg(test)]
impl<'a> arbitrary::Arbitrary<'a> for Createtype4 {
    fn arbitrary(u: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match u.arbitrary()? {
            NfsFtype4::Lnk => Self::Lnk(u.arbitrary()?),
            NfsFtype4::Blk => Self::Blk(u.arbitrary()?),
            NfsFtype4::Chr => Self::Chr(u.arbitrary()?),
            other => Self::Other(other),
        })
    }
}

/// `dirlist4`: on the wire a linked list, read in a loop so that its length cannot exhaust the stack.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[cfg_attr(test, derive(arbitrary::Arbitrary))]
pub struct Dirlist4 {
    /// The entries, in the server's order.
    pub entries: Vec<Entry4>,
    /// Whether the directory has no more.
    pub eof: bool,
}

impl Pack<Writer> for Dirlist4 {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        let before = out.len();
        for entry in &self.entries {
            true.pack(out)?;
            entry.pack(out)?;
        }
        false.pack(out)?;
        self.eof.pack(out)?;
        Ok(out.len() - before)
    }
}

impl Unpack<Reader> for Dirlist4 {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        let before = input.remaining();
        let mut entries = Vec::new();
        while input.get::<bool>()? {
            entries.push(input.get()?);
        }
        let eof = input.get()?;
        Ok((Self { entries, eof }, before - input.remaining()))
    }
}

/// `secinfo4`: one way to authenticate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Secinfo4 {
    /// RPCSEC_GSS with its parameters.
    RpcsecGss(RpcsecGssInfo),
    /// Another flavor: 0 is AUTH_NONE, 1 is AUTH_SYS.
    Flavor(u32),
}

/// RPCSEC_GSS's flavor number.
const RPCSEC_GSS: u32 = 6;

impl Pack<Writer> for Secinfo4 {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        match self {
            Self::RpcsecGss(info) => Ok(RPCSEC_GSS.pack(out)? + info.pack(out)?),
            Self::Flavor(flavor) => flavor.pack(out),
        }
    }
}

impl Unpack<Reader> for Secinfo4 {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        match input.get::<u32>()? {
            RPCSEC_GSS => RpcsecGssInfo::unpack(input).map(|(info, size)| (Self::RpcsecGss(info), 4 + size)),
            flavor => Ok((Self::Flavor(flavor), 4)),
        }
    }
}

#[cfg(test)]
impl<'a> arbitrary::Arbitrary<'a> for Secinfo4 {
    fn arbitrary(u: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match u.arbitrary()? {
            RPCSEC_GSS => Self::RpcsecGss(u.arbitrary()?),
            flavor => Self::Flavor(flavor),
        })
    }
}

/// SECINFO and SECINFO_NO_NAME result: the flavors, best first.
pub type Secinfo4resok = List<Secinfo4>;

impl Dirlist4 {
    /// Bytes that one entry takes on the wire, its link included.
    pub fn entry_size(entry: &Entry4) -> Result<usize> {
        let mut out = Writer::new();
        entry.pack(&mut out).map(|size| size + 4).map_err(|_| Error::invalidlen(0))
    }
}
