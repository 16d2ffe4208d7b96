//! The door as a stranger sees it: TLS, the certificate's judgement, bind, records, and a server behind `--forward`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod peer;

use std::net::SocketAddr;

use mock_mount_target::{
    AccessPoint, BindFault, Credentials, MockHandle, MockServer, On, ServerCertificate, WireAction, WireRule,
};
use nfs4::awsfile::BindResponse;
use nfs4::rpc::{AcceptStat, ReplyStatus};
use peer::{Claims, within};
use time::Duration as Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A server behind `--forward` that sends every record back, last bit of the message type set, so that a call becomes
/// a reply with the same body.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while let Ok(mark) = stream.read_u32().await {
                    let mut record = vec![0; (mark & 0x7fff_ffff) as usize];
                    if stream.read_exact(&mut record).await.is_err() {
                        break;
                    }
                    record[7] |= 1;
                    let _ = stream.write_u32(mark).await;
                    let _ = stream.write_all(&record).await;
                }
            });
        }
    });
    address
}

async fn mock() -> MockHandle {
    MockServer::builder().forward(echo().await).plain().start().await.unwrap()
}

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

#[tokio::test]
async fn a_signed_certificate_opens_the_door_in_tls_1_3_and_1_2_and_bind_answers_ready() {
    within(async {
        let mock = mock().await;
        for version in BOTH {
            let mut peer = peer::tls(&mock, Some(&Claims::for_mock(&mock)), &[version]).await.unwrap();
            let answer = peer.bind().await.unwrap();
            assert!(matches!(answer.bind_response, BindResponse::Ready(p) if p.0 == mock.partition()));
            assert_eq!(peer.null().await.unwrap().status, ReplyStatus::Success);
        }
        assert_eq!(mock.wire_counters().accepted, 2);
        assert_eq!(mock.wire_mistakes(), Vec::<String>::new());
        mock.stop().await;
    })
    .await;
}

/// The alert that ends the attempt, in rustls's words.
async fn refused(mock: &MockHandle, claims: Option<&Claims>) -> String {
    for version in BOTH {
        let error = match peer::tls(mock, claims, &[version]).await {
            Err(error) => error,
            // In TLS 1.3 the client is done before its certificate is judged.
            Ok(mut peer) => peer.bind().await.expect_err("the door is shut"),
        };
        if version.version == rustls::ProtocolVersion::TLSv1_2 {
            return error.to_string();
        }
    }
    unreachable!()
}

#[tokio::test]
async fn each_wrong_certificate_is_refused_with_the_alert_of_its_reason() {
    within(async {
        let mock = mock().await;
        let good = Claims::for_mock(&mock);
        let denied = |text: String| assert!(text.contains("AccessDenied"), "{text}");
        denied(refused(&mock, Some(&Claims { secret: "wrong".into(), ..good.clone() })).await);
        denied(refused(&mock, Some(&Claims { access_key_id: "AKIANOBODY".into(), ..good.clone() })).await);
        denied(refused(&mock, Some(&Claims { region: "eu-west-1".into(), ..good.clone() })).await);
        denied(refused(&mock, Some(&Claims { token: Some("superfluous".into()), ..good.clone() })).await);
        denied(refused(&mock, Some(&Claims { signed: false, ..good.clone() })).await);
        let other = Claims { file_system_id: "fs-fedcba9876543210f".into(), ..good.clone() };
        denied(refused(&mock, Some(&other)).await);
        let elsewhere = Claims { access_point: Some("fsap-0123456789abcdef0".into()), ..good.clone() };
        denied(refused(&mock, Some(&elsewhere)).await);
        let old = Claims { made: good.made - Span::hours(4), ..good.clone() };
        let alert = refused(&mock, Some(&old)).await;
        assert!(alert.contains("CertificateExpired"), "{alert}");
        let early = Claims { made: good.made + Span::hours(1), ..good.clone() };
        assert!(refused(&mock, Some(&early)).await.contains("Certificate"));
        let none = refused(&mock, None).await;
        assert!(none.contains("CertificateRequired") || none.contains("HandshakeFailure"), "{none}");
        assert_eq!(mock.wire_counters().accepted, 0);
        assert!(mock.refusals().len() >= 20);
        mock.stop().await;
    })
    .await;
}

#[tokio::test]
async fn session_tokens_access_points_and_read_only_keys_are_known() {
    within(async {
        let temporary = Credentials::new("ASIATEMPORARY", "secret").with_session_token("token/with+signs==");
        let access_point =
            AccessPoint { id: "fsap-0123456789abcdef0".into(), root_directory: "/a".into(), identity: None };
        let mock = MockServer::builder()
            .forward(echo().await)
            .also_accept(temporary.clone())
            .also_accept(Credentials::new("AKIANOMOUNT", "s").without_mount())
            .access_point(access_point.clone())
            .start()
            .await
            .unwrap();
        let claims = Claims { access_point: Some(access_point.id), ..Claims::with(&mock, &temporary) };
        let mut peer = peer::tls(&mock, Some(&claims), BOTH).await.unwrap();
        peer.bind().await.unwrap();
        let denied = Claims::with(&mock, &Credentials::new("AKIANOMOUNT", "s"));
        assert!(refused(&mock, Some(&denied)).await.contains("AccessDenied"));
        mock.revoke("ASIATEMPORARY");
        assert!(refused(&mock, Some(&claims)).await.contains("AccessDenied"));
        assert!(peer.null().await.is_ok(), "a connection that stands stays");
    })
    .await;
}

#[tokio::test]
async fn the_servers_certificate_can_be_expired_or_for_another_name() {
    within(async {
        for (kind, reason) in
            [(ServerCertificate::Expired, "xpired"), (ServerCertificate::WrongName, "not valid for name")]
        {
            let mock = MockServer::builder().forward(echo().await).server_certificate(kind).start().await.unwrap();
            let error = peer::tls(&mock, Some(&Claims::for_mock(&mock)), BOTH).await.err().unwrap();
            assert!(error.to_string().contains(reason), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn another_name_in_sni_is_a_mistake() {
    within(async {
        let mock = MockServer::builder().forward(echo().await).server_certificate(ServerCertificate::WrongName).start();
        let mock = mock.await.unwrap();
        let name = mock.server_name().replacen("fs-0123456789abcdef0", "fs-0fedcba9876543210", 1);
        peer::tls_as(&mock, Some(&Claims::for_mock(&mock)), BOTH, &name).await.unwrap().null().await.unwrap();
        assert_eq!(mock.wire_mistakes().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn records_reach_the_server_behind_and_come_back_byte_for_byte() {
    within(async {
        let mock = mock().await;
        let mut peer = peer::tls13(&mock).await;
        peer.bind().await.unwrap();
        for len in [0, 4, 400, 70_000, 1 << 20] {
            let body: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            peer.send(100_003, 4, 1, &body).await.unwrap();
            let record = peer.record().await.unwrap();
            // The echo keeps everything but the message type.
            assert_eq!(record[4..8], [0, 0, 0, 1]);
            assert_eq!(record[40..], body, "{len}");
        }
        // An AWSFILE compound is not for a plain NFS server.
        let back = peer.call(400_123, 1, 1, &[]).await.unwrap();
        assert_eq!(back.status, ReplyStatus::Failed(AcceptStat::ProcUnavail));
    })
    .await;
}

#[tokio::test]
async fn calls_that_nobody_serves_are_refused_and_the_connection_goes_on() {
    within(async {
        let mock = mock().await;
        let mut peer = peer::plain(&mock).await;
        let mut status = async |prog, vers, proc| peer.call(prog, vers, proc, &[]).await.unwrap().status;
        assert_eq!(status(100_003, 3, 0).await, ReplyStatus::ProgMismatch { low: 4, high: 4 });
        assert_eq!(status(400_123, 2, 0).await, ReplyStatus::ProgMismatch { low: 1, high: 1 });
        assert_eq!(status(100_003, 4, 7).await, ReplyStatus::Failed(AcceptStat::ProcUnavail));
        assert_eq!(status(100_005, 3, 0).await, ReplyStatus::Failed(AcceptStat::ProgUnavail));
        assert_eq!(status(400_123, 1, 2).await, ReplyStatus::Failed(AcceptStat::GarbageArgs));
        assert_eq!(status(400_123, 1, 0).await, ReplyStatus::Success);
        peer.send_record(&[[0, 0, 0, 5], [0; 4], [0, 0, 0, 9], [0; 4]].concat()).await.unwrap();
        assert_eq!(peer.back().await.unwrap().status, ReplyStatus::RpcMismatch { low: 2, high: 2 });
        assert_eq!(peer.null().await.unwrap().status, ReplyStatus::Success);
        peer.io.write_all(&[0x7f; 64]).await.unwrap();
        assert!(peer.is_closed().await, "a record of 2 GiB is not waited for");
        assert!(mock.wire_mistakes().len() >= 3);
    })
    .await;
}

#[tokio::test]
async fn bind_gives_every_answer_that_a_test_asks_for() {
    within(async {
        let mock = mock().await;
        mock.fail_binds([BindFault::Retry, BindFault::OtherPartition]);
        let mut first = peer::tls13(&mock).await;
        assert!(matches!(first.bind().await.unwrap().bind_response, BindResponse::Retry(_)));
        let mut second = peer::tls13(&mock).await;
        let answer = second.bind().await.unwrap().bind_response;
        assert!(matches!(answer, BindResponse::Ready(p) if p.0 != mock.partition()));
    })
    .await;
}

#[tokio::test]
async fn an_established_connection_can_end_in_a_fatal_alert() {
    within(async {
        let mock = mock().await;
        for version in BOTH {
            mock.add_wire_fault(WireRule::once(On::Bind, WireAction::Alert));
            let mut peer = peer::tls(&mock, Some(&Claims::for_mock(&mock)), &[version]).await.unwrap();
            let error = peer.bind().await.unwrap_err().to_string();
            assert!(error.contains("BadRecordMac"), "{error}");
        }
        mock.add_wire_fault(WireRule::once(On::Connect, WireAction::Alert));
        let error = peer::tls(&mock, Some(&Claims::for_mock(&mock)), BOTH).await.err().unwrap();
        assert!(error.to_string().contains("AccessDenied"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn cut_all_cuts_every_connection_and_stop_closes_the_port() {
    within(async {
        let mock = mock().await;
        let (mut a, mut b) = (peer::tls13(&mock).await, peer::plain(&mock).await);
        let mut c = peer::Peer::new(mock.connect_in_memory());
        for status in [a.null().await, b.null().await, c.null().await] {
            assert_eq!(status.unwrap().status, ReplyStatus::Success);
        }
        assert_eq!(mock.connections(), 3);
        mock.cut_all();
        assert!(a.is_closed().await && b.is_closed().await && c.is_closed().await);
        assert!(peer::tls13(&mock).await.null().await.is_ok());
        let (addr, ca_file) = (mock.addr(), mock.ca_file().to_owned());
        assert_eq!(std::fs::read_to_string(&ca_file).unwrap(), mock.ca_pem());
        mock.stop().await;
        assert!(tokio::net::TcpStream::connect(addr).await.is_err());
        assert!(!ca_file.exists());
    })
    .await;
}

#[tokio::test]
async fn the_mount_command_names_everything_that_a_client_needs() {
    let mock = MockServer::builder().forward(([127, 0, 0, 1], 1).into()).start().await.unwrap();
    let command = mock.mount_command("/mnt/demo");
    for part in [
        &mock.addr().to_string(),
        &format!("--file-system-id {}", mock.fs_id()),
        &format!("--region {}", mock.region()),
        &format!("--ca-file {}", mock.ca_file().display()),
        &format!("AWS_SECRET_ACCESS_KEY={}", mock.credentials().secret_access_key),
        "s3files-fuse mount",
    ] {
        assert!(command.contains(part), "{command}");
    }
}

#[tokio::test]
async fn nfs_without_tls_is_served_on_loopback_only() {
    let builder = MockServer::builder().forward(([127, 0, 0, 1], 1).into());
    assert!(builder.plain_listen(([0, 0, 0, 0], 0).into()).start().await.is_err());
}

#[tokio::test]
async fn credentials_without_write_are_refused_in_front_of_another_server() {
    let builder = MockServer::builder().forward(([127, 0, 0, 1], 1).into()).read_only_credentials(true);
    let error = builder.start().await.unwrap_err().to_string();
    assert!(error.contains("in front of another server"), "{error}");
}
