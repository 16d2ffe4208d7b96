//! Bytes and holes: READ, WRITE, SEEK, ALLOCATE, DEALLOCATE, READ_PLUS, COPY, CLONE (RFC 8881 §18.22, §18.32; RFC 7862 §15).

use mock_mount_target::nfs::Profile;
use mock_mount_target::nfs::config::Config;
use mock_mount_target::nfs::faults::{Action, Rule};
use nfs4::Nfs4Error;
use nfs4::attr::number as n;
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::file::Read4args;
use nfs4::ops::v42::{
    Allocate4args, Clone4args, Copy4args, Copy4res, DataContent4, IoAdvise4args, Netloc4, ReadPlusContent, Seek4args,
};
use nfs4::types::{Bitmap4, StableHow4, Stateid4};

use crate::driver::*;

const BLOCK: u64 = 65_536;

/// §18.22.3: READ at, over and behind the end; and of what has no bytes.
#[test]
fn read_stops_at_the_end_and_says_so() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    world.write(&mut c, &file, open, 0, b"0123456789");
    for (offset, count, bytes, eof) in [
        (0, 10, &b"0123456789"[..], true),
        (0, 9, b"012345678", false),
        (5, 100, b"56789", true),
        (10, 1, b"", true),
        (u64::MAX, 10, b"", true),
        (3, 0, b"", false),
    ] {
        let results = ok(world.call(&mut c, vec![putfh(&file), read(open, offset, count)]));
        let Resop4::Read(Ok(done)) = &results[1] else { panic!("{results:?}") };
        assert_eq!((&done.data[..], done.eof), (bytes, eof), "{offset} {count}");
    }
    let directory = vec![Argop4::Putrootfh, read(Stateid4::ANONYMOUS, 0, 1)];
    assert_eq!(world.status(&mut c, directory), Err(Nfs4Error::Isdir));
}

/// §18.32.3: holes before a write, stability, limits, space.
#[test]
fn write_extends_the_file_and_keeps_within_the_limits() {
    let mut world = World::with(Config { capacity: 100_000, ..Config::new(Profile::Full) });
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    for (stable, committed) in [
        (StableHow4::Unstable4, StableHow4::Unstable4),
        (StableHow4::DataSync4, StableHow4::FileSync4),
        (StableHow4::FileSync4, StableHow4::FileSync4),
    ] {
        let results = ok(world.call(&mut c, vec![putfh(&file), write(open, 5, b"abc", stable)]));
        let Resop4::Write(Ok(done)) = &results[1] else { panic!("{results:?}") };
        assert_eq!((done.count, done.committed), (3, committed));
    }
    assert_eq!(world.read(&mut c, &file, open, 0, 100), b"\0\0\0\0\0abc");
    let mut at = |offset, len: usize| {
        world.status(&mut c, vec![putfh(&file), write(open, offset, &vec![1; len], StableHow4::Unstable4)])
    };
    assert_eq!(at(u64::MAX, 2), Err(Nfs4Error::Fbig));
    assert_eq!(at(i64::MAX as u64, 1), Err(Nfs4Error::Fbig));
    assert_eq!(at(0, 100_001), Err(Nfs4Error::Nospc));
    assert_eq!(at(1 << 40, 10), Ok(()));
    assert_eq!(
        world.status(&mut c, vec![putfh(&file), write(open, 0, b"x", StableHow4::Unknown(9))]),
        Err(Nfs4Error::Inval)
    );
}

/// Short reads and writes are told by their counts (§18.22.3, §18.32.3).
#[test]
fn short_reads_and_writes_say_how_short_they_are() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    world.server.plan_mut().add(Rule::once(38, Action::Short(4)));
    world.server.plan_mut().add(Rule::once(25, Action::Short(3)));
    let results = ok(world.call(&mut c, vec![putfh(&file), write(open, 0, b"0123456789", StableHow4::FileSync4)]));
    assert!(matches!(&results[1], Resop4::Write(Ok(done)) if done.count == 4));
    let results = ok(world.call(&mut c, vec![putfh(&file), read(open, 0, 100)]));
    assert!(matches!(&results[1], Resop4::Read(Ok(done)) if &done.data[..] == b"012" && !done.eof));
    assert_eq!(world.read(&mut c, &file, open, 0, 100), b"0123");
}

/// RFC 7862 §15.11, §15.1, §15.4, §15.10: holes are found, made and filled.
#[test]
fn holes_are_found_made_and_filled() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    world.write(&mut c, &file, open, 0, &vec![1; 2 * BLOCK as usize]);
    world.write(&mut c, &file, open, 5 * BLOCK, &[2; 10]);
    let mut seek = |world: &mut World, offset, what| {
        let args = Seek4args { sa_stateid: open, sa_offset: offset, sa_what: what };
        match world.call(&mut c, vec![putfh(&file), Argop4::Seek(args)]).resarray.pop() {
            Some(Resop4::Seek(done)) => done.map(|done| (done.sr_offset, done.sr_eof)),
            other => panic!("{other:?}"),
        }
    };
    let (data, hole) = (DataContent4::Data, DataContent4::Hole);
    assert_eq!(seek(&mut world, 0, hole), Ok((2 * BLOCK, false)));
    assert_eq!(seek(&mut world, 2 * BLOCK + 1, data), Ok((5 * BLOCK, false)));
    assert_eq!(seek(&mut world, 5 * BLOCK, hole), Ok((5 * BLOCK + 10, true)));
    assert_eq!(seek(&mut world, 5 * BLOCK + 10, data), Err(Nfs4Error::Nxio));
    assert_eq!(seek(&mut world, 0, DataContent4::Unknown(5)), Err(Nfs4Error::UnionNotsupp));
    let range = |aa_offset, aa_length| Allocate4args { aa_stateid: open, aa_offset, aa_length };
    let used = |world: &mut World, c: &mut Client| world.attrs(c, &file, &[n::SPACE_USED]).space_used.unwrap();
    ok(world.call(&mut c, vec![putfh(&file), Argop4::Deallocate(range(10, BLOCK + 10))]));
    assert_eq!(world.read(&mut c, &file, open, 5, 10), [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]);
    let before = used(&mut world, &mut c);
    ok(world.call(&mut c, vec![putfh(&file), Argop4::Deallocate(range(0, BLOCK))]));
    assert_eq!(used(&mut world, &mut c), before - BLOCK);
    ok(world.call(&mut c, vec![putfh(&file), Argop4::Allocate(range(0, 7 * BLOCK))]));
    assert_eq!(used(&mut world, &mut c), 7 * BLOCK);
    assert_eq!(world.attrs(&mut c, &file, &[n::SIZE]).size, Some(7 * BLOCK));
    for op in [Argop4::Allocate(range(0, 0)), Argop4::Deallocate(range(0, 0))] {
        assert_eq!(world.status(&mut c, vec![putfh(&file), op]), Err(Nfs4Error::Inval));
    }
    let much = Argop4::Allocate(range(0, 1 << 45));
    assert_eq!(world.status(&mut c, vec![putfh(&file), much]), Err(Nfs4Error::Nospc));
}

/// RFC 7862 §15.10: READ_PLUS tells data from holes.
#[test]
fn read_plus_tells_data_from_holes() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    world.write(&mut c, &file, open, BLOCK, b"data");
    let args = Read4args { stateid: open, offset: 10, count: 1 << 20 };
    let results = ok(world.call(&mut c, vec![putfh(&file), Argop4::ReadPlus(args)]));
    let Resop4::ReadPlus(Ok(done)) = &results[1] else { panic!("{results:?}") };
    assert!(done.rpr_eof);
    match &done.rpr_contents[..] {
        [ReadPlusContent::Hole(hole), ReadPlusContent::Data(data)] => {
            assert_eq!((hole.di_offset, hole.di_length), (10, BLOCK - 10));
            assert_eq!((data.d_offset, &data.d_data[..]), (BLOCK, &b"data"[..]));
        }
        other => panic!("{other:?}"),
    }
}

/// RFC 7862 §15.2, §15.13: copies within the server.
#[test]
fn copy_and_clone_bring_bytes_and_holes_over() {
    let mut world = World::full();
    let mut c = world.client("c");
    let (src, from) = world.create_file(&mut c, "src");
    let (dst, to) = world.create_file(&mut c, "dst");
    world.write(&mut c, &src, from, 0, b"head");
    world.write(&mut c, &src, from, 3 * BLOCK, b"tail");
    let args = Copy4args {
        ca_src_stateid: from,
        ca_dst_stateid: to,
        ca_src_offset: 0,
        ca_dst_offset: 2,
        ca_count: 0,
        ca_consecutive: true,
        ca_synchronous: true,
        ca_source_server: Vec::new().into(),
    };
    let both = |op| vec![putfh(&src), Argop4::Savefh, putfh(&dst), op];
    let results = ok(world.call(&mut c, both(Argop4::Copy(args.clone()))));
    let Resop4::Copy(Copy4res::Ok(done)) = &results[3] else { panic!("{results:?}") };
    assert_eq!(done.cr_response.wr_count, 3 * BLOCK + 4);
    assert!(done.cr_requirements.cr_synchronous);
    assert_eq!(world.read(&mut c, &dst, to, 0, 10), b"\0\0head\0\0\0\0");
    assert_eq!(world.read(&mut c, &dst, to, 3 * BLOCK + 2, 10), b"tail");
    let far = Copy4args { ca_source_server: vec![Netloc4::Name("x".into())].into(), ..args.clone() };
    assert_eq!(world.status(&mut c, both(Argop4::Copy(far))), Err(Nfs4Error::Notsupp));
    let behind = Copy4args { ca_src_offset: 1 << 30, ..args };
    assert_eq!(world.status(&mut c, both(Argop4::Copy(behind))), Err(Nfs4Error::Inval));
    let clone = |cl_dst_offset, cl_count| {
        Argop4::Clone(Clone4args {
            cl_src_stateid: from,
            cl_dst_stateid: to,
            cl_src_offset: 0,
            cl_dst_offset,
            cl_count,
        })
    };
    assert_eq!(world.status(&mut c, both(clone(1, 0))), Err(Nfs4Error::Inval));
    assert_eq!(world.status(&mut c, both(clone(0, 100))), Err(Nfs4Error::Inval));
    ok(world.call(&mut c, both(clone(0, 0))));
    assert_eq!(world.read(&mut c, &dst, to, 0, 6), b"head\0\0");
    assert_eq!(world.read(&mut c, &dst, to, 3 * BLOCK, 10), b"tailil");
    let advise = IoAdvise4args { iaa_stateid: from, iaa_offset: 0, iaa_count: 10, iaa_hints: Bitmap4::of(&[2]) };
    ok(world.call(&mut c, vec![putfh(&src), Argop4::IoAdvise(advise)]));
}
