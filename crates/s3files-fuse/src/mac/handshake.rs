//! A fuser session on a device whose first exchange goes through our hands.
//!
//! fuser makes its handshake on the descriptor that it is given, and has no say for the file system in what it accepts.
//! So it is given one end of a pair of sockets; a thread at the other end carries the one request and the one answer
//! over, changed as [`init`] says. Then the device is put in the socket's place, and from there on every byte goes
//! between the kernel and fuser alone: nothing is copied twice, and nothing of ours can fail later.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use fuser::{Config, Filesystem, Session, SessionACL};

use super::{init, raw};

/// Bytes in which an INIT surely fits: the least that a FUSE kernel wants to see is 8 KiB.
const REQUEST_ROOM: usize = 64 << 10;

/// Makes the handshake and returns the session, ready to run. Blocks until the kernel has sent INIT.
pub fn session<F: Filesystem>(
    filesystem: F,
    device: OwnedFd,
    acl: SessionACL,
    config: Config,
) -> io::Result<Session<F>> {
    let (ours, theirs) = UnixStream::pair()?;
    let device = File::from(device);
    let (session, relayed) = std::thread::scope(|scope| {
        let relay =
            std::thread::Builder::new().name("handshake".to_owned()).spawn_scoped(scope, || relay(&device, ours))?;
        let session = Session::from_fd(filesystem, OwnedFd::from(theirs), acl, config);
        let relayed = relay.join().map_err(|_| io::Error::other("the handshake ended in a panic"))?;
        Ok::<_, io::Error>((session, relayed))
    })?;
    // What went wrong at the device is the cause of what fuser saw.
    relayed?;
    let session = session?;
    raw::replace(session.as_fd(), device.as_fd())?;
    Ok(session)
}

/// Carries INIT and its answer over. The socket is closed at the end, so that fuser never waits for nothing.
fn relay(mut device: &File, mut socket: UnixStream) -> io::Result<()> {
    let mut room = vec![0; REQUEST_ROOM];
    loop {
        let length = loop {
            match device.read(&mut room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let request = &mut room[..length];
        let offer = init::cut(request);
        socket.write_all(request)?;
        let answer = read_answer(&mut socket, offer)?;
        // The kernel takes a whole answer or none.
        let written = device.write(&answer)?;
        if written != answer.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if !offer.is_some_and(|offer| offer.again) {
            return Ok(());
        }
    }
}

fn read_answer(socket: &mut UnixStream, offer: Option<init::Offer>) -> io::Result<Vec<u8>> {
    let mut header = [0; init::ANSWER_HEADER];
    socket.read_exact(&mut header)?;
    let length = init::answer_length(header).ok_or(io::ErrorKind::InvalidData)?;
    let mut answer = header.to_vec();
    answer.resize(length, 0);
    socket.read_exact(&mut answer[init::ANSWER_HEADER..])?;
    if let Some(offer) = offer {
        init::complete(&mut answer, offer);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::mpsc;
    use std::time::Duration;

    use fuser::{Errno, INodeNo, ReplyEntry, Request};

    use super::*;
    use crate::mac::frames;

    /// Says which names are looked up.
    struct Names(mpsc::Sender<String>);

    impl Filesystem for Names {
        fn lookup(&self, _request: &Request, _parent: INodeNo, name: &std::ffi::OsStr, reply: ReplyEntry) {
            self.0.send(name.to_string_lossy().into_owned()).unwrap();
            reply.error(Errno::ENOENT);
        }
    }

    fn answer(kernel: &mut UnixStream) -> Vec<u8> {
        let mut room = vec![0; 4096];
        let length = kernel.read(&mut room).unwrap();
        room.truncate(length);
        room
    }

    fn flags(answer: &[u8]) -> u32 {
        u32::from_ne_bytes(answer[28..32].try_into().unwrap())
    }

    #[test]
    fn after_the_handshake_requests_come_from_the_device_itself() {
        let (mut kernel, device) = UnixStream::pair().unwrap();
        kernel.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (tell, told) = mpsc::channel();
        // Bits as macFUSE has them.
        kernel.write_all(&frames::init(7, 19, 0xff80_0001)).unwrap();
        let session = session(Names(tell), device.into(), SessionACL::All, Config::default()).unwrap();
        let reply = answer(&mut kernel);
        assert_eq!(reply.len(), 40, "FUSE 7.19 has 24 bytes of answer");
        assert_eq!(flags(&reply), 1 | 1 << 24, "the volume must not be case-insensitive");
        let running = std::thread::spawn(move || session.run());
        kernel.write_all(&frames::lookup(2, "name")).unwrap();
        assert_eq!(answer(&mut kernel).len(), 16);
        assert_eq!(told.recv_timeout(Duration::from_secs(20)).unwrap(), "name");
        kernel.write_all(&frames::destroy(3)).unwrap();
        running.join().unwrap().unwrap();
    }

    #[test]
    fn a_program_that_is_started_later_does_not_hold_the_device() {
        let (mut kernel, device) = UnixStream::pair().unwrap();
        kernel.write_all(&frames::init(7, 19, 1)).unwrap();
        let session = session(Names(mpsc::channel().0), device.into(), SessionACL::All, Config::default()).unwrap();
        let flags = nix::fcntl::fcntl(session.as_fd(), nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & 1, 1, "FD_CLOEXEC is not set");
        drop(session);
        answer(&mut kernel);
        assert_eq!(kernel.read(&mut [0; 16]).unwrap(), 0, "the device is open after the session's end");
    }

    #[test]
    fn a_kernel_that_ends_or_says_something_else_is_an_error_and_no_hang() {
        let (kernel, device) = UnixStream::pair().unwrap();
        drop(kernel);
        assert!(session(Names(mpsc::channel().0), device.into(), SessionACL::All, Config::default()).is_err());
        let (mut kernel, device) = UnixStream::pair().unwrap();
        kernel.write_all(&frames::lookup(1, "early")).unwrap();
        assert!(session(Names(mpsc::channel().0), device.into(), SessionACL::All, Config::default()).is_err());
        let (mut kernel, device) = UnixStream::pair().unwrap();
        kernel.write_all(b"no frame").unwrap();
        assert!(session(Names(mpsc::channel().0), device.into(), SessionACL::All, Config::default()).is_err());
    }
}
