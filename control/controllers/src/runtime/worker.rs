//! Workers: take keys from a queue, call the controller's reconcile function, requeue as it says.
//!
//! A reconcile that fails or panics is retried with the queue's back-off; nothing is lost and no worker dies.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::key::ObjectKey;
use super::metrics::Metrics;
use super::queue::Queue;
use crate::error::Result;

/// How a successful reconciliation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// Nothing to do until something changes.
    Done,
    /// Look again after this long, even if nothing changes.
    After(Duration),
}

/// A controller, as its workers see it.
pub trait Reconcile: Send + Sync + 'static {
    /// Its name, as in its identity and its metrics.
    const NAME: &'static str;
    /// Keys that are reconciled at the same time at most.
    const WORKERS: usize;

    /// Where its keys come from.
    fn queue(&self) -> &Queue<ObjectKey>;

    /// Brings one object to where it should be, as far as is possible now.
    ///
    /// # Errors
    /// When a call fails; the key comes back with back-off.
    fn reconcile(&self, key: ObjectKey) -> impl Future<Output = Result<Requeue>> + Send;
}

/// A controller's queue with its name and its number of workers.
pub struct Workers {
    /// The controller's name, as in its identity and its metrics.
    pub name: &'static str,
    /// Keys that are reconciled at the same time at most.
    pub count: usize,
    /// Where the keys come from.
    pub queue: Queue<ObjectKey>,
    /// Where the outcome is counted.
    pub metrics: Metrics,
}

impl Workers {
    /// Reconciles until shutdown; a reconciliation that has begun is finished first.
    pub async fn run<F, Fut>(self, shutdown: CancellationToken, reconcile: F)
    where
        F: Fn(ObjectKey) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Requeue>> + Send,
    {
        let stop = async {
            shutdown.cancelled().await;
            self.queue.close();
        };
        let workers = join_all((0..self.count).map(|_| self.work(&reconcile)));
        tokio::join!(stop, workers);
    }

    async fn work<F, Fut>(&self, reconcile: &F)
    where
        F: Fn(ObjectKey) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Requeue>> + Send,
    {
        while let Some(key) = self.queue.next().await {
            self.metrics.depth.with_label_values(&[self.name]).set(self.queue.depth() as i64);
            let start = Instant::now();
            let outcome = AssertUnwindSafe(reconcile(key.clone())).catch_unwind().await;
            self.metrics.seconds.with_label_values(&[self.name]).observe(start.elapsed().as_secs_f64());
            let result = self.settle(&key, outcome);
            self.metrics.reconciles.with_label_values(&[self.name, result]).inc();
            self.queue.done(&key);
        }
    }

    /// Requeues the key as the outcome asks; the label of the outcome.
    fn settle(&self, key: &ObjectKey, outcome: std::thread::Result<Result<Requeue>>) -> &'static str {
        match outcome {
            Ok(Ok(Requeue::Done)) => {
                self.queue.forget(key);
                "done"
            }
            Ok(Ok(Requeue::After(delay))) => {
                self.queue.forget(key);
                self.queue.add_after(key.clone(), delay);
                "later"
            }
            Ok(Err(error)) => {
                // Conflicts and stale caches are the normal way of optimistic concurrency.
                if error.is_conflict() || matches!(error, crate::error::Error::StaleCache(_)) {
                    tracing::debug!(controller = self.name, %key, error = error.chain(), "reconcile again");
                } else {
                    tracing::warn!(controller = self.name, %key, error = error.chain(), "reconcile failed");
                }
                self.queue.retry(key.clone());
                "error"
            }
            Err(_) => {
                tracing::error!(controller = self.name, %key, "reconcile panicked");
                self.queue.retry(key.clone());
                "error"
            }
        }
    }
}
