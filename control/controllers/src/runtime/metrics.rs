//! Prometheus metrics of the controllers: how often each reconciles, how that ends, how long it takes, and
//! how long its queue is.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::error::{Error, Result};

/// The metrics that every controller's worker updates.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// `skep_controller_reconciles_total{controller,result}`: result is `done`, `later` or `error`.
    pub reconciles: IntCounterVec,
    /// `skep_controller_reconcile_seconds{controller}`.
    pub seconds: HistogramVec,
    /// `skep_controller_queue_depth{controller}`: keys that are ready.
    pub depth: IntGaugeVec,
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    pub fn register(registry: &Registry) -> Result<Self> {
        let failed = |error| Error::Metrics(Box::new(error));
        let reconciles = IntCounterVec::new(
            Opts::new("skep_controller_reconciles_total", "Reconciliations by controller and result."),
            &["controller", "result"],
        )
        .map_err(failed)?;
        let seconds = HistogramVec::new(
            HistogramOpts::new("skep_controller_reconcile_seconds", "Time that one reconciliation took.")
                .buckets(vec![0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0]),
            &["controller"],
        )
        .map_err(failed)?;
        let depth = IntGaugeVec::new(
            Opts::new("skep_controller_queue_depth", "Keys that wait for a worker, by controller."),
            &["controller"],
        )
        .map_err(failed)?;
        registry.register(Box::new(reconciles.clone())).map_err(failed)?;
        registry.register(Box::new(seconds.clone())).map_err(failed)?;
        registry.register(Box::new(depth.clone())).map_err(failed)?;
        Ok(Self { reconciles, seconds, depth })
    }
}
