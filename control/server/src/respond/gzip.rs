//! Compression of long answers, at the fastest level, as upstream does it. It takes longer than all else that is done for
//! an answer, so it gives way again and again.

use std::io::Write;
use std::task::Poll;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream::{self, Stream};

use crate::turns;

/// So much is compressed before it is asked whether to give way: some tens of microseconds' worth.
const PORTION: usize = 8 * 1024;

/// Compresses a text that comes in pieces, as it is asked for.
pub(super) fn compressed(mut pieces: impl Iterator<Item = Bytes> + Send) -> impl Stream<Item = Bytes> + Send {
    let mut encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut text = Bytes::new();
    stream::poll_fn(move |context| {
        while let Some(writing) = &mut encoder {
            if turns::gives_way(context) {
                return Poll::Pending;
            }
            if text.is_empty() {
                match pieces.next() {
                    Some(piece) => text = piece,
                    None => break,
                }
            }
            let portion = text.split_to(PORTION.min(text.len()));
            writing.write_all(&portion).expect("writing to memory does not fail");
            if !writing.get_ref().is_empty() {
                return Poll::Ready(Some(std::mem::take(writing.get_mut()).into()));
            }
        }
        let rest = encoder.take().map(|encoder| encoder.finish().expect("writing to memory does not fail"));
        Poll::Ready(rest.map(Bytes::from))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn compressed_pieces_are_the_text_again() {
        let pieces: Vec<Bytes> =
            (0..50_usize).map(|n| format!("{n} ").repeat(n * 997 % 20_000).into()).collect();
        let whole = pieces.concat();
        let sent: Vec<Bytes> = compressed(pieces.into_iter()).collect().await;
        assert!(sent.len() > 1 && sent.iter().all(|piece| !piece.is_empty()));
        let mut text = Vec::new();
        GzDecoder::new(&*sent.concat()).read_to_end(&mut text).unwrap();
        assert!(text == whole);
    }
}
