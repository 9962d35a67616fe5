//! The test-suite that every backend passes: what the trait [`Store`] promises, as cases.
//!
//! Owns no backend. Every case works under its own prefix, so that one store can serve all of them.

mod history;
mod ranges;
mod watches;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;

use crate::{Event, Expected, KeyValue, ListRequest, Revision, Store, WatchItem, WatchStream};

/// How long a case waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a case works on.
#[derive(Clone)]
pub(crate) struct Case {
    store: Arc<dyn Store>,
    prefix: String,
}

/// Runs every case.
pub(crate) async fn run(store: Arc<dyn Store>) {
    let case = |name: &str| Case { store: store.clone(), prefix: format!("/registry/suite/{name}/") };
    writes::precondition_decides_every_write(case("preconditions")).await;
    writes::racing_increments_lose_nothing(case("increments")).await;
    writes::racing_creates_have_one_winner(case("creates")).await;
    writes::expired_key_is_deleted_with_an_event(case("expiry")).await;
    ranges::keys_come_in_byte_order_and_stop_at_the_prefix(case("prefixes")).await;
    ranges::pages_at_one_revision_are_one_snapshot(case("pages")).await;
    ranges::list_at_any_revision_is_the_state_then(case("revisions")).await;
    watches::watch_from_any_revision_has_no_gap_and_no_duplicate(case("resume")).await;
    watches::watch_learns_of_progress_elsewhere(case("progress")).await;
    watches::watch_ends_only_by_error(case("endless")).await;
    history::compacted_history_is_refused_and_the_present_stays(case("compaction")).await;
    history::future_revisions_are_refused(case("future")).await;
}

impl Case {
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    async fn create(&self, name: &str, value: &str) -> Revision {
        self.put(name, value, Expected::Absent).await
    }

    async fn put(&self, name: &str, value: &str, expected: Expected) -> Revision {
        let value = Bytes::copy_from_slice(value.as_bytes());
        self.store.put(&self.key(name), value, expected, None).await.expect("put")
    }

    async fn update(&self, name: &str, value: &str) -> Revision {
        let current = self.get(name).await.expect("the key is there");
        self.put(name, value, Expected::Revision(current.mod_revision)).await
    }

    async fn delete(&self, name: &str) -> Revision {
        let current = self.get(name).await.expect("the key is there");
        self.store.delete(&self.key(name), current.mod_revision).await.expect("delete")
    }

    async fn get(&self, name: &str) -> Option<KeyValue> {
        self.store.get(&self.key(name)).await.expect("get").0
    }

    async fn now(&self) -> Revision {
        self.store.current_revision().await.expect("revision")
    }

    async fn list(&self, revision: Option<Revision>) -> Vec<KeyValue> {
        let request = ListRequest { prefix: self.prefix.clone(), revision, ..Default::default() };
        self.store.list(request).await.expect("list").items
    }

    async fn watch(&self, after: Revision) -> WatchStream {
        self.store.watch(&self.prefix, after).await.expect("watch")
    }
}

/// The next item of a watch.
async fn next(watch: &mut WatchStream) -> WatchItem {
    let item = tokio::time::timeout(PATIENCE, watch.next()).await.expect("the watch says something in time");
    item.expect("a watch does not end").expect("the watch goes on")
}

/// Every event up to and including revision `upto`.
async fn events_until(watch: &mut WatchStream, upto: Revision) -> Vec<Event> {
    let mut seen: Vec<Event> = Vec::new();
    loop {
        let reached = match next(watch).await {
            WatchItem::Events(events) => {
                assert!(!events.is_empty(), "an item has events");
                let last = events.last().map_or(Revision(0), |event| event.revision);
                seen.extend(events);
                last
            }
            WatchItem::Progress(revision) => {
                let last = seen.last().map_or(Revision(0), |event| event.revision);
                assert!(revision > last, "progress tells something new");
                revision
            }
        };
        if reached >= upto {
            return seen;
        }
    }
}
