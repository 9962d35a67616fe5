//! What the server counts about itself, under upstream's names, so that existing dashboards and alerts work.

mod access;
mod cel;
mod health;
mod reloads;

use std::time::Duration;

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
pub(crate) use cel::CelMetrics;
pub(crate) use health::HealthMetrics;
pub(crate) use reloads::PluginReloads;
pub use reloads::Reloads;

/// Upstream's buckets of request durations, in seconds.
const DURATIONS: [f64; 20] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0,
    30.0,
];

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

/// What is counted about an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) code: u16,
    /// Bytes, where that is known.
    pub(crate) size: Option<u64>,
    pub(crate) dry_run: bool,
    /// Whether it took too long, or there was no seat.
    pub(crate) cut_off: bool,
    pub(crate) after: Duration,
    /// So much of that was waiting for others.
    pub(crate) waited: Duration,
}

/// The counters of one server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    own_durations: HistogramVec,
    sizes: HistogramVec,
    deprecated: IntGaugeVec,
    terminations: IntCounterVec,
    inflight: IntGaugeVec,
    long_running: IntGaugeVec,
    watch_events: IntCounterVec,
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
        let labels = ["verb", "group", "version", "resource", "subresource", "scope"];
        let and = |more: &[&'static str]| [&labels[..], more].concat();
        Self {
            requests: counter(
                &registry,
                "apiserver_request_total",
                "Requests that were answered.",
                &and(&["code", "dry_run"]),
            ),
            durations: histogram(
                &registry,
                "apiserver_request_duration_seconds",
                "Duration of requests, long-running ones left out.",
                &and(&["dry_run"]),
                DURATIONS.to_vec(),
            ),
            own_durations: histogram(
                &registry,
                "apiserver_request_sli_duration_seconds",
                "The same without what webhooks of users took, and waiting for a seat.",
                &labels,
                DURATIONS.to_vec(),
            ),
            sizes: histogram(
                &registry,
                "apiserver_response_sizes",
                "Bytes of answers to requests that read, where they are known at the beginning.",
                &labels,
                // From 1000 bytes, each ten times as many.
                (3..10).map(|exponent| 10_f64.powi(exponent)).collect(),
            ),
            deprecated: gauge(
                &registry,
                "apiserver_requested_deprecated_apis",
                "Deprecated kinds that somebody asked for.",
                &["group", "version", "resource", "subresource", "removed_release"],
            ),
            terminations: counter(
                &registry,
                "apiserver_request_terminations_total",
                "Requests that were ended to protect the server.",
                &and(&["code", "component"]),
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
                &["verb", "group", "version", "resource"],
            ),
            watch_events: counter(
                &registry,
                "apiserver_watch_events_total",
                "Events sent to watchers.",
                &["group", "version", "resource"],
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

    /// How long the beginnings of watches of this kind take.
    pub(crate) fn watch_beginnings(&self, resource: &Resource, info: &RequestInfo) -> Histogram {
        self.watch_beginnings.with_label_values(&[
            resource.group.as_str(),
            resource.version.as_str(),
            resource.plural.as_str(),
            scope(info),
        ])
    }

    pub(crate) fn health(&self) -> &HealthMetrics {
        &self.health
    }

    /// Counts an answer. Names that are no kinds of ours are not taken into labels.
    pub(crate) fn answered(&self, info: &RequestInfo, known: bool, answer: &Answered) {
        let verb = info.verb.to_ascii_uppercase();
        let scope = if known { scope(info) } else { "" };
        let of = |text: &str| if known { text.to_owned() } else { String::new() };
        let verb = match verb.as_str() {
            known @ ("GET" | "LIST" | "WATCH" | "CREATE" | "UPDATE" | "PATCH" | "DELETE"
            | "DELETECOLLECTION" | "POST" | "PUT" | "HEAD") => known,
            _ => "other",
        };
        let (group, version) = (of(&info.group), of(&info.version));
        let (resource, subresource) = (of(&info.resource), of(&info.subresource));
        let labels = [verb, &group, &version, &resource, &subresource, scope];
        let code = answer.code.to_string();
        let dry_run = if answer.dry_run { "All" } else { "" };
        self.requests.with_label_values(&[&labels[..], &[&code, dry_run]].concat()).inc();
        if let (Some(size), "GET" | "LIST") = (answer.size, verb) {
            self.sizes.with_label_values(&labels).observe(size as f64);
        }
        if answer.cut_off {
            self.terminations.with_label_values(&[&labels[..], &[&code, "apiserver"]].concat()).inc();
        }
        if !info.is_long_running() {
            let durations = self.durations.with_label_values(&[&labels[..], &[dry_run]].concat());
            durations.observe(answer.after.as_secs_f64());
            let own = answer.after.saturating_sub(answer.waited);
            self.own_durations.with_label_values(&labels).observe(own.as_secs_f64());
        }
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
