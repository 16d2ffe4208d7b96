//! What got worse since an earlier run, by more than two runs of the same program differ by, and what it measured and this
//! one does not.
//!
//! A few round trips are the same few in every run, so half of one more is news (two runs differ by less than 0.3). With
//! their number goes work of the machine, which is not as even: 8 % of a figure, but no more than three round trips, until
//! these are 3 % of it. From there on it is 3 %.

use super::lines::{Line, Unit, find};
use super::report::{Figure, Report, shown};

/// The part of a share, a rate or memory.
const WORSE: f64 = 0.15;
/// Less than this many milliseconds is nothing, where there is no round trip.
const LEAST_MS: f64 = 10.0;
/// The same where there is one: of a few round trips, and whatever a round trip is.
const LEAST_TRIPS: f64 = 0.4;
const LEAST_MS_OF_TRIPS: f64 = 4.0;
/// The part of tens of round trips, and what it comes to at most.
const WORSE_OF_TENS: f64 = 0.08;
const MOST_OF_TENS: f64 = 3.0;
/// The part of hundreds of them.
const WORSE_OF_HUNDREDS: f64 = 0.03;

/// A sentence for each line that got worse, and for each that the earlier run has and this one was asked for and has not.
pub fn worse(earlier: &Report, now: &Report, asked_for: impl Fn(&Figure) -> bool) -> Vec<String> {
    let sentence =
        |figure: &Figure, how: &str| format!("{} on {} at {} ms: {how}", figure.line, figure.server, figure.rtt_ms);
    let worse = now.figures.iter().filter_map(|figure| {
        let before = earlier.figure(&figure.line, &figure.server, figure.rtt_ms)?;
        Some(sentence(figure, &how(before, figure)?))
    });
    let is_gone = |figure: &&Figure| now.figure(&figure.line, &figure.server, figure.rtt_ms).is_none();
    let gone = earlier.figures.iter().filter(is_gone).filter(|figure| asked_for(figure));
    worse.chain(gone.map(|figure| sentence(figure, "was measured before, and is not now"))).collect()
}

fn how(before: &Figure, now: &Figure) -> Option<String> {
    if let Some(failure) = &now.failure {
        return before.failure.is_none().then(|| failure.clone());
    }
    if before.wall_ms.is_some() && now.wall_ms.is_none() {
        return Some("had a figure before, and has none now".to_owned());
    }
    let line = find(&now.line)?;
    if line.unit == Unit::RoundTrips {
        let (before, after) = (before.wall_ms?, now.wall_ms?);
        let is_worse = after >= before + news(line, before, now.rtt_ms as f64);
        return is_worse.then(|| format!("{before:.0} ms before, {after:.0} ms now"));
    }
    let (unit, before, after) = (line.unit, before.value?, now.value?);
    let is_worse = if unit.more_is_better() { after < before * (1.0 - WORSE) } else { after > before * (1.0 + WORSE) };
    is_worse.then(|| format!("{} before, {} now", shown(unit, before), shown(unit, after)))
}

/// How many milliseconds more than `before` are more than two runs of the same program differ by.
fn news(line: &Line, before: f64, trip: f64) -> f64 {
    if trip <= 0.0 {
        return (before * WORSE).max(LEAST_MS);
    }
    if line.uneven {
        return (before * WORSE).max(trip).max(LEAST_MS_OF_TRIPS);
    }
    let of_tens = (before * WORSE_OF_TENS).min(MOST_OF_TENS * trip);
    of_tens.max(before * WORSE_OF_HUNDREDS).max(LEAST_TRIPS * trip).max(LEAST_MS_OF_TRIPS)
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{figure, report};
    use super::*;

    fn flagged(line: &str, before: f64, now: f64) -> bool {
        let (before, now) = (report(vec![figure(line, "mock", before)]), report(vec![figure(line, "mock", now)]));
        !worse(&before, &now, |_| true).is_empty()
    }

    #[test]
    fn half_a_round_trip_more_is_flagged_where_there_are_few_and_noise_is_not() {
        for (line, before) in [("mkdir", 1.1), ("create", 2.1), ("cat-cold", 3.2), ("mount", 5.5)] {
            assert!(flagged(line, before, before + 1.0), "{line}: a whole one");
            assert!(flagged(line, before, before + 0.5), "{line}: half of one");
            assert!(!flagged(line, before, before + 0.3), "{line}: noise");
            assert!(!flagged(line, before, before - 0.5), "{line}: better");
        }
        assert!(flagged("read-100", 7.0, 8.0));
    }

    #[test]
    fn three_percent_more_are_flagged_where_there_are_hundreds_and_less_is_not() {
        for (line, before) in [("untar", 1070.0), ("cat-500", 520.0), ("rm-r", 540.0), ("git-first", 100.0)] {
            assert!(flagged(line, before, before * 1.031), "{line}");
            assert!(!flagged(line, before, before * 1.025), "{line}: noise");
        }
        assert!(flagged("cat-500-fresh", 46.0, 49.5));
        assert!(!flagged("cat-500-fresh", 46.0, 48.0), "noise of tens");
        assert!(!flagged("untar", 1160.0, 1000.0), "better");
    }

    #[test]
    fn an_uneven_line_is_flagged_from_a_whole_round_trip_on() {
        assert!(!flagged("busy-stat", 2.4, 3.2));
        assert!(flagged("busy-stat", 2.5, 3.5));
        assert!(!flagged("list-100000", 44.0, 50.0), "less than the part");
    }

    #[test]
    fn on_a_short_link_a_round_trip_more_is_flagged_and_without_one_some_milliseconds_are() {
        let at = |rtt_ms: u64, ms: f64| Figure { rtt_ms, wall_ms: Some(ms), ..figure("mkdir", "mock", 1.0) };
        let flagged = |rtt, before, after| {
            !worse(&report(vec![at(rtt, before)]), &report(vec![at(rtt, after)]), |_| true).is_empty()
        };
        assert!(flagged(10, 13.0, 23.0));
        assert!(!flagged(10, 13.0, 16.0), "noise");
        assert!(!flagged(0, 2.0, 11.0));
        assert!(flagged(0, 2.0, 13.0));
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
        assert_eq!(worse(&report(vec![good]), &at_once, |_| true).len(), 1);
        assert!(worse(&report(Vec::new()), &at_once, |_| true).is_empty());
        assert!(worse(&at_once, &at_once, |_| true).is_empty());
    }

    #[test]
    fn a_line_that_has_vanished_is_flagged_when_it_was_asked_for() {
        let (find, mkdir) = (figure("find", "mock", 3.0), figure("mkdir", "mock", 1.0));
        let (earlier, now) = (report(vec![find.clone(), mkdir]), report(vec![find.clone()]));
        assert_eq!(worse(&earlier, &now, |_| true), ["mkdir on mock at 30 ms: was measured before, and is not now"]);
        assert!(worse(&earlier, &now, |figure| figure.line != "mkdir").is_empty());
        let empty = report(vec![Figure { value: None, wall_ms: None, ..find.clone() }]);
        assert_eq!(worse(&report(vec![find]), &empty, |_| true).len(), 1, "it is there without a figure");
    }
}
