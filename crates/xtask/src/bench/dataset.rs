//! The files that the workloads find on the server, put there directly and not through a mount.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use xtask::noise::noise;

use crate::succeed;

const MEBIBYTE: usize = 1 << 20;
/// Directories of the tree of small files, and files in each.
const TREE: (usize, usize) = (20, 25);
/// The same of the clone.
const CLONE: (usize, usize) = (100, 50);
/// Names that nobody has asked for, each in a directory of its own.
pub const COLD: usize = 40;

/// The files of a run.
#[derive(Debug)]
pub struct Dataset {
    dir: PathBuf,
}

impl Dataset {
    /// Makes them below `dir`; `copies` of what a workload uses up, and trees to be removed only where `trees` are asked
    /// for.
    pub fn make(dir: &Path, copies: usize, trees: usize) -> anyhow::Result<Self> {
        let (data, local) = (dir.join("data"), dir.join("local"));
        for folder in [&data, &local] {
            fs::create_dir_all(folder)?;
        }
        files(&data.join("thousand"), 1000, 8, 1)?;
        fs::create_dir_all(data.join("a/b/c"))?;
        fs::write(data.join("a/b/c/small"), noise(2, 4096))?;
        for size in [10, 100] {
            fs::write(data.join(format!("big{size}")), noise(size as u64, size * MEBIBYTE))?;
            fs::write(local.join(format!("new{size}")), noise(1000 + size as u64, size * MEBIBYTE))?;
        }
        for copy in 0..copies {
            let work = data.join(format!("work{copy}"));
            fs::create_dir(&work)?;
            for name in ["overwritten", "renamed", "removed"] {
                fs::write(work.join(name), noise(copy as u64, 100))?;
            }
        }
        for number in 0..COLD {
            files(&data.join("cold").join(format!("{number:03}")), 1, 10, 3)?;
        }
        tree(&data.join("tree"), TREE, 2048)?;
        for copy in 0..trees {
            tree(&data.join(format!("removed{copy}")), TREE, 2048)?;
        }
        tree(&local.join("unpacked"), TREE, 2048)?;
        let mut tar = Command::new("tar");
        succeed(tar.arg("-C").arg(&local).arg("-cf").arg(local.join("tree.tar")).arg("unpacked"))?;
        clone(&local.join("origin"), &data.join("clone"))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// What the server shows.
    pub fn served(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A file that stays on this machine.
    pub fn local(&self, name: &str) -> PathBuf {
        self.dir.join("local").join(name)
    }
}

/// A directory of `count` files.
pub fn files(dir: &Path, count: usize, len: usize, seed: u64) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    for number in 0..count {
        fs::write(dir.join(format!("file{number:06}")), noise(seed * 1_000_003 + number as u64, len))?;
    }
    Ok(())
}

fn tree(dir: &Path, (dirs, count): (usize, usize), len: usize) -> anyhow::Result<()> {
    (0..dirs).try_for_each(|number| files(&dir.join(format!("dir{number:03}")), count, len, 10 + number as u64))
}

/// Git with nobody's configuration but this.
pub fn git() -> Command {
    let mut git = Command::new("git");
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    git.args(["-c", "safe.directory=*", "-c", "user.name=bench", "-c", "user.email=bench@localhost"]);
    git.stdout(Stdio::null());
    git
}

fn clone(origin: &Path, to: &Path) -> anyhow::Result<()> {
    tree(origin, CLONE, 300)?;
    succeed(git().args(["-c", "init.defaultBranch=main", "init", "--quiet"]).arg(origin))?;
    succeed(git().arg("-C").arg(origin).args(["add", "--all"]))?;
    succeed(git().arg("-C").arg(origin).args(["commit", "--quiet", "--message", "Files"]))?;
    succeed(git().args(["clone", "--quiet", "--no-local"]).arg(origin).arg(to))
}
