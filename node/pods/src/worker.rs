//! One pod's worker: observe, plan, apply, report, until the pod is gone.
//!
//! ```text
//! alive ──deleted, gone, deadline passed, or all containers ended──▶ ending ──nothing runs──▶ ended
//!                                                                                              │ deleted or gone
//!                                                                                              ▼
//!                                                          API object deleted, everything removed from the node
//! ```
//!
//! The worker is the only one that touches its pod in the runtime. It owns no decision about what to run
//! ([`crate::plan`]) and none about what to say ([`crate::status`]). Dropping it leaves the pod running: the next
//! agent finds everything it needs in the runtime and the API.

mod report;
mod resize;
mod start;
mod stop;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use parking_lot::Mutex;
use skep_runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::backoff::Backoff;
use crate::cgroups::Cgroups;
use crate::claims::Claims;
use crate::clock::Clock;
use crate::cluster::{Cluster, revision};
use crate::metrics::Metrics;
use crate::observe::{Cache, Observed, observe};
use crate::plan::{self, Action, Health, Hold, Step, plan};
use crate::probes::{Change, Prober, Report};
use crate::recorder::{Recorder, Severity};
use crate::resize::Resize;
use crate::spec::dns::ClusterDns;
use crate::spec::fields::PodFacts;
use crate::spec::{self, Role};
use crate::status::Verdict;
use crate::volumes::source::Sources;
use crate::volumes::{Prepared, Volumes};
use crate::{Error, PodsConfig, logs};

/// How long after an error the pod is looked at again.
const RETRY: SignedDuration = SignedDuration::from_secs(5);
/// More rounds than this in one go mean that applying does not change what is observed.
const ROUNDS: usize = 30;

/// What all workers share.
pub struct Context {
    /// The node.
    pub config: PodsConfig,
    /// The container runtime.
    pub runtime: Arc<dyn Runtime>,
    /// Name of the runtime, which container ids carry.
    pub runtime_name: String,
    /// The API.
    pub cluster: Arc<dyn Cluster>,
    /// Runs probes.
    pub prober: Arc<dyn Prober>,
    /// Takes events.
    pub recorder: Recorder,
    /// Volumes.
    pub volumes: Volumes,
    /// cgroups.
    pub cgroups: Cgroups,
    /// Time of day.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Metrics,
    /// The node's allocatable CPU in thousandths and memory in bytes.
    pub allocatable: (i64, i64),
    /// What of it is promised to pods.
    pub claims: Claims,
}

impl Context {
    fn host_ips(&self) -> Vec<String> {
        self.config.node_ips.iter().map(ToString::to_string).collect()
    }

    fn cluster_dns(&self) -> ClusterDns {
        ClusterDns { servers: self.config.cluster_dns.clone(), domain: self.config.cluster_domain.clone() }
    }
}

/// What a worker is told.
#[derive(Debug)]
pub enum Message {
    /// The pod changed in the API.
    Update(Arc<Pod>),
    /// The pod is no longer in the API.
    Gone,
    /// Something happened in the runtime, or to an object that the pod refers to.
    Wake,
    /// A probe's result changed.
    Probe(Report),
}

/// Takes care of one pod.
pub struct Worker {
    context: Arc<Context>,
    // With the resources that it was promised; `desired` is as the API has it.
    pod: Arc<Pod>,
    desired: Arc<Pod>,
    resize: Resize,
    ephemeral: Vec<Container>,
    inbox: mpsc::UnboundedReceiver<Message>,
    sender: mpsc::UnboundedSender<Message>,
    gone: bool,
    verdict: Option<Verdict>,
    finished: bool,
    ended: bool,
    adopted: bool,
    cache: Cache,
    observed: Observed,
    health: HashMap<String, Health>,
    probes: HashMap<String, AbortHandle>,
    holds: HashMap<String, Hold>,
    waiting: BTreeMap<String, Hold>,
    told: HashSet<(String, Timestamp)>,
    backoff: Backoff,
    image_backoff: Backoff,
    sources: Sources,
    prepared: Option<Prepared>,
    pod_ips: Vec<String>,
    reported: Option<PodStatus>,
    reported_revision: u64,
    hooked: Arc<Mutex<HashSet<String>>>,
    wake_at: Option<Timestamp>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.probes.values().for_each(AbortHandle::abort);
        self.context.claims.leave(spec::uid(&self.pod));
    }
}

impl Worker {
    /// A worker for the pod, and where it takes messages.
    pub fn new(context: Arc<Context>, pod: Arc<Pod>) -> (Self, mpsc::UnboundedSender<Message>) {
        let (sender, inbox) = mpsc::unbounded_channel();
        let ips = pod.status.as_ref().and_then(|status| status.pod_ips.as_ref()).into_iter().flatten();
        let mut worker = Self {
            pod_ips: ips.map(|ip| ip.ip.clone()).collect(),
            context,
            ephemeral: ephemeral(&pod),
            desired: pod.clone(),
            pod,
            resize: Resize::default(),
            inbox,
            sender: sender.clone(),
            gone: false,
            verdict: None,
            finished: false,
            ended: false,
            adopted: false,
            cache: Cache::default(),
            observed: Observed::default(),
            health: HashMap::new(),
            probes: HashMap::new(),
            holds: HashMap::new(),
            waiting: BTreeMap::new(),
            told: HashSet::new(),
            backoff: Backoff::default(),
            image_backoff: Backoff::default(),
            sources: Sources::default(),
            prepared: None,
            reported: None,
            reported_revision: 0,
            hooked: Arc::default(),
            wake_at: None,
        };
        worker.enter_claims();
        (worker, sender)
    }

    /// Works until nothing of the pod is left.
    pub async fn run(mut self) {
        loop {
            self.drain();
            self.wake_at = None;
            let timer = self.context.metrics.sync_seconds.start_timer();
            let synced = self.sync().await;
            timer.observe_duration();
            match synced {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    let pod = spec::name(&self.pod);
                    tracing::warn!(pod, error = crate::describe(&error), "pod could not be synced");
                    self.wake_in(RETRY);
                }
            }
            self.wait().await;
        }
        self.context.cluster.forget(&self.pod);
    }

    fn now(&self) -> Timestamp {
        self.context.clock.now()
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }

    fn wake_in(&mut self, delay: SignedDuration) {
        self.wake(self.now().saturating_add(delay).unwrap_or(Timestamp::MAX));
    }

    async fn wait(&mut self) {
        let delay = self.wake_at.map(|at| at.duration_since(self.now()));
        let delay = delay.map(|delay| Duration::try_from(delay).unwrap_or(Duration::ZERO));
        let message = match delay {
            // A millisecond more, so that the clock has passed the moment.
            Some(delay) => {
                tokio::time::timeout(delay + Duration::from_millis(1), self.inbox.recv()).await.ok().flatten()
            }
            None => self.inbox.recv().await,
        };
        message.into_iter().for_each(|message| self.take(message));
    }

    fn drain(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Update(pod) => {
                // What an older revision says of the status was overtaken by our own writing.
                if revision(&pod) > self.reported_revision && self.reported.is_some() {
                    self.reported = pod.status.clone();
                }
                self.ephemeral = ephemeral(&pod);
                self.set_pod(pod);
            }
            Message::Gone => self.gone = true,
            Message::Wake => {}
            Message::Probe(report) => self.take_report(report),
        }
    }

    fn take_report(&mut self, report: Report) {
        let Some(health) = self.health.get_mut(&report.id) else { return };
        match report.change {
            Change::Started => health.started = true,
            Change::Ready(ready) => health.ready = ready,
            Change::Failed(message) => health.failed = Some(message),
            // A container that is being ended fails its probes as it should.
            Change::Unhealthy(_) if self.is_ending() => {}
            Change::Unhealthy(message) => {
                let run = self.observed.instances.iter().find(|run| run.id == report.id);
                let name = run.map(|run| run.name.clone()).unwrap_or_default();
                self.tell(&name, Severity::Warning, "Unhealthy", message);
            }
        }
    }

    /// Tells users something about a container.
    fn tell(&self, container: &str, severity: Severity, reason: &'static str, message: impl Into<String>) {
        let members = spec::members(&self.pod);
        let path = members.iter().find(|member| member.name() == container).map(spec::Member::field_path);
        self.context.recorder.pod(&self.pod, path, severity, reason, message);
    }

    fn is_ending(&self) -> bool {
        self.gone
            || self.finished
            || self.verdict.is_some()
            || self.pod.metadata.deletion_timestamp.is_some()
            || spec::is_terminal(&self.pod)
    }

    async fn observe(&mut self) -> Result<(), Error> {
        let folder = logs::pod_folder(&self.context.config.log_dir, &self.pod);
        let runtime = self.context.runtime.clone();
        self.observed = observe(&*runtime, spec::uid(&self.pod), &folder, &mut self.cache).await?;
        if spec::host_network(&self.pod) {
            self.pod_ips = self.context.host_ips();
        } else if let Some(sandbox) = self.observed.sandbox().filter(|sandbox| !sandbox.ips.is_empty()) {
            self.pod_ips = sandbox.ips.clone();
        }
        self.adopt();
        Ok(())
    }

    /// One pass: everything that can be done now. Returns whether the pod is gone for good.
    async fn sync(&mut self) -> Result<bool, Error> {
        self.observe().await?;
        self.check_deadline();
        if !self.is_ending() {
            self.allocate();
            self.keep_alive().await?;
        }
        if self.is_ending() {
            return self.take_down().await;
        }
        self.report().await?;
        Ok(false)
    }

    fn check_deadline(&mut self) {
        let Some(seconds) = self.pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds) else {
            return;
        };
        // A pod without a start begins now.
        let started = self.status_before().start_time.map_or_else(|| self.now(), |time| time.0);
        let at = started.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
        if at > self.now() {
            self.wake(at);
        } else if self.verdict.is_none() && !spec::is_terminal(&self.pod) && !self.finished {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            self.tell("", Severity::Normal, "DeadlineExceeded", message.clone());
            self.verdict = Some(Verdict { reason: "DeadlineExceeded".into(), message });
        }
    }

    async fn keep_alive(&mut self) -> Result<(), Error> {
        if !self.prepare_volumes().await? {
            return Ok(());
        }
        self.actuate().await?;
        for _ in 0..ROUNDS {
            let planned = plan(&plan::Inputs {
                pod: &self.pod,
                ephemeral: &self.ephemeral,
                observed: &self.observed,
                health: &self.health,
                holds: &self.holds,
                backoff: &self.backoff,
                now: self.now(),
            });
            self.waiting = planned.waiting;
            planned.wake_at.into_iter().for_each(|at| self.wake(at));
            self.tell_backoffs();
            if planned.finished {
                self.finished = true;
                return Ok(());
            }
            if planned.steps.is_empty() {
                return Ok(());
            }
            for step in planned.steps {
                self.apply(step).await?;
                self.drain();
                if self.is_ending() {
                    return self.observe().await;
                }
            }
            self.observe().await?;
            self.report().await?;
        }
        tracing::warn!(pod = spec::name(&self.pod), "the pod does not settle");
        self.wake_in(RETRY);
        Ok(())
    }

    async fn apply(&mut self, step: Step) -> Result<(), Error> {
        let pod = spec::name(&self.pod).to_owned();
        tracing::debug!(pod, action = ?step.action, why = step.why, "applying");
        let runtime = self.context.runtime.clone();
        match step.action {
            Action::Kill { id, name } => self.kill(&id, &name, &step.why).await,
            Action::StopSandbox { id } => Ok(runtime.stop_sandbox(&id).await?),
            Action::RemoveSandbox { id } => Ok(runtime.remove_sandbox(&id).await?),
            Action::Remove { id, .. } => {
                self.unlink_log(&id);
                Ok(runtime.remove_container(&id).await?)
            }
            Action::CreateSandbox { attempt } => self.create_sandbox(attempt).await,
            Action::Start { name, attempt, after } => self.start(&name, attempt, after).await,
        }
    }

    /// Makes the volumes or brings them up to date. `false` if the pod must wait for them.
    async fn prepare_volumes(&mut self) -> Result<bool, Error> {
        let context = self.context.clone();
        let (facts, now) = (self.facts(), self.now());
        let prepared =
            context.volumes.prepare(&self.pod, &facts, &*context.cluster, &mut self.sources, now).await;
        match prepared {
            Ok(prepared) => {
                prepared.refresh_at.into_iter().for_each(|at| self.wake(at));
                self.prepared = Some(prepared);
            }
            Err(Error::Volume { volume, message }) => {
                let text = format!("MountVolume.SetUp failed for volume {volume:?} : {message}");
                self.tell("", Severity::Warning, "FailedMount", text);
                self.wake_in(RETRY);
            }
            Err(error) => return Err(error),
        }
        // Containers that run keep the contents they have.
        Ok(self.prepared.is_some())
    }

    fn facts(&self) -> PodFacts {
        PodFacts {
            pod_ips: self.pod_ips.clone(),
            host_ips: self.context.host_ips(),
            node_cpu_milli: self.context.allocatable.0,
            node_memory: self.context.allocatable.1,
        }
    }

    /// Says once per wait that a container is held back after crashes.
    fn tell_backoffs(&mut self) {
        for (name, hold) in self.waiting.clone() {
            let news = self.told.insert((name.clone(), hold.until));
            if hold.reason == "CrashLoopBackOff" && news {
                let pod = &self.pod;
                let message = format!(
                    "Back-off restarting failed container {name} in pod {}_{}({})",
                    spec::name(pod),
                    spec::namespace(pod),
                    spec::uid(pod)
                );
                self.tell(&name, Severity::Warning, "BackOff", message);
            }
        }
        let waiting = &self.waiting;
        self.told.retain(|(name, until)| waiting.get(name).is_some_and(|hold| hold.until == *until));
    }

    /// Takes containers that run into care: their health, their probes, and after a restart of the agent their
    /// back-off. Forgets those that do not run any more.
    fn adopt(&mut self) {
        let running: Vec<_> =
            self.observed.instances.iter().filter(|run| run.is_running()).cloned().collect();
        let known: HashSet<&String> = running.iter().map(|run| &run.id).collect();
        self.health.retain(|id, _| known.contains(id));
        self.probes.retain(|id, task| {
            known.contains(id) || {
                task.abort();
                false
            }
        });
        if !self.adopted {
            self.adopted = true;
            for run in &self.observed.instances {
                if let crate::observe::State::Exited { finished_at, .. } = run.state {
                    self.backoff.resume(&run.name, run.attempt, finished_at);
                }
            }
        }
        for run in running.iter().filter(|run| !self.health.contains_key(&run.id)).collect::<Vec<_>>() {
            self.begin_probes(run);
        }
    }
}

/// The pod's ephemeral containers in the form of ordinary ones.
fn ephemeral(pod: &Pod) -> Vec<Container> {
    let list = pod.spec.as_ref().and_then(|spec| spec.ephemeral_containers.as_ref());
    list.into_iter().flatten().map(spec::from_ephemeral).collect()
}

/// Whether the role takes part in probing.
fn is_probed(role: Role) -> bool {
    matches!(role, Role::App | Role::Sidecar)
}

#[cfg(test)]
mod tests;
