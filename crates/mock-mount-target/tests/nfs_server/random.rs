//! Random compounds from several clients, with random faults, restarts and broken bytes: the server never panics and
//! its invariants hold after every call (the driver checks them).

use bytes::Bytes;
use mock_mount_target::nfs::config::Config;
use mock_mount_target::nfs::faults::{Action, Rule};
use mock_mount_target::nfs::{Profile, Reply, S3Change};
use nfs4::Nfs4Error;
use nfs4::attr::{Attrs, ModeUmask4};
use nfs4::compound::{Argop4, Compound4res, OPERATIONS, Resop4};
use nfs4::ops::dir::{Createtype4, Link4args, Secinfo4args, SecinfoStyle4};
use nfs4::ops::extended::{Getxattr4args, Listxattrs4args, Removexattr4args, Setxattr4args, SetxattrOption4};
use nfs4::ops::file::{Access4args, Verify4args};
use nfs4::ops::lock::{FreeStateid4args, LockRes, NfsLockType4, TestStateid4args};
use nfs4::ops::open::{
    Createhow4, Creatverfattr, Delegreturn4args, OpenClaim4, OpenDelegation4, OpenDelegationType4, OpenDowngrade4args,
    Openflag4,
};
use nfs4::ops::session::{BindConnToSession4args, ChannelDirFromClient4, DestroyClientid4args};
use nfs4::ops::v42::{Allocate4args, Clone4args, Copy4args, DataContent4, Seek4args};
use nfs4::types::{NfsFh4, NfsFtype4, Settime4, Specdata4, StableHow4, Stateid4, Verifier4};
use nfs4::xdr;
use std::time::Duration;

use crate::driver::*;

/// Splitmix64: small, and the same on every machine.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn of<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }
}

/// What the clients have seen, right or wrong.
struct Pool {
    handles: Vec<NfsFh4>,
    /// By client: files with an open or a lock of them.
    files: Vec<Vec<(NfsFh4, Stateid4)>>,
    stateids: Vec<Stateid4>,
    cookies: Vec<(u64, Verifier4)>,
}

const NAMES: &[&str] = &["a", "b", "c", "d", "e", "f", "..", "x/y", ""];

impl Pool {
    /// The operations of a compound: at random, or such that they probably go well.
    fn ops(&self, dice: &mut Dice, who: usize) -> Vec<Argop4> {
        let name = dice.of(&NAMES[..6]);
        let (file, stateid) = dice.of(&self.files[who]);
        let (other, to) = dice.of(&self.files[who]);
        let directory = if dice.one_in(2) { Argop4::Putrootfh } else { putfh(&dice.of(&self.handles)) };
        let lock = |dice: &mut Dice| dice.of(&[NfsLockType4::Read, NfsLockType4::Write]);
        let (offset, length) = (dice.of(&[0, 5, 65_536, 100_000]), dice.of(&[1, 10, 65_536]));
        let mut ops = match dice.below(10) {
            0..=2 => vec![Argop4::Putrootfh, Self::open(dice, name), Argop4::Getfh],
            3 => {
                let lock = first_lock(Stateid4::CURRENT, "l", lock(dice), offset, length);
                vec![Argop4::Putrootfh, Self::open(dice, name), lock, Argop4::Getfh]
            }
            4 => {
                let kind = lock(dice);
                vec![putfh(&file), first_lock(stateid, dice.of(&["l", "m"]), kind, offset, length), Argop4::Getfh]
            }
            5 => vec![
                putfh(&file),
                write(
                    stateid,
                    offset,
                    &vec![7; length as usize],
                    dice.of(&[StableHow4::Unstable4, StableHow4::FileSync4]),
                ),
                read(stateid, 0, 200_000),
            ],
            6 => {
                let copy = Argop4::Copy(Copy4args {
                    ca_src_stateid: stateid,
                    ca_dst_stateid: to,
                    ca_src_offset: 0,
                    ca_dst_offset: offset,
                    ca_count: 0,
                    ca_consecutive: true,
                    ca_synchronous: true,
                    ca_source_server: Vec::new().into(),
                });
                let clone = Argop4::Clone(Clone4args {
                    cl_src_stateid: stateid,
                    cl_dst_stateid: to,
                    cl_src_offset: 0,
                    cl_dst_offset: 65_536,
                    cl_count: 0,
                });
                vec![putfh(&file), Argop4::Savefh, putfh(&other), if dice.one_in(2) { copy } else { clone }]
            }
            7 => {
                let moving = rename(name, dice.of(&NAMES[..6]));
                let linking = Argop4::Link(Link4args { newname: dice.of(&NAMES[..6]).into() });
                let from = if dice.one_in(3) { putfh(&file) } else { Argop4::Putrootfh };
                vec![from, Argop4::Savefh, directory, if dice.one_in(2) { moving } else { linking }]
            }
            8 => vec![Argop4::Putrootfh, create(Createtype4::DIR, name), Argop4::Getfh, create(Createtype4::DIR, name)],
            _ => vec![directory],
        };
        let last = match dice.below(13) {
            0 => vec![putfh(&file), close(stateid)],
            1 => vec![putfh(&file), locku(stateid, offset, length)],
            2 => vec![putfh(&file), more_lock(stateid, lock(dice), offset, length)],
            3 => vec![putfh(&file), Argop4::FreeStateid(FreeStateid4args { fsa_stateid: stateid })],
            4 => vec![Argop4::Putrootfh, remove(name)],
            5 => vec![
                putfh(&file),
                Argop4::Deallocate(Allocate4args { aa_stateid: stateid, aa_offset: offset, aa_length: length }),
                Argop4::Allocate(Allocate4args { aa_stateid: stateid, aa_offset: length, aa_length: 70_000 }),
            ],
            6 => vec![putfh(&file), setattr(stateid, &Attrs { size: Some(offset), ..Attrs::default() })],
            7 => vec![putfh(&file), Argop4::Delegreturn(Delegreturn4args { deleg_stateid: stateid })],
            _ => (0..=dice.below(4)).map(|_| self.op(dice)).collect(),
        };
        ops.extend(last);
        ops
    }

    fn op(&self, dice: &mut Dice) -> Argop4 {
        let name = if dice.one_in(30) { dice.of(NAMES) } else { dice.of(&NAMES[..6]) };
        let stateid = if dice.one_in(4) {
            dice.of(&[Stateid4::ANONYMOUS, Stateid4::CURRENT, Stateid4::READ_BYPASS, Stateid4::INVALID])
        } else {
            let mut stateid = dice.of(&self.stateids);
            if dice.one_in(3) {
                stateid.seqid = dice.below(4) as u32;
            }
            stateid
        };
        let offset = dice.of(&[0, 1, 100, 65_535, 65_536, 200_000, 1 << 40, u64::MAX - 1, u64::MAX]);
        let length = dice.of(&[0, 1, 10, 4096, 65_536, 131_072, 1 << 20, u64::MAX]);
        let data = vec![dice.next() as u8; dice.of(&[0, 1, 100, 4096, 66_000, 140_000])];
        let stable = dice.of(&[StableHow4::Unstable4, StableHow4::DataSync4, StableHow4::FileSync4]);
        match dice.below(47) {
            0..=4 => putfh(&dice.of(&self.handles)),
            5..=7 => Argop4::Putrootfh,
            8 => Argop4::Getfh,
            9 => Argop4::Savefh,
            10 => Argop4::Restorefh,
            11 => lookup(name),
            12 => Argop4::Lookupp,
            13..=16 => Self::open(dice, name),
            17 => close(stateid),
            18 => Argop4::OpenDowngrade(OpenDowngrade4args {
                open_stateid: stateid,
                seqid: 0,
                share_access: dice.below(4) as u32,
                share_deny: dice.below(4) as u32,
            }),
            19..=20 => {
                let kind = dice.of(&[NfsLockType4::Read, NfsLockType4::Write, NfsLockType4::WriteW]);
                if dice.one_in(2) {
                    first_lock(stateid, dice.of(&["l", "m"]), kind, offset, length)
                } else {
                    more_lock(stateid, kind, offset, length)
                }
            }
            21 => lockt("l", NfsLockType4::Write, offset, length),
            22 => locku(stateid, offset, length),
            23 => getattr(&(0..83).filter(|bit| ![48, 54, 74, 81].contains(bit)).collect::<Vec<_>>()),
            24 => setattr(stateid, &attrs(dice)),
            25 => Argop4::Verify(Verify4args { obj_attributes: fattr(&attrs(dice)) }),
            26 => Argop4::Access(Access4args { access: dice.below(0x200) as u32 }),
            27 => {
                let (cookie, verifier) = dice.of(&self.cookies);
                readdir(cookie, verifier, dice.of(&[0, 64, 300, 8192]), &[1, 11, 19, 20])
            }
            28..=29 => {
                let kind = dice.of(&[
                    Createtype4::DIR,
                    Createtype4::Lnk("target".into()),
                    Createtype4::Other(NfsFtype4::Fifo),
                    Createtype4::Blk(Specdata4::default()),
                    Createtype4::Other(NfsFtype4::Reg),
                ]);
                create(kind, name)
            }
            30 => remove(name),
            31 => rename(name, dice.of(&NAMES[..6])),
            32 => Argop4::Link(Link4args { newname: name.into() }),
            33 => read(stateid, offset, length as u32),
            34..=35 => write(stateid, offset, &data, stable),
            36 => commit(offset, length as u32),
            37 => {
                let range = Allocate4args { aa_stateid: stateid, aa_offset: offset, aa_length: length };
                if dice.one_in(2) { Argop4::Allocate(range) } else { Argop4::Deallocate(range) }
            }
            38 => Argop4::Seek(Seek4args {
                sa_stateid: stateid,
                sa_offset: offset,
                sa_what: dice.of(&[DataContent4::Data, DataContent4::Hole, DataContent4::Unknown(7)]),
            }),
            39 => Argop4::Copy(Copy4args {
                ca_src_stateid: stateid,
                ca_dst_stateid: dice.of(&self.stateids),
                ca_src_offset: offset,
                ca_dst_offset: dice.of(&[0, 5, 65_536, 1 << 30]),
                ca_count: length,
                ca_consecutive: true,
                ca_synchronous: dice.one_in(2),
                ca_source_server: Vec::new().into(),
            }),
            40 => Argop4::Clone(Clone4args {
                cl_src_stateid: stateid,
                cl_dst_stateid: dice.of(&self.stateids),
                cl_src_offset: offset,
                cl_dst_offset: 0,
                cl_count: length,
            }),
            41 => match dice.below(4) {
                0 => Argop4::Setxattr(Setxattr4args {
                    sxa_option: dice.of(&[SetxattrOption4::Either, SetxattrOption4::Create, SetxattrOption4::Replace]),
                    sxa_key: name.into(),
                    sxa_value: data.into(),
                }),
                1 => Argop4::Getxattr(Getxattr4args { gxa_name: name.into() }),
                2 => Argop4::Listxattrs(Listxattrs4args { lxa_cookie: dice.below(5), lxa_maxcount: length as u32 }),
                _ => Argop4::Removexattr(Removexattr4args { rxa_name: name.into() }),
            },
            42 => Argop4::TestStateid(TestStateid4args { ts_stateids: self.stateids.clone().into() }),
            43 => Argop4::FreeStateid(FreeStateid4args { fsa_stateid: stateid }),
            44 => match dice.below(3) {
                0 => Argop4::Secinfo(Secinfo4args { name: name.into() }),
                1 => Argop4::SecinfoNoName(dice.of(&[SecinfoStyle4::CurrentFh, SecinfoStyle4::Parent])),
                _ => Argop4::ReadPlus(nfs4::ops::file::Read4args { stateid, offset, count: length as u32 }),
            },
            45 => Argop4::Delegreturn(Delegreturn4args { deleg_stateid: stateid }),
            _ => reclaim_complete(),
        }
    }

    fn open(dice: &mut Dice, name: &str) -> Argop4 {
        let verifier = Verifier4([dice.below(3) as u8; 8]);
        let attrs = attrs(dice);
        let how = match dice.below(6) {
            0..=1 => Openflag4::NoCreate,
            2..=3 => unchecked(&attrs),
            4 => Openflag4::Create(Createhow4::Guarded(fattr(&attrs))),
            _ => Openflag4::Create(Createhow4::Exclusive41(Creatverfattr {
                cva_verf: verifier,
                cva_attrs: fattr(&attrs),
            })),
        };
        let mut args = open_args(dice.of(&["o", "p"]), name, 1 + dice.below(3) as u32, how);
        args.share_deny = dice.of(&[0, 0, 0, 0, 0, 1, 2, 3]);
        args.share_access |= dice.of(&[0, 0x100, 0x200, 0x300, 0x300, 0x400]);
        args.claim = match dice.below(12) {
            0 => OpenClaim4::Fh,
            1 => OpenClaim4::Previous(dice.of(&[OpenDelegationType4::None, OpenDelegationType4::Read])),
            3 => OpenClaim4::DelegCurFh(Stateid4::CURRENT),
            2 => OpenClaim4::DelegPrevFh,
            _ => args.claim,
        };
        if !matches!(args.claim, OpenClaim4::Null(_)) && !dice.one_in(5) {
            args.openhow = Openflag4::NoCreate;
        }
        Argop4::Open(args)
    }

    fn learn(&mut self, results: &[Resop4], who: usize) {
        let (mut made, mut delegation) = (None, None);
        for result in results {
            if let Resop4::Open(Ok(_)) | Resop4::Lock(LockRes::Ok(_)) = result {
                made = Some(stateid(result));
            }
            if let Resop4::Open(Ok(open)) = result {
                delegation = match &open.delegation {
                    OpenDelegation4::Read(read) => Some(read.stateid),
                    OpenDelegation4::Write(write) => Some(write.stateid),
                    _ => None,
                };
            }
            if let (Resop4::Getfh(Ok(done)), Some(stateid)) = (result, made) {
                self.files[who].push((done.object.clone(), stateid));
                self.files[who].extend(delegation.map(|delegation| (done.object.clone(), delegation)));
            }
            match result {
                Resop4::Getfh(Ok(done)) => self.handles.push(done.object.clone()),
                Resop4::Open(Ok(done)) => self.stateids.push(done.stateid),
                Resop4::Lock(LockRes::Ok(done)) => self.stateids.push(done.lock_stateid),
                Resop4::Locku(Ok(stateid)) => self.stateids.push(*stateid),
                Resop4::Readdir(Ok(done)) => {
                    self.cookies.extend(done.reply.entries.iter().map(|entry| (entry.cookie, done.cookieverf)));
                }
                _ => {}
            }
        }
        let files = &mut self.files[who];
        files.drain(..files.len().saturating_sub(6));
        self.handles.drain(..self.handles.len().saturating_sub(20));
        self.stateids.drain(..self.stateids.len().saturating_sub(12));
        self.cookies.drain(..self.cookies.len().saturating_sub(10));
    }
}

fn attrs(dice: &mut Dice) -> Attrs {
    let mut attrs = Attrs::default();
    match dice.below(20) {
        0 => attrs.size = Some(dice.of(&[0, 1, 70_000, 1 << 40, u64::MAX])),
        1 => attrs.mode = Some(dice.of(&[0, 0o644, 0o6755, 0o777, 0o10_000])),
        2 => attrs.owner = Some(dice.of(&["0", "1000", "x", "99999999999"]).into()),
        3 => attrs.owner_group = Some(dice.of(&["0", "1000", ""]).into()),
        4 => attrs.time_modify_set = Some(Settime4::ServerTime),
        5 => attrs.mode_umask = Some(ModeUmask4 { mu_mode: 0o666, mu_umask: 0o22 }),
        6 => attrs.change = Some(3),
        _ => {}
    }
    attrs
}

fn fault(dice: &mut Dice) -> Rule {
    let action = match dice.below(16) {
        0 => Action::Status(dice.of(Nfs4Error::NAMED)),
        1 => Action::StatusAfter(dice.of(Nfs4Error::NAMED)),
        2 => Action::Restart { stable_storage: dice.one_in(2), after: dice.one_in(2) },
        3 => Action::NewWriteVerifier,
        4 => Action::Short(dice.below(100) as u32),
        5 => Action::UnknownArm,
        6 => Action::DropSessions,
        7 => Action::Revoke(dice.of(&[Nfs4Error::AdminRevoked, Nfs4Error::Expired])),
        8 => Action::S3 {
            path: dice.of(&["a", "b/c", "d/e/f"]).into(),
            change: match dice.below(3) {
                0 => S3Change::Put(Bytes::from_static(b"from s3")),
                1 => S3Change::Delete,
                _ => S3Change::Conflict(Bytes::from_static(b"s3 wins")),
            },
        },
        9 => Action::Bytes((0..dice.below(60)).map(|_| dice.next() as u8).collect()),
        10 => Action::Recall,
        11 => Action::RecallUnknown,
        _ => Action::Status(Nfs4Error::Delay),
    };
    Rule { skip: dice.below(6), ..Rule::once(dice.of(OPERATIONS), action) }
}

fn play(seed: u64) {
    let mut dice = Dice::new(seed);
    let profile = if seed.is_multiple_of(3) { Profile::S3Files } else { Profile::Full };
    let preserve_unlinked = seed % 5 < 3;
    let config = Config { capacity: 1 << 24, preserve_unlinked, delegations: seed % 4 < 3, ..Config::new(profile) };
    let mut world = World::with(config);
    let mut clients: Vec<Client> = (0..3).map(|n| world.client(&format!("client {n}"))).collect();
    clients[1].uid = 1000;
    clients[1].gid = 1000;
    clients[2].minor = 1;
    let root = ok(world.call(
        &mut clients[0],
        vec![
            Argop4::Putrootfh,
            setattr(Stateid4::ANONYMOUS, &Attrs { mode: Some(0o777), ..Attrs::default() }),
            Argop4::Getfh,
        ],
    ));
    let mut pool = Pool {
        handles: vec![handle(&root[2]), NfsFh4(vec![1, 2, 3].into())],
        files: vec![vec![(handle(&root[2]), Stateid4::ANONYMOUS)]; 3],
        stateids: vec![Stateid4 { seqid: 1, ..Stateid4::READ_BYPASS }],
        cookies: vec![(0, Verifier4::default()), (3, Verifier4::default())],
    };
    for _ in 0..60 {
        let who = dice.below(3) as usize;
        if dice.one_in(15) {
            world.server.plan_mut().add(fault(&mut dice));
        }
        for call in world.server.take_callbacks() {
            // Lost, or answered by nonsense: what a client says of its delegations must not matter to the server.
            let reply = (!dice.one_in(3)).then(|| Bytes::from(vec![0; dice.below(40) as usize]));
            world.server.called_back(&call, reply);
        }
        if dice.one_in(25) {
            world.pass(Duration::from_secs(dice.below(100)));
        }
        let client = &mut clients[who];
        let answered = if dice.one_in(40) {
            let op = match dice.below(5) {
                0 => exchange_id(client, dice.of(&[0, 0x4000_0000])),
                1 => create_session(client),
                2 => destroy_session(client.session),
                3 => Argop4::DestroyClientid(DestroyClientid4args { dca_clientid: client.id }),
                _ => Argop4::BindConnToSession(BindConnToSession4args {
                    bctsa_sessid: client.session,
                    bctsa_dir: ChannelDirFromClient4::ForeOrBoth,
                    bctsa_use_conn_in_rdma_mode: false,
                }),
            };
            world.send_bytes(client, encode(client.minor, vec![op]))
        } else {
            let slot = dice.below(3) as u32;
            let mut sequence = client.next(slot);
            if dice.one_in(15) {
                sequence.sa_sequenceid = sequence.sa_sequenceid.wrapping_add(dice.below(4) as u32).wrapping_sub(2);
            }
            let mut ops = vec![Argop4::Sequence(sequence)];
            ops.extend(pool.ops(&mut dice, who));
            let mut body = encode(client.minor, ops).to_vec();
            if dice.one_in(20) {
                let at = dice.below(body.len() as u64) as usize;
                body[at] ^= 1 << dice.below(8);
            }
            if dice.one_in(40) {
                body.truncate(dice.below(body.len() as u64) as usize);
            }
            client.sequence[slot as usize] += 1;
            let acted = world.server.plan_mut().acted();
            let reply = world.send_bytes(client, body.clone().into());
            if dice.one_in(10) {
                try_again(&mut world, client, body.into(), &reply, acted);
            }
            reply
        };
        match decode_if_whole(&answered) {
            Some(result) => {
                pool.learn(&result.resarray, who);
                match result.resarray.first() {
                    Some(Resop4::Sequence(Ok(_))) => {}
                    Some(Resop4::Sequence(Err(Nfs4Error::SeqMisordered))) => {
                        let client = &mut clients[who];
                        client
                            .sequence
                            .iter_mut()
                            .for_each(|last| *last = last.saturating_sub(u32::from(dice.one_in(2))));
                    }
                    _ => recover(&mut world, &mut clients[who]),
                }
            }
            None => recover(&mut world, &mut clients[who]),
        }
    }
    world.server.at_end();
}

/// An exact retry of a request that was carried out, with no fault on the way, brings the same bytes.
fn try_again(world: &mut World, client: &Client, body: Bytes, first: &Reply, acted: u64) {
    let second = world.send_bytes(client, body);
    let carried_out = decode_if_whole(first).is_some_and(|result| {
        let ended = result.resarray.iter().any(|result| matches!(result, Resop4::DestroySession(Ok(()))));
        matches!(result.resarray.first(), Some(Resop4::Sequence(Ok(_)))) && !ended
    });
    if carried_out && world.server.plan_mut().acted() == acted {
        // A broken bit may have been the one that asks for the reply to be kept.
        let uncached = decode_if_whole(&second).is_some_and(|r| r.status == Err(Nfs4Error::RetryUncachedRep));
        assert!(uncached || *first == second, "an exact retry was answered differently: {first:?} {second:?}");
    }
}

pub fn decode_if_whole(reply: &Reply) -> Option<Compound4res> {
    match reply {
        Reply::Body(body) => xdr::from_bytes(body.concat().into()).ok(),
        _ => None,
    }
}

/// Starts over with a new client life; faults may be in the way of that as well.
fn recover(world: &mut World, client: &mut Client) {
    client.verifier[0] = client.verifier[0].wrapping_add(1);
    for _ in 0..20 {
        let reply = world.send_bytes(client, encode(client.minor, vec![exchange_id(client, 0)]));
        let Some(Resop4::ExchangeId(Ok(known))) = decode_if_whole(&reply).and_then(|mut r| r.resarray.pop()) else {
            continue;
        };
        client.id = known.eir_clientid;
        client.create_sequence = known.eir_sequenceid;
        let reply = world.send_bytes(client, encode(client.minor, vec![create_session(client)]));
        let Some(Resop4::CreateSession(Ok(made))) = decode_if_whole(&reply).and_then(|mut r| r.resarray.pop()) else {
            continue;
        };
        client.session = made.csr_sessionid;
        client.sequence = vec![0; 64];
        let ops = vec![Argop4::Sequence(client.next(0)), reclaim_complete()];
        world.send_bytes(client, encode(client.minor, ops));
        client.sequence[0] = 1;
        return;
    }
}

/// How many seeds are played; `NFS_SEEDS` says another number.
const SEEDS: u64 = 600;

/// Plays every seed and names the one that fails.
pub fn for_each_seed(play: fn(u64)) {
    let seeds = std::env::var("NFS_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    for seed in 0..seeds {
        if let Err(panic) = std::panic::catch_unwind(|| play(seed)) {
            let why = panic.downcast_ref::<String>().cloned();
            let why = why.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            panic!("seed {seed}: {}", why.unwrap_or_default());
        }
    }
}

/// The server never panics and never breaks its own invariants.
#[test]
fn no_random_conversation_breaks_an_invariant() {
    for_each_seed(play);
}
