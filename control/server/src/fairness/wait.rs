//! A request that waits in a queue until it is called, its patience ends, or its client goes away.

use std::sync::Arc;
use std::time::Duration;

use skep_api::status::Status;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::config::Schema;
use super::levels::Active;
use super::permit::Seats;
use super::queues::{Left, Place, Running};
use super::{Inner, Permit};
use crate::metrics::Counted;

/// A request in a queue. One that is dropped leaves it.
pub(super) struct Wait {
    pub(super) inner: Arc<Inner>,
    pub(super) active: Arc<Active>,
    pub(super) schema: Arc<Schema>,
    pub(super) place: Place,
    pub(super) seats: u32,
    pub(super) since: Instant,
    pub(super) called: Option<oneshot::Receiver<Arc<Running>>>,
    pub(super) timed_out: bool,
    #[expect(dead_code, reason = "counts by living")]
    pub(super) counted: Counted,
}

impl Wait {
    /// Waits until it is called, at most as long as `patience`.
    pub(super) async fn until(mut self, patience: Duration, watch: bool) -> Result<Permit, Status> {
        let called = self.called.as_mut().expect("it is there until it was called");
        match tokio::time::timeout(patience, called).await {
            Ok(Ok(running)) => {
                self.called = None;
                Ok(Seats::new(self.inner.clone(), self.active.clone(), running, watch).into())
            }
            _ => {
                self.timed_out = true;
                Err(self.inner.too_many(&self.active))
            }
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let Some(mut called) = self.called.take() else { return };
        let why = if self.timed_out { Left::TimedOut } else { Left::Cancelled };
        let cancelled = self.active.state.queues.lock().cancel(self.inner.now(), self.place, why);
        if cancelled {
            let (level, schema) = (&*self.active.level.name, &*self.schema.name);
            self.inner.metrics.left(level, schema, self.seats);
            self.inner.metrics.gave_up(level, schema, self.since.elapsed().as_secs_f64());
        } else if let Ok(running) = called.try_recv() {
            // It was called in the very moment in which it left.
            let calls = self.inner.finish(&self.active, &running, 0.0, false);
            self.inner.call(&self.active, calls);
        }
    }
}
