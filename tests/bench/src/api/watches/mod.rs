//! Five hundred watchers of the same objects: what an event costs, how late it comes, and who is cut off.
//!
//! - Each event alone: the next write comes when all have long been told. Most of what such an event costs is the sending,
//!   which no server can do without: one write to a socket for each watcher.
//! - A burst of writes without pause, where a server can tell of several at once.
//! - Steady rates, as clusters have them. Writes come when the clock says, whether or not the server has caught up, and a
//!   delay counts from then: where a server cannot keep up, that shows.

mod follow;
mod writers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use serde_json::json;
use tokio::sync::watch;

use super::session::{JSON, Session};
use super::{Values, objects};
use follow::Round;
use writers::Pace;

const WATCHERS: usize = 500;
/// Writes that come alone, and as many that come at once.
const EVENTS: usize = 200;
/// Between two writes that come alone, so that the latency is that of an event and not of a queue.
const ALONE: Duration = Duration::from_millis(25);
/// Writes per second.
const RATES: [u32; 3] = [50, 100, 200];
/// How long a steady rate lasts, in seconds.
const STEADY: u32 = 4;
/// So many objects are written in turn.
const OBJECTS: usize = 16;
/// What the opening of watches sets going is over after this.
const SETTLE: Duration = Duration::from_secs(2);
/// The longest that watchers are waited for after the last write.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures with [`WATCHERS`] watchers, each on a connection of its own.
pub(super) async fn measure(session: &Session) -> anyhow::Result<Values> {
    for object in 0..OBJECTS {
        let mut map = objects::config_map(&watched(object));
        map["data"]["content"] = "x".repeat(6_700).into();
        map["metadata"]["labels"] = json!({ "watched": "true" });
        session.post(&session.core("configmaps"), &map).await?;
    }
    let mut values = round(session, "watch-500", EVENTS, Pace::Alone(ALONE)).await?;
    values.extend(round(session, "watch-500-burst", EVENTS, Pace::Burst).await?);
    for rate in RATES {
        let (name, every) = (format!("watch-500-steady-{rate}"), Duration::from_secs(1) / rate);
        values.extend(round(session, &name, (rate * STEADY) as usize, Pace::Steady(every)).await?);
    }
    Ok(values)
}

fn watched(object: usize) -> String {
    format!("watched-{object}")
}

/// One round: so many writes at this pace, and what all watchers together saw of them.
async fn round(session: &Session, name: &str, events: usize, pace: Pace) -> anyhow::Result<Values> {
    let round = Arc::new(Round::new(events));
    let (stop, stopped) = watch::channel(false);
    let mut watchers = Vec::new();
    let path = session.core("configmaps?watch=1&labelSelector=watched%3Dtrue&resourceVersion=0");
    for _ in 0..WATCHERS {
        let body = session.stream(Method::GET, &path, JSON, Bytes::new()).await?;
        watchers.push(tokio::spawn(follow::follow(body, round.clone(), stopped.clone())));
    }
    // What earlier rounds wrote is told now, and does not count.
    tokio::time::sleep(SETTLE).await;
    round.begin();
    let before = session.usage.processor()?;
    writers::write(session, &round, pace).await?;
    let last = Instant::now();
    while round.seen() < WATCHERS * events && last.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let used = session.usage.processor()? - before;
    stop.send(true)?;
    let (mut delays, mut whole) = (Vec::new(), 0_usize);
    for watcher in watchers {
        let seen = watcher.await??;
        whole += usize::from(seen.len() == events);
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
