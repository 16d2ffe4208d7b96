//! The wire of NFSv4.1 and NFSv4.2: bytes to types and back.
//!
//! Two modules matter to a reader: [`compound`] holds the `COMPOUND` call and reply with one variant per
//! operation ([`Argop4`](compound::Argop4), [`Resop4`](compound::Resop4)), and [`rpc`] holds the ONC RPC
//! envelope around them (record marks, call and reply headers, credentials).
//!
//! Everything that can arrive is representable (unknown status codes and enum values are kept as numbers),
//! every length is checked against what is left of the record before anything is allocated, and opaque
//! payloads are slices of the record they came in. The crate knows no sockets, clocks or files.
//!
//! Sources: RFC 8881 (NFSv4.1), RFC 7862/7863 (NFSv4.2), RFC 8276 (extended attributes), RFC 8275 (umask),
//! RFC 5531 (ONC RPC), RFC 4506 (XDR). The AWSFILE program is described in [`awsfile`].
#![forbid(unsafe_code)]

#[macro_use]
mod declare;

pub mod attr;
pub mod awsfile;
pub mod callback;
pub mod compound;
pub mod error;
pub mod ops;
pub mod record;
pub mod rpc;
pub mod types;
pub mod xdr;

pub use error::Nfs4Error;

#[cfg(test)]
mod wire_tests;
