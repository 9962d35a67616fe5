//! What the server counts about itself, under upstream's names, so that existing dashboards and alerts work.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use skep_api::registry::Resource;

use crate::cache::{Cache, CacheMetrics};
use crate::request::RequestInfo;

/// Upstream's buckets of request durations, in seconds.
const DURATIONS: [f64; 20] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0,
    30.0,
];

/// Counts something as long as it lives.
pub(crate) struct Counted(IntGauge);

impl Counted {
    pub(crate) fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The counters of one server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    inflight: IntGaugeVec,
    long_running: IntGaugeVec,
    watch_events: IntCounterVec,
    objects: IntGaugeVec,
    cache: CacheMetrics,
    terminated: IntCounterVec,
}

/// Registers a collector; one that is registered already (several servers in one process) counts for itself only.
pub(crate) fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    if let Err(error) = registry.register(Box::new(collector.clone())) {
        tracing::debug!(%error, "a metric is registered already");
    }
    collector
}

pub(crate) fn counter(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let vec = IntCounterVec::new(Opts::new(name, help), labels).expect("names of metrics are valid");
    register(registry, vec)
}

pub(crate) fn gauge(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let vec = IntGaugeVec::new(Opts::new(name, help), labels).expect("names of metrics are valid");
    register(registry, vec)
}

impl Metrics {
    pub(crate) fn new(registry: Registry) -> Self {
        let labels = ["verb", "group", "version", "resource", "subresource", "scope"];
        let mut with_code = labels.to_vec();
        with_code.push("code");
        let durations = HistogramOpts::new(
            "apiserver_request_duration_seconds",
            "Duration of requests, long-running ones left out.",
        );
        let durations = HistogramVec::new(durations.buckets(DURATIONS.to_vec()), &labels);
        Self {
            requests: counter(
                &registry,
                "apiserver_request_total",
                "Requests that were answered.",
                &with_code,
            ),
            durations: register(&registry, durations.expect("names of metrics are valid")),
            inflight: gauge(
                &registry,
                "apiserver_current_inflight_requests",
                "Requests being handled.",
                &["request_kind"],
            ),
            long_running: gauge(
                &registry,
                "apiserver_longrunning_requests",
                "Watches that are open.",
                &["verb", "group", "version", "resource"],
            ),
            watch_events: counter(
                &registry,
                "apiserver_watch_events_total",
                "Events sent to watchers.",
                &["group", "version", "resource"],
            ),
            objects: gauge(&registry, "apiserver_storage_objects", "Objects in the store.", &["resource"]),
            cache: CacheMetrics::new(&registry),
            terminated: counter(
                &registry,
                "apiserver_terminated_watchers_total",
                "Watches that ended because they were too slow.",
                &["group", "resource"],
            ),
            registry,
        }
    }

    /// The number of requests being handled that read, or that write.
    pub(crate) fn inflight(&self, writes: bool) -> IntGauge {
        self.inflight.with_label_values(&[if writes { "mutating" } else { "readOnly" }])
    }

    pub(crate) fn watchers(&self, resource: &Resource) -> IntGauge {
        self.long_running.with_label_values(&[
            "WATCH",
            resource.group.as_str(),
            resource.version.as_str(),
            resource.plural.as_str(),
        ])
    }

    pub(crate) fn watch_events(&self, resource: &Resource) -> IntCounter {
        self.watch_events.with_label_values(&[
            resource.group.as_str(),
            resource.version.as_str(),
            resource.plural.as_str(),
        ])
    }

    pub(crate) fn terminated_watchers(&self, resource: &Resource) -> IntCounter {
        self.terminated.with_label_values(&[resource.group.as_str(), resource.plural.as_str()])
    }

    /// Counts an answer. Names that are no kinds of ours are not taken into labels.
    pub(crate) fn answered(&self, info: &RequestInfo, known: bool, code: u16, after: Duration) {
        let verb = info.verb.to_ascii_uppercase();
        let scope = match (known, info.name.is_empty(), info.namespace.is_empty()) {
            (false, ..) => "",
            (_, false, _) => "resource",
            (_, true, false) => "namespace",
            (_, true, true) => "cluster",
        };
        let of = |text: &str| if known { text.to_owned() } else { String::new() };
        let verb = match verb.as_str() {
            known @ ("GET" | "LIST" | "WATCH" | "CREATE" | "UPDATE" | "PATCH" | "DELETE"
            | "DELETECOLLECTION" | "POST" | "PUT" | "HEAD") => known,
            _ => "other",
        };
        let (group, version) = (of(&info.group), of(&info.version));
        let (resource, subresource) = (of(&info.resource), of(&info.subresource));
        let labels = [verb, &group, &version, &resource, &subresource, scope];
        let code = code.to_string();
        let mut with_code = labels.to_vec();
        with_code.push(&code);
        self.requests.with_label_values(&with_code).inc();
        if !info.is_long_running() {
            self.durations.with_label_values(&labels).observe(after.as_secs_f64());
        }
    }

    /// Everything in Prometheus' text form.
    pub(crate) fn text(&self, cache: &Cache) -> String {
        for collection in cache.collections() {
            let name = collection.prefix().trim_start_matches("/registry/").trim_end_matches('/');
            self.objects.with_label_values(&[name]).set(collection.len() as i64);
        }
        self.cache.set(cache);
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "cannot write metrics");
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}
