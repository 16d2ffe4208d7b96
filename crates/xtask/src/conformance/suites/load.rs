//! Programs that put a load on a file system and complain about wrong answers: dbench, fs_mark, bonnie++.

use anyhow::ensure;

use super::{Suite, minutes};
use crate::conformance::bench::{Bench, last_lines};
use crate::conformance::check::Check;
use crate::conformance::program::{Program, Tools};

/// The calls of an office's file server.
pub const DBENCH: Suite = Suite {
    name: "dbench",
    about: "the calls of an office's file server, 4 clients",
    needs: &[Program::package("dbench", "dbench")],
    with_faults: false,
    limit: minutes(5),
    bounded_limit: minutes(1),
    version: |tools| tools.version("dbench", "--version"),
    run: |bench| {
        let mut command = bench.tools.command("dbench");
        command.arg("-D").arg(&bench.folder).args(["-t", bench.scale("2", "30"), "4"]);
        Ok(vec![Check::of("4-clients", went_well(bench, &mut command, "Throughput", &["failed", "ERROR"]))])
    },
};

/// Many small files with fsync.
pub const FS_MARK: Suite = Suite {
    name: "fs_mark",
    about: "many small files, each with fsync, 4 threads",
    needs: &[Program::package("fs_mark", "fsmark")],
    with_faults: false,
    limit: minutes(5),
    bounded_limit: minutes(1),
    version: |_| Tools::package_version("fsmark"),
    run: |bench| {
        let mut command = bench.tools.command("fs_mark");
        command.args(["-s", "10240", "-S", "1", "-t", "4", "-n", bench.scale("50", "1000")]);
        command.arg("-d").arg(&bench.folder).current_dir(&bench.outside);
        Ok(vec![Check::of("4-threads", went_well(bench, &mut command, "FSUse%", &["failed", "Error"]))])
    },
};

/// Sequential data in blocks, seeks, creation and removal of files.
pub const BONNIE: Suite = Suite {
    name: "bonnie++",
    about: "data in blocks and by seeks; creation and removal of files",
    needs: &[Program::package("bonnie++", "bonnie++")],
    with_faults: false,
    limit: minutes(15),
    bounded_limit: minutes(1),
    version: |_| Tools::package_version("bonnie++"),
    run: |bench| {
        let mut command = bench.tools.command("bonnie++");
        let (data, memory, files) = bench.scale(("16", "8", "1"), ("256", "128", "8"));
        command
            .arg("-d")
            .arg(&bench.folder)
            .args(["-s", data, "-r", memory, "-n", files, "-u", "root", "-q", "-m", "it"]);
        // Not byte by byte: that is one call of the kernel for each.
        command.arg("-f");
        Ok(vec![Check::of("data-and-files", went_well(bench, &mut command, "it,", &["rror", "an't"]))])
    },
};

/// Success, a word that only appears at the end, and none of those that tell of trouble.
fn went_well(
    bench: &Bench<'_>,
    command: &mut std::process::Command,
    end: &str,
    trouble: &[&str],
) -> anyhow::Result<()> {
    let text = bench.ok(command)?;
    ensure!(text.contains(end), "it did not come to its end: {}", last_lines(&text));
    // dbench's clients start without a barrier where the machine has no semaphore for it.
    let mut lines = text.lines().filter(|line| !line.contains("barrier semaphore"));
    let line = lines.find(|line| trouble.iter().any(|word| line.contains(word)));
    ensure!(line.is_none(), "it says: {}", line.unwrap_or_default());
    Ok(())
}
