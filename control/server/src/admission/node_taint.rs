//! TaintNodesByCondition: a new node takes no pods until it is known to be ready.

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::status::Status;

use super::{Attributes, ConfigError, Ingredients, Plugin};

const KEY: &str = "node.kubernetes.io/not-ready";
const EFFECT: &str = "NoSchedule";

struct NodeTaint;

pub(super) fn make(_: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(NodeTaint))
}

#[async_trait]
impl Plugin for NodeTaint {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.creates() && attributes.is("", "nodes")
    }

    async fn admit(&self, _: &Attributes<'_>, object: Option<&mut Value>) -> Result<(), Status> {
        let Some(node) = object else { return Ok(()) };
        if !node["spec"].is_object() {
            node["spec"] = json!({});
        }
        let taints = &mut node["spec"]["taints"];
        let mut all = taints.as_array_mut().map(std::mem::take).unwrap_or_default();
        if !all.iter().any(|taint| taint["key"] == KEY && taint["effect"] == EFFECT) {
            all.push(json!({ "key": KEY, "effect": EFFECT }));
        }
        *taints = json!(all);
        Ok(())
    }
}
