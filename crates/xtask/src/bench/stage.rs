//! Where a line is played: a server that shows the files, the link in front of it, and mounts of the release binary.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use serde_json::Value;
use tempfile::TempDir;
use xtask::ganesha::{EXPORT, Ganesha, Grace};

use super::program;
use crate::mounted::{Mounted, folder_of, is_mounted, prepare, product_command};
use crate::succeed;

const READY: Duration = Duration::from_mins(2);
const UNMOUNT: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long what was started behind a program's back may go on before it is not counted any more.
const BEHIND: Duration = Duration::from_millis(30);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The mock as Amazon S3 Files is.
    Mock,
    /// nfs-ganesha behind the mock's link.
    Ganesha,
}

impl Kind {
    /// Its name in tables and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mock => "mock",
            Self::Ganesha => "ganesha",
        }
    }
}

/// The link between client and server.
#[derive(Debug, Clone, Copy)]
pub struct LinkTo {
    /// Round trip time in milliseconds.
    pub rtt: u64,
    /// Megabits per second, if there is a limit.
    pub mbit: Option<u64>,
}

/// Where a server keeps its files: in memory, where there is a place for that. The disk of whoever measures is not what is
/// measured, and a server's own disk is at the server.
fn in_memory() -> PathBuf {
    const SHM: &str = "/dev/shm";
    if tempfile::tempfile_in(SHM).is_ok() { PathBuf::from(SHM) } else { std::env::temp_dir() }
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// How long it took.
    pub wall: Duration,
    /// What is judged where that is not the wall time.
    pub value: Option<f64>,
    /// RPC calls.
    pub requests: Option<u64>,
    /// NFS operations, where the server counts them.
    pub operations: Option<u64>,
}

/// A server, its link, and a place to mount it.
#[derive(Debug)]
pub struct Stage {
    /// Which server.
    pub kind: Kind,
    programs: PathBuf,
    tls: bool,
    front: Child,
    talk: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
    ready: Value,
    link: Cell<LinkTo>,
    next: Cell<usize>,
    next_tree: Cell<usize>,
    lab: TempDir,
    _ganesha: Option<Ganesha>,
}

impl Stage {
    /// Starts a server that shows a copy of `data`.
    pub fn start(programs: &Path, kind: Kind, data: &Path, tls: bool) -> anyhow::Result<Self> {
        let lab = tempfile::Builder::new().prefix("s3files-bench-").tempdir_in(in_memory())?;
        let ready_file = lab.path().join("ready.json");
        let mut front = Command::new(programs.join("mock-mount-target"));
        front.args(["serve", "--control", "--plain-listen", "127.0.0.1:0", "--ready-file"]).arg(&ready_file);
        let ganesha = match kind {
            Kind::Mock => {
                front.arg("--dir").arg(data);
                None
            }
            Kind::Ganesha => {
                let ganesha = Ganesha::start(&lab.path().join("ganesha"), Grace::None)?;
                let copy = lab.path().join("ganesha/export");
                succeed(Command::new("cp").arg("-a").arg(data.join(".")).arg(copy))?;
                front.arg("--forward").arg(ganesha.address().to_string());
                Some(ganesha)
            }
        };
        let log = File::create(lab.path().join("mock.log"))?;
        let mut front = front.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let input = front.stdin.take().context("the mock's input")?;
        let output = BufReader::new(front.stdout.take().context("the mock's output")?);
        let link = Cell::new(LinkTo { rtt: 0, mbit: None });
        let mut stage = Self {
            kind,
            programs: programs.to_owned(),
            tls,
            front,
            talk: RefCell::new((input, output)),
            ready: Value::Null,
            link,
            next: Cell::new(0),
            next_tree: Cell::new(0),
            lab,
            _ganesha: ganesha,
        };
        let start = Instant::now();
        while !ready_file.exists() {
            ensure!(stage.front.try_wait()?.is_none(), "the mock ended at once");
            ensure!(start.elapsed() < READY, "the mock does not get ready");
            std::thread::sleep(LOOK_EVERY);
        }
        stage.ready = serde_json::from_str(&fs::read_to_string(&ready_file)?)?;
        Ok(stage)
    }

    fn ask(&self, line: &str) -> anyhow::Result<Value> {
        let mut talk = self.talk.borrow_mut();
        writeln!(talk.0, "{line}")?;
        talk.0.flush()?;
        loop {
            let mut answer = String::new();
            ensure!(talk.1.read_line(&mut answer)? > 0, "the mock has ended");
            // Before the first answer it introduces itself.
            if answer.starts_with('{') {
                let answer: Value = serde_json::from_str(&answer)?;
                ensure!(answer["error"].is_null(), "the mock refuses `{line}`: {}", answer["error"]);
                return Ok(answer);
            }
        }
    }

    /// Changes the link.
    pub fn set_link(&self, link: LinkTo) -> anyhow::Result<()> {
        let rate = link.mbit.map_or_else(String::new, |mbit| format!(" {mbit}mbit"));
        self.ask(&format!("link {}ms{rate}", link.rtt))?;
        self.link.set(link);
        Ok(())
    }

    /// The round trip time.
    pub fn rtt(&self) -> Duration {
        Duration::from_millis(self.link.get().rtt)
    }

    /// A number that was not given out before.
    pub fn next(&self) -> usize {
        self.next.replace(self.next.get() + 1)
    }

    /// The number of a tree that nobody has removed yet.
    pub fn next_tree(&self) -> usize {
        self.next_tree.replace(self.next_tree.get() + 1)
    }

    fn arguments(&self, further: &[&str]) -> anyhow::Result<Vec<String>> {
        let folder = folder_of(self.lab.path());
        let folder = folder.to_str().context("a folder that is not UTF-8")?;
        let mut arguments: Vec<String> = if self.tls {
            let all = self.ready["mount_arguments"].as_array().context("the mock does not say how to mount it")?;
            let all = all.iter().filter_map(Value::as_str);
            all.map(|word| if word == "FOLDER" { folder } else { word }.to_owned()).collect()
        } else {
            let address = self.ready["plain_address"].as_str().context("the mock has no door without TLS")?;
            ["mount", address, folder, "--plain"].map(str::to_owned).to_vec()
        };
        if self.kind == Kind::Ganesha {
            arguments.extend(["--path".to_owned(), EXPORT.to_owned()]);
        }
        arguments.extend(further.iter().map(|&word| word.to_owned()));
        Ok(arguments)
    }

    fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        let variables = self.ready["environment"].as_object().into_iter().flatten();
        variables.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
    }

    /// A mount that nothing was done in yet.
    pub fn mount(&self, further: &[&str]) -> anyhow::Result<Place<'_>> {
        let mounted = Mounted::mount(&self.programs, self.lab.path(), &self.arguments(further)?, self.environment())?;
        Ok(Place { stage: self, folder: mounted.folder(), mounted })
    }

    /// Mounts as a user does, in the background, for the time that it takes, and unmounts.
    pub fn mount_and_unmount(&self, limit: Duration) -> anyhow::Result<Sample> {
        let folder = prepare(self.lab.path())?;
        let _guard = Detach(&folder);
        let mut command = product_command(&self.programs.join("s3files-fuse"), self.lab.path());
        command.args(self.arguments(&[])?).envs(self.environment()).stdout(Stdio::null());
        let sample = self.measure(|| program::timed(&mut command, limit, None))?;
        let mut command = product_command(&self.programs.join("s3files-fuse"), self.lab.path());
        program::timed(command.arg("umount").arg(&folder).stdout(Stdio::null()), UNMOUNT, None)?;
        Ok(sample)
    }

    /// Takes the time of a verb that needs no mount.
    pub fn run(&self, verb: &str, further: &[&str], limit: Duration) -> anyhow::Result<Sample> {
        let mut arguments = self.arguments(further)?;
        verb.clone_into(&mut arguments[0]);
        arguments.remove(2);
        let mut command = product_command(&self.programs.join("s3files-fuse"), self.lab.path());
        command.args(arguments).envs(self.environment()).stdout(Stdio::null());
        self.measure(|| program::timed(&mut command, limit, None))
    }

    /// Whether the product has an option of `mount`.
    pub fn has_option(&self, option: &str) -> anyhow::Result<bool> {
        let mut help = product_command(&self.programs.join("s3files-fuse"), self.lab.path());
        let output = help.args(["mount", "--help"]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).contains(option))
    }

    /// Counts what the server does meanwhile, what goes on behind the work's back included.
    pub fn measure(&self, work: impl FnOnce() -> anyhow::Result<Duration>) -> anyhow::Result<Sample> {
        let counts = |answer: Value| (answer["calls"].as_u64(), answer["operations"].as_u64());
        let before = counts(self.ask("counters")?);
        let wall = work()?;
        std::thread::sleep(2 * self.rtt() + BEHIND);
        let after = counts(self.ask("counters")?);
        let since = |before: Option<u64>, after: Option<u64>| Some(after?.saturating_sub(before?));
        Ok(Sample { wall, value: None, requests: since(before.0, after.0), operations: since(before.1, after.1) })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.front.kill();
        let _ = self.front.wait();
    }
}

/// Takes a mount away that `umount` has not.
struct Detach<'a>(&'a Path);

impl Drop for Detach<'_> {
    fn drop(&mut self) {
        if is_mounted(self.0) {
            let _ = Command::new("umount").arg("-l").arg(self.0).output();
        }
    }
}

/// A mounted folder.
#[derive(Debug)]
pub struct Place<'a> {
    /// Where it stands.
    pub stage: &'a Stage,
    /// The folder.
    pub folder: PathBuf,
    mounted: Mounted,
}

impl Place<'_> {
    /// Takes the time of a program that works in the folder.
    pub fn run(&self, command: &mut Command, limit: Duration) -> anyhow::Result<Sample> {
        let daemon = Some(self.mounted.process());
        self.stage.measure(|| program::timed(command.stdout(Stdio::null()), limit, daemon))
    }

    /// Takes the time of a script of a shell that stands in a directory of the folder already.
    pub fn run_standing(&self, dir: &Path, script: &str, limit: Duration) -> anyhow::Result<Sample> {
        // The shell begins when its input ends.
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("read start; {script}")]).current_dir(dir);
        shell.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut shell = program::Running::start(&mut shell, limit, Some(self.mounted.process()))?;
        std::thread::sleep(2 * self.stage.rtt() + BEHIND);
        self.stage.measure(|| {
            let start = Instant::now();
            shell.close_input();
            Ok(shell.wait()? - start)
        })
    }

    /// Takes the time of work of this process in the folder.
    pub fn run_here(&self, work: impl FnOnce() -> anyhow::Result<()>, limit: Duration) -> anyhow::Result<Sample> {
        let daemon = self.mounted.process();
        self.stage.measure(|| program::timed_here(work, limit, daemon))
    }

    /// MiB of the daemon's memory by the name of a line of `/proc/PID/status`.
    pub fn memory(&self, name: &str) -> anyhow::Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.mounted.process()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)).context("a line of the daemon's status")?;
        let number = line.trim_start_matches(':').split_whitespace().next().context("a number")?;
        Ok(number.parse::<f64>()? / 1024.0)
    }

    /// Unmounts; everything must get written.
    pub fn unmount(self) -> anyhow::Result<()> {
        self.mounted.umount(UNMOUNT)
    }
}
