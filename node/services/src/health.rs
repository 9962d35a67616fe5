//! What the agent tells load balancers and probes: whether this node should get a service's traffic, and whether the
//! agent itself works.
//!
//! Owns the state and the answers, in upstream's form (`pkg/proxy/healthcheck`). How they are served is
//! [`crate::serve`]'s business.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::model::{Service, ServiceName, Slice};

/// How long syncs may fail before the agent calls itself unhealthy.
const PATIENCE: Duration = Duration::from_secs(60);

/// One service whose traffic from outside stays on the node where it arrives, and the port that balancers ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// `spec.healthCheckNodePort`.
    pub port: u16,
    /// Addresses of this node's endpoints that are ready.
    pub local: usize,
}

/// The check of a service, if it has one. Terminating endpoints do not count: the balancer is to turn away while they
/// serve what is left.
pub fn check<'a>(service: &Service, slices: impl Iterator<Item = &'a Slice>, node: &str) -> Option<Check> {
    let port = service.health_check_node_port.filter(|_| service.external_local)?;
    let local: BTreeSet<IpAddr> = slices
        .filter(|slice| service.ports.iter().any(|port| slice.port(port).is_some()))
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| endpoint.ready && endpoint.node.as_deref() == Some(node))
        .map(|endpoint| endpoint.address)
        .collect();
    Some(Check { port, local: local.len() })
}

#[derive(Debug, Default)]
struct State {
    synced: Option<k8s_openapi::jiff::Timestamp>,
    failing_since: Option<Instant>,
    leaving: bool,
    checks: BTreeMap<ServiceName, Check>,
}

/// The agent's health, shared between the loop that knows and the servers that tell.
#[derive(Clone, Debug)]
pub struct Health {
    state: Arc<Mutex<State>>,
    // The ports to listen on.
    ports: Arc<watch::Sender<BTreeSet<u16>>>,
}

impl Default for Health {
    fn default() -> Self {
        Self { state: Arc::default(), ports: Arc::new(watch::Sender::new(BTreeSet::new())) }
    }
}

/// An answer over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A plain text.
    pub fn text(status: u16, text: &str) -> Self {
        let headers = vec![("content-type", "text/plain; charset=utf-8".to_owned())];
        Self { status, headers, body: text.as_bytes().to_vec() }
    }

    fn json(good: bool, body: &serde_json::Value) -> Self {
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            ("x-content-type-options", "nosniff".to_owned()),
        ];
        Self { status: if good { 200 } else { 503 }, headers, body: format!("{body}\n").into_bytes() }
    }
}

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sync succeeded.
    pub fn synced(&self) {
        let mut state = self.state();
        state.synced = Some(k8s_openapi::jiff::Timestamp::now());
        state.failing_since = None;
    }

    /// A sync failed.
    pub fn failed(&self) {
        self.state().failing_since.get_or_insert_with(Instant::now);
    }

    /// The node is about to go: balancers should turn away from it.
    pub fn set_leaving(&self, leaving: bool) {
        self.state().leaving = leaving;
    }

    /// The check of `name` is now this one.
    pub fn set_check(&self, name: &ServiceName, check: Option<Check>) {
        let ports = {
            let mut state = self.state();
            match check {
                Some(check) => state.checks.insert(name.clone(), check),
                None => state.checks.remove(name),
            };
            state.checks.values().map(|check| check.port).collect()
        };
        self.ports.send_if_modified(|known| {
            let differs = *known != ports;
            *known = ports;
            differs
        });
    }

    /// The ports at which checks are to be answered.
    pub fn ports(&self) -> watch::Receiver<BTreeSet<u16>> {
        self.ports.subscribe()
    }

    /// The agent has synced, and has not failed to for longer than a minute.
    pub fn is_healthy(&self) -> bool {
        let state = self.state();
        state.synced.is_some() && state.failing_since.is_none_or(|since| since.elapsed() < PATIENCE)
    }

    /// The answer to a balancer that asks at `port`.
    pub fn answer_check(&self, port: u16) -> Answer {
        let healthy = self.is_healthy();
        let state = self.state();
        let Some((name, check)) = state.checks.iter().find(|(_, check)| check.port == port) else {
            return Answer::text(404, "no service has this health check port\n");
        };
        let body = json!({
            "service": { "namespace": name.namespace, "name": name.name },
            "localEndpoints": check.local,
            "serviceProxyHealthy": healthy,
        });
        let mut answer = Answer::json(healthy && check.local > 0, &body);
        answer.headers.push(("x-load-balancing-endpoint-weight", check.local.to_string()));
        answer
    }

    /// The answer to a probe of the agent: `/healthz` is also bad when the node is about to go, `/livez` is not.
    pub fn answer_probe(&self, path: &str) -> Answer {
        let healthy = self.is_healthy();
        let state = self.state();
        let good = match path {
            "/healthz" => healthy && !state.leaving,
            "/livez" => healthy,
            _ => return Answer::text(404, "there is /healthz and /livez\n"),
        };
        let now = k8s_openapi::jiff::Timestamp::now();
        let body = json!({
            "lastUpdated": state.synced.map(|time| time.to_string()).unwrap_or_default(),
            "currentTime": now.to_string(),
            "nodeEligible": !state.leaving,
        });
        Answer::json(good, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(answer: &Answer) -> serde_json::Value {
        serde_json::from_slice(&answer.body).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn check_counts_decide_status_body_and_weight() {
        let health = Health::default();
        let name = ServiceName::new("default", "web");
        health.set_check(&name, Some(Check { port: 30_500, local: 2 }));
        assert_eq!(*health.ports().borrow(), BTreeSet::from([30_500]));
        assert_eq!(health.answer_check(30_500).status, 503, "nothing is synced yet");
        health.synced();
        let answer = health.answer_check(30_500);
        assert_eq!(answer.status, 200);
        assert!(answer.headers.contains(&("x-load-balancing-endpoint-weight", "2".to_owned())));
        assert_eq!(
            body(&answer),
            json!({"service": {"namespace": "default", "name": "web"}, "localEndpoints": 2, "serviceProxyHealthy": true})
        );
        health.set_check(&name, Some(Check { port: 30_500, local: 0 }));
        assert_eq!(health.answer_check(30_500).status, 503);
        assert_eq!(health.answer_check(30_501).status, 404);
        health.set_check(&name, None);
        assert!(health.ports().borrow().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn probes_fail_before_the_first_sync_and_after_a_minute_of_failures() {
        let health = Health::default();
        let status = || (health.answer_probe("/healthz").status, health.answer_probe("/livez").status);
        assert_eq!(status(), (503, 503));
        health.synced();
        health.set_leaving(true);
        assert_eq!(status(), (503, 200));
        assert_eq!(body(&health.answer_probe("/healthz"))["nodeEligible"], json!(false));
        health.set_leaving(false);
        health.failed();
        tokio::time::sleep(Duration::from_secs(59)).await;
        health.failed();
        assert_eq!(status(), (200, 200));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(status(), (503, 503));
        health.synced();
        assert_eq!((status(), health.answer_probe("/").status), ((200, 200), 404));
    }
}
