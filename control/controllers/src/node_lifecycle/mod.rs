//! Node lifecycle: notices nodes that fall silent, and keeps taints in line with conditions.
//!
//! Watches Nodes, their Leases, and Pods. A heartbeat is a change of the Lease or of the `Ready` condition's
//! heartbeat; its age is measured by our clock from when we saw it, so that clocks need not agree. After
//! [`GRACE`] without one the node's conditions become `Unknown` and its pods not ready. Writes the status
//! and taints of Nodes, and the `Ready` condition of pods on silent nodes. Evicting pods is the business of
//! [`crate::taint_eviction`]. When no node at all is ready the fault is more likely with us than with
//! them: then nothing gets a taint that evicts.

mod apply;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::Context;
use crate::error::Result;
use crate::informers::{Informers, NODE_LEASES};
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};

/// The controller's name, and its service account in kube-system.
pub const NAME: &str = "node-controller";
/// A node without a heartbeat for this long is unreachable.
pub const GRACE: Duration = Duration::from_secs(40);
/// A new node has this long for its first heartbeat.
pub const STARTUP_GRACE: Duration = Duration::from_secs(60);

/// The controller.
pub struct NodeLifecycle {
    queue: Queue<ObjectKey>,
    informers: Informers,
    writer: apply::Writer,
    heartbeats: Mutex<HashMap<String, Heartbeat>>,
}

/// The last heartbeat of a node, and when we saw it.
#[derive(Clone, Debug)]
struct Heartbeat {
    /// What the node wrote; a change is a heartbeat.
    mark: (Option<jiff::Timestamp>, Option<jiff::Timestamp>),
    seen: Instant,
    uid: Option<String>,
}

impl NodeLifecycle {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, recorder) = context.identity(NAME);
        let informers = context.informers.clone();
        let queue: Queue<ObjectKey> = Queue::default();
        let (to, nodes) = (queue.clone(), informers.nodes.clone());
        informers.nodes.on_change(move |change| {
            to.add(ObjectKey::of(&change.object().metadata));
            // Whether any node is ready matters to all of them.
            if change.is_deletion()
                || change.before().map(|node| plan::is_ready(node)) != Some(plan::is_ready(change.object()))
            {
                nodes.all().iter().for_each(|node| to.add(ObjectKey::of(&node.metadata)));
            }
        });
        let to = queue.clone();
        informers.leases.on_change(move |change| {
            to.add(ObjectKey::cluster(change.object().metadata.name.clone().unwrap_or_default()));
        });
        let (to, nodes) = (queue.clone(), informers.nodes.clone());
        informers.pods.on_change(move |change| {
            // A pod on a silent node that still counts as ready: its node has to be looked at.
            let pod = change.object();
            if !crate::pod_state::is_ready(pod) || change.is_deletion() {
                return;
            }
            let Some(name) = crate::pod_state::node_name(pod) else { return };
            let key = ObjectKey::cluster(name);
            if nodes.get(&key).is_some_and(|node| plan::is_silent(&node)) {
                to.add(key);
            }
        });
        let writer = apply::Writer { client, recorder, clock: context.clock.clone() };
        Self { queue, informers, writer, heartbeats: Mutex::new(HashMap::new()) }
    }

    /// How long ago the node's last heartbeat was seen.
    fn silence(&self, node: &Node, lease: Option<&Lease>) -> Duration {
        let name = node.metadata.name.clone().unwrap_or_default();
        let mark = plan::heartbeat(node, lease);
        let mut heartbeats = self.heartbeats.lock();
        let fresh = || Heartbeat { mark, seen: Instant::now(), uid: node.metadata.uid.clone() };
        let known = heartbeats.entry(name).or_insert_with(fresh);
        if known.mark != mark || known.uid != node.metadata.uid {
            *known = fresh();
        }
        known.seen.elapsed()
    }
}

impl Reconcile for NodeLifecycle {
    const NAME: &'static str = NAME;
    const WORKERS: usize = 4;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let Some(node) = self.informers.nodes.get(&key) else {
            self.heartbeats.lock().remove(&key.name);
            return Ok(Requeue::Done);
        };
        let lease = self.informers.leases.get(&ObjectKey::new(NODE_LEASES, &key.name));
        let silence = self.silence(&node, lease.as_deref());
        let any_ready = self.informers.nodes.all().iter().any(|node| plan::is_ready(node));
        let plan = plan::plan(&node, silence, any_ready, self.writer.clock.now());
        self.writer.apply(&node, &plan).await?;
        if plan.silent {
            let pods = self.informers.pods.all();
            let here = pods.iter().filter(|pod| crate::pod_state::node_name(pod) == Some(key.name.as_str()));
            for pod in here.filter(|pod| crate::pod_state::is_ready(pod)) {
                self.writer.mark_not_ready(pod).await?;
            }
        }
        Ok(plan.look_again.map_or(Requeue::Done, Requeue::After))
    }
}
