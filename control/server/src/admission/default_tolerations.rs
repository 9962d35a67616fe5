//! DefaultTolerationSeconds: pods stay five minutes on a node that is not ready or does not answer.

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::status::Status;

use super::{Attributes, ConfigError, Ingredients, Plugin};

const SECONDS: u64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub(super) struct DefaultTolerations;

pub(super) fn make(_: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(DefaultTolerations))
}

/// Whether a toleration answers for `NoExecute` of this taint.
fn covers(toleration: &Value, taint: &str) -> bool {
    let text = |member: &str| toleration[member].as_str().unwrap_or_default();
    let key = text("key");
    (key == taint || key.is_empty()) && matches!(text("effect"), "" | "NoExecute")
}

#[async_trait]
impl Plugin for DefaultTolerations {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.creates_pod()
    }

    async fn admit(&self, _: &Attributes<'_>, pod: Option<&mut Value>) -> Result<(), Status> {
        let Some(pod) = pod.filter(|pod| pod["spec"].is_object()) else { return Ok(()) };
        let tolerations = &mut pod["spec"]["tolerations"];
        let mut all = tolerations.as_array_mut().map(std::mem::take).unwrap_or_default();
        for taint in TAINTS {
            if !all.iter().any(|toleration| covers(toleration, taint)) {
                all.push(json!({
                    "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS,
                }));
            }
        }
        *tolerations = json!(all);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toleration_covers_a_taint_by_key_and_effect() {
        let cases = [
            (json!({ "operator": "Exists" }), true),
            (json!({ "key": TAINTS[0], "operator": "Exists", "effect": "NoExecute" }), true),
            (json!({ "key": TAINTS[0], "operator": "Exists", "effect": "NoSchedule" }), false),
            (json!({ "key": "other", "operator": "Exists" }), false),
        ];
        for (toleration, expected) in cases {
            assert_eq!(covers(&toleration, TAINTS[0]), expected, "{toleration}");
        }
    }
}
