//! Names, directories and attributes: what they are, and how few round trips they cost.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stage;

use std::collections::BTreeSet;
use std::time::Duration;

use stage::{both, close, content, find, names, no_caching, on_stage, reading, with_options, writing};
use vfs::{Cred, Errno, FileKind, Looked, NodeKind, OpenFlags, RenameFlags, SetAttr, Timeouts, Vfs, VfsOptions};

/// What `ls -l` does: the listing with all attributes; what it doesn't bring is looked up.
async fn list_long(vfs: &Vfs, cred: &Cred, dir: u64) -> usize {
    let fh = vfs.opendir(cred, dir).await.unwrap();
    let (mut offset, mut count) = (0, 0);
    loop {
        let items = vfs.readdir(cred, dir, fh, offset, true, 32 << 10).await.unwrap();
        let Some(last) = items.last() else { break };
        offset = last.offset;
        for item in items.iter().filter(|item| &item.name[..] != b"." && &item.name[..] != b"..") {
            count += 1;
            match item.entry {
                Some(entry) => {
                    assert_eq!(entry.attr.ino, item.ino);
                    vfs.accepted(item);
                }
                None => assert!(find(vfs, cred, dir, std::str::from_utf8(&item.name).unwrap()).await.is_some()),
            }
        }
    }
    vfs.releasedir(cred, dir, fh).await.unwrap();
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_a_thousand_files_fills_the_caches() {
    on_stage("thousand", async |stage| {
        for n in 0..1000 {
            stage
                .vfs
                .mknod(&stage.cred, stage.dir, format!("file-{n:04}").as_bytes(), NodeKind::Regular, 0o644)
                .await
                .unwrap();
        }
        let timeouts = Timeouts { file_min: Duration::from_millis(800), ..Timeouts::default() };
        let (vfs, dir) = stage.second_mount(VfsOptions { timeouts, ..VfsOptions::default() }).await;
        let count = || vfs.client().counters().compounds;
        let start = count();
        assert_eq!(list_long(&vfs, &stage.cred, dir).await, 1000);
        let cold = count() - start;
        assert!(cold <= 3, "{cold} requests");
        assert_eq!(list_long(&vfs, &stage.cred, dir).await, 1000);
        for n in 0..1000 {
            assert!(find(&vfs, &stage.cred, dir, &format!("file-{n:04}")).await.is_some());
        }
        assert!(find(&vfs, &stage.cred, dir, "none").await.is_none());
        assert_eq!(count() - start, cold, "everything is known");
        tokio::time::sleep(Duration::from_millis(900)).await;
        let start = count();
        assert_eq!(list_long(&vfs, &stage.cred, dir).await, 1000);
        let later = count() - start;
        assert!(later <= 3, "{later} requests after the attributes have run out");
        tokio::time::sleep(Duration::from_millis(1700)).await;
        let start = count();
        for n in 0..1000 {
            assert!(find(&vfs, &stage.cred, dir, &format!("file-{n:04}")).await.is_some());
        }
        let looked_up = count() - start;
        assert!(looked_up <= 8, "{looked_up} requests for lookups of files whose attributes have run out");
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_costs_at_most_one_request_for_each_name() {
    on_stage("path", async |stage| {
        let mut dir = stage.dir;
        for name in ["a", "b", "c"] {
            dir = stage.vfs.mkdir(&stage.cred, dir, name.as_bytes(), 0o755).await.unwrap().attr.ino;
        }
        let (vfs, top) = stage.second_mount(VfsOptions::default()).await;
        let walk = async || {
            let mut dir = top;
            for name in ["a", "b", "c"] {
                dir = find(&vfs, &stage.cred, dir, name).await.unwrap().attr.ino;
            }
            assert!(find(&vfs, &stage.cred, dir, "missing").await.is_none());
            vfs.client().counters().compounds
        };
        let start = vfs.client().counters().compounds;
        let cold = walk().await;
        assert!(cold - start <= 4, "{}", cold - start);
        assert_eq!(walk().await, cold, "all is known, the missing name too");
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_node_is_made_and_seen() {
    on_stage("kinds", async |stage| {
        let (vfs, cred, dir) = (&stage.vfs, &stage.cred, stage.dir);
        let made = vfs.mkdir(cred, dir, b"dir", 0o750).await.unwrap().attr;
        assert_eq!((made.kind, made.mode), (FileKind::Directory, 0o750));
        let link = vfs.symlink(cred, dir, b"link", b"dir/x").await.unwrap().attr;
        assert_eq!(link.kind, FileKind::Symlink);
        stage.round_trips();
        assert_eq!(&vfs.readlink(cred, link.ino).await.unwrap()[..], b"dir/x");
        assert_eq!(&vfs.readlink(cred, link.ino).await.unwrap()[..], b"dir/x");
        assert_eq!(stage.round_trips(), 1);
        assert_eq!(vfs.mknod(cred, dir, b"file", NodeKind::Regular, 0o600).await.unwrap().attr.kind, FileKind::Regular);
        let again = vfs.mknod(cred, dir, b"file", NodeKind::Regular, 0o600).await.unwrap_err();
        assert_eq!(again.errno(), Errno::Exist);
        assert_eq!(vfs.mkdir(cred, dir, b"dir", 0o750).await.unwrap_err().errno(), Errno::Exist);
        assert_eq!(stage.names(dir).await, ["dir", "file", "link"]);
        assert_eq!(vfs.lookup(cred, dir, &[b'x'; 300]).await.unwrap_err().errno(), Errno::NameTooLong);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_and_renaming_cost_one_request_each() {
    on_stage("cost", async |stage| {
        let (vfs, cred, dir) = (&stage.vfs, &stage.cred, stage.dir);
        stage.file("a", b"1").await;
        let sub = vfs.mkdir(cred, dir, b"sub", 0o755).await.unwrap().attr.ino;
        stage.round_trips();
        vfs.rename(cred, dir, b"a", dir, b"b", RenameFlags::default()).await.unwrap();
        assert_eq!(stage.round_trips(), 1);
        vfs.rename(cred, dir, b"b", sub, b"c", RenameFlags::default()).await.unwrap();
        assert_eq!(stage.round_trips(), 1);
        assert_eq!(vfs.rmdir(cred, dir, b"sub").await.unwrap_err().errno(), Errno::NotEmpty);
        stage.round_trips();
        vfs.unlink(cred, sub, b"c").await.unwrap();
        vfs.rmdir(cred, dir, b"sub").await.unwrap();
        let cost = stage.round_trips();
        assert_eq!(cost, 2);
        assert_eq!(stage.names(dir).await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_waits_for_removed_files_that_are_being_closed_and_not_for_those_that_are_open() {
    on_stage("leaving", async |stage| {
        let (vfs, cred, dir) = (&stage.vfs, &stage.cred, stage.dir);
        for round in 0..10 {
            let sub = vfs.mkdir(cred, dir, b"sub", 0o755).await.unwrap().attr.ino;
            let (entry, opened) = vfs.create(cred, sub, b"f", 0o600, both()).await.unwrap();
            vfs.write(cred, entry.attr.ino, opened.fh, 0, bytes::Bytes::from_static(b"data")).await.unwrap();
            vfs.unlink(cred, sub, b"f").await.unwrap();
            let kept = vfs.rmdir(cred, dir, b"sub").await;
            assert!(kept.is_ok() || kept.unwrap_err().errno() == Errno::NotEmpty);
            if round % 2 == 0 {
                // The kernel does not wait for the one before it asks for the other.
                let (_, removed) =
                    tokio::join!(vfs.release(cred, entry.attr.ino, opened.fh), vfs.rmdir(cred, dir, b"sub"));
                assert!(removed.is_ok() || removed.unwrap_err().errno() == Errno::NoEnt);
            } else {
                vfs.mkdir(cred, dir, b"other", 0o755).await.unwrap();
                let rename = vfs.rename(cred, dir, b"other", dir, b"sub", RenameFlags::default());
                let (_, renamed) = tokio::join!(vfs.release(cred, entry.attr.ino, opened.fh), rename);
                renamed.unwrap();
                vfs.rmdir(cred, dir, b"sub").await.unwrap();
            }
            assert_eq!(stage.names(dir).await, Vec::<String>::new());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_removals_are_refused() {
    on_stage("refused", async |stage| {
        let (vfs, cred, dir) = (&stage.vfs, &stage.cred, stage.dir);
        stage.file("f", b"").await;
        vfs.mkdir(cred, dir, b"d", 0o755).await.unwrap();
        assert_eq!(vfs.unlink(cred, dir, b"d").await.unwrap_err().errno(), Errno::IsDir);
        assert_eq!(vfs.rmdir(cred, dir, b"f").await.unwrap_err().errno(), Errno::NotDir);
        assert_eq!(vfs.unlink(cred, dir, b"none").await.unwrap_err().errno(), Errno::NoEnt);
        assert_eq!(vfs.rmdir(cred, dir, b"none").await.unwrap_err().errno(), Errno::NoEnt);
        let flags = RenameFlags { no_replace: true, exchange: false };
        assert_eq!(vfs.rename(cred, dir, b"f", dir, b"d", flags).await.unwrap_err().errno(), Errno::Exist);
        assert_eq!(vfs.rename(cred, dir, b"f", dir, b"x", flags).await.unwrap_err().errno(), Errno::Inval);
        assert_eq!(
            vfs.rename(cred, dir, b"none", dir, b"x", RenameFlags::default()).await.unwrap_err().errno(),
            Errno::NoEnt
        );
        assert_eq!(stage.names(dir).await, ["d", "f"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_made_elsewhere_are_seen_when_the_timeouts_have_run_out() {
    with_options("elsewhere", no_caching(), async |stage| {
        let (vfs, dir) = stage.second_mount(no_caching()).await;
        assert_eq!(stage.names(stage.dir).await, Vec::<String>::new());
        assert!(stage.find("new").await.is_none());
        let (entry, opened) = vfs.create(&stage.cred, dir, b"new", 0o644, writing()).await.unwrap();
        close(&vfs, &stage.cred, entry.attr.ino, opened.fh).await;
        assert!(stage.find("new").await.is_some());
        assert_eq!(stage.names(stage.dir).await, ["new"]);
        vfs.unlink(&stage.cred, dir, b"new").await.unwrap();
        assert!(stage.find("new").await.is_none());
        assert_eq!(stage.names(stage.dir).await, Vec::<String>::new());
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_in_progress_is_stable_while_the_directory_changes() {
    on_stage("stable", async |stage| {
        let (vfs, cred, dir) = (&stage.vfs, &stage.cred, stage.dir);
        for n in 0..200 {
            vfs.mknod(cred, dir, format!("f{n:03}").as_bytes(), NodeKind::Regular, 0o644).await.unwrap();
        }
        let fh = vfs.opendir(cred, dir).await.unwrap();
        let mut seen = Vec::new();
        let mut offset = 0;
        let mut removed = 0;
        loop {
            let items = vfs.readdir(cred, dir, fh, offset, false, 1024).await.unwrap();
            let Some(last) = items.last() else { break };
            offset = last.offset;
            seen.extend(items.iter().map(|item| item.name.clone()).filter(|name| name.starts_with(b"f")));
            // As `rm -r` does: what has been listed is removed while the listing goes on.
            for name in &seen[removed..] {
                vfs.unlink(cred, dir, name).await.unwrap();
            }
            removed = seen.len();
        }
        let distinct: BTreeSet<_> = seen.iter().collect();
        assert_eq!((seen.len(), distinct.len()), (200, 200));
        vfs.releasedir(cred, dir, fh).await.unwrap();
        assert_eq!(stage.names(dir).await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_changes_are_in_every_listing_at_once() {
    on_stage("own", async |stage| {
        assert_eq!(stage.names(stage.dir).await, Vec::<String>::new());
        stage.file("a", b"").await;
        assert_eq!(stage.names(stage.dir).await, ["a"]);
        stage.vfs.rename(&stage.cred, stage.dir, b"a", stage.dir, b"b", RenameFlags::default()).await.unwrap();
        assert_eq!(stage.names(stage.dir).await, ["b"]);
        stage.vfs.unlink(&stage.cred, stage.dir, b"b").await.unwrap();
        assert_eq!(stage.names(stage.dir).await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_the_servers_word_and_remembered() {
    on_stage("rights", async |stage| {
        let (vfs, dir) = (&stage.vfs, stage.dir);
        let ino = stage.file("secret", b"x").await;
        let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
        vfs.setattr(&stage.cred, ino, None, set).await.unwrap();
        let stranger = Cred::new(4321, 4321);
        vfs.access(&stage.cred, ino, 6).await.unwrap();
        stage.round_trips();
        for _ in 0..3 {
            assert_eq!(vfs.access(&stranger, ino, 4).await.unwrap_err().errno(), Errno::Access);
        }
        assert_eq!(stage.round_trips(), 1);
        vfs.access(&stranger, dir, 5).await.unwrap();
        let open = vfs.open(&stranger, ino, OpenFlags { read: true, ..OpenFlags::default() }).await;
        assert_eq!(open.unwrap_err().errno(), Errno::Access);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inode_numbers_do_not_change_when_the_kernel_forgets() {
    on_stage("numbers", async |stage| {
        let ino = stage.file("f", b"x").await;
        stage.vfs.forget(ino, 1);
        assert_eq!(stage.find("f").await.unwrap().attr.ino, ino);
        assert_eq!(names(&stage.vfs, &stage.cred, stage.dir).await, ["f"]);
        assert_eq!(stage.content(ino).await, b"x");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_of_the_file_system_is_known_without_waiting() {
    on_stage("statfs", async |stage| {
        for _ in 0..100 {
            if stage.vfs.statfs().total_bytes > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it never arrives");
    })
    .await;
}

/// Close-to-open holds for names, too: an open that comes after the rename of another client must not find the old file.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_does_not_find_the_file_that_another_mount_has_replaced() {
    on_stage("replaced", async |stage| {
        for (round, keep_open) in [false, true].into_iter().enumerate() {
            let (name, new, old) = (format!("f{round}"), format!("new{round}"), format!("old{round}"));
            stage.file(&name, b"one").await;
            let (vfs, dir) = stage.second_mount(VfsOptions::default()).await;
            let ino = find(&vfs, &stage.cred, dir, &name).await.unwrap().attr.ino;
            assert_eq!(content(&vfs, &stage.cred, ino).await, b"one");
            let held = vfs.open(&stage.cred, ino, reading()).await.unwrap();
            if !keep_open {
                close(&vfs, &stage.cred, ino, held.fh).await;
            }

            // As editors save: the old file gets another name, a new one its name.
            stage.file(&new, b"two").await;
            let rename = async |from: &str, to: &str| {
                let flags = RenameFlags::default();
                stage
                    .vfs
                    .rename(&stage.cred, stage.dir, from.as_bytes(), stage.dir, to.as_bytes(), flags)
                    .await
                    .unwrap();
            };
            rename(&name, &old).await;
            rename(&new, &name).await;
            // The first open says that the kernel has to look again, the lookup brings the new file.
            let error = vfs.open(&stage.cred, ino, reading()).await.unwrap_err();
            assert_eq!(error.errno(), Errno::Stale);
            let now = find(&vfs, &stage.cred, dir, &name).await.unwrap().attr.ino;
            assert_ne!(now, ino);
            assert_eq!(content(&vfs, &stage.cred, now).await, b"two");

            // And replaced, so that it has no name at all.
            stage.file(&new, b"three").await;
            rename(&new, &name).await;
            assert_eq!(vfs.open(&stage.cred, now, reading()).await.unwrap_err().errno(), Errno::Stale);
            let now = find(&vfs, &stage.cred, dir, &name).await.unwrap().attr.ino;
            assert_eq!(content(&vfs, &stage.cred, now).await, b"three");

            // Removed, and made anew.
            stage.vfs.unlink(&stage.cred, stage.dir, name.as_bytes()).await.unwrap();
            assert_eq!(vfs.open(&stage.cred, now, reading()).await.unwrap_err().errno(), Errno::Stale);
            assert!(find(&vfs, &stage.cred, dir, &name).await.is_none());

            // Whoever had the first file open still has it: it lives under its other name.
            if keep_open {
                assert_eq!(vfs.read(&stage.cred, ino, held.fh, 0, 10).await.unwrap().concat(), b"one");
                close(&vfs, &stage.cred, ino, held.fh).await;
            }
            assert_eq!(vfs.shutdown().await, []);
        }
    })
    .await;
}

/// `--open-freshness` is for reading. Who appends to a file that another machine has rotated must not write to the old one,
/// though this machine has it open and knows its attributes well.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_for_writing_asks_for_the_name_whatever_the_open_freshness() {
    on_stage("rotated", async |stage| {
        stage.file("log", b"one").await;
        let lasting = VfsOptions { open_freshness: Duration::from_secs(100), ..VfsOptions::default() };
        let (vfs, dir) = stage.second_mount(lasting).await;
        let ino = find(&vfs, &stage.cred, dir, "log").await.unwrap().attr.ino;
        let held = vfs.open(&stage.cred, ino, both()).await.unwrap();
        stage.file("new", b"two").await;
        let flags = RenameFlags::default();
        stage.vfs.rename(&stage.cred, stage.dir, b"log", stage.dir, b"log.1", flags).await.unwrap();
        stage.vfs.rename(&stage.cred, stage.dir, b"new", stage.dir, b"log", flags).await.unwrap();
        assert_eq!(vfs.open(&stage.cred, ino, both()).await.unwrap_err().errno(), Errno::Stale);
        let now = find(&vfs, &stage.cred, dir, "log").await.unwrap().attr.ino;
        assert_ne!(now, ino);
        close(&vfs, &stage.cred, ino, held.fh).await;
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_holds_something_is_not_replaced_by_another() {
    on_stage("not-empty", async |stage| {
        let mkdir =
            async |dir: u64, name: &[u8]| stage.vfs.mkdir(&stage.cred, dir, name, 0o755).await.unwrap().attr.ino;
        mkdir(stage.dir, b"b").await;
        let target = mkdir(stage.dir, b"d").await;
        mkdir(target, b"a").await;
        let flags = RenameFlags::default();
        let refused = stage.vfs.rename(&stage.cred, stage.dir, b"b", stage.dir, b"d", flags).await.unwrap_err();
        assert_eq!(refused.errno(), Errno::NotEmpty);
        stage.vfs.rmdir(&stage.cred, target, b"a").await.unwrap();
        stage.vfs.rename(&stage.cred, stage.dir, b"b", stage.dir, b"d", flags).await.unwrap();
        assert_eq!(stage.names(stage.dir).await, ["d"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_name_costs_the_kernel_nothing_when_only_the_file_s_attributes_have_run_out() {
    let timeouts = Timeouts { file_min: Duration::ZERO, file_max: Duration::ZERO, ..Timeouts::default() };
    with_options("run-out", VfsOptions { timeouts, ..VfsOptions::default() }, async |stage| {
        let (vfs, cred, dir) = (&stage.vfs, &stage.cred, stage.dir);
        let ino = stage.file("f", b"1").await;
        assert_eq!(stage.names(dir).await, ["f"]);
        stage.round_trips();
        let Looked::Found(entry) = vfs.lookup_for_kernel(cred, dir, b"f").await.unwrap() else { panic!("not found") };
        assert_eq!((entry.attr.ino, entry.attr_ttl, stage.round_trips()), (ino, Duration::ZERO, 0));
        assert_eq!(vfs.getattr(cred, ino, None).await.unwrap().0.size, 1);
        assert_eq!(stage.round_trips(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_the_kernel_comes_to_for_nothing_is_listed_behind_its_back() {
    on_stage("arrive", async |stage| {
        let cred = &stage.cred;
        let made = stage.vfs.mkdir(cred, stage.dir, b"d", 0o755).await.unwrap().attr.ino;
        stage.vfs.mkdir(cred, made, b"e", 0o755).await.unwrap();
        // The LOOKUP of the directory has brought its listing, and with it this name.
        let (vfs, dir) = stage.second_mount(VfsOptions::default()).await;
        let sent = || vfs.client().counters().compounds;
        let before = sent();
        let Looked::Found(entry) = vfs.lookup_for_kernel(cred, dir, b"d").await.unwrap() else { panic!("not found") };
        let inside = async |name: &[u8]| vfs.lookup_for_kernel(cred, entry.attr.ino, name).await.unwrap();
        while sent() == before {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let before = sent();
        assert!(matches!(inside(b"nothing").await, Looked::Missing { .. }));
        assert_eq!(sent(), before);
        assert!(matches!(inside(b"e").await, Looked::Found(_)));
        assert_eq!(vfs.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_in_progress_gives_the_kernel_no_name_that_means_something_else_by_now() {
    on_stage("frozen", async |stage| {
        let (vfs, cred, dir) = (&stage.vfs, &stage.cred, stage.dir);
        for name in ["a", "b", "c", "d"] {
            stage.file(name, b"x").await;
        }
        stage.vfs.settled_handle(stage.find("d").await.unwrap().attr.ino).await.unwrap();
        let fh = vfs.opendir(cred, dir).await.unwrap();
        // The dots and one name.
        let first = vfs.readdir(cred, dir, fh, 0, true, 500).await.unwrap();
        assert_eq!(first.len(), 3);
        let listed = [b"a", b"b", b"c", b"d"].into_iter().filter(|name| first[2].name[..] != name[..]);
        let rest: Vec<_> = listed.map(|name| name.to_vec()).collect();
        vfs.unlink(cred, dir, &rest[0]).await.unwrap();
        vfs.rename(cred, dir, &rest[1], dir, b"e", RenameFlags::default()).await.unwrap();
        // Its attributes are known well enough to be shown.
        assert!(stage.find("e").await.is_some());
        let items = vfs.readdir(cred, dir, fh, first[2].offset, true, 1 << 20).await.unwrap();
        assert_eq!(items.len(), 3);
        for item in items {
            let is_current = item.name[..] == rest[2][..];
            assert_eq!(item.entry.is_some(), is_current, "{:?}", item.name);
        }
        vfs.releasedir(cred, dir, fh).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_judging_kernel_each_walk_through_a_directory_that_is_not_for_all_is_asked_about() {
    with_options("judged", VfsOptions { kernel_judges: false, ..VfsOptions::default() }, async |stage| {
        let (vfs, cred) = (&stage.vfs, &stage.cred);
        let (me, stranger) = (Cred::new(1234, 1234), Cred::new(4321, 4321));
        let dir = vfs.mkdir(cred, stage.dir, b"d", 0o755).await.unwrap().attr.ino;
        let flags = OpenFlags { read: true, write: true, exclusive: true, ..OpenFlags::default() };
        let (made, opened) = vfs.create(cred, dir, b"f", 0o644, flags).await.unwrap();
        stage.close(made.attr.ino, opened.fh).await;
        let ino = find(vfs, cred, dir, "f").await.unwrap().attr.ino;
        assert!(!find(vfs, cred, dir, "f").await.unwrap().entry_ttl.is_zero());
        let owned = SetAttr { mode: Some(0o700), uid: Some(1234), gid: Some(1234), ..SetAttr::default() };
        vfs.setattr(cred, dir, None, owned).await.unwrap();
        assert!(find(vfs, &me, dir, "f").await.unwrap().entry_ttl.is_zero());
        let Looked::Missing { ttl } = vfs.lookup(&me, dir, b"none").await.unwrap() else { panic!("there is none") };
        assert!(ttl.is_zero());
        let fh = vfs.opendir(&me, dir).await.unwrap();
        let listed = vfs.readdir(&me, dir, fh, 2, true, 1 << 20).await.unwrap();
        assert!(listed.iter().all(|item| item.entry.is_none_or(|entry| entry.entry_ttl.is_zero())));
        vfs.releasedir(&me, dir, fh).await.unwrap();
        for name in [&b"f"[..], b"none"] {
            assert_eq!(vfs.lookup_for_kernel(&stranger, dir, name).await.unwrap_err().errno(), Errno::Access);
        }
        // The kernel still has the name from before.
        let reading = OpenFlags { read: true, ..OpenFlags::default() };
        assert_eq!(vfs.open(&stranger, ino, reading).await.unwrap_err().errno(), Errno::Access);
        let opened = vfs.open(&me, ino, reading).await.unwrap();
        vfs.release(&me, ino, opened.fh).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_moved_while_it_was_listed_is_not_given_to_the_kernel_to_keep() {
    // What is no directory is old at once.
    let timeouts = Timeouts { file_min: Duration::ZERO, file_max: Duration::ZERO, ..Timeouts::default() };
    with_options("moved", VfsOptions { timeouts, ..VfsOptions::default() }, async |stage| {
        let (vfs, cred, dir) = (&stage.vfs, &stage.cred, stage.dir);
        for number in 0..20 {
            vfs.symlink(cred, dir, format!("l{number:02}").as_bytes(), b"target").await.unwrap();
        }
        let (other, there) = stage.second_mount(no_caching()).await;
        let fh = vfs.opendir(cred, dir).await.unwrap();
        let ttls = async |offset, size| {
            let items = vfs.readdir(cred, dir, fh, offset, true, size).await.unwrap();
            let next = items.last().unwrap().offset;
            let entries = items.iter().filter(|item| item.offset > 2);
            (next, entries.map(|item| item.entry.unwrap().entry_ttl).collect::<Vec<_>>())
        };
        let (next, first) = ttls(0, 1000).await;
        assert!(!first.is_empty() && first.len() < 10);
        while vfs.remembers(cred, dir, b"nothing").is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The listing is over, and what it found still holds.
        assert!(ttls(next, 1000).await.1.iter().all(|ttl| !ttl.is_zero()));
        other.rename(cred, there, b"l19", there, b"m19", RenameFlags::default()).await.unwrap();
        other.symlink(cred, there, b"l19", b"another").await.unwrap();
        vfs.current_attr(cred, dir).await.unwrap();
        assert!(ttls(next, 64 << 10).await.1.iter().all(Duration::is_zero));
        vfs.releasedir(cred, dir, fh).await.unwrap();
        assert_eq!(other.shutdown().await, []);
    })
    .await;
}
