//! Cases of writes: preconditions, races, expiry.

use std::time::Duration;

use bytes::Bytes;

use super::{Case, events_until, next};
use crate::{Expected, Revision, StoreError, WatchItem};

fn conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Option<Revision> {
    match result.expect_err("the precondition does not hold") {
        StoreError::Conflict { current, .. } => current.map(|kv| kv.mod_revision),
        other => panic!("not a conflict: {other:?}"),
    }
}

pub(super) async fn precondition_decides_every_write(case: Case) {
    let (store, key) = (case.store.clone(), case.key("a"));
    let value = Bytes::from_static(b"x");
    let put = |expected| store.put(&key, value.clone(), expected, None);

    assert_eq!(conflict(put(Expected::Revision(Revision(1))).await), None);
    assert_eq!(conflict(store.delete(&key, Revision(1)).await), None);
    let created = put(Expected::Absent).await.expect("create");
    assert!(created >= Revision(1));
    assert_eq!(conflict(put(Expected::Absent).await), Some(created));
    let updated = put(Expected::Revision(created)).await.expect("update");
    assert!(updated > created);
    assert_eq!(conflict(put(Expected::Revision(created)).await), Some(updated));
    assert_eq!(conflict(store.delete(&key, created).await), Some(updated));

    let (kv, read_at) = store.get(&key).await.expect("get");
    let kv = kv.expect("the key is there");
    assert_eq!((kv.create_revision, kv.mod_revision, &kv.value), (created, updated, &value));
    assert!(read_at >= updated);

    let deleted = store.delete(&key, updated).await.expect("delete");
    assert!(deleted > updated);
    assert_eq!(case.get("a").await, None);
    let again = put(Expected::Absent).await.expect("create again");
    let kv = case.get("a").await.expect("the key is there");
    assert_eq!((kv.create_revision, kv.mod_revision), (again, again));

    let empty =
        store.put(&case.key("empty"), Bytes::new(), Expected::Absent, None).await.expect("empty value");
    let kv = case.get("empty").await.expect("an empty value is a value");
    assert_eq!((kv.value.len(), kv.mod_revision), (0, empty));
}

pub(super) async fn racing_increments_lose_nothing(case: Case) {
    const WORKERS: usize = 8;
    const EACH: usize = 20;
    case.create("counter", "0").await;
    let workers: Vec<_> = (0..WORKERS).map(|_| tokio::spawn(increment(case.clone(), EACH))).collect();
    let mut revisions = Vec::new();
    for worker in workers {
        revisions.extend(worker.await.expect("worker"));
    }
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), WORKERS * EACH, "every write has its own revision");
    let end = case.get("counter").await.expect("counter");
    assert_eq!(end.value, (WORKERS * EACH).to_string());
    assert_eq!(Some(end.mod_revision), revisions.last().copied());
}

async fn increment(case: Case, times: usize) -> Vec<Revision> {
    let mut revisions = Vec::new();
    while revisions.len() < times {
        let current = case.get("counter").await.expect("counter");
        let number: usize = std::str::from_utf8(&current.value).expect("text").parse().expect("number");
        let value = Bytes::from((number + 1).to_string());
        let expected = Expected::Revision(current.mod_revision);
        match case.store.put(&case.key("counter"), value, expected, None).await {
            Ok(revision) => revisions.push(revision),
            Err(StoreError::Conflict { .. }) => tokio::task::yield_now().await,
            Err(other) => panic!("{other:?}"),
        }
    }
    revisions
}

pub(super) async fn racing_creates_have_one_winner(case: Case) {
    for round in 0..10 {
        let key = case.key(&round.to_string());
        let racers = (0..6).map(|racer| {
            let (store, key) = (case.store.clone(), key.clone());
            tokio::spawn(async move {
                let value = Bytes::from(format!("racer {racer}"));
                (value.clone(), store.put(&key, value, Expected::Absent, None).await)
            })
        });
        let mut winners = Vec::new();
        for racer in racers.collect::<Vec<_>>() {
            match racer.await.expect("racer") {
                (value, Ok(revision)) => winners.push((value, revision)),
                (_, Err(StoreError::Conflict { current, .. })) => {
                    assert!(current.is_some(), "losers see the winner")
                }
                (_, Err(other)) => panic!("{other:?}"),
            }
        }
        let stored = case.get(&round.to_string()).await.expect("stored");
        assert_eq!(winners, [(stored.value, stored.mod_revision)]);
    }
}

pub(super) async fn expired_key_is_deleted_with_an_event(case: Case) {
    let ttl = Some(Duration::from_secs(1));
    let value = Bytes::from_static(b"v");
    let before = case.now().await;
    let mut watch = case.watch(before).await;
    let put = |name: &str, expected, ttl| {
        let (store, key, value) = (case.store.clone(), case.key(name), value.clone());
        async move { store.put(&key, value, expected, ttl).await.expect("put") }
    };
    let kept = put("kept", Expected::Absent, ttl).await;
    put("kept", Expected::Revision(kept), None).await;
    put("long", Expected::Absent, Some(Duration::from_secs(3600))).await;
    put("short-1", Expected::Absent, ttl).await;
    let last = put("short-2", Expected::Absent, ttl).await;
    events_until(&mut watch, last).await;

    let mut expired = Vec::new();
    while expired.len() < 2 {
        let WatchItem::Events(events) = next(&mut watch).await else { continue };
        for event in events {
            assert_eq!(event.current, None);
            assert!(event.revision > last);
            assert_eq!(event.previous.expect("what it was").value, value);
            expired.push(event.key);
        }
    }
    expired.sort();
    assert_eq!(expired, [case.key("short-1"), case.key("short-2")]);
    let left: Vec<String> = case.list(None).await.into_iter().map(|kv| kv.key).collect();
    assert_eq!(left, [case.key("kept"), case.key("long")]);
    let lives = case.store.expiries().await.expect("expiries");
    assert!(!lives.contains_key(&case.key("kept")) && !lives.contains_key(&case.key("short-1")));
    let long = lives[&case.key("long")].as_secs();
    assert!((3500..=3700).contains(&long), "{long} seconds are left");
}
