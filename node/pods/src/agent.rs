//! The node's agent: from the API's watch and the runtime's events to the pods' workers.
//!
//! Watches pods bound to this node and services (for variables); writes nothing itself, its workers do. What the
//! runtime has of pods that the API does not know is removed. A lost event is made up for by a list every minute.

mod index;
mod orphans;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client};
use parking_lot::RwLock;
use skep_runtime::{Event, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cgroups::{Cgroups, MOUNT};
use crate::claims::Claims;
use crate::clock::{Clock, SystemClock};
use crate::cluster::KubeCluster;
use crate::metrics::Metrics;
use crate::node::{self, Capacity};
use crate::probes::SystemProber;
use crate::recorder::{self, Recorder};
use crate::references::References;
use crate::volumes::Volumes;
use crate::volumes::mounter::SystemMounter;
use crate::worker::{Context, Message, Worker};
use crate::{Error, PodsConfig, logs, spec};
use index::Index;

/// The safety net under the runtime's events.
const RELIST: Duration = Duration::from_secs(60);
/// Between two attempts to subscribe to the runtime's events.
const RECONNECT: Duration = Duration::from_secs(1);

/// The pods of this node as the API has them, for those who only read.
#[derive(Clone)]
pub struct Pods {
    list: Arc<RwLock<HashMap<String, Arc<Pod>>>>,
    listed: watch::Sender<bool>,
}

impl Default for Pods {
    fn default() -> Self {
        Self { list: Arc::default(), listed: watch::Sender::new(false) }
    }
}

impl Pods {
    /// All of them.
    pub fn list(&self) -> Vec<Arc<Pod>> {
        self.list.read().values().cloned().collect()
    }

    /// Notified at every change. True once the API's list is complete: before that, pods may be missing.
    pub fn changes(&self) -> watch::Receiver<bool> {
        self.listed.subscribe()
    }

    fn insert(&self, uid: String, pod: Arc<Pod>) {
        self.list.write().insert(uid, pod);
        self.listed.send_modify(|_| {});
    }

    fn remove(&self, uid: &str) {
        if self.list.write().remove(uid).is_some() {
            self.listed.send_modify(|_| {});
        }
    }
}

/// Everything the agent needs, before it runs.
pub struct Agent {
    client: Client,
    context: Arc<Context>,
    capacity: Capacity,
    pods: Pods,
    notes: mpsc::Receiver<recorder::Note>,
    changed: mpsc::UnboundedReceiver<Vec<String>>,
    services: reflector::store::Writer<Service>,
}

impl Agent {
    /// Puts the parts together. Nothing runs yet.
    ///
    /// # Errors
    /// Metrics that are registered already; a runtime that does not answer; `/proc` that cannot be read.
    pub async fn new(
        config: PodsConfig,
        client: Client,
        runtime: Arc<dyn Runtime>,
        registry: &prometheus::Registry,
    ) -> Result<Self, Error> {
        let metrics = Metrics::new(registry)?;
        let version = runtime.version().await?;
        let capacity = Capacity::read(Path::new("/proc"), &config)?;
        let (recorder, notes) = Recorder::new();
        let (changes, changed) = mpsc::unbounded_channel();
        let services = reflector::store::Writer::default();
        let references = References::new(client.clone(), changes);
        let cluster = KubeCluster::new(client.clone(), references, services.as_reader());
        let context = Context {
            volumes: Volumes::new(&config.state_dir, Arc::new(SystemMounter)),
            cgroups: Cgroups::new(Path::new(MOUNT)),
            prober: Arc::new(SystemProber::new(runtime.clone())),
            cluster: Arc::new(cluster),
            runtime_name: version.runtime_name,
            runtime,
            recorder,
            clock: Arc::new(SystemClock),
            metrics,
            allocatable: (capacity.cpu_milli, capacity.memory),
            claims: Claims::new((capacity.cpu_milli, capacity.memory)),
            config,
        };
        let context = Arc::new(context);
        Ok(Self { client, context, capacity, pods: Pods::default(), notes, changed, services })
    }

    /// The pods, for readers such as the node's endpoint.
    pub fn pods(&self) -> Pods {
        self.pods.clone()
    }

    /// Takes care of the node and its pods until `shutdown`. Pods keep running after it. What fails is tried again.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { client, context, capacity, pods, notes, changed, services } = self;
        let host = context.config.node_name.clone();
        let mut tasks = JoinSet::new();
        let clock: Arc<dyn Clock> = context.clock.clone();
        tasks.spawn(recorder::write(notes, client.clone(), host, clock));
        tasks.spawn(node::keep(client.clone(), context.clone(), capacity));
        tasks.spawn(follow_services(client.clone(), services));
        tasks.spawn(rotate_logs(context.clone()));
        let dispatcher = Dispatcher {
            context: context.clone(),
            pods,
            workers: HashMap::new(),
            running: JoinSet::new(),
            index: Index::default(),
            listed: HashSet::new(),
            synced: false,
        };
        shutdown.run_until_cancelled(dispatcher.run(client, changed)).await;
        tasks.shutdown().await;
    }
}

async fn follow_services(client: Client, writer: reflector::store::Writer<Service>) {
    let events = watcher(Api::<Service>::all(client), watcher::Config::default()).default_backoff();
    let mut stream = std::pin::pin!(reflector(writer, events));
    while let Some(event) = stream.next().await {
        if let Err(error) = event {
            tracing::debug!(error = crate::describe(&error), "watch of services broke");
        }
    }
}

async fn rotate_logs(context: Arc<Context>) {
    loop {
        tokio::time::sleep(RELIST).await;
        if let Err(error) = logs::rotate(&*context.runtime, context.clock.now()).await {
            tracing::debug!(error = crate::describe(&error), "logs could not be looked at");
        }
    }
}

struct Dispatcher {
    context: Arc<Context>,
    pods: Pods,
    workers: HashMap<String, mpsc::UnboundedSender<Message>>,
    running: JoinSet<String>,
    index: Index,
    listed: HashSet<String>,
    synced: bool,
}

impl Dispatcher {
    async fn run(mut self, client: Client, mut changed: mpsc::UnboundedReceiver<Vec<String>>) {
        let selector = format!("spec.nodeName={}", self.context.config.node_name);
        let watch = watcher(Api::<Pod>::all(client), watcher::Config::default().fields(&selector));
        let mut watch = std::pin::pin!(watch.default_backoff());
        let (events, mut runtime) = mpsc::channel(256);
        let _follower = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(follow_runtime(
            self.context.runtime.clone(),
            events,
        )));
        let mut relist = tokio::time::interval(RELIST);
        relist.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(event) = watch.next() => match event {
                    Ok(event) => self.take(event).await,
                    Err(error) => tracing::warn!(error = crate::describe(&error), "watch of pods broke"),
                },
                Some(event) = runtime.recv() => match event {
                    Some(event) => self.take_event(event).await,
                    // Events were lost.
                    None => self.relist().await,
                },
                Some(users) = changed.recv() => users.iter().for_each(|uid| self.tell(uid, Message::Wake)),
                Some(done) = self.running.join_next() => self.forget(done),
                _ = relist.tick() => self.relist().await,
            }
        }
    }

    async fn take(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(pod) => {
                self.listed.insert(spec::uid(&pod).to_owned());
                self.update(pod);
            }
            watcher::Event::InitDone => {
                let gone: Vec<String> =
                    self.workers.keys().filter(|uid| !self.listed.contains(*uid)).cloned().collect();
                gone.iter().for_each(|uid| self.remove(uid));
                self.synced = true;
                self.pods.listed.send_replace(true);
                self.relist().await;
            }
            watcher::Event::Apply(pod) => self.update(pod),
            watcher::Event::Delete(pod) => {
                let uid = spec::uid(&pod).to_owned();
                // The last version says with which grace it was deleted.
                self.tell(&uid, Message::Update(Arc::new(pod)));
                self.remove(&uid);
            }
        }
    }

    fn update(&mut self, pod: Pod) {
        let (uid, pod) = (spec::uid(&pod).to_owned(), Arc::new(pod));
        self.pods.insert(uid.clone(), pod.clone());
        if self.workers.contains_key(&uid) {
            self.tell(&uid, Message::Update(pod));
            return;
        }
        let (worker, sender) = Worker::new(self.context.clone(), pod);
        let id = uid.clone();
        self.running.spawn(async move {
            worker.run().await;
            id
        });
        self.workers.insert(uid, sender);
        self.count();
    }

    fn remove(&mut self, uid: &str) {
        self.pods.remove(uid);
        self.tell(uid, Message::Gone);
    }

    fn tell(&self, uid: &str, message: Message) {
        if let Some(worker) = self.workers.get(uid) {
            // A worker that has ended needs no messages.
            let _ = worker.send(message);
        }
    }

    fn forget(&mut self, done: Result<String, tokio::task::JoinError>) {
        match done {
            Ok(uid) => {
                self.workers.remove(&uid);
                self.pods.remove(&uid);
            }
            // A worker that panicked is replaced by the next update or list of its pod.
            Err(error) => {
                tracing::error!(%error, "a pod's worker failed");
                self.workers.retain(|_, worker| !worker.is_closed());
            }
        }
        self.count();
    }

    fn count(&self) {
        self.context.metrics.workers.set(i64::try_from(self.workers.len()).unwrap_or(i64::MAX));
    }

    async fn take_event(&mut self, event: Event) {
        self.context.metrics.runtime_events.inc();
        match self.index.find(&*self.context.runtime, &event.id).await {
            Some(uid) => self.tell(&uid, Message::Wake),
            None => tracing::trace!(id = event.id, "an event about no pod of ours"),
        }
    }

    /// Looks at all that the runtime has, wakes the pods of which something changed, and removes what is no pod's.
    async fn relist(&mut self) {
        let changed = match self.index.relist(&*self.context.runtime).await {
            Ok(changed) => changed,
            Err(error) => {
                tracing::warn!(error = crate::describe(&error), "the runtime could not be listed");
                return;
            }
        };
        let running = self.index.running_pods();
        self.context.metrics.running_pods.set(i64::try_from(running).unwrap_or(i64::MAX));
        changed.iter().for_each(|uid| self.tell(uid, Message::Wake));
        if !self.synced {
            return;
        }
        let mut known: Vec<String> = self.index.uids().map(str::to_owned).collect();
        known.extend(self.context.volumes.known());
        known.sort();
        known.dedup();
        for uid in known.into_iter().filter(|uid| !self.workers.contains_key(uid)) {
            let context = self.context.clone();
            if self.index.begin_removal(&uid) {
                let removed = self.index.removals();
                tokio::spawn(async move {
                    if let Err(error) = orphans::remove(&context, &uid).await {
                        tracing::warn!(
                            uid,
                            error = crate::describe(&error),
                            "an orphan could not be removed"
                        );
                    }
                    removed.lock().remove(&uid);
                });
            }
        }
    }
}

/// Passes the runtime's events on; `None` after each new subscription, before which some may have been missed.
async fn follow_runtime(runtime: Arc<dyn Runtime>, sender: mpsc::Sender<Option<Event>>) {
    loop {
        if let Ok(mut events) = runtime.events().await {
            while let Some(event) = events.next().await {
                if sender.send(Some(event)).await.is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(RECONNECT).await;
        if sender.send(None).await.is_err() {
            return;
        }
    }
}
