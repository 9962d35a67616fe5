//! EndpointSlice mirroring: Endpoints that somebody wrote by hand, as the slices that proxies read.
//!
//! Watches Endpoints, Services and EndpointSlices. For a service without a selector, the Endpoints object of its name
//! is mirrored into slices that it owns, marked by their label `endpointslice.kubernetes.io/managed-by`. Endpoints that
//! ask to be left alone, or that hold a leader lock, are not mirrored. Slices of others are not touched.

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::Context;
use crate::endpointslice::apply::Writer;
use crate::endpointslice::plan::Plan;
use crate::endpointslice::service_of;
use crate::endpointslice::tracker::Tracker;
use crate::error::{Error, Result};
use crate::informers::Informers;
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};

/// The controller's name, and its service account in kube-system.
pub const NAME: &str = "endpointslicemirroring-controller";
/// The value of the label that marks this controller's slices.
pub const MANAGED_BY: &str = "endpointslicemirroring-controller.k8s.io";

/// The EndpointSlice mirroring controller.
pub struct MirroredSlices {
    queue: Queue<ObjectKey>,
    informers: Informers,
    writer: Writer,
}

impl MirroredSlices {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, recorder) = context.identity(NAME);
        let informers = context.informers.clone();
        let queue: Queue<ObjectKey> = Queue::default();
        let tracker = Arc::new(Tracker::default());
        let to = queue.clone();
        informers.endpoints.on_change(move |change| to.add(ObjectKey::of(&change.object().metadata)));
        let to = queue.clone();
        informers.services.on_change(move |change| to.add(ObjectKey::of(&change.object().metadata)));
        let (to, seen) = (queue.clone(), Arc::clone(&tracker));
        informers.endpoint_slices.on_change(move |change| {
            if let Some(key) = service_of(change.object(), MANAGED_BY) {
                if change.is_deletion() {
                    seen.deleted(&key, change.object());
                }
                to.add(key);
            }
        });
        Self { queue, informers, writer: Writer { client, recorder, tracker } }
    }
}

impl Reconcile for MirroredSlices {
    const NAME: &'static str = NAME;
    const WORKERS: usize = 2;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let mut slices = self.informers.endpoint_slices.namespace(&key.namespace);
        slices.retain(|slice| service_of(slice, MANAGED_BY).as_ref() == Some(&key));
        let endpoints = self.informers.endpoints.get(&key);
        let service = self.informers.services.get(&key);
        let (Some(endpoints), true) = (
            endpoints.filter(|endpoints| plan::is_mirrored(endpoints)),
            service.is_some_and(|service| plan::has_no_selector(&service)),
        ) else {
            self.writer.write(&key, Plan { delete: slices, ..Plan::default() }).await?;
            self.writer.tracker.forget(&key);
            return Ok(Requeue::Done);
        };
        if self.writer.tracker.is_behind(&key, &slices) {
            return Err(Error::StaleCache(format!("mirrored endpointslices of {key}")));
        }
        self.writer.apply(&*endpoints, plan::plan(&endpoints, &slices)).await?;
        Ok(Requeue::Done)
    }
}
