//! How editors save: vim by itself in its three ways, and VS Code's two ways as it does them (in place, and a new file
//! beside that is renamed over).

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::ensure;

use super::{Checks, Suite, minutes};
use crate::conformance::bench::Bench;
use crate::conformance::check::Check;
use crate::conformance::program::Program;

/// The suite.
pub const SUITE: Suite = Suite {
    name: "editors",
    about: "vim's and VS Code's ways of saving a file",
    needs: &[Program::package("vim.tiny", "vim-tiny")],
    with_faults: false,
    limit: minutes(2),
    bounded_limit: minutes(1),
    version: |tools| tools.version("vim.tiny", "--version"),
    run,
};

fn run(bench: &Bench<'_>) -> anyhow::Result<Vec<Check>> {
    let mut checks = Checks::default();
    let ways = [
        ("vim-renames", "set backup writebackup backupcopy=no"),
        ("vim-copies", "set backup writebackup backupcopy=yes"),
        ("vim-no-backup", "set nobackup nowritebackup"),
    ];
    for (name, settings) in ways {
        checks.add(name, vim(bench, &bench.new_folder(name)?, settings));
    }
    checks.add("vscode-renames", by_rename(&bench.new_folder("vscode-renames")?));
    checks.add("vscode-in-place", in_place(&bench.new_folder("vscode-in-place")?));
    Ok(checks.all())
}

fn vim(bench: &Bench<'_>, folder: &Path, settings: &str) -> anyhow::Result<()> {
    let file = folder.join("text.txt");
    fs::write(&file, "first\nsecond\n")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640))?;
    for round in 0..3 {
        let mut command = bench.tools.command("vim.tiny");
        // Vim makes no backups of what lies below /tmp unless told to.
        command.args(["-u", "NONE", "-N", "-es", "-c", "set backupskip= swapfile fsync", "-c", settings]);
        command.args(["-c", &format!("%s/second.*/second {round}/"), "-c", "wq"]).arg(&file);
        bench.ok(command.env("HOME", &bench.outside))?;
        let text = fs::read_to_string(&file)?;
        ensure!(text == format!("first\nsecond {round}\n"), "the file says {text:?}");
        let mode = fs::metadata(&file)?.mode() & 0o7777;
        ensure!(mode == 0o640, "the mode has become {mode:o}");
    }
    let mut names: Vec<_> = fs::read_dir(folder)?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    let backup = settings.contains("set backup");
    ensure!(names == if backup { vec!["text.txt", "text.txt~"] } else { vec!["text.txt"] }, "there are {names:?}");
    if backup {
        let text = fs::read_to_string(folder.join("text.txt~"))?;
        ensure!(text == "first\nsecond 1\n", "the backup says {text:?}");
    }
    Ok(())
}

/// A temporary file, fsync, the mode of the old one, rename over it; whoever reads the old one keeps it.
fn by_rename(folder: &Path) -> anyhow::Result<()> {
    let file = folder.join("settings.json");
    fs::write(&file, "{\"round\": 0}\n")?;
    for round in 1..20 {
        let mut reader = File::open(&file)?;
        let old = fs::read(&file)?;
        let temporary = folder.join("settings.json.vsctmp");
        let mut writer = File::create_new(&temporary)?;
        write!(writer, "{{\"round\": {round}}}\n{}", "x".repeat(round * 1000))?;
        writer.sync_all()?;
        drop(writer);
        fs::set_permissions(&temporary, fs::metadata(&file)?.permissions())?;
        fs::rename(&temporary, &file)?;
        let mut seen = Vec::new();
        reader.read_to_end(&mut seen)?;
        ensure!(seen == old, "round {round}: whoever had the old file open reads another");
        starts_with(&file, &format!("{{\"round\": {round}}}\n"), round * 1000)?;
        ensure!(!temporary.exists(), "the temporary file is still there");
    }
    Ok(())
}

/// Opened for writing, cut to nothing, written anew, while somebody else has it open.
fn in_place(folder: &Path) -> anyhow::Result<()> {
    let file = folder.join("notes.md");
    fs::write(&file, "# 0\n")?;
    let inode = fs::metadata(&file)?.ino();
    for round in 1..20 {
        let mut watcher = File::open(&file)?;
        let mut writer = File::options().write(true).open(&file)?;
        writer.set_len(0)?;
        write!(writer, "# {round}\n{}", "y".repeat(20_000 - round * 1000))?;
        writer.sync_data()?;
        drop(writer);
        starts_with(&file, &format!("# {round}\n"), 20_000 - round * 1000)?;
        let mut seen = String::new();
        watcher.read_to_string(&mut seen)?;
        ensure!(seen == fs::read_to_string(&file)?, "round {round}: who has it open reads something else");
        ensure!(fs::metadata(&file)?.ino() == inode, "it has become another file");
    }
    Ok(())
}

fn starts_with(file: &Path, head: &str, further: usize) -> anyhow::Result<()> {
    let text = fs::read_to_string(file)?;
    ensure!(text.starts_with(head), "the file does not begin with {head:?}");
    ensure!(text.len() == head.len() + further, "the file has {} bytes", text.len());
    Ok(())
}
