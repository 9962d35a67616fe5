//! PodResizeValidator: a pod grows only as far as its node could ever give.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::object::{at, name, text};
use skep_api::quantity::Quantity;
use skep_api::resources::{self, Side};
use skep_api::status::Status;

use super::{Attributes, ConfigError, Ingredients, Plugin};
use crate::cache::Cache;
use crate::gate::ObjectReader;

struct PodResize {
    cache: Arc<Cache>,
}

pub(super) fn make(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(PodResize { cache: from.cache.clone() }))
}

#[async_trait]
impl Plugin for PodResize {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.updates() && attributes.is_part("", "pods", "resize")
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let (Some(new), Some(old)) = (object, attributes.old) else { return Ok(()) };
        let node = text(new, &["spec", "nodeName"]);
        if node.is_empty() || at(new, &["metadata", "generation"]) == at(old, &["metadata", "generation"]) {
            return Ok(());
        }
        let found = self.cache.get("", "nodes", "", node);
        let found = found.ok_or_else(|| attributes.forbid(&format!("node {node:?} not found")))?;
        let Some((why, reason)) = refusal(new, &found) else { return Ok(()) };
        let mut status = attributes.forbid(&why);
        status.details.get_or_insert_with(|| json!({}))["causes"] = json!([{ "reason": reason }]);
        Err(status)
    }
}

/// Why the node cannot give what the pod asks for, and the reason as machines read it.
fn refusal(pod: &Value, node: &Value) -> Option<(String, &'static str)> {
    let os = text(node, &["metadata", "labels", "kubernetes.io/os"]);
    if !matches!(os, "" | "linux") {
        let why = format!("pod resize is only supported on linux nodes, node {:?} is {os:?}", name(node));
        return Some((why, "UnsupportedPlatform"));
    }
    let requests = resources::of_pod_with_overhead(pod, Side::Requests);
    let allocatable = resources::read(&node["status"]["allocatable"]);
    let mut missing = Vec::new();
    for resource in ["cpu", "memory"] {
        let of = |list: &resources::Amounts| list.get(resource).copied().unwrap_or(Quantity::of(0));
        let (asked, there) = (of(&requests), of(&allocatable));
        if asked > there {
            let number = |amount: Quantity| if resource == "cpu" { amount.milli() } else { amount.units() };
            let (asked, there) = (number(asked), number(there));
            missing.push(format!("{resource}, requested: {asked}, allocatable: {there}"));
        }
    }
    (!missing.is_empty()).then(|| {
        let why = format!("node didn't have enough allocatable resources: {}", missing.join("; "));
        (why, "NodeCapacity")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_larger_than_its_node_is_refused() {
        let node = json!({ "metadata": { "name": "n" }, "status": { "allocatable": { "cpu": "2", "memory": "1Gi" } } });
        let pod = |cpu: &str| json!({ "spec": { "containers": [{ "resources": { "requests": { "cpu": cpu, "memory": "1Gi" } } }] } });
        assert_eq!(refusal(&pod("2"), &node), None);
        assert_eq!(
            refusal(&pod("2500m"), &node).unwrap().0,
            "node didn't have enough allocatable resources: cpu, requested: 2500, allocatable: 2000"
        );
        let mut windows = node;
        windows["metadata"]["labels"] = json!({ "kubernetes.io/os": "windows" });
        assert_eq!(refusal(&pod("1"), &windows).unwrap().1, "UnsupportedPlatform");
    }
}
