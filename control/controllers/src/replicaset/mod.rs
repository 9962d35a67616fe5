//! ReplicaSet and ReplicationController controllers: keep a number of pods of one template.
//!
//! One controller for both kinds ([`keeper`]); in what follows a ReplicaSet is either. Watches ReplicaSets and pods. Creates and deletes pods, adopts those that match and that nobody controls,
//! releases those that match no longer; writes the ReplicaSet's status. Looks again when a pod changes and
//! when a ready pod becomes available (`minReadySeconds`). What was asked for and not yet seen is written
//! down as expectations, so that a stale cache never leads to too many pods. Failures are retried with
//! back-off and shown in the condition `ReplicaFailure`.

mod apply;
mod keeper;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use std::marker::PhantomData;

use crate::Context;
use crate::error::Result;
use crate::informers::Informers;
use crate::pod::Pod;
use crate::pod_state;
use crate::runtime::cache::Change;
use crate::runtime::clock::plus_seconds;
use crate::runtime::expectations::Expectations;
use crate::runtime::key::ObjectKey;
use crate::runtime::ownership::{controller_of, matches};
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};
use keeper::Keeper;

/// The controller of one of the kinds.
pub struct ReplicaSets<K> {
    queue: Queue<ObjectKey>,
    informers: Informers,
    expectations: Arc<Expectations>,
    writer: apply::Writer<K>,
}

impl<K: Keeper> ReplicaSets<K> {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, recorder) = context.identity(K::CONTROLLER);
        let informers = context.informers.clone();
        let queue: Queue<ObjectKey> = Queue::default();
        let expectations = Arc::new(Expectations::default());
        let (to, seen) = (queue.clone(), Arc::clone(&expectations));
        K::informer(&informers).on_change(move |change| {
            let key = ObjectKey::of(change.object().meta());
            let replaced = change.before().is_some_and(|old| old.meta().uid != change.object().meta().uid);
            if change.is_deletion() || replaced {
                seen.forget(&key);
            }
            to.add(key);
        });
        let watcher = PodWatcher::<K> {
            kind: PhantomData,
            queue: queue.clone(),
            informers: informers.clone(),
            expectations: Arc::clone(&expectations),
        };
        informers.pods.on_change(move |change| watcher.pod_changed(change));
        let writer = apply::Writer {
            client,
            recorder,
            clock: context.clock.clone(),
            expectations: Arc::clone(&expectations),
            kind: PhantomData,
        };
        Self { queue, informers, expectations, writer }
    }
}

impl<K: Keeper> Reconcile for ReplicaSets<K> {
    const NAME: &'static str = K::CONTROLLER;
    const WORKERS: usize = 5;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let Some(object) = K::informer(&self.informers).get(&key) else {
            self.expectations.forget(&key);
            return Ok(Requeue::Done);
        };
        let set = object.as_set();
        // Before the pods are read: what is seen after this is in the cache by then.
        let settled = self.expectations.satisfied(&key);
        let pods = self.writer.claim(&object, &set, &self.informers).await?;
        let observed = plan::Observed::new(&set, pods, related::<K>(&self.informers, &object));
        let now = self.writer.clock.now();
        let change = match set.metadata.deletion_timestamp {
            None if settled => plan::change(&observed),
            _ => plan::Change::Keep,
        };
        let outcome = self.writer.change_pods(&object, &set, &change).await;
        let failure = outcome.as_ref().err().map(|error| (change.failure_reason(), error.reason()));
        let updated = plan::status(&observed, failure, now).map(|status| object.with_status(status));
        if let Some(updated) = updated.filter(|updated| !updated.has_status_of(&object)) {
            self.writer.write_status(&updated).await?;
        }
        outcome?;
        Ok(plan::look_again(&observed, now).map_or(Requeue::Done, Requeue::After))
    }
}

/// The active pods of all ReplicaSets with the same controller: deleting spreads over nodes by them.
fn related<K: Keeper>(informers: &Informers, object: &K) -> Vec<Arc<Pod>> {
    let Some(owner) = controller_of(object.meta()) else { return Vec::new() };
    let sets = K::informer(informers).controlled_by(&owner.uid);
    let uids = sets.iter().filter_map(|set| set.meta().uid.as_deref());
    uids.flat_map(|uid| informers.pods.controlled_by(uid)).filter(|pod| pod_state::is_active(pod)).collect()
}

struct PodWatcher<K> {
    kind: PhantomData<K>,
    queue: Queue<ObjectKey>,
    informers: Informers,
    expectations: Arc<Expectations>,
}

impl<K: Keeper> PodWatcher<K> {
    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.object();
        if let Some(old) = change.before() {
            let (before, after) = (self.owner_of(old), self.owner_of(pod));
            if before != after
                && let Some(key) = before
            {
                self.queue.add(key);
            }
        }
        let Some(key) = self.owner_of(pod) else {
            if controller_of(&pod.metadata).is_none() && pod_state::is_active(pod) && !change.is_deletion() {
                self.offer(pod);
            }
            return;
        };
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        match change {
            Change::Added(_) => self.expectations.creation_observed(&key),
            Change::Updated(old, _) if old.metadata.uid != pod.metadata.uid => {
                self.expectations.deletion_observed(&key, old.metadata.uid.as_deref().unwrap_or_default());
                self.expectations.creation_observed(&key);
            }
            Change::Updated(..) => {}
            Change::Deleted(_) => self.expectations.deletion_observed(&key, uid),
        }
        // Asking for a deletion shows as this timestamp first; the pod may linger for its grace period.
        if pod_state::is_terminating(pod) {
            self.expectations.deletion_observed(&key, uid);
        }
        self.queue.add(key);
    }

    fn owner_of(&self, pod: &Pod) -> Option<ObjectKey> {
        let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == K::kind(&()))?;
        let key = ObjectKey::new(pod.metadata.namespace.as_deref().unwrap_or_default(), &owner.name);
        let object = K::informer(&self.informers).get(&key)?;
        (object.meta().uid.as_ref() == Some(&owner.uid)).then_some(key)
    }

    /// Tells every ReplicaSet that could adopt the pod.
    fn offer(&self, pod: &Pod) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        for object in K::informer(&self.informers).namespace(namespace) {
            let set = object.as_set();
            let labels = pod.metadata.labels.as_ref();
            if set.spec.as_ref().is_some_and(|spec| matches(&spec.selector, labels)) {
                self.queue.add(ObjectKey::of(&set.metadata));
            }
        }
    }
}

/// When the first of the ready pods that are not available yet becomes so.
fn next_available(
    pods: &[Arc<Pod>],
    min_ready_seconds: i32,
    now: jiff::Timestamp,
) -> Option<std::time::Duration> {
    pods.iter()
        .filter_map(|pod| pod_state::available_from(pod, min_ready_seconds))
        .filter(|from| *from > now)
        .min()
        .map(|from| crate::runtime::clock::until(now, plus_seconds(from, 1)))
}
