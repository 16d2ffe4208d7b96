//! `umount FOLDER`

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::control::{self, Answer, Ask};
use crate::failure::Failure;
use crate::folder::{self, State};
use crate::fuse;

/// Write everything back and take a folder away again.
///
/// Returns when every byte is on the server and the session has ended; if something could not be written, it says what.
#[derive(Debug, Clone, Args)]
pub struct UmountArgs {
    /// The folder.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

impl UmountArgs {
    /// Carries it out.
    pub async fn run(self) -> Result<(), Failure> {
        let (folder, answer) = self.ask().await?;
        match answer {
            Ok(Answer::Unmounted { unwritten }) if unwritten.is_empty() => Ok(()),
            Ok(Answer::Unmounted { unwritten }) => Err(Failure::Unwritten { files: unwritten }),
            Ok(Answer::Busy { holders }) => Err(Failure::Busy { folder: self.folder, holders }),
            Ok(Answer::Failed { why }) => Err(Failure::Mount { folder, detail: format!("unmounting: {why}") }),
            Err(error) => self.without_daemon(&folder, &error),
        }
    }

    /// Asks the process that serves the folder, at first without looking at the folder itself.
    async fn ask(&self) -> Result<(PathBuf, io::Result<Answer>), Failure> {
        if let Some(folder) = folder::without_looking(&self.folder) {
            match control::ask(&folder, Ask::Unmount).await {
                Err(error) if is_nobody(&error) => {}
                answer => return Ok((folder, answer)),
            }
        }
        let folder = folder::absolute(&self.folder)?;
        let answer = control::ask(&folder, Ask::Unmount).await;
        Ok((folder, answer))
    }

    /// Nobody serves the folder, or nobody that this user may talk to.
    fn without_daemon(self, folder: &Path, error: &io::Error) -> Result<(), Failure> {
        let because = |why: String| Failure::NotMounted { folder: self.folder.clone(), why };
        match folder::state(folder) {
            State::Plain => Err(because("is not a mount; `mount` lists those that are".to_owned())),
            State::Mounted => Err(because(format!(
                "is a mount, but not one of this user's s3files-fuse ({error}); use the system's umount"
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

/// Whether the error means that nobody listens there.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
