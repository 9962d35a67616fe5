//! What only the embedded store does: restarts, damage, full disks, bounded growth.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{Clock, Retention, SqliteOptions, SqliteStore};
use crate::feed::FeedBounds;
use crate::{Event, Expected, ListRequest, Revision, Store, StoreError, WatchItem, suite};

pub(super) fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    (folder, path)
}

pub(super) fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default()).unwrap()
}

pub(super) async fn create(store: &SqliteStore, key: &str, value: impl Into<Bytes>) -> Revision {
    store.put(key, value.into(), Expected::Absent, None).await.unwrap()
}

pub(super) async fn update(store: &SqliteStore, key: &str, value: impl Into<Bytes>) -> Revision {
    let revision = store.get(key).await.unwrap().0.unwrap().mod_revision;
    store.put(key, value.into(), Expected::Revision(revision), None).await.unwrap()
}

/// The first `count` events after `after`.
pub(super) async fn events(store: &SqliteStore, after: Revision, count: usize) -> Vec<Event> {
    let mut watch = store.watch("/", after).await.unwrap();
    let mut events = Vec::new();
    while events.len() < count {
        let item = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap().unwrap();
        if let WatchItem::Events(more) = item.unwrap() {
            events.extend(more);
        }
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_store_passes_the_suite() {
    let (_folder, path) = folder();
    suite::run(Arc::new(open(&path))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_store_with_a_short_feed_passes_the_suite_from_its_history() {
    let (_folder, path) = folder();
    let bounds = FeedBounds { events: 3, bytes: 1 << 20 };
    suite::run(Arc::new(SqliteStore::open_with(&path, SqliteOptions::default(), bounds).unwrap())).await;
}

#[tokio::test]
async fn reopened_store_has_its_data_its_history_and_its_order() {
    let (_folder, path) = folder();
    let store = open(&path);
    let first = create(&store, "/a", "1").await;
    let second = update(&store, "/a", "2").await;
    let third = create(&store, "/b", "1").await;
    let before = events(&store, Revision(0), 3).await;
    drop(store);

    let store = open(&path);
    assert_eq!(store.current_revision().await.unwrap(), third);
    assert_eq!(events(&store, Revision(0), 3).await, before);
    let request = ListRequest { prefix: "/".into(), revision: Some(first), ..Default::default() };
    assert_eq!(&store.list(request).await.unwrap().items[0].value[..], b"1");
    assert_eq!(store.get("/a").await.unwrap().0.unwrap().mod_revision, second);
    assert!(create(&store, "/c", "1").await > third);
}

#[tokio::test]
async fn dropped_store_ends_its_watches() {
    let (_folder, path) = folder();
    let store = open(&path);
    let mut watch = store.watch("/", Revision(0)).await.unwrap();
    create(&store, "/a", "1").await;
    drop(store);
    assert!(matches!(watch.next().await, Some(Ok(WatchItem::Events(_)))));
    assert!(matches!(watch.next().await, Some(Err(StoreError::Closed))));
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn file_in_use_is_refused_until_it_is_free() {
    let (_folder, path) = folder();
    let store = open(&path);
    let second = SqliteStore::open(&path, SqliteOptions::default());
    assert!(matches!(second, Err(StoreError::InUse { .. })));
    drop(store);
    open(&path);
}

#[tokio::test]
async fn damaged_or_foreign_files_are_refused() {
    let refused = |path: &Path| SqliteStore::open(path, SqliteOptions::default()).err().unwrap();

    let (_text, path) = folder();
    std::fs::write(&path, "this is not a database, whatever its name says\n".repeat(200)).unwrap();
    assert!(matches!(refused(&path), StoreError::Corrupt { .. }));

    let (_foreign, path) = folder();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE other (a)").unwrap();
    assert!(matches!(refused(&path), StoreError::UnknownSchema { found: 0, .. }));

    let (_newer, path) = folder();
    drop(open(&path));
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(refused(&path), StoreError::UnknownSchema { found: 99, .. }));

    let (_damaged, path) = folder();
    let store = open(&path);
    for number in 0..200 {
        create(&store, &format!("/{number}"), vec![7_u8; 500]).await;
    }
    drop(store);
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length / 2 / 4096 * 4096).unwrap();
    assert!(matches!(refused(&path), StoreError::Corrupt { .. }));
}

#[tokio::test]
async fn full_store_refuses_writes_and_goes_on_reading() {
    let (_folder, path) = folder();
    let options = SqliteOptions { max_bytes: Some(256 << 10), ..Default::default() };
    let store = SqliteStore::open(&path, options).unwrap();
    let mut written = 0;
    let error = loop {
        let put = store.put(&format!("/{written:04}"), vec![1_u8; 4000].into(), Expected::Absent, None).await;
        match put {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "the limit holds");
    };
    assert!(matches!(error, StoreError::NoSpace(_)), "{error:?}");
    assert!(written > 30);
    let listing = store.list(ListRequest { prefix: "/".into(), ..Default::default() }).await.unwrap();
    assert_eq!((listing.items.len(), listing.revision), (written, Revision(written as u64)));
    assert_eq!(events(&store, Revision(0), written).await.len(), written);
    drop(store);
    // With more room everything goes on where it was.
    let store = open(&path);
    assert_eq!(create(&store, "/more", "x").await, Revision(written as u64 + 1));
}

#[tokio::test]
async fn value_beyond_the_limit_is_refused() {
    let (_folder, path) = folder();
    let store = open(&path);
    let huge = Bytes::from(vec![0; super::LARGEST_VALUE + 1]);
    let put = store.put("/huge", huge, Expected::Absent, None).await;
    assert!(matches!(put, Err(StoreError::TooLarge { .. })));
    assert_eq!(store.current_revision().await.unwrap(), Revision(0));
}

#[derive(Default)]
struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn unix_millis(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn key_that_expired_while_the_store_was_closed_is_deleted_after_opening() {
    let (_folder, path) = folder();
    let clock = Arc::new(SetClock::default());
    let options = SqliteOptions { clock: clock.clone(), ..Default::default() };
    let store = SqliteStore::open(&path, options.clone()).unwrap();
    let hour = Some(Duration::from_secs(3600));
    let first = store.put("/short", "x".into(), Expected::Absent, hour).await.unwrap();
    let second = store.put("/long", "x".into(), Expected::Absent, hour.map(|ttl| ttl * 3)).await.unwrap();
    drop(store);
    clock.0.store(2 * 3600 * 1000, Ordering::SeqCst);

    let store = SqliteStore::open(&path, options).unwrap();
    let event = events(&store, second, 1).await.remove(0);
    assert_eq!((event.key.as_str(), event.current), ("/short", None));
    assert_eq!(event.previous.unwrap().mod_revision, first);
    assert!(store.get("/long").await.unwrap().0.is_some());
}

#[tokio::test]
async fn clock_that_is_set_while_the_store_runs_neither_ends_nor_lengthens_a_life() {
    let (_folder, path) = folder();
    let clock = Arc::new(SetClock::default());
    let day = 24 * 3600 * 1000;
    clock.0.store(10 * day, Ordering::SeqCst);
    let options = SqliteOptions { clock: clock.clone(), ..Default::default() };
    let store = SqliteStore::open(&path, options.clone()).unwrap();
    store.put("/hour", "x".into(), Expected::Absent, Some(Duration::from_secs(3600))).await.unwrap();
    clock.0.store(11 * day, Ordering::SeqCst);
    store.put("/a", "x".into(), Expected::Absent, None).await.unwrap();
    assert!(store.get("/hour").await.unwrap().0.is_some(), "a clock set forward ends nothing");
    clock.0.store(day, Ordering::SeqCst);
    let short =
        store.put("/short", "x".into(), Expected::Absent, Some(Duration::from_millis(20))).await.unwrap();
    let gone = events(&store, short, 1).await.remove(0);
    assert_eq!((gone.key.as_str(), gone.current), ("/short", None), "a clock set back lengthens nothing");
    drop(store);

    // The clock is still wrong at the next start: the store's time goes on from where it was.
    let store = SqliteStore::open(&path, options).unwrap();
    let newest = store.current_revision().await.unwrap();
    store.put("/b", "x".into(), Expected::Absent, Some(Duration::from_millis(20))).await.unwrap();
    assert_eq!(events(&store, newest, 2).await[1].key, "/b");
    assert!(store.get("/hour").await.unwrap().0.is_some());
}

#[tokio::test]
async fn key_without_its_value_is_damage() {
    let (_folder, path) = folder();
    let store = open(&path);
    create(&store, "/a", "1").await;
    create(&store, "/b", "1").await;
    drop(store);
    Connection::open(&path).unwrap().execute("DELETE FROM entry WHERE rev = 1", []).unwrap();
    let refused = SqliteStore::open(&path, SqliteOptions::default()).err().unwrap();
    assert!(refused.to_string().contains("1 keys point to values that are not there"), "{refused}");
}

#[tokio::test]
async fn churn_leaves_a_small_file() {
    let (_folder, path) = folder();
    let retention = Retention { revisions: 200, bytes: 256 << 10, ..Default::default() };
    let store =
        Arc::new(SqliteStore::open(&path, SqliteOptions { retention, ..Default::default() }).unwrap());
    let keys: Vec<String> = (0..64).map(|number| format!("/k{number}")).collect();
    for key in &keys {
        create(&store, key, vec![0_u8; 1024]).await;
    }
    let churn = keys.iter().map(|key| {
        let (store, key) = (store.clone(), key.clone());
        tokio::spawn(async move {
            for round in 0..100_u8 {
                update(&store, &key, vec![round; 1024]).await;
            }
        })
    });
    for worker in churn.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    let newest = store.current_revision().await.unwrap();
    assert!(matches!(store.watch("/", Revision(100)).await, Err(StoreError::Compacted { .. })));
    assert_eq!(events(&store, Revision(newest.0 - 50), 50).await.len(), 50);
    drop(Arc::into_inner(store).unwrap());

    let file = Connection::open(&path).unwrap();
    let rows: i64 = file.query_row("SELECT count(*) FROM entry", [], |row| row.get(0)).unwrap();
    let sizes = "SELECT sum(length(key) + ifnull(length(value), 0)) FROM entry";
    let total: i64 = file.query_row(sizes, [], |row| row.get(0)).unwrap();
    let state = super::State::read(&file).unwrap();
    assert!(rows < 64 + 200 + 1024, "{rows} rows are left of 6464");
    assert_eq!(state.total_bytes, total, "the counters agree with the rows");
    assert!(state.live_bytes > 64 * 1024 && state.live_bytes < 65 * 1024);
    let length = std::fs::metadata(&path).unwrap().len();
    assert!(length < 2 << 20, "{length} bytes for {total} bytes of rows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_under_churn_stays_within_three_times_its_live_data() {
    let (_folder, path) = folder();
    let retention = Retention { bytes: 256 << 10, ..Default::default() };
    let store =
        Arc::new(SqliteStore::open(&path, SqliteOptions { retention, ..Default::default() }).unwrap());
    // Sizes that fill pages well and badly, and those that take more than one page.
    let size = |number: usize| [300, 1100, 2200, 4500][number % 4];
    let workers = (0..32_usize).map(|worker| {
        let store = store.clone();
        tokio::spawn(async move {
            let keys: Vec<String> = (0..60).map(|number| format!("/{worker:02}/{number:02}")).collect();
            for (number, key) in keys.iter().enumerate() {
                create(&store, key, vec![0; size(number)]).await;
            }
            for round in 0..600_usize {
                let number = round * 7 % keys.len();
                update(&store, &keys[number], vec![1; size(number + round / 200)]).await;
            }
        })
    });
    let mut largest = 0;
    let workers: Vec<_> = workers.collect();
    while !workers.iter().all(tokio::task::JoinHandle::is_finished) {
        largest = largest.max(std::fs::metadata(&path).unwrap().len());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for worker in workers {
        worker.await.unwrap();
    }
    let all = store.list(ListRequest { prefix: "/".into(), ..Default::default() }).await.unwrap();
    let live: usize = all.items.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
    println!("{largest} bytes at most for {live} bytes of live data");
    assert!(live > 3 << 20 && largest <= 3 * live as u64, "{largest} bytes for {live} bytes of live data");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_range_is_one_state_while_a_writer_is_at_work() {
    let (_folder, path) = folder();
    let store = Arc::new(open(&path));
    let keys: Vec<String> = (0..2500).map(|number| format!("/r/{number:04}")).collect();
    futures::future::join_all(keys.iter().map(|key| create(&store, key, "0"))).await;
    let (writer, first, last) = (store.clone(), keys[0].clone(), keys[2499].clone());
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stop = done.clone();
    let writes = tokio::spawn(async move {
        let mut count = 0_u64;
        while !stop.load(Ordering::SeqCst) {
            count += 1;
            update(&writer, &first, count.to_string()).await;
            update(&writer, &last, count.to_string()).await;
        }
        count
    });
    let number = |kv: &crate::KeyValue| std::str::from_utf8(&kv.value).unwrap().parse::<u64>().unwrap();
    for _ in 0..100 {
        let listing = store.list(ListRequest { prefix: "/r/".into(), ..Default::default() }).await.unwrap();
        let found: Vec<&str> = listing.items.iter().map(|kv| kv.key.as_str()).collect();
        assert!(found.iter().eq(keys.iter()), "every key once, in order");
        let (first, last) = (number(&listing.items[0]), number(&listing.items[2499]));
        assert!(first == last || first == last + 1, "{first} was written before {last}");
        let newest = listing.items.iter().map(|kv| kv.mod_revision).max();
        assert_eq!(newest, Some(listing.revision), "it is the state of its revision");
    }
    done.store(true, Ordering::SeqCst);
    assert!(writes.await.unwrap() > 10, "the writer was at work");
}

#[tokio::test]
async fn metrics_count_commits_and_their_writes() {
    let (_folder, path) = folder();
    let registry = prometheus::Registry::new();
    let options = SqliteOptions { metrics: Some(registry.clone()), ..Default::default() };
    let store = SqliteStore::open(&path, options).unwrap();
    create(&store, "/a", "1").await;
    create(&store, "/b", "1").await;
    let families = registry.gather();
    let family =
        |name: &str| families.iter().find(|family| family.name() == name).unwrap().get_metric()[0].clone();
    assert_eq!(family("skep_store_batch_writes").get_histogram().get_sample_sum(), 2.0);
    assert_eq!(family("skep_store_commit_seconds").get_histogram().get_sample_count(), 2);
    assert_eq!(family("skep_store_revision").get_gauge().get_value(), 2.0);
    assert!(family("skep_store_file_bytes").get_gauge().get_value() > 0.0);
}
