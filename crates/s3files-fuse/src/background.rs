//! Going to the background by starting a second copy of this program, never by forking: after a fork a process with
//! threads may do next to nothing, and on macOS the system's own libraries refuse to work.
//!
//! The copy tells this process on its standard output, one line of JSON each, how far it has come; this process prints
//! it, waits until the folder is mounted, and ends. From then on the copy has no terminal.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::folder;

/// The hidden option that tells the copy that it is one.
pub const OPTION: &str = "background-copy";
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
        let sentence = failure.to_string();
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
/// the copy wants to be printed.
pub fn start_copy(arguments: impl Iterator<Item = OsString>, folder: &Path) -> Result<String, Failure> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Failure::Other(format!("the background process {what} ({error}); try again with --foreground to see why"))
    };
    let before = folder::device(folder);
    let program = std::env::current_exe().map_err(|error| failed("could not be started", &error))?;
    let mut copy = Command::new(program)
        .args(arguments)
        .arg(format!("--{OPTION}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed("could not be started", &error))?;
    let mut said = String::new();
    if let Some(output) = copy.stdout.take() {
        BufReader::new(output).read_line(&mut said).map_err(|error| failed("cannot be heard", &error))?;
    }
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
