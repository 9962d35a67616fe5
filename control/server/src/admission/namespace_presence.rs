//! NamespaceExists and NamespaceAutoProvision, which run only on demand: a namespace that is not there is told, also to who
//! deletes in it, or is made.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::registry::registry;
use skep_api::status::Status;

use super::{Attributes, ConfigError, Ingredients, Operation, Plugin};
use crate::cache::Cache;
use crate::failure;
use crate::gate::ObjectReader;
use crate::pki::MASTERS;
use crate::storage::{Ownership, Scope, Storage};
use crate::user::UserInfo;

fn is_there(cache: &Cache, name: &str) -> bool {
    cache.get("", "namespaces", "", name).is_some()
}

struct Exists {
    cache: Arc<Cache>,
}

pub(super) fn make_exists(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(Exists { cache: from.cache.clone() }))
}

#[async_trait]
impl Plugin for Exists {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation != Operation::Connect && attributes.scope.resource.namespaced
    }

    async fn validate(&self, attributes: &Attributes<'_>, _: Option<&Value>) -> Result<(), Status> {
        let name = attributes.namespace();
        if is_there(&self.cache, name) {
            return Ok(());
        }
        // It may only be too new for the cache.
        self.cache.catch_up().await.map_err(failure::read)?;
        let namespaces = registry().find("", "v1", "namespaces").ok_or_else(Status::no_such_path)?;
        if is_there(&self.cache, name) { Ok(()) } else { Err(Status::not_found(namespaces, name)) }
    }
}

struct Provision {
    /// Writes without admission.
    storage: Storage,
    user: UserInfo,
}

pub(super) fn make_provision(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    let user = UserInfo::new("system:apiserver", &[MASTERS]);
    Ok(Box::new(Provision { storage: from.storage.clone(), user }))
}

#[async_trait]
impl Plugin for Provision {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.creates() && !attributes.is_dry_run() && attributes.scope.resource.namespaced
    }

    async fn admit(&self, attributes: &Attributes<'_>, _: Option<&mut Value>) -> Result<(), Status> {
        let name = attributes.namespace();
        if is_there(&self.storage.cache, name) {
            return Ok(());
        }
        let resource = registry().find("", "v1", "namespaces").ok_or_else(Status::no_such_path)?;
        let scope = Scope {
            resource,
            kinds: attributes.scope.kinds,
            namespace: "",
            subresource: "",
            user: &self.user,
            dry_run: false,
            ownership: Ownership::Changed("kube-apiserver"),
            asked: None,
            admitted: true,
        };
        let namespace = json!({ "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": name } });
        match self.storage.create(&scope, namespace).await {
            Err(status) if status.reason != "AlreadyExists" => Err(attributes.forbid(&status.message)),
            _ => Ok(()),
        }
    }
}
