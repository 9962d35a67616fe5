//! What the cache reports to Prometheus, per kind: what there is under upstream's names, the rings under our own, since
//! upstream reports their room and not what is in them.

use prometheus::{IntGaugeVec, Opts, Registry};

use super::Cache;

/// The series of one cache.
pub(crate) struct CacheMetrics {
    objects: IntGaugeVec,
    bytes: IntGaugeVec,
    ring_events: IntGaugeVec,
    ring_bytes: IntGaugeVec,
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
        }
    }

    /// Takes over what the cache holds now.
    pub(crate) fn set(&self, cache: &Cache) {
        for (resource, collection) in cache.by_resource() {
            let usage = collection.usage();
            let labels = [resource.group.as_str(), resource.plural.as_str()];
            self.objects.with_label_values(&labels).set(usage.objects as i64);
            self.bytes.with_label_values(&labels).set(usage.object_bytes as i64);
            self.ring_events.with_label_values(&labels).set(usage.ring_changes as i64);
            self.ring_bytes.with_label_values(&labels).set(usage.ring_bytes as i64);
        }
    }
}
