//! Nobody hands out rights that they do not hold (the escalation and bind checks of RBAC).

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use skep_api::status::Status;

use super::{Attributes, Operation, Plugin};
use crate::authz::Authz;
use crate::request::RequestInfo;

pub(super) struct Gate {
    authorizer: Arc<Authz>,
}

impl Gate {
    pub(super) fn new(authorizer: Arc<Authz>) -> Self {
        Self { authorizer }
    }
}

#[async_trait]
impl Plugin for Gate {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation != Operation::Connect
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let request = request(attributes);
        let user = attributes.scope.user;
        match object {
            Some(object) => self.authorizer.check_escalation(user, &request, object, attributes.old).await,
            None => Ok(()),
        }
    }
}

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
