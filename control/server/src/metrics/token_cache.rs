//! What is remembered of tokens, so that it need not be found out at each request: of those of service accounts that their
//! signature is good, of those that a webhook knows whose they are.

use std::time::Duration;

use prometheus::{DEFAULT_BUCKETS, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{Counted, counter, gauge, histogram};

/// The counters. Clones count together.
#[derive(Clone, Debug)]
pub struct TokenCacheMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    fetches: IntCounterVec,
    active: IntGaugeVec,
}

impl TokenCacheMetrics {
    /// Counters in `registry`.
    pub fn new(registry: &Registry) -> Self {
        let name = |end: &str| format!("authentication_token_cache_{end}");
        Self {
            requests: counter(
                registry,
                &name("request_total"),
                "Tokens of kinds that are remembered, by whether this one was.",
                &["status"],
            ),
            seconds: histogram(
                registry,
                &name("request_duration_seconds"),
                "How long it took to find out about such a token.",
                &["status"],
                DEFAULT_BUCKETS.to_vec(),
            ),
            fetches: counter(
                registry,
                &name("fetch_total"),
                "Tokens that were not remembered, by whether it could be found out about them.",
                &["status"],
            ),
            active: gauge(
                registry,
                &name("active_fetch_count"),
                "Tokens about which it is being found out.",
                &["status"],
            ),
        }
    }

    /// Something was remembered of a token, or not.
    pub(crate) fn looked(&self, hit: bool, after: Duration) {
        let labels = [if hit { "hit" } else { "miss" }];
        self.requests.with_label_values(&labels).inc();
        self.seconds.with_label_values(&labels).observe(after.as_secs_f64());
    }

    /// It is being found out about a token as long as what comes out lives.
    pub(crate) fn fetching(&self) -> Counted {
        Counted::new(self.in_flight())
    }

    fn in_flight(&self) -> IntGauge {
        self.active.with_label_values(&["in_flight"])
    }

    /// It was found out, or could not be.
    pub(crate) fn fetched(&self, good: bool) {
        self.fetches.with_label_values(&[if good { "ok" } else { "error" }]).inc();
    }
}
