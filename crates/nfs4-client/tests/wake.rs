//! After a sleep, or on another network, a connection may be gone without a word: a check finds that out in seconds, where a
//! call alone would wait for its time-out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mock_mount_target::nfs::{Config, Profile};
use mock_mount_target::{MockHandle, MockServer};
use mount_target::{ChannelOptions, Connector};
use nfs4_client::{Client, ClientOptions, Cred, Dial, Dialling, FileAttr};
use tokio::task::JoinHandle;

/// All of a test; more than this is a hang.
const LIMIT: Duration = Duration::from_secs(100);
/// How long a call waits for its answer without a check.
const CALL: Duration = Duration::from_secs(60);
/// How long it may take with one: three seconds of silence, and a new connection.
const SOON: Duration = Duration::from_secs(15);
/// Longer than any test.
const NEVER: Duration = Duration::from_mins(10);

async fn mock() -> Arc<MockHandle> {
    Arc::new(MockServer::builder().config(Config::new(Profile::Full)).start().await.unwrap())
}

fn in_memory(mock: &Arc<MockHandle>) -> Connector {
    let far = Arc::clone(mock);
    Connector::in_memory(move || Ok(far.connect_in_memory()), ChannelOptions::default())
}

fn options(slots: u32) -> ClientOptions {
    ClientOptions { call_timeout: CALL, slots, ..ClientOptions::default() }
}

fn ask(client: &Client) -> JoinHandle<FileAttr> {
    let client = client.clone();
    tokio::spawn(async move { client.getattr(&Cred::new(0, 0), &client.root().0).await.unwrap() })
}

/// From now on the connection that `trouble` asks on brings nothing any more, and takes everything; new ones work.
async fn black_hole<T>(mock: &MockHandle, trouble: impl FnOnce() -> T) -> T {
    mock.set_rtt(NEVER);
    let asked = trouble();
    // The answer stands first in the connection's queue by then, and everything else behind it.
    tokio::time::sleep(Duration::from_millis(500)).await;
    mock.set_rtt(Duration::ZERO);
    asked
}

async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| panic!("it took more than {limit:?}: {what}"))
}

async fn ended(mock: &MockHandle, client: Client) {
    client.shutdown().await;
    assert_eq!(mock.verdict(), Vec::<String>::new());
    mock.check_invariants().unwrap();
}

/// With slots to spare, and with every slot held by calls that wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_on_a_connection_that_is_gone_without_a_word_goes_on_at_once_after_a_check() {
    let round = async {
        for slots in [128, 1] {
            let mock = mock().await;
            let client = Client::connect(Arc::new(in_memory(&mock)), options(slots)).await.unwrap();
            let mut calls = black_hole(&mock, || [ask(&client), ask(&client)]).await;
            let early = tokio::time::timeout(Duration::from_secs(2), &mut calls[0]).await;
            assert!(early.is_err(), "the connection is no black hole: {early:?}");
            let start = Instant::now();
            client.check_now(Duration::from_secs(3600));
            for call in calls {
                within(SOON, "a call", call).await.unwrap();
            }
            println!("{slots} slots: the calls went on after {:?}, without a check {CALL:?}", start.elapsed());
            let counters = client.counters();
            assert_eq!((counters.connections, counters.sessions), (2, 1), "the session stays");
            assert!(!client.standing().lease_left.is_zero(), "the lease is not renewed");
            ended(&mock, client).await;
        }
    };
    within(LIMIT, "the test", round).await;
}

/// Answers that come slowly are answers: the connection is busy, not gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_answers_stand_behind_data_is_not_given_up() {
    let round = async {
        let mock = mock().await;
        let options = ClientOptions { connections: 1, ..options(128) };
        let client = Client::connect(Arc::new(in_memory(&mock)), options).await.unwrap();
        let slow = mock_mount_target::LinkSettings { bandwidth: Some(500 << 10), ..Default::default() };
        let (cred, root) = (Cred::new(0, 0), client.root().0.clone());
        let create = nfs4_client::Create::Exclusive(nfs4_client::SetAttr::default());
        let how = nfs4_client::OpenHow { access: nfs4_client::OpenAccess::Both, create: Some(create), truncate: false };
        let file = client.open(&cred, &root, b"file", how).await.unwrap().file;
        let block = bytes::Bytes::from(vec![7; 1 << 20]);
        client.write(&file, 0, vec![block.clone()], nfs4_client::Stability::FileSync, None).await.unwrap();
        mock.set_link(slow);
        let reads: Vec<_> = (0..3)
            .map(|_| {
                let (client, file) = (client.clone(), file.clone());
                tokio::spawn(async move { client.read(&file, 0, 1 << 20).await.unwrap().data })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        client.check_now(Duration::ZERO);
        for read in reads {
            assert_eq!(read.await.unwrap(), block);
        }
        mock.set_link(mock_mount_target::LinkSettings::default());
        let counters = client.counters();
        assert_eq!((counters.connections, counters.repeated), (1, 0), "it was given up");
        client.close(&file).await.unwrap();
        ended(&mock, client).await;
    };
    within(LIMIT, "the test", round).await;
}

/// A connector that can be made to hang or to fail.
struct Moody {
    connector: Connector,
    hangs: AtomicBool,
    fails: AtomicBool,
    dialled: AtomicU32,
}

impl Dial for Moody {
    fn dial(&self) -> Dialling<'_> {
        self.dialled.fetch_add(1, Ordering::Relaxed);
        if self.hangs.load(Ordering::Relaxed) {
            return Box::pin(std::future::pending());
        }
        if self.fails.load(Ordering::Relaxed) {
            let error = mount_target::ConnectError::PortClosed { address: "here".to_owned() };
            return Box::pin(std::future::ready(Err(error)));
        }
        self.connector.dial()
    }
}

async fn moody(mock: &Arc<MockHandle>) -> (Arc<Moody>, Client) {
    let (hangs, fails, dialled) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU32::new(0));
    let dial = Arc::new(Moody { connector: in_memory(mock), hangs, fails, dialled });
    let client = Client::connect(Arc::clone(&dial) as Arc<dyn Dial>, options(128)).await.unwrap();
    (dial, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_by_a_way_that_is_gone_begins_anew_after_a_check() {
    let round = async {
        let mock = mock().await;
        let (dial, client) = moody(&mock).await;
        dial.hangs.store(true, Ordering::Relaxed);
        mock.cut_all();
        let call = ask(&client);
        while dial.dialled.load(Ordering::Relaxed) < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        dial.hangs.store(false, Ordering::Relaxed);
        client.check_now(Duration::ZERO);
        within(SOON, "the call", call).await.unwrap();
        ended(&mock, client).await;
    };
    within(LIMIT, "the test", round).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_ends_the_pause_between_two_attempts() {
    let round = async {
        let mock = mock().await;
        let (dial, client) = moody(&mock).await;
        dial.fails.store(true, Ordering::Relaxed);
        mock.cut_all();
        let call = ask(&client);
        // Until then the pauses have grown to 6.4 seconds.
        while dial.dialled.load(Ordering::Relaxed) < 8 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        dial.fails.store(false, Ordering::Relaxed);
        client.check_now(Duration::ZERO);
        within(Duration::from_secs(2), "the call", call).await.unwrap();
        ended(&mock, client).await;
    };
    within(LIMIT, "the test", round).await;
}

/// The connection goes right after it was made, while the session is being bound to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_goes_while_the_session_is_restored_on_it_is_found_out_as_well() {
    let round = async {
        let mock = mock().await;
        let client = Client::connect(Arc::new(in_memory(&mock)), options(128)).await.unwrap();
        let mut call = black_hole(&mock, || {
            mock.cut_all();
            ask(&client)
        })
        .await;
        assert!(tokio::time::timeout(Duration::from_secs(2), &mut call).await.is_err(), "it is no black hole");
        client.check_now(Duration::ZERO);
        within(SOON, "the call", call).await.unwrap();
        assert_eq!(client.counters().sessions, 1);
        ended(&mock, client).await;
    };
    within(LIMIT, "the test", round).await;
}
