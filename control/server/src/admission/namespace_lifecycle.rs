//! NamespaceLifecycle: nothing is created in a namespace that is not there or is going, and the namespaces that the
//! cluster itself lives in stay.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::registry::registry;
use skep_api::status::Status;

use super::{Attributes, Operation, Plugin};
use crate::cache::Cache;
use crate::failure;
use crate::gate::ObjectReader;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) struct NamespaceLifecycle {
    cache: Arc<Cache>,
}

impl NamespaceLifecycle {
    pub(super) fn new(cache: Arc<Cache>) -> Self {
        Self { cache }
    }

    /// The namespace; one that is not in the cache may only be too new for it.
    async fn find(&self, name: &str) -> Result<Option<Arc<Value>>, Status> {
        if let Some(found) = self.cache.get("", "namespaces", "", name) {
            return Ok(Some(found));
        }
        self.cache.catch_up().await.map_err(failure::read)?;
        Ok(self.cache.get("", "namespaces", "", name))
    }
}

#[async_trait]
impl Plugin for NamespaceLifecycle {
    async fn mutate(&self, attributes: &Attributes<'_>, _: &mut Value) -> Result<(), Status> {
        let namespace = attributes.scope.namespace;
        if attributes.operation != Operation::Create || !attributes.scope.resource.namespaced {
            return Ok(());
        }
        let namespaces = registry().find("", "v1", "namespaces").ok_or_else(Status::no_such_path)?;
        let found = self.find(namespace).await?.ok_or_else(|| Status::not_found(namespaces, namespace))?;
        if !found["metadata"]["deletionTimestamp"].is_string() && found["status"]["phase"] != "Terminating" {
            return Ok(());
        }
        let mut status = attributes.forbid(&format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        ));
        status.details.get_or_insert_with(|| json!({}))["causes"] = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]);
        Err(status)
    }

    async fn validate(&self, attributes: &Attributes<'_>, _: Option<&Value>) -> Result<(), Status> {
        if attributes.operation == Operation::Delete
            && attributes.is("", "namespaces")
            && IMMORTAL.contains(&attributes.name)
        {
            return Err(attributes.forbid("this namespace may not be deleted"));
        }
        Ok(())
    }
}
