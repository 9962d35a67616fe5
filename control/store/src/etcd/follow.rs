//! Following etcd: one watch of everything fills the feed; other watches of everything read what the feed has lost.
//!
//! Owns reconnecting. States: following -> (connection lost) -> waiting -> following from the same revision; or
//! -> (history compacted in between) -> following from the newest revision, after telling the feed to forget.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{Client, WatchOptions, WatchResponse, WatchStream};

use super::convert::{Message, message, number, revision};
use super::{LARGEST_ANSWER, PATIENCE, answer, newest};
use crate::feed::Feed;
use crate::watch::{Changes, History};
use crate::{Event, Revision, StoreError};

/// Wait before connecting again: doubles up to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Reads etcd's changes.
pub(super) struct Follower {
    client: Client,
    feed: Arc<Feed>,
}

impl Follower {
    pub(super) fn new(client: Client, feed: Arc<Feed>) -> Self {
        Self { client, feed }
    }

    /// Keeps the feed up to date until it is aborted.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut wait = BACK_OFF.0;
        loop {
            let from = self.feed.last();
            let ended = self.run().await;
            if self.feed.last() > from {
                wait = BACK_OFF.0;
            }
            tracing::warn!(error = &ended as &dyn std::error::Error, after = from.0, "watch of etcd ended");
            if matches!(ended, StoreError::Compacted { .. })
                && let Ok(now) = newest(&self.client).await
            {
                self.feed.reset(now);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BACK_OFF.1);
        }
    }

    /// Publishes everything after the feed's last revision, until the watch ends; why it ended.
    async fn run(&self) -> StoreError {
        let mut watch = match self.open(self.feed.last()).await {
            Ok(watch) => watch,
            Err(error) => return error,
        };
        loop {
            match next(&mut watch).await {
                Ok(Message { events, upto }) => {
                    self.feed.publish(events);
                    self.feed.advance(upto);
                }
                Err(error) => return error,
            }
        }
    }

    async fn open(&self, after: Revision) -> Result<WatchStream, StoreError> {
        let options = WatchOptions::new()
            .with_all_keys()
            .with_prev_key()
            .with_start_revision(number(after).saturating_add(1));
        let mut client = self.client.watch_client().max_decoding_message_size(LARGEST_ANSWER);
        answer("watch etcd", client.watch("\0", Some(options))).await
    }
}

/// The next message that holds events.
async fn next(watch: &mut WatchStream) -> Result<Message, StoreError> {
    loop {
        let response =
            watch.message().await.map_err(|error| StoreError::backend("read a watch of etcd", error))?;
        let Some(response) = response else {
            return Err(StoreError::backend("read a watch of etcd", "the connection was closed"));
        };
        if let ControlFlow::Break(message) = read(&response)? {
            return Ok(message);
        }
    }
}

fn read(response: &WatchResponse) -> Result<ControlFlow<Message>, StoreError> {
    if response.compact_revision() > 0 {
        let compacted = revision(response.compact_revision());
        return Err(StoreError::Compacted { requested: Revision::default(), compacted });
    }
    if response.canceled() {
        return Err(StoreError::backend("watch etcd", response.cancel_reason().to_owned()));
    }
    if response.events().is_empty() {
        return Ok(ControlFlow::Continue(()));
    }
    message(response.events()).map(ControlFlow::Break)
}

#[async_trait]
impl History for Follower {
    async fn changes(&self, prefix: &str, after: Revision, limit: usize) -> Result<Changes, StoreError> {
        let end = self.feed.last();
        let mut watch = self.open(after).await?;
        let mut events: Vec<Event> = Vec::new();
        loop {
            // Every revision up to `end` has an event, so there is something to wait for.
            let message = tokio::time::timeout(PATIENCE, next(&mut watch)).await;
            let message =
                message.map_err(|elapsed| StoreError::backend("read etcd's history", elapsed))??;
            let within = |event: &Event| event.revision <= end && event.key.starts_with(prefix);
            events.extend(message.events.into_iter().filter(within));
            let upto = message.upto.min(end);
            if upto == end || events.len() >= limit {
                return Ok(Changes { events, upto });
            }
        }
    }
}
