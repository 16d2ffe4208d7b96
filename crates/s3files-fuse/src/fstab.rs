//! Options in the form of `/etc/fstab` (`-o a,b=c`), and the program under the name `mount.s3files-fuse`, as which
//! `mount -t s3files-fuse TARGET FOLDER -o …` calls it.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{Command, Parser};

use crate::failure::Failure;
use crate::settings::{self, Setting};

/// The name that mount(8) looks for in /sbin.
const HELPER: &str = "mount.s3files-fuse";

/// Options that are for mount(8), systemd and fsck, or that have no meaning for a network file system.
const FOR_OTHERS: [&str; 28] = [
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "nousers",
    "owner",
    "noowner",
    "group",
    "nogroup",
    "_netdev",
    "nofail",
    "async",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "comment",
    "loud",
    "silent",
    "mand",
];

/// Words of fstab for options of ours.
const WORDS: [(&str, &str, &str); 5] = [
    ("ro", "read-only", "true"),
    ("rw", "read-only", "false"),
    ("suid", "nosuid", "false"),
    ("dev", "nodev", "false"),
    ("exec", "noexec", "false"),
];

/// What one option means.
enum Meaning {
    Ours(Setting),
    Others,
}

fn meaning(option: &str, command: &Command) -> Result<Meaning, String> {
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    if FOR_OTHERS.contains(&name) || name.starts_with("x-") || name.starts_with("X-") {
        return Ok(Meaning::Others);
    }
    if let Some((_, name, value)) = WORDS.iter().find(|(word, ..)| *word == option) {
        return Ok(Meaning::Ours(Setting { name: (*name).to_owned(), value: (*value).to_owned() }));
    }
    // `allow_other` is how every FUSE file system calls it.
    let name = name.replace('_', "-");
    let Some(arg) = settings::option(command, &name) else { return Err(settings::unknown(&name, command, &[])) };
    let value = match value {
        None if settings::is_switch(arg) => "true".to_owned(),
        None => return Err(format!("`{name}` needs a value: {name}=…")),
        // A comma would end the option.
        Some(value) if arg.get_value_delimiter().is_some() => value.replace(':', ","),
        Some(value) => value.to_owned(),
    };
    Ok(Meaning::Ours(Setting { name, value }))
}

/// The path that an option of `-o` has as its value.
pub fn path<'a>(option: &'a str, command: &Command) -> Option<&'a str> {
    let (name, value) = option.split_once('=')?;
    settings::option(command, &name.replace('_', "-")).filter(|arg| settings::is_path(arg)).map(|_| value)
}

/// The settings that `-o` asks for.
pub fn settings(options: &[String], command: &Command) -> Result<Vec<Setting>, Failure> {
    let refuse = |why: String| settings::refuse("-o", &why);
    let mut found = Vec::new();
    for option in options.iter().filter(|option| !option.is_empty()) {
        if let Meaning::Ours(setting) = meaning(option, command).map_err(refuse)? {
            found.push(setting);
        }
    }
    settings::check(command, &found).map_err(refuse)?;
    Ok(found)
}

/// How mount(8) calls its helpers.
#[derive(Debug, Parser)]
#[command(name = HELPER, about = "What `mount -t s3files-fuse` calls", disable_version_flag = true)]
struct Helper {
    target: OsString,
    folder: OsString,
    #[arg(short = 'o', value_delimiter = ',')]
    options: Vec<String>,
    /// Ignore options that are unknown.
    #[arg(short = 's')]
    sloppy: bool,
    /// Do everything but mount.
    #[arg(short = 'f')]
    fake: bool,
    /// There is no table of mounts to write.
    #[arg(short = 'n')]
    _no_table: bool,
    #[arg(short = 'v')]
    _verbose: bool,
    #[arg(short = 'r', conflicts_with = "_writable")]
    read_only: bool,
    #[arg(short = 'w')]
    _writable: bool,
    #[arg(short = 't')]
    _kind: Option<String>,
    #[arg(short = 'N')]
    _namespace: Option<String>,
}

/// What a command line under the helper's name is under the program's own.
#[derive(Debug)]
pub enum Called {
    /// This is to be done; other names change nothing.
    Typed(Vec<OsString>),
    /// Nothing is to be done.
    Nothing,
}

/// Translates a command line if it is that of the helper.
pub fn translate(arguments: Vec<OsString>, command: &Command) -> Result<Called, clap::Error> {
    let called = arguments.first().map(Path::new).and_then(Path::file_name);
    if called != Some(OsStr::new(HELPER)) {
        return Ok(Called::Typed(arguments));
    }
    let mut helper = Helper::try_parse_from(arguments)?;
    if helper.fake {
        return Ok(Called::Nothing);
    }
    if helper.sloppy {
        helper.options.retain(|option| meaning(option, command).is_ok());
    }
    if helper.read_only {
        helper.options.push("ro".to_owned());
    }
    let mut typed = vec![OsString::from(command.get_name()), "mount".into()];
    for option in helper.options {
        typed.extend(["-o".into(), option.into()]);
    }
    typed.extend(["--".into(), helper.target, helper.folder]);
    Ok(Called::Typed(typed))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::cli::command;

    fn parsed(options: &str) -> Result<Vec<(String, String)>, String> {
        let options: Vec<String> = options.split(',').map(str::to_owned).collect();
        let settings = settings(&options, &command()).map_err(|failure| failure.to_string())?;
        Ok(settings.into_iter().map(|setting| (setting.name, setting.value)).collect())
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn what_is_for_others_is_left_to_them() {
        let line =
            "defaults,_netdev,noauto,user,nofail,x-systemd.automount,x-systemd.idle-timeout=60,noatime,comment=x,";
        assert_eq!(parsed(line).unwrap(), []);
    }

    #[test]
    fn every_option_can_be_written_in_either_spelling() {
        assert_eq!(parsed("ro").unwrap(), [pair("read-only", "true")]);
        assert_eq!(parsed("rw,exec").unwrap(), [pair("read-only", "false"), pair("noexec", "false")]);
        assert_eq!(
            parsed("allow_other,file_system_id=fs-0123456789abcdef0").unwrap(),
            [pair("allow-other", "true"), pair("file-system-id", "fs-0123456789abcdef0"),]
        );
        assert_eq!(parsed("as-groups=4:24").unwrap(), [pair("as-groups", "4,24")]);
    }

    #[test]
    fn what_is_unknown_or_wrong_is_refused_in_a_sentence() {
        for (options, words) in [
            ("regoin=x", "-o: `regoin` is unknown; did you mean `region`?"),
            ("region", "needs a value"),
            ("port=x", "--port"),
            ("read-only=maybe", "switch"),
            ("foreground", "unknown"),
            ("xyzzyqq", "lists all"),
        ] {
            let why = parsed(options).unwrap_err();
            assert!(why.contains(words) && !why.contains('\n'), "{options}: {why}");
        }
    }

    fn translated(arguments: &[&str]) -> Vec<String> {
        match translate(arguments.iter().map(OsString::from).collect(), &command()).unwrap() {
            Called::Typed(typed) => typed.iter().map(|word| word.to_str().unwrap().to_owned()).collect(),
            Called::Nothing => Vec::new(),
        }
    }

    #[test]
    fn the_helpers_command_line_becomes_that_of_mount() {
        assert_eq!(translated(&["/usr/bin/s3files-fuse", "ls", "x"]), ["/usr/bin/s3files-fuse", "ls", "x"]);
        let helped =
            ["/sbin/mount.s3files-fuse", "fs-1", "/mnt/x", "-n", "-v", "-o", "rw,region=r", "-t", "s3files-fuse"];
        let typed = ["s3files-fuse", "mount", "-o", "rw", "-o", "region=r", "--", "fs-1", "/mnt/x"];
        assert_eq!(translated(&helped), typed);
        let sloppy = ["mount.s3files-fuse", "fs-1", "/mnt/x", "-s", "-o", "nonsense,ro"];
        assert_eq!(translated(&sloppy), ["s3files-fuse", "mount", "-o", "ro", "--", "fs-1", "/mnt/x"]);
        assert!(translated(&["mount.s3files-fuse", "fs-1", "/mnt/x", "-f"]).is_empty());
        assert!(translate(vec!["mount.s3files-fuse".into(), "fs-1".into()], &command()).is_err());
    }
}
