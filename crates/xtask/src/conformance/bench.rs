//! The place that a suite works at: a folder in the mount, a place outside, a log, and a time limit that also holds for
//! programs that hang in the kernel.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::program::Tools;
use crate::mounted::Mounted;

const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long a program may take to die once nothing holds it.
const DYING: Duration = Duration::from_secs(5);

/// Where a suite works.
#[derive(Debug)]
pub struct Bench<'a> {
    /// A folder in the mount.
    pub folder: PathBuf,
    /// A folder on a local disk.
    pub outside: PathBuf,
    /// This repository.
    pub root: &'a Path,
    /// The programs.
    pub tools: &'a Tools,
    /// Whether the run shall be short.
    pub bounded: bool,
    log: PathBuf,
    daemon: Pid,
    deadline: Instant,
}

/// What a program did.
#[derive(Debug)]
pub struct Done {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed, both outputs together.
    pub text: String,
}

/// A program that runs beside others.
#[derive(Debug)]
pub struct Running {
    child: Child,
    what: String,
    from: u64,
    output: PathBuf,
}

impl<'a> Bench<'a> {
    /// A bench in `mounted`, with a log of its own.
    pub fn new(
        mounted: &Mounted,
        lab: &Path,
        log: &Path,
        tools: &'a Tools,
        root: &'a Path,
        bounded: bool,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let outside = lab.join("outside");
        fs::create_dir_all(&outside)?;
        File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let daemon = Pid::from_raw(mounted.process() as i32);
        let deadline = Instant::now() + limit;
        Ok(Self { folder: mounted.folder(), outside, root, tools, bounded, log: log.to_owned(), daemon, deadline })
    }

    /// The one for a short run, or the one for a whole run.
    pub fn scale<T>(&self, bounded: T, whole: T) -> T {
        if self.bounded { bounded } else { whole }
    }

    /// A new folder in the mount.
    pub fn new_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir(&folder).with_context(|| format!("creating {}", folder.display()))?;
        Ok(folder)
    }

    /// A remark in the log.
    pub fn note(&self, text: &str) -> anyhow::Result<()> {
        super::note(&self.log, text)
    }

    /// Runs a program to its end.
    pub fn run(&self, command: &mut Command) -> anyhow::Result<Done> {
        let running = start(command, &self.log.clone(), Stdio::null())?;
        self.wait(running)
    }

    /// Runs a program that must succeed, and gives what it printed.
    pub fn ok(&self, command: &mut Command) -> anyhow::Result<String> {
        let done = self.run(command)?;
        ensure!(done.status.success(), "{} ended with {}: {}", name_of(command), done.status, last_lines(&done.text));
        Ok(done.text)
    }

    /// Starts a program that reads `input` and writes into a file of its own; wait for it with [`Self::wait`].
    pub fn beside(&self, command: &mut Command, name: &str, input: &Path) -> anyhow::Result<Running> {
        start(command, &self.outside.join(format!("{name}.output")), File::open(input)?.into())
    }

    /// Waits for a program; when the suite's time is over, it is ended.
    pub fn wait(&self, mut running: Running) -> anyhow::Result<Done> {
        let status = loop {
            if let Some(status) = running.child.try_wait()? {
                break status;
            }
            if Instant::now() > self.deadline {
                self.end(&mut running.child);
                bail!("{} was still running when the suite's time was over", running.what);
            }
            std::thread::sleep(LOOK_EVERY);
        };
        // What it has started and left behind would keep the folder busy.
        let _ = killpg(Pid::from_raw(running.child.id() as i32), Signal::SIGKILL);
        let mut file = File::open(&running.output)?;
        file.seek(SeekFrom::Start(running.from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Done { status, text: String::from_utf8_lossy(&bytes).into_owned() })
    }

    /// Ends a program and its children. One that hangs in the folder can only be ended together with the mount.
    fn end(&self, child: &mut Child) {
        // Whoever has ended meanwhile needs no signal.
        let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
        let start = Instant::now();
        while start.elapsed() < DYING {
            if matches!(child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = kill(self.daemon, Signal::SIGKILL);
        let _ = child.wait();
    }
}

fn start(command: &mut Command, output: &Path, input: Stdio) -> anyhow::Result<Running> {
    let mut file = File::options().create(true).append(true).open(output)?;
    writeln!(file, "\n$ {command:?}")?;
    let from = file.seek(SeekFrom::End(0))?;
    let what = name_of(command);
    // A group of its own, so that all of it can be ended.
    let child = command.stdin(input).stdout(file.try_clone()?).stderr(file).process_group(0).spawn();
    let child = child.with_context(|| format!("starting {command:?}"))?;
    Ok(Running { child, what, from, output: output.to_owned() })
}

fn name_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let first = command.get_args().next().unwrap_or_default().to_string_lossy();
    format!("`{name} {first}`")
}

/// The end of a text, for an error.
pub fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(4)..].join(" | ")
}
