//! `cp TARGET SOURCE… DESTINATION`: files and trees, both ways, without a mount.
//!
//! A path that begins with a colon is inside the file system, every other one on this machine. What is larger than one
//! WRITE, or replaces something, grows under a name of its own ([`part`]) and is renamed when it is complete. A new small
//! file goes to the server under its own name together with its bytes, most often in one request; where that takes two,
//! or the first one fails, its name can stand for an empty file for a moment.
//!
//! On a link of 30 to 80 ms the time goes into waiting, so many files are under way at once ([`pool`]); large files are
//! cut by the write-back and the read-ahead of `vfs`. File data in memory are bounded by `vfs`' limits and one piece for
//! each job; with several sources, the names that were copied are remembered as well ([`claims`]).

mod claims;
mod download;
mod part;
mod pool;
mod tally;
mod upload;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio_util::sync::CancellationToken;
use vfs::{Cred, Errno, Timestamp, Unwritten, Vfs, VfsOptions};

use self::pool::Pool;
use self::tally::Tally;
use super::source::SourceArgs;
use crate::failure::Failure;
use crate::rights::FirstRefusal;
use crate::walk::own_identity;

/// How much of a file is moved at a time, in bytes.
const PIECE: usize = 1 << 20;
/// Most bytes on their way to the server; also how far back a resumed upload goes: [`upload`] sees to it that all before
/// them are stored.
const DIRTY: u64 = 64 << 20;
/// Most bytes read ahead, all files together.
const CACHE: u64 = 128 << 20;
/// Fills the session of a link of 30 to 80 ms without crowding out what comes between.
const JOBS: u16 = 32;
/// A part that holds less is not worth keeping when the copy breaks off.
const WORTH_KEEPING: u64 = 8 << 20;

/// Copy files to or from a file system without mounting it.
///
/// A path that begins with a colon is inside the file system, any other one is on this machine:
///
///   s3files-fuse cp TARGET -r ./photos :/photos      to the file system
///   s3files-fuse cp TARGET :/photos/a.jpg .          from the file system
///
/// As with cp, a DESTINATION that is a directory gets the copies in it. A name never shows half a file: what is not
/// complete has a name that ends in .s3files-part. Copies keep the time of change, so that --resume knows them.
#[derive(Debug, Clone, Args)]
#[command(verbatim_doc_comment)]
pub struct CpArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// What to copy, and last where to; `:/…` is inside the file system.
    #[arg(value_name = "PATH", required = true, num_args = 2..)]
    paths: Vec<OsString>,
    /// Copy directories with everything in them.
    #[arg(long, short = 'r', visible_short_alias = 'R')]
    recursive: bool,
    /// Leave out what is there already with the same size and time of change, and go on inside large files that were
    /// partly copied.
    #[arg(long)]
    resume: bool,
    /// Keep permission bits and the time of the last read as well.
    #[arg(long, short = 'p')]
    preserve: bool,
    /// How many files and directories are copied at once.
    #[arg(long, value_name = "N", default_value_t = JOBS, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
}

/// What both directions need.
#[derive(Debug)]
struct Copying {
    vfs: Vfs,
    cred: Cred,
    tally: Tally,
    stop: CancellationToken,
    refusal: FirstRefusal,
    recursive: bool,
    resume: bool,
    preserve: bool,
    umask: u32,
}

/// Carries out one kind of work.
trait Carrier: Send + Sync + 'static {
    type Work: Send + 'static;

    /// Does one piece of it; more goes into the pool. Failures go into the tally.
    fn carry_out(&self, work: Self::Work, pool: &Pool<Self::Work>) -> impl Future<Output = ()> + Send;
}

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Here(PathBuf),
    There(String),
}

impl End {
    fn parse(path: &OsStr) -> Result<Self, Failure> {
        match path.as_bytes().strip_prefix(b":") {
            None if path.is_empty() => Err(Failure::Usage("a path is empty; write . for this directory".to_owned())),
            None => Ok(Self::Here(PathBuf::from(path))),
            Some(inside) => match std::str::from_utf8(inside) {
                Ok(inside) => Ok(Self::There(inside.to_owned())),
                Err(_) => Err(Failure::Usage(format!("{} is not UTF-8; copy its directory with -r", path.display()))),
            },
        }
    }
}

/// Which way it goes.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    Up(Vec<PathBuf>, String),
    Down(Vec<String>, PathBuf),
}

impl Way {
    fn of(paths: &[OsString]) -> Result<Self, Failure> {
        let mut ends = paths.iter().map(|path| End::parse(path)).collect::<Result<Vec<_>, _>>()?;
        let mixed = || {
            Failure::Usage(
                "copies go between this machine and the file system: either all sources or the destination begin with \
                 a colon, as in :/photos"
                    .to_owned(),
            )
        };
        let destination = ends.pop().ok_or_else(mixed)?;
        match destination {
            End::There(to) => {
                let here = |end| if let End::Here(path) = end { Some(path) } else { None };
                let from = ends.into_iter().map(here).collect::<Option<Vec<_>>>().ok_or_else(mixed)?;
                Ok(Self::Up(from, to))
            }
            End::Here(to) => {
                let there = |end| if let End::There(path) = end { Some(path) } else { None };
                let from = ends.into_iter().map(there).collect::<Option<Vec<_>>>().ok_or_else(mixed)?;
                Ok(Self::Down(from, to))
            }
        }
    }
}

impl CpArgs {
    /// Carries it out.
    pub async fn run(self) -> Result<(), Failure> {
        let way = Way::of(&self.paths)?;
        let options = VfsOptions {
            read_only: matches!(way, Way::Down(..)),
            dirty_limit: DIRTY,
            cache_size: CACHE,
            ..VfsOptions::default()
        };
        let (vfs, _) = self.source.source().await?.connect(options).await?;
        let stop = CancellationToken::new();
        let copying = Arc::new(Copying {
            vfs: vfs.clone(),
            cred: own_identity(),
            tally: Tally::new(),
            stop: stop.clone(),
            refusal: FirstRefusal::default(),
            recursive: self.recursive,
            resume: self.resume,
            preserve: self.preserve,
            umask: umask(),
        });
        let said = Arc::clone(&copying);
        let interrupt = tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                said.tally.say("finishing what is under way; Ctrl-C again gives that up");
                stop.cancel();
                // Whoever presses it again does not want to wait for the server either.
                let _ = tokio::signal::ctrl_c().await;
                std::process::exit(i32::from(crate::failure::NOT_COPIED));
            }
        });
        let copied = match way {
            Way::Up(from, to) => upload::run(Arc::clone(&copying), from, &to, self.jobs).await,
            Way::Down(from, to) => download::run(Arc::clone(&copying), from, &to, self.jobs).await,
        };
        let unwritten = vfs.shutdown().await;
        interrupt.abort();
        let outcome = copying.tally.outcome(copying.stop.is_cancelled());
        copied?;
        outcome?;
        lost(&unwritten)
    }
}

impl Copying {
    /// Whether nothing can go on after this, whatever is tried next.
    fn is_hopeless(error: &vfs::Error) -> bool {
        matches!(error.errno(), Errno::NoSpc | Errno::Dquot | Errno::RoFs | Errno::TimedOut)
    }

    /// Whether something is missing, so that another attempt has to get in everywhere.
    fn is_incomplete(&self) -> bool {
        self.stop.is_cancelled() || self.tally.has_failures()
    }

    /// Whether a directory that was there is one that an attempt before this one has made and not finished: it has the
    /// permissions `mode` that it shall have, and those that the copy needs.
    fn is_unfinished(&self, there: u32, mode: u32) -> bool {
        self.resume && there & 0o777 == mode | 0o700
    }

    /// The permission bits of a new copy.
    fn mode(&self, source: u32) -> u32 {
        // Set-id bits are for the owner that the source has, and the copy is ours.
        if self.preserve { source & 0o777 } else { source & 0o777 & !self.umask }
    }
}

/// Does `first` and whatever comes of it, `jobs` at a time.
async fn work<C: Carrier>(carrier: Arc<C>, first: Vec<C::Work>, jobs: u16, stop: CancellationToken) {
    let pool = Arc::new(Pool::new(first, stop));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..jobs {
        let (carrier, pool) = (Arc::clone(&carrier), Arc::clone(&pool));
        workers.spawn(async move {
            while let Some(work) = pool.next().await {
                carrier.carry_out(work, &pool).await;
                pool.done();
            }
        });
    }
    while workers.join_next().await.is_some() {}
}

/// Runs what blocks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

/// There is no way to ask for it but to set it.
#[allow(clippy::useless_conversion)] // narrower on a Mac
fn umask() -> u32 {
    use nix::sys::stat::{Mode, umask};
    let mask = umask(Mode::from_bits_truncate(0o077));
    umask(mask);
    u32::from(mask.bits())
}

fn timestamp(seconds: i64, nanos: i64) -> Timestamp {
    Timestamp { seconds, nanos: u32::try_from(nanos).unwrap_or(0) }
}

fn lost(unwritten: &[Unwritten]) -> Result<(), Failure> {
    let name = |file: &Unwritten| file.name.as_ref().map(|name| String::from_utf8_lossy(name).into_owned());
    let files: Vec<_> = unwritten.iter().map(|file| name(file).unwrap_or_else(|| "a file".to_owned())).collect();
    if files.is_empty() { Ok(()) } else { Err(Failure::Unwritten { files }) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn way(paths: &[&str]) -> Result<Way, Failure> {
        Way::of(&paths.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_colon_tells_which_end_is_which() {
        assert_eq!(way(&["a", "b", ":/c"]).unwrap(), Way::Up(vec!["a".into(), "b".into()], "/c".to_owned()));
        assert_eq!(way(&[":/a", "."]).unwrap(), Way::Down(vec!["/a".to_owned()], ".".into()));
        for wrong in [&["a", "b"][..], &[":/a", ":/b"], &["a", ":/b", "c"], &["", ":/b"]] {
            assert_eq!(way(wrong).unwrap_err().code(), 2, "{wrong:?}");
        }
    }
}
