//! What a test does with a mock whose backend is the server in memory: look at it, change it behind the client's back,
//! make it fail, and hear the referee.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nfs4::Nfs4Error;

use crate::memory::Memory;
use crate::mock::MockHandle;
use crate::nfs::faults::Rule;
use crate::nfs::{Counters, Object, S3Change, Server};
use crate::objects::{S3Rule, Version};

/// Whether two names of an operation differ in case and underscores at most.
pub(crate) fn is_same_name(one: &str, other: &str) -> bool {
    let letters = |name: &str| name.replace('_', "").to_ascii_lowercase();
    letters(one) == letters(other)
}

impl MockHandle {
    fn memory(&self) -> Option<&Arc<Memory>> {
        self.memory.as_ref()
    }

    /// Lets `act` look at the server in memory and change it; `None` when another backend serves.
    pub fn with_server<T>(&self, act: impl FnOnce(&mut Server) -> T) -> Option<T> {
        self.memory().map(|memory| memory.with_server(act))
    }

    /// Every mistake that clients have made so far, on the wire and in NFS.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = self.wire_mistakes();
        mistakes.extend(self.with_server(|server| server.referee().mistakes().to_vec()).unwrap_or_default());
        mistakes
    }

    /// The referee's list at the end of a test: every mistake, whatever clients left open or locked, and panics of the
    /// mock itself. A test of a correct client ends with an empty list.
    pub fn verdict(&self) -> Vec<String> {
        let mut mistakes = self.wire_mistakes();
        mistakes.extend(self.panics());
        mistakes.extend(self.with_server(Server::at_end).unwrap_or_default());
        mistakes
    }

    /// What clients have done so far: operations, bytes, round trips.
    pub fn counters(&self) -> Counters {
        self.with_server(|server| server.referee().counters().clone()).unwrap_or_default()
    }

    /// How often an operation was carried out, however its name is spelled (`CREATE_SESSION`, `CreateSession`).
    pub fn count_of(&self, operation: &str) -> u64 {
        let operations = self.counters().operations;
        operations.iter().filter(|(name, _)| is_same_name(name, operation)).map(|(_, count)| count).sum()
    }

    /// Sets those counts to zero.
    pub fn reset_counters(&self) {
        self.with_server(|server| server.referee_mut().reset_counters());
    }

    /// The server dies and comes back at once, and every connection is cut. With stable storage it remembers what may
    /// be reclaimed; uncommitted data is lost either way.
    pub fn restart(&self, stable_storage: bool) {
        if let Some(memory) = self.memory() {
            let now = memory.now();
            memory.with_server(|server| server.restart(now, stable_storage));
        }
        self.cut_all();
    }

    /// Adds a failure at the level of operations.
    pub fn add_fault(&self, rule: Rule) {
        self.add_fault_after(Duration::ZERO, rule);
    }

    /// The same, from some time after the start on.
    pub fn add_fault_after(&self, after: Duration, rule: Rule) {
        if let Some(memory) = self.memory() {
            memory.add_fault(after, rule);
        }
    }

    /// How often failures of operations, on the wire and of GetObject have happened.
    pub fn faults_acted(&self) -> u64 {
        self.wire_faults_acted()
            + self.objects.acted()
            + self.with_server(|server| server.plan_mut().acted()).unwrap_or_default()
    }

    /// Loses what was written but not committed, and says so with a new write verifier.
    pub fn lose_unstable(&self) {
        if let Some(memory) = self.memory() {
            let now = memory.now();
            memory.with_server(|server| server.lose_unstable(now));
        }
    }

    /// Forgets all sessions (NFS4ERR_BADSESSION).
    pub fn drop_sessions(&self) {
        self.with_server(Server::drop_sessions);
    }

    /// Takes all opens and locks away from every client.
    pub fn revoke_all_state(&self, why: Nfs4Error) {
        self.with_server(|server| server.revoke_all_state(why));
    }

    /// Lets something happen to the object of a path on the S3 side.
    pub fn s3_change(&self, path: &str, change: &S3Change) -> Result<(), Nfs4Error> {
        match self.memory() {
            Some(memory) => {
                let now = memory.now();
                memory.with_server(|server| server.s3_change(path, change, now))
            }
            None => Err(Nfs4Error::Notsupp),
        }
    }

    /// Asks every client that has a back channel whether it is alive (CB_AWSFILE_HEARTBEAT).
    pub async fn heartbeat(&self) {
        if let Some(memory) = self.memory() {
            memory.with_server(Server::heartbeat);
            memory.send_callbacks().await;
        }
    }

    /// Recalls every delegation (CB_RECALL).
    pub async fn recall_delegations(&self) {
        if let Some(memory) = self.memory() {
            let now = memory.now();
            memory.with_server(|server| server.recall_delegations(now));
            memory.send_callbacks().await;
        }
    }

    /// Recalls a delegation that nobody has from every client that has a back channel; the referee hears of a client
    /// that takes it for its own.
    pub async fn recall_unknown(&self) {
        if let Some(memory) = self.memory() {
            memory.with_server(Server::recall_unknown);
            memory.send_callbacks().await;
        }
    }

    /// Puts an object into the bucket and lets its file appear, so that READ_BYPASS answers with its place. The key is
    /// the bucket's prefix and the path.
    pub fn put_object(&self, path: &str, bytes: impl Into<Bytes>) -> Result<Version, Nfs4Error> {
        let (bytes, bucket) = (bytes.into(), self.bucket.as_ref().ok_or(Nfs4Error::Notsupp)?);
        let key = format!("{}{path}", bucket.prefix);
        let version = self.objects.put(&key, Some(bytes.clone()));
        self.s3_change(path, &S3Change::Put(bytes))?;
        let object = Object {
            bucket: bucket.name.clone(),
            key,
            etag: format!("\"{}\"", version.etag),
            version_id: version.id.clone(),
        };
        self.with_server(|server| {
            let file = server.file_at(path)?;
            server.set_object(file, Some(object));
            Ok(())
        })
        .unwrap_or(Err(Nfs4Error::Notsupp))?;
        Ok(version)
    }

    /// Changes an object of the bucket, or deletes it, while the file system has not heard of that yet.
    pub fn change_object_only(&self, key: &str, bytes: Option<Bytes>) -> Version {
        self.objects.put(key, bytes)
    }

    /// Adds a failure of GetObject.
    pub fn add_s3_fault(&self, rule: S3Rule) {
        self.objects.fail(rule);
    }

    /// How many GetObject requests came with a good signature.
    pub fn s3_gets(&self) -> u64 {
        self.objects.gets()
    }

    /// Looks for a contradiction in the server's own state.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.with_server(|server| server.check_invariants()).unwrap_or(Ok(()))
    }

    pub(crate) fn tell_rtt(&self, rtt: Duration) {
        self.with_server(|server| server.referee_mut().set_rtt(rtt));
    }
}
