//! Folders that are there at every login: a job of the system's service manager for each.
//!
//! The one idea: **the job is the command line that a person would type**, `mount --foreground …`, so that there is
//! nothing in it that `mount` does not check, and nothing secret: credentials stay where AWS's tools keep them, and the job
//! names the profile. [`launchd`] and [`systemd`] turn it into a file and into commands; [`service`] carries those out.

mod absolute;
#[cfg(any(target_os = "macos", test))]
mod launchd;
mod service;
#[cfg(any(not(target_os = "macos"), test))]
mod systemd;

pub use absolute::make_absolute;
pub use service::{Service, Started};

use std::path::Path;

/// Begins the names of all jobs and their files.
const PREFIX: &str = "s3files-fuse.";

/// What starts at a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The job's name for the service manager.
    pub name: String,
    /// The program and its arguments.
    pub command: Vec<String>,
}

impl Job {
    /// The job of `folder`, an absolute path. The name is the folder's, as far as service managers take it, and a number
    /// that tells it from others of the same name.
    pub fn new(folder: &Path, command: Vec<String>) -> Self {
        let last = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let readable: String = last
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .take(40)
            .collect();
        let number = crate::control::fnv(folder.as_os_str().as_encoded_bytes()) as u32;
        Self { name: format!("{PREFIX}{}.{number:08x}", readable.trim_matches('-')), command }
    }

    /// What follows `mount` in the command.
    pub fn mount_arguments(&self) -> &[String] {
        self.command.get(2..).unwrap_or_default()
    }
}

/// One command of the service manager.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    command: Vec<String>,
    /// What its failure means.
    on_failure: OnFailure,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnFailure {
    /// Nothing: it only clears the way.
    GoOn,
    /// Nobody is there who could do it now; what lies in the manager's folders is enough for the next login.
    #[cfg_attr(target_os = "macos", allow(dead_code))] // launchd is always there
    Later,
    /// It came to nothing.
    Fail,
}

impl Step {
    fn new(on_failure: OnFailure, command: &[&str]) -> Self {
        Self { command: command.iter().map(|word| (*word).to_owned()).collect(), on_failure }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn each_folder_has_a_name_that_service_managers_take() {
        let name = |folder: &str| Job::new(Path::new(folder), Vec::new()).name;
        assert!(name("/home/a/Our Data").starts_with("s3files-fuse.our-data."));
        assert_ne!(name("/a/data"), name("/b/data"));
        assert_eq!(name("/a/data"), name("/a/data"));
        for folder in ["/", "/a/ü%i", "/a/$(x)", &format!("/{}", "x".repeat(250))] {
            let name = name(folder);
            let fit = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
            assert!(name.len() < 70 && name.chars().all(fit), "{name}");
        }
    }
}
