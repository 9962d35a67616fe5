//! What the watchers of a round see, and how late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::BodyExt as _;
use kube::client::Body;
use memchr::{memchr_iter, memmem};
use tokio::sync::watch;
use tokio::time::Instant;

/// The annotation in which a write says its number.
pub(super) const MARK_NAME: &str = "bench-write";
/// What a watcher looks for in an event: the number of the write follows.
const MARK: &[u8] = b"\"bench-write\":\"";

/// The writes of one round, and what was seen of them.
pub(super) struct Round {
    zero: Instant,
    /// When each write was due, in nanoseconds after `zero`; 0 until then.
    sent: Vec<AtomicU64>,
    /// How many events all watchers together have seen.
    seen: AtomicUsize,
}

impl Round {
    /// A round of so many writes.
    pub(super) fn new(events: usize) -> Self {
        let sent = (0..events).map(|_| AtomicU64::new(0)).collect();
        Self { zero: Instant::now(), sent, seen: AtomicUsize::new(0) }
    }

    pub(super) fn events(&self) -> usize {
        self.sent.len()
    }

    /// What is seen counts from now on.
    pub(super) fn begin(&self) {
        self.seen.store(0, Ordering::Relaxed);
    }

    /// How many events all watchers together have seen since.
    pub(super) fn seen(&self) -> usize {
        self.seen.load(Ordering::Relaxed)
    }

    /// Notes that a write is due.
    pub(super) fn sent(&self, number: usize, at: Instant) {
        let since = at.saturating_duration_since(self.zero).as_nanos();
        self.sent[number].store(since as u64, Ordering::Relaxed);
    }

    /// How late an event comes now; nothing if this round did not write it.
    fn delay(&self, number: usize) -> Option<Duration> {
        let sent = self.sent.get(number)?.load(Ordering::Relaxed);
        (sent > 0).then(|| self.zero.elapsed().saturating_sub(Duration::from_nanos(sent)))
    }
}

/// Reads events until told to stop or cut off; gives how late each one of this round came.
pub(super) async fn follow(
    mut body: Body,
    round: Arc<Round>,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<Vec<Duration>> {
    let (mut delays, mut rest) = (Vec::with_capacity(round.events()), Vec::new());
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            _ = stopped.changed() => return Ok(delays),
        };
        let Some(Ok(frame)) = frame else { return Ok(delays) };
        let Some(data) = frame.data_ref() else { continue };
        rest.extend_from_slice(data);
        let (mut begin, mut seen) = (0, 0);
        for end in memchr_iter(b'\n', &rest) {
            if let Some(delay) = write_of(&rest[begin..end]).and_then(|number| round.delay(number)) {
                delays.push(delay);
                seen += 1;
            }
            begin = end + 1;
        }
        round.seen.fetch_add(seen, Ordering::Relaxed);
        rest.drain(..begin);
    }
}

/// The number of the write that an event tells of.
fn write_of(event: &[u8]) -> Option<usize> {
    let from = memmem::find(event, MARK)? + MARK.len();
    let digits = event[from..].split(|byte| *byte == b'"').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
