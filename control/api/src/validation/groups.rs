//! Rules of the smaller groups.

use serde_json::Value;

use super::field::FieldError;
use super::{selector, service};
use crate::object::{at, items, number, text};
use crate::registry::Resource;

pub(super) fn check(resource: &Resource, object: &Value, errors: &mut Vec<FieldError>) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("discovery.k8s.io", "endpointslices") => service::slice(object, errors),
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => {
            rules(object, resource.namespaced, errors);
        }
        ("rbac.authorization.k8s.io", _) => binding(object, resource.namespaced, errors),
        ("coordination.k8s.io", "leases") => lease(&object["spec"], errors),
        ("policy", "poddisruptionbudgets") => disruption_budget(&object["spec"], errors),
        ("networking.k8s.io", "networkpolicies") => network_policy(&object["spec"], errors),
        ("networking.k8s.io", "ingresses") => ingress(&object["spec"], errors),
        ("autoscaling", _) => autoscaler(&object["spec"], errors),
        ("scheduling.k8s.io", "priorityclasses") => priority(object, errors),
        ("certificates.k8s.io", _) if text(object, &["spec", "request"]).is_empty() => {
            errors.push(FieldError::invalid(
                "spec.request",
                "",
                "PEM block type must be CERTIFICATE REQUEST",
            ));
        }
        _ => {}
    }
}

fn rules(object: &Value, namespaced: bool, errors: &mut Vec<FieldError>) {
    for (index, rule) in items(object, &["rules"]).iter().enumerate() {
        let path = format!("rules[{index}]");
        if items(rule, &["verbs"]).is_empty() {
            errors
                .push(FieldError::required(format!("{path}.verbs"), "verbs must contain at least one value"));
        }
        let urls = !items(rule, &["nonResourceURLs"]).is_empty();
        let (groups, resources) = (items(rule, &["apiGroups"]), items(rule, &["resources"]));
        if urls {
            let path = format!("{path}.nonResourceURLs");
            if namespaced {
                let value = rule["nonResourceURLs"].clone();
                errors.push(FieldError::invalid(
                    path,
                    value,
                    "namespaced rules cannot apply to non-resource URLs",
                ));
            } else if !groups.is_empty() || !resources.is_empty() {
                let value = rule["nonResourceURLs"].clone();
                errors.push(FieldError::invalid(
                    path,
                    value,
                    "rules cannot apply to both regular resources and non-resource URLs",
                ));
            }
            continue;
        }
        if groups.is_empty() {
            errors.push(FieldError::required(
                format!("{path}.apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if resources.is_empty() {
            errors.push(FieldError::required(
                format!("{path}.resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
}

fn binding(object: &Value, namespaced: bool, errors: &mut Vec<FieldError>) {
    let group = text(object, &["roleRef", "apiGroup"]);
    if group != "rbac.authorization.k8s.io" {
        errors.push(FieldError::not_supported("roleRef.apiGroup", group, &["rbac.authorization.k8s.io"]));
    }
    let kind = text(object, &["roleRef", "kind"]);
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&kind) {
        errors.push(FieldError::not_supported("roleRef.kind", kind, kinds));
    }
    for (index, subject) in items(object, &["subjects"]).iter().enumerate() {
        let path = format!("subjects[{index}]");
        match text(subject, &["kind"]) {
            "ServiceAccount" => {
                if text(subject, &["namespace"]).is_empty() {
                    errors.push(FieldError::required(format!("{path}.namespace"), ""));
                }
            }
            "User" | "Group" | "" => {}
            other => errors.push(FieldError::not_supported(
                format!("{path}.kind"),
                other,
                &["ServiceAccount", "User", "Group"],
            )),
        }
    }
}

fn lease(spec: &Value, errors: &mut Vec<FieldError>) {
    if let Some(seconds) = number(spec, &["leaseDurationSeconds"]).filter(|seconds| *seconds <= 0) {
        errors.push(FieldError::invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"));
    }
    if let Some(count) = number(spec, &["leaseTransitions"]).filter(|count| *count < 0) {
        errors.push(FieldError::invalid(
            "spec.leaseTransitions",
            count,
            "must be greater than or equal to 0",
        ));
    }
}

fn disruption_budget(spec: &Value, errors: &mut Vec<FieldError>) {
    if at(spec, &["minAvailable"]).is_some() && at(spec, &["maxUnavailable"]).is_some() {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::invalid("spec", spec.clone(), detail));
    }
    if let Some(one) = at(spec, &["selector"]) {
        selector::selector("spec.selector", one, errors);
    }
}

fn network_policy(spec: &Value, errors: &mut Vec<FieldError>) {
    selector::selector("spec.podSelector", &spec["podSelector"], errors);
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in items(spec, &[list]).iter().enumerate() {
            for (at_peer, peer) in items(rule, &[peers]).iter().enumerate() {
                let path = format!("spec.{list}[{index}].{peers}[{at_peer}]");
                let selectors =
                    ["podSelector", "namespaceSelector"].iter().filter(|name| at(peer, &[name]).is_some());
                let block = at(peer, &["ipBlock"]).is_some();
                match (selectors.count(), block) {
                    (0, false) => errors.push(FieldError::required(path, "must specify a peer")),
                    (0, true) | (_, false) => {}
                    (_, true) => {
                        errors.push(FieldError::forbidden(
                            path,
                            "may not specify both ipBlock and another peer",
                        ));
                    }
                }
            }
        }
    }
}

fn ingress(spec: &Value, errors: &mut Vec<FieldError>) {
    if items(spec, &["rules"]).is_empty() && at(spec, &["defaultBackend"]).is_none() {
        errors.push(FieldError::invalid(
            "spec",
            spec.clone(),
            "either `defaultBackend` or `rules` must be specified",
        ));
    }
    for (index, rule) in items(spec, &["rules"]).iter().enumerate() {
        for (at_path, one) in items(rule, &["http", "paths"]).iter().enumerate() {
            let path = format!("spec.rules[{index}].http.paths[{at_path}]");
            let place = text(one, &["path"]);
            if text(one, &["pathType"]) != "ImplementationSpecific" && !place.starts_with('/') {
                errors.push(FieldError::invalid(format!("{path}.path"), place, "must be an absolute path"));
            }
        }
    }
}

fn autoscaler(spec: &Value, errors: &mut Vec<FieldError>) {
    let (least, most) =
        (number(spec, &["minReplicas"]).unwrap_or(1), number(spec, &["maxReplicas"]).unwrap_or(0));
    if least < 1 {
        errors.push(FieldError::invalid("spec.minReplicas", least, "must be greater than or equal to 1"));
    }
    if most < 1 {
        errors.push(FieldError::invalid("spec.maxReplicas", most, "must be greater than 0"));
    } else if most < least {
        errors.push(FieldError::invalid(
            "spec.maxReplicas",
            most,
            "must be greater than or equal to `minReplicas`",
        ));
    }
}

fn priority(object: &Value, errors: &mut Vec<FieldError>) {
    let value = number(object, &["value"]).unwrap_or(0);
    let system = text(object, &["metadata", "name"]).starts_with("system-");
    if !system && value > 1_000_000_000 {
        let detail = "maximum allowed value of a user defined priority is 1000000000";
        errors.push(FieldError::forbidden("value", detail));
    }
}
