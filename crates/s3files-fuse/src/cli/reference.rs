//! What is made from the command line's own definition: completions for shells, man pages, and docs/CONFIGURATION.md.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Arg, Args, Command, Subcommand};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::settings;

/// Print completions for a shell.
///
/// For bash: `s3files-fuse completions bash > ~/.local/share/bash-completion/completions/s3files-fuse`. For zsh: into a
/// file `_s3files-fuse` in a directory of $fpath. For fish: `~/.config/fish/completions/s3files-fuse.fish`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl CompletionsArgs {
    /// Carries it out.
    pub fn run(self) -> Result<(), Failure> {
        let mut command = super::command();
        let name = command.get_name().to_owned();
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut text);
        print(&text)
    }
}

/// Make documents from the command line's definition, for packages.
#[derive(Debug, Clone, Args)]
pub struct GenerateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// Write man pages into a directory.
    Man {
        /// The directory, which must exist.
        #[arg(value_name = "DIRECTORY")]
        directory: PathBuf,
    },
    /// Print docs/CONFIGURATION.md.
    Configuration,
}

impl GenerateArgs {
    /// Carries it out.
    pub fn run(self) -> Result<(), Failure> {
        match self.what {
            What::Man { directory } => clap_mangen::generate_to(super::command(), &directory).map_err(|error| {
                Failure::Other(format!("man pages cannot be written into {}: {error}", directory.display()))
            }),
            What::Configuration => print(configuration().as_bytes()),
        }
    }
}

fn print(text: &[u8]) -> Result<(), Failure> {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Other(format!("the text cannot be printed: {error}")))
        }
        _ => Ok(()),
    }
}

/// docs/CONFIGURATION.md.
pub fn configuration() -> String {
    let mut command = super::command();
    command.build();
    let mut text = include_str!("reference.md").to_owned();
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        section(&mut text, verb, "##");
    }
    text.push_str("\n## Options of every command\n\n");
    table(&mut text, command.get_arguments().filter(|arg| arg.is_global_set()));
    text
}

fn section(text: &mut String, verb: &Command, level: &str) {
    let about = verb.get_long_about().or_else(|| verb.get_about()).map(ToString::to_string).unwrap_or_default();
    let usage = verb.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").split_whitespace().collect::<Vec<_>>().join(" ");
    let name = verb.get_bin_name().unwrap_or_else(|| verb.get_name());
    let name = name.strip_prefix("s3files-fuse ").unwrap_or(name);
    // Writing to a string does not fail.
    let _ = write!(text, "\n{level} {name}\n\n```\n{usage}\n```\n\n{}\n", about.trim());
    let own = || verb.get_arguments().filter(|arg| !arg.is_global_set() && !arg.is_hide_set() && !is_help(arg));
    let mut headings: Vec<Option<&str>> = own().map(Arg::get_help_heading).collect();
    let mut seen = Vec::new();
    headings.retain(|heading| {
        !seen.contains(heading) && {
            seen.push(*heading);
            true
        }
    });
    for heading in headings {
        match heading {
            Some(heading) => {
                let _ = write!(text, "\n{heading}:\n\n");
            }
            None => text.push('\n'),
        }
        table(text, own().filter(|arg| arg.get_help_heading() == heading));
    }
    for further in verb.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        section(text, further, "###");
    }
}

fn is_help(arg: &Arg) -> bool {
    matches!(arg.get_id().as_str(), "help" | "version")
}

fn table<'a>(text: &mut String, args: impl Iterator<Item = &'a Arg>) {
    text.push_str("| | | default |\n| --- | --- | --- |\n");
    for arg in args.filter(|arg| !is_help(arg)) {
        let help = arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
        let mut help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(variable) = arg.get_env() {
            let _ = write!(help, " Also from the environment: `{}`.", variable.to_string_lossy());
        }
        let values: Vec<_> = arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
        if !values.is_empty() && !settings::is_switch(arg) {
            let end = if help.is_empty() || help.ends_with(['.', ')', ';']) { "" } else { "." };
            let _ = write!(help, "{end} One of {}.", values.join(", "));
        }
        let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let default = match defaults.join(",") {
            none if none.is_empty() || settings::is_switch(arg) => String::new(),
            some => format!("`{some}`"),
        };
        let _ = writeln!(text, "| {} | {} | {} |", name(arg), help.replace('|', "\\|"), default);
    }
}

/// An option as it is typed.
fn name(arg: &Arg) -> String {
    let values: Vec<_> = arg.get_value_names().into_iter().flatten().map(ToString::to_string).collect();
    let value = values.join(" ");
    let takes_value = arg.get_action().takes_values();
    match (arg.get_short(), arg.get_long()) {
        (None, None) => format!("`{value}`"),
        (short, long) => {
            let mut names = Vec::new();
            names.extend(short.map(|short| format!("-{short}")));
            names.extend(long.map(|long| format!("--{long}")));
            let names = names.join(", ");
            if takes_value { format!("`{names} {value}`") } else { format!("`{names}`") }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// On Linux only: a Mac has options of its own.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_committed_reference_is_what_the_command_line_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/CONFIGURATION.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == configuration(),
            "docs/CONFIGURATION.md is out of date; make it anew: cargo run -- generate configuration > \
             docs/CONFIGURATION.md"
        );
    }

    #[test]
    fn every_option_of_mount_is_in_the_reference() {
        let (text, command) = (configuration(), super::super::command());
        for option in settings::options(&command) {
            let name = format!("--{}", option.get_long().unwrap());
            assert!(text.contains(&name), "{name}");
        }
        assert!(!text.contains("background-copy"));
    }
}
