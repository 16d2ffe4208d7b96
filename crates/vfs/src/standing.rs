//! What a mount has in memory, for whoever shows it to a person.

use std::time::{Duration, Instant};

use crate::vfs::Vfs;

/// See the module's page. Taken at one moment, without asking the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Bytes of files kept for reading.
    pub cached: u64,
    /// Most bytes of files in memory.
    pub cache_size: u64,
    /// Bytes that programs have written and that are not on the server's stable storage yet.
    pub dirty: u64,
    /// Most of those; writers wait beyond.
    pub dirty_limit: u64,
    /// Files that have some of those, or attributes that the server was not told yet.
    pub dirty_files: usize,
    /// How long ago the oldest of those bytes was written.
    pub oldest_dirty: Option<Duration>,
    /// Files that are open.
    pub open_files: usize,
}

impl Vfs {
    /// What is in memory now.
    pub fn standing(&self) -> Standing {
        let mount = self.mount();
        // The nodes are looked at after the list is let go of: a node's lock is taken before the list's elsewhere.
        let dirty: Vec<_> = mount.dirty.lock().values().cloned().collect();
        let since =
            |node: &std::sync::Arc<crate::node::Node>| node.lock().known_file().and_then(|file| file.dirty.since());
        let now = Instant::now();
        Standing {
            cached: mount.pages.lock().bytes(),
            cache_size: mount.options.cache_size,
            dirty: mount.gauge.get(),
            dirty_limit: mount.options.dirty_limit,
            dirty_files: dirty.len(),
            oldest_dirty: dirty.iter().filter_map(since).min().map(|since| now.saturating_duration_since(since)),
            open_files: mount.files.len(),
        }
    }
}
