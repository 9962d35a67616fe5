//! What the service part tells Prometheus: how long syncs take, how much there is, and each service's traffic.
//!
//! Traffic is read from the kernel when it is asked for, not before: an idle agent does nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::Event;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use skep_abi::counters::ServiceStats;
use skep_maps::Dataplane;

use crate::engine::{Engine, Outcome, PortId};
use crate::kubeproxy::KubeProxy;
use crate::model::ServiceName;
use crate::sockets::SocketMetrics;

type Ports = HashMap<ServiceName, Vec<PortId>>;

/// The metrics of the service part.
pub struct Metrics {
    kubeproxy: KubeProxy,
    sync_seconds: Histogram,
    sync_failures: IntCounter,
    entries_written: IntCounter,
    services: IntGauge,
    endpoints: IntGauge,
    refused: IntGauge,
    slots_used: IntGauge,
    slots: IntGauge,
    backends_used: IntGauge,
    cramped: IntGauge,
    ports: Arc<Mutex<Ports>>,
    pub(crate) sockets: SocketMetrics,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// A metric of one of the names is registered already.
    pub fn register(registry: &Registry, dataplane: Arc<dyn Dataplane>) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let options = HistogramOpts::new(
            "skep_services_sync_duration_seconds",
            "Time to plan the services that changed and to write the difference to the kernel.",
        )
        .buckets(prometheus::exponential_buckets(0.000_1, 4.0, 10)?);
        let sync_seconds = Histogram::with_opts(options)?;
        registry.register(Box::new(sync_seconds.clone()))?;
        let ports = Arc::new(Mutex::new(Ports::new()));
        registry.register(Box::new(Traffic::new(ports.clone(), dataplane)?))?;
        Ok(Self {
            kubeproxy: KubeProxy::register(registry)?,
            sync_seconds,
            ports,
            sockets: SocketMetrics::register(registry)?,
            sync_failures: counter(
                "skep_services_sync_failures_total",
                "Syncs that failed and were tried again.",
            )?,
            entries_written: counter("skep_services_entries_written_total", "Map entries written by syncs.")?,
            services: gauge("skep_services_services", "Services that are proxied here.")?,
            endpoints: gauge("skep_services_endpoints", "Endpoints in the EndpointSlices seen.")?,
            refused: gauge("skep_services_refused_services", "Services that do not fit into the tables.")?,
            slots_used: gauge("skep_services_backend_slots_used", "Slots of the backend table in use.")?,
            slots: gauge("skep_services_backend_slots", "Slots of the backend table.")?,
            backends_used: gauge("skep_services_backends", "Backend numbers in use.")?,
            cramped: gauge(
                "skep_services_without_maglev_table",
                "Services whose external traffic should have a Maglev table and for which there is no room.",
            )?,
        })
    }

    /// Notes an event of the EndpointSlice watch.
    pub(crate) fn slice_seen(&mut self, event: &Event<EndpointSlice>) {
        self.kubeproxy.slice_seen(event);
    }

    /// Notes that `services` services wait for a sync.
    pub(crate) fn queued(&self, services: usize) {
        self.kubeproxy.queued(services);
    }

    /// Notes a sync that succeeded.
    pub(crate) fn synced(&mut self, engine: &Engine, outcome: &Outcome, took: Duration) {
        self.sync_seconds.observe(took.as_secs_f64());
        self.kubeproxy.synced(took, outcome.planned.len());
        self.entries_written.inc_by(outcome.written as u64);
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.services.set(count(engine.observed().service_count()));
        self.endpoints.set(count(engine.observed().endpoint_count()));
        self.refused.set(count(outcome.refused));
        if let Some(fill) = engine.fill() {
            self.slots_used.set(i64::from(fill.slots.0));
            self.slots.set(i64::from(fill.slots.1));
            self.backends_used.set(i64::from(fill.backends.0));
            self.cramped.set(count(fill.cramped));
        }
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, ids) in &outcome.planned {
            if ids.is_empty() {
                ports.remove(name);
            } else {
                ports.insert(name.clone(), ids.clone());
            }
        }
    }

    /// Notes a sync that failed.
    pub(crate) fn failed(&self) {
        self.sync_failures.inc();
    }
}

/// Per-service traffic, read when Prometheus asks.
struct Traffic {
    ports: Arc<Mutex<Ports>>,
    dataplane: Arc<dyn Dataplane>,
    families: Families,
}

struct Families {
    packets: IntCounterVec,
    bytes: IntCounterVec,
    connections: IntCounterVec,
    refused: IntCounterVec,
}

impl Families {
    fn new() -> prometheus::Result<Self> {
        let labels = ["namespace", "service", "port"];
        let counter = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &labels);
        Ok(Self {
            packets: counter("skep_service_packets_total", "Packets translated, both directions.")?,
            bytes: counter("skep_service_bytes_total", "Bytes translated, both directions.")?,
            connections: counter(
                "skep_service_connections_total",
                "New flows, and sockets given a backend.",
            )?,
            refused: counter("skep_service_refused_total", "Connections refused for want of a backend.")?,
        })
    }

    fn each(&self) -> [&IntCounterVec; 4] {
        [&self.packets, &self.bytes, &self.connections, &self.refused]
    }

    fn add(&self, labels: &[&str], totals: &ServiceStats) {
        let values = [totals.packets, totals.bytes, totals.connections, totals.refused];
        for (family, value) in self.each().into_iter().zip(values) {
            family.with_label_values(labels).inc_by(value);
        }
    }
}

impl Traffic {
    fn new(ports: Arc<Mutex<Ports>>, dataplane: Arc<dyn Dataplane>) -> prometheus::Result<Self> {
        Ok(Self { ports, dataplane, families: Families::new()? })
    }
}

impl Collector for Traffic {
    fn desc(&self) -> Vec<&Desc> {
        self.families.each().into_iter().flat_map(|family| family.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Fresh ones each time: the kernel has the totals, and services that are gone drop out.
        let Ok(families) = Families::new() else { return Vec::new() };
        let ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (name, ids) in &ports {
            for (port, id) in ids {
                match self.dataplane.service_totals(*id) {
                    Ok(Some(totals)) => families.add(&[&name.namespace, &name.name, port], &totals),
                    Ok(None) => {}
                    Err(error) => tracing::warn!(service = %name, %error, "cannot read a service's traffic"),
                }
            }
        }
        families.each().into_iter().flat_map(|family| family.collect()).collect()
    }
}
