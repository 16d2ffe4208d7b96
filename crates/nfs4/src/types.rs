//! Basic types of NFSv4 (RFC 8881 §3.2, §3.3) that many operations share.

use crate::xdr::{Error, Opaque, Pack, Reader, Result, Unpack, Writer};

/// The longest file handle, in bytes (RFC 8881 §3.1, `NFS4_FHSIZE`).
pub const NFS4_FHSIZE: usize = 128;
/// The longest opaque owner or client id, in bytes (`NFS4_OPAQUE_LIMIT`).
pub const NFS4_OPAQUE_LIMIT: usize = 1024;

xdr_fixed! {
    /// `verifier4`: eight bytes that change when what they stand for does.
    pub struct Verifier4([u8; 8]);
    /// `sessionid4`.
    pub struct Sessionid4([u8; 16]);
    /// The server's part of a [`Stateid4`].
    pub struct StateidOther([u8; 12]);
}

/// `nfs_fh4`: the server's name for a file, at most [`NFS4_FHSIZE`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct NfsFh4(pub Opaque);

impl Pack<Writer> for NfsFh4 {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        if self.0.len() > NFS4_FHSIZE {
            return Err(Error::invalidlen(self.0.len()));
        }
        self.0.pack(out)
    }
}

impl Unpack<Reader> for NfsFh4 {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        let (handle, size) = Opaque::unpack(input)?;
        if handle.len() > NFS4_FHSIZE {
            return Err(Error::invalidlen(handle.len()));
        }
        Ok((Self(handle), size))
    }
}

#[cfg(test)]
impl<'a> arbitrary::Arbitrary<'a> for NfsFh4 {
    fn arbitrary(u: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        let mut bytes: Vec<u8> = u.arbitrary()?;
        bytes.truncate(NFS4_FHSIZE);
        Ok(Self(bytes.into()))
    }
}

xdr_struct! {
    /// `stateid4`: names an open, a lock, a delegation or a layout (RFC 8881 §8.2).
    #[derive(Copy, PartialOrd, Ord)]
    pub struct Stateid4 {
        /// Counts changes of the state; 0 means the most recent.
        pub seqid: u32,
        /// The state itself.
        pub other: StateidOther,
    }
    /// `change_info4`: a directory's change attribute around an operation (RFC 8881 §3.3.3).
    #[derive(Copy, Default)]
    pub struct ChangeInfo4 {
        /// Whether nothing came between `before`, the operation and `after`.
        pub atomic: bool,
        /// The change attribute before.
        pub before: u64,
        /// The change attribute after.
        pub after: u64,
    }
    /// `nfstime4`: seconds and nanoseconds since 1970.
    #[derive(Copy, Default, PartialOrd, Ord)]
    pub struct Nfstime4 {
        /// Seconds since 1970-01-01T00:00:00Z, negative before.
        pub seconds: i64,
        /// Nanoseconds, 0 to 999,999,999.
        pub nseconds: u32,
    }
    /// `fsid4`.
    #[derive(Copy, Default)]
    pub struct Fsid4 {
        /// Major part.
        pub major: u64,
        /// Minor part.
        pub minor: u64,
    }
    /// `specdata4`: a device number.
    #[derive(Copy, Default)]
    pub struct Specdata4 {
        /// Major device number.
        pub specdata1: u32,
        /// Minor device number.
        pub specdata2: u32,
    }
    /// `state_owner4`: who holds an open or a lock.
    pub struct StateOwner4 {
        /// Client id; a server of NFSv4.1 ignores it and takes the session's (RFC 8881 §18.16.3).
        pub clientid: u64,
        /// The owner, at most [`NFS4_OPAQUE_LIMIT`] bytes.
        pub owner: Opaque,
    }
    /// `nfs_impl_id4`: who made the software.
    pub struct NfsImplId4 {
        /// Domain name of the maker.
        pub nii_domain: Opaque,
        /// Name of the software.
        pub nii_name: Opaque,
        /// When it was built.
        pub nii_date: Nfstime4,
    }
    /// `netaddr4`: a universal address.
    pub struct Netaddr4 {
        /// `tcp`, `tcp6` …
        pub netid: Opaque,
        /// Address and port.
        pub addr: Opaque,
    }
}

impl Stateid4 {
    /// All zeros: no state (RFC 8881 §8.2.3).
    pub const ANONYMOUS: Self = Self { seqid: 0, other: StateidOther([0; 12]) };
    /// All ones: READ past locks (RFC 8881 §8.2.3).
    pub const READ_BYPASS: Self = Self { seqid: u32::MAX, other: StateidOther([0xff; 12]) };
    /// The state that an earlier operation of the same compound made (RFC 8881 §16.2.3.1.2).
    pub const CURRENT: Self = Self { seqid: 1, other: StateidOther([0; 12]) };
    /// Never valid (RFC 8881 §8.2.3).
    pub const INVALID: Self = Self { seqid: u32::MAX, other: StateidOther([0; 12]) };

    /// Whether it is one of the special stateids above.
    pub fn is_special(&self) -> bool {
        self.other.0 == [0; 12] || *self == Self::READ_BYPASS
    }
}

xdr_enum! {
    /// `nfs_ftype4`.
    pub enum NfsFtype4 {
        Reg = 1, Dir = 2, Blk = 3, Chr = 4, Lnk = 5, Sock = 6, Fifo = 7, AttrDir = 8, NamedAttr = 9,
    }
    /// `stable_how4`: how safe written bytes are (RFC 8881 §18.32).
    pub enum StableHow4 { Unstable4 = 0, DataSync4 = 1, FileSync4 = 2 }
    /// `time_how4`.
    pub enum TimeHow4 { SetToServerTime4 = 0, SetToClientTime4 = 1 }
}

xdr_union! {
    /// `settime4`: a time stamp to set.
    pub enum Settime4 {
        /// The server's clock.
        0 => ServerTime,
        /// This time.
        1 => ClientTime(Nfstime4),
    }
}

/// `bitmap4`: a set of small numbers: attribute numbers, operation numbers. Holds numbers below 128; higher ones
/// that a peer sends are dropped (no attribute or operation of NFSv4.2 is that high).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Bitmap4 {
    words: [u32; 4],
}

impl Bitmap4 {
    /// The empty set.
    pub const EMPTY: Self = Self { words: [0; 4] };

    /// The set of these numbers; numbers of 128 and more are ignored.
    pub const fn of(bits: &[u32]) -> Self {
        let mut set = Self::EMPTY;
        let mut i = 0;
        while i < bits.len() {
            set = set.with(bits[i]);
            i += 1;
        }
        set
    }

    /// This set and one number more.
    #[must_use]
    pub const fn with(mut self, bit: u32) -> Self {
        if bit < 128 {
            self.words[(bit / 32) as usize] |= 1 << (bit % 32);
        }
        self
    }

    /// This set without one number.
    #[must_use]
    pub const fn without(mut self, bit: u32) -> Self {
        if bit < 128 {
            self.words[(bit / 32) as usize] &= !(1 << (bit % 32));
        }
        self
    }

    /// Whether `bit` is in the set.
    pub const fn contains(&self, bit: u32) -> bool {
        bit < 128 && self.words[(bit / 32) as usize] & (1 << (bit % 32)) != 0
    }

    /// What both sets hold.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self { words: std::array::from_fn(|i| self.words[i] & other.words[i]) }
    }

    /// What either set holds.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self { words: std::array::from_fn(|i| self.words[i] | other.words[i]) }
    }

    /// What this set holds and the other does not.
    #[must_use]
    pub fn difference(self, other: Self) -> Self {
        Self { words: std::array::from_fn(|i| self.words[i] & !other.words[i]) }
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.words == [0; 4]
    }

    /// The numbers in rising order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<> {
        let set = *self;
        (0..128).filter(move |bit| set.contains(*bit))
    }
}

impl std::fmt::Debug for Bitmap4 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<u32> for Bitmap4 {
    fn from_iter<I: IntoIterator<Item = u32>>(bits: I) -> Self {
        bits.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl Pack<Writer> for Bitmap4 {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        let len = self.words.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
        let mut size = (len as u32).pack(out)?;
        for word in &self.words[..len] {
            size += word.pack(out)?;
        }
        Ok(size)
    }
}

impl Unpack<Reader> for Bitmap4 {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        let len = input.count(4)?;
        let mut words = [0; 4];
        for i in 0..len {
            let word = input.get()?;
            if let Some(slot) = words.get_mut(i) {
                *slot = word;
            }
        }
        Ok((Self { words }, 4 + 4 * len))
    }
}

#[cfg(test)]
impl<'a> arbitrary::Arbitrary<'a> for Bitmap4 {
    fn arbitrary(u: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(Self { words: u.arbitrary()? })
    }
}
