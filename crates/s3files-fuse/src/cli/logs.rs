//! `logs [FOLDER]`

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::served;
use crate::config::Config;
use crate::control::{self, Answer, Ask};
use crate::failure::Failure;
use crate::logging;

/// How often `--follow` looks.
const EVERY: Duration = Duration::from_millis(250);
/// Most bytes of a file that are looked at for its last lines.
const LOOKED_AT: u64 = 8 << 20;

/// Show the log of a mount, also of one that has ended.
///
/// Mounts in the background log to a file of their own; `status` names it. `mount --log-level debug` makes them say more.
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// The folder, or the name of a mount in the configuration; not needed while one mount is all there is.
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Go on showing what is written, until Ctrl-C.
    #[arg(long, short = 'f')]
    follow: bool,
    /// How many lines to begin with.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 100)]
    lines: usize,
}

impl LogsArgs {
    /// Carries it out.
    pub async fn run(self, config: &Config) -> Result<(), Failure> {
        let path = self.file(config).await?;
        let failed = |error: io::Error| Failure::Other(format!("{} cannot be read: {error}", path.display()));
        let mut file = File::open(&path).map_err(failed)?;
        let earlier = File::open(logging::numbered(&path, 1)).ok();
        let mut last = VecDeque::new();
        for part in earlier.iter().chain([&file]) {
            collect(part, self.lines, &mut last).map_err(failed)?;
        }
        let begin: Vec<u8> = last.into_iter().flatten().collect();
        if !print(&begin)? || !self.follow {
            return Ok(());
        }
        let until = tokio::signal::ctrl_c();
        tokio::pin!(until);
        loop {
            let mut more = Vec::new();
            (&file).take(LOOKED_AT).read_to_end(&mut more).map_err(failed)?;
            if more.is_empty() {
                // It may have been turned over: what came before that has been read to its end.
                if let (Ok(here), Ok(there)) = (file.metadata(), std::fs::metadata(&path))
                    && here.ino() != there.ino()
                {
                    file = File::open(&path).map_err(failed)?;
                    continue;
                }
            } else if !print(&more)? {
                return Ok(());
            }
            tokio::select! {
                interrupted = &mut until => {
                    return interrupted.map_err(|error| Failure::Other(format!("Ctrl-C is not heard: {error}")));
                }
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// The log file.
    async fn file(&self, config: &Config) -> Result<PathBuf, Failure> {
        let terminal = |folder: &Path| {
            Failure::Other(format!(
                "{} is mounted in the foreground and logs to its terminal; --log-file FILE makes it a file",
                folder.display()
            ))
        };
        let Some(folder) = &self.folder else {
            let answers = control::all(&Ask::Status).await.into_iter();
            let mounts: Vec<_> = answers
                .filter_map(|answer| if let Answer::Status(status) = answer { Some(*status) } else { None })
                .collect();
            return match mounts.as_slice() {
                [] => Err(Failure::NoMounts),
                [mount] => mount.log.clone().ok_or_else(|| terminal(&mount.folder)),
                mounts => {
                    let folders: Vec<_> = mounts.iter().map(|mount| mount.folder.display().to_string()).collect();
                    Err(Failure::Usage(format!("there are several mounts; say which: {}", folders.join(", "))))
                }
            };
        };
        let folder = config.folder(folder, &super::command());
        match served::status(&folder).await? {
            (absolute, Ok(Answer::Status(status))) => status.log.ok_or_else(|| terminal(&absolute)),
            (absolute, Ok(_)) => Err(Failure::Other(format!("{} does not tell where its log is", absolute.display()))),
            (absolute, Err(error)) => match logging::usual(&absolute) {
                Ok(path) if path.exists() => Ok(path),
                _ => Err(served::nobody(&folder, &absolute, &error)),
            },
        }
    }
}

/// Adds the lines of a file, and keeps the last ones.
fn collect(mut file: &File, most: usize, last: &mut VecDeque<Vec<u8>>) -> io::Result<()> {
    let length = file.metadata()?.len();
    let begin = length.saturating_sub(LOOKED_AT);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(LOOKED_AT).read_to_end(&mut bytes)?;
    let whole = if begin == 0 { 0 } else { bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1) };
    for line in bytes[whole..].split_inclusive(|byte| *byte == b'\n') {
        last.push_back(line.to_vec());
        if last.len() > most {
            last.pop_front();
        }
    }
    Ok(())
}

/// Prints text that may hold what others have named their files. False: nobody reads it any more.
fn print(bytes: &[u8]) -> Result<bool, Failure> {
    let harmless = |byte: &u8| if byte.is_ascii_control() && !b"\n\t".contains(byte) { b'?' } else { *byte };
    let safe: Vec<u8> = bytes.iter().map(harmless).collect();
    let mut out = io::stdout().lock();
    match out.write_all(&safe).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Other(format!("the log cannot be printed: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_last_lines_come_from_both_files() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            File::open(path).unwrap()
        };
        let (old, new) = (write("x.1", "a\nb\nc\n"), write("x", "d\nunfinished"));
        let mut last = VecDeque::new();
        collect(&old, 3, &mut last).unwrap();
        collect(&new, 3, &mut last).unwrap();
        let text: Vec<u8> = last.into_iter().flatten().collect();
        assert_eq!(String::from_utf8(text).unwrap(), "c\nd\nunfinished");
    }
}
