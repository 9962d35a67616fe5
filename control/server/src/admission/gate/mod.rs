//! What a write may say only if its author has the rights that it hands out or makes use of. Not a plug-in that could be
//! switched off: upstream asks this where it validates objects.
//!
//! - Nobody hands out rights that they do not hold (the escalation and bind checks of RBAC).
//! - Nobody reads by a policy what they could not read themselves ([`parameters`]).
//! - Nobody takes devices from others, or speaks for another's driver ([`claims`]).

mod claims;
mod parameters;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use skep_api::status::Status;

use super::{Attributes, Ingredients, Operation, Plugin};
use crate::authz::Authz;
use crate::cache::Cache;
use crate::request::RequestInfo;

pub(super) struct Gate {
    authorizer: Arc<Authz>,
    cache: Arc<Cache>,
}

impl Gate {
    pub(super) fn new(from: &Ingredients) -> Self {
        Self { authorizer: from.authorizer.clone(), cache: from.cache.clone() }
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
