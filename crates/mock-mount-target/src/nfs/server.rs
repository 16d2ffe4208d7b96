//! The server as a state machine: requests and the time come in, replies go out. No socket, no clock, no thread.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use nfs4::Nfs4Error;
use nfs4::types::{Sessionid4, Verifier4};

use super::callbacks::Callback;
use super::config::{Config, Now};
use super::faults::Plan;
use super::grace::Grace;
use super::memfs::{FileId, MemFs};
use super::referee::Referee;
use super::rights::{Caller, Identity};
use super::s3side::Object;
use super::session::clients::Clients;
use super::session::{ConnId, Session};
use super::state::States;

/// An NFSv4.1 and 4.2 server over a file system in memory.
#[derive(Debug)]
pub struct Server {
    pub(super) config: Config,
    pub(super) fs: MemFs,
    pub(super) clients: Clients,
    pub(super) sessions: BTreeMap<Sessionid4, Session>,
    pub(super) states: States,
    pub(super) referee: Referee,
    pub(super) grace: Grace,
    pub(super) plan: Plan,
    pub(super) boot: u32,
    pub(super) write_verifier: Verifier4,
    pub(super) last_session: u64,
    pub(super) status_texts: HashMap<FileId, String>,
    pub(super) objects: HashMap<FileId, Object>,
    pub(super) broken: HashMap<FileId, Nfs4Error>,
    pub(super) outbox: Vec<Callback>,
}

/// A COMPOUND call.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The connection it came on.
    pub conn: ConnId,
    /// Who holds that connection.
    pub identity: &'a Identity,
    /// The partition that the connection was bound to.
    pub partition: Option<[u8; 64]>,
    /// The caller, from the RPC credential.
    pub caller: Caller,
    /// When it came.
    pub now: Now,
    /// Whether it came as a call of the AWSFILE program.
    pub awsfile: bool,
    /// `COMPOUND4args`.
    pub body: Bytes,
    /// Length of the whole request with its RPC header.
    pub len: usize,
}

/// The answer to a COMPOUND call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `COMPOUND4res`, in segments.
    Body(Vec<Bytes>),
    /// The arguments did not decode: `GARBAGE_ARGS`.
    Garbage,
    /// The server died meanwhile: no answer, and the connection is cut.
    Cut,
}

impl Server {
    /// A server over an empty file system.
    pub fn new(config: Config, now: Now) -> Self {
        let fs = MemFs::new(1, config.handle_len(), now.stamp());
        Self {
            fs,
            clients: Clients::new(1),
            sessions: BTreeMap::new(),
            states: States::new(1),
            referee: Referee::default(),
            grace: Grace::default(),
            plan: Plan::default(),
            boot: 1,
            write_verifier: verifier_of(1, 0),
            last_session: 0,
            status_texts: HashMap::new(),
            objects: HashMap::new(),
            broken: HashMap::new(),
            outbox: Vec::new(),
            config,
        }
    }

    /// What the server is.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The tree, to look at or to prepare.
    pub fn fs(&self) -> &MemFs {
        &self.fs
    }

    /// The tree, to be changed from outside, as S3 changes it.
    pub fn fs_mut(&mut self) -> &mut MemFs {
        &mut self.fs
    }

    /// Mistakes and counts.
    pub fn referee(&self) -> &Referee {
        &self.referee
    }

    /// Mistakes and counts, to be taken or reset.
    pub fn referee_mut(&mut self) -> &mut Referee {
        &mut self.referee
    }

    /// The faults to come.
    pub fn plan_mut(&mut self) -> &mut Plan {
        &mut self.plan
    }

    /// What GETXATTR of the status attribute answers for a file (S3 Files).
    pub fn set_status_text(&mut self, file: FileId, text: String) {
        self.status_texts.insert(file, text);
    }

    /// The server dies and comes back: clients, sessions, opens, locks and reply caches are gone, and what was
    /// written but not committed is lost. With stable storage it remembers who had state and lets them reclaim it
    /// during a grace period of one lease (RFC 8881 §8.4.2), and keeps removed files that were open until then if it
    /// promised to (`OPEN4_RESULT_PRESERVE_UNLINKED`, §18.16.3); without, nothing can be reclaimed.
    pub fn restart(&mut self, now: Now, stable_storage: bool) {
        self.grace = if stable_storage {
            Grace::after(&self.clients, &self.states, now, self.config.lease)
        } else {
            Grace::default()
        };
        self.boot += 1;
        self.clients = Clients::new(self.boot);
        for id in std::mem::take(&mut self.sessions).into_keys() {
            self.referee.forget_session(id);
        }
        self.states = States::new(self.boot);
        self.forget_orphans();
        self.fs.lose_unstable(now.stamp());
        self.new_write_verifier();
    }

    /// A new write verifier, as after a restart: whoever has uncommitted data must send it again. The data is lost.
    pub fn new_write_verifier(&mut self) {
        let serial = u64::from_be_bytes(self.write_verifier.0) & 0xffff;
        self.write_verifier = verifier_of(self.boot, serial + 1);
    }

    /// What was written but not committed is lost, and the write verifier says so.
    pub fn lose_unstable(&mut self, now: Now) {
        self.fs.lose_unstable(now.stamp());
        self.new_write_verifier();
    }

    /// Time passes: silent clients lose everything (there are no courtesy leases), the grace period ends.
    pub fn tick(&mut self, now: Now) {
        for client in self.clients.expired(now, self.config.lease) {
            if self.clients.get(client).is_some_and(|client| client.left) {
                self.accuse_of_leftovers(client);
            }
            self.drop_client(client);
        }
        if self.grace.is_on() {
            self.grace.tick(now);
            self.forget_orphans_after_grace();
        }
        self.revoke_overdue(now);
        self.send_recalls();
        self.pump_callbacks();
    }

    /// A connection is gone: no session counts on it any more.
    pub fn disconnected(&mut self, conn: ConnId) {
        for session in self.sessions.values_mut() {
            session.connections.remove(&conn);
            session.back_connections.remove(&conn);
        }
    }

    /// An administrator takes all opens and locks away from every client (NFS4ERR_ADMIN_REVOKED).
    pub fn revoke_all_state(&mut self, why: Nfs4Error) {
        self.states.excuse();
        let clients: Vec<u64> = self.clients.iter().map(|client| client.id).collect();
        for client in clients {
            for file in self.states.revoke_client(client, why) {
                self.forget_if_unused(file);
            }
        }
    }

    /// One session is gone, its client does not know how.
    pub(super) fn lose_session(&mut self, id: Sessionid4) {
        self.states.excuse();
        self.sessions.remove(&id);
        self.referee.forget_session(id);
    }

    /// Wishes that clients use `count` slots of each session at most (`sr_target_highest_slotid`).
    pub fn wish_for_slots(&mut self, count: u32) {
        for session in self.sessions.values_mut() {
            session.target_highest = count.min(session.slots.len()).saturating_sub(1);
        }
    }

    /// All sessions are gone, the clients stay (NFS4ERR_BADSESSION).
    pub fn drop_sessions(&mut self) {
        self.states.excuse();
        for id in std::mem::take(&mut self.sessions).into_keys() {
            self.referee.forget_session(id);
        }
    }

    /// The end of a test: whatever a client left open or locked is a mistake. Returns all mistakes.
    pub fn at_end(&mut self) -> Vec<String> {
        let clients: Vec<u64> = self.clients.iter().map(|client| client.id).collect();
        for client in clients {
            self.accuse_of_leftovers(client);
        }
        self.states.excuse();
        self.referee.mistakes().to_vec()
    }

    /// Writes down the opens and locks that a client left behind, unless a fault may have hidden them from it.
    pub(super) fn accuse_of_leftovers(&mut self, client: u64) {
        for what in self.states.leftovers(client) {
            self.referee.mistake(what);
        }
        self.states.excuse_client(client);
    }

    /// Everything of a client goes: record, sessions, opens, locks.
    pub(super) fn drop_client(&mut self, client: u64) {
        self.clients.remove(client);
        let sessions: Vec<_> = self.sessions.values().filter(|s| s.client == client).map(|s| s.id).collect();
        for id in sessions {
            self.sessions.remove(&id);
            self.referee.forget_session(id);
        }
        for file in self.states.drop_client(client) {
            self.forget_if_unused(file);
        }
    }

    /// Lets a removed file go once nobody has it open.
    pub(super) fn forget_if_unused(&mut self, file: FileId) {
        if !self.is_needed(file) {
            self.fs.forget(file);
        }
    }

    /// Whether a file has to stay even without a name: somebody has it open, or had before a restart and may reclaim it.
    pub(super) fn is_needed(&self, file: FileId) -> bool {
        self.config.preserve_unlinked && (self.states.is_open(file) || self.grace.remembers(file))
    }

    /// The same once nothing can be reclaimed any more.
    pub(super) fn forget_orphans_after_grace(&mut self) {
        if !self.grace.is_on() {
            self.forget_orphans();
        }
    }

    /// Lets all removed files go that nobody needs; only a restart and the end of its grace period leave some behind.
    pub(super) fn forget_orphans(&mut self) {
        let nameless = self.fs.inodes().filter(|(_, inode)| inode.nlink == 0).map(|(file, _)| file);
        for file in nameless.collect::<Vec<_>>() {
            self.forget_if_unused(file);
        }
    }
}

/// A write verifier: the server's life and how often it changed within.
fn verifier_of(boot: u32, serial: u64) -> Verifier4 {
    Verifier4((u64::from(boot) << 32 | 0x5733_0000 | serial & 0xffff).to_be_bytes())
}
