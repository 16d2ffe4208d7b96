//! Whoever keeps something for a file is told when the file is gone, and not before.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stage;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mock_mount_target::nfs::{Config, Profile};
use stage::{Stage, no_caching, on_mock, on_stage, with_options};
use vfs::{Farewell, Looked, RenameFlags, VfsOptions};

#[derive(Debug, Default)]
struct Heard(Mutex<Vec<Vec<u8>>>);

impl Farewell for Heard {
    fn gone(&self, handle: &[u8]) {
        self.0.lock().unwrap().push(handle.to_vec());
    }
}

impl Heard {
    fn on(stage: &Stage) -> Arc<Self> {
        let heard = Arc::new(Self::default());
        stage.vfs.set_farewell(Arc::clone(&heard) as Arc<dyn Farewell>);
        heard
    }

    /// The handles that were told of since the last time.
    fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_file_a_replaced_one_and_a_removed_directory_are_told_of_once() {
    on_stage("farewell", async |stage| {
        let (vfs, cred, dir) = (&stage.vfs, &stage.cred, stage.dir);
        let heard = Heard::on(stage);
        let (one, two) = (stage.file("one", b"1").await, stage.file("two", b"2").await);
        let (one, two) = (vfs.settled_handle(one).await.unwrap(), vfs.settled_handle(two).await.unwrap());
        assert_ne!(one, two);
        vfs.rename(cred, dir, b"one", dir, b"three", RenameFlags::default()).await.unwrap();
        assert_eq!(heard.take(), Vec::<Vec<u8>>::new(), "a renamed file is still there");
        vfs.rename(cred, dir, b"three", dir, b"two", RenameFlags::default()).await.unwrap();
        assert_eq!(heard.take(), [two]);
        vfs.unlink(cred, dir, b"two").await.unwrap();
        assert_eq!(heard.take(), [one]);
        let sub = vfs.mkdir(cred, dir, b"sub", 0o755).await.unwrap().attr.ino;
        let sub = vfs.lasting_handle(sub).unwrap().unwrap();
        vfs.rmdir(cred, dir, b"sub").await.unwrap();
        assert_eq!(heard.take(), [sub]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_that_the_server_does_not_know_takes_nothing_along() {
    with_options("farewell-elsewhere", no_caching(), async |stage| {
        let heard = Heard::on(stage);
        let ino = stage.file("file", b"x").await;
        stage.vfs.settled_handle(ino).await.unwrap();
        let (other, dir) = stage.second_mount(no_caching()).await;
        other.unlink(&stage.cred, dir, b"file").await.unwrap();
        assert_eq!(other.shutdown().await, []);
        assert!(stage.vfs.getattr(&stage.cred, ino, None).await.is_err());
        // Whatever would be done behind our back.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(heard.take(), Vec::<Vec<u8>>::new(), "access may have been revoked");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_has_another_name_since_then_lives_on() {
    on_mock("farewell-links", Config::new(Profile::Full), VfsOptions::default(), async |stage, _| {
        let (vfs, cred) = (&stage.vfs, &stage.cred);
        let heard = Heard::on(stage);
        let handle = vfs.settled_handle(stage.file("one", b"1").await).await.unwrap();
        let (other, dir) = stage.second_mount(no_caching()).await;
        let Looked::Found(one) = other.lookup(cred, dir, b"one").await.unwrap() else { panic!("it is there") };
        other.link(cred, one.attr.ino, dir, b"two").await.unwrap();
        vfs.unlink(cred, stage.dir, b"one").await.unwrap();
        assert_eq!(heard.take(), Vec::<Vec<u8>>::new(), "here it had one name only");
        let Looked::Found(two) = other.lookup(cred, dir, b"two").await.unwrap() else { panic!("it is there") };
        assert_eq!(other.lasting_handle(two.attr.ino).unwrap(), Some(handle));
        assert_eq!(other.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_in_files_that_are_alike_are_asked_for_once() {
    on_stage("alike", async |stage| {
        let mut files = Vec::new();
        for n in 0..5 {
            files.push(stage.file(&format!("file{n}"), b"x").await);
        }
        let who = vfs::Cred::new(4711, 4711);
        // The way there, and attributes that hold.
        for ino in &files {
            stage.vfs.current_attr(&stage.cred, *ino).await.unwrap();
        }
        stage.round_trips();
        for ino in &files {
            let _ = stage.vfs.access(&who, *ino, 4).await;
        }
        let asked = stage.round_trips();
        let alone = if stage.vfs.client().limits().acls { 5 } else { 1 };
        assert_eq!(asked, alone);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_renamed_elsewhere_outlives_the_removal_of_its_old_name() {
    on_stage("farewell-renamed", async |stage| {
        let (vfs, cred) = (&stage.vfs, &stage.cred);
        let heard = Heard::on(stage);
        let (other, dir) = stage.second_mount(no_caching()).await;
        for (n, replaced) in [false, true].into_iter().enumerate() {
            let (name, away) = (format!("file{n}"), format!("away{n}"));
            let (name, away) = (name.as_bytes(), away.as_bytes());
            let ino = stage.file(&format!("file{n}"), b"mine").await;
            let handle = vfs.settled_handle(ino).await.unwrap();
            stage.file(&format!("new{n}"), b"").await;
            other.rename(cred, dir, name, dir, away, RenameFlags::default()).await.unwrap();
            other.mknod(cred, dir, name, vfs::NodeKind::Regular, 0o644).await.unwrap();
            if replaced {
                vfs.rename(cred, stage.dir, format!("new{n}").as_bytes(), stage.dir, name, RenameFlags::default())
                    .await
                    .unwrap();
            } else {
                vfs.unlink(cred, stage.dir, name).await.unwrap();
            }
            // Whatever would be done behind our back.
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!(heard.take(), Vec::<Vec<u8>>::new(), "it has another name");
            let Looked::Found(entry) = vfs.lookup(cred, stage.dir, away).await.unwrap() else { panic!("it is there") };
            assert_eq!(entry.attr.ino, ino);
            vfs.unlink(cred, stage.dir, away).await.unwrap();
            while heard.0.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(heard.take(), [handle]);
        }
        let handle = vfs.settled_handle(stage.file("last", b"").await).await.unwrap();
        other.mkdir(cred, dir, b"unrelated", 0o755).await.unwrap();
        stage.round_trips();
        vfs.unlink(cred, stage.dir, b"last").await.unwrap();
        while heard.0.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!((heard.take(), stage.round_trips()), (vec![handle], 2));
        assert_eq!(other.shutdown().await, []);
    })
    .await;
}
