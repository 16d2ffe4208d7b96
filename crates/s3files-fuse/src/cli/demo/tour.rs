//! The tour: what a new user would try first, each step checked and timed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// Size of the large file in MiB.
const LARGE: usize = 64;
/// Number of small files.
const MANY: usize = 200;

/// Asks how many round trips there have been so far.
pub type RoundTrips = dyn Fn() -> u64 + Send;

/// Does every step below `root`, prints a line for each, and stops at the first that goes wrong.
pub fn walk(root: &Path, round_trips: &RoundTrips) -> Result<(), Failure> {
    println!("{:42} {:>10} {:>12}", "", "time", "round trips");
    let guide = Guide { round_trips };
    let folder = root.join("notes");
    let note = folder.join("hello.txt");

    guide.step("make a folder", || fs::create_dir(&folder))?;
    guide.step("write a file", || fs::write(&note, b"Hello from S3 Files\n"))?;
    guide.step("read it", || same(&fs::read(&note)?, b"Hello from S3 Files\n"))?;
    guide.step("append a line", || {
        File::options().append(true).open(&note)?.write_all(b"and once more\n")?;
        same(&fs::read(&note)?, b"Hello from S3 Files\nand once more\n")
    })?;
    guide.step("rename it", || fs::rename(&note, folder.join("renamed.txt")))?;
    guide.step("link to it", || {
        symlink("renamed.txt", folder.join("link"))?;
        same(&fs::read(folder.join("link"))?[..5], b"Hello")
    })?;

    let many = root.join("many");
    guide.step(&format!("write {MANY} small files"), || {
        fs::create_dir(&many)?;
        (0..MANY).try_for_each(|i| fs::write(many.join(format!("file-{i:03}")), format!("number {i}\n")))
    })?;
    guide.step("list them, with sizes", || {
        let sizes = fs::read_dir(&many)?.map(|entry| Ok(entry?.metadata()?.len())).collect::<io::Result<Vec<u64>>>()?;
        check(sizes.len() == MANY && sizes.iter().all(|size| (9..=11).contains(size)), "the listing is wrong")
    })?;

    let (large, data) = (root.join("large.bin"), large_data());
    let took = guide.step(&format!("write {LARGE} MiB, down to the server's disk"), || {
        let mut file = File::create(&large)?;
        file.write_all(&data)?;
        file.sync_all()
    })?;
    print_rate(took);
    let took = guide.step(&format!("read {LARGE} MiB"), || {
        let mut read = Vec::with_capacity(data.len());
        File::open(&large)?.read_to_end(&mut read)?;
        same(&read, &data)
    })?;
    print_rate(took);

    guide.step("remove everything", || {
        fs::remove_dir_all(&folder)?;
        fs::remove_dir_all(&many)?;
        fs::remove_file(&large)?;
        check(fs::read_dir(root)?.next().is_none(), "something is left")
    })?;
    Ok(())
}

struct Guide<'a> {
    round_trips: &'a RoundTrips,
}

impl Guide<'_> {
    fn step(&self, what: &str, act: impl FnOnce() -> io::Result<()>) -> Result<Duration, Failure> {
        let (start, before) = (Instant::now(), (self.round_trips)());
        let outcome = act();
        let took = start.elapsed();
        match outcome {
            Ok(()) => {
                let trips = (self.round_trips)().saturating_sub(before);
                println!("  {what:40} {:>7.1} ms {trips:>12}", took.as_secs_f64() * 1000.0);
                Ok(took)
            }
            Err(error) => Err(Failure::Other(format!("the step `{what}` went wrong: {error}"))),
        }
    }
}

fn print_rate(took: Duration) {
    println!("  {:40} {:>5.0} MiB/s", "", LARGE as f64 / took.as_secs_f64().max(1e-6));
}

/// Bytes that no compression and no lucky zero page can pass off as written.
fn large_data() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut data = Vec::with_capacity(LARGE << 20);
    while data.len() < LARGE << 20 {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend_from_slice(&state.to_le_bytes());
    }
    data
}

fn same(read: &[u8], written: &[u8]) -> io::Result<()> {
    check(read == written, "what was read is not what was written")
}

fn check(holds: bool, otherwise: &str) -> io::Result<()> {
    if holds { Ok(()) } else { Err(io::Error::other(otherwise)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_tour_holds_on_an_ordinary_folder_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        walk(dir.path(), &|| 0).unwrap();
        assert!(fs::read_dir(dir.path()).unwrap().next().is_none());
    }

    #[test]
    fn a_step_that_fails_is_named() {
        let failure = walk(Path::new("/proc/self"), &|| 0).unwrap_err();
        assert!(failure.to_string().contains("make a folder"), "{failure}");
    }
}
