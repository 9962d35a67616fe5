//! Changing objects: read, propose, admit, validate, compare-and-swap, and again when somebody else was faster.

use std::sync::Arc;

use serde_json::Value;
use skep_api::registry::Resource;
use skep_api::status::Status;
use skep_api::strategy::Narrow;
use skep_api::{defaults, strategy, validation};
use skep_store::{Expected, Revision, StoreError};

use super::{ATTEMPTS, Current, Scope, Storage, metadata};
use crate::admission::{Attributes, Operation};
use crate::cache::Object;
use crate::failure;

/// Which rules a change follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The object without its status.
    Whole,
    /// The status alone.
    Status,
    /// A few fields that have a subresource of their own.
    Narrow(Narrow),
    /// Fields that only this server changes, by operations of their own (binding, finalizing).
    Own,
}

/// Makes the new object out of the current one.
pub(crate) type Proposal<'a> = &'a (dyn Fn(&Value) -> Result<Value, Status> + Send + Sync);

impl Storage {
    /// Changes an object.
    ///
    /// # Errors
    ///
    /// 404 when it is not there, 409 when the proposal was made for another version, and what proposal, admission and
    /// validation say.
    pub(crate) async fn update(
        &self,
        scope: &Scope<'_>,
        name: &str,
        part: Part,
        propose: Proposal<'_>,
    ) -> Result<Arc<Object>, Status> {
        let mut current = self.current(scope, name).await?;
        for _ in 0..ATTEMPTS {
            match self.attempt(scope, name, part, &current, propose).await? {
                Ok(object) => return Ok(object),
                Err(StoreError::Conflict { current: found, .. }) => {
                    current = self.instead(scope, name, found)?
                }
                Err(error) => return Err(failure::store(error)),
            }
        }
        Err(Status::modified(scope.resource, name))
    }

    async fn attempt(
        &self,
        scope: &Scope<'_>,
        name: &str,
        part: Part,
        current: &Current,
        propose: Proposal<'_>,
    ) -> Result<Result<Arc<Object>, StoreError>, Status> {
        let old = &current.value;
        let mut object = propose(old)?;
        metadata::place(scope, Some(name), &mut object)?;
        metadata::keep(scope.resource, name, &mut object, old)?;
        match part {
            Part::Own => metadata::carry(&mut object, old, "managedFields"),
            _ => self.follow_rules(scope, name, part, &mut object, old).await?,
        }
        let reservation = match part {
            Part::Whole => self.services.reserve(scope, &mut object, Some(old))?,
            _ => crate::allocation::Reservation::default(),
        };
        if is_done(scope, &object) {
            return Ok(self.finish(scope, name, current, object).await);
        }
        if object == **old {
            // A value under an old key is written again by whoever writes it unchanged.
            match self.is_stale(&current.object).await {
                Ok(true) => {}
                Ok(false) => return Ok(Ok(current.object.clone())),
                Err(error) => return Ok(Err(error)),
            }
        }
        let expected = Expected::Revision(Revision(current.object.revision()));
        let written = self.put(scope, name, object, expected).await;
        drop(reservation);
        Ok(written)
    }

    async fn follow_rules(
        &self,
        scope: &Scope<'_>,
        name: &str,
        part: Part,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        let resource = scope.resource;
        defaults::apply(resource, object);
        scope.own(&self.ids.now_text(), old, object);
        let attributes = Attributes { operation: Operation::Update, scope, name, old: Some(old) };
        self.admission.mutate(&attributes, object).await?;
        match part {
            Part::Status => strategy::prepare_status(resource, object, old),
            Part::Narrow(narrow) => {
                strategy::prepare_narrow(narrow, resource, object, old, &self.ids.now_text());
            }
            _ => strategy::prepare_update(resource, object, old),
        }
        let errors = match part {
            Part::Status => validation::status_update(resource, object, old),
            Part::Narrow(narrow) => validation::narrow_update(narrow, resource, object, old),
            _ => validation::update(resource, object, old),
        };
        if !errors.is_empty() {
            return Err(Status::invalid(resource, name, errors));
        }
        self.admission.validate(&attributes, Some(object)).await
    }

    /// The last change of an object that was only waiting for it: it goes.
    async fn finish(
        &self,
        scope: &Scope<'_>,
        name: &str,
        current: &Current,
        object: Value,
    ) -> Result<Arc<Object>, StoreError> {
        let revision = current.object.revision();
        if !scope.dry_run {
            self.remove(current.object.key(), revision).await?;
        }
        let as_if = Scope { dry_run: true, ..*scope };
        self.put(&as_if, name, object, Expected::Revision(Revision(revision))).await
    }
}

/// Whether an object that is being deleted has nothing left to wait for.
fn is_done(scope: &Scope<'_>, object: &Value) -> bool {
    metadata::is_deleting(object)
        && metadata::finalizers(object).is_empty()
        && metadata::grace(object).unwrap_or_default() == 0
        && (!is_namespace(scope.resource) || namespace_is_empty(object))
}

/// Whether the resource is that of namespaces.
pub(super) fn is_namespace(resource: &Resource) -> bool {
    resource.kind == "Namespace" && resource.group.is_empty()
}

/// Whether nobody is left who has to clear the namespace.
pub(super) fn namespace_is_empty(namespace: &Value) -> bool {
    namespace["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty)
}
