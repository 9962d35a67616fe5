//! One metadata watch per kind, for all kinds that discovery knows; they feed the graph.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::discovery::{ApiCapabilities, ApiResource, Scope, verbs};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::REFRESH;
use super::graph::Graph;
use crate::discovery;
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;

/// How long kinds may take until they have been listed for the first time.
const PATIENCE: Duration = Duration::from_secs(30);

/// How to reach the objects of a kind.
#[derive(Clone, Debug)]
pub(super) struct Mapping {
    pub(super) resource: ApiResource,
    pub(super) namespaced: bool,
}

/// All kinds, and the watches of those that can be watched.
pub(super) struct Monitors {
    client: Client,
    graph: Arc<Graph>,
    queue: Queue<ObjectKey>,
    /// By group and kind.
    mappings: Mutex<HashMap<(String, String), Mapping>>,
    /// Kinds whose first list is still on its way, by group and plural; the first number of kinds is
    /// unknown until discovery has answered.
    pending: watch::Sender<Option<HashSet<(String, String)>>>,
    born: Instant,
    complained: AtomicBool,
}

impl Monitors {
    pub(super) fn new(client: Client, graph: Arc<Graph>, queue: Queue<ObjectKey>) -> Self {
        Self {
            client,
            graph,
            queue,
            mappings: Mutex::default(),
            pending: watch::Sender::new(None),
            born: Instant::now(),
            complained: AtomicBool::new(false),
        }
    }

    /// Waits until every kind has been listed once, but not for ever: one kind that cannot be listed must not
    /// keep the objects of all others. Whether an owner exists is asked anyway; what may suffer is the order
    /// of a foreground deletion.
    pub(super) async fn synced(&self) {
        let mut pending = self.pending.subscribe();
        let listed = pending.wait_for(|kinds| kinds.as_ref().is_some_and(HashSet::is_empty));
        if tokio::time::timeout_at(self.born + PATIENCE, listed).await.is_err() && self.log_once() {
            let pending = self.pending.borrow().clone().unwrap_or_default();
            tracing::warn!(?pending, "garbage collector: not all kinds could be listed, going on");
        }
    }

    fn log_once(&self) -> bool {
        !self.complained.swap(true, Ordering::Relaxed)
    }

    /// How to reach the objects of a kind; `None` when the API does not serve it.
    pub(super) fn mapping(&self, group: &str, kind: &str) -> Option<Mapping> {
        self.mappings.lock().get(&(group.to_owned(), kind.to_owned())).cloned()
    }

    /// Watches all kinds, and looks for new ones from time to time.
    pub(super) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut watches: JoinSet<()> = JoinSet::new();
        let mut running: HashMap<(String, String), CancellationToken> = HashMap::new();
        let mut delay = Duration::from_secs(1);
        loop {
            match discovery::kinds(&self.client).await {
                Ok(kinds) => {
                    self.start(kinds, &mut running, &mut watches, &shutdown);
                    delay = REFRESH;
                }
                Err(error) => {
                    tracing::warn!(error = error.chain(), "garbage collector: discovery failed, retrying");
                    delay = (delay * 2).min(REFRESH);
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(delay) => {}
            }
            while watches.try_join_next().is_some() {}
        }
        while watches.join_next().await.is_some() {}
    }

    fn start(
        self: &Arc<Self>,
        kinds: Vec<(ApiResource, ApiCapabilities)>,
        running: &mut HashMap<(String, String), CancellationToken>,
        watches: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) {
        let mapped = kinds.iter().map(|(resource, can)| {
            let mapping = Mapping { resource: resource.clone(), namespaced: can.scope == Scope::Namespaced };
            ((resource.group.clone(), resource.kind.clone()), mapping)
        });
        *self.mappings.lock() = mapped.collect();
        let wanted: HashMap<(String, String), ApiResource> = kinds
            .into_iter()
            .filter(|(resource, can)| is_collected(resource, can))
            .map(|(resource, _)| ((resource.group.clone(), resource.plural.clone()), resource))
            .collect();
        running.retain(|kind, stop| {
            let stays = wanted.contains_key(kind);
            if !stays {
                stop.cancel();
                self.listed(kind);
            }
            stays
        });
        let new: Vec<_> = wanted.into_iter().filter(|(kind, _)| !running.contains_key(kind)).collect();
        self.pending.send_modify(|pending| {
            pending.get_or_insert_default().extend(new.iter().map(|(kind, _)| kind.clone()));
        });
        for (kind, resource) in new {
            let stop = shutdown.child_token();
            watches.spawn(Arc::clone(self).monitor(kind.clone(), resource, stop.clone()));
            running.insert(kind, stop);
        }
    }

    fn listed(&self, kind: &(String, String)) {
        self.pending.send_modify(|pending| {
            if let Some(kinds) = pending {
                kinds.remove(kind);
            }
        });
    }

    async fn monitor(self: Arc<Self>, id: (String, String), resource: ApiResource, stop: CancellationToken) {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(self.client.clone(), &resource);
        let mut stream = pin!(watcher(api, Config::default().streaming_lists()).default_backoff());
        let (mut known, mut listed): (HashSet<String>, HashSet<String>) = Default::default();
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => break,
                event = stream.next() => event,
            };
            match event {
                Some(Ok(Event::Init)) => listed.clear(),
                Some(Ok(Event::InitApply(object))) => {
                    listed.extend(object.metadata.uid.clone());
                    self.seen(&resource, &object, &mut known);
                }
                Some(Ok(Event::InitDone)) => {
                    let gone: Vec<String> = known.difference(&listed).cloned().collect();
                    gone.iter().for_each(|uid| self.gone(uid, &mut known));
                    self.listed(&id);
                }
                Some(Ok(Event::Apply(object))) => self.seen(&resource, &object, &mut known),
                Some(Ok(Event::Delete(object))) => {
                    self.gone(object.metadata.uid.as_deref().unwrap_or_default(), &mut known);
                }
                Some(Err(error)) => {
                    tracing::warn!(resource = resource.plural, %error, "garbage collector: watch failed, retrying");
                }
                None => break,
            }
        }
        // The kind is served no more, and what is no longer watched must not vouch for its dependents.
        for uid in known {
            self.look_at(self.graph.remove(&uid));
        }
    }

    fn seen(
        &self,
        resource: &ApiResource,
        object: &PartialObjectMeta<DynamicObject>,
        known: &mut HashSet<String>,
    ) {
        known.extend(object.metadata.uid.clone());
        self.look_at(self.graph.apply(&resource.group, &resource.kind, &object.metadata));
    }

    fn gone(&self, uid: &str, known: &mut HashSet<String>) {
        known.remove(uid);
        self.look_at(self.graph.remove(uid));
    }

    fn look_at(&self, uids: Vec<String>) {
        uids.into_iter().for_each(|uid| self.queue.add(ObjectKey::cluster(uid)));
    }
}

/// Events have no dependents, and there are many of them.
fn is_collected(resource: &ApiResource, can: &ApiCapabilities) -> bool {
    let needed = [verbs::LIST, verbs::WATCH, verbs::DELETE];
    resource.kind != "Event" && needed.iter().all(|verb| can.supports_operation(verb))
}
