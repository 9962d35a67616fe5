//! One reader of a collection's changes: its place, and how it gets on.
//!
//! The place is a revision. Changes are read from the collection's ring, so that a watcher that sleeps costs nothing and
//! one that is slow holds nothing up.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Cache, Change, Collection, Gone};

/// So many changes are read at once.
const BATCH: usize = 256;

/// A place in a collection's changes.
pub struct Watcher {
    cache: Arc<Cache>,
    collection: Arc<Collection>,
    prefix: String,
    position: u64,
    signal: watch::Receiver<u64>,
}

impl Watcher {
    pub(super) fn new(cache: Arc<Cache>, collection: Arc<Collection>, prefix: String, position: u64) -> Self {
        let signal = collection.signal();
        Self { cache, collection, prefix, position, signal }
    }

    /// Everything up to here was told.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What is new, which may be nothing.
    ///
    /// # Errors
    ///
    /// When the place has left the ring.
    pub fn poll(&mut self) -> Result<Vec<Arc<Change>>, Gone> {
        loop {
            // In this order: what is applied is in the ring by now.
            let applied = self.cache.applied();
            self.signal.borrow_and_update();
            let mut changes = self.collection.changes_after(self.position, BATCH)?;
            match changes.last() {
                None => {
                    self.position = self.position.max(applied);
                    return Ok(changes);
                }
                Some(last) => self.position = last.revision,
            }
            changes.retain(|change| change.object.key().starts_with(&self.prefix));
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }

    /// What is new, as soon as there is something. Safe to drop and call again.
    ///
    /// # Errors
    ///
    /// When the place has left the ring.
    pub async fn next(&mut self) -> Result<Vec<Arc<Change>>, Gone> {
        loop {
            let changes = self.poll()?;
            if !changes.is_empty() {
                return Ok(changes);
            }
            if self.signal.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
