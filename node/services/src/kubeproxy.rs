//! kube-proxy's own metric names, so that its dashboards and alerts work here.
//!
//! Owns what they mean here: a sync is one round of planning and writing, and the queue is the services that wait for
//! one. See upstream's `pkg/proxy/metrics` for the originals.

use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Registry};

/// When the change happened that an EndpointSlice was written for.
const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Most changes remembered while syncs fail.
const PENDING: usize = 10_000;

pub(crate) struct KubeProxy {
    sync: Histogram,
    programming: Histogram,
    last: Gauge,
    queued: Gauge,
    endpoint_changes: IntCounter,
    service_changes: IntCounter,
    pending: IntGauge,
    triggers: Vec<Timestamp>,
    started: Timestamp,
}

impl KubeProxy {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| -> prometheus::Result<Histogram> {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        let gauge = |name: &str, help: &str| -> prometheus::Result<Gauge> {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let pending = IntGauge::new(
            "kubeproxy_sync_proxy_rules_service_changes_pending",
            "Services that wait for a sync.",
        )?;
        registry.register(Box::new(pending.clone()))?;
        Ok(Self {
            sync: histogram(
                "kubeproxy_sync_proxy_rules_duration_seconds",
                "Time to plan what changed and to write it to the kernel.",
                prometheus::exponential_buckets(0.001, 2.0, 15)?,
            )?,
            programming: histogram(
                "kubeproxy_network_programming_duration_seconds",
                "Time from a change of a pod or service until the kernel has it.",
                programming_buckets(),
            )?,
            last: gauge(
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                "When a sync last succeeded, seconds since 1970.",
            )?,
            queued: gauge(
                "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
                "When a sync was last wanted, seconds since 1970.",
            )?,
            endpoint_changes: counter(
                "kubeproxy_sync_proxy_rules_endpoint_changes_total",
                "Events of EndpointSlices.",
            )?,
            service_changes: counter(
                "kubeproxy_sync_proxy_rules_service_changes_total",
                "Services planned because they or their endpoints changed.",
            )?,
            pending,
            triggers: Vec::new(),
            started: Timestamp::now(),
        })
    }

    pub(crate) fn slice_seen(&mut self, event: &Event<EndpointSlice>) {
        let (Event::Apply(slice) | Event::Delete(slice)) = event else { return };
        self.endpoint_changes.inc();
        let trigger = slice.annotations().get(TRIGGER).and_then(|time| time.parse::<Timestamp>().ok());
        // What happened before the start was somebody else's to program.
        if let Some(time) = trigger.filter(|time| *time >= self.started)
            && self.triggers.len() < PENDING
        {
            self.triggers.push(time);
        }
    }

    pub(crate) fn queued(&self, services: usize) {
        self.pending.set(i64::try_from(services).unwrap_or(i64::MAX));
        if services > 0 {
            self.queued.set(seconds(Timestamp::now()));
        }
    }

    pub(crate) fn synced(&mut self, took: Duration, services: usize) {
        let now = Timestamp::now();
        self.sync.observe(took.as_secs_f64());
        self.last.set(seconds(now));
        self.pending.set(0);
        self.service_changes.inc_by(services as u64);
        for time in self.triggers.drain(..) {
            self.programming.observe((seconds(now) - seconds(time)).max(0.0));
        }
    }
}

fn seconds(time: Timestamp) -> f64 {
    Duration::try_from(time.duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default().as_secs_f64()
}

/// Upstream's: fine below a second, then each second of the first minute, then coarser up to five minutes.
fn programming_buckets() -> Vec<f64> {
    let mut buckets = vec![0.25, 0.5];
    buckets.extend((1..=59).map(f64::from));
    buckets.extend((60..=115).step_by(5).map(f64::from));
    buckets.extend((120..=300).step_by(30).map(f64::from));
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programming_time_counts_changes_since_the_start_once_synced() {
        let registry = Registry::new();
        let mut metrics = KubeProxy::register(&registry).unwrap();
        let slice = |time: &str| {
            let mut slice = EndpointSlice::default();
            slice.metadata.annotations = Some([(TRIGGER.to_owned(), time.to_owned())].into());
            slice
        };
        metrics.slice_seen(&Event::Apply(slice(&Timestamp::now().to_string())));
        metrics.slice_seen(&Event::Apply(slice("2020-01-01T00:00:00Z")));
        metrics.slice_seen(&Event::Apply(slice("nonsense")));
        metrics.slice_seen(&Event::InitApply(slice(&Timestamp::now().to_string())));
        metrics.queued(3);
        assert_eq!((metrics.programming.get_sample_count(), metrics.pending.get()), (0, 3));
        metrics.synced(Duration::from_millis(2), 3);
        assert_eq!((metrics.programming.get_sample_count(), metrics.pending.get()), (1, 0));
        assert_eq!((metrics.endpoint_changes.get(), metrics.service_changes.get()), (3, 3));
        assert!(metrics.last.get() >= metrics.queued.get() && metrics.queued.get() > 1.7e9);
        assert!(programming_buckets().is_sorted());
    }
}
