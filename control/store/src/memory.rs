//! The store in memory: for tests and for what needs no durability.
//!
//! Owns its own snapshots, one per revision, which share structure. Loses everything when dropped.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use imbl::OrdMap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::feed::{Feed, FeedBounds};
use crate::watch::{self, Changes, History};
use crate::{
    Event, Expected, KeyValue, ListRequest, Listing, Revision, Store, StoreError, WatchStream, keys,
};

type Snapshot = OrdMap<String, KeyValue>;

/// A [`Store`] in memory. Clones share the data.
///
/// Keeps its whole history until [`Store::compact`].
#[derive(Clone)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    feed: Arc<Feed>,
    expiry_added: Arc<Notify>,
}

struct State {
    current: Snapshot,
    revision: Revision,
    compacted: Revision,
    /// The state as of each revision since `compacted`.
    snapshots: VecDeque<(Revision, Snapshot)>,
    /// When which write expires; entries whose key has since changed are stale.
    expiries: BTreeSet<(Instant, String, Revision)>,
    expiry_task: bool,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        let unbounded = FeedBounds { events: usize::MAX, bytes: usize::MAX };
        let state = State {
            current: Snapshot::new(),
            revision: Revision(0),
            compacted: Revision(0),
            snapshots: VecDeque::from([(Revision(0), Snapshot::new())]),
            expiries: BTreeSet::new(),
            expiry_task: false,
        };
        let feed = Arc::new(Feed::new(Revision(0), unbounded));
        Self { inner: Arc::new(Inner { state: Mutex::new(state), feed, expiry_added: Arc::default() }) }
    }
}

impl Inner {
    /// Applies one change and publishes it; the lock held by the caller keeps the order of both the same.
    fn change(&self, state: &mut State, key: &str, value: Option<Bytes>) -> Revision {
        let revision = Revision(state.revision.0 + 1);
        let previous = state.current.get(key).cloned();
        let current = value.map(|value| KeyValue {
            key: key.to_owned(),
            value,
            create_revision: previous.as_ref().map_or(revision, |previous| previous.create_revision),
            mod_revision: revision,
        });
        match &current {
            Some(kv) => state.current.insert(key.to_owned(), kv.clone()),
            None => state.current.remove(key),
        };
        state.revision = revision;
        state.snapshots.push_back((revision, state.current.clone()));
        self.feed.publish(vec![Event { revision, key: key.to_owned(), current, previous }]);
        revision
    }

    /// Deletes what is due; when the next one is due.
    fn expire(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        loop {
            let first = state.expiries.pop_first()?;
            if first.0 > now {
                let next = first.0;
                state.expiries.insert(first);
                return Some(next);
            }
            let (_, key, revision) = first;
            if state.current.get(&key).is_some_and(|kv| kv.mod_revision == revision) {
                self.change(&mut state, &key, None);
            }
        }
    }
}

/// Deletes expired keys until the store is gone.
async fn expire_keys(inner: Weak<Inner>, added: Arc<Notify>) {
    loop {
        let next = match inner.upgrade() {
            Some(inner) => inner.expire(Instant::now()),
            None => return,
        };
        match next {
            Some(at) => tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                () = added.notified() => {}
            },
            None => added.notified().await,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.feed.close();
        self.expiry_added.notify_one();
    }
}

/// The feed of a [`MemoryStore`] holds all history there is.
struct NoHistory(Arc<Feed>);

#[async_trait]
impl History for NoHistory {
    async fn changes(&self, _: &str, after: Revision, _: usize) -> Result<Changes, StoreError> {
        Err(StoreError::Compacted { requested: after, compacted: self.0.last() })
    }
}

fn check(state: &State, key: &str, expected: Expected) -> Result<(), StoreError> {
    let current = state.current.get(key);
    let holds = match expected {
        Expected::Absent => current.is_none(),
        Expected::Revision(revision) => current.is_some_and(|kv| kv.mod_revision == revision),
    };
    if holds { Ok(()) } else { Err(StoreError::Conflict { key: key.to_owned(), current: current.cloned() }) }
}

fn check_revision(state: &State, requested: Revision) -> Result<(), StoreError> {
    if requested < state.compacted {
        return Err(StoreError::Compacted { requested, compacted: state.compacted });
    }
    if requested > state.revision {
        return Err(StoreError::Future { requested, current: state.revision });
    }
    Ok(())
}

#[async_trait]
impl Store for MemoryStore {
    async fn current_revision(&self) -> Result<Revision, StoreError> {
        Ok(self.inner.state.lock().revision)
    }

    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision), StoreError> {
        let state = self.inner.state.lock();
        Ok((state.current.get(key).cloned(), state.revision))
    }

    async fn list(&self, request: ListRequest) -> Result<Listing, StoreError> {
        let (snapshot, revision) = {
            let state = self.inner.state.lock();
            let revision = request.revision.unwrap_or(state.revision);
            check_revision(&state, revision)?;
            let at = state.snapshots.partition_point(|(made, _)| *made < revision);
            (state.snapshots[at].1.clone(), revision)
        };
        let start = keys::range_start(&request.prefix, request.start_after.as_deref());
        let mut range =
            snapshot.range(start..).map(|(_, kv)| kv).take_while(|kv| kv.key.starts_with(&request.prefix));
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        let items: Vec<KeyValue> = range.by_ref().take(limit).cloned().collect();
        Ok(Listing { items, revision, remaining: range.count() as u64 })
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: Expected,
        ttl: Option<Duration>,
    ) -> Result<Revision, StoreError> {
        let mut state = self.inner.state.lock();
        check(&state, key, expected)?;
        let revision = self.inner.change(&mut state, key, Some(value));
        if let Some(ttl) = ttl {
            state.expiries.insert((Instant::now() + ttl, key.to_owned(), revision));
            if !std::mem::replace(&mut state.expiry_task, true) {
                tokio::spawn(expire_keys(Arc::downgrade(&self.inner), self.inner.expiry_added.clone()));
            }
            self.inner.expiry_added.notify_one();
        }
        Ok(revision)
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, StoreError> {
        let mut state = self.inner.state.lock();
        check(&state, key, Expected::Revision(expected))?;
        Ok(self.inner.change(&mut state, key, None))
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        let feed = self.inner.feed.clone();
        check_revision(&self.inner.state.lock(), after)?;
        Ok(watch::stream(feed.clone(), Arc::new(NoHistory(feed)), prefix.to_owned(), after))
    }

    fn at_hand(&self, prefix: &str, after: Revision, limit: usize) -> Option<(Vec<Event>, Revision)> {
        self.inner.feed.at_hand(prefix, after, limit)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let mut state = self.inner.state.lock();
        if revision > state.revision {
            return Err(StoreError::Future { requested: revision, current: state.revision });
        }
        if revision > state.compacted {
            state.compacted = revision;
            let gone = state.snapshots.partition_point(|(made, _)| *made < revision);
            state.snapshots.drain(..gone);
            self.inner.feed.forget(revision);
        }
        Ok(())
    }

    async fn expiries(&self) -> Result<BTreeMap<String, Duration>, StoreError> {
        let (state, now) = (self.inner.state.lock(), Instant::now());
        let valid = state.expiries.iter().filter(|(_, key, revision)| {
            state.current.get(key).is_some_and(|kv| kv.mod_revision == *revision)
        });
        Ok(valid.map(|(at, key, _)| (key.clone(), at.saturating_duration_since(now))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histories::{self, Load};

    #[tokio::test(start_paused = true)]
    async fn memory_store_passes_the_suite() {
        crate::suite::run(Arc::new(MemoryStore::new())).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn recorded_history_is_linearizable() {
        let load = Load { clients: 6, keys: 3, each: 300, pause: Duration::ZERO, seed: 1 };
        histories::run_and_check(Arc::new(MemoryStore::new()), load).await;
    }
}
