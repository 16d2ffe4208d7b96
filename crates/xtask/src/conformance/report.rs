//! The table of what passed where, for the terminal and for docs/CONFORMANCE.md.

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

const HEAD: &str = "| suite | version | server | passed | failed | expected failures | skipped | date | command |\n\
                    | --- | --- | --- | ---: | ---: | ---: | ---: | --- | --- |\n";

/// The rows as Markdown.
pub fn table(rows: &[Row]) -> String {
    let date = today();
    HEAD.to_owned() + &rows.iter().map(|row| row.line(&date)).collect::<String>()
}

impl Row {
    fn line(&self, date: &str) -> String {
        let bounded = if self.bounded { " --bounded" } else { "" };
        let command = format!("cargo xtask conformance --suite {} --server {}{bounded}", self.suite, self.server);
        let Self { suite, version, server, passed, failed, expected, skipped, .. } = self;
        format!(
            "| {suite} | {version} | {server} | {passed} | {failed} | {expected} | {skipped} | {date} | `{command}` |\n"
        )
    }
}

/// Puts a row into the table of a page, in the place of the one for the same suite and server.
pub fn write(page: &Path, row: &Row, order: &[&str]) -> anyhow::Result<()> {
    let text = fs::read_to_string(page).with_context(|| format!("reading {}", page.display()))?;
    let text = replaced(&text, &[row.line(&today())], order).with_context(|| page.display().to_string())?;
    fs::write(page, text).with_context(|| format!("writing {}", page.display()))
}

fn replaced(page: &str, new: &[String], order: &[&str]) -> anyhow::Result<String> {
    let (before, rest) = page.split_once(BEGIN).context("there is no marker for the beginning of the table")?;
    let (old, after) = rest.split_once(END).context("there is no marker for the end of the table")?;
    let old = old.lines().skip_while(|line| !line.starts_with("| ---")).skip(1).filter(|line| line.starts_with('|'));
    let mut lines: Vec<String> = old.map(|line| format!("{line}\n")).collect();
    lines.retain(|line| !new.iter().any(|other| key(other) == key(line)));
    lines.extend_from_slice(new);
    lines.sort_by_key(|line| {
        let (suite, server) = key(line);
        (order.iter().position(|name| *name == suite), server.to_owned())
    });
    Ok(format!("{before}{BEGIN}\n{HEAD}{}{END}{after}", lines.concat()))
}

/// Suite and server of a line.
fn key(line: &str) -> (&str, &str) {
    let mut cells = line.split('|').map(str::trim).skip(1);
    let suite = cells.next().unwrap_or_default();
    (suite, cells.nth(1).unwrap_or_default())
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
        let days =
            [(0, "1970-01-01"), (58, "1970-02-28"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_778, "2026-11-21")];
        for (day, name) in days {
            assert_eq!(date(day), name);
        }
    }

    #[test]
    fn a_row_takes_the_place_of_the_one_for_the_same_suite_and_server_and_nothing_else_changes() {
        let order = ["a", "b"];
        let line = |text: &str| text.to_owned() + "\n";
        let page = format!("# Title\n{BEGIN}\n{END}\nmore\n");
        let first = [line("| b | 1 | x | 5 |"), line("| a | 1 | y | 6 |"), line("| a | 1 | x | 7 |")];
        let text = replaced(&page, &first, &order).unwrap();
        let sorted = format!("{}{}{}", first[2], first[1], first[0]);
        assert_eq!(text, format!("# Title\n{BEGIN}\n{HEAD}{sorted}{END}\nmore\n"));
        let text = replaced(&text, &[line("| a | 2 | y | 8 |")], &order).unwrap();
        let sorted = format!("{}| a | 2 | y | 8 |\n{}", first[2], first[0]);
        assert_eq!(text, format!("# Title\n{BEGIN}\n{HEAD}{sorted}{END}\nmore\n"));
        assert!(replaced("# Title\n", &first, &order).is_err());
    }
}
