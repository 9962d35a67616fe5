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
use skep_api::validation::FieldError;
use skep_store::{Expected, Revision, StoreError};

use super::update::{is_namespace, namespace_is_empty};
use super::{Attempts, Current, Scope, Storage, metadata};
use crate::admission::{Attributes, Operation};
use crate::cache::Object;
use crate::failure::{self, invalid_options};
use crate::options;
use crate::query::Query;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What becomes of the objects that the deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// `DeleteOptions` of Kubernetes' API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    grace: Option<i64>,
    propagation: Option<Propagation>,
    uid: Option<String>,
    resource_version: Option<String>,
    pub(crate) dry_run: bool,
    /// `orphanDependents: false`, which asks for another status code.
    pub(crate) cascading: bool,
}

/// What a deletion came to.
pub(crate) enum Deleted {
    /// The object is gone; this was its last state.
    Gone(Arc<Object>),
    /// It is on its way.
    Going(Arc<Object>),
}

impl DeleteOptions {
    /// Reads the options from a body, or from the query when there is none.
    pub(crate) fn parse(body: Option<&Value>, query: &Query) -> Result<Self, Status> {
        let empty = json!({});
        let body = body.unwrap_or(&empty);
        if !body.is_object() {
            return Err(Status::bad_request("expected DeleteOptions, got something that is no object"));
        }
        if !body["kind"].is_null() && body["kind"] != "DeleteOptions" {
            return Err(Status::bad_request(format!("expected DeleteOptions, got {}", body["kind"])));
        }
        let grace = number(body, query)?;
        let policy = body["propagationPolicy"].as_str().or_else(|| query.get("propagationPolicy"));
        let orphan = body["orphanDependents"].as_bool().or_else(|| query.optional_flag("orphanDependents"));
        let propagation = propagation(policy, orphan)?;
        let words = body["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let words = words.chain(query.all("dryRun")).filter(|word| !word.is_empty());
        let text = |member: &str| body["preconditions"][member].as_str().map(str::to_owned);
        Ok(Self {
            grace,
            propagation,
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            dry_run: options::dry_run("DeleteOptions", words)?,
            cascading: orphan == Some(false),
        })
    }

    /// The options as an object.
    fn to_value(&self) -> Value {
        let mut value = json!({ "kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1" });
        if let Some(grace) = self.grace {
            value["gracePeriodSeconds"] = grace.into();
        }
        if let Some(propagation) = self.propagation {
            value["propagationPolicy"] = format!("{propagation:?}").into();
        }
        for (member, wanted) in [("uid", &self.uid), ("resourceVersion", &self.resource_version)] {
            if let Some(wanted) = wanted {
                value["preconditions"][member] = wanted.clone().into();
            }
        }
        if self.dry_run {
            value["dryRun"] = json!(["All"]);
        }
        value
    }

    /// Deletes the object only in this state.
    pub(crate) fn only_at(&mut self, revision: u64) {
        self.resource_version = Some(revision.to_string());
    }

    /// Whether any state of the object will do.
    pub(crate) fn is_unconditional(&self) -> bool {
        self.resource_version.is_none() && self.uid.is_none()
    }

    pub(crate) fn check(&self, resource: &Resource, name: &str, object: &Value) -> Result<(), Status> {
        let wanted =
            [("UID", "uid", &self.uid), ("ResourceVersion", "resourceVersion", &self.resource_version)];
        for (title, member, wanted) in wanted {
            let found = metadata::text(object, member);
            if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) {
                let why = format!(
                    "Precondition failed: {title} in precondition: {wanted}, {title} in object meta: {found}"
                );
                return Err(Status::conflict(resource, name, &why));
            }
        }
        Ok(())
    }

    /// The finalizers that the object has from now on, if that changes.
    fn finalizers(&self, resource: &Resource, object: &Value) -> Option<Vec<String>> {
        let found = metadata::finalizers(object);
        let kind = match self.propagation {
            Some(kind) => kind,
            None if found.iter().any(|one| matches!(*one, ORPHAN | FOREGROUND)) => return None,
            None if resource.group.is_empty() && resource.plural == "replicationcontrollers" => {
                Propagation::Orphan
            }
            None => Propagation::Background,
        };
        let wanted = match kind {
            Propagation::Orphan => Some(ORPHAN),
            Propagation::Foreground => Some(FOREGROUND),
            Propagation::Background => None,
        };
        let others = found.iter().copied().filter(|one| !matches!(*one, ORPHAN | FOREGROUND));
        let new: Vec<String> = others.chain(wanted).map(str::to_owned).collect();
        let same = new.len() == found.len() && found.iter().all(|one| new.iter().any(|other| other == one));
        (!same).then_some(new)
    }
}

fn number(body: &Value, query: &Query) -> Result<Option<i64>, Status> {
    let bad = |text: &str| Status::bad_request(format!("gracePeriodSeconds: {text:?} is not a whole number"));
    let grace = match &body["gracePeriodSeconds"] {
        Value::Null => query.number("gracePeriodSeconds").map_err(bad)?,
        value => Some(value.as_i64().ok_or_else(|| bad(&value.to_string()))?),
    };
    match grace {
        // As upstream: a negative period means the shortest.
        Some(grace) if grace < 0 => Ok(Some(1)),
        grace => Ok(grace),
    }
}

fn propagation(policy: Option<&str>, orphan: Option<bool>) -> Result<Option<Propagation>, Status> {
    match (policy, orphan) {
        (Some(policy), Some(_)) => {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            Err(invalid_options("DeleteOptions", FieldError::invalid("propagationPolicy", policy, why)))
        }
        (None, Some(true)) => Ok(Some(Propagation::Orphan)),
        (None, Some(false)) => Ok(Some(Propagation::Background)),
        (None, None) => Ok(None),
        (Some("Orphan"), None) => Ok(Some(Propagation::Orphan)),
        (Some("Background"), None) => Ok(Some(Propagation::Background)),
        (Some("Foreground"), None) => Ok(Some(Propagation::Foreground)),
        (Some(other), None) => {
            let choices = ["Foreground", "Background", "Orphan"];
            let error = FieldError::not_supported("propagationPolicy", other, &choices);
            Err(invalid_options("DeleteOptions", error))
        }
    }
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
                Step::Remove if scope.dry_run => Ok(Deleted::Gone(current.object.clone())),
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
        self.remove(current.object.key(), current.object.revision()).await?;
        self.release(scope.resource, &current.value, None).await;
        Ok(Deleted::Gone(current.object.clone()))
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
