//! A new session may be smaller than the one before, also while a call waits for it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mock_mount_target::nfs::{Config, Profile};
use mock_mount_target::{MockHandle, MockServer};
use mount_target::{ChannelOptions, Connector};
use nfs4_client::{Client, ClientOptions, Create, Cred, Error, OpenAccess, OpenHow, SetAttr, Stability};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// All of a test; more than this is a hang.
const LIMIT: Duration = Duration::from_secs(60);
/// What the client asks for. The two sizes stand side by side in CREATE_SESSION, and nothing else looks like them.
const MAX_IO: u32 = 0x000f_1234;
const ASKED: u32 = MAX_IO + 4096;

/// A way to the mock on which sessions are asked for in another size.
fn by_way_of(mock: &MockHandle, size: Arc<AtomicU32>) -> DuplexStream {
    let (near, through) = tokio::io::duplex(1 << 20);
    let (mut from_client, mut to_client) = tokio::io::split(through);
    let (mut from_mock, mut to_mock) = tokio::io::split(mock.connect_in_memory());
    tokio::spawn(async move { tokio::io::copy(&mut from_mock, &mut to_client).await });
    tokio::spawn(async move {
        let both = |size: u32| [size.to_be_bytes(), size.to_be_bytes()].concat();
        let mut buffer = vec![0; 1 << 20];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            let bytes = &mut buffer[..read];
            if let Some(at) = bytes.windows(8).position(|window| window == both(ASKED)) {
                bytes[at..at + 8].copy_from_slice(&both(size.load(Ordering::Relaxed)));
            }
            if to_mock.write_all(bytes).await.is_err() {
                return;
            }
        }
        let _ = to_mock.shutdown().await;
    });
    near
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_fits_the_session_of_the_moment_and_a_write_that_does_not_says_so() {
    let round = async {
        let mock = Arc::new(MockServer::builder().config(Config::new(Profile::Full)).start().await.unwrap());
        let size = Arc::new(AtomicU32::new(ASKED));
        let (far, asked) = (Arc::clone(&mock), Arc::clone(&size));
        let dial = Connector::in_memory(move || Ok(by_way_of(&far, Arc::clone(&asked))), ChannelOptions::default());
        let options = ClientOptions { max_io: MAX_IO, ..ClientOptions::default() };
        let client = Client::connect(Arc::new(dial), options).await.unwrap();
        let create = Some(Create::Exclusive(SetAttr::default()));
        let how = OpenHow { access: OpenAccess::Both, create, truncate: false };
        let file = client.open(&Cred::new(0, 0), &client.root().0, b"file", how).await.unwrap().file;
        let most = client.limits().max_write;
        let data = Bytes::from(vec![7; most as usize]);
        client.write(&file, 0, vec![data.clone()], Stability::FileSync, None).await.unwrap();

        size.store(1 << 19, Ordering::Relaxed);
        mock.drop_sessions();
        let read = client.read(&file, 0, most).await.unwrap();
        let limits = client.limits();
        assert!(limits.max_read < 1 << 19, "{limits:?}");
        assert_eq!((read.data.len(), read.eof), (limits.max_read as usize, false));

        size.store(1 << 18, Ordering::Relaxed);
        mock.drop_sessions();
        let data = data.slice(..limits.max_write as usize);
        let outcome = client.write(&file, 0, vec![data.clone()], Stability::FileSync, None).await;
        assert!(matches!(outcome, Err(Error::TooLarge { .. })), "{outcome:?}");
        let most = client.limits().max_write;
        assert!(most < 1 << 18, "it is known by then");
        let data = data.slice(..most as usize);
        client.write(&file, 0, vec![data], Stability::FileSync, None).await.unwrap();
        client.close(&file).await.unwrap();
        client.shutdown().await;
        assert_eq!(mock.verdict(), Vec::<String>::new());
    };
    tokio::time::timeout(LIMIT, round).await.expect("it hangs");
}
