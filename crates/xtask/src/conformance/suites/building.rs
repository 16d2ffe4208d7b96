//! cargo: a small crate is built, tested and rebuilt inside the folder, with its target directory there as well.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::ensure;

use super::{Checks, Suite, minutes};
use crate::conformance::bench::Bench;
use crate::conformance::check::Check;

/// The suite.
pub const SUITE: Suite = Suite {
    name: "cargo",
    about: "build, test and rebuild a small crate inside the folder",
    needs: &[],
    with_faults: false,
    limit: minutes(5),
    bounded_limit: minutes(2),
    version: |tools| tools.version("cargo", "--version"),
    run,
};

fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Check>> {
    let small = bench.folder.join("small");
    write(&small)?;
    let mut checks = Checks::default();
    checks.add("build", bench.ok(cargo(&small).arg("build")).map(drop));
    checks.add("run", says(bench, &small, "42"));
    checks.add("test", bench.ok(cargo(&small).arg("test")).map(drop));
    checks.add("nothing-to-build", nothing_to_build(bench, &small));
    checks.add("rebuild-after-a-change", change(bench, &small));
    checks.add("clean", clean(bench, &small));
    Ok(checks.all())
}

fn write(small: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(small.join("src"))?;
    // A workspace of its own.
    fs::write(
        small.join("Cargo.toml"),
        "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    )?;
    fs::write(small.join("build.rs"), "fn main() {\n    println!(\"cargo::rerun-if-changed=build.rs\");\n}\n")?;
    fs::write(small.join("src/main.rs"), "fn main() {\n    println!(\"{}\", small::answer());\n}\n")?;
    fs::write(small.join("src/lib.rs"), library(42))?;
    Ok(())
}

fn library(answer: u32) -> String {
    format!(
        "pub fn answer() -> u32 {{\n    {answer}\n}}\n\n#[test]\nfn it_is_known() {{\n    assert_eq!(answer(), {answer});\n}}\n"
    )
}

fn says(bench: &Bench<'_>, small: &Path, answer: &str) -> anyhow::Result<()> {
    let text = bench.ok(&mut Command::new(small.join("target/debug/small")))?;
    ensure!(text.trim() == answer, "the program says {text:?}");
    Ok(())
}

/// The times of the files are what cargo wrote, so it has nothing to do.
fn nothing_to_build(bench: &Bench<'_>, small: &Path) -> anyhow::Result<()> {
    let text = bench.ok(cargo(small).arg("build"))?;
    ensure!(!text.contains("Compiling"), "it builds again: {text}");
    Ok(())
}

fn change(bench: &Bench<'_>, small: &Path) -> anyhow::Result<()> {
    fs::write(small.join("src/lib.rs"), library(43))?;
    let text = bench.ok(cargo(small).arg("build"))?;
    ensure!(text.contains("Compiling"), "it does not see the change: {text}");
    says(bench, small, "43")
}

fn clean(bench: &Bench<'_>, small: &Path) -> anyhow::Result<()> {
    bench.ok(cargo(small).arg("clean"))?;
    ensure!(!small.join("target").exists(), "the target directory is still there");
    Ok(())
}

fn cargo(small: &Path) -> Command {
    let mut command = crate::cargo();
    command.current_dir(small).env("CARGO_NET_OFFLINE", "true");
    for variable in ["CARGO_TARGET_DIR", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        command.env_remove(variable);
    }
    command
}
