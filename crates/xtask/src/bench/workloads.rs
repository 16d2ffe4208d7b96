//! The workloads of the table, each on a mount of its own. A workload that does several things in one mount gives
//! several lines.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use xtask::noise::noise;

use super::dataset::{Dataset, git};
use super::stage::{Place, Sample, Stage};

/// How long the cached attributes of a client may be good for, in the table's `ls -l` "after 4 s".
const LATER: Duration = Duration::from_secs(4);
const RANDOM_READS: Duration = Duration::from_secs(3);
const MEBIBYTE: u64 = 1 << 20;

/// What a workload has at hand.
#[derive(Debug)]
pub struct Round<'a> {
    /// The server.
    pub stage: &'a Stage,
    /// The files.
    pub data: &'a Dataset,
    /// How long a program may take.
    pub limit: Duration,
}

/// What was measured, each with its line.
pub type Samples = Vec<(&'static str, Sample)>;

/// A workload.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// The lines that it gives.
    pub lines: &'static [&'static str],
    /// Plays it once.
    pub play: fn(&Round<'_>) -> anyhow::Result<Samples>,
}

/// All of them, in the order in which they are played.
pub const WORKLOADS: &[Workload] = &[
    Workload { lines: &["mount"], play: mount },
    Workload { lines: &["cat-cold", "cat-again"], play: cat },
    Workload { lines: &["ls-cold", "ls-at-once", "ls-later"], play: list },
    Workload { lines: &["find"], play: |r| r.cold("find", Command::new("find").args(["a", "-type", "f"])) },
    Workload { lines: &["create"], play: |r| r.at_work("create", "echo hello > new") },
    Workload { lines: &["write-read"], play: |r| r.at_work("write-read", "echo x > f; cat f") },
    Workload { lines: &["overwrite"], play: |r| r.at_work("overwrite", "echo changed > overwritten") },
    Workload { lines: &["rename"], play: |r| r.at_work("rename", "mv renamed another") },
    Workload { lines: &["unlink"], play: |r| r.at_work("unlink", "rm removed") },
    Workload { lines: &["mkdir"], play: |r| r.at_work("mkdir", "mkdir new") },
    Workload { lines: &["read-10"], play: |r| r.cold("read-10", &mut read("big10")) },
    Workload { lines: &["read-100"], play: |r| r.cold("read-100", &mut read("big100")) },
    Workload { lines: &["write-10"], play: |r| r.write("write-10", "new10") },
    Workload { lines: &["write-100"], play: |r| r.write("write-100", "new100") },
    Workload { lines: &["untar"], play: untar },
    Workload { lines: &["du"], play: |r| r.cold("du", Command::new("du").args(["-s", "tree"])) },
    Workload { lines: &["cat-500"], play: |r| r.cold("cat-500", shell("cat tree/*/*")) },
    Workload { lines: &["cat-500-fresh"], play: cat_fresh },
    Workload { lines: &["rm-r"], play: remove },
    Workload { lines: &["git-first", "git-second"], play: status },
    Workload { lines: &["create-1000"], play: create },
    Workload { lines: &["random-1"], play: |r| random(r, "random-1", 1) },
    Workload { lines: &["random-16"], play: |r| random(r, "random-16", 16) },
];

/// A shell with a script.
fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Reads a file of the folder from front to back.
pub fn read(name: &str) -> Command {
    let mut command = Command::new("dd");
    command.arg(format!("if={name}")).args(["of=/dev/null", "bs=1M"]);
    command
}

/// Writes a file of this machine into the folder, until the server has it.
pub fn write(from: &Path, name: &str) -> Command {
    let mut command = Command::new("dd");
    command.arg(format!("if={}", from.display())).arg(format!("of={name}")).args(["bs=1M", "conv=fsync"]);
    command
}

impl Round<'_> {
    /// Mounts, and lets `act` work there.
    pub fn mounted<T>(&self, options: &[&str], act: impl FnOnce(&Place<'_>) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let place = self.stage.mount(options)?;
        let outcome = act(&place)?;
        place.unmount()?;
        Ok(outcome)
    }

    /// One program in a new mount.
    fn cold(&self, line: &'static str, mut command: impl std::borrow::BorrowMut<Command>) -> anyhow::Result<Samples> {
        self.mounted(&[], |place| {
            Ok(vec![(line, place.run(command.borrow_mut().current_dir(&place.folder), self.limit)?)])
        })
    }

    /// A script of a shell that stands in a directory of a new mount, and has looked at it once.
    fn at_work(&self, line: &'static str, script: &str) -> anyhow::Result<Samples> {
        self.mounted(&[], |place| {
            let work = place.folder.join(format!("work{}", self.stage.next()));
            place.run(Command::new("stat").arg(&work), self.limit)?;
            Ok(vec![(line, place.run_standing(&work, script, self.limit)?)])
        })
    }

    fn write(&self, line: &'static str, from: &str) -> anyhow::Result<Samples> {
        let name = format!("{from}-{}", self.stage.next());
        self.cold(line, &mut write(&self.data.local(from), &name))
    }
}

fn mount(round: &Round<'_>) -> anyhow::Result<Samples> {
    Ok(vec![("mount", round.stage.mount_and_unmount(round.limit)?)])
}

fn cat(round: &Round<'_>) -> anyhow::Result<Samples> {
    round.mounted(&[], |place| {
        let cat = || place.run(Command::new("cat").arg("a/b/c/small").current_dir(&place.folder), round.limit);
        Ok(vec![("cat-cold", cat()?), ("cat-again", cat()?)])
    })
}

fn list(round: &Round<'_>) -> anyhow::Result<Samples> {
    round.mounted(&[], |place| {
        let list = || place.run(Command::new("ls").args(["-l", "thousand"]).current_dir(&place.folder), round.limit);
        let (cold, at_once) = (list()?, list()?);
        std::thread::sleep(LATER);
        Ok(vec![("ls-cold", cold), ("ls-at-once", at_once), ("ls-later", list()?)])
    })
}

fn untar(round: &Round<'_>) -> anyhow::Result<Samples> {
    round.mounted(&[], |place| {
        let into = format!("unpacked{}", round.stage.next());
        // Made behind the workload's back: tar is what is measured.
        fs::create_dir(place.folder.join(&into))?;
        let mut tar = Command::new("tar");
        tar.arg("xf").arg(round.data.local("tree.tar")).current_dir(place.folder.join(&into));
        Ok(vec![("untar", place.run(&mut tar, round.limit)?)])
    })
}

fn cat_fresh(round: &Round<'_>) -> anyhow::Result<Samples> {
    const OPTION: &str = "--open-freshness";
    if !round.stage.has_option(OPTION)? {
        bail!("not available");
    }
    round.mounted(&[OPTION, "1s"], |place| {
        let sample = place.run(shell("cat tree/*/*").current_dir(&place.folder), round.limit)?;
        Ok(vec![("cat-500-fresh", sample)])
    })
}

fn remove(round: &Round<'_>) -> anyhow::Result<Samples> {
    let name = format!("removed{}", round.stage.next_tree());
    round.cold("rm-r", Command::new("rm").args(["-rf", &name]))
}

fn status(round: &Round<'_>) -> anyhow::Result<Samples> {
    round.mounted(&[], |place| {
        let status = || place.run(git().arg("-C").arg(place.folder.join("clone")).arg("status"), round.limit);
        Ok(vec![("git-first", status()?), ("git-second", status()?)])
    })
}

/// Makes git's index agree with what the mount shows, as it is for somebody who works in a mount.
pub fn prime_git(stage: &Stage) -> anyhow::Result<()> {
    let place = stage.mount(&[])?;
    for _ in 0..2 {
        let mut status = git();
        status.arg("-C").arg(place.folder.join("clone")).arg("status");
        place.run(&mut status, Duration::from_mins(2))?;
        // What has the same age as the index is looked at again each time.
        std::thread::sleep(Duration::from_secs(2));
    }
    place.unmount()
}

fn create(round: &Round<'_>) -> anyhow::Result<Samples> {
    round.mounted(&[], |place| {
        let dir = place.folder.join(format!("created{}", round.stage.next()));
        fs::create_dir(&dir)?;
        let work = || {
            (0..1000).try_for_each(|number| Ok(fs::write(dir.join(format!("file{number:04}")), noise(number, 1024))?))
        };
        Ok(vec![("create-1000", place.run_here(work, round.limit)?)])
    })
}

fn random(round: &Round<'_>, line: &'static str, threads: u64) -> anyhow::Result<Samples> {
    round.mounted(&[], |place| {
        let file = fs::File::open(place.folder.join("big100"))?;
        let reads = AtomicU64::new(0);
        let (start, other) = (Instant::now(), round.stage.next() as u64);
        let reader = &|seed: u64| -> anyhow::Result<()> {
            let places = noise(1000 * other + seed, 1 << 16);
            let mut buffer = [0; 4096];
            for place in places.chunks_exact(8) {
                if start.elapsed() > RANDOM_READS {
                    return Ok(());
                }
                let place = u64::from_le_bytes(place.try_into().context("eight bytes")?);
                file.read_exact_at(&mut buffer, place % (100 * MEBIBYTE / 4096) * 4096)?;
                reads.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        let work = || {
            std::thread::scope(|scope| {
                let readers: Vec<_> = (0..threads).map(|seed| scope.spawn(move || reader(seed + 1))).collect();
                readers.into_iter().try_for_each(|reader| reader.join().unwrap_or_else(|_| bail!("a reader panicked")))
            })
        };
        let sample = place.run_here(work, round.limit)?;
        let per_second = reads.load(Ordering::Relaxed) as f64 / sample.wall.as_secs_f64();
        Ok(vec![(line, Sample { value: Some(per_second), ..sample })])
    })
}
