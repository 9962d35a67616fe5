//! Drives the engine: the watches of Services, EndpointSlices and this node, the time, and the end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use skep_maps::Dataplane;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::{Engine, Outcome};
use crate::error::ServicesError;
use crate::health::{Health, check};
use crate::host_ports::HostPods;
use crate::metrics::Metrics;
use crate::model::{LABEL_HEADLESS, LABEL_PROXY_NAME};
use crate::node::{NodeSettings, ThisNode};
use crate::sockets::Mover;

/// Pause after a sync that failed.
const RETRY: Duration = Duration::from_secs(1);
/// Most events taken in before the tables are synced.
const BURST: usize = 4096;
/// How long the first sync waits for the Node object, so that services need not be planned twice. Without it they are
/// planned as if the node had no zone.
const NODE_PATIENCE: Duration = Duration::from_secs(5);

/// One event of any watch.
pub(crate) enum Change {
    Service(Box<Event<Service>>),
    Slice(Box<Event<EndpointSlice>>),
    Node(Box<Event<Node>>),
}

/// Where the loop gets from and tells to, beside the API.
pub struct Sources {
    /// What the agent was told about its node.
    pub node: NodeSettings,
    /// All addresses that the machine has.
    pub machine: watch::Receiver<Vec<IpAddr>>,
    /// This node's pods with host ports once they are known; `None` where host ports are somebody else's.
    pub host_pods: Option<watch::Receiver<Option<HostPods>>>,
    /// What the agent tells of itself.
    pub health: Health,
    /// Turns true when it is to end.
    pub shutdown: watch::Receiver<bool>,
}

/// Keeps the dataplane's service tables equal to the cluster's Services and EndpointSlices until `shutdown` turns
/// true. What is in the tables then stays: traffic goes on without the agent.
///
/// # Errors
/// [`ServicesError::Interrupted`] when a thread of it panicked. Everything else is logged and tried again.
pub async fn run(
    client: Client,
    sources: Sources,
    dataplane: Arc<dyn Dataplane>,
    metrics: Metrics,
) -> Result<(), ServicesError> {
    let labels = |labels: String| watcher::Config::default().streaming_lists().labels(&labels);
    let services = labels(format!("!{LABEL_PROXY_NAME}"));
    let slices = labels(format!("!{LABEL_PROXY_NAME},!{LABEL_HEADLESS}"));
    let this = watcher::Config::default().fields(&format!("metadata.name={}", sources.node.name));
    let changes = stream::select(
        stream::select(
            observe::<Service>(&client, "Service", services).map(|event| Change::Service(Box::new(event))),
            observe::<EndpointSlice>(&client, "EndpointSlice", slices)
                .map(|event| Change::Slice(Box::new(event))),
        ),
        observe::<Node>(&client, "Node", this).map(|event| Change::Node(Box::new(event))),
    );
    let engine = Engine::new(dataplane, ThisNode::new(sources.node.clone()).view());
    follow(changes, engine, sources, metrics).await
}

fn observe<K>(client: &Client, kind: &'static str, config: watcher::Config) -> BoxStream<'static, Event<K>>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
{
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
    sources: Sources,
    mut metrics: Metrics,
) -> Result<(), ServicesError> {
    let Sources { node, mut machine, mut host_pods, health, mut shutdown } = sources;
    let mut node = ThisNode::new(node);
    node.set_machine_addresses(machine.borrow_and_update().clone());
    if let Some(told) = &mut host_pods {
        engine.await_host_pods();
        told.mark_changed();
    }
    let mover = Mover::start(engine.dataplane(), metrics.sockets.clone());
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
                    Change::Slice(event) => {
                        metrics.slice_seen(&event);
                        engine.on_slice(*event);
                    }
                    Change::Node(event) => node.on_event(*event),
                }),
                None => return Ok(()),
            },
            Ok(()) = machine.changed() => {
                node.set_machine_addresses(machine.borrow_and_update().clone());
            }
            Some(pods) = next_host_pods(&mut host_pods) => engine.set_host_pods(pods),
            () = tokio::time::sleep_until(wake), if again.is_some() => {}
        }
        let now = start.elapsed();
        if !node.is_listed() && now < NODE_PATIENCE {
            again = Some(NODE_PATIENCE);
            continue;
        }
        engine.set_node(node.view());
        engine.set_host_addresses(node.host_addresses());
        health.set_leaving(node.is_leaving());
        metrics.queued(engine.observed().dirty_count());
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
                if outcome.datagrams {
                    mover.changed();
                }
                metrics.synced(&engine, &outcome, start.elapsed() - now);
                if engine.is_complete() {
                    tell(&engine, &outcome, node.name(), &health);
                }
                outcome.again
            }
            Err(error) => {
                metrics.failed();
                health.failed();
                let reason = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, reason, "syncing the service tables failed");
                Some(start.elapsed() + RETRY)
            }
        };
    }
}

/// The pods with host ports, when they are told anew; never where nobody tells.
async fn next_host_pods(told: &mut Option<watch::Receiver<Option<HostPods>>>) -> Option<HostPods> {
    let Some(receiver) = told else { return std::future::pending().await };
    loop {
        if receiver.changed().await.is_err() {
            return std::future::pending().await;
        }
        if let Some(pods) = receiver.borrow_and_update().clone() {
            return Some(pods);
        }
    }
}

/// Tells what a sync that succeeded means for probes and balancers.
fn tell(engine: &Engine, outcome: &Outcome, node: &str, health: &Health) {
    let observed = engine.observed();
    for (name, _) in &outcome.planned {
        let check = observed.service(name).and_then(|service| check(service, observed.slices(name), node));
        health.set_check(name, check);
    }
    health.synced();
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
