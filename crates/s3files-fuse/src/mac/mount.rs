//! From a folder to a session: the ways one after the other, and what a person is told when none leads there.

use std::os::fd::OwnedFd;
use std::path::Path;
#[cfg(target_os = "macos")]
use std::time::Duration;

use super::helper::Mounting;
use super::installed::Way;
use crate::failure::Failure;

/// How long the mount program may take to hand a device over: macOS may ask the user something the first time.
#[cfg(target_os = "macos")]
const DEVICE_WITHIN: Duration = Duration::from_secs(30);
/// How long it may take to mount once INIT is answered.
#[cfg(target_os = "macos")]
const MOUNTED_WITHIN: Duration = Duration::from_secs(60);

/// A device, and what still works on the mount.
#[derive(Debug)]
struct Device {
    descriptor: OwnedFd,
    mounting: Option<Mounting>,
}

/// Tries one way after the other until one gives a device. The error has each with what it said.
fn first(
    ways: &[Way],
    mut get: impl FnMut(Way) -> Result<Device, String>,
) -> Result<(Way, Device), Vec<(Way, String)>> {
    let mut complaints = Vec::new();
    for way in ways {
        match get(*way) {
            Ok(device) => return Ok((*way, device)),
            Err(complaint) => {
                tracing::info!(%way, complaint, "no device this way");
                complaints.push((*way, complaint));
            }
        }
    }
    Err(complaints)
}

/// What a person is to do about complaints.
fn explain(complaints: &[(Way, String)], folder: &Path) -> Failure {
    // The first way is the best: what it says is nearest to the cause.
    let complaint = complaints.first().map_or("", |(_, complaint)| complaint.as_str());
    let lower = complaint.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if says(&["kernel extension", "kext", "system extension", "not permitted to load", "not loaded", "no such device"])
    {
        return Failure::NoFuse(format!(
            "macFUSE's kernel extension is not running; allow it in System Settings > Privacy & Security (on Apple \
             silicon first choose Reduced Security in macOS Recovery), and restart ({complaint})"
        ));
    }
    let detail = complaints.iter().map(|(_, complaint)| complaint.as_str()).collect::<Vec<_>>().join("; ");
    Failure::Mount { folder: folder.to_owned(), detail }
}

/// What must be waited for once the session runs.
#[cfg(target_os = "macos")]
#[derive(Debug)]
pub struct Pending(Option<Mounting>);

#[cfg(target_os = "macos")]
impl Pending {
    /// Returns when the folder is mounted. The session must be running in another thread.
    pub fn finish(self, folder: &Path) -> Result<(), Failure> {
        match self.0.map(|mounting| mounting.finish(MOUNTED_WITHIN)) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(complaint)) => Err(explain(&[(Way::Helper, complaint)], folder)),
        }
    }
}

/// Whether a folder can be mounted on this Mac at all, before anything else is tried.
#[cfg(target_os = "macos")]
pub fn check_available() -> Result<(), Failure> {
    super::installed::Installed::look(Path::new("/")).ways().map(drop).map_err(Failure::NoFuse)
}

/// What is installed and how it would be used, in a line.
#[cfg(target_os = "macos")]
pub fn found() -> Result<String, Failure> {
    let installed = super::installed::Installed::look(Path::new("/"));
    installed.ways().map(|_| installed.describe()).map_err(Failure::NoFuse)
}

/// Mounts `folder` and makes a session, ready to run.
#[cfg(target_os = "macos")]
pub fn open<F: fuser::Filesystem>(
    filesystem: F,
    folder: &Path,
    volume: &super::options::Volume,
    config: fuser::Config,
) -> Result<(fuser::Session<F>, Pending), Failure> {
    use super::{handshake, helper, installed::Installed, libfuse};

    let installed = Installed::look(Path::new("/"));
    let ways = installed.ways().map_err(Failure::NoFuse)?;
    let options = volume.options();
    tracing::info!(macfuse = installed.describe(), options, "mounting");
    let (way, device) = first(&ways, |way| match (way, &installed.helper, &installed.libfuse) {
        (Way::Helper, Some(program), _) => {
            let (descriptor, mounting) = helper::device(program, folder, &options, DEVICE_WITHIN)?;
            Ok(Device { descriptor, mounting: Some(mounting) })
        }
        (Way::Channel | Way::Compat, _, Some(library)) => {
            let descriptor = libfuse::device(library, way, folder, &options)?;
            Ok(Device { descriptor, mounting: None })
        }
        _ => Err(format!("there is no {way} here")),
    })
    .map_err(|complaints| explain(&complaints, folder))?;
    let Device { descriptor, mounting } = device;
    // Finder's helpers are root; who may do what is for the server to say.
    match handshake::session(filesystem, descriptor, fuser::SessionACL::All, config) {
        Ok(session) => Ok((session, Pending(mounting))),
        Err(error) => {
            let said = mounting.and_then(|mounting| mounting.finish(Duration::ZERO).err());
            Err(explain(&[(way, said.unwrap_or_else(|| format!("the handshake failed: {error}")))], folder))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn device() -> Device {
        Device { descriptor: std::fs::File::open("/dev/null").unwrap().into(), mounting: None }
    }

    #[test]
    fn the_next_way_is_tried_only_when_one_fails() {
        let ways = [Way::Helper, Way::Channel, Way::Compat];
        let mut tried = Vec::new();
        let (way, device) = first(&ways, |way| {
            tried.push(way);
            if way == Way::Channel { Ok(device()) } else { Err("no".to_owned()) }
        })
        .unwrap();
        assert_eq!((way, tried), (Way::Channel, vec![Way::Helper, Way::Channel]));
        assert!(device.mounting.is_none() && device.descriptor.try_clone().is_ok());
        let complaints = first(&ways, |way| Err(format!("{way}?"))).unwrap_err();
        assert_eq!(complaints.len(), 3);
        assert_eq!(complaints[2], (Way::Compat, "libfuse's fuse_mount_compat25?".to_owned()));
    }

    #[test]
    fn an_extension_that_is_not_allowed_is_told_with_what_to_do() {
        let complaint = "mount_macfuse gave no device: the kernel extension is not allowed".to_owned();
        let failure = explain(&[(Way::Helper, complaint), (Way::Compat, "refused".to_owned())], Path::new("/x"));
        assert_eq!(failure.code(), 3);
        let sentence = failure.to_string();
        assert!(sentence.contains("Privacy & Security") && sentence.contains("is not allowed"), "{sentence}");
    }

    #[test]
    fn anything_else_keeps_the_words_of_every_way() {
        let complaints =
            [(Way::Helper, "mount_macfuse ended with 1: busy".to_owned()), (Way::Channel, "refused".to_owned())];
        let failure = explain(&complaints, Path::new("/Users/a/data"));
        assert_eq!(failure.code(), 4);
        assert!(failure.to_string().ends_with("mount_macfuse ended with 1: busy; refused"), "{failure}");
    }
}
