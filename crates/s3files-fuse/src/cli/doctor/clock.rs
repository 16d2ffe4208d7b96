//! How far this machine's clock is off: the `Date` of any web server's answer (RFC 9110 §6.6.1).
//!
//! The service answers a signature of the wrong time as it answers a wrong secret key, so this is asked beside it. The
//! answer is not authenticated: it is a hint for a person, and nothing is set by it.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the answer may take.
const LIMIT: Duration = Duration::from_secs(3);
/// Longest head of an answer that is read, in bytes.
const LONGEST: u64 = 16 << 10;
/// Signatures are good for five minutes either way.
pub const TOLERANCE: Duration = Duration::from_mins(4);

/// Seconds that the server at `address` (`HOST:PORT`) is ahead of this machine; `None`: it does not tell.
pub async fn ahead(address: &str) -> Option<i64> {
    tokio::time::timeout(LIMIT, ask(address)).await.ok().flatten()
}

async fn ask(address: &str) -> Option<i64> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let request = format!("HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut head = Vec::new();
    stream.take(LONGEST).read_to_end(&mut head).await.ok()?;
    let there = date_of(&String::from_utf8_lossy(&head))?;
    Some((there - OffsetDateTime::from(SystemTime::now())).whole_seconds())
}

fn date_of(head: &str) -> Option<OffsetDateTime> {
    let date = head.lines().skip(1).take_while(|line| !line.is_empty()).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then(|| value.trim().replace("GMT", "+0000"))
    })?;
    OffsetDateTime::parse(&date, &Rfc2822).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_found_in_any_answer_and_nothing_else_is_taken_for_it() {
        let date = date_of("HTTP/1.1 403 Forbidden\r\nServer: x\r\ndate: Sat, 21 Nov 2026 18:00:00 GMT\r\n\r\n");
        assert_eq!(date.map(OffsetDateTime::unix_timestamp), Some(1_795_284_000));
        for none in ["", "HTTP/1.1 200 OK\r\n\r\nDate: Sat, 21 Nov 2026 18:00:00 GMT", "x\r\nDate: soon\r\n"] {
            assert_eq!(date_of(none), None, "{none}");
        }
    }
}
