//! The embedded store: SQLite in WAL mode, the default backend.
//!
//! Writes of all callers go through one thread that commits whatever waits in one transaction: one fsync for many
//! writes (`writer`). Reads have their own connections (`read`) and wait for nobody. Watches live on the feed, which is
//! fed after each commit, and on the log in the file for what lies further back. History is forgotten in small steps
//! that ride along with writes (`sweep`), the write-ahead log is copied beside them (`checkpoint`).
//!
//! One process at a time has the file.

mod backup;
mod check;
mod checkpoint;
mod clock;
mod commit;
mod failure;
mod halves;
mod metrics;
mod options;
mod priority;
mod queue;
mod read;
mod schema;
mod sweep;
mod writer;

#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod kill_tests;
#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod stall_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;

pub use self::backup::{Copied, backup, continue_after, restore};
use self::checkpoint::Checkpointer;
use self::clock::StoreClock;
use self::failure::Failure;
use self::metrics::Metrics;
pub use self::options::{Clock, Retention, SqliteOptions, SystemClock};
use self::queue::{Change, Queue};
use self::read::Readers;
use self::schema::State;
use self::sweep::Marks;
use self::writer::Writer;
use crate::feed::{Feed, FeedBounds};
use crate::{
    Event, Expected, KeyValue, ListRequest, Listing, Revision, Size, Store, StoreError, WatchStream, watch,
};

/// The largest value that is taken, in bytes; the API server's own limit is far below.
const LARGEST_VALUE: usize = 32 << 20;

/// A [`Store`] in one SQLite file. Dropping it finishes the writes that wait and ends its watches.
pub struct SqliteStore {
    queue: Arc<Queue>,
    readers: Arc<Readers>,
    feed: Arc<Feed>,
    compacted: Arc<AtomicU64>,
    clock: StoreClock,
    writer: Option<JoinHandle<()>>,
    // Last: closing it takes the locks of the connections away.
    data: Arc<File>,
    _lock: File,
}

impl SqliteStore {
    /// Opens or creates the store in the file `path`, whose folder exists. Blocks: checks the whole file.
    ///
    /// # Errors
    /// `InUse` when another process has the file, `Corrupt` when it is damaged, `UnknownSchema` when it is of a newer
    /// version or not a store at all; `NoSpace`, `ReadOnly` or `Backend` when the disk says so.
    pub fn open(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, StoreError> {
        Self::open_with(path.as_ref(), options, FeedBounds::default())
    }

    fn open_with(path: &Path, options: SqliteOptions, bounds: FeedBounds) -> Result<Self, StoreError> {
        let lock = schema::lock(path)?;
        let connection = schema::open_writer(path, options.max_bytes)?;
        let failed = |error| Failure { operation: "read the state", path }.explain(error);
        let state = State::read(&connection).map_err(failed)?;
        let next_expiry = commit::next_expiry(&connection).map_err(failed)?;
        let metrics = Metrics::new(options.metrics.as_ref())
            .map_err(|error| StoreError::backend("register the metrics", error))?;
        let data = File::open(path).map_err(|error| failure::of_file("open the data file", error))?;
        let data = Arc::new(data);
        let checkpointer = Checkpointer::start(path.to_owned(), data.clone())
            .map_err(|error| StoreError::backend("start the checkpointer", error))?;
        let feed = Arc::new(Feed::new(state.revision, bounds));
        let queue = Arc::new(Queue::default());
        let compacted = Arc::new(AtomicU64::new(state.compacted.0));
        let readers = Readers::open(path.to_owned(), options.readers, feed.clone(), data.clone());
        let readers = Arc::new(readers.map_err(failed)?);
        let clock = StoreClock::start(options.clock.unix_millis(), state.clock);
        let writer = Writer {
            connection,
            path: path.to_owned(),
            options,
            clock,
            state,
            queue: queue.clone(),
            feed: feed.clone(),
            compacted: compacted.clone(),
            metrics,
            checkpointer,
            marks: Marks::default(),
            next_expiry,
            quiet_until: None,
        };
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || writer.run());
        let writer = Some(thread.map_err(|error| StoreError::backend("start the writer", error))?);
        Ok(Self { queue, readers, feed, compacted, clock, writer, data, _lock: lock })
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.readers.close();
        self.queue.close();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn current_revision(&self) -> Result<Revision, StoreError> {
        Ok(self.feed.last())
    }

    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision), StoreError> {
        self.readers.get(key.to_owned()).await
    }

    async fn list(&self, request: ListRequest) -> Result<Listing, StoreError> {
        self.readers.list(request).await
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: Expected,
        ttl: Option<Duration>,
    ) -> Result<Revision, StoreError> {
        if value.len() > LARGEST_VALUE {
            return Err(StoreError::TooLarge {
                key: key.to_owned(),
                size: value.len(),
                limit: LARGEST_VALUE,
            });
        }
        self.queue.submit(Change::Put { key: key.to_owned(), value, expected, ttl }).await
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, StoreError> {
        self.queue.submit(Change::Delete { key: key.to_owned(), expected }).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        let compacted = Revision(self.compacted.load(Ordering::Acquire));
        if after < compacted {
            return Err(StoreError::Compacted { requested: after, compacted });
        }
        if after > self.feed.last() {
            // Perhaps committed and not yet published.
            let current = self.readers.state().await?.revision;
            if after > current {
                return Err(StoreError::Future { requested: after, current });
            }
        }
        Ok(watch::stream(self.feed.clone(), self.readers.clone(), prefix.to_owned(), after))
    }

    fn at_hand(&self, prefix: &str, after: Revision, limit: usize) -> Option<(Vec<Event>, Revision)> {
        self.feed.at_hand(prefix, after, limit)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.queue.submit(Change::Compact(revision)).await.map(drop)
    }

    async fn expiries(&self) -> Result<BTreeMap<String, Duration>, StoreError> {
        self.readers.expiries(self.clock.at(Instant::now())).await
    }

    async fn size(&self) -> Result<Option<Size>, StoreError> {
        let data = self.data.metadata().map_err(|error| failure::of_file("look at the data file", error))?;
        Ok(Some(Size { cluster: "sqlite", bytes: data.len() }))
    }
}
