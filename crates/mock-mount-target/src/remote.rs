//! What the program that started the mock tells it on standard input, a line at a time, and the answer on standard
//! output: `link RTT [RATE]` changes the link, `counters` asks what was done so far. The end of the input ends the mock,
//! so that it never outlives whoever started it.

use std::io::BufRead as _;

use mock_mount_target::{LinkSettings, MockHandle};
use tokio::sync::mpsc;

use crate::{bytes_per_second, time};

/// The lines, until the input ends. The thread that reads them ends with the process: nothing can wake it.
pub fn lines() -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Carries a line out and gives the answer, one line of JSON.
pub fn obey(mock: &MockHandle, line: &str) -> serde_json::Value {
    match act(mock, line) {
        Ok(answer) => answer,
        Err(error) => serde_json::json!({ "error": error }),
    }
}

fn act(mock: &MockHandle, line: &str) -> Result<serde_json::Value, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["link", rtt] => {
            mock.set_link(LinkSettings { rtt: time(rtt)?, ..LinkSettings::default() });
            Ok(serde_json::json!({}))
        }
        ["link", rtt, rate] => {
            let bandwidth = Some(bytes_per_second(rate)?);
            mock.set_link(LinkSettings { rtt: time(rtt)?, bandwidth, ..LinkSettings::default() });
            Ok(serde_json::json!({}))
        }
        ["counters"] => {
            let (wire, served) = (mock.wire_counters(), mock.counters());
            Ok(serde_json::json!({
                "calls": wire.calls,
                "bytes_in": wire.bytes_in,
                "bytes_out": wire.bytes_out,
                // Nothing is known of what a server behind the mock does.
                "operations": mock.with_server(|_| served.operations.values().sum::<u64>()),
            }))
        }
        _ => Err(format!("`{line}` is neither `link RTT [RATE]` nor `counters`")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use mock_mount_target::MockServer;

    #[tokio::test]
    async fn the_link_and_the_counters_are_reached_by_lines_and_anything_else_is_refused() {
        let mock = MockServer::builder().start().await.unwrap();
        assert_eq!(obey(&mock, "link 30ms 100mbit"), serde_json::json!({}));
        assert_eq!(obey(&mock, "counters")["calls"], 0);
        assert_eq!(obey(&mock, "counters")["operations"], 0);
        for wrong in ["", "link", "link fast", "link 30ms 1 2", "stop"] {
            assert!(obey(&mock, wrong)["error"].is_string(), "{wrong}");
        }
        mock.stop().await;
    }
}
