//! The `s3files` profile: what the user guide says that S3 Files does not do, its limits, its S3 side, direct reads,
//! and the heartbeat on the back channel.

use bytes::Bytes;
use mock_mount_target::nfs::config::Config;
use mock_mount_target::nfs::faults::{Action, Rule};
use mock_mount_target::nfs::{Object, Profile, S3Change};
use nfs4::Nfs4Error;
use nfs4::attr::{Attrs, number as n};
use nfs4::awsfile::{AWSFILE_CB_PROGRAM, ReadBypassRes};
use nfs4::callback::{CbArgop4, CbCompound4args, CbCompound4res, CbResop4, CbSequence4resok};
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::dir::{Createtype4, Link4args, Openattr4args};
use nfs4::ops::extended::{Getxattr4args, Listxattrs4args, Removexattr4args, Setxattr4args, SetxattrOption4};
use nfs4::ops::file::Read4args;
use nfs4::ops::layout::Layoutget4args;
use nfs4::ops::lock::NfsLockType4;
use nfs4::ops::open::{Delegreturn4args, GetDirDelegation4args, Openflag4};
use nfs4::ops::v42::{Allocate4args, Clone4args, Copy4args, DataContent4, IoAdvise4args, Seek4args};
use nfs4::types::{Bitmap4, Nfstime4, Specdata4, StableHow4, Stateid4};
use nfs4::xdr;

use crate::driver::*;

/// User guide, "unsupported NFS features": each answers NFS4ERR_NOTSUPP, and none is a mistake to try.
#[test]
fn what_s3_files_does_not_do_is_not_supported() {
    let mut world = World::s3files();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    let range = || Allocate4args { aa_stateid: open, aa_offset: 0, aa_length: 10 };
    let none = Nfstime4::default;
    let on_file = [
        Argop4::Allocate(range()),
        Argop4::Deallocate(range()),
        Argop4::Seek(Seek4args { sa_stateid: open, sa_offset: 0, sa_what: DataContent4::Hole }),
        Argop4::ReadPlus(Read4args { stateid: open, offset: 0, count: 1 }),
        Argop4::IoAdvise(IoAdvise4args { iaa_stateid: open, iaa_offset: 0, iaa_count: 1, iaa_hints: Bitmap4::EMPTY }),
        Argop4::Setxattr(Setxattr4args {
            sxa_option: SetxattrOption4::Either,
            sxa_key: "k".into(),
            sxa_value: "v".into(),
        }),
        Argop4::Listxattrs(Listxattrs4args { lxa_cookie: 0, lxa_maxcount: 4096 }),
        Argop4::Removexattr(Removexattr4args { rxa_name: "k".into() }),
        Argop4::Openattr(Openattr4args { createdir: true }),
        Argop4::Delegreturn(Delegreturn4args { deleg_stateid: open }),
        Argop4::GetDirDelegation(GetDirDelegation4args {
            gdda_signal_deleg_avail: false,
            gdda_notification_types: Bitmap4::EMPTY,
            gdda_child_attr_delay: none(),
            gdda_dir_attr_delay: none(),
            gdda_child_attributes: Bitmap4::EMPTY,
            gdda_dir_attributes: Bitmap4::EMPTY,
        }),
        Argop4::Layoutget(Layoutget4args {
            loga_signal_layout_avail: false,
            loga_layout_type: 1,
            loga_iomode: 1,
            loga_offset: 0,
            loga_length: 1,
            loga_minlength: 1,
            loga_stateid: open,
            loga_maxcount: 100,
        }),
    ];
    for op in on_file {
        let name = op.name();
        assert_eq!(world.status(&mut c, vec![putfh(&file), op]), Err(Nfs4Error::Notsupp), "{name}");
    }
    let copies = [
        Argop4::Copy(Copy4args {
            ca_src_stateid: open,
            ca_dst_stateid: open,
            ca_src_offset: 0,
            ca_dst_offset: 0,
            ca_count: 0,
            ca_consecutive: true,
            ca_synchronous: true,
            ca_source_server: Vec::new().into(),
        }),
        Argop4::Clone(Clone4args {
            cl_src_stateid: open,
            cl_dst_stateid: open,
            cl_src_offset: 0,
            cl_dst_offset: 0,
            cl_count: 0,
        }),
    ];
    for op in copies {
        let ops = vec![putfh(&file), Argop4::Savefh, putfh(&file), op];
        assert_eq!(world.status(&mut c, ops), Err(Nfs4Error::Notsupp));
    }
    let link = Argop4::Link(Link4args { newname: "l".into() });
    let linking = vec![putfh(&file), Argop4::Savefh, Argop4::Putrootfh, link];
    assert_eq!(world.status(&mut c, linking), Err(Nfs4Error::Notsupp));
    for device in [Createtype4::Blk(Specdata4::default()), Createtype4::Chr(Specdata4::default())] {
        assert_eq!(world.status(&mut c, vec![Argop4::Putrootfh, create(device, "d")]), Err(Nfs4Error::Notsupp));
    }
    let mut denying = open_args("o", "f", 1, Openflag4::NoCreate);
    denying.share_deny = 1;
    assert_eq!(world.status(&mut c, vec![Argop4::Putrootfh, Argop4::Open(denying)]), Err(Nfs4Error::Notsupp));
    world.close(&mut c, &file, open);
    world.nobody_is_accused();
}

/// User guide, "quotas": names, symbolic links, handles, `df`; no attribute of what is not there.
#[test]
fn limits_are_those_of_the_user_guide() {
    let mut world = World::s3files();
    let mut c = world.client("c");
    let link = |len: usize| vec![Argop4::Putrootfh, create(Createtype4::Lnk("x".repeat(len).as_str().into()), "l")];
    assert_eq!(world.status(&mut c, link(4081)), Err(Nfs4Error::Nametoolong));
    assert_eq!(world.status(&mut c, link(4080)), Ok(()));
    let (file, _) = world.create_file(&mut c, "f");
    assert_eq!(file.0.len(), 128);
    let asked = [n::SUPPORTED_ATTRS, n::LINK_SUPPORT, n::MAXLINK, n::MAXNAME, n::SPACE_TOTAL, n::MAXFILESIZE];
    let got = world.attrs(&mut c, &file, &asked);
    assert_eq!((got.link_support, got.maxlink, got.maxname), (Some(false), Some(1), Some(255)));
    assert_eq!((got.space_total, got.maxfilesize), (Some(8 << 60), Some(52_673_613_135_872)));
    let supported = got.supported_attrs.unwrap();
    for absent in [n::ACL, n::ARCHIVE, n::FILES_FREE, n::FS_LOCATIONS, n::MIMETYPE, n::QUOTA_USED, n::TIME_BACKUP] {
        assert!(!supported.contains(absent), "{absent}");
    }
    let acl = Attrs { acl: Some(Vec::new().into()), ..Attrs::default() };
    let setting = vec![putfh(&file), setattr(Stateid4::ANONYMOUS, &acl)];
    assert_eq!(world.status(&mut c, setting), Err(Nfs4Error::Attrnotsupp));
}

/// User guide, "quotas": 512 byte-range locks a file.
#[test]
fn a_file_takes_512_locks_and_no_more() {
    let mut world = World::s3files();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    let kind = NfsLockType4::Write;
    let mut lock = stateid(&ok(world.call(&mut c, vec![putfh(&file), first_lock(open, "l", kind, 0, 1)]))[1]);
    for i in 1..512 {
        lock = stateid(&ok(world.call(&mut c, vec![putfh(&file), more_lock(lock, kind, 2 * i, 1)]))[1]);
    }
    let one_more = vec![putfh(&file), more_lock(lock, kind, 5000, 1)];
    assert_eq!(world.status(&mut c, one_more.clone()), Err(Nfs4Error::Dquot));
    ok(world.call(&mut c, vec![putfh(&file), locku(lock, 0, 1)]));
    let Argop4::Lock(mut args) = one_more[1].clone() else { unreachable!() };
    args.locker = match more_lock(Stateid4 { seqid: 0, ..lock }, kind, 0, 1) {
        Argop4::Lock(args) => args.locker,
        _ => unreachable!(),
    };
    ok(world.call(&mut c, vec![putfh(&file), Argop4::Lock(args)]));
}

/// User guide, "troubleshooting": the virtual status attribute, with a time stamp in its name.
#[test]
fn the_status_attribute_tells_about_the_export_and_no_other_attribute_is_there() {
    let mut world = World::s3files();
    let mut c = world.client("c");
    let (handle, _) = world.create_file(&mut c, "f");
    let mut get = |world: &mut World, name: &str| {
        let args = Getxattr4args { gxa_name: name.into() };
        match world.call(&mut c, vec![putfh(&handle), Argop4::Getxattr(args)]).resarray.pop() {
            Some(Resop4::Getxattr(done)) => done.map(|done| String::from_utf8(done.gxr_value.to_vec()).unwrap()),
            other => panic!("{other:?}"),
        }
    };
    let text = get(&mut world, "s3files.status;1700000000").unwrap();
    assert!(text.contains("S3Key: f") && text.contains("FilePath: /f"), "{text}");
    let file = world.server.file_at("f").unwrap();
    world.server.set_status_text(file, "ExportError: S3AccessDenied".into());
    assert_eq!(get(&mut world, "s3files.status;1").unwrap(), "ExportError: S3AccessDenied");
    for name in ["s3files.status", "s3files.status;", "s3files.status;x", "mine"] {
        assert_eq!(get(&mut world, name), Err(Nfs4Error::Noxattr), "{name}");
    }
}

/// User guide, "synchronization": objects appear, change and vanish from the S3 side, at once or as a plan says.
#[test]
fn objects_appear_change_and_vanish_from_the_s3_side() {
    let mut world = World::s3files();
    let mut c = world.client("c");
    let now = world.now;
    let put = |bytes: &'static [u8]| S3Change::Put(Bytes::from_static(bytes));
    world.server.s3_change("a/b/c", &put(b"one"), now).unwrap();
    let path = || vec![Argop4::Putrootfh, lookup("a"), lookup("b"), lookup("c")];
    let look = [path(), vec![Argop4::Getfh, getattr(&[n::CHANGE, n::SIZE, n::OWNER, n::MODE])]].concat();
    let results = ok(world.call(&mut c, look.clone()));
    let (file, first) = (handle(&results[4]), attrs_of(&results[5]));
    assert_eq!((first.size, first.owner, first.mode), (Some(3), Some("0".into()), Some(0o644)));
    world.server.s3_change("a/b/c", &put(b"other"), now).unwrap();
    let second = attrs_of(&ok(world.call(&mut c, look))[5]);
    assert!(second.size == Some(5) && second.change > first.change);
    let gone = Action::S3 { path: "a/b/c".into(), change: S3Change::Delete };
    world.server.plan_mut().add(Rule { skip: 2, ..Rule::once(15, gone) });
    assert_eq!(world.status(&mut c, path()), Err(Nfs4Error::Noent));
    assert_eq!(world.status(&mut c, vec![putfh(&file)]), Err(Nfs4Error::Stale));
    world.nobody_is_accused();
}

/// User guide, "conflicts": the bucket wins; the file's bytes go to lost+found, out of which nothing is moved.
#[test]
fn a_conflict_moves_the_files_own_bytes_to_lost_and_found() {
    let mut world = World::s3files();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "report");
    world.write(&mut c, &file, open, 0, b"mine");
    let now = world.now;
    world.server.s3_change("report", &S3Change::Conflict(Bytes::from_static(b"theirs")), now).unwrap();
    assert_eq!(world.read(&mut c, &file, open, 0, 100), b"mine", "the handle follows the file");
    let (winner, other) = world.open(&mut c, "report", 1, Openflag4::NoCreate);
    assert_ne!(winner, file);
    assert_eq!(world.read(&mut c, &winner, other, 0, 100), b"theirs");
    let name = ".s3files-lost+found-fs-0123456789abcdef0";
    let lost = ok(world.call(&mut c, vec![Argop4::Putrootfh, lookup(name), Argop4::Getfh]));
    let lost = handle(&lost[2]);
    let listing = ok(world.call(&mut c, vec![putfh(&lost), readdir(0, nfs4::types::Verifier4::default(), 8192, &[])]));
    let Resop4::Readdir(Ok(done)) = &listing[1] else { panic!("{listing:?}") };
    let entry = String::from_utf8(done.reply.entries[0].name.to_vec()).unwrap();
    assert!(entry.ends_with("-report"), "{entry}");
    let moving = vec![putfh(&lost), Argop4::Savefh, Argop4::Putrootfh, rename(&entry, "back")];
    assert_eq!(world.status(&mut c, moving), Err(Nfs4Error::Perm));
    assert_eq!(world.status(&mut c, vec![Argop4::Putrootfh, remove(name)]), Err(Nfs4Error::Perm));
    ok(world.call(&mut c, vec![putfh(&lost), remove(&entry)]));
}

fn bypass(stateid: Stateid4, offset: u64, count: u32) -> Argop4 {
    Argop4::ReadBypass(Read4args { stateid, offset, count })
}

fn object() -> Object {
    Object { bucket: "b".into(), key: "k/f".into(), etag: "\"e\"".into(), version_id: "v1".into() }
}

/// Direct reads: READ_BYPASS answers with a place in S3 while the object is as the file is, and with data otherwise.
#[test]
fn read_bypass_brings_a_locator_until_the_file_is_written() {
    let mut world = World::s3files();
    let mut c = Client { awsfile: true, ..world.client("c") };
    let (file, open) = world.create_file(&mut c, "f");
    world.write(&mut c, &file, open, 0, b"0123456789");
    let ask = |world: &mut World, c: &mut Client, offset, count| {
        let mut results = ok(world.call(c, vec![putfh(&file), bypass(open, offset, count)]));
        match results.pop() {
            Some(Resop4::ReadBypass(done)) => done,
            other => panic!("{other:?}"),
        }
    };
    let data = ask(&mut world, &mut c, 2, 3);
    assert!(matches!(&data, ReadBypassRes::Data(done) if &done.data[..] == b"234" && !done.eof), "{data:?}");
    let id = world.server.file_at("f").unwrap();
    world.server.set_object(id, Some(object()));
    let place = ask(&mut world, &mut c, 4, 100);
    let ReadBypassRes::Locator(place) = place else { panic!("{place:?}") };
    assert_eq!((place.offset, place.count, place.file_size), (4, 6, 10));
    assert_eq!((&place.bucket_name[..], &place.s3_key[..]), (&b"b"[..], &b"k/f"[..]));
    assert_eq!((&place.etag[..], &place.version_id[..]), (&b"\"e\""[..], &b"v1"[..]));
    assert_eq!(place.filehandle, file);
    assert!(matches!(ask(&mut world, &mut c, 10, 5), ReadBypassRes::Data(done) if done.eof));
    world.write(&mut c, &file, open, 0, b"x");
    assert!(matches!(ask(&mut world, &mut c, 0, 1), ReadBypassRes::Data(_)));
    world.close(&mut c, &file, open);
    world.nobody_is_accused();
}

/// It is not known whether a locator ends its compound; the server does either.
#[test]
fn a_locator_can_end_its_compound_with_its_own_status() {
    let config = Config { locator_ends_compound: true, ..Config::new(Profile::S3Files) };
    let mut world = World::with(config);
    let mut c = Client { awsfile: true, ..world.client("c") };
    let (file, open) = world.create_file(&mut c, "f");
    world.write(&mut c, &file, open, 0, b"x");
    let id = world.server.file_at("f").unwrap();
    world.server.set_object(id, Some(object()));
    let result = world.call(&mut c, vec![putfh(&file), bypass(open, 0, 1), getattr(&[n::SIZE])]);
    assert_eq!(result.status.map_err(u32::from), Err(100_001));
    assert!(matches!(result.resarray[1], Resop4::ReadBypass(ReadBypassRes::Locator(_))));
    assert_eq!(result.resarray.len(), 2);
}

/// READ_BYPASS belongs to the AWSFILE program, right behind SEQUENCE and PUTFH, without another READ.
#[test]
fn read_bypass_elsewhere_is_a_mistake() {
    let mut world = World::s3files();
    let mut c = world.client("c");
    let (file, open) = world.create_file(&mut c, "f");
    let ops = vec![putfh(&file), bypass(open, 0, 1)];
    assert_eq!(world.status(&mut c, ops), Err(Nfs4Error::OpIllegal));
    world.accused_of("unknown or does not decode");
    c.awsfile = true;
    ok(world.call(&mut c, vec![putfh(&file), getattr(&[n::SIZE]), bypass(open, 0, 1)]));
    world.accused_of("elsewhere than right behind");
    ok(world.call(&mut c, vec![putfh(&file), bypass(open, 0, 1), read(open, 0, 1)]));
    world.accused_of("a READ in a compound with READ_BYPASS");
}

/// CB_AWSFILE_HEARTBEAT on the back channel, one at a time, judged by its answer (RFC 8881 §20.9.3).
#[test]
fn a_heartbeat_is_sent_on_the_back_channel_and_its_answer_is_judged() {
    let mut world = World::s3files();
    let c = world.client("c");
    world.server.heartbeat();
    world.server.heartbeat();
    let calls = world.server.take_callbacks();
    assert_eq!(calls.len(), 1, "one at a time");
    let call = &calls[0];
    assert_eq!((call.conn, call.session, call.program), (c.conn, c.session, AWSFILE_CB_PROGRAM));
    let args: CbCompound4args = xdr::from_bytes(call.body.clone()).unwrap();
    let [CbArgop4::Sequence(sequence), CbArgop4::AwsfileHeartbeat(beat)] = &args.argarray[..] else {
        panic!("{args:?}")
    };
    assert_eq!((beat.clientid, sequence.csa_sequenceid), (c.id, 1));
    let answer = |sequenceid: u32, status: Result<(), Nfs4Error>| {
        let done = CbSequence4resok {
            csr_sessionid: c.session,
            csr_sequenceid: sequenceid,
            csr_slotid: 0,
            csr_highest_slotid: 0,
            csr_target_highest_slotid: 0,
        };
        let resarray = vec![CbResop4::Sequence(Ok(done)), CbResop4::AwsfileHeartbeat(status)];
        xdr::to_bytes(&CbCompound4res { status, tag: "".into(), resarray }).unwrap()
    };
    world.server.called_back(call, Some(answer(1, Ok(()))));
    assert!(world.mistakes().is_empty());
    world.server.heartbeat();
    let call = world.server.take_callbacks().remove(0);
    world.server.called_back(&call, None);
    world.server.heartbeat();
    let again = world.server.take_callbacks().remove(0);
    assert_eq!(again.body, call.body, "a lost callback is sent again as it was");
    world.server.called_back(&again, Some(answer(1, Ok(()))));
    world.accused_of("a callback answered wrongly");
    world.server.heartbeat();
    let call = world.server.take_callbacks().remove(0);
    world.server.called_back(&call, Some(answer(2, Err(Nfs4Error::Inval))));
    world.accused_of("a callback answered wrongly");
    world.server.disconnected(c.conn);
    world.server.heartbeat();
    assert!(world.server.take_callbacks().is_empty(), "no back channel");
}

/// The unstable bytes of a file are there for readers before COMMIT (RFC 8881 §18.32.3).
#[test]
fn another_client_sees_uncommitted_bytes() {
    let mut world = World::s3files();
    let (mut a, mut b) = (world.client("a"), world.client("b"));
    let (file, open) = world.create_file(&mut a, "f");
    ok(world.call(&mut a, vec![putfh(&file), write(open, 0, b"new", StableHow4::Unstable4)]));
    let (_, theirs) = world.open(&mut b, "f", 1, Openflag4::NoCreate);
    assert_eq!(world.read(&mut b, &file, theirs, 0, 10), b"new");
}
