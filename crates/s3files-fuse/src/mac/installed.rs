//! What of macFUSE is on this machine, and which ways to a FUSE device it offers.
//!
//! Ways come and go with its releases. `fuse_mount_compat25` of libfuse 2 has answered −1 since 5.3.0 (fuser #736,
//! #752); 5.3.0 to 5.3.2 have no public way through libfuse 2 at all; from 5.3.3 on, `fuse_mount` and a duplicate of
//! `fuse_chan_fd` work. Beside them, since 4.0, `mount_macfuse` hands a device over to whoever starts it.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where macFUSE is installed.
pub const BUNDLE: &str = "/Library/Filesystems/macfuse.fs";
/// Where its version 2 library lies.
const LIBFUSE: &str = "/usr/local/lib/libfuse.2.dylib";

/// The oldest that hands a device over by a socket alone.
const FIRST_WITH_HELPER: Version = Version(4, 0, 0);
/// The first whose `fuse_mount_compat25` does nothing.
const FIRST_WITHOUT_COMPAT: Version = Version(5, 3, 0);
/// The first whose `fuse_mount` gives a channel with a device.
const FIRST_WITH_CHANNEL: Version = Version(5, 3, 3);

/// `CFBundleVersion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32, u32, u32);

impl Version {
    /// Reads `5.3.2`, `5.3` and `5.3.0-beta2`.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().splitn(3, '.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse().ok()
        });
        Some(Self(numbers.next()??, numbers.next().flatten().unwrap_or(0), numbers.next().flatten().unwrap_or(0)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A way to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Start `mount_macfuse`, which sends the device.
    Helper,
    /// `fuse_mount` of libfuse 2, and a duplicate of its channel's descriptor.
    Channel,
    /// `fuse_mount_compat25` of libfuse 2, which answers with the descriptor.
    Compat,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Helper => "mount_macfuse",
            Self::Channel => "libfuse's fuse_mount",
            Self::Compat => "libfuse's fuse_mount_compat25",
        })
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// macFUSE is there.
    pub bundle: bool,
    /// Its version, if that can be read.
    pub version: Option<Version>,
    /// `mount_macfuse`, which belongs to the kernel backend.
    pub helper: Option<PathBuf>,
    /// The framework of the FSKit backend.
    pub fskit: bool,
    /// libfuse 2.
    pub libfuse: Option<PathBuf>,
}

impl Installed {
    /// Looks under `root`, which is `/` but in tests.
    pub fn look(root: &Path) -> Self {
        let below = |path: &str| root.join(path.trim_start_matches('/'));
        let bundle = below(BUNDLE);
        let helper = bundle.join("Contents/Resources/mount_macfuse");
        let libfuse = below(LIBFUSE);
        Self {
            bundle: bundle.is_dir(),
            version: version_in(&bundle.join("Contents/Info.plist")),
            helper: helper.is_file().then_some(helper),
            fskit: bundle.join("Contents/Frameworks/MFMount.framework").is_dir(),
            libfuse: libfuse.is_file().then_some(libfuse),
        }
    }

    /// What a person wants to know of it, in a line.
    pub fn describe(&self) -> String {
        let name = match self.version {
            Some(version) => format!("macFUSE {version}"),
            None if self.bundle => "macFUSE of an unknown version".to_owned(),
            None => "no macFUSE".to_owned(),
        };
        match self.ways() {
            Ok(ways) => {
                let ways: Vec<_> = ways.iter().map(Way::to_string).collect();
                format!("{name}, mounting by {}", ways.join(", else by "))
            }
            Err(_) => name,
        }
    }

    /// The ways to try, best first; an error is a sentence that says what to install.
    pub fn ways(&self) -> Result<Vec<Way>, String> {
        const GET: &str = "get macFUSE 5 from https://macfuse.io, allow its system extension in System Settings > \
                           Privacy & Security, and restart";
        if !self.bundle {
            return Err(format!("macFUSE is not installed; {GET}"));
        }
        if let Some(old) = self.version.filter(|version| *version < FIRST_WITH_HELPER) {
            return Err(format!("macFUSE {old} is too old; {GET}"));
        }
        let mut ways = Vec::new();
        if self.helper.is_some() {
            ways.push(Way::Helper);
        }
        if self.libfuse.is_some() {
            ways.extend(match self.version {
                Some(version) if version >= FIRST_WITH_CHANNEL => Some(Way::Channel),
                Some(version) if version >= FIRST_WITHOUT_COMPAT => None,
                Some(_) => Some(Way::Compat),
                None => None,
            });
        }
        if !ways.is_empty() {
            return Ok(ways);
        }
        Err(if self.fskit {
            format!("this macFUSE has its FSKit backend only, which this program cannot use yet; {GET}")
        } else {
            format!("macFUSE is not complete ({BUNDLE} holds no mount_macfuse); {GET}")
        })
    }
}

/// `CFBundleVersion` of a property list in any of Apple's formats.
fn version_in(file: &Path) -> Option<Version> {
    let list = plist::Value::from_file(file).ok()?;
    Version::parse(list.as_dictionary()?.get("CFBundleVersion")?.as_string()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn of(version: &str) -> Installed {
        Installed {
            bundle: true,
            version: Version::parse(version),
            helper: Some("/h".into()),
            fskit: true,
            libfuse: Some("/l".into()),
        }
    }

    #[test]
    fn each_release_gets_the_ways_that_it_has() {
        for (version, after_the_helper) in [
            ("4.0.0", Some(Way::Compat)),
            ("4.10.2", Some(Way::Compat)),
            ("5.2.0", Some(Way::Compat)),
            ("5.2.99", Some(Way::Compat)),
            ("5.3.0", None),
            ("5.3.2", None),
            ("5.3.3", Some(Way::Channel)),
            ("5.4", Some(Way::Channel)),
            ("6.0.0", Some(Way::Channel)),
            ("no version", None),
        ] {
            let ways = of(version).ways().unwrap();
            assert_eq!(ways[0], Way::Helper, "{version}");
            assert_eq!(ways.get(1).copied(), after_the_helper, "{version}");
        }
    }

    #[test]
    fn without_the_helper_only_a_library_that_works_is_tried() {
        assert_eq!(Installed { helper: None, ..of("5.3.3") }.ways(), Ok(vec![Way::Channel]));
        assert_eq!(Installed { helper: None, ..of("5.1.0") }.ways(), Ok(vec![Way::Compat]));
        let sentence = Installed { helper: None, fskit: false, ..of("5.3.1") }.ways().unwrap_err();
        assert!(sentence.contains("not complete"), "{sentence}");
    }

    #[test]
    fn the_ways_are_told_in_their_order() {
        let line = of("5.4").describe();
        assert_eq!(line, "macFUSE 5.4.0, mounting by mount_macfuse, else by libfuse's fuse_mount");
    }

    #[test]
    fn what_cannot_work_is_told_with_what_to_install() {
        let missing = Installed::default().ways().unwrap_err();
        assert_eq!(Installed::default().describe(), "no macFUSE");
        assert!(missing.starts_with("macFUSE is not installed; get macFUSE 5"), "{missing}");
        assert!(of("3.11.2").ways().unwrap_err().starts_with("macFUSE 3.11.2 is too old"));
        let fskit = Installed { helper: None, libfuse: None, ..of("6.0.0") }.ways().unwrap_err();
        assert!(fskit.contains("FSKit backend only"), "{fskit}");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(Version::parse("4.10.0") > Version::parse("4.9.9"));
        assert_eq!(Version::parse("5.3.0-beta2"), Some(Version(5, 3, 0)));
        assert_eq!(Version::parse("5"), Some(Version(5, 0, 0)));
        for bad in ["", "x", ".5", "99999999999"] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_installation_is_recognised_by_its_files() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Installed::look(root.path()), Installed::default());
        let contents = root.path().join("Library/Filesystems/macfuse.fs/Contents");
        std::fs::create_dir_all(contents.join("Resources")).unwrap();
        let mut list = plist::Dictionary::new();
        list.insert("CFBundleVersion".to_owned(), "5.3.2".into());
        plist::Value::Dictionary(list).to_file_binary(contents.join("Info.plist")).unwrap();
        std::fs::write(contents.join("Resources/mount_macfuse"), b"").unwrap();
        let found = Installed::look(root.path());
        assert_eq!((found.version, found.fskit), (Some(Version(5, 3, 2)), false));
        assert_eq!(found.ways(), Ok(vec![Way::Helper]));
        assert_eq!(found.describe(), "macFUSE 5.3.2, mounting by mount_macfuse");
        std::fs::write(contents.join("Info.plist"), b"garbage").unwrap();
        assert_eq!(Installed::look(root.path()).version, None);
    }
}
