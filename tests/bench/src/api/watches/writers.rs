//! Who writes what the watchers see, and when.

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::try_join_all;
use futures::stream::FuturesUnordered;
use http::Method;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior};

use super::follow::{MARK_NAME, Round};
use super::{OBJECTS, watched};
use crate::api::session::Session;

const MERGE_PATCH: &str = "application/merge-patch+json";

/// When writes are sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// One after the other, with a pause between them.
    Alone(Duration),
    /// By one writer for each object, each without a pause.
    Burst,
    /// One at each tick of a clock, answered or not.
    Steady(Duration),
}

/// Makes all writes of the round; returns when all are answered.
///
/// # Errors
/// A write is refused.
pub(super) async fn write(session: &Session, round: &Round, pace: Pace) -> anyhow::Result<()> {
    match pace {
        Pace::Alone(pause) => {
            for number in 0..round.events() {
                round.sent(number, Instant::now());
                one(session, 0, number).await?;
                tokio::time::sleep(pause).await;
            }
            Ok(())
        }
        Pace::Burst => {
            let writers = (0..OBJECTS).map(|object| async move {
                for number in (object..round.events()).step_by(OBJECTS) {
                    round.sent(number, Instant::now());
                    one(session, object, number).await?;
                }
                anyhow::Ok(())
            });
            try_join_all(writers).await.map(drop)
        }
        Pace::Steady(every) => steadily(session, round, every).await,
    }
}

/// A write that comes late, because this program or the server is behind, counts from when it was due.
async fn steadily(session: &Session, round: &Round, every: Duration) -> anyhow::Result<()> {
    let mut clock = tokio::time::interval(every);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = FuturesUnordered::new();
    let mut next = 0;
    while next < round.events() || !under_way.is_empty() {
        tokio::select! {
            due = clock.tick(), if next < round.events() => {
                round.sent(next, due);
                under_way.push(one(session, next % OBJECTS, next));
                next += 1;
            }
            Some(written) = under_way.next() => written?,
        }
    }
    Ok(())
}

async fn one(session: &Session, object: usize, number: usize) -> anyhow::Result<()> {
    let path = session.core(&format!("configmaps/{}", watched(object)));
    let patch = json!({ "metadata": { "annotations": { MARK_NAME: number.to_string() } } });
    session.send(Method::PATCH, &path, MERGE_PATCH, patch.to_string().into()).await.map(drop)
}
