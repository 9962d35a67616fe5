//! What the endpoint counts about itself, under upstream's names, and the text of `/metrics`.

use prometheus::{Encoder, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

/// Counters of requests.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: IntCounterVec,
    in_flight: IntGaugeVec,
}

/// Counts a request as in flight while it lives.
pub(crate) struct InFlight(prometheus::IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Registers them.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new("kubelet_http_requests_total", "Requests to the node's endpoint, by path and status"),
            &["path", "code"],
        )?;
        let in_flight = IntGaugeVec::new(
            Opts::new("kubelet_http_inflight_requests", "Requests and streams that are open"),
            &["path"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        Ok(Self { requests, in_flight })
    }

    pub(crate) fn answered(&self, path: &str, status: http::StatusCode) {
        self.requests.with_label_values(&[path, status.as_str()]).inc();
    }

    pub(crate) fn in_flight(&self, path: &str) -> InFlight {
        let gauge = self.in_flight.with_label_values(&[path]);
        gauge.inc();
        InFlight(gauge)
    }
}

/// Everything in the registry in Prometheus' text format.
pub(crate) fn text(registry: &Registry) -> Result<Vec<u8>, prometheus::Error> {
    let mut out = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut out)?;
    Ok(out)
}
