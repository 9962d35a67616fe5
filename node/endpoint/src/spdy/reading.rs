//! The reading half of a session: what each frame of the peer's does to the streams.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use super::Headers;
use super::frame::{CANCEL, Decoder, Frame, REFUSED_STREAM};
use super::header::Inflater;
use super::session::{Command, Opened, Role, STREAMS, Table, register};
use crate::EndpointError;

/// Bytes read from the connection at once, and so the largest piece handed to a stream.
const READ: usize = 16 << 10;
/// A stream that takes nothing for so long while its queue is full is given up, as it holds up all others.
const STALL: Duration = Duration::from_secs(300);

/// What reading needs to know.
pub(super) struct Reading {
    table: Table,
    /// Weak, so that the writing task sees when nobody else can send any more.
    commands: mpsc::WeakSender<Command>,
    accepting: mpsc::Sender<Opened>,
    inflater: Inflater,
    role: Role,
    /// Newest stream of the peer's.
    newest: u32,
}

impl Reading {
    pub(super) fn new(
        table: Table,
        commands: mpsc::WeakSender<Command>,
        accepting: mpsc::Sender<Opened>,
        role: Role,
    ) -> Self {
        Self { table, commands, accepting, inflater: Inflater::new(), role, newest: 0 }
    }

    /// Reads until the peer's end of the session.
    pub(super) async fn run(mut self, input: impl AsyncRead + Unpin) -> Result<(), EndpointError> {
        let mut input = input;
        let mut decoder = Decoder::default();
        let mut buffer = BytesMut::new();
        loop {
            while let Some(frame) = decoder.next(&mut buffer)? {
                if frame == Frame::GoAway {
                    return Ok(());
                }
                self.take(frame).await?;
            }
            buffer.reserve(READ);
            if (&mut input).take(READ as u64).read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> Result<(), EndpointError> {
        match frame {
            Frame::SynStream { id, fin, block } => {
                let headers = self.inflater.block(&block)?;
                self.opened(id, fin, headers)?;
            }
            Frame::SynReply { id, fin, block } | Frame::Headers { id, fin, block } => {
                // Read for the sake of the blocks that follow.
                self.inflater.block(&block)?;
                if fin {
                    self.ended(id);
                }
            }
            Frame::Reset { id, .. } => self.reset(id),
            Frame::Ping(id) => self.answer(Frame::Ping(id)),
            Frame::Data { id, fin, bytes } => {
                self.data(id, bytes).await;
                if fin {
                    self.ended(id);
                }
            }
            Frame::GoAway | Frame::Other => {}
        }
        Ok(())
    }

    /// Hands bytes to their stream. Those for a stream that nobody reads any more are dropped.
    async fn data(&self, id: u32, bytes: Bytes) {
        let pieces = self.table.lock().get(&id).and_then(|entry| entry.pieces.clone());
        let Some(pieces) = pieces.filter(|_| !bytes.is_empty()) else { return };
        if tokio::time::timeout(STALL, pieces.send(bytes)).await.is_err() {
            self.reset(id);
            self.answer(Frame::Reset { id, status: CANCEL });
        }
    }

    fn opened(&mut self, id: u32, fin: bool, headers: Headers) -> Result<(), EndpointError> {
        let odd = self.role == Role::Server;
        if id <= self.newest || (id % 2 == 1) != odd {
            return Err(EndpointError::Spdy("a stream's number is out of order"));
        }
        self.newest = id;
        let Some(commands) = self.commands.upgrade() else { return Ok(()) };
        if self.table.lock().len() >= STREAMS {
            self.answer(Frame::Reset { id, status: REFUSED_STREAM });
            return Ok(());
        }
        let stream = register(&self.table, id, &commands);
        if fin {
            self.ended(id);
        }
        if self.accepting.try_send(Opened { headers, stream }).is_err() {
            self.answer(Frame::Reset { id, status: REFUSED_STREAM });
        }
        Ok(())
    }

    fn reset(&self, id: u32) {
        if let Some(entry) = self.table.lock().get_mut(&id) {
            // In this order: whoever sees the end of the pieces looks whether it was a reset.
            entry.reset.cancel();
            entry.pieces = None;
        }
    }

    fn ended(&self, id: u32) {
        if let Some(entry) = self.table.lock().get_mut(&id) {
            entry.pieces = None;
        }
    }

    /// Writes without waiting: reading must go on while the peer is slow to read. What finds no room is left out.
    fn answer(&self, frame: Frame) {
        if let Some(commands) = self.commands.upgrade() {
            let _ = commands.try_send(Command::Send(frame));
        }
    }
}
