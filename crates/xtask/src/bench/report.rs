//! What a run found, as JSON and as a table.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::lines::{Kernel, LINES, Line, Unit, find};
use super::verdict::{Verdict, judge};

/// The round trip time, in milliseconds, that the table is made at and that the kernel's figures come from.
pub const TABLE_RTT: u64 = 30;

/// One line, on one server, at one round trip time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The line's name.
    pub line: String,
    /// The server's name.
    pub server: String,
    /// Round trip time in milliseconds.
    pub rtt_ms: u64,
    /// Wall time in milliseconds.
    pub wall_ms: Option<f64>,
    /// In the line's unit; nothing for round trips where there is no round trip time.
    pub value: Option<f64>,
    /// RPC calls.
    pub requests: Option<u64>,
    /// NFS operations.
    pub operations: Option<u64>,
    /// Why there is no figure.
    pub failure: Option<String>,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whether TLS was used where a line does not say otherwise.
    pub tls: bool,
    /// How many processors the machine has.
    pub processors: usize,
    /// The machine's load when the run began; much above zero makes the figures worthless.
    pub load: f64,
    /// What was measured.
    pub figures: Vec<Figure>,
}

impl Report {
    /// The figure of a line.
    pub fn figure(&self, line: &str, server: &str, rtt_ms: u64) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.line == line && figure.server == server && figure.rtt_ms == rtt_ms)
    }

    /// The servers, in the order of the run.
    pub fn servers(&self) -> Vec<&str> {
        let mut servers: Vec<&str> = Vec::new();
        for figure in &self.figures {
            if !servers.contains(&figure.server.as_str()) {
                servers.push(&figure.server);
            }
        }
        servers
    }

    /// The lines that missed what they must reach at the table's round trip time, failures included.
    pub fn missed(&self) -> Vec<String> {
        self.figures
            .iter()
            .filter(|figure| verdict(figure) == Verdict::Missed)
            .map(|figure| format!("{} on {}", figure.line, figure.server))
            .collect()
    }

    /// The table.
    pub fn table(&self) -> String {
        let servers = self.servers();
        let mut table = String::from("| what a user does | kernel | must | aim |");
        for server in &servers {
            let _ = write!(table, " {server} | ms | requests | operations | |");
        }
        table.push_str("\n| --- | --: | --: | --: |");
        for _ in &servers {
            table.push_str(" --: | --: | --: | --: | --- |");
        }
        table.push('\n');
        for line in LINES {
            let figures: Vec<_> = servers.iter().map(|server| self.of_table(line, server)).collect();
            if figures.iter().all(Option::is_none) {
                continue;
            }
            let kernel = line.kernel.map_or("", |Kernel { shown, .. }| shown);
            let goal = |goal: Option<f64>| goal.map_or_else(String::new, |goal| shown_goal(line.unit, goal));
            let _ = write!(table, "| {} | {kernel} | {} | {} |", line.title, goal(line.must), goal(line.aim));
            for figure in figures {
                table.push_str(&cells(line, figure));
            }
            table.push('\n');
        }
        table
    }

    fn of_table(&self, line: &Line, server: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.line == line.id && figure.server == server && is_of_table(figure))
    }
}

/// Round trips are counted at the table's round trip time; everything else has a link of its own.
fn is_of_table(figure: &Figure) -> bool {
    figure.rtt_ms == TABLE_RTT || find(&figure.line).is_some_and(|line| line.unit != Unit::RoundTrips)
}

/// What a figure is worth; one that only the chart has is not judged.
pub fn verdict(figure: &Figure) -> Verdict {
    if !is_of_table(figure) {
        return Verdict::None;
    }
    match (find(&figure.line), figure.value) {
        (Some(line), Some(value)) => judge(line, value),
        (Some(line), None) if line.must.is_some() => Verdict::Missed,
        _ => Verdict::None,
    }
}

fn cells(line: &Line, figure: Option<&Figure>) -> String {
    let Some(figure) = figure else { return " | | | | |".to_owned() };
    if let Some(failure) = &figure.failure {
        let failure = failure.replace(['\n', '|'], " ");
        return format!(" {failure} | | | | {} |", verdict(figure).word());
    }
    let count = |count: Option<u64>| count.map_or_else(String::new, |count| count.to_string());
    format!(
        " {} | {} | {} | {} | {} |",
        figure.value.map_or_else(String::new, |value| shown(line.unit, value)),
        figure.wall_ms.map_or_else(String::new, |ms| format!("{ms:.0}")),
        count(figure.requests),
        count(figure.operations),
        verdict(figure).word(),
    )
}

/// A figure with its unit.
pub fn shown(unit: Unit, value: f64) -> String {
    match unit {
        Unit::RoundTrips => format!("{value:.1}"),
        Unit::Share => format!("{:.0} %", value * 100.0),
        Unit::PerSecond => format!("{value:.0} /s"),
        Unit::Mebibytes => format!("{value:.0} MiB"),
    }
}

fn shown_goal(unit: Unit, value: f64) -> String {
    if unit == Unit::RoundTrips { format!("{value:.0}") } else { shown(unit, value) }
}

#[cfg(test)]
pub mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A figure at the table's round trip time.
    pub fn figure(line: &str, server: &str, value: f64) -> Figure {
        Figure {
            line: line.into(),
            server: server.into(),
            rtt_ms: TABLE_RTT,
            wall_ms: Some(value * TABLE_RTT as f64),
            value: Some(value),
            requests: Some(4),
            operations: None,
            failure: None,
        }
    }

    /// A run with these figures.
    pub fn report(figures: Vec<Figure>) -> Report {
        Report { tls: false, processors: 2, load: 0.0, figures }
    }

    #[test]
    fn the_table_has_a_row_for_each_line_that_was_measured_and_columns_for_each_server() {
        let failed = Figure {
            value: None,
            wall_ms: None,
            requests: None,
            failure: Some("took longer than 9 s".into()),
            ..figure("find", "mock", 0.0)
        };
        let slow = Figure { rtt_ms: 80, ..figure("mkdir", "mock", 1.0) };
        let report = report(vec![figure("cat-cold", "mock", 4.26), figure("cat-cold", "ganesha", 6.1), failed, slow]);
        let table = report.table();
        let rows: Vec<_> = table.lines().collect();
        assert_eq!(rows.len(), 4);
        assert!(rows.iter().all(|row| row.matches('|').count() == 15), "{table}");
        assert_eq!(
            rows[2],
            "| `cat` 4 levels down, cold | 11 | 5 | 3 | 4.3 | 128 | 4 |  | must | 6.1 | 183 | 4 |  | **MISSED** |"
        );
        assert!(rows[3].contains("took longer than 9 s") && rows[3].contains("MISSED"), "{table}");
        assert_eq!(report.missed(), ["cat-cold on ganesha", "find on mock"]);
    }

    #[test]
    fn a_report_comes_back_from_json_as_it_was() {
        let report = report(vec![figure("cat-cold", "mock", 4.25), figure("link-read", "mock", 0.9375)]);
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
