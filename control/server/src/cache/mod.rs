//! The watch cache: every object of every kind in memory, fed by one watch of the store, shared by all readers.
//!
//! - One feed ([`feed`]) applies each batch of changes to the [`Collection`]s and then moves `applied` forward, so that
//!   whoever reads `applied` first and a collection second misses nothing up to it.
//! - Reads are consistent: they wait until `applied` has reached the store's revision. Who waits helps: what the store has
//!   in memory, it applies itself, rather than waiting for the feed to be given a processor.
//! - The cache decides nothing about requests, selectors or formats.

mod ages;
mod bell;
mod collection;
mod contents;
mod feed;
mod metrics;
mod object;
mod older;
mod parsed;
mod reader;
mod ring;
pub(crate) mod scan;
mod watcher;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use skep_api::registry::{Registry, Resource};
use skep_store::{Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use contents::Contents;

pub use collection::{Change, Collection, Gone, Objects, Snapshot, Usage};
pub(crate) use metrics::CacheMetrics;
pub(crate) use object::event_line;
pub use object::{EventType, Object};
pub use watcher::Watcher;

use self::ages::Ages;
use self::ring::{Bounds, Budget};

/// So many changes a ring gives up at a time when all rings together hold too much.
const GIVEN_UP: usize = 64;

/// So long a consistent read waits for the feed.
const CATCH_UP: Duration = Duration::from_secs(10);

/// Why a consistent read was not possible.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store did not say where it stands.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cache did not reach the revision in time.
    #[error("the cache stands at revision {applied}, {wanted} is wanted")]
    Behind {
        /// Where the cache is.
        applied: u64,
        /// Where it should be.
        wanted: u64,
    },
}

/// A place in the store that is to become a collection, and who waits for it.
struct Wanted {
    prefix: String,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// All collections.
pub struct Cache {
    store: Arc<dyn Store>,
    contents: RwLock<Arc<Contents>>,
    /// Collections that the feed is to take in.
    wanted: mpsc::UnboundedSender<Wanted>,
    /// The built-in ones by group and plural name, of whatever version.
    by_name: BTreeMap<&'static str, BTreeMap<&'static str, (&'static Resource, Arc<Collection>)>>,
    applied: watch::Sender<u64>,
    /// Held by whoever changes the collections.
    order: tokio::sync::Mutex<()>,
    ages: Ages,
    budget: Arc<Budget>,
}

impl Cache {
    /// The cache of `store` for all stored kinds of `registry`, filled; it follows the store until `stop`.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn start(
        store: Arc<dyn Store>,
        registry: &'static Registry,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, StoreError> {
        Self::start_within(store, registry, stop, Bounds::default()).await
    }

    async fn start_within(
        store: Arc<dyn Store>,
        registry: &'static Registry,
        stop: CancellationToken,
        bounds: Bounds,
    ) -> Result<Arc<Self>, StoreError> {
        let budget = Arc::new(Budget::new(bounds));
        let prefixes = registry.stored().map(|resource| resource.store_prefix(None));
        let contents = Contents::new(prefixes, &budget);
        let mut by_name: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for resource in registry.resources() {
            if let Some(collection) = contents.get(&resource.store_prefix(None)) {
                let names = by_name.entry(resource.group.as_str()).or_default();
                names.insert(resource.plural.as_str(), (resource, collection.clone()));
            }
        }
        let (wanted, requests) = mpsc::unbounded_channel();
        let contents = RwLock::new(Arc::new(contents));
        let (applied, order, ages) = Default::default();
        let cache = Arc::new(Self { store, contents, wanted, by_name, applied, order, ages, budget });
        feed::load(&cache).await?;
        tokio::spawn(feed::follow(cache.clone(), requests, stop));
        Ok(cache)
    }

    /// The collection in which the objects of `resource` lie, in the form of the version that is stored.
    pub fn collection(&self, resource: &Resource) -> Option<Arc<Collection>> {
        self.contents.read().get(&resource.store_prefix(None)).cloned()
    }

    /// Takes in the objects of one more resource, those of a custom one; returns when they are there. A second call for
    /// the same changes nothing.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn add(&self, resource: &Resource) -> Result<(), StoreError> {
        let (done, outcome) = oneshot::channel();
        let wanted = Wanted { prefix: resource.store_prefix(None), done };
        self.wanted.send(wanted).map_err(|_| StoreError::Closed)?;
        outcome.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Forgets the objects under a prefix and ends their watches, after what happened until now has been told.
    pub fn remove(&self, prefix: &str) {
        let removed = self.change(|contents| contents.remove(prefix));
        if let Some(removed) = removed {
            removed.close();
        }
    }

    /// Ends the watches of a resource, so that its watchers come again and find it as it has become.
    pub fn restart_watches(&self, resource: &Resource) {
        if let Some(collection) = self.collection(resource) {
            collection.restart_watches();
        }
    }

    /// Puts another set of collections in the place of the present one; readers keep what they have.
    fn change<T>(&self, how: impl FnOnce(&mut Contents) -> T) -> T {
        let mut contents = self.contents.write();
        how(Arc::make_mut(&mut contents))
    }

    fn contents(&self) -> Arc<Contents> {
        self.contents.read().clone()
    }

    /// All collections.
    pub fn collections(&self) -> Vec<Arc<Collection>> {
        self.contents().all().cloned().collect()
    }

    /// Group and plural name of what lies there. Custom resources lie where these two say.
    fn name_of(&self, collection: &Arc<Collection>) -> (String, String) {
        let all = self.by_name.values().flat_map(BTreeMap::values);
        let mut names = all.filter(|(_, one)| Arc::ptr_eq(one, collection));
        if let Some((resource, _)) = names.next() {
            return (resource.group.clone(), resource.plural.clone());
        }
        let mut parts = collection.prefix().trim_end_matches('/').rsplit('/').map(str::to_owned);
        let plural = parts.next().unwrap_or_default();
        (parts.next().unwrap_or_default(), plural)
    }

    /// Gives up the oldest changes of all while the rings hold more than they may.
    fn make_room(&self) {
        while self.budget.is_exceeded() {
            let spare = self.collections().into_iter().filter_map(|one| Some((one.oldest_to_spare()?, one)));
            let Some((_, oldest)) = spare.min_by_key(|(revision, _)| *revision) else { return };
            oldest.give_up(GIVEN_UP);
        }
    }

    /// Whether it was filled, and goes on to follow the store.
    pub(crate) fn is_followed(&self) -> bool {
        self.applied() > 0 && !self.wanted.is_closed()
    }

    /// All changes up to this revision are in the collections.
    pub fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    /// Whether the past at `revision` is not listed any more. The rings of quiet kinds reach further back than the others,
    /// but how long a client may take over its pages should not depend on that.
    pub(crate) fn is_too_old(&self, revision: u64) -> bool {
        self.ages.is_too_old(Instant::now(), revision)
    }

    /// The collection now: whatever has been applied.
    pub fn snapshot(&self, collection: &Collection) -> Snapshot {
        let applied = self.applied();
        collection.snapshot(applied)
    }

    /// A watcher of the keys that start with `prefix`, from the first change after `position`.
    pub fn watch(self: &Arc<Self>, collection: &Arc<Collection>, prefix: String, position: u64) -> Watcher {
        Watcher::new(self.clone(), collection.clone(), prefix, position)
    }

    /// Waits until every write that was acknowledged before this call is in the collections.
    ///
    /// # Errors
    ///
    /// When the store cannot say where it stands, or the cache does not get there in time.
    pub async fn catch_up(&self) -> Result<u64, ReadError> {
        let newest = self.store.current_revision().await?.0;
        self.reach(newest, CATCH_UP).await
    }

    /// Waits until all changes up to `revision` are in the collections; returns up to where they are.
    ///
    /// # Errors
    ///
    /// When that does not happen within `patience`.
    pub async fn reach(&self, revision: u64, patience: Duration) -> Result<u64, ReadError> {
        let mut applied = self.applied();
        if applied < revision {
            feed::pull(self);
            applied = self.applied();
        }
        if applied >= revision {
            return Ok(applied);
        }
        let mut receiver = self.applied.subscribe();
        let reached = tokio::time::timeout(patience, receiver.wait_for(|applied| *applied >= revision)).await;
        match reached {
            Ok(Ok(applied)) => Ok(*applied),
            _ => Err(ReadError::Behind { applied: self.applied(), wanted: revision }),
        }
    }
}

#[cfg(test)]
mod tests;
