//! The S3 end: GetObject signed by hand (SigV4, service `s3`), over HTTP written by hand.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod peer;

use std::time::{Duration, Instant};

use bytes::Bytes;
use mock_mount_target::{Credentials, FaultPlan, MockHandle, MockServer};
use nfs4::awsfile::ReadBypassRes;
use nfs4::compound::{Argop4, Resop4};
use nfs4::ops::file::Read4args;
use nfs4::ops::open::Openflag4;
use peer::session::{Session, open, putfh};
use peer::within;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// GET with further signed headers.
async fn get(mock: &MockHandle, by: &Credentials, path: &str, query: &str, headers: &[(&str, &str)]) -> Answer {
    let host = mock.s3_addr().unwrap().to_string();
    let now = OffsetDateTime::now_utc();
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    let date_time = now.format(&format).unwrap();
    let nothing = hex::encode(Sha256::digest(b""));
    let mut all = vec![("host", host.as_str()), ("x-amz-content-sha256", &nothing), ("x-amz-date", &date_time)];
    all.extend(headers);
    if let Some(token) = &by.session_token {
        all.push(("x-amz-security-token", token));
    }
    all.sort_unstable();
    let lines = all.iter().map(|(name, value)| format!("{name}:{value}\n")).collect::<Vec<_>>().concat();
    let signed = all.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let request = format!("GET\n{path}\n{query}\n{lines}\n{signed}\n{nothing}");
    let scope = format!("{}/us-east-1/s3/aws4_request", &date_time[..8]);
    let to_sign = format!("AWS4-HMAC-SHA256\n{date_time}\n{scope}\n{}", hex::encode(Sha256::digest(request)));
    let mut key = format!("AWS4{}", by.secret_access_key).into_bytes();
    for part in scope.split('/').chain([to_sign.as_str()]) {
        let hmac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
        key = aws_lc_rs::hmac::sign(&hmac, part.as_bytes()).as_ref().to_vec();
    }
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={}",
        by.access_key_id,
        hex::encode(key)
    );
    let sent = all.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<Vec<_>>().concat();
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let text = format!("GET {target} HTTP/1.1\r\n{sent}authorization: {authorization}\r\nconnection: close\r\n\r\n");
    exchange(mock, &text).await
}

async fn exchange(mock: &MockHandle, request: &str) -> Answer {
    let mut stream = TcpStream::connect(mock.s3_addr().unwrap()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // A broken body ends in an error or in silence; what came before counts.
    let _ = stream.read_to_end(&mut bytes).await;
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head[9..12].parse().unwrap();
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}

async fn mock() -> MockHandle {
    MockServer::builder().plain().s3("bucket", "pre/").start().await.unwrap()
}

fn fail(mock: &MockHandle, fault: &str) {
    mock.add_faults(FaultPlan::from_toml(&format!("[[fault]]\non = 'get_object'\n{fault}"), 7).unwrap());
}

#[tokio::test]
async fn ranges_versions_and_entity_tags_are_served() {
    within(async {
        let mock = mock().await;
        let by = mock.credentials().clone();
        let first = mock.put_object("a/b", "0123456789").unwrap();
        let path = "/bucket/pre/a/b";
        let whole = get(&mock, &by, path, "", &[]).await;
        assert_eq!((whole.status, whole.body.as_slice()), (200, &b"0123456789"[..]), "{}", whole.head);
        assert_eq!(whole.header("etag"), Some(format!("\"{}\"", first.etag).as_str()));
        assert_eq!(whole.header("x-amz-version-id"), Some(first.id.as_str()));
        let part = get(&mock, &by, path, "", &[("range", "bytes=2-5")]).await;
        assert_eq!((part.status, part.body.as_slice()), (206, &b"2345"[..]));
        assert_eq!(part.header("content-range"), Some("bytes 2-5/10"));
        assert_eq!(get(&mock, &by, path, "", &[("range", "bytes=10-11")]).await.status, 416);
        mock.change_object_only("pre/a/b", Some(Bytes::from_static(b"changed")));
        let old = get(&mock, &by, path, &format!("versionId={}", first.id), &[]).await;
        assert_eq!(old.body, b"0123456789");
        let tag = format!("\"{}\"", first.etag);
        assert_eq!(get(&mock, &by, path, "", &[("if-match", &tag)]).await.status, 412);
        mock.change_object_only("pre/a/b", None);
        assert_eq!(get(&mock, &by, path, "", &[]).await.status, 404);
        assert_eq!(get(&mock, &by, path, "versionId=v99", &[]).await.status, 404);
        assert_eq!(get(&mock, &by, "/other/pre/a/b", "", &[]).await.status, 404);
        assert_eq!(mock.s3_gets(), 8);
        mock.stop().await;
    })
    .await;
}

#[tokio::test]
async fn only_the_mount_targets_credentials_are_accepted() {
    within(async {
        let temporary = Credentials::new("ASIATEMPORARY", "secret").with_session_token("token");
        let mock = MockServer::builder().s3("bucket", "").also_accept(temporary.clone()).start().await.unwrap();
        mock.put_object("k", "x").unwrap();
        assert_eq!(get(&mock, mock.credentials(), "/bucket/k", "", &[]).await.status, 200);
        assert_eq!(get(&mock, &temporary, "/bucket/k", "", &[]).await.status, 200);
        let wrong = Credentials::new(mock.credentials().access_key_id.clone(), "wrong");
        assert_eq!(get(&mock, &wrong, "/bucket/k", "", &[]).await.status, 403);
        assert_eq!(get(&mock, &Credentials::new("AKIANOBODY", "x"), "/bucket/k", "", &[]).await.status, 403);
        let without = Credentials::new("ASIATEMPORARY", "secret");
        assert_eq!(get(&mock, &without, "/bucket/k", "", &[]).await.status, 400);
        let unsigned = exchange(&mock, "GET /bucket/k HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert_eq!(unsigned.status, 403);
    })
    .await;
}

#[tokio::test]
async fn each_failure_of_the_plan_is_seen() {
    within(async {
        let mock = mock().await;
        let by = mock.credentials().clone();
        mock.put_object("k", "0123456789").unwrap();
        let path = "/bucket/pre/k";
        for (fault, status) in [("403", 403), ("404", 404), ("412", 412), ("503", 503)] {
            fail(&mock, &format!("do = '{fault}'"));
            assert_eq!(get(&mock, &by, path, "", &[]).await.status, status);
        }
        fail(&mock, "name = 'pre/k'\ndo = 'short'\nbytes = 4");
        let short = get(&mock, &by, path, "", &[]).await;
        assert_eq!((short.header("content-length"), short.body.len()), (Some("4"), 4));
        fail(&mock, "do = 'cut_body'\nbytes = 4");
        let cut = get(&mock, &by, path, "", &[]).await;
        assert_eq!(cut.header("content-length"), Some("10"));
        assert!(cut.body.len() < 10);
        fail(&mock, "do = 'stall'\nms = 150");
        let start = Instant::now();
        assert_eq!(get(&mock, &by, path, "", &[]).await.body, b"0123456789");
        assert!(start.elapsed() >= Duration::from_millis(150));
        assert_eq!(mock.faults_acted(), 7);
        mock.set_rtt(Duration::from_millis(80));
        let start = Instant::now();
        assert_eq!(get(&mock, &by, path, "", &[]).await.status, 200);
        assert!(start.elapsed() >= Duration::from_millis(160), "connecting takes one round trip, asking another");
    })
    .await;
}

#[tokio::test]
async fn read_bypass_names_the_object_that_the_s3_end_serves() {
    within(async {
        let mock = mock().await;
        let big = Bytes::from(vec![9; 2 << 20]);
        let version = mock.put_object("big", big.clone()).unwrap();
        let mut session = Session::establish(peer::plain(&mock).await, "one", 0).await.unwrap();
        let opened = session.call(open("big", Openflag4::NoCreate)).await.unwrap();
        let (Resop4::Open(Ok(opened)), Resop4::Getfh(Ok(handle))) = (&opened.resarray[1], &opened.resarray[2]) else {
            panic!("{opened:?}")
        };
        let args = Read4args { stateid: opened.stateid, offset: 0, count: 1 << 20 };
        session.awsfile = true;
        let result = session.call(vec![putfh(&handle.object), Argop4::ReadBypass(args)]).await.unwrap();
        let Some(Resop4::ReadBypass(ReadBypassRes::Locator(locator))) = result.resarray.last() else {
            panic!("{result:?}")
        };
        assert_eq!(&locator.s3_key[..], b"pre/big");
        assert_eq!(&locator.version_id[..], version.id.as_bytes());
        let path = format!("/bucket/{}", std::str::from_utf8(&locator.s3_key).unwrap());
        let query = format!("versionId={}", version.id);
        let part = get(&mock, mock.credentials(), &path, &query, &[("range", "bytes=0-1048575")]).await;
        assert_eq!(part.body, big[..1 << 20]);
    })
    .await;
}
