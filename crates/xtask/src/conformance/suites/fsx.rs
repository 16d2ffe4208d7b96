//! fsx: random operations on one file, with every read compared with what must be there. Each variant has its own
//! weights (`fixtures/conformance/fsx-*.toml`).

use super::{Suite, minutes};
use crate::conformance::bench::{Bench, last_lines};
use crate::conformance::check::Check;
use crate::conformance::program::Program;

const VERSION: &str = "0.3.2";
const NEEDS: &[Program] = &[Program::of_crate("fsx", VERSION)];
const VARIANTS: &[&str] = &["plain", "mmap", "truncate", "punch-hole"];
/// So many operations of each variant are a whole run.
const WHOLE: u64 = 100_000;
const BOUNDED: u64 = 1_500;

/// On a server that does not fail.
pub const SUITE: Suite = Suite {
    name: "fsx",
    about: "random operations on one file, every read checked; 100,000 of each variant",
    needs: NEEDS,
    with_faults: false,
    limit: minutes(30),
    bounded_limit: minutes(2),
    version: |_| VERSION.to_owned(),
    run,
};

/// On a mock that fails all the time.
pub const WITH_FAULTS: Suite =
    Suite { name: "fsx-faults", about: "the same while the server fails on purpose", with_faults: true, ..SUITE };

fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (seed, variant) in (1_u64..).zip(VARIANTS) {
        let mut command = bench.tools.command("fsx");
        command.arg("-N").arg(bench.scale(BOUNDED, WHOLE).to_string()).arg("-S").arg(seed.to_string());
        command.arg("-f").arg(bench.root.join(format!("fixtures/conformance/fsx-{variant}.toml")));
        command.arg("-P").arg(&bench.outside).arg(bench.folder.join(format!("fsx-{variant}")));
        command.env("NO_COLOR", "1").env("RUST_BACKTRACE", "0");
        let done = bench.run(&mut command)?;
        let went_well = done.status.success() && done.text.contains("A-OK");
        let why = || Err(anyhow::anyhow!("seed {seed}: {}", last_lines(&done.text)));
        checks.push(Check::of(*variant, if went_well { Ok(()) } else { why() }));
    }
    Ok(checks)
}
