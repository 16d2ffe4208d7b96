//! `lock PATH -- COMMAND…`: a lock of the server around a command, for scripts and agents on several machines.
//!
//! On a Mac, locks that programs take stay on that Mac: macFUSE does not hand them to file systems. So this goes past the
//! kernel, through the control socket, and works the same everywhere. The mount holds the lock for as long as this
//! process keeps its end of the socket open: however it ends, the lock goes.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use clap::Args;
use nix::sys::signal::{Signal as Number, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::served;
use crate::control::{self, Answer, Ask, Conversation, LockAsk};
use crate::failure::Failure;
use crate::walk::own_identity;

/// Run a command while holding a lock that all machines respect.
///
/// The lock covers the whole file, which is made if it is missing. It is one kind with those of flock and fcntl on Linux
/// mounts of the same file system. The exit code is the command's; 19: somebody else has the lock; 20: the lock was lost
/// while the command ran; 128 + N: signal N ended the wait for it.
#[derive(Debug, Clone, Args)]
pub struct LockArgs {
    /// The file, in a mounted folder.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Let others have shared locks at the same time.
    #[arg(long)]
    shared: bool,
    /// Give up when the lock is not free within this time; without it, wait for as long as it takes.
    #[arg(long, value_name = "SECONDS", conflicts_with = "no_wait")]
    wait: Option<u32>,
    /// Give up at once when the lock is not free.
    #[arg(long)]
    no_wait: bool,
    /// The command with its arguments.
    #[arg(value_name = "COMMAND", last = true, required = true)]
    command: Vec<OsString>,
}

impl LockArgs {
    /// Carries it out; returns the command's exit code.
    pub async fn run(self) -> Result<u8, Failure> {
        // It stays open until the end: that keeps its inode number, and the folder from being unmounted.
        let folder = self.folder()?;
        if let Err(error) = control::is_served(&folder).await {
            return Err(self.not_ours(&folder, &error));
        }
        let file = self.open()?;
        let mut signals = Signals::new().map_err(|error| Failure::Other(format!("signals are not heard: {error}")))?;
        // Whoever does not want to wait any longer does not want the command either; hanging up gives back what may have
        // been given just now.
        let mut held = tokio::select! {
            biased;
            number = signals.any() => return Ok(ended_by(number)),
            held = self.lock(&folder, &file) => held?,
        };
        let ran = self.command(&mut held, &mut signals).await;
        let given_back = match ran {
            // The mount has hung up.
            Ok((_, false)) => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => match held.hang_up().await {
                Ok(()) => tokio::select! {
                    answer = held.answer() => answer,
                    // The server is away; the mount gives the lock back when it is there again.
                    number = signals.any() => return Ok(ended_by(number)),
                },
                Err(error) => Err(error),
            },
        };
        drop(file);
        let (command, _) = ran?;
        let lost = |why: String| Failure::LockLost { path: self.path.clone(), why, command };
        match given_back {
            Ok(Answer::Unlocked { kept: true }) => Ok(command),
            Ok(Answer::Unlocked { kept: false }) => {
                Err(lost("the server was out of reach for longer than its lease".to_owned()))
            }
            Ok(Answer::Failed { why }) => Err(lost(why)),
            Ok(_) | Err(_) => Err(lost("the folder's program has ended".to_owned())),
        }
    }

    fn refuse(&self, why: impl Into<String>) -> Failure {
        Failure::Path { path: self.path.display().to_string(), why: why.into() }
    }

    /// The file, made if it is missing.
    fn open(&self) -> Result<File, Failure> {
        let explain = |error: io::Error| match error.kind() {
            io::ErrorKind::IsADirectory => self.refuse("is a directory; lock a file in it"),
            io::ErrorKind::ReadOnlyFilesystem => {
                self.refuse("is read-only here, where only --shared locks on files that are there can be taken")
            }
            io::ErrorKind::PermissionDenied if !self.shared => {
                self.refuse(format!("{error}; an exclusive lock needs the right to write, one with --shared does not"))
            }
            _ => self.refuse(error.to_string()),
        };
        let mut options = OpenOptions::new();
        options.read(true).write(!self.shared).create(!self.shared);
        let opened = match options.open(&self.path) {
            Err(error) if self.shared && error.kind() == io::ErrorKind::NotFound => {
                OpenOptions::new().write(true).create(true).truncate(false).open(&self.path)
            }
            opened => opened,
        };
        let file = opened.map_err(explain)?;
        let metadata = file.metadata().map_err(explain)?;
        match (metadata.is_file(), metadata.is_dir()) {
            (true, _) => Ok(file),
            (_, true) => Err(self.refuse("is a directory; lock a file in it")),
            _ => Err(self.refuse("is not a regular file, and only those can be locked")),
        }
    }

    /// The mounted folder that the file is in: the last directory on the way up that is on the same device.
    fn folder(&self) -> Result<PathBuf, Failure> {
        let refuse = |error: io::Error| self.refuse(error.to_string());
        let parent = match self.path.canonicalize() {
            Ok(path) => path.parent().map(Path::to_owned),
            // It is to be made.
            Err(_) => crate::folder::without_looking(&self.path).and_then(|path| path.parent().map(Path::to_owned)),
        };
        let parent = parent.ok_or_else(|| self.refuse("is not there, and neither is the directory it would be in"))?;
        let device = std::fs::metadata(&parent).map_err(refuse)?.dev();
        let same = |folder: &&Path| std::fs::metadata(folder).is_ok_and(|there| there.dev() == device);
        Ok(parent.ancestors().take_while(same).last().unwrap_or(&parent).to_owned())
    }

    fn not_ours(&self, folder: &Path, error: &io::Error) -> Failure {
        match served::nobody(&self.path, folder, error) {
            Failure::NotMounted { folder: path, .. } => Failure::NotMounted {
                folder: path,
                why: format!(
                    "is not in a folder that this user's s3files-fuse has mounted ({} is not one); `s3files-fuse \
                     status` lists them",
                    folder.display()
                ),
            },
            other => other,
        }
    }

    async fn lock(&self, folder: &Path, file: &File) -> Result<Conversation, Failure> {
        let ino = file.metadata().map_err(|error| self.refuse(error.to_string()))?.ino();
        let wait = if self.no_wait { Some(0) } else { self.wait.map(|seconds| u64::from(seconds) * 1000) };
        let groups = own_identity().groups.to_vec();
        let ask = Ask::Lock(LockAsk { ino, shared: self.shared, wait, groups });
        let begun = control::begin(folder, ask).await;
        let mut conversation = begun.map_err(|error| self.not_ours(folder, &error))?;
        match conversation.answer().await {
            Ok(Answer::Locked) => Ok(conversation),
            Ok(Answer::Taken { pid }) => Err(Failure::Locked { path: self.path.clone(), pid }),
            Ok(Answer::Failed { why }) => Err(self.refuse(format!("cannot be locked: {why}"))),
            Ok(other) => Err(self.refuse(format!("cannot be locked: the mount answered {other:?}"))),
            Err(error) => Err(self.refuse(format!("cannot be locked: the folder's program is gone ({error})"))),
        }
    }

    /// Runs the command to its end. Returns its exit code, and whether the mount is still there.
    async fn command(&self, held: &mut Conversation, signals: &mut Signals) -> Result<(u8, bool), Failure> {
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(Failure::Usage("no command was given".to_owned()));
        };
        let mut child = Command::new(program).args(arguments).spawn().map_err(|error| Failure::Command {
            program: program.to_string_lossy().into_owned(),
            code: if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 },
            why: error.to_string(),
        })?;
        let pid = Pid::from_raw(child.id() as i32);
        let ended = tokio::task::spawn_blocking(move || child.wait());
        tokio::pin!(ended);
        let mut stands = true;
        loop {
            tokio::select! {
                status = &mut ended => {
                    let status = status.map_err(io::Error::other).and_then(|status| status);
                    let status = status.map_err(|error| Failure::Other(format!("the command is lost: {error}")))?;
                    return Ok((code(status), stands));
                }
                number = signals.next() => {
                    if let Some(number) = number {
                        // It may have ended just now.
                        let _ = kill(pid, number);
                    }
                }
                // The mount says nothing before it is asked to unlock: this is its end.
                _ = held.answer(), if stands => {
                    stands = false;
                    tracing::error!(path = %self.path.display(), "the lock is lost: the folder's program has ended");
                }
            }
        }
    }
}

/// As shells tell it.
fn code(status: ExitStatus) -> u8 {
    let signalled = || status.signal().map_or(1, |signal| 128 + signal);
    status.code().unwrap_or_else(signalled) as u8
}

/// The exit code of a program that a signal has ended.
const fn ended_by(signal: Number) -> u8 {
    128 + signal as u8
}

/// Signals that must not end this process before the command. The terminal sends the first two to the command, too.
struct Signals {
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one.
    async fn any(&mut self) -> Number {
        tokio::select! {
            _ = self.interrupt.recv() => Number::SIGINT,
            _ = self.quit.recv() => Number::SIGQUIT,
            _ = self.terminate.recv() => Number::SIGTERM,
            _ = self.hangup.recv() => Number::SIGHUP,
        }
    }

    /// What to pass on to the command, if anything.
    async fn next(&mut self) -> Option<Number> {
        Some(self.any().await).filter(|number| matches!(number, Number::SIGTERM | Number::SIGHUP))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_ended_a_command_is_told_as_shells_do() {
        assert_eq!(code(ExitStatus::from_raw(9)), 137);
        assert_eq!(code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(code(ExitStatus::from_raw(0)), 0);
    }
}
