//! What an embedded store can be told: retention, limits, where time and metrics come from.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::Registry;

/// Where expiry reads the time of day when the store is opened; what is set later does not matter to it.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn unix_millis(&self) -> i64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix_millis(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// How much history is kept for late watches and for lists at a revision. Whatever exceeds one of the limits is
/// forgotten, oldest first, in small steps that ride along with writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Oldest age of history. Five minutes is what upstream's API server asks of etcd.
    pub age: Duration,
    /// Most revisions of history.
    pub revisions: u64,
    /// Bytes of superseded values that stay even if the file becomes larger than three times its live data for them; more
    /// stay only while it does not.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_secs(300), revisions: 100_000, bytes: 4 << 20 }
    }
}

/// How to open a [`super::SqliteStore`].
#[derive(Clone)]
pub struct SqliteOptions {
    /// How much history is kept.
    pub retention: Retention,
    /// Most writes that share one commit. 1 gives every write its own fsync.
    pub batch: usize,
    /// Refuse writes that would grow the data file beyond this many bytes.
    pub max_bytes: Option<u64>,
    /// Most reads at a time.
    pub readers: usize,
    /// Where expiry reads the time of day when the store is opened.
    pub clock: Arc<dyn Clock>,
    /// Where metrics are registered.
    pub metrics: Option<Registry>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            retention: Retention::default(),
            batch: 512,
            max_bytes: None,
            readers: 4,
            clock: Arc::new(SystemClock),
            metrics: None,
        }
    }
}
