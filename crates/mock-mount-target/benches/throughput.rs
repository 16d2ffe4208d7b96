//! How fast the mock gives out bytes and takes them: 1 MiB READs from memory and WRITEs into it over TLS on loopback,
//! beside what `openssl speed` says that one core can encrypt. `cargo bench -p mock-mount-target` prints all of it.
//!
//! The first lines go round in 16 MiB, which caches hold: they are about the mock's own work. The last two carry a file of
//! 1 GiB once from end to end, as somebody does who copies it: `cargo xtask bench` compares a mount with these.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/peer/mod.rs"]
mod peer;

use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mock_mount_target::{MockHandle, MockServer};
use nfs4::compound::Argop4;
use nfs4::types::StableHow4;
use nix::time::{ClockId, clock_gettime};
use peer::session::{Session, read, write};
use rustls::CipherSuite;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const MEBIBYTE: u32 = 1 << 20;
const UNDER_WAY: u32 = 8;
const DURATION: Duration = Duration::from_secs(3);
/// Mebibytes of a file that is carried from end to end.
const WHOLE: u32 = 1024;

/// MiB per second, with several READs under way.
async fn measure<S: AsyncRead + AsyncWrite + Unpin>(mut session: Session<S>) -> f64 {
    let file = session.create_file("big").await.unwrap();
    let block = Bytes::from(vec![7; MEBIBYTE as usize]);
    for i in 0..16 {
        session.call(write(&file, i << 20, &block, StableHow4::FileSync4)).await.unwrap();
    }
    for slot in 0..UNDER_WAY {
        session.send_on(slot, read(&file, 0, MEBIBYTE)).await.unwrap();
    }
    let (start, mut records, mut buffer) = (Instant::now(), 0_u32, vec![0; 2 << 20]);
    while start.elapsed() < DURATION {
        let mark = session.peer.io.read_u32().await.unwrap() & 0x7fff_ffff;
        session.peer.io.read_exact(&mut buffer[..mark as usize]).await.unwrap();
        assert!(mark > MEBIBYTE);
        records += 1;
        session.send_on(records % UNDER_WAY, read(&file, u64::from(records % 16) << 20, MEBIBYTE)).await.unwrap();
    }
    f64::from(records) / start.elapsed().as_secs_f64()
}

/// MiB per second, with several WRITEs under way.
async fn measure_writes<S: AsyncRead + AsyncWrite + Unpin>(mut session: Session<S>) -> f64 {
    let file = session.create_file("big").await.unwrap();
    let block = Bytes::from(vec![7; MEBIBYTE as usize]);
    let write_at = |i: u32| write(&file, u64::from(i % 16) << 20, &block, StableHow4::Unstable4);
    for slot in 0..UNDER_WAY {
        session.send_on(slot, write_at(slot)).await.unwrap();
    }
    let (start, mut records, mut buffer) = (Instant::now(), 0_u32, vec![0; 64 << 10]);
    while start.elapsed() < DURATION {
        let mark = session.peer.io.read_u32().await.unwrap() & 0x7fff_ffff;
        session.peer.io.read_exact(&mut buffer[..mark as usize]).await.unwrap();
        records += 1;
        session.send_on(records % UNDER_WAY, write_at(records)).await.unwrap();
    }
    f64::from(records) / start.elapsed().as_secs_f64()
}

/// MiB per second at which a new file of 1 GiB is written and then read, each from end to end.
async fn carry<S: AsyncRead + AsyncWrite + Unpin>(mut session: Session<S>) -> (f64, f64) {
    let file = session.create_file("whole").await.unwrap();
    let block = Bytes::from(vec![7; MEBIBYTE as usize]);
    let written = once(&mut session, |i| write(&file, i << 20, &block, StableHow4::Unstable4)).await;
    let was_read = once(&mut session, |i| read(&file, i << 20, MEBIBYTE)).await;
    (written, was_read)
}

/// MiB per second of one call for each mebibyte of a gibibyte, with several under way.
async fn once<S: AsyncRead + AsyncWrite + Unpin>(session: &mut Session<S>, call: impl Fn(u64) -> Vec<Argop4>) -> f64 {
    let (start, mut buffer) = (Instant::now(), vec![0; 2 << 20]);
    for slot in 0..UNDER_WAY {
        session.send_on(slot, call(slot.into())).await.unwrap();
    }
    for answered in 0..WHOLE {
        let mark = session.peer.io.read_u32().await.unwrap() & 0x7fff_ffff;
        session.peer.io.read_exact(&mut buffer[..mark as usize]).await.unwrap();
        let next = answered + UNDER_WAY;
        if next < WHOLE {
            session.send_on(next % UNDER_WAY, call(next.into())).await.unwrap();
        }
    }
    f64::from(WHOLE) / start.elapsed().as_secs_f64()
}

/// What a measurement gave.
struct Figures {
    /// MiB per second of wall time.
    wall: f64,
    /// MiB per second of processor time that the mock's side used. Other work on the machine does not lower it.
    per_core: f64,
}

/// The client's side on a thread and a runtime of its own, so that each side has a core.
fn alone(work: impl AsyncFnOnce() -> f64 + Send + 'static) -> Figures {
    let used = |clock: ClockId| Duration::from(clock_gettime(clock).unwrap()).as_secs_f64();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let both = used(ClockId::CLOCK_PROCESS_CPUTIME_ID);
        let wall = runtime.block_on(work());
        let both = used(ClockId::CLOCK_PROCESS_CPUTIME_ID) - both;
        let ours = used(ClockId::CLOCK_THREAD_CPUTIME_ID);
        Figures { wall, per_core: wall * DURATION.as_secs_f64() / (both - ours) }
    })
    .join()
    .unwrap()
}

/// MiB per second that `openssl speed` encrypts with a cipher on one core.
fn openssl(cipher: &str) -> Option<f64> {
    let output =
        Command::new("openssl").args(["speed", "-seconds", "2", "-bytes", "16384", "-evp", cipher]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let last = text.lines().last()?.split_whitespace().last()?;
    Some(last.strip_suffix('k')?.parse::<f64>().ok()? * 1000.0 / f64::from(MEBIBYTE))
}

/// A session over TLS. A read of the socket brings many TLS records, so that the client is not what limits.
async fn over_tls(mock: &MockHandle, owner: &str) -> Session<TlsStream<BufReader<TcpStream>>> {
    let stream = TcpStream::connect(mock.addr()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let claims = peer::Claims::for_mock(mock);
    let versions = [&rustls::version::TLS13];
    let stream = BufReader::with_capacity(256 << 10, stream);
    let peer = peer::tls_over(stream, mock, Some(&claims), &versions, mock.server_name()).await.unwrap();
    assert_eq!(peer.io.get_ref().1.negotiated_cipher_suite().unwrap().suite(), CipherSuite::TLS13_AES_256_GCM_SHA384);
    Session::establish(peer, owner, 0).await.unwrap()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mock: &'static MockHandle =
        Box::leak(Box::new(runtime.block_on(MockServer::builder().plain().start()).unwrap()));
    let plain = alone(async || measure(Session::establish(peer::plain(mock).await, "plain", 0).await.unwrap()).await);
    let print = |what: &str, figures: &Figures| {
        println!("{what:<36} {:6.0} MiB/s, {:6.0} MiB per second of its core", figures.wall, figures.per_core);
    };
    print("mock, 1 MiB READs without TLS:", &plain);
    let tls = alone(async || measure(over_tls(mock, "reader").await).await);
    print("mock, 1 MiB READs over TLS 1.3:", &tls);
    let writes = alone(async || measure_writes(over_tls(mock, "writer").await).await);
    print("mock, 1 MiB WRITEs over TLS 1.3:", &writes);
    let (written, was_read) = {
        let work = async || carry(over_tls(mock, "carrier").await).await;
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::spawn(move || runtime().block_on(work())).join().unwrap()
    };
    println!("{:<36} {was_read:6.0} MiB/s", "mock, 1 GiB read over TLS 1.3:");
    println!("{:<36} {written:6.0} MiB/s", "mock, 1 GiB written over TLS 1.3:");
    match openssl("aes-256-gcm") {
        Some(limit) => {
            println!("{:<36} {limit:6.0} MiB/s", "openssl speed aes-256-gcm, 16 KiB:");
            println!(
                "{:<36} {:6.2}, {:.2} by its core",
                "openssl speed / mock over TLS:",
                limit / tls.wall,
                limit / tls.per_core
            );
        }
        None => println!("openssl is not there to compare with"),
    }
}
