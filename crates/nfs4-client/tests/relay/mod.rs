//! A TCP relay on loopback that breaks on command: cuts all connections, now or when so many bytes went by.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The relay; ends when dropped.
#[derive(Debug)]
pub struct Relay {
    pub addr: SocketAddr,
    broken: Arc<Breaker>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Breaker {
    cut: watch::Sender<u64>,
    /// Bytes that may still pass before the next cut; none is planned when negative.
    left: AtomicI64,
}

impl Breaker {
    fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Whether this many more bytes reach the planned cut.
    fn passed(&self, bytes: usize) -> bool {
        let before = self.left.load(Ordering::SeqCst);
        if before < 0 {
            return false;
        }
        let after = before - i64::try_from(bytes).unwrap();
        self.left.store(after.max(-1), Ordering::SeqCst);
        after < 0
    }
}

impl Relay {
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let broken = Arc::new(Breaker { cut: watch::channel(0).0, left: AtomicI64::new(-1) });
        let breaker = Arc::clone(&broken);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(to).await else { continue };
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(pass(near_in, far_out, Arc::clone(&breaker)));
                tokio::spawn(pass(far_in, near_out, Arc::clone(&breaker)));
            }
        });
        Self { addr, broken, task }
    }

    /// Cuts every connection now.
    pub fn cut(&self) {
        self.broken.cut();
    }

    /// Cuts every connection when so many more bytes have passed, in the middle of whatever is passing.
    pub fn cut_after(&self, bytes: i64) {
        self.broken.left.store(bytes, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
        self.broken.cut();
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, breaker: Arc<Breaker>) {
    let mut cut = breaker.cut.subscribe();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = cut.changed() => return,
        };
        let Ok(read @ 1..) = read else { return };
        if breaker.passed(read) {
            breaker.cut();
            let _ = to.write_all(&buffer[..read / 2]).await;
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
