//! `status [FOLDER]`

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::served;
use crate::config::Config;
use crate::control::{self, Answer, Ask};
use crate::failure::Failure;
use crate::status::{Status, prometheus, table};

/// How often `--watch` looks.
const EVERY: Duration = Duration::from_secs(1);
/// Clears the terminal and goes to its corner.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// Show how mounts are: connections, lease, certificate, memory, throughput, errors, and what is not stored yet.
///
/// Without a folder all mounts of this user are shown. The exit code is 14 if there is none.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// The mounted folder, or the name of a mount in the configuration.
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Print JSON: an object with the list `mounts`.
    #[arg(long, conflicts_with = "prometheus")]
    json: bool,
    /// Print the text that Prometheus reads (OpenMetrics), for its node exporter's `textfile` directory for example.
    #[arg(long, conflicts_with = "watch")]
    prometheus: bool,
    /// Show it anew every second, until Ctrl-C; with --json a line each time.
    #[arg(long, short = 'w')]
    watch: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    mounts: &'a [Status],
}

impl StatusArgs {
    /// Carries it out.
    pub async fn run(mut self, config: &Config) -> Result<(), Failure> {
        self.folder = self.folder.map(|folder| config.folder(&folder, &super::command()));
        if !self.watch {
            return self.print(&self.look().await?).map(drop);
        }
        let until = tokio::signal::ctrl_c();
        tokio::pin!(until);
        loop {
            if !self.print(&self.look().await?)? {
                return Ok(());
            }
            tokio::select! {
                interrupted = &mut until => {
                    return interrupted.map_err(|error| Failure::Other(format!("Ctrl-C is not heard: {error}")));
                }
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    async fn look(&self) -> Result<Vec<Status>, Failure> {
        let Some(folder) = &self.folder else {
            let answers = control::all(&Ask::Status).await.into_iter();
            let mounts: Vec<Status> = answers
                .filter_map(|answer| if let Answer::Status(status) = answer { Some(*status) } else { None })
                .collect();
            return if mounts.is_empty() { Err(Failure::NoMounts) } else { Ok(mounts) };
        };
        match served::status(folder).await? {
            (_, Ok(Answer::Status(status))) => Ok(vec![*status]),
            (_, Ok(Answer::Failed { why })) => Err(Failure::Other(format!("{}: {why}", folder.display()))),
            (_, Ok(other)) => {
                Err(Failure::Other(format!("{}: an answer to something else: {other:?}", folder.display())))
            }
            (absolute, Err(error)) => Err(served::nobody(folder, &absolute, &error)),
        }
    }

    /// False: nobody reads it any more.
    fn print(&self, mounts: &[Status]) -> Result<bool, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Other(format!("the status cannot be printed: {error}"));
        let mut text = if self.json {
            let document = Document { version: control::VERSION, mounts };
            let text =
                if self.watch { serde_json::to_string(&document) } else { serde_json::to_string_pretty(&document) };
            text.map_err(|error| failed(&error))? + "\n"
        } else if self.prometheus {
            prometheus::text(mounts).map_err(|error| failed(&error))?
        } else if let [mount] = mounts {
            table::page(mount)
        } else {
            table::lines(mounts)
        };
        let mut out = io::stdout().lock();
        if self.watch && !self.json {
            text = if out.is_terminal() { format!("{CLEAR}{text}") } else { format!("{text}\n") };
        }
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(failed(&error)),
        }
    }
}
