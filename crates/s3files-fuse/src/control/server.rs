//! The listening end.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, UCred};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use super::{Answer, Ask, LONGEST_LINE, Reply, line, place, question};

/// How long a client may take to say what it wants.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// Most conversations at once.
const MOST: usize = 256;
/// Most locks at once, held or waited for. Their conversations last, and are counted apart: whoever unmounts or asks for the
/// status always gets in.
const MOST_LOCKS: usize = 256;

/// The wish to unmount, which waits for its answer.
#[derive(Debug)]
pub struct Asked {
    /// Where the answer goes, and what is told when it has been sent; that is dropped if it cannot be.
    pub answer: oneshot::Sender<(Answer, oneshot::Sender<()>)>,
}

/// Answers whatever is asked but the unmount, which belongs to the mount's own loop.
pub trait Desk: Send + Sync + 'static {
    /// Answers one question.
    fn serve(&self, ask: Ask, talk: Talk) -> impl Future<Output = io::Result<()>> + Send;
}

/// A conversation, seen from the mount.
#[derive(Debug)]
pub struct Talk {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    /// Who asks, as the system says.
    pub peer: UCred,
}

impl Talk {
    fn new(stream: UnixStream) -> io::Result<Self> {
        let peer = stream.peer_cred()?;
        let (read, write) = stream.into_split();
        Ok(Self { read: BufReader::new(read), write, peer })
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        (&mut self.read).take(LONGEST_LINE).read_line(&mut line).await?;
        if line.ends_with('\n') { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Answers.
    pub async fn say(&mut self, answer: Answer) -> io::Result<()> {
        self.write.write_all(line(Reply { answer })?.as_bytes()).await
    }

    /// Returns when whoever asks has hung up, or is gone. What they say meanwhile is not heard.
    pub async fn ended(&mut self) {
        loop {
            match self.read.fill_buf().await {
                Ok([]) | Err(_) => return,
                Ok(said) => {
                    let length = said.len();
                    self.read.consume(length);
                }
            }
        }
    }
}

/// The listening end. The socket is removed when it is dropped.
#[derive(Debug)]
pub struct Control {
    pub(super) path: PathBuf,
    /// Inode number of the socket.
    ino: u64,
    asked: mpsc::Receiver<Asked>,
    accepting: AbortHandle,
}

impl Control {
    /// Listens for questions about `folder`.
    pub fn listen(folder: &Path, desk: Arc<impl Desk>) -> io::Result<Self> {
        let path = place::file(folder, "sock")?;
        // The folder is mounted by this process now, so whoever listened there before is gone.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let ino = std::fs::symlink_metadata(&path)?.ino();
        let (ask, asked) = mpsc::channel(4);
        let accepting = tokio::spawn(accept(listener, desk, ask)).abort_handle();
        Ok(Self { path, ino, asked, accepting })
    }

    /// The next wish to unmount.
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

/// Takes conversations, which end with this task.
async fn accept(listener: UnixListener, desk: Arc<impl Desk>, unmount: mpsc::Sender<Asked>) {
    let room = Arc::new(Semaphore::new(MOST));
    let locks = Arc::new(Semaphore::new(MOST_LOCKS));
    let mut conversations = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = conversations.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (desk, unmount, locks) = (Arc::clone(&desk), unmount.clone(), Arc::clone(&locks));
        conversations.spawn(async move {
            if let Err(error) = converse(stream, &*desk, &unmount, permit, locks).await {
                tracing::debug!(%error, "a conversation on the control socket broke off");
            }
        });
    }
}

async fn converse(
    stream: UnixStream,
    desk: &impl Desk,
    unmount: &mpsc::Sender<Asked>,
    room: OwnedSemaphorePermit,
    locks: Arc<Semaphore>,
) -> io::Result<()> {
    let mut talk = Talk::new(stream)?;
    let line = tokio::time::timeout(ASK_LIMIT, talk.line()).await.map_err(|_| io::ErrorKind::TimedOut)??;
    match question(&line) {
        Err(why) => talk.say(Answer::Failed { why }).await,
        Ok(Ask::Unmount) => {
            let (answer, answered) = oneshot::channel();
            unmount.send(Asked { answer }).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
            let (answer, sent) = answered.await.map_err(|_| io::ErrorKind::BrokenPipe)?;
            talk.say(answer).await?;
            talk.write.shutdown().await?;
            // The process may end now, or has not waited.
            let _ = sent.send(());
            Ok(())
        }
        Ok(ask @ Ask::Lock(_)) => {
            let Ok(_room) = locks.try_acquire_owned() else {
                let why = format!("{MOST_LOCKS} locks are held or waited for already; try again when there are fewer");
                return talk.say(Answer::Failed { why }).await;
            };
            drop(room);
            desk.serve(ask, talk).await
        }
        Ok(ask) => desk.serve(ask, talk).await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::control::{LockAsk, ask, begin};

    const LIMIT: Duration = Duration::from_secs(10);

    /// Gives every lock, and tells when it is given back.
    struct Locks(mpsc::Sender<u64>);

    impl Desk for Locks {
        async fn serve(&self, ask: Ask, mut talk: Talk) -> io::Result<()> {
            let Ask::Lock(lock) = ask else { return talk.say(Answer::Failed { why: "no".to_owned() }).await };
            talk.say(Answer::Locked).await?;
            talk.ended().await;
            self.0.send(lock.ino).await.unwrap();
            talk.say(Answer::Unlocked { kept: true }).await
        }
    }

    fn desk() -> (Arc<Locks>, mpsc::Receiver<u64>) {
        let (tell, told) = mpsc::channel(8);
        (Arc::new(Locks(tell)), told)
    }

    #[tokio::test]
    async fn a_question_reaches_the_folders_process_and_the_answer_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut control = Control::listen(folder.path(), desk().0).unwrap();
        let mode = std::fs::metadata(&control.path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        let asking = ask(folder.path(), Ask::Unmount);
        let answering = async {
            let asked = control.next().await.unwrap();
            let (tell, sent) = oneshot::channel();
            asked.answer.send((Answer::Busy { holders: vec!["vi (1)".to_owned()] }, tell)).unwrap();
            sent.await.unwrap();
        };
        let (answer, ()) = tokio::time::timeout(LIMIT, async { tokio::join!(asking, answering) }).await.unwrap();
        assert_eq!(answer.unwrap(), Answer::Busy { holders: vec!["vi (1)".to_owned()] });
        // Whoever has asked is gone before the answer comes.
        drop(begin(folder.path(), Ask::Unmount).await.unwrap());
        let asked = tokio::time::timeout(LIMIT, control.next()).await.unwrap().unwrap();
        let (tell, sent) = oneshot::channel();
        asked.answer.send((Answer::Busy { holders: Vec::new() }, tell)).unwrap();
        assert!(tokio::time::timeout(LIMIT, sent).await.unwrap().is_err());
        let path = control.path.clone();
        drop(control);
        assert!(!path.exists());
        let error = ask(folder.path(), Ask::Unmount).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_lock_lasts_until_the_asker_hangs_up_or_is_gone_and_holds_up_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let (desk, mut given_back) = desk();
        let _control = Control::listen(folder.path(), desk).unwrap();
        let lock = |ino| Ask::Lock(LockAsk { ino, shared: false, wait: None, groups: Vec::new() });
        let mut polite = begin(folder.path(), lock(1)).await.unwrap();
        let mut killed = begin(folder.path(), lock(2)).await.unwrap();
        assert_eq!(polite.answer().await.unwrap(), Answer::Locked);
        assert_eq!(killed.answer().await.unwrap(), Answer::Locked);
        let other = tokio::time::timeout(LIMIT, ask(folder.path(), Ask::Status)).await.unwrap();
        assert_eq!(other.unwrap(), Answer::Failed { why: "no".to_owned() });
        assert!(given_back.try_recv().is_err());
        drop(killed);
        assert_eq!(tokio::time::timeout(LIMIT, given_back.recv()).await.unwrap(), Some(2));
        polite.hang_up().await.unwrap();
        assert_eq!(polite.answer().await.unwrap(), Answer::Unlocked { kept: true });
        assert_eq!(given_back.recv().await, Some(1));
    }

    #[tokio::test]
    async fn however_many_locks_there_are_other_questions_are_answered() {
        let folder = tempfile::tempdir().unwrap();
        let (tell, _told) = mpsc::channel(2 * MOST_LOCKS);
        let _control = Control::listen(folder.path(), Arc::new(Locks(tell))).unwrap();
        let lock = |ino| Ask::Lock(LockAsk { ino, shared: false, wait: None, groups: Vec::new() });
        let mut held = Vec::new();
        for ino in 0..MOST_LOCKS as u64 {
            let mut one = begin(folder.path(), lock(ino)).await.unwrap();
            assert_eq!(one.answer().await.unwrap(), Answer::Locked);
            held.push(one);
        }
        let other = tokio::time::timeout(LIMIT, ask(folder.path(), Ask::Status)).await.unwrap();
        assert_eq!(other.unwrap(), Answer::Failed { why: "no".to_owned() });
        let refused = tokio::time::timeout(LIMIT, ask(folder.path(), lock(9999))).await.unwrap().unwrap();
        assert!(matches!(&refused, Answer::Failed { why } if why.contains("try again")), "{refused:?}");
    }
}
