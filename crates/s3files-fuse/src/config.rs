//! The configuration file: named mounts in TOML, so that `mount work` says it all.
//!
//! ```toml
//! [mounts.work]
//! target = "fs-0123456789abcdef0"
//! folder = "~/work"
//! region = "eu-central-1"
//! read-only = true
//! ```
//!
//! Beside `target` and `folder` the keys are the long options of `mount`. Nothing secret belongs here and nothing secret
//! has a key: a profile is named, not its keys.

use std::path::{Component, Path, PathBuf};

use clap::Command;
use toml::{Table, Value};

use crate::failure::Failure;
use crate::home;
use crate::settings::{self, Setting};

/// Largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;
/// Names that are no options.
const PLACES: [&str; 2] = ["target", "folder"];

/// A mount that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// The mount target.
    pub target: String,
    /// The folder.
    pub folder: PathBuf,
    /// Everything else.
    pub settings: Vec<Setting>,
}

/// The file.
#[derive(Debug, Clone)]
pub struct Config {
    path: PathBuf,
    /// False: the usual place, where no file has to be.
    was_given: bool,
}

impl Config {
    /// The file that was given, or that at the usual place.
    pub fn new(given: Option<PathBuf>) -> Self {
        let was_given = given.is_some();
        Self { path: given.unwrap_or_else(|| home::configuration().join("config.toml")), was_given }
    }

    /// The file, if it was named and is not that at the usual place.
    pub fn given(&self) -> Option<&Path> {
        self.was_given.then_some(&self.path)
    }

    /// Where it is, or would be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn refuse(&self, why: impl std::fmt::Display) -> Failure {
        Failure::Usage(format!("{}: {why}", self.path.display()))
    }

    /// The text; `None` if there is no file and none has to be.
    fn text(&self) -> Result<Option<String>, Failure> {
        let metadata = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !self.was_given => return Ok(None),
            Err(error) => return Err(self.refuse(format!("the configuration cannot be read: {error}"))),
        };
        if !metadata.is_file() || metadata.len() > LARGEST {
            return Err(self.refuse("the configuration is no file, or larger than 1 MiB"));
        }
        let text = std::fs::read_to_string(&self.path);
        text.map(Some).map_err(|error| self.refuse(format!("the configuration cannot be read: {error}")))
    }

    /// All mounts, and every mistake: each a sentence that says where.
    pub fn read(&self, command: &Command) -> Result<(Vec<Named>, Vec<String>), Failure> {
        let Some(text) = self.text()? else { return Ok((Vec::new(), Vec::new())) };
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let line = line.map_or_else(String::new, |line| format!("line {line}: "));
            self.refuse(format!("{line}{}", error.message().replace('\n', " ")))
        })?;
        let home = std::env::var_os("HOME").map(PathBuf::from);
        Ok(mounts(&table, command, home.as_deref()))
    }

    /// All mounts; the first mistake is an error.
    pub fn mounts(&self, command: &Command) -> Result<Vec<Named>, Failure> {
        let (mounts, mistakes) = self.read(command)?;
        match mistakes.first() {
            Some(mistake) => Err(self.refuse(mistake)),
            None => Ok(mounts),
        }
    }

    /// The mount of that name.
    pub fn named(&self, name: &str, command: &Command) -> Result<Named, Failure> {
        let mounts = self.mounts(command)?;
        let names: Vec<_> = mounts.iter().map(|mount| mount.name.clone()).collect();
        let has = match names.as_slice() {
            [] => "has none".to_owned(),
            names => format!("has {}", names.join(", ")),
        };
        mounts.into_iter().find(|mount| mount.name == name).ok_or_else(|| {
            Failure::Usage(format!(
                "a folder is missing (mount TARGET FOLDER), or `{name}` is to be the name of a mount in {}, which {has}",
                self.path.display()
            ))
        })
    }

    /// The folder that is meant: that of the mount of this name, else the path itself. A name has no `/`; `./work` is
    /// always a path.
    pub fn folder(&self, given: &Path, command: &Command) -> PathBuf {
        let mut components = given.components();
        let name = match (components.next(), components.next()) {
            (Some(Component::Normal(name)), None) if !given.as_os_str().as_encoded_bytes().ends_with(b"/") => name,
            _ => return given.to_owned(),
        };
        let mounts = self.read(command).map(|(mounts, _)| mounts).unwrap_or_default();
        let named = mounts.into_iter().find(|mount| *mount.name == *name);
        named.map_or_else(|| given.to_owned(), |named| named.folder)
    }
}

/// The mounts of a file, and its mistakes.
fn mounts(table: &Table, command: &Command, home: Option<&Path>) -> (Vec<Named>, Vec<String>) {
    let (mut found, mut mistakes) = (Vec::new(), Vec::new());
    for (key, value) in table {
        if key != "mounts" {
            mistakes.push(format!("`{key}` is unknown; mounts are written as [mounts.NAME]"));
            continue;
        }
        let Value::Table(sections) = value else {
            mistakes.push("`mounts` holds sections: [mounts.NAME]".to_owned());
            continue;
        };
        for (name, section) in sections {
            match mount(name, section, command, home) {
                Ok(mount) => found.push(mount),
                Err(more) => mistakes.extend(more.into_iter().map(|mistake| format!("[mounts.{name}] {mistake}"))),
            }
        }
    }
    (found, mistakes)
}

fn mount(name: &str, section: &Value, command: &Command, home: Option<&Path>) -> Result<Named, Vec<String>> {
    let Value::Table(section) = section else {
        return Err(vec!["is a section with target, folder and options".into()]);
    };
    let mut mistakes = Vec::new();
    if name.is_empty() || name.contains('/') || name.starts_with(['-', '.']) {
        mistakes.push("has a name that cannot be typed: no `/`, and no `-` or `.` at the beginning".to_owned());
    }
    let mut place = |key: &str| match section.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(_) => {
            mistakes.push(format!("`{key}` is a text in quotes"));
            None
        }
        None => {
            mistakes.push(format!("`{key}` is missing"));
            None
        }
    };
    let (target, folder) = (place("target"), place("folder"));
    let folder = folder.and_then(|text| {
        let path = absolute(&text, home).map(PathBuf::from);
        if path.is_none() {
            mistakes.push(format!("`folder` begins with / or ~/, unlike {text}"));
        }
        path
    });
    let mut found = Vec::new();
    for (key, value) in section.iter().filter(|(key, _)| !PLACES.contains(&key.as_str())) {
        match setting(key, value, command, home) {
            Ok(setting) => found.push(setting),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if mistakes.is_empty()
        && let Err(mistake) = settings::check(command, &found)
    {
        mistakes.push(mistake);
    }
    match (target, folder) {
        (Some(target), Some(folder)) if mistakes.is_empty() => {
            Ok(Named { name: name.to_owned(), target, folder, settings: found })
        }
        _ => Err(mistakes),
    }
}

fn setting(key: &str, value: &Value, command: &Command, home: Option<&Path>) -> Result<Setting, String> {
    let Some(arg) = settings::option(command, key) else { return Err(settings::unknown(key, command, &PLACES)) };
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        _ => None,
    };
    let typed = match value {
        Value::Boolean(on) if settings::is_switch(arg) => Some(on.to_string()),
        _ if settings::is_switch(arg) => return Err(format!("`{key}` is a switch: true or false, without quotes")),
        Value::Array(values) if arg.get_value_delimiter().is_some() => {
            values.iter().map(one).collect::<Option<Vec<_>>>().map(|values| values.join(","))
        }
        value => one(value),
    };
    let typed = typed.ok_or_else(|| format!("`{key}` is a text in quotes or a number, not {}", value.type_str()))?;
    let value = if settings::is_path(arg) {
        absolute(&typed, home).ok_or_else(|| format!("`{key}` is a path that begins with / or ~/, unlike {typed}"))?
    } else {
        typed
    };
    Ok(Setting { name: key.to_owned(), value })
}

/// There is no shell to do it, and no working directory that a file could mean.
fn absolute(path: &str, home: Option<&Path>) -> Option<String> {
    match path.strip_prefix("~/") {
        Some(below) => home?.join(below).to_str().map(str::to_owned),
        None => path.starts_with('/').then(|| path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::cli::command;

    fn read(text: &str) -> (Vec<Named>, Vec<String>) {
        mounts(&text.parse().unwrap(), &command(), Some(Path::new("/home/u")))
    }

    #[test]
    fn a_mount_has_its_places_and_any_option_by_its_long_name() {
        let (mounts, mistakes) = read(
            "[mounts.work]\ntarget = \"fs-0123456789abcdef0\"\nfolder = \"~/work\"\nport = 443\nread-only = true\n\
             as-groups = [4, 24]\nca-file = \"~/ca.pem\"\ncache-size = \"1G\"\n",
        );
        assert_eq!(mistakes, Vec::<String>::new());
        let [work] = mounts.as_slice() else { panic!("{mounts:?}") };
        assert_eq!((&work.target[..], work.folder.to_str()), ("fs-0123456789abcdef0", Some("/home/u/work")));
        let value = |name: &str| work.settings.iter().find(|setting| setting.name == name).unwrap().value.clone();
        assert_eq!(["port", "read-only", "as-groups", "ca-file"].map(value), ["443", "true", "4,24", "/home/u/ca.pem"]);
    }

    #[test]
    fn every_mistake_is_named_with_its_place_and_its_cure() {
        for (text, words) in [
            (
                "[mounts.a]\ntarget = \"h\"\nfolder = \"/f\"\nregoin = \"x\"",
                "[mounts.a] `regoin` is unknown; did you mean `region`?",
            ),
            ("[mounts.a]\ntarget = \"h\"\nfoldr = \"/f\"", "did you mean `folder`?"),
            ("[mounts.a]\ntarget = \"h\"", "[mounts.a] `folder` is missing"),
            ("[mounts.a]\ntarget = 5\nfolder = \"/f\"", "`target` is a text"),
            ("[mounts.a]\ntarget = \"h\"\nfolder = \"work\"", "`folder` begins with / or ~/"),
            ("[mounts.a]\ntarget = \"h\"\nfolder = \"/f\"\nread-only = \"yes\"", "`read-only` is a switch"),
            ("[mounts.a]\ntarget = \"h\"\nfolder = \"/f\"\nport = 70000", "--port"),
            ("[mounts.a]\ntarget = \"h\"\nfolder = \"/f\"\nport = 1.5", "not float"),
            ("[mounts.a]\ntarget = \"h\"\nfolder = \"/f\"\nca-file = \"x.pem\"", "`ca-file` is a path"),
            (
                "[mounts.a]\ntarget = \"h\"\nfolder = \"/f\"\nplain = true\nregion = \"us-east-1\"",
                "cannot be used with",
            ),
            ("[mounts.\"a/b\"]\ntarget = \"h\"\nfolder = \"/f\"", "cannot be typed"),
            ("[mount.a]\ntarget = \"h\"", "`mount` is unknown; mounts are written as [mounts.NAME]"),
            ("mounts = 3", "holds sections"),
            ("[mounts]\na = 3", "[mounts.a] is a section"),
        ] {
            let (mounts, mistakes) = read(text);
            assert!(mounts.is_empty(), "{text}");
            assert!(mistakes.iter().any(|mistake| mistake.contains(words)), "`{words}` is not in {mistakes:?}");
            assert!(mistakes.iter().all(|mistake| !mistake.contains('\n')), "{mistakes:?}");
        }
    }

    #[test]
    fn a_name_is_no_path_and_a_path_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "[mounts.work]\ntarget = \"h\"\nfolder = \"/w\"\n").unwrap();
        let config = Config::new(Some(path));
        let folder = |given: &str| config.folder(Path::new(given), &command()).display().to_string();
        assert_eq!(folder("work"), "/w");
        for path in ["./work", "work/", "/work", "a/work", "other", "..", "."] {
            assert_eq!(folder(path), path);
        }
    }
}
