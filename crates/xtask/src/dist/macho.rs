//! What is in a Mach-O file, and whether every Mac could start it.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use fat_macho::FatWriter;
use goblin::mach::constants::cputype::{CPU_TYPE_ARM64, CPU_TYPE_X86_64};
use goblin::mach::header::MH_EXECUTE;
use goblin::mach::load_command::CommandVariant;
use goblin::mach::{Mach, MachO};

/// Where macOS keeps the libraries that every Mac has.
const SYSTEM: [&str; 2] = ["/usr/lib/", "/System/"];

/// The oldest macOS that the program is built for: the oldest that macFUSE 5 installs on.
pub const OLDEST: (u32, u32) = (12, 0);

/// An architecture that Macs have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// Apple silicon.
    Arm64,
    /// Intel.
    X86_64,
}

impl Arch {
    /// Rust's name of the target.
    pub fn triple(self) -> &'static str {
        match self {
            Self::Arm64 => "aarch64-apple-darwin",
            Self::X86_64 => "x86_64-apple-darwin",
        }
    }
}

/// One program of a file; a universal file has several.
#[derive(Debug, PartialEq, Eq)]
pub struct Slice {
    arch: Option<Arch>,
    executable: bool,
    /// Has a signature, if only its own: Apple silicon starts nothing without.
    signed: bool,
    /// Oldest macOS that it wants to run on.
    oldest: Option<(u32, u32)>,
    libraries: Vec<String>,
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.arch.map_or("an unknown architecture", Arch::triple))?;
        if let Some((major, minor)) = self.oldest {
            write!(f, ", macOS {major}.{minor} and later")?;
        }
        write!(f, ", {}, needs {}", if self.signed { "signed" } else { "not signed" }, self.libraries.join(" "))
    }
}

/// Takes a file apart.
pub fn read(bytes: &[u8]) -> anyhow::Result<Vec<Slice>> {
    match Mach::parse(bytes).context("this is no Mach-O file")? {
        Mach::Binary(program) => Ok(vec![slice(&program)]),
        Mach::Fat(programs) => (0..programs.narches)
            .map(|index| match programs.get(index).context("a part of it cannot be read")? {
                goblin::mach::SingleArch::MachO(program) => Ok(slice(&program)),
                goblin::mach::SingleArch::Archive(_) => bail!("a part of it is an archive"),
            })
            .collect(),
    }
}

fn slice(program: &MachO<'_>) -> Slice {
    let commands = || program.load_commands.iter().map(|command| &command.command);
    let version = |packed: u32| (packed >> 16, packed >> 8 & 0xff);
    Slice {
        arch: match program.header.cputype() {
            CPU_TYPE_ARM64 => Some(Arch::Arm64),
            CPU_TYPE_X86_64 => Some(Arch::X86_64),
            _ => None,
        },
        executable: program.header.filetype == MH_EXECUTE,
        signed: commands().any(|command| matches!(command, CommandVariant::CodeSignature(_))),
        oldest: commands().find_map(|command| match command {
            CommandVariant::BuildVersion(build) => Some(version(build.minos)),
            CommandVariant::VersionMinMacosx(least) => Some(version(least.version)),
            _ => None,
        }),
        // goblin counts the program itself as the first.
        libraries: program.libs.iter().filter(|name| **name != "self").map(|name| (*name).to_owned()).collect(),
    }
}

/// Why a file cannot be given away; empty for one that can.
pub fn mistakes(slices: &[Slice], expected: &[Arch]) -> Vec<String> {
    let mut mistakes = Vec::new();
    let found: Vec<_> = slices.iter().map(|slice| slice.arch).collect();
    for arch in expected.iter().filter(|arch| !found.contains(&Some(**arch))) {
        mistakes.push(format!("nothing in it is for {}", arch.triple()));
    }
    if slices.len() != expected.len() {
        mistakes.push(format!("it has {} parts instead of {}", slices.len(), expected.len()));
    }
    for slice in slices {
        let name = slice.arch.map_or("another architecture", Arch::triple);
        if !slice.executable {
            mistakes.push(format!("the part for {name} is no program"));
        }
        if slice.arch == Some(Arch::Arm64) && !slice.signed {
            mistakes.push(format!("the part for {name} is not signed, and Apple silicon starts no such program"));
        }
        if slice.oldest.is_none_or(|oldest| oldest > OLDEST) {
            let (major, minor) = OLDEST;
            mistakes.push(format!("the part for {name} does not say that macOS {major}.{minor} starts it"));
        }
        let foreign = slice.libraries.iter().filter(|library| !SYSTEM.iter().any(|place| library.starts_with(place)));
        mistakes
            .extend(foreign.map(|library| format!("the part for {name} needs {library}, which is not part of macOS")));
    }
    mistakes
}

/// Puts programs for several architectures into one file.
pub fn join(programs: &[PathBuf], into: &Path) -> anyhow::Result<()> {
    let mut writer = FatWriter::new();
    for program in programs {
        let bytes = std::fs::read(program).with_context(|| format!("reading {}", program.display()))?;
        writer.add(bytes).map_err(|error| anyhow::anyhow!("{}: {error}", program.display()))?;
    }
    writer.write_to_file(into).map_err(|error| anyhow::anyhow!("{}: {error}", into.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const ARM: u32 = 0x0100_000c;
    const INTEL: u32 = 0x0100_0007;

    /// A Mach-O header with load commands for libraries, and with a signature or not.
    fn program(cpu: u32, libraries: &[&str], signed: bool) -> Vec<u8> {
        program_from(12, cpu, libraries, signed)
    }

    /// The same for macOS `oldest` and later.
    fn program_from(oldest: u32, cpu: u32, libraries: &[&str], signed: bool) -> Vec<u8> {
        let word = |bytes: &mut Vec<u8>, words: &[u32]| words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        let mut commands = Vec::new();
        for library in libraries {
            let size = 24 + library.len().next_multiple_of(8) + 8;
            // LC_LOAD_DYLIB: offset of the name, timestamp, two versions.
            word(&mut commands, &[0xc, size as u32, 24, 2, 0x1_0000, 0x1_0000]);
            commands.extend(library.bytes());
            commands.resize(commands.len() + size - 24 - library.len(), 0);
        }
        // LC_BUILD_VERSION: macOS, the oldest, the SDK.
        word(&mut commands, &[0x32, 24, 1, oldest << 16, 14 << 16, 0]);
        if signed {
            word(&mut commands, &[0x1d, 16, 0, 0]);
        }
        let count = libraries.len() as u32 + 1 + u32::from(signed);
        let mut bytes = Vec::new();
        word(&mut bytes, &[0xfeed_facf, cpu, 0, 2, count, commands.len() as u32, 0, 0]);
        bytes.extend(commands);
        bytes
    }

    #[test]
    fn a_program_with_system_libraries_only_passes() {
        let slices =
            read(&program(ARM, &["/usr/lib/libSystem.B.dylib", "/System/Library/Frameworks/X"], true)).unwrap();
        assert_eq!(mistakes(&slices, &[Arch::Arm64]), Vec::<String>::new());
        assert_eq!(slices[0].oldest, Some((12, 0)));
        assert_eq!(slices[0].libraries.len(), 2);
    }

    #[test]
    fn a_library_that_only_some_macs_have_is_refused() {
        for foreign in ["/usr/local/lib/libfuse.2.dylib", "@rpath/libfuse3.dylib", "/opt/homebrew/lib/libssl.dylib"] {
            let slices = read(&program(INTEL, &["/usr/lib/libSystem.B.dylib", foreign], false)).unwrap();
            let mistakes = mistakes(&slices, &[Arch::X86_64]);
            assert!(mistakes.len() == 1 && mistakes[0].contains(foreign), "{mistakes:?}");
        }
    }

    #[test]
    fn a_program_that_only_newer_macs_start_is_refused() {
        let slices = read(&program_from(15, ARM, &[], true)).unwrap();
        assert!(mistakes(&slices, &[Arch::Arm64])[0].contains("macOS 12.0"), "{slices:?}");
    }

    #[test]
    fn the_wrong_architecture_and_a_missing_signature_are_refused() {
        let slices = read(&program(INTEL, &[], false)).unwrap();
        assert!(mistakes(&slices, &[Arch::Arm64])[0].contains("nothing in it is for aarch64-apple-darwin"));
        let slices = read(&program(ARM, &[], false)).unwrap();
        assert!(mistakes(&slices, &[Arch::Arm64])[0].contains("not signed"));
    }

    #[test]
    fn a_linux_program_is_no_mach_o() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert!(read(&own).is_err());
        assert!(read(b"").is_err());
    }

    #[test]
    fn a_joined_file_holds_both_parts() {
        let dir = tempfile::tempdir().unwrap();
        let files = [(ARM, true), (INTEL, false)].map(|(cpu, signed)| {
            let path = dir.path().join(cpu.to_string());
            std::fs::write(&path, program(cpu, &["/usr/lib/libSystem.B.dylib"], signed)).unwrap();
            path
        });
        let both = dir.path().join("both");
        join(&files, &both).unwrap();
        let slices = read(&std::fs::read(both).unwrap()).unwrap();
        assert_eq!(mistakes(&slices, &[Arch::Arm64, Arch::X86_64]), Vec::<String>::new());
        assert!(!mistakes(&slices, &[Arch::Arm64]).is_empty());
    }
}
