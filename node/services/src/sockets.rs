//! Lets connected UDP sockets follow their services: after a change of a service with a UDP port the dataplane looks for
//! sockets whose backend the service has left.
//!
//! Owns when that happens: at once, and once more after [`AGAIN`], for a `connect()` that read the tables before the change
//! may end after the first look. Changes that come during a look share the next one. It runs beside the syncs, which
//! never wait for it.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounterVec, Opts, Registry};
use skep_maps::Dataplane;
use skep_maps::dataplane::MovedSockets;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// When to look a second time.
const AGAIN: Duration = Duration::from_secs(1);

/// What became of sockets whose backend was gone.
#[derive(Clone)]
pub(crate) struct SocketMetrics(IntCounterVec);

impl SocketMetrics {
    /// Makes the metric and registers it.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let options = Opts::new(
            "skep_services_stale_sockets_total",
            "Connected UDP sockets whose service had left their backend: connected to another one, or ended.",
        );
        let counter = IntCounterVec::new(options, &["result"])?;
        ["reconnected", "ended"].iter().for_each(|result| drop(counter.with_label_values(&[result])));
        registry.register(Box::new(counter.clone()))?;
        Ok(Self(counter))
    }

    fn add(&self, moved: MovedSockets) {
        for (result, number) in [("reconnected", moved.reconnected), ("ended", moved.ended)] {
            self.0.with_label_values(&[result]).inc_by(number as u64);
        }
    }
}

/// The task that looks; it ends when this is dropped.
pub(crate) struct Mover {
    changed: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Mover {
    /// Starts it.
    pub(crate) fn start(dataplane: Arc<dyn Dataplane>, metrics: SocketMetrics) -> Self {
        let changed = Arc::new(Notify::new());
        let task = tokio::spawn(follow(changed.clone(), dataplane, metrics));
        Self { changed, task }
    }

    /// A service with a UDP port has changed.
    pub(crate) fn changed(&self) {
        self.changed.notify_one();
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(changed: Arc<Notify>, dataplane: Arc<dyn Dataplane>, metrics: SocketMetrics) {
    loop {
        changed.notified().await;
        // A change meanwhile begins the two looks anew.
        loop {
            look(&dataplane, &metrics).await;
            if tokio::time::timeout(AGAIN, changed.notified()).await.is_err() {
                break;
            }
        }
        look(&dataplane, &metrics).await;
    }
}

async fn look(dataplane: &Arc<dyn Dataplane>, metrics: &SocketMetrics) {
    let dataplane = dataplane.clone();
    match tokio::task::spawn_blocking(move || dataplane.move_sockets()).await {
        Ok(Ok(moved)) => {
            if moved != MovedSockets::default() {
                tracing::info!(moved.reconnected, moved.ended, "connected UDP sockets follow their services");
            }
            metrics.add(moved);
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "connected UDP sockets may stay with backends that are gone")
        }
        Err(error) => tracing::error!(%error, "looking for sockets was cut off"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_maps::fake::FakeDataplane;

    #[tokio::test(start_paused = true)]
    async fn mover_looks_twice_after_the_last_change_and_rests_then() {
        let dataplane = Arc::new(FakeDataplane::new(8, 8));
        let mover = Mover::start(dataplane.clone(), SocketMetrics::register(&Registry::new()).unwrap());
        let looks = async |after: u64| {
            tokio::time::sleep(Duration::from_millis(after)).await;
            dataplane.state().sweeps
        };
        assert_eq!(looks(5000).await, 0);
        mover.changed();
        assert_eq!(looks(500).await, 1);
        assert_eq!(looks(1000).await, 2);
        assert_eq!(looks(60_000).await, 2);
        mover.changed();
        assert_eq!(looks(500).await, 3);
        mover.changed();
        assert_eq!(looks(900).await, 4);
        assert_eq!(looks(5000).await, 5);
    }
}
