//! Work that people do in a folder, for as many servers as there are: each is mounted, worked on, mounted anew and
//! compared. `options` are further arguments of `mount`.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use mock_mount_target::MockHandle;

use crate::{Lab, noise, run, sha256};

/// Most time for one program.
const LIMIT: Duration = Duration::from_mins(20);
const LEAST_FILES: usize = 5000;
const LARGE: usize = 1 << 30;

fn step(what: &str, command: &mut Command) -> anyhow::Result<String> {
    let done = run(command, LIMIT)?.ok().with_context(|| what.to_owned())?;
    println!("  {what}: {:.1} s", done.took.as_secs_f64());
    Ok(done.stdout)
}

/// A tree of at least 5,000 files of other people, copied in with `cp -a` and compared with `diff -r`.
pub fn source_tree(mock: &MockHandle, lab: &Lab, options: &[&str]) -> anyhow::Result<()> {
    let tree = lab.path("tree");
    let files = gather_sources(&tree)?;
    println!("a tree of {files} files");
    let mounted = lab.mount(mock, options)?;
    step("cp -a", Command::new("cp").arg("-a").arg(&tree).arg(mounted.path("tree")))?;
    mounted.umount()?;
    let mounted = lab.mount(mock, options)?;
    let differences = step("diff -r", Command::new("diff").arg("-r").arg(&tree).arg(mounted.path("tree")))?;
    ensure!(differences.is_empty(), "{differences}");
    ensure!(count_files(&mounted.path("tree"))? == files, "the listing has lost files");
    step("rm -r", Command::new("rm").arg("-r").arg(mounted.path("tree")))?;
    mounted.umount()
}

/// A `git clone`, `git fsck`, `git status`, a commit and `git gc`.
pub fn git_clone(mock: &MockHandle, lab: &Lab, options: &[&str]) -> anyhow::Result<()> {
    let origin = lab.path("origin");
    make_repository(lab, &origin)?;
    let mounted = lab.mount(mock, options)?;
    let clone = mounted.path("clone");
    step("git clone", git(lab).args(["clone", "--quiet", "--no-local"]).arg(&origin).arg(&clone))?;
    step("git fsck", git(lab).arg("-C").arg(&clone).args(["fsck", "--full", "--strict"]))?;
    let status = step("git status", git(lab).arg("-C").arg(&clone).args(["status", "--porcelain"]))?;
    ensure!(status.is_empty(), "{status}");
    fs::write(clone.join("new file"), b"x")?;
    step("git add", git(lab).arg("-C").arg(&clone).args(["add", "--all"]))?;
    step("git commit", git(lab).arg("-C").arg(&clone).args(["commit", "--quiet", "--message", "One more"]))?;
    step("git gc", git(lab).arg("-C").arg(&clone).args(["gc", "--quiet"]))?;
    mounted.umount()?;
    let mounted = lab.mount(mock, options)?;
    step("git fsck again", git(lab).arg("-C").arg(&clone).args(["fsck", "--full", "--strict"]))?;
    let status = step("git status again", git(lab).arg("-C").arg(&clone).args(["status", "--porcelain"]))?;
    ensure!(status.is_empty(), "{status}");
    mounted.umount()
}

/// A file of 1 GiB and its SHA-256.
pub fn large_file(mock: &MockHandle, lab: &Lab, options: &[&str]) -> anyhow::Result<()> {
    let source = lab.path("source");
    {
        let mut file = File::create(&source)?;
        for piece in 0..LARGE >> 26 {
            file.write_all(&noise(piece as u64, 1 << 26))?;
        }
    }
    let expected = sha256(&source)?;
    let mounted = lab.mount(mock, options)?;
    step("cp", Command::new("cp").arg(&source).arg(mounted.path("large")))?;
    mounted.umount()?;
    let mounted = lab.mount(mock, options)?;
    let start = std::time::Instant::now();
    ensure!(sha256(&mounted.path("large"))? == expected, "the sums differ");
    println!("  read: {:.1} s", start.elapsed().as_secs_f64());
    mounted.umount()
}

/// Copies crates from Cargo's registry until there are enough files: sources of other people, with all that they hold.
fn gather_sources(into: &Path) -> anyhow::Result<usize> {
    let home = std::env::var_os("CARGO_HOME")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"), PathBuf::from);
    fs::create_dir(into)?;
    let mut files = 0;
    let mut crates = Vec::new();
    for registry in fs::read_dir(home.join("registry/src")).context("Cargo's registry sources")? {
        crates.extend(fs::read_dir(registry?.path())?.flatten().map(|entry| entry.path()));
    }
    crates.sort();
    for source in crates {
        let name = source.file_name().unwrap_or_default();
        run(Command::new("cp").arg("-a").arg(&source).arg(into.join(name)), LIMIT)?.ok()?;
        files += count_files(&into.join(name))?;
        if files >= LEAST_FILES {
            return Ok(files);
        }
    }
    anyhow::bail!("Cargo's registry holds {files} files only")
}

fn count_files(below: &Path) -> anyhow::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(below)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            count += count_files(&entry.path())?;
        } else {
            count += 1;
        }
    }
    Ok(count)
}

/// Git without anybody's settings.
fn git(lab: &Lab) -> Command {
    let mut git = Command::new("git");
    git.env("HOME", lab.path("home")).env("GIT_CONFIG_NOSYSTEM", "1");
    for (name, value) in [("NAME", "Test"), ("EMAIL", "test@example.org")] {
        git.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    git
}

/// A repository with some history, made of Cargo's sources.
fn make_repository(lab: &Lab, origin: &Path) -> anyhow::Result<()> {
    gather_sources(origin)?;
    let at = |lab: &Lab| {
        let mut git = git(lab);
        git.arg("-C").arg(origin);
        git
    };
    run(at(lab).args(["init", "--quiet"]), LIMIT)?.ok()?;
    let mut crates: Vec<_> = fs::read_dir(origin)?.flatten().map(|entry| entry.file_name()).collect();
    crates.sort();
    for name in crates.iter().filter(|name| *name != ".git") {
        run(at(lab).args(["add", "--force", "--"]).arg(name), LIMIT)?.ok()?;
        run(at(lab).args(["commit", "--quiet", "--message"]).arg(name), LIMIT)?.ok()?;
    }
    Ok(())
}

/// A tar of C files is unpacked in the folder of any NFS server without TLS on this machine, compiled there, linked and
/// run. The directories are small: ganesha's client reads a listing's second page wrongly.
pub fn small_build(lab: &Lab, server: SocketAddr, export: &str) -> anyhow::Result<()> {
    const DIRECTORIES: usize = 10;
    const FILES: usize = 6;
    let tree = lab.path("program");
    let (mut declarations, mut calls) = (Vec::new(), Vec::new());
    for directory in 0..DIRECTORIES {
        fs::create_dir_all(tree.join(format!("part{directory}")))?;
        for file in 0..FILES {
            let name = format!("f{directory}_{file}");
            fs::write(
                tree.join(format!("part{directory}/{name}.c")),
                format!("int {name}(void) {{ return {}; }}\n", directory * FILES + file),
            )?;
            declarations.push(format!("int {name}(void);\n"));
            calls.push(format!("{name}()"));
        }
    }
    let (declarations, sum) = (declarations.concat(), calls.join(" + "));
    let main = format!("#include <stdio.h>\n{declarations}int main(void) {{ printf(\"%d\\n\", {sum}); return 0; }}\n");
    fs::write(tree.join("main.c"), main)?;
    let archive = lab.path("program.tar");
    step("tar", Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(lab.path("")).arg("program"))?;

    let (ip, port) = (server.ip().to_string(), server.port().to_string());
    let folder = lab.folder().display().to_string();
    let mounted =
        lab.mount_by(&mut lab.product(["mount", "--plain", &ip, "--port", &port, "--path", export, &folder]))?;
    step("tar -x", Command::new("tar").arg("-xf").arg(&archive).current_dir(mounted.folder()))?;
    let program = mounted.path("program");
    let differences = step("diff -r", Command::new("diff").arg("-r").arg(&tree).arg(&program))?;
    ensure!(differences.is_empty(), "{differences}");
    for directory in 0..DIRECTORIES {
        let files = (0..FILES).map(|file| format!("f{directory}_{file}.c"));
        step("cc -c", Command::new("cc").arg("-c").args(files).current_dir(program.join(format!("part{directory}"))))?;
    }
    let objects = (0..DIRECTORIES).flat_map(|d| (0..FILES).map(move |f| format!("part{d}/f{d}_{f}.o")));
    step("cc", Command::new("cc").args(["-o", "program", "main.c"]).args(objects).current_dir(&program))?;
    let total = DIRECTORIES * FILES;
    let said = step("the program", &mut Command::new(program.join("program")))?;
    ensure!(said.trim() == (total * (total - 1) / 2).to_string(), "it says {said}");
    step("rm -r", Command::new("rm").arg("-r").arg(&program))?;
    mounted.umount()
}
