//! A session that is kept busy gets more connections, to the same partition; losing one of them stops nobody.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mock_mount_target::nfs::{Config, Profile};
use mock_mount_target::{FaultPlan, MockHandle, MockServer};
use mount_target::target::TargetName;
use mount_target::{ChannelOptions, Connector, ConnectorConfig, CredentialsSource, TargetOptions, Trust};
use nfs4_client::{Client, ClientOptions, Create, Cred, OpenAccess, OpenFile, OpenHow, SetAttr, Stability};

/// All of a test; more than this is a hang.
const LIMIT: Duration = Duration::from_secs(120);
const BLOCK: u64 = 1 << 20;
const BLOCKS: u64 = 16;

async fn mock() -> Arc<MockHandle> {
    let mock = MockServer::builder().config(Config::new(Profile::Full)).start().await.unwrap();
    mock.set_rtt(Duration::from_millis(50));
    Arc::new(mock)
}

fn over_tls(mock: &MockHandle) -> Connector {
    let name: TargetName = mock.addr().to_string().parse().unwrap();
    let options = TargetOptions {
        file_system_id: Some(mock.fs_id().parse().unwrap()),
        region: Some(mock.region().parse().unwrap()),
        ..TargetOptions::default()
    };
    let keys = mock.credentials();
    let credentials =
        CredentialsSource::fixed(&keys.access_key_id, &keys.secret_access_key, keys.session_token.as_deref());
    let target = name.complete(options, None).unwrap();
    Connector::new(ConnectorConfig {
        trust: Trust::CaFile(mock.ca_file().to_owned()),
        ..ConnectorConfig::new(target, credentials)
    })
    .unwrap()
}

fn block(index: u64) -> Bytes {
    Bytes::from(vec![index as u8 + 1; BLOCK as usize])
}

async fn written(client: &Client) -> OpenFile {
    let mode = SetAttr { mode: Some(0o644), ..SetAttr::default() };
    let how = OpenHow { access: OpenAccess::Both, create: Some(Create::Exclusive(mode)), truncate: false };
    let file = client.open(&Cred::new(0, 0), &client.root().0, b"file", how).await.unwrap().file;
    for index in 0..BLOCKS {
        client.write(&file, index * BLOCK, vec![block(index)], Stability::FileSync, None).await.unwrap();
    }
    file
}

/// Reads and writes the file on and on, until it is told to stop. Every answer must be the right one.
async fn busy(client: Client, file: OpenFile, index: u64, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let read = client.read(&file, index * BLOCK, BLOCK as u32).await.unwrap();
        assert_eq!(read.data, block(index));
        client.write(&file, index * BLOCK, vec![block(index)], Stability::Unstable, None).await.unwrap();
    }
}

async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let waiting = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Keeps a client busy until it has three connections, then loses some of them on the way.
async fn grows_and_loses(mock: Arc<MockHandle>, dial: Connector) {
    let client = Client::connect(Arc::new(dial), ClientOptions::default()).await.unwrap();
    let file = written(&client).await;
    let stop = Arc::new(AtomicBool::new(false));
    let work: Vec<_> =
        (0..BLOCKS).map(|index| tokio::spawn(busy(client.clone(), file.clone(), index, Arc::clone(&stop)))).collect();
    until("three connections", || client.counters().connections >= 3).await;
    for cut in ["cut_before_request", "cut_before_reply", "cut_inside_reply"] {
        for on in ["READ", "WRITE"] {
            let acted = mock.faults_acted() + mock.wire_faults_acted();
            mock.add_faults(FaultPlan::from_toml(&format!("[[fault]]\non = '{on}'\ndo = '{cut}'"), 1).unwrap());
            until("the cut", || mock.faults_acted() + mock.wire_faults_acted() > acted).await;
            client.getattr(&Cred::new(0, 0), &client.root().0).await.unwrap();
        }
    }
    mock.cut_all();
    client.getattr(&Cred::new(0, 0), &client.root().0).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    for work in work {
        work.await.unwrap();
    }
    client.close(&file).await.unwrap();
    assert_eq!(client.counters().sessions, 1, "the session outlives all of its connections");
    client.shutdown().await;
    assert_eq!(mock.verdict(), Vec::<String>::new(), "the referee's list");
    mock.check_invariants().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_asks_each_healthy_connection_once_and_breaks_nothing() {
    let round = async {
        let mock = mock().await;
        let client = Client::connect(Arc::new(over_tls(&mock)), ClientOptions::default()).await.unwrap();
        let file = written(&client).await;
        let stop = Arc::new(AtomicBool::new(false));
        let work: Vec<_> = (0..BLOCKS)
            .map(|index| tokio::spawn(busy(client.clone(), file.clone(), index, Arc::clone(&stop))))
            .collect();
        until("three connections", || client.counters().connections >= 3).await;
        // In the middle of the work it does no harm.
        client.check_now(Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(300)).await;
        stop.store(true, Ordering::Relaxed);
        for work in work {
            work.await.unwrap();
        }
        let made = client.counters();
        let connections = client.standing().connections as u64;
        client.check_now(Duration::from_secs(3600));
        assert!(client.standing().lease_left.is_zero(), "the sleep is not counted");
        until("the lease is renewed", || !client.standing().lease_left.is_zero()).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = client.counters();
        assert!((3..=4).contains(&connections), "{made:?}");
        assert_eq!(now.compounds - made.compounds, connections);
        assert_eq!((now.connections, now.sessions, now.repeated), (made.connections, 1, 0));
        client.close(&file).await.unwrap();
        client.shutdown().await;
        assert_eq!(mock.verdict(), Vec::<String>::new());
    };
    tokio::time::timeout(LIMIT, round).await.expect("it hangs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_session_gets_connections_to_its_partition_and_loses_them_without_harm() {
    let mock = mock().await;
    let dial = over_tls(&mock);
    tokio::time::timeout(LIMIT, grows_and_loses(mock, dial)).await.expect("it hangs");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_and_bind_it_is_the_same() {
    let mock = mock().await;
    let far = Arc::clone(&mock);
    let dial = Connector::in_memory(move || Ok(far.connect_in_memory()), ChannelOptions::default());
    tokio::time::timeout(LIMIT, grows_and_loses(mock, dial)).await.expect("it hangs");
}
