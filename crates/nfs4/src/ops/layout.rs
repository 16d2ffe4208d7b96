//! pNFS: device information and layouts (RFC 8881 §18.40–18.44, RFC 7862 §15.6, §15.7). Our client never asks for
//! a layout; the types are there so that every compound can be read.

use crate::error::Nfs4Error;
use crate::types::{Bitmap4, Nfstime4, Stateid4, Verifier4};
use crate::xdr::{List, Opaque, Pack, Reader, Result, Unpack, Writer};

xdr_fixed! {
    /// `deviceid4`.
    pub struct Deviceid4([u8; 16]);
}

xdr_struct! {
    /// `device_addr4`.
    pub struct DeviceAddr4 {
        /// Layout type.
        pub da_layout_type: u32,
        /// Its body.
        pub da_addr_body: Opaque,
    }
    /// GETDEVICEINFO arguments.
    pub struct Getdeviceinfo4args {
        /// The device.
        pub gdia_device_id: Deviceid4,
        /// Layout type.
        pub gdia_layout_type: u32,
        /// Most bytes.
        pub gdia_maxcount: u32,
        /// Events.
        pub gdia_notify_types: Bitmap4,
    }
    /// GETDEVICEINFO result.
    pub struct Getdeviceinfo4resok {
        /// The address.
        pub gdir_device_addr: DeviceAddr4,
        /// Events.
        pub gdir_notification: Bitmap4,
    }
    /// GETDEVICELIST arguments.
    pub struct Getdevicelist4args {
        /// Layout type.
        pub gdla_layout_type: u32,
        /// Most devices.
        pub gdla_maxdevices: u32,
        /// Where to go on.
        pub gdla_cookie: u64,
        /// Of the cookie.
        pub gdla_cookieverf: Verifier4,
    }
    /// GETDEVICELIST result.
    pub struct Getdevicelist4resok {
        /// Where to go on.
        pub gdlr_cookie: u64,
        /// Of the cookie.
        pub gdlr_cookieverf: Verifier4,
        /// The devices.
        pub gdlr_deviceid_list: List<Deviceid4>,
        /// Whether that is all.
        pub gdlr_eof: bool,
    }
    /// LAYOUTCOMMIT arguments.
    pub struct Layoutcommit4args {
        /// First byte.
        pub loca_offset: u64,
        /// Number of bytes.
        pub loca_length: u64,
        /// Whether it is reclaimed.
        pub loca_reclaim: bool,
        /// The layout.
        pub loca_stateid: Stateid4,
        /// Last byte written.
        pub loca_last_write_offset: Newoffset4,
        /// New time.
        pub loca_time_modify: Newtime4,
        /// Layout type.
        pub loca_layout_type: u32,
        /// Body of the update.
        pub loca_layoutupdate: Opaque,
    }
    /// LAYOUTCOMMIT result.
    pub struct Layoutcommit4resok {
        /// The new size.
        pub locr_newsize: Newsize4,
    }
    /// LAYOUTGET arguments.
    pub struct Layoutget4args {
        /// Whether to be told when a layout is available.
        pub loga_signal_layout_avail: bool,
        /// Layout type.
        pub loga_layout_type: u32,
        /// 1 for reading, 2 for both.
        pub loga_iomode: u32,
        /// First byte.
        pub loga_offset: u64,
        /// Number of bytes.
        pub loga_length: u64,
        /// Fewest bytes.
        pub loga_minlength: u64,
        /// An open or a layout.
        pub loga_stateid: Stateid4,
        /// Most bytes of the result.
        pub loga_maxcount: u32,
    }
    /// `layout4`.
    pub struct Layout4 {
        /// First byte.
        pub lo_offset: u64,
        /// Number of bytes.
        pub lo_length: u64,
        /// 1 for reading, 2 for both.
        pub lo_iomode: u32,
        /// Layout type.
        pub loc_type: u32,
        /// Its body.
        pub loc_body: Opaque,
    }
    /// LAYOUTGET result.
    pub struct Layoutget4resok {
        /// Whether to return it at close.
        pub logr_return_on_close: bool,
        /// The layout's state.
        pub logr_stateid: Stateid4,
        /// The layouts.
        pub logr_layout: List<Layout4>,
    }
    /// `layoutreturn_file4`.
    pub struct LayoutreturnFile4 {
        /// First byte.
        pub lrf_offset: u64,
        /// Number of bytes.
        pub lrf_length: u64,
        /// The layout.
        pub lrf_stateid: Stateid4,
        /// Body.
        pub lrf_body: Opaque,
    }
    /// LAYOUTRETURN arguments.
    pub struct Layoutreturn4args {
        /// Whether it is reclaimed.
        pub lora_reclaim: bool,
        /// Layout type.
        pub lora_layout_type: u32,
        /// 1 for reading, 2 for both, 3 for any.
        pub lora_iomode: u32,
        /// How much is returned.
        pub lora_layoutreturn: Layoutreturn4,
    }
    /// `io_info4`.
    pub struct IoInfo4 {
        /// Calls.
        pub ii_count: u64,
        /// Bytes.
        pub ii_bytes: u64,
    }
    /// LAYOUTSTATS arguments.
    pub struct Layoutstats4args {
        /// First byte.
        pub lsa_offset: u64,
        /// Number of bytes.
        pub lsa_length: u64,
        /// The layout.
        pub lsa_stateid: Stateid4,
        /// What was read.
        pub lsa_read: IoInfo4,
        /// What was written.
        pub lsa_write: IoInfo4,
        /// The device.
        pub lsa_deviceid: Deviceid4,
        /// Layout type.
        pub lsa_layout_type: u32,
        /// Body of the update.
        pub lsa_layoutupdate: Opaque,
    }
    /// `device_error4`.
    pub struct DeviceError4 {
        /// The device.
        pub de_deviceid: Deviceid4,
        /// The status.
        pub de_status: u32,
        /// The operation.
        pub de_opnum: u32,
    }
    /// LAYOUTERROR arguments.
    pub struct Layouterror4args {
        /// First byte.
        pub lea_offset: u64,
        /// Number of bytes.
        pub lea_length: u64,
        /// The layout.
        pub lea_stateid: Stateid4,
        /// The errors.
        pub lea_errors: List<DeviceError4>,
    }
}

xdr_union! {
    /// `newoffset4`.
    pub enum Newoffset4 {
        /// None.
        0 => None,
        /// This one.
        1 => Offset(u64),
    }
    /// `newtime4`.
    pub enum Newtime4 {
        /// None.
        0 => None,
        /// This one.
        1 => Time(Nfstime4),
    }
    /// `newsize4`.
    pub enum Newsize4 {
        /// Unchanged.
        0 => None,
        /// This one.
        1 => Size(u64),
    }
    /// `layoutreturn4`.
    pub enum Layoutreturn4 {
        /// A range of a file.
        1 => File(LayoutreturnFile4),
        /// Of a file system.
        2 => Fsid,
        /// Everything.
        3 => All,
    }
    /// `layoutreturn_stateid`.
    pub enum LayoutreturnStateid {
        /// Nothing left.
        0 => None,
        /// What is left.
        1 => Stateid(Stateid4),
    }
}

/// A result in which one certain error brings a word along: GETDEVICEINFO's `NFS4ERR_TOOSMALL` (the size needed)
/// and LAYOUTGET's `NFS4ERR_LAYOUTTRYLATER` (whether the server will signal).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WordOnError<T, const STATUS: u32> {
    /// Done.
    Ok(T),
    /// The certain error and its word.
    Word(u32),
    /// Any other error.
    Err(Nfs4Error),
}

impl<T: Pack<Writer>, const STATUS: u32> Pack<Writer> for WordOnError<T, STATUS> {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        match self {
            Self::Ok(body) => Ok(0u32.pack(out)? + body.pack(out)?),
            Self::Word(word) => Ok(STATUS.pack(out)? + word.pack(out)?),
            Self::Err(error) => u32::from(*error).pack(out),
        }
    }
}

impl<T: Unpack<Reader>, const STATUS: u32> Unpack<Reader> for WordOnError<T, STATUS> {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        let status = input.get::<u32>()?;
        if status == STATUS {
            return Ok((Self::Word(input.get()?), 8));
        }
        Ok(match Nfs4Error::from_status(status) {
            None => {
                let (body, size) = T::unpack(input)?;
                (Self::Ok(body), 4 + size)
            }
            Some(error) => (Self::Err(error), 4),
        })
    }
}

#[cfg(test)]
impl<'a, T: arbitrary::Arbitrary<'a>, const STATUS: u32> arbitrary::Arbitrary<'a> for WordOnError<T, STATUS> {
    fn arbitrary(u: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match u.arbitrary::<Option<Nfs4Error>>()? {
            None => Self::Ok(u.arbitrary()?),
            Some(error) if u32::from(error) == STATUS => Self::Word(u.arbitrary()?),
            Some(error) => Self::Err(error),
        })
    }
}
