//! What rules a role that gathers has.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};

fn selectors(role: &ClusterRole) -> impl Iterator<Item = &LabelSelector> {
    role.aggregation_rule.iter().flat_map(|rule| rule.cluster_role_selectors.iter().flatten())
}

/// Whether a role gathers rules.
pub(super) fn gathers(role: &ClusterRole) -> bool {
    role.aggregation_rule.is_some()
}

/// The rules that `role` is to have, of all the others by name and each once; `None` when it has them, or gathers none.
pub(super) fn rules(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    if !gathers(role) {
        return None;
    }
    let mut others: Vec<&ClusterRole> =
        all.iter().map(|other| &**other).filter(|other| other.metadata.name != role.metadata.name).collect();
    others.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors(role) {
        // A selector that makes no sense selects nothing; validation keeps it out.
        let Ok(selector) = Selector::try_from(selector.clone()) else { continue };
        let labels = |other: &ClusterRole| other.metadata.labels.clone().unwrap_or_default();
        for other in others.iter().filter(|other| selector.matches(&labels(other))) {
            for rule in other.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    (role.rules.as_deref().unwrap_or_default() != rules).then_some(rules)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn role(name: &str, labels: Value, resources: &[&str], from: Option<&str>) -> Arc<ClusterRole> {
        let rules: Vec<Value> = resources
            .iter()
            .map(|one| json!({"verbs": ["get"], "apiGroups": [""], "resources": [one]}))
            .collect();
        let mut value = json!({"metadata": {"name": name, "labels": labels}, "rules": rules});
        if let Some(label) = from {
            value["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn resources(rules: &[PolicyRule]) -> Vec<&str> {
        rules.iter().flat_map(|rule| rule.resources.iter().flatten()).map(String::as_str).collect()
    }

    #[test]
    fn rules_are_those_of_selected_roles_by_name_and_once() {
        let label = json!({"to-view": "true"});
        let view = role("view", json!({}), &["old"], Some("to-view"));
        let all = [
            view.clone(),
            role("b", label.clone(), &["pods", "jobs"], None),
            role("a", label.clone(), &["nodes", "pods"], None),
            role("c", json!({"to-view": "false"}), &["secrets"], None),
        ];
        let rules = rules(&view, &all).unwrap();
        assert_eq!(resources(&rules), ["nodes", "pods", "jobs"]);
    }

    #[test]
    fn role_that_has_its_rules_or_gathers_none_is_left_alone() {
        let source = role("a", json!({"x": "true"}), &["pods"], None);
        let gathering = role("g", json!({"x": "true"}), &["pods"], Some("x"));
        assert!(rules(&gathering, &[gathering.clone(), source.clone()]).is_none());
        assert!(rules(&source, &[gathering.clone(), source.clone()]).is_none());
        assert_eq!(rules(&gathering, std::slice::from_ref(&gathering)).unwrap(), []);
    }
}
