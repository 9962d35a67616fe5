//! Which servers are away, under upstream's names.

use std::collections::HashSet;

use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGaugeVec, Registry};
use skep_api::aggregation::Condition;

use crate::metrics::{counter, gauge};

pub(super) struct AggregationMetrics {
    away: IntGaugeVec,
    losses: IntCounterVec,
    /// The names that have a value.
    known: Mutex<HashSet<String>>,
}

impl AggregationMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            away: gauge(
                registry,
                "aggregator_unavailable_apiservice",
                "Whether an aggregated API server is away (1) or not (0).",
                &["name"],
            ),
            losses: counter(
                registry,
                "aggregator_unavailable_apiservice_total",
                "How often an aggregated API server was found away that was there before.",
                &["name", "reason"],
            ),
            known: Mutex::default(),
        }
    }

    /// How a server was found.
    pub(super) fn found(&self, name: &str, condition: &Condition) {
        let away = self.away.with_label_values(&[name]);
        let is_new = self.known.lock().insert(name.to_owned());
        let was_away = !is_new && away.get() == 1;
        away.set(i64::from(!condition.available));
        if !condition.available && !was_away {
            self.losses.with_label_values(&[name, condition.reason]).inc();
        }
    }

    /// Forgets servers that are not in the list any more.
    pub(super) fn keep<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let names: HashSet<&str> = names.collect();
        self.known.lock().retain(|name| {
            let stays = names.contains(name.as_str());
            if !stays {
                // Nothing is lost when there was no value.
                let _ = self.away.remove_label_values(&[name]);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_that_goes_away_is_counted_once_and_forgotten_with_its_object() {
        let registry = Registry::new();
        let metrics = AggregationMetrics::new(&registry);
        let condition =
            |available| Condition { available, reason: "FailedDiscoveryCheck", message: String::new() };
        for available in [true, false, false, true, false] {
            metrics.found("v1.a", &condition(available));
        }
        assert_eq!(metrics.losses.with_label_values(&["v1.a", "FailedDiscoveryCheck"]).get(), 2);
        assert_eq!(metrics.away.with_label_values(&["v1.a"]).get(), 1);
        metrics.keep(std::iter::empty());
        assert!(!registry.gather().iter().any(|family| family.name() == "aggregator_unavailable_apiservice"));
    }
}
