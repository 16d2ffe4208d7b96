//! A mount's status for people: one line each for several mounts, a page for one.

use std::fmt::Write as _;

use super::{State, Status};
use crate::printable::printable;

/// Bytes, in powers of 1,024.
pub fn bytes(count: f64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024.0 {
        return format!("{count:.0} B");
    }
    let mut amount = count / 1024.0;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

/// A time in its two largest units.
pub fn duration(seconds: f64) -> String {
    if seconds < 0.0 {
        return format!("-{}", duration(-seconds));
    }
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds as u64;
    let (days, hours, minutes, seconds) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {seconds} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

const fn state(state: State) -> &'static str {
    match state {
        State::Serving => "serving",
        State::Connecting => "connecting: the server is out of reach",
        State::WritingBack => "writing back, then it ends",
    }
}

/// One mount on a page.
pub fn page(status: &Status) -> String {
    let mut lines: Vec<(&str, String)> = vec![
        ("folder", printable(&status.folder.display().to_string())),
        ("target", format!("{} ({})", status.target, status.address)),
        ("state", format!("{}{}", state(status.state), if status.read_only { ", read-only" } else { "" })),
        ("uptime", format!("{} (process {})", duration(status.uptime_seconds), status.pid)),
        (
            "connections",
            format!(
                "{} open, {} made; {} session{}",
                status.connections.open,
                status.connections.made,
                status.connections.sessions,
                if status.connections.sessions == 1 { "" } else { "s" }
            ),
        ),
        (
            "lease",
            if status.lease.valid {
                format!("valid, {} left of {}", duration(status.lease.left_seconds), duration(status.lease.seconds))
            } else {
                "run out; locks and open files are reclaimed when the server is back".to_owned()
            },
        ),
    ];
    if let Some(certificate) = &status.certificate {
        let mut line = if certificate.expires_in_seconds > 0.0 {
            format!(
                "{} old, expires in {}",
                duration(certificate.age_seconds),
                duration(certificate.expires_in_seconds)
            )
        } else {
            "expired; the next connection makes a new one".to_owned()
        };
        if let Some(end) = certificate.credentials_expire_in_seconds {
            let _ = if end > 0.0 {
                write!(line, "; credentials expire in {}", duration(end))
            } else {
                write!(line, "; its credentials have expired")
            };
        }
        lines.push(("certificate", line));
    }
    lines.extend([
        ("cache", format!("{} of {}", bytes(status.cache.used_bytes as f64), bytes(status.cache.limit_bytes as f64))),
        (
            "throughput",
            format!(
                "in {}/s, out {}/s; {} in, {} out in all",
                bytes(status.throughput.in_per_second),
                bytes(status.throughput.out_per_second),
                bytes(status.throughput.bytes_in as f64),
                bytes(status.throughput.bytes_out as f64)
            ),
        ),
        (
            "round trips",
            match status.requests.round_trip_ms {
                Some(time) => format!("{}, lately {time:.1} ms each", status.requests.round_trips),
                None => status.requests.round_trips.to_string(),
            },
        ),
        (
            "errors",
            format!(
                "{}; {} repeated, {} delayed by the server",
                status.requests.errors, status.requests.repeated, status.requests.delayed
            ),
        ),
        (
            "unwritten",
            match status.unwritten.oldest_seconds {
                Some(age) => format!(
                    "{} in {} file{}, the oldest byte {} old",
                    bytes(status.unwritten.bytes as f64),
                    status.unwritten.files,
                    if status.unwritten.files == 1 { "" } else { "s" },
                    duration(age)
                ),
                None => "nothing".to_owned(),
            },
        ),
        ("open files", status.open_files.to_string()),
    ]);
    if let Some(conflicts) = &status.conflicts {
        let mut line = match conflicts.count {
            0 => "none".to_owned(),
            count => format!("{count} in {}:", printable(&conflicts.directory)),
        };
        for name in &conflicts.files {
            let _ = write!(line, "\n{:13}  {}", "", printable(name));
        }
        if conflicts.count > conflicts.files.len() as u64 {
            let _ = write!(line, "\n{:13}  and {} more", "", conflicts.count - conflicts.files.len() as u64);
        }
        lines.push(("conflicts", line));
    }
    if let Some(log) = &status.log {
        lines.push(("log", printable(&log.display().to_string())));
    }
    lines.into_iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:13}  {value}");
        text
    })
}

/// One line for each mount.
pub fn lines(mounts: &[Status]) -> String {
    let head = ["FOLDER", "TARGET", "STATE", "UPTIME", "IN", "OUT", "UNWRITTEN", "ERRORS"].map(str::to_owned);
    let row = |status: &Status| {
        let short = match status.state {
            State::Serving => "serving",
            State::Connecting => "connecting",
            State::WritingBack => "ending",
        };
        [
            printable(&status.folder.display().to_string()),
            status.target.clone(),
            short.to_owned(),
            duration(status.uptime_seconds),
            format!("{}/s", bytes(status.throughput.in_per_second)),
            format!("{}/s", bytes(status.throughput.out_per_second)),
            bytes(status.unwritten.bytes as f64),
            status.requests.errors.to_string(),
        ]
    };
    let rows: Vec<[String; 8]> = std::iter::once(head).chain(mounts.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..8).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect::<Vec<_>>();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::example;

    #[test]
    fn amounts_and_times_are_short() {
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(1536.0), "1.5 KiB");
        assert_eq!(bytes(5.0 * 1024.0 * 1024.0 * 1024.0), "5.0 GiB");
        assert_eq!(bytes(f64::from(1u32 << 31) * 4096.0 * 1024.0), "8192.0 TiB");
        assert_eq!(duration(0.42), "0.4 s");
        assert_eq!(duration(61.0), "1 min 1 s");
        assert_eq!(duration(3725.0), "1 h 2 min");
        assert_eq!(duration(90_000.0), "1 d 1 h");
        assert_eq!(duration(-5.0), "-5.0 s");
    }

    #[test]
    fn a_page_names_everything_that_was_asked_for() {
        let page = page(&example());
        for words in [
            "/home/u/s3",
            "fs-0123456789abcdef0 (10.0.0.1:2049)",
            "1 h 2 min (process 77)",
            "2 open, 5 made",
            "valid, 1 min 1 s left of 1 min 30 s",
            "2 min 5 s old, expires in 2 h 57 min",
            "3.0 MiB of 256.0 MiB",
            "in 2.4 MiB/s",
            "4711, lately 31.2 ms",
            "3; 1 repeated",
            "1.5 KiB in 1 file, the oldest byte 0.4 s old",
            "report.odt",
        ] {
            assert!(page.contains(words), "`{words}` is not in:\n{page}");
        }
    }

    #[test]
    fn names_from_the_server_cannot_write_to_the_terminal() {
        let mut status = example();
        if let Some(conflicts) = &mut status.conflicts {
            conflicts.files = vec!["\u{1b}[2Jgone\n".to_owned()];
        }
        let page = page(&status);
        assert!(!page.contains('\u{1b}') && page.contains("?[2Jgone?"), "{page}");
    }

    #[test]
    fn a_lease_that_ran_out_is_said() {
        let mut status = example();
        status.lease.valid = false;
        assert!(page(&status).contains("run out"));
    }

    #[test]
    fn columns_stand_below_each_other() {
        let mut other = example();
        other.folder = "/a/much/longer/folder/than/the/first".into();
        let text = lines(&[example(), other]);
        let columns: Vec<_> = text.lines().map(|line| line.find("serving").or_else(|| line.find("STATE"))).collect();
        assert_eq!(columns.len(), 3);
        assert!(columns.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
    }
}
