//! SQLite: several processes write into one database at once, in both kinds of journal, and SQLite itself says whether
//! the database is sound afterwards.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

use super::{Checks, Suite, minutes};
use crate::conformance::bench::{Bench, last_lines};
use crate::conformance::check::Check;
use crate::conformance::program::Program;

const WRITERS: usize = 4;

/// The suite.
pub const SUITE: Suite = Suite {
    name: "sqlite",
    about: "4 processes write into one database; integrity_check and the sum of the rows",
    needs: &[Program::package("sqlite3", "sqlite3")],
    with_faults: false,
    limit: minutes(15),
    bounded_limit: minutes(2),
    version: |tools| tools.version("sqlite3", "--version"),
    run,
};

fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Check>> {
    let mut checks = Checks::default();
    for journal in ["wal", "delete", "truncate", "persist"] {
        let folder = bench.new_folder(journal)?;
        checks.add(journal, torture(bench, journal, &folder.join("data.db")));
    }
    Ok(checks.all())
}

fn torture(bench: &Bench<'_>, journal: &str, database: &Path) -> anyhow::Result<()> {
    let rounds = bench.scale(25, 250);
    let mode = ask(bench, database, &format!("PRAGMA journal_mode={journal};"))?;
    ensure!(mode == journal, "the journal is {mode} instead");
    ask(
        bench,
        database,
        "CREATE TABLE entry (writer INTEGER, round INTEGER, text TEXT, PRIMARY KEY (writer, round));\
         CREATE INDEX by_text ON entry (text); CREATE TABLE total (n INTEGER); INSERT INTO total VALUES (0);",
    )?;
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let script = bench.outside.join(format!("{journal}-{writer}.sql"));
        fs::write(&script, work(writer, rounds))?;
        let mut command = bench.tools.command("sqlite3");
        command.args(["-bail", "-batch", "-cmd", ".timeout 120000"]).arg(database);
        writers.push(bench.beside(&mut command, &format!("{journal}-{writer}"), &script)?);
    }
    for writer in writers {
        let done = bench.wait(writer)?;
        ensure!(done.status.success(), "a writer ended with {}: {}", done.status, last_lines(&done.text));
        let read_badly = done.text.lines().any(|line| line.starts_with("bad"));
        ensure!(!read_badly, "a reader saw half a transaction: {}", last_lines(&done.text));
    }
    let sound = ask(bench, database, "PRAGMA integrity_check;")?;
    ensure!(sound == "ok", "integrity_check: {sound}");
    let rows = ask(bench, database, "SELECT count(*) || ' ' || (SELECT n FROM total) FROM entry;")?;
    // Every fifth round is taken back by its writer.
    let kept = WRITERS * (rounds - rounds / 5);
    ensure!(rows == format!("{kept} {kept}"), "there are {rows} rows and transactions instead of {kept} each");
    ask(bench, database, "VACUUM; PRAGMA integrity_check;").map(drop).context("VACUUM")
}

/// One writer's transactions: a row and the total, sometimes rolled back; now and then all rows are counted.
fn work(writer: usize, rounds: usize) -> String {
    let mut script = String::new();
    for round in 1..=rounds {
        let text = format!("{writer}-{round}-").repeat(1 + round % 60);
        let end = if round % 5 == 0 { "ROLLBACK" } else { "COMMIT" };
        // Writing into a string cannot fail.
        let _ = writeln!(
            script,
            "BEGIN IMMEDIATE; INSERT INTO entry VALUES ({writer}, {round}, '{text}'); UPDATE total SET n = n + 1; {end};"
        );
        if round % 7 == 0 {
            let _ = writeln!(
                script,
                "SELECT CASE WHEN (SELECT count(*) FROM entry) = (SELECT n FROM total) THEN 'good' ELSE 'bad' END;"
            );
        }
    }
    script
}

fn ask(bench: &Bench<'_>, database: &Path, sql: &str) -> anyhow::Result<String> {
    let mut command = bench.tools.command("sqlite3");
    command.args(["-bail", "-batch", "-cmd", ".timeout 120000"]).arg(database).arg(sql);
    Ok(bench.ok(&mut command)?.trim().to_owned())
}
