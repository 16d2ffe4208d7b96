//! What the client is told at the start.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use mount_target::{ConnectError, Connected, Connector, Lifetime, PartitionId};

use crate::attr::Cred;

/// What [`Dial::dial`] returns.
pub type Dialling<'a> = Pin<Box<dyn Future<Output = Result<Connected, ConnectError>> + Send + 'a>>;

/// What [`Dial::dial_further`] returns.
pub type DiallingFurther<'a> = Pin<Box<dyn Future<Output = Result<Option<Connected>, ConnectError>> + Send + 'a>>;

/// What [`Dial::renew`] returns.
pub type Renewing<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Makes a channel to the mount target, again and again. The certificate is renewed in there where needed.
pub trait Dial: Send + Sync + 'static {
    /// Connects once; has a time limit of its own.
    fn dial(&self) -> Dialling<'_>;

    /// One more connection for a session on a connection to `partition`, beside that one. `None`: there is none to be had.
    fn dial_further(&self, _partition: Option<PartitionId>) -> DiallingFurther<'_> {
        Box::pin(async { Ok(None) })
    }

    /// Makes the certificate anew if it is old, so that the next connection need not wait for it.
    fn renew(&self) -> Renewing<'_> {
        Box::pin(async {})
    }

    /// The last connection was lost and another will be made in its place.
    fn start_over(&self) {}

    /// The times of the certificate that is presented, where there is one.
    fn certificate(&self) -> Option<Lifetime> {
        None
    }

    /// The file system's id, where the target has one.
    fn file_system_id(&self) -> Option<String> {
        None
    }
}

impl Dial for Connector {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(self.connect())
    }

    fn dial_further(&self, partition: Option<PartitionId>) -> DiallingFurther<'_> {
        Box::pin(async move { self.connect_further(partition.as_ref()).await })
    }

    fn renew(&self) -> Renewing<'_> {
        Box::pin(self.renew_certificate())
    }

    fn start_over(&self) {
        self.identity().start_over();
    }

    fn certificate(&self) -> Option<Lifetime> {
        self.certificate_lifetime()
    }

    fn file_system_id(&self) -> Option<String> {
        Connector::file_system_id(self).map(ToString::to_string)
    }
}

/// How to be a client.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Who the client is, the same over reconnects: servers tell clients apart by it (`co_ownerid`, RFC 8881
    /// §2.4).
    pub owner: String,
    /// Name of this machine in `AUTH_SYS` credentials.
    pub machine_name: String,
    /// Identity for the session's own requests.
    pub cred: Cred,
    /// Directory of the server that becomes the root, as names; empty for the server's own root.
    pub root: Vec<Vec<u8>>,
    /// Slots to ask for.
    pub slots: u32,
    /// Most payload bytes of a READ or WRITE to ask for.
    pub max_io: u32,
    /// Most connections of a session. More than one are opened when they are kept busy, where the bind rules allow it.
    pub connections: usize,
    /// How long a request may stay unanswered before the connection is taken for dead and made again. On a narrow link it
    /// counts from when what stands before the request and its answer has gone by.
    pub call_timeout: Duration,
    /// Soft mount: how long a caller waits at most before it gets an error; what was not sent by then is not sent later.
    /// `None` waits for ever.
    pub soft_timeout: Option<Duration>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            owner: format!("s3files-fuse {}", uuid::Uuid::new_v4()),
            machine_name: "s3files-fuse".to_owned(),
            cred: Cred::new(0, 0),
            root: Vec::new(),
            slots: 128,
            max_io: 1 << 20,
            connections: 4,
            call_timeout: Duration::from_mins(1),
            soft_timeout: None,
        }
    }
}
