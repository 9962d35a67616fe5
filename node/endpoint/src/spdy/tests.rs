//! Tests of frames and sessions.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_util::sync::CancellationToken;

use super::frame::{Decoder, Frame, encode};
use super::{Event, Role, Session, value};

fn encoded(frame: &Frame) -> BytesMut {
    let mut out = BytesMut::new();
    encode(frame, &mut out);
    out
}

fn arbitrary_frame() -> impl Strategy<Value = Frame> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    let id = || 0..=0x7fff_ffff_u32;
    prop_oneof![
        (id(), any::<bool>(), bytes()).prop_map(|(id, fin, block)| Frame::SynStream { id, fin, block }),
        (id(), any::<bool>(), bytes()).prop_map(|(id, fin, block)| Frame::SynReply { id, fin, block }),
        (id(), any::<bool>(), bytes()).prop_map(|(id, fin, block)| Frame::Headers { id, fin, block }),
        (id(), any::<bool>(), bytes()).prop_map(|(id, fin, bytes)| Frame::Data { id, fin, bytes }),
        (id(), any::<u32>()).prop_map(|(id, status)| Frame::Reset { id, status }),
        any::<u32>().prop_map(Frame::Ping),
        Just(Frame::GoAway),
    ]
}

proptest! {
    #[test]
    fn frames_in_pieces_are_read_as_written(frames in prop::collection::vec(arbitrary_frame(), 0..6), piece in 1_usize..64) {
        let mut wire = BytesMut::new();
        frames.iter().for_each(|frame| encode(frame, &mut wire));
        let (mut decoder, mut buffer, mut read) = (Decoder::default(), BytesMut::new(), Vec::<Frame>::new());
        for bytes in wire.chunks(piece) {
            buffer.put_slice(bytes);
            while let Some(frame) = decoder.next(&mut buffer).unwrap() {
                // A data frame comes in as many pieces as its bytes did.
                match (read.pop(), frame) {
                    (Some(Frame::Data { id: last, fin: false, bytes }), Frame::Data { id, fin, bytes: more })
                        if last == id && read.len() < frames.len() && is_unfinished(&frames[read.len()], &bytes) =>
                    {
                        read.push(Frame::Data { id, fin, bytes: [bytes, more].concat().into() });
                    }
                    (last, frame) => read.extend(last.into_iter().chain([frame])),
                }
            }
        }
        prop_assert_eq!(read, frames);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn decoder_with_any_bytes_reads_or_refuses(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut buffer = BytesMut::from(bytes.as_slice());
        let mut decoder = Decoder::default();
        while let Ok(Some(_)) = decoder.next(&mut buffer) {}
    }

    #[test]
    fn session_with_any_bytes_ends(bytes in prop::collection::vec(any::<u8>(), 0..600), prefix in 0..3) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut session, mut peer) = raw(Role::Server);
            // A good begin lets the bytes get further.
            let prefix: &[u8] = match prefix {
                0 => &[],
                1 => &[0x80, 3, 0, 1, 0, 0, 0, 60, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
                _ => &[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1],
            };
            peer.write_all(prefix).await.unwrap();
            let _ = peer.write_all(&bytes).await;
            let _ = peer.shutdown().await;
            while session.accept().await.is_some() {}
        });
    }
}

fn is_unfinished(expected: &Frame, read: &Bytes) -> bool {
    matches!(expected, Frame::Data { bytes, .. } if read.len() < bytes.len())
}

/// A session, and the other end of its connection.
fn raw(role: Role) -> (Session, DuplexStream) {
    let (ours, theirs) = duplex(4096);
    (Session::start(ours, role, &CancellationToken::new()), theirs)
}

fn pair() -> (Session, Session) {
    let (ours, theirs) = duplex(4096);
    let cancel = CancellationToken::new();
    (Session::start(ours, Role::Client, &cancel), Session::start(theirs, Role::Server, &cancel))
}

fn headers(kind: &str) -> super::Headers {
    vec![("streamtype".into(), kind.into())]
}

#[tokio::test]
async fn streams_carry_bytes_both_ways_and_end_each_for_itself() {
    let (mut client, mut server) = pair();
    let mut first = client.open(headers("data")).await.unwrap();
    let second = client.open(headers("error")).await.unwrap();
    let mut taken = server.accept().await.unwrap();
    assert_eq!(value(&taken.headers, "StreamType"), Some("data"));
    assert_eq!(value(&server.accept().await.unwrap().headers, "streamtype"), Some("error"));
    taken.stream.writer.reply().await.unwrap();
    first.writer.data("ping".into()).await.unwrap();
    first.writer.finish().await.unwrap();
    assert_eq!(taken.stream.reader.next().await, Event::Data("ping".into()));
    assert_eq!(taken.stream.reader.next().await, Event::End);
    let large = Bytes::from(vec![7; 200_000]);
    let sent = large.clone();
    tokio::spawn(async move {
        taken.stream.writer.data(sent).await.unwrap();
        taken.stream.writer.finish().await.unwrap();
    });
    let mut received = Vec::new();
    while let Event::Data(bytes) = first.reader.next().await {
        received.extend_from_slice(&bytes);
    }
    assert_eq!(received, large);
    drop(second);
}

#[tokio::test]
async fn stream_that_is_reset_ends_after_its_last_piece() {
    let (mut client, mut server) = pair();
    let mut stream = client.open(headers("data")).await.unwrap();
    let taken = server.accept().await.unwrap().stream;
    taken.writer.data("last".into()).await.unwrap();
    taken.writer.reset().await.unwrap();
    stream.writer.given_up().await;
    assert_eq!(stream.reader.next().await, Event::Data("last".into()));
    assert_eq!(stream.reader.next().await, Event::Reset);
    assert!(stream.writer.data("more".into()).await.is_err());
}

#[tokio::test]
async fn session_that_is_dropped_ends_the_peers() {
    let (mut client, mut server) = pair();
    let stream = client.open(headers("data")).await.unwrap();
    let mut taken = server.accept().await.unwrap().stream;
    drop(client);
    stream.writer.data("last".into()).await.unwrap();
    drop(stream);
    assert_eq!(taken.reader.next().await, Event::Data("last".into()));
    assert_eq!(taken.reader.next().await, Event::End);
    assert!(server.accept().await.is_none());
    assert!(server.open(headers("data")).await.is_err());
}

#[tokio::test]
async fn ping_is_answered_with_itself() {
    let (_session, mut peer) = raw(Role::Server);
    let ping = encoded(&Frame::Ping(7));
    peer.write_all(&ping).await.unwrap();
    let mut answer = vec![0; ping.len()];
    peer.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, ping);
}

#[tokio::test]
async fn goaway_ends_the_session() {
    let (mut session, mut peer) = raw(Role::Server);
    peer.write_all(&encoded(&Frame::GoAway)).await.unwrap();
    assert!(session.accept().await.is_none());
}

#[tokio::test]
async fn stream_numbers_out_of_order_end_the_session() {
    let block = super::header::Deflater::new().block(&headers("data"));
    for id in [0, 2, 0x7fff_fffe] {
        let (mut session, mut peer) = raw(Role::Server);
        peer.write_all(&encoded(&Frame::SynStream { id, fin: false, block: block.clone().into() }))
            .await
            .unwrap();
        assert!(session.accept().await.is_none(), "{id}");
    }
}

#[tokio::test]
async fn streams_beyond_bounds_are_refused() {
    let (mut session, mut peer) = raw(Role::Server);
    let mut deflater = super::header::Deflater::new();
    let most = super::session::STREAMS as u32;
    let writing = async {
        for n in 0..=most {
            let block = deflater.block(&headers("data")).into();
            peer.write_all(&encoded(&Frame::SynStream { id: 2 * n + 1, fin: false, block })).await.unwrap();
        }
        let expected = encoded(&Frame::Reset { id: 2 * most + 1, status: super::frame::REFUSED_STREAM });
        let mut answer = vec![0; expected.len()];
        peer.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, expected);
    };
    writing.await;
    let mut taken = Vec::new();
    for _ in 0..most {
        taken.push(session.accept().await.unwrap());
    }
    peer.shutdown().await.unwrap();
    assert!(session.accept().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn stream_that_is_never_read_is_given_up_and_others_go_on() {
    let (mut client, mut server) = pair();
    let stuck = client.open(headers("stuck")).await.unwrap();
    let live = client.open(headers("live")).await.unwrap();
    let held = server.accept().await.unwrap();
    let mut reading = server.accept().await.unwrap().stream.reader;
    let filling = tokio::spawn(async move {
        // Ends when the peer has reset the stream.
        while stuck.writer.data(vec![0; 8192].into()).await.is_ok() {}
    });
    tokio::task::yield_now().await;
    filling.await.unwrap();
    live.writer.data("alive".into()).await.unwrap();
    assert_eq!(reading.next().await, Event::Data("alive".into()));
    drop(held);
}
