//! One connection from its first record to its end: records in, the front's own answers, everything else to the
//! [`Service`], replies out as they become ready.
//!
//! One task drives both directions. A call is answered by the service's state machine without waiting, or elsewhere;
//! so many calls are under way at once, and a late reply holds no other one up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nfs4::awsfile::{
    AWSFILE_PROGRAM, AWSFILE_V1, PROC_AWSFILE_COMPOUND, PROC_BIND_CLIENT_TO_PARTITION, PROC_CHANNEL_INIT,
};
use nfs4::record::RecordAssembler;
use nfs4::rpc::{
    AcceptStat, CallHeader, Message, NFS_PROGRAM, NFS_V4, PROC_COMPOUND, PROC_NULL, RPC_VERSION, ReplyHeader,
    ReplyStatus,
};
use nfs4::xdr::{Reader, Writer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::bind::{BindFault, Mistake};
use crate::link;
use crate::outlet::{self, After, Gone, Outlet, ReplyFault};
use crate::service::{Answer, Attached, Call, ConnInfo};
use crate::shared::Shared;
use crate::wire::{On, WireAction};

/// The largest record that is read. Larger than any session allows, so that the server can say REQ_TOO_BIG.
const MAX_RECORD: usize = 4 << 20;

/// How long the end of a connection may take.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer closed it.
    ByPeer,
    /// We cut it.
    Cut,
    /// A fatal TLS alert is to be sent.
    Alert,
}

/// Serves a connection until it ends, and gives the stream back.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    conn: ConnInfo,
    shared: &Arc<Shared>,
    cut: CancellationToken,
) -> (End, S) {
    let (outlet, mut outgoing) = Outlet::new(Arc::clone(&shared.link), cut.clone());
    let attached = match shared.service.connected(conn.clone(), outlet.clone()).await {
        Ok(attached) => attached,
        Err(error) => {
            tracing::warn!(%error, "the service takes no connection");
            return (End::Cut, io);
        }
    };
    let id = conn.id;
    let (mut read_half, mut write_half) = tokio::io::split(io);
    let mut reading = Reading { conn, shared, outlet: outlet.clone(), attached };
    let end = tokio::select! {
        () = cut.cancelled() => End::Cut,
        end = reading.run(&mut read_half) => end,
        written = outlet::write_all(
            &mut write_half,
            &mut outgoing,
            |xid| shared.unanswered.leaves(id, xid),
            |len| shared.counters.sent(len),
        ) => match written {
            Ok(After::Alert) => End::Alert,
            Ok(_) | Err(_) => End::Cut,
        },
    };
    drop(reading);
    outlet.close().await;
    shared.unanswered.disconnected(id);
    let mut io = read_half.unsplit(write_half);
    if end == End::ByPeer {
        // The peer is gone; whether it hears the goodbye does not matter.
        let _ = tokio::time::timeout(FAREWELL, io.shutdown()).await;
    }
    (end, io)
}

struct Reading<'a> {
    conn: ConnInfo,
    shared: &'a Arc<Shared>,
    outlet: Outlet,
    attached: Box<dyn Attached>,
}

/// Why reading stops.
enum Stop {
    Gone,
    Cut,
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl Reading<'_> {
    async fn run<R: AsyncRead + Unpin>(&mut self, io: &mut R) -> End {
        match self.read_records(io).await {
            Ok(()) | Err(Stop::Gone) => End::ByPeer,
            Err(Stop::Cut) => End::Cut,
        }
    }

    async fn read_records<R: AsyncRead + Unpin>(&mut self, io: &mut R) -> Result<(), Stop> {
        let mut assembler = RecordAssembler::new(MAX_RECORD);
        loop {
            let read = match io.read_buf(assembler.buffer()).await {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) => {
                    if error.kind() == io::ErrorKind::InvalidData {
                        self.mistake(&format!("TLS of a client broke: {error}"));
                    }
                    return Ok(());
                }
            };
            let cut = self.shared.wire.bytes_in(read, self.shared.clock.running());
            if let Some(kept) = cut {
                // What came behind that byte was never received.
                let buffer = assembler.buffer();
                buffer.truncate(buffer.len() - (read - kept));
            }
            self.shared.counters.received(cut.unwrap_or(read));
            self.take_records(&mut assembler).await?;
            if cut.is_some() {
                return Err(Stop::Cut);
            }
        }
    }

    async fn take_records(&mut self, assembler: &mut RecordAssembler) -> Result<(), Stop> {
        loop {
            match assembler.next_record() {
                Ok(Some(record)) => {
                    if let Some(due) = self.shared.link.inbound(record.len() + 4) {
                        link::until(due).await;
                    }
                    self.record(record).await?;
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.mistake(&format!("a record that cannot be followed: {error}"));
                    return Err(Stop::Cut);
                }
            }
        }
    }

    fn mistake(&self, what: &str) {
        self.shared.mistakes.add(what.to_owned());
    }

    async fn record(&mut self, record: Bytes) -> Result<(), Stop> {
        let mut input = Reader::new(record.clone());
        match input.get::<Message>() {
            Ok(Message::Call(header)) => {
                self.shared.counters.called();
                self.call(header, input.into_rest(), record).await
            }
            Ok(Message::Reply(_)) => {
                self.attached.replied(record).await;
                Ok(())
            }
            Err(_) => {
                self.mistake("a record that is neither call nor reply");
                match foreign_version(&record) {
                    Some(xid) => {
                        let status = ReplyStatus::RpcMismatch { low: RPC_VERSION, high: RPC_VERSION };
                        self.reply(xid, status, Vec::new()).await
                    }
                    None => Err(Stop::Cut),
                }
            }
        }
    }

    async fn call(&mut self, header: CallHeader, args: Bytes, record: Bytes) -> Result<(), Stop> {
        let xid = header.xid;
        match (header.prog, header.vers, header.proc) {
            (NFS_PROGRAM, NFS_V4, PROC_COMPOUND) => self.compound(header, args, record, false).await,
            (AWSFILE_PROGRAM, AWSFILE_V1, PROC_AWSFILE_COMPOUND) => self.compound(header, args, record, true).await,
            (NFS_PROGRAM, NFS_V4, PROC_NULL) | (AWSFILE_PROGRAM, AWSFILE_V1, PROC_NULL) => {
                self.reply(xid, ReplyStatus::Success, Vec::new()).await
            }
            (AWSFILE_PROGRAM, AWSFILE_V1, PROC_BIND_CLIENT_TO_PARTITION) => {
                let fault = self.spoil(xid, On::Bind)?;
                let answer = self.shared.binder.bind(&self.conn, args, fault);
                self.own_answer(xid, answer).await
            }
            (AWSFILE_PROGRAM, AWSFILE_V1, PROC_CHANNEL_INIT) => {
                self.spoil(xid, On::ChannelInit)?;
                let answer = self.shared.binder.channel_init(args);
                self.own_answer(xid, answer).await
            }
            (NFS_PROGRAM, NFS_V4, _) | (AWSFILE_PROGRAM, AWSFILE_V1, _) => {
                self.mistake("a procedure that does not exist");
                self.refuse(xid, ReplyStatus::Failed(AcceptStat::ProcUnavail)).await
            }
            (NFS_PROGRAM, ..) => {
                let status = ReplyStatus::ProgMismatch { low: NFS_V4, high: NFS_V4 };
                self.refuse(xid, status).await
            }
            (AWSFILE_PROGRAM, ..) => {
                let status = ReplyStatus::ProgMismatch { low: AWSFILE_V1, high: AWSFILE_V1 };
                self.refuse(xid, status).await
            }
            _ => self.refuse(xid, ReplyStatus::Failed(AcceptStat::ProgUnavail)).await,
        }
    }

    async fn compound(&mut self, header: CallHeader, args: Bytes, record: Bytes, awsfile: bool) -> Result<(), Stop> {
        if let Some(mistake) = self.shared.unanswered.came(self.conn.id, header.xid, &args) {
            self.mistake(&mistake);
        }
        let mut again = false;
        match self.shared.wire.compound(&args, self.shared.clock.running()) {
            None => {}
            Some(WireAction::DuplicateRequest) => again = true,
            Some(action) => self.suffer(header.xid, action)?,
        }
        let call = Call { header, args, record, awsfile };
        if again {
            self.carry_out(call.clone()).await?;
        }
        self.carry_out(call).await
    }

    async fn carry_out(&mut self, call: Call) -> Result<(), Stop> {
        let xid = call.header.xid;
        match self.attached.call(call).await {
            Answer::Results(results) => self.reply(xid, ReplyStatus::Success, results).await,
            Answer::Refused(status) => self.refuse(xid, status).await,
            Answer::Elsewhere => Ok(()),
            Answer::Died => {
                self.shared.connections.cut_all();
                Err(Stop::Cut)
            }
        }
    }

    /// Lets the plan act on one of the front's own procedures; what bind shall answer, if the plan says so.
    fn spoil(&mut self, xid: u32, on: On) -> Result<Option<BindFault>, Stop> {
        match self.shared.wire.event(on, self.shared.clock.running()) {
            None => Ok(None),
            Some(WireAction::Bind(answer)) => Ok(Some(answer)),
            Some(action) => self.suffer(xid, action).map(|()| None),
        }
    }

    fn suffer(&mut self, xid: u32, action: WireAction) -> Result<(), Stop> {
        match action {
            WireAction::CutBefore => return Err(Stop::Cut),
            WireAction::Alert => self.outlet.spoil(xid, ReplyFault::Alert),
            WireAction::Reply(fault) => self.outlet.spoil(xid, fault),
            WireAction::Silence => self.outlet.spoil(xid, ReplyFault::Drop),
            WireAction::DuplicateRequest => self.outlet.spoil(xid, ReplyFault::Duplicate),
            // The plan turns random bytes into garbage of its seed before they get here, and nothing but bind has
            // bind's answers.
            WireAction::RandomBytes { .. } | WireAction::Bind(_) => {}
        }
        Ok(())
    }

    async fn own_answer(&mut self, xid: u32, (results, mistake): (Option<Bytes>, Option<Mistake>)) -> Result<(), Stop> {
        if let Some(Mistake(what)) = mistake {
            self.mistake(what);
        }
        match results {
            Some(results) => self.reply(xid, ReplyStatus::Success, vec![results]).await,
            None => self.refuse(xid, ReplyStatus::Failed(AcceptStat::GarbageArgs)).await,
        }
    }

    async fn refuse(&mut self, xid: u32, status: ReplyStatus) -> Result<(), Stop> {
        self.reply(xid, status, Vec::new()).await
    }

    async fn reply(&mut self, xid: u32, status: ReplyStatus, results: Vec<Bytes>) -> Result<(), Stop> {
        let mut out = Writer::new();
        // A reply header is a handful of words, which always encode.
        if out.put(&Message::Reply(ReplyHeader { xid, status })).is_err() {
            return Err(Stop::Cut);
        }
        let mut record = out.into_segments();
        record.extend(results);
        Ok(self.outlet.send(record).await?)
    }
}

/// The transaction id of a call in another RPC version.
fn foreign_version(record: &Bytes) -> Option<u32> {
    let word = |at: usize| Some(u32::from_be_bytes(record.get(at..at + 4)?.try_into().ok()?));
    (word(4)? == 0 && word(8)? != RPC_VERSION).then(|| word(0)).flatten()
}
