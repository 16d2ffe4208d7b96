//! Properties that hold for every message: what is encoded decodes to itself, and no byte string makes the
//! decoder do anything but return.

#![allow(clippy::unwrap_used)]

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use proptest::prelude::*;

use crate::awsfile::{BindClientResponse, ChannelInitArgs, ChannelInitRes, ProxyIdentifier};
use crate::callback::{CbArgop4, CbCompound4args, CbCompound4res, CbResop4};
use crate::compound::{Argop4, Compound4args, Compound4res, OPERATIONS, Resop4};
use crate::error::Nfs4Error;
use crate::ops::file::Read4resok;
use crate::ops::session::Sequence4resok;
use crate::record::READ_DATA_AT;
use crate::rpc::{Message, ReplyHeader, ReplyStatus};
use crate::types::Sessionid4;
use crate::xdr::{Opaque, Pack, Reader, Unpack, Writer, decode, from_bytes};

/// Encodes an arbitrary value made from `seed`, decodes it, and compares; also checks the sizes that are returned.
fn survives<'a, T>(seed: &'a [u8]) -> Result<(), TestCaseError>
where
    T: Arbitrary<'a> + Pack<Writer> + Unpack<Reader> + PartialEq + std::fmt::Debug,
{
    let value = T::arbitrary(&mut Unstructured::new(seed)).unwrap();
    let mut out = Writer::new();
    let packed = value.pack(&mut out).unwrap();
    let bytes = out.into_bytes();
    prop_assert_eq!(bytes.len(), packed);
    let (back, used) = T::unpack(&mut Reader::new(bytes.clone())).unwrap();
    prop_assert_eq!(used, packed);
    prop_assert_eq!(&back, &value);
    // Whatever is cut off at the end is noticed.
    if !bytes.is_empty() {
        prop_assert!(from_bytes::<T>(bytes.slice(..bytes.len() - 1)).is_err());
    }
    Ok(())
}

fn returns<T: Unpack<Reader>>(bytes: &Bytes) {
    let _ = decode::<T>(&mut Reader::new(bytes.clone()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_message_survives_the_wire(seed in proptest::collection::vec(any::<u8>(), 0..2000)) {
        survives::<Compound4args>(&seed)?;
        survives::<Compound4res>(&seed)?;
        survives::<CbCompound4args>(&seed)?;
        survives::<CbCompound4res>(&seed)?;
        survives::<BindClientResponse>(&seed)?;
        survives::<ProxyIdentifier>(&seed)?;
        survives::<ChannelInitArgs>(&seed)?;
        survives::<ChannelInitRes>(&seed)?;
    }

    #[test]
    fn every_operation_survives_the_wire(seed in proptest::collection::vec(any::<u8>(), 0..600)) {
        survives::<Argop4>(&seed)?;
        survives::<Resop4>(&seed)?;
        survives::<CbArgop4>(&seed)?;
        survives::<CbResop4>(&seed)?;
    }

    #[test]
    fn any_bytes_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let bytes = Bytes::from(bytes);
        returns::<Message>(&bytes);
        returns::<Compound4args>(&bytes);
        returns::<Compound4res>(&bytes);
        returns::<CbCompound4args>(&bytes);
        returns::<CbCompound4res>(&bytes);
        returns::<BindClientResponse>(&bytes);
        returns::<ChannelInitRes>(&bytes);
    }

    #[test]
    fn any_bytes_behind_an_operation_number_decode_or_fail(
        op in proptest::sample::select(OPERATIONS), status in 0u32..3,
        bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(1u8), any::<u8>()], 0..300),
    ) {
        let args: Bytes = [&op.to_be_bytes()[..], &bytes].concat().into();
        returns::<Argop4>(&args);
        let results: Bytes = [&op.to_be_bytes()[..], &status.to_be_bytes(), &bytes].concat().into();
        returns::<Resop4>(&results);
    }

    #[test]
    fn a_flipped_byte_in_a_message_decodes_or_fails(
        seed in proptest::collection::vec(any::<u8>(), 0..600), at in any::<prop::sample::Index>(), to in any::<u8>(),
    ) {
        let value = Compound4res::arbitrary(&mut Unstructured::new(&seed)).unwrap();
        let mut bytes = crate::xdr::to_bytes(&value).unwrap().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        returns::<Compound4res>(&bytes.into());
    }
}

#[test]
fn the_answer_of_a_failed_operation_is_of_that_operation() {
    for opnum in OPERATIONS {
        let answer = Resop4::failed(*opnum, Nfs4Error::Delay);
        assert_eq!((answer.opnum(), answer.error()), (*opnum, Some(Nfs4Error::Delay)));
        assert!(!matches!(answer, Resop4::Unknown { .. }), "operation {opnum}");
    }
    assert_eq!(Resop4::failed(999, Nfs4Error::Notsupp).opnum(), 999);
}

#[test]
fn an_unknown_operation_ends_a_compound_without_an_error() {
    // tag "", minor version 2, two operations: GETFH and number 999 with arguments nobody can read.
    let words = [0u32, 2, 3, 10, 999, 0xdead_beef, 10];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    let compound: Compound4args = from_bytes(bytes.into()).unwrap();
    assert_eq!(compound.argarray, [Argop4::Getfh, Argop4::Unknown(999)]);
}

#[test]
fn the_bytes_of_a_read_are_where_records_expect_them() {
    let slot = Sequence4resok {
        sr_sessionid: Sessionid4([1; 16]),
        sr_sequenceid: 1,
        sr_slotid: 2,
        sr_highest_slotid: 3,
        sr_target_highest_slotid: 4,
        sr_status_flags: 0,
    };
    let data = Opaque(Bytes::from_static(b"what was read"));
    let resarray = vec![
        Resop4::Sequence(Ok(slot)),
        Resop4::Putfh(Ok(())),
        Resop4::Read(Ok(Read4resok { eof: true, data: data.clone() })),
    ];
    let mut out = Writer::new();
    out.put(&Message::Reply(ReplyHeader { xid: 1, status: ReplyStatus::Success })).unwrap();
    out.put(&Compound4res { status: Ok(()), tag: Opaque(Bytes::new()), resarray }).unwrap();
    assert!(out.into_bytes()[READ_DATA_AT..].starts_with(&data.0));
}
