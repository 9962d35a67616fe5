//! PodTopologyLabels: a pod that is given to a node bears the labels of that node's place.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::object::{at, text};
use skep_api::status::Status;

use super::{Attributes, ConfigError, Ingredients, Plugin};
use crate::cache::Cache;
use crate::gate::ObjectReader;

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

struct PodTopology {
    cache: Arc<Cache>,
}

pub(super) fn make(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(PodTopology { cache: from.cache.clone() }))
}

#[async_trait]
impl Plugin for PodTopology {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.creates_pod() || (attributes.creates() && attributes.is_part("", "pods", "binding"))
    }

    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Value>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        // A pod names its node itself, a binding has it as its target.
        let node = match attributes.subresource() {
            "binding" if text(object, &["target", "kind"]) != "Node" => "",
            "binding" => text(object, &["target", "name"]),
            _ => text(object, &["spec", "nodeName"]),
        };
        if node.is_empty() {
            return Ok(());
        }
        if let Some(node) = self.cache.get("", "nodes", "", node) {
            copy(&node, object);
        }
        Ok(())
    }
}

fn copy(node: &Value, object: &mut Value) {
    for label in LABELS {
        let Some(value) = at(node, &["metadata", "labels", label]) else { continue };
        let labels = &mut object["metadata"]["labels"];
        if !labels.is_object() {
            *labels = json!({});
        }
        labels[label] = value.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_the_place_are_copied_over_those_there() {
        let node = json!({ "metadata": { "labels": { LABELS[0]: "a", "other": "x" } } });
        let mut binding = json!({ "metadata": { "labels": { LABELS[0]: "b", "own": "y" } } });
        copy(&node, &mut binding);
        assert_eq!(binding["metadata"]["labels"], json!({ LABELS[0]: "a", "own": "y" }));
        let mut bare = json!({ "metadata": {} });
        copy(&json!({ "metadata": {} }), &mut bare);
        assert_eq!(bare, json!({ "metadata": {} }));
    }
}
