//! Who builds for the Mac, where they are found, and the one sentence for each that is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::macho::{Arch, OLDEST};
use crate::find;

/// Parts of a Rust toolchain that Debian has under these names, all of one version.
const DEBIAN: &str = "apt-get install rustc-web cargo-web rust-web-src";
/// What zig comes with.
const ZIG: &str = "pip install ziglang cargo-zigbuild";

/// Everything that is needed.
#[derive(Debug)]
pub struct Tools {
    /// Where `rustc`, `cargo` and perhaps `cargo-clippy` are.
    rust: PathBuf,
    /// Where `cargo-zigbuild` is, and the Python whose `ziglang` it starts.
    zig: PathBuf,
    /// As `rustc` says it.
    pub rust_version: String,
    /// The same for zig.
    pub zig_version: String,
}

impl Tools {
    /// Looks for them on the path, in `FOLDER/tools` (a Python environment) and where Debian has Rust.
    pub fn find(folder: &Path) -> anyhow::Result<Self> {
        let rust = rust_with_sources()?;
        let rust_version = first_line(Command::new(rust.join("rustc")).arg("--version"))?;
        let own = folder.join("tools/bin");
        let zigbuild =
            Some(own.join("cargo-zigbuild")).filter(|program| program.is_file()).or_else(|| find("cargo-zigbuild"));
        let Some(zig) = zigbuild.as_deref().and_then(Path::parent).map(Path::to_owned) else {
            let (venv, pip) = (folder.join("tools"), own.join(ZIG));
            bail!(
                "cargo-zigbuild is missing, which links for the Mac; get it with: python3 -m venv {} && {}",
                venv.display(),
                pip.display()
            );
        };
        let python = [zig.join("python3"), "python3".into()];
        let zig_version = python
            .iter()
            .find_map(|python| first_line(Command::new(python).args(["-m", "ziglang", "version"])).ok())
            .or_else(|| first_line(Command::new("zig").arg("version")).ok())
            .with_context(|| format!("zig is missing, the compiler behind cargo-zigbuild; get it with: {ZIG}"))?;
        Ok(Self { rust, zig, rust_version, zig_version: format!("zig {zig_version}") })
    }

    /// Clippy of the same version as the compiler.
    pub fn check_clippy(&self) -> anyhow::Result<()> {
        if self.rust.join("cargo-clippy").is_file() {
            return Ok(());
        }
        bail!(
            "clippy is missing beside {}; get it with: apt-get install rust-web-clippy",
            self.rust.join("rustc").display()
        )
    }

    /// `cargo-zigbuild VERB` with the toolchain that was found, and without traces of the one that runs this.
    pub fn cargo(&self, verb: &str, folder: &Path, arch: Arch) -> Command {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = [self.zig.clone(), self.rust.clone()].into_iter().chain(std::env::split_paths(&path));
        let mut cargo = Command::new(self.zig.join("cargo-zigbuild"));
        cargo.args([verb, "--target", arch.triple(), "-Zbuild-std=std,panic_abort"]);
        cargo.env("PATH", std::env::join_paths(paths).unwrap_or(path));
        for trace in ["LD_LIBRARY_PATH", "RUSTUP_TOOLCHAIN", "RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
            cargo.env_remove(trace);
        }
        cargo
            .env("CARGO", self.rust.join("cargo"))
            .env("RUSTC", self.rust.join("rustc"))
            // A released compiler builds its own standard library only when it is told that this is meant.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("MACOSX_DEPLOYMENT_TARGET", format!("{}.{}", OLDEST.0, OLDEST.1))
            .env("CARGO_TARGET_DIR", folder);
        cargo
    }
}

/// The folder of a toolchain with the sources of its standard library: the one in use, or Debian's.
fn rust_with_sources() -> anyhow::Result<PathBuf> {
    let candidates = [find("rustc"), Some("/usr/bin/rustc".into())];
    for rustc in candidates.into_iter().flatten() {
        let Ok(root) = first_line(Command::new(rustc).args(["--print", "sysroot"])) else { continue };
        let root = PathBuf::from(root);
        let has = |part: &str| root.join(part).exists();
        if has("lib/rustlib/src/rust/library/Cargo.lock") && has("bin/rustc") && has("bin/cargo") {
            return Ok(root.join("bin"));
        }
    }
    bail!("there is no Rust toolchain with the sources of its standard library here; get Debian's with: {DEBIAN}")
}

/// What a program answers, without what it complains about.
fn first_line(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().next() {
        Some(line) if output.status.success() => Ok(line.trim().to_owned()),
        _ => bail!("{command:?} ended with {}", output.status),
    }
}
