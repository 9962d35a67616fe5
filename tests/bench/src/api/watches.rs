//! Five hundred watchers of the same objects: what an event costs, how late it comes, and who is cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use kube::client::Body;
use memchr::{memchr_iter, memmem};
use serde_json::json;
use tokio::sync::watch;

use super::session::{JSON, Session};
use super::{Values, objects};

const WATCHERS: usize = 500;
const EVENTS: usize = 200;
/// Between two writes, so that the latency is that of an event and not of a queue.
const EVERY: Duration = Duration::from_millis(25);
const MERGE_PATCH: &str = "application/merge-patch+json";
/// What a watcher looks for in an event: the number of the write follows.
const MARK: &[u8] = b"\"bench-write\":\"";

/// When each write was sent, as nanoseconds since `begun`.
struct Sent {
    begun: Instant,
    at: Vec<AtomicU64>,
}

/// Measures with [`WATCHERS`] watchers, each on a connection of its own.
pub(super) async fn measure(session: &Session) -> anyhow::Result<Values> {
    let maps = session.core("configmaps");
    let mut map = objects::config_map("watched");
    map["data"]["content"] = "x".repeat(6_700).into();
    map["metadata"]["labels"] = json!({ "watched": "true" });
    session.post(&maps, &map).await?;
    let sent = Arc::new(Sent { begun: Instant::now(), at: (0..EVENTS).map(|_| AtomicU64::new(0)).collect() });
    let (stop, stopped) = watch::channel(false);
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        let path = format!("{maps}?watch=1&labelSelector=watched%3Dtrue&resourceVersion=0");
        let body = session.stream(Method::GET, &path, JSON, Bytes::new()).await?;
        watchers.push(tokio::spawn(follow(body, sent.clone(), stopped.clone())));
    }
    // What the opening of the watches set going is over before the costs are counted.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = session.usage.processor()?;
    for number in 0..EVENTS {
        let patch = json!({ "metadata": { "annotations": { "bench-write": number.to_string() } } });
        sent.at[number].store(sent.begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        session
            .send(Method::PATCH, &format!("{maps}/watched"), MERGE_PATCH, patch.to_string().into())
            .await?;
        tokio::time::sleep(EVERY).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
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
    Ok(Values::from([
        ("watch-500/event/processor".into(), (used.as_secs_f64() * 1e6 / delays.len() as f64, "us")),
        ("watch-500/write-to-event/p99".into(), (p99.as_secs_f64() * 1e3, "ms")),
        ("watch-500/watchers-that-saw-all".into(), (whole as f64, "")),
    ]))
}

/// Reads events until told to stop or cut off; gives how late each marked one came.
async fn follow(
    mut body: Body,
    sent: Arc<Sent>,
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
        let mut begin = 0;
        for end in memchr_iter(b'\n', &rest) {
            if let Some(number) = write_of(&rest[begin..end]).filter(|number| *number < EVENTS) {
                let at = Duration::from_nanos(sent.at[number].load(Ordering::Relaxed));
                delays.push(sent.begun.elapsed().saturating_sub(at));
            }
            begin = end + 1;
        }
        rest.drain(..begin);
    }
}

/// The number of the write that an event tells of.
fn write_of(event: &[u8]) -> Option<usize> {
    let from = memmem::find(event, MARK)? + MARK.len();
    let digits = event[from..].split(|byte| *byte == b'"').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
