//! A job as a user unit of systemd.
//!
//! The command stands in it twice: as `ExecStart` for systemd, and as JSON in a section of our own (systemd passes over
//! sections that begin with `X-`), so that nobody has to read systemd's quoting back.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{Job, OnFailure, Step};

/// The line of our own.
const COMMAND: &str = "Command=";
/// What every login reaches.
const TARGET: &str = "default.target";

/// Where the file lies; `config` is the user's configuration folder.
pub fn file(config: &Path, name: &str) -> PathBuf {
    config.join("systemd/user").join(unit_name(name))
}

/// What has the user's manager start the job at every login: the link that `systemctl enable` makes of `WantedBy`.
pub fn wanted(config: &Path, name: &str) -> PathBuf {
    config.join("systemd/user").join(format!("{TARGET}.wants")).join(unit_name(name))
}

fn unit_name(name: &str) -> String {
    format!("{name}.service")
}

/// The unit's text.
pub fn unit(job: &Job) -> Result<String, serde_json::Error> {
    let command: Vec<_> = job.command.iter().map(|word| quote(word)).collect();
    Ok(format!(
        "[Unit]\n\
         Description=A folder of Amazon S3 Files\n\
         # However often it has failed, the network may be there the next time.\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         ExecStart={}\n\
         Restart=on-failure\n\
         RestartSec=30\n\
         # What was written must reach the server first.\n\
         TimeoutStopSec=120\n\
         \n\
         [Install]\n\
         WantedBy={TARGET}\n\
         \n\
         [X-s3files-fuse]\n\
         {COMMAND}{}\n",
        command.join(" "),
        serde_json::to_string(&job.command)?
    ))
}

/// The job in a unit's text.
pub fn read(name: &str, text: &str) -> Option<Job> {
    let command = text.lines().find_map(|line| line.strip_prefix(COMMAND))?;
    Some(Job { name: name.to_owned(), command: serde_json::from_str(command).ok()? })
}

/// A word of a command as systemd.service(5) wants it: quoted, and with nothing that is expanded.
fn quote(word: &str) -> String {
    let mut quoted = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '%' | '$' => quoted.extend([c, c]),
            c if c.is_ascii_control() => {
                // A String takes every write.
                let _ = write!(quoted, "\\x{:02x}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Starts the job now and at every login.
pub fn start(job: &Job) -> Vec<Step> {
    vec![
        Step::new(OnFailure::Later, &["systemctl", "--user", "daemon-reload"]),
        Step::new(OnFailure::Fail, &["systemctl", "--user", "enable", "--now", &unit_name(&job.name)]),
    ]
}

/// Ends it for good.
pub fn stop(name: &str) -> Vec<Step> {
    vec![Step::new(OnFailure::GoOn, &["systemctl", "--user", "disable", "--now", &unit_name(name)])]
}

/// Succeeds while the job runs.
pub fn state(name: &str) -> Step {
    Step::new(OnFailure::GoOn, &["systemctl", "--user", "is-active", "--quiet", &unit_name(name)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn job() -> Job {
        let words = ["/usr/bin/s3files-fuse", "mount", "--foreground", "--wait-for-network", "--profile", "work"];
        let words = words.into_iter().chain(["fs-0123456789abcdef0", "/home/ada/100% \"our\" $data"]);
        Job::new(Path::new("/home/ada/100% \"our\" $data"), words.map(str::to_owned).collect())
    }

    #[test]
    fn the_unit_is_the_golden_one_and_reads_back() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/login/user.service");
        let text = std::fs::read_to_string(golden).unwrap();
        assert_eq!(unit(&job()).unwrap(), text);
        assert_eq!(read(&job().name, &text), Some(job()));
        assert_eq!(read("x", "[Service]\nExecStart=x\n"), None);
    }

    #[test]
    fn nothing_in_a_word_ends_it_or_is_expanded() {
        assert_eq!(quote("a b"), "\"a b\"");
        assert_eq!(quote("50%n $HOME"), "\"50%%n $$HOME\"");
        assert_eq!(quote("\"\\"), "\"\\\"\\\\\"");
        assert_eq!(quote("a\nExecStart=/bin/sh"), "\"a\\x0aExecStart=/bin/sh\"");
    }

    #[test]
    fn a_job_is_started_only_after_systemd_has_read_it() {
        let steps = start(&job());
        assert_eq!((steps[0].command[2].as_str(), steps[0].on_failure), ("daemon-reload", OnFailure::Later));
        assert_eq!(steps[1].command[1..4], ["--user", "enable", "--now"]);
        assert_eq!(stop("a.b")[0].command[4], "a.b.service");
        assert_eq!(state("a.b").command[2], "is-active");
    }
}
