//! Revisioned key-value store: bytes, revisions and a watch log.
//!
//! Owns durability, ordering and expiry. Knows nothing of kinds, JSON or HTTP. The backends, [`sqlite::SqliteStore`] (the
//! default), [`etcd::EtcdStore`] (more than one control-plane machine) and [`memory::MemoryStore`] (tests), pass one
//! shared test-suite.
//!
//! A write goes: precondition, durable commit, feed, acknowledgement. Every watch reads the feed, a ring of the
//! newest events in memory, and falls back to the backend's history when it lags or starts further back.

pub mod etcd;
pub mod memory;
pub mod sqlite;

mod error;
mod feed;
#[cfg(test)]
mod histories;
mod keys;
pub mod migrate;
#[cfg(test)]
mod stalls;
#[cfg(test)]
mod suite;
mod types;
mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use error::StoreError;
pub use types::{Event, Expected, KeyValue, ListRequest, Listing, Revision, Size, WatchItem, WatchStream};

/// The revisioned key-value store. All methods may be called concurrently.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The newest revision.
    async fn current_revision(&self) -> Result<Revision, StoreError>;
    /// One key now, and the revision at which it was read.
    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision), StoreError>;
    /// A range, as one consistent snapshot.
    ///
    /// # Errors
    /// `Compacted` or `Future` when the revision asked for is no longer, or not yet, there.
    async fn list(&self, request: ListRequest) -> Result<Listing, StoreError>;
    /// Writes `value` if `expected` holds; durable when it returns. `ttl` deletes the key after that time, not before and
    /// a little later at most; a later write without `ttl` takes it away.
    ///
    /// # Errors
    /// `Conflict` when `expected` does not hold. After `Backend` and `Closed` the write may or may not have happened.
    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: Expected,
        ttl: Option<Duration>,
    ) -> Result<Revision, StoreError>;
    /// Deletes the key if it exists with `expected` as its `mod_revision`; returns the revision of the deletion.
    ///
    /// # Errors
    /// As for [`Store::put`].
    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, StoreError>;
    /// Watches keys that start with `prefix`, from the first change after `after`. Once every change up to some revision
    /// was delivered, and the last of them lies before it, the watch says so by itself ([`WatchItem::Progress`]): who
    /// waits for [`Store::current_revision`] on a watch waits for one message of the backend.
    ///
    /// # Errors
    /// `Compacted` when changes after `after` were forgotten, also later, as the watch's last item; `Future`.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError>;
    /// About `limit` of the changes after `after` of keys that start with `prefix`, never a part of a revision, and up to
    /// where they are all: at once, where the backend has them in memory and there is something to tell. Watches deliver
    /// them, too.
    fn at_hand(&self, _prefix: &str, _after: Revision, _limit: usize) -> Option<(Vec<Event>, Revision)> {
        None
    }
    /// Forgets the changes up to and including `revision`. The state as of `revision`, and all that came after, stays.
    ///
    /// # Errors
    /// `Future`. An older compaction than the last changes nothing.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;
    /// What is left of the life of each key that has a time to live.
    ///
    /// # Errors
    /// The backend's.
    async fn expiries(&self) -> Result<BTreeMap<String, Duration>, StoreError>;
    /// How much room it takes, if it takes any.
    ///
    /// # Errors
    /// The backend's.
    async fn size(&self) -> Result<Option<Size>, StoreError> {
        Ok(None)
    }
}
