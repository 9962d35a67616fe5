//! Probes of running containers: startup first, then liveness and readiness.
//!
//! One task per container that has any. It reports changes only; what they lead to is planned elsewhere.
//! Rules: Kubernetes documentation, "Liveness, Readiness, and Startup Probes".

pub mod check;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Probe};
use skep_runtime::Runtime;
use tokio::time::Instant;

/// What is probed.
#[derive(Clone, Debug)]
pub struct Target {
    /// Container id.
    pub id: String,
    /// The pod's address.
    pub ip: String,
    /// The container's spec, for the names of its ports.
    pub container: Arc<Container>,
}

/// Runs single probes.
#[async_trait]
pub trait Prober: Send + Sync + 'static {
    /// Probes once.
    ///
    /// # Errors
    /// Why the probe failed, in words for the user.
    async fn probe(&self, target: &Target, probe: &Probe) -> Result<(), String>;
}

/// The real thing: commands through the runtime, requests over the network.
pub struct SystemProber {
    runtime: Arc<dyn Runtime>,
}

impl SystemProber {
    /// Commands are run through this runtime.
    pub fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self { runtime }
    }
}

#[async_trait]
impl Prober for SystemProber {
    async fn probe(&self, target: &Target, probe: &Probe) -> Result<(), String> {
        check::probe(&*self.runtime, target, probe).await
    }
}

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Must succeed once before the others count.
    Startup,
    /// Kills the container when it fails.
    Liveness,
    /// Takes the container out of services when it fails.
    Readiness,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// What a container's probes say anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The startup probe succeeded.
    Started,
    /// The readiness probe's result.
    Ready(bool),
    /// The container must be killed; the text says why.
    Failed(String),
    /// A single failure, of which users are told; nothing follows from it.
    Unhealthy(String),
}

/// A change, and the container it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Container id.
    pub id: String,
    /// What changed.
    pub change: Change,
}

/// Where the container's probes begin.
#[derive(Clone, Copy, Debug)]
pub struct Begin {
    /// How long the container has been running.
    pub age: Duration,
    /// It was started before, as an earlier agent found.
    pub started: bool,
    /// It was ready before, as an earlier agent found.
    pub ready: bool,
}

/// Whether the container has any probe.
pub fn any(container: &Container) -> bool {
    container.startup_probe.is_some()
        || container.liveness_probe.is_some()
        || container.readiness_probe.is_some()
}

/// Probes a container for as long as the future is polled.
pub async fn follow(prober: Arc<dyn Prober>, target: Target, begin: Begin, report: impl Fn(Report) + Sync) {
    let born = Instant::now().checked_sub(begin.age).unwrap_or_else(Instant::now);
    let container = target.container.clone();
    let watch = Watch { prober: &*prober, target: &target, report: &report, born };
    if let Some(probe) = container.startup_probe.as_ref().filter(|_| !begin.started) {
        if !watch.until(Kind::Startup, probe, false, true).await {
            return;
        }
        watch.tell(Change::Started);
    }
    let liveness = async {
        if let Some(probe) = &container.liveness_probe {
            watch.until(Kind::Liveness, probe, true, false).await;
        }
    };
    let readiness = async {
        let Some(probe) = &container.readiness_probe else { return };
        let mut ready = begin.ready;
        loop {
            watch.until(Kind::Readiness, probe, ready, !ready).await;
            ready = !ready;
            watch.tell(Change::Ready(ready));
            tokio::time::sleep(period(probe)).await;
        }
    };
    futures::future::join(liveness, readiness).await;
}

fn period(probe: &Probe) -> Duration {
    seconds(probe.period_seconds, 10).max(Duration::from_secs(1))
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default))
}

struct Watch<'a, F> {
    prober: &'a dyn Prober,
    target: &'a Target,
    report: &'a F,
    born: Instant,
}

impl<F: Fn(Report)> Watch<'_, F> {
    fn tell(&self, change: Change) {
        (self.report)(Report { id: self.target.id.clone(), change });
    }

    /// Probes until the result has been other than `now` often enough, or, for `startup` and `liveness`, until it has
    /// failed for good. Returns whether it turned out as `wanted`.
    async fn until(&self, kind: Kind, probe: &Probe, now: bool, wanted: bool) -> bool {
        let times = |value: Option<i32>, default| value.filter(|value| *value > 0).unwrap_or(default);
        let period = period(probe);
        let timeout = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
        let needed = if now { times(probe.failure_threshold, 3) } else { times(probe.success_threshold, 1) };
        let fatal = times(probe.failure_threshold, 3);
        tokio::time::sleep_until(self.born + seconds(probe.initial_delay_seconds, 0)).await;
        let (mut turned, mut failed) = (0, 0);
        loop {
            let answer = tokio::time::timeout(timeout, self.prober.probe(self.target, probe)).await;
            let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} s", timeout.as_secs())));
            turned = if answer.is_ok() == now { 0 } else { turned + 1 };
            failed = if answer.is_ok() { 0 } else { failed + 1 };
            if let Err(message) = answer {
                let name = kind.name();
                self.tell(Change::Unhealthy(format!("{name} probe failed: {message}")));
                if kind != Kind::Readiness && failed >= fatal {
                    let probe = name.to_lowercase();
                    let container = &self.target.container.name;
                    self.tell(Change::Failed(format!(
                        "Container {container} failed {probe} probe, will be restarted"
                    )));
                    return false;
                }
            }
            if kind != Kind::Liveness && turned >= needed {
                return now != wanted;
            }
            tokio::time::sleep(period).await;
        }
    }
}

#[cfg(test)]
mod tests;
