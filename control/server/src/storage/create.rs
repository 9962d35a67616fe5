//! Creating objects.

use std::sync::Arc;

use serde_json::{Value, json};
use skep_api::apply::Conversions;
use skep_api::registry::Resource;
use skep_api::status::Status;
use skep_api::{decode, defaults, strategy, validation};
use skep_store::{Expected, StoreError};

use super::{Scope, Storage, metadata};
use crate::admission::{Attributes, Operation};
use crate::allocation::Reservation;
use crate::cache::Object;
use crate::failure;
use crate::user::UserInfo;

/// So many names are tried for an object with `generateName`.
const NAMES: usize = 8;
/// The longest start of a generated name; longer ones are cut.
const LONGEST_START: usize = 58;

impl Storage {
    /// Creates an object, given in the version of the request with the types of its schema.
    ///
    /// # Errors
    ///
    /// 400 when it is not where the path says, 403 or whatever admission says, 422 when it is not valid, 409 when there is
    /// one of that name.
    pub(crate) async fn create(&self, scope: &Scope<'_>, mut object: Value) -> Result<Arc<Object>, Status> {
        metadata::place(scope, None, &mut object)?;
        let start = match metadata::text(&object, "name") {
            "" => metadata::text(&object, "generateName").to_owned(),
            _ => String::new(),
        };
        if start.is_empty() {
            return self.create_named(scope, object).await;
        }
        let cut: String = start.chars().take(LONGEST_START).collect();
        for _ in 1..NAMES {
            let mut named = object.clone();
            metadata::set(&mut named, "name", format!("{cut}{}", self.ids.suffix()));
            match self.create_named(scope, named).await {
                Err(status) if status.reason == "AlreadyExists" => {}
                other => return other,
            }
        }
        metadata::set(&mut object, "name", format!("{cut}{}", self.ids.suffix()));
        self.create_named(scope, object).await
    }

    async fn create_named(&self, scope: &Scope<'_>, mut object: Value) -> Result<Arc<Object>, Status> {
        let resource = scope.resource;
        let versioned = !matches!(metadata::text(&object, "resourceVersion"), "" | "0");
        decode::omit_zeros(resource, &mut object);
        metadata::begin(&mut object);
        let name = metadata::text(&object, "name").to_owned();
        defaults::apply(resource, &mut object);
        // A new object has no owners who could have written in other versions.
        let (now, before) = (self.ids.now_text(), decode::nothing_set(resource));
        scope.own(&now, &Conversions::default(), &before, &mut object);
        let attributes =
            Attributes::new(Operation::Create, scope, &name, None, scope.options("CreateOptions"));
        self.admission.admit(&attributes, Some(&mut object)).await?;
        scope.dedup_owners(&mut object);
        // Admission may have named it otherwise, and must not have moved it.
        metadata::place(scope, None, &mut object)?;
        if metadata::text(&object, "name").is_empty() && strategy::is_named_by_server(resource) {
            metadata::set(&mut object, "name", self.ids.uid());
        }
        let name = metadata::text(&object, "name").to_owned();
        metadata::identify(&mut object, &self.ids);
        // What a service is given is a part of what is judged.
        let reservation = self.allocate_first(scope, &name, &mut object).await?;
        strategy::prepare_create(resource, &mut object);
        if resource.kind == "CertificateSigningRequest" && resource.group == "certificates.k8s.io" {
            sign_with_user(&mut object, scope.user);
        }
        if let Err(refused) = self.judge(&attributes, &name, &object, versioned).await {
            self.settle::<()>(scope, &name, reservation, &Err(refused.clone())).await;
            return Err(refused);
        }
        let mut held = attributes.into_held();
        let written = self.put(scope, &name, object, Expected::Absent).await;
        self.settle(scope, &name, reservation, &written).await;
        let written = written?;
        if written.is_ok() {
            held.landed();
        }
        match written {
            Ok(written) => Ok(written),
            Err(StoreError::Conflict { .. }) => {
                let there = self.cached(scope, &name).map(|there| there.value().clone());
                Err(exists(resource, &name, &there.unwrap_or_default()))
            }
            Err(error) => Err(failure::store(error)),
        }
    }
}

impl Storage {
    /// What validation and the second phase of admission say of an object that is about to be created.
    async fn judge(
        &self,
        attributes: &Attributes<'_>,
        name: &str,
        object: &Value,
        versioned: bool,
    ) -> Result<(), Status> {
        let (scope, resource) = (attributes.scope, attributes.scope.resource);
        let errors = self.checked(resource, || validation::create(resource, object));
        if !errors.is_empty() {
            return Err(Status::invalid(resource, name, errors));
        }
        self.admission.validate(attributes, Some(object)).await?;
        scope.warn(object, None);
        if versioned && !scope.dry_run {
            // Last of all, as upstream, where the store says so: what admission has against the object comes first.
            return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
        }
        if scope.dry_run
            && let Ok(there) = self.get(scope, name).await
        {
            return Err(exists(resource, name, &there.value()));
        }
        Ok(())
    }

    /// Gives a new service its addresses and ports; does nothing for other kinds.
    async fn allocate_first(
        &self,
        scope: &Scope<'_>,
        name: &str,
        object: &mut Value,
    ) -> Result<Reservation, Status> {
        if !self.services.concern(scope.resource) {
            return Ok(Reservation::default());
        }
        let errors = validation::service_addresses(object);
        if !errors.is_empty() {
            return Err(Status::invalid(scope.resource, name, errors));
        }
        // What others were given must be known before something is chosen.
        self.cache.catch_up().await.map_err(failure::read)?;
        self.allocate(scope, object, None).await
    }
}

/// 409: an object of that name is there, perhaps not for long.
fn exists(resource: &Resource, name: &str, there: &Value) -> Status {
    let mut status = Status::already_exists(resource, name);
    if metadata::is_deleting(there) {
        status.message = format!("object is being deleted: {}", status.message);
    }
    status
}

/// Who asks for a certificate is who creates the request, whatever it says itself.
fn sign_with_user(object: &mut Value, user: &UserInfo) {
    let Some(spec) = object["spec"].as_object_mut() else { return };
    for member in ["username", "uid", "groups", "extra"] {
        spec.remove(member);
    }
    spec.insert("username".into(), user.name.clone().into());
    if !user.uid.is_empty() {
        spec.insert("uid".into(), user.uid.clone().into());
    }
    if !user.groups.is_empty() {
        spec.insert("groups".into(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        spec.insert("extra".into(), json!(user.extra));
    }
}
