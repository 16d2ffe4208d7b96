//! A server that is not ours: nfs-ganesha behind `mock-mount-target serve --forward`, mounted with the real command
//! line. `cargo xtask real-server` runs these; they need ganesha and some minutes, so plain `cargo test` leaves them out.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use mock_mount_target::{MockHandle, MockServer};
use whole_product_tests::{Lab, Mounted, noise, run, sha256};
use xtask::ganesha::{self, Ganesha, Grace};

const PRODUCT: &str = env!("CARGO_BIN_EXE_product");
const LIMIT: Duration = Duration::from_mins(20);
const LEAST_FILES: usize = 5000;
const LARGE: usize = 1 << 30;

/// Runs a test that blocks against ganesha, behind the mock's front door.
fn with_ganesha(test: impl FnOnce(&MockHandle, &Lab) -> anyhow::Result<()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let lab = Lab::new(PRODUCT, LIMIT).unwrap();
    let ganesha = Ganesha::start(&lab.path("ganesha"), Grace::None).unwrap();
    let mock = runtime.block_on(MockServer::builder().forward(ganesha.address()).start()).unwrap();
    let outcome = test(&mock, &lab);
    let mistakes = mock.wire_mistakes();
    runtime.block_on(mock.stop());
    outcome.unwrap();
    assert_eq!(mistakes, Vec::<String>::new());
}

fn mount<'a>(mock: &MockHandle, lab: &'a Lab) -> anyhow::Result<Mounted<'a>> {
    lab.mount(mock, &["--path", ganesha::EXPORT])
}

fn step(what: &str, command: &mut Command) -> anyhow::Result<String> {
    let done = run(command, LIMIT)?.ok().with_context(|| what.to_owned())?;
    println!("  {what}: {:.1} s", done.took.as_secs_f64());
    Ok(done.stdout)
}

#[test]
#[ignore = "needs nfs-ganesha: cargo xtask real-server"]
fn a_source_tree_of_5000_files_is_the_same_after_a_new_mount() {
    with_ganesha(|mock, lab| {
        let tree = lab.path("tree");
        let files = gather_sources(&tree)?;
        println!("a tree of {files} files");
        let mounted = mount(mock, lab)?;
        step("cp -a", Command::new("cp").arg("-a").arg(&tree).arg(mounted.path("tree")))?;
        mounted.umount()?;
        let mounted = mount(mock, lab)?;
        let differences = step("diff -r", Command::new("diff").arg("-r").arg(&tree).arg(mounted.path("tree")))?;
        ensure!(differences.is_empty(), "{differences}");
        ensure!(count_files(&mounted.path("tree"))? == files, "the listing has lost files");
        step("rm -r", Command::new("rm").arg("-r").arg(mounted.path("tree")))?;
        mounted.umount()
    });
}

#[test]
#[ignore = "needs nfs-ganesha: cargo xtask real-server"]
fn a_git_clone_in_the_folder_is_sound_and_clean() {
    with_ganesha(|mock, lab| {
        let origin = lab.path("origin");
        make_repository(lab, &origin)?;
        let mounted = mount(mock, lab)?;
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
        let mounted = mount(mock, lab)?;
        step("git fsck again", git(lab).arg("-C").arg(&clone).args(["fsck", "--full", "--strict"]))?;
        let status = step("git status again", git(lab).arg("-C").arg(&clone).args(["status", "--porcelain"]))?;
        ensure!(status.is_empty(), "{status}");
        mounted.umount()
    });
}

#[test]
#[ignore = "needs nfs-ganesha: cargo xtask real-server"]
fn a_file_of_1_gib_has_the_same_sha_256_after_a_new_mount() {
    with_ganesha(|mock, lab| {
        let source = lab.path("source");
        {
            let mut file = File::create(&source)?;
            for piece in 0..LARGE >> 26 {
                file.write_all(&noise(piece as u64, 1 << 26))?;
            }
        }
        let expected = sha256(&source)?;
        let mounted = mount(mock, lab)?;
        step("cp", Command::new("cp").arg(&source).arg(mounted.path("large")))?;
        mounted.umount()?;
        let mounted = mount(mock, lab)?;
        let start = std::time::Instant::now();
        ensure!(sha256(&mounted.path("large"))? == expected, "the sums differ");
        println!("  read: {:.1} s", start.elapsed().as_secs_f64());
        mounted.umount()
    });
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
