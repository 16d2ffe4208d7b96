//! The lines of the table: what is done, what the Linux kernel's client needs for it, and what this one shall.
//!
//! The kernel's figures were measured once, at a round trip of 30 ms without TLS and without a bandwidth limit.

/// What a figure is a number of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Wall time as a multiple of the round trip time; less is better.
    RoundTrips,
    /// A part of what is possible, 1 for all of it; more is better.
    Share,
    /// Operations per second; more is better.
    PerSecond,
    /// MiB; less is better.
    Mebibytes,
}

impl Unit {
    /// Whether a larger figure is the better one.
    pub const fn more_is_better(self) -> bool {
        matches!(self, Self::Share | Self::PerSecond)
    }
}

/// What the kernel's client needs.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// For computing with.
    pub value: f64,
    /// For reading.
    pub shown: &'static str,
}

/// A line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Its name on the command line and in files.
    pub id: &'static str,
    /// What a user does.
    pub title: &'static str,
    /// What its figure is a number of.
    pub unit: Unit,
    /// The kernel's figure.
    pub kernel: Option<Kernel>,
    /// What must be reached.
    pub must: Option<f64>,
    /// What should be reached.
    pub aim: Option<f64>,
    /// Whether a short run leaves it out.
    pub slow: bool,
    /// Whether two runs of the same program differ by up to a round trip, or a seventh.
    pub uneven: bool,
}

const fn line(id: &'static str, title: &'static str) -> Line {
    Line { id, title, unit: Unit::RoundTrips, kernel: None, must: None, aim: None, slow: false, uneven: false }
}

impl Line {
    const fn kernel(self, value: f64, shown: &'static str) -> Self {
        Self { kernel: Some(Kernel { value, shown }), ..self }
    }

    const fn goals(self, must: f64, aim: f64) -> Self {
        Self { must: Some(must), aim: Some(aim), ..self }
    }

    const fn must(self, unit: Unit, must: f64) -> Self {
        Self { unit, must: Some(must), ..self }
    }

    const fn unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    const fn slow(self) -> Self {
        Self { slow: true, ..self }
    }

    const fn uneven(self) -> Self {
        Self { uneven: true, ..self }
    }
}

/// Every line, in the order of the table.
pub const LINES: &[Line] = &[
    line("mount", "mount").kernel(23.0, "23").goals(9.0, 7.0),
    line("cat-cold", "`cat` 4 levels down, cold").kernel(11.0, "11").goals(5.0, 3.0),
    line("cat-again", "the same again").kernel(2.5, "2–3").goals(1.0, 1.0),
    line("ls-cold", "`ls -l` of 1,000 files, cold").kernel(12.0, "12").goals(3.0, 2.0),
    line("ls-at-once", "the same again at once").kernel(2.0, "2").goals(0.0, 0.0),
    line("ls-later", "the same again after 4 s").kernel(1035.0, "1,035").goals(3.0, 1.0),
    line("find", "`find` of a 4-level tree, cold").kernel(13.0, "13").goals(5.0, 3.0),
    line("create", "`echo hello > new`").kernel(3.0, "3").goals(2.0, 1.0),
    line("write-read", "write a small file and read it back").kernel(8.0, "8").goals(3.0, 2.0),
    line("overwrite", "overwrite a small file").kernel(5.0, "5").goals(2.0, 2.0),
    line("rename", "`mv` in a directory").kernel(2.0, "2").goals(1.0, 1.0),
    line("unlink", "`rm` of one file").kernel(4.0, "4").goals(1.0, 1.0),
    line("mkdir", "`mkdir`").kernel(2.0, "2").goals(1.0, 1.0),
    line("read-10", "read 10 MiB, cold").kernel(17.0, "17").goals(5.0, 4.0),
    line("read-100", "read 100 MiB, cold").kernel(63.0, "63 (15 with AWS's read-ahead)").goals(12.0, 8.0),
    line("write-10", "write 10 MiB and fsync").kernel(8.0, "8").goals(5.0, 3.0),
    line("write-100", "write 100 MiB and fsync").kernel(15.0, "15").goals(12.0, 8.0),
    line("untar", "untar 500 small files").kernel(4230.0, "4,230").goals(1100.0, 1050.0).slow(),
    line("du", "`du -s` of them, cold").kernel(68.0, "68").goals(22.0, 6.0),
    line("cat-500", "`cat` of all 500, cold").kernel(1571.0, "1,571").goals(560.0, 520.0).slow(),
    line("cat-500-fresh", "the same with `--open-freshness 1s`").kernel(1571.0, "1,571").goals(60.0, 25.0),
    line("rm-r", "`rm -rf` of them").kernel(1601.0, "1,601").goals(560.0, 525.0).slow(),
    line("git-first", "`git status` of 5,000 files, first run"),
    line("git-second", "`git status` of 5,000 files, second run").goals(30.0, 5.0),
    line("create-1000", "create 1,000 files of 1 KiB").kernel(4233.0, "4,233").slow(),
    line("cp-up", "`s3files-fuse cp -r` of 1,000 files of 1 KiB, to the server").goals(200.0, 100.0),
    line("cp-up-1", "the same with `--jobs 1`").slow(),
    line("cp-down", "the same, from the server").goals(200.0, 100.0),
    line("cp-down-1", "the same with `--jobs 1`").slow(),
    line("random-1", "4 KiB random reads, one at a time").unit(Unit::PerSecond).kernel(32.0, "32"),
    line("random-16", "4 KiB random reads, 16 threads").unit(Unit::PerSecond).kernel(587.0, "587"),
    // Below 4 is 3 when rounded down.
    line("busy-stat", "slowest `stat` beside 64 busy processes").must(Unit::RoundTrips, 3.0).uneven(),
    line("link-read", "100 MiB read on 100 Mbit/s, of the link").must(Unit::Share, 0.9).slow(),
    line("link-write", "100 MiB written on 100 Mbit/s, of the link").must(Unit::Share, 0.9).slow(),
    line("tls-read", "1 GiB read over TLS on loopback, of a raw transfer").must(Unit::Share, 0.5).slow(),
    line("tls-write", "1 GiB written over TLS on loopback, of a raw transfer").must(Unit::Share, 0.5).slow(),
    line("rss", "memory with `--cache-size 64M` after reading 1 GiB and 128 files of 8 MiB, or writing 256 MiB next")
        .must(Unit::Mebibytes, 128.0)
        .slow(),
    line("rss-peak", "the most memory meanwhile").unit(Unit::Mebibytes).slow(),
    line("list-100000", "`ls -f` of 100,000 files").slow().uneven(),
    line("ls-100000", "`ls -l` of 100,000 files").slow().uneven(),
    line("inodes", "memory with 1,000,000 known inodes").must(Unit::Mebibytes, 400.0).slow(),
];

/// The line of a name.
pub fn find(id: &str) -> Option<&'static Line> {
    LINES.iter().find(|line| line.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lines_have_the_same_name_and_no_aim_is_easier_than_its_must() {
        let mut ids: Vec<_> = LINES.iter().map(|line| line.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), LINES.len());
        for line in LINES {
            if let (Some(must), Some(aim)) = (line.must, line.aim) {
                assert!(if line.unit.more_is_better() { aim >= must } else { aim <= must }, "{}", line.id);
            }
        }
    }
}
