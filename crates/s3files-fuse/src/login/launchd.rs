//! A job as a LaunchAgent: a property list in `~/Library/LaunchAgents`, told to `launchd` with `launchctl`.
//!
//! `KeepAlive` says `SuccessfulExit: false`: a program that was asked to unmount stays away, one that failed comes back.
//! There is no condition for the network: launchd has dropped `NetworkState`, so the program waits for it itself.
//! Nothing turns the files over that launchd writes, so the job names a log file, which the program bounds itself.

use std::path::{Path, PathBuf};

use plist::{Dictionary, Value};

use super::{Job, OnFailure, Step};

/// Seconds between two starts; launchd's own least is 10.
const THROTTLE: u64 = 30;
/// Seconds between SIGTERM and SIGKILL: what was written must reach the server first. launchd's own is 20.
const EXIT_TIMEOUT: u64 = 120;

/// Where the file lies.
pub fn file(home: &Path, name: &str) -> PathBuf {
    home.join("Library/LaunchAgents").join(format!("{name}.plist"))
}

/// Where logs lie.
pub fn logs(home: &Path) -> PathBuf {
    home.join("Library/Logs/s3files-fuse")
}

/// The property list.
pub fn list(job: &Job, home: &Path) -> Value {
    // Not /dev/null: whatever keeps the program from opening its log is only said here. A line for each start and each end
    // that is a failure is all that comes to it.
    let said: Value = logs(home).join(format!("{}.log", job.name)).to_string_lossy().into_owned().into();
    let mut keep_alive = Dictionary::new();
    keep_alive.insert("SuccessfulExit".to_owned(), false.into());
    let entries: [(&str, Value); 10] = [
        ("Label", job.name.clone().into()),
        ("ProgramArguments", Value::Array(job.command.iter().cloned().map(Value::from).collect())),
        ("RunAtLoad", true.into()),
        ("KeepAlive", keep_alive.into()),
        ("ThrottleInterval", THROTTLE.into()),
        ("ExitTimeOut", EXIT_TIMEOUT.into()),
        // "Background" would slow its input and output down.
        ("ProcessType", "Interactive".into()),
        // Not at a login over ssh: there nobody looks at folders of the desktop's.
        ("LimitLoadToSessionType", "Aqua".into()),
        ("StandardOutPath", said.clone()),
        ("StandardErrorPath", said),
    ];
    Value::Dictionary(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// The job in a property list.
pub fn read(file: &Path) -> Option<Job> {
    let list = Value::from_file(file).ok()?;
    let list = list.as_dictionary()?;
    let words = list.get("ProgramArguments")?.as_array()?.iter().map(|word| word.as_string().map(str::to_owned));
    Some(Job { name: list.get("Label")?.as_string()?.to_owned(), command: words.collect::<Option<_>>()? })
}

/// Starts the job now and at every login.
pub fn start(job: &Job, file: &Path, uid: u32) -> Vec<Step> {
    let (domain, service) = (format!("gui/{uid}"), format!("gui/{uid}/{}", job.name));
    vec![
        // One of this name may be there from before.
        Step::new(OnFailure::GoOn, &["launchctl", "bootout", &service]),
        Step::new(OnFailure::GoOn, &["launchctl", "enable", &service]),
        Step::new(OnFailure::Fail, &["launchctl", "bootstrap", &domain, &file.to_string_lossy()]),
    ]
}

/// Ends it for good.
pub fn stop(name: &str, uid: u32) -> Vec<Step> {
    vec![Step::new(OnFailure::GoOn, &["launchctl", "bootout", &format!("gui/{uid}/{name}")])]
}

/// Succeeds while the job is loaded.
pub fn state(name: &str, uid: u32) -> Step {
    Step::new(OnFailure::GoOn, &["launchctl", "print", &format!("gui/{uid}/{name}")])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// launchd.plist(5), the keys that are used here, with the types that its headings give them ("KeepAlive <boolean or
    /// dictionary of stuff>"). Read in November 2026 in copies of the page (manpagez.com, and quotations from macOS 15.7);
    /// `plutil` and launchd themselves have not seen the file.
    const MANUAL: [(&str, &str); 11] = [
        ("Label", "string"),
        ("ProgramArguments", "array of strings"),
        ("RunAtLoad", "boolean"),
        ("KeepAlive", "boolean or dictionary"),
        ("KeepAlive.SuccessfulExit", "boolean"),
        ("ThrottleInterval", "integer"),
        ("ExitTimeOut", "integer"),
        ("ProcessType", "string"),
        ("LimitLoadToSessionType", "string or array of strings"),
        ("StandardOutPath", "string"),
        ("StandardErrorPath", "string"),
    ];

    fn job() -> Job {
        let words = ["/usr/local/bin/s3files-fuse", "mount", "--foreground", "--wait-for-network"];
        let log =
            ["--log-file", "/Users/ada/Library/Logs/s3files-fuse/Ourdata-637468246df8eede.log", "--profile", "work"];
        let words = words.into_iter().chain(log).chain(["fs-0123456789abcdef0", "/Users/ada/Our <data>"]);
        Job::new(Path::new("/Users/ada/Our <data>"), words.map(str::to_owned).collect())
    }

    fn written(list: &Value) -> String {
        let mut text = Vec::new();
        list.to_writer_xml(&mut text).unwrap();
        String::from_utf8(text).unwrap() + "\n"
    }

    fn is(value: &Value, kind: &str) -> bool {
        match kind {
            "string" => value.as_string().is_some(),
            "boolean" => value.as_boolean().is_some(),
            "integer" => value.as_unsigned_integer().is_some(),
            "dictionary" => value.as_dictionary().is_some(),
            "array of strings" => value.as_array().is_some_and(|all| all.iter().all(|one| one.as_string().is_some())),
            either => either.split(" or ").any(|kind| is(value, kind)),
        }
    }

    fn check(prefix: &str, list: &Dictionary) {
        for (key, value) in list {
            let key = format!("{prefix}{key}");
            let (_, kind) =
                MANUAL.iter().find(|(known, _)| *known == key).unwrap_or_else(|| panic!("{key} is unknown"));
            assert!(is(value, kind), "{key} is no {kind}");
            if let Some(inner) = value.as_dictionary() {
                check(&format!("{key}."), inner);
            }
        }
    }

    #[test]
    fn every_key_has_the_type_that_the_manual_gives_it() {
        let list = list(&job(), Path::new("/Users/ada"));
        let list = list.as_dictionary().unwrap();
        check("", list);
        assert!(list["ThrottleInterval"].as_unsigned_integer() >= Some(10));
        assert_eq!(list["KeepAlive"].as_dictionary().unwrap()["SuccessfulExit"].as_boolean(), Some(false));
    }

    #[test]
    fn the_file_is_the_golden_one_and_reads_back() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/login/launch-agent.plist");
        assert_eq!(written(&list(&job(), Path::new("/Users/ada"))), std::fs::read_to_string(&golden).unwrap());
        assert_eq!(read(&golden), Some(job()));
    }

    #[test]
    fn launchctl_is_asked_in_the_users_own_domain() {
        let steps = start(&job(), Path::new("/Users/ada/Library/LaunchAgents/x.plist"), 501);
        let words = |step: &Step| step.command.join(" ");
        assert!(words(&steps[0]).starts_with("launchctl bootout gui/501/s3files-fuse.our--data."), "{:?}", steps[0]);
        assert_eq!(words(&steps[2]), "launchctl bootstrap gui/501 /Users/ada/Library/LaunchAgents/x.plist");
        assert_eq!(steps[2].on_failure, OnFailure::Fail);
        assert_eq!(words(&stop("a.b", 501)[0]), "launchctl bootout gui/501/a.b");
        assert_eq!(words(&state("a.b", 501)), "launchctl print gui/501/a.b");
    }

    #[test]
    fn files_lie_where_launchd_looks() {
        let home = Path::new("/Users/ada");
        assert_eq!(file(home, "a.b"), Path::new("/Users/ada/Library/LaunchAgents/a.b.plist"));
        assert_eq!(logs(home), Path::new("/Users/ada/Library/Logs/s3files-fuse"));
    }
}
