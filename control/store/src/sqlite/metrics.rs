//! What the embedded store reports to Prometheus.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntGauge, Registry, exponential_buckets,
};

/// The series of one store.
#[derive(Clone)]
pub(super) struct Metrics {
    pub(super) commit_seconds: Histogram,
    phases: HistogramVec,
    pub(super) batch_writes: Histogram,
    pub(super) failures: IntCounter,
    pub(super) file_bytes: IntGauge,
    pub(super) live_bytes: IntGauge,
    pub(super) revision: IntGauge,
    pub(super) compacted: IntGauge,
}

impl Metrics {
    /// Makes the series, and registers them if there is a registry.
    pub(super) fn new(registry: Option<&Registry>) -> prometheus::Result<Self> {
        let histogram = |name: &str, text: &str, start, count| {
            let options = HistogramOpts::new(name, text).buckets(exponential_buckets(start, 2.0, count)?);
            Histogram::with_opts(options)
        };
        let metrics = Self {
            commit_seconds: histogram(
                "skep_store_commit_seconds",
                "Time of one commit, from the first statement to stable storage.",
                0.000_1,
                14,
            )?,
            phases: HistogramVec::new(
                HistogramOpts::new(
                    "skep_store_phase_seconds",
                    "Where the writer's time goes: applying changes, forgetting history, committing, and finishing the \
                     copy of the log.",
                )
                .buckets(exponential_buckets(0.000_1, 2.0, 14)?),
                &["phase"],
            )?,
            batch_writes: histogram("skep_store_batch_writes", "Writes that shared one commit.", 1.0, 11)?,
            failures: IntCounter::new("skep_store_commit_failures_total", "Commits that failed.")?,
            file_bytes: IntGauge::new("skep_store_file_bytes", "Size of the data file without its log.")?,
            live_bytes: IntGauge::new("skep_store_live_bytes", "Bytes of the keys and values that exist.")?,
            revision: IntGauge::new("skep_store_revision", "The newest revision.")?,
            compacted: IntGauge::new("skep_store_compacted_revision", "History up to here is forgotten.")?,
        };
        if let Some(registry) = registry {
            metrics.register(registry)?;
        }
        Ok(metrics)
    }

    /// Notes how long a part of the writer's work took.
    pub(super) fn note_phase(&self, phase: &str, took: Duration) {
        self.phases.with_label_values(&[phase]).observe(took.as_secs_f64());
    }

    fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.commit_seconds.clone()))?;
        registry.register(Box::new(self.batch_writes.clone()))?;
        registry.register(Box::new(self.phases.clone()))?;
        registry.register(Box::new(self.failures.clone()))?;
        for gauge in [&self.file_bytes, &self.live_bytes, &self.revision, &self.compacted] {
            registry.register(Box::new(gauge.clone()))?;
        }
        Ok(())
    }
}
