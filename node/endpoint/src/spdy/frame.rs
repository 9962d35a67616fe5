//! Frames of SPDY/3.1 (protocol, draft 3.1, section 2.2) to and from bytes. Pure.
//!
//! A control frame is taken whole; a data frame's bytes are handed on as they come, so that its size does not matter.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::EndpointError;

/// Largest control frame taken.
const LARGEST: usize = 64 << 10;
const VERSION: u16 = 3;
const FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// Reason of a reset: the stream cannot be taken.
pub(super) const REFUSED_STREAM: u32 = 3;
/// Reason of a reset: the stream is not wanted any more.
pub(super) const CANCEL: u32 = 5;

/// A frame, as far as it matters here. Blocks of headers are still compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    SynStream {
        id: u32,
        fin: bool,
        block: Bytes,
    },
    SynReply {
        id: u32,
        fin: bool,
        block: Bytes,
    },
    Reset {
        id: u32,
        status: u32,
    },
    Ping(u32),
    GoAway,
    Headers {
        id: u32,
        fin: bool,
        block: Bytes,
    },
    Data {
        id: u32,
        fin: bool,
        bytes: Bytes,
    },
    /// Settings, window updates, and what later versions may have.
    Other,
}

/// Cuts bytes into frames.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The data frame whose bytes are coming: stream, last frame of it, bytes left.
    data: Option<(u32, bool, usize)>,
}

impl Decoder {
    /// Takes the next frame from the front of `buffer`. `None` if more bytes are needed.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, EndpointError> {
        let (id, fin, left) = match self.data {
            Some(data) => data,
            None => {
                let Some(header) = buffer.first_chunk::<8>().copied() else { return Ok(None) };
                let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
                if header[0] & 0x80 != 0 {
                    return control(header, length, buffer);
                }
                buffer.advance(8);
                let id = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
                *self.data.insert((id, header[4] & FIN != 0, length))
            }
        };
        if left > 0 && buffer.is_empty() {
            return Ok(None);
        }
        let bytes = buffer.split_to(left.min(buffer.len())).freeze();
        let left = left - bytes.len();
        self.data = (left > 0).then_some((id, fin, left));
        Ok(Some(Frame::Data { id, fin: fin && left == 0, bytes }))
    }
}

fn control(header: [u8; 8], length: usize, buffer: &mut BytesMut) -> Result<Option<Frame>, EndpointError> {
    if u16::from_be_bytes([header[0] & 0x7f, header[1]]) != VERSION {
        return Err(EndpointError::Spdy("not version 3"));
    }
    if length > LARGEST {
        return Err(EndpointError::Spdy("a control frame is too large"));
    }
    if buffer.len() < 8 + length {
        return Ok(None);
    }
    buffer.advance(8);
    let mut payload = buffer.split_to(length).freeze();
    let short = |_| EndpointError::Spdy("a control frame is too short");
    let fin = header[4] & FIN != 0;
    Ok(Some(match u16::from_be_bytes([header[2], header[3]]) {
        SYN_STREAM => {
            let id = payload.try_get_u32().map_err(short)? & 0x7fff_ffff;
            // The associated stream, priority and slot mean nothing here.
            let _ = payload.try_get_u32().map_err(short)?;
            let _ = payload.try_get_u16().map_err(short)?;
            Frame::SynStream { id, fin, block: payload }
        }
        SYN_REPLY => {
            Frame::SynReply { id: payload.try_get_u32().map_err(short)? & 0x7fff_ffff, fin, block: payload }
        }
        RST_STREAM => {
            let id = payload.try_get_u32().map_err(short)? & 0x7fff_ffff;
            Frame::Reset { id, status: payload.try_get_u32().map_err(short)? }
        }
        PING => Frame::Ping(payload.try_get_u32().map_err(short)?),
        GOAWAY => Frame::GoAway,
        HEADERS => {
            Frame::Headers { id: payload.try_get_u32().map_err(short)? & 0x7fff_ffff, fin, block: payload }
        }
        _ => Frame::Other,
    }))
}

/// Writes a frame. Its payload must be less than 16 MiB.
pub(super) fn encode(frame: &Frame, out: &mut BytesMut) {
    match frame {
        Frame::SynStream { id, fin, block } => {
            head(SYN_STREAM, *fin, 10 + block.len(), out);
            out.put_u32(*id);
            // No associated stream, highest priority, no slot.
            out.put_slice(&[0; 6]);
            out.put_slice(block);
        }
        Frame::SynReply { id, fin, block } => {
            head(SYN_REPLY, *fin, 4 + block.len(), out);
            out.put_u32(*id);
            out.put_slice(block);
        }
        Frame::Headers { id, fin, block } => {
            head(HEADERS, *fin, 4 + block.len(), out);
            out.put_u32(*id);
            out.put_slice(block);
        }
        Frame::Reset { id, status } => {
            head(RST_STREAM, false, 8, out);
            out.put_u32(*id);
            out.put_u32(*status);
        }
        Frame::Ping(id) => {
            head(PING, false, 4, out);
            out.put_u32(*id);
        }
        Frame::GoAway => {
            head(GOAWAY, false, 8, out);
            // No stream was taken that is not served, and there is no error.
            out.put_u64(0);
        }
        Frame::Data { id, fin, bytes } => {
            out.put_u32(*id);
            out.put_u8(u8::from(*fin));
            length(bytes.len(), out);
            out.put_slice(bytes);
        }
        Frame::Other => {}
    }
}

fn head(kind: u16, fin: bool, payload: usize, out: &mut BytesMut) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    out.put_u8(u8::from(fin));
    length(payload, out);
}

fn length(length: usize, out: &mut BytesMut) {
    let length = u32::try_from(length).ok().filter(|length| *length < 1 << 24);
    out.put_slice(&length.expect("frames are written in pieces below 16 MiB").to_be_bytes()[1..]);
}
