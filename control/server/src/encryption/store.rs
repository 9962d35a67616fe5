//! A store whose values are encrypted on their way in and decrypted on their way out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use skep_store::{
    Event, Expected, KeyValue, ListRequest, Listing, Revision, Size, Store, StoreError, WatchItem,
    WatchStream,
};
use tokio::sync::watch;

use super::error::TransformError;
use super::{Encryption, marker};

/// How often it is tried again to open what could not be opened.
const AGAIN: Duration = Duration::from_secs(10);

/// The store. Clones are the same.
#[derive(Clone)]
pub(crate) struct EncryptedStore {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    encryption: Arc<Encryption>,
    /// One key whose value could not be opened.
    unreadable: Mutex<Option<String>>,
    /// Grows when what could not be opened can be: watches end, and everything is read again.
    turn: watch::Sender<u64>,
}

fn failed(operation: &'static str, error: TransformError) -> StoreError {
    StoreError::Backend { operation, source: Box::new(error) }
}

impl EncryptedStore {
    pub(crate) fn new(store: Arc<dyn Store>, encryption: Arc<Encryption>) -> Self {
        let inner = Inner { store, encryption, unreadable: Mutex::default(), turn: watch::Sender::new(0) };
        Self { inner: Arc::new(inner) }
    }

    /// Whether the value of `key` would be written differently now: with another key, or encrypted at all.
    ///
    /// # Errors
    ///
    /// When it cannot be read or opened.
    pub(crate) async fn is_stale(&self, key: &str) -> Result<bool, StoreError> {
        let Some(found) = self.inner.store.get(key).await?.0 else { return Ok(false) };
        let opened = self.inner.encryption.open_value(key, &found.value).await;
        opened.map(|(_, stale)| stale).map_err(|error| failed("decrypt a value", error))
    }

    /// Follows the configuration, and tries again what could not be opened, for as long as it is polled.
    pub(crate) async fn tend(&self) {
        tokio::join!(self.inner.encryption.follow(), self.retry());
    }

    async fn retry(&self) {
        loop {
            tokio::time::sleep(AGAIN).await;
            let Some(key) = self.inner.unreadable.lock().clone() else { continue };
            let readable = match self.inner.store.get(&key).await {
                Ok((Some(found), _)) => self.inner.encryption.open_value(&key, &found.value).await.is_ok(),
                Ok((None, _)) => true,
                Err(_) => false,
            };
            if readable {
                *self.inner.unreadable.lock() = None;
                tracing::info!(key, "what could not be decrypted can be, reading everything again");
                self.inner.turn.send_modify(|turn| *turn += 1);
            }
        }
    }

    /// Opens a value in place. What cannot be opened is marked.
    async fn open(&self, kv: &mut KeyValue) {
        match self.inner.encryption.open_value(&kv.key, &kv.value).await {
            Ok((plain, _)) => kv.value = plain,
            Err(error) => {
                tracing::error!(key = kv.key, %error, "a value in the store cannot be decrypted");
                self.inner.unreadable.lock().get_or_insert_with(|| kv.key.clone());
                kv.value = marker::unreadable(&error.to_string());
            }
        }
    }

    async fn open_event(&self, event: &mut Event) {
        for kv in [&mut event.current, &mut event.previous].into_iter().flatten() {
            self.open(kv).await;
        }
    }

    async fn opened(&self, item: Result<WatchItem, StoreError>) -> Result<WatchItem, StoreError> {
        let mut item = item?;
        if let WatchItem::Events(events) = &mut item {
            for event in events {
                self.open_event(event).await;
            }
        }
        Ok(item)
    }
}

#[async_trait]
impl Store for EncryptedStore {
    async fn current_revision(&self) -> Result<Revision, StoreError> {
        self.inner.store.current_revision().await
    }

    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision), StoreError> {
        let (mut found, revision) = self.inner.store.get(key).await?;
        if let Some(kv) = &mut found {
            self.open(kv).await;
        }
        Ok((found, revision))
    }

    async fn list(&self, request: ListRequest) -> Result<Listing, StoreError> {
        let mut listing = self.inner.store.list(request).await?;
        for kv in &mut listing.items {
            self.open(kv).await;
        }
        Ok(listing)
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: Expected,
        ttl: Option<Duration>,
    ) -> Result<Revision, StoreError> {
        let sealed = self.inner.encryption.seal(key, &value);
        let sealed = sealed.map_err(|error| failed("encrypt a value", error))?;
        let mut written = self.inner.store.put(key, sealed, expected, ttl).await;
        if let Err(StoreError::Conflict { current: Some(kv), .. }) = &mut written {
            self.open(kv).await;
        }
        written
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, StoreError> {
        let mut deleted = self.inner.store.delete(key, expected).await;
        if let Err(StoreError::Conflict { current: Some(kv), .. }) = &mut deleted {
            self.open(kv).await;
        }
        deleted
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        let changes = self.inner.store.watch(prefix, after).await?;
        let session = (self.clone(), changes, self.inner.turn.subscribe());
        let items = stream::unfold(session, |(this, mut changes, mut turn)| async move {
            let item = tokio::select! {
                biased;
                // The sender lives as long as `this`.
                _ = turn.changed() => {
                    Err(StoreError::Compacted { requested: Revision(0), compacted: Revision(0) })
                }
                item = changes.next() => this.opened(item?).await,
            };
            Some((item, (this, changes, turn)))
        });
        Ok(items.boxed())
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner.store.compact(revision).await
    }

    async fn expiries(&self) -> Result<BTreeMap<String, Duration>, StoreError> {
        self.inner.store.expiries().await
    }

    async fn size(&self) -> Result<Option<Size>, StoreError> {
        self.inner.store.size().await
    }
}
