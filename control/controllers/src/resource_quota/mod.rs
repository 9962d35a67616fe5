//! ResourceQuota: what a quota limits, and how much of it is used, stands in its status.
//!
//! The API server charges what is created; this counts what is there: when a quota is made or its limits change, when
//! something that it counts goes or gets smaller, and every [`RESYNC`]. Watches quotas, the pods, services and claims that
//! all controllers share, and metadata of whatever other kinds quotas count ([`watches`]). Writes the status, by
//! compare-and-swap, so that a charge that comes in between is not lost. What objects count for is in `skep_api::quota`,
//! which the API server goes by, too.

mod plan;
#[cfg(test)]
mod tests;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, ResourceQuota, Service};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::Value;
use skep_api::quota::{Evaluator, Selector, measure};
use skep_api::resources;
use tokio_util::sync::CancellationToken;

use self::plan::Status;
use self::watches::Counted;
use crate::Context;
use crate::error::{During, Result};
use crate::informers::Informers;
use crate::pod::Pod;
use crate::runtime::cache::Change;
use crate::runtime::clock::Clock;
use crate::runtime::informer::Informer;
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};

/// The controller's name, and its service account in kube-system.
pub const NAME: &str = "resourcequota-controller";
/// Every quota is counted again after this time, as upstream does.
pub const RESYNC: Duration = Duration::from_secs(300);
/// What was counted for the first time, or counted down, is counted once more after this time: what was just being
/// written has come through the watches by then.
const AGAIN: Duration = Duration::from_secs(5);
/// A quota is counted so long after something has become free, with whatever else becomes free until then.
const GATHER: Duration = Duration::from_millis(200);
/// So long until kinds that are not watched yet are looked at again.
const LISTING: Duration = Duration::from_millis(250);

/// The controller.
pub struct ResourceQuotas {
    queue: Queue<ObjectKey>,
    informers: Informers,
    client: Client,
    clock: Clock,
    counted: Arc<Counted>,
}

impl ResourceQuotas {
    /// Registers with the watches. `watcher` is the client of the watches of further kinds.
    pub fn new(context: &mut Context<'_>, watcher: Client, shutdown: CancellationToken) -> Self {
        let (client, _) = context.identity(NAME);
        let (informers, clock) = (context.informers.clone(), context.clock.clone());
        let queue: Queue<ObjectKey> = Queue::default();
        let to = queue.clone();
        informers.resource_quotas.on_change(move |change| {
            let changed = change.before().is_none_or(|before| before.spec != change.object().spec);
            if changed && !change.is_deletion() {
                to.add(ObjectKey::of(&change.object().metadata));
            }
        });
        let free =
            Freed { queue: queue.clone(), quotas: informers.resource_quotas.clone(), clock: clock.clone() };
        free.follow(&informers.pods, "pods");
        free.follow(&informers.services, "services");
        free.follow(&informers.claims, "persistentvolumeclaims");
        free.follow(&informers.resource_quotas, "resourcequotas");
        let counted = Counted::new(watcher, free, shutdown);
        Self { queue, informers, client, clock, counted }
    }

    /// The objects of a kind; nothing while it is not known which there are.
    fn list(&self, group: &str, plural: &str, namespace: &str) -> Option<Vec<Arc<Value>>> {
        match (group, plural) {
            ("", "pods") => Some(values(&self.informers.pods, namespace)),
            ("", "services") => Some(values(&self.informers.services, namespace)),
            ("", "persistentvolumeclaims") => Some(values(&self.informers.claims, namespace)),
            // Through the watch that told of the quota: it counts itself from the start.
            ("", "resourcequotas") => Some(values(&self.informers.resource_quotas, namespace)),
            _ => self.counted.list(group, plural, namespace),
        }
    }

    async fn write(&self, key: &ObjectKey, quota: &ResourceQuota, status: &Status) -> Result<()> {
        // The version of the cached object guards against a charge that came in between.
        let mut new = quota.clone();
        new.status = Some(status.to_object());
        let api: Api<ResourceQuota> = Api::namespaced(self.client.clone(), &key.namespace);
        let written = api.replace_status(&key.name, &PostParams::default(), &new).await;
        match written.during("update status of resourcequota", key) {
            Err(error) if error.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }
}

impl Reconcile for ResourceQuotas {
    const NAME: &'static str = NAME;
    const WORKERS: usize = 2;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let Some(quota) = self.informers.resource_quotas.get(&key) else { return Ok(Requeue::Done) };
        let spec = serde_json::to_value(&quota.spec).unwrap_or_default();
        let hard = resources::read(&spec["hard"]);
        if !self.counted.watch(skep_api::quota::kinds_of(hard.keys())).await? {
            return Ok(Requeue::After(LISTING));
        }
        let selectors = Selector::of_spec(&spec);
        let list = |group: &str, plural: &str| self.list(group, plural, &key.namespace);
        let used = measure(hard.keys(), &selectors, list, &now(&self.clock));
        let old = serde_json::to_value(&quota.status).unwrap_or_default();
        let status = Status { hard, used };
        if !status.differs(&old) {
            return Ok(Requeue::After(RESYNC));
        }
        self.write(&key, &quota, &status).await?;
        let again = status.is_less(&old) || status.is_first(&old);
        Ok(Requeue::After(if again { AGAIN } else { RESYNC }))
    }
}

fn now(clock: &Clock) -> String {
    crate::runtime::clock::whole_seconds(clock.now()).to_string()
}

/// An object as quotas count it.
trait Countable: kube::Resource {
    /// All that counts, in the form of the API.
    fn counted(&self) -> Value;
}

impl Countable for Pod {
    fn counted(&self) -> Value {
        Pod::counted(self)
    }
}

macro_rules! countable_whole {
    ($($kind:ty),*) => { $(
        impl Countable for $kind {
            fn counted(&self) -> Value {
                serde_json::to_value(self).unwrap_or_default()
            }
        }
    )* };
}

countable_whole!(Service, PersistentVolumeClaim, ResourceQuota);

fn values<K: Countable>(informer: &Informer<K>, namespace: &str) -> Vec<Arc<Value>> {
    informer.namespace(namespace).iter().map(|object| Arc::new(object.counted())).collect()
}

/// What becomes of it when something that is counted goes, or gets smaller.
#[derive(Clone)]
struct Freed {
    queue: Queue<ObjectKey>,
    quotas: Informer<ResourceQuota>,
    clock: Clock,
}

impl Freed {
    /// Looks at all changes of a kind.
    fn follow<K>(&self, informer: &Informer<K>, plural: &'static str)
    where
        K: Countable + Send + Sync + 'static,
    {
        let this = self.clone();
        let evaluator = Evaluator::of("", plural);
        informer.on_change(move |change: &Change<K>| {
            let namespace = change.object().meta().namespace.clone().unwrap_or_default();
            if this.quotas.namespace(&namespace).is_empty() {
                return;
            }
            let freed = change.is_deletion()
                || change.before().is_some_and(|before| {
                    evaluator.frees(&before.counted(), &change.object().counted(), &now(&this.clock))
                });
            if freed {
                this.announce("", plural, &namespace);
            }
        });
    }

    /// Something of a kind has gone from a namespace: the quotas that count it are counted again.
    fn announce(&self, group: &str, plural: &str, namespace: &str) {
        let evaluator = Evaluator::of(group, plural);
        for quota in self.quotas.namespace(namespace) {
            let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
            let names = hard.into_iter().flat_map(|hard| hard.keys());
            if !evaluator.matching(names).is_empty() {
                self.queue.add_after(ObjectKey::of(&quota.metadata), GATHER);
            }
        }
    }
}
