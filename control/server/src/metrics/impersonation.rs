//! Who acted as somebody else, or wanted to.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, Registry};

use super::{counter, doubling, histogram};

const LABELS: [&str; 2] = ["mode", "decision"];

/// The counters. Clones count together.
#[derive(Clone)]
pub(crate) struct ImpersonationMetrics {
    attempts: Attempts,
    authorizations: Attempts,
}

#[derive(Clone)]
struct Attempts {
    total: IntCounterVec,
    seconds: HistogramVec,
}

impl Attempts {
    fn new(registry: &Registry, start: &str, of: &str) -> Self {
        let name = |end: &str| format!("apiserver_impersonation_{start}attempts_{end}");
        Self {
            total: counter(registry, &name("total"), &format!("{of}, by mode and decision."), &LABELS),
            seconds: histogram(
                registry,
                &name("duration_seconds"),
                "How long that took.",
                &LABELS,
                doubling(0.001, 15),
            ),
        }
    }

    fn count(&self, mode: &str, allowed: bool, after: Duration) {
        let labels = [mode, if allowed { "allowed" } else { "denied" }];
        self.total.with_label_values(&labels).inc();
        self.seconds.with_label_values(&labels).observe(after.as_secs_f64());
    }
}

impl ImpersonationMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            attempts: Attempts::new(registry, "", "Requests that wanted to be somebody else's"),
            authorizations: Attempts::new(registry, "authorization_", "Questions to authorizers about that"),
        }
    }

    /// A request wanted to be somebody else's; `mode` is the one that allowed it.
    pub(crate) fn attempted(&self, mode: Option<&str>, after: Duration) {
        self.attempts.count(mode.unwrap_or_default(), mode.is_some(), after);
    }

    /// The authorizers were asked about a part of that.
    pub(crate) fn asked(&self, mode: &str, allowed: bool, after: Duration) {
        self.authorizations.count(mode, allowed, after);
    }
}
