//! Pod garbage: pods on nodes that are gone, pods that were deleted before they had a node, and ended pods
//! beyond a number.
//!
//! Watches Pods and Nodes. A node counts as gone when it has been missing for [`QUARANTINE`] and the API
//! confirms it. Writes the phase of such pods (`Failed`) and deletes without grace: there is no node agent
//! that would finish the deletion.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, PodCondition};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use crate::Context;
use crate::error::{During, Result};
use crate::informers::Informers;
use crate::pod::Pod;
use crate::pod_state;
use crate::runtime::clock::Clock;
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};

/// The controller's name, and its service account in kube-system.
pub const NAME: &str = "pod-garbage-collector";
/// A node must be missing for this long before its pods are deleted.
pub const QUARANTINE: Duration = Duration::from_secs(40);
/// So many ended pods are kept for people to look at.
pub const KEPT: usize = 12_500;
/// Ended pods are counted this long after one has ended, at most.
const SWEEP: Duration = Duration::from_secs(20);

/// The controller.
pub struct PodGarbage {
    queue: Queue<ObjectKey>,
    informers: Informers,
    client: Client,
    clock: Clock,
    missing: Mutex<HashMap<String, Instant>>,
}

impl PodGarbage {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, _) = context.identity(NAME);
        let informers = context.informers.clone();
        let queue: Queue<ObjectKey> = Queue::default();
        let (to, nodes) = (queue.clone(), informers.nodes.clone());
        informers.pods.on_change(move |change| {
            let pod = change.object();
            if change.is_deletion() {
                return;
            }
            if pod_state::is_terminal(pod) {
                to.add_after(sweep(), SWEEP);
            }
            let homeless = match pod_state::node_name(pod) {
                None => pod_state::is_terminating(pod),
                Some(name) => nodes.get(&ObjectKey::cluster(name)).is_none(),
            };
            if homeless {
                to.add(ObjectKey::of(&pod.metadata));
            }
        });
        let (to, pods) = (queue.clone(), informers.pods.clone());
        informers.nodes.on_change(move |change| {
            if change.is_deletion() {
                let name = change.object().metadata.name.as_deref();
                let all = pods.all();
                let here = all.iter().filter(|pod| pod_state::node_name(pod) == name);
                here.for_each(|pod| to.add(ObjectKey::of(&pod.metadata)));
            }
        });
        Self { queue, informers, client, clock: context.clock.clone(), missing: Mutex::new(HashMap::new()) }
    }

    /// A pod whose node is missing: waits for the quarantine, asks the API, then deletes it.
    async fn orphan(&self, key: &ObjectKey, pod: &Pod, node: &str) -> Result<Requeue> {
        if self.informers.nodes.get(&ObjectKey::cluster(node)).is_some() {
            self.missing.lock().remove(node);
            return Ok(Requeue::Done);
        }
        let missing = self.missing.lock().entry(node.to_owned()).or_insert_with(Instant::now).elapsed();
        if missing < QUARANTINE {
            return Ok(Requeue::After(QUARANTINE - missing));
        }
        let nodes: Api<Node> = Api::all(self.client.clone());
        if nodes.get_metadata_opt(node).await.during("get node", node)?.is_some() {
            return Ok(Requeue::After(QUARANTINE));
        }
        tracing::info!(pod = %key, node, "deleting a pod whose node is gone");
        self.delete(key, pod).await
    }

    async fn delete(&self, key: &ObjectKey, pod: &Pod) -> Result<Requeue> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        if !pod_state::is_terminal(pod) {
            let condition = PodCondition {
                type_: "DisruptionTarget".to_owned(),
                status: "True".to_owned(),
                reason: Some("DeletionByPodGC".to_owned()),
                message: Some("PodGC: node no longer exists".to_owned()),
                last_transition_time: Some(self.clock.time()),
                ..PodCondition::default()
            };
            let patch = json!({
                "metadata": { "uid": pod.metadata.uid },
                "status": { "phase": "Failed", "conditions": [condition] },
            });
            let marked =
                api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(&patch)).await;
            match marked.during("mark pod failed", key) {
                Err(error) if error.is_not_found() => return Ok(Requeue::Done),
                other => other.map(drop)?,
            }
        }
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(&key.name, &params).await.during("delete pod", key) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(Requeue::Done),
        }
    }

    /// Deletes the oldest of the ended pods beyond the number kept.
    async fn sweep(&self) -> Result<Requeue> {
        let mut ended = self.informers.pods.all();
        ended.retain(|pod| pod_state::is_terminal(pod) && !pod_state::is_terminating(pod));
        let surplus = ended.len().saturating_sub(KEPT);
        if surplus > 0 {
            ended.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
            for pod in ended.iter().take(surplus) {
                self.delete(&ObjectKey::of(&pod.metadata), pod).await?;
            }
        }
        Ok(Requeue::Done)
    }
}

/// The key under which ended pods are counted; no pod has it, since pods have namespaces.
fn sweep() -> ObjectKey {
    ObjectKey::cluster("ended-pods")
}

impl Reconcile for PodGarbage {
    const NAME: &'static str = NAME;
    const WORKERS: usize = 2;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        if key == sweep() {
            return self.sweep().await;
        }
        let Some(pod) = self.informers.pods.get(&key) else { return Ok(Requeue::Done) };
        match pod_state::node_name(&pod) {
            Some(node) => self.orphan(&key, &pod, node).await,
            None if pod_state::is_terminating(&pod) => self.delete(&key, &pod).await,
            None => Ok(Requeue::Done),
        }
    }
}
