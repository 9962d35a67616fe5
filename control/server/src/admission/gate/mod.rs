//! What a write may say only if its author has the rights that it hands out or makes use of. Not a plug-in that could be
//! switched off: upstream asks this where it validates objects.
//!
//! - Nobody hands out rights that they do not hold (the escalation and bind checks of RBAC).
//! - Nobody reads by a policy what they could not read themselves ([`parameters`]).
//! - Nobody takes devices from others, or speaks for another's driver ([`claims`]).
//! - Names of webhooks and policies in files are not for objects of the API.

mod claims;
mod parameters;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use skep_api::admissionregistration::is_exempt;
use skep_api::status::Status;
use skep_api::validation::FieldError;

use super::manifests::SUFFIX;
use super::{Attributes, Ingredients, Operation, Plugin};
use crate::authz::Authz;
use crate::cache::Cache;
use crate::request::RequestInfo;

pub(super) struct Gate {
    authorizer: Arc<Authz>,
    cache: Arc<Cache>,
    /// Whether there may be webhooks and policies in files.
    manifests: bool,
}

impl Gate {
    pub(super) fn new(from: &Ingredients) -> Self {
        let manifests = from.manifests.enabled;
        Self { authorizer: from.authorizer.clone(), cache: from.cache.clone(), manifests }
    }

    /// Whether an object has a name that is kept for those in files. It had it before, or the feature is off: that is told
    /// its author, and no more.
    fn reserved(&self, attributes: &Attributes<'_>, object: &Value) -> Option<FieldError> {
        let named = skep_api::object::name(object);
        if !is_exempt(attributes.scope.resource) || !named.ends_with(SUFFIX) {
            return None;
        }
        let why = format!(
            "names ending with {SUFFIX:?} are reserved for static manifest-based configurations and cannot be managed via \
             the API"
        );
        if self.manifests && attributes.creates() {
            return Some(FieldError::invalid("metadata.name", named, why));
        }
        attributes.notes.warn(format!("metadata.name: {why}"));
        None
    }
}

#[async_trait]
impl Plugin for Gate {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.creates() || attributes.updates()
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        let (user, request) = (attributes.user(), request(attributes));
        self.authorizer.check_escalation(user, &request, object, attributes.old).await?;
        let mut errors = claims::check(&*self.authorizer, &self.cache, attributes, object).await?;
        errors.extend(self.reserved(attributes, object));
        errors.extend(parameters::check(&*self.authorizer, &self.cache, attributes, object).await?);
        match errors.is_empty() {
            true => Ok(()),
            false => Err(Status::invalid(attributes.scope.resource, skep_api::object::name(object), errors)),
        }
    }
}

/// The write as its author asked for it, but for patches, which are updates.
fn request(attributes: &Attributes<'_>) -> RequestInfo {
    let scope = attributes.scope;
    let verb = match attributes.operation {
        Operation::Create => "create",
        Operation::Update => "update",
        Operation::Delete => "delete",
        Operation::Connect => "connect",
    };
    RequestInfo {
        is_resource: true,
        verb: verb.to_owned(),
        group: scope.resource.group.clone(),
        version: scope.resource.version.clone(),
        namespace: scope.namespace.to_owned(),
        resource: scope.resource.plural.clone(),
        subresource: scope.subresource.to_owned(),
        name: attributes.name.to_owned(),
        ..RequestInfo::default()
    }
}
