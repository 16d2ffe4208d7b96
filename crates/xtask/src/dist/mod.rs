//! `cargo xtask dist`: the program for the Mac, built on Linux.
//!
//! The one idea: **nothing of Apple's is needed**. A Rust toolchain that has the sources of its standard library builds
//! that library for the target as well, and zig is the linker and the C compiler (it knows what the system's libraries
//! export). The result is looked into before anybody gets it ([`macho`]): a program that wants a library which only
//! some Macs have would fail there, far away from here.

mod frameworks;
mod macho;
mod tools;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use self::macho::Arch;
use self::tools::Tools;
use crate::succeed;

/// What is built.
const PROGRAM: &str = "s3files-fuse";
/// The profile of the workspace's `Cargo.toml`.
const PROFILE: &str = "dist";

/// Build the program for the Mac.
///
/// Works on any Linux that has the tools; says what is missing and how to get it.
#[derive(Debug, Args)]
pub struct DistArgs {
    /// The Macs to build for.
    #[arg(long, value_enum, default_value_t = Target::Universal)]
    target: Target,
    /// Look for mistakes with clippy instead of building.
    #[arg(long)]
    lint: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// Apple silicon.
    #[value(name = "aarch64-apple-darwin")]
    Arm,
    /// Intel.
    #[value(name = "x86_64-apple-darwin")]
    Intel,
    /// Both in one file.
    #[value(name = "universal")]
    Universal,
}

impl Target {
    fn arches(self) -> &'static [Arch] {
        match self {
            Self::Arm => &[Arch::Arm64],
            Self::Intel => &[Arch::X86_64],
            Self::Universal => &[Arch::Arm64, Arch::X86_64],
        }
    }
}

impl DistArgs {
    /// Carries it out.
    pub fn run(self) -> anyhow::Result<()> {
        let folder = folder()?;
        let tools = Tools::find(&folder)?;
        println!("{} and {}", tools.rust_version, tools.zig_version);
        if self.lint {
            return self.target.arches().iter().try_for_each(|arch| lint(&tools, &folder, *arch));
        }
        let mut programs = Vec::new();
        for arch in self.target.arches() {
            let program = build(&tools, &folder, *arch)?;
            show(&program, &[*arch])?;
            programs.push(program);
        }
        if self.target == Target::Universal {
            let program = folder.join(format!("{PROGRAM}-universal-apple-darwin"));
            macho::join(&programs, &program)?;
            show(&program, self.target.arches())?;
        }
        Ok(())
    }
}

/// A target directory of its own: another compiler would throw away what the usual one has built. Absolute, because the
/// tools in it are on the path of build scripts, which run elsewhere.
fn folder() -> anyhow::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    std::path::absolute(target.join("dist")).context("there is no current folder")
}

/// Builds for one architecture. Returns where the program lies.
fn build(tools: &Tools, folder: &Path, arch: Arch) -> anyhow::Result<PathBuf> {
    let start = Instant::now();
    let stubs = frameworks::write(folder)?;
    // For the last step alone, so that the crates need not be built again when the stubs change.
    let mut cargo = tools.cargo("rustc", folder, arch);
    cargo.args(["--profile", PROFILE, "--package", PROGRAM, "--bin", PROGRAM, "--locked"]);
    // Cargo would have what is no debug information taken out by a program that Debian's toolchain lacks.
    succeed(cargo.args(["--", "-C", "strip=none", "-L"]).arg(format!("framework={}", stubs.display())))?;
    println!("{} built in {} s", arch.triple(), start.elapsed().as_secs());
    let built = folder.join(arch.triple()).join(PROFILE).join(PROGRAM);
    let program = folder.join(format!("{PROGRAM}-{}", arch.triple()));
    std::fs::copy(&built, &program).with_context(|| format!("copying {}", built.display()))?;
    Ok(program)
}

fn lint(tools: &Tools, folder: &Path, arch: Arch) -> anyhow::Result<()> {
    tools.check_clippy()?;
    let start = Instant::now();
    let mut cargo = tools.cargo("clippy", folder, arch);
    cargo.args(["--profile", PROFILE, "--package", PROGRAM, "--locked"]);
    succeed(cargo.args(["--", "-D", "warnings"]))?;
    println!("{} linted in {} s", arch.triple(), start.elapsed().as_secs());
    Ok(())
}

/// Refuses a program that would not start on every Mac, and prints what the others are.
fn show(program: &Path, expected: &[Arch]) -> anyhow::Result<()> {
    let bytes = std::fs::read(program).with_context(|| format!("reading {}", program.display()))?;
    let slices = macho::read(&bytes).with_context(|| program.display().to_string())?;
    let mistakes = macho::mistakes(&slices, expected);
    println!("{}: {:.1} MB", program.display(), bytes.len() as f64 / 1e6);
    for slice in &slices {
        println!("  {slice}");
    }
    if !mistakes.is_empty() {
        bail!("{} is not fit to be given away: {}", program.display(), mistakes.join("; "));
    }
    Ok(())
}
