//! What a request holds while it is handled, and until its answer is out.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Inner;
use super::levels::Active;
use super::queues::Running;

/// Leave to be handled. What it took is free again when this is dropped.
pub(crate) enum Permit {
    /// Seats of a level.
    Seats(#[expect(dead_code, reason = "free when dropped")] Seats),
    /// One of the places that there are, where fairness is off.
    Place(#[expect(dead_code, reason = "free when dropped")] OwnedSemaphorePermit),
    /// Nothing was needed.
    Free,
}

/// A seat, or several. They are free again when this is dropped.
pub(crate) struct Seats {
    inner: Arc<Inner>,
    active: Arc<Active>,
    running: Option<Arc<Running>>,
    started: Instant,
    watch: bool,
}

impl Seats {
    /// Those of a request that runs from now on.
    pub(super) fn new(inner: Arc<Inner>, active: Arc<Active>, running: Arc<Running>, watch: bool) -> Self {
        Self { inner, active, running: Some(running), started: Instant::now(), watch }
    }
}

impl From<Seats> for Permit {
    fn from(seats: Seats) -> Self {
        Self::Seats(seats)
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else { return };
        let (inner, active) = (self.inner.clone(), self.active.clone());
        let after = self.started.elapsed().as_secs_f64();
        let calls = inner.finish(&active, &running, after, self.watch);
        inner.call(&active, calls);
        if running.work.lingering.is_zero() {
            return;
        }
        let lingering = running.work.lingering;
        let release = move || {
            let calls = active.state.queues.lock().release(inner.now(), &running);
            inner.metrics.released(&active.level.name, &running);
            inner.call(&active, calls);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                tokio::time::sleep(lingering).await;
                release();
            })),
            Err(_) => release(),
        }
    }
}
