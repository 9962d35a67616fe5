//! Cases of the edges of history: what was compacted, what has not happened yet.

use super::{Case, events_until};
use crate::{ListRequest, Revision, StoreError};

fn is_compacted<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Compacted { .. }))
}

fn is_future<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Future { .. }))
}

fn at(case: &Case, revision: Revision) -> ListRequest {
    ListRequest { prefix: case.prefix.clone(), revision: Some(revision), ..Default::default() }
}

pub(super) async fn compacted_history_is_refused_and_the_present_stays(case: Case) {
    let first = case.create("a", "1").await;
    case.create("gone", "1").await;
    case.update("a", "2").await;
    case.delete("gone").await;
    let kept = case.create("b", "1").await;
    let last = case.update("a", "3").await;
    let then = case.list(Some(kept)).await;
    let now = case.list(None).await;

    case.store.compact(kept).await.expect("compact");
    case.store.compact(first).await.expect("an older compaction changes nothing");

    assert!(is_compacted(case.store.list(at(&case, first)).await));
    assert!(is_compacted(case.store.watch(&case.prefix, first).await));
    assert_eq!(case.list(Some(kept)).await, then, "the state as of the compaction stays");
    assert_eq!(case.list(None).await, now);
    let mut watch = case.watch(kept).await;
    let events = events_until(&mut watch, last).await;
    assert_eq!(events.iter().map(|event| event.revision).collect::<Vec<_>>(), [last]);
    assert_eq!(events[0].previous.as_ref().map(|kv| &kv.value[..]), Some(&b"2"[..]));

    case.store.compact(last).await.expect("compact everything");
    assert!(is_compacted(case.store.watch(&case.prefix, kept).await));
    assert_eq!(case.list(None).await, now);
    let next = case.update("b", "2").await;
    assert_eq!(events_until(&mut case.watch(last).await, next).await.len(), 1);
}

pub(super) async fn future_revisions_are_refused(case: Case) {
    let now = case.create("a", "1").await;
    let future = Revision(now.0 + 1000);
    assert!(is_future(case.store.list(at(&case, future)).await));
    assert!(is_future(case.store.watch(&case.prefix, future).await));
    assert!(is_future(case.store.compact(future).await));
}
