//! The end of a definition: its objects are deleted, and when the last one is gone it may go, too.
//!
//! Objects may have finalizers of their own; they are waited for as long as it takes.

use std::sync::Arc;

use serde_json::Value;
use skep_api::custom;
use skep_api::definition::{self, FINALIZER};
use skep_api::object::{self, items, name, uid};
use skep_api::registry::Resource;
use skep_api::status::Status;

use super::{Definitions, PAUSE, holds};
use crate::failure;
use crate::options::ListOptions;
use crate::query::Query;
use crate::storage::{DeleteOptions, metadata};

impl Definitions {
    /// Deletes the objects of a definition in a task of its own, unless that is being done already.
    pub(super) fn clean_up(self: &Arc<Self>, definition: &Value) {
        if !holds(definition) || !self.cleaning.lock().insert(uid(definition).to_owned()) {
            return;
        }
        let (one, name, uid) = (self.clone(), name(definition).to_owned(), uid(definition).to_owned());
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = one.empty(&name) => {}
            }
            one.cleaning.lock().remove(&uid);
        });
    }

    async fn empty(&self, name: &str) {
        while let Err(status) = self.try_to_empty(name).await {
            tracing::error!(definition = name, error = %status, "cannot delete the objects of a definition");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_to_empty(&self, name: &str) -> Result<(), Status> {
        // One of that name that is not being deleted is another one.
        let of_name = |one: &Value| object::name(one) == name && holds(one) && metadata::is_deleting(one);
        let definition = self.all().into_iter().find(|one| of_name(one));
        let Some(definition) = definition else { return Ok(()) };
        // One that was never established never had objects.
        let established = definition::is_established(&definition);
        if let Some(resource) = custom::stored(&definition).filter(|_| established) {
            let why = ("InstanceDeletionInProgress", "CustomResource deletion is in progress");
            self.tell(name, true, why).await?;
            // Of a definition that serves no version, the cache knows nothing.
            self.storage.cache.add(&resource).await.map_err(failure::store)?;
            // What is being created under the old kinds would survive otherwise.
            self.kinds.all_are_through(name).await;
            self.delete_all(&resource).await?;
            if !self.served.lock().contains_key(name) {
                self.storage.cache.remove(&resource.store_prefix(None));
            }
        }
        let now = self.storage.ids.now_text();
        let propose = |current: &Value| {
            let mut new = current.clone();
            let left: Vec<Value> = items(current, &["metadata", "finalizers"])
                .iter()
                .filter(|one| *one != FINALIZER)
                .cloned()
                .collect();
            metadata::set(&mut new, "finalizers", left);
            let (reason, message) = ("InstanceDeletionCompleted", "removed all instances");
            Ok(definition::with_condition(new, "Terminating", false, reason, message, &now))
        };
        self.write(name, &propose).await
    }

    async fn tell(&self, name: &str, status: bool, (reason, message): (&str, &str)) -> Result<(), Status> {
        let now = self.storage.ids.now_text();
        let propose = |current: &Value| {
            Ok(definition::with_condition(current.clone(), "Terminating", status, reason, message, &now))
        };
        self.write(name, &propose).await
    }

    /// Returns when there are none left.
    async fn delete_all(&self, resource: &Resource) -> Result<(), Status> {
        let cache = &self.storage.cache;
        let Some(collection) = cache.collection(resource) else { return Ok(()) };
        let kinds = self.kinds.current();
        let scope = self.scope(resource, &kinds);
        let list = ListOptions::parse(resource, &Query::default())?;
        let mut changes = collection.signal();
        loop {
            changes.borrow_and_update();
            self.storage.delete_collection(&scope, &DeleteOptions::default(), &list).await?;
            cache.catch_up().await.map_err(failure::read)?;
            if collection.is_empty() {
                return Ok(());
            }
            if changes.changed().await.is_err() {
                return Ok(());
            }
        }
    }
}
