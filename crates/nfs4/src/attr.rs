//! Attributes (`fattr4`, RFC 8881 §5, RFC 7862 §12, RFC 8276 §8.2, RFC 8275 §4): numbers 0 to 82.
//!
//! On the wire a set of attributes is a bitmap and a byte string ([`Fattr4`]); [`Attrs`] is the same with one
//! typed, optional field for each attribute.

use crate::error::Nfs4Error;
use crate::types::{Bitmap4, Fsid4, NfsFh4, NfsFtype4, Nfstime4, Settime4, Specdata4};
use crate::xdr::{self, DecodeError, List, Opaque, Pack, Reader, Result, Writer};

xdr_struct! {
    /// `fattr4`: which attributes, and their values one after the other in the order of their numbers.
    #[derive(Default)]
    pub struct Fattr4 {
        /// The attributes' numbers.
        pub attrmask: Bitmap4,
        /// Their values.
        pub attr_vals: Opaque,
    }
    /// `nfsace4`: one entry of an access control list (RFC 8881 §6.2.1).
    pub struct Nfsace4 {
        /// Allow, deny, audit, alarm.
        pub acetype: u32,
        /// Inheritance.
        pub flag: u32,
        /// Rights.
        pub access_mask: u32,
        /// Whom it concerns.
        pub who: Opaque,
    }
    /// `nfsacl41` (RFC 8881 §6.2.2).
    pub struct Nfsacl41 {
        /// Inheritance of the whole list.
        pub na41_flag: u32,
        /// The entries.
        pub na41_aces: List<Nfsace4>,
    }
    /// `fs_location4` (RFC 8881 §11.16).
    pub struct FsLocation4 {
        /// Host names or addresses.
        pub server: List<Opaque>,
        /// Path on that server.
        pub rootpath: List<Opaque>,
    }
    /// `fs_locations4` (RFC 8881 §11.16).
    pub struct FsLocations4 {
        /// Where the file system is here.
        pub fs_root: List<Opaque>,
        /// Where else it is.
        pub locations: List<FsLocation4>,
    }
    /// `change_policy4` (RFC 8881 §5.11.1).
    #[derive(Copy)]
    pub struct ChangePolicy4 {
        /// Major part.
        pub cp_major: u64,
        /// Minor part.
        pub cp_minor: u64,
    }
    /// `fs4_status` (RFC 8881 §11.18).
    pub struct Fs4Status {
        /// Whether the file system is absent.
        pub fss_absent: bool,
        /// Kind of copy.
        pub fss_type: u32,
        /// Where it comes from.
        pub fss_source: Opaque,
        /// Which state of it.
        pub fss_current: Opaque,
        /// How old it is, in seconds.
        pub fss_age: i32,
        /// Its version.
        pub fss_version: Nfstime4,
    }
    /// `layouthint4` (RFC 8881 §3.3.19).
    pub struct Layouthint4 {
        /// Layout type.
        pub loh_type: u32,
        /// The hint.
        pub loh_body: Opaque,
    }
    /// `fs_locations_server4` (RFC 8881 §11.17.1).
    pub struct FsLocationsServer4 {
        /// How current it is.
        pub fls_currency: i32,
        /// Properties.
        pub fls_info: Opaque,
        /// Host.
        pub fls_server: Opaque,
    }
    /// `fs_locations_item4` (RFC 8881 §11.17.2).
    pub struct FsLocationsItem4 {
        /// Servers.
        pub fli_entries: List<FsLocationsServer4>,
        /// Path on them.
        pub fli_rootpath: List<Opaque>,
    }
    /// `fs_locations_info4` (RFC 8881 §11.17.3).
    pub struct FsLocationsInfo4 {
        /// Flags.
        pub fli_flags: u32,
        /// How long it is valid, in seconds.
        pub fli_valid_for: i32,
        /// Where the file system is here.
        pub fli_fs_root: List<Opaque>,
        /// Where else it is.
        pub fli_items: List<FsLocationsItem4>,
    }
    /// `threshold_item4` (RFC 7862 is silent; RFC 8881 §3.3.21).
    pub struct ThresholdItem4 {
        /// Layout type.
        pub thi_layout_type: u32,
        /// Which hints are set.
        pub thi_hintset: Bitmap4,
        /// The hints.
        pub thi_hintlist: Opaque,
    }
    /// `retention_get4` (RFC 8881 §5.13).
    pub struct RetentionGet4 {
        /// Seconds.
        pub rg_duration: u64,
        /// Start, when it has begun: none or one.
        pub rg_begin_time: List<Nfstime4>,
    }
    /// `retention_set4` (RFC 8881 §5.13).
    pub struct RetentionSet4 {
        /// Whether retention starts.
        pub rs_enable: bool,
        /// Seconds: none or one.
        pub rs_duration: List<u64>,
    }
    /// `mode_masked4` (RFC 8881 §6.2.5).
    #[derive(Copy)]
    pub struct ModeMasked4 {
        /// Bits to set.
        pub mm_value_to_set: u32,
        /// Which bits to change.
        pub mm_mask_bits: u32,
    }
    /// `sec_label4` (RFC 7862 §12.2.4).
    pub struct SecLabel4 {
        /// Label format.
        pub slai_lfs: u32,
        /// Policy identifier.
        pub slai_pi: u32,
        /// The label.
        pub slai_data: Opaque,
    }
    /// `mode_umask4` (RFC 8275 §4).
    #[derive(Copy)]
    pub struct ModeUmask4 {
        /// The mode asked for.
        pub mu_mode: u32,
        /// The creator's umask.
        pub mu_umask: u32,
    }
}

xdr_enum! {
    /// `change_attr_type4` (RFC 7862 §12.2.3): what may be concluded from the change attribute.
    pub enum ChangeAttrType4 {
        MonotonicIncr = 0, VersionCounter = 1, VersionCounterNopnfs = 2, TimeMetadata = 3, Undefined = 4,
    }
}

/// `rdattr_error`: a status inside an entry; 0 is success.
type RdattrError = u32;

macro_rules! attributes {
    ($($number:literal $field:ident $const:ident : $ty:ty),* $(,)?) => {
        /// Attribute numbers.
        pub mod number {
            $(#[doc = concat!("Attribute ", stringify!($number), ".")] pub const $const: u32 = $number;)*
        }

        /// A set of attributes, one optional field each, in the order of their numbers.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        #[cfg_attr(test, derive(arbitrary::Arbitrary))]
        pub struct Attrs {
            $(#[doc = concat!("Attribute ", stringify!($number), ".")] pub $field: Option<$ty>,)*
        }

        impl Attrs {
            /// Which attributes are there.
            pub fn mask(&self) -> Bitmap4 {
                let mut mask = Bitmap4::EMPTY;
                $(if self.$field.is_some() { mask = mask.with($number); })*
                mask
            }

            /// As it stands on the wire.
            pub fn to_fattr4(&self) -> Result<Fattr4> {
                let mut out = Writer::new();
                $(if let Some(value) = &self.$field { Pack::<Writer>::pack(value, &mut out)?; })*
                Ok(Fattr4 { attrmask: self.mask(), attr_vals: out.into_bytes().into() })
            }

            /// The attributes of `fattr`. Attributes above 82 stand behind all others and are left out.
            pub fn from_fattr4(fattr: &Fattr4) -> std::result::Result<Self, DecodeError> {
                let mut input = Reader::new(fattr.attr_vals.0.clone());
                let mut attrs = Self::default();
                $(if fattr.attrmask.contains($number) {
                    attrs.$field = Some(xdr::decode(&mut input)?);
                })*
                let unknown = fattr.attrmask.iter().any(|number| number > LAST);
                if input.remaining() > 0 && !unknown {
                    return Err(DecodeError {
                        what: "fattr4",
                        why: format!("{} bytes are left over", input.remaining()),
                    });
                }
                Ok(attrs)
            }

            /// The attributes of `self` that are in `mask`.
            #[must_use]
            pub fn restricted_to(mut self, mask: Bitmap4) -> Self {
                $(if !mask.contains($number) { self.$field = None; })*
                self
            }
        }
    };
}

/// The highest attribute number with a name.
pub const LAST: u32 = number::XATTR_SUPPORT;

attributes! {
    0 supported_attrs SUPPORTED_ATTRS: Bitmap4,
    1 type_ TYPE: NfsFtype4,
    2 fh_expire_type FH_EXPIRE_TYPE: u32,
    3 change CHANGE: u64,
    4 size SIZE: u64,
    5 link_support LINK_SUPPORT: bool,
    6 symlink_support SYMLINK_SUPPORT: bool,
    7 named_attr NAMED_ATTR: bool,
    8 fsid FSID: Fsid4,
    9 unique_handles UNIQUE_HANDLES: bool,
    10 lease_time LEASE_TIME: u32,
    11 rdattr_error RDATTR_ERROR: RdattrError,
    12 acl ACL: List<Nfsace4>,
    13 aclsupport ACLSUPPORT: u32,
    14 archive ARCHIVE: bool,
    15 cansettime CANSETTIME: bool,
    16 case_insensitive CASE_INSENSITIVE: bool,
    17 case_preserving CASE_PRESERVING: bool,
    18 chown_restricted CHOWN_RESTRICTED: bool,
    19 filehandle FILEHANDLE: NfsFh4,
    20 fileid FILEID: u64,
    21 files_avail FILES_AVAIL: u64,
    22 files_free FILES_FREE: u64,
    23 files_total FILES_TOTAL: u64,
    24 fs_locations FS_LOCATIONS: FsLocations4,
    25 hidden HIDDEN: bool,
    26 homogeneous HOMOGENEOUS: bool,
    27 maxfilesize MAXFILESIZE: u64,
    28 maxlink MAXLINK: u32,
    29 maxname MAXNAME: u32,
    30 maxread MAXREAD: u64,
    31 maxwrite MAXWRITE: u64,
    32 mimetype MIMETYPE: Opaque,
    33 mode MODE: u32,
    34 no_trunc NO_TRUNC: bool,
    35 numlinks NUMLINKS: u32,
    36 owner OWNER: Opaque,
    37 owner_group OWNER_GROUP: Opaque,
    38 quota_avail_hard QUOTA_AVAIL_HARD: u64,
    39 quota_avail_soft QUOTA_AVAIL_SOFT: u64,
    40 quota_used QUOTA_USED: u64,
    41 rawdev RAWDEV: Specdata4,
    42 space_avail SPACE_AVAIL: u64,
    43 space_free SPACE_FREE: u64,
    44 space_total SPACE_TOTAL: u64,
    45 space_used SPACE_USED: u64,
    46 system SYSTEM: bool,
    47 time_access TIME_ACCESS: Nfstime4,
    48 time_access_set TIME_ACCESS_SET: Settime4,
    49 time_backup TIME_BACKUP: Nfstime4,
    50 time_create TIME_CREATE: Nfstime4,
    51 time_delta TIME_DELTA: Nfstime4,
    52 time_metadata TIME_METADATA: Nfstime4,
    53 time_modify TIME_MODIFY: Nfstime4,
    54 time_modify_set TIME_MODIFY_SET: Settime4,
    55 mounted_on_fileid MOUNTED_ON_FILEID: u64,
    56 dir_notif_delay DIR_NOTIF_DELAY: Nfstime4,
    57 dirent_notif_delay DIRENT_NOTIF_DELAY: Nfstime4,
    58 dacl DACL: Nfsacl41,
    59 sacl SACL: Nfsacl41,
    60 change_policy CHANGE_POLICY: ChangePolicy4,
    61 fs_status FS_STATUS: Fs4Status,
    62 fs_layout_type FS_LAYOUT_TYPE: List<u32>,
    63 layout_hint LAYOUT_HINT: Layouthint4,
    64 layout_type LAYOUT_TYPE: List<u32>,
    65 layout_blksize LAYOUT_BLKSIZE: u32,
    66 layout_alignment LAYOUT_ALIGNMENT: u32,
    67 fs_locations_info FS_LOCATIONS_INFO: FsLocationsInfo4,
    68 mdsthreshold MDSTHRESHOLD: List<ThresholdItem4>,
    69 retention_get RETENTION_GET: RetentionGet4,
    70 retention_set RETENTION_SET: RetentionSet4,
    71 retentevt_get RETENTEVT_GET: RetentionGet4,
    72 retentevt_set RETENTEVT_SET: RetentionSet4,
    73 retention_hold RETENTION_HOLD: u64,
    74 mode_set_masked MODE_SET_MASKED: ModeMasked4,
    75 suppattr_exclcreat SUPPATTR_EXCLCREAT: Bitmap4,
    76 fs_charset_cap FS_CHARSET_CAP: u32,
    77 clone_blksize CLONE_BLKSIZE: u32,
    78 space_freed SPACE_FREED: u64,
    79 change_attr_type CHANGE_ATTR_TYPE: ChangeAttrType4,
    80 sec_label SEC_LABEL: SecLabel4,
    81 mode_umask MODE_UMASK: ModeUmask4,
    82 xattr_support XATTR_SUPPORT: bool,
}

impl Attrs {
    /// The error that a READDIR entry carries instead of attributes (RFC 8881 §5.8.1.12).
    pub fn entry_error(&self) -> Option<Nfs4Error> {
        self.rdattr_error.and_then(Nfs4Error::from_status)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arbitrary::{Arbitrary, Unstructured};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_set_of_attributes_survives_the_wire(seed in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let attrs = Attrs::arbitrary(&mut Unstructured::new(&seed)).unwrap();
            let fattr = attrs.to_fattr4().unwrap();
            prop_assert_eq!(fattr.attrmask, attrs.mask());
            prop_assert_eq!(Attrs::from_fattr4(&fattr).unwrap(), attrs);
        }

        #[test]
        fn any_attribute_bytes_decode_or_fail(mask in any::<[u32; 4]>(), vals in proptest::collection::vec(any::<u8>(), 0..600)) {
            let attrmask = (0..128).filter(|bit| mask[bit / 32] >> (bit % 32) & 1 == 1).map(|bit| bit as u32).collect();
            let _ = Attrs::from_fattr4(&Fattr4 { attrmask, attr_vals: vals.into() });
        }
    }

    #[test]
    fn attributes_with_unknown_numbers_are_left_out() {
        let mut fattr = Attrs { size: Some(5), ..Attrs::default() }.to_fattr4().unwrap();
        fattr.attrmask = fattr.attrmask.with(100);
        fattr.attr_vals = [&fattr.attr_vals[..], &[1, 2, 3, 4]].concat().into();
        assert_eq!(Attrs::from_fattr4(&fattr).unwrap().size, Some(5));
    }

    #[test]
    fn attributes_with_bytes_left_over_are_refused() {
        let mut fattr = Attrs { size: Some(5), ..Attrs::default() }.to_fattr4().unwrap();
        fattr.attr_vals = [&fattr.attr_vals[..], &[1, 2, 3, 4]].concat().into();
        assert!(Attrs::from_fattr4(&fattr).is_err());
    }
}
