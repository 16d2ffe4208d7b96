//! Extended attributes, holes and copies: what they do where the server has them, and what they cost where it has not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stage;

use bytes::Bytes;
use stage::{Stage, both, on_stage, pattern, reading};
use vfs::{Allocation, Errno, Error, SeekWhat, SetAttr, XattrSet};

fn errno<T: std::fmt::Debug>(result: Result<T, Error>) -> Errno {
    result.unwrap_err().errno()
}

async fn set(stage: &Stage, ino: u64, name: &str, value: &str, how: XattrSet) -> Result<(), Error> {
    stage.vfs.setxattr(&stage.cred, ino, name.as_bytes(), Bytes::copy_from_slice(value.as_bytes()), how).await
}

async fn get(stage: &Stage, ino: u64, name: &str) -> Result<Bytes, Error> {
    stage.vfs.getxattr(&stage.cred, ino, name.as_bytes()).await
}

/// Whether the server keeps extended attributes; when it does not, nobody is asked twice.
async fn keeps_xattrs(stage: &Stage, ino: u64) -> bool {
    match set(stage, ino, "probe", "x", XattrSet::Either).await {
        Ok(()) => {
            stage.vfs.removexattr(&stage.cred, ino, b"probe").await.unwrap();
            true
        }
        Err(error) => {
            assert!(matches!(error, Error::Unsupported(_)), "{error}");
            assert!(get(stage, ino, "probe").await.is_err());
            let _ = stage.vfs.listxattrs(&stage.cred, ino).await;
            let _ = stage.vfs.removexattr(&stage.cred, ino, b"probe").await;
            stage.round_trips();
            assert_eq!(errno(set(stage, ino, "other", "x", XattrSet::Create).await), Errno::NotSup);
            assert_eq!(errno(get(stage, ino, "other").await), Errno::NotSup);
            assert_eq!(errno(stage.vfs.listxattrs(&stage.cred, ino).await), Errno::NotSup);
            assert_eq!(errno(stage.vfs.removexattr(&stage.cred, ino, b"other").await), Errno::NotSup);
            assert_eq!(stage.round_trips(), 0, "it is remembered that there are none");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn extended_attributes_are_kept_or_refused_once() {
    on_stage("xattrs", async |stage| {
        let ino = stage.file("file", b"data").await;
        if !keeps_xattrs(stage, ino).await {
            return;
        }
        assert_eq!(errno(get(stage, ino, "a").await), Errno::NoData);
        assert_eq!(errno(set(stage, ino, "a", "1", XattrSet::Replace).await), Errno::NoData);
        set(stage, ino, "a", "1", XattrSet::Create).await.unwrap();
        assert_eq!(errno(set(stage, ino, "a", "2", XattrSet::Create).await), Errno::Exist);
        set(stage, ino, "a", "2", XattrSet::Replace).await.unwrap();
        set(stage, ino, "b", "", XattrSet::Either).await.unwrap();
        assert_eq!(get(stage, ino, "a").await.unwrap(), "2");
        assert_eq!(get(stage, ino, "b").await.unwrap(), "");
        let mut names = stage.vfs.listxattrs(&stage.cred, ino).await.unwrap();
        names.sort();
        assert_eq!(names, ["a", "b"]);
        stage.vfs.removexattr(&stage.cred, ino, b"b").await.unwrap();
        assert_eq!(errno(stage.vfs.removexattr(&stage.cred, ino, b"b").await), Errno::NoData);
        assert_eq!(stage.vfs.listxattrs(&stage.cred, ino).await.unwrap(), ["a"]);
        let (large, dir) = ("v".repeat(65_536), stage.dir);
        set(stage, dir, "large", &large, XattrSet::Either).await.unwrap();
        assert_eq!(get(stage, dir, "large").await.unwrap(), large);
        assert_eq!(errno(set(stage, dir, "larger", &(large + "v"), XattrSet::Either).await), Errno::TooBig);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_extended_attributes_costs_nothing_and_is_dropped_when_others_change_them() {
    on_stage("xattrs-known", async |stage| {
        let ino = stage.file("file", b"data").await;
        if !keeps_xattrs(stage, ino).await {
            return;
        }
        assert_eq!(errno(get(stage, ino, "absent").await), Errno::NoData);
        stage.round_trips();
        assert_eq!(errno(get(stage, ino, "absent").await), Errno::NoData);
        assert_eq!(stage.round_trips(), 0, "that it is absent is remembered");
        set(stage, ino, "note", "one", XattrSet::Either).await.unwrap();
        assert_eq!(stage.round_trips(), 1);
        assert_eq!(get(stage, ino, "note").await.unwrap(), "one");
        assert_eq!(stage.round_trips(), 0, "we have set it ourselves");
        let (other, dir) = stage.second_mount(stage::no_caching()).await;
        let there = stage::find(&other, &stage.cred, dir, "file").await.unwrap().attr.ino;
        other.setxattr(&stage.cred, there, b"note", Bytes::from_static(b"two"), XattrSet::Replace).await.unwrap();
        // An open asks for the change attribute.
        let opened = stage.open(ino, reading()).await;
        assert_eq!(get(stage, ino, "note").await.unwrap(), "two");
        stage.close(ino, opened.fh).await;
        assert_eq!(other.shutdown().await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attribute_set_by_us_does_not_cost_the_pages_of_the_file() {
    on_stage("xattrs-pages", async |stage| {
        let ino = stage.file("file", &pattern(1, 100_000)).await;
        if !keeps_xattrs(stage, ino).await {
            return;
        }
        stage.content(ino).await;
        set(stage, ino, "note", "one", XattrSet::Either).await.unwrap();
        let opened = stage.open(ino, reading()).await;
        assert!(opened.keep_cache, "the kernel may keep its pages");
        stage.round_trips();
        assert_eq!(stage.read(ino, opened.fh, 50_000, 1000).await, pattern(1, 100_000)[50_000..51_000]);
        assert_eq!(stage.round_trips(), 0);
        stage.close(ino, opened.fh).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_read_as_zeros_and_reserved_space_makes_a_file_longer() {
    on_stage("holes", async |stage| {
        let (ino, fh) = stage.create("file").await;
        let data = pattern(3, 300_000);
        stage.write(ino, fh, 0, &data).await;
        let vfs = &stage.vfs;
        match vfs.fallocate(&stage.cred, fh, Allocation::Hole, 65_536, 131_072).await {
            Ok(()) => {}
            Err(error) => {
                assert!(matches!(error, Error::Unsupported(_)), "{error}");
                assert_eq!(stage.read(ino, fh, 0, 300_000).await, data, "a refusal changes nothing");
                let _ = vfs.fallocate(&stage.cred, fh, Allocation::Reserve, 0, 10).await;
                stage.round_trips();
                for how in [Allocation::Hole, Allocation::Reserve, Allocation::Zeros { keep_size: true }] {
                    assert_eq!(errno(vfs.fallocate(&stage.cred, fh, how, 0, 10).await), Errno::NotSup);
                }
                assert_eq!(stage.round_trips(), 0, "it is remembered");
                stage.close(ino, fh).await;
                return;
            }
        }
        let mut expected = data.to_vec();
        expected[65_536..196_608].fill(0);
        assert_eq!(stage.read(ino, fh, 0, 300_000).await, expected);
        // What is written after that goes into the hole.
        stage.write(ino, fh, 100_000, b"in the hole").await;
        expected[100_000..100_011].copy_from_slice(b"in the hole");
        vfs.fallocate(&stage.cred, fh, Allocation::Zeros { keep_size: true }, 299_990, 100).await.unwrap();
        expected[299_990..].fill(0);
        assert_eq!(stage.content(ino).await, expected);
        vfs.fallocate(&stage.cred, fh, Allocation::Reserve, 300_000, 100).await.unwrap();
        assert_eq!(vfs.getattr(&stage.cred, ino, None).await.unwrap().0.size, 300_100);
        vfs.fallocate(&stage.cred, fh, Allocation::Zeros { keep_size: false }, 300_050, 100).await.unwrap();
        assert_eq!(vfs.getattr(&stage.cred, ino, None).await.unwrap().0.size, 300_150);
        vfs.fallocate(&stage.cred, fh, Allocation::ReserveWithin, 0, 300_150).await.unwrap();
        assert_eq!(
            errno(vfs.fallocate(&stage.cred, fh, Allocation::ReserveWithin, 0, 300_151).await),
            Errno::NotSup,
            "NFS cannot reserve behind the end"
        );
        assert_eq!(errno(vfs.fallocate(&stage.cred, fh, Allocation::Hole, 0, 0).await), Errno::Inval);
        expected.resize(300_150, 0);
        assert_eq!(stage.content(ino).await, expected);
        let (other, dir) = stage.second_mount(stage::no_caching()).await;
        let there = stage::find(&other, &stage.cred, dir, "file").await.unwrap().attr;
        assert_eq!(there.size, 300_150);
        assert_eq!(stage::content(&other, &stage.cred, there.ino).await, expected);
        assert_eq!(other.shutdown().await, []);
        let read_only = stage.open(ino, reading()).await;
        assert_eq!(errno(vfs.fallocate(&stage.cred, read_only.fh, Allocation::Reserve, 0, 1).await), Errno::BadF);
        stage.close(ino, read_only.fh).await;
        stage.close(ino, fh).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_and_holes_are_found_also_when_the_data_was_written_just_now() {
    on_stage("seek", async |stage| {
        let (ino, fh) = stage.create("file").await;
        let set = SetAttr { size: Some(1 << 20), ..SetAttr::default() };
        stage.vfs.setattr(&stage.cred, ino, Some(fh), set).await.unwrap();
        stage.write(ino, fh, 512 << 10, &pattern(1, 4096)).await;
        let seek = async |offset: u64, what: SeekWhat| stage.vfs.seek(&stage.cred, fh, offset, what).await;
        match seek(0, SeekWhat::Data).await {
            Ok(at) => {
                assert!(at <= 512 << 10, "{at}: behind the data");
                let hole = seek(512 << 10, SeekWhat::Hole).await.unwrap();
                assert!(((512 << 10) + 4096..=1 << 20).contains(&hole), "{hole}");
                assert_eq!(seek(512 << 10, SeekWhat::Data).await.unwrap(), 512 << 10);
                assert_eq!(errno(seek(1 << 20, SeekWhat::Data).await), Errno::Nxio);
                assert_eq!(errno(seek(1 << 20, SeekWhat::Hole).await), Errno::Nxio);
            }
            Err(error) => {
                assert!(matches!(error, Error::Unsupported(_)), "{error}");
                stage.round_trips();
                assert_eq!(errno(seek(0, SeekWhat::Hole).await), Errno::NotSup);
                assert_eq!(stage.round_trips(), 0, "it is remembered");
            }
        }
        stage.close(ino, fh).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_whole_wherever_they_are_made() {
    on_stage("copy", async |stage| {
        let (vfs, cred) = (&stage.vfs, &stage.cred);
        let data = pattern(9, 3 << 20);
        let (from, from_fh) = stage.create("from").await;
        // Not at the server yet.
        stage.write(from, from_fh, 0, &data).await;
        let (to, to_fh) = stage.create("to").await;
        stage.write(to, to_fh, 0, b"the beginning").await;
        let mut done = 0;
        while done < data.len() as u64 {
            let count = vfs.copy(cred, (from_fh, done), (to_fh, 5 + done), data.len() as u64).await.unwrap();
            assert!(count > 0);
            done += count;
        }
        assert_eq!(done, data.len() as u64);
        assert_eq!(vfs.copy(cred, (from_fh, done), (to_fh, 5 + done), 1).await.unwrap(), 0, "the end of the source");
        let mut expected = b"the b".to_vec();
        expected.extend_from_slice(&data);
        assert_eq!(vfs.getattr(cred, to, None).await.unwrap().0.size, expected.len() as u64);
        assert_eq!(stage.read(to, to_fh, 0, 4 << 20).await, expected);
        // Within one file.
        assert_eq!(vfs.copy(cred, (to_fh, 0), (to_fh, 1000), 1000).await.unwrap(), 1000);
        expected.copy_within(0..1000, 1000);
        assert_eq!(errno(vfs.copy(cred, (to_fh, 0), (to_fh, 999), 1000).await), Errno::Inval);
        stage.write(to, to_fh, 1500, b"later").await;
        expected[1500..1505].copy_from_slice(b"later");
        assert_eq!(stage.content(to).await, expected);
        let read_only = stage.open(to, reading()).await;
        assert_eq!(errno(vfs.copy(cred, (from_fh, 0), (read_only.fh, 0), 1).await), Errno::BadF);
        stage.close(to, read_only.fh).await;
        stage.close(to, to_fh).await;
        let again = stage.open(to, both()).await;
        stage.close(to, again.fh).await;
        stage.close(from, from_fh).await;
        let (other, dir) = stage.second_mount(stage::no_caching()).await;
        let there = stage::find(&other, cred, dir, "to").await.unwrap().attr.ino;
        assert_eq!(stage::content(&other, cred, there).await, expected);
        assert_eq!(other.shutdown().await, []);
    })
    .await;
}
