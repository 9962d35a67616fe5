//! A watch as a stream: the feed while it keeps up, the backend's history while it does not.
//!
//! Owns the rule "every change exactly once, in order, or an error". Does not check where a watch may start; backends do.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream;
use tokio::sync::watch::Receiver;

use crate::feed::{Feed, FeedRead, Signal};
use crate::{Event, Revision, StoreError, WatchItem, WatchStream};

/// About how many events one [`WatchItem`] holds at most.
const CHUNK: usize = 500;

/// A piece of the past, complete for its prefix up to `upto`.
pub(crate) struct Changes {
    pub(crate) events: Vec<Event>,
    pub(crate) upto: Revision,
}

/// Where events that left the feed are found.
#[async_trait]
pub(crate) trait History: Send + Sync + 'static {
    /// Matching events after `after`, about `limit`, never a part of a revision; `upto` lies after `after` and is
    /// already published.
    ///
    /// # Errors
    /// `Compacted` if events after `after` are gone.
    async fn changes(&self, prefix: &str, after: Revision, limit: usize) -> Result<Changes, StoreError>;
}

struct Watch {
    feed: Arc<Feed>,
    history: Arc<dyn History>,
    signals: Receiver<Signal>,
    prefix: String,
    /// Everything up to here was read.
    position: Revision,
    /// Items that were read and not yet delivered.
    ready: VecDeque<WatchItem>,
}

/// The stream of changes of `prefix` after `after`.
pub(crate) fn stream(
    feed: Arc<Feed>,
    history: Arc<dyn History>,
    prefix: String,
    after: Revision,
) -> WatchStream {
    let signals = feed.signals();
    let watch = Watch { feed, history, signals, prefix, position: after, ready: VecDeque::new() };
    Box::pin(stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        match watch.next().await {
            Ok(item) => Some((Ok(item), Some(watch))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

impl Watch {
    async fn next(&mut self) -> Result<WatchItem, StoreError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            self.signals.mark_unchanged();
            match self.feed.read(&self.prefix, self.position, CHUNK) {
                FeedRead::Events { events, upto } => {
                    if upto == self.position {
                        self.signals.changed().await.map_err(|_| StoreError::Closed)?;
                    } else {
                        self.accept(Changes { events, upto });
                    }
                }
                FeedRead::Behind => {
                    let changes = self.history.changes(&self.prefix, self.position, CHUNK).await?;
                    self.accept(changes);
                }
                FeedRead::Closed => return Err(StoreError::Closed),
            }
        }
    }

    /// Queues the events, and the progress beyond them that the watcher could not know from the events alone.
    fn accept(&mut self, changes: Changes) {
        self.position = changes.upto;
        let delivered = changes.events.last().map(|event| event.revision);
        if !changes.events.is_empty() {
            self.ready.push_back(WatchItem::Events(changes.events));
        }
        if delivered.is_none_or(|revision| revision < changes.upto) {
            self.ready.push_back(WatchItem::Progress(changes.upto));
        }
    }
}
