//! Lines of the CRI log format, and what a client sees of them. Pure.
//!
//! A line is `TIME STREAM TAG MESSAGE`; the tag's first part is `F` for a whole line and `P` for a part of one that
//! goes on in the next. Parts are joined again. Lines that are not of this shape are left out.

use std::ops::ControlFlow;

use bytes::BytesMut;
use jiff::Timestamp;

use super::options::{LogOptions, Output};

/// A longer line than any runtime writes is not a log's; it is left out instead of being kept in memory.
const LONGEST: usize = 1 << 20;

/// One line of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) time: Timestamp,
    pub(super) output: Output,
    /// Whether the message ends here.
    pub(super) whole: bool,
    pub(super) message: &'a [u8],
}

/// Reads a line without its line feed. `None` if it is no log line.
pub(super) fn parse(raw: &[u8]) -> Option<Line<'_>> {
    let mut parts = raw.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let output = match parts.next()? {
        b"stdout" => Output::Stdout,
        b"stderr" => Output::Stderr,
        _ => return None,
    };
    let whole = match parts.next()?.split(|byte| *byte == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Line { time, output, whole, message: parts.next().unwrap_or_default() })
}

/// Turns the bytes of a file into the bytes for a client.
pub(super) struct Render {
    timestamps: bool,
    since: Option<Timestamp>,
    output: Option<Output>,
    /// Bytes that may still be written.
    left: u64,
    /// The begin of a line whose end has not been read.
    partial: Vec<u8>,
    /// The line being read is too long and is left out.
    skipping: bool,
    /// What was written last was a whole line, so that the next begins with its time.
    at_start: bool,
}

impl Render {
    pub(super) fn new(options: &LogOptions) -> Self {
        Self {
            timestamps: options.timestamps,
            since: options.since,
            output: options.output,
            left: options.limit.unwrap_or(u64::MAX),
            partial: Vec::new(),
            skipping: false,
            at_start: true,
        }
    }

    /// Takes bytes of the file. `Break` once the client's limit is reached.
    pub(super) fn push(&mut self, mut bytes: &[u8], out: &mut BytesMut) -> ControlFlow<()> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (head, rest) = bytes.split_at(end);
            bytes = &rest[1..];
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if self.partial.is_empty() {
                self.line(head, out)?;
            } else {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(head);
                self.line(&line, out)?;
            }
        }
        if self.partial.len() + bytes.len() > LONGEST {
            self.skipping = true;
            self.partial = Vec::new();
        }
        if !self.skipping {
            self.partial.extend_from_slice(bytes);
        }
        ControlFlow::Continue(())
    }

    /// The file ends here: what is left is a line although its line feed is missing.
    pub(super) fn finish(&mut self, out: &mut BytesMut) {
        let line = std::mem::take(&mut self.partial);
        // Whether the limit is reached does not matter any more.
        let _ = self.line(&line, out);
    }

    fn line(&mut self, raw: &[u8], out: &mut BytesMut) -> ControlFlow<()> {
        let Some(line) = parse(raw) else { return ControlFlow::Continue(()) };
        if self.since.is_some_and(|since| line.time < since)
            || self.output.is_some_and(|output| line.output != output)
        {
            return ControlFlow::Continue(());
        }
        if self.timestamps && self.at_start {
            self.write(format!("{:.9} ", line.time).as_bytes(), out)?;
        }
        self.write(line.message, out)?;
        if line.whole {
            self.write(b"\n", out)?;
        }
        self.at_start = line.whole;
        ControlFlow::Continue(())
    }

    fn write(&mut self, bytes: &[u8], out: &mut BytesMut) -> ControlFlow<()> {
        let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        out.extend_from_slice(&bytes[..take]);
        self.left -= take as u64;
        if self.left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
