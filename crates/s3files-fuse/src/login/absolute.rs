//! Paths of a command line of `mount`, made absolute: a job starts somewhere else.
//!
//! clap's own definition says which words are paths, as it does for settings of a file or of `-o`; only the words are
//! walked here, because clap does not tell where in the command line a value stood.

use std::path::Path;

use clap::{Arg, Command};

use crate::failure::Failure;
use crate::fstab;
use crate::settings::{self, VERB};

/// Puts `folder`, which is absolute, in place of the folder that was typed, and makes every other path absolute.
pub fn make_absolute(arguments: &mut [String], command: &Command, folder: &Path) -> Result<(), Failure> {
    let mut positional = 0;
    let mut only_names = false;
    let mut next: Option<&Arg> = None;
    for word in arguments {
        if let Some(arg) = next.take() {
            *word = value(arg, word, command)?;
        } else if only_names || word == "-" || !word.starts_with('-') {
            positional += 1;
            // The target is no path. A name in the configuration stands alone.
            if positional == 2 {
                *word = text(folder)?;
            }
        } else if word == "--" {
            only_names = true;
        } else if let Some(long) = word.strip_prefix("--") {
            match long.split_once('=') {
                Some((name, old)) => {
                    if let Some(arg) = named(command, name) {
                        *word = format!("--{name}={}", value(arg, old, command)?);
                    }
                }
                None => next = named(command, long).filter(|arg| takes_value(arg)),
            }
        } else {
            next = short(word, command)?;
        }
    }
    Ok(())
}

/// Options in one word, as `-fo ro`. Returns the one whose value is the next word.
fn short<'a>(word: &mut String, command: &'a Command) -> Result<Option<&'a Arg>, Failure> {
    for (at, letter) in word.char_indices().skip(1) {
        let Some(arg) = all(command).find(|arg| arg.get_short() == Some(letter)) else { return Ok(None) };
        if takes_value(arg) {
            let (options, rest) = word.split_at(at + letter.len_utf8());
            if rest.is_empty() {
                return Ok(Some(arg));
            }
            *word = format!("{options}{}", value(arg, rest.strip_prefix('=').unwrap_or(rest), command)?);
            return Ok(None);
        }
    }
    Ok(None)
}

/// The value with its paths made absolute.
fn value(arg: &Arg, typed: &str, command: &Command) -> Result<String, Failure> {
    if settings::is_path(arg) {
        return absolute(typed);
    }
    if arg.get_long() != Some("options") {
        return Ok(typed.to_owned());
    }
    let options: Result<Vec<String>, Failure> = typed.split(',').map(|option| of_fstab(option, command)).collect();
    Ok(options?.join(","))
}

fn of_fstab(option: &str, command: &Command) -> Result<String, Failure> {
    let Some(path) = fstab::path(option, command) else { return Ok(option.to_owned()) };
    let absolute = absolute(path)?;
    let name = option.strip_suffix(path).unwrap_or_default();
    // It would end the option.
    if absolute.contains(',') {
        return Err(Failure::Usage(format!(
            "-o {option}: the whole path, {absolute}, has a comma in it, which -o cannot hold; write it as an option of \
             its own, --{} FILE",
            name.trim_end_matches('=').replace('_', "-")
        )));
    }
    Ok(format!("{name}{absolute}"))
}

fn absolute(typed: &str) -> Result<String, Failure> {
    let path = std::path::absolute(typed)
        .map_err(|error| Failure::Usage(format!("{typed} cannot be made an absolute path: {error}")))?;
    text(&path)
}

fn text(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::Usage(format!(
            "{} has a name that is no UTF-8, which service managers do not take; choose another place",
            path.display()
        ))
    })
}

/// The options of `mount`, and those of every verb.
fn all(command: &Command) -> impl Iterator<Item = &Arg> {
    let own = command.find_subcommand(VERB).into_iter().flat_map(Command::get_arguments);
    own.chain(command.get_arguments())
}

fn named<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let is_alias = |arg: &Arg| arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name));
    all(command).find(|arg| arg.get_long() == Some(name) || is_alias(arg))
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn made(typed: &[&str]) -> Result<Vec<String>, Failure> {
        let mut arguments: Vec<_> = typed.iter().map(|word| (*word).to_owned()).collect();
        make_absolute(&mut arguments, &crate::cli::command(), Path::new("/home/a/data"))?;
        let here = std::env::current_dir().unwrap().display().to_string();
        Ok(arguments.into_iter().map(|word| word.replace(&here, "HERE")).collect())
    }

    #[test]
    fn every_path_becomes_absolute_however_it_is_written_and_nothing_else_changes() {
        for (typed, wanted) in [
            ("--ca-file=ca.pem fs-1 data", "--ca-file=HERE/ca.pem fs-1 /home/a/data"),
            ("--ca-file ca.pem fs-1 data", "--ca-file HERE/ca.pem fs-1 /home/a/data"),
            ("fs-1 data --log-file x.log --config c", "fs-1 /home/a/data --log-file HERE/x.log --config HERE/c"),
            ("fs-1 data -o ro,ca_file=ca.pem,soft=3", "fs-1 /home/a/data -o ro,ca_file=HERE/ca.pem,soft=3"),
            (
                "-oca-file=ca.pem -fo log_file=l data data",
                "-oca-file=HERE/ca.pem -fo log_file=HERE/l data /home/a/data",
            ),
            ("-o=log_file=l --options=log_file=/l fs-1 d", "-olog_file=HERE/l --options=log_file=/l fs-1 /home/a/data"),
            // The same word elsewhere is no path.
            ("--profile data --path data fs-1 data", "--profile data --path data fs-1 /home/a/data"),
            ("--log debug -fr -- fs-1 -data", "--log debug -fr -- fs-1 /home/a/data"),
            // A name in the configuration.
            ("work --read-only --log-file=/var/x", "work --read-only --log-file=/var/x"),
        ] {
            let typed: Vec<_> = typed.split(' ').collect();
            assert_eq!(made(&typed).unwrap().join(" "), wanted);
        }
    }

    #[test]
    fn a_path_that_the_option_cannot_hold_is_refused() {
        // `-o` is cut at commas, so only the folder above can bring one in.
        let command = crate::cli::command();
        let failure = of_fstab("log_file=/a,b/x", &command).unwrap_err();
        assert!(failure.code() == 2 && failure.to_string().contains("--log-file FILE"), "{failure}");
    }
}
