//! Prometheus metrics of the scheduler.

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::error::{Error, Result};

/// The scheduler's metrics.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// `skep_scheduler_attempts_total{result}`: `scheduled`, `unschedulable`, `error`.
    pub(crate) attempts: IntCounterVec,
    /// `skep_scheduler_cycle_seconds`: from taking a pod out of the queue to the choice.
    pub(crate) cycle: Histogram,
    /// `skep_scheduler_pending_pods{queue}`: `active`, `backoff`, `unschedulable`, `gated`.
    pub(crate) pending: IntGaugeVec,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self> {
        let failed = |error| Error::Metrics(Box::new(error));
        let attempts = IntCounterVec::new(
            Opts::new("skep_scheduler_attempts_total", "Scheduling attempts by result."),
            &["result"],
        )
        .map_err(failed)?;
        let cycle = Histogram::with_opts(
            HistogramOpts::new("skep_scheduler_cycle_seconds", "Time to choose a node for one pod.")
                .buckets(vec![0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1]),
        )
        .map_err(failed)?;
        let pending = IntGaugeVec::new(
            Opts::new("skep_scheduler_pending_pods", "Pods that wait, by the queue they are in."),
            &["queue"],
        )
        .map_err(failed)?;
        registry.register(Box::new(attempts.clone())).map_err(failed)?;
        registry.register(Box::new(cycle.clone())).map_err(failed)?;
        registry.register(Box::new(pending.clone())).map_err(failed)?;
        Ok(Self { attempts, cycle, pending })
    }
}
