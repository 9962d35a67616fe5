//! EndpointSlice controller: the addresses behind each service with a selector.
//!
//! Watches Services, Pods, Nodes (for zones) and EndpointSlices. Writes the slices that carry its label
//! `endpointslice.kubernetes.io/managed-by`, and no others; the service owns them, so the garbage collector
//! removes them with it. One change of a pod rewrites one slice. It does not plan from a cache that lacks
//! its own last writes: it waits for the event that brings them.

pub(crate) mod apply;
pub(crate) mod plan;
#[cfg(test)]
mod tests;
pub(crate) mod tracker;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::Context;
use crate::backends;
use crate::error::{Error, Result};
use crate::informers::Informers;
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};

/// The controller's name, and its service account in kube-system.
pub const NAME: &str = "endpointslice-controller";
/// The value of the label that marks this controller's slices.
pub const MANAGED_BY: &str = "endpointslice-controller.k8s.io";
const ZONE: &str = "topology.kubernetes.io/zone";

/// The EndpointSlice controller.
pub struct EndpointSlices {
    queue: Queue<ObjectKey>,
    informers: Informers,
    writer: apply::Writer,
}

impl EndpointSlices {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, recorder) = context.identity(NAME);
        let informers = context.informers.clone();
        let queue: Queue<ObjectKey> = Queue::default();
        let tracker = Arc::new(tracker::Tracker::default());
        let to = queue.clone();
        informers.services.on_change(move |change| to.add(ObjectKey::of(&change.object().metadata)));
        let (to, services) = (queue.clone(), informers.services.clone());
        informers.pods.on_change(move |change| {
            backends::affected(&services, change).into_iter().for_each(|key| to.add(key));
        });
        let (to, seen) = (queue.clone(), Arc::clone(&tracker));
        informers.endpoint_slices.on_change(move |change| {
            if let Some(key) = service_of(change.object(), MANAGED_BY) {
                if change.is_deletion() {
                    seen.deleted(&key, change.object());
                }
                to.add(key);
            }
        });
        let (to, services) = (queue.clone(), informers.services.clone());
        informers.nodes.on_change(move |change| {
            if change.before().and_then(|node| zone(node)) != zone(change.object()) {
                services.all().iter().for_each(|service| to.add(ObjectKey::of(&service.metadata)));
            }
        });
        Self { queue, informers, writer: apply::Writer { client, recorder, tracker } }
    }
}

/// The service that a slice belongs to, when `manager` made it.
pub(crate) fn service_of(slice: &EndpointSlice, manager: &str) -> Option<ObjectKey> {
    let labels = slice.metadata.labels.as_ref()?;
    let ours = labels.get(plan::MANAGED_BY_LABEL).map(String::as_str) == Some(manager);
    let name = labels.get(plan::SERVICE_NAME_LABEL).filter(|_| ours)?;
    Some(ObjectKey::new(slice.metadata.namespace.as_deref().unwrap_or_default(), name))
}

fn zone(node: &Node) -> Option<&String> {
    node.metadata.labels.as_ref()?.get(ZONE)
}

impl Reconcile for EndpointSlices {
    const NAME: &'static str = NAME;
    const WORKERS: usize = 5;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let Some(service) = self.informers.services.get(&key) else {
            self.writer.tracker.forget(&key);
            return Ok(Requeue::Done);
        };
        if backends::selector(&service).is_none() || service.metadata.deletion_timestamp.is_some() {
            return Ok(Requeue::Done);
        }
        let mut slices = self.informers.endpoint_slices.namespace(&key.namespace);
        slices.retain(|slice| service_of(slice, MANAGED_BY).as_ref() == Some(&key));
        if self.writer.tracker.is_behind(&key, &slices) {
            return Err(Error::StaleCache(format!("endpointslices of {key}")));
        }
        let mut pods = self.informers.pods.namespace(&key.namespace);
        pods.retain(|pod| backends::selects(&service, pod.metadata.labels.as_ref()));
        let zone_of = |name: &str| {
            let node = self.informers.nodes.get(&ObjectKey::cluster(name))?;
            zone(&node).cloned()
        };
        let plan = plan::plan(&service, &pods, &slices, zone_of);
        self.writer.apply(&*service, plan).await?;
        Ok(Requeue::Done)
    }
}
