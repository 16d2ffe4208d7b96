//! File handles: what they say and how a false one is told from one whose file is gone.
//!
//! A handle holds the file system, the file's number and a check sum over both. A handle that the server never
//! made fails the check (NFS4ERR_BADHANDLE); a good one whose file is gone is NFS4ERR_STALE (RFC 8881 §4.2).

use nfs4::Nfs4Error;
use nfs4::types::NfsFh4;

use super::FileId;

const MAGIC: [u8; 4] = *b"mmt1";
/// Magic, file system, file, check sum.
const LEAST: usize = 4 + 8 + 8 + 8;

/// FNV-1a: no secret is kept here, only mistakes are found.
fn check(bytes: &[u8]) -> [u8; 8] {
    let sum = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    sum.to_be_bytes()
}

/// The handle of a file, `len` bytes long (at least 28, at most 128).
pub fn encode(fsid: u64, file: FileId, len: usize) -> NfsFh4 {
    let mut bytes = Vec::with_capacity(len.max(LEAST));
    bytes.extend(MAGIC);
    bytes.extend(fsid.to_be_bytes());
    bytes.extend(file.0.to_be_bytes());
    let sum = check(&bytes);
    bytes.extend(sum);
    while bytes.len() < len {
        // Filler that differs from file to file, so that a client that compares or hashes a part is found out.
        bytes.push(sum[bytes.len() % 8] ^ bytes.len() as u8);
    }
    NfsFh4(bytes.into())
}

/// The file of a handle, whether it still is there or not.
pub fn decode(fsid: u64, handle: &NfsFh4, len: usize) -> Result<FileId, Nfs4Error> {
    let bytes = &handle.0[..];
    let number = bytes.get(12..20).and_then(|part| part.try_into().ok()).map(u64::from_be_bytes);
    let file = FileId(number.ok_or(Nfs4Error::Badhandle)?);
    if encode(fsid, file, len) == *handle { Ok(file) } else { Err(Nfs4Error::Badhandle) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_names_its_file_and_no_other_bytes_do() {
        for len in [LEAST, 32, 128] {
            let handle = encode(7, FileId(42), len);
            assert_eq!(handle.0.len(), len);
            assert_eq!(decode(7, &handle, len), Ok(FileId(42)));
            assert_eq!(decode(8, &handle, len), Err(Nfs4Error::Badhandle));
            for i in 0..len {
                let mut bytes = handle.0.to_vec();
                bytes[i] ^= 1;
                assert_eq!(decode(7, &NfsFh4(bytes.into()), len), Err(Nfs4Error::Badhandle));
            }
            assert_eq!(decode(7, &NfsFh4(handle.0.slice(..len - 1).into()), len), Err(Nfs4Error::Badhandle));
        }
        assert_eq!(decode(7, &NfsFh4::default(), 32), Err(Nfs4Error::Badhandle));
    }
}
