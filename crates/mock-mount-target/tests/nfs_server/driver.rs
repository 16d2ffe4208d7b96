//! Hand-built compounds: a world with one server, and clients that send exactly what they are told.

use bytes::Bytes;
use mock_mount_target::nfs::{Caller, Config, ConnId, Identity, Now, Profile, Reply, Request, Server};
use nfs4::Nfs4Error;
use nfs4::attr::{Attrs, Fattr4};
use nfs4::compound::{Argop4, Compound4args, Compound4res, Resop4};
use nfs4::ops::dir::{Create4args, Createtype4, Lookup4args, Readdir4args, Remove4args, Rename4args};
use nfs4::ops::file::{Commit4args, Getattr4args, Putfh4args, Read4args, Setattr4args, Write4args};
use nfs4::ops::lock::{ExistLockOwner4, Lock4args, Locker4, Lockt4args, Locku4args, NfsLockType4, OpenToLockOwner4};
use nfs4::ops::open::{Close4args, Createhow4, Open4args, OpenClaim4, Openflag4};
use nfs4::ops::session::{
    ChannelAttrs4, ClientOwner4, CreateSession4args, DestroyClientid4args, DestroySession4args, ExchangeId4args,
    ReclaimComplete4args, Sequence4args, StateProtect4A, create_session4,
};
use nfs4::rpc::AuthSys;
use nfs4::types::{Bitmap4, NfsFh4, Sessionid4, StableHow4, StateOwner4, Stateid4, Verifier4};
use nfs4::xdr;
use std::sync::Arc;
use std::time::Duration;

/// A server and the time.
pub struct World {
    pub server: Server,
    pub now: Now,
    conns: u64,
}

/// A client: one connection, one session, the next sequence id of each slot.
#[derive(Debug, Clone)]
pub struct Client {
    pub conn: ConnId,
    pub identity: Identity,
    pub partition: Option<[u8; 64]>,
    pub uid: u32,
    pub gid: u32,
    pub minor: u32,
    pub awsfile: bool,
    pub owner: String,
    pub verifier: [u8; 8],
    pub id: u64,
    pub create_sequence: u32,
    pub session: Sessionid4,
    pub sequence: Vec<u32>,
    pub cache: bool,
}

impl World {
    pub fn new(profile: Profile) -> Self {
        Self::with(Config::new(profile))
    }

    pub fn full() -> Self {
        Self::new(Profile::Full)
    }

    pub fn s3files() -> Self {
        Self::new(Profile::S3Files)
    }

    pub fn with(config: Config) -> Self {
        let now = Now(Duration::from_secs(1_700_000_000));
        Self { server: Server::new(config, now), now, conns: 0 }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now = Now(self.now.0 + time);
        self.server.tick(self.now);
    }

    pub fn new_conn(&mut self) -> ConnId {
        self.conns += 1;
        ConnId(self.conns)
    }

    /// A client that is known to nobody yet.
    pub fn stranger(&mut self, owner: &str) -> Client {
        Client {
            conn: self.new_conn(),
            identity: Identity::default(),
            partition: None,
            uid: 0,
            gid: 0,
            minor: 2,
            awsfile: false,
            owner: owner.into(),
            verifier: [1; 8],
            id: 0,
            create_sequence: 0,
            session: Sessionid4::default(),
            sequence: vec![0; 64],
            cache: true,
        }
    }

    /// A client with a session that may open files.
    pub fn client(&mut self, owner: &str) -> Client {
        let mut client = self.stranger(owner);
        self.establish(&mut client);
        ok(self.call(&mut client, vec![reclaim_complete()]));
        client
    }

    /// Client id and session; no RECLAIM_COMPLETE.
    pub fn establish(&mut self, client: &mut Client) {
        self.identify(client);
        self.create_session(client);
    }

    pub fn identify(&mut self, client: &mut Client) {
        let results = ok(self.send(client, vec![exchange_id(client, 0)]));
        let Resop4::ExchangeId(Ok(done)) = &results[0] else { panic!("{results:?}") };
        client.id = done.eir_clientid;
        client.create_sequence = done.eir_sequenceid;
    }

    pub fn create_session(&mut self, client: &mut Client) {
        let results = ok(self.send(client, vec![create_session(client)]));
        let Resop4::CreateSession(Ok(done)) = &results[0] else { panic!("{results:?}") };
        client.session = done.csr_sessionid;
        client.create_sequence += 1;
        client.sequence = vec![0; 64];
    }

    /// Unmounts.
    pub fn leave(&mut self, client: &mut Client) {
        ok(self.send(client, vec![destroy_session(client.session)]));
        ok(self.send(client, vec![Argop4::DestroyClientid(DestroyClientid4args { dca_clientid: client.id })]));
    }

    /// Sends a compound as it is.
    pub fn send(&mut self, client: &Client, argarray: Vec<Argop4>) -> Compound4res {
        let reply = self.send_bytes(client, encode(client.minor, argarray));
        decode(&reply)
    }

    pub fn send_bytes(&mut self, client: &Client, body: Bytes) -> Reply {
        let cred = AuthSys::new("test", client.uid, client.gid, &Arc::from([])).to_opaque_auth().unwrap();
        let caller = Caller::of(&cred, &client.identity).unwrap();
        let len = body.len() + 100;
        let reply = self.server.call(Request {
            conn: client.conn,
            identity: &client.identity,
            partition: client.partition,
            caller,
            now: self.now,
            awsfile: client.awsfile,
            body,
            len,
        });
        if let Err(broken) = self.server.check_invariants() {
            panic!("{broken}");
        }
        reply
    }

    /// Sends operations behind a SEQUENCE on slot 0; the results without SEQUENCE's.
    pub fn call(&mut self, client: &mut Client, ops: Vec<Argop4>) -> Compound4res {
        self.call_on(client, 0, ops)
    }

    pub fn call_on(&mut self, client: &mut Client, slot: u32, ops: Vec<Argop4>) -> Compound4res {
        let mut all = vec![Argop4::Sequence(client.next(slot))];
        all.extend(ops);
        let mut result = self.send(client, all);
        let first = result.resarray.remove(0);
        assert!(matches!(first, Resop4::Sequence(Ok(_))), "{first:?}");
        client.sequence[slot as usize] += 1;
        result
    }

    /// The status of the last operation of a compound on slot 0.
    pub fn status(&mut self, client: &mut Client, ops: Vec<Argop4>) -> Result<(), Nfs4Error> {
        self.call(client, ops).status
    }

    /// Opens or creates a file in the root directory.
    pub fn open(&mut self, client: &mut Client, name: &str, access: u32, how: Openflag4) -> (NfsFh4, Stateid4) {
        let args = open_args("owner", name, access, how);
        let results = ok(self.call(client, vec![Argop4::Putrootfh, Argop4::Open(args), Argop4::Getfh]));
        match (&results[1], &results[2]) {
            (Resop4::Open(Ok(open)), Resop4::Getfh(Ok(handle))) => (handle.object.clone(), open.stateid),
            other => panic!("{other:?}"),
        }
    }

    pub fn create_file(&mut self, client: &mut Client, name: &str) -> (NfsFh4, Stateid4) {
        self.open(client, name, 3, unchecked(&Attrs { mode: Some(0o644), ..Attrs::default() }))
    }

    /// A directory in the root directory.
    pub fn mkdir(&mut self, client: &mut Client, name: &str) -> NfsFh4 {
        let results = ok(self.call(client, vec![Argop4::Putrootfh, create(Createtype4::DIR, name), Argop4::Getfh]));
        handle(&results[2])
    }

    pub fn close(&mut self, client: &mut Client, handle: &NfsFh4, stateid: Stateid4) {
        ok(self.call(client, vec![putfh(handle), close(stateid)]));
    }

    pub fn write(&mut self, client: &mut Client, handle: &NfsFh4, stateid: Stateid4, offset: u64, data: &[u8]) {
        ok(self.call(client, vec![putfh(handle), write(stateid, offset, data, StableHow4::FileSync4)]));
    }

    pub fn read(
        &mut self,
        client: &mut Client,
        handle: &NfsFh4,
        stateid: Stateid4,
        offset: u64,
        count: u32,
    ) -> Vec<u8> {
        let results = ok(self.call(client, vec![putfh(handle), read(stateid, offset, count)]));
        match &results[1] {
            Resop4::Read(Ok(read)) => read.data.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    pub fn attrs(&mut self, client: &mut Client, handle: &NfsFh4, bits: &[u32]) -> Attrs {
        let results = ok(self.call(client, vec![putfh(handle), getattr(bits)]));
        attrs_of(&results[1])
    }

    pub fn mistakes(&self) -> &[String] {
        self.server.referee().mistakes()
    }

    /// The mistakes so far, which are expected to be one that has `part` in it.
    #[track_caller]
    pub fn accused_of(&mut self, part: &str) {
        let mistakes = self.server.referee_mut().take_mistakes();
        assert!(!mistakes.is_empty(), "nobody was accused of: {part}");
        assert!(mistakes.iter().all(|mistake| mistake.contains(part)), "{part} is not in {mistakes:?}");
    }

    #[track_caller]
    pub fn nobody_is_accused(&mut self) {
        let mistakes = self.server.at_end();
        assert!(mistakes.is_empty(), "{mistakes:?}");
    }
}

impl Client {
    /// SEQUENCE's arguments for the next request of a slot.
    pub fn next(&self, slot: u32) -> Sequence4args {
        Sequence4args {
            sa_sessionid: self.session,
            sa_sequenceid: self.sequence[slot as usize] + 1,
            sa_slotid: slot,
            sa_highest_slotid: slot,
            sa_cachethis: self.cache,
        }
    }
}

pub fn encode(minorversion: u32, argarray: Vec<Argop4>) -> Bytes {
    xdr::to_bytes(&Compound4args { tag: "tag".into(), minorversion, argarray }).unwrap()
}

#[track_caller]
pub fn decode(reply: &Reply) -> Compound4res {
    match reply {
        Reply::Body(body) => xdr::from_bytes(body.concat().into()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// The results of a compound that went well.
#[track_caller]
pub fn ok(result: Compound4res) -> Vec<Resop4> {
    assert_eq!(result.status, Ok(()), "{:?}", result.resarray);
    result.resarray
}

pub fn exchange_id(client: &Client, flags: u32) -> Argop4 {
    Argop4::ExchangeId(ExchangeId4args {
        eia_clientowner: ClientOwner4 {
            co_verifier: Verifier4(client.verifier),
            co_ownerid: client.owner.as_str().into(),
        },
        eia_flags: flags,
        eia_state_protect: StateProtect4A::None,
        eia_client_impl_id: Vec::new().into(),
    })
}

pub fn channel() -> ChannelAttrs4 {
    ChannelAttrs4 {
        ca_headerpadsize: 0,
        ca_maxrequestsize: 1 << 21,
        ca_maxresponsesize: 1 << 21,
        ca_maxresponsesize_cached: 4096,
        ca_maxoperations: 16,
        ca_maxrequests: 8,
        ca_rdma_ird: Vec::new().into(),
    }
}

pub fn create_session_args(client: &Client) -> CreateSession4args {
    CreateSession4args {
        csa_clientid: client.id,
        csa_sequence: client.create_sequence,
        csa_flags: create_session4::CONN_BACK_CHAN,
        csa_fore_chan_attrs: channel(),
        csa_back_chan_attrs: channel(),
        csa_cb_program: 400_124,
        csa_sec_parms: Vec::new().into(),
    }
}

pub fn create_session(client: &Client) -> Argop4 {
    Argop4::CreateSession(create_session_args(client))
}

pub fn destroy_session(session: Sessionid4) -> Argop4 {
    Argop4::DestroySession(DestroySession4args { dsa_sessionid: session })
}

pub fn reclaim_complete() -> Argop4 {
    Argop4::ReclaimComplete(ReclaimComplete4args { rca_one_fs: false })
}

pub fn fattr(attrs: &Attrs) -> Fattr4 {
    attrs.to_fattr4().unwrap()
}

pub fn unchecked(attrs: &Attrs) -> Openflag4 {
    Openflag4::Create(Createhow4::Unchecked(fattr(attrs)))
}

pub fn owner(name: &str) -> StateOwner4 {
    StateOwner4 { clientid: 0, owner: name.into() }
}

pub fn open_args(by: &str, name: &str, access: u32, how: Openflag4) -> Open4args {
    Open4args {
        seqid: 0,
        share_access: access,
        share_deny: 0,
        owner: owner(by),
        openhow: how,
        claim: OpenClaim4::Null(name.into()),
    }
}

pub fn putfh(handle: &NfsFh4) -> Argop4 {
    Argop4::Putfh(Putfh4args { object: handle.clone() })
}

pub fn lookup(name: &str) -> Argop4 {
    Argop4::Lookup(Lookup4args { objname: name.into() })
}

pub fn getattr(bits: &[u32]) -> Argop4 {
    Argop4::Getattr(Getattr4args { attr_request: Bitmap4::of(bits) })
}

pub fn setattr(stateid: Stateid4, attrs: &Attrs) -> Argop4 {
    Argop4::Setattr(Setattr4args { stateid, obj_attributes: fattr(attrs) })
}

/// Sets attributes without an open.
pub fn set(attrs: &Attrs) -> Argop4 {
    setattr(Stateid4::ANONYMOUS, attrs)
}

pub fn mode(mode: u32) -> Attrs {
    Attrs { mode: Some(mode), ..Attrs::default() }
}

pub fn create(objtype: Createtype4, name: &str) -> Argop4 {
    Argop4::Create(Create4args { objtype, objname: name.into(), createattrs: Fattr4::default() })
}

pub fn remove(name: &str) -> Argop4 {
    Argop4::Remove(Remove4args { target: name.into() })
}

pub fn rename(oldname: &str, newname: &str) -> Argop4 {
    Argop4::Rename(Rename4args { oldname: oldname.into(), newname: newname.into() })
}

pub fn readdir(cookie: u64, cookieverf: Verifier4, maxcount: u32, bits: &[u32]) -> Argop4 {
    Argop4::Readdir(Readdir4args { cookie, cookieverf, dircount: 0, maxcount, attr_request: Bitmap4::of(bits) })
}

pub fn read(stateid: Stateid4, offset: u64, count: u32) -> Argop4 {
    Argop4::Read(Read4args { stateid, offset, count })
}

pub fn write(stateid: Stateid4, offset: u64, data: &[u8], stable: StableHow4) -> Argop4 {
    Argop4::Write(Write4args { stateid, offset, stable, data: vec![Bytes::copy_from_slice(data)] })
}

pub fn commit(offset: u64, count: u32) -> Argop4 {
    Argop4::Commit(Commit4args { offset, count })
}

pub fn close(open_stateid: Stateid4) -> Argop4 {
    Argop4::Close(Close4args { seqid: 0, open_stateid })
}

pub fn first_lock(open: Stateid4, by: &str, kind: NfsLockType4, offset: u64, length: u64) -> Argop4 {
    Argop4::Lock(Lock4args {
        locktype: kind,
        reclaim: false,
        offset,
        length,
        locker: Locker4::OpenOwner(OpenToLockOwner4 {
            open_seqid: 0,
            open_stateid: open,
            lock_seqid: 0,
            lock_owner: owner(by),
        }),
    })
}

pub fn more_lock(lock: Stateid4, kind: NfsLockType4, offset: u64, length: u64) -> Argop4 {
    Argop4::Lock(Lock4args {
        locktype: kind,
        reclaim: false,
        offset,
        length,
        locker: Locker4::Exist(ExistLockOwner4 { lock_stateid: lock, lock_seqid: 0 }),
    })
}

pub fn lockt(by: &str, kind: NfsLockType4, offset: u64, length: u64) -> Argop4 {
    Argop4::Lockt(Lockt4args { locktype: kind, offset, length, owner: owner(by) })
}

pub fn locku(lock_stateid: Stateid4, offset: u64, length: u64) -> Argop4 {
    Argop4::Locku(Locku4args { locktype: NfsLockType4::Write, seqid: 0, lock_stateid, offset, length })
}

#[track_caller]
pub fn handle(result: &Resop4) -> NfsFh4 {
    match result {
        Resop4::Getfh(Ok(done)) => done.object.clone(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub fn attrs_of(result: &Resop4) -> Attrs {
    match result {
        Resop4::Getattr(Ok(done)) => Attrs::from_fattr4(&done.obj_attributes).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub fn stateid(result: &Resop4) -> Stateid4 {
    use nfs4::ops::lock::LockRes;
    match result {
        Resop4::Open(Ok(done)) => done.stateid,
        Resop4::Lock(LockRes::Ok(done)) => done.lock_stateid,
        Resop4::Locku(Ok(stateid)) | Resop4::OpenDowngrade(Ok(stateid)) | Resop4::Close(Ok(stateid)) => *stateid,
        other => panic!("{other:?}"),
    }
}

/// The status flags of a SEQUENCE alone on slot 0.
#[track_caller]
pub fn flags(world: &mut World, client: &mut Client) -> u32 {
    let ops = vec![Argop4::Sequence(client.next(0))];
    client.sequence[0] += 1;
    let results = ok(world.send(client, ops));
    let Resop4::Sequence(Ok(done)) = &results[0] else { panic!("{results:?}") };
    done.sr_status_flags
}
