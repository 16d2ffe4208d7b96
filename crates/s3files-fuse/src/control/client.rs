//! The asking end.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::{Answer, Ask, LONGEST_LINE, Line, Question, Reply, VERSION, Version, line, place};

/// How long an answer may take that waits for nothing but the process itself.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A question that was asked, and whoever answers it.
#[derive(Debug)]
pub struct Conversation {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Conversation {
    async fn start(stream: UnixStream, ask: Ask) -> io::Result<Self> {
        let (read, mut write) = stream.into_split();
        write.write_all(line(Question { ask })?.as_bytes()).await?;
        Ok(Self { read: BufReader::new(read), write })
    }

    /// The next answer.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        let mut line = String::new();
        (&mut self.read).take(LONGEST_LINE).read_line(&mut line).await?;
        if !line.ends_with('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !matches!(serde_json::from_str::<Version>(&line), Ok(Version { version: VERSION })) {
            let why = "it is served by another release of s3files-fuse, which answers in another way";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(serde_json::from_str::<Line<Reply>>(&line)?.says.answer)
    }

    /// Says that nothing more is wanted; a lock is given back.
    pub async fn hang_up(&mut self) -> io::Result<()> {
        self.write.shutdown().await
    }
}

/// Asks the process that serves `folder`. An error of kind `NotFound` or `ConnectionRefused` means that none does.
pub async fn ask(folder: &Path, ask: Ask) -> io::Result<Answer> {
    begin(folder, ask).await?.answer().await
}

/// Asks what can be answered at once; an error of kind `TimedOut` means that the process does not.
pub async fn ask_now(folder: &Path, question: Ask) -> io::Result<Answer> {
    tokio::time::timeout(AT_ONCE, ask(folder, question)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// Asks, and goes on talking.
pub async fn begin(folder: &Path, ask: Ask) -> io::Result<Conversation> {
    Conversation::start(connect(folder).await?, ask).await
}

/// Whether anybody would answer for `folder`; the error is as that of [`ask`].
pub async fn is_served(folder: &Path) -> io::Result<()> {
    connect(folder).await.map(drop)
}

/// The same without asking anything, for those who may wait for nothing.
pub fn listens(folder: &Path) -> bool {
    let name = place::file_name(folder, "sock");
    place::directories().any(|directory| std::os::unix::net::UnixStream::connect(directory.join(&name)).is_ok())
}

async fn connect(folder: &Path) -> io::Result<UnixStream> {
    let name = place::file_name(folder, "sock");
    let mut outcome = io::Error::from(io::ErrorKind::NotFound);
    for directory in place::directories() {
        match UnixStream::connect(directory.join(&name)).await {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => outcome = error,
        }
    }
    Err(outcome)
}

/// Asks every process of this user that serves a mount. Those that do not answer are left out.
pub async fn all(ask: &Ask) -> Vec<Answer> {
    let mut answers = Vec::new();
    for socket in place::sockets() {
        let Ok(stream) = UnixStream::connect(&socket).await else { continue };
        let answer = async { Conversation::start(stream, ask.clone()).await?.answer().await };
        match tokio::time::timeout(AT_ONCE, answer).await {
            Ok(Ok(answer)) => answers.push(answer),
            Ok(Err(error)) => tracing::warn!(socket = %socket.display(), %error, "a mount does not answer"),
            Err(_) => tracing::warn!(socket = %socket.display(), "a mount does not answer"),
        }
    }
    answers
}
