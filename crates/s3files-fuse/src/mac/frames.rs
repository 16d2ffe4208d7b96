//! Requests of the kernel as bytes, for tests.
//!
//! `fixtures/golden/macfuse` has them as macFUSE sends them. What fuser makes of those it can only show on a Mac, since
//! its layouts are fixed when it is compiled; here it gets the same requests without the fields that Linux lacks, which
//! holds the expectations to be right, and the Mac's bytes are held to their lengths and places.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

/// The bytes of a golden request, and where each field lies.
fn golden(name: &str, mac: bool) -> (Vec<u8>, Vec<(String, usize)>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/macfuse");
    let text = std::fs::read_to_string(folder.join(format!("{name}.txt"))).expect("a golden file");
    let (mut bytes, mut places) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let (line, only_mac) = line.strip_suffix(" mac").map_or((line, false), |line| (line, true));
        if only_mac && !mac {
            continue;
        }
        let mut words = line.splitn(3, ' ');
        let (width, field, value) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        places.push((field.to_owned(), bytes.len()));
        if width == "str" {
            bytes.extend(value.bytes());
            bytes.push(0);
        } else {
            let digits = value.strip_prefix("0x");
            let number = digits.map_or_else(|| value.parse(), |digits| u64::from_str_radix(digits, 16)).unwrap();
            bytes.extend(&number.to_le_bytes()[..width.parse().unwrap()]);
        }
    }
    let length = u32::try_from(bytes.len()).unwrap();
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    (bytes, places)
}

/// A request with a header that says little.
fn request(opcode: u32, unique: u64, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend((40 + body.len() as u32).to_ne_bytes());
    frame.extend(opcode.to_ne_bytes());
    frame.extend(unique.to_ne_bytes());
    frame.extend(1u64.to_ne_bytes());
    frame.extend([501u32, 20, 1, 0].map(u32::to_ne_bytes).concat());
    frame.extend(body);
    frame
}

/// INIT with these versions and abilities.
pub fn init(major: u32, minor: u32, flags: u32) -> Vec<u8> {
    request(26, 1, &[major, minor, 1 << 20, flags].map(u32::to_ne_bytes).concat())
}

/// LOOKUP of a name in the root.
pub fn lookup(unique: u64, name: &str) -> Vec<u8> {
    request(1, unique, &[name.as_bytes(), b"\0"].concat())
}

/// DESTROY, after which nothing comes.
pub fn destroy(unique: u64) -> Vec<u8> {
    request(38, unique, &[])
}

mod tests {
    use std::ffi::OsStr;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::time::{Duration, SystemTime};

    use fuser::{
        BsdFileFlags, Config, Errno, FileHandle, Filesystem, INodeNo, RenameFlags, ReplyAttr, ReplyEmpty, ReplyXattr,
        Request, SessionACL, TimeOrNow,
    };

    use super::*;
    use crate::mac::handshake;

    /// Writes down what fuser understood.
    struct Heard(mpsc::Sender<String>);

    fn since(time: Option<SystemTime>) -> Option<Duration> {
        time.map(|time| time.duration_since(SystemTime::UNIX_EPOCH).unwrap())
    }

    fn given(time: Option<TimeOrNow>) -> Option<Duration> {
        since(time.map(|time| match time {
            TimeOrNow::SpecificTime(time) => time,
            TimeOrNow::Now => SystemTime::UNIX_EPOCH,
        }))
    }

    impl Filesystem for Heard {
        fn rename(
            &self,
            _request: &Request,
            parent: INodeNo,
            name: &OsStr,
            newparent: INodeNo,
            newname: &OsStr,
            flags: RenameFlags,
            reply: ReplyEmpty,
        ) {
            self.0.send(format!("{} {name:?} {} {newname:?} {}", parent.0, newparent.0, flags.bits())).unwrap();
            reply.error(Errno::EPERM);
        }

        fn setattr(
            &self,
            _request: &Request,
            ino: INodeNo,
            mode: Option<u32>,
            uid: Option<u32>,
            gid: Option<u32>,
            size: Option<u64>,
            atime: Option<TimeOrNow>,
            mtime: Option<TimeOrNow>,
            _ctime: Option<SystemTime>,
            handle: Option<FileHandle>,
            crtime: Option<SystemTime>,
            chgtime: Option<SystemTime>,
            bkuptime: Option<SystemTime>,
            flags: Option<BsdFileFlags>,
            reply: ReplyAttr,
        ) {
            let numbers = format!("{} {mode:?} {uid:?} {gid:?} {size:?} {}", ino.0, handle.is_some());
            let times = [given(atime), given(mtime), since(crtime), since(chgtime), since(bkuptime)];
            self.0.send(format!("{numbers} {times:?} {:?}", flags.map(|flags| flags.bits()))).unwrap();
            reply.error(Errno::EPERM);
        }

        fn getxattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
            self.0.send(format!("{} {name:?} {size}", ino.0)).unwrap();
            reply.error(Errno::EPERM);
        }
    }

    /// What fuser makes of the requests as this system sends them.
    fn understood(names: &[&str]) -> Vec<String> {
        let (mut kernel, device) = UnixStream::pair().unwrap();
        kernel.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (tell, told) = mpsc::channel();
        let own = cfg!(target_os = "macos");
        kernel.write_all(&golden("init", own).0).unwrap();
        let session = handshake::session(Heard(tell), device.into(), SessionACL::All, Config::default()).unwrap();
        let running = std::thread::spawn(move || session.run());
        let mut answer = [0; 4096];
        assert_eq!(kernel.read(&mut answer).unwrap(), 40);
        for name in names {
            kernel.write_all(&golden(name, own).0).unwrap();
            assert_eq!(kernel.read(&mut answer).unwrap(), 16, "{name}");
        }
        kernel.write_all(&destroy(99)).unwrap();
        running.join().unwrap().unwrap();
        told.try_iter().collect()
    }

    #[test]
    fn names_and_numbers_arrive_where_they_belong() {
        let heard = understood(&["rename", "setattr", "getxattr"]);
        assert_eq!(heard[0], "7 \"old_name\" 9 \"new name\" 0", "a rename must not be garbled");
        let (first, later) =
            ("7 Some(33188) None Some(20) None false", "[Some(1700000001.000000011s), Some(1700000002.000000012s)");
        assert!(heard[1].starts_with(first), "{}", heard[1]);
        assert!(heard[1].contains(later), "{}", heard[1]);
        if cfg!(target_os = "macos") {
            let own =
                "Some(1700000005.000000015s), Some(1700000004.000000014s), Some(1700000003.000000013s)] Some(32768)";
            assert!(heard[1].ends_with(own), "{}", heard[1]);
        }
        assert_eq!(heard[2], "7 \"com.apple.FinderInfo\" 32");
    }

    #[test]
    fn the_macs_requests_have_the_lengths_and_places_of_fusers_layouts() {
        for (name, length, places) in [
            ("init", 56, vec![("major", 40), ("flags", 52)]),
            ("rename", 40 + 8 + 9 + 9, vec![("newdir", 40), ("oldname", 48), ("newname", 57)]),
            (
                "setattr",
                40 + 128,
                vec![("valid", 40), ("mode", 108), ("bkuptime", 128), ("crtime", 144), ("flags", 164)],
            ),
            ("getxattr", 40 + 16 + 21, vec![("size", 40), ("position", 48), ("name", 56)]),
        ] {
            let (bytes, found) = golden(name, true);
            assert_eq!(bytes.len(), length, "{name}");
            for (field, place) in places {
                assert!(found.contains(&(field.to_owned(), place)), "{name}: {field} is not at {place}: {found:?}");
            }
        }
    }
}
