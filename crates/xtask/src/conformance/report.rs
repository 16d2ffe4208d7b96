//! The table of what passed where, for the terminal and for docs/CONFORMANCE.md.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

const BEGIN: &str = "<!-- begin: written by cargo xtask conformance --write-table -->";
const END: &str = "<!-- end -->";

/// One suite on one server.
#[derive(Debug)]
pub struct Row {
    /// The suite's name.
    pub suite: &'static str,
    /// Its version.
    pub version: String,
    /// The server's name.
    pub server: &'static str,
    /// Checks that passed.
    pub passed: usize,
    /// What went wrong.
    pub failed: usize,
    /// Failures that are on the list.
    pub expected: usize,
    /// Checks that the suite left out.
    pub skipped: usize,
    /// Whether the run was short.
    pub bounded: bool,
}

/// The rows as Markdown.
pub fn table(rows: &[Row]) -> String {
    let date = today();
    let mut text = String::from(
        "| suite | version | server | passed | failed | expected failures | skipped | date | command |\n\
         | --- | --- | --- | ---: | ---: | ---: | ---: | --- | --- |\n",
    );
    for row in rows {
        let bounded = if row.bounded { " --bounded" } else { "" };
        let command = format!("cargo xtask conformance --suite {} --server {}{bounded}", row.suite, row.server);
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {date} | `{command}` |",
            row.suite, row.version, row.server, row.passed, row.failed, row.expected, row.skipped
        );
    }
    text
}

/// Puts the table between the markers of a page.
pub fn write(page: &Path, rows: &[Row]) -> anyhow::Result<()> {
    let text = fs::read_to_string(page).with_context(|| format!("reading {}", page.display()))?;
    let text = between_markers(&text, &table(rows)).with_context(|| page.display().to_string())?;
    fs::write(page, text).with_context(|| format!("writing {}", page.display()))
}

fn between_markers(text: &str, table: &str) -> anyhow::Result<String> {
    let (before, rest) = text.split_once(BEGIN).context("there is no marker for the beginning of the table")?;
    let (_, after) = rest.split_once(END).context("there is no marker for the end of the table")?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

/// The date in UTC.
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    date(seconds / 86_400)
}

/// The date of a day since 1970, in the calendar of years of 400 years with 146,097 days that begin in March.
fn date(day: u64) -> String {
    let day = day + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (era * 400 + year, month + 3) } else { (era * 400 + year + 1, month - 9) };
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn days_have_the_dates_of_the_calendar() {
        let days = [(0, "1970-01-01"), (58, "1970-02-28"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_778, "2026-11-21")];
        for (day, name) in days {
            assert_eq!(date(day), name);
        }
    }

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page = format!("# Title\n{BEGIN}\nold\n{END}\nmore\n");
        let text = between_markers(&page, "new\n").unwrap();
        assert_eq!(text, format!("# Title\n{BEGIN}\nnew\n{END}\nmore\n"));
        assert_eq!(between_markers(&text, "new\n").unwrap(), text);
        assert!(between_markers("# Title\n", "new\n").is_err());
    }
}
