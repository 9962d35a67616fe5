//! Taint eviction: deletes pods from nodes with a `NoExecute` taint, when their tolerations run out.
//!
//! Watches Nodes and Pods; deletes pods and writes nothing else but the condition `DisruptionTarget` that
//! says why. The time counts from when the taint was added. A taint that goes in time saves the pod: every
//! look plans anew from what is there.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PodCondition, Taint, Toleration};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;

use crate::Context;
use crate::error::{During, Result};
use crate::informers::Informers;
use crate::pod::Pod;
use crate::pod_state;
use crate::runtime::clock::{Clock, plus_seconds, until};
use crate::runtime::events::{Recorder, Severity};
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};

/// The name in metrics; the identity is that of the node controller.
pub const NAME: &str = "taint-eviction-controller";

/// The controller.
pub struct TaintEviction {
    queue: Queue<ObjectKey>,
    informers: Informers,
    client: Client,
    recorder: Recorder,
    clock: Clock,
}

impl TaintEviction {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, recorder) = context.identity(crate::node_lifecycle::NAME);
        let informers = context.informers.clone();
        let queue: Queue<ObjectKey> = Queue::default();
        let (to, nodes) = (queue.clone(), informers.nodes.clone());
        informers.pods.on_change(move |change| {
            let pod = change.object();
            let Some(name) = pod_state::node_name(pod).filter(|_| !change.is_deletion()) else { return };
            let tainted =
                nodes.get(&ObjectKey::cluster(name)).is_some_and(|node| !evicting(&node).is_empty());
            if tainted {
                to.add(ObjectKey::of(&pod.metadata));
            }
        });
        let (to, pods) = (queue.clone(), informers.pods.clone());
        informers.nodes.on_change(move |change| {
            let node = change.object();
            let before = change.before().map(|node| evicting(node)).unwrap_or_default();
            if evicting(node).is_empty() || before == evicting(node) {
                return;
            }
            let here = |pod: &Pod| pod_state::node_name(pod) == node.metadata.name.as_deref();
            pods.all().iter().filter(|pod| here(pod)).for_each(|pod| to.add(ObjectKey::of(&pod.metadata)));
        });
        Self { queue, informers, client, recorder, clock: context.clock.clone() }
    }

    async fn evict(&self, key: &ObjectKey, pod: &Pod) -> Result<()> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let condition = PodCondition {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
            reason: Some("DeletionByTaintManager".to_owned()),
            message: Some("Taint manager: deleting due to NoExecute taint".to_owned()),
            last_transition_time: Some(self.clock.time()),
            ..PodCondition::default()
        };
        let patch =
            json!({ "metadata": { "uid": pod.metadata.uid }, "status": { "conditions": [condition] } });
        let marked = api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(&patch)).await;
        match marked.during("mark pod for eviction", key) {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other.map(drop)?,
        }
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match api.delete(&key.name, &params).await.during("evict pod", key) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => {
                let message = format!("Marking for deletion Pod {key}");
                self.recorder.record(pod, Severity::Normal, "TaintManagerEviction", message);
                Ok(())
            }
        }
    }
}

/// The taints that evict.
fn evicting(node: &k8s_openapi::api::core::v1::Node) -> Vec<Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().filter(|taint| taint.effect == "NoExecute").cloned().collect()
}

/// When the pod has to go: now for a taint that it does not tolerate, otherwise when the shortest
/// toleration has run out since its taint was added. `None` when it may stay.
fn eviction_time(taints: &[Taint], tolerations: &[Toleration], now: Timestamp) -> Option<Timestamp> {
    let mut earliest: Option<Timestamp> = None;
    for taint in taints {
        let mut matching = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).peekable();
        if matching.peek().is_none() {
            return Some(now);
        }
        let added = taint.time_added.as_ref().map_or(now, |time| time.0);
        let shortest = matching.filter_map(|toleration| toleration.toleration_seconds).min();
        let due = shortest.map(|seconds| plus_seconds(added, seconds.max(0)));
        earliest = [earliest, due].into_iter().flatten().min();
    }
    earliest
}

/// Whether a toleration covers a taint (the API's rules for `v1.Toleration`).
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => !key.is_empty() && text(&toleration.value) == text(&taint.value),
        Some(_) => false,
    }
}

impl Reconcile for TaintEviction {
    const NAME: &'static str = NAME;
    const WORKERS: usize = 4;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let Some(pod) = self.informers.pods.get(&key) else { return Ok(Requeue::Done) };
        if pod_state::is_terminating(&pod) || pod_state::is_terminal(&pod) {
            return Ok(Requeue::Done);
        }
        let Some(name) = pod_state::node_name(&pod) else { return Ok(Requeue::Done) };
        let Some(node) = self.informers.nodes.get(&ObjectKey::cluster(name)) else {
            return Ok(Requeue::Done);
        };
        let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        let now = self.clock.now();
        match eviction_time(&evicting(&node), tolerations, now) {
            None => Ok(Requeue::Done),
            Some(due) if due > now => Ok(Requeue::After(until(now, due))),
            Some(_) => self.evict(&key, &pod).await.map(|()| Requeue::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn eviction_time_follows_tolerations() {
        let taints: Vec<Taint> = serde_json::from_value(json!([
            {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"},
        ]))
        .unwrap();
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let check = |tolerations: serde_json::Value, expected: Option<&str>| {
            let parsed: Vec<Toleration> = serde_json::from_value(tolerations.clone()).unwrap();
            let expected = expected.map(|time| time.parse().unwrap());
            assert_eq!(eviction_time(&taints, &parsed, now), expected, "{tolerations}");
        };
        let key = "node.kubernetes.io/unreachable";
        check(json!([]), Some("2026-01-01T00:01:00Z"));
        check(json!([{"key": key, "operator": "Exists", "effect": "NoExecute"}]), None);
        let five = json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
        check(json!([five]), Some("2026-01-01T00:05:00Z"));
        check(json!([five, {"operator": "Exists", "tolerationSeconds": 30}]), Some("2026-01-01T00:00:30Z"));
        check(json!([{"key": "other", "operator": "Exists"}]), Some("2026-01-01T00:01:00Z"));
        assert_eq!(eviction_time(&[], &[], now), None);
    }
}
