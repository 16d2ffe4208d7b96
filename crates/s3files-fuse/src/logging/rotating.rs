//! A log file that does not grow without end: when it is full it becomes `FILE.1`, that `FILE.2`, and the oldest goes.
//!
//! By size and not by day: at level `debug` a busy day is gigabytes, and the disk of a laptop is what has to be bounded.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// See the module's page.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
    /// Full files that are kept.
    kept: u32,
}

impl RotatingFile {
    /// Goes on at the end of the file, which only this user may read: names of files are nobody else's business.
    pub fn open(path: &Path, limit: u64, kept: u32) -> io::Result<Self> {
        let file = append(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size, limit, kept })
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.kept).rev() {
            match std::fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, numbered(&self.path, 1))?;
        self.file = append(&self.path)?;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// The name of a full file.
pub fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

impl Write for RotatingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size > 0 && self.size + bytes.len() as u64 > self.limit {
            // A log that cannot be turned over is better than none: it goes on, and is tried again a limit later.
            let _ = self.rotate();
            self.size = 0;
        }
        let written = self.file.write(bytes)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_full_log_moves_on_and_only_so_many_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = RotatingFile::open(&path, 100, 2).unwrap();
        for line in 0..50 {
            writeln!(log, "line {line:04}").unwrap();
        }
        drop(log);
        let mut log = RotatingFile::open(&path, 100, 2).unwrap();
        log.write_all(b"after a restart\n").unwrap();
        let files = [path.clone(), numbered(&path, 1), numbered(&path, 2)];
        let texts = files.each_ref().map(|file| std::fs::read_to_string(file).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
        assert!(texts.iter().all(|text| text.len() <= 100), "{texts:?}");
        assert!(texts[0].ends_with("after a restart\n"), "{texts:?}");
        let all = format!("{}{}{}", texts[2], texts[1], texts[0]);
        let lines: Vec<_> = all.lines().filter(|line| line.starts_with("line")).collect();
        assert!(lines.len() > 10 && lines.is_sorted() && lines.last() == Some(&"line 0049"), "{lines:?}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
