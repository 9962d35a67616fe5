//! DefaultTolerationSeconds: pods stay a while, five minutes unless told otherwise, on a node that is not ready or does not answer.

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::status::Status;

use super::{Attributes, ConfigError, Ingredients, Plugin};

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

struct DefaultTolerations {
    /// For each of the taints.
    seconds: [i64; 2],
}

pub(super) fn make(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(DefaultTolerations { seconds: from.toleration_seconds }))
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
        (attributes.creates() || attributes.updates()) && attributes.is("", "pods")
    }

    async fn admit(&self, _: &Attributes<'_>, pod: Option<&mut Value>) -> Result<(), Status> {
        let Some(pod) = pod.filter(|pod| pod["spec"].is_object()) else { return Ok(()) };
        let tolerations = &mut pod["spec"]["tolerations"];
        let mut all = tolerations.as_array_mut().map(std::mem::take).unwrap_or_default();
        for (taint, seconds) in TAINTS.into_iter().zip(self.seconds) {
            if !all.iter().any(|toleration| covers(toleration, taint)) {
                all.push(json!({
                    "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds,
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
