//! Which names are Finder's own, and what is to become of them.

use clap::ValueEnum;

/// What becomes of the names that macOS makes for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MacFiles {
    /// Kept on this computer, never written to S3.
    Local,
    /// Refused.
    Deny,
    /// Files like all others.
    Store,
}

/// Where extended attributes live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Xattrs {
    /// On this computer, where the server keeps none.
    Local,
    /// On the server or nowhere.
    Server,
}

/// In which form names go to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Names {
    /// Composed (Unicode NFC), as other systems write them.
    Nfc,
    /// As programs give them.
    AsGiven,
}

/// What a mount was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manners {
    /// See [`MacFiles`].
    pub mac_files: MacFiles,
    /// See [`Xattrs`].
    pub xattrs: Xattrs,
    /// See [`Names`].
    pub names: Names,
    /// Most bytes that are kept on this computer for one file system.
    pub limit: u64,
}

impl Default for Manners {
    /// A Mac's on a Mac; elsewhere, nothing special.
    fn default() -> Self {
        let limit = 1 << 30;
        if cfg!(target_os = "macos") {
            Self { mac_files: MacFiles::Local, xattrs: Xattrs::Local, names: Names::Nfc, limit }
        } else {
            Self { mac_files: MacFiles::Store, xattrs: Xattrs::Server, names: Names::AsGiven, limit }
        }
    }
}

/// Whether a name in a directory of the server is one of those that macOS makes for itself.
pub fn is_macs(name: &[u8]) -> bool {
    const WHOLE: [&[u8]; 4] = [b".DS_Store", b".Spotlight-V100", b".Trashes", b".fseventsd"];
    WHOLE.contains(&name) || (name.starts_with(b"._") && name.len() > 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_macs_own_names_are_told_from_all_others() {
        for name in [".DS_Store", "._x", "._.DS_Store", ".Spotlight-V100", ".Trashes", ".fseventsd", "._é"] {
            assert!(is_macs(name.as_bytes()), "{name}");
        }
        for name in [".", "..", "._", ".ds_store", "DS_Store", ".DS_Store2", "x._y", ".Trash", "_x", "", ".gitignore"] {
            assert!(!is_macs(name.as_bytes()), "{name}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn without_options_nothing_changes_for_linux() {
        let manners = Manners::default();
        assert_eq!(
            (manners.mac_files, manners.xattrs, manners.names),
            (MacFiles::Store, Xattrs::Server, Names::AsGiven)
        );
    }
}
