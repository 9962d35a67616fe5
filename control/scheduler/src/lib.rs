//! Binds pods to nodes.
//!
//! Pods that wait are in [`queue`]; what is known of nodes and of the pods on them is in [`nodes`], column by
//! column; [`cycle`] asks the [`plugins`] which nodes can take a pod and which is best; [`driver`] feeds the
//! first two from the API's watches, runs the cycle and binds. A pod that was given a node counts there from
//! that moment on (it is *assumed*), long before the watch confirms it; if binding fails it is forgotten.
//!
//! All but the driver and its writers is pure: no clock, no I/O.

pub mod cycle;
mod driver;
mod error;
mod events;
mod metrics;
pub mod nodes;
pub mod plugins;
pub mod quantity;
pub mod queue;
pub mod shape;
mod writer;

use kube::Client;
use tokio_util::sync::CancellationToken;

pub use error::{Error, Result};

/// What the scheduler needs to know.
#[derive(Clone)]
pub struct SchedulerConfig {
    /// Pods whose `spec.schedulerName` is this are scheduled.
    pub name: String,
    /// Where metrics are registered.
    pub metrics: prometheus::Registry,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self { name: "default-scheduler".to_owned(), metrics: prometheus::Registry::new() }
    }
}

/// Schedules until shutdown. `client` acts as `system:kube-scheduler`.
///
/// # Errors
/// When a metric is registered already. Failures of calls are logged and retried.
pub async fn run(client: Client, config: SchedulerConfig, shutdown: CancellationToken) -> Result<()> {
    let metrics = metrics::Metrics::register(&config.metrics)?;
    driver::run(client, &config.name, metrics, shutdown).await;
    Ok(())
}
