//! Tests of port-forward, with clients that speak as kubectl does.

use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use crate::spdy::{Event, Role, Session, Stream};
use crate::testing::Node;
use crate::websocket::ByteStream;

const PATH: &str = "/portForward/default/web";

/// A server that answers each connection with what came, in capitals, once the client has ended its direction.
async fn shouting() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut text = Vec::new();
                connection.read_to_end(&mut text).await.unwrap();
                connection.write_all(&text.to_ascii_uppercase()).await.unwrap();
            });
        }
    });
    port
}

/// A port where nobody listens.
async fn silent() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// Opens the two streams of a connection, as kubectl does.
async fn open(session: &mut Session, port: &str, request: u32) -> (Stream, Stream) {
    let headers = |kind: &str| {
        let pair = |name: &str, value: String| (name.to_owned(), value);
        vec![
            pair("streamtype", kind.to_owned()),
            pair("port", port.to_owned()),
            pair("requestid", request.to_string()),
        ]
    };
    let error = session.open(headers("error")).await.unwrap();
    error.writer.finish().await.unwrap();
    (session.open(headers("data")).await.unwrap(), error)
}

async fn tunnel(node: &Node) -> Session {
    let socket = node.websocket(PATH, "SPDY/3.1+portforward.k8s.io").await.unwrap();
    Session::start(ByteStream::new(socket), Role::Client, &CancellationToken::new())
}

async fn all(stream: &mut Stream) -> String {
    let mut text = Vec::new();
    while let Event::Data(bytes) = stream.reader.next().await {
        text.extend_from_slice(&bytes);
    }
    String::from_utf8(text).unwrap()
}

async fn check_echo(mut session: Session) {
    let port = shouting().await.to_string();
    let (mut first, mut first_error) = open(&mut session, &port, 0).await;
    let (mut second, _second_error) = open(&mut session, &port, 1).await;
    second.writer.data("other".into()).await.unwrap();
    let long = "x".repeat(300_000);
    first.writer.data(Bytes::from(long.clone())).await.unwrap();
    first.writer.finish().await.unwrap();
    second.writer.finish().await.unwrap();
    assert_eq!(all(&mut first).await, long.to_uppercase());
    assert_eq!(all(&mut first_error).await, "", "no error");
    assert_eq!(all(&mut second).await, "OTHER");
}

#[tokio::test]
async fn connections_in_a_tunnel_reach_the_port_and_end() {
    let node = Node::start().await;
    check_echo(tunnel(&node).await).await;
}

#[tokio::test]
async fn connections_in_plain_spdy_reach_the_port_and_end() {
    let node = Node::start().await;
    let connection = node.spdy(PATH, "portforward.k8s.io").await;
    check_echo(Session::start(connection, Role::Client, &CancellationToken::new())).await;
}

#[tokio::test]
async fn port_without_a_server_is_told_on_the_error_stream() {
    let node = Node::start().await;
    let mut session = tunnel(&node).await;
    let port = silent().await;
    let (mut data, mut error) = open(&mut session, &port.to_string(), 0).await;
    let text = all(&mut error).await;
    assert!(text.contains(&format!("localhost:{port}")) && text.contains("refused"), "{text}");
    assert_eq!(all(&mut data).await, "");
}

#[tokio::test]
async fn streams_that_make_no_pair_are_reset() {
    let node = Node::start().await;
    let mut session = tunnel(&node).await;
    let headers = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
    };
    for pairs in [
        [("streamtype", "data"), ("port", "0"), ("requestid", "0")].as_slice(),
        &[("streamtype", "data"), ("port", "http"), ("requestid", "0")],
        &[("streamtype", "other"), ("port", "80"), ("requestid", "0")],
        &[("streamtype", "data"), ("port", "80")],
        &[],
    ] {
        let mut stream = session.open(headers(pairs)).await.unwrap();
        assert_eq!(stream.reader.next().await, Event::Reset, "{pairs:?}");
    }
    let data = headers(&[("streamtype", "data"), ("port", "80"), ("requestid", "7")]);
    let _first = session.open(data.clone()).await.unwrap();
    let mut second = session.open(data).await.unwrap();
    assert_eq!(second.reader.next().await, Event::Reset, "the request has its data stream");
}

#[tokio::test]
async fn client_that_resets_ends_the_pods_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let node = Node::start().await;
    let mut session = tunnel(&node).await;
    let (data, _error) = open(&mut session, &port, 0).await;
    let (mut connection, _) = listener.accept().await.unwrap();
    data.writer.reset().await.unwrap();
    let mut buffer = [0; 16];
    assert!(matches!(connection.read(&mut buffer).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn client_that_goes_ends_the_pods_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let node = Node::start().await;
    let mut session = tunnel(&node).await;
    let streams = open(&mut session, &port, 0).await;
    let (mut connection, _) = listener.accept().await.unwrap();
    drop((session, streams));
    let mut buffer = [0; 16];
    assert!(matches!(connection.read(&mut buffer).await, Ok(0) | Err(_)));
}

/// The first bytes of a session of kubectl 1.32: two streams for port 80, with the error stream's end between them.
const CAPTURED: &str = "800300010000003d0000000100000000000078f9e3c6a7c202253a703a2b294a4dcc851625aca9a0808614cb45\
    a024cc6461c0c0c0c0590489c44c50e2663400000000ffff\
    0000000101000000\
    8003000100000018000000030000000000\
    00c2aa15540a2512d209000000ffff";

#[tokio::test]
async fn bytes_of_kubectl_in_odd_messages_are_understood() {
    let bytes: Vec<u8> = (0..CAPTURED.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&CAPTURED[at..at + 2], 16).unwrap())
        .collect();
    let node = Node::start().await;
    let mut socket = node.websocket(PATH, "SPDY/3.1+portforward.k8s.io").await.unwrap();
    // Messages do not begin and end with frames, and some are empty.
    for (index, piece) in bytes.chunks(3).enumerate() {
        if index % 5 == 0 {
            socket.send(Message::Binary(Bytes::new())).await.unwrap();
        }
        socket.send(Message::Binary(Bytes::copy_from_slice(piece))).await.unwrap();
    }
    let mut answer = BytesMut::new();
    let replies = |answer: &BytesMut| {
        let reply = |id: u8| {
            answer.windows(12).any(|bytes| bytes[..4] == [0x80, 3, 0, 2] && bytes[8..] == [0, 0, 0, id])
        };
        reply(1) && reply(3)
    };
    while !replies(&answer) {
        if let Message::Binary(bytes) = socket.next().await.unwrap().unwrap() {
            answer.put_slice(&bytes);
        }
    }
}

#[tokio::test]
async fn channels_carry_each_port_and_its_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (open, closed) = (listener.local_addr().unwrap().port(), silent().await);
    let node = Node::start().await;
    let path = format!("{PATH}?port={open}&port={closed}");
    let mut socket = node.websocket(&path, "v4.channel.k8s.io").await.unwrap();
    let (mut connection, _) = listener.accept().await.unwrap();
    socket.send(Message::Binary("\0ping".into())).await.unwrap();
    let mut buffer = [0; 4];
    connection.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"ping");
    connection.write_all(b"pong").await.unwrap();
    drop(connection);
    let mut channels: [Vec<u8>; 4] = Default::default();
    // The session ends when both ports have.
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Binary(bytes) = message {
            channels[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
        }
    }
    let [data, error, other_data, other_error] = channels;
    assert_eq!(data, [open.to_le_bytes().as_slice(), b"pong"].concat());
    assert_eq!(error, open.to_le_bytes());
    assert_eq!(other_data, closed.to_le_bytes());
    assert!(String::from_utf8_lossy(&other_error[2..]).contains("refused"));
}

#[tokio::test]
async fn channels_to_no_port_are_refused() {
    let node = Node::start().await;
    let refused = node.websocket(PATH, "v4.channel.k8s.io").await.unwrap_err();
    assert_eq!(refused.0, 400);
}
