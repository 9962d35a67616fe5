//! Port-forward in a SPDY session: each connection is a pair of streams, one for data and one for an error's text,
//! which name the port and share a request id.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::copy;
use super::dial::Dialer;
use crate::spdy::{Opened, Session, Stream, value};

/// How long the second stream of a pair may take.
const PAIRING: Duration = Duration::from_secs(30);

/// The streams of a connection that have come so far.
struct Half {
    port: u16,
    data: Option<Stream>,
    error: Option<Stream>,
    since: Instant,
}

/// Which stream of its pair a stream is.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Error,
}

/// Serves the session to its end. Its connections end with it.
pub(super) async fn run(mut session: Session, dialer: Dialer) {
    let mut halves: HashMap<String, Half> = HashMap::new();
    let mut connections = JoinSet::new();
    let mut tick = tokio::time::interval(PAIRING);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            opened = session.accept() => {
                let Some(opened) = opened else { return };
                if let Some((port, data, error)) = pair(&mut halves, opened).await {
                    let dialer = dialer.clone();
                    connections.spawn(async move {
                        // The error stream's reader is held so that what the client sends on it is dropped.
                        copy::run(&dialer, port, data, error.writer).await;
                    });
                }
            }
            _ = tick.tick() => halves.retain(|_, half| half.since.elapsed() < PAIRING),
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Takes a stream; gives the pair that it makes whole. A stream that fits nowhere is reset.
async fn pair(halves: &mut HashMap<String, Half>, opened: Opened) -> Option<(u16, Stream, Stream)> {
    let Opened { headers, stream } = opened;
    let kind = match value(&headers, "streamtype") {
        Some("data") => Kind::Data,
        Some("error") => Kind::Error,
        _ => return refuse(&stream).await,
    };
    let port = value(&headers, "port").and_then(|port| port.parse().ok()).filter(|port: &u16| *port != 0);
    let (Some(port), Some(request)) = (port, value(&headers, "requestid")) else {
        return refuse(&stream).await;
    };
    let since = Instant::now();
    let half = halves.entry(request.to_owned()).or_insert(Half { port, data: None, error: None, since });
    let slot = match kind {
        Kind::Data => &mut half.data,
        Kind::Error => &mut half.error,
    };
    if half.port != port || slot.is_some() {
        return refuse(&stream).await;
    }
    stream.writer.reply().await.ok()?;
    *slot = Some(stream);
    if half.data.is_none() || half.error.is_none() {
        return None;
    }
    let half = halves.remove(request)?;
    Some((half.port, half.data?, half.error?))
}

async fn refuse<T>(stream: &Stream) -> Option<T> {
    // A session that is over ends by itself.
    let _ = stream.writer.reset().await;
    None
}
