//! What got worse since an earlier run: by more than a part of it, and by more than a round trip, because less than that
//! is what two runs of the same program differ by.

use super::lines::{Unit, find};
use super::report::{Figure, Report, shown};

/// The part.
const WORSE: f64 = 0.15;
/// Less than this many milliseconds is nothing, where there is no round trip.
const LEAST_MS: f64 = 10.0;

/// A sentence for each line that got worse.
pub fn worse(earlier: &Report, now: &Report) -> Vec<String> {
    now.figures
        .iter()
        .filter_map(|figure| {
            let before = earlier.figure(&figure.line, &figure.server, figure.rtt_ms)?;
            let how = how(before, figure)?;
            Some(format!("{} on {} at {} ms: {how}", figure.line, figure.server, figure.rtt_ms))
        })
        .collect()
}

fn how(before: &Figure, now: &Figure) -> Option<String> {
    if let Some(failure) = &now.failure {
        return before.failure.is_none().then(|| failure.clone());
    }
    let unit = find(&now.line)?.unit;
    if unit == Unit::RoundTrips {
        let (before, after) = (before.wall_ms?, now.wall_ms?);
        let least = (now.rtt_ms as f64).max(LEAST_MS);
        let is_worse = after > before * (1.0 + WORSE) && after > before + least;
        return is_worse.then(|| format!("{before:.0} ms before, {after:.0} ms now"));
    }
    let (before, after) = (before.value?, now.value?);
    let is_worse = if unit.more_is_better() { after < before * (1.0 - WORSE) } else { after > before * (1.0 + WORSE) };
    is_worse.then(|| format!("{} before, {} now", shown(unit, before), shown(unit, after)))
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{figure, report};
    use super::*;

    fn flagged(line: &str, before: f64, now: f64) -> bool {
        let (before, now) = (report(vec![figure(line, "mock", before)]), report(vec![figure(line, "mock", now)]));
        !worse(&before, &now).is_empty()
    }

    #[test]
    fn a_line_is_flagged_when_it_lost_more_than_a_part_and_more_than_a_round_trip() {
        assert!(flagged("untar", 1000.0, 1160.0));
        assert!(!flagged("untar", 1000.0, 1140.0), "less than the part");
        assert!(!flagged("mkdir", 1.1, 2.0), "less than a round trip");
        assert!(flagged("mkdir", 1.0, 2.1));
        assert!(!flagged("untar", 1160.0, 1000.0), "better");
    }

    #[test]
    fn more_is_better_for_shares_and_less_for_memory() {
        assert!(flagged("link-read", 0.95, 0.7));
        assert!(!flagged("link-read", 0.7, 0.95));
        assert!(flagged("rss", 100.0, 120.0));
        assert!(!flagged("rss", 120.0, 100.0));
    }

    #[test]
    fn a_line_that_fails_now_is_flagged_and_one_that_is_new_is_not() {
        let good = figure("find", "mock", 3.0);
        let failed = Figure { failure: Some("took longer".into()), value: None, wall_ms: None, ..good.clone() };
        let at_once = report(vec![failed]);
        assert_eq!(worse(&report(vec![good]), &at_once).len(), 1);
        assert!(worse(&report(Vec::new()), &at_once).is_empty());
        assert!(worse(&at_once, &at_once).is_empty());
    }
}
