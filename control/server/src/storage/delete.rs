//! Deleting objects: preconditions, grace, finalizers, and what becomes of dependents.
//!
//! An object goes through: there -> (deletion asked for: `deletionTimestamp` set, while grace or finalizers remain) -> gone.
//! Pods wait for their node, namespaces for their controller, anything with finalizers for who set them.

use std::sync::Arc;

use serde_json::{Value, json};
use skep_api::definition::{self, FINALIZER};
use skep_api::registry::Resource;
use skep_api::status::Status;
use skep_api::strategy;
use skep_store::{Expected, Revision, StoreError};

use super::update::{is_namespace, namespace_is_empty};
use super::{Attempts, Current, DeleteOptions, Scope, Storage, metadata};
use crate::admission::{Attributes, Operation};
use crate::cache::Object;
use crate::failure;

/// What a deletion came to.
pub(crate) enum Deleted {
    /// The object is gone; this was its last state.
    Gone(Arc<Object>),
    /// It is on its way.
    Going(Arc<Object>),
}

/// Whether the resource is that of definitions, which wait for the objects that they define.
fn is_definition(resource: &Resource) -> bool {
    resource.group == definition::GROUP && resource.plural == definition::PLURAL
}

/// What is to be done with an object.
enum Step {
    /// Nothing, it is on its way.
    Wait,
    /// It changes to this and waits.
    Mark(Value),
    /// It goes.
    Remove,
}

impl Storage {
    /// Deletes an object, or begins to.
    ///
    /// # Errors
    ///
    /// 404 when it is not there, 409 when a precondition does not hold, and what admission says.
    pub(crate) async fn delete(
        &self,
        scope: &Scope<'_>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        let scope = &Scope { dry_run: scope.dry_run || options.dry_run, ..*scope };
        let mut current = self.current(scope, name).await?;
        let mut attempts = Attempts::of(scope);
        loop {
            attempts.another(scope, name)?;
            let old = &current.value;
            options.check(scope.resource, name, old)?;
            let attributes = Attributes::new(Operation::Delete, scope, name, Some(old), options.to_value());
            self.admission.pass(&attributes, None).await?;
            let done = match self.step(scope.resource, options, old) {
                Step::Wait => return Ok(Deleted::Going(current.object)),
                Step::Mark(object) => {
                    let expected = Expected::Revision(Revision(current.object.revision()));
                    self.put(scope, name, object, expected).await?.map(Deleted::Going)
                }
                Step::Remove if scope.dry_run => Ok(Deleted::Gone(self.last(scope.resource, &current))),
                Step::Remove => self.take(scope, &current).await,
            };
            match done {
                Ok(deleted) => return Ok(deleted),
                Err(StoreError::Conflict { current: found, .. }) => {
                    current = self.instead(scope, name, found).await?
                }
                Err(error) => return Err(failure::store(error)),
            }
        }
    }

    async fn take(&self, scope: &Scope<'_>, current: &Current) -> Result<Deleted, StoreError> {
        self.remove(scope, current.object.key(), current.object.revision()).await?;
        self.release(scope.resource, &current.value, None).await;
        Ok(Deleted::Gone(self.last(scope.resource, current)))
    }

    /// The last state of an object, as whoever deleted it is told: of one that could have had time, that it has none left.
    fn last(&self, resource: &Resource, current: &Current) -> Arc<Object> {
        let is_done = metadata::is_deleting(&current.value) && metadata::grace(&current.value) == Some(0);
        if !strategy::is_graceful(resource) || is_done {
            return current.object.clone();
        }
        let mut value = Value::clone(&current.value);
        metadata::remove(&mut value, "resourceVersion");
        metadata::set(&mut value, "deletionTimestamp", self.ids.text_after(0));
        metadata::set(&mut value, "deletionGracePeriodSeconds", 0);
        match value["metadata"]["generation"].as_i64() {
            Some(generation @ 1..) if !metadata::is_deleting(&current.value) => {
                metadata::set(&mut value, "generation", generation + 1);
            }
            _ => {}
        }
        let (key, bytes) = (current.object.key().clone(), value.to_string());
        let last = Object::from_stored(key, bytes.as_bytes(), current.object.revision());
        last.map_or_else(|| current.object.clone(), Arc::new)
    }

    /// What comes next for this object: pure but for the clock.
    fn step(&self, resource: &Resource, options: &DeleteOptions, old: &Value) -> Step {
        let mut object = old.clone();
        let grace = strategy::deletion_grace(resource, old, options.grace).max(0);
        if metadata::is_deleting(old) {
            return self.again(resource, options, object, grace);
        }
        if let Some(finalizers) = options.finalizers(resource, old) {
            metadata::set(&mut object, "finalizers", finalizers);
        }
        if is_definition(resource) && !metadata::finalizers(&object).contains(&FINALIZER) {
            let mut finalizers: Vec<_> =
                metadata::finalizers(&object).into_iter().map(str::to_owned).collect();
            finalizers.push(FINALIZER.to_owned());
            metadata::set(&mut object, "finalizers", finalizers);
        }
        let waits = !metadata::finalizers(&object).is_empty();
        let namespace = is_namespace(resource);
        if grace == 0 && !waits && (!namespace || namespace_is_empty(old)) {
            return Step::Remove;
        }
        metadata::set(&mut object, "deletionTimestamp", self.ids.text_after(grace));
        metadata::set(&mut object, "deletionGracePeriodSeconds", grace);
        if let Some(generation) =
            object["metadata"]["generation"].as_i64().filter(|generation| *generation > 0)
        {
            metadata::set(&mut object, "generation", generation + 1);
        }
        if namespace {
            metadata::remove(&mut object, "deletionGracePeriodSeconds");
            object["status"]["phase"] = json!("Terminating");
        }
        Step::Mark(object)
    }

    /// The next step for an object whose deletion was asked for before. Grace can only get shorter.
    fn again(&self, resource: &Resource, options: &DeleteOptions, mut object: Value, grace: i64) -> Step {
        let pending = metadata::grace(&object).unwrap_or_default();
        let waits = !metadata::finalizers(&object).is_empty();
        if is_namespace(resource) && !namespace_is_empty(&object) {
            return Step::Wait;
        }
        let shorter = options.grace.is_some() && grace < pending;
        match (shorter, pending) {
            (false, 1..) => Step::Wait,
            (true, _) if grace > 0 || waits => {
                metadata::set(&mut object, "deletionTimestamp", self.ids.text_after(grace));
                metadata::set(&mut object, "deletionGracePeriodSeconds", grace);
                Step::Mark(object)
            }
            (false, _) if waits => Step::Wait,
            _ => Step::Remove,
        }
    }
}
