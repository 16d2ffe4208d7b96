//! pjdfstest: nearly 400 small tests of what POSIX says about system calls on files, as root.

use anyhow::{Context as _, ensure};

use super::{Suite, minutes};
use crate::conformance::bench::{Bench, last_lines};
use crate::conformance::check::{Check, Outcome};
use crate::conformance::program::Program;

const VERSION: &str = "0.2.2";

/// The suite.
pub const SUITE: Suite = Suite {
    name: "pjdfstest",
    about: "what POSIX says about system calls on files",
    needs: &[Program::of_crate("pjdfstest", VERSION)],
    with_faults: false,
    limit: minutes(5),
    bounded_limit: minutes(2),
    version: |_| VERSION.to_owned(),
    run,
};

fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Check>> {
    let mut command = bench.tools.command("pjdfstest");
    command.arg("-c").arg(bench.root.join("fixtures/conformance/pjdfstest.toml")).arg("-p").arg(&bench.folder);
    command.env("NO_COLOR", "1").env("RUST_BACKTRACE", "0");
    let done = bench.run(&mut command)?;
    let checks = parse(&done.text);
    let total = total(&done.text).with_context(|| format!("it did not come to its end: {}", last_lines(&done.text)))?;
    ensure!(checks.len() == total, "it counts {total} tests, and {} can be read", checks.len());
    Ok(checks)
}

/// One check for each line with a name and a result; the line behind a failure says why.
fn parse(text: &str) -> Vec<Check> {
    let mut lines = text.lines().peekable();
    let mut checks = Vec::new();
    while let Some(line) = lines.next() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(result), None) = (words.next(), words.next(), words.next()) else { continue };
        if !name.contains("::") {
            continue;
        }
        let outcome = match result {
            "ok" => Outcome::Passed,
            "skipped" => Outcome::Skipped,
            "FAILED" => Outcome::Failed(reason(&mut lines)),
            _ => continue,
        };
        checks.push(Check { name: name.to_owned(), outcome });
    }
    checks
}

fn reason<'a>(lines: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> String {
    let mut reason = Vec::new();
    // What a test says is indented by a tab at first; the sides of an assertion by spaces.
    while let Some(line) = lines.next_if(|line| line.starts_with(['\t', ' '])) {
        reason.push(line.trim());
    }
    reason.join(" ")
}

/// The number of tests in the summary.
fn total(text: &str) -> Option<usize> {
    let summary = text.lines().find(|line| line.starts_with("Summary:"))?;
    summary.split_whitespace().rev().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_of_the_output_becomes_a_check() {
        let text = "open::one                   ok\n\
                    open::two               FAILED\n\tassertion `left == right` failed\n  left: EBADF\n right: ETXTBSY\n\n\
                    chflags::three          skipped\n\trequires features: chflags\n\n\
                    Summary: 1 failed, 1 skipped, 1 passed, 0 expected failures, 3 total\nError: Some tests have failed\n";
        let checks = parse(text);
        let outcomes: Vec<_> = checks.iter().map(|check| (check.name.as_str(), check.outcome.clone())).collect();
        let why = "assertion `left == right` failed left: EBADF right: ETXTBSY".to_owned();
        assert_eq!(
            outcomes,
            [("open::one", Outcome::Passed), ("open::two", Outcome::Failed(why)), ("chflags::three", Outcome::Skipped)]
        );
        assert_eq!(total(text), Some(3));
        assert_eq!(total("it died"), None);
    }
}
