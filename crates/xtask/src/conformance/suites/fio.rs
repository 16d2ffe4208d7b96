//! fio: random writes of four jobs, each block with a checksum that is verified afterwards.

use super::{Checks, Suite, minutes};
use crate::conformance::bench::Bench;
use crate::conformance::check::Check;
use crate::conformance::program::Program;

/// The suite.
pub const SUITE: Suite = Suite {
    name: "fio",
    about: "random writes of 4 jobs, verified: psync, libaio with O_DIRECT, mmap",
    needs: &[Program::package("fio", "fio")],
    with_faults: false,
    limit: minutes(15),
    bounded_limit: minutes(2),
    version: |tools| tools.version("fio", "--version"),
    run,
};

fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Check>> {
    let engines: [(&str, &[&str]); 3] =
        [("psync", &["--fsync=64"]), ("libaio", &["--direct=1", "--iodepth=16"]), ("mmap", &[])];
    let mut checks = Checks::default();
    for (engine, further) in engines {
        let folder = bench.new_folder(engine)?;
        let mut command = bench.tools.command("fio");
        command.args(["--name=verify", "--rw=randwrite", "--bs=4k", "--numjobs=4", "--group_reporting"]);
        command.args(["--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--verify_state_save=0", "--randseed=7"]);
        command.arg(format!("--size={}", bench.scale("2m", "32m"))).arg(format!("--ioengine={engine}"));
        command.arg(format!("--directory={}", folder.display())).args(further).current_dir(&bench.outside);
        checks.add(engine, bench.ok(&mut command).map(drop));
    }
    Ok(checks.all())
}
