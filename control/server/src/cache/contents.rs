//! Which collections there are, by the start of their keys.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::Collection;
use super::ring::Budget;

/// The collections of a cache. Prefixes do not lie within each other.
#[derive(Clone, Default)]
pub(super) struct Contents(BTreeMap<String, Arc<Collection>>);

impl Contents {
    /// Empty collections with these prefixes, whose rings share a budget.
    pub(super) fn new(prefixes: impl Iterator<Item = String>, budget: &Arc<Budget>) -> Self {
        let collections = prefixes.map(|prefix| Collection::new(prefix, budget.clone()));
        Self(collections.map(|one| (one.prefix().to_owned(), Arc::new(one))).collect())
    }

    /// The collection with this prefix.
    pub(super) fn get(&self, prefix: &str) -> Option<&Arc<Collection>> {
        self.0.get(prefix)
    }

    /// The collection to which a key belongs: the nearest before it.
    pub(super) fn of_key(&self, key: &str) -> Option<&Arc<Collection>> {
        let (prefix, found) = self.0.range::<str, _>((Bound::Unbounded, Bound::Included(key))).next_back()?;
        key.starts_with(prefix).then_some(found)
    }

    /// All of them, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Collection>> {
        self.0.values()
    }

    pub(super) fn insert(&mut self, collection: Collection) {
        self.0.insert(collection.prefix().to_owned(), Arc::new(collection));
    }

    pub(super) fn remove(&mut self, prefix: &str) -> Option<Arc<Collection>> {
        self.0.remove(prefix)
    }
}
