//! Going to the background by starting a second copy of this program, never by forking: after a fork a process with
//! threads may do next to nothing, and on macOS the system's own libraries refuse to work.
//!
//! The copy tells this process on its standard output, one line of JSON each, how far it has come; this process prints
//! it, waits until the folder is mounted, and ends. From then on the copy has no terminal.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::folder;
use crate::printable::printable;

/// The hidden option that tells the copy that it is one.
pub const OPTION: &str = "background-copy";
/// How long a copy may take to say anything that does not wait for the network: each of its steps has a limit of its
/// own, and this is more than their sum.
const WORD_WITHIN: Duration = Duration::from_mins(3);
/// How long the folder may take to become a mount once the copy says so: macOS mounts behind the caller's back.
const APPEARS_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the copy says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Report {
    Ready { sentence: String },
    Failed { sentence: String, code: u8 },
}

/// Tells whoever started this process how far it has come.
#[derive(Debug, Clone, Copy)]
pub enum Reporter {
    /// A person, at the terminal.
    Terminal,
    /// The process of which this is the copy.
    Parent,
}

impl Reporter {
    /// The process that waits for the report and may be gone before it.
    pub fn parent(self) -> Option<Pid> {
        match self {
            Self::Terminal => None,
            Self::Parent => Some(nix::unistd::getppid()),
        }
    }

    /// Everything stands. An error means that nobody waits for it any more.
    pub fn ready(self, sentence: &str) -> io::Result<()> {
        match self {
            Self::Terminal => writeln!(io::stdout(), "{sentence}"),
            Self::Parent => {
                tell(&Report::Ready { sentence: sentence.to_owned() })?;
                detach_output()
            }
        }
    }

    /// It came to nothing.
    pub fn failed(self, failure: &Failure) {
        // It may hold names that others have given.
        let sentence = printable(&failure.to_string());
        // Nothing is left to be done about an output that is closed.
        let _ = match self {
            Self::Terminal => writeln!(io::stderr(), "s3files-fuse: {sentence}"),
            Self::Parent => tell(&Report::Failed { sentence, code: failure.code() }),
        };
    }
}

fn tell(report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, report)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Lets go of the pipe, so that whoever reads it to the end does not wait for the unmount.
fn detach_output() -> io::Result<()> {
    let null = std::fs::File::options().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(())
}

/// In the copy: leaves the terminal's session, so that closing the terminal does not end the mount.
pub fn leave_terminal() -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Other(format!("cannot go to the background: {error}"));
    nix::unistd::setsid().map_err(|error| failed(&error))?;
    // A file system that is somebody's working directory cannot be unmounted.
    std::env::set_current_dir("/").map_err(|error| failed(&error))
}

/// In the first process: starts the copy with the same arguments and waits until `folder` is mounted. Returns what
/// the copy wants to be printed. A copy that `waits_for_network` may take as long as it likes: until it is told to end,
/// or this process is gone.
pub fn start_copy<'a>(
    arguments: impl Iterator<Item = &'a OsString>,
    folder: &Path,
    waits_for_network: bool,
) -> Result<String, Failure> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Failure::Other(format!("the background process {what} ({error}); try again with --foreground to see why"))
    };
    let before = folder::device(folder);
    let program = std::env::current_exe().map_err(|error| failed("could not be started", &error))?;
    let mut copy = Command::new(program)
        .args(with_option(arguments))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed("could not be started", &error))?;
    let limit = if waits_for_network { None } else { Some(WORD_WITHIN) };
    let said = match copy.stdout.take().map(|output| first_line(output, limit)) {
        Some(Heard::Line(line)) => line,
        Some(Heard::Nothing) => {
            end(&mut copy, folder);
            return Err(failed("did not get anywhere", &format!("no word for {} s", WORD_WITHIN.as_secs())));
        }
        Some(Heard::Error(error)) => return Err(failed("cannot be heard", &error)),
        None => String::new(),
    };
    match serde_json::from_str(&said) {
        Ok(Report::Ready { sentence }) => {
            wait_for_mount(folder, before)?;
            Ok(sentence)
        }
        Ok(Report::Failed { sentence, code }) => {
            // It has nothing more to do; its end is waited for so that nothing half-done is left when we return.
            let _ = copy.wait();
            Err(Failure::Told { sentence, code })
        }
        Err(_) => match copy.wait() {
            Ok(status) => Err(failed("ended without a word", &status)),
            Err(error) => Err(failed("was lost", &error)),
        },
    }
}

enum Heard {
    Line(String),
    Error(io::Error),
    Nothing,
}

/// Reads a line for at most so long, if there is a limit.
fn first_line(output: ChildStdout, limit: Option<Duration>) -> Heard {
    let (tell, told) = mpsc::sync_channel(1);
    // It ends with the line, or with this process.
    let reading = std::thread::Builder::new().spawn(move || {
        let mut line = String::new();
        let outcome = BufReader::new(output).read_line(&mut line).map(|_| line);
        // Nobody waits for it any more when the time is over.
        let _ = tell.send(outcome);
    });
    let outcome = match limit {
        Some(limit) => told.recv_timeout(limit).ok(),
        None => told.recv().ok(),
    };
    match (reading, outcome) {
        (Err(error), _) | (_, Some(Err(error))) => Heard::Error(error),
        (_, Some(Ok(line))) => Heard::Line(line),
        (_, None) => Heard::Nothing,
    }
}

/// Ends a copy that got nowhere, and takes away what it may have mounted.
fn end(copy: &mut Child, folder: &Path) {
    // An error means that it has ended already.
    let _ = copy.kill();
    let _ = copy.wait();
    if folder::state(folder) == folder::State::Dead
        && let Err(error) = crate::fuse::unmount(folder, true)
    {
        tracing::warn!(%error, "the folder stays mounted");
    }
}

/// The arguments with the hidden option: behind a `--` it would be a name.
fn with_option<'a>(arguments: impl Iterator<Item = &'a OsString>) -> Vec<OsString> {
    let mut all: Vec<OsString> = arguments.cloned().collect();
    let at = all.iter().position(|argument| argument == "--").unwrap_or(all.len());
    all.insert(at, format!("--{OPTION}").into());
    all
}

fn wait_for_mount(folder: &Path, before: Option<u64>) -> Result<(), Failure> {
    let start = Instant::now();
    while folder::device(folder) == before {
        if start.elapsed() > APPEARS_WITHIN {
            return Err(Failure::Mount {
                folder: folder.to_owned(),
                detail: format!("it did not appear within {} s", APPEARS_WITHIN.as_secs()),
            });
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_copy_that_says_nothing_is_not_waited_for_without_end() {
        let run = |script: &str, limit: Option<Duration>| {
            let copy = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn();
            let mut copy = copy.unwrap();
            let heard = first_line(copy.stdout.take().unwrap(), limit);
            end(&mut copy, Path::new("/nonexistent"));
            heard
        };
        let limit = Some(Duration::from_secs(2));
        assert!(matches!(run("exec sleep 600", limit), Heard::Nothing));
        for limit in [limit, None] {
            assert!(matches!(run("echo one; exec sleep 600", limit), Heard::Line(line) if line == "one\n"));
            assert!(matches!(run("exit 3", limit), Heard::Line(line) if line.is_empty()));
        }
    }

    #[test]
    fn the_hidden_option_stands_before_the_end_of_options() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(with_option(words("mount a b").iter()), words("mount a b --background-copy"));
        assert_eq!(with_option(words("mount -o ro -- a b").iter()), words("mount -o ro --background-copy -- a b"));
    }
}
