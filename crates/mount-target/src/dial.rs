//! A host name to a TCP connection: resolve, try every address, set what a long-lived NFS connection needs.
//!
//! Addresses are tried with a short head start each (in the manner of RFC 8305), so that one that swallows packets
//! does not use up the time of those that answer. Keepalive stays well below the 350 s after which a Network Load
//! Balancer forgets a connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::error::ConnectError;
use crate::target::host_and_port;

/// How much earlier each address starts than the next.
const HEAD_START: Duration = Duration::from_millis(300);
/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;
/// Idle time before the first keepalive probe.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
/// Time between probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Probes without an answer before the connection is given up.
const KEEPALIVE_PROBES: u32 = 4;
/// How long sent data may stay without acknowledgement.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_LIMIT: Duration = Duration::from_mins(2);

/// Connects to `host` within `limit`, name resolution included.
pub async fn dial(host: &str, port: u16, limit: Duration) -> Result<TcpStream, ConnectError> {
    let attempt = async {
        let addresses = resolve(host, port).await?;
        connect_any(&addresses).await.map_err(|error| explain(&error, host, port, limit))
    };
    let stream = tokio::time::timeout(limit, attempt).await.unwrap_or_else(|_| Err(timed_out(host, port, limit)))?;
    set_options(&stream);
    Ok(stream)
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    let unknown = |detail: String| ConnectError::NameNotResolved { host: host.to_owned(), detail };
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| unknown(error.to_string()))?;
    let addresses: Vec<SocketAddr> = found.take(MAX_ADDRESSES).collect();
    if addresses.is_empty() { Err(unknown("it has no address".to_owned())) } else { Ok(addresses) }
}

/// The first connection that stands; else the most telling error.
async fn connect_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    for (index, &address) in addresses.iter().enumerate() {
        attempts.spawn(async move {
            tokio::time::sleep(HEAD_START * index as u32).await;
            TcpStream::connect(address).await
        });
    }
    let mut worst: Option<io::Error> = None;
    while let Some(done) = attempts.join_next().await {
        match done.map_err(io::Error::other)? {
            // Dropping the set ends the other attempts.
            Ok(stream) => return Ok(stream),
            Err(error) => {
                // "Refused" says that a machine is there, which tells more than "no route".
                if worst.is_none() || error.kind() == io::ErrorKind::ConnectionRefused {
                    worst = Some(error);
                }
            }
        }
    }
    Err(worst.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound)))
}

fn timed_out(host: &str, port: u16, limit: Duration) -> ConnectError {
    ConnectError::ConnectTimeout { address: host_and_port(host, port), seconds: limit.as_secs().max(1) }
}

fn explain(error: &io::Error, host: &str, port: u16, limit: Duration) -> ConnectError {
    let address = host_and_port(host, port);
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ConnectError::PortClosed { address },
        io::ErrorKind::TimedOut => timed_out(host, port, limit),
        _ => ConnectError::Unreachable { address, detail: error.to_string() },
    }
}

/// A connection without one of these still works, so a failure is only noted.
fn set_options(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES);
    let results = [
        ("TCP_NODELAY", socket.set_tcp_nodelay(true)),
        ("keepalive", socket.set_tcp_keepalive(&keepalive)),
        #[cfg(target_os = "linux")]
        ("TCP_USER_TIMEOUT", socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_LIMIT))),
    ];
    for (option, result) in results {
        if let Err(error) = result {
            tracing::warn!(option, %error, "the connection goes without a socket option");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use tokio::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_connection_has_keepalive_below_the_load_balancers_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = dial("127.0.0.1", listener.local_addr().unwrap().port(), LIMIT).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
        assert!(socket.tcp_keepalive_time().unwrap() < Duration::from_secs(350));
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED_LIMIT));
    }

    #[tokio::test]
    async fn a_closed_port_is_told_from_silence() {
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().port()
        };
        assert!(matches!(dial("127.0.0.1", port, LIMIT).await, Err(ConnectError::PortClosed { .. })));
        // The backlog of a listener that never accepts fills up; from then on connecting is met with silence.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut held = Vec::new();
        let error = loop {
            assert!(held.len() < 64, "the backlog never filled");
            match dial("127.0.0.1", port, Duration::from_millis(700)).await {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ConnectError::ConnectTimeout { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_not_resolved() {
        // `.invalid` never exists (RFC 6761 §6.4), and a label with a space is not even asked for.
        let error = dial("no such host.invalid", 1, LIMIT).await.unwrap_err();
        assert!(matches!(error, ConnectError::NameNotResolved { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn the_second_address_is_used_when_the_first_refuses() {
        let closed = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = connect_any(&[closed, open.local_addr().unwrap()]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open.local_addr().unwrap());
    }
}
