//! Changing objects: read, propose, admit, validate, compare-and-swap, and again when somebody else was faster.

use std::sync::Arc;

use serde_json::Value;
use skep_api::apply::Conversions;
use skep_api::registry::Resource;
use skep_api::status::Status;
use skep_api::strategy::Narrow;
use skep_api::{decode, defaults, object, strategy, validation};
use skep_store::{Expected, Revision, StoreError};

use super::{Attempts, Current, Scope, Storage, metadata};
use crate::admission::{Attributes, Held, Operation};
use crate::cache::Object;
use crate::conversion::Converter;
use crate::failure;
use crate::scale::Places;

/// Which rules a change follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The object without its status.
    Whole,
    /// The status alone.
    Status,
    /// A few fields that have a subresource of their own.
    Narrow(Narrow),
    /// The number of replicas, which admission sees as a `Scale`.
    Scale,
    /// The finalizers of a namespace.
    Finalize,
    /// Fields that only this server changes, by operations of their own (binding), about which admission has been asked.
    Own,
}

/// Makes the new object out of the current one.
pub(crate) type Proposal<'a> = &'a (dyn Fn(&Value) -> Result<Value, Status> + Send + Sync);

impl Storage {
    /// Changes an object.
    ///
    /// # Errors
    ///
    /// 404 when it is not there, 409 when the proposal was made for another version, 504 when others were faster until the
    /// time was over, and what proposal, admission and
    /// validation say.
    pub(crate) async fn update(
        &self,
        scope: &Scope<'_>,
        name: &str,
        part: Part,
        propose: Proposal<'_>,
    ) -> Result<Arc<Object>, Status> {
        self.update_converted(scope, name, part, propose, None).await
    }

    /// The same, where the proposal goes by what it finds in `conversions`.
    pub(crate) async fn update_converted(
        &self,
        scope: &Scope<'_>,
        name: &str,
        part: Part,
        propose: Proposal<'_>,
        conversions: Option<&Conversions>,
    ) -> Result<Arc<Object>, Status> {
        let mut current = self.current(scope, name).await?;
        let mut attempts = Attempts::of(scope);
        loop {
            attempts.another(scope, name)?;
            match self.attempt(scope, name, part, &current, propose, conversions).await? {
                Ok(object) => return Ok(object),
                Err(StoreError::Conflict { current: found, .. }) => {
                    current = self.instead(scope, name, found).await?
                }
                Err(error) => return Err(failure::store(error)),
            }
        }
    }

    async fn attempt(
        &self,
        scope: &Scope<'_>,
        name: &str,
        part: Part,
        current: &Current,
        propose: Proposal<'_>,
        conversions: Option<&Conversions>,
    ) -> Result<Result<Arc<Object>, StoreError>, Status> {
        let old = &current.value;
        let mut object = match conversions {
            None => propose(old)?,
            Some(known) => self.converter.settle(scope.resource, known, || propose(old)).await??,
        };
        complete(scope.resource, part, &mut object, old);
        metadata::place(scope, Some(name), &mut object)?;
        metadata::keep(scope, name, &mut object, old)?;
        let mut held = Held::default();
        match part {
            Part::Own => metadata::carry(&mut object, old, "managedFields"),
            Part::Finalize => self.follow_finalize(scope, name, &mut object, old).await?,
            _ => held = self.follow_rules(scope, name, part, &mut object, old).await?,
        }
        let reservation = match part {
            Part::Whole | Part::Scale => self.allocate(scope, &mut object, Some(old)).await?,
            _ => crate::allocation::Reservation::default(),
        };
        if is_done(scope, &object) {
            return self.finish(scope, name, current, object).await;
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
        self.settle(scope, name, reservation, &written).await;
        let written = written?;
        if written.is_ok() {
            held.landed();
        }
        if let (Ok(new), false) = (&written, scope.dry_run)
            && self.services.concern(scope.resource)
        {
            // Only then: what was written is parsed for it.
            self.release(scope.resource, old, Some(&new.value())).await;
        }
        Ok(written)
    }

    async fn follow_rules(
        &self,
        scope: &Scope<'_>,
        name: &str,
        part: Part,
        object: &mut Value,
        old: &Value,
    ) -> Result<Held, Status> {
        let resource = scope.resource;
        self.own(scope, old, object).await;
        let old_scale = (part == Part::Scale).then(|| Places::of(resource).scale(resource, old));
        let shown_old = old_scale.as_ref().unwrap_or(old);
        let attributes =
            Attributes::new(Operation::Update, scope, name, Some(shown_old), update_options(scope));
        self.admit(&attributes, part, object).await?;
        scope.dedup_owners(object);
        metadata::stay(scope, name, object, old)?;
        match part {
            Part::Status => strategy::prepare_status(resource, object, old, &self.ids.now_text()),
            Part::Narrow(narrow) => {
                strategy::prepare_narrow(narrow, resource, object, old, &self.ids.now_text());
            }
            _ => strategy::prepare_update(resource, object, old),
        }
        let errors = self.checked(resource, || match part {
            Part::Status => validation::status_update(resource, object, old),
            Part::Narrow(narrow) => validation::narrow_update(narrow, resource, object, old),
            _ => validation::update(resource, object, old),
        });
        if !errors.is_empty() {
            return Err(Status::invalid(resource, name, errors));
        }
        if part == Part::Whole {
            scope.warn(object, Some(old));
        }
        let scale = (part == Part::Scale).then(|| Places::of(resource).scale(resource, object));
        self.admission.validate(&attributes, Some(scale.as_ref().unwrap_or(object))).await?;
        Ok(attributes.into_held())
    }

    /// Records who owns what from now on. When the webhook that knows the versions of others fails, their entries stay as
    /// they are, as upstream has it.
    async fn own(&self, scope: &Scope<'_>, old: &Value, object: &mut Value) {
        let (now, conversions) = (self.ids.now_text(), Conversions::default());
        if !Converter::concerns(scope.resource) {
            return scope.own(&now, &conversions, old, object);
        }
        let proposed = object.clone();
        let owned = || {
            let mut owned = proposed.clone();
            scope.own(&now, &conversions, old, &mut owned);
            owned
        };
        match self.converter.settle(scope.resource, &conversions, owned).await {
            Ok(owned) => *object = owned,
            Err(status) => {
                tracing::warn!(why = status.message, "owners of fields in other versions stay as they were");
                metadata::carry(object, old, "managedFields");
            }
        }
    }

    /// The first phase of admission, for the form of the object that is written.
    async fn admit(&self, attributes: &Attributes<'_>, part: Part, object: &mut Value) -> Result<(), Status> {
        if part != Part::Scale {
            return self.admission.admit(attributes, Some(object)).await;
        }
        let resource = attributes.scope.resource;
        let places = Places::of(resource);
        let mut scale = places.scale(resource, object);
        self.admission.admit(attributes, Some(&mut scale)).await?;
        if let Some(replicas) = scale["spec"]["replicas"].as_i64() {
            places.set(object, replicas);
        }
        Ok(())
    }

    async fn follow_finalize(
        &self,
        scope: &Scope<'_>,
        name: &str,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        metadata::carry(object, old, "managedFields");
        let attributes = Attributes::new(Operation::Update, scope, name, Some(old), update_options(scope));
        self.admit(&attributes, Part::Finalize, object).await?;
        let errors = validation::finalize_update(scope.resource, object, old);
        if !errors.is_empty() {
            return Err(Status::invalid(scope.resource, name, errors));
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
    ) -> Result<Result<Arc<Object>, StoreError>, Status> {
        let revision = current.object.revision();
        if !scope.dry_run {
            if let Err(error) = self.remove(scope, current.object.key(), revision).await {
                return Ok(Err(error));
            }
            self.release(scope.resource, &current.value, None).await;
        }
        let as_if = Scope { dry_run: true, ..*scope };
        self.put(&as_if, name, object, Expected::Revision(Revision(revision))).await
    }
}

/// Takes out what is as if it were not there, and fills in what is missing. Of a status nothing else matters: what is as it
/// was has been through this.
fn complete(resource: &Resource, part: Part, object: &mut Value, old: &Value) {
    let unchanged = match part {
        Part::Status if defaults::are_of_parts(resource) => object::take_unchanged(object, old),
        _ => Vec::new(),
    };
    decode::omit_zeros(resource, object);
    if !matches!(part, Part::Own | Part::Finalize) {
        defaults::apply(resource, object);
    }
    object::put_back(object, unchanged);
}

fn update_options(scope: &Scope<'_>) -> Value {
    // Patches, too: what becomes of them is an update.
    scope.options("UpdateOptions")
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
