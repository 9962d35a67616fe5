//! The loop: takes in what the watches tell, tries one pod at a time, binds beside it.
//!
//! One task owns the queue and the nodes, so that there is nothing to lock and no event can slip between a
//! decision and its effects. Bindings run concurrently and report back.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use futures::stream::Stream;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event as WatchEvent, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cycle::{Outcome, schedule};
use crate::events::Recorder;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::plugins::{Candidate, helps};
use crate::queue::{Event, Queue, Waiting};
use crate::shape::Shape;
use crate::writer;

/// How a binding ended.
struct Bound {
    uid: String,
    outcome: Result<(), String>,
}

/// Watches, schedules and binds until shutdown.
pub(crate) async fn run(client: Client, name: &str, metrics: Metrics, shutdown: CancellationToken) {
    let config = || Config::default().streaming_lists();
    let mut pods = pin!(watcher(Api::<Pod>::all(client.clone()), config()).default_backoff());
    let mut nodes = pin!(watcher(Api::<Node>::all(client.clone()), config()).default_backoff());
    let (recorder, events) = Recorder::new(client.clone(), name.to_owned());
    let writing = tokio::spawn(events);
    let (bound, mut bindings) = mpsc::unbounded_channel();
    let mut state = Driver::new(client, name, metrics, recorder, bound);
    loop {
        let due = state.queue.next_time().map(tokio::time::Instant::from_std);
        let ready = state.queue.is_ready() && state.is_synced();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(done) = bindings.recv() => state.bound(done),
            event = next(&mut nodes) => state.node_event(event),
            event = next(&mut pods) => state.pod_event(event),
            () = tokio::task::yield_now(), if ready => state.schedule_one(),
            () = sleep_until(due), if due.is_some() => state.queue.promote(Instant::now()),
        }
        while state.tasks.try_join_next().is_some() {}
        state.report();
    }
    while state.tasks.join_next().await.is_some() {}
    drop(state);
    // What is recorded is written before the scheduler ends.
    if writing.await.is_err() {
        tracing::warn!("scheduler: the writer of events ended badly");
    }
}

async fn sleep_until(due: Option<tokio::time::Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

/// The next event of a watch. Its errors are logged; the watch recovers by itself and never ends.
async fn next<K, S>(stream: &mut S) -> WatchEvent<K>
where
    S: Stream<Item = Result<WatchEvent<K>, kube::runtime::watcher::Error>> + Unpin,
{
    loop {
        match stream.next().await {
            Some(Ok(event)) => return event,
            Some(Err(error)) => tracing::warn!(%error, "scheduler: watch failed, retrying"),
            None => std::future::pending().await,
        }
    }
}

/// The state of the loop.
struct Driver {
    client: Client,
    name: String,
    metrics: Metrics,
    recorder: Recorder,
    bound: mpsc::UnboundedSender<Bound>,
    queue: Queue,
    nodes: Nodes,
    tasks: JoinSet<()>,
    /// Uids of pods, and names of nodes, of the initial list that is arriving.
    listed_pods: HashSet<String>,
    listed_nodes: HashSet<String>,
    known_pods: HashSet<String>,
    known_nodes: HashSet<String>,
    synced: (bool, bool),
    cycles: u64,
}

impl Driver {
    fn new(
        client: Client,
        name: &str,
        metrics: Metrics,
        recorder: Recorder,
        bound: mpsc::UnboundedSender<Bound>,
    ) -> Self {
        Self {
            client,
            name: name.to_owned(),
            metrics,
            recorder,
            bound,
            queue: Queue::default(),
            nodes: Nodes::default(),
            tasks: JoinSet::new(),
            listed_pods: HashSet::new(),
            listed_nodes: HashSet::new(),
            known_pods: HashSet::new(),
            known_nodes: HashSet::new(),
            synced: (false, false),
            cycles: 0,
        }
    }

    fn is_synced(&self) -> bool {
        self.synced == (true, true)
    }

    fn node_event(&mut self, event: WatchEvent<Node>) {
        match event {
            WatchEvent::Init => self.listed_nodes.clear(),
            WatchEvent::InitApply(node) => {
                self.listed_nodes.extend(node.metadata.name.clone());
                self.apply_node(&node);
            }
            WatchEvent::InitDone => {
                let gone: Vec<String> = self.known_nodes.difference(&self.listed_nodes).cloned().collect();
                gone.iter().for_each(|name| self.remove_node(name));
                self.synced.0 = true;
            }
            WatchEvent::Apply(node) => self.apply_node(&node),
            WatchEvent::Delete(node) => self.remove_node(node.metadata.name.as_deref().unwrap_or_default()),
        }
    }

    fn apply_node(&mut self, node: &Node) {
        self.known_nodes.extend(node.metadata.name.clone());
        for event in self.nodes.apply_node(node) {
            self.queue.event(event, helps, Instant::now());
        }
    }

    fn remove_node(&mut self, name: &str) {
        self.known_nodes.remove(name);
        self.nodes.remove_node(name);
    }

    fn pod_event(&mut self, event: WatchEvent<Pod>) {
        match event {
            WatchEvent::Init => self.listed_pods.clear(),
            WatchEvent::InitApply(pod) => {
                self.listed_pods.extend(pod.metadata.uid.clone());
                self.apply_pod(pod);
            }
            WatchEvent::InitDone => {
                let gone: Vec<String> = self.known_pods.difference(&self.listed_pods).cloned().collect();
                gone.iter().for_each(|uid| self.pod_gone(uid));
                self.synced.1 = true;
            }
            WatchEvent::Apply(pod) => self.apply_pod(pod),
            WatchEvent::Delete(pod) => self.pod_gone(pod.metadata.uid.as_deref().unwrap_or_default()),
        }
    }

    fn apply_pod(&mut self, mut pod: Pod) {
        pod.metadata.managed_fields = None;
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        if matches!(phase, "Succeeded" | "Failed") {
            return self.pod_gone(&uid);
        }
        self.known_pods.insert(uid.clone());
        let spec = pod.spec.as_ref();
        match spec.and_then(|spec| spec.node_name.as_deref()).filter(|node| !node.is_empty()) {
            Some(node) => {
                self.queue.remove(&uid);
                self.nodes.confirm(&uid, node, Arc::new(Shape::of(&pod)));
            }
            None if pod.metadata.deletion_timestamp.is_some() => self.queue.remove(&uid),
            None if spec.and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or(&self.name)
                != self.name => {}
            // It may be an old sight of a pod that we have given a node to.
            None if self.nodes.has_pod(&uid) => {}
            None => self.queue.apply(Arc::new(pod), Instant::now()),
        }
    }

    fn pod_gone(&mut self, uid: &str) {
        self.known_pods.remove(uid);
        self.queue.remove(uid);
        if self.nodes.remove_pod(uid) {
            self.queue.event(Event::PodGone, helps, Instant::now());
        }
    }

    fn schedule_one(&mut self) {
        let Some(Waiting { pod, .. }) = self.queue.pop(Instant::now()) else { return };
        let (Some(uid), Some(spec)) = (pod.metadata.uid.clone(), pod.spec.as_ref()) else { return };
        self.cycles = self.cycles.wrapping_add(1);
        let timer = self.metrics.cycle.start_timer();
        let shape = Arc::new(Shape::of(&pod));
        let outcome = schedule(&Candidate { pod: &pod, spec, shape: &shape }, &self.nodes, self.cycles);
        timer.observe_duration();
        match outcome {
            Outcome::Node(node) => {
                self.nodes.assume(&uid, &node, shape);
                self.bind(uid, pod, node);
            }
            Outcome::Unschedulable { message, rejected_by } => {
                self.metrics.attempts.with_label_values(&["unschedulable"]).inc();
                tracing::debug!(pod = writer::name_of(&pod), message, "unschedulable");
                self.queue.unschedulable(&uid, rejected_by, Instant::now());
                self.refused(pod, message);
            }
        }
    }

    fn bind(&mut self, uid: String, pod: Arc<Pod>, node: String) {
        let (client, recorder, bound) = (self.client.clone(), self.recorder.clone(), self.bound.clone());
        self.tasks.spawn(async move {
            let outcome = writer::bind(&client, &pod, &node).await;
            match &outcome {
                Ok(()) => recorder.scheduled(&pod, &node),
                Err(error) => {
                    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                    recorder.failed(&pod, format!("binding rejected: {cause}"));
                }
            }
            // The loop may have ended; then nobody needs to know.
            let _ = bound.send(Bound { uid, outcome: outcome.map_err(|error| error.to_string()) });
        });
    }

    fn bound(&mut self, Bound { uid, outcome }: Bound) {
        let now = Instant::now();
        match outcome {
            Ok(()) => {
                self.metrics.attempts.with_label_values(&["scheduled"]).inc();
                self.queue.scheduled(&uid);
                // It was deleted while it was being bound, and the watch has said so before.
                if !self.known_pods.contains(&uid) {
                    self.nodes.forget(&uid);
                }
            }
            Err(error) => {
                self.metrics.attempts.with_label_values(&["error"]).inc();
                tracing::warn!(error, "binding failed");
                self.nodes.forget(&uid);
                self.queue.failed(&uid, now);
                self.queue.event(Event::PodGone, helps, now);
            }
        }
    }

    fn refused(&mut self, pod: Arc<Pod>, message: String) {
        self.recorder.failed(&pod, message.clone());
        let Some(condition) = writer::unschedulable_condition(&pod, &message, jiff::Timestamp::now()) else {
            return;
        };
        let client = self.client.clone();
        self.tasks.spawn(async move {
            if let Err(error) = writer::write_condition(&client, &pod, condition).await {
                tracing::debug!(%error, "condition not written");
            }
        });
    }

    fn report(&self) {
        let depths = self.queue.depths();
        let pending = |queue: &str, depth: usize| {
            self.metrics.pending.with_label_values(&[queue]).set(i64::try_from(depth).unwrap_or(i64::MAX));
        };
        pending("active", depths.active);
        pending("backoff", depths.backoff);
        pending("unschedulable", depths.unschedulable);
        pending("gated", depths.gated);
    }
}
