//! The watch cache over a store in memory.

use bytes::Bytes;
use skep_api::registry::registry;
use skep_store::memory::MemoryStore;
use skep_store::{Expected, Revision};

use super::*;
use crate::gate::ObjectReader;

const KEY: &str = "/registry/configmaps/a/x";

async fn started() -> (Arc<MemoryStore>, Arc<Cache>) {
    let store = Arc::new(MemoryStore::new());
    let cache = Cache::start(store.clone(), registry(), CancellationToken::new()).await.unwrap();
    (store, cache)
}

fn value(text: &str) -> Bytes {
    Bytes::from(format!(r#"{{"metadata":{{"name":"x","namespace":"a"}},"data":{{"k":"{text}"}}}}"#))
}

async fn put(store: &MemoryStore, text: &str, expected: Expected) -> Revision {
    store.put(KEY, value(text), expected, None).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn cache_after_a_write_catches_up_with_it() {
    let (store, cache) = started().await;
    let revision = put(&store, "1", Expected::Absent).await;
    assert!(cache.catch_up().await.unwrap() >= revision.0);
    let seen = ObjectReader::get(&*cache, "", "configmaps", "a", "x").unwrap();
    assert_eq!(seen["data"]["k"], "1");
    assert_eq!(seen["metadata"]["resourceVersion"], revision.0.to_string());
}

#[tokio::test(start_paused = true)]
async fn watcher_hears_of_each_change_once_and_in_order() {
    let (store, cache) = started().await;
    let configmaps = registry().find("", "v1", "configmaps").unwrap();
    let collection = cache.collection(configmaps).unwrap().clone();
    let mut watcher = cache.watch(&collection, configmaps.store_prefix(Some("a")), cache.applied());
    let first = put(&store, "1", Expected::Absent).await;
    let second = put(&store, "2", Expected::Revision(first)).await;
    store.put("/registry/configmaps/b/x", value("other"), Expected::Absent, None).await.unwrap();
    let last = store.delete(KEY, second).await.unwrap();
    let mut heard = Vec::new();
    while heard.len() < 3 {
        heard.extend(watcher.next().await.unwrap().iter().map(|c| (c.revision, c.kind)));
    }
    let kinds = [EventType::Added, EventType::Modified, EventType::Deleted];
    assert_eq!(heard, [first.0, second.0, last.0].into_iter().zip(kinds).collect::<Vec<_>>());
    assert!(watcher.poll().unwrap().is_empty());
    assert_eq!(watcher.position(), last.0);
}

#[tokio::test(start_paused = true)]
async fn revision_that_does_not_come_is_an_error() {
    let (_store, cache) = started().await;
    let error = cache.reach(99, Duration::from_secs(3)).await.unwrap_err();
    assert!(matches!(error, ReadError::Behind { wanted: 99, .. }), "{error}");
}
