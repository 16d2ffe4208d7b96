//! git: a clone of this repository in the folder, many branches, gc, fsck.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::ensure;

use super::{Checks, Suite, minutes};
use crate::conformance::bench::Bench;
use crate::conformance::check::Check;
use crate::conformance::program::Program;

/// The suite.
pub const SUITE: Suite = Suite {
    name: "git",
    about: "clone, commits on many branches, checkout of each, gc, fsck",
    needs: &[Program::package("git", "git")],
    with_faults: false,
    limit: minutes(15),
    bounded_limit: minutes(2),
    version: |tools| tools.version("git", "--version"),
    run,
};

fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Check>> {
    let folder = bench.new_folder("git")?;
    let clone = folder.join("clone");
    let branches: usize = bench.scale(8, 50);
    let mut checks = Checks::default();
    let mut source = git(bench, &folder);
    source.args(["clone", "--quiet", "--no-local"]).arg(bench.root).arg(&clone);
    checks.add("clone", bench.ok(&mut source).and_then(|_| is_clean(bench, &clone)));
    checks.add("branches", (0..branches).try_for_each(|branch| commit(bench, &clone, branch)));
    checks.add("checkout", (0..branches).rev().try_for_each(|branch| checkout(bench, &clone, branch)));
    checks.add("gc", bench.ok(git(bench, &clone).args(["gc", "--quiet", "--prune=now"])).map(drop));
    checks.add("fsck", bench.ok(git(bench, &clone).args(["fsck", "--full", "--strict", "--no-dangling"])).map(drop));
    checks.add("after-gc", checkout(bench, &clone, branches / 2));
    checks.add("worktree", worktree(bench, &clone));
    Ok(checks.all())
}

fn commit(bench: &Bench<'_>, clone: &Path, branch: usize) -> anyhow::Result<()> {
    bench.ok(git(bench, clone).args(["checkout", "--quiet", "-b", &format!("branch-{branch}")]))?;
    fs::create_dir_all(clone.join("many"))?;
    for file in 0..10 {
        fs::write(clone.join(format!("many/{file}")), format!("{file} of branch {branch}\n"))?;
    }
    fs::write(clone.join(format!("many/only-{branch}")), "here\n")?;
    bench.ok(git(bench, clone).args(["add", "many"]))?;
    bench.ok(git(bench, clone).args(["commit", "--quiet", "-m", &format!("Work on branch {branch}")])).map(drop)
}

/// The files are those of the branch, whatever the caches remember of the branch before.
fn checkout(bench: &Bench<'_>, clone: &Path, branch: usize) -> anyhow::Result<()> {
    bench.ok(git(bench, clone).args(["checkout", "--quiet", &format!("branch-{branch}")]))?;
    is_clean(bench, clone)?;
    let text = fs::read_to_string(clone.join("many/3"))?;
    ensure!(text == format!("3 of branch {branch}\n"), "on branch {branch} the file says {text:?}");
    let further = clone.join(format!("many/only-{}", branch + 1));
    ensure!(!further.exists(), "a file of the next branch is in branch {branch}");
    Ok(())
}

fn worktree(bench: &Bench<'_>, clone: &Path) -> anyhow::Result<()> {
    let second = bench.folder.join("second");
    bench.ok(git(bench, clone).args(["worktree", "add", "--quiet", "-b", "second"]).arg(&second))?;
    is_clean(bench, &second)?;
    bench.ok(git(bench, clone).args(["worktree", "remove"]).arg(&second))?;
    ensure!(!second.exists(), "the removed worktree is still there");
    Ok(())
}

fn is_clean(bench: &Bench<'_>, clone: &Path) -> anyhow::Result<()> {
    let changes = bench.ok(git(bench, clone).args(["status", "--porcelain"]))?;
    ensure!(changes.trim().is_empty(), "it is not clean: {changes}");
    Ok(())
}

/// git in a folder, without the settings of whoever runs this.
fn git(bench: &Bench<'_>, folder: &Path) -> Command {
    let mut command = bench.tools.command("git");
    command.current_dir(folder).env("HOME", &bench.outside).env("GIT_CONFIG_NOSYSTEM", "1");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Suite").env(format!("GIT_{role}_EMAIL"), "suite@example.com");
    }
    // The repository may belong to somebody else than root.
    command.envs([("GIT_CONFIG_COUNT", "2"), ("GIT_CONFIG_KEY_0", "safe.directory"), ("GIT_CONFIG_VALUE_0", "*")]);
    command.envs([("GIT_CONFIG_KEY_1", "gc.auto"), ("GIT_CONFIG_VALUE_1", "0")]);
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    command
}
