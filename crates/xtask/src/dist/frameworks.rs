//! What a linker must know of macOS's frameworks: where they lie on a Mac, and what they export.
//!
//! zig brings the C library's part and nothing else. Rust's crates for a framework declare what they call, so a list of
//! those names is a stub that is right for them, whichever release they are of.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::cargo;

/// Frameworks, and the crates that declare them.
const FRAMEWORKS: [(&str, &str); 2] =
    [("CoreFoundation", "core-foundation-sys"), ("Security", "security-framework-sys")];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
}

/// Writes the stubs; returns the folder that a linker is to search.
pub fn write(folder: &Path) -> anyhow::Result<PathBuf> {
    let stubs = std::path::absolute(folder.join("frameworks"))?;
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "aarch64-apple-darwin"]);
    let output = metadata.output().context("starting cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    for (framework, package) in FRAMEWORKS {
        let of_package = metadata.packages.iter().filter(|known| known.name == package);
        let mut names = BTreeSet::new();
        for sources in of_package.filter_map(|known| known.manifest_path.parent()) {
            collect(&sources.join("src"), &mut names)?;
        }
        let place = stubs.join(format!("{framework}.framework"));
        std::fs::create_dir_all(&place).with_context(|| format!("making {}", place.display()))?;
        std::fs::write(place.join(format!("{framework}.tbd")), stub(framework, &names))?;
    }
    Ok(stubs)
}

fn collect(folder: &Path, names: &mut BTreeSet<String>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, names)?;
        } else {
            names.extend(declared(&std::fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

/// The functions and variables of a source's `extern` blocks.
fn declared(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in source.lines() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("extern \"C\"") || trimmed.starts_with("unsafe extern \"C\"") {
            inside = trimmed.ends_with('{');
        } else if line.starts_with('}') {
            inside = false;
        } else if inside {
            let after =
                ["pub fn ", "pub static mut ", "pub static "].iter().find_map(|start| trimmed.strip_prefix(start));
            if let Some(rest) = after {
                names.push(rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect());
            }
        }
    }
    names
}

/// Apple's text form of a library's interface, version 4.
fn stub(framework: &str, names: &BTreeSet<String>) -> String {
    const TARGETS: &str = "[ x86_64-macos, arm64-macos ]";
    let symbols: Vec<_> = names.iter().map(|name| format!("_{name}")).collect();
    format!(
        "--- !tapi-tbd\ntbd-version: 4\ntargets: {TARGETS}\n\
         install-name: '/System/Library/Frameworks/{framework}.framework/Versions/A/{framework}'\n\
         exports:\n  - targets: {TARGETS}\n    symbols: [ {} ]\n...\n",
        symbols.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_framework_exports_is_in_its_stub() {
        let source = "pub fn ours() {}\n\
                      #[link(name = \"X\", kind = \"framework\")]\n\
                      extern \"C\" {\n    pub fn XMake(\n        a: u32,\n    ) -> u32;\n    pub static kX: u8;\n}\n\
                      pub static OURS: u8 = 1;\n\
                      pub type Back = extern \"C\" fn(u32);\n";
        assert_eq!(declared(source), ["XMake", "kX"]);
        let stub = stub("X", &declared(source).into_iter().collect());
        assert!(stub.contains("'/System/Library/Frameworks/X.framework/Versions/A/X'"), "{stub}");
        assert!(stub.contains("symbols: [ _XMake, _kX ]") && stub.ends_with("...\n"), "{stub}");
    }
}
