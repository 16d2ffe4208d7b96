//! docs/BENCHMARKS.md: the intro stays as somebody wrote it, what a run found is between two marks.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

use super::chart;
use super::report::Report;

const BEGIN: &str = "<!-- found by `cargo xtask bench --write-docs` -->";
const END: &str = "<!-- end -->";

/// On what the figures were found, in a sentence.
pub fn circumstances(report: &Report) -> String {
    format!(
        "Client and server on one machine with {} processors (load {:.2} at the start), {} TLS unless a line says \
         otherwise.\n",
        report.processors,
        report.load,
        if report.tls { "with" } else { "without" },
    )
}

/// Puts a run into the page and draws the chart.
pub fn write(root: &Path, report: &Report) -> anyhow::Result<()> {
    let page = root.join("docs/BENCHMARKS.md");
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    fs::write(&page, replaced(&text, report)?)?;
    fs::write(root.join("docs/benchmarks.svg"), chart::draw(report)?)?;
    Ok(())
}

fn replaced(page: &str, report: &Report) -> anyhow::Result<String> {
    let (before, rest) = page.split_once(BEGIN).context("docs/BENCHMARKS.md has lost its first mark")?;
    let (_, after) = rest.split_once(END).context("docs/BENCHMARKS.md has lost its second mark")?;
    ensure!(!after.contains(BEGIN), "docs/BENCHMARKS.md has its mark twice");
    let missed = report.missed();
    let missed = if missed.is_empty() {
        "Nothing missed what it must reach.".to_owned()
    } else {
        format!("What falls short:\n\n{}", missed.iter().map(|what| format!("- {what}")).collect::<Vec<_>>().join("\n"))
    };
    Ok(format!("{before}{BEGIN}\n{}\n{}\n{missed}\n{END}{after}", circumstances(report), report.table()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::report::tests::{figure, report};
    use super::*;

    #[test]
    fn what_was_found_replaces_what_was_found_before_and_nothing_else() {
        let page = format!("Intro\n{BEGIN}\nearlier\n{END}\nEnd\n");
        let found = report(vec![figure("cat-cold", "mock", 7.0)]);
        let once = replaced(&page, &found).unwrap();
        assert!(once.starts_with("Intro\n") && once.ends_with("\nEnd\n") && !once.contains("earlier"));
        assert!(once.contains("- cat-cold on mock"), "{once}");
        assert_eq!(replaced(&once, &found).unwrap(), once);
        assert!(replaced("Intro", &found).is_err());
    }
}
