//! NamespaceLifecycle: nothing is created in a namespace that is not there or is going, and the namespaces that the
//! cluster itself lives in stay.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::registry::registry;
use skep_api::status::Status;

use super::{Attributes, ConfigError, Ingredients, Operation, Plugin};
use crate::cache::Cache;
use crate::failure;
use crate::gate::ObjectReader;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) struct NamespaceLifecycle {
    cache: Arc<Cache>,
}

pub(super) fn make(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(NamespaceLifecycle { cache: from.cache.clone() }))
}

impl NamespaceLifecycle {
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
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.operation {
            Operation::Delete => attributes.concerns("", "namespaces"),
            Operation::Create | Operation::Update => attributes.scope.resource.namespaced,
            Operation::Connect => false,
        }
    }

    async fn admit(&self, attributes: &Attributes<'_>, _: Option<&mut Value>) -> Result<(), Status> {
        if attributes.deletes() {
            let stays = attributes.subresource().is_empty() && IMMORTAL.contains(&attributes.name);
            return if stays { Err(attributes.forbid("this namespace may not be deleted")) } else { Ok(()) };
        }
        // What the answer says about the namespace would be more than the asker may know.
        if attributes.concerns("authorization.k8s.io", "localsubjectaccessreviews") {
            return Ok(());
        }
        let namespace = attributes.namespace();
        let namespaces = registry().find("", "v1", "namespaces").ok_or_else(Status::no_such_path)?;
        let found = self.find(namespace).await?.ok_or_else(|| Status::not_found(namespaces, namespace))?;
        let going =
            found["metadata"]["deletionTimestamp"].is_string() || found["status"]["phase"] == "Terminating";
        if !attributes.creates() || !going {
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
}
