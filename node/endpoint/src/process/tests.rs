//! Tests of exec and attach against a streaming server like the runtime's.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, SinkExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::sync::CancellationToken;

use crate::spdy::{Event, Role, Session, Stream, value};
use crate::testing::{Connection, Node, streaming_server};

const SUCCESS: &str = r#"{"metadata":{},"status":"Success"}"#;
const EXEC: &str = "/exec/default/web/app?command=cat&input=1&output=1&error=1";

/// Takes the streams that a client opens, until all of these are there.
async fn streams(session: &mut Session, kinds: &[&str]) -> Vec<Stream> {
    let mut found: Vec<Option<Stream>> = kinds.iter().map(|_| None).collect();
    while found.iter().any(Option::is_none) {
        let opened = session.accept().await.unwrap();
        let kind = value(&opened.headers, "streamType").unwrap();
        let slot = kinds.iter().position(|known| *known == kind).unwrap();
        opened.stream.writer.reply().await.unwrap();
        found[slot] = Some(opened.stream);
    }
    found.into_iter().flatten().collect()
}

/// A process that copies its input to its output until the input's end, and then says so on its error output.
async fn cat(mut session: Session) {
    let mut streams = streams(&mut session, &["error", "stdin", "stdout", "stderr"]).await;
    while let Event::Data(bytes) = streams[1].reader.next().await {
        streams[2].writer.data(bytes).await.unwrap();
    }
    streams[3].writer.data("end of input".into()).await.unwrap();
    streams[0].writer.data(SUCCESS.into()).await.unwrap();
    // containerd does this at the end of every process.
    for stream in &streams {
        stream.writer.reset().await.unwrap();
    }
}

/// Reads messages until the closing one, joined by channel.
async fn read(socket: &mut WebSocketStream<Connection>) -> (Vec<(u8, String)>, CloseCode) {
    let mut channels: Vec<(u8, String)> = Vec::new();
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Binary(bytes) => {
                let text = String::from_utf8(bytes[1..].to_vec()).unwrap();
                match channels.iter_mut().find(|(channel, _)| *channel == bytes[0]) {
                    Some((_, known)) => known.push_str(&text),
                    None => channels.push((bytes[0], text)),
                }
            }
            Message::Close(frame) => return (channels, frame.unwrap().code),
            _ => {}
        }
    }
}

fn binary(bytes: &'static [u8]) -> Message {
    Message::Binary(Bytes::from_static(bytes))
}

#[tokio::test]
async fn exec_with_input_that_ends_runs_to_its_status() {
    let node = Node::start().await;
    node.runtime.streams_at(&streaming_server(|session| cat(session).boxed()).await);
    let mut socket = node.websocket(EXEC, "v5.channel.k8s.io").await.unwrap();
    for message in [b"\x00hel".as_slice(), b"\x00lo", b"", b"\x00", b"\x09?", b"\xff\x01", b"\xff\x00"] {
        socket.send(binary(message)).await.unwrap();
    }
    let (channels, code) = read(&mut socket).await;
    assert_eq!(channels, [(1, "hello".into()), (2, "end of input".into()), (3, SUCCESS.into())]);
    assert_eq!(code, CloseCode::Normal);
    assert!(socket.next().await.is_none());
}

#[tokio::test]
async fn ping_of_a_client_is_answered_while_nothing_happens() {
    let node = Node::start().await;
    node.runtime.streams_at(&streaming_server(|session| cat(session).boxed()).await);
    let mut socket = node.websocket(EXEC, "v5.channel.k8s.io").await.unwrap();
    socket.send(Message::Ping("there?".into())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong("there?".into()));
}

#[tokio::test]
async fn attach_with_a_terminal_passes_sizes_on() {
    async fn shell(mut session: Session) {
        let mut streams = streams(&mut session, &["error", "stdin", "resize", "stdout"]).await;
        let Event::Data(size) = streams[2].reader.next().await else { panic!("no size") };
        streams[3].writer.data(size).await.unwrap();
        let status = r#"{"status":"Failure","reason":"NonZeroExitCode"}"#;
        // In pieces, as large ones come.
        streams[0].writer.data(status[..20].to_owned().into()).await.unwrap();
        streams[0].writer.data(status[20..].to_owned().into()).await.unwrap();
    }
    let node = Node::start().await;
    node.runtime.streams_at(&streaming_server(|session| shell(session).boxed()).await);
    let path = "/attach/default/web/app?stdin=true&stdout=true&stderr=true&tty=true";
    let mut socket = node.websocket(path, "v4.channel.k8s.io").await.unwrap();
    // Closing channels is unknown to the fourth version; it must do nothing.
    socket.send(binary(b"\xff\x00")).await.unwrap();
    socket.send(binary(b"\x04{\"Width\":80,\"Height\":24}")).await.unwrap();
    let (channels, _) = read(&mut socket).await;
    let expected: [(u8, String); 2] = [
        (1, r#"{"Width":80,"Height":24}"#.into()),
        (3, r#"{"status":"Failure","reason":"NonZeroExitCode"}"#.into()),
    ];
    assert_eq!(channels, expected);
}

#[tokio::test]
async fn client_of_the_first_version_reads_of_failures_alone_in_words() {
    for (status, expected) in [
        (r#"{"status":"Success"}"#, Vec::new()),
        (r#"{"status":"Failure","message":"it broke"}"#, vec![(3, "it broke".to_owned())]),
    ] {
        let node = Node::start().await;
        let server = streaming_server(move |mut session| {
            async move {
                let streams = streams(&mut session, &["error", "stdout"]).await;
                streams[0].writer.data(status.to_owned().into()).await.unwrap();
            }
            .boxed()
        });
        node.runtime.streams_at(&server.await);
        let mut socket =
            node.websocket("/attach/default/web/app?stdout=true", "channel.k8s.io").await.unwrap();
        assert_eq!(read(&mut socket).await.0, expected);
    }
}

#[tokio::test]
async fn stream_that_the_runtime_breaks_off_ends_with_a_failure() {
    let node = Node::start().await;
    node.runtime.streams_at(&streaming_server(|session| async move { drop(session) }.boxed()).await);
    let mut socket = node.websocket(EXEC, "v5.channel.k8s.io").await.unwrap();
    let (channels, _) = read(&mut socket).await;
    let status: serde_json::Value = serde_json::from_str(&channels[0].1).unwrap();
    assert_eq!((channels[0].0, status["status"].as_str()), (3, Some("Failure")));
}

#[tokio::test]
async fn client_that_goes_ends_the_runtimes_stream() {
    let (sender, mut ended) = mpsc::channel(1);
    let serve = move |session: Session| {
        let sender = sender.clone();
        async move {
            cat_until_gone(session).await;
            sender.send(()).await.unwrap();
        }
        .boxed()
    };
    async fn cat_until_gone(mut session: Session) {
        let streams = streams(&mut session, &["error", "stdin", "stdout", "stderr"]).await;
        while session.accept().await.is_some() {}
        drop(streams);
    }
    let node = Node::start().await;
    node.runtime.streams_at(&streaming_server(serve).await);
    let socket = node.websocket(EXEC, "v5.channel.k8s.io").await.unwrap();
    drop(socket);
    ended.recv().await.unwrap();
}

#[tokio::test]
async fn shutdown_ends_a_stream() {
    let node = Node::start().await;
    node.runtime.streams_at(&streaming_server(|session| cat(session).boxed()).await);
    let mut socket = node.websocket(EXEC, "v5.channel.k8s.io").await.unwrap();
    socket.send(binary(b"\x00x")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), binary(b"\x01x"));
    node.shutdown.send_replace(true);
    node.serving.await.unwrap();
    assert!(!matches!(socket.next().await, Some(Ok(Message::Binary(_)))));
}

#[tokio::test]
async fn request_that_cannot_be_served_is_refused_before_the_switch() {
    let node = Node::start().await;
    let (status, text) = node.websocket(EXEC, "v9.channel.k8s.io").await.unwrap_err();
    assert_eq!((status, text.contains("v9.channel.k8s.io")), (400, true), "{text}");
    // No streaming server is there.
    let (status, text) = node.websocket(EXEC, "v5.channel.k8s.io").await.unwrap_err();
    assert_eq!((status, text.contains("streaming server")), (500, true), "{text}");
    node.runtime.exit(&node.container, 0);
    let (status, text) = node.websocket(EXEC, "v5.channel.k8s.io").await.unwrap_err();
    assert_eq!((status, text.contains("not running")), (400, true), "{text}");
}

#[tokio::test]
async fn spdy_client_is_let_through_to_the_runtime() {
    let node = Node::start().await;
    node.runtime.streams_at(&streaming_server(|session| cat(session).boxed()).await);
    let connection = node.spdy(EXEC, "v4.channel.k8s.io").await;
    let mut session = Session::start(connection, Role::Client, &CancellationToken::new());
    let opened = Arc::new(Mutex::new(Vec::new()));
    for kind in ["error", "stdin", "stdout", "stderr"] {
        let stream = session.open(vec![("streamtype".into(), kind.into())]).await.unwrap();
        opened.lock().push(stream);
    }
    let mut streams = std::mem::take(&mut *opened.lock());
    streams[1].writer.data("hi".into()).await.unwrap();
    streams[1].writer.finish().await.unwrap();
    assert_eq!(streams[2].reader.next().await, Event::Data("hi".into()));
    assert_eq!(streams[0].reader.next().await, Event::Data(SUCCESS.into()));
}
