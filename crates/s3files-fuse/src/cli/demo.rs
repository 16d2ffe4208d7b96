//! `demo [FOLDER]`: a tour for somebody who has just built the program and has no AWS account at hand.
//!
//! The mount target lives in this process, but nothing else is played: the way goes through TLS, the IAM certificate,
//! bind and NFSv4.2 to the kernel's FUSE device, as with a real one.

mod tour;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use mock_mount_target::{MockHandle, MockServer};
use mount_target::target::TargetName;
use mount_target::{Connector, ConnectorConfig, CredentialsSource, TargetOptions, Trust};
use nfs4_client::ClientOptions;
use vfs::VfsOptions;

use crate::failure::Failure;
use crate::folder;
use crate::fuse::{self, MountOptions};
use crate::serve::{Mounted, Source};
use crate::walk::own_identity;

/// Try it without AWS: mount a mount target that lives in this process, walk through it, and unmount.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Where to mount; a new folder if it is not given.
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Leave it mounted after the tour, until Ctrl-C or `s3files-fuse umount`.
    #[arg(long)]
    keep: bool,
    /// Play a mount target that is this many milliseconds away, there and back.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    rtt: u64,
}

impl DemoArgs {
    /// Carries it out.
    pub async fn run(self) -> Result<(), Failure> {
        fuse::check_available()?;
        let made = match &self.folder {
            Some(_) => None,
            None => Some(new_folder()?),
        };
        let given = self.folder.as_deref().or(made.as_deref()).unwrap_or_else(|| Path::new("."));
        let outcome = match folder::for_mounting(given) {
            Ok(folder) => self.show(&folder).await,
            Err(failure) => Err(failure),
        };
        if let Some(folder) = made {
            // Only if it is empty, and so only if it is unmounted.
            let _ = std::fs::remove_dir(folder);
        }
        outcome
    }

    async fn show(&self, folder: &Path) -> Result<(), Failure> {
        let mock = MockServer::builder()
            .start()
            .await
            .map_err(|error| Failure::Other(format!("the demo's mount target cannot be started: {error}")))?;
        mock.set_rtt(Duration::from_millis(self.rtt));
        println!("A mount target of our own is at {} (no AWS involved).", mock.addr());
        let options = MountOptions { source: mock.fs_id().to_owned(), ..MountOptions::default() };
        let mounted = Mounted::start(source(&mock)?, folder.to_owned(), VfsOptions::default(), options).await?;
        println!("It is mounted on {}.\n", folder.display());
        let toured = self.tour(mounted, folder).await;
        mock.stop().await;
        toured?;
        println!("{}", real_thing());
        Ok(())
    }

    async fn tour(&self, mut mounted: Mounted, folder: &Path) -> Result<(), Failure> {
        let counters = mounted.counters();
        let root = folder.to_owned();
        let touring = tokio::task::spawn_blocking(move || tour::walk(&root, &counters));
        let toured = tokio::select! {
            toured = touring => toured.unwrap_or_else(|_| Err(Failure::Other("the tour broke off".to_owned()))),
            () = mounted.signalled() => Err(Failure::Other("the tour was interrupted".to_owned())),
        };
        if toured.is_ok() && self.keep {
            println!("\nIt stays mounted on {} until Ctrl-C, or: s3files-fuse umount {0}", folder.display());
            return mounted.until_end().await;
        }
        let unmounted = mounted.unmount().await;
        toured?;
        unmounted?;
        println!("\nUnmounted; everything was written back.\n");
        Ok(())
    }
}

/// The way into the mock that the real command line would take, with its keys given directly.
fn source(mock: &MockHandle) -> Result<Source, Failure> {
    let bad = |error: &dyn std::fmt::Display| Failure::Other(format!("the demo contradicts itself: {error}"));
    let name: TargetName = mock.addr().to_string().parse()?;
    let options = TargetOptions {
        file_system_id: Some(mock.fs_id().parse().map_err(|error| bad(&error))?),
        region: Some(mock.region().parse().map_err(|error| bad(&error))?),
        ..TargetOptions::default()
    };
    let keys = mock.credentials();
    let credentials =
        CredentialsSource::fixed(&keys.access_key_id, &keys.secret_access_key, keys.session_token.as_deref());
    let config = ConnectorConfig {
        trust: Trust::CaFile(mock.ca_file().to_owned()),
        ..ConnectorConfig::new(name.complete(options, None)?, credentials)
    };
    let connector = Connector::new(config)?;
    let address = connector.address();
    let client = ClientOptions { cred: own_identity(), ..ClientOptions::default() };
    let file_system = connector.file_system_id().map(ToString::to_string);
    Ok(Source { dial: Arc::new(connector), client, address, file_system })
}

fn new_folder() -> Result<PathBuf, Failure> {
    let folder = tempfile::Builder::new().prefix("s3files-demo-").tempdir();
    // Removed by hand at the end: a temporary directory removes what is in it, and that would be the mount.
    folder.map(tempfile::TempDir::keep).map_err(|error| Failure::Other(format!("no folder can be made: {error}")))
}

fn real_thing() -> &'static str {
    "To mount a real file system, with AWS credentials in the environment or a profile:

  mkdir -p ~/s3files
  s3files-fuse mount NAME-HASH.elb.REGION.amazonaws.com ~/s3files --file-system-id fs-... [--profile NAME]
  s3files-fuse umount ~/s3files

The target may also be a mount target's DNS name or address, or fs-... alone; `s3files-fuse mount --help` says more."
}
