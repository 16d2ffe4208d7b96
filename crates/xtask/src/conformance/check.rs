//! What a suite found, held against what is expected.
//!
//! The list of a server is a text file: a reason in brackets, and below it the checks that fail for that reason, each
//! as `suite check`. There is no entry without a reason.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

/// One thing that a suite looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name, without spaces.
    pub name: String,
    /// How it went.
    pub outcome: Outcome,
}

/// How a check went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Passed,
    /// Not so, with a word about it.
    Failed(String),
    /// The suite left it out.
    Skipped,
}

impl Check {
    /// A check that went as `result` says.
    pub fn of(name: impl Into<String>, result: anyhow::Result<()>) -> Self {
        let outcome = match result {
            Ok(()) => Outcome::Passed,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        Self { name: name.into(), outcome }
    }

    /// A check that the suite left out.
    pub fn skipped(name: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: Outcome::Skipped }
    }
}

/// The failures that are expected of one server: suite and check, and the reason.
#[derive(Debug, Default)]
pub struct Expected(BTreeMap<(String, String), String>);

impl Expected {
    /// Reads the list of a server.
    pub fn read(root: &Path, server: &str) -> anyhow::Result<Self> {
        let file = root.join("fixtures/conformance").join(format!("expected-{server}.txt"));
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Self::parse(&text).with_context(|| file.display().to_string())
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut list = BTreeMap::new();
        let mut reason = None;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(text) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                reason = Some(text.trim().to_owned()).filter(|text| !text.is_empty());
                continue;
            }
            let Some((suite, check)) = line.split_once(' ') else { bail!("`{line}` is not a suite and a check") };
            let reason = reason.clone().with_context(|| format!("`{line}` has no reason"))?;
            let twice = list.insert((suite.to_owned(), check.trim().to_owned()), reason).is_some();
            ensure!(!twice, "`{line}` is there twice");
        }
        Ok(Self(list))
    }

    fn reason(&self, suite: &str, check: &str) -> Option<&str> {
        self.0.get(&(suite.to_owned(), check.to_owned())).map(String::as_str)
    }

    fn of_suite<'a>(&'a self, suite: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.keys().filter(move |(of, _)| of == suite).map(|(_, check)| check.as_str())
    }
}

/// What comes of a suite on a server.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Checks that passed and were expected to.
    pub passed: usize,
    /// Checks that failed and were expected to.
    pub expected: usize,
    /// Checks that the suite left out.
    pub skipped: usize,
    /// Everything that is not as it should be.
    pub wrong: Vec<String>,
}

impl Verdict {
    /// Holds checks against the list.
    pub fn of(suite: &str, checks: &[Check], expected: &Expected) -> Self {
        let mut verdict = Self::default();
        for check in checks {
            let reason = expected.reason(suite, &check.name);
            match (&check.outcome, reason) {
                (Outcome::Passed, None) => verdict.passed += 1,
                (Outcome::Failed(_), Some(_)) => verdict.expected += 1,
                (Outcome::Skipped, None) => verdict.skipped += 1,
                (Outcome::Failed(why), None) => verdict.wrong.push(format!("{} failed: {}", check.name, short(why))),
                (Outcome::Passed, Some(reason)) => {
                    verdict.wrong.push(format!("{} passed; take it off the list (\"{reason}\")", check.name));
                }
                (Outcome::Skipped, Some(_)) => {
                    verdict.wrong.push(format!("{} was left out; take it off the list", check.name));
                }
            }
        }
        for name in expected.of_suite(suite).filter(|name| !checks.iter().any(|check| check.name == *name)) {
            verdict.wrong.push(format!("{name} is on the list, and there is no such check"));
        }
        verdict
    }
}

/// What of a reason goes on the terminal; the log has all of it.
fn short(why: &str) -> String {
    let line = why.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} expected failures, {} skipped", self.passed, self.expected, self.skipped)?;
        if !self.wrong.is_empty() {
            write!(f, ", {} WRONG", self.wrong.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use anyhow::anyhow;

    use super::*;

    fn list() -> Expected {
        Expected::parse("# a remark\n[no hard links]\nposix link::works\n\n[no devices]\nposix mknod::char\n").unwrap()
    }

    #[test]
    fn an_expected_failure_is_counted_and_an_unexpected_one_is_wrong() {
        let checks = [
            Check::of("link::works", Err(anyhow!("EPERM"))),
            Check::of("mknod::char", Err(anyhow!("EPERM"))),
            Check::of("open", Ok(())),
            Check::of("close", Err(anyhow!("EIO"))),
            Check::skipped("flags"),
        ];
        let verdict = Verdict::of("posix", &checks, &list());
        assert_eq!((verdict.passed, verdict.expected, verdict.skipped), (1, 2, 1));
        assert_eq!(verdict.wrong, ["close failed: EIO"]);
    }

    #[test]
    fn an_entry_that_passes_or_is_left_out_or_is_unknown_must_go() {
        let checks = [Check::of("link::works", Ok(()))];
        let verdict = Verdict::of("posix", &checks, &list());
        assert_eq!(verdict.wrong.len(), 2, "{verdict:?}");
        let checks = [Check::skipped("link::works"), Check::skipped("mknod::char")];
        assert_eq!(Verdict::of("posix", &checks, &list()).wrong.len(), 2);
    }

    #[test]
    fn a_long_reason_is_cut_and_a_short_one_is_not() {
        let checks = [Check::of("a", Err(anyhow!("{}", "ü\n".repeat(1000)))), Check::of("b", Err(anyhow!("one\ntwo")))];
        let verdict = Verdict::of("other", &checks, &list());
        assert!(verdict.wrong[0].chars().count() < 320, "{}", verdict.wrong[0]);
        assert_eq!(verdict.wrong[1], "b failed: one two");
    }

    #[test]
    fn the_list_of_one_suite_says_nothing_of_another() {
        let checks = [Check::of("link::works", Ok(()))];
        assert_eq!(Verdict::of("other", &checks, &list()), Verdict { passed: 1, ..Verdict::default() });
    }

    #[test]
    fn an_entry_without_a_reason_or_given_twice_is_refused() {
        for text in ["posix link", "[]\nposix link", "[why]\nposix link\nposix link", "[why]\nlink"] {
            assert!(Expected::parse(text).is_err(), "{text}");
        }
    }
}
