//! One forwarded connection: both directions of a pair of streams to and from the pod's socket.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::dial::Dialer;
use crate::spdy::{Event, Stream, StreamReader, StreamWriter};

/// Bytes sent at once.
const PIECE: usize = 16 << 10;

/// Connects to the port and copies until both sides have ended, or one has broken off. What goes wrong on the pod's
/// side is told on the error stream; its end without a word means success.
pub(super) async fn run(dialer: &Dialer, port: u16, data: Stream, error: StreamWriter) {
    if let Err(message) = forward(dialer, port, data).await {
        let _ = error.data(message.into()).await;
    }
    let _ = error.finish().await;
}

async fn forward(dialer: &Dialer, port: u16, data: Stream) -> Result<(), String> {
    let Stream { reader, writer } = data;
    let connection = match dialer.dial(port).await {
        Ok(connection) => connection,
        Err(error) => {
            let _ = writer.finish().await;
            return Err(format!("failed to connect to localhost:{port} inside the pod: {error}"));
        }
    };
    let (input, output) = connection.into_split();
    let inward = inward(reader, output);
    let outward = outward(input, &writer);
    let broken = |error| format!("the connection to port {port} inside the pod broke: {error}");
    // Each direction ends by itself, but a pod's side that breaks ends the client's; a client that resets ends both.
    let both = async {
        tokio::pin!(inward, outward);
        tokio::select! {
            () = &mut inward => outward.await,
            end = &mut outward => {
                if end.is_ok() {
                    inward.await;
                }
                end
            }
        }
    };
    let ended = tokio::select! {
        ended = both => ended,
        () = writer.given_up() => return Ok(()),
    };
    if ended.is_err() {
        let _ = writer.finish().await;
    }
    ended.map_err(broken)
}

async fn inward(mut reader: StreamReader, mut output: OwnedWriteHalf) {
    while let Event::Data(bytes) = reader.next().await {
        // A pod that does not read any more may still write: its direction tells what there is to tell.
        if output.write_all(&bytes).await.is_err() {
            return;
        }
    }
    // After a reset the whole connection ends.
    let _ = output.shutdown().await;
}

async fn outward(mut input: OwnedReadHalf, writer: &StreamWriter) -> Result<(), std::io::Error> {
    loop {
        let mut bytes = BytesMut::with_capacity(PIECE);
        if input.read_buf(&mut bytes).await? == 0 {
            let _ = writer.finish().await;
            return Ok(());
        }
        if writer.data(bytes.freeze()).await.is_err() {
            // The client has gone; there is nobody to tell.
            return Ok(());
        }
    }
}
