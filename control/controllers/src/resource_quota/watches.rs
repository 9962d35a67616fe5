//! Metadata of the kinds that quotas count besides pods, services and claims: watched from when the first quota counts
//! them.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::discovery::{ApiResource, Scope};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::Freed;
use crate::discovery;
use crate::error::Result;

/// A kind by group and plural name.
type Kind = (String, String);

/// The objects of one kind: their names by namespace.
#[derive(Default)]
struct Names {
    /// Whether the first list has come.
    listed: bool,
    by_namespace: HashMap<String, HashSet<String>>,
}

/// All kinds that are counted.
pub(super) struct Counted {
    client: Client,
    freed: Freed,
    kinds: Mutex<HashMap<Kind, Names>>,
    shutdown: CancellationToken,
}

/// Kinds that come through the shared watches.
fn is_shared(kind: &Kind) -> bool {
    kind.0.is_empty()
        && matches!(kind.1.as_str(), "pods" | "services" | "persistentvolumeclaims" | "resourcequotas")
}

impl Counted {
    pub(super) fn new(client: Client, freed: Freed, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self { client, freed, kinds: Mutex::default(), shutdown })
    }

    /// Watches these kinds, too. Whether all of them that there are have been listed.
    pub(super) async fn watch(self: &Arc<Self>, mut wanted: Vec<Kind>) -> Result<bool> {
        wanted.retain(|kind| !is_shared(kind));
        let new: Vec<Kind> = {
            let kinds = self.kinds.lock();
            wanted.iter().filter(|kind| !kinds.contains_key(*kind)).cloned().collect()
        };
        if !new.is_empty() {
            self.start(&new).await?;
        }
        let kinds = self.kinds.lock();
        // Of a kind that the API does not serve there are none.
        Ok(wanted.iter().all(|kind| kinds.get(kind).is_none_or(|names| names.listed)))
    }

    async fn start(self: &Arc<Self>, new: &[Kind]) -> Result<()> {
        let served = discovery::kinds(&self.client).await?;
        for (resource, can) in served {
            let kind = (resource.group.clone(), resource.plural.clone());
            if can.scope != Scope::Namespaced || !new.contains(&kind) {
                continue;
            }
            if self.kinds.lock().insert(kind.clone(), Names::default()).is_none() {
                let this = Arc::clone(self);
                tokio::spawn(async move { this.follow(kind, resource).await });
            }
        }
        Ok(())
    }

    /// As many objects as there are; what they are like does not count.
    pub(super) fn list(&self, group: &str, plural: &str, namespace: &str) -> Option<Vec<Arc<Value>>> {
        let kinds = self.kinds.lock();
        let names = kinds.get(&(group.to_owned(), plural.to_owned())).filter(|names| names.listed)?;
        let count = names.by_namespace.get(namespace).map_or(0, HashSet::len);
        let any = Arc::new(Value::Null);
        Some(std::iter::repeat_n(any, count).collect())
    }

    async fn follow(self: Arc<Self>, kind: Kind, resource: ApiResource) {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(self.client.clone(), &resource);
        let mut stream = pin!(watcher(api, Config::default().streaming_lists()).default_backoff());
        let mut listing: HashMap<String, HashSet<String>> = HashMap::new();
        loop {
            let event = tokio::select! {
                () = self.shutdown.cancelled() => return,
                event = stream.next() => event,
            };
            match event {
                Some(Ok(Event::Init)) => listing.clear(),
                Some(Ok(Event::InitApply(object))) => {
                    let (namespace, name) = place(&object);
                    listing.entry(namespace).or_default().insert(name);
                }
                Some(Ok(Event::InitDone)) => self.listed(&kind, std::mem::take(&mut listing)),
                Some(Ok(Event::Apply(object))) => {
                    let (namespace, name) = place(&object);
                    self.with(&kind, |names| names.by_namespace.entry(namespace).or_default().insert(name));
                }
                Some(Ok(Event::Delete(object))) => {
                    let (namespace, name) = place(&object);
                    self.with(&kind, |names| {
                        if let Some(all) = names.by_namespace.get_mut(&namespace) {
                            all.remove(&name);
                        }
                    });
                    self.freed.announce(&kind.0, &kind.1, &namespace);
                }
                Some(Err(error)) if is_gone(&error) => {
                    // Its definition went. Should the kind come again, the next count finds it.
                    self.kinds.lock().remove(&kind);
                    return;
                }
                Some(Err(error)) => {
                    tracing::warn!(resource = kind.1, %error, "quotas: watch failed, retrying");
                }
                None => return,
            }
        }
    }

    fn with<T>(&self, kind: &Kind, change: impl FnOnce(&mut Names) -> T) {
        if let Some(names) = self.kinds.lock().get_mut(kind) {
            change(names);
        }
    }

    /// Takes over a new list; where it is shorter than before, something went unseen.
    fn listed(&self, kind: &Kind, new: HashMap<String, HashSet<String>>) {
        let mut shorter = Vec::new();
        self.with(kind, |names| {
            let less = |(namespace, old): (&String, &HashSet<String>)| {
                (new.get(namespace).map_or(0, HashSet::len) < old.len()).then(|| namespace.clone())
            };
            shorter = names.by_namespace.iter().filter_map(less).collect();
            names.by_namespace = new;
            names.listed = true;
        });
        for namespace in shorter {
            self.freed.announce(&kind.0, &kind.1, &namespace);
        }
    }
}

/// Whether the API does not serve what was to be listed or watched.
fn is_gone(error: &watcher::Error) -> bool {
    use watcher::Error as E;
    matches!(error, E::InitialListFailed(error) | E::WatchStartFailed(error) | E::WatchFailed(error)
        if matches!(error, kube::Error::Api(status) if status.code == 404))
}

fn place(object: &PartialObjectMeta<DynamicObject>) -> (String, String) {
    let meta = &object.metadata;
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}
