//! A soft mount: what a caller was told to have failed does not happen later, and leaves a client that works.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mock_mount_target::nfs::{Config, Profile};
use mock_mount_target::{MockHandle, MockServer};
use mount_target::{ChannelOptions, ConnectError, Connector};
use nfs4_client::{
    Along, Client, ClientOptions, Create, Cred, Dial, Dialling, Errno, Error, NewNode, OpenAccess, OpenHow, SetAttr,
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
        let how =
            OpenHow { access: OpenAccess::Both, create: Some(Create::Exclusive(SetAttr::default())), truncate: false };
        let file = client.open(&cred(), &root, b"file", how).await.unwrap().file;
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
