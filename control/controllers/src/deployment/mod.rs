//! Deployment controller: brings pods from one template to the next through ReplicaSets.
//!
//! Watches Deployments, their ReplicaSets and (for `Recreate`) pods that go away. Writes ReplicaSets, the
//! Deployment's revision annotation and its status. Owns the ReplicaSets it creates. Looks again when one
//! of them changes, and when a progress deadline is due. A ReplicaSet name that is taken by another
//! template raises `status.collisionCount`, which changes the name; every other failure is retried.
//!
//! Does not touch pods: the ReplicaSet controller does.

mod annotations;
mod apply;
mod conditions;
mod hash;
mod plan;
mod rollout;
mod scaling;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::core::ObjectMeta;

use crate::Context;
use crate::error::Result;
use crate::informers::Informers;
use crate::pod::Pod;
use crate::runtime::cache::Change;
use crate::runtime::key::ObjectKey;
use crate::runtime::ownership::{controller_of, matches};
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};

/// The controller's name, and its service account in kube-system.
pub const NAME: &str = "deployment-controller";

/// The Deployment controller.
pub struct Deployments {
    queue: Queue<ObjectKey>,
    informers: Informers,
    writer: apply::Writer,
}

impl Deployments {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, recorder) = context.identity(NAME);
        let informers = context.informers.clone();
        let queue: Queue<ObjectKey> = Queue::default();
        let to = queue.clone();
        informers.deployments.on_change(move |change| to.add(ObjectKey::of(&change.object().metadata)));
        let (to, of) = (queue.clone(), informers.clone());
        informers.replica_sets.on_change(move |change| {
            for key in affected(&of, change) {
                to.add(key);
            }
        });
        let (to, of) = (queue.clone(), informers.clone());
        informers.pods.on_change(move |change| {
            if let Some(key) = recreated_by(&of, change) {
                to.add(key);
            }
        });
        let writer = apply::Writer { client, recorder, clock: context.clock.clone() };
        Self { queue, informers, writer }
    }
}

impl Reconcile for Deployments {
    const NAME: &'static str = NAME;
    const WORKERS: usize = 5;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let Some(deployment) = self.informers.deployments.get(&key) else { return Ok(Requeue::Done) };
        let replica_sets = self.writer.claim(&deployment, &self.informers).await?;
        let pods = replica_sets
            .iter()
            .filter_map(|set| Some((set.metadata.uid.clone()?, pods_of(&self.informers, &set.metadata))))
            .collect();
        let observed = plan::Observed { deployment: &deployment, replica_sets, pods };
        let plan = plan::plan(observed, self.writer.clock.now());
        self.writer.apply(&deployment, plan).await
    }
}

fn pods_of(informers: &Informers, set: &ObjectMeta) -> Vec<Arc<Pod>> {
    set.uid.as_deref().map(|uid| informers.pods.controlled_by(uid)).unwrap_or_default()
}

/// The Deployments that a change of a ReplicaSet matters to: its controllers, or all that could adopt it.
fn affected(informers: &Informers, change: &Change<ReplicaSet>) -> Vec<ObjectKey> {
    let mut keys = Vec::new();
    for set in change.before().into_iter().chain([change.object()]) {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        match controller_of(&set.metadata) {
            Some(owner) if owner.kind == "Deployment" => keys.push(ObjectKey::new(namespace, &owner.name)),
            Some(_) => {}
            None if change.is_deletion() => {}
            None => keys.extend(
                informers
                    .deployments
                    .namespace(namespace)
                    .iter()
                    .filter(|deployment| adoptable(deployment, set))
                    .map(|deployment| ObjectKey::of(&deployment.metadata)),
            ),
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

fn adoptable(deployment: &Deployment, set: &ReplicaSet) -> bool {
    deployment.spec.as_ref().is_some_and(|spec| matches(&spec.selector, set.metadata.labels.as_ref()))
}

/// The `Recreate` Deployment that waits for this pod to be gone.
fn recreated_by(informers: &Informers, change: &Change<Pod>) -> Option<ObjectKey> {
    let pod = change.object();
    if !change.is_deletion() && !crate::pod_state::is_terminal(pod) {
        return None;
    }
    let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet")?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let set = informers.replica_sets.get(&ObjectKey::new(namespace, &owner.name))?;
    let owner = controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment")?;
    let key = ObjectKey::new(namespace, &owner.name);
    let deployment = informers.deployments.get(&key)?;
    plan::is_recreate(&deployment).then_some(key)
}
