#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::future::Future;
use std::time::Duration;

use nfs4::record::RecordError;
use proptest::prelude::*;
use tokio::io::DuplexStream;

use super::*;

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("took more than 10 s")
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(within(future))
}

fn pair(buffer: usize, options: ChannelOptions) -> (Channel, Incoming, DuplexStream) {
    let (near, far) = tokio::io::duplex(buffer);
    let (channel, incoming) = Channel::new(near, options);
    (channel, incoming, far)
}

/// A call whose body is `body`; the first word is where the xid goes.
fn message(body: &[u8]) -> Vec<Bytes> {
    vec![Bytes::from_static(&[0xff; 4]), Bytes::from_static(&[0; 4]), Bytes::copy_from_slice(body)]
}

fn record(xid: u32, message_type: u32, body: &[u8]) -> Vec<u8> {
    let mut out = record_mark(8 + body.len()).to_vec();
    out.extend(xid.to_be_bytes());
    out.extend(message_type.to_be_bytes());
    out.extend(body);
    out
}

/// One record from the far end: its xid and what follows the message type.
async fn receive(far: &mut DuplexStream) -> (u32, Vec<u8>) {
    let mark = far.read_u32().await.unwrap();
    assert_ne!(mark & LAST_FRAGMENT, 0);
    let mut bytes = vec![0; (mark & !LAST_FRAGMENT) as usize];
    far.read_exact(&mut bytes).await.unwrap();
    (u32::from_be_bytes(bytes[..4].try_into().unwrap()), bytes[8..].to_vec())
}

/// A record cut into fragments of at most `cut` bytes.
fn fragmented(record: &[u8], cut: usize) -> Vec<u8> {
    let pieces: Vec<&[u8]> = record[4..].chunks(cut).collect();
    let mut out = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let last = if index + 1 == pieces.len() { LAST_FRAGMENT } else { 0 };
        out.extend((last | piece.len() as u32).to_be_bytes());
        out.extend(*piece);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_call_gets_its_own_reply_whatever_the_order_and_the_fragments(
        order in Just((0..12usize).collect::<Vec<_>>()).prop_shuffle(),
        given_up in proptest::collection::vec(any::<bool>(), 12),
        cut in 1usize..40, write in 1usize..64, buffer in 16usize..4096,
    ) {
        run(async {
            let (channel, _incoming, mut far) = pair(buffer, ChannelOptions::default());
            let calls: Vec<_> = (0..12u8)
                .map(|n| {
                    let channel = channel.clone();
                    tokio::spawn(async move { channel.call(message(&[n; 5])).await })
                })
                .collect();
            let mut received = Vec::new();
            for _ in 0..12 {
                received.push(receive(&mut far).await);
            }
            let mut distinct: Vec<u32> = received.iter().map(|(xid, _)| *xid).collect();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), 12);
            let stays = |body: &[u8]| !given_up[usize::from(body[0])];
            for (n, call) in calls.iter().enumerate() {
                if given_up[n] {
                    call.abort();
                }
            }
            while channel.in_flight() > given_up.iter().filter(|up| !**up).count() {
                tokio::task::yield_now().await;
            }
            // The far end answers in an order of its own, also those that nobody waits for any more.
            let mut stream = Vec::new();
            for index in order {
                let (xid, body) = &received[index];
                stream.extend(fragmented(&record(*xid, REPLY, body), cut));
            }
            let server = tokio::spawn(async move {
                for chunk in stream.chunks(write) {
                    far.write_all(chunk).await.unwrap();
                }
                far
            });
            let mut answered = 0;
            for (n, call) in calls.into_iter().enumerate() {
                if stays(&[n as u8]) {
                    let reply = call.await.unwrap().unwrap();
                    assert_eq!(&reply[8..], &[n as u8; 5]);
                    answered += 1;
                }
            }
            let _far = server.await.unwrap();
            while channel.stats().replies + channel.stats().unmatched_replies < 12 {
                tokio::task::yield_now().await;
            }
            let stats = channel.stats();
            assert_eq!((stats.calls, stats.replies), (12, answered));
            assert_eq!(channel.in_flight(), 0);
            assert_eq!(channel.lost(), None);
        });
    }

    #[test]
    fn garbage_never_panics_and_the_end_of_the_stream_ends_the_channel(
        bytes in proptest::collection::vec(any::<u8>(), 0..600), limit in 8usize..400, small_marks in any::<bool>()
    ) {
        run(async {
            let options = ChannelOptions { max_record: limit, incoming: 1, ..ChannelOptions::default() };
            let (channel, _incoming, mut far) = pair(4096, options);
            let call = channel.call(message(b"x"));
            let feed = async {
                let _ = receive(&mut far).await;
                let mut bytes = bytes;
                if small_marks {
                    // Marks that fit are rare in random bytes.
                    for chunk in bytes.chunks_mut(20) {
                        if chunk.len() == 20 { chunk[..4].copy_from_slice(&record_mark(16)); }
                    }
                }
                let _ = far.write_all(&bytes).await;
                drop(far);
            };
            let (outcome, ()) = tokio::join!(call, feed);
            assert!(matches!(outcome, Ok(_) | Err(ChannelError::Lost(_))));
            let reason = channel.closed().await;
            assert!(matches!(channel.call(message(b"x")).await, Err(ChannelError::Lost(again)) if again == reason));
        });
    }
}

#[tokio::test]
async fn a_lost_connection_ends_every_waiting_call_at_once() {
    let (channel, _incoming, mut far) = pair(1 << 16, ChannelOptions::default());
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let channel = channel.clone();
            tokio::spawn(async move { channel.call(message(b"waiting")).await })
        })
        .collect();
    for _ in 0..20 {
        within(receive(&mut far)).await;
    }
    let closed = channel.closed();
    drop(far);
    assert_eq!(within(closed).await, LossReason::ClosedByPeer);
    for call in calls {
        let outcome = within(call).await.unwrap();
        assert_eq!(outcome.unwrap_err(), ChannelError::Lost(LossReason::ClosedByPeer));
    }
}

#[tokio::test]
async fn calls_that_wait_for_room_in_the_queue_are_lost_too() {
    // The far end reads nothing, so the writer stands still and the queue is full.
    let options = ChannelOptions { outgoing: 1, ..ChannelOptions::default() };
    let (channel, _incoming, far) = pair(16, options);
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let channel = channel.clone();
            tokio::spawn(async move { channel.call(message(&[0; 100])).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(far);
    for call in calls {
        assert!(matches!(within(call).await.unwrap(), Err(ChannelError::Lost(_))));
    }
}

#[tokio::test]
async fn a_record_beyond_the_limit_ends_the_channel_before_it_arrives() {
    let (channel, _incoming, mut far) = pair(1 << 16, ChannelOptions::default());
    far.write_all(&record_mark(DEFAULT_MAX_RECORD + 1)).await.unwrap();
    let expected = RecordError::TooLarge { announced: DEFAULT_MAX_RECORD + 1, limit: DEFAULT_MAX_RECORD };
    assert_eq!(within(channel.closed()).await, LossReason::Record(expected));
}

#[tokio::test]
async fn the_limit_can_be_changed_while_the_channel_is_in_use() {
    let (channel, _incoming, mut far) = pair(1 << 16, ChannelOptions { max_record: 64, ..ChannelOptions::default() });
    channel.set_max_record(1000);
    let call = channel.call(message(b"big?"));
    let serve = async {
        let (xid, _) = receive(&mut far).await;
        far.write_all(&record(xid, REPLY, &[1; 900])).await.unwrap();
    };
    let (reply, ()) = within(async { tokio::join!(call, serve) }).await;
    assert_eq!(reply.unwrap().len(), 908);
}

#[tokio::test]
async fn endless_fragments_end_the_channel() {
    let (channel, _incoming, mut far) = pair(1 << 16, ChannelOptions::default());
    let _ = far.write_all(&vec![0; 4 * 5000]).await;
    assert_eq!(within(channel.closed()).await, LossReason::Record(RecordError::TooManyFragments));
}

#[tokio::test]
async fn a_message_that_is_neither_call_nor_reply_ends_the_channel() {
    let (channel, _incoming, mut far) = pair(1 << 16, ChannelOptions::default());
    far.write_all(&record(1, 2, b"")).await.unwrap();
    assert!(matches!(within(channel.closed()).await, LossReason::Protocol(_)));
}

#[tokio::test]
async fn the_servers_calls_come_out_and_can_be_answered() {
    let (channel, mut incoming, mut far) = pair(1 << 16, ChannelOptions::default());
    far.write_all(&record(77, CALL, b"recall")).await.unwrap();
    let call = within(incoming.recv()).await.unwrap();
    assert_eq!(&call.record[8..], b"recall");
    let mut reply = message(b"done");
    reply[0] = call.record.slice(..4);
    call.reply(reply).await.unwrap();
    assert_eq!(within(receive(&mut far)).await, (77, b"done".to_vec()));
    assert_eq!(channel.stats().incoming_calls, 1);
}

#[tokio::test]
async fn a_flood_of_the_servers_calls_is_dropped_and_does_not_hold_up_replies() {
    let (channel, _incoming, mut far) = pair(1 << 16, ChannelOptions { incoming: 2, ..ChannelOptions::default() });
    let call = channel.call(message(b"mine"));
    let serve = async {
        let (xid, _) = receive(&mut far).await;
        for n in 0..10 {
            far.write_all(&record(n, CALL, b"flood")).await.unwrap();
        }
        far.write_all(&record(xid, REPLY, b"yours")).await.unwrap();
    };
    let (reply, ()) = within(async { tokio::join!(call, serve) }).await;
    assert_eq!(&reply.unwrap()[8..], b"yours");
    assert_eq!((channel.stats().incoming_calls, channel.stats().dropped_incoming_calls), (10, 8));
}

#[tokio::test]
async fn dropping_the_last_clone_ends_the_connection() {
    let (channel, incoming, mut far) = pair(1 << 16, ChannelOptions::default());
    let clone = channel.clone();
    drop(channel);
    assert_eq!(clone.lost(), None);
    let closed = clone.closed();
    drop(clone);
    assert_eq!(within(closed).await, LossReason::ClosedHere);
    assert_eq!(within(far.read(&mut [0; 16])).await.unwrap(), 0);
    drop(incoming);
}

#[tokio::test]
async fn closing_ends_both_tasks_and_the_waiting_calls() {
    let (channel, mut incoming, mut far) = pair(1 << 16, ChannelOptions::default());
    let waiting = tokio::spawn({
        let channel = channel.clone();
        async move { channel.call(message(b"waiting")).await }
    });
    within(receive(&mut far)).await;
    within(channel.close()).await;
    assert_eq!(waiting.await.unwrap().unwrap_err(), ChannelError::Lost(LossReason::ClosedHere));
    assert_eq!(within(far.read(&mut [0; 16])).await.unwrap(), 0);
    assert!(within(incoming.recv()).await.is_none());
    assert!(matches!(channel.call(message(b"late")).await, Err(ChannelError::Lost(LossReason::ClosedHere))));
}

#[tokio::test]
async fn a_large_payload_in_segments_arrives_whole_and_its_reply_is_whole() {
    let (channel, _incoming, mut far) = pair(1 << 14, ChannelOptions::default());
    let payload: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut segments = message(b"head");
    segments.extend([Bytes::from(payload.clone()), Bytes::new(), Bytes::from_static(b"tail")]);
    let serve = async {
        let (xid, body) = receive(&mut far).await;
        assert_eq!(body, [b"head", payload.as_slice(), b"tail"].concat());
        far.write_all(&record(xid, REPLY, &body)).await.unwrap();
    };
    let (reply, ()) = within(async { tokio::join!(channel.call(segments), serve) }).await;
    assert_eq!(reply.unwrap().len(), 8 + 8 + payload.len());
    let stats = channel.stats();
    assert_eq!((stats.bytes_in, stats.bytes_out), (1_000_020, 1_000_020));
}

#[tokio::test]
async fn the_xids_place_may_be_spread_over_segments() {
    let (channel, _incoming, mut far) = pair(1 << 14, ChannelOptions::default());
    let segments = vec![Bytes::from_static(b"ab"), Bytes::from_static(b"cd\0\0"), Bytes::from_static(b"\0\0body")];
    let serve = async {
        let (xid, body) = receive(&mut far).await;
        assert_eq!(body, b"body");
        far.write_all(&record(xid, REPLY, b"")).await.unwrap();
    };
    let (reply, ()) = within(async { tokio::join!(channel.call(segments), serve) }).await;
    assert_eq!(reply.unwrap().len(), 8);
}

#[tokio::test]
async fn what_is_no_message_is_not_sent() {
    let (channel, _incoming, _far) = pair(1 << 14, ChannelOptions::default());
    assert_eq!(channel.call(vec![Bytes::from_static(b"xid")]).await.unwrap_err(), ChannelError::NotACall(3));
    assert_eq!((channel.in_flight(), channel.lost()), (0, None));
}

#[tokio::test]
async fn a_call_is_told_to_have_left_with_its_last_byte_and_not_before() {
    // Nothing but what the far end takes fits in here.
    let (channel, _incoming, mut far) = pair(16, ChannelOptions::default());
    let started = |size: usize| {
        let (left, has_left) = oneshot::channel();
        let channel = channel.clone();
        let call = tokio::spawn(async move { channel.call_telling(message(&vec![1; size]), left).await });
        (call, has_left)
    };
    let (first, mut first_left) = started(100_000);
    let mark = far.read_u32().await.unwrap();
    let (second, mut second_left) = started(200_000);
    let mut taken = vec![0; (mark & !LAST_FRAGMENT) as usize - 40];
    far.read_exact(&mut taken).await.unwrap();
    assert!(first_left.try_recv().is_err(), "40 bytes of it are left and 16 are on their way");
    let mut rest = [0; 40];
    far.read_exact(&mut rest).await.unwrap();
    within(&mut first_left).await.unwrap();
    assert!(second_left.try_recv().is_err(), "its first byte was not taken");
    let xid = u32::from_be_bytes(taken[..4].try_into().unwrap());
    far.write_all(&record(xid, REPLY, b"")).await.unwrap();
    within(first).await.unwrap().unwrap();
    receive(&mut far).await;
    within(second_left).await.unwrap();
    second.abort();
}
