//! The servers that suites run on: the mock in both profiles, and nfs-ganesha behind the mock's TLS and IAM.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use xtask::ganesha::{EXPORT, Ganesha, Grace};

const LIMIT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lease of the mock where it restarts on purpose: nobody waits longer for the end of a grace period.
const SHORT_LEASE: &str = "10";

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The mock as Amazon S3 Files is.
    Mock,
    /// The mock as a good NFSv4.2 server.
    MockFull,
    /// nfs-ganesha.
    Ganesha,
}

impl Kind {
    /// Its name on the command line, in the table and in the names of the lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mock => "mock",
            Self::MockFull => "mock-full",
            Self::Ganesha => "ganesha",
        }
    }

    /// Whether a referee watches, and failures can be had on purpose.
    pub fn is_mock(self) -> bool {
        self != Self::Ganesha
    }
}

/// What the mock says at its end.
#[derive(Debug)]
pub struct Ending {
    /// The mistakes that it saw its client make.
    pub mistakes: Vec<String>,
    /// How often it failed on purpose.
    pub failures: u64,
}

/// A server that serves until this is dropped.
#[derive(Debug)]
pub struct Serving {
    front: Child,
    ready: Value,
    path: &'static str,
    messages: PathBuf,
    _ganesha: Option<Ganesha>,
}

impl Serving {
    /// Starts it, with everything that it writes below `lab`. `faults` is a plan of failures.
    pub fn start(programs: &Path, lab: &Path, kind: Kind, faults: Option<&str>) -> anyhow::Result<Self> {
        let dir = lab.join("server");
        fs::create_dir_all(&dir)?;
        let (ready, messages) = (dir.join("ready.json"), dir.join("messages"));
        let mut front = Command::new(programs.join("mock-mount-target"));
        front.args(["serve", "--judge", "--ready-file"]).arg(&ready).arg("--state-dir").arg(dir.join("state"));
        let ganesha = match kind {
            Kind::Mock => None,
            Kind::MockFull => {
                front.args(["--profile", "full"]);
                None
            }
            Kind::Ganesha => Some(Ganesha::start(&dir.join("ganesha"), Grace::None)?),
        };
        if let Some(ganesha) = &ganesha {
            front.arg("--forward").arg(ganesha.address().to_string());
        }
        if let Some(plan) = faults {
            let file = dir.join("faults.toml");
            fs::write(&file, plan)?;
            front.arg("--faults").arg(file).args(["--lease", SHORT_LEASE]);
        }
        let output = fs::File::create(&messages)?;
        front.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let front = front.spawn().context("starting mock-mount-target")?;
        let path = if ganesha.is_some() { EXPORT } else { "/" };
        let mut serving = Self { front, ready: Value::Null, path, messages, _ganesha: ganesha };
        let start = Instant::now();
        while !ready.exists() {
            ensure!(serving.front.try_wait()?.is_none(), "the mock ended at once: {}", serving.messages());
            ensure!(start.elapsed() < LIMIT, "the mock does not get ready: {}", serving.messages());
            std::thread::sleep(LOOK_EVERY);
        }
        serving.ready = serde_json::from_str(&fs::read_to_string(&ready)?)?;
        Ok(serving)
    }

    /// The arguments of `s3files-fuse` that mount it on a folder.
    pub fn mount_arguments(&self, folder: &Path) -> anyhow::Result<Vec<String>> {
        let folder = folder.to_str().context("a folder that is not UTF-8")?;
        let arguments = self.ready["mount_arguments"].as_array().context("the mock does not say how to mount it")?;
        let arguments = arguments.iter().filter_map(Value::as_str);
        let mut arguments: Vec<String> =
            arguments.map(|word| if word == "FOLDER" { folder.to_owned() } else { word.to_owned() }).collect();
        arguments.extend(["--path".to_owned(), self.path.to_owned()]);
        Ok(arguments)
    }

    /// The credentials, as environment variables.
    pub fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        let variables = self.ready["environment"].as_object().into_iter().flatten();
        variables.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
    }

    /// Ends it.
    pub fn stop(mut self) -> anyhow::Result<Ending> {
        kill(Pid::from_raw(self.front.id() as i32), Signal::SIGTERM)?;
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.front.try_wait()? {
                break status;
            }
            ensure!(start.elapsed() < LIMIT, "the mock does not end");
            std::thread::sleep(LOOK_EVERY);
        };
        let text = self.messages();
        let mistakes: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("mistake: "))
            .map(|what| format!("the referee: {what}"))
            .collect();
        if mistakes.is_empty() && !status.success() {
            bail!("the mock ended with {status}: {text}");
        }
        let failures = text.lines().find_map(|line| line.strip_prefix("failures on purpose: "));
        let failures =
            failures.and_then(|number| number.parse().ok()).context("the mock does not say how often it failed")?;
        Ok(Ending { mistakes, failures })
    }

    /// What it printed, without the credentials.
    fn messages(&self) -> String {
        let text = fs::read_to_string(&self.messages).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("export ")).collect();
        lines.join("\n")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has ended already when everything went well.
        let _ = self.front.kill();
        let _ = self.front.wait();
    }
}
