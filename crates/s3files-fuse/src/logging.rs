//! Where the program's own notes go: the terminal in the foreground, a file in the background.

use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Args;
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// Options about the log.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// How much to write down: error, warn, info, debug, trace, or levels by module such as `warn,nfs4_client=debug`.
    #[arg(long, value_name = "LEVEL", default_value = "warn", global = true, env = "S3FILES_FUSE_LOG")]
    pub log_level: String,
    /// Write the log to this file instead of the terminal. In the background the default is a file beside the control
    /// socket.
    #[arg(long, value_name = "FILE", global = true)]
    pub log_file: Option<PathBuf>,
}

impl LogArgs {
    /// Starts the log. `background` is the file for a process without a terminal.
    pub fn start(&self, background: Option<&Path>) -> Result<(), Failure> {
        // fuser tries to unmount what is unmounted already, and complains; its own levels can still be given.
        let levels = format!("fuser::session=error,fuser::mnt=error,{}", self.log_level);
        let filter = EnvFilter::try_new(levels)
            .map_err(|error| Failure::Usage(format!("--log-level {} is not understood: {error}", self.log_level)))?;
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(true);
        match self.log_file.as_deref().or(background) {
            None => builder.with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).init(),
            Some(path) => {
                let file = File::options().create(true).append(true).open(path).map_err(|error| {
                    Failure::Usage(format!("the log file {} cannot be written: {error}", path.display()))
                })?;
                builder.with_ansi(false).with_writer(file).init();
            }
        }
        Ok(())
    }
}
