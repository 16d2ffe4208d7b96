//! `--forward`: what stands behind the front is another NFS server. Each connection gets one of its own to that server,
//! and records go through byte for byte, both ways; only TLS, IAM and the AWSFILE program end here.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, Bytes};
use nfs4::record::{RecordAssembler, record_mark};
use nfs4::rpc::{AcceptStat, ReplyStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;

use crate::outlet::Outlet;
use crate::service::{Answer, Attached, Call, ConnInfo, Pending, Service};

/// The largest record that comes back.
const MAX_RECORD: usize = 16 << 20;

/// Another server behind the front.
#[derive(Debug)]
pub(crate) struct Forward {
    to: SocketAddr,
}

impl Forward {
    pub(crate) fn new(to: SocketAddr) -> Self {
        Self { to }
    }
}

impl Service for Forward {
    fn connected(&self, _conn: ConnInfo, outlet: Outlet) -> Pending<'_, io::Result<Box<dyn Attached>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(self.to).await?;
            stream.set_nodelay(true)?;
            let (from, to) = stream.into_split();
            let back = tokio::spawn(pass_back(from, outlet));
            Ok(Box::new(Forwarded { to, back }) as Box<dyn Attached>)
        })
    }
}

struct Forwarded {
    to: OwnedWriteHalf,
    back: JoinHandle<()>,
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        self.back.abort();
    }
}

impl Forwarded {
    async fn pass_on(&mut self, record: Bytes) -> io::Result<()> {
        // In one go: a mark that arrives alone wakes the server for nothing.
        let mark = record_mark(record.len());
        self.to.write_all_buf(&mut Buf::chain(&mark[..], record)).await
    }
}

impl Attached for Forwarded {
    fn call(&mut self, call: Call) -> Pending<'_, Answer> {
        Box::pin(async move {
            if call.awsfile {
                // The server behind knows no AWSFILE operation.
                return Answer::Refused(ReplyStatus::Failed(AcceptStat::ProcUnavail));
            }
            // If that server is gone, `pass_back` sees it and cuts the connection.
            let _ = self.pass_on(call.record).await;
            Answer::Elsewhere
        })
    }

    fn replied(&mut self, record: Bytes) -> Pending<'_, ()> {
        Box::pin(async move {
            let _ = self.pass_on(record).await;
        })
    }
}

/// Passes on what the server sends: replies and callbacks.
async fn pass_back(mut from: OwnedReadHalf, outlet: Outlet) {
    let mut assembler = RecordAssembler::new(MAX_RECORD);
    'stream: while matches!(from.read_buf(assembler.buffer()).await, Ok(1..)) {
        loop {
            match assembler.next_record() {
                Ok(Some(record)) => {
                    if outlet.send(vec![record]).await.is_err() {
                        break 'stream;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "the server behind cannot be followed");
                    break 'stream;
                }
            }
        }
    }
    outlet.cut();
}
