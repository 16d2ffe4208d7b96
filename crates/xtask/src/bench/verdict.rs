//! What a figure is worth: round trips are rounded down before they are compared, as the kernel's were.

use super::lines::{Line, Unit};

/// How a figure stands to what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As good as was hoped.
    Aim,
    /// As good as it must be.
    Must,
    /// Not good enough.
    Missed,
    /// Nothing was asked for.
    None,
}

impl Verdict {
    /// The word of the table.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Aim => "aim",
            Self::Must => "must",
            Self::Missed => "**MISSED**",
            Self::None => "",
        }
    }
}

/// Judges a figure.
pub fn judge(line: &Line, value: f64) -> Verdict {
    let value = if line.unit == Unit::RoundTrips { value.floor() } else { value };
    let reaches = |goal: f64| if line.unit.more_is_better() { value >= goal } else { value <= goal };
    match (line.must, line.aim) {
        (_, Some(aim)) if reaches(aim) => Verdict::Aim,
        (Some(must), _) if reaches(must) => Verdict::Must,
        (None, _) => Verdict::None,
        (Some(_), _) => Verdict::Missed,
    }
}

/// The middle one of some figures, and where it is.
pub fn median(values: &[f64]) -> Option<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    order.get(order.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::lines::find;
    use super::*;

    #[test]
    fn round_trips_are_rounded_down_and_shares_are_not() {
        let cat = find("cat-cold").unwrap();
        assert_eq!(judge(cat, 3.99), Verdict::Aim);
        assert_eq!(judge(cat, 4.0), Verdict::Must);
        assert_eq!(judge(cat, 5.99), Verdict::Must);
        assert_eq!(judge(cat, 6.0), Verdict::Missed);
        let link = find("link-read").unwrap();
        assert_eq!(judge(link, 0.899), Verdict::Missed);
        assert_eq!(judge(link, 0.9), Verdict::Must);
        let memory = find("rss").unwrap();
        assert_eq!(judge(memory, 128.0), Verdict::Must);
        assert_eq!(judge(memory, 128.1), Verdict::Missed);
        assert_eq!(judge(find("git-first").unwrap(), 1e9), Verdict::None);
    }

    #[test]
    fn a_stat_of_exactly_four_round_trips_is_not_below_four() {
        let stat = find("busy-stat").unwrap();
        assert_eq!(judge(stat, 3.99), Verdict::Must);
        assert_eq!(judge(stat, 4.0), Verdict::Missed);
    }

    #[test]
    fn the_middle_of_two_is_the_smaller_and_of_none_there_is_none() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2));
        assert_eq!(median(&[3.0, 1.0]), Some(1));
        assert_eq!(median(&[]), None);
    }
}
