//! Five hundred watchers of the same objects: what an event costs, how late it comes, and who is cut off.
//!
//! Twice: while each event comes alone, and in a burst of writes, where a server can tell of several at once. Most of what
//! an event costs that comes alone is the sending, which no server can do without: one write to a socket for each watcher.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use http::Method;
use http_body_util::BodyExt as _;
use kube::client::Body;
use memchr::{memchr_iter, memmem};
use serde_json::json;
use tokio::sync::watch;

use super::session::{JSON, Session};
use super::{Values, objects};

const WATCHERS: usize = 500;
/// Writes that come alone, and as many that come at once.
const EVENTS: usize = 200;
/// Between two writes that come alone, so that the latency is that of an event and not of a queue.
const EVERY: Duration = Duration::from_millis(25);
/// So many write at once in the burst, each to an object of their own.
const WRITERS: usize = 16;
/// The longest that watchers are waited for after the last write.
const PATIENCE: Duration = Duration::from_secs(30);
const MERGE_PATCH: &str = "application/merge-patch+json";
/// What a watcher looks for in an event: the number of the write follows.
const MARK: &[u8] = b"\"bench-write\":\"";

/// The writes of one round, and what was seen of them.
struct Round {
    begun: Instant,
    /// When each write was sent, in nanoseconds after the beginning.
    sent: Vec<AtomicU64>,
    /// How many events all watchers together have seen.
    seen: AtomicU64,
}

/// Measures with [`WATCHERS`] watchers, each on a connection of its own.
pub(super) async fn measure(session: &Session) -> anyhow::Result<Values> {
    for writer in 0..WRITERS {
        let mut map = objects::config_map(&watched(writer));
        map["data"]["content"] = "x".repeat(6_700).into();
        map["metadata"]["labels"] = json!({ "watched": "true" });
        session.post(&session.core("configmaps"), &map).await?;
    }
    let mut values = round(session, "watch-500", 1, EVERY).await?;
    values.extend(round(session, "watch-500-burst", WRITERS, Duration::ZERO).await?);
    Ok(values)
}

fn watched(writer: usize) -> String {
    format!("watched-{writer}")
}

/// One round: so many writers, each with a pause between its writes.
async fn round(session: &Session, name: &str, writers: usize, pause: Duration) -> anyhow::Result<Values> {
    let sent = (0..EVENTS).map(|_| AtomicU64::new(0)).collect();
    let round = Arc::new(Round { begun: Instant::now(), sent, seen: AtomicU64::new(0) });
    let (stop, stopped) = watch::channel(false);
    let mut watchers = Vec::new();
    let path = session.core("configmaps?watch=1&labelSelector=watched%3Dtrue&resourceVersion=0");
    for _ in 0..WATCHERS {
        let body = session.stream(Method::GET, &path, JSON, Bytes::new()).await?;
        watchers.push(tokio::spawn(follow(body, round.clone(), stopped.clone())));
    }
    // What the opening of the watches set going is over before the costs are counted. What earlier rounds wrote is told
    // then, and does not count.
    tokio::time::sleep(Duration::from_secs(2)).await;
    round.seen.store(0, Ordering::Relaxed);
    let before = session.usage.processor()?;
    try_join_all((0..writers).map(|writer| write(session, &round, writer, writers, pause))).await?;
    let last = Instant::now();
    while round.seen.load(Ordering::Relaxed) < (WATCHERS * EVENTS) as u64 && last.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let used = session.usage.processor()? - before;
    stop.send(true)?;
    let (mut delays, mut whole) = (Vec::new(), 0_usize);
    for watcher in watchers {
        let seen = watcher.await??;
        whole += usize::from(seen.len() == EVENTS);
        delays.extend(seen);
    }
    delays.sort_unstable();
    anyhow::ensure!(!delays.is_empty(), "no watcher has seen an event");
    let p99 = delays[delays.len() * 99 / 100];
    let figure = |what: &str| format!("{name}/{what}");
    Ok(Values::from([
        (figure("event/processor"), (used.as_secs_f64() * 1e6 / delays.len() as f64, "us")),
        (figure("write-to-event/p99"), (p99.as_secs_f64() * 1e3, "ms")),
        (figure("watchers-that-saw-all"), (whole as f64, "")),
    ]))
}

/// Makes every write of the round whose number is that of this writer, counted by all writers.
async fn write(
    session: &Session,
    round: &Round,
    writer: usize,
    writers: usize,
    pause: Duration,
) -> anyhow::Result<()> {
    let path = session.core(&format!("configmaps/{}", watched(writer)));
    for number in (writer..EVENTS).step_by(writers) {
        let patch = json!({ "metadata": { "annotations": { "bench-write": number.to_string() } } });
        round.sent[number].store(round.begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        session.send(Method::PATCH, &path, MERGE_PATCH, patch.to_string().into()).await?;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    Ok(())
}

/// Reads events until told to stop or cut off; gives how late each marked one of this round came.
async fn follow(
    mut body: Body,
    round: Arc<Round>,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<Vec<Duration>> {
    let (mut delays, mut rest) = (Vec::with_capacity(EVENTS), Vec::new());
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
            if let Some(at) = write_of(&rest[begin..end]).and_then(|number| round.sent_at(number)) {
                delays.push(round.begun.elapsed().saturating_sub(at));
                seen += 1;
            }
            begin = end + 1;
        }
        round.seen.fetch_add(seen, Ordering::Relaxed);
        rest.drain(..begin);
    }
}

impl Round {
    /// When a write of this round was sent; nothing if it was not.
    fn sent_at(&self, number: usize) -> Option<Duration> {
        let at = self.sent.get(number)?.load(Ordering::Relaxed);
        (at > 0).then(|| Duration::from_nanos(at))
    }
}

/// The number of the write that an event tells of.
fn write_of(event: &[u8]) -> Option<usize> {
    let from = memmem::find(event, MARK)? + MARK.len();
    let digits = event[from..].split(|byte| *byte == b'"').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
