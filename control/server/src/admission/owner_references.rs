//! OwnerReferencesPermissionEnforcement: who names the owner of an object lets it be deleted, so must be allowed to delete
//! it; who keeps the owner from going must be allowed to finalize the owner.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use skep_api::object::{flag, items, text};
use skep_api::status::Status;

use super::{Attributes, ConfigError, Ingredients, Plugin};
use crate::authz::Authz;
use crate::gate::Authorizer;
use crate::request::RequestInfo;

struct OwnerReferences {
    authorizer: Arc<Authz>,
}

pub(super) fn make(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(OwnerReferences { authorizer: from.authorizer.clone() }))
}

#[async_trait]
impl Plugin for OwnerReferences {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        // The status of a pod never takes owners, whatever old kubelets send.
        (attributes.creates() || attributes.updates()) && !attributes.is_part("", "pods", "status")
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        let (new, old) = (owners(object), attributes.old.map(owners).unwrap_or_default());
        if new == old {
            return Ok(());
        }
        // Who creates an object could as well not have created it.
        if !attributes.creates() {
            self.may_delete(attributes).await?;
        }
        let blocking: Vec<&Value> = new.iter().filter(|one| blocks_anew(one, old)).collect();
        if blocking.is_empty() || self.may(attributes, &finalizers("*", "*", "*", "*", "")).await.is_ok() {
            return Ok(());
        }
        for owner in blocking {
            self.may_finalize(attributes, owner).await?;
        }
        Ok(())
    }
}

impl OwnerReferences {
    async fn may(&self, attributes: &Attributes<'_>, request: &RequestInfo) -> Result<(), String> {
        let decision = self.authorizer.authorize(attributes.user(), request).await;
        match decision.is_allowed() {
            true => Ok(()),
            false if decision.error.is_empty() => Err(format!("{}, <nil>", decision.reason)),
            false => Err(format!("{}, {}", decision.reason, decision.error)),
        }
    }

    async fn may_delete(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let resource = attributes.scope.resource;
        let request = RequestInfo {
            is_resource: true,
            verb: "delete".to_owned(),
            group: resource.group.clone(),
            version: resource.version.clone(),
            namespace: attributes.namespace().to_owned(),
            resource: resource.plural.clone(),
            subresource: attributes.subresource().to_owned(),
            name: attributes.name.to_owned(),
            ..RequestInfo::default()
        };
        let allowed = self.may(attributes, &request).await;
        allowed.map_err(|why| {
            attributes.forbid(&format!("cannot set an ownerRef on a resource you can't delete: {why}"))
        })
    }

    async fn may_finalize(&self, attributes: &Attributes<'_>, owner: &Value) -> Result<(), Status> {
        let (api_version, kind) = (text(owner, &["apiVersion"]), text(owner, &["kind"]));
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let resource = attributes.scope.kinds.find_kind(group, version, kind).ok_or_else(|| {
            attributes.forbid(&format!(
                "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {api_version} \
                 Kind {kind}: no matches for kind {kind:?} in version {api_version:?}"
            ))
        })?;
        let namespace = if resource.namespaced { attributes.namespace() } else { "" };
        let request = finalizers(group, version, &resource.plural, text(owner, &["name"]), namespace);
        let allowed = self.may(attributes, &request).await;
        allowed.map_err(|why| {
            attributes.forbid(&format!(
                "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: {why}"
            ))
        })
    }
}

fn owners(object: &Value) -> &[Value] {
    items(object, &["metadata", "ownerReferences"])
}

/// Whether an owner may not go before this object, and could before.
fn blocks_anew(owner: &Value, old: &[Value]) -> bool {
    let blocks = |one: &Value| flag(one, &["blockOwnerDeletion"]);
    let same = |one: &&Value| text(one, &["uid"]) == text(owner, &["uid"]);
    blocks(owner) && !old.iter().find(same).is_some_and(blocks)
}

/// The right to finalize.
fn finalizers(group: &str, version: &str, plural: &str, name: &str, namespace: &str) -> RequestInfo {
    RequestInfo {
        is_resource: true,
        verb: "update".to_owned(),
        group: group.to_owned(),
        version: version.to_owned(),
        namespace: namespace.to_owned(),
        resource: plural.to_owned(),
        subresource: "finalizers".to_owned(),
        name: name.to_owned(),
        ..RequestInfo::default()
    }
}
