//! Each failure of a plan, written as TOML, seen from a client's end of the connection.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod peer;

use std::time::{Duration, Instant};

use bytes::Bytes;
use mock_mount_target::{FaultPlan, MockHandle, MockServer};
use nfs4::Nfs4Error;
use nfs4::awsfile::{BindClientResponse, BindResponse, PROC_BIND_CLIENT_TO_PARTITION, ProxyIdentifier};
use nfs4::callback::CbArgop4;
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::dir::Lookup4args;
use nfs4::types::StableHow4;
use nfs4::xdr;
use peer::session::{Session, data, read, write};
use peer::{Peer, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Plain = Session<TcpStream>;

async fn mock() -> MockHandle {
    MockServer::builder().plain().start().await.unwrap()
}

async fn session(mock: &MockHandle) -> Plain {
    Session::establish(peer::plain(mock).await, "one", 0).await.unwrap()
}

fn fail(mock: &MockHandle, fault: &str) {
    mock.add_faults(FaultPlan::from_toml(&format!("[[fault]]\n{fault}"), 7).unwrap());
}

fn lookup(name: &str) -> Vec<Argop4> {
    vec![Argop4::Putrootfh, Argop4::Lookup(Lookup4args { objname: name.into() })]
}

/// What the connection brings when a LOOKUP was hit by a fault: the raw bytes until it ends or falls silent.
async fn after_lookup(fault: &str) -> (MockHandle, Vec<u8>, bool) {
    let mock = mock().await;
    let mut session = session(&mock).await;
    fail(&mock, &format!("on = 'LOOKUP'\n{fault}"));
    session.send_on(0, lookup("nothing")).await.unwrap();
    let mut bytes = vec![0; 1 << 16];
    let (mut len, mut ended) = (0, false);
    while let Ok(read) = tokio::time::timeout(Duration::from_millis(150), session.peer.io.read(&mut bytes[len..])).await
    {
        let Ok(more @ 1..) = read else {
            ended = true;
            break;
        };
        len += more;
    }
    bytes.truncate(len);
    (mock, bytes, ended)
}

#[tokio::test]
async fn a_request_can_be_lost_before_it_is_carried_out_and_a_reply_after() {
    within(async {
        let (mock, bytes, ended) = after_lookup("do = 'cut_before_request'").await;
        assert_eq!((mock.count_of("LOOKUP"), bytes.len(), ended), (0, 0, true));
        let (mock, bytes, ended) = after_lookup("do = 'cut_before_reply'").await;
        assert_eq!((mock.count_of("LOOKUP"), bytes.len(), ended), (1, 0, true));
        let (mock, bytes, ended) = after_lookup("do = 'drop_reply'").await;
        assert_eq!((mock.count_of("LOOKUP"), bytes.len(), ended), (1, 0, false));
        let (_, whole, ended) = after_lookup("do = 'cut_after_reply'").await;
        assert!(ended && whole.len() > 40);
        let (_, part, ended) = after_lookup("do = 'cut_inside_reply'\nbytes = 10").await;
        assert!(ended && part.len() == 10);
        assert_eq!(mock.check_invariants(), Ok(()));
    })
    .await;
}

#[tokio::test]
async fn a_reply_can_come_twice_and_a_request_too() {
    within(async {
        let (mock, twice, _) = after_lookup("do = 'duplicate_reply'").await;
        assert_eq!(mock.count_of("LOOKUP"), 1);
        assert_eq!(twice[..twice.len() / 2], twice[twice.len() / 2..]);
        let (mock, again, _) = after_lookup("do = 'duplicate_request'").await;
        assert_eq!(mock.counters().replays, 1, "the second is answered from the cache");
        assert_eq!(again[..again.len() / 2], again[again.len() / 2..]);
    })
    .await;
}

#[tokio::test]
async fn a_record_mark_can_lie_and_bytes_can_be_anything() {
    within(async {
        let (_, lying, _) = after_lookup("do = 'record_mark'\nbytes = 4294967295").await;
        assert_eq!(lying[..4], [0xff; 4]);
        let (_, garbage, _) = after_lookup("do = 'random_bytes'\nbytes = 100").await;
        assert_eq!((&garbage[..4], garbage.len()), (&[0x80, 0, 0, 100][..], 104));
        let (_, raw, _) = after_lookup("do = 'raw_random_bytes'\nbytes = 100").await;
        assert_eq!(raw.len(), 100);
        let (_, same, _) = after_lookup("do = 'raw_random_bytes'\nbytes = 100").await;
        assert_eq!(raw, same, "random bytes come from the seed");
    })
    .await;
}

#[tokio::test]
async fn a_reply_can_be_late_without_holding_others_up() {
    within(async {
        let mock = mock().await;
        let mut session = session(&mock).await;
        fail(&mock, "on = 'LOOKUP'\ndo = 'delay'\nms = 200");
        let start = Instant::now();
        let late = session.send_on(0, lookup("x")).await.unwrap();
        let next = session.send_on(1, lookup("x")).await.unwrap();
        assert_eq!(session.reply().await.unwrap().0, next);
        assert!(start.elapsed() < Duration::from_millis(190));
        assert_eq!(session.reply().await.unwrap().0, late);
        assert!(start.elapsed() >= Duration::from_millis(200));
    })
    .await;
}

#[tokio::test]
async fn a_connection_is_cut_in_the_middle_of_a_request_at_the_byte_of_the_plan() {
    within(async {
        let mock = mock().await;
        let mut session = session(&mock).await;
        let file = session.create_file("a").await.unwrap();
        fail(&mock, "on = 'bytes_in'\nbyte = 500000\ndo = 'cut'");
        let before = mock.wire_counters().bytes_in;
        let big = Bytes::from(vec![1; 1 << 20]);
        // The end shows while sending or while waiting.
        let sent = session.send_on(0, write(&file, 0, &big, StableHow4::FileSync4)).await;
        assert!(sent.is_err() || session.reply().await.is_err());
        let taken = mock.wire_counters().bytes_in - before;
        assert_eq!(taken, 500_000);
        assert_eq!(mock.count_of("WRITE"), 0);
    })
    .await;
}

#[tokio::test]
async fn triggers_choose_the_nth_the_name_the_byte_and_the_time() {
    within(async {
        let mock = mock().await;
        let mut session = session(&mock).await;
        fail(&mock, "on = 'LOOKUP'\nname = 'b'\nnth = 2\ntimes = 1\ndo = 'status'\nstatus = 'NFS4ERR_IO'");
        let mut seen = Vec::new();
        for name in ["b", "a", "b", "b"] {
            seen.push(session.call(lookup(name)).await.unwrap().status.unwrap_err());
        }
        assert_eq!(seen, [Nfs4Error::Noent, Nfs4Error::Noent, Nfs4Error::Io, Nfs4Error::Noent]);
        let file = session.create_file("f").await.unwrap();
        let block = Bytes::from_static(b"0123456789");
        fail(&mock, "on = 'WRITE'\nbyte = 15\ndo = 'status'\nstatus = 'NFS4ERR_NOSPC'");
        for (offset, expected) in [(0, Ok(())), (10, Err(Nfs4Error::Nospc)), (10, Ok(()))] {
            let result = session.call(write(&file, offset, &block, StableHow4::FileSync4)).await.unwrap();
            assert_eq!(result.status, expected);
        }
        fail(&mock, "on = 'LOOKUP'\nafter_ms = 3600000\ndo = 'status'\nstatus = 'NFS4ERR_IO'");
        assert_eq!(session.call(lookup("a")).await.unwrap().status, Err(Nfs4Error::Noent));
    })
    .await;
}

#[tokio::test]
async fn every_status_of_the_list_can_be_had() {
    within(async {
        let mock = mock().await;
        let mut session = session(&mock).await;
        for name in [
            "DELAY",
            "EXPIRED",
            "GRACE",
            "ADMIN_REVOKED",
            "FHEXPIRED",
            "STALE",
            "IO",
            "NOSPC",
            "DQUOT",
            "ACCESS",
            "SERVERFAULT",
            "RESOURCE",
        ] {
            fail(&mock, &format!("on = 'LOOKUP'\ndo = 'status'\nstatus = '{name}'"));
            let error = session.call(lookup("a")).await.unwrap().status.unwrap_err();
            assert_eq!(error.name(), format!("NFS4ERR_{name}"));
        }
        for name in ["BADSESSION", "DEADSESSION", "BADSLOT", "STALE_CLIENTID"] {
            fail(&mock, &format!("on = 'SEQUENCE'\ndo = 'status'\nstatus = '{name}'"));
            session.send_on(1, lookup("a")).await.unwrap();
            let error = session.reply().await.unwrap().1.status.unwrap_err();
            assert_eq!(error.name(), format!("NFS4ERR_{name}"));
            // SEQUENCE failed, so the slot stays as it was.
            session.sequence[1] -= 1;
        }
    })
    .await;
}

#[tokio::test]
async fn short_reads_short_writes_and_unknown_arms() {
    within(async {
        let mock = mock().await;
        let mut session = session(&mock).await;
        let file = session.create_file("f").await.unwrap();
        let block = Bytes::from_static(b"0123456789");
        fail(&mock, "on = 'WRITE'\ndo = 'short'\nbytes = 4");
        let result = session.call(write(&file, 0, &block, StableHow4::FileSync4)).await.unwrap();
        assert!(matches!(&result.resarray[1], Resop4::Write(Ok(done)) if done.count == 4), "{result:?}");
        session.call(write(&file, 0, &block, StableHow4::FileSync4)).await.unwrap();
        fail(&mock, "on = 'READ'\ndo = 'short'\nbytes = 3");
        assert_eq!(data(&session.call(read(&file, 0, 10)).await.unwrap()), "012");
        fail(&mock, "on = 'READ'\ndo = 'unknown_arm'");
        session.send_on(0, read(&file, 0, 10)).await.unwrap();
        let reply = session.peer.record().await.unwrap();
        assert!(reply.windows(4).any(|word| word == 0x7fff_fff1_u32.to_be_bytes()));
        fail(&mock, "on = 'READ'\ndo = 'random_result'\nbytes = 12");
        session.send_on(0, read(&file, 0, 10)).await.unwrap();
        assert!(session.peer.record().await.unwrap().len() < 200);
    })
    .await;
}

#[tokio::test]
async fn the_server_can_restart_forget_sessions_and_lose_what_was_not_committed() {
    within(async {
        let mock = mock().await;
        let mut session = session(&mock).await;
        fail(&mock, "on = 'LOOKUP'\ndo = 'restart'\nstable_storage = false");
        session.send_on(0, lookup("a")).await.unwrap();
        assert!(session.reply().await.is_err());
        let mut session = self::session(&mock).await;
        let file = session.create_file("f").await.unwrap();
        let block = Bytes::from_static(b"0123456789");
        let verifier = async |session: &mut Plain| {
            let result = session.call(write(&file, 0, &block, StableHow4::Unstable4)).await.unwrap();
            match &result.resarray[1] {
                Resop4::Write(Ok(done)) => done.writeverf,
                other => panic!("{other:?}"),
            }
        };
        let first = verifier(&mut session).await;
        assert_eq!(verifier(&mut session).await, first);
        fail(&mock, "on = 'LOOKUP'\ndo = 'new_write_verifier'");
        session.call(lookup("a")).await.unwrap();
        assert_ne!(verifier(&mut session).await, first);
        fail(&mock, "on = 'time'\ndo = 'drop_sessions'");
        tokio::time::sleep(Duration::from_millis(100)).await;
        session.send_on(0, lookup("a")).await.unwrap();
        assert_eq!(session.reply().await.unwrap().1.status, Err(Nfs4Error::Badsession));
    })
    .await;
}

#[tokio::test]
async fn things_happen_at_their_time_without_anybody_calling() {
    within(async {
        let mock = mock().await;
        let mut session = session(&mock).await;
        fail(&mock, "on = 'time'\ndo = 's3_put'\npath = 'from/s3'\ntext = 'hello'");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(session.call(lookup("from")).await.unwrap().status, Ok(()));
        fail(&mock, "on = 'time'\ndo = 's3_delete'\npath = 'from/s3'");
        fail(&mock, "on = 'time'\ndo = 'set_rtt'\nms = 120");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let start = Instant::now();
        session.call(lookup("from")).await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(120));
        fail(&mock, "on = 'time'\ndo = 'recall_unknown'");
        assert!(matches!(session.answer_callback().await.unwrap().argarray[1], CbArgop4::Recall(_)));
        fail(&mock, "on = 'time'\ndo = 'cut_all'");
        assert!(session.peer.is_closed().await);
    })
    .await;
}

#[tokio::test]
async fn connections_can_be_refused_ignored_and_answered_with_noise() {
    within(async {
        let mock = mock().await;
        fail(&mock, "on = 'connect'\ndo = 'cut'");
        assert!(peer::plain(&mock).await.is_closed().await);
        fail(&mock, "on = 'connect'\ndo = 'raw_random_bytes'\nbytes = 9");
        let mut noise = Vec::new();
        peer::plain(&mock).await.io.read_to_end(&mut noise).await.unwrap();
        assert_eq!(noise.len(), 9);
        fail(&mock, "on = 'connect'\ndo = 'silence'");
        let mut silent = peer::plain(&mock).await;
        silent.io.write_all(&[0; 64]).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(150), silent.io.read_u8()).await.is_err());
        assert!(peer::plain(&mock).await.null().await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn bind_and_channel_init_fail_as_the_plan_says() {
    within(async {
        let mock = mock().await;
        fail(&mock, "on = 'bind'\nnth = 2\ndo = 'retry_later'");
        fail(&mock, "on = 'bind'\nnth = 3\ndo = 'drop_reply'");
        let binds = async || peer::plain(&mock).await.bind().await.unwrap().bind_response;
        assert!(matches!(binds().await, BindResponse::Ready(_)));
        assert!(matches!(binds().await, BindResponse::RetryLater(_)));
        let mut peer = peer::plain(&mock).await;
        assert!(tokio::time::timeout(Duration::from_millis(150), peer.bind()).await.is_err());
        fail(&mock, "on = 'bind'\ndo = 'retry'");
        assert!(matches!(binds().await, BindResponse::Retry(_)));
        fail(&mock, "on = 'bind'\ndo = 'preferred'");
        assert!(matches!(binds().await, BindResponse::Preferred(_)));
        fail(&mock, "on = 'bind'\ndo = 'error'");
        assert!(matches!(binds().await, BindResponse::Error(_)));
        fail(&mock, "on = 'bind'\ndo = 'other_partition'");
        assert!(matches!(binds().await, BindResponse::Ready(other) if other.0 != mock.partition()));
        fail(&mock, "on = 'bind'\ndo = 'unknown_arm'");
        let args = xdr::to_bytes(&ProxyIdentifier::new([7; 16], 1)).unwrap();
        let back = peer::plain(&mock).await.call(400_123, 1, PROC_BIND_CLIENT_TO_PARTITION, &args).await.unwrap();
        assert!(xdr::from_bytes::<BindClientResponse>(back.results).is_err());
        fail(&mock, "on = 'channel_init'\ndo = 'cut_before_reply'");
        let mut peer = Peer::new(mock.connect_in_memory());
        assert!(peer.call(400_123, 1, 3, &[0; 8]).await.is_err());
    })
    .await;
}
