//! The status of mounts as text for Prometheus: the OpenMetrics form, which its scrapers and the node exporter's
//! `textfile` collector take.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;

use super::{State, Status};

/// Tells mounts apart.
type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;
type Counters = Family<Labels, Counter>;

/// A number that goes up and down: name, help, unit, and where it is in a status.
type GaugeOf = (&'static str, &'static str, Option<Unit>, fn(&Status) -> Option<f64>);
/// A number that only grows.
type CounterOf = (&'static str, &'static str, Option<Unit>, fn(&Status) -> u64);

const GAUGES: [GaugeOf; 15] = [
    ("up", "1 while the server is in reach", None, |s| Some(f64::from(u8::from(s.state != State::Connecting)))),
    ("uptime", "How long the folder has been mounted", Some(Unit::Seconds), |s| Some(s.uptime_seconds)),
    ("connections", "Connections that are open", None, |s| Some(s.connections.open as f64)),
    ("lease_left", "What is left of the lease", Some(Unit::Seconds), |s| Some(s.lease.left_seconds)),
    ("certificate_age", "Age of the client certificate", Some(Unit::Seconds), |s| {
        s.certificate.map(|certificate| certificate.age_seconds)
    }),
    ("certificate_expires_in", "When the client certificate ends", Some(Unit::Seconds), |s| {
        s.certificate.map(|certificate| certificate.expires_in_seconds)
    }),
    ("cache_used", "File data kept for reading", Some(Unit::Bytes), |s| Some(s.cache.used_bytes as f64)),
    ("cache_limit", "Most file data in memory", Some(Unit::Bytes), |s| Some(s.cache.limit_bytes as f64)),
    ("unwritten", "Written by programs and not yet stored", Some(Unit::Bytes), |s| Some(s.unwritten.bytes as f64)),
    ("unwritten_files", "Files with such bytes", None, |s| Some(s.unwritten.files as f64)),
    ("unwritten_oldest", "Age of the oldest such byte, 0 if there is none", Some(Unit::Seconds), |s| {
        Some(s.unwritten.oldest_seconds.unwrap_or(0.0))
    }),
    ("round_trip", "How long a small request took lately", Some(Unit::Seconds), |s| {
        s.requests.round_trip_ms.map(|time| time / 1000.0)
    }),
    ("open_files", "Files that programs have open", None, |s| Some(s.open_files as f64)),
    ("conflicts", "Files in the lost-and-found directory", None, |s| {
        s.conflicts.as_ref().map(|conflicts| conflicts.count as f64)
    }),
    ("read_only", "1 if nothing can be changed", None, |s| Some(f64::from(u8::from(s.read_only)))),
];

const COUNTERS: [CounterOf; 8] = [
    ("received", "Received from the server", Some(Unit::Bytes), |s| s.throughput.bytes_in),
    ("sent", "Sent to the server", Some(Unit::Bytes), |s| s.throughput.bytes_out),
    ("round_trips", "Requests, each a round trip", None, |s| s.requests.round_trips),
    ("repeated_requests", "Sent again after a lost connection or session", None, |s| s.requests.repeated),
    ("delayed_answers", "Answers that asked to wait", None, |s| s.requests.delayed),
    ("errors", "Requests that ended in EIO, ENOSPC, EDQUOT, ESTALE or ETIMEDOUT", None, |s| s.requests.errors),
    ("connections_made", "Connections made", None, |s| s.connections.made),
    ("sessions_made", "Sessions made", None, |s| s.connections.sessions),
];

/// The text.
pub fn text(mounts: &[Status]) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("s3files");
    for (name, help, unit, value) in GAUGES {
        let family = Gauges::default();
        for status in mounts {
            if let Some(value) = value(status) {
                family.get_or_create(&labels(status)).set(value);
            }
        }
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, family),
            None => registry.register(name, help, family),
        }
    }
    for (name, help, unit, value) in COUNTERS {
        let family = Counters::default();
        for status in mounts {
            family.get_or_create(&labels(status)).inc_by(value(status));
        }
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, family),
            None => registry.register(name, help, family),
        }
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn labels(status: &Status) -> Labels {
    vec![("folder", status.folder.display().to_string()), ("target", status.target.clone())]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::status::example;

    #[test]
    fn every_number_has_its_type_and_its_mount() {
        let mut other = example();
        other.folder = "/with \"quotes\"\nand lines".into();
        other.certificate = None;
        let text = text(&[example(), other]).unwrap();
        let labels = "{folder=\"/home/u/s3\",target=\"fs-0123456789abcdef0\"}";
        for line in [
            "# TYPE s3files_round_trips counter".to_owned(),
            format!("s3files_round_trips_total{labels} 4711"),
            "# TYPE s3files_received_bytes counter".to_owned(),
            format!("s3files_received_bytes_total{labels} 5368709120"),
            format!("s3files_certificate_age_seconds{labels} 125.0"),
            format!("s3files_unwritten_oldest_seconds{labels} 0.4"),
            "# EOF".to_owned(),
        ] {
            assert!(text.lines().any(|is| is == line), "`{line}` is not in:\n{text}");
        }
        let certificates = text.lines().filter(|line| line.starts_with("s3files_certificate_age_seconds{"));
        assert_eq!(certificates.count(), 1, "a mount without a certificate has no age of one:\n{text}");
        assert!(text.contains(r#"folder="/with \"quotes\"\nand lines""#), "{text}");
    }
}
