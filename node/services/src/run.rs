//! Drives the engine: the two watches, the time, and the end.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use skep_maps::Dataplane;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::{Engine, Outcome};
use crate::error::ServicesError;
use crate::metrics::Metrics;
use crate::model::{LABEL_HEADLESS, LABEL_PROXY_NAME};
use crate::plan::NodeView;

/// Pause after a sync that failed.
const RETRY: Duration = Duration::from_secs(1);
/// Most events taken in before the tables are synced.
const BURST: usize = 4096;

/// One event of either watch.
pub(crate) enum Change {
    Service(Box<Event<Service>>),
    Slice(Box<Event<EndpointSlice>>),
}

/// Keeps the dataplane's service tables equal to the cluster's Services and EndpointSlices until `shutdown` turns
/// true. What is in the tables then stays: traffic goes on without the agent.
///
/// # Errors
/// [`ServicesError::Interrupted`] when a thread of it panicked. Everything else is logged and tried again.
pub async fn run(
    client: Client,
    node: NodeView,
    dataplane: Arc<dyn Dataplane>,
    metrics: Metrics,
    shutdown: watch::Receiver<bool>,
) -> Result<(), ServicesError> {
    let changes = stream::select(
        observe::<Service>(&client, "Service", &format!("!{LABEL_PROXY_NAME}"))
            .map(|event| Change::Service(Box::new(event))),
        observe::<EndpointSlice>(&client, "EndpointSlice", &format!("!{LABEL_PROXY_NAME},!{LABEL_HEADLESS}"))
            .map(|event| Change::Slice(Box::new(event))),
    );
    follow(changes, Engine::new(dataplane, node), metrics, shutdown).await
}

fn observe<K>(client: &Client, kind: &'static str, labels: &str) -> BoxStream<'static, Event<K>>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
{
    let config = watcher::Config::default().streaming_lists().labels(labels);
    watcher(Api::<K>::all(client.clone()), config)
        .default_backoff()
        .filter_map(move |event| async move {
            event.inspect_err(|error| tracing::warn!(kind, %error, "the watch failed and starts again")).ok()
        })
        .boxed()
}

/// [`run`] for any source of changes.
pub(crate) async fn follow(
    changes: impl Stream<Item = Change> + Unpin,
    mut engine: Engine,
    metrics: Metrics,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), ServicesError> {
    let start = Instant::now();
    let mut changes = changes.ready_chunks(BURST);
    let mut again: Option<Duration> = None;
    loop {
        let wake = again.map_or_else(Instant::now, |at| start + at);
        tokio::select! {
            _ = shutdown.wait_for(|ended| *ended) => return Ok(()),
            batch = changes.next() => match batch {
                Some(batch) => batch.into_iter().for_each(|change| match change {
                    Change::Service(event) => engine.on_service(*event),
                    Change::Slice(event) => engine.on_slice(*event),
                }),
                None => return Ok(()),
            },
            () = tokio::time::sleep_until(wake), if again.is_some() => {}
        }
        let now = start.elapsed();
        let result;
        (engine, result) = sync(engine, now).await?;
        again = match result {
            Ok(outcome) => {
                if outcome.written > 0 {
                    let took = start.elapsed() - now;
                    tracing::debug!(
                        services = outcome.planned.len(),
                        entries = outcome.written,
                        ?took,
                        "synced"
                    );
                }
                metrics.synced(&engine, &outcome, start.elapsed() - now);
                outcome.again
            }
            Err(error) => {
                metrics.failed();
                let reason = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, reason, "syncing the service tables failed");
                Some(start.elapsed() + RETRY)
            }
        };
    }
}

type Synced = (Engine, Result<Outcome, ServicesError>);

/// One sync, on a thread that may block when there is much to write.
async fn sync(mut engine: Engine, now: Duration) -> Result<Synced, ServicesError> {
    if engine.is_bulky() {
        return Ok(tokio::task::spawn_blocking(move || {
            let result = engine.sync(now);
            (engine, result)
        })
        .await?);
    }
    let result = engine.sync(now);
    Ok((engine, result))
}
