//! Cases of watches: exactly once, in order, from anywhere, under concurrent writers.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;

use super::{Case, events_until, next};
use crate::{Event, Expected, KeyValue, Revision, StoreError, WatchItem};

const WRITERS: u32 = 4;
const WRITES: u32 = 60;

pub(super) async fn watch_from_any_revision_has_no_gap_and_no_duplicate(case: Case) {
    let start = case.now().await;
    let mut live = case.watch(start).await;
    let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(case.clone(), writer))).collect();
    // Watches that begin while the writers are at work.
    let mut midway = Vec::new();
    for _ in 0..10 {
        let after = case.now().await;
        midway.push((after, case.watch(after).await));
        tokio::task::yield_now().await;
    }
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.expect("writer"));
    }
    acknowledged.sort_unstable();
    let end = *acknowledged.last().expect("there were writes");

    let all = events_until(&mut live, end).await;
    let revisions: Vec<Revision> = all.iter().map(|event| event.revision).collect();
    assert_eq!(revisions, acknowledged, "every acknowledged write is seen once, in order");
    check_chain(&all);
    for (after, mut watch) in midway {
        assert_eq!(events_until(&mut watch, end).await, suffix(&all, after), "live from {after:?}");
    }
    for after in revisions.iter().copied().step_by(17).chain([start, end]) {
        let mut watch = case.watch(after).await;
        if after < end {
            assert_eq!(events_until(&mut watch, end).await, suffix(&all, after), "resumed from {after:?}");
        }
    }
}

fn suffix(all: &[Event], after: Revision) -> Vec<Event> {
    all.iter().filter(|event| event.revision > after).cloned().collect()
}

/// What an event says was before is what the event before left.
fn check_chain(events: &[Event]) {
    let mut state: BTreeMap<String, KeyValue> = BTreeMap::new();
    for event in events {
        assert_eq!(event.previous.as_ref(), state.get(&event.key));
        match &event.current {
            Some(kv) => {
                assert_eq!((&kv.key, kv.mod_revision), (&event.key, event.revision));
                state.insert(event.key.clone(), kv.clone());
            }
            None => assert!(state.remove(&event.key).is_some(), "only what exists is deleted"),
        }
    }
}

/// Creates, updates and deletes on keys that the writers share; the revisions that were acknowledged.
async fn write(case: Case, writer: u32) -> Vec<Revision> {
    let mut revisions = Vec::new();
    for step in 0..WRITES {
        let name = format!("k{}", (writer * 31 + step * 7) % 9);
        let value = Bytes::from(format!("{writer}/{step}"));
        let result = match case.get(&name).await {
            Some(kv) if step % 4 == 3 => case.store.delete(&kv.key, kv.mod_revision).await,
            Some(kv) => case.store.put(&kv.key, value, Expected::Revision(kv.mod_revision), None).await,
            None => case.store.put(&case.key(&name), value, Expected::Absent, None).await,
        };
        match result {
            Ok(revision) => revisions.push(revision),
            Err(StoreError::Conflict { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
        tokio::task::yield_now().await;
    }
    revisions
}

pub(super) async fn watch_learns_of_progress_elsewhere(case: Case) {
    let after = case.now().await;
    let mut watch = case.store.watch(&case.key("watched/"), after).await.expect("watch");
    let elsewhere = case.create("elsewhere", "x").await;
    assert!(events_until(&mut watch, elsewhere).await.is_empty());
    let here = case.create("watched/a", "x").await;
    let events = events_until(&mut watch, here).await;
    assert_eq!(events.iter().map(|event| event.revision).collect::<Vec<_>>(), [here]);
}

pub(super) async fn watch_ends_only_by_error(case: Case) {
    let mut watch = case.watch(case.now().await).await;
    for round in 0..3 {
        let silent = tokio::time::timeout(Duration::from_millis(20), watch.next()).await;
        assert!(silent.is_err(), "nothing changed, so nothing is said");
        let revision = case.create(&round.to_string(), "x").await;
        match next(&mut watch).await {
            WatchItem::Events(events) => assert_eq!(events[0].revision, revision),
            other => panic!("{other:?}"),
        }
    }
}
