//! The watch cache over a store in memory.

use bytes::Bytes;
use futures::FutureExt;
use skep_api::registry::registry;
use skep_store::memory::MemoryStore;
use skep_store::{Expected, Revision};

use std::time::Instant;

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
async fn reader_takes_in_what_the_store_has_and_the_feed_does_not_repeat_it() {
    let (store, cache) = started().await;
    let configmaps = registry().find("", "v1", "configmaps").unwrap();
    let collection = cache.collection(configmaps).unwrap().clone();
    let mut watcher = cache.watch(&collection, configmaps.store_prefix(None), cache.applied());
    let first = put(&store, "1", Expected::Absent).await;
    let last = put(&store, "2", Expected::Revision(first)).await;
    // The feed has not had a turn yet, and gets none.
    let reached = cache.reach(last.0, Duration::ZERO).now_or_never().expect("nothing to wait for");
    assert_eq!(reached.unwrap(), last.0);
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    let third = put(&store, "3", Expected::Revision(last)).await;
    cache.catch_up().await.unwrap();
    let heard: Vec<u64> = watcher.poll().unwrap().iter().map(|change| change.revision).collect();
    assert_eq!(heard, [first.0, last.0, third.0]);
}

#[tokio::test(start_paused = true)]
async fn revision_that_does_not_come_is_an_error() {
    let (_store, cache) = started().await;
    let error = cache.reach(99, Duration::from_secs(3)).await.unwrap_err();
    assert!(matches!(error, ReadError::Behind { wanted: 99, .. }), "{error}");
}

/// Writes `count` changes of one config map, with values of `size` bytes.
async fn churn(store: &MemoryStore, key: &str, count: usize, size: usize) {
    let mut expected = match store.get(key).await.unwrap().0 {
        Some(kv) => Expected::Revision(kv.mod_revision),
        None => Expected::Absent,
    };
    for _ in 0..count {
        expected =
            Expected::Revision(store.put(key, value(&"x".repeat(size)), expected, None).await.unwrap());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn rings_share_their_memory_and_the_oldest_change_of_all_goes_first() {
    let store = Arc::new(MemoryStore::new());
    let bounds = Bounds { changes: 10_000, bytes: usize::MAX, bytes_in_all: 400_000, least: 5 };
    let cache =
        Cache::start_within(store.clone(), registry(), CancellationToken::new(), bounds).await.unwrap();
    let collection = |plural| cache.collection(registry().find("", "v1", plural).unwrap()).unwrap();
    let held = || cache.collections().iter().map(|one| one.usage().ring_bytes).sum::<usize>();
    for (plural, count) in [("configmaps", 300), ("secrets", 300), ("configmaps", 100)] {
        churn(&store, &format!("/registry/{plural}/a/x"), count, 1000).await;
        let newest = cache.catch_up().await.unwrap();
        assert!(held() <= 400_000, "{} bytes", held());
        assert!(held() > 200_000, "memory that is allowed is used: {}", held());
        assert_eq!(collection(plural).changes_after(newest - 50, 100).unwrap().len(), 50);
    }
    let secrets = collection("secrets").usage().ring_changes;
    assert!(secrets < 300 && secrets > 5, "the oldest went first: {secrets}");
    churn(&store, KEY, 300, 1000).await;
    cache.catch_up().await.unwrap();
    let rest = collection("secrets").usage().ring_changes;
    assert!(
        (5..secrets).contains(&rest),
        "a kind at rest gives its memory to a busy one, and keeps its least: {rest}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_that_sleep_are_ended_and_hold_up_neither_others_nor_memory() {
    let store = Arc::new(MemoryStore::new());
    let bounds = Bounds { changes: 500, ..Bounds::default() };
    let cache =
        Cache::start_within(store.clone(), registry(), CancellationToken::new(), bounds).await.unwrap();
    let collection = cache.collection(registry().find("", "v1", "configmaps").unwrap()).unwrap().clone();
    let watch = || cache.watch(&collection, "/registry/configmaps/".into(), cache.applied());
    let mut awake = watch();
    let alone = told_within(&store, &mut awake, 300).await;
    let mut asleep: Vec<Watcher> = (0..100).map(|_| watch()).collect();
    let beside = told_within(&store, &mut awake, 1000).await;
    // Far from what a sleeper would cost, and far enough for a busy machine.
    assert!(beside < alone * 10 + Duration::from_millis(5), "{beside:?} beside sleepers, {alone:?} alone");
    assert!(collection.usage().ring_changes <= 500);
    for sleeper in &mut asleep {
        assert!(sleeper.poll().is_err(), "its place is gone");
    }
    cache.catch_up().await.unwrap();
    let mut late = watch();
    told_within(&store, &mut late, 10).await;
}

/// The median of the times from a write to the watcher's hearing of it.
async fn told_within(store: &MemoryStore, watcher: &mut Watcher, writes: usize) -> Duration {
    let mut times = Vec::new();
    for _ in 0..writes {
        churn(store, KEY, 1, 100).await;
        let written = Instant::now();
        let told = tokio::time::timeout(Duration::from_secs(10), watcher.next()).await;
        assert_eq!(told.expect("it is told in time").expect("it is not too slow").len(), 1);
        times.push(written.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test]
async fn list_at_any_revision_is_what_the_store_held_then() {
    let (store, cache) = started().await;
    let configmaps = registry().find("", "v1", "configmaps").unwrap();
    let collection = cache.collection(configmaps).unwrap().clone();
    let first = store.current_revision().await.unwrap().0;
    for step in 0..120_u64 {
        let key = format!("/registry/configmaps/{}/{}", step % 2, step * 7 % 5);
        match store.get(&key).await.unwrap().0 {
            Some(kv) if step % 3 == 0 => drop(store.delete(&key, kv.mod_revision).await.unwrap()),
            Some(kv) => {
                let expected = Expected::Revision(kv.mod_revision);
                store.put(&key, value(&step.to_string()), expected, None).await.unwrap();
            }
            None => drop(store.put(&key, value(&step.to_string()), Expected::Absent, None).await.unwrap()),
        }
    }
    let newest = cache.catch_up().await.unwrap();
    assert_eq!(newest, first + 120);
    for revision in first..=newest {
        // Exactly this revision.
        let held = collection.snapshot_at(revision).unwrap();
        let request = skep_store::ListRequest {
            prefix: collection.prefix().to_owned(),
            revision: Some(Revision(revision)),
            ..Default::default()
        };
        let then: Vec<_> = store
            .list(request)
            .await
            .unwrap()
            .items
            .into_iter()
            .map(|kv| (kv.key, kv.mod_revision.0))
            .collect();
        let cached: Vec<_> =
            held.objects.values().map(|object| (object.key().to_string(), object.revision())).collect();
        assert_eq!((held.revision, cached), (revision, then));
        // At least this revision.
        assert!(cache.reach(revision, Duration::ZERO).await.unwrap() >= revision);
    }
    let waiting = cache.reach(newest + 1, Duration::from_secs(20));
    let written = async {
        tokio::task::yield_now().await;
        put(&store, "later", Expected::Absent).await
    };
    let (reached, _) = tokio::join!(waiting, written);
    assert_eq!(reached.unwrap(), newest + 1, "a revision to come is waited for");
}
