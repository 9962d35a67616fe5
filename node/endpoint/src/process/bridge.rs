//! One exec or attach session: channels of a client's WebSocket to and from streams of the runtime's SPDY session.
//!
//! A message's first byte is its channel: 0 standard input, 1 output, 2 error output, 3 the end's status, 4 the
//! terminal's size; with the fifth version of the protocol also 255, which closes the channel that follows.
//!
//! States: running -> (the process ends: its status comes) draining -> closed; running -> (the client goes) closed.

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde_json::json;
use skep_runtime::Streams;
use tokio_tungstenite::tungstenite::Message;

use crate::EndpointError;
use crate::spdy::{Event, Session, StreamReader, StreamWriter};
use crate::websocket::{self, Socket};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Most bytes of a status.
const LARGEST_STATUS: usize = 64 << 10;

/// The runtime's streams of one process.
struct Process {
    stdin: Option<StreamWriter>,
    resize: Option<StreamWriter>,
    stdout: Option<StreamReader>,
    stderr: Option<StreamReader>,
    status: StreamReader,
    /// Directions that are not used; the streams live as long as they are held.
    _unused: Vec<(Option<StreamReader>, Option<StreamWriter>)>,
}

/// Carries the session to its end, whichever side ends it. `closes_stdin` is of clients that can say so, `in_words` of those
/// that read no status but a sentence, if there was a failure.
pub(super) async fn run(
    socket: Socket,
    session: Session,
    streams: Streams,
    closes_stdin: bool,
    in_words: bool,
) {
    let (mut sink, mut source) = socket.split();
    let status = match open(session, streams).await {
        Ok(Process { stdin, resize, stdout, stderr, status, _unused }) => tokio::select! {
            status = outward(&mut sink, stdout, stderr, status) => status,
            // The client is gone; letting go of the runtime's streams ends them.
            () = inward(&mut source, stdin, resize, closes_stdin) => None,
        },
        Err(error) => Some(failure(&error.to_string())),
    };
    let status = status.and_then(|status| if in_words { sentence(&status) } else { Some(status) });
    if let Some(status) = status {
        // A client that is gone by now is found out by closing.
        let _ = send(&mut sink, STATUS, &status).await;
    }
    websocket::close((sink, source)).await;
}

/// The failure that a status tells of.
fn sentence(status: &[u8]) -> Option<Bytes> {
    let status: serde_json::Value = serde_json::from_slice(status).ok()?;
    let failed = status["status"] != "Success";
    failed.then(|| status["message"].as_str().unwrap_or("the process failed").to_owned().into())
}

async fn open(mut session: Session, streams: Streams) -> Result<Process, EndpointError> {
    let mut unused = Vec::new();
    let mut stream = async |kind: &str| session.open(vec![("streamtype".to_owned(), kind.to_owned())]).await;
    // The runtime waits for exactly the streams that were asked for.
    let error = stream("error").await?;
    let (status, error) = (error.reader, error.writer);
    unused.push((None, Some(error)));
    let mut inputs = [None, None];
    for (slot, kind, wanted) in [(0, "stdin", streams.stdin), (1, "resize", streams.tty)] {
        if wanted {
            let stream = stream(kind).await?;
            inputs[slot] = Some(stream.writer);
            unused.push((Some(stream.reader), None));
        }
    }
    let mut outputs = [None, None];
    for (slot, kind, wanted) in [(0, "stdout", streams.stdout), (1, "stderr", streams.stderr)] {
        if wanted {
            let stream = stream(kind).await?;
            outputs[slot] = Some(stream.reader);
            unused.push((None, Some(stream.writer)));
        }
    }
    let [stdin, resize] = inputs;
    let [stdout, stderr] = outputs;
    Ok(Process { stdin, resize, stdout, stderr, status, _unused: unused })
}

/// From the client to the process. Returns when the client is gone.
async fn inward(
    source: &mut SplitStream<Socket>,
    mut stdin: Option<StreamWriter>,
    resize: Option<StreamWriter>,
    closes_stdin: bool,
) {
    while let Some(Ok(message)) = source.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        let Some((&channel, payload)) = bytes.split_first() else { continue };
        // A process that has ended or closed its input is told by its status, not by a failure here.
        let _ = match (channel, &stdin, &resize) {
            (STDIN, Some(stdin), _) if !payload.is_empty() => stdin.data(bytes.slice(1..)).await,
            (RESIZE, _, Some(resize)) if !payload.is_empty() => resize.data(bytes.slice(1..)).await,
            (CLOSE, Some(open), _) if closes_stdin && payload.first() == Some(&STDIN) => {
                let finished = open.finish().await;
                stdin = None;
                finished
            }
            _ => Ok(()),
        };
    }
}

/// From the process to the client. Returns the status at the process's end, `None` if the client is gone.
async fn outward(
    sink: &mut SplitSink<Socket, Message>,
    mut stdout: Option<StreamReader>,
    mut stderr: Option<StreamReader>,
    mut status: StreamReader,
) -> Option<Bytes> {
    let mut text = BytesMut::new();
    loop {
        let (channel, event) = tokio::select! {
            event = next(&mut stdout) => (STDOUT, event),
            event = next(&mut stderr) => (STDERR, event),
            event = status.next() => (STATUS, event),
        };
        match (channel, event) {
            (STATUS, Event::Data(bytes)) => {
                text.put_slice(&bytes[..bytes.len().min(LARGEST_STATUS - text.len())]);
                // The runtime does not close this stream before the connection: a whole document is the end.
                if serde_json::from_slice::<serde_json::Value>(&text).is_ok() {
                    break;
                }
            }
            (STATUS, Event::End | Event::Reset) => break,
            (channel, Event::Data(bytes)) => send(sink, channel, &bytes).await?,
            (STDOUT, _) => stdout = None,
            (_, _) => stderr = None,
        }
    }
    // What the process wrote came before its status, so it is here.
    for (channel, reader) in [(STDOUT, &mut stdout), (STDERR, &mut stderr)] {
        while let Some(bytes) = reader.as_mut().and_then(StreamReader::waiting) {
            send(sink, channel, &bytes).await?;
        }
    }
    Some(if text.is_empty() {
        failure("the runtime ended the stream without a status")
    } else {
        text.freeze()
    })
}

async fn next(reader: &mut Option<StreamReader>) -> Event {
    match reader {
        Some(reader) => reader.next().await,
        None => std::future::pending().await,
    }
}

async fn send(sink: &mut SplitSink<Socket, Message>, channel: u8, bytes: &[u8]) -> Option<()> {
    let mut message = BytesMut::with_capacity(1 + bytes.len());
    message.put_u8(channel);
    message.put_slice(bytes);
    sink.send(Message::Binary(message.freeze())).await.ok()
}

fn failure(message: &str) -> Bytes {
    let status = json!({
        "metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500,
    });
    status.to_string().into()
}
