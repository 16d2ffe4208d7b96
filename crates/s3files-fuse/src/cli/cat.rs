//! `cat TARGET PATH…`

use std::io::{self, Write};

use clap::Args;
use vfs::{Cred, FileKind, OpenFlags, Vfs, VfsOptions};

use super::source::SourceArgs;
use crate::failure::Failure;
use crate::walk::{find, own_identity, refused};

/// How much is asked for at a time; read-ahead does the rest.
const PIECE: u32 = 1 << 20;

/// Print files of a file system without mounting it.
#[derive(Debug, Clone, Args)]
pub struct CatArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// The files, as paths from the root.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,
}

impl CatArgs {
    /// Carries it out.
    pub async fn run(self) -> Result<(), Failure> {
        let options = VfsOptions { read_only: true, ..VfsOptions::default() };
        let (vfs, _) = self.source.source().await?.connect(options).await?;
        let cred = own_identity();
        let mut outcome = Ok(());
        for path in &self.paths {
            outcome = print(&vfs, &cred, path).await;
            if outcome.is_err() {
                break;
            }
        }
        vfs.shutdown().await;
        outcome
    }
}

async fn print(vfs: &Vfs, cred: &Cred, path: &str) -> Result<(), Failure> {
    let refuse = |error: vfs::Error| refused(path, &error);
    let say = |why: String| Failure::Path { path: path.to_owned(), why };
    let attr = find(vfs, cred, path).await?;
    if attr.kind != FileKind::Regular {
        return Err(say("not a regular file".to_owned()));
    }
    let flags = OpenFlags { read: true, ..OpenFlags::default() };
    let opened = vfs.open(cred, attr.ino, flags).await.map_err(refuse)?;
    let mut offset = 0;
    let outcome = loop {
        let pieces = match vfs.read(cred, attr.ino, opened.fh, offset, PIECE).await {
            Ok(pieces) => pieces,
            Err(error) => break Err(refuse(error)),
        };
        let length: usize = pieces.iter().map(bytes::Bytes::len).sum();
        let mut out = io::stdout().lock();
        match pieces.iter().try_for_each(|piece| out.write_all(piece)) {
            Ok(()) => {}
            // Whoever reads has had enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break Ok(()),
            Err(error) => break Err(say(format!("cannot be printed: {error}"))),
        }
        if length < PIECE as usize {
            break Ok(());
        }
        offset += length as u64;
    };
    // Read-only: there is nothing to lose in closing it.
    let _ = vfs.release(cred, attr.ino, opened.fh).await;
    outcome
}
