//! The Node object: registration, the Lease that says the node lives, and its status.
//!
//! Writes: its own Node, its own Lease in `kube-node-lease`. Leaves taints and the podCIDR to the control plane.

mod capacity;
mod lease;
mod pressure;
mod status;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeSpec};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::worker::Context;
use crate::{Error, PodsConfig, describe};

pub use capacity::Capacity;
pub use pressure::{Amount, Thresholds};

/// How often the status is computed. It is written when it changed, and at least every [`HEARTBEAT`].
const STATUS: Duration = Duration::from_secs(10);
/// How often it is computed until the node is ready for the first time, for at most [`START`]: a new cluster
/// waits for this.
const STARTING: Duration = Duration::from_millis(250);
/// After this long a node that is not ready is no longer taken for one that starts.
const START: Duration = Duration::from_secs(60);
/// Ticks of [`STATUS`] between two writes of an unchanged status: five minutes.
const HEARTBEAT: u32 = 30;
/// After a failed registration.
const RETRY: Duration = Duration::from_secs(2);

/// Registers the node, then keeps its Lease and its status.
pub(crate) async fn keep(client: Client, context: Arc<Context>, capacity: Capacity) {
    let name = context.config.node_name.clone();
    while let Err(error) = register(&client, &context, &capacity).await {
        tracing::warn!(node = name, error = describe(&error), "the node could not be registered");
        tokio::time::sleep(RETRY).await;
    }
    context.recorder.node(&name, "Starting", "Starting kubelet.");
    let lease = lease::keep(client.clone(), context.clone());
    let status = keep_status(client, context, capacity);
    tokio::join!(lease, status);
}

async fn register(client: &Client, context: &Context, capacity: &Capacity) -> Result<(), Error> {
    let config = &context.config;
    let nodes: Api<Node> = Api::all(client.clone());
    let labels = labels(config);
    let node = Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels.iter().cloned().collect()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec::default()),
        status: Some(status::initial(config, capacity, context.clock.now())),
    };
    match nodes.create(&PostParams::default(), &node).await {
        Ok(_) => {
            tracing::info!(node = config.node_name, "the node is registered");
            return Ok(());
        }
        Err(kube::Error::Api(answer)) if answer.reason == "AlreadyExists" => {}
        Err(error) => return Err(Error::api("create node", &config.node_name, error)),
    }
    // Labels of ours may have changed; others' stay.
    let labels: serde_json::Map<String, serde_json::Value> =
        labels.into_iter().map(|(key, value)| (key, json!(value))).collect();
    let patch = json!({"metadata": {"labels": labels}});
    let patched = nodes.patch(&config.node_name, &PatchParams::default(), &Patch::Strategic(&patch)).await;
    patched.map(drop).map_err(|error| Error::api("label node", &config.node_name, error))
}

fn labels(config: &PodsConfig) -> Vec<(String, String)> {
    let mut labels = vec![
        ("kubernetes.io/hostname".to_owned(), config.node_name.clone()),
        ("kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("kubernetes.io/arch".to_owned(), status::architecture().to_owned()),
        ("beta.kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("beta.kubernetes.io/arch".to_owned(), status::architecture().to_owned()),
    ];
    labels.extend(config.node_labels.iter().cloned());
    labels
}

async fn keep_status(client: Client, context: Arc<Context>, capacity: Capacity) {
    let nodes: Api<Node> = Api::all(client.clone());
    let name = context.config.node_name.clone();
    let started = tokio::time::Instant::now();
    let mut was_ready = false;
    let mut last: Option<status::Facts> = None;
    let mut unchanged = 0;
    let mut pause = Duration::ZERO;
    loop {
        tokio::time::sleep(pause).await;
        let facts = status::observe(&context).await;
        was_ready |= facts.is_ready();
        pause = if was_ready || started.elapsed() > START { STATUS } else { STARTING };
        unchanged = if last.as_ref() == Some(&facts) { unchanged + 1 } else { 0 };
        if last.is_some() && unchanged % HEARTBEAT != 0 {
            continue;
        }
        match write_status(&nodes, &context, &capacity, &facts).await {
            Ok(()) => last = Some(facts),
            Err(Error::Api { source, .. }) if crate::cluster::is_gone(&source) => {
                // Somebody deleted the node: it registers again as long as it runs.
                if let Err(error) = register(&client, &context, &capacity).await {
                    tracing::warn!(node = name, error = describe(&error), "the node could not be registered");
                }
                last = None;
            }
            Err(error) => {
                tracing::warn!(
                    node = name,
                    error = describe(&error),
                    "the node's status could not be written"
                );
                last = None;
            }
        }
    }
}

async fn write_status(
    nodes: &Api<Node>,
    context: &Context,
    capacity: &Capacity,
    facts: &status::Facts,
) -> Result<(), Error> {
    let name = &context.config.node_name;
    let node = nodes.get(name).await.map_err(|error| Error::api("get node", name, error))?;
    let before = node.status.unwrap_or_default();
    let new = status::compute(&context.config, capacity, facts, &before, context.clock.now());
    if status::is_ready(&new) && !status::is_ready(&before) {
        context.recorder.node(name, "NodeReady", format!("Node {name} status is now: NodeReady"));
    }
    // Not a strategic merge: that takes two addresses of one type for one.
    let patch = json!({"status": new});
    let patched = nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.map(drop).map_err(|error| Error::api("patch status of node", name, error))
}
