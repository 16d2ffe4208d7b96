//! The usual backend: one NFS server in memory behind all connections.
//!
//! The server is a state machine without waiting, so a call holds its lock for as long as it takes to carry it out and
//! never across an `await`. Callbacks leave through the outlet of the connection that the server names.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use nfs4::rpc::{AcceptStat, AuthFlavor, AuthStat, Message, ReplyStatus};
use nfs4::xdr::Reader;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::MockError;
use crate::iam::Grant;
use crate::nfs::faults::Rule;
use crate::nfs::{Callback, Caller, Config, ConnId, Identity, Ids, Now, Reply, Request, Server, import_directory};
use crate::outlet::Outlet;
use crate::service::{Answer, Attached, Call, ConnInfo, Pending, Service};

/// How often leases are looked at while nobody calls.
const TICK: Duration = Duration::from_secs(1);

/// An NFS server in memory, and the connections that its callbacks go to.
#[derive(Debug)]
pub(crate) struct Memory {
    state: Mutex<State>,
    clock: Arc<Clock>,
}

#[derive(Debug)]
struct State {
    server: Server,
    outlets: HashMap<u64, Outlet>,
    /// Callbacks that wait for their answers, by connection and transaction id.
    under_way: HashMap<(u64, u32), Callback>,
    last_xid: u32,
    /// Faults whose time has not come.
    later: Vec<(Duration, Rule)>,
}

/// Callbacks with the outlets and transaction ids that they go out with.
type Calls = Vec<(Outlet, Vec<Bytes>)>;

impl Memory {
    /// A server whose tree is a copy of `import`, or empty.
    pub(crate) fn new(config: Config, clock: Arc<Clock>, import: Option<&Path>) -> Result<Self, MockError> {
        let mut server = Server::new(config, Now(clock.now()));
        if let Some(dir) = import {
            let root = server.fs().root();
            import_directory(server.fs_mut(), root, dir).map_err(|error| MockError::file(dir, error))?;
        }
        Ok(Self {
            state: Mutex::new(State {
                server,
                outlets: HashMap::new(),
                under_way: HashMap::new(),
                last_xid: 0,
                later: Vec::new(),
            }),
            clock,
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets `act` look at the server and change it.
    pub(crate) fn with_server<T>(&self, act: impl FnOnce(&mut Server) -> T) -> T {
        self.with(|state| act(&mut state.server))
    }

    /// The server's time.
    pub(crate) fn now(&self) -> Now {
        Now(self.clock.now())
    }

    /// Adds a fault that counts from `after` on, since the mock was started.
    pub(crate) fn add_fault(&self, after: Duration, rule: Rule) {
        self.with(|state| {
            if after <= self.clock.running() {
                state.server.plan_mut().add(rule);
            } else {
                state.later.push((after, rule));
            }
        });
    }

    /// Sends the callbacks that the server has queued.
    pub(crate) async fn send_callbacks(&self) {
        for (outlet, record) in self.with(State::callbacks) {
            // A connection that is gone ends its callbacks itself.
            let _ = outlet.send(record).await;
        }
    }

    /// Lets time pass for the server until `stop`.
    pub(crate) async fn keep_time(self: Arc<Self>, stop: CancellationToken) {
        while tokio::time::timeout(TICK, stop.cancelled()).await.is_err() {
            let now = self.now();
            self.with_server(|server| server.tick(now));
            self.send_callbacks().await;
        }
    }
}

impl State {
    fn callbacks(&mut self) -> Calls {
        let mut calls = Vec::new();
        for callback in self.server.take_callbacks() {
            match self.outlets.get(&callback.conn.0) {
                None => self.server.called_back(&callback, None),
                Some(outlet) => {
                    self.last_xid = self.last_xid.wrapping_add(1);
                    let xid = self.last_xid;
                    calls.push((outlet.clone(), callback.record(xid)));
                    self.under_way.insert((callback.conn.0, xid), callback);
                }
            }
        }
        calls
    }

    fn wake_faults(&mut self, running: Duration) {
        if !self.later.is_empty() {
            let (due, later) = std::mem::take(&mut self.later).into_iter().partition(|(after, _)| *after <= running);
            self.later = later;
            let due: Vec<(Duration, Rule)> = due;
            for (_, rule) in due {
                self.server.plan_mut().add(rule);
            }
        }
    }

    fn disconnected(&mut self, id: u64) {
        self.outlets.remove(&id);
        let (lost, under_way) = std::mem::take(&mut self.under_way).into_iter().partition(|((conn, _), _)| *conn == id);
        self.under_way = under_way;
        let lost: HashMap<(u64, u32), Callback> = lost;
        for callback in lost.values() {
            self.server.called_back(callback, None);
        }
        self.server.disconnected(ConnId(id));
    }
}

/// What a certificate's grant means to the NFS server; without TLS everything is allowed.
fn identity_of(grant: Option<&Grant>) -> Identity {
    let Some(grant) = grant else {
        return Identity::default();
    };
    let forced = grant.access_point.as_ref().and_then(|point| point.identity.clone());
    Identity {
        write: grant.write,
        root: grant.root_access,
        forced: forced.map(|(uid, gid, groups)| Ids { uid, gid, groups }),
        root_directory: grant.access_point.as_ref().map_or_else(String::new, |point| point.root_directory.clone()),
    }
}

/// The memory backend as a service.
#[derive(Debug)]
pub(crate) struct MemoryService(pub Arc<Memory>);

impl Service for MemoryService {
    fn connected(&self, conn: ConnInfo, outlet: Outlet) -> Pending<'_, io::Result<Box<dyn Attached>>> {
        self.0.with(|state| state.outlets.insert(conn.id, outlet));
        let attached = InMemory { memory: Arc::clone(&self.0), identity: identity_of(conn.grant.as_ref()), conn };
        Box::pin(std::future::ready(Ok(Box::new(attached) as Box<dyn Attached>)))
    }
}

struct InMemory {
    memory: Arc<Memory>,
    conn: ConnInfo,
    identity: Identity,
}

impl Drop for InMemory {
    fn drop(&mut self) {
        self.memory.with(|state| state.disconnected(self.conn.id));
    }
}

impl InMemory {
    fn answer(&self, call: &Call) -> (Answer, Calls) {
        let Some(caller) = Caller::of(&call.header.cred, &self.identity) else {
            let why = match call.header.cred.flavor {
                AuthFlavor::Sys => AuthStat::BadCred,
                _ => AuthStat::TooWeak,
            };
            return (Answer::Refused(ReplyStatus::AuthError(why)), Vec::new());
        };
        let request = Request {
            conn: ConnId(self.conn.id),
            identity: &self.identity,
            partition: self.conn.partition(),
            caller,
            now: self.memory.now(),
            awsfile: call.awsfile,
            body: call.args.clone(),
            len: call.record.len(),
        };
        let running = self.memory.clock.running();
        self.memory.with(|state| {
            state.wake_faults(running);
            let answer = match state.server.call(request) {
                Reply::Body(results) => Answer::Results(results),
                Reply::Garbage => Answer::Refused(ReplyStatus::Failed(AcceptStat::GarbageArgs)),
                Reply::Cut => Answer::Died,
            };
            (answer, state.callbacks())
        })
    }
}

impl Attached for InMemory {
    fn call(&mut self, call: Call) -> Pending<'_, Answer> {
        let (answer, calls) = self.answer(&call);
        if calls.is_empty() {
            return Box::pin(std::future::ready(answer));
        }
        Box::pin(async move {
            for (outlet, record) in calls {
                let _ = outlet.send(record).await;
            }
            answer
        })
    }

    fn replied(&mut self, record: Bytes) -> Pending<'_, ()> {
        let mut input = Reader::new(record);
        if let Ok(Message::Reply(header)) = input.get::<Message>() {
            self.memory.with(|state| {
                let Some(callback) = state.under_way.remove(&(self.conn.id, header.xid)) else {
                    let what = "a reply to a callback that was never made, or was answered already";
                    state.server.referee_mut().mistake(what.into());
                    return;
                };
                let results = (header.status == ReplyStatus::Success).then(|| input.into_rest());
                if results.is_none() {
                    let what = format!("a callback was not carried out: {:?}", header.status);
                    state.server.referee_mut().mistake(what);
                }
                state.server.called_back(&callback, results);
            });
            // The next callback of the queue, if there is one.
            return Box::pin(async move { self.memory.send_callbacks().await });
        }
        Box::pin(std::future::ready(()))
    }
}
