//! What the cache reports to Prometheus, per kind: what there is under upstream's names, the rings under our own, since
//! upstream reports their room and not what is in them.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use super::Cache;
use crate::metrics::counter;

/// The series of one cache.
pub(crate) struct CacheMetrics {
    objects: IntGaugeVec,
    bytes: IntGaugeVec,
    ring_events: IntGaugeVec,
    ring_bytes: IntGaugeVec,
    received: IntCounterVec,
}

impl CacheMetrics {
    /// Makes and registers the series; where they are registered already, these count for themselves only.
    pub(crate) fn new(registry: &Registry) -> Self {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), &["group", "resource"]);
            let gauge = gauge.expect("names of metrics are valid");
            if let Err(error) = registry.register(Box::new(gauge.clone())) {
                tracing::debug!(%error, name, "a metric is registered already");
            }
            gauge
        };
        Self {
            objects: gauge(
                "apiserver_resource_objects",
                "Objects in the watch cache, which holds all there are.",
            ),
            bytes: gauge(
                "apiserver_resource_size_estimate_bytes",
                "Bytes of the serialised objects in the watch cache, without forms that were parsed from them.",
            ),
            ring_events: gauge(
                "skep_watch_cache_ring_events",
                "Changes that slow watchers can still be told of.",
            ),
            ring_bytes: gauge("skep_watch_cache_ring_bytes", "Bytes that these changes may keep in memory."),
            received: counter(
                registry,
                "apiserver_storage_events_received_total",
                "Changes that the store told of.",
                &["group", "resource"],
            ),
        }
    }

    /// Takes over what the cache holds now.
    pub(crate) fn set(&self, cache: &Cache) {
        let all = [&self.objects, &self.bytes, &self.ring_events, &self.ring_bytes];
        // Custom kinds go, and their series with them.
        all.iter().for_each(|gauge| gauge.reset());
        self.received.reset();
        for collection in cache.collections() {
            let usage = collection.usage();
            let (group, plural) = cache.name_of(&collection);
            self.received.with_label_values(&[&group, &plural]).inc_by(collection.received());
            let amounts = [usage.objects, usage.object_bytes, usage.ring_changes, usage.ring_bytes];
            for (gauge, amount) in all.iter().zip(amounts) {
                gauge.with_label_values(&[&group, &plural]).set(i64::try_from(amount).unwrap_or(i64::MAX));
            }
        }
    }
}
