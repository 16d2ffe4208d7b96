//! A soft mount: what a caller was told to have failed does not happen later, and leaves a client that works.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mock_mount_target::nfs::{Config, Profile};
use mock_mount_target::{FaultPlan, MockHandle, MockServer};
use mount_target::{ChannelOptions, ConnectError, Connector};
use nfs4_client::{
    Along, Client, ClientOptions, Create, Cred, Dial, Dialling, Errno, Error, LockKind, LockRange, NewNode, OpenAccess,
    OpenHow, SetAttr,
};

/// All of a test; more than this is a hang.
const LIMIT: Duration = Duration::from_secs(60);
const SOFT: Duration = Duration::from_secs(1);

/// A connector whose target may be away.
struct Away {
    connector: Connector,
    is_away: AtomicBool,
}

impl Dial for Away {
    fn dial(&self) -> Dialling<'_> {
        if self.is_away.load(Ordering::Relaxed) {
            let error = ConnectError::PortClosed { address: "here".to_owned() };
            return Box::pin(std::future::ready(Err(error)));
        }
        self.connector.dial()
    }
}

async fn client(slots: u32) -> (Arc<MockHandle>, Arc<Away>, Client) {
    let mock = Arc::new(MockServer::builder().config(Config::new(Profile::Full)).start().await.unwrap());
    let far = Arc::clone(&mock);
    let connector = Connector::in_memory(move || Ok(far.connect_in_memory()), ChannelOptions::default());
    let dial = Arc::new(Away { connector, is_away: AtomicBool::new(false) });
    // Longer, so that an answer is missed after the deadline.
    let call_timeout = SOFT * 3 / 2;
    let options = ClientOptions { call_timeout, soft_timeout: Some(SOFT), slots, ..ClientOptions::default() };
    let client = Client::connect(Arc::clone(&dial) as Arc<dyn Dial>, options).await.unwrap();
    (mock, dial, client)
}

fn cred() -> Cred {
    Cred::new(0, 0)
}

fn create() -> OpenHow {
    let create = Some(Create::Exclusive(SetAttr::default()));
    OpenHow { access: OpenAccess::Both, create, truncate: false }
}

/// The next answer to `operation` comes when its caller has stopped waiting, but not so late that the connection is
/// given up.
fn answer_late(mock: &MockHandle, operation: &str) {
    let late = format!("[[fault]]\non = '{operation}'\ndo = 'delay'\nms = {}", (SOFT * 5 / 4).as_millis());
    mock.add_faults(FaultPlan::from_toml(&late, 1).unwrap());
}

/// Until the server is reached again.
async fn back(client: &Client) {
    while let Err(error) = client.getattr(&cred(), &client.root().0).await {
        assert_eq!(error.errno(), Errno::TimedOut);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_sent_in_time_is_not_sent_later_but_a_file_is_closed() {
    let round = async {
        let (mock, dial, client) = client(128).await;
        let root = client.root().0.clone();
        client.create(&cred(), &root, b"dir", NewNode::Directory, SetAttr::default()).await.unwrap();
        let file = client.open(&cred(), &root, b"file", create()).await.unwrap().file;
        dial.is_away.store(true, Ordering::Relaxed);
        mock.cut_all();
        while client.standing().connections > 0 {
            tokio::task::yield_now().await;
        }
        let failed = client.counters().failed;
        assert!(matches!(client.remove(&cred(), &root, b"dir").await, Err(Error::TimedOut)));
        assert_eq!(client.counters().failed, failed + 1);
        assert!(matches!(client.close(&file).await, Err(Error::TimedOut)));
        dial.is_away.store(false, Ordering::Relaxed);
        client.check_now(Duration::ZERO);
        back(&client).await;
        assert!(client.lookup(&cred(), &root, b"dir", Along::Nothing).await.unwrap().entry.is_some());
        // Waits for everything that is still under way.
        client.shutdown().await;
        assert_eq!((mock.count_of("REMOVE"), mock.count_of("CLOSE")), (0, 1));
        assert_eq!(mock.verdict(), Vec::<String>::new());
    };
    tokio::time::timeout(LIMIT, round).await.expect("it hangs");
}

/// Nobody knows what became of the only slot.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_and_not_answered_in_time_is_not_sent_again_and_a_new_session_takes_its_place() {
    let round = async {
        let (mock, _, client) = client(1).await;
        let root = client.root().0.clone();
        client.create(&cred(), &root, b"dir", NewNode::Directory, SetAttr::default()).await.unwrap();
        mock.set_rtt(LIMIT * 10);
        assert!(matches!(client.remove(&cred(), &root, b"dir").await, Err(Error::TimedOut)));
        mock.set_rtt(Duration::ZERO);
        back(&client).await;
        client.shutdown().await;
        assert_eq!(client.counters().sessions, 2);
        assert!(mock.count_of("REMOVE") <= 1);
        assert_eq!(mock.verdict(), Vec::<String>::new());
    };
    tokio::time::timeout(LIMIT, round).await.expect("it hangs");
}

/// The second try waits for the first to be given back.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_given_too_late_is_given_back_before_its_owner_gets_it_anew() {
    let round = async {
        let (mock, _, client) = client(128).await;
        let file = client.open(&cred(), &client.root().0, b"file", create()).await.unwrap().file;
        let parts = [LockRange { first: 0, last: 9 }, LockRange { first: 20, last: 29 }];
        answer_late(&mock, "LOCK");
        assert!(matches!(client.lock(&file, 1, parts[0], LockKind::Write).await, Err(Error::TimedOut)));
        for part in parts {
            assert_eq!(client.lock(&file, 1, part, LockKind::Write).await.unwrap().conflict(), None);
        }
        assert_eq!(file.locks_of(1), parts.map(|part| (part, LockKind::Write)));
        client.close(&file).await.unwrap();
        client.shutdown().await;
        assert_eq!(mock.count_of("LOCKU"), 1);
        assert_eq!(mock.verdict(), Vec::<String>::new());
    };
    tokio::time::timeout(LIMIT, round).await.expect("it hangs");
}

/// The server keeps one lock for each byte of an owner: with the late one the earlier one goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_goes_along_with_one_that_was_given_too_late_is_lost_and_said_to_be() {
    let round = async {
        let (mock, _, client) = client(128).await;
        let file = client.open(&cred(), &client.root().0, b"file", create()).await.unwrap().file;
        client.lock(&file, 1, LockRange { first: 0, last: 9 }, LockKind::Read).await.unwrap();
        answer_late(&mock, "LOCK");
        let late = client.lock(&file, 1, LockRange { first: 5, last: 14 }, LockKind::Write).await;
        assert!(matches!(late, Err(Error::TimedOut)));
        while !file.lost_locks() {
            tokio::time::sleep(SOFT / 100).await;
        }
        assert_eq!(file.locks_of(1), [(LockRange { first: 0, last: 4 }, LockKind::Read)]);
        client.close(&file).await.unwrap();
        client.shutdown().await;
        assert_eq!(mock.verdict(), Vec::<String>::new());
    };
    tokio::time::timeout(LIMIT, round).await.expect("it hangs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_opened_too_late_is_closed_again() {
    let round = async {
        let (mock, _, client) = client(128).await;
        let (cred, root) = (cred(), client.root().0.clone());
        let file = client.open(&cred, &root, b"file", create()).await.unwrap().file;
        client.close(&file).await.unwrap();
        answer_late(&mock, "OPEN");
        assert!(matches!(client.open(&cred, &root, b"other", create()).await, Err(Error::TimedOut)));
        answer_late(&mock, "OPEN");
        let read = client.open_and_read(&cred, file.handle(), None, OpenAccess::Read, 10).await;
        assert!(matches!(read, Err(Error::TimedOut)));
        answer_late(&mock, "OPEN");
        let (attrs, data) = (SetAttr::default(), vec![Bytes::from_static(b"data")]);
        let born = client.create_and_write(&cred, &root, b"new", OpenAccess::Both, attrs, data, None).await;
        assert!(matches!(born, Err(Error::TimedOut)));
        while mock.count_of("CLOSE") < 4 {
            tokio::time::sleep(SOFT / 100).await;
        }
        client.shutdown().await;
        assert_eq!(mock.verdict(), Vec::<String>::new());
    };
    tokio::time::timeout(LIMIT, round).await.expect("it hangs");
}
