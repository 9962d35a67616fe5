//! The watch cache: every object of every kind in memory, fed by one watch of the store, shared by all readers.
//!
//! - One feed ([`feed`]) applies each batch of changes to the [`Collection`]s and then moves `applied` forward, so that
//!   whoever reads `applied` first and a collection second misses nothing up to it.
//! - Reads are consistent: they wait until `applied` has reached the store's revision.
//! - The cache decides nothing about requests, selectors or formats.

mod collection;
mod feed;
mod metrics;
mod object;
mod reader;
mod ring;
pub(crate) mod scan;
mod watcher;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use skep_api::registry::{Registry, Resource};
use skep_store::{Store, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use collection::{Change, Collection, Gone, Objects, Snapshot, Usage};
pub(crate) use metrics::CacheMetrics;
pub(crate) use object::event_line;
pub use object::{EventType, Object};
pub use watcher::Watcher;

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

/// All collections.
pub struct Cache {
    store: Arc<dyn Store>,
    by_prefix: BTreeMap<String, Arc<Collection>>,
    /// The same by group and plural name, of whatever version.
    by_name: BTreeMap<&'static str, BTreeMap<&'static str, (&'static Resource, Arc<Collection>)>>,
    applied: watch::Sender<u64>,
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
        let by_prefix: BTreeMap<_, _> = registry
            .stored()
            .map(|resource| resource.store_prefix(None))
            .map(|prefix| (prefix.clone(), Arc::new(Collection::new(prefix, budget.clone()))))
            .collect();
        let mut by_name: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for resource in registry.resources() {
            if let Some(collection) = by_prefix.get(&resource.store_prefix(None)) {
                let names = by_name.entry(resource.group.as_str()).or_default();
                names.insert(resource.plural.as_str(), (resource, collection.clone()));
            }
        }
        let cache = Arc::new(Self { store, by_prefix, by_name, applied: watch::Sender::new(0), budget });
        feed::load(&cache).await?;
        tokio::spawn(feed::follow(cache.clone(), stop));
        Ok(cache)
    }

    /// The collection in which the objects of `resource` lie, in the form of the version that is stored.
    pub fn collection(&self, resource: &Resource) -> Option<&Arc<Collection>> {
        self.by_prefix.get(&resource.store_prefix(None))
    }

    /// The collection to which a key belongs. Prefixes do not lie within each other, so that it is the nearest before it.
    fn collection_of(&self, key: &str) -> Option<&Arc<Collection>> {
        let (prefix, found) =
            self.by_prefix.range::<str, _>((Bound::Unbounded, Bound::Included(key))).next_back()?;
        key.starts_with(prefix).then_some(found)
    }

    /// All collections.
    pub fn collections(&self) -> impl Iterator<Item = &Arc<Collection>> {
        self.by_prefix.values()
    }

    /// All collections, each with one of the kinds that lie there.
    fn by_resource(&self) -> impl Iterator<Item = (&'static Resource, &Arc<Collection>)> {
        let mut seen = BTreeSet::new();
        let all = self.by_name.values().flat_map(BTreeMap::values);
        all.filter(move |(_, one)| seen.insert(one.prefix())).map(|(resource, one)| (*resource, one))
    }

    /// Gives up the oldest changes of all while the rings hold more than they may.
    fn make_room(&self) {
        while self.budget.is_exceeded() {
            let spare = self.collections().filter_map(|one| Some((one.oldest_to_spare()?, one)));
            let Some((_, oldest)) = spare.min_by_key(|(revision, _)| *revision) else { return };
            oldest.give_up(GIVEN_UP);
        }
    }

    /// All changes up to this revision are in the collections.
    pub fn applied(&self) -> u64 {
        *self.applied.borrow()
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
        let applied = self.applied();
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
