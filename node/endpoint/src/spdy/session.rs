//! A session: many streams over one connection, in either role.
//!
//! One task reads ([`super::reading`]), one writes. The reader hands each stream's bytes to it through a bounded
//! queue; as the protocol's users have no flow control, a stream that is not read holds up the others when its queue
//! is full. The session ends when the peer closes it, breaks the protocol, or when the session and all its streams
//! have been dropped.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Headers;
use super::frame::{CANCEL, Frame, encode};
use super::header::Deflater;
use super::reading::Reading;
use crate::EndpointError;

/// Most streams at a time.
pub(super) const STREAMS: usize = 512;
/// Pieces that wait for a stream's reader.
const PIECES: usize = 16;
/// Frames that wait to be written.
const FRAMES: usize = 32;
/// Bytes written to the connection at once, about.
const WRITE: usize = 64 << 10;

/// Which side of the session this is: a client's streams have odd numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// What is to be written. Headers are compressed by the writer, in the order in which they go out.
pub(super) enum Command {
    Open { id: u32, headers: Headers },
    Reply { id: u32 },
    Send(Frame),
}

/// What the reading task knows of a stream.
pub(super) struct Entry {
    /// Gone once the peer has said its last.
    pub(super) pieces: Option<mpsc::Sender<Bytes>>,
    pub(super) reset: CancellationToken,
}

/// The streams that are in use here. The peer may know of others.
pub(super) type Table = Arc<Mutex<HashMap<u32, Entry>>>;

/// One end of a session.
pub(crate) struct Session {
    table: Table,
    commands: mpsc::Sender<Command>,
    accepted: mpsc::Receiver<Opened>,
    cancel: CancellationToken,
    next: u32,
}

/// A stream that the peer has opened.
pub(crate) struct Opened {
    pub(crate) headers: Headers,
    pub(crate) stream: Stream,
}

/// Both directions of a stream.
pub(crate) struct Stream {
    pub(crate) reader: StreamReader,
    pub(crate) writer: StreamWriter,
}

/// Takes the stream out of the table when neither direction is in use any more.
struct Registration {
    id: u32,
    table: Table,
    reset: CancellationToken,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.table.lock().remove(&self.id);
    }
}

/// What comes in on a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Data(Bytes),
    /// The peer has said its last, or the session is over.
    End,
    /// The peer does not want the stream any more.
    Reset,
}

/// The incoming direction of a stream.
pub(crate) struct StreamReader {
    pieces: mpsc::Receiver<Bytes>,
    registration: Arc<Registration>,
}

/// The outgoing direction of a stream.
pub(crate) struct StreamWriter {
    commands: mpsc::Sender<Command>,
    registration: Arc<Registration>,
}

impl Session {
    /// Begins a session over a connection. `cancel` ends it.
    pub(crate) fn start<C>(connection: C, role: Role, cancel: &CancellationToken) -> Self
    where
        C: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (input, output) = tokio::io::split(connection);
        let (commands, to_write) = mpsc::channel(FRAMES);
        let (accepting, accepted) = mpsc::channel(STREAMS);
        let cancel = cancel.child_token();
        let table = Table::default();
        let reading = Reading::new(Arc::clone(&table), commands.downgrade(), accepting, role);
        let (known, token) = (Arc::clone(&table), cancel.clone());
        tokio::spawn(async move {
            if let Some(Err(error)) = token.run_until_cancelled(reading.run(input)).await {
                tracing::debug!(%error, "a SPDY session broke");
            }
            // First this, then the table: whoever opens a stream looks in the other order.
            token.cancel();
            known.lock().values_mut().for_each(|entry| entry.pieces = None);
        });
        let token = cancel.clone();
        tokio::spawn(async move {
            if let Some(Err(error)) = token.run_until_cancelled(write(output, to_write)).await {
                // What the peer said before it went is still to be read; the reader finds its end by itself.
                tracing::debug!(%error, "writing to a SPDY session failed");
                return;
            }
            token.cancel();
        });
        Self { table, commands, accepted, cancel, next: if role == Role::Client { 1 } else { 2 } }
    }

    /// The next stream that the peer opens; `None` at the session's end.
    pub(crate) async fn accept(&mut self) -> Option<Opened> {
        self.accepted.recv().await
    }

    /// Opens a stream. The peer's answer is not waited for.
    ///
    /// # Errors
    /// [`EndpointError::Closed`] if the session is over.
    pub(crate) async fn open(&mut self, headers: Headers) -> Result<Stream, EndpointError> {
        let id = self.next;
        self.next += 2;
        let stream = register(&self.table, id, &self.commands);
        if self.cancel.is_cancelled() {
            return Err(EndpointError::Closed);
        }
        self.commands.send(Command::Open { id, headers }).await.map_err(|_| EndpointError::Closed)?;
        Ok(stream)
    }
}

/// Puts a stream into the table.
pub(super) fn register(table: &Table, id: u32, commands: &mpsc::Sender<Command>) -> Stream {
    let (sender, pieces) = mpsc::channel(PIECES);
    let reset = CancellationToken::new();
    table.lock().insert(id, Entry { pieces: Some(sender), reset: reset.clone() });
    let registration = Arc::new(Registration { id, table: Arc::clone(table), reset });
    Stream {
        reader: StreamReader { pieces, registration: Arc::clone(&registration) },
        writer: StreamWriter { commands: commands.clone(), registration },
    }
}

impl StreamReader {
    /// What comes next. Pieces that came before the end or a reset are given before it: the runtime's server resets
    /// its streams right after the last thing it has to say.
    pub(crate) async fn next(&mut self) -> Event {
        tokio::select! {
            biased;
            piece = self.pieces.recv() => match piece {
                Some(bytes) => Event::Data(bytes),
                None if self.registration.reset.is_cancelled() => Event::Reset,
                None => Event::End,
            },
            () = self.registration.reset.cancelled() => Event::Reset,
        }
    }

    /// A piece that is there already.
    pub(crate) fn waiting(&mut self) -> Option<Bytes> {
        self.pieces.try_recv().ok()
    }
}

impl StreamWriter {
    /// Answers that the stream is taken.
    ///
    /// # Errors
    /// [`EndpointError::Closed`] if session or stream is over; so with the others.
    pub(crate) async fn reply(&self) -> Result<(), EndpointError> {
        self.command(Command::Reply { id: self.registration.id }).await
    }

    /// Sends bytes, of less than 16 MiB.
    pub(crate) async fn data(&self, bytes: Bytes) -> Result<(), EndpointError> {
        self.command(Command::Send(Frame::Data { id: self.registration.id, fin: false, bytes })).await
    }

    /// Says that nothing more will come.
    pub(crate) async fn finish(&self) -> Result<(), EndpointError> {
        let frame = Frame::Data { id: self.registration.id, fin: true, bytes: Bytes::new() };
        self.command(Command::Send(frame)).await
    }

    /// Gives the stream up in both directions.
    pub(crate) async fn reset(&self) -> Result<(), EndpointError> {
        self.command(Command::Send(Frame::Reset { id: self.registration.id, status: CANCEL })).await
    }

    /// Returns when the peer has reset the stream, whatever is still to be read from it.
    pub(crate) async fn given_up(&self) {
        self.registration.reset.cancelled().await;
    }

    async fn command(&self, command: Command) -> Result<(), EndpointError> {
        tokio::select! {
            biased;
            () = self.registration.reset.cancelled() => Err(EndpointError::Closed),
            sent = self.commands.send(command) => sent.map_err(|_| EndpointError::Closed),
        }
    }
}

async fn write(
    mut output: impl AsyncWrite + Unpin,
    mut commands: mpsc::Receiver<Command>,
) -> Result<(), EndpointError> {
    let mut deflater = Deflater::new();
    let mut buffer = BytesMut::new();
    while let Some(command) = commands.recv().await {
        encode(&frame(command, &mut deflater), &mut buffer);
        while buffer.len() < WRITE
            && let Ok(command) = commands.try_recv()
        {
            encode(&frame(command, &mut deflater), &mut buffer);
        }
        output.write_all(&buffer).await?;
        output.flush().await?;
        buffer.clear();
    }
    encode(&Frame::GoAway, &mut buffer);
    output.write_all(&buffer).await?;
    output.shutdown().await?;
    Ok(())
}

fn frame(command: Command, deflater: &mut Deflater) -> Frame {
    match command {
        Command::Open { id, headers } => {
            Frame::SynStream { id, fin: false, block: deflater.block(&headers).into() }
        }
        Command::Reply { id } => {
            Frame::SynReply { id, fin: false, block: deflater.block(&Vec::new()).into() }
        }
        Command::Send(frame) => frame,
    }
}
