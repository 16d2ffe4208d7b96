//! What stands behind the front: a [`Service`] gets each connection once it is let in, and from then on every RPC call
//! that is not the front's own business.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use nfs4::rpc::{CallHeader, ReplyStatus};

use crate::iam::Grant;
use crate::outlet::Outlet;

/// A future that a service returns.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A connection that was let in.
#[derive(Debug, Clone)]
pub struct ConnInfo {
    /// Names the connection; never used twice.
    pub id: u64,
    /// The far end; none in memory.
    pub peer: Option<SocketAddr>,
    /// What its certificate earned; none without TLS, where everything is allowed.
    pub grant: Option<Grant>,
    partition: Arc<OnceLock<[u8; 64]>>,
}

impl ConnInfo {
    pub(crate) fn new(id: u64, peer: Option<SocketAddr>, grant: Option<Grant>) -> Self {
        Self { id, peer, grant, partition: Arc::default() }
    }

    /// The partition that it was bound to, if bind answered READY.
    pub fn partition(&self) -> Option<[u8; 64]> {
        self.partition.get().copied()
    }

    /// Binds it; `false` when it was bound before.
    pub(crate) fn bind(&self, partition: [u8; 64]) -> bool {
        self.partition.set(partition).is_ok()
    }
}

/// A call of a client.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its header.
    pub header: CallHeader,
    /// What follows the header.
    pub args: Bytes,
    /// The whole record.
    pub record: Bytes,
    /// Whether it is a COMPOUND of the AWSFILE program.
    pub awsfile: bool,
}

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These results.
    Results(Vec<Bytes>),
    /// It was not carried out.
    Refused(ReplyStatus),
    /// The service answers through the [`Outlet`], in its own time.
    Elsewhere,
    /// The server died: no answer, and every connection is cut.
    Died,
}

/// A server behind the front.
pub trait Service: fmt::Debug + Send + Sync + 'static {
    /// A connection stands. What the service sends of itself goes into `outlet`.
    fn connected(&self, conn: ConnInfo, outlet: Outlet) -> Pending<'_, io::Result<Box<dyn Attached>>>;
}

/// A service's side of one connection. It is dropped when the connection is gone.
pub trait Attached: Send {
    /// Carries out a call of the NFS program, or a COMPOUND of the AWSFILE program. The next call of the connection
    /// waits for the future, so whatever takes time belongs behind [`Answer::Elsewhere`].
    fn call(&mut self, call: Call) -> Pending<'_, Answer>;

    /// The client answered a callback.
    fn replied(&mut self, record: Bytes) -> Pending<'_, ()>;
}
