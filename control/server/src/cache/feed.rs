//! The feed of the cache: one read of everything at one revision, then one watch of everything after it.
//!
//! States: loaded at R -> following from R. A watch that ends with an error is taken up where it was; when the store has
//! forgotten that place, everything is loaded again and every watcher's place is gone (410), since what happened in
//! between cannot be told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use skep_store::{Event, KeyValue, ListRequest, Revision, StoreError, WatchItem};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Cache, Collection, Wanted};
use crate::failure::with_causes;

/// Everything lies under this.
const ROOT: &str = "/registry/";
/// So many objects are read at once.
const PAGE: usize = 2000;
/// So many changes are applied by somebody who waits for one of them.
const PULLED: usize = 64;
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Reads everything.
pub(super) async fn load(cache: &Cache) -> Result<(), StoreError> {
    let _order = cache.order.lock().await;
    let contents = cache.contents();
    let mut fresh: BTreeMap<&str, Vec<KeyValue>> =
        contents.all().map(|one| (one.prefix(), Vec::new())).collect();
    let mut request = ListRequest { prefix: ROOT.into(), limit: PAGE, ..ListRequest::default() };
    let revision = loop {
        let page = cache.store.list(request.clone()).await?;
        request.start_after = page.items.last().map(|item| item.key.clone());
        request.revision = Some(page.revision);
        for item in page.items {
            if let Some(objects) = contents.of_key(&item.key).and_then(|one| fresh.get_mut(one.prefix())) {
                objects.push(item);
            }
        }
        if page.remaining == 0 {
            break page.revision;
        }
    };
    for collection in contents.all() {
        collection.replace(fresh.remove(collection.prefix()).unwrap_or_default(), revision.0);
    }
    cache.applied.send_replace(revision.0);
    Ok(())
}

/// Follows the store until `stop`.
pub(super) async fn follow(
    cache: Arc<Cache>,
    mut requests: mpsc::UnboundedReceiver<Wanted>,
    stop: CancellationToken,
) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let before = cache.applied();
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = once(&cache, &mut requests) => ended,
        };
        match ended {
            StoreError::Closed => {
                tracing::info!("the store was closed, the watch cache stands still");
                return;
            }
            StoreError::Compacted { .. } | StoreError::Future { .. } => {
                tracing::warn!(error = %ended, "the watch cache lost its place, loading everything again");
                if let Err(error) = load(&cache).await {
                    tracing::error!(error = %with_causes(&error), "cannot read the store");
                }
            }
            error => {
                tracing::error!(error = %with_causes(&error), "the watch of the store ended, taking it up again")
            }
        }
        pause = if cache.applied() > before { SHORTEST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One watch, until it ends.
async fn once(cache: &Cache, requests: &mut mpsc::UnboundedReceiver<Wanted>) -> StoreError {
    let mut stream = match cache.store.watch(ROOT, Revision(cache.applied())).await {
        Ok(stream) => stream,
        Err(error) => return error,
    };
    loop {
        let item = tokio::select! {
            biased;
            Some(wanted) = requests.recv() => {
                let outcome = add(cache, wanted.prefix).await;
                let _ = wanted.done.send(outcome);
                continue;
            }
            item = stream.next() => item,
        };
        let Some(item) = item else { return StoreError::Closed };
        match item {
            Ok(WatchItem::Events(events)) => {
                let _order = cache.order.lock().await;
                apply(cache, events);
            }
            Ok(WatchItem::Progress(revision)) => {
                let _order = cache.order.lock().await;
                advance(cache, revision.0);
            }
            Err(error) => return error,
        }
    }
}

/// Reads one more collection. Nothing is applied meanwhile, so that what comes after the read cannot be missed; what was
/// read and comes again is passed over by the collection.
async fn add(cache: &Cache, prefix: String) -> Result<(), StoreError> {
    if cache.contents().get(&prefix).is_some() {
        return Ok(());
    }
    let _order = cache.order.lock().await;
    let listing = cache.store.list(ListRequest { prefix: prefix.clone(), ..ListRequest::default() }).await?;
    let collection = Collection::new(prefix, cache.budget.clone());
    collection.replace(listing.items, listing.revision.0);
    cache.change(|contents| contents.insert(collection));
    Ok(())
}

/// Applies what the store has at hand, unless somebody else changes the collections.
pub(super) fn pull(cache: &Cache) {
    let Ok(_order) = cache.order.try_lock() else { return };
    if let Some((events, upto)) = cache.store.at_hand(ROOT, Revision(cache.applied()), PULLED) {
        apply(cache, events);
        advance(cache, upto.0);
    }
}

/// Applies what is new of a batch, one collection after the other, and only then says that it is there.
fn apply(cache: &Cache, events: Vec<Event>) {
    let Some(last) = events.last().map(|event| event.revision.0) else { return };
    let contents = cache.contents();
    let mut per_collection: BTreeMap<&str, Vec<Event>> = BTreeMap::new();
    let applied = cache.applied();
    for event in events.into_iter().filter(|event| event.revision.0 > applied) {
        if let Some(collection) = contents.of_key(&event.key) {
            per_collection.entry(collection.prefix()).or_default().push(event);
        }
    }
    for (prefix, events) in per_collection {
        if let Some(collection) = contents.get(prefix) {
            collection.apply(&events);
        }
    }
    cache.make_room();
    advance(cache, last);
}

fn advance(cache: &Cache, revision: u64) {
    cache.ages.note(Instant::now(), revision);
    cache.applied.send_if_modified(|applied| {
        let grows = revision > *applied;
        *applied = revision.max(*applied);
        grows
    });
}
