//! Compression of long answers, at the fastest level, as upstream does it.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Compresses a text that is complete.
pub(super) fn whole(text: &[u8]) -> Bytes {
    let mut pieces = Pieces::default();
    let mut whole = pieces.push(text).to_vec();
    whole.extend_from_slice(&pieces.finish());
    whole.into()
}

/// Compresses a text that comes in pieces.
pub(super) struct Pieces(GzEncoder<Vec<u8>>);

impl Default for Pieces {
    fn default() -> Self {
        Self(GzEncoder::new(Vec::new(), Compression::fast()))
    }
}

impl Pieces {
    /// Takes a piece; returns what can be sent by now, which may be nothing.
    pub(super) fn push(&mut self, piece: &[u8]) -> Bytes {
        self.0.write_all(piece).expect("writing to memory does not fail");
        std::mem::take(self.0.get_mut()).into()
    }

    /// Returns the rest.
    pub(super) fn finish(self) -> Bytes {
        self.0.finish().expect("writing to memory does not fail").into()
    }
}
