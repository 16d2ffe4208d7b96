//! Services of one's own behind the door, and clients of other people in front of it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod peer;

use std::io;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use mock_mount_target::{Answer, Attached, Call, ConnInfo, MockServer, Outlet, Pending, Service};
use nfs4::rpc::ReplyStatus;
use peer::{Peer, within};

/// Answers with the arguments it got, except that some arguments make it panic or die.
#[derive(Debug)]
struct Mirror;

impl Service for Mirror {
    fn connected(&self, _conn: ConnInfo, _outlet: Outlet) -> Pending<'_, io::Result<Box<dyn Attached>>> {
        Box::pin(std::future::ready(Ok(Box::new(Self) as Box<dyn Attached>)))
    }
}

impl Attached for Mirror {
    fn call(&mut self, call: Call) -> Pending<'_, Answer> {
        assert_ne!(call.args, "boom");
        let died = call.args == "dead";
        let answer = if died { Answer::Died } else { Answer::Results(vec![call.args]) };
        Box::pin(std::future::ready(answer))
    }

    fn replied(&mut self, _record: Bytes) -> Pending<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test]
async fn a_service_of_ones_own_answers_and_can_die_with_every_connection() {
    within(async {
        let mock = MockServer::builder().service(Arc::new(Mirror)).plain().start().await.unwrap();
        let (mut one, mut two) = (peer::plain(&mock).await, Peer::new(mock.connect_in_memory()));
        let back = one.call(100_003, 4, 1, b"same").await.unwrap();
        assert_eq!((back.status, &back.results[..]), (ReplyStatus::Success, &b"same"[..]));
        two.null().await.unwrap();
        assert!(one.call(100_003, 4, 1, b"dead").await.is_err());
        assert!(two.is_closed().await);
        assert_eq!(mock.verdict(), Vec::<String>::new());
        mock.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_panic_of_the_mock_is_in_the_verdict_whichever_way_the_client_came() {
    within(async {
        let mock = MockServer::builder().service(Arc::new(Mirror)).plain().start().await.unwrap();
        assert!(peer::plain(&mock).await.call(100_003, 4, 1, b"boom").await.is_err());
        assert!(Peer::new(mock.connect_in_memory()).call(100_003, 4, 1, b"boom").await.is_err());
        while mock.panics().len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(mock.verdict().len(), 2);
        let stopped = tokio::spawn(mock.stop()).await;
        assert!(stopped.unwrap_err().is_panic());
    })
    .await;
}

/// libnfs speaks NFSv3 and NFSv4.0 only.
#[test]
fn libnfs_is_told_that_its_minor_version_is_not_served() {
    if Command::new("nfs-ls").output().is_err() {
        eprintln!("skipped: nfs-ls of libnfs-utils is not installed");
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mock = runtime.block_on(MockServer::builder().plain().start()).unwrap();
    let url = format!("nfs://127.0.0.1/?version=4&nfsport={}", mock.plain_addr().unwrap().port());
    let output = Command::new("timeout").args(["20", "nfs-ls", &url]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("NFS4ERR_MINOR_VERS_MISMATCH"), "{said}");
    runtime.block_on(mock.stop());
}
