//! The system's list of mounts, and whether a FUSE mount answers, without looking at it from this process.
//!
//! Whoever looks at a FUSE mount waits for its daemon, and once the daemon has taken the question not even a kill ends the
//! waiting. The list tells what is mounted without asking; whether it answers is tried by a process of its own, which is
//! left to itself when it does not come back.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;

/// How long a look may take.
const LIMIT: Duration = Duration::from_secs(2);
/// How often to see whether it is over.
const PAUSE: Duration = Duration::from_millis(5);
/// The hidden verb of the process that looks.
pub const LOOK: &str = "look";
/// Its exit code for a mount without a daemon.
const DEAD: i32 = 3;

/// What is mounted on a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file system with a daemon.
    Fuse,
    /// Any other.
    Other,
}

/// How a FUSE mount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It answers.
    Alive,
    /// Its daemon is gone.
    Dead,
    /// Its daemon says nothing.
    Silent,
}

/// What the system's list has at `folder`, an absolute path without links. The folder is not looked at.
pub fn at(folder: &Path) -> Option<Kind> {
    list::at(folder)
}

/// Asks the FUSE mount at `folder` for its attributes.
pub fn answer(folder: &Path) -> Answer {
    let Ok(program) = std::env::current_exe() else { return Answer::Silent };
    // Nobody may wait for the end of its output, should it stay behind.
    let look = Command::new(program)
        .arg(LOOK)
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut look) = look else { return Answer::Silent };
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        match look.try_wait() {
            Ok(Some(status)) if status.code() == Some(DEAD) => return Answer::Dead,
            Ok(Some(_)) => return Answer::Alive,
            Ok(None) => std::thread::sleep(PAUSE),
            Err(_) => break,
        }
    }
    // It ends now, or when the mount does.
    let _ = look.kill();
    Answer::Silent
}

/// The other end of [`answer`]: looks, and says by its exit code what it met.
pub fn look(folder: &Path) -> u8 {
    match std::fs::metadata(folder) {
        // The kernel's word for a FUSE mount without a daemon.
        Err(error) if error.raw_os_error() == Some(Errno::ENOTCONN as i32) => DEAD as u8,
        // ENXIO is macFUSE's.
        Err(error) if cfg!(target_os = "macos") && error.raw_os_error() == Some(Errno::ENXIO as i32) => DEAD as u8,
        _ => 0,
    }
}

fn kind(name: &[u8]) -> Kind {
    if name.windows(4).any(|part| part.eq_ignore_ascii_case(b"fuse")) { Kind::Fuse } else { Kind::Other }
}

#[cfg(target_os = "linux")]
mod list {
    use super::{Kind, Path, kind};
    use std::os::unix::ffi::OsStrExt;

    pub fn at(folder: &Path) -> Option<Kind> {
        let list = std::fs::read("/proc/self/mountinfo").ok()?;
        // What was mounted last is on top.
        list.split(|byte| *byte == b'\n').filter_map(|line| mounted(line, folder.as_os_str().as_bytes())).next_back()
    }

    /// What a line of mountinfo(5) mounts, if it is on `folder`: the fifth field is the folder, the one behind ` - ` the type.
    pub fn mounted(line: &[u8], folder: &[u8]) -> Option<Kind> {
        let mut escaped = Vec::with_capacity(folder.len());
        for byte in folder {
            match byte {
                b' ' | b'\t' | b'\n' | b'\\' => escaped.extend(format!("\\{byte:03o}").bytes()),
                other => escaped.push(*other),
            }
        }
        let mut fields = line.split(|byte| *byte == b' ').skip(4);
        if fields.next()? != escaped.as_slice() {
            return None;
        }
        fields.find(|field| *field == b"-")?;
        fields.next().map(kind)
    }
}

#[cfg(not(target_os = "linux"))]
mod list {
    use super::{Command, Kind, Path};
    use std::os::unix::ffi::OsStrExt;

    /// The program reads the list that the kernel keeps, and asks no file system.
    pub fn at(folder: &Path) -> Option<Kind> {
        let output = Command::new("/sbin/mount").output().ok()?;
        let lines = output.stdout.split(|byte| *byte == b'\n');
        lines.filter_map(|line| super::printed(line, folder.as_os_str().as_bytes())).next_back()
    }
}

/// What a line of mount(8) on a Mac mounts, if it is on `folder`: `SOURCE on FOLDER (TYPE, OPTION, …)`.
#[cfg(any(not(target_os = "linux"), test))]
fn printed(line: &[u8], folder: &[u8]) -> Option<Kind> {
    let line = line.strip_suffix(b")")?;
    let options = line.windows(2).rposition(|two| two == b" (")?;
    let place = line[..options].strip_suffix(folder)?;
    let types = line[options + 2..].split(|byte| *byte == b',').next()?;
    place.ends_with(b" on ").then(|| kind(types))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_mount_is_found_in_the_list_whatever_its_name() {
        let line = br"36 35 0:98 / /mnt/my\040work\134x rw,noatime shared:1 - fuse.s3files-fuse fs-1 rw";
        assert_eq!(list::mounted(line, br"/mnt/my work\x"), Some(Kind::Fuse));
        assert_eq!(list::mounted(line, b"/mnt/my"), None);
        let line = b"22 1 0:21 / /proc rw,nosuid - proc proc rw";
        assert_eq!(list::mounted(line, b"/proc"), Some(Kind::Other));
        assert_eq!((at(Path::new("/proc")), at(Path::new("/proc/self"))), (Some(Kind::Other), None));
    }

    #[test]
    fn a_mount_is_found_in_what_a_mac_prints() {
        let line = b"fs-1 on /Volumes/my (own) work (macfuse, nodev, nosuid, synchronous, mounted by me)";
        assert_eq!(printed(line, b"/Volumes/my (own) work"), Some(Kind::Fuse));
        for other in [&b"/Volumes/my (own)"[..], b"work", b"/Volumes"] {
            assert_eq!(printed(line, other), None);
        }
        let line = b"/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)";
        assert_eq!(printed(line, b"/"), Some(Kind::Other));
        assert_eq!(printed(b"", b"/"), None);
    }

    #[test]
    fn what_can_be_looked_at_is_no_dead_mount() {
        assert_eq!((look(Path::new("/")), look(Path::new("/nowhere/at/all"))), (0, 0));
    }
}
