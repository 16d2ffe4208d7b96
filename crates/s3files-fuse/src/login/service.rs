//! The service manager of this system: files in its folder, commands carried out.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Job, OnFailure, PREFIX, Step};

/// Whether a job runs already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// Now and at every login.
    Now,
    /// At the next login only: the manager cannot be spoken to, for this reason.
    Later(String),
}

/// The folders of this user.
#[derive(Debug)]
pub struct Service {
    /// `HOME`, or on Linux the configuration folder.
    base: PathBuf,
}

fn folder_in(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(target_os = "macos")]
impl Service {
    /// This user's.
    pub fn of_user() -> Option<Self> {
        Some(Self { base: folder_in("HOME")? })
    }

    /// Where the file of a job lies.
    pub fn file(&self, name: &str) -> PathBuf {
        super::launchd::file(&self.base, name)
    }

    /// launchd starts whatever lies in its folder.
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)] // as on Linux
    fn wanted(&self, _name: &str) -> Option<PathBuf> {
        None
    }

    fn text(&self, job: &Job) -> io::Result<Vec<u8>> {
        fs::create_dir_all(super::launchd::logs(&self.base))?;
        let mut text = Vec::new();
        super::launchd::list(job, &self.base).to_writer_xml(&mut text).map_err(io::Error::other)?;
        Ok(text)
    }

    fn read(_name: &str, file: &Path) -> Option<Job> {
        super::launchd::read(file)
    }

    fn start(&self, job: &Job) -> Vec<Step> {
        super::launchd::start(job, &self.file(&job.name), nix::unistd::getuid().as_raw())
    }

    fn stop(name: &str) -> Vec<Step> {
        super::launchd::stop(name, nix::unistd::getuid().as_raw())
    }

    fn state(name: &str) -> Step {
        super::launchd::state(name, nix::unistd::getuid().as_raw())
    }
}

#[cfg(not(target_os = "macos"))]
impl Service {
    /// This user's.
    pub fn of_user() -> Option<Self> {
        let base = folder_in("XDG_CONFIG_HOME").or_else(|| Some(folder_in("HOME")?.join(".config")))?;
        Some(Self { base })
    }

    /// Where the file of a job lies.
    pub fn file(&self, name: &str) -> PathBuf {
        super::systemd::file(&self.base, name)
    }

    /// The link without which nothing starts the job at a login.
    #[allow(clippy::unnecessary_wraps)] // as on the Mac
    fn wanted(&self, name: &str) -> Option<PathBuf> {
        Some(super::systemd::wanted(&self.base, name))
    }

    #[allow(clippy::unused_self)] // as on the Mac
    fn text(&self, job: &Job) -> io::Result<Vec<u8>> {
        Ok(super::systemd::unit(job)?.into_bytes())
    }

    fn read(name: &str, file: &Path) -> Option<Job> {
        super::systemd::read(name, &fs::read_to_string(file).ok()?)
    }

    #[allow(clippy::unused_self)]
    fn start(&self, job: &Job) -> Vec<Step> {
        super::systemd::start(job)
    }

    fn stop(name: &str) -> Vec<Step> {
        super::systemd::stop(name)
    }

    fn state(name: &str) -> Step {
        super::systemd::state(name)
    }
}

impl Service {
    /// All jobs, by name; with what is in their files, where that is ours to read.
    pub fn list(&self) -> Vec<(String, Option<Job>)> {
        let probe = self.file("x");
        let (Some(folder), Some(ending)) = (probe.parent(), probe.extension()) else { return Vec::new() };
        let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut jobs: Vec<_> = files
            .filter(|file| file.extension() == Some(ending))
            .filter_map(|file| {
                let name = file.file_stem()?.to_str()?.to_owned();
                name.starts_with(PREFIX).then(|| (name.clone(), Self::read(&name, &file)))
            })
            .collect();
        jobs.sort_by(|one, other| one.0.cmp(&other.0));
        jobs
    }

    /// Writes the job's file and starts it. If it cannot be started, nothing is left behind.
    pub fn install(&self, job: &Job) -> io::Result<Started> {
        let file = self.file(&job.name);
        let text = self.text(job)?;
        write(&file, &text)?;
        for step in self.start(job) {
            match (carry_out(&step), step.on_failure) {
                (Err(error), OnFailure::Later) => {
                    if let Err(error) = self.enable(&job.name) {
                        self.forget(&job.name)?;
                        return Err(error);
                    }
                    return Ok(Started::Later(error));
                }
                (Err(error), OnFailure::Fail) => {
                    self.forget(&job.name)?;
                    return Err(io::Error::other(error));
                }
                (Ok(()), _) | (Err(_), OnFailure::GoOn) => {}
            }
        }
        Ok(Started::Now)
    }

    /// Ends a job and removes its file.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        for step in Self::stop(name) {
            if let Err(error) = carry_out(&step) {
                tracing::info!(error, "the job could not be stopped");
            }
        }
        self.forget(name)
    }

    /// Has the job started at every login without asking the service manager, who reads it only then.
    fn enable(&self, name: &str) -> io::Result<()> {
        let Some(link) = self.wanted(name) else { return Ok(()) };
        if let Some(folder) = link.parent() {
            fs::create_dir_all(folder)?;
        }
        // One of this name may be there from before.
        remove_if_there(&link)?;
        symlink(self.file(name), link)
    }

    /// Removes what is there of a job, also what the service manager could not be asked to remove.
    fn forget(&self, name: &str) -> io::Result<()> {
        if let Some(link) = self.wanted(name) {
            remove_if_there(&link)?;
        }
        fs::remove_file(self.file(name))
    }

    /// Whether a job runs.
    pub fn runs(name: &str) -> bool {
        carry_out(&Self::state(name)).is_ok()
    }
}

fn remove_if_there(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whoever reads it sees all of it or nothing.
fn write(file: &Path, text: &[u8]) -> io::Result<()> {
    let folder = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let mut whole = tempfile::NamedTempFile::new_in(folder)?;
    whole.write_all(text)?;
    whole.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
    whole.persist(file)?;
    Ok(())
}

/// The error is a sentence.
fn carry_out(step: &Step) -> Result<(), String> {
    let Some((program, arguments)) = step.command.split_first() else { return Ok(()) };
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program} cannot be started ({error})"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(format!("`{}` ended with {}: {said}", step.command.join(" "), output.status))
}
