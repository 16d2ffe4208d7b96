//! The codec at its three sizes: a compound that every path walk sends, a listing with attributes, and a large WRITE.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nfs4::attr::{Attrs, number};
use nfs4::compound::{Argop4, Compound4args, Compound4res, Resop4};
use nfs4::ops::dir::{Dirlist4, Entry4, Lookup4args, Readdir4resok};
use nfs4::ops::file::{Getattr4args, Putfh4args, Write4args};
use nfs4::ops::session::Sequence4args;
use nfs4::types::{Bitmap4, Fsid4, NfsFh4, NfsFtype4, Nfstime4, Sessionid4, StableHow4, Stateid4, Verifier4};
use nfs4::xdr::{self, Pack, Reader, Unpack, Writer};

fn handle(number: u8) -> NfsFh4 {
    NfsFh4(Bytes::from(vec![number; 40]).into())
}

fn sequence() -> Argop4 {
    Argop4::Sequence(Sequence4args {
        sa_sessionid: Sessionid4([7; 16]),
        sa_sequenceid: 1,
        sa_slotid: 0,
        sa_highest_slotid: 0,
        sa_cachethis: false,
    })
}

fn compound(argarray: Vec<Argop4>) -> Compound4args {
    Compound4args { tag: "".into(), minorversion: 2, argarray }
}

fn lookup() -> Compound4args {
    const WANTED: Bitmap4 = Bitmap4::of(&[number::TYPE, number::CHANGE, number::SIZE, number::FILEID, number::MODE]);
    compound(vec![
        sequence(),
        Argop4::Putfh(Putfh4args { object: handle(1) }),
        Argop4::Lookup(Lookup4args { objname: "some-file-name".into() }),
        Argop4::Getfh,
        Argop4::Getattr(Getattr4args { attr_request: WANTED }),
    ])
}

fn write() -> Compound4args {
    let data = vec![Bytes::from(vec![7; 1 << 20])];
    let write = Write4args { stateid: Stateid4::ANONYMOUS, offset: 1 << 30, stable: StableHow4::Unstable4, data };
    compound(vec![sequence(), Argop4::Putfh(Putfh4args { object: handle(1) }), Argop4::Write(write)])
}

fn listing(count: u64) -> Compound4res {
    let time = Some(Nfstime4 { seconds: 1_700_000_000, nseconds: 5 });
    let attrs = |fileid| Attrs {
        type_: Some(NfsFtype4::Reg),
        change: Some(fileid),
        size: Some(4096),
        fsid: Some(Fsid4 { major: 1, minor: 2 }),
        filehandle: Some(handle(fileid as u8)),
        fileid: Some(fileid),
        mode: Some(0o644),
        numlinks: Some(1),
        owner: Some("1000".into()),
        owner_group: Some("1000".into()),
        space_used: Some(4096),
        time_access: time,
        time_metadata: time,
        time_modify: time,
        ..Attrs::default()
    };
    let entry = |number| Entry4 {
        cookie: number + 3,
        name: Bytes::from(format!("file{number:06}")).into(),
        attrs: attrs(number).to_fattr4().unwrap(),
    };
    let reply = Dirlist4 { entries: (0..count).map(entry).collect(), eof: true };
    let listing = Readdir4resok { cookieverf: Verifier4([0; 8]), reply };
    Compound4res { status: Ok(()), tag: "".into(), resarray: vec![Resop4::Readdir(Ok(listing))] }
}

fn both<T: Pack<Writer> + Unpack<Reader>>(criterion: &mut Criterion, name: &str, value: &T) {
    let bytes = xdr::to_bytes(value).unwrap();
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    // As it goes out: in segments, so that file data is not copied.
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            let mut out = Writer::new();
            out.put(black_box(value)).unwrap();
            out.into_segments()
        });
    });
    group.bench_function("decode", |bencher| bencher.iter(|| xdr::from_bytes::<T>(black_box(&bytes).clone()).unwrap()));
    group.finish();
}

fn codec(criterion: &mut Criterion) {
    both(criterion, "LOOKUP compound", &lookup());
    both(criterion, "WRITE of 1 MiB", &write());
    let listing = listing(1000);
    both(criterion, "READDIR of 1,000 entries", &listing);
    let Resop4::Readdir(Ok(entries)) = &listing.resarray[0] else { return };
    criterion.bench_function("attributes of 1,000 entries/decode", |bencher| {
        bencher.iter(|| {
            for entry in &black_box(entries).reply.entries {
                black_box(Attrs::from_fattr4(&entry.attrs).unwrap());
            }
        });
    });
}

criterion_group!(benches, codec);
criterion_main!(benches);
