//! A device from `mount_macfuse`, the program with which macFUSE mounts.
//!
//! It is started with one end of a pair of sockets, whose number stands in `_FUSE_COMMFD`, sends an open device over it
//! (SCM_RIGHTS), and then mounts: for that it needs INIT and more to be answered, so it ends only while the session runs.
//! `_FUSE_COMMVERS=2` asks for this way, `_FUSE_CALL_BY_LIB` says that a person has not started it by mistake, and
//! `_FUSE_DAEMON_PATH` is what macFUSE shows as the program behind the volume.

use std::ffi::OsStr;
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

/// Most bytes of the program's complaints that are kept.
const MOST_WORDS: u64 = 4096;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The program at work. It is ended when this is dropped.
#[derive(Debug)]
pub struct Mounting {
    child: Child,
    words: Option<JoinHandle<String>>,
    /// Open for as long as the program may want to say how it went; nobody needs to hear it, its end says the same.
    _socket: UnixStream,
}

/// Starts `program` for `folder` and waits for the device for at most `limit`. The error is a sentence.
pub fn device(program: &Path, folder: &Path, options: &str, limit: Duration) -> Result<(OwnedFd, Mounting), String> {
    let cannot = |error: &dyn std::fmt::Display| format!("{} cannot be started ({error})", program.display());
    let (ours, theirs) = UnixStream::pair().map_err(|error| cannot(&error))?;
    // It is to stay open in the program. Whatever else is started in this moment would get it too, and keep us waiting
    // for at most `limit`.
    fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).map_err(|error| cannot(&error))?;
    let own = std::env::current_exe().unwrap_or_else(|_| "s3files-fuse".into());
    let mut child = Command::new(program)
        .args([OsStr::new("-o"), options.as_ref(), folder.as_os_str()])
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .env("_FUSE_COMMVERS", "2")
        .env("_FUSE_CALL_BY_LIB", "1")
        .env("_FUSE_DAEMON_PATH", own)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| cannot(&error))?;
    drop(theirs);
    let words = child.stderr.take().map(|output| {
        std::thread::spawn(move || {
            let mut words = Vec::new();
            // Whatever could not be read is not needed.
            let _ = output.take(MOST_WORDS).read_to_end(&mut words);
            String::from_utf8_lossy(&words).split_whitespace().collect::<Vec<_>>().join(" ")
        })
    });
    let received = ours.set_read_timeout(Some(limit)).and_then(|()| receive(&ours));
    let mut mounting = Mounting { child, words, _socket: ours };
    match received {
        Ok(device) => Ok((device, mounting)),
        Err(error) => {
            let why = match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    format!("said nothing for {} s", limit.as_secs())
                }
                io::ErrorKind::UnexpectedEof => "gave no device".to_owned(),
                _ => format!("gave no device ({error})"),
            };
            Err(mounting.complaint(&why))
        }
    }
}

/// The descriptor that comes with the first byte.
fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut into = [IoSliceMut::new(&mut byte)];
        match rustix::net::recvmsg(socket, &mut into, &mut ancillary, RecvFlags::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result?,
        }
    };
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let device = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sent) => sent.next(),
        _ => None,
    });
    let device = device.ok_or(io::ErrorKind::InvalidData)?;
    fcntl(&device, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(device)
}

impl Mounting {
    /// Waits until it has mounted, for at most `limit`. The error is a sentence.
    pub fn finish(mut self, limit: Duration) -> Result<(), String> {
        let start = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(self.complaint(&format!("ended with {status}"))),
                Ok(None) if start.elapsed() > limit => {
                    return Err(self.complaint(&format!("did not mount within {} s", limit.as_secs())));
                }
                Ok(None) => std::thread::sleep(LOOK_EVERY),
                Err(error) => return Err(self.complaint(&format!("was lost ({error})"))),
            }
        }
    }

    /// Ends it, and says what it said.
    fn complaint(&mut self, why: &str) -> String {
        self.end();
        // A child of it that keeps its output open must not keep us.
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(1) && self.words.as_ref().is_some_and(|words| !words.is_finished())
        {
            std::thread::sleep(LOOK_EVERY);
        }
        let words = self.words.take().filter(JoinHandle::is_finished).and_then(|words| words.join().ok());
        match words.filter(|words| !words.is_empty()) {
            Some(words) => format!("mount_macfuse {why}: {words}"),
            None => format!("mount_macfuse {why}"),
        }
    }

    fn end(&mut self) {
        // Both fail only for one that has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Mounting {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A mount program in Python: sends the file of its last argument, then does what `further` says.
    fn helper(dir: &Path, send: bool, further: &str) -> PathBuf {
        let program = dir.join("mount_macfuse");
        let sending = "socket.send_fds(s, [b'x'], [os.open(sys.argv[3], os.O_RDONLY)])";
        let text = format!(
            "#!/usr/bin/env python3\nimport os, socket, sys, time\n\
             assert os.environ['_FUSE_COMMVERS'] == '2' and os.environ['_FUSE_CALL_BY_LIB'] == '1'\n\
             assert os.path.isabs(os.environ['_FUSE_DAEMON_PATH'])\n\
             assert sys.argv[1:3] == ['-o', 'volname=a b']\n\
             s = socket.socket(fileno=int(os.environ['_FUSE_COMMFD']))\n{}\n{further}\n",
            if send { sending } else { "pass" }
        );
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        program
    }

    fn folder(dir: &Path) -> PathBuf {
        let folder = dir.join("folder");
        std::fs::write(&folder, b"device").unwrap();
        folder
    }

    #[test]
    fn the_device_arrives_while_the_program_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        let go = dir.path().join("go");
        // As the real one waits for INIT to be answered.
        let wait = format!("while not os.path.exists('{}'): time.sleep(0.01)", go.display());
        let program = helper(dir.path(), true, &wait);
        let (device, mut mounting) = device(&program, &folder, "volname=a b", LIMIT).unwrap();
        assert!(mounting.child.try_wait().unwrap().is_none(), "it has not mounted yet");
        let flags = fcntl(&device, FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & 1, 1, "FD_CLOEXEC is not set");
        let mut read = String::new();
        std::fs::File::from(device).read_to_string(&mut read).unwrap();
        assert_eq!(read, "device");
        std::fs::write(go, b"").unwrap();
        mounting.finish(LIMIT).unwrap();
    }

    #[test]
    fn what_the_program_complains_about_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        let complain = "sys.stderr.write('the kernel extension\\n is not allowed\\n'); sys.exit(3)";
        let program = helper(dir.path(), false, complain);
        let sentence = device(&program, &folder, "volname=a b", LIMIT).unwrap_err();
        assert_eq!(sentence, "mount_macfuse gave no device: the kernel extension is not allowed");
        let program = helper(dir.path(), true, complain);
        let (_device, mounting) = device(&program, &folder, "volname=a b", LIMIT).unwrap();
        let sentence = mounting.finish(LIMIT).unwrap_err();
        assert!(sentence.contains("exit status: 3: the kernel extension is not allowed"), "{sentence}");
    }

    #[test]
    fn a_program_that_sends_a_byte_alone_has_given_no_device() {
        let dir = tempfile::tempdir().unwrap();
        let program = helper(dir.path(), false, "s.send(b'x')");
        let sentence = device(&program, &folder(dir.path()), "volname=a b", LIMIT).unwrap_err();
        assert!(sentence.starts_with("mount_macfuse gave no device"), "{sentence}");
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        let program = helper(dir.path(), false, "time.sleep(600)");
        let sentence = device(&program, &folder, "volname=a b", Duration::from_millis(200)).unwrap_err();
        assert!(sentence.contains("said nothing"), "{sentence}");
        let program = helper(dir.path(), true, "time.sleep(600)");
        let (_device, mounting) = device(&program, &folder, "volname=a b", LIMIT).unwrap();
        assert!(mounting.finish(Duration::from_millis(200)).unwrap_err().contains("did not mount"));
    }

    #[test]
    fn a_missing_program_is_a_sentence() {
        let sentence = device(Path::new("/nonexistent/mount"), Path::new("/"), "", LIMIT).unwrap_err();
        assert!(sentence.starts_with("/nonexistent/mount cannot be started"), "{sentence}");
    }
}
