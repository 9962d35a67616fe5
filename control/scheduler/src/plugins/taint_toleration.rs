//! Taints: a node refuses pods that do not tolerate them, or would rather not have them.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::{Candidate, Plugin, Reason, Scale};
use crate::nodes::{Nodes, Row};
use crate::queue::Event;

/// `spec.taints` of nodes against `spec.tolerations` of pods.
pub(super) struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter(&self, candidate: &Candidate<'_>, nodes: &Nodes, row: Row) -> Result<(), Vec<Reason>> {
        let hard = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
        let taint = nodes.taints(row).iter().filter(hard).find(|taint| !is_tolerated(taint, candidate));
        match taint {
            None => Ok(()),
            Some(taint) => {
                let value = taint.value.as_deref().unwrap_or_default();
                Err(vec![format!("node(s) had untolerated taint {{{}: {value}}}", taint.key).into()])
            }
        }
    }

    fn weight(&self) -> i64 {
        3
    }

    fn scale(&self) -> Scale {
        Scale::LessIsBetter
    }

    /// Soft taints that the pod does not tolerate.
    fn score(&self, candidate: &Candidate<'_>, nodes: &Nodes, row: Row) -> i64 {
        let soft = nodes.taints(row).iter().filter(|taint| taint.effect == "PreferNoSchedule");
        soft.filter(|taint| !is_tolerated(taint, candidate)).count() as i64
    }

    fn helped_by(&self, event: Event) -> bool {
        matches!(event, Event::NodeAdded | Event::NodeTaints)
    }
}

fn is_tolerated(taint: &Taint, candidate: &Candidate<'_>) -> bool {
    let tolerations = candidate.spec.tolerations.as_deref().unwrap_or_default();
    let value = taint.value.as_deref().unwrap_or_default();
    tolerations.iter().any(|toleration| tolerates(toleration, &taint.key, value, &taint.effect))
}

/// Whether a toleration covers a taint (the API's rules for `v1.Toleration`).
pub(super) fn tolerates(toleration: &Toleration, key: &str, value: &str, effect: &str) -> bool {
    let empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    if !empty(&toleration.effect) && toleration.effect.as_deref() != Some(effect) {
        return false;
    }
    if !empty(&toleration.key) && toleration.key.as_deref() != Some(key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => {
            !empty(&toleration.key) && toleration.value.as_deref().unwrap_or_default() == value
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tolerates_follows_the_rules_of_operator_key_and_effect() {
        let check = |toleration: serde_json::Value, expected: bool| {
            let parsed = serde_json::from_value(toleration.clone()).unwrap();
            assert_eq!(tolerates(&parsed, "k", "v", "NoSchedule"), expected, "{toleration}");
        };
        check(json!({"operator": "Exists"}), true);
        check(json!({"operator": "Exists", "key": "k"}), true);
        check(json!({"operator": "Exists", "key": "other"}), false);
        check(json!({"key": "k", "value": "v"}), true);
        check(json!({"key": "k", "operator": "Equal", "value": "w"}), false);
        check(json!({"key": "k", "value": "v", "effect": "NoExecute"}), false);
        check(json!({"key": "k", "value": "v", "effect": "NoSchedule"}), true);
        check(json!({"operator": "Equal"}), false);
        check(json!({"operator": "Unknown", "key": "k"}), false);
    }
}
