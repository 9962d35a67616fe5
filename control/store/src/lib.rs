//! Revisioned key-value store: bytes, revisions and a watch log.
//!
//! Owns durability, ordering and expiry. Knows nothing of kinds, JSON or HTTP. The backends pass one shared test-suite.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// A position in the one order of all writes of a store. The first write has revision 1 or more; 0 means "before everything".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// One key with its value and the revisions that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, `/registry/...`.
    pub key: String,
    /// The value as it was put.
    pub value: Bytes,
    /// Revision of the write that created the key.
    pub create_revision: Revision,
    /// Revision of the write that last changed the key.
    pub mod_revision: Revision,
}

/// What must hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The key does not exist.
    Absent,
    /// The key exists with this `mod_revision`.
    Revision(Revision),
}

/// A range to read, as one consistent snapshot.
#[derive(Clone, Debug, Default)]
pub struct ListRequest {
    /// Keys that start with this are listed, in byte order.
    pub prefix: String,
    /// Continue after this key (exclusive).
    pub start_after: Option<String>,
    /// At most this many items; 0 means no limit.
    pub limit: usize,
    /// Read as of this revision; `None` means the newest.
    pub revision: Option<Revision>,
}

/// The answer to a [`ListRequest`].
#[derive(Clone, Debug)]
pub struct Listing {
    /// The items, in key order.
    pub items: Vec<KeyValue>,
    /// The revision of the snapshot that was read.
    pub revision: Revision,
    /// How many further keys of the range were left off by `limit`.
    pub remaining: u64,
}

/// One change, as a watcher sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The revision of the change.
    pub revision: Revision,
    /// The key that changed.
    pub key: String,
    /// The state after the change; `None` for a deletion or an expiry.
    pub current: Option<KeyValue>,
    /// The state before the change; `None` for a creation.
    pub previous: Option<KeyValue>,
}

/// What a watch delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem {
    /// Every change of one or more revisions, in order.
    Events(Vec<Event>),
    /// Nothing up to this revision is outstanding for the watcher.
    Progress(Revision),
}

/// A watch: every change after its start exactly once and in order, until an error ends it.
pub type WatchStream = BoxStream<'static, Result<WatchItem, StoreError>>;

/// The revisioned key-value store. All methods may be called concurrently.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The newest revision.
    async fn current_revision(&self) -> Result<Revision, StoreError>;
    /// One key now, and the revision at which it was read.
    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision), StoreError>;
    /// A range, as one consistent snapshot.
    async fn list(&self, request: ListRequest) -> Result<Listing, StoreError>;
    /// Writes `value` if `expected` holds; durable when it returns. `ttl` deletes the key after that time.
    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: Expected,
        ttl: Option<Duration>,
    ) -> Result<Revision, StoreError>;
    /// Deletes the key if it exists with `expected` as its `mod_revision`; returns the revision of the deletion.
    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, StoreError>;
    /// Watches keys that start with `prefix`, from the first change after `after`.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError>;
    /// Forgets history up to and including `revision`; what is current stays.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;
}

/// Why a store operation did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The precondition of a write did not hold; nothing was changed.
    #[error("precondition failed for {key}")]
    Conflict {
        /// The key of the write.
        key: String,
        /// What is there instead.
        current: Option<KeyValue>,
    },
    /// The revision asked for is no longer, or not yet, held.
    #[error("revision {requested:?} is not available, history starts after {compacted:?}")]
    Compacted {
        /// The revision asked for.
        requested: Revision,
        /// History up to here is gone.
        compacted: Revision,
    },
    /// The revision asked for lies in the future.
    #[error("revision {requested:?} is newer than the newest, {current:?}")]
    Future {
        /// The revision asked for.
        requested: Revision,
        /// The newest revision.
        current: Revision,
    },
    /// The backend failed; `operation` says where.
    #[error("store: {operation}")]
    Backend {
        /// What was being done.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
