//! Counters of the agent, under upstream's names where it has them.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::Error;

/// The agent's metrics. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Pods that have a sandbox on this node.
    pub running_pods: IntGauge,
    /// Workers, one per pod that is bound to this node.
    pub workers: IntGauge,
    /// Containers that were started.
    pub started_containers: IntCounter,
    /// Containers that could not be started, by reason.
    pub start_errors: IntCounterVec,
    /// Seconds of one look at a pod and what had to be done.
    pub sync_seconds: Histogram,
    /// Events of the runtime that were handled.
    pub runtime_events: IntCounter,
    /// Renewals of the node's Lease that failed.
    pub lease_errors: IntCounter,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// [`Error::Metrics`] if they are registered already.
    pub fn new(registry: &Registry) -> Result<Self, Error> {
        let seconds =
            HistogramOpts::new("kubelet_pod_worker_duration_seconds", "Duration of one sync of a pod.")
                .buckets(vec![0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0]);
        let metrics = Self {
            running_pods: IntGauge::new("kubelet_running_pods", "Pods with a running sandbox.")?,
            workers: IntGauge::new("skep_node_pod_workers", "Pods that the agent takes care of.")?,
            started_containers: IntCounter::new(
                "kubelet_started_containers_total",
                "Containers that were started.",
            )?,
            start_errors: IntCounterVec::new(
                Opts::new("kubelet_started_containers_errors_total", "Containers that could not be started."),
                &["code"],
            )?,
            sync_seconds: Histogram::with_opts(seconds)?,
            runtime_events: IntCounter::new("skep_node_runtime_events_total", "Runtime events handled.")?,
            lease_errors: IntCounter::new("skep_node_lease_errors_total", "Failed renewals of the Lease.")?,
        };
        registry.register(Box::new(metrics.running_pods.clone()))?;
        registry.register(Box::new(metrics.workers.clone()))?;
        registry.register(Box::new(metrics.started_containers.clone()))?;
        registry.register(Box::new(metrics.start_errors.clone()))?;
        registry.register(Box::new(metrics.sync_seconds.clone()))?;
        registry.register(Box::new(metrics.runtime_events.clone()))?;
        registry.register(Box::new(metrics.lease_errors.clone()))?;
        Ok(metrics)
    }
}
