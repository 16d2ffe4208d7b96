//! stress-ng: its stressors for file systems, one after the other, each checking what it gets.

use anyhow::ensure;

use super::{Suite, minutes};
use crate::conformance::bench::{Bench, last_lines};
use crate::conformance::check::Check;
use crate::conformance::program::Program;

/// The class `filesystem` without those that are not about the folder: bind-mount, binderfs and procfs (other file
/// systems), dup, eventfd and ioprio (no files), fanotify (the kernel's own), io (sync of the whole machine).
const STRESSORS: &[&str] = &[
    "access",
    "chattr",
    "chdir",
    "chmod",
    "chown",
    "copy-file",
    "dentry",
    "dir",
    "dirdeep",
    "dirmany",
    "dnotify",
    "fallocate",
    "fcntl",
    "fiemap",
    "file-ioctl",
    "filename",
    "flock",
    "fpunch",
    "fsize",
    "fstat",
    "getdent",
    "handle",
    "hdd",
    "inode-flags",
    "inotify",
    "iomix",
    "lease",
    "link",
    "locka",
    "lockf",
    "lockofd",
    "mknod",
    "open",
    "rename",
    "symlink",
    "sync-file",
    "touch",
    "utime",
    "verity",
    "xattr",
];
/// stress-ng's exit codes for what a system does not have.
const NO_RESOURCE: i32 = 3;
const NOT_IMPLEMENTED: i32 = 4;

/// The suite.
pub const SUITE: Suite = Suite {
    name: "stress-ng",
    about: "stress-ng --class filesystem, one stressor after the other, with --verify",
    needs: &[Program::package("stress-ng", "stress-ng")],
    with_faults: false,
    limit: minutes(20),
    bounded_limit: minutes(3),
    version: |tools| tools.version("stress-ng", "--version"),
    run,
};

fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Check>> {
    STRESSORS.iter().map(|stressor| one(bench, stressor)).collect()
}

fn one(bench: &Bench<'_>, stressor: &str) -> anyhow::Result<Check> {
    let folder = bench.new_folder(stressor)?;
    let mut command = bench.tools.command("stress-ng");
    command.arg(format!("--{stressor}")).arg(bench.scale("1", "2"));
    // A short run ends at whatever comes first.
    command.args(["--timeout", bench.scale("1s", "3s"), "--verify", "--oomable", "--temp-path"]).arg(&folder);
    if bench.bounded {
        command.arg(format!("--{stressor}-ops")).arg("30");
    }
    match stressor {
        "hdd" => drop(command.args(["--hdd-bytes", "16m"])),
        "iomix" => drop(command.args(["--iomix-bytes", "16m"])),
        "fallocate" => drop(command.args(["--fallocate-bytes", "16m"])),
        "sync-file" => drop(command.args(["--sync-file-bytes", "16m"])),
        _ => {}
    }
    let done = bench.run(&mut command)?;
    if matches!(done.status.code(), Some(NO_RESOURCE | NOT_IMPLEMENTED)) || done.text.contains("skipped") {
        return Ok(Check::skipped(stressor));
    }
    let well = || {
        let complaint = done.text.lines().find(|line| line.contains("fail:") || line.contains("error:"));
        ensure!(complaint.is_none(), "{}", complaint.unwrap_or_default());
        ensure!(done.status.success(), "{}: {}", done.status, last_lines(&done.text));
        Ok(())
    };
    Ok(Check::of(stressor, well()))
}
