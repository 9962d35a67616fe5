//! Node selectors and node affinity: labels that a node must have, or should have.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{self as api, NodeSelectorRequirement, NodeSelectorTerm};

use super::{Candidate, Plugin, Reason, Scale};
use crate::nodes::{Nodes, Row};
use crate::queue::Event;

/// `spec.nodeSelector` and `spec.affinity.nodeAffinity` of pods.
pub(super) struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn filter(&self, candidate: &Candidate<'_>, nodes: &Nodes, row: Row) -> Result<(), Vec<Reason>> {
        let labels = nodes.labels(row);
        let selected = candidate
            .spec
            .node_selector
            .iter()
            .flatten()
            .all(|(name, value)| labels.get(name) == Some(value));
        let required = affinity(candidate)
            .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref())
            .is_none_or(|required| {
                required.node_selector_terms.iter().any(|term| term_matches(term, nodes.name(row), labels))
            });
        if selected && required {
            return Ok(());
        }
        Err(vec!["node(s) didn't match Pod's node affinity/selector".into()])
    }

    fn weight(&self) -> i64 {
        2
    }

    fn scale(&self) -> Scale {
        Scale::MoreIsBetter
    }

    /// The weights of the preferences that the node fulfils.
    fn score(&self, candidate: &Candidate<'_>, nodes: &Nodes, row: Row) -> i64 {
        let preferred = affinity(candidate)
            .and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_ref());
        preferred
            .into_iter()
            .flatten()
            .filter(|preferred| term_matches(&preferred.preference, nodes.name(row), nodes.labels(row)))
            .map(|preferred| i64::from(preferred.weight))
            .sum()
    }

    fn helped_by(&self, event: Event) -> bool {
        matches!(event, Event::NodeAdded | Event::NodeLabels)
    }
}

fn affinity<'a>(candidate: &Candidate<'a>) -> Option<&'a api::NodeAffinity> {
    candidate.spec.affinity.as_ref()?.node_affinity.as_ref()
}

/// A term without any requirement matches nothing.
fn term_matches(term: &NodeSelectorTerm, node: &str, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let field = |requirement: &NodeSelectorRequirement| {
        let value = (requirement.key == "metadata.name").then_some(node);
        requirement_matches(requirement, value)
    };
    let label = |requirement: &NodeSelectorRequirement| {
        requirement_matches(requirement, labels.get(&requirement.key).map(String::as_str))
    };
    expressions.iter().all(label) && fields.iter().all(field)
}

fn requirement_matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |value: &str| values.iter().any(|listed| listed == value);
    let numbers = || -> Option<(i64, i64)> { Some((value?.parse().ok()?, values.first()?.parse().ok()?)) };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(own, other)| own > other),
        "Lt" => numbers().is_some_and(|(own, other)| own < other),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn term_matches_every_operator() {
        let labels =
            BTreeMap::from([("zone".to_owned(), "a".to_owned()), ("cpus".to_owned(), "8".to_owned())]);
        let check = |term: serde_json::Value, expected: bool| {
            let parsed = serde_json::from_value(term.clone()).unwrap();
            assert_eq!(term_matches(&parsed, "n1", &labels), expected, "{term}");
        };
        let one = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        check(one("zone", "In", &["a", "b"]), true);
        check(one("zone", "NotIn", &["a"]), false);
        check(one("missing", "NotIn", &["a"]), true);
        check(one("zone", "Exists", &[]), true);
        check(one("zone", "DoesNotExist", &[]), false);
        check(one("cpus", "Gt", &["7"]), true);
        check(one("cpus", "Lt", &["8"]), false);
        check(one("zone", "Gt", &["1"]), false);
        check(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}), true);
        check(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}), false);
        check(json!({}), false);
    }
}
