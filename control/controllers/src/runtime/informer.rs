//! One watch of one kind, shared by every controller that looks at it.
//!
//! Owns the watch and its recovery (a streamed initial list, then events, with back-off) and the cache that
//! everybody reads. Handlers run in the order of events, after the cache shows the change; they must not
//! block. Managed fields are dropped on arrival: no controller reads them.

use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cache::{Cache, Change};
use super::key::ObjectKey;

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// A shared handle to the watch of one kind.
pub struct Informer<K>(Arc<Inner<K>>);

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<K> {
    cache: RwLock<Cache<K>>,
    handlers: RwLock<Vec<Handler<K>>>,
    synced: watch::Sender<bool>,
}

impl<K> Default for Informer<K> {
    fn default() -> Self {
        Self(Arc::new(Inner {
            cache: RwLock::new(Cache::default()),
            handlers: RwLock::new(Vec::new()),
            synced: watch::Sender::new(false),
        }))
    }
}

impl<K: Resource> Informer<K> {
    /// One object, as last seen.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.0.cache.read().get(key)
    }

    /// Every object.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.0.cache.read().all()
    }

    /// The objects of one namespace.
    pub fn namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.0.cache.read().namespace(namespace)
    }

    /// The objects that the owner with this uid controls.
    pub fn controlled_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.0.cache.read().controlled_by(uid)
    }

    /// The objects of a namespace that nobody controls.
    pub fn orphans(&self, namespace: &str) -> Vec<Arc<K>> {
        self.0.cache.read().orphans(namespace)
    }

    /// Calls the handler for every change from now on. Register before the watch starts.
    pub fn on_change(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.0.handlers.write().push(Box::new(handler));
    }

    /// Waits until the first complete list has arrived.
    pub async fn synced(&self) {
        let mut synced = self.0.synced.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = synced.wait_for(|done| *done).await;
    }

    fn announce(&self, changes: &[Change<K>]) {
        let handlers = self.0.handlers.read();
        for change in changes {
            handlers.iter().for_each(|handler| handler(change));
        }
    }

    /// Takes one object in, as an event of the watch would.
    pub(crate) fn apply(&self, mut object: K) {
        object.meta_mut().managed_fields = None;
        let change = self.0.cache.write().apply(object);
        self.announce(&[change]);
    }

    /// Drops one object, as an event of the watch would.
    pub(crate) fn remove(&self, key: &ObjectKey) {
        let change = self.0.cache.write().remove(key);
        self.announce(change.as_slice());
    }

    fn replace(&self, objects: Vec<K>) {
        let changes = self.0.cache.write().replace(objects);
        self.announce(&changes);
        self.0.synced.send_replace(true);
    }
}

impl<K> Informer<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Watches until shutdown. Errors of the watch are logged and retried.
    pub async fn run(self, api: Api<K>, config: watcher::Config, shutdown: CancellationToken) {
        let mut stream = std::pin::pin!(watcher(api.clone(), config.streaming_lists()).default_backoff());
        let mut listing: Vec<K> = Vec::new();
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = stream.next() => event,
            };
            match event {
                Some(Ok(Event::Init)) => listing.clear(),
                Some(Ok(Event::InitApply(mut object))) => {
                    object.meta_mut().managed_fields = None;
                    listing.push(object);
                }
                Some(Ok(Event::InitDone)) => self.replace(std::mem::take(&mut listing)),
                Some(Ok(Event::Apply(object))) => self.apply(object),
                Some(Ok(Event::Delete(object))) => self.remove(&ObjectKey::of(object.meta())),
                Some(Err(error)) => {
                    tracing::warn!(resource = api.resource_url(), %error, "watch failed, retrying");
                }
                None => return,
            }
        }
    }
}
