//! Lines that need more than a plain link and a mount: a narrow link, many processes, TLS at the machine's speed, a large
//! directory, memory.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use xtask::noise::noise;

use super::TIMES;
use super::dataset::{COLD, files};
use super::report::TABLE_RTT;
use super::stage::{Kind, LinkTo, Sample, Stage};
use super::workloads::{Round, Samples, Workload, read, write};

const LIMIT: Duration = Duration::from_mins(5);
const MEBIBYTE: f64 = 1_048_576.0;
const NARROW_MBIT: u64 = 100;
const BUSY: usize = 64;
/// How long the busy processes have been at work before anything is measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// When memory is taken for steady.
const SETTLED: Duration = Duration::from_secs(5);
const GIBIBYTE_MIB: usize = 1024;
/// The cache of the mount whose memory is measured.
const CACHE: &str = "64M";
/// Files that are read there beside a large one, and the length of each. A file longer than a quarter of the cache makes
/// room behind its reader and would never fill it.
const MANY: (usize, usize) = (128, 8 << 20);
const WRITTEN: usize = 256 << 20;

/// Workloads that change the link of the table's stage.
pub const ON_STAGE: &[Workload] =
    &[Workload { lines: &["link-read", "link-write"], play: narrow }, Workload { lines: &["busy-stat"], play: busy }];

/// A workload with a stage of its own.
#[derive(Debug, Clone, Copy)]
pub struct Further {
    /// The lines that it gives.
    pub lines: &'static [&'static str],
    /// Whether it is measured on ganesha as well.
    pub on_ganesha: bool,
    /// Round trip time in milliseconds.
    pub rtt: u64,
    /// How often it is played; the middle one counts.
    pub times: usize,
    /// Plays it.
    pub play: fn(&Path, Kind, bool) -> anyhow::Result<Samples>,
}

/// Those workloads.
pub const FURTHER: &[Further] = &[
    Further { lines: &["tls-write", "tls-read"], on_ganesha: false, rtt: 0, times: TIMES, play: gibibyte },
    Further { lines: &["rss", "rss-peak"], on_ganesha: false, rtt: 0, times: TIMES, play: memory },
    Further { lines: &["list-100000", "ls-100000"], on_ganesha: true, rtt: TABLE_RTT, times: 1, play: large_directory },
    Further {
        lines: &["cp-up", "cp-up-1", "cp-down", "cp-down-1"],
        on_ganesha: false,
        rtt: TABLE_RTT,
        times: 1,
        play: copies,
    },
    Further { lines: &["inodes"], on_ganesha: false, rtt: 0, times: 1, play: inodes },
];

/// The round trip time of a line that is measured at one of its own, whatever `--rtt` says.
pub fn rtt_of(line: &str) -> Option<u64> {
    let on_stage = ON_STAGE.iter().map(|work| (work.lines, TABLE_RTT));
    let further = FURTHER.iter().map(|further| (further.lines, further.rtt));
    on_stage.chain(further).find(|(lines, _)| lines.contains(&line)).map(|(_, rtt)| rtt)
}

fn narrow(round: &Round<'_>) -> anyhow::Result<Samples> {
    let possible = 100.0 * MEBIBYTE / (NARROW_MBIT as f64 * 125_000.0);
    let share = |sample: Sample| Sample { value: Some(possible / sample.wall.as_secs_f64()), ..sample };
    round.stage.set_link(LinkTo { rtt: TABLE_RTT, mbit: Some(NARROW_MBIT) })?;
    let read = round.mounted(&[], |place| place.run(read("big100").current_dir(&place.folder), round.limit))?;
    let name = format!("narrow{}", round.stage.next());
    let from = round.data.local("new100");
    let write = round.mounted(&[], |place| place.run(write(&from, &name).current_dir(&place.folder), round.limit))?;
    round.stage.set_link(LinkTo { rtt: TABLE_RTT, mbit: None })?;
    Ok(vec![("link-read", share(read)), ("link-write", share(write))])
}

/// Processes that are ended when this is dropped.
struct Workers(Vec<Child>);

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.0 {
            let _ = worker.kill();
        }
        for worker in &mut self.0 {
            let _ = worker.wait();
        }
    }
}

fn busy(round: &Round<'_>) -> anyhow::Result<Samples> {
    round.stage.set_link(LinkTo { rtt: TABLE_RTT, mbit: None })?;
    round.mounted(&[], |place| {
        let dir = place.folder.join(format!("busy{}", round.stage.next()));
        fs::create_dir(&dir)?;
        let mut workers = Workers(Vec::new());
        for number in 0..BUSY {
            let own = dir.join(format!("worker{number}"));
            fs::create_dir(&own)?;
            let mut worker = Command::new(std::env::current_exe()?);
            let worker = worker.arg("bench-worker").arg(own).stdin(Stdio::null()).stdout(Stdio::null());
            workers.0.push(worker.spawn().context("starting a busy process")?);
        }
        std::thread::sleep(WARM_UP);
        let mut slowest = Duration::ZERO;
        let work = || {
            for number in 0..COLD {
                let name = place.folder.join(format!("cold/{number:03}/file000000"));
                let start = Instant::now();
                fs::metadata(&name).with_context(|| format!("stat of {}", name.display()))?;
                slowest = slowest.max(start.elapsed());
            }
            Ok(())
        };
        let sample = place.run_here(work, round.limit)?;
        let ended = workers.0.iter_mut().filter_map(|worker| worker.try_wait().transpose()).count();
        ensure!(ended == 0, "{ended} of the busy processes failed");
        drop(workers);
        let value = Some(slowest.as_secs_f64() * 1000.0);
        Ok(vec![("busy-stat", Sample { value, wall: slowest, ..sample })])
    })
}

/// What a busy process does in a directory of its own, until it is killed.
pub fn be_busy(dir: &Path) -> anyhow::Result<()> {
    let data = noise(1, 1 << 20);
    for number in 0_u64.. {
        let name = dir.join(format!("file{}", number % 10));
        fs::write(&name, &data[..10_000])?;
        ensure!(fs::read(&name)?.len() == 10_000, "{} is not as long as it was written", name.display());
        if number % 10 == 9 {
            let name = dir.join("large");
            fs::write(&name, &data)?;
            ensure!(fs::read(&name)? == data, "{} does not hold what was written", name.display());
            ensure!(fs::read_dir(dir)?.count() >= 10, "names are missing in {}", dir.display());
            fs::remove_file(name)?;
        }
    }
    Ok(())
}

/// What a raw transfer over TLS reaches, in MiB per second: reading and writing.
fn raw() -> anyhow::Result<(f64, f64)> {
    eprintln!("building and running the mock's own bench, for what a raw transfer reaches");
    let mut bench = crate::cargo();
    bench.args(["bench", "--quiet", "--workspace", "--bench", "throughput"]);
    let output = bench.stderr(Stdio::inherit()).output().context("the mock's own bench")?;
    ensure!(output.status.success(), "the mock's own bench ended with {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = |what: &str| -> anyhow::Result<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(what));
        let word = line.and_then(|rest| rest.split_whitespace().next()).context("a rate of the mock's own bench")?;
        Ok(word.parse()?)
    };
    Ok((rate("mock, 1 GiB read over TLS 1.3:")?, rate("mock, 1 GiB written over TLS 1.3:")?))
}

/// Has what lies in a folder of this machine on its disk, or the disk takes processor time while others are measured.
fn sync(dir: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sync(&path)?;
        } else {
            fs::File::open(&path)?.sync_all().with_context(|| format!("syncing {}", path.display()))?;
        }
    }
    Ok(())
}

fn gibibyte(programs: &Path, kind: Kind, _: bool) -> anyhow::Result<Samples> {
    let (raw_read, raw_write) = raw()?;
    let data = tempfile::Builder::new().prefix("s3files-bench-data-").tempdir()?;
    let (shown, from) = (data.path().join("shown"), data.path().join("new"));
    fs::create_dir(&shown)?;
    fs::write(&from, noise(7, GIBIBYTE_MIB << 20))?;
    sync(data.path())?;
    let stage = Stage::start(programs, kind, &shown, true)?;
    let share = |sample: Sample, raw: f64| {
        let rate = GIBIBYTE_MIB as f64 / sample.wall.as_secs_f64();
        Sample { value: Some(rate / raw), ..sample }
    };
    let place = stage.mount(&[])?;
    let written = place.run(write(&from, "big").current_dir(&place.folder), LIMIT)?;
    place.unmount()?;
    let place = stage.mount(&[])?;
    let was_read = place.run(read("big").current_dir(&place.folder), LIMIT)?;
    place.unmount()?;
    Ok(vec![("tls-write", share(written, raw_write)), ("tls-read", share(was_read, raw_read))])
}

/// What a mount keeps of a file that is too large for its cache, of many that are not, and of one that was written.
fn memory(programs: &Path, kind: Kind, _: bool) -> anyhow::Result<Samples> {
    let data = tempfile::Builder::new().prefix("s3files-bench-data-").tempdir()?;
    let (shown, from) = (data.path().join("shown"), data.path().join("new"));
    fs::create_dir(&shown)?;
    fs::write(shown.join("big"), noise(7, GIBIBYTE_MIB << 20))?;
    files(&shown.join("many"), MANY.0, MANY.1, 8)?;
    fs::write(&from, noise(9, WRITTEN))?;
    sync(data.path())?;
    let stage = Stage::start(programs, kind, &shown, true)?;
    let place = stage.mount(&["--cache-size", CACHE])?;
    let steady_after = |work: &mut Command| -> anyhow::Result<(Sample, f64)> {
        let sample = place.run(work.current_dir(&place.folder), LIMIT)?;
        std::thread::sleep(SETTLED);
        Ok((sample, place.memory("VmRSS")?))
    };
    // What is being written takes the room of what was read, so a look at the end alone would not see what reading left.
    let mut reads = Command::new("sh");
    let (read, after_reads) = steady_after(reads.args(["-c", "dd if=big of=/dev/null bs=1M && cat many/*"]))?;
    let (written, after_write) = steady_after(&mut write(&from, "written"))?;
    let (steady, peak) = (after_reads.max(after_write), place.memory("VmHWM")?);
    place.unmount()?;
    let sum = |count: fn(&Sample) -> Option<u64>| Some(count(&read)? + count(&written)?);
    let sample = Sample {
        wall: read.wall + written.wall,
        value: None,
        requests: sum(|sample| sample.requests),
        operations: sum(|sample| sample.operations),
    };
    Ok(vec![("rss", Sample { value: Some(steady), ..sample }), ("rss-peak", Sample { value: Some(peak), ..sample })])
}

fn large_directory(programs: &Path, kind: Kind, tls: bool) -> anyhow::Result<Samples> {
    let data = tempfile::Builder::new().prefix("s3files-bench-data-").tempdir()?;
    files(&data.path().join("large"), 100_000, 0, 1)?;
    let stage = Stage::start(programs, kind, data.path(), tls)?;
    stage.set_link(LinkTo { rtt: TABLE_RTT, mbit: None })?;
    let list = |line: &'static str, script: &str| -> anyhow::Result<(&'static str, Sample)> {
        let place = stage.mount(&[])?;
        let sample = place.run(Command::new("sh").args(["-c", script]).current_dir(&place.folder), LIMIT)?;
        place.unmount()?;
        Ok((line, sample))
    };
    Ok(vec![list("list-100000", "ls -f large | wc -l")?, list("ls-100000", "ls -l large")?])
}

/// Copies without a mount, in parallel and one after the other.
fn copies(programs: &Path, kind: Kind, tls: bool) -> anyhow::Result<Samples> {
    let data = tempfile::Builder::new().prefix("s3files-bench-data-").tempdir()?;
    let (shown, tree, back) = (data.path().join("shown"), data.path().join("tree"), data.path().join("back"));
    fs::create_dir(&shown)?;
    fs::create_dir(&back)?;
    files(&tree, 1000, 1024, 1)?;
    let stage = Stage::start(programs, kind, &shown, tls)?;
    stage.set_link(LinkTo { rtt: TABLE_RTT, mbit: None })?;
    let (tree, back) = (tree.display().to_string(), back.display().to_string());
    let copy = |line, further: &[&str]| -> anyhow::Result<(&'static str, Sample)> {
        Ok((line, stage.run("cp", &[&["-r"], further].concat(), LIMIT)?))
    };
    Ok(vec![
        copy("cp-up", &[&tree, ":/many"])?,
        copy("cp-up-1", &["--jobs", "1", &tree, ":/one"])?,
        copy("cp-down", &[":/many", &back])?,
        copy("cp-down-1", &["--jobs", "1", ":/one", &back])?,
    ])
}

fn inodes(programs: &Path, kind: Kind, tls: bool) -> anyhow::Result<Samples> {
    let data = tempfile::Builder::new().prefix("s3files-bench-data-").tempdir()?;
    for dir in 0..1000 {
        files(&data.path().join(format!("dir{dir}")), 1000, 0, 1)?;
    }
    let stage = Stage::start(programs, kind, data.path(), tls)?;
    let place = stage.mount(&["--cache-size", "1M"])?;
    let sample = place.run(Command::new("ls").args(["-lR", "."]).current_dir(&place.folder), 3 * LIMIT)?;
    std::thread::sleep(SETTLED);
    let steady = place.memory("VmRSS")?;
    place.unmount()?;
    Ok(vec![("inodes", Sample { value: Some(steady), ..sample })])
}
