//! The pieces in which the events of a watch go out: short ones together, long ones as they are.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::respond::CHUNK;

/// Events shorter than this are put together. Longer ones are sent as they are, shared by all who watch.
const SHORT: usize = 4 * 1024;

/// What was made of events and is not given out yet.
#[derive(Default)]
pub(super) struct Pieces {
    ready: VecDeque<Bytes>,
    /// Short ones behind all that is ready.
    short: BytesMut,
}

impl Pieces {
    /// Puts an event in.
    pub(super) fn push(&mut self, line: Bytes) {
        if line.len() < SHORT {
            self.short.extend_from_slice(&line);
            if self.short.len() >= CHUNK {
                self.close();
            }
        } else {
            self.close();
            self.ready.push_back(line);
        }
    }

    /// Puts in what cannot be joined by others: what comes alone is not copied.
    pub(super) fn push_last(&mut self, line: Bytes) {
        if self.short.is_empty() {
            self.ready.push_back(line);
        } else {
            self.push(line);
        }
    }

    /// The next piece.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        if self.ready.is_empty() {
            self.close();
        }
        self.ready.pop_front()
    }

    fn close(&mut self) {
        if !self.short.is_empty() {
            self.ready.push_back(self.short.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(letter: u8, length: usize) -> Bytes {
        vec![letter; length].into()
    }

    fn lengths(pieces: &mut Pieces) -> Vec<usize> {
        std::iter::from_fn(|| pieces.pop()).map(|piece| piece.len()).collect()
    }

    #[test]
    fn short_events_go_together_and_long_ones_as_they_are() {
        let mut pieces = Pieces::default();
        let long = line(b'l', SHORT);
        for one in [line(b'a', 10), line(b'b', 20), long.clone(), line(b'c', 30)] {
            pieces.push(one);
        }
        pieces.push_last(line(b'd', 5));
        assert_eq!(pieces.pop().unwrap(), [vec![b'a'; 10], vec![b'b'; 20]].concat());
        let piece = pieces.pop().unwrap();
        assert_eq!((piece.as_ptr(), piece.len()), (long.as_ptr(), SHORT), "it is not copied");
        assert_eq!(lengths(&mut pieces), [35]);
    }

    #[test]
    fn event_that_comes_alone_is_not_copied() {
        let (mut pieces, only) = (Pieces::default(), line(b'a', 10));
        pieces.push_last(only.clone());
        assert_eq!(pieces.pop().unwrap().as_ptr(), only.as_ptr());
        assert_eq!(pieces.pop(), None);
    }

    #[test]
    fn many_short_events_are_more_than_one_piece() {
        let mut pieces = Pieces::default();
        (0..100).for_each(|_| pieces.push(line(b'a', 1000)));
        assert_eq!(lengths(&mut pieces), [66_000, 34_000]);
    }
}
