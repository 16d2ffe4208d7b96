//! How other commands talk to the process that serves a mount: a socket for each mounted folder, mode 0600, in a
//! directory that belongs to the user alone. One line of JSON asks, one line answers.

use std::fs::Permissions;
use std::hash::Hasher;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

/// Longest line on the socket, in bytes.
const LONGEST_LINE: u64 = 1 << 20;
/// How long a client may take to say what it wants.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Unmount, write everything back, end.
    Unmount,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is unmounted and the session has ended.
    Unmounted {
        /// Files that could not be written, each with the reason.
        unwritten: Vec<String>,
    },
    /// Programs use the folder; nothing has changed.
    Busy {
        /// The programs.
        holders: Vec<String>,
    },
    /// It could not be unmounted; nothing has changed.
    Failed {
        /// Why.
        why: String,
    },
}

/// A question that waits for its answer.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub ask: Ask,
    /// Where the answer goes; the receiver comes back when it has been sent.
    pub answer: oneshot::Sender<(Answer, oneshot::Sender<()>)>,
}

/// The directory of sockets and logs, made if it is missing.
pub fn directory() -> io::Result<PathBuf> {
    let path = candidates().next().ok_or(io::ErrorKind::NotFound)?;
    match std::fs::DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    check(&path)?;
    Ok(path)
}

/// Where the directory may be, the likeliest first: a service and a terminal of one user have different environments.
fn candidates() -> impl Iterator<Item = PathBuf> {
    let user = nix::unistd::geteuid();
    let own = std::env::var_os("XDG_RUNTIME_DIR").into_iter().map(PathBuf::from);
    let login = PathBuf::from(format!("/run/user/{user}"));
    let shared = [std::env::temp_dir(), PathBuf::from("/tmp")].map(|dir| dir.join(format!("s3files-fuse-{user}")));
    let named = own.filter(|dir| dir.is_dir()).map(|dir| dir.join("s3files-fuse"));
    named.chain(shared).chain([login.join("s3files-fuse")])
}

/// In a directory that all users write to, somebody else may have made it first.
fn check(path: &Path) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    if !metadata.is_dir() || metadata.uid() != nix::unistd::geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
        let why = format!("{} does not belong to this user alone", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

/// The file that belongs to `folder`, an absolute path.
pub fn file(folder: &Path, ending: &str) -> io::Result<PathBuf> {
    Ok(directory()?.join(file_name(folder, ending)))
}

/// A number that stands for a name, the same in every release.
pub fn fnv(name: &[u8]) -> u64 {
    Fnv::of(name)
}

fn file_name(folder: &Path, ending: &str) -> String {
    format!("{:016x}.{ending}", Fnv::of(folder.as_os_str().as_bytes()))
}

/// FNV-1a: the same name in every release, which the standard library's hasher does not promise.
struct Fnv(u64);

impl Fnv {
    fn of(bytes: &[u8]) -> u64 {
        let mut hasher = Self(0xcbf2_9ce4_8422_2325);
        hasher.write(bytes);
        hasher.finish()
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The listening end. The socket is removed when it is dropped.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    /// Inode number of the socket.
    ino: u64,
    asked: mpsc::Receiver<Asked>,
    accepting: AbortHandle,
}

impl Control {
    /// Listens for questions about `folder`.
    pub fn listen(folder: &Path) -> io::Result<Self> {
        let path = file(folder, "sock")?;
        // The folder is mounted by this process now, so whoever listened there before is gone.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let ino = std::fs::symlink_metadata(&path)?.ino();
        let (ask, asked) = mpsc::channel(4);
        let accepting = tokio::spawn(accept(listener, ask)).abort_handle();
        Ok(Self { path, ino, asked, accepting })
    }

    /// The next question.
    pub async fn next(&mut self) -> Option<Asked> {
        self.asked.recv().await
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.accepting.abort();
        // The folder may have been mounted by another process since, which has put its own socket there. One that stays
        // behind by mistake is replaced by the next mount.
        if std::fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.ino) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// One question after the other: they are rare, and none may overtake another.
async fn accept(listener: UnixListener, ask: mpsc::Sender<Asked>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if let Err(error) = converse(stream, &ask).await {
            tracing::debug!(%error, "a question on the control socket was not answered");
        }
    }
}

async fn converse(stream: UnixStream, ask: &mpsc::Sender<Asked>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let line = tokio::time::timeout(ASK_LIMIT, read_line(read)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let (answer, answered) = oneshot::channel();
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    ask.send(Asked { ask: serde_json::from_str(&line)?, answer }).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
    let (answer, sent) = answered.await.map_err(gone)?;
    let mut line = serde_json::to_string(&answer)?;
    line.push('\n');
    write.write_all(line.as_bytes()).await?;
    write.shutdown().await?;
    // The process may end now.
    drop(sent);
    Ok(())
}

async fn read_line(from: impl tokio::io::AsyncRead + Unpin) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(from.take(LONGEST_LINE)).read_line(&mut line).await?;
    if line.ends_with('\n') { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Asks the process that serves `folder`. An error of kind `NotFound` or `ConnectionRefused` means that none does.
pub async fn ask(folder: &Path, ask: Ask) -> io::Result<Answer> {
    let (read, mut write) = connect(folder).await?.into_split();
    let mut line = serde_json::to_string(&ask)?;
    line.push('\n');
    write.write_all(line.as_bytes()).await?;
    Ok(serde_json::from_str(&read_line(read).await?)?)
}

async fn connect(folder: &Path) -> io::Result<UnixStream> {
    let name = file_name(folder, "sock");
    let mut outcome = io::Error::from(io::ErrorKind::NotFound);
    for directory in candidates().filter(|path| check(path).is_ok()) {
        match UnixStream::connect(directory.join(&name)).await {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => outcome = error,
        }
    }
    Err(outcome)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[tokio::test]
    async fn a_question_reaches_the_folders_process_and_the_answer_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut control = Control::listen(folder.path()).unwrap();
        let mode = std::fs::metadata(&control.path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        let asking = ask(folder.path(), Ask::Unmount);
        let answering = async {
            let asked = control.next().await.unwrap();
            assert_eq!(asked.ask, Ask::Unmount);
            let (tell, sent) = oneshot::channel();
            asked.answer.send((Answer::Busy { holders: vec!["vi (1)".to_owned()] }, tell)).unwrap();
            // Dropped once the answer is on its way.
            assert!(sent.await.is_err());
        };
        let limit = Duration::from_secs(10);
        let (answer, ()) = tokio::time::timeout(limit, async { tokio::join!(asking, answering) }).await.unwrap();
        assert_eq!(answer.unwrap(), Answer::Busy { holders: vec!["vi (1)".to_owned()] });
        let path = control.path.clone();
        drop(control);
        assert!(!path.exists());
        let error = ask(folder.path(), Ask::Unmount).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn file_names_do_not_change_between_releases() {
        assert_eq!(Fnv::of(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(Fnv::of(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
