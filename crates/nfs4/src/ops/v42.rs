//! Operations of NFSv4.2 (RFC 7862 §15): sparse files, server-side copy, hints.

use crate::error::Nfs4Error;
use crate::types::{Bitmap4, Netaddr4, StableHow4, Stateid4, Verifier4};
use crate::xdr::{List, Opaque, Pack, Reader, Result, Unpack, Writer};

xdr_struct! {
    /// ALLOCATE arguments; DEALLOCATE has the same.
    pub struct Allocate4args {
        /// An open for writing.
        pub aa_stateid: Stateid4,
        /// First byte.
        pub aa_offset: u64,
        /// Number of bytes.
        pub aa_length: u64,
    }
    /// COPY arguments: saved file handle is the source, current one the destination.
    pub struct Copy4args {
        /// An open of the source.
        pub ca_src_stateid: Stateid4,
        /// An open of the destination.
        pub ca_dst_stateid: Stateid4,
        /// First byte of the source.
        pub ca_src_offset: u64,
        /// First byte of the destination.
        pub ca_dst_offset: u64,
        /// Number of bytes; 0 means to the end of the source.
        pub ca_count: u64,
        /// Whether the bytes must be copied in order.
        pub ca_consecutive: bool,
        /// Whether the call returns only when all is done.
        pub ca_synchronous: bool,
        /// Other servers that hold the source: empty for a copy within one server.
        pub ca_source_server: List<Netloc4>,
    }
    /// `write_response4`.
    pub struct WriteResponse4 {
        /// Names a copy that goes on: none or one.
        pub wr_callback_id: List<Stateid4>,
        /// Bytes copied.
        pub wr_count: u64,
        /// How safe they are.
        pub wr_committed: StableHow4,
        /// Changes when unstable data may have been lost.
        pub wr_writeverf: Verifier4,
    }
    /// `copy_requirements4`.
    #[derive(Copy)]
    pub struct CopyRequirements4 {
        /// Whether the copy will be in order.
        pub cr_consecutive: bool,
        /// Whether the copy will be synchronous.
        pub cr_synchronous: bool,
    }
    /// COPY result.
    pub struct Copy4resok {
        /// What was done.
        pub cr_response: WriteResponse4,
        /// How.
        pub cr_requirements: CopyRequirements4,
    }
    /// COPY_NOTIFY arguments.
    pub struct CopyNotify4args {
        /// An open of the source.
        pub cna_src_stateid: Stateid4,
        /// Who will read it.
        pub cna_destination_server: Netloc4,
    }
    /// COPY_NOTIFY result.
    pub struct CopyNotify4resok {
        /// How long it holds.
        pub cnr_lease_time: crate::types::Nfstime4,
        /// For the destination server.
        pub cnr_stateid: Stateid4,
        /// Where the source is.
        pub cnr_source_server: List<Netloc4>,
    }
    /// CLONE arguments: saved file handle is the source, current one the destination.
    pub struct Clone4args {
        /// An open of the source.
        pub cl_src_stateid: Stateid4,
        /// An open of the destination.
        pub cl_dst_stateid: Stateid4,
        /// First byte of the source.
        pub cl_src_offset: u64,
        /// First byte of the destination.
        pub cl_dst_offset: u64,
        /// Number of bytes; 0 means to the end of the source.
        pub cl_count: u64,
    }
    /// IO_ADVISE arguments.
    pub struct IoAdvise4args {
        /// An open.
        pub iaa_stateid: Stateid4,
        /// First byte.
        pub iaa_offset: u64,
        /// Number of bytes.
        pub iaa_count: u64,
        /// Hints.
        pub iaa_hints: Bitmap4,
    }
    /// IO_ADVISE result.
    pub struct IoAdvise4resok {
        /// Hints that the server follows.
        pub ior_hints: Bitmap4,
    }
    /// OFFLOAD_CANCEL and OFFLOAD_STATUS arguments.
    pub struct Offload4args {
        /// The copy.
        pub oa_stateid: Stateid4,
    }
    /// OFFLOAD_STATUS result.
    pub struct OffloadStatus4resok {
        /// Bytes copied so far.
        pub osr_count: u64,
        /// Status of a finished copy: none or one.
        pub osr_complete: List<u32>,
    }
    /// READ_PLUS arguments are READ's; its result.
    pub struct ReadPlus4resok {
        /// Whether the read reached the end of the file.
        pub rpr_eof: bool,
        /// Data and holes, in order.
        pub rpr_contents: List<ReadPlusContent>,
    }
    /// Data of READ_PLUS.
    pub struct Data4 {
        /// First byte.
        pub d_offset: u64,
        /// The bytes.
        pub d_data: Opaque,
    }
    /// A hole of READ_PLUS.
    pub struct DataInfo4 {
        /// First byte.
        pub di_offset: u64,
        /// Number of bytes.
        pub di_length: u64,
    }
    /// SEEK arguments.
    pub struct Seek4args {
        /// An open for reading.
        pub sa_stateid: Stateid4,
        /// Where to start.
        pub sa_offset: u64,
        /// What to look for.
        pub sa_what: DataContent4,
    }
    /// SEEK result.
    pub struct Seek4resok {
        /// Whether there is none up to the end of the file.
        pub sr_eof: bool,
        /// Where it is.
        pub sr_offset: u64,
    }
    /// `app_data_block4`.
    pub struct AppDataBlock4 {
        /// First byte.
        pub adb_offset: u64,
        /// Bytes of a block.
        pub adb_block_size: u64,
        /// Number of blocks.
        pub adb_block_count: u64,
        /// Where the block number goes.
        pub adb_reloff_blocknum: u64,
        /// First block number.
        pub adb_block_num: u32,
        /// Where the pattern goes.
        pub adb_reloff_pattern: u64,
        /// The pattern.
        pub adb_pattern: Opaque,
    }
    /// WRITE_SAME arguments.
    pub struct WriteSame4args {
        /// An open for writing.
        pub wsa_stateid: Stateid4,
        /// How safe the bytes must be.
        pub wsa_stable: StableHow4,
        /// What to write.
        pub wsa_adb: AppDataBlock4,
    }
}

xdr_enum! {
    /// `data_content4`.
    pub enum DataContent4 { Data = 0, Hole = 1 }
}

xdr_union! {
    /// `netloc4`.
    pub enum Netloc4 {
        /// A name.
        1 => Name(Opaque),
        /// A URL.
        2 => Url(Opaque),
        /// An address.
        3 => Netaddr(Netaddr4),
    }
    /// `read_plus_content`.
    pub enum ReadPlusContent {
        /// Bytes.
        0 => Data(Data4),
        /// A hole.
        1 => Hole(DataInfo4),
    }
}

/// Result of COPY: `NFS4ERR_OFFLOAD_NO_REQS` brings what the server could do instead.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Copy4res {
    /// Done, or under way.
    Ok(Copy4resok),
    /// Not in the way that was asked for.
    OffloadNoReqs(CopyRequirements4),
    /// Any other error.
    Err(Nfs4Error),
}

impl Pack<Writer> for Copy4res {
    fn pack(&self, out: &mut Writer) -> Result<usize> {
        match self {
            Self::Ok(body) => Ok(0u32.pack(out)? + body.pack(out)?),
            Self::OffloadNoReqs(can) => Ok(u32::from(Nfs4Error::OffloadNoReqs).pack(out)? + can.pack(out)?),
            Self::Err(error) => u32::from(*error).pack(out),
        }
    }
}

impl Unpack<Reader> for Copy4res {
    fn unpack(input: &mut Reader) -> Result<(Self, usize)> {
        let before = input.remaining();
        let value = match Nfs4Error::from_status(input.get()?) {
            None => Self::Ok(input.get()?),
            Some(Nfs4Error::OffloadNoReqs) => Self::OffloadNoReqs(input.get()?),
            Some(error) => Self::Err(error),
        };
        Ok((value, before - input.remaining()))
    }
}

#[cfg(test)]
impl<'a> arbitrary::Arbitrary<'a> for Copy4res {
    fn arbitrary(u: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match u.arbitrary::<Option<Nfs4Error>>()? {
            None => Self::Ok(u.arbitrary()?),
            Some(Nfs4Error::OffloadNoReqs) => Self::OffloadNoReqs(u.arbitrary()?),
            Some(error) => Self::Err(error),
        })
    }
}
