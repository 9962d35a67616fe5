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
    bell: watch::Receiver<()>,
    /// Whether there may be more than was read, without another ring of the bell.
    behind: bool,
}

impl Watcher {
    pub(super) fn new(cache: Arc<Cache>, collection: Arc<Collection>, prefix: String, position: u64) -> Self {
        let bell = collection.bell().listen();
        Self { cache, collection, prefix, position, bell, behind: true }
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
            self.bell.mark_unchanged();
            let mut changes = self.collection.changes_after(self.position, BATCH)?;
            self.behind = changes.len() >= BATCH;
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

    /// What is new, if anything may be: costs next to nothing when nobody rang.
    ///
    /// # Errors
    ///
    /// When the place has left the ring.
    pub fn look(&mut self) -> Result<Vec<Arc<Change>>, Gone> {
        match self.behind || self.bell.has_changed().unwrap_or_default() {
            true => self.poll(),
            false => Ok(Vec::new()),
        }
    }

    /// What is new, as soon as there is something. Safe to drop and call again.
    ///
    /// # Errors
    ///
    /// When the place has left the ring.
    pub async fn next(&mut self) -> Result<Vec<Arc<Change>>, Gone> {
        loop {
            let changes = self.look()?;
            if !changes.is_empty() {
                return Ok(changes);
            }
            if self.bell.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            self.behind = true;
        }
    }
}
