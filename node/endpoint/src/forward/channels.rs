//! Port-forward in the channels of a WebSocket (`v4.channel.k8s.io`): for the n-th port of the request channel 2n
//! carries data and 2n + 1 an error's text. The first message on each is the port, little-endian. Each port is
//! one connection, made at once.
//!
//! The protocol cannot say that one direction of a channel is at its end; the session ends when all pods' sides have.

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::SplitStream;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::dial::Dialer;
use crate::refusal::Refusal;
use crate::websocket::{self, Socket};

/// Most ports of a session: two channels each, numbered in one byte.
const MOST: usize = 127;
/// Messages that wait for a slow side.
const MESSAGES: usize = 16;
const PIECE: usize = 16 << 10;

/// Whether channels can carry these ports.
pub(super) fn check(ports: &[u16]) -> Result<(), Refusal> {
    if ports.is_empty() || ports.len() > MOST {
        return Err(Refusal::bad_request(format!("between 1 and {MOST} ports must be given in the query")));
    }
    Ok(())
}

/// Serves the session to its end.
pub(super) async fn run(socket: Socket, ports: Vec<u16>, dialer: Dialer) {
    let (mut sink, mut source) = socket.split();
    let (sender, mut messages) = mpsc::channel::<Bytes>(MESSAGES);
    let mut inputs = Vec::new();
    let mut connections = tokio::task::JoinSet::new();
    for (index, port) in (0_u8..).zip(ports) {
        let (input, waiting) = mpsc::channel(MESSAGES);
        inputs.push(input);
        connections.spawn(connection(dialer.clone(), index, port, waiting, sender.clone()));
    }
    drop(sender);
    let outward = async {
        // Ends when the last connection has.
        while let Some(message) = messages.recv().await {
            if sink.send(Message::Binary(message)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = outward => {}
        () = inward(&mut source, inputs) => {}
    }
    drop(connections);
    websocket::close((sink, source)).await;
}

/// Hands the client's messages to their connections. Returns when the client is gone.
async fn inward(source: &mut SplitStream<Socket>, inputs: Vec<mpsc::Sender<Bytes>>) {
    while let Some(Ok(message)) = source.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Close(_) => return,
            _ => continue,
        };
        // Clients have nothing to say on channels of errors.
        let Some(channel) = bytes.first().filter(|channel| *channel % 2 == 0) else { continue };
        if let Some(input) = inputs.get(usize::from(channel / 2)) {
            // A connection that is over takes nothing more.
            let _ = input.send(bytes.slice(1..)).await;
        }
    }
}

async fn connection(
    dialer: Dialer,
    index: u8,
    port: u16,
    waiting: mpsc::Receiver<Bytes>,
    out: mpsc::Sender<Bytes>,
) {
    let (data, error) = (2 * index, 2 * index + 1);
    for channel in [data, error] {
        if out.send(message(channel, &port.to_le_bytes())).await.is_err() {
            return;
        }
    }
    let result = match dialer.dial(port).await {
        Ok(connection) => {
            let (input, output) = connection.into_split();
            tokio::select! {
                result = outward(input, data, &out) => result,
                () = write(waiting, output) => Ok(()),
            }
        }
        Err(error) => Err(error),
    };
    if let Err(failure) = result {
        let text = format!("failed to forward to localhost:{port} inside the pod: {failure}");
        let _ = out.send(message(error, text.as_bytes())).await;
    }
}

/// Writes what comes to the pod. Goes on waiting after a failure, as the pod may still have something to say.
async fn write(mut waiting: mpsc::Receiver<Bytes>, mut output: impl AsyncWriteExt + Unpin) {
    while let Some(bytes) = waiting.recv().await {
        if output.write_all(&bytes).await.is_err() {
            waiting.close();
            return std::future::pending().await;
        }
    }
}

async fn outward(mut input: OwnedReadHalf, channel: u8, out: &mpsc::Sender<Bytes>) -> std::io::Result<()> {
    let mut bytes = BytesMut::with_capacity(PIECE);
    while input.read_buf(&mut bytes).await? > 0 {
        if out.send(message(channel, &bytes)).await.is_err() {
            return Ok(());
        }
        bytes.clear();
    }
    Ok(())
}

fn message(channel: u8, bytes: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(1 + bytes.len());
    message.put_u8(channel);
    message.put_slice(bytes);
    message.freeze()
}
