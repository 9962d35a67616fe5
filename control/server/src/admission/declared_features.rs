//! NodeDeclaredFeatureValidator: a running pod is not changed in a way that its node does not know (KEP-5328).

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use skep_api::object::{at, items, text};
use skep_api::status::Status;

use super::{Attributes, ConfigError, Ingredients, Plugin};
use crate::cache::Cache;
use crate::gate::ObjectReader;

/// Resources of the whole pod can be changed.
const POD_LEVEL: &str = "InPlacePodLevelResourcesVerticalScaling";
/// Resources of init containers that end can be changed.
const INIT_CONTAINERS: &str = "InPlacePodVerticalScalingInitContainers";

struct DeclaredFeatures {
    cache: Arc<Cache>,
}

pub(super) fn make(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(DeclaredFeatures { cache: from.cache.clone() }))
}

#[async_trait]
impl Plugin for DeclaredFeatures {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.updates()
            && matches!(attributes.subresource(), "" | "resize")
            && attributes.concerns("", "pods")
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let (Some(new), Some(old)) = (object, attributes.old) else { return Ok(()) };
        let node = text(new, &["spec", "nodeName"]);
        if node.is_empty() || at(new, &["metadata", "generation"]) == at(old, &["metadata", "generation"]) {
            return Ok(());
        }
        let needed = needed(new, old);
        if needed.is_empty() {
            return Ok(());
        }
        let found = self.cache.get("", "nodes", "", node);
        let found = found.ok_or_else(|| attributes.forbid(&format!("node {node:?} not found")))?;
        let declared = items(&found, &["status", "declaredFeatures"]);
        let missing: Vec<&str> =
            needed.into_iter().filter(|one| !declared.iter().any(|has| has == one)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let why = format!(
            "pod update requires features {} which are not available on node {node:?}",
            missing.join(", ")
        );
        Err(attributes.forbid(&why))
    }
}

/// What a node has to know for such a change.
fn needed(new: &Value, old: &Value) -> Vec<&'static str> {
    let resources = |of: &Value| at(of, &["resources"]).cloned().unwrap_or_default();
    let ends = |container: &Value| text(container, &["restartPolicy"]) != "Always";
    let init = |pod: &Value| items(pod, &["spec", "initContainers"]).to_vec();
    let pairs = init(old).into_iter().zip(init(new));
    let initial = pairs.into_iter().any(|(old, new)| ends(&old) && resources(&old) != resources(&new));
    let whole = resources(&new["spec"]) != resources(&old["spec"]);
    [(whole, POD_LEVEL), (initial, INIT_CONTAINERS)]
        .into_iter()
        .filter_map(|(changes, feature)| changes.then_some(feature))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_changes_that_not_every_node_knows_need_something() {
        let pod = |whole: &str, init: &str, sidecar: &str, main: &str| {
            let of = |cpu: &str| json!({ "requests": { "cpu": cpu } });
            json!({ "spec": {
                "resources": of(whole),
                "initContainers": [
                    { "resources": of(init) }, { "restartPolicy": "Always", "resources": of(sidecar) },
                ],
                "containers": [{ "resources": of(main) }],
            } })
        };
        let old = pod("1", "1", "1", "1");
        assert!(needed(&pod("1", "1", "2", "2"), &old).is_empty());
        assert_eq!(needed(&pod("2", "1", "1", "1"), &old), [POD_LEVEL]);
        assert_eq!(needed(&pod("1", "2", "1", "1"), &old), [INIT_CONTAINERS]);
    }
}
