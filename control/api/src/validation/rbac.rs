//! Rules of rbac.authorization.k8s.io.

use serde_json::Value;

use super::names;
use super::place::{Errors, Place};
use super::selector;
use crate::registry::Resource;

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn check(resource: &Resource, object: &Value, errors: &mut Errors) {
    match resource.plural.as_str() {
        "roles" | "clusterroles" => {
            let rules = Place::of(object, "rules");
            rules.items().for_each(|one| rule(&one, resource.namespaced, errors));
            let aggregation = Place::of(object, "aggregationRule");
            if aggregation.is_set() {
                let selectors = aggregation.get("clusterRoleSelectors");
                if selectors.count() == 0 {
                    let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                    selectors.required(why, errors);
                }
                selectors.items().for_each(|one| selector::at(&one, errors));
            }
        }
        _ => binding(object, resource.namespaced, errors),
    }
}

fn rule(rule: &Place<'_>, namespaced: bool, errors: &mut Errors) {
    let full = |name: &str| rule.get(name).count() > 0;
    if !full("verbs") {
        rule.get("verbs").required("verbs must contain at least one value", errors);
    }
    let urls = rule.get("nonResourceURLs");
    if urls.count() > 0 {
        if namespaced {
            urls.invalid("namespaced rules cannot apply to non-resource URLs", errors);
        }
        if ["apiGroups", "resources", "resourceNames"].into_iter().any(full) {
            urls.invalid("rules cannot apply to both regular resources and non-resource URLs", errors);
        }
        return;
    }
    if !full("apiGroups") {
        rule.get("apiGroups").required("resource rules must supply at least one api group", errors);
    }
    if !full("resources") {
        rule.get("resources").required("resource rules must supply at least one resource", errors);
    }
}

fn binding(object: &Value, namespaced: bool, errors: &mut Errors) {
    let role = Place::of(object, "roleRef");
    role.get("apiGroup").one_of(&[GROUP], errors);
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    role.get("kind").one_of(kinds, errors);
    role.get("name").must(names::path_segment, errors);
    for subject in Place::of(object, "subjects").items() {
        let (name, group) = (subject.get("name"), subject.get("apiGroup"));
        if name.text().is_empty() {
            name.required("", errors);
        }
        let kind = subject.get("kind");
        match kind.text() {
            "ServiceAccount" => {
                name.judge_full(names::dns_subdomain, errors);
                if group.is_full() {
                    group.one_of(&[""], errors);
                }
                let namespace = subject.get("namespace");
                if !namespaced && namespace.text().is_empty() {
                    namespace.required("", errors);
                }
            }
            "User" | "Group" => {
                group.one_of(&[GROUP], errors);
            }
            _ => {
                kind.one_of(&["ServiceAccount", "User", "Group"], errors);
            }
        }
    }
}
