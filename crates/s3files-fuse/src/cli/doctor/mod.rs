//! `doctor [TARGET] [FOLDER]`: each step from a name to a read of the root, timed, until one fails.
//!
//! The steps are the mount's own, taken one at a time ([`way`]), so what is found here is what a mount would meet. The
//! first that fails ends the way to the server; what concerns this machine alone ([`here`]) is looked at all the same.

mod bundle;
mod clock;
mod here;
mod way;

use std::future::Future;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::source::SourceArgs;
use crate::background::Reporter;
use crate::failure::Failure;
use crate::printable::printable;

/// Find out why a mount does not work: check each step from the name to a read of the root.
///
/// Prints every step with its time, and the remedy for the first that fails. The exit code is that of the failure, as
/// `mount` would give it. Without a TARGET only this machine is looked at.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("target", |target| target.index(1).required(false).default_value("").hide_default_value(true)))]
pub struct DoctorArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// The folder that it shall be mounted on.
    #[arg(value_name = "FOLDER", index = 2)]
    folder: Option<PathBuf>,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
    /// Write the findings to this file, without account ids, key ids and file system ids, to be sent to somebody who
    /// helps.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Compare this machine's clock with this web server's; `none` leaves that out. Signatures of the wrong time are
    /// refused like those of a wrong key.
    #[arg(long, value_name = "HOST:PORT")]
    clock: Option<String>,
    /// Give up a step to the server after this time; some give up earlier by themselves.
    #[arg(long, value_name = "TIME", value_parser = super::mount::time, default_value = "30s")]
    step_timeout: Duration,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    /// Works, but the user should know.
    Note,
    Failed,
    /// Not tried, because of a failure before it or because there was nothing to try.
    Skipped,
}

#[derive(Debug, Clone, Serialize)]
struct Step {
    #[serde(rename = "step")]
    name: &'static str,
    state: State,
    ms: f64,
    detail: String,
    /// What else to look at, beside what the failure itself says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hints: Vec<String>,
}

/// What a step found.
enum Found {
    Ok(String),
    Note(String),
    Skipped(String),
}

impl Step {
    /// For people.
    fn line(&self) -> String {
        let word = match self.state {
            State::Ok => "ok",
            State::Note => "note",
            State::Failed => "FAILED",
            State::Skipped => "-",
        };
        let ms = if self.state == State::Skipped { String::new() } else { format!("{:.1} ms", self.ms) };
        format!("{word:<7} {:<12} {ms:>11}  {}", self.name, self.detail)
    }
}

/// What was found so far.
#[derive(Debug, Default)]
struct Findings {
    /// Steps are printed as they end: one that takes long must not hide those before it.
    prints: bool,
    /// Why they cannot be.
    unprinted: Option<io::Error>,
    steps: Vec<Step>,
    first: Option<Failure>,
    /// What the server told of itself.
    server: Map<String, Value>,
}

impl Findings {
    /// Takes a step: times it and keeps what it found. Its value is there if it did not fail.
    async fn take<T>(
        &mut self,
        name: &'static str,
        work: impl Future<Output = Result<(Found, T), Failure>>,
    ) -> Option<T> {
        let start = Instant::now();
        let outcome = work.await;
        let ms = (start.elapsed().as_secs_f64() * 10_000.0).round() / 10.0;
        let (state, detail, value) = match outcome {
            Ok((Found::Ok(detail), value)) => (State::Ok, detail, Some(value)),
            Ok((Found::Note(detail), value)) => (State::Note, detail, Some(value)),
            Ok((Found::Skipped(detail), value)) => (State::Skipped, detail, Some(value)),
            Err(failure) => {
                let detail = failure.to_string();
                self.first.get_or_insert(failure);
                (State::Failed, detail, None)
            }
        };
        let step = Step { name, state, ms, detail, hints: Vec::new() };
        self.say(&step.line());
        self.steps.push(step);
        value
    }

    /// Adds something to look at to the last step.
    fn hint(&mut self, hint: impl Into<String>) {
        let hint = hint.into();
        self.say(&format!("{:>34}{hint}", "→ "));
        if let Some(step) = self.steps.last_mut() {
            step.hints.push(hint);
        }
    }

    fn say(&mut self, line: &str) {
        if self.prints {
            self.print(&format!("{}\n", printable(line)));
        }
    }

    fn print(&mut self, text: &str) {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                self.unprinted.get_or_insert(error);
            }
            _ => {}
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "ok": self.first.is_none(),
            "code": self.first.as_ref().map_or(0, Failure::code),
            "steps": self.steps,
            "server": self.server,
        })
    }
}

impl DoctorArgs {
    /// Carries it out.
    pub async fn run(self) -> Result<(), Failure> {
        let mut findings = Findings { prints: !self.json, ..Findings::default() };
        if !self.source.target.is_empty() {
            let limits = way::Limits::of(self.step_timeout);
            Box::pin(way::walk(&mut findings, self.source, self.clock.as_deref(), limits)).await;
        }
        here::look(&mut findings, self.folder.as_deref()).await;
        let json = findings.to_json();
        if self.json {
            findings.print(&format!("{json:#}\n"));
        }
        let reported = self.report.as_ref().map_or(Ok(()), |file| bundle::write(file, &json));
        if let Some(error) = findings.unprinted {
            return Err(Failure::Other(format!("the findings cannot be printed: {error}")));
        }
        let Some(first) = findings.first else { return reported };
        // Its code is that of the failure; the report's is said all the same.
        if let Err(failure) = reported {
            Reporter::Terminal.failed(&failure);
        }
        Err(first)
    }
}
