//! What happens to open files when the server has forgotten or revoked something (RFC 8881 §8.4).
//!
//! After a server restart every open is reclaimed (CLAIM_PREVIOUS), then RECLAIM_COMPLETE; what the server does not
//! give back that way is opened again by its handle. After a partial loss TEST_STATEID tells which opens are meant.
//! A file that cannot be opened again is lost: its next READ or WRITE fails instead of going to another file.
//!
//! These requests go through slots of the session like all others, but never wait for a newer link: they are what
//! makes it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use mount_target::Channel;
use nfs4::Nfs4Error;
use nfs4::compound::Argop4;
use nfs4::ops::file::Putfh4args;
use nfs4::ops::lock::{FreeStateid4args, TestStateid4args};
use nfs4::ops::open::{Close4args, OpenClaim4, OpenDelegationType4};
use nfs4::ops::session::ReclaimComplete4args;
use nfs4::types::Stateid4;
use tokio::time::{sleep, timeout};

use crate::attr::Cred;
use crate::compound::{Replies, next};
use crate::engine::Session;
use crate::handshake::{Broken, Handshake, Step};
use crate::keeper::open_claim;
use crate::session::Backoff;
use crate::state::OpenFile;
use crate::verdict::{Judged, judge};

/// Requests under way at once while state is restored.
const AT_ONCE: usize = 16;
/// Stateids in one TEST_STATEID.
const TESTED_AT_ONCE: usize = 128;

/// What has to be done about open files before requests may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Restore {
    /// Nothing.
    Nothing,
    /// Ask the server which stateids are still good.
    Test,
    /// What could be reclaimed was, but perhaps the server has not been told that this is all.
    Complete,
    /// The server has forgotten all of them.
    Reclaim,
}

/// A session on a connection, used by the keeper alone or beside everybody else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) handshake: &'a Handshake,
    pub(crate) channel: &'a Channel,
    pub(crate) session: &'a Arc<Session>,
}

impl Asker<'_> {
    /// Carries a compound out in the session. NFS4ERR_DELAY and GRACE are waited out by sending it again, so it must
    /// not hold an operation that may not be repeated before one that can answer so.
    pub(crate) async fn ask(self, cred: &Cred, changing: bool, ops: &[Argop4]) -> Step<Replies> {
        let mut delay = Backoff::for_delay();
        loop {
            let results = self.exchange(cred, changing, ops).await?;
            match results.last().and_then(nfs4::compound::Resop4::error) {
                Some(Nfs4Error::Delay | Nfs4Error::Grace) => sleep(delay.pause()).await,
                _ => return Ok(Replies::new(results)),
            }
        }
    }

    async fn exchange(self, cred: &Cred, changing: bool, ops: &[Argop4]) -> Step<Vec<nfs4::compound::Resop4>> {
        let options = self.handshake.options();
        let used = tokio::select! {
            used = self.session.take_slot() => used.ok_or(Broken::Session)?,
            // All slots may be held by requests that wait for us to mend the connection.
            _ = self.channel.closed() => return Err(Broken::Channel),
        };
        let segments = match self.session.encode(used, &options.machine_name, cred, changing, ops) {
            Ok(segments) => segments,
            Err(error) => {
                self.session.give_back(used, false);
                return Err(error.into());
            }
        };
        let mut delay = Backoff::for_delay();
        loop {
            let Ok(Ok(record)) = timeout(options.call_timeout, self.channel.call(segments.clone())).await else {
                // Whether the server took the request is unknown, so the slot cannot be used again.
                self.session.abandon();
                return Err(Broken::Channel);
            };
            match judge(record, &self.session.id, used) {
                Judged::Executed { results, .. } => {
                    self.session.give_back(used, true);
                    return Ok(results);
                }
                Judged::Wait => sleep(delay.pause()).await,
                Judged::NotBound => {
                    self.session.give_back(used, false);
                    return Err(Broken::Channel);
                }
                Judged::Refused(error) => {
                    self.session.give_back(used, false);
                    return Err(error.into());
                }
                Judged::Garbled(error) => {
                    self.session.give_back(used, true);
                    return Err(error.into());
                }
                Judged::Uncached | Judged::SessionGone { .. } => return Err(Broken::Session),
            }
        }
    }

    fn putfh(file: &OpenFile) -> Argop4 {
        Argop4::Putfh(Putfh4args { object: file.handle().to_wire() })
    }

    /// One OPEN without a name for a file that was open before; `Ok(false)` when the server refuses.
    async fn reopen(self, file: &OpenFile, claim: OpenClaim4) -> Step<bool> {
        let ops = [Self::putfh(file), open_claim(&file.owner(), file.access(), claim)];
        let mut replies = self.ask(file.cred(), true, &ops).await?;
        let opened = async {
            next!(replies, Putfh, "PUTFH")?;
            next!(replies, Open, "OPEN")
        };
        match opened.await {
            Ok(opened) => {
                if !file.reopened(opened.stateid) {
                    // It was closed meanwhile, and not by this stateid.
                    self.close_stateid(file, opened.stateid).await?;
                }
                Ok(true)
            }
            Err(error) => {
                tracing::debug!(?error, handle = ?file.handle(), "an open was not given back");
                Ok(false)
            }
        }
    }

    /// CLOSE of a file that was left open.
    pub(crate) async fn close(self, file: &OpenFile) -> Step<()> {
        self.close_stateid(file, file.stateid()?).await
    }

    async fn close_stateid(self, file: &OpenFile, stateid: Stateid4) -> Step<()> {
        let open_stateid = Stateid4 { seqid: 0, ..stateid };
        let ops = [Self::putfh(file), Argop4::Close(Close4args { seqid: 0, open_stateid })];
        self.ask(file.cred(), true, &ops).await.map(drop)
    }

    /// The server has forgotten this client: every open is reclaimed; returns those that it does not give back. Once
    /// [`Self::reclaim_complete`] was sent they can be [opened anew](Self::open_again).
    pub(crate) async fn reclaim(self, files: &[OpenFile]) -> Step<Vec<OpenFile>> {
        self.each(files, OpenClaim4::Previous(OpenDelegationType4::None)).await
    }

    /// RECLAIM_COMPLETE: from here on the server gives out new opens (RFC 8881 §18.51).
    pub(crate) async fn reclaim_complete(self) -> Step<()> {
        let op = Argop4::ReclaimComplete(ReclaimComplete4args { rca_one_fs: false });
        let mut replies = self.ask(&self.handshake.options().cred, true, &[op]).await?;
        match next!(replies, ReclaimComplete, "RECLAIM_COMPLETE") {
            Ok(()) => Ok(()),
            Err(error) if error.status() == Some(Nfs4Error::CompleteAlready) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "RECLAIM_COMPLETE was refused; going on without");
                Ok(())
            }
        }
    }

    /// Asks which opens and locks are still good and opens those files again that are not.
    pub(crate) async fn test(self, files: &[OpenFile]) -> Step<()> {
        let mut bad = Vec::new();
        for files in files.chunks(TESTED_AT_ONCE) {
            let files = files.iter().filter(|file| !file.is_past());
            let opens: Vec<(&OpenFile, Stateid4)> =
                files.filter_map(|file| Some((file, file.stateid().ok()?))).collect();
            let statuses = self.statuses(opens.iter().map(|(_, stateid)| *stateid).collect()).await?;
            for ((file, stateid), status) in opens.into_iter().zip(statuses) {
                // Also where the open is gone: each revoked lock is acknowledged on its own.
                self.test_locks(file).await?;
                if status.is_some() {
                    self.free(stateid, status).await?;
                    bad.push(file.clone());
                }
            }
        }
        self.open_again(&bad).await
    }

    async fn test_locks(self, file: &OpenFile) -> Step<()> {
        let owners: Vec<_> =
            file.locks().all().into_iter().filter_map(|owner| Some((owner.stateid()?, owner))).collect();
        for owners in owners.chunks(TESTED_AT_ONCE) {
            let statuses = self.statuses(owners.iter().map(|(stateid, _)| *stateid).collect()).await?;
            for ((stateid, owner), status) in owners.iter().zip(statuses) {
                if status.is_some() {
                    tracing::warn!(handle = ?file.handle(), "locks are lost: the server has revoked them");
                    self.free(*stateid, status).await?;
                    owner.lose();
                }
            }
        }
        Ok(())
    }

    /// TEST_STATEID: what is wrong with each of these. A server without the operation knows none of them.
    async fn statuses(self, stateids: Vec<Stateid4>) -> Step<Vec<Option<Nfs4Error>>> {
        let count = stateids.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        let op = Argop4::TestStateid(TestStateid4args { ts_stateids: stateids.into() });
        let mut replies = self.ask(&self.handshake.options().cred, false, &[op]).await?;
        let codes = match next!(replies, TestStateid, "TEST_STATEID") {
            Ok(ok) => ok.tsr_status_codes.0,
            Err(error) if error.status() == Some(Nfs4Error::Notsupp) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let status =
            |code: Option<&u32>| code.map_or(Some(Nfs4Error::BadStateid), |code| Nfs4Error::from_status(*code));
        Ok((0..count).map(|index| status(codes.get(index))).collect())
    }

    /// Tells the server that we know of a revoked stateid.
    async fn free(self, stateid: Stateid4, status: Option<Nfs4Error>) -> Step<()> {
        if let Some(Nfs4Error::Expired | Nfs4Error::AdminRevoked | Nfs4Error::DelegRevoked) = status {
            let op = Argop4::FreeStateid(FreeStateid4args { fsa_stateid: stateid });
            self.ask(&self.handshake.options().cred, true, &[op]).await?;
        }
        Ok(())
    }

    /// Opens files by their handles; what the server refuses is lost.
    pub(crate) async fn open_again(self, files: &[OpenFile]) -> Step<()> {
        for file in self.each(files, OpenClaim4::Fh).await? {
            tracing::warn!(handle = ?file.handle(), "an open file is lost: the server does not open it again");
            file.lose();
        }
        Ok(())
    }

    /// Reclaims the locks in a file that was reclaimed. Where the server did not hold them for us meanwhile, somebody
    /// else may have had them, so they are lost.
    async fn restore_locks(self, file: &OpenFile, reclaim: bool) -> Step<()> {
        for owner in file.locks().all() {
            owner.forget_state();
            for (range, kind) in owner.ranges() {
                let restored = reclaim && {
                    let ops = [Self::putfh(file), owner.lock_op(file, range, kind, true)?];
                    let mut replies = self.ask(file.cred(), true, &ops).await?;
                    next!(replies, Putfh, "PUTFH").is_ok() && matches!(owner.locked(&mut replies), Ok(None))
                };
                if !restored {
                    tracing::warn!(handle = ?file.handle(), "a lock is lost: the server does not give it back");
                    owner.lose();
                    break;
                }
            }
        }
        Ok(())
    }

    async fn attempt(self, file: &OpenFile, claim: OpenClaim4) -> Step<(bool, &OpenFile)> {
        if file.is_past() {
            // Its CLOSE finds no open, which is as good.
            return Ok((true, file));
        }
        let reclaim = matches!(claim, OpenClaim4::Previous(_));
        let opened = self.reopen(file, claim).await?;
        if opened && !file.is_past() {
            self.restore_locks(file, reclaim).await?;
        }
        Ok((opened, file))
    }

    /// Opens files again, some at once; returns those that were refused.
    async fn each(self, files: &[OpenFile], claim: OpenClaim4) -> Step<Vec<OpenFile>> {
        let mut refused = Vec::new();
        let attempts: Vec<BoxFuture<'_, _>> =
            files.iter().map(|file| self.attempt(file, claim.clone()).boxed()).collect();
        let mut attempts = stream::iter(attempts).buffer_unordered(AT_ONCE);
        // All of them are waited for, also after a failure: one dropped in the middle would keep its slot for ever.
        let mut broken = None;
        while let Some(done) = attempts.next().await {
            match done {
                Ok((true, _)) => {}
                Ok((false, file)) => refused.push(file.clone()),
                Err(error) => broken = Some(error),
            }
        }
        drop(attempts);
        broken.map_or(Ok(refused), Err)
    }
}
