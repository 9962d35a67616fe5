//! Blocks of headers, compressed with one zlib context per direction of a connection.
//!
//! Every block has to go through [`Inflater::block`] in the order of the frames, wanted or not, for the context to
//! stay right.

use bytes::{Buf, BufMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Headers, dictionary};
use crate::EndpointError;

/// Most headers in a block.
const MOST: u32 = 64;
/// Most bytes of a block when it is not compressed.
const LARGEST: usize = 64 << 10;

/// Reads blocks.
pub(super) struct Inflater(Decompress);

impl Inflater {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// Decompresses and reads the next block.
    pub(super) fn block(&mut self, compressed: &[u8]) -> Result<Headers, EndpointError> {
        parse(&self.inflate(compressed)?)
    }

    fn inflate(&mut self, compressed: &[u8]) -> Result<Vec<u8>, EndpointError> {
        let broken = EndpointError::Spdy("headers cannot be decompressed");
        let begin = self.0.total_in();
        let mut out = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let consumed = usize::try_from(self.0.total_in() - begin).unwrap_or(usize::MAX);
            let Some(rest) = compressed.get(consumed..) else { return Err(broken) };
            let before = self.0.total_out();
            match self.0.decompress(rest, &mut buffer, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Err(EndpointError::Spdy("headers ended their compression")),
                Ok(Status::Ok | Status::BufError) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    if self.0.set_dictionary(&dictionary::bytes()).is_err() {
                        return Err(EndpointError::Spdy("headers are compressed with another dictionary"));
                    }
                    continue;
                }
                Err(_) => return Err(broken),
            }
            let produced = usize::try_from(self.0.total_out() - before).unwrap_or(usize::MAX);
            out.extend_from_slice(buffer.get(..produced).unwrap_or_default());
            if out.len() > LARGEST {
                return Err(EndpointError::Spdy("headers are too large"));
            }
            let done = usize::try_from(self.0.total_in() - begin).unwrap_or(usize::MAX) >= compressed.len();
            if produced < buffer.len() && (done || produced == 0) {
                return if done { Ok(out) } else { Err(broken) };
            }
        }
    }
}

/// Writes blocks.
pub(super) struct Deflater(Compress);

impl Deflater {
    pub(super) fn new() -> Self {
        let mut compress = Compress::new(Compression::default(), true);
        compress.set_dictionary(&dictionary::bytes()).expect("a fresh zlib context takes a dictionary");
        Self(compress)
    }

    /// Compresses a block.
    pub(super) fn block(&mut self, headers: &Headers) -> Vec<u8> {
        let plain = plain(headers);
        let begin = self.0.total_in();
        let mut out = Vec::with_capacity(plain.len() + 64);
        loop {
            let consumed = usize::try_from(self.0.total_in() - begin).unwrap_or(usize::MAX);
            let rest = plain.get(consumed..).unwrap_or_default();
            self.0.compress_vec(rest, &mut out, FlushCompress::Sync).expect("memory is given to every call");
            // With room left everything was flushed.
            if out.len() < out.capacity() {
                return out;
            }
            out.reserve(256);
        }
    }
}

fn plain(headers: &Headers) -> Vec<u8> {
    let mut out = Vec::new();
    let length = |length: usize| u32::try_from(length).expect("own headers are short");
    out.put_u32(length(headers.len()));
    for part in headers.iter().flat_map(|(name, value)| [name, value]) {
        out.put_u32(length(part.len()));
        out.put_slice(part.as_bytes());
    }
    out
}

fn parse(mut block: &[u8]) -> Result<Headers, EndpointError> {
    let count = block.try_get_u32().map_err(|_| EndpointError::Spdy("headers are cut off"))?;
    if count > MOST {
        return Err(EndpointError::Spdy("too many headers"));
    }
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = text(&mut block)?;
        headers.push((name, text(&mut block)?));
    }
    Ok(headers)
}

fn text(block: &mut &[u8]) -> Result<String, EndpointError> {
    let cut = EndpointError::Spdy("headers are cut off");
    let length = block.try_get_u32().ok().and_then(|length| usize::try_from(length).ok());
    let Some((text, rest)) = length.and_then(|length| block.split_at_checked(length)) else {
        return Err(cut);
    };
    *block = rest;
    String::from_utf8(text.to_vec()).map_err(|_| EndpointError::Spdy("a header is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn inflater_with_blocks_of_kubectl_reads_them() {
        let mut inflater = Inflater::new();
        let first = bytes(
            "78f9e3c6a7c202253a703a2b294a4dcc851625aca9a0808614cb45a024cc6461c0c0c0c0590489c44c50e2663400000000ffff",
        );
        let expected = headers(&[("streamtype", "error"), ("port", "80"), ("requestid", "0")]);
        assert_eq!(inflater.block(&first).unwrap(), expected);
        let second = bytes("c2aa15540a2512d209000000ffff");
        let expected = headers(&[("streamtype", "data"), ("port", "80"), ("requestid", "0")]);
        assert_eq!(inflater.block(&second).unwrap(), expected);
    }

    #[test]
    fn inflater_with_a_block_that_grows_beyond_bounds_refuses() {
        let mut deflater = Deflater::new();
        let bomb = headers(&[("a", &"x".repeat(LARGEST))]);
        let block = deflater.block(&bomb);
        assert!(block.len() < 1024, "compresses well");
        assert!(Inflater::new().block(&block).is_err());
    }

    proptest! {
        #[test]
        fn blocks_written_and_read_are_the_same(
            blocks in prop::collection::vec(prop::collection::vec((".{0,40}", ".{0,3000}"), 0..5), 1..6)
        ) {
            let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
            for headers in blocks {
                prop_assert_eq!(inflater.block(&deflater.block(&headers)).unwrap(), headers);
            }
        }

        #[test]
        fn inflater_with_any_bytes_returns(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4)) {
            let mut inflater = Inflater::new();
            for block in blocks {
                let _ = inflater.block(&block);
            }
        }

        #[test]
        fn block_of_any_bytes_is_read_or_refused(block in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&block);
        }
    }
}
