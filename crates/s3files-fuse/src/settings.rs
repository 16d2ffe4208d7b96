//! Settings of a mount that come from a file or from `-o`: each by the long name of the option on the command line.
//!
//! The one idea: clap's own definition is the only list of options. A setting becomes the *default* of its option, so the
//! command line goes before it, help and checks are those of the option, and nothing can drift.

use std::any::TypeId;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command};

use crate::failure::Failure;

/// The verb whose options these are.
pub const VERB: &str = "mount";
/// Options that make no sense outside of the command line.
const ONLY_TYPED: [&str; 6] = ["help", "version", "options", "config", "foreground", crate::background::OPTION];

/// A setting: the option's long name, and its value as it would be typed (`true` and `false` for switches).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The option's long name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// The options of `mount` that can be set, by long name: its own, then those of every verb.
pub fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    let own = command.find_subcommand(VERB).into_iter().flat_map(Command::get_arguments);
    let settable = |arg: &&Arg| arg.get_long().is_some_and(|name| !ONLY_TYPED.contains(&name)) && !arg.is_hide_set();
    own.chain(command.get_arguments()).filter(settable)
}

/// The option of that long name.
pub fn option<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    options(command).find(|arg| arg.get_long() == Some(name))
}

/// Whether it is there or not, and takes no value.
pub fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// Whether its value is a path.
pub fn is_path(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<PathBuf>()
}

/// The name that was probably meant.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|known| (strsim::jaro_winkler(name, known), known));
    let best = scored.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.filter(|(score, _)| *score > 0.75).map(|(_, known)| known)
}

/// What to say of a name that is no option.
pub fn unknown(name: &str, command: &Command, further: &[&str]) -> String {
    let known = options(command).filter_map(Arg::get_long).chain(further.iter().copied());
    match nearest(name, known) {
        Some(meant) => format!("`{name}` is unknown; did you mean `{meant}`?"),
        None => format!("`{name}` is unknown; `s3files-fuse mount --help` lists all"),
    }
}

/// Makes settings the defaults of their options.
pub fn apply(mut command: Command, settings: &[Setting]) -> Command {
    for Setting { name, value } in settings {
        let Some(id) = option(&command, name).map(|arg| arg.get_id().clone()) else { continue };
        let set = |arg: Arg| arg.default_value(value.clone());
        let is_everywhere = command.get_arguments().any(|arg| *arg.get_id() == id);
        command = if is_everywhere {
            command.mut_arg(id.as_str(), set)
        } else {
            command.mut_subcommand(VERB, |mount| mount.mut_arg(id.as_str(), set))
        };
    }
    command
}

/// Whether the settings would be taken if they were typed: each value, and all together. What is wrong is one sentence.
pub fn check(command: &Command, settings: &[Setting]) -> Result<(), String> {
    let mut typed = vec![command.get_name().to_owned(), VERB.to_owned(), "localhost".to_owned(), "/".to_owned()];
    for Setting { name, value } in settings {
        match option(command, name) {
            None => return Err(unknown(name, command, &[])),
            Some(arg) if !is_switch(arg) => typed.push(format!("--{name}={value}")),
            Some(_) if value == "true" => typed.push(format!("--{name}")),
            Some(_) if value == "false" => {}
            Some(_) => return Err(format!("`{name}` is a switch: true or false, not `{value}`")),
        }
    }
    match command.clone().try_get_matches_from(typed) {
        Ok(_) => Ok(()),
        Err(error) => Err(sentence(&error)),
    }
}

/// clap's first paragraph on one line.
fn sentence(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

/// The same as a failure, which says where the settings are from.
pub fn refuse(from: &str, why: &str) -> Failure {
    Failure::Usage(format!("{from}: {why}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::cli::command;

    fn setting(name: &str, value: &str) -> Setting {
        Setting { name: name.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn every_option_of_mount_can_be_set_but_those_for_typing() {
        let command = command();
        for name in ["region", "port", "read-only", "cache-size", "soft", "log-level", "as-groups", "profile"] {
            assert!(option(&command, name).is_some(), "{name}");
        }
        for name in ["foreground", "background-copy", "options", "config", "help", "target", "folder"] {
            assert!(option(&command, name).is_none(), "{name}");
        }
    }

    #[test]
    fn settings_are_judged_as_if_they_were_typed() {
        let command = command();
        let check = |settings: &[Setting]| check(&command, settings);
        assert_eq!(check(&[setting("port", "443"), setting("read-only", "true")]), Ok(()));
        assert!(check(&[setting("port", "0")]).unwrap_err().contains("--port"));
        assert!(check(&[setting("read-only", "perhaps")]).unwrap_err().contains("switch"));
        assert!(check(&[setting("regoin", "x")]).unwrap_err().contains("did you mean `region`?"));
        let both = check(&[setting("plain", "true"), setting("region", "us-east-1")]).unwrap_err();
        assert!(both.contains("cannot be used with"), "{both}");
        for sentence in [check(&[setting("port", "x")]).unwrap_err(), both] {
            assert!(!sentence.contains('\n') && !sentence.starts_with("error"), "{sentence}");
        }
    }

    #[test]
    fn what_is_typed_goes_before_what_is_set() {
        let settings = [
            setting("port", "443"),
            setting("region", "eu-central-1"),
            setting("read-only", "true"),
            setting("as-groups", "4,24"),
            setting("log-level", "info"),
        ];
        let command = apply(command(), &settings);
        let typed = ["s3files-fuse", "mount", "host", "/folder", "--port", "99"];
        let matches = command.try_get_matches_from(typed).unwrap();
        let mount = matches.subcommand_matches("mount").unwrap();
        assert_eq!(mount.get_one::<u16>("port"), Some(&99));
        assert!(mount.get_flag("read_only"));
        let groups: Vec<u32> = mount.get_many("as-groups").unwrap().copied().collect();
        assert_eq!(groups, [4, 24]);
        assert_eq!(mount.get_one::<String>("log_level").unwrap(), "info");
    }
}
