#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;

use crate::attr::Handle;
use crate::client::putfh;
use mount_target::{Channel, ChannelOptions};
use nfs4::ops::file::Write4args;
use nfs4::types::{StableHow4, Stateid4};
use tokio::task::yield_now;

fn limits() -> Limits {
    Limits {
        max_read: 1 << 20,
        max_write: 1 << 20,
        max_file_size: 1,
        max_name: 1,
        slots: 1,
        lease: 90,
        hard_links: true,
        symlinks: true,
        xattrs: true,
        acls: false,
    }
}

fn link(generation: u64, restored: bool, channels: impl IntoIterator<Item = Channel>) -> Phase {
    let session = Arc::new(Session::new(Sessionid4::default(), 2, 1, 10_000));
    Phase::Ready(Arc::new(Link { generation, session, channels: Channels::new(channels), restored }))
}

fn engine(phase: Phase, reports: usize) -> (Arc<Engine>, watch::Sender<Phase>, mpsc::Receiver<Report>) {
    let (phase, phases) = watch::channel(phase);
    let (reports, told) = mpsc::channel(reports);
    (Arc::new(Engine::new(phases, reports, limits(), &ClientOptions::default())), phase, told)
}

#[tokio::test]
async fn a_loss_is_told_even_when_the_queue_is_full_of_flags() {
    let (engine, _phase, mut told) = engine(link(1, true, []), 1);
    engine.report_flags(1, 1);
    engine.report_flags(1, 1);
    let telling = Arc::clone(&engine);
    let task = tokio::spawn(async move { telling.report(Report::StateLost(1)).await });
    yield_now().await;
    assert!(matches!(told.recv().await, Some(Report::Flags(1, 1))));
    assert!(matches!(told.recv().await, Some(Report::StateLost(1))));
    task.await.unwrap();
}

#[tokio::test]
async fn whoever_tells_of_a_loss_to_a_full_queue_goes_on_when_it_was_mended() {
    let (engine, phase, _told) = engine(link(1, true, []), 1);
    engine.report_flags(1, 1);
    let telling = Arc::clone(&engine);
    let task = tokio::spawn(async move { telling.report(Report::ChannelLost(1)).await });
    yield_now().await;
    assert!(!task.is_finished());
    // The keeper needs the slot that the task may hold before it looks at reports again.
    phase.send_replace(link(2, false, []));
    task.await.unwrap();
}

#[tokio::test]
async fn lost_state_is_waited_for_until_it_is_restored_and_a_lost_connection_only_until_there_is_another() {
    let (engine, phase, _told) = engine(link(1, true, []), 1);
    phase.send_replace(link(2, false, []));
    assert_eq!(engine.newer_than(1).await.unwrap().generation, 2);
    let waiting = Arc::clone(&engine);
    let task = tokio::spawn(async move { waiting.restored_after(1).await });
    yield_now().await;
    assert!(!task.is_finished());
    phase.send_replace(link(3, true, []));
    assert_eq!(task.await.unwrap().unwrap().generation, 3);
}

fn write(size: usize) -> Request {
    Request::changing(&Cred::new(0, 0), move || {
        let (stateid, stable) = (Stateid4::ANONYMOUS, StableHow4::FileSync4);
        let data = vec![Bytes::from(vec![0; size])];
        let write = Argop4::Write(Write4args { stateid, offset: 0, stable, data });
        Ok(vec![putfh(&Handle::from_wire(&nfs4::types::NfsFh4(vec![1].into()))), write])
    })
}

#[tokio::test]
async fn a_write_that_does_not_fit_the_session_of_the_moment_leaves_its_slot_and_is_told_so() {
    let (engine, _phase, _told) = engine(link(1, true, []), 1);
    let outcome = engine.call(write(20_000)).await;
    assert!(matches!(outcome, Err(Error::TooLarge { limit: 10_000, .. })), "{outcome:?}");
    assert!(engine.ready().unwrap().session.take_free_slot().is_some());
}

#[tokio::test]
async fn what_was_not_sent_by_its_deadline_leaves_its_slot_and_what_was_sent_keeps_it() {
    let late = Request { deadline: Some(tokio::time::Instant::now()), ..write(1) };
    // Nothing was sent: there is no connection.
    let (engine, _phase, _told) = engine(link(1, true, []), 8);
    let ready = engine.ready().unwrap();
    let used = ready.session.take_free_slot().unwrap();
    let outcome = engine.exchange_on(&ready, used, None, &late, &[]).await;
    assert!(matches!(outcome, Err(Error::TimedOut)));
    assert_eq!(ready.session.take_free_slot(), Some(used));
    assert!(!ready.session.is_used_up());
    // The connection is lost after it was sent, and the deadline has passed by then.
    leave(&ready.session, used, true);
    assert!(ready.session.take_free_slot().is_none());
    assert!(ready.session.is_used_up());
}

#[tokio::test]
async fn a_late_request_is_not_sent_again_on_another_connection() {
    let ((near, far), (other_near, mut other)) = (tokio::io::duplex(1 << 16), tokio::io::duplex(1 << 16));
    let channel = |io| Channel::new(io, ChannelOptions::default()).0;
    let (first, second) = (channel(near), channel(other_near));
    let (engine, phase, _told) = engine(link(1, true, [first.clone()]), 8);
    let deadline = tokio::time::Instant::now() + Duration::from_millis(50);
    let request = Request { deadline: Some(deadline), ..write(1) };
    let asking = Arc::clone(&engine);
    let task = tokio::spawn(async move { asking.carry_out(&request).await });
    while first.stats().bytes_out == 0 && !task.is_finished() {
        yield_now().await;
    }
    tokio::time::sleep_until(deadline).await;
    let session = Arc::clone(&engine.ready().unwrap().session);
    let channels = Channels::new([second.clone()]);
    phase.send_replace(Phase::Ready(Arc::new(Link { generation: 2, session, channels, restored: true })));
    drop(far);
    assert!(matches!(task.await.unwrap(), Err(Error::TimedOut)));
    second.close().await;
    let sent = tokio::io::AsyncReadExt::read(&mut other, &mut [0; 1]).await.unwrap();
    assert_eq!(sent, 0, "nothing went over the second connection");
}
