//! An NFSv4.2 session over a hand-made connection: slots, sequence ids, and the few operations that the tests need.

use bytes::Bytes;
use nfs4::attr::Attrs;
use nfs4::callback::{CbCompound4args, CbCompound4res, CbResop4};
use nfs4::compound::{Argop4, Compound4args, Compound4res, Resop4};
use nfs4::ops::file::{Commit4args, Putfh4args, Read4args, Write4args};
use nfs4::ops::open::{Close4args, Createhow4, Open4args, OpenClaim4, Openflag4};
use nfs4::ops::session::{
    ChannelAttrs4, ClientOwner4, CreateSession4args, DestroyClientid4args, DestroySession4args, ExchangeId4args,
    ReclaimComplete4args, Sequence4args, StateProtect4A, create_session4,
};
use nfs4::rpc::{AuthSys, Message, OpaqueAuth, ReplyHeader, ReplyStatus};
use nfs4::types::{NfsFh4, Sessionid4, StableHow4, StateOwner4, Stateid4, Verifier4};
use nfs4::xdr::{self, Reader, Writer};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Peer;

pub const SLOTS: usize = 32;

/// A connection with a session on it.
pub struct Session<S> {
    pub peer: Peer<S>,
    pub id: Sessionid4,
    pub clientid: u64,
    pub sequence: Vec<u32>,
    /// Whether compounds are sent to the AWSFILE program.
    pub awsfile: bool,
    owner: String,
    uid: u32,
    create_sequence: u32,
}

fn credential(uid: u32) -> OpaqueAuth {
    AuthSys::new("by-hand", uid, uid, &Arc::from([])).to_opaque_auth().unwrap()
}

fn channel(requests: u32) -> ChannelAttrs4 {
    ChannelAttrs4 {
        ca_headerpadsize: 0,
        ca_maxrequestsize: 1_052_672,
        ca_maxresponsesize: 1_052_672,
        ca_maxresponsesize_cached: 4096,
        ca_maxoperations: 16,
        ca_maxrequests: requests,
        ca_rdma_ird: Vec::new().into(),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// A new client, its session, and RECLAIM_COMPLETE.
    pub async fn establish(peer: Peer<S>, owner: &str, uid: u32) -> io::Result<Self> {
        let mut this = Self {
            peer,
            id: Sessionid4::default(),
            clientid: 0,
            sequence: vec![0; SLOTS],
            awsfile: false,
            owner: owner.into(),
            uid,
            create_sequence: 0,
        };
        this.create().await?;
        let done = this.call(vec![Argop4::ReclaimComplete(ReclaimComplete4args { rca_one_fs: false })]).await?;
        assert_eq!(done.status, Ok(()));
        Ok(this)
    }

    /// EXCHANGE_ID and CREATE_SESSION.
    pub async fn create(&mut self) -> io::Result<()> {
        let exchange = Argop4::ExchangeId(ExchangeId4args {
            eia_clientowner: ClientOwner4 { co_verifier: Verifier4([3; 8]), co_ownerid: self.owner.as_str().into() },
            eia_flags: 0,
            eia_state_protect: StateProtect4A::None,
            eia_client_impl_id: Vec::new().into(),
        });
        match &self.alone(exchange).await?.resarray[0] {
            Resop4::ExchangeId(Ok(done)) => {
                (self.clientid, self.create_sequence) = (done.eir_clientid, done.eir_sequenceid);
            }
            other => panic!("{other:?}"),
        }
        let create = Argop4::CreateSession(CreateSession4args {
            csa_clientid: self.clientid,
            csa_sequence: self.create_sequence,
            csa_flags: create_session4::CONN_BACK_CHAN,
            csa_fore_chan_attrs: channel(SLOTS as u32),
            csa_back_chan_attrs: channel(1),
            csa_cb_program: 400_124,
            csa_sec_parms: Vec::new().into(),
        });
        match &self.alone(create).await?.resarray[0] {
            Resop4::CreateSession(Ok(done)) => self.id = done.csr_sessionid,
            other => panic!("{other:?}"),
        }
        self.sequence = vec![0; SLOTS];
        Ok(())
    }

    /// The same session on another connection.
    pub fn moved_to<T>(self, peer: Peer<T>) -> Session<T> {
        let Self { id, clientid, sequence, awsfile, owner, uid, create_sequence, .. } = self;
        Session { peer, id, clientid, sequence, awsfile, owner, uid, create_sequence }
    }

    async fn alone(&mut self, op: Argop4) -> io::Result<Compound4res> {
        self.send_compound(vec![op]).await?;
        let back = self.peer.back().await?;
        assert_eq!(back.status, ReplyStatus::Success);
        Ok(xdr::from_bytes(back.results).unwrap())
    }

    async fn send_compound(&mut self, argarray: Vec<Argop4>) -> io::Result<u32> {
        let args = xdr::to_bytes(&Compound4args { tag: "".into(), minorversion: 2, argarray }).unwrap();
        let (prog, vers) = if self.awsfile { (400_123, 1) } else { (100_003, 4) };
        self.peer.send_as(prog, vers, 1, credential(self.uid), &args).await
    }

    /// Sends operations behind SEQUENCE on a slot; the xid.
    pub async fn send_on(&mut self, slot: u32, ops: Vec<Argop4>) -> io::Result<u32> {
        self.sequence[slot as usize] += 1;
        self.send_again(slot, ops).await
    }

    /// The same under the sequence id that the slot has already.
    pub async fn send_again(&mut self, slot: u32, ops: Vec<Argop4>) -> io::Result<u32> {
        let mut all = vec![Argop4::Sequence(Sequence4args {
            sa_sessionid: self.id,
            sa_sequenceid: self.sequence[slot as usize],
            sa_slotid: slot,
            sa_highest_slotid: SLOTS as u32 - 1,
            // A READ's reply would not fit into the cache, and does not need to.
            sa_cachethis: !ops.iter().any(|op| matches!(op, Argop4::Read(_))),
        })];
        all.extend(ops);
        self.send_compound(all).await
    }

    /// The next reply and its xid.
    pub async fn reply(&mut self) -> io::Result<(u32, Compound4res)> {
        let back = self.peer.back().await?;
        assert_eq!(back.status, ReplyStatus::Success);
        Ok((back.xid, xdr::from_bytes(back.results).unwrap()))
    }

    /// Sends operations on slot 0 and waits; the results without SEQUENCE's.
    pub async fn call(&mut self, ops: Vec<Argop4>) -> io::Result<Compound4res> {
        let xid = self.send_on(0, ops).await?;
        let (got, mut result) = self.reply().await?;
        assert_eq!(got, xid);
        if result.status.is_ok() || result.resarray.len() > 1 {
            result.resarray.remove(0);
        }
        Ok(result)
    }

    /// Creates a file in the root directory and leaves it open.
    pub async fn create_file(&mut self, name: &str) -> io::Result<(NfsFh4, Stateid4)> {
        let attrs = Attrs { mode: Some(0o644), ..Attrs::default() }.to_fattr4().unwrap();
        let result = self.call(open(name, Openflag4::Create(Createhow4::Unchecked(attrs)))).await?;
        assert_eq!(result.status, Ok(()), "{result:?}");
        match (&result.resarray[1], &result.resarray[2]) {
            (Resop4::Open(Ok(open)), Resop4::Getfh(Ok(handle))) => Ok((handle.object.clone(), open.stateid)),
            other => panic!("{other:?}"),
        }
    }

    pub async fn close(&mut self, file: &(NfsFh4, Stateid4)) -> io::Result<()> {
        let result =
            self.call(vec![putfh(&file.0), Argop4::Close(Close4args { seqid: 0, open_stateid: file.1 })]).await?;
        assert_eq!(result.status, Ok(()));
        Ok(())
    }

    /// Destroys session and client.
    pub async fn leave(&mut self) -> io::Result<()> {
        let args = DestroySession4args { dsa_sessionid: self.id };
        assert_eq!(self.alone(Argop4::DestroySession(args)).await?.status, Ok(()));
        let args = DestroyClientid4args { dca_clientid: self.clientid };
        assert_eq!(self.alone(Argop4::DestroyClientid(args)).await?.status, Ok(()));
        Ok(())
    }

    /// Waits for a callback and answers every operation of it well; a recall is refused, for nothing is delegated here.
    pub async fn answer_callback(&mut self) -> io::Result<CbCompound4args> {
        let mut reader = Reader::new(self.peer.record().await?);
        let Ok(Message::Call(call)) = xdr::decode::<Message>(&mut reader) else { panic!("not a call") };
        assert_eq!((call.prog, call.vers, call.proc), (400_124, 1, 1));
        let args: CbCompound4args = xdr::from_bytes(reader.into_rest()).unwrap();
        let resarray: Vec<CbResop4> = args.argarray.iter().map(answer_to).collect();
        let status = resarray.last().and_then(CbResop4::error).map_or(Ok(()), Err);
        let result = CbCompound4res { status, tag: args.tag.clone(), resarray };
        let mut out = Writer::new();
        out.put(&Message::Reply(ReplyHeader { xid: call.xid, status: ReplyStatus::Success })).unwrap();
        out.put(&result).unwrap();
        self.peer.send_record(&out.into_bytes()).await?;
        Ok(args)
    }
}

fn answer_to(op: &nfs4::callback::CbArgop4) -> CbResop4 {
    use nfs4::callback::{CbArgop4, CbSequence4resok};
    match op {
        CbArgop4::Sequence(args) => CbResop4::Sequence(Ok(CbSequence4resok {
            csr_sessionid: args.csa_sessionid,
            csr_sequenceid: args.csa_sequenceid,
            csr_slotid: args.csa_slotid,
            csr_highest_slotid: args.csa_highest_slotid,
            csr_target_highest_slotid: 0,
        })),
        CbArgop4::AwsfileHeartbeat(_) => CbResop4::AwsfileHeartbeat(Ok(())),
        CbArgop4::Recall(_) => CbResop4::Recall(Err(nfs4::Nfs4Error::BadStateid)),
        other => panic!("{other:?}"),
    }
}

pub fn open(name: &str, openhow: Openflag4) -> Vec<Argop4> {
    let args = Open4args {
        seqid: 0,
        share_access: 3,
        share_deny: 0,
        owner: StateOwner4 { clientid: 0, owner: "owner".into() },
        openhow,
        claim: OpenClaim4::Null(name.into()),
    };
    vec![Argop4::Putrootfh, Argop4::Open(args), Argop4::Getfh]
}

pub fn putfh(handle: &NfsFh4) -> Argop4 {
    Argop4::Putfh(Putfh4args { object: handle.clone() })
}

pub fn read(file: &(NfsFh4, Stateid4), offset: u64, count: u32) -> Vec<Argop4> {
    vec![putfh(&file.0), Argop4::Read(Read4args { stateid: file.1, offset, count })]
}

pub fn write(file: &(NfsFh4, Stateid4), offset: u64, data: &Bytes, stable: StableHow4) -> Vec<Argop4> {
    vec![putfh(&file.0), Argop4::Write(Write4args { stateid: file.1, offset, stable, data: vec![data.clone()] })]
}

pub fn commit(file: &(NfsFh4, Stateid4)) -> Vec<Argop4> {
    vec![putfh(&file.0), Argop4::Commit(Commit4args { offset: 0, count: 0 })]
}

/// The bytes that a compound's last READ brought.
pub fn data(result: &Compound4res) -> Bytes {
    match result.resarray.last() {
        Some(Resop4::Read(Ok(read))) => read.data.0.clone(),
        other => panic!("{other:?}"),
    }
}
