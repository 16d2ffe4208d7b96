//! The client against a mount target that fails on purpose: whatever is in the table, a fixed piece of work comes to its
//! end with the right result, everything happens once, and the referee has nothing to say.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mock_mount_target::nfs::{Config, Profile};
use mock_mount_target::{FaultPlan, MockHandle, MockServer};
use mount_target::{ChannelOptions, Connector};
use nfs4_client::{
    Client, ClientOptions, Create, Cred, Errno, Error, LockKind, LockRange, NewNode, OpenAccess, OpenHow, SetAttr,
    Stability,
};

/// One round of work with everything in its way; more than this is a hang.
const LIMIT: Duration = Duration::from_secs(60);

/// What the work must survive without noticing, on each operation it applies to.
const EVERYWHERE: &[&str] = &[
    "do = 'status'\nstatus = 'NFS4ERR_DELAY'\ntimes = 3",
    "do = 'cut_before_request'",
    "do = 'cut_before_reply'",
    "do = 'cut_inside_reply'",
    "do = 'cut_after_reply'",
    "do = 'cut_before_reply'\ntimes = 3",
    "do = 'drop_reply'",
    "do = 'duplicate_request'",
    "do = 'duplicate_reply'",
    "do = 'record_mark'\nbytes = 4294967295",
    "do = 'record_mark'\nbytes = 0",
    "do = 'raw_random_bytes'\nbytes = 100",
    "do = 'random_bytes'\nbytes = 100",
    "do = 'drop_sessions'",
    "do = 'restart'",
    "do = 'restart'\ncarried_out = true",
];

/// Operations of the work that are sent once each, or nearly.
const OPERATIONS: &[&str] =
    &["OPEN", "WRITE", "COMMIT", "READ", "LOCK", "LOCKU", "RENAME", "REMOVE", "CREATE", "CLOSE", "READDIR"];

/// What SEQUENCE may answer.
const SESSION: &[&str] = &[
    "NFS4ERR_DELAY",
    "NFS4ERR_BADSESSION",
    "NFS4ERR_DEADSESSION",
    "NFS4ERR_BADSLOT",
    "NFS4ERR_BAD_HIGH_SLOT",
    "NFS4ERR_SEQ_MISORDERED",
    "NFS4ERR_CONN_NOT_BOUND_TO_SESSION",
];

/// What READ and WRITE may answer about their stateid, though it is good.
const STATE: &[&str] = &["NFS4ERR_EXPIRED", "NFS4ERR_BAD_STATEID", "NFS4ERR_STALE_STATEID", "NFS4ERR_ADMIN_REVOKED"];

async fn mock() -> Arc<MockHandle> {
    Arc::new(MockServer::builder().config(Config::new(Profile::Full)).start().await.unwrap())
}

async fn client(mock: &Arc<MockHandle>) -> Client {
    let far = Arc::clone(mock);
    let dial = Connector::in_memory(move || Ok(far.connect_in_memory()), ChannelOptions::default());
    // Short, because a reply that is dropped is only missed by its absence.
    let options = ClientOptions { call_timeout: Duration::from_millis(500), ..ClientOptions::default() };
    Client::connect(Arc::new(dial), options).await.unwrap()
}

fn cred() -> Cred {
    Cred::new(0, 0)
}

fn create() -> OpenHow {
    let mode = SetAttr { mode: Some(0o644), ..SetAttr::default() };
    OpenHow { access: OpenAccess::Both, create: Some(Create::Exclusive(mode)), truncate: false }
}

/// The work. Every step says what must come out of it.
async fn work(client: &Client) -> Result<(), Error> {
    let (cred, root) = (cred(), client.root().0.clone());
    let mode = SetAttr { mode: Some(0o755), ..SetAttr::default() };
    let dir = client.create(&cred, &root, b"dir", NewNode::Directory, mode).await?.handle;
    let file = client.open(&cred, &dir, b"file", create()).await?.file;
    assert_eq!(client.lock(&file, 1, LockRange::ALL, LockKind::Write).await?.conflict(), None);
    // Until what was committed is what was written: a server that restarted says so by its verifier.
    loop {
        let data = vec![Bytes::from_static(b"one "), Bytes::from_static(b"two")];
        let written = client.write(&file, 0, data, Stability::Unstable, None).await?;
        let verifier = client.commit(&cred, file.handle(), 0, 0, None).await?.verifier;
        if verifier == written.verifier {
            break;
        }
    }
    client.write(&file, 3, vec![Bytes::from_static(b"-")], Stability::FileSync, None).await?;
    let read = client.read(&file, 0, 100).await?;
    assert_eq!((&read.data[..], read.eof), (&b"one-two"[..], true));
    client.unlock(&file, 1, LockRange { first: 0, last: 99 }).await?;
    client.unlock(&file, 1, LockRange::ALL).await?;
    client.rename(&cred, &dir, b"file", &dir, b"other").await?;
    let page = client.readdir(&cred, &dir, 0, [0; 8], u32::MAX).await?;
    assert_eq!(page.entries.iter().map(|entry| &entry.name[..]).collect::<Vec<_>>(), [b"other"]);
    client.close(&file).await?;
    let again = client.open(&cred, &dir, b"other", create()).await.map(drop).map_err(|error| error.errno());
    assert_eq!(again, Err(Errno::Exist), "a file is made once");
    let opened = client.open_and_read(&cred, file.handle(), None, OpenAccess::Read, 100).await?;
    assert_eq!(opened.attr.size, 7);
    client.close(&opened.file).await?;
    client.remove(&cred, &dir, b"other").await?;
    client.remove(&cred, &root, b"dir").await?;
    assert_eq!(client.readdir(&cred, &root, 0, [0; 8], u32::MAX).await?.entries.len(), 0);
    Ok(())
}

/// Does the work with a fault in its way; returns how often it acted.
async fn in_trouble(fault: &str) -> u64 {
    let round = async {
        let mock = mock().await;
        let client = client(&mock).await;
        mock.add_faults(FaultPlan::from_toml(&format!("[[fault]]\n{fault}"), 1).unwrap());
        work(&client).await.unwrap_or_else(|error| panic!("{fault}\n{error}"));
        let acted = mock.faults_acted() + mock.wire_faults_acted();
        mock.clear_wire_faults();
        client.shutdown().await;
        assert_eq!(mock.verdict(), Vec::<String>::new(), "the referee's list\n{fault}");
        mock.check_invariants().unwrap();
        acted
    };
    tokio::time::timeout(LIMIT, round).await.unwrap_or_else(|_| panic!("it hangs\n{fault}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_is_done_without_trouble() {
    in_trouble("on = 'COPY'\ndo = 'cut_before_request'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_failure_of_the_wire_or_the_server_is_noticed_at_any_operation() {
    for operation in OPERATIONS {
        for fault in EVERYWHERE {
            let acted = in_trouble(&format!("on = '{operation}'\n{fault}")).await;
            assert!(acted > 0, "{operation} was never hit by\n{fault}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_failure_of_the_session_is_noticed_at_any_request() {
    for status in SESSION {
        for nth in [1, 2, 5, 9] {
            let fault = format!("on = 'SEQUENCE'\ndo = 'status'\nstatus = '{status}'\nnth = {nth}");
            assert!(in_trouble(&fault).await > 0, "never hit by\n{fault}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_lost_session_never_took_is_not_excused() {
    let round = async {
        let mock = mock().await;
        let client = client(&mock).await;
        let (cred, root) = (cred(), client.root().0.clone());
        let make = || client.create(&cred, &root, b"dir", NewNode::Directory, SetAttr::default());
        make().await.unwrap();
        for fault in ["status = 'NFS4ERR_BADSESSION'", "status = 'NFS4ERR_CONN_NOT_BOUND_TO_SESSION'"] {
            let plan = format!("[[fault]]\non = 'SEQUENCE'\ndo = 'status'\n{fault}");
            mock.add_faults(FaultPlan::from_toml(&plan, 1).unwrap());
            assert_eq!(make().await.unwrap_err().errno(), Errno::Exist, "{fault}");
            mock.add_faults(FaultPlan::from_toml(&plan, 1).unwrap());
            let removed = client.remove(&cred, &root, b"missing").await;
            assert_eq!(removed.unwrap_err().errno(), Errno::NoEnt, "{fault}");
        }
        client.shutdown().await;
        assert_eq!(mock.verdict(), Vec::<String>::new());
    };
    tokio::time::timeout(LIMIT, round).await.expect("it hangs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateid_that_is_refused_is_made_good() {
    for operation in ["READ", "WRITE"] {
        for status in STATE {
            let fault = format!("on = '{operation}'\ndo = 'status'\nstatus = '{status}'");
            assert!(in_trouble(&fault).await > 0, "never hit by\n{fault}");
        }
    }
}

/// Each break of the restore makes another link, on which a write that came too early must not fail for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_outlives_a_restore_that_breaks_again_and_again() {
    let round = async {
        let mock = mock().await;
        let client = client(&mock).await;
        let file = client.open(&cred(), &client.root().0, b"file", create()).await.unwrap().file;
        let breaks = "[[fault]]\non = 'TEST_STATEID'\ndo = 'cut_before_request'\ntimes = 5";
        mock.add_faults(FaultPlan::from_toml(breaks, 1).unwrap());
        mock.revoke_all_state(nfs4_client::Nfs4Error::Expired);
        let data = vec![Bytes::from_static(b"data")];
        client.write(&file, 0, data, Stability::FileSync, None).await.unwrap();
        assert_eq!(mock.wire_faults_acted(), 5);
        assert_eq!(&client.read(&file, 0, 100).await.unwrap().data[..], b"data");
        client.close(&file).await.unwrap();
        client.shutdown().await;
        assert_eq!(mock.verdict(), Vec::<String>::new());
    };
    tokio::time::timeout(LIMIT, round).await.expect("it hangs");
}

/// The first attempt never came to the server, and its session is gone, so that the client cannot know.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_first_attempt_cannot_have_done_is_not_taken_for_its_work() {
    let round = async {
        let mock = mock().await;
        let client = client(&mock).await;
        let (cred, root) = (cred(), client.root().0.clone());
        let make = async |dir, name: &[u8]| {
            client.create(&cred, dir, name, NewNode::Directory, SetAttr::default()).await.map(|made| made.handle)
        };
        let dir = make(&root, b"dir").await.unwrap();
        make(&dir, b"child").await.unwrap();
        client.create(&cred, &root, b"pipe", NewNode::Fifo, SetAttr::default()).await.unwrap();
        let lose = |operation: &str| {
            let plan = format!("[[fault]]\non = '{operation}'\ndo = 'cut_before_request'");
            mock.add_faults(FaultPlan::from_toml(&plan, 1).unwrap());
            mock.drop_sessions();
        };
        for name in [&b"dir"[..], b"pipe"] {
            lose("CREATE");
            assert_eq!(make(&root, name).await.unwrap_err().errno(), Errno::Exist);
        }
        lose("RENAME");
        let renamed = client.rename(&cred, &root, b"missing", &dir, b"other").await;
        assert_eq!(renamed.unwrap_err().errno(), Errno::NoEnt);
        assert_eq!(mock.wire_faults_acted(), 3);
        client.shutdown().await;
        assert_eq!(mock.verdict(), Vec::<String>::new());
    };
    tokio::time::timeout(LIMIT, round).await.expect("it hangs");
}

/// The server has carried the first attempt out, so the sequence id of its slot is used up.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_whose_answer_was_lost_is_not_used_again_when_the_repetition_is_refused() {
    let round = async {
        let mock = mock().await;
        let client = client(&mock).await;
        let file = client.open(&cred(), &client.root().0, b"file", create()).await.unwrap().file;
        let faults = "[[fault]]\non = 'WRITE'\ndo = 'cut_before_reply'\n\
                      [[fault]]\non = 'SEQUENCE'\ndo = 'status'\nstatus = 'NFS4ERR_REQ_TOO_BIG'\nnth = 2";
        mock.add_faults(FaultPlan::from_toml(faults, 1).unwrap());
        let write = |text: &'static str| {
            client.write(&file, 0, vec![Bytes::from_static(text.as_bytes())], Stability::FileSync, None)
        };
        write("one").await.unwrap_err();
        assert_eq!(mock.faults_acted(), 2);
        write("two").await.unwrap();
        assert_eq!(&client.read(&file, 0, 100).await.unwrap().data[..], b"two");
        client.close(&file).await.unwrap();
        client.shutdown().await;
        assert_eq!(client.counters().sessions, 1);
        assert_eq!(mock.verdict(), Vec::<String>::new());
    };
    tokio::time::timeout(LIMIT, round).await.expect("it hangs");
}

/// Lets `lose` happen, and closes a file while it is being opened again for that.
async fn closed_while_it_is_opened_again(lose: impl Fn(&MockHandle)) {
    let round = async {
        let mock = mock().await;
        let client = client(&mock).await;
        let file = client.open(&cred(), &client.root().0, b"file", create()).await.unwrap().file;
        let other = client.open(&cred(), &client.root().0, b"other", create()).await.unwrap().file;
        let delay = "[[fault]]\non = 'OPEN'\ndo = 'delay'\nms = 200\ntimes = 2";
        mock.add_faults(FaultPlan::from_toml(delay, 1).unwrap());
        lose(&mock);
        // Comes back when everything is opened again.
        let reading = client.read(&other, 0, 1);
        let closing = async {
            while mock.count_of("OPEN") < 4 {
                tokio::task::yield_now().await;
            }
            client.close(&file).await.unwrap();
        };
        tokio::join!(reading, closing).0.unwrap();
        client.close(&other).await.unwrap();
        client.shutdown().await;
        assert_eq!(mock.verdict(), Vec::<String>::new());
    };
    tokio::time::timeout(LIMIT, round).await.expect("it hangs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_closed_while_it_is_reclaimed_does_not_stay_open() {
    closed_while_it_is_opened_again(|mock| mock.restart(true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_closed_while_it_is_opened_again_does_not_stay_open() {
    closed_while_it_is_opened_again(|mock| mock.revoke_all_state(nfs4_client::Nfs4Error::Expired)).await;
}

/// Each revoked stateid that is not given back keeps the server's flag up.
#[tokio::test(flavor = "multi_thread")]
async fn revoked_locks_are_acknowledged_like_the_open_that_they_belong_to() {
    let round = async {
        let mock = mock().await;
        let client = client(&mock).await;
        let file = client.open(&cred(), &client.root().0, b"file", create()).await.unwrap().file;
        client.lock(&file, 1, LockRange::ALL, LockKind::Write).await.unwrap();
        mock.revoke_all_state(nfs4_client::Nfs4Error::AdminRevoked);
        client.write(&file, 0, vec![Bytes::from_static(b"data")], Stability::FileSync, None).await.unwrap();
        assert!(file.lost_locks());
        assert_eq!(mock.count_of("FREE_STATEID"), 2);
        client.close(&file).await.unwrap();
        client.shutdown().await;
        assert_eq!(mock.verdict(), Vec::<String>::new());
    };
    tokio::time::timeout(LIMIT, round).await.expect("it hangs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_file_is_lost_with_its_locks_and_stays_so_at_the_next_restart() {
    let round = async {
        let mock = mock().await;
        let client = client(&mock).await;
        let file = client.open(&cred(), &client.root().0, b"file", create()).await.unwrap().file;
        client.lock(&file, 1, LockRange::ALL, LockKind::Write).await.unwrap();
        let refused = "[[fault]]\non = 'OPEN'\ndo = 'status'\nstatus = 'NFS4ERR_ACCESS'\ntimes = 2";
        mock.add_faults(FaultPlan::from_toml(refused, 1).unwrap());
        for _ in 0..2 {
            mock.restart(true);
            client.getattr(&cred(), file.handle()).await.unwrap();
            assert!(file.is_lost() && file.lost_locks());
            assert_eq!(file.locks_of(1), []);
        }
        assert_eq!((mock.count_of("OPEN"), mock.count_of("LOCK")), (3, 1));
        client.close(&file).await.unwrap();
        client.shutdown().await;
        assert_eq!(mock.verdict(), Vec::<String>::new());
    };
    tokio::time::timeout(LIMIT, round).await.expect("it hangs");
}

/// Nothing can be reclaimed after it, and nobody knows whether the server took it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_reclaimed_outlives_a_break_at_the_end_of_reclaiming() {
    for cut in ["cut_before_request", "cut_before_reply"] {
        let round = async {
            let mock = mock().await;
            let client = client(&mock).await;
            let file = client.open(&cred(), &client.root().0, b"file", create()).await.unwrap().file;
            client.lock(&file, 1, LockRange::ALL, LockKind::Write).await.unwrap();
            let plan = format!("[[fault]]\non = 'RECLAIM_COMPLETE'\ndo = '{cut}'");
            mock.add_faults(FaultPlan::from_toml(&plan, 1).unwrap());
            mock.restart(true);
            client.write(&file, 0, vec![Bytes::from_static(b"data")], Stability::FileSync, None).await.unwrap();
            assert_eq!(mock.wire_faults_acted(), 1);
            assert!(!file.lost_locks(), "{cut}");
            assert_eq!(file.locks_of(1), [(LockRange::ALL, LockKind::Write)]);
            client.unlock(&file, 1, LockRange::ALL).await.unwrap();
            client.close(&file).await.unwrap();
            client.shutdown().await;
            assert_eq!(mock.verdict(), Vec::<String>::new());
        };
        tokio::time::timeout(LIMIT, round).await.expect("it hangs");
    }
}

/// The second break costs 100 ms, the next twice as much, and so on.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_hangs_up_at_each_request_is_not_asked_at_full_speed() {
    let round = async {
        let mock = mock().await;
        let client = client(&mock).await;
        let breaks = "[[fault]]\non = 'GETATTR'\ndo = 'cut_before_request'\ntimes = 5";
        mock.add_faults(FaultPlan::from_toml(breaks, 1).unwrap());
        let began = std::time::Instant::now();
        client.getattr(&cred(), &client.root().0).await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(1500), "{:?}", began.elapsed());
        client.shutdown().await;
        assert_eq!(mock.verdict(), Vec::<String>::new());
    };
    tokio::time::timeout(LIMIT, round).await.expect("it hangs");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_makes_no_sense_is_an_error_and_leaves_a_client_that_works() {
    for fault in ["do = 'unknown_arm'", "do = 'random_result'"] {
        let round = async {
            let mock = mock().await;
            let client = client(&mock).await;
            let root = client.root().0.clone();
            let plan = format!("[[fault]]\non = 'GETATTR'\n{fault}");
            mock.add_faults(FaultPlan::from_toml(&plan, 1).unwrap());
            assert!(client.getattr(&cred(), &root).await.is_err(), "{fault}");
            client.getattr(&cred(), &root).await.unwrap();
            client.shutdown().await;
        };
        tokio::time::timeout(LIMIT, round).await.unwrap_or_else(|_| panic!("it hangs\n{fault}"));
    }
}
