//! Finds the process that serves a folder, and asks it.

use std::io;
use std::path::{Path, PathBuf};

use crate::control::{self, Answer, Ask};
use crate::failure::Failure;
use crate::folder::{self, State};

/// How a mount is. Its process answers that at once, or something is wrong with it.
pub async fn status(folder: &Path) -> Result<(PathBuf, io::Result<Answer>), Failure> {
    find(folder, |folder| async move { control::ask_now(&folder, Ask::Status).await }).await
}

/// Asks the process that serves `folder`, at first without looking at the folder itself. Returns the absolute path as
/// well.
pub async fn ask(folder: &Path, ask: Ask) -> Result<(PathBuf, io::Result<Answer>), Failure> {
    find(folder, |folder| {
        let ask = ask.clone();
        async move { control::ask(&folder, ask).await }
    })
    .await
}

async fn find<F>(folder: &Path, ask: impl Fn(PathBuf) -> F) -> Result<(PathBuf, io::Result<Answer>), Failure>
where
    F: Future<Output = io::Result<Answer>>,
{
    if let Some(folder) = folder::without_looking(folder) {
        match ask(folder.clone()).await {
            Err(error) if is_nobody(&error) => {}
            answer => return Ok((folder, answer)),
        }
    }
    let folder = folder::absolute(folder)?;
    let answer = ask(folder.clone()).await;
    Ok((folder, answer))
}

/// Why nobody answers for a folder, in a sentence.
pub fn nobody(shown: &Path, folder: &Path, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::TimedOut {
        return Failure::Other(format!(
            "the program that serves {} does not answer; is it stopped? `s3files-fuse logs {}` may tell more",
            shown.display(),
            shown.display()
        ));
    }
    if error.kind() == io::ErrorKind::InvalidData {
        return Failure::Other(format!(
            "{} was mounted by another release of s3files-fuse, whose answer is not understood; use that program, or              unmount the folder with `s3files-fuse umount {}` and mount it anew",
            shown.display(),
            folder.display()
        ));
    }
    let why = match folder::state(folder) {
        State::Plain => "is not a mount; `s3files-fuse status` lists those that are".to_owned(),
        State::Mounted => {
            format!("is a mount, but not one of this user's s3files-fuse ({error}); the system's `mount` tells whose")
        }
        State::Silent => {
            "is a mount whose program does not answer, and not one of this user's s3files-fuse; the system's `mount` tells \
             whose"
                .to_owned()
        }
        State::Dead => {
            format!("is a mount whose program has died; take it away with: s3files-fuse umount {}", folder.display())
        }
    };
    Failure::NotMounted { folder: shown.to_owned(), why }
}

/// Whether the error means that nobody listens there.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_of_another_release_is_told_as_that() {
        let folder = Path::new("/mnt/x");
        let text = nobody(folder, folder, &io::ErrorKind::InvalidData.into()).to_string();
        assert!(text.contains("another release") && text.contains("s3files-fuse umount /mnt/x"), "{text}");
    }
}
