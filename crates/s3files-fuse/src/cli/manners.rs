//! The options of a Mac's manners. They work everywhere; only what holds without them depends on the system.

use clap::Args;

use super::mount::size;
use crate::local::policy::{MacFiles, Manners, Names, Xattrs};

/// See the module's page.
#[derive(Debug, Clone, Args)]
pub struct MannersArgs {
    /// What becomes of the names that macOS makes for itself (.DS_Store, ._*, .Spotlight-V100, .Trashes, .fseventsd). Without
    /// it: local on a Mac, store elsewhere.
    #[arg(long, value_enum, value_name = "WHAT", help_heading = "A Mac's manners")]
    mac_files: Option<MacFiles>,
    /// Where extended attributes live that the server does not keep (S3 Files keeps none). Without it: local on a Mac,
    /// server elsewhere.
    #[arg(long, value_enum, value_name = "WHERE", help_heading = "A Mac's manners")]
    xattrs: Option<Xattrs>,
    /// In which form names go to the server. Without it: nfc on a Mac, as-given elsewhere.
    #[arg(long, value_enum, value_name = "FORM", help_heading = "A Mac's manners")]
    names: Option<Names>,
    /// Most bytes that are kept on this computer for one file system, in local files and attributes.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1G", help_heading = "A Mac's manners")]
    local_limit: u64,
}

impl MannersArgs {
    /// What was asked for, and this system's usual for the rest.
    pub fn manners(&self) -> Manners {
        let usual = Manners::default();
        Manners {
            mac_files: self.mac_files.unwrap_or(usual.mac_files),
            xattrs: self.xattrs.unwrap_or(usual.xattrs),
            names: self.names.unwrap_or(usual.names),
            limit: self.local_limit,
        }
    }
}
