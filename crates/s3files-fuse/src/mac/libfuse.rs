//! A device from libfuse 2, for releases of macFUSE whose mount program does not hand one over.
//!
//! The library is opened when it is needed, so that the program starts on a Mac without macFUSE.

use std::error::Error as _;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::installed::Way;
use super::raw::{self, Entry};

/// Mounts `folder`. The error is a sentence.
pub fn device(library: &Path, way: Way, folder: &Path, options: &str) -> Result<OwnedFd, String> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| "a name has a zero byte in it".to_owned());
    let entry = if way == Way::Compat { Entry::Compat25 } else { Entry::Mount };
    let arguments = [b"s3files-fuse".as_slice(), b"-o", options.as_bytes()];
    let arguments = arguments.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
    match raw::libfuse_mount(library, entry, &text(folder.as_os_str().as_bytes())?, arguments) {
        Ok(Some(device)) => Ok(device),
        Ok(None) => Err(format!("{way} refused")),
        Err(error) => {
            // The loader's own words are in the source.
            let words = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            Err(format!("{} cannot be used: {words}", library.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::io::Read;
    use std::process::Command;

    use super::*;

    /// A library with libfuse's names: its "device" is a file whose name is the mount point, and it refuses unless it
    /// gets the arguments that libfuse's users give.
    const FAKE: &str = r#"
        #include <fcntl.h>
        #include <string.h>
        struct args { int argc; char **argv; int allocated; };
        static int channel = -1;
        static int take(const char *folder, struct args *args) {
            if (args->argc != 3 || args->argv[3] || args->allocated || strcmp(args->argv[1], "-o")) return -1;
            if (strcmp(args->argv[2], "volname=x")) return -1;
            return open(folder, O_RDONLY);
        }
        void *fuse_mount(const char *folder, struct args *args) {
            channel = take(folder, args);
            return channel < 0 ? 0 : &channel;
        }
        int fuse_chan_fd(void *of) { return *(int *)of; }
        #ifdef OLD
        int fuse_mount_compat25(const char *folder, struct args *args) { return take(folder, args); }
        #endif
    "#;

    fn library(dir: &Path, old: bool) -> std::path::PathBuf {
        let (source, library) = (dir.join("fake.c"), dir.join(if old { "old.so" } else { "new.so" }));
        std::fs::write(&source, FAKE).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
        if old {
            compiler.arg("-DOLD");
        }
        assert!(compiler.status().unwrap().success());
        library
    }

    #[test]
    fn both_entry_points_give_a_descriptor_of_our_own() {
        let dir = tempfile::tempdir().unwrap();
        let device_file = dir.path().join("device");
        std::fs::write(&device_file, b"frames").unwrap();
        let library = library(dir.path(), true);
        for way in [Way::Channel, Way::Compat] {
            let mut read = String::new();
            let device = device(&library, way, &device_file, "volname=x").unwrap();
            std::fs::File::from(device).read_to_string(&mut read).unwrap();
            assert_eq!(read, "frames", "{way}");
        }
    }

    #[test]
    fn a_refusal_and_a_missing_entry_point_are_sentences() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (library(dir.path(), true), library(dir.path(), false));
        let refused = device(&old, Way::Compat, &dir.path().join("missing"), "volname=x").unwrap_err();
        assert_eq!(refused, "libfuse's fuse_mount_compat25 refused");
        assert!(device(&old, Way::Channel, dir.path(), "volname=y").unwrap_err().contains("refused"));
        let missing = device(&new, Way::Compat, dir.path(), "volname=x").unwrap_err();
        assert!(missing.contains("cannot be used") && missing.contains("fuse_mount_compat25"), "{missing}");
        assert!(device(&dir.path().join("none"), Way::Channel, dir.path(), "").unwrap_err().contains("cannot be used"));
    }
}
