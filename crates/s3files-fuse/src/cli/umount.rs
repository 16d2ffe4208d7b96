//! `umount FOLDER`

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::served;
use crate::config::Config;
use crate::control::{Answer, Ask};
use crate::failure::Failure;
use crate::folder::{self, State};
use crate::fuse;

/// Write everything back and take a folder away again.
///
/// Returns when every byte is on the server and the session has ended; if something could not be written, it says what.
#[derive(Debug, Clone, Args)]
pub struct UmountArgs {
    /// The folder, or the name of a mount in the configuration.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

impl UmountArgs {
    /// Carries it out.
    pub async fn run(mut self, config: &Config) -> Result<(), Failure> {
        self.folder = config.folder(&self.folder, &super::command());
        let (folder, answer) = served::ask(&self.folder, Ask::Unmount).await?;
        match answer {
            Ok(Answer::Unmounted { unwritten }) if unwritten.is_empty() => Ok(()),
            Ok(Answer::Unmounted { unwritten }) => Err(Failure::Unwritten { files: unwritten }),
            Ok(Answer::Busy { holders }) => Err(Failure::Busy { folder: self.folder, holders }),
            Ok(Answer::Failed { why }) => Err(Failure::Mount { folder, detail: format!("unmounting: {why}") }),
            Ok(other) => Err(Failure::Other(format!("{} answered something else: {other:?}", folder.display()))),
            Err(error) => self.without_daemon(&folder, &error),
        }
    }

    /// Nobody serves the folder, or nobody that this user may talk to.
    fn without_daemon(self, folder: &Path, error: &io::Error) -> Result<(), Failure> {
        let because = |why: String| Failure::NotMounted { folder: self.folder.clone(), why };
        match folder::state(folder) {
            State::Plain => Err(because("is not a mount; `s3files-fuse status` lists those that are".to_owned())),
            State::Mounted => Err(because(format!(
                "is a mount, but not one of this user's s3files-fuse ({error}); use the system's umount"
            ))),
            State::Silent => Err(because(format!(
                "is a mount whose program does not answer, and not one of this user's s3files-fuse; take it away with: \
                 {} {}",
                if cfg!(target_os = "linux") { "fusermount3 -u -z" } else { "umount -f" },
                folder.display()
            ))),
            State::Dead => {
                fuse::unmount(folder, true)
                    .map_err(|error| because(format!("is a dead mount that cannot be taken away: {error}")))?;
                Err(Failure::Other(format!(
                    "the program that served {} had died, so what it had not written yet is lost; the folder is \
                     unmounted now",
                    folder.display()
                )))
            }
        }
    }
}
