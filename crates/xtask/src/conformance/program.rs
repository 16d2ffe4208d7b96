//! The programs that the suites are, or need: where they are, and how to get those that are missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::suites::Suite;
use crate::{cargo, find, succeed};

/// Where a program comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A package of Debian.
    Package(&'static str),
    /// A crate with its version, installed below `target/tools` when it is not there.
    Crate(&'static str, &'static str),
}

/// A program and its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// Its name on the path.
    pub name: &'static str,
    /// Where it comes from.
    pub source: Source,
}

impl Program {
    /// A program of a Debian package.
    pub const fn package(name: &'static str, package: &'static str) -> Self {
        Self { name, source: Source::Package(package) }
    }

    /// A program of the crate of the same name.
    pub const fn of_crate(name: &'static str, version: &'static str) -> Self {
        Self { name, source: Source::Crate(name, version) }
    }
}

/// Every program that this run needs.
#[derive(Debug)]
pub struct Tools(BTreeMap<&'static str, PathBuf>);

impl Tools {
    /// Finds what the suites need. What Debian has must be there; crates are installed.
    pub fn find(root: &Path, suites: &[&Suite], ganesha: bool) -> anyhow::Result<Self> {
        const SERVER: Program = Program::package("ganesha.nfsd", "nfs-ganesha nfs-ganesha-vfs");
        let mut wanted = vec![Program::package("fusermount3", "fuse3"), Program::package("umount", "mount")];
        wanted.extend(ganesha.then_some(SERVER));
        wanted.extend(suites.iter().flat_map(|suite| suite.needs).copied());
        let mut tools = BTreeMap::new();
        let mut missing = Vec::new();
        for program in wanted {
            if tools.contains_key(program.name) {
                continue;
            }
            match program.source {
                Source::Package(package) => match find(program.name) {
                    Some(path) => {
                        tools.insert(program.name, path);
                    }
                    None => missing.push((program.name, package)),
                },
                Source::Crate(name, version) => {
                    tools.insert(program.name, installed(root, name, version)?);
                }
            }
        }
        if !missing.is_empty() {
            missing.dedup();
            let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
            let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
            bail!("{} missing: apt-get install {}", names.join(", "), packages.join(" "));
        }
        Ok(Self(tools))
    }

    /// A command of a program that was found.
    pub fn command(&self, name: &str) -> Command {
        Command::new(self.0.get(name).map_or_else(|| PathBuf::from(name), Clone::clone))
    }

    /// What a program says of its version with `argument`: the first word with a digit in it.
    pub fn version(&self, name: &str, argument: &str) -> String {
        let Ok(output) = self.command(name).arg(argument).output() else { return String::new() };
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let number = |word: &&str| word.contains('.') && word.chars().any(|c| c.is_ascii_digit());
        let word = text.split_whitespace().find(number).unwrap_or_default();
        word.trim_start_matches(|c: char| !c.is_ascii_digit())
            .trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
            .to_owned()
    }

    /// The version of a Debian package, for programs that do not tell theirs.
    pub fn package_version(package: &str) -> String {
        let output = Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    }
}

/// A crate's program of exactly this version: on the path, below `target/tools`, or installed there now.
fn installed(root: &Path, name: &str, version: &str) -> anyhow::Result<PathBuf> {
    let tools = root.join("target/tools");
    let ours = tools.join("bin").join(name);
    let is_right = |path: &PathBuf| {
        let output = Command::new(path).arg("--version").output();
        output
            .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).split_whitespace().any(|word| word == version))
    };
    if let Some(path) = find(name).into_iter().chain([ours.clone()]).find(is_right) {
        return Ok(path);
    }
    println!("installing {name} {version} into {}", tools.display());
    let mut install = cargo();
    install.args(["install", "--quiet", "--locked", "--root"]).arg(&tools).arg(format!("{name}@{version}"));
    // Beside the tools, not in the way of the build of this workspace.
    install.env("CARGO_TARGET_DIR", tools.join("build"));
    succeed(&mut install).with_context(|| format!("{name} {version} is a crate and cannot be installed"))?;
    Ok(ours)
}
