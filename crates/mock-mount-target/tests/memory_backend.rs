//! The server in memory behind the door: sessions over TLS, identities from certificates, callbacks, the link, restarts,
//! and what the referee counts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod peer;

use std::time::{Duration, Instant};

use bytes::Bytes;
use mock_mount_target::nfs::faults::{Action, Rule};
use mock_mount_target::nfs::{Profile, S3Change};
use mock_mount_target::{AccessPoint, Credentials, LinkSettings, MockServer};
use nfs4::Nfs4Error;
use nfs4::attr::Attrs;
use nfs4::callback::CbArgop4;
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::dir::{Create4args, Createtype4};
use nfs4::ops::file::Getattr4args;
use nfs4::ops::open::Openflag4;
use nfs4::types::{Bitmap4, StableHow4};
use peer::session::{Session, commit, data, open, read, write};
use peer::{Claims, within};

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn a_file_is_written_and_read_through_tls_and_the_referee_has_nothing_to_say() {
    within(async {
        let mock = MockServer::builder().start().await.unwrap();
        let mut peer = peer::tls13(&mock).await;
        peer.bind().await.unwrap();
        let mut session = Session::establish(peer, "one", 0).await.unwrap();
        let file = session.create_file("a").await.unwrap();
        let big: Bytes = (0..1 << 20).map(|i: u32| (i / 7) as u8).collect::<Vec<u8>>().into();
        let result = session.call(write(&file, 0, &big, StableHow4::FileSync4)).await.unwrap();
        assert_eq!(result.status, Ok(()));
        let result = session.call(read(&file, 0, 1 << 20)).await.unwrap();
        assert_eq!(data(&result), big);
        session.close(&file).await.unwrap();
        session.leave().await.unwrap();
        let counters = mock.counters();
        assert_eq!((counters.bytes_read, counters.bytes_written), (1 << 20, 1 << 20));
        assert_eq!((mock.count_of("READ"), mock.count_of("CREATE_SESSION"), mock.count_of("REMOVE")), (1, 1, 0));
        assert_eq!(mock.verdict(), Vec::<String>::new());
        assert_eq!(mock.check_invariants(), Ok(()));
        mock.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_left_open_is_in_the_verdict() {
    within(async {
        let mock = MockServer::builder().plain().start().await.unwrap();
        let mut session = Session::establish(peer::plain(&mock).await, "one", 0).await.unwrap();
        session.create_file("a").await.unwrap();
        assert_eq!(mock.mistakes(), Vec::<String>::new());
        assert_eq!(mock.verdict().len(), 1);
    })
    .await;
}

/// The status of creating a directory under a name.
async fn mkdir<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    session: &mut Session<S>,
    name: &str,
) -> Result<(), Nfs4Error> {
    let args = Create4args {
        objtype: Createtype4::DIR,
        objname: name.into(),
        createattrs: Attrs { mode: Some(0o755), ..Attrs::default() }.to_fattr4().unwrap(),
    };
    session.call(vec![Argop4::Putrootfh, Argop4::Create(args)]).await.unwrap().status
}

#[tokio::test]
async fn certificates_decide_who_may_write_and_who_is_root() {
    within(async {
        let read_only = Credentials::new("AKIAREADONLY", "s").read_only();
        let squashed = Credentials::new("AKIASQUASHED", "s").without_root_access();
        let point = AccessPoint {
            id: "fsap-0123456789abcdef0".into(),
            root_directory: "/team".into(),
            identity: Some((1001, 1002, vec![])),
        };
        let mock = MockServer::builder()
            .also_accept(read_only.clone())
            .also_accept(squashed.clone())
            .access_point(point.clone())
            .start()
            .await
            .unwrap();
        let root = peer::tls13(&mock).await;
        let mut root = Session::establish(root, "root", 0).await.unwrap();
        assert_eq!(mkdir(&mut root, "team").await, Ok(()));
        for (credentials, error) in [(read_only, Nfs4Error::Rofs), (squashed, Nfs4Error::Access)] {
            let peer = peer::tls(&mock, Some(&Claims::with(&mock, &credentials)), BOTH).await.unwrap();
            let mut session = Session::establish(peer, &credentials.access_key_id, 0).await.unwrap();
            assert_eq!(mkdir(&mut session, "x").await, Err(error));
        }
        // The access point's root is the directory, and everybody is its user; that one may not write there.
        let claims = Claims { access_point: Some(point.id), ..Claims::for_mock(&mock) };
        let peer = peer::tls(&mock, Some(&claims), BOTH).await.unwrap();
        let mut inside = Session::establish(peer, "inside", 0).await.unwrap();
        assert_eq!(mkdir(&mut inside, "x").await, Err(Nfs4Error::Access));
    })
    .await;
}

#[tokio::test]
async fn a_heartbeat_is_asked_and_answered_on_the_same_connection() {
    within(async {
        let mock = MockServer::builder().start().await.unwrap();
        let mut session = Session::establish(peer::tls13(&mock).await, "one", 0).await.unwrap();
        for _ in 0..3 {
            mock.heartbeat().await;
            let asked = session.answer_callback().await.unwrap();
            assert!(matches!(asked.argarray[1], CbArgop4::AwsfileHeartbeat(_)));
            // An answer to a call that comes later proves that the callback's answer was taken.
            session.call(vec![Argop4::Putrootfh, Argop4::Getfh]).await.unwrap();
        }
        session.leave().await.unwrap();
        assert_eq!(mock.verdict(), Vec::<String>::new());
    })
    .await;
}

/// RFC 8881 §20.2.3.
#[tokio::test]
async fn a_recall_of_what_nobody_has_is_refused_by_the_client() {
    within(async {
        let mock = MockServer::builder().start().await.unwrap();
        let mut session = Session::establish(peer::tls13(&mock).await, "one", 0).await.unwrap();
        mock.recall_unknown().await;
        mock.heartbeat().await;
        mock.recall_unknown().await;
        for _ in 0..2 {
            let asked = session.answer_callback().await.unwrap();
            assert!(matches!(asked.argarray[1], CbArgop4::Recall(_)));
        }
        session.call(vec![Argop4::Putrootfh, Argop4::Getfh]).await.unwrap();
        session.leave().await.unwrap();
        assert_eq!(mock.verdict(), Vec::<String>::new());
    })
    .await;
}

/// RFC 8881 §2.10.6.1: the next request of a slot shows that the reply to the last one has come.
#[tokio::test]
async fn a_slot_used_again_before_its_reply_was_sent_is_a_mistake() {
    within(async {
        let mock = MockServer::builder().plain().start().await.unwrap();
        let mut session = Session::establish(peer::plain(&mock).await, "one", 0).await.unwrap();
        mock.set_rtt(Duration::from_millis(50));
        let ops = || vec![Argop4::Putrootfh, Argop4::Getfh];
        for slot in [0, 1, 2] {
            session.send_on(slot, ops()).await.unwrap();
        }
        for _ in 0..3 {
            session.reply().await.unwrap();
        }
        session.call(ops()).await.unwrap();
        assert_eq!(mock.mistakes(), Vec::<String>::new());
        session.send_on(1, ops()).await.unwrap();
        session.send_on(1, ops()).await.unwrap();
        session.reply().await.unwrap();
        session.reply().await.unwrap();
        let mistakes = mock.mistakes();
        assert!(mistakes.len() == 1 && mistakes[0].contains("slot 1 used twice at once"), "{mistakes:?}");
    })
    .await;
}

#[tokio::test]
async fn replies_come_in_the_order_in_which_they_are_ready() {
    within(async {
        let mock = MockServer::builder().plain().start().await.unwrap();
        let mut session = Session::establish(peer::plain(&mock).await, "one", 0).await.unwrap();
        let late = mock_mount_target::ReplyFault::Delay(Duration::from_millis(100));
        let rule = mock_mount_target::WireRule::once(
            mock_mount_target::On::Operation(24),
            mock_mount_target::WireAction::Reply(late),
        );
        mock.add_wire_fault(rule);
        let slow = session.send_on(0, vec![Argop4::Putrootfh]).await.unwrap();
        let fast = session.send_on(1, vec![Argop4::Putrootfh]).await.unwrap();
        assert_eq!(session.reply().await.unwrap().0, fast);
        assert_eq!(session.reply().await.unwrap().0, slow);
    })
    .await;
}

#[tokio::test]
async fn a_slow_link_delays_a_round_trip_once_however_much_is_under_way() {
    within(async {
        let mock = MockServer::builder().plain().start().await.unwrap();
        let mut session = Session::establish(peer::plain(&mock).await, "one", 0).await.unwrap();
        mock.set_rtt(Duration::from_millis(100));
        mock.reset_counters();
        let start = Instant::now();
        for slot in 0..32 {
            session.send_on(slot, vec![Argop4::Putrootfh, Argop4::Getfh]).await.unwrap();
        }
        for _ in 0..32 {
            session.reply().await.unwrap();
        }
        let took = start.elapsed();
        assert!((100..600).contains(&took.as_millis()), "{took:?}");
        assert_eq!(mock.counters().round_trips, 1);
        session.call(vec![Argop4::Putrootfh, Argop4::Getfh]).await.unwrap();
        assert_eq!(mock.counters().round_trips, 2);
    })
    .await;
}

#[tokio::test]
async fn bandwidth_bounds_what_flows_in_each_direction() {
    within(async {
        let mock = MockServer::builder().plain().start().await.unwrap();
        let mut session = Session::establish(peer::plain(&mock).await, "one", 0).await.unwrap();
        let file = session.create_file("a").await.unwrap();
        let block = Bytes::from(vec![5; 1 << 20]);
        mock.set_link(LinkSettings { bandwidth: Some(20 << 20), ..LinkSettings::default() });
        for (name, ops) in [("in", write(&file, 0, &block, StableHow4::FileSync4)), ("out", read(&file, 0, 1 << 20))] {
            let start = Instant::now();
            for slot in 0..4 {
                session.send_on(slot, ops.clone()).await.unwrap();
            }
            for _ in 0..4 {
                session.reply().await.unwrap();
            }
            let took = start.elapsed().as_millis();
            assert!((190..2000).contains(&took), "4 MiB {name} at 20 MiB/s took {took} ms");
        }
    })
    .await;
}

#[tokio::test]
async fn a_lost_reply_is_answered_from_the_cache_on_the_next_connection() {
    within(async {
        let mock = MockServer::builder().plain().start().await.unwrap();
        let mut session = Session::establish(peer::plain(&mock).await, "one", 0).await.unwrap();
        let cut = mock_mount_target::ReplyFault::CutBefore;
        mock.add_wire_fault(mock_mount_target::WireRule::once(
            mock_mount_target::On::Operation(6),
            mock_mount_target::WireAction::Reply(cut),
        ));
        let args = Create4args {
            objtype: Createtype4::DIR,
            objname: "d".into(),
            createattrs: Attrs::default().to_fattr4().unwrap(),
        };
        let ops = vec![Argop4::Putrootfh, Argop4::Create(args)];
        session.send_on(0, ops.clone()).await.unwrap();
        assert!(session.reply().await.is_err());
        let mut session = session.moved_to(peer::plain(&mock).await);
        session.send_again(0, ops).await.unwrap();
        let (_, result) = session.reply().await.unwrap();
        assert_eq!(result.status, Ok(()), "the effect was kept, and the reply too");
        assert_eq!(mock.counters().replays, 1);
        session.call(vec![Argop4::Putrootfh, Argop4::Getfh]).await.unwrap();
        assert_eq!(mock.mistakes(), Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn a_restart_cuts_connections_forgets_sessions_and_loses_what_was_not_committed() {
    within(async {
        let mock = MockServer::builder().plain().profile(Profile::Full).start().await.unwrap();
        let mut session = Session::establish(peer::plain(&mock).await, "one", 0).await.unwrap();
        let file = session.create_file("a").await.unwrap();
        let kept = session.call(write(&file, 0, &text("kept"), StableHow4::Unstable4)).await.unwrap();
        assert_eq!(kept.status, Ok(()));
        assert_eq!(session.call(commit(&file)).await.unwrap().status, Ok(()));
        session.call(write(&file, 0, &text("lost"), StableHow4::Unstable4)).await.unwrap();
        mock.restart(false);
        assert!(session.peer.is_closed().await);
        let mut session = session.moved_to(peer::plain(&mock).await);
        session.send_on(0, vec![Argop4::Putrootfh]).await.unwrap();
        assert_eq!(session.reply().await.unwrap().1.status, Err(Nfs4Error::Badsession));
        let mut session = Session::establish(session.peer, "one", 0).await.unwrap();
        let result = session.call(open("a", Openflag4::NoCreate)).await.unwrap();
        let (Resop4::Open(Ok(opened)), Resop4::Getfh(Ok(handle))) = (&result.resarray[1], &result.resarray[2]) else {
            panic!("{result:?}")
        };
        let file = (handle.object.clone(), opened.stateid);
        assert_eq!(data(&session.call(read(&file, 0, 9)).await.unwrap()), text("kept"));
        session.close(&file).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn failures_of_operations_and_the_s3_side_reach_the_client() {
    within(async {
        let mock = MockServer::builder().plain().start().await.unwrap();
        let mut session = Session::establish(peer::plain(&mock).await, "one", 0).await.unwrap();
        mock.s3_change("from/s3", &S3Change::Put(text("object"))).unwrap();
        let rule = Rule { times: 2, ..Rule::once(9, Action::Status(Nfs4Error::Delay)) };
        mock.add_fault(rule);
        let getattr = || vec![Argop4::Putrootfh, Argop4::Getattr(Getattr4args { attr_request: Bitmap4::of(&[3]) })];
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(session.call(getattr()).await.unwrap().status);
        }
        assert_eq!(seen, [Err(Nfs4Error::Delay), Err(Nfs4Error::Delay), Ok(())]);
        assert_eq!(mock.faults_acted(), 2);
        let died = Action::Restart { stable_storage: true, after: false };
        mock.add_fault(Rule::once(9, died));
        session.send_on(0, getattr()).await.unwrap();
        assert!(session.reply().await.is_err(), "the server died");
        assert!(peer::plain(&mock).await.null().await.is_ok(), "and is back");
    })
    .await;
}

#[tokio::test]
async fn a_silent_client_loses_its_lease_when_the_clock_is_put_forward() {
    within(async {
        let mock = MockServer::builder().plain().start().await.unwrap();
        let mut session = Session::establish(peer::plain(&mock).await, "one", 0).await.unwrap();
        mock.advance_clock(Duration::from_secs(91));
        session.send_on(0, vec![Argop4::Putrootfh]).await.unwrap();
        assert_eq!(session.reply().await.unwrap().1.status, Err(Nfs4Error::Badsession));
    })
    .await;
}

#[tokio::test]
async fn a_folder_can_be_imported_and_in_memory_connections_see_it() {
    within(async {
        let host = tempfile::tempdir().unwrap();
        std::fs::write(host.path().join("f"), b"hello").unwrap();
        let mock = MockServer::builder().import(host.path()).start().await.unwrap();
        let peer = peer::Peer::new(mock.connect_in_memory());
        let mut session = Session::establish(peer, "one", 0).await.unwrap();
        let result = session.call(open("f", Openflag4::NoCreate)).await.unwrap();
        assert_eq!(result.status, Ok(()), "{result:?}");
        drop(session);
        mock.stop().await;
    })
    .await;
}
