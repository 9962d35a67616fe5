//! What health checks said, at `/metrics/slis` as upstream has it: a small page of its own, for who looks often.

use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use super::{counter, encoded, gauge};

/// The counters of one server.
pub(crate) struct HealthMetrics {
    registry: Registry,
    last: IntGaugeVec,
    all: IntCounterVec,
}

impl HealthMetrics {
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        Self {
            last: gauge(
                &registry,
                "kubernetes_healthcheck",
                "Whether a check held when it was made last.",
                &["name", "type"],
            ),
            all: counter(
                &registry,
                "kubernetes_healthchecks_total",
                "Checks that were made, by outcome.",
                &["name", "type", "status"],
            ),
            registry,
        }
    }

    /// Counts a check; `kind` is `healthz`, `livez` or `readyz`.
    pub(crate) fn checked(&self, name: &str, kind: &str, good: bool) {
        self.last.with_label_values(&[name, kind]).set(i64::from(good));
        let status = if good { "success" } else { "error" };
        self.all.with_label_values(&[name, kind, status]).inc();
    }

    /// All of it in Prometheus' text form.
    pub(crate) fn text(&self) -> String {
        encoded(&self.registry)
    }
}
