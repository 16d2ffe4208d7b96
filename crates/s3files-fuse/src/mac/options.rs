//! What macFUSE is told about the volume. macfuse-notes/README.md gives the reason for each option, and for those that
//! are left out.

use crate::failure::Failure;

/// Most bytes of a volume's name.
const LONGEST_NAME: usize = 255;
/// Bytes of one READ or WRITE of the kernel: as much as one of the session carries.
const IO_SIZE: u32 = 1 << 20;
/// Seconds after which the kernel gives an answer up and ejects the volume; this is the most that macFUSE takes.
const DAEMON_TIMEOUT: u32 = 600;

/// A volume.
#[derive(Debug, Clone, Default)]
pub struct Volume {
    /// What `df` and `mount` show as the source.
    pub source: String,
    /// The name in Finder.
    pub name: Option<String>,
    /// Nothing may be changed.
    pub read_only: bool,
    /// Other users see it too.
    pub allow_other: bool,
    /// The kernel judges by mode, owner and group, beside the server.
    pub default_permissions: bool,
    /// Set-user-id and set-group-id bits have no effect.
    pub no_suid: bool,
    /// Device files are mere files.
    pub no_dev: bool,
    /// No program of the volume can be run.
    pub no_exec: bool,
}

impl Volume {
    /// The argument of `-o`.
    pub fn options(&self) -> String {
        let mut options = vec![
            format!("fsname={}", value(&self.source)),
            format!("iosize={IO_SIZE}"),
            format!("daemon_timeout={DAEMON_TIMEOUT}"),
        ];
        if let Some(name) = &self.name {
            options.push(format!("volname={}", value(name)));
        }
        let switches = [
            (self.read_only, "ro"),
            (self.allow_other, "allow_other"),
            (self.default_permissions, "default_permissions"),
            (self.no_suid, "nosuid"),
            (self.no_dev, "nodev"),
            (self.no_exec, "noexec"),
        ];
        options.extend(switches.into_iter().filter(|(on, _)| *on).map(|(_, name)| name.to_owned()));
        options.join(",")
    }
}

/// A comma would end the option, and nothing can hide it from whoever takes the options apart.
fn value(text: &str) -> String {
    let mut value: String = text.chars().map(|c| if c == ',' || c.is_control() { '_' } else { c }).collect();
    let mut end = value.len().min(LONGEST_NAME);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value.truncate(end);
    value
}

/// A volume's name that a person has chosen is taken as it is or not at all.
pub fn volume_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > LONGEST_NAME {
        return Err(format!("a volume's name has 1 to {LONGEST_NAME} bytes"));
    }
    match text.chars().find(|c| matches!(c, ',' | '/' | ':') || c.is_control()) {
        Some(c) => Err(format!("a volume's name cannot have {c:?} in it; leave it out")),
        None => Ok(text.to_owned()),
    }
}

/// macFUSE's two sides in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// The kernel extension.
    Kernel,
    /// The FSKit module.
    Fskit,
}

impl Backend {
    /// Refuses what does not work yet, before anything is connected.
    pub fn check(self) -> Result<(), Failure> {
        match self {
            Self::Kernel => Ok(()),
            Self::Fskit => Err(Failure::NoFuse(
                "macFUSE's FSKit backend takes one request at a time and passes no user's number on, so it is not \
                 supported yet; leave --backend out, and allow macFUSE's kernel extension in System Settings > Privacy \
                 & Security"
                    .to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_volume_is_described_in_one_argument() {
        let volume = Volume { source: "fs-1:/a".to_owned(), name: Some("Our data".to_owned()), ..Volume::default() };
        assert_eq!(volume.options(), "fsname=fs-1:/a,iosize=1048576,daemon_timeout=600,volname=Our data");
        let volume = Volume { read_only: true, allow_other: true, default_permissions: true, ..volume };
        assert!(volume.options().ends_with(",ro,allow_other,default_permissions"));
        let volume = Volume { no_suid: true, no_dev: true, no_exec: true, ..Volume::default() };
        assert!(volume.options().ends_with(",nosuid,nodev,noexec"));
    }

    #[test]
    fn no_name_can_smuggle_an_option_in() {
        let volume =
            Volume { source: "a,allow_other".to_owned(), name: Some("b,local\nc".to_owned()), ..Volume::default() };
        let options = volume.options();
        assert_eq!(options.matches(',').count(), 3, "{options}");
        assert!(options.contains("fsname=a_allow_other") && options.contains("volname=b_local_c"), "{options}");
    }

    #[test]
    fn what_makes_finder_or_spotlight_write_to_the_bucket_is_not_set() {
        let options = Volume { name: Some("x".to_owned()), ..Volume::default() }.options();
        for absent in [
            "local",
            "noappledouble",
            "auto_xattr",
            "defer_permissions",
            "negative_vncache",
            "novncache",
            "nosyncwrites",
        ] {
            assert!(!options.split(',').any(|option| option == absent), "{absent}");
        }
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let name = "é".repeat(200);
        assert_eq!(value(&name), "é".repeat(127));
    }

    #[test]
    fn a_chosen_name_is_taken_as_it_is_or_refused() {
        assert_eq!(volume_name("Our data 2026"), Ok("Our data 2026".to_owned()));
        for bad in ["", "a,b", "a/b", "a:b", "a\nb", &"x".repeat(256)] {
            assert!(volume_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn fskit_is_refused_with_a_sentence() {
        assert!(Backend::Kernel.check().is_ok());
        let failure = Backend::Fskit.check().unwrap_err();
        assert_eq!(failure.code(), 3);
        assert!(failure.to_string().contains("FSKit"), "{failure}");
    }
}
