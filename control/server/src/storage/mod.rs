//! Objects of every kind in the store, through one generic path: create, update, delete, with the semantics that all
//! kinds share (Kubernetes API conventions, "Concurrency control", "Graceful deletion", "Finalizers").
//!
//! - Every write is a compare-and-swap on the revision that it was decided by; who loses decides again.
//! - A write has happened when the store says so, and is answered when the cache has it, so that its author's next read,
//!   and whoever admits the next request, sees it.
//! - What a kind makes of it is in `skep_api` (strategy, defaults, validation) and in [`crate::admission`].

mod collection;
mod create;
mod delete;
mod delete_options;
pub(crate) mod metadata;
mod scope;
mod update;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use skep_api::convert;
use skep_api::registry::Resource;
use skep_api::status::Status;
use skep_store::{Expected, KeyValue, Revision, Store, StoreError};

use crate::admission::Chain;
use crate::allocation::Services;
use crate::cache::{Cache, Object};
use crate::conversion::Converter;
use crate::encryption::EncryptedStore;
use crate::failure;
use crate::ids::Ids;
use crate::latencies::Layer;
use crate::metrics::CelMetrics;
use crate::respond::view;
use crate::turns::Commits;

pub(crate) use delete::Deleted;
pub(crate) use delete_options::DeleteOptions;
use scope::Attempts;
pub(crate) use scope::{Ownership, Scope};
pub(crate) use update::Part;

/// Events live so long.
const EVENT_LIFE: Duration = Duration::from_secs(3600);
/// So long an answer waits for the cache to have the write.
const VISIBLE: Duration = Duration::from_secs(2);

/// Of the room in which objects are written out, a thread keeps so much.
const KEPT: usize = 64 * 1024;

thread_local! {
    /// Where an object is written out before its length is known: growing step by step copies it again and again, and
    /// what is kept of it should be no longer than it is.
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// An object as it is in the store: its form in the version of the request, without conversion losses on the way back.
#[derive(Clone)]
pub(crate) struct Current {
    pub(crate) object: Arc<Object>,
    /// In the version of the request, with its resource version.
    pub(crate) value: Arc<Value>,
}

/// The writing side of the API.
#[derive(Clone)]
pub(crate) struct Storage {
    pub(crate) store: Arc<dyn Store>,
    /// The same, where values are encrypted.
    pub(crate) encrypted: Option<EncryptedStore>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) admission: Chain,
    pub(crate) services: Arc<Services>,
    pub(crate) converter: Converter,
    pub(crate) ids: Ids,
    pub(crate) cel: CelMetrics,
    pub(crate) commits: Arc<Commits>,
}

impl Storage {
    /// An object, with every write that was acknowledged before this call.
    ///
    /// # Errors
    ///
    /// 404 when it is not there.
    pub(crate) async fn get(&self, scope: &Scope<'_>, name: &str) -> Result<Arc<Object>, Status> {
        {
            let _reading = scope.enter(Layer::Storage);
            self.cache.catch_up().await.map_err(failure::read)?;
        }
        let cached = self.cached(scope, name)?;
        let _converting = Converter::concerns(scope.resource).then(|| scope.enter(Layer::Transform));
        self.converter.view(scope.resource, cached).await
    }

    /// An object as the cache has it, in whatever version it is stored.
    pub(crate) fn cached(&self, scope: &Scope<'_>, name: &str) -> Result<Arc<Object>, Status> {
        let collection = self.cache.collection(scope.resource).ok_or_else(Status::no_such_path)?;
        let key = scope.resource.store_key(Some(scope.namespace), name);
        if let Some(why) = collection.unreadable(&key) {
            return Err(failure::unreadable(&key, &why));
        }
        collection.get(&key).ok_or_else(|| Status::not_found(scope.resource, name))
    }

    async fn current(&self, scope: &Scope<'_>, name: &str) -> Result<Current, Status> {
        Ok(current(scope.resource, self.get(scope, name).await?))
    }

    /// What was there instead, when a write did not happen.
    async fn instead(
        &self,
        scope: &Scope<'_>,
        name: &str,
        found: Option<KeyValue>,
    ) -> Result<Current, Status> {
        let kv = found.ok_or_else(|| Status::not_found(scope.resource, name))?;
        let object = Object::from_stored(kv.key.as_str().into(), &kv.value, kv.mod_revision.0);
        let object = object.ok_or_else(|| Status::internal(format!("{} is not JSON", kv.key)))?;
        Ok(current(scope.resource, self.converter.view(scope.resource, Arc::new(object)).await?))
    }

    /// Writes an object in the version of the request; on a dry run, does everything but that. What is inside is the
    /// verdict of the store.
    async fn put(
        &self,
        scope: &Scope<'_>,
        name: &str,
        value: Value,
        expected: Expected,
    ) -> Result<Result<Arc<Object>, StoreError>, Status> {
        if !Converter::concerns(scope.resource) {
            let stored = stored(scope.resource, value);
            return Ok(self.put_stored(scope, name, stored, expected).await);
        }
        // Shown as it was written, unless the webhook says what became of it.
        let shown = stored_as_is(value.clone());
        let stored = match scope.dry_run {
            true => shown.clone(),
            false => stored_as_is(self.converter.to_storage(scope.resource, value).await?),
        };
        let written = match self.put_stored(scope, name, stored, expected).await {
            Ok(written) => written,
            Err(error) => return Ok(Err(error)),
        };
        if scope.dry_run {
            return Ok(Ok(written));
        }
        // The one in the cache, so that what is made of it is kept there.
        let kept = self.cached(scope, name).ok().filter(|kept| kept.revision() == written.revision());
        let own = || Object::from_stored(written.key().clone(), &shown, written.revision()).map(Arc::new);
        let view = self.converter.view(scope.resource, kept.unwrap_or_else(|| written.clone())).await;
        Ok(Ok(view.ok().or_else(own).unwrap_or(written)))
    }

    async fn put_stored(
        &self,
        scope: &Scope<'_>,
        name: &str,
        stored: Bytes,
        expected: Expected,
    ) -> Result<Arc<Object>, StoreError> {
        let key = scope.resource.store_key(Some(scope.namespace), name);
        let revision = if scope.dry_run {
            match expected {
                Expected::Absent => 0,
                Expected::Revision(revision) => revision.0,
            }
        } else {
            let life =
                (scope.resource.custom.is_none() && scope.resource.plural == "events").then_some(EVENT_LIFE);
            let revision = {
                let _writing = scope.enter(Layer::Storage);
                let one_of_few = self.commits.enter().await;
                let revision = self.store.put(&key, stored.clone(), expected, life).await?.0;
                drop(one_of_few);
                self.visible(revision).await;
                revision
            };
            // The cache has put it together already, unless somebody else has written since.
            let kept = self.cache.collection(scope.resource).and_then(|collection| collection.get(&key));
            if let Some(kept) = kept.filter(|kept| kept.revision() == revision) {
                return Ok(kept);
            }
            revision
        };
        let object = Object::from_stored(key.into(), &stored, revision);
        Ok(Arc::new(object.expect("what was serialised here is an object with metadata")))
    }

    /// Takes an object away at the revision that the decision was made by.
    async fn remove(&self, scope: &Scope<'_>, key: &str, revision: u64) -> Result<(), StoreError> {
        let _writing = scope.enter(Layer::Storage);
        let revision = {
            let _one_of_few = self.commits.enter().await;
            self.store.delete(key, Revision(revision)).await?
        };
        self.visible(revision.0).await;
        Ok(())
    }

    /// Whether an object would be stored differently if it were written now, as it is.
    async fn is_stale(&self, object: &Object) -> Result<bool, StoreError> {
        match &self.encrypted {
            Some(encrypted) => encrypted.is_stale(object.key()).await,
            None => Ok(false),
        }
    }

    /// Checks an object; rules of custom resources are timed.
    fn checked<T>(&self, resource: &Resource, check: impl FnOnce() -> T) -> T {
        match &resource.custom {
            Some(custom) if custom.has_rules() => self.cel.evaluate(check),
            _ => check(),
        }
    }

    async fn visible(&self, revision: u64) {
        if let Err(error) = self.cache.reach(revision, VISIBLE).await {
            tracing::warn!(%error, "answering a write that the cache does not have yet");
        }
    }
}

fn current(resource: &Resource, object: Arc<Object>) -> Current {
    Current { value: view(resource, &object), object }
}

/// The bytes to store: in the stored version, without the resource version, which the store knows.
fn stored(resource: &Resource, mut value: Value) -> Bytes {
    if resource.needs_conversion() {
        convert::to_storage(resource, &mut value);
    }
    stored_as_is(value)
}

fn stored_as_is(mut value: Value) -> Bytes {
    metadata::remove(&mut value, "resourceVersion");
    TEXT.with_borrow_mut(|text| {
        text.clear();
        // Not by `to_string`, which goes through a formatter, token by token.
        serde_json::to_writer(&mut *text, &value).expect("a value is JSON");
        let stored = Bytes::copy_from_slice(text);
        if text.capacity() > KEPT {
            *text = Vec::new();
        }
        stored
    })
}
