//! Garbage collector: deletes objects whose owners are gone, and carries out foreground and orphan deletion.
//!
//! Watches the metadata of every kind that discovery knows and that can be deleted ([`monitors`]), and keeps
//! a graph of who owns whom ([`graph`]). An object goes when none of its owners exists; the graph alone is
//! never enough for that: an owner that the graph lacks is asked for at the API first. Writes owner
//! references and the finalizers `foregroundDeletion` and `orphan`; deletes with the uid as precondition.
//! Owners of a kind that the API does not serve can not be judged: such objects stay, and are looked at
//! again when discovery has been refreshed.

mod apply;
mod graph;
mod monitors;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::graph::Graph;
use self::monitors::Monitors;
use crate::Context;
use crate::error::Result;
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};

/// The controller's name, and its service account in kube-system.
pub const NAME: &str = "generic-garbage-collector";
/// How often kinds that were added since are looked for.
pub const REFRESH: Duration = Duration::from_secs(60);
/// The finalizer of an owner whose dependents go first.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an owner whose dependents stay.
pub const ORPHAN: &str = "orphan";

/// The garbage collector. Keys in its queue are uids.
pub struct GarbageCollector {
    queue: Queue<ObjectKey>,
    monitors: Arc<Monitors>,
    writer: apply::Writer,
}

impl GarbageCollector {
    /// Makes the collector; [`GarbageCollector::watch`] feeds it.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, _) = context.identity(NAME);
        let queue: Queue<ObjectKey> = Queue::default();
        let graph = Arc::new(Graph::default());
        let monitors = Arc::new(Monitors::new(client.clone(), Arc::clone(&graph), queue.clone()));
        let writer = apply::Writer { client, graph, monitors: Arc::clone(&monitors), queue: queue.clone() };
        Self { queue, monitors, writer }
    }

    /// The task that watches all kinds until shutdown.
    pub fn watch(&self, shutdown: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        Arc::clone(&self.monitors).run(shutdown)
    }
}

impl Reconcile for GarbageCollector {
    const NAME: &'static str = NAME;
    const WORKERS: usize = 10;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        // Until every kind has been listed once, an owner may only seem to have no dependents.
        self.monitors.synced().await;
        self.writer.attempt(&key.name).await
    }
}
