//! `config path|show|check`

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::{Args, Subcommand};

use crate::config::{Config, Named};
use crate::failure::Failure;

/// Show and check the configuration file, which holds named mounts.
///
/// A mount named `work` is a section: `[mounts.work]` with `target = "…"`, `folder = "…"`, and any option of `mount` by its
/// long name, such as `region = "eu-central-1"` or `read-only = true`. Then `mount work`, `umount work` and `status work`
/// are enough.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// Print where the file is, or would be.
    Path,
    /// Print the mounts with their options.
    Show {
        /// Only this one.
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Look for mistakes, and name all of them.
    Check,
}

impl ConfigArgs {
    /// Carries it out.
    pub fn run(self, config: &Config) -> Result<(), Failure> {
        let command = super::command();
        let text = match self.what {
            What::Path => format!("{}\n", config.path().display()),
            What::Show { name: Some(name) } => page(&config.named(&name, &command)?),
            What::Show { name: None } => {
                let mounts = config.mounts(&command)?;
                let pages: Vec<_> = mounts.iter().map(page).collect();
                if pages.is_empty() { format!("{} has no mounts\n", config.path().display()) } else { pages.join("\n") }
            }
            What::Check => {
                let (mounts, mistakes) = config.read(&command)?;
                if !mistakes.is_empty() {
                    let all = mistakes.join("; ");
                    return Err(Failure::Usage(format!("{}: {all}", config.path().display())));
                }
                let count = match mounts.len() {
                    1 => "1 mount".to_owned(),
                    count => format!("{count} mounts"),
                };
                format!("{} is in order: {count}\n", config.path().display())
            }
        };
        match io::stdout().write_all(text.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::Other(format!("the configuration cannot be printed: {error}")))
            }
            _ => Ok(()),
        }
    }
}

fn page(mount: &Named) -> String {
    let mut text = format!("{}\n", mount.name);
    let folder = mount.folder.display().to_string();
    let places = [("target", mount.target.as_str()), ("folder", &folder)];
    let settings = mount.settings.iter().map(|setting| (setting.name.as_str(), setting.value.as_str()));
    for (name, value) in places.into_iter().chain(settings) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {name:20} {value}");
    }
    text
}
