//! A tree of files as people have them, for the suites that copy and compare: many small files and some large ones, names
//! with spaces and in any script, links, modes, times to the nanosecond.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use xtask::noise::noise;

/// Makes the tree in the new folder `root`, with hard links if asked for.
pub fn make(root: &Path, folders: usize, hard_links: bool) -> anyhow::Result<()> {
    fs::create_dir(root).with_context(|| format!("creating {}", root.display()))?;
    for index in 0..folders {
        let folder = root.join(format!("folder {index}"));
        fs::create_dir(&folder)?;
        for (which, len) in [0, 1, 511, 4096, 70_000].into_iter().enumerate() {
            let file = folder.join(format!("file-{which}.bin"));
            fs::write(&file, noise((index * 10 + which) as u64, len))?;
            fs::set_permissions(&file, fs::Permissions::from_mode([0o644, 0o600, 0o755, 0o444, 0o664][which]))?;
            let time = Duration::new(1_600_000_000 + index as u64, 123_456_789 + which as u32);
            File::options().read(true).open(&file)?.set_modified(SystemTime::UNIX_EPOCH + time)?;
        }
        symlink("file-1.bin", folder.join("link"))?;
        symlink("../nowhere", folder.join("dangling"))?;
        if hard_links {
            fs::hard_link(folder.join("file-3.bin"), folder.join("another-name.bin"))?;
        }
    }
    let odd = root.join("日本語 – Ünïcödé");
    fs::create_dir(&odd)?;
    fs::create_dir(odd.join("empty"))?;
    fs::write(odd.join("x".repeat(255)), b"the longest name")?;
    fs::write(odd.join("é".repeat(127)), b"two bytes each")?;
    fs::write(odd.join("-leading dash and 'quotes' \"\\"), b"odd")?;
    fs::write(odd.join("large"), noise(99, 3 << 20))?;
    Ok(())
}
