//! `ls TARGET [PATH]`

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use clap::Args;
use time::OffsetDateTime;
use time::macros::format_description;
use vfs::{Attr, Cred, FileKind, Vfs, VfsOptions};

use super::source::SourceArgs;
use crate::failure::Failure;
use crate::printable::for_output;
use crate::walk::{find, own_identity, refused};

/// About as much of a listing as is asked for at a time.
const PIECE: usize = 1 << 20;

/// List a directory of a file system without mounting it.
///
/// On a terminal, control characters in names are shown as `?`; in a pipe or a file names are what they are.
#[derive(Debug, Clone, Args)]
pub struct LsArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// The directory or file, as a path from the root.
    #[arg(value_name = "PATH", default_value = "/")]
    directory: String,
    /// Show type, permissions, owner, group, size and time (UTC) as well.
    #[arg(long, short = 'l')]
    long: bool,
    /// Show names that begin with a dot as well.
    #[arg(long, short = 'a')]
    all: bool,
}

impl LsArgs {
    /// Carries it out.
    pub async fn run(self) -> Result<(), Failure> {
        let is_terminal = io::stdout().is_terminal();
        let options = VfsOptions { read_only: true, ..VfsOptions::default() };
        let (vfs, _) = self.source.source().await?.connect(options).await?;
        let outcome = list(&vfs, &own_identity(), &self.directory, self.long, self.all, is_terminal).await;
        vfs.shutdown().await;
        match io::stdout().write_all(&outcome?) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::Other(format!("the listing cannot be printed: {error}")))
            }
            _ => Ok(()),
        }
    }
}

async fn list(
    vfs: &Vfs,
    cred: &Cred,
    path: &str,
    long: bool,
    all: bool,
    is_terminal: bool,
) -> Result<Vec<u8>, Failure> {
    let refuse = |error: vfs::Error| refused(path, &error);
    let attr = find(vfs, cred, path).await?;
    let mut lines: Vec<(Vec<u8>, Option<Attr>)> = Vec::new();
    if attr.kind == FileKind::Directory {
        let fh = vfs.opendir(cred, attr.ino).await.map_err(refuse)?;
        let mut offset = 0;
        loop {
            let items = vfs.readdir(cred, attr.ino, fh, offset, true, PIECE).await.map_err(refuse)?;
            let Some(last) = items.last() else {
                break;
            };
            offset = last.offset;
            let shown = items.into_iter().filter(|item| {
                let is_dot = matches!(&*item.name, b"." | b"..");
                !is_dot && (all || !item.name.starts_with(b"."))
            });
            lines.extend(shown.map(|item| (item.name.to_vec(), item.entry.map(|entry| entry.attr))));
        }
        let _ = vfs.releasedir(cred, attr.ino, fh).await;
        lines.sort_by(|(a, _), (b, _)| a.cmp(b));
    } else {
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or(path);
        lines.push((name.as_bytes().to_vec(), Some(attr)));
    }
    let mut out = Vec::new();
    for (name, attr) in lines {
        if long {
            out.extend_from_slice(details(attr.as_ref()).as_bytes());
        }
        out.extend_from_slice(&for_output(&name, is_terminal));
        out.push(b'\n');
    }
    Ok(out)
}

/// The columns of `ls -l`, with a space behind the last.
fn details(attr: Option<&Attr>) -> String {
    let Some(attr) = attr else {
        return format!("{:10} {:>3} {:>8} {:>8} {:>14} {:16} ", "?", "?", "?", "?", "?", "?");
    };
    let time = OffsetDateTime::from_unix_timestamp(attr.mtime.seconds)
        .ok()
        .and_then(|time| time.format(format_description!("[year]-[month]-[day] [hour]:[minute]")).ok())
        .unwrap_or_else(|| "?".to_owned());
    let mut line = permissions(attr);
    // Writing to a string does not fail.
    let _ = write!(line, " {:>3} {:>8} {:>8} {:>14} {time:16} ", attr.nlink, attr.uid, attr.gid, attr.size);
    line
}

fn permissions(attr: &Attr) -> String {
    let kind = match attr.kind {
        FileKind::Regular => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
        FileKind::CharDevice => 'c',
        FileKind::BlockDevice => 'b',
    };
    let mut text = String::from(kind);
    for (shift, special, sign) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = attr.mode >> shift;
        let execute = match (bits & 1 != 0, attr.mode & special != 0) {
            (true, false) => 'x',
            (false, false) => '-',
            (true, true) => sign,
            (false, true) => sign.to_ascii_uppercase(),
        };
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(execute);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use vfs::Timestamp;

    fn attr(kind: FileKind, mode: u32) -> Attr {
        let time = Timestamp { seconds: 1_700_000_000, nanos: 0 };
        Attr {
            ino: 2,
            kind,
            mode,
            nlink: 1,
            uid: 1000,
            gid: 1000,
            size: 5,
            space_used: 512,
            rdev: (0, 0),
            atime: time,
            mtime: time,
            ctime: time,
            change: 1,
        }
    }

    #[test]
    fn permissions_look_as_in_ls() {
        assert_eq!(permissions(&attr(FileKind::Regular, 0o644)), "-rw-r--r--");
        assert_eq!(permissions(&attr(FileKind::Directory, 0o1777)), "drwxrwxrwt");
        assert_eq!(permissions(&attr(FileKind::Regular, 0o4755)), "-rwsr-xr-x");
        assert_eq!(permissions(&attr(FileKind::Regular, 0o2644)), "-rw-r-Sr--");
    }

    #[test]
    fn a_line_tells_size_and_time() {
        let line = details(Some(&attr(FileKind::Regular, 0o600)));
        assert!(line.contains(" 5 2023-11-14 22:13 "), "{line}");
        assert_eq!(details(None).len(), line.len());
    }
}
