//! Namespace controller: empties a namespace that is being deleted, then lets it go.
//!
//! Watches Namespaces. For one with a deletion timestamp it deletes everything in it that discovery knows of
//! (pods first, so that what they need outlives them), says in the status what is left, and when nothing is
//! left removes the finalizer `kubernetes` through the `finalize` subresource. While something is left it
//! looks again after the longest grace period that it saw. Groups that cannot be discovered hold the
//! namespace back: nothing may be forgotten in it.

mod apply;
mod plan;
#[cfg(test)]
mod tests;

use crate::Context;
use crate::error::Result;
use crate::informers::Informers;
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};

/// The controller's name, and its service account in kube-system.
pub const NAME: &str = "namespace-controller";

/// The Namespace controller.
pub struct Namespaces {
    queue: Queue<ObjectKey>,
    informers: Informers,
    writer: apply::Writer,
}

impl Namespaces {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, _) = context.identity(NAME);
        let informers = context.informers.clone();
        let queue: Queue<ObjectKey> = Queue::default();
        let to = queue.clone();
        informers.namespaces.on_change(move |change| {
            let meta = &change.object().metadata;
            if meta.deletion_timestamp.is_some() && !change.is_deletion() {
                to.add(ObjectKey::of(meta));
            }
        });
        Self { queue, informers, writer: apply::Writer { client, clock: context.clock.clone() } }
    }
}

impl Reconcile for Namespaces {
    const NAME: &'static str = NAME;
    const WORKERS: usize = 10;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let namespace = self.informers.namespaces.get(&key);
        match namespace.filter(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
            Some(namespace) if plan::holds(&namespace) => self.writer.empty(&namespace).await,
            _ => Ok(Requeue::Done),
        }
    }
}
