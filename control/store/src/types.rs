//! The plain data that callers and backends exchange: revisions, keys with values, ranges, events.
//!
//! Owns no behaviour; what the fields promise is in the trait [`crate::Store`].

use bytes::Bytes;
use futures::stream::BoxStream;

use crate::StoreError;

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

/// How much room a store takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Which of the stores that an API server may have; there is one.
    pub cluster: &'static str,
    /// Bytes of its file.
    pub bytes: u64,
}
