//! Programs that carry whole trees: rsync, tar, zip. What arrives is compared with what was sent.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::{Checks, Suite, minutes};
use crate::conformance::bench::Bench;
use crate::conformance::check::Check;
use crate::conformance::program::Program;
use crate::conformance::tree;

const DIFF: Program = Program::package("diff", "diffutils");

/// Backups.
pub const RSYNC: Suite = Suite {
    name: "rsync",
    about: "rsync -aHAX --delete twice: the second transfers nothing",
    needs: &[Program::package("rsync", "rsync"), Program::package("setfattr", "attr"), DIFF],
    with_faults: false,
    limit: minutes(10),
    bounded_limit: minutes(1),
    version: |tools| tools.version("rsync", "--version"),
    run: rsync,
};

/// Archives.
pub const ARCHIVES: Suite = Suite {
    name: "tar-zip",
    about: "tar, zip and unzip of a tree, compared file by file",
    needs: &[Program::package("tar", "tar"), Program::package("zip", "zip"), Program::package("unzip", "unzip"), DIFF],
    with_faults: false,
    limit: minutes(10),
    bounded_limit: minutes(1),
    version: |tools| tools.version("tar", "--version"),
    run: archives,
};

fn rsync(bench: &Bench<'_>) -> anyhow::Result<Vec<Check>> {
    let (source, copy) = (bench.outside.join("source"), bench.folder.join("copy"));
    let hard_links = can_link(bench)?;
    tree::make(&source, bench.scale(15, 400), hard_links)?;
    let attributes = can_set_attributes(bench)?;
    if attributes {
        bench.ok(bench
            .tools
            .command("setfattr")
            .args(["-n", "user.suite", "-v", "kept"])
            .arg(source.join("folder 1")))?;
        let file = source.join("folder 1/file-1.bin");
        bench.ok(bench.tools.command("setfattr").args(["-n", "user.suite", "-v", "kept too"]).arg(file))?;
    }
    let link_times = sets_link_times(bench);
    let omit: &[&str] = if link_times.is_ok() { &[] } else { &["--omit-link-times"] };
    bench.note(&format!("hard links: {hard_links}, extended attributes: {attributes}, rsync with {omit:?}"))?;
    let transfer = || -> anyhow::Result<String> {
        let mut command = bench.tools.command("rsync");
        command.args(omit);
        command.args(["-aHAX", "--delete", "--itemize-changes"]).arg(source.join("")).arg(&copy);
        Ok(bench.ok(&mut command)?.trim().to_owned())
    };
    let mut checks = Checks::default();
    checks.add("times-of-links", link_times);
    checks.add("first", transfer().and_then(|_| same(bench, &source, &copy)));
    checks.add(
        "second-transfers-nothing",
        transfer().and_then(|text| {
            ensure!(text.is_empty(), "it transfers: {text}");
            Ok(())
        }),
    );
    checks.add(
        "--delete",
        (|| {
            fs::remove_dir_all(source.join("folder 0"))?;
            fs::write(source.join("folder 2/file-2.bin"), b"changed")?;
            let text = transfer()?;
            ensure!(text.contains("*deleting"), "it deletes nothing: {text}");
            ensure!(!copy.join("folder 0").exists(), "the removed folder is still there");
            same(bench, &source, &copy)
        })(),
    );
    checks.add(
        "back",
        (|| {
            let back = bench.outside.join("back");
            bench.ok(bench.tools.command("rsync").args(["-aHAX"]).arg(copy.join("")).arg(&back))?;
            let mut compare = bench.tools.command("rsync");
            compare.args(["-aHAX", "--delete", "--checksum", "--dry-run", "--itemize-changes"]).args(omit);
            let text = bench.ok(compare.arg(source.join("")).arg(&back))?;
            ensure!(text.trim().is_empty(), "what comes back differs: {text}");
            Ok(())
        })(),
    );
    Ok(checks.all())
}

fn archives(bench: &Bench<'_>) -> anyhow::Result<Vec<Check>> {
    let source = bench.outside.join("source");
    tree::make(&source, bench.scale(15, 400), can_link(bench)?)?;
    let mut checks = Checks::default();
    let tar = bench.outside.join("tree.tar");
    bench.ok(bench.tools.command("tar").arg("-C").arg(&source).arg("-cf").arg(&tar).arg("."))?;
    let unpacked = bench.new_folder("unpacked")?;
    checks.add(
        "tar-extract",
        (|| {
            bench.ok(bench.tools.command("tar").arg("-C").arg(&unpacked).arg("-xpf").arg(&tar))?;
            same(bench, &source, &unpacked)
        })(),
    );
    // Modes, owners, times and contents.
    checks.add(
        "tar-compare",
        bench.ok(bench.tools.command("tar").arg("-C").arg(&unpacked).arg("-df").arg(&tar)).map(drop),
    );
    checks.add(
        "tar-create",
        (|| {
            let inside = bench.folder.join("again.tar");
            bench.ok(bench.tools.command("tar").arg("-C").arg(&unpacked).arg("-cf").arg(&inside).arg("."))?;
            bench.ok(bench.tools.command("tar").arg("-C").arg(&source).arg("-df").arg(&inside)).map(drop)
        })(),
    );
    let zip = bench.folder.join("tree.zip");
    checks.add(
        "zip",
        (|| {
            bench.ok(bench.tools.command("zip").args(["-q", "-r", "-y"]).arg(&zip).arg(".").current_dir(&unpacked))?;
            bench.ok(bench.tools.command("unzip").args(["-q", "-t"]).arg(&zip)).map(drop)
        })(),
    );
    checks.add(
        "unzip",
        (|| {
            let unzipped = bench.new_folder("unzipped")?;
            bench.ok(bench.tools.command("unzip").arg("-q").arg(&zip).arg("-d").arg(&unzipped))?;
            same(bench, &source, &unzipped)
        })(),
    );
    checks.add(
        "remove",
        (|| {
            fs::remove_dir_all(&unpacked)?;
            ensure!(!unpacked.exists(), "the folder is still there");
            Ok(())
        })(),
    );
    Ok(checks.all())
}

fn same(bench: &Bench<'_>, one: &Path, other: &Path) -> anyhow::Result<()> {
    bench.ok(bench.tools.command("diff").args(["-r", "--no-dereference"]).arg(one).arg(other)).map(drop)
}

/// Whether the times of a symbolic link itself can be set.
fn sets_link_times(bench: &Bench<'_>) -> anyhow::Result<()> {
    let link = bench.folder.join("timed");
    symlink("nowhere", &link)?;
    let time = TimeSpec::new(1_600_000_000, 0);
    utimensat(AT_FDCWD, &link, &time, &time, UtimensatFlags::NoFollowSymlink)?;
    let seen = fs::symlink_metadata(&link)?.mtime();
    fs::remove_file(&link)?;
    ensure!(seen == time.tv_sec(), "a link whose time was set to {} has {seen}", time.tv_sec());
    Ok(())
}

/// Whether the server has hard links.
fn can_link(bench: &Bench<'_>) -> anyhow::Result<bool> {
    let (one, other) = (bench.folder.join("one-name"), bench.folder.join("other-name"));
    fs::write(&one, b"x")?;
    let can = fs::hard_link(&one, &other).is_ok();
    fs::remove_file(&one)?;
    if can {
        fs::remove_file(&other)?;
    }
    Ok(can)
}

/// Whether the server has extended attributes.
fn can_set_attributes(bench: &Bench<'_>) -> anyhow::Result<bool> {
    let file = bench.folder.join("attributed");
    fs::write(&file, b"x")?;
    let mut command: Command = bench.tools.command("setfattr");
    let can = bench.run(command.args(["-n", "user.suite", "-v", "x"]).arg(&file))?.status.success();
    fs::remove_file(&file)?;
    Ok(can)
}
