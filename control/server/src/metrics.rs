//! What the server counts about itself, under upstream's names, so that existing dashboards and alerts work.

mod access;
mod authorization;
mod cel;
mod gate;
mod health;
mod impersonation;
mod issuers;
mod reloads;
mod requests;
mod token_cache;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use skep_api::registry::Resource;
use skep_store::Size;

use crate::cache::{Cache, CacheMetrics};
use crate::paths;
use crate::request::RequestInfo;

pub(crate) use access::{AccessMetrics, Known};
pub(crate) use authorization::{Asked, AuthorizationMetrics, CONDITIONS};
pub(crate) use cel::CelMetrics;
pub(crate) use gate::GateMetrics;
pub(crate) use health::HealthMetrics;
pub(crate) use impersonation::ImpersonationMetrics;
pub use issuers::IssuerMetrics;
pub(crate) use reloads::PluginReloads;
pub use reloads::Reloads;
pub(crate) use reloads::hash;
pub(crate) use requests::{Afterwards, Answered, Filter, RequestMetrics};
pub use token_cache::TokenCacheMetrics;

/// Upstream's buckets of the size of events, in bytes: from 1 KiB, each twice as large.
const SMALLEST_EVENT: f64 = 1024.0;
const EVENT_SIZES: usize = 8;

/// Upstream's buckets of how long the beginning of a watch takes, in seconds.
const BEGINNINGS: [f64; 17] =
    [0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0];

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
    requests: RequestMetrics,
    deprecated: IntGaugeVec,
    inflight: IntGaugeVec,
    long_running: IntGaugeVec,
    /// The same by kind alone, for who asks how many there are.
    watchers: IntGaugeVec,
    watch_events: IntCounterVec,
    watch_event_sizes: HistogramVec,
    watch_beginnings: HistogramVec,
    objects: IntGaugeVec,
    store_size: IntGaugeVec,
    health: HealthMetrics,
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

pub(crate) fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: Vec<f64>,
) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets);
    register(registry, HistogramVec::new(options, labels).expect("names of metrics are valid"))
}

/// `count` buckets, each twice as wide as the one before.
pub(crate) fn doubling(start: f64, count: usize) -> Vec<f64> {
    std::iter::successors(Some(start), |one| Some(one * 2.0)).take(count).collect()
}

impl Metrics {
    pub(crate) fn new(registry: Registry) -> Self {
        build_info(&registry);
        Self {
            requests: RequestMetrics::new(&registry),
            deprecated: gauge(
                &registry,
                "apiserver_requested_deprecated_apis",
                "Deprecated kinds that somebody asked for.",
                &["group", "version", "resource", "subresource", "removed_release"],
            ),
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
                &["verb", "group", "version", "resource", "subresource", "scope", "component"],
            ),
            watchers: IntGaugeVec::new(Opts::new("watchers", "not shown"), &["group", "version", "resource"])
                .expect("names of metrics are valid"),
            watch_events: counter(
                &registry,
                "apiserver_watch_events_total",
                "Events sent to watchers.",
                &["group", "version", "resource"],
            ),
            watch_event_sizes: histogram(
                &registry,
                "apiserver_watch_events_sizes",
                "Bytes of the events sent to watchers.",
                &["group", "version", "resource"],
                doubling(SMALLEST_EVENT, EVENT_SIZES),
            ),
            watch_beginnings: histogram(
                &registry,
                "apiserver_watch_list_duration_seconds",
                "How long it took until a watch that begins with what is there had told all of it.",
                &["group", "version", "resource", "scope"],
                BEGINNINGS.to_vec(),
            ),
            objects: gauge(&registry, "apiserver_storage_objects", "Objects in the store.", &["resource"]),
            store_size: gauge(
                &registry,
                "apiserver_storage_size_bytes",
                "Bytes that the file of the store takes.",
                &["storage_cluster_id"],
            ),
            health: HealthMetrics::new(),
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

    /// How many watch objects of this kind.
    pub(crate) fn watchers(&self, resource: &Resource) -> IntGauge {
        self.watchers.with_label_values(&names(resource))
    }

    /// Counts a watch as long as what comes out lives.
    pub(crate) fn watches(&self, resource: &Resource, info: &RequestInfo) -> [Counted; 2] {
        let [group, version, plural] = names(resource);
        let labels = ["WATCH", group, version, plural, &info.subresource, scope(info), requests::COMPONENT];
        [self.watchers(resource), self.long_running.with_label_values(&labels)].map(Counted::new)
    }

    pub(crate) fn watch_events(&self, resource: &Resource) -> IntCounter {
        self.watch_events.with_label_values(&names(resource))
    }

    pub(crate) fn watch_event_sizes(&self, resource: &Resource) -> Histogram {
        self.watch_event_sizes.with_label_values(&names(resource))
    }

    pub(crate) fn terminated_watchers(&self, resource: &Resource) -> IntCounter {
        self.terminated.with_label_values(&[resource.group.as_str(), resource.plural.as_str()])
    }

    /// How long the beginnings of watches of this kind take.
    pub(crate) fn watch_beginnings(&self, resource: &Resource, info: &RequestInfo) -> Histogram {
        let [group, version, plural] = names(resource);
        self.watch_beginnings.with_label_values(&[group, version, plural, scope(info)])
    }

    pub(crate) fn requests(&self) -> &RequestMetrics {
        &self.requests
    }

    pub(crate) fn health(&self) -> &HealthMetrics {
        &self.health
    }

    /// Somebody asked for a kind on its way out. With which release it goes is not known of any.
    pub(crate) fn deprecated(&self, resource: &Resource, subresource: &str) {
        let (group, version, plural) =
            (resource.group.as_str(), resource.version.as_str(), resource.plural.as_str());
        self.deprecated.with_label_values(&[group, version, plural, subresource, ""]).set(1);
    }

    /// Everything in Prometheus' text form; of the store, what is known of its size.
    pub(crate) fn text(&self, cache: &Cache, store: Option<Size>) -> String {
        if let Some(Size { cluster, bytes }) = store {
            self.store_size.with_label_values(&[cluster]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        for collection in cache.collections() {
            let name = collection.prefix().trim_start_matches("/registry/").trim_end_matches('/');
            self.objects.with_label_values(&[name]).set(collection.len() as i64);
        }
        self.cache.set(cache);
        encoded(&self.registry)
    }
}

/// Everything that is registered, in Prometheus' text form.
fn encoded(registry: &Registry) -> String {
    let mut text = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&registry.gather(), &mut text) {
        tracing::error!(%error, "cannot write metrics");
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// How a kind is called in labels: group, version, plural.
fn names(resource: &Resource) -> [&str; 3] {
    [&resource.group, &resource.version, &resource.plural]
}

/// What a request is about: an object, those of a namespace, or all.
fn scope(info: &RequestInfo) -> &'static str {
    match (info.name.is_empty(), info.namespace.is_empty()) {
        (false, _) => "resource",
        (true, false) => "namespace",
        (true, true) => "cluster",
    }
}

/// Which build this is, as `/version` says it.
fn build_info(registry: &Registry) {
    const LABELS: [(&str, &str); 9] = [
        ("major", "major"),
        ("minor", "minor"),
        ("git_version", "gitVersion"),
        ("git_commit", "gitCommit"),
        ("git_tree_state", "gitTreeState"),
        ("build_date", "buildDate"),
        ("go_version", "goVersion"),
        ("compiler", "compiler"),
        ("platform", "platform"),
    ];
    let info =
        gauge(registry, "kubernetes_build_info", "The build, in labels.", &LABELS.map(|(label, _)| label));
    let version = paths::version();
    let values = LABELS.map(|(_, member)| version[member].as_str().unwrap_or_default());
    info.with_label_values(&values).set(1);
}
